package web

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each text that a template or our Go names exists, and each that exists is named: "transaction.state." names all that begin so,
// "device.done" also its .title and .text.
func TestTexts_CatalogueMatchesTemplates(t *testing.T) {
	raw, err := textFiles.ReadFile("texts/en.json")
	if err != nil {
		t.Fatal(err)
	}
	var english map[string]string
	if err := json.Unmarshal(raw, &english); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	names, _ := templateFiles.ReadDir("templates")
	for _, name := range names {
		source, _ := templateFiles.ReadFile("templates/" + name.Name())
		for _, m := range regexp.MustCompile(`(?:\bt|rich) "([a-z_.]+)"`).FindAllSubmatch(source, -1) {
			used[string(m[1])] = true
			if english[string(m[1])] == "" {
				t.Errorf("%s: no text %s", name.Name(), m[1])
			}
		}
	}
	var beginnings []string
	for name, source := range ourGo(t) {
		for _, m := range regexp.MustCompile(`\.Text\("([a-z_.]+)"[,)]`).FindAllStringSubmatch(source, -1) {
			if english[m[1]] == "" {
				t.Errorf("%s: no text %s", name, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`"([a-z][a-z_.]+)"`).FindAllStringSubmatch(source, -1) {
			used[m[1]] = true
			if strings.HasSuffix(m[1], ".") || strings.HasSuffix(m[1], "_") {
				beginnings = append(beginnings, m[1])
			}
		}
	}
	for key := range english {
		begins := func(with string) bool { return strings.HasPrefix(key, with) }
		if !used[key] && !used[strings.TrimSuffix(key, "_name")] && !used[key[:max(0, strings.LastIndexByte(key, '.'))]] && !slices.ContainsFunc(beginnings, begins) {
			t.Errorf("text %s is used nowhere", key)
		}
	}
	languages, _ := textFiles.ReadDir("texts")
	for _, language := range languages {
		raw, _ := textFiles.ReadFile("texts/" + language.Name())
		var other map[string]string
		if err := json.Unmarshal(raw, &other); err != nil {
			t.Fatal(err)
		}
		for key := range english {
			if other[key] == "" {
				t.Errorf("%s lacks %s", language.Name(), key)
			}
		}
	}
}

// ourGo reads the source of the module, without its tests.
func ourGo(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		source, err := os.ReadFile(name)
		all[name] = string(source)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
