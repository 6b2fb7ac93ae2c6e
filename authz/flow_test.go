package authz_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
)

func TestFlow_EveryKindOfClient(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	api := s.Client("bank-api")
	for _, id := range []string{"tpp", "tpp-jwt", "tpp-dpop", "tpp-mtls", "tpp-self", "web", "spa"} {
		t.Run(id, func(t *testing.T) {
			c := s.Client(id)
			b := s.Browser(t)
			page := b.Authorize(t, c.ID, c.Push(t, map[string]string{"scope": c.Scope + " offline_access"}))
			page = b.Decide(t, b.Login(t, page), "approve", "12")
			if page.Left == nil {
				t.Fatalf("page %q: %s", page.ID(), page.Body)
			}
			answer := page.Left.Query()
			if answer.Get("state") != "state-1" || answer.Get("iss") != s.Issuer || len(answer) != 3 {
				t.Errorf("authorization response %v", answer)
			}
			tokens := c.Exchange(t, answer.Get("code"))
			for _, name := range []string{"access_token", "refresh_token", "id_token", "token_type", "expires_in", "scope"} {
				if tokens[name] == nil {
					t.Errorf("no %s in %v", name, tokens)
				}
			}
			access := tokens["access_token"].(string)
			info := c.Get(t, "/userinfo", access)
			if info.Status != http.StatusOK || info.JSON["name"] != "Alice Doe" {
				t.Errorf("userinfo %d %s %s", info.Status, info.Body, info.Header)
			}
			said := api.Post(t, "/introspect", url.Values{"token": {access}})
			if said.JSON["active"] != true || said.JSON["fineract_client_id"] != 7.0 || said.JSON["client_id"] != id {
				t.Errorf("introspection %s", said.Body)
			}
			if other := s.Client("other-api").Post(t, "/introspect", url.Values{"token": {access}}); string(other.Body) != `{"active":false}` {
				t.Errorf("another resource server learns %s", other.Body)
			}
			refreshed := c.Post(t, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens["refresh_token"].(string)}})
			if refreshed.Status != http.StatusOK {
				t.Fatalf("refresh %d %s", refreshed.Status, refreshed.Body)
			}
			if rotated := refreshed.JSON["refresh_token"] != tokens["refresh_token"]; rotated != (id == "spa") {
				t.Errorf("rotated: %v", rotated)
			}
			revoked := c.Post(t, "/revoke", url.Values{"token": {refreshed.JSON["refresh_token"].(string)}})
			if revoked.Status != http.StatusOK || len(revoked.Body) != 0 {
				t.Errorf("revocation %d %s", revoked.Status, revoked.Body)
			}
			if said := api.Post(t, "/introspect", url.Values{"token": {access}}); said.JSON["active"] != false {
				t.Errorf("after revocation %s", said.Body)
			}
		})
	}
}
