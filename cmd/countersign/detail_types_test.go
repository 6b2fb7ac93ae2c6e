package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// RAR-06: an institution's own types of authorization_details come beside the built-in ones, or in their place.
func TestSettings_DetailTypes(t *testing.T) {
	t.Parallel()
	const schema = `"schema":{"properties":{"type":{}},"additionalProperties":false}`
	for _, c := range []struct {
		name  string
		files map[string]string
		types int
		wrong string
	}{
		{"a type more", map[string]string{"loan.json": `{"type":"loan","title":"Borrow",` + schema + `}`, "README": "no type"}, 4, ""},
		{"in the place of a built-in one", map[string]string{"p.json": `{"type":"payment_initiation","title":"Pay",` + schema + `}`}, 3, ""},
		{"none: a wrong folder must not go unnoticed", nil, 0, "no .json"},
		{"a mistake", map[string]string{"loan.json": `{"type":"loan"}`}, 0, "loan.json"},
	} {
		folder := t.TempDir()
		for name, text := range c.files {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		types, err := (&serverSettings{DetailTypes: folder}).detailTypes()
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) || err == nil && len(types) != c.types {
			t.Errorf("%s: %v, %v", c.name, types, err)
		}
	}
	if types, err := (&serverSettings{}).detailTypes(); err != nil || len(types) != 3 {
		t.Errorf("none asked for: %v, %v", types, err)
	}
}
