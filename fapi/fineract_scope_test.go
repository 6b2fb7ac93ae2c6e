package fapi

import "testing"

// B3-06: Fineract takes the scopes of a token for permissions of its own, TWOFACTOR_AUTHENTICATED before all. No client can have one.
func TestFineractPermission(t *testing.T) {
	t.Parallel()
	for scope, reads := range map[string]bool{
		"TWOFACTOR_AUTHENTICATED": true, "ALL_FUNCTIONS": true, "READ_CLIENT": true, "A": true, "READ_2": true,
		"": false, "twofactor_authenticated": false, "openid": false, "read:loans": false, "write:LOANS": false, "_": false, "123": false, "Fineract": false,
		"TWOFACTOR_AUTHENTICATED.": false,
	} {
		if got := fineractPermission(scope); got != reads {
			t.Errorf("%q: %v", scope, got)
		}
		c := &Client{ID: "app", Profile: OpenID, GrantTypes: []string{GrantClientCredentials}, TokenEndpointAuthMethod: ClientSecretBasic, Scope: "accounts " + scope}
		if err := c.Prepare(); (err != nil) != reads {
			t.Errorf("a client with the scope %q: %v", scope, err)
		}
	}
}
