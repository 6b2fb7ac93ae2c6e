package main

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/fapi"
)

// What docs/customers.md shows is what the commands and settings take.
func TestCustomers_TheManualsExamples(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("../../docs/customers.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := string(file)
	quoted := func(section string) (words []string) {
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(section, -1) {
			words = append(words, m[1])
		}
		return words
	}
	t.Run("a line to import", func(t *testing.T) {
		for _, block := range regexp.MustCompile("(?s)```json\n(.*?)\n```").FindAllStringSubmatch(manual, -1) {
			n, err := parseLine([]byte(block[1]))
			if err != nil || n.Profile.Username != "alice" || len(n.Accounts) != 1 || n.Profile.Attributes["country"] != "KE" || *n.FineractClientID != 7 {
				t.Errorf("%+v %v", n, err)
			}
		}
	})
	t.Run("columns", func(t *testing.T) {
		_, section, _ := strings.Cut(manual, "A CSV file names its columns")
		section, _, _ = strings.Cut(section, "\n\n")
		named := slices.DeleteFunc(quoted(section), func(word string) bool { return word == "ID:NAME:NUMBER:CURRENCY" || word == ";" })
		want := append(slices.Collect(maps.Keys(importColumns)), attributeColumn+"NAME")
		slices.Sort(named)
		slices.Sort(want)
		if diff := cmp.Diff(want, named); diff != "" {
			t.Errorf("columns (-code +manual):\n%s", diff)
		}
	})
	t.Run("commands", func(t *testing.T) {
		_, section, _ := strings.Cut(manual, "\n## Commands\n\n`customer ")
		section, _, _ = strings.Cut(section, ";")
		var want []string
		for _, field := range reflect.VisibleFields(reflect.TypeFor[customerCommand]()) {
			if _, is := field.Tag.Lookup("cmd"); is {
				want = append(want, regexp.MustCompile("([a-z])([A-Z])").ReplaceAllString(field.Name, "$1-$2"))
			}
		}
		for i := range want {
			want[i] = strings.ToLower(want[i])
		}
		named := quoted("`" + section)
		slices.Sort(named)
		slices.Sort(want)
		if diff := cmp.Diff(want, named); diff != "" {
			t.Errorf("commands (-code +manual):\n%s", diff)
		}
	})
	t.Run("a step-up policy", func(t *testing.T) {
		block := regexp.MustCompile("(?s)  ```yaml\n(.*?)  ```").FindStringSubmatch(manual)
		policy, err := readPolicy(strings.NewReader(block[1]))
		if err == nil {
			err = authn.Config{Tenant: "default", Policy: policy}.Validate()
		}
		want := authn.Policy{authn.ApprovePayment: {ACR: authn.SCA, Customers: []authn.CustomerRule{
			{Who: fapi.ScopeRule{Attributes: map[string][]string{"client_type": {"firm", "trust"}}}, Rule: authn.Rule{FactorMaxAge: 2 * time.Minute, Without: []string{"sms"}}},
			{Who: fapi.ScopeRule{Roles: []string{"ADMIN"}}, Rule: authn.Rule{MaxAge: time.Hour}},
		}}}
		if diff := cmp.Diff(want, policy); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		if _, err := readPolicy(strings.NewReader(strings.Replace(block[1], "client_type:", "client type", 1))); err == nil {
			t.Error("what is no attribute is taken")
		}
		if _, err := readPolicy(strings.NewReader(strings.Replace(block[1], "roles:", "role:", 1))); err == nil {
			t.Error("a field that nobody knows is taken")
		}
	})
	t.Run("scope rules", func(t *testing.T) {
		var s accessSettings
		var args []string
		for _, m := range regexp.MustCompile(`(--scope-[a-z]+) "([^"]+)"`).FindAllStringSubmatch(manual, -1) {
			args = append(args, m[1], m[2])
		}
		parser, err := kong.New(&s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(args); err != nil {
			t.Fatal(err)
		}
		c, err := s.customers()
		want := fapi.ScopeRules{"firm": {Roles: []string{"ADMIN", "SUPPORT"}}, "loans": {Attributes: map[string][]string{"country": {"KE", "TZ"}}}}
		if diff := cmp.Diff(want, c.Rules); err != nil || diff != "" || c.Rules.Check() != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
}
