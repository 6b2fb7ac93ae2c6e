package authn

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// eventKinds finds what is remembered of customers: in events' literals, in their constants, in statements.
var eventKinds = []*regexp.Regexp{
	regexp.MustCompile(`storage\.Event\{[^}]*Kind: +"([a-z_.]+)"`),
	regexp.MustCompile(`ownEvent\([a-z, ]+, "([a-z_.]+)"`),
	regexp.MustCompile(`event[A-Z]\w* += "([a-z_.]+)"`),
	regexp.MustCompile(`INSERT INTO events [^;']*'([a-z_]+[.][a-z_.]+)'`),
}

// E14: whatever is remembered of a customer, the activity page has words for.
func TestSelf_EveryEventHasWords(t *testing.T) {
	s := setup(t, Config{})
	found := map[string]bool{"login.refused": true, "login.blocked": true} // made of two parts in storage/limits.go
	for _, folder := range []string{".", "../storage", "../authz", "../consent", "fineract"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if ok, _ := filepath.Match("*_test.go", filepath.Base(file)); ok {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, pattern := range eventKinds {
				for _, m := range pattern.FindAllSubmatch(source, -1) {
					found[string(m[1])] = true
				}
			}
		}
	}
	for _, c := range contacts {
		found[c.event] = true
	}
	if len(found) < 20 {
		t.Errorf("only %v found", found)
	}
	for kind := range found {
		if key := "event." + kind; s.pages.Text(key) == key {
			t.Errorf("no text %s", key)
		}
	}
}
