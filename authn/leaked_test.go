package authn

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// leakedSize is that of the filter: 987,500 bytes.
const leakedSize = 7_900_000

// E2: leaked passwords are refused however good they look.
func TestLeaked(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"ghhh47hj7649", "GHHH47HJ7649", "sasch.86bvb656743", "bebmip-3tikvA-mudruk", "75YTcIazjgnpI", "ajUjuZUju%Y2UD"} {
		if guessable(password) {
			t.Errorf("%s is refused for another reason", password)
		}
		if checkPassword(password) == nil {
			t.Errorf("%s is taken", password)
		}
	}
	const tries = 20000
	wrong := 0
	for i := range tries {
		if leaked.has(fmt.Sprintf("nobody has had this one %d stolen", i)) {
			wrong++
		}
	}
	if wrong > tries/200 {
		t.Errorf("%d of %d others are taken for leaked", wrong, tries)
	}
	if len(leaked) != leakedSize/8 {
		t.Errorf("%d bytes", len(leaked))
	}
}

// TestMakeLeaked writes leaked.bloom, in a quarter of an hour, from the text files below a folder, one password on each line, when COUNTERSIGN_LEAKED_FROM names
// it (docs/passwords.md).
func TestMakeLeaked(t *testing.T) {
	from := os.Getenv("COUNTERSIGN_LEAKED_FROM")
	if from == "" {
		t.Skip("COUNTERSIGN_LEAKED_FROM names no folder of lists")
	}
	made, n := make([]byte, leakedSize/8), 0
	seen := map[string]bool{}
	err := filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".txt" {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			password := strings.ToLower(normalizePassword(lines.Text()))
			if utf8.RuneCountInString(password) < shortestPassword || seen[password] || guessable(password) {
				continue
			}
			seen[password] = true
			n++
			for _, bit := range bits(password, leakedSize) {
				made[bit/8] |= 1 << (bit % 8)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d passwords", n)
	if err := os.WriteFile("leaked.bloom", made, 0o644); err != nil {
		t.Fatal(err)
	}
}
