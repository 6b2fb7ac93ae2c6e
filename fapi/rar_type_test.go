package fapi

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// loanType is a type as a bank would write one.
const loanType = `{
	"type": "https://bank.example/loan", "title": "Apply for a loan",
	"lines": [{"label": "Amount", "text": "{amount.value} {amount.currency}"}, {"label": "Months", "text": "{months}"}],
	"labels": {"purpose": "What for"}, "account_ids": "pay_to",
	"schema": {
		"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "urn:countersign:authorization-detail",
		"properties": {
			"amount": {"type": "object", "properties": {"value": {"type": "string"}, "currency": {"type": "string"}}, "required": ["value"]},
			"months": {"type": "integer", "minimum": 1, "maximum": 360},
			"rate": {"type": "number", "multipleOf": 0.01, "maximum": 100},
			"purpose": {"type": "string", "pattern": "^(a+)+$"},
			"tree": {"$ref": "#/$defs/tree"}, "set": {"type": "array", "uniqueItems": true}
		},
		"required": ["amount"], "unevaluatedProperties": false,
		"$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}
	}
}`

func TestParseDetailType(t *testing.T) {
	t.Parallel()
	change := func(old, new string) string {
		if !strings.Contains(loanType, old) {
			t.Fatalf("no %s in the type", old)
		}
		return strings.Replace(loanType, old, new, 1)
	}
	for _, c := range []struct{ name, text, wrong string }{
		{"accepts a bank's type", loanType, ""},
		{"accepts additionalProperties in the place of unevaluatedProperties", `{"type":"x","title":"X","schema":{"properties":{"type":{}},"additionalProperties":false}}`, ""},
		{"refuses no JSON", `{`, "unexpected"},
		{"refuses a second object", loanType + "{}", "more"},
		{"refuses a member that it does not know: a typing error must not go unnoticed", change(`"labels"`, `"lables"`), "lables"},
		{"refuses a missing type", change(`"type": "https://bank.example/loan"`, `"type": ""`), "type"},
		{"refuses a missing title", change(`"Apply for a loan"`, `""`), "title"},
		{"refuses a line without label", change(`"label": "Months"`, `"label": ""`), "lines[1]"},
		{"refuses a line that shows nothing", change(`"{months}"`, `"months"`), "lines[1]"},
		{"refuses a line with an open brace", change(`"{months}"`, `"{months"`), "lines[1]"},
		{"refuses a line with an empty member", change(`"{months}"`, `"{a..b}"`), "lines[1]"},
		{"refuses a common member for accounts", change(`"pay_to"`, `"locations"`), "account_ids"},
		{"refuses a missing schema", `{"type":"x","title":"X"}`, "schema"},
		{"RFC 9396 §5: refuses a schema that lets unknown members pass", change(`, "unevaluatedProperties": false`, ``), "unevaluatedProperties"},
		{"refuses a schema that is none", change(`"type": "integer"`, `"type": "whole"`), "schema"},
		{"refuses a schema elsewhere on the web", change(`"#/$defs/tree"}, "set"`, `"https://schema.example/tree"}, "set"`), "refer to itself"},
		{"refuses a schema in a file", change(`"#/$defs/tree"}, "set"`, `"file:///etc/passwd"}, "set"`), "refer to itself"},
		{"refuses a pattern that is none", change(`^(a+)+$`, `(`), "schema"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseDetailType([]byte(c.text))
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%v", err)
			}
		})
	}
}

