package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	replayRow  = regexp.MustCompile("(?m)^\\| ([a-z0-9(][^|]*?) \\|.* (`Test.*`) \\|$")
	replayTest = regexp.MustCompile("`(Test\\w+)(?:/([^`]+))?`")
)

// testSources returns the text of all tests, by folder.
func testSources(t *testing.T) map[string]string {
	t.Helper()
	sources := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		sources[filepath.Dir(path)] += string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

// docs/conformance-replay.md names for each module of the suite the tests that keep what it looks at. They are there.
func TestReplay_EveryModuleHasItsTest(t *testing.T) {
	document, err := os.ReadFile("../docs/conformance-replay.md")
	if err != nil {
		t.Fatal(err)
	}
	sources := testSources(t)
	exists := func(test, name string) bool {
		for _, text := range sources {
			if strings.Contains(text, "func "+test+"(") && (name == "" || strings.Contains(text, name)) {
				return true
			}
		}
		return false
	}
	rows := replayRow.FindAllStringSubmatch(string(document), -1)
	for _, row := range rows {
		for _, named := range replayTest.FindAllStringSubmatch(row[2], -1) {
			test, name := named[1], named[2]
			if name == "" && strings.HasPrefix(test, "TestSuite_") {
				name = row[1]
			}
			if !exists(test, name) {
				t.Errorf("%s: no test %s with the case %q", row[1], test, name)
			}
		}
	}
	lines := 0 // of the tables, without their two heads and rules
	for line := range strings.Lines(string(document)) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| module") {
			lines++
		}
	}
	if len(rows) != lines || lines < 205 {
		t.Errorf("%d of %d modules have a test", len(rows), lines)
	}
}
