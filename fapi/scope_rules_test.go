package fapi

import (
	"slices"
	"strings"
	"testing"
)

func TestScopeRules(t *testing.T) {
	t.Parallel()
	rules := ScopeRules{
		"firm":   {Roles: []string{"ADMIN", "SUPPORT"}},
		"loans":  {Attributes: map[string][]string{"country": {"KE", "TZ"}}},
		"export": {Roles: []string{"ADMIN"}, Attributes: map[string][]string{"country": {"KE"}, "client_type": {"firm"}}},
	}
	if err := rules.Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, roles, denied string
		attributes          map[string]string
	}{
		{"nobody in particular", "", "firm loans export", nil},
		{"one of the roles", "USER SUPPORT", "loans export", nil},
		{"a role in other letters", "admin", "firm loans export", nil},
		{"one of the values", "USER", "firm export", map[string]string{"country": "TZ"}},
		{"another value", "USER", "firm loans export", map[string]string{"country": "UG"}},
		{"an empty value", "USER", "firm loans export", map[string]string{"country": ""}},
		{"the value of another attribute", "USER", "firm loans export", map[string]string{"client_type": "KE"}},
		{"a role, but one of two attributes", "ADMIN", "export", map[string]string{"country": "KE"}},
		{"both attributes, but no role", "USER", "firm export", map[string]string{"country": "KE", "client_type": "firm"}},
		{"all of it", "ADMIN", "", map[string]string{"country": "KE", "client_type": "firm"}},
	} {
		got := rules.Denied([]string{"openid", "firm", "loans", "accounts", "export"}, strings.Fields(c.roles), c.attributes)
		if !slices.Equal(got, strings.Fields(c.denied)) {
			t.Errorf("%s: denied %v, want %v", c.name, got, c.denied)
		}
	}
	if rules.Concern([]string{"openid", "accounts"}) || !rules.Concern([]string{"openid", "loans"}) || ScopeRules(nil).Concern([]string{"loans"}) {
		t.Error("scopes without a rule are asked about, or one with a rule is not")
	}
	for name, rules := range map[string]ScopeRules{
		"openid is for everybody": {"openid": {Roles: []string{"USER"}}},
		"is no scope":             {"two words": {Roles: []string{"USER"}}},
		"must name roles":         {"loans": {}},
		"roles or attributes":     {"loans": {Roles: []string{""}}},
		"a name and values":       {"loans": {Attributes: map[string][]string{"country": {}}}},
		"an attribute must":       {"loans": {Attributes: map[string][]string{"": {"KE"}}}},
		"have a name":             {"loans": {Attributes: map[string][]string{"country": {"KE", ""}}}},
	} {
		if err := rules.Check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Fineract takes each scope of a token for a permission of that name, so no client gets one that is (ALL_FUNCTIONS …).
func TestClient_ScopesAreNoPermissionsOfFineract(t *testing.T) {
	t.Parallel()
	for scope, is := range map[string]bool{
		"ALL_FUNCTIONS": true, "ALL_FUNCTIONS_READ": true, "TWOFACTOR_AUTHENTICATED": true, "BYPASS_TWOFACTOR": true, "CREATE_CLIENT": true, "READ_LOAN2": true, "REPORTING_SUPER_USER": true,
		"openid": false, "accounts": false, "write:loans": false, "_": false, "2026": false, "Accounts": false, "CREATE-CLIENT": false,
	} {
		if fineractPermission(scope) != is {
			t.Errorf("%s: %v", scope, !is)
		}
	}
}
