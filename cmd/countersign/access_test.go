package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/fapi"
)

func TestAccessSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, roles, attributes string // as the environment has them, which the command line splits at commas
		want                    fapi.ScopeRules
		fault                   string
	}{
		{name: "none", want: fapi.ScopeRules{}},
		{name: "one role", roles: "firm=ADMIN", want: fapi.ScopeRules{"firm": {Roles: []string{"ADMIN"}}}},
		{name: "several, of two scopes", roles: "firm=ADMIN,SUPPORT,write:loans=USER", want: fapi.ScopeRules{"firm": {Roles: []string{"ADMIN", "SUPPORT"}}, "write:loans": {Roles: []string{"USER"}}}},
		{name: "values", attributes: "write:loans=country:KE,TZ", want: fapi.ScopeRules{"write:loans": {Attributes: map[string][]string{"country": {"KE", "TZ"}}}}},
		{name: "two attributes of one scope, and a role", roles: "loans=ADMIN", attributes: "loans=country:KE,TZ,loans=client_type:firm",
			want: fapi.ScopeRules{"loans": {Roles: []string{"ADMIN"}, Attributes: map[string][]string{"country": {"KE", "TZ"}, "client_type": {"firm"}}}}},
		{name: "a value with a colon", attributes: "loans=segment:a:b", want: fapi.ScopeRules{"loans": {Attributes: map[string][]string{"segment": {"a:b"}}}}},
		{name: "a role before any scope", roles: "ADMIN", fault: "scope-roles"},
		{name: "a scope without a role", roles: "firm=", fault: "scope-roles"},
		{name: "no scope", roles: "=ADMIN", fault: "scope-roles"},
		{name: "no attribute", attributes: "loans=KE", fault: "must name an attribute"},
		{name: "an attribute without a name", attributes: "loans=:KE", fault: "must name an attribute"},
	} {
		t.Run(c.name, func(t *testing.T) {
			split := func(list string) []string { return strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) }
			s := accessSettings{ScopeRoles: split(c.roles), ScopeAttributes: split(c.attributes), ToldAttributes: []string{"country"}}
			got, err := s.customers()
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("%v, want one about %q", err, c.fault)
				}
				return
			}
			if diff := cmp.Diff(c.want, got.Rules); err != nil || diff != "" || got.Rules.Check() != nil || !cmp.Equal(got.Attributes, []string{"country"}) {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}
