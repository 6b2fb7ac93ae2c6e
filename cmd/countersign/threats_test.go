package main

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/threats.md names the tests that carry attacks out, and where these are met: all of that exists.
func TestThreats_AreTested(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "docs", "threats.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, f := range source(t) {
		for _, d := range f.Decls {
			if fn, is := d.(*ast.FuncDecl); is && fn.Recv == nil && strings.HasSuffix(f.path, "_test.go") {
				tests[fn.Name.Name] = true
			}
		}
	}
	quoted, attack := regexp.MustCompile("`([^`]+)`"), regexp.MustCompile("^\\| (.+) \\| (.+) \\| (`Test.+) \\|$")
	attacks := 0
	for _, line := range strings.Split(string(content), "\n") {
		row := attack.FindStringSubmatch(line)
		if row == nil {
			continue
		}
		attacks++
		for _, name := range quoted.FindAllStringSubmatch(row[3], -1) {
			if !tests[name[1]] {
				t.Errorf("no test %s", name[1])
			}
		}
		folder := ""
		for _, name := range quoted.FindAllStringSubmatch(row[2], -1) {
			if strings.HasSuffix(name[1], "/") || !strings.Contains(name[1], ".") && name[1] != "reach" {
				continue // not a file
			}
			file := name[1]
			if !strings.Contains(file, "/") && file != "reach" {
				file = folder + "/" + file
			}
			if folder = filepath.Dir(file); file == "reach" {
				folder = file
			}
			if _, err := os.Stat(filepath.Join(root, file)); err != nil {
				t.Errorf("%s: %v", row[1], err)
			}
		}
	}
	if attacks < 30 {
		t.Errorf("only %d attacks", attacks)
	}
}