// RAR-02: what a type's schema says holds, beside what RFC 9396 §2.2 says of the common members.
func TestDetailType_SchemaHolds(t *testing.T) {
	t.Parallel()
	loan := must(ParseDetailType([]byte(loanType)))
	types := DefaultDetailTypes()
	types[loan.Name] = loan
	open := must(ParseDetailType([]byte(`{"type":"open","title":"X","schema":{"properties":{"type":{},"actions":{},"identifier":{}},"additionalProperties":false}}`)))
	types["open"] = open
	payment := func(change string) string {
		return `[{"type":"payment_initiation","instructedAmount":{"currency":"EUR","amount":"1"},"creditorAccount":{"iban":"DE02100100109307118603"}` + change + `}]`
	}
	deep := strings.Repeat("[", 12) + strings.Repeat("]", 12)
	for _, c := range []struct {
		name, raw string
		good      bool
	}{
		{"a loan", `[{"type":"https://bank.example/loan","amount":{"value":"5"},"months":12,"rate":3.25,"actions":["apply"],"tree":` + deep + `}]`, true},
		{"a required member is missing", `[{"type":"https://bank.example/loan"}]`, false},
		{"a number out of range", `[{"type":"https://bank.example/loan","amount":{"value":"5"},"months":361}]`, false},
		{"a number of the wrong kind", `[{"type":"https://bank.example/loan","amount":{"value":"5"},"months":1.5}]`, false},
		{"an unknown member", `[{"type":"https://bank.example/loan","amount":{"value":"5"},"extra":1}]`, false},
		{"the member that only the customer's decision fills", `[{"type":"https://bank.example/loan","amount":{"value":"5"},"pay_to":["12"]}]`, false},
		{"RFC 9396 §2.2: common members, whatever the type's schema says of them", `[{"type":"open","actions":"read"}]`, false},
		{"RFC 9396 §2.2: an identifier, whatever the type's schema says of it", `[{"type":"open","identifier":1}]`, false},
		{"a payment", payment(`,"requestedExecutionDate":"2026-12-24"`), true},
		{"a date that is none", payment(`,"requestedExecutionDate":"2026-02-30"`), false},
		{"an amount with a sign", strings.Replace(payment(""), `"1"`, `"-1"`, 1), false},
		{"an amount that is a number", strings.Replace(payment(""), `"1"`, `1`, 1), false},
		{"an amount with more in it", strings.Replace(payment(""), `"amount"`, `"each":"day","amount"`, 1), false},
		{"a currency that is none", strings.Replace(payment(""), `EUR`, `euro`, 1), false},
		{"an account without number", strings.Replace(payment(""), `"iban":"DE02100100109307118603"`, ``, 1), false},
		{"a consent id that is too long", payment(`,"consent_id":"` + strings.Repeat("x", 129) + `"`), false},
	} {
		_, err := ParseAuthorizationDetails(c.raw, types, slices.Collect(maps.Keys(types)))
		if c.good {
			refused(t, err, "")
		} else if err == nil {
			t.Errorf("%s: accepted", c.name)
		} else {
			refused(t, err, InvalidAuthorizationDetails)
		}
	}
}

// Hostile input costs no more than its length: numbers of a billion digits, patterns that backtrack, recursion, sets.
func TestDetailType_HostileInputIsCheap(t *testing.T) {
	t.Parallel()
	loan := must(ParseDetailType([]byte(loanType)))
	types := map[string]DetailType{loan.Name: loan}
	with := func(member string) string {
		return `[{"type":"https://bank.example/loan","amount":{"value":"1"},` + member + `}]`
	}
	for name, raw := range map[string]string{
		"tiny numbers":      with(`"rate":1e-999999999`),
		"huge numbers":      with(`"rate":1e999999999`),
		"long numbers":      with(`"months":1` + strings.Repeat("0", 300) + `,"rate":0.` + strings.Repeat("1", 30_000)),
		"backtracking":      with(`"purpose":"` + strings.Repeat("a", 30_000) + `!"`),
		"recursion":         with(`"tree":` + strings.Repeat("[", 16_000) + strings.Repeat("]", 16_000)),
		"a wide tree":       with(`"tree":[` + strings.Repeat("[],", 10_000) + `[]]`),
		"a set of objects":  with(`"set":[` + strings.Repeat(`{},`, 10_000) + `1]`),
		"a set of texts":    with(`"set":["a` + strings.Repeat(`","`+strings.Repeat("b", 5), 3_900) + `"]`),
		"a set of integers": with(`"set":[` + numbers(5000) + `]`),
	} {
		begun := time.Now()
		_, err := ParseAuthorizationDetails(raw, types, []string{loan.Name})
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("%s: took %v (%v)", name, took, err)
		}
	}
}

func numbers(n int) string {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	text := string(must(json.Marshal(list)))
	return text[1 : len(text)-1]
}

func TestLoadDetailTypes(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	types, err := LoadDetailTypes(fstest.MapFS{"loan.json": file(loanType), "README.md": file("# no type")})
	if err != nil || len(types) != 1 || types["https://bank.example/loan"].Accounts != "pay_to" {
		t.Errorf("%v, %v", types, err)
	}
	_, err = LoadDetailTypes(fstest.MapFS{"a.json": file(loanType), "b.json": file(loanType), "c.json": file("{")})
	if err == nil || !strings.Contains(err.Error(), "b.json: the type") || !strings.Contains(err.Error(), "c.json") {
		t.Errorf("all mistakes at once: %v", err)
	}
	defaults := DefaultDetailTypes()
	if len(defaults) != 3 || defaults["account_information"].Consent != "consent_id" || defaults["account_information"].Accounts != "accounts" {
		t.Errorf("%v", defaults)
	}
	delete(defaults, "account_information")
	if len(DefaultDetailTypes()) != 3 {
		t.Error("one caller's change became everybody's")
	}
}
