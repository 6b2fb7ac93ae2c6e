package authz_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// OP-08, OpenID Connect Core §8.1: by which sub a client knows a customer, wherever it reads one.
func TestPairwise_OneSubPerSectorEverywhere(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	s.AddCustomer(t, "bob", "77")
	client := func(id string, more map[string]any) *authztest.Client {
		all := map[string]any{"response_types": []string{"code", "code id_token"}, "scope": "openid profile offline_access"}
		for name, value := range more {
			all[name] = value
		}
		return s.AddClient(t, id, fapi.OpenID, fapi.ClientSecretBasic, all)
	}
	pairwise := func(more map[string]any) map[string]any {
		all := map[string]any{"subject_type": "pairwise"}
		for name, value := range more {
			all[name] = value
		}
		return all
	}
	clients := map[string]*authztest.Client{
		"public":    client("public", nil),
		"pairwise":  client("pairwise", pairwise(nil)),
		"sibling":   client("sibling", pairwise(map[string]any{"access_token_format": "jwt"})), // of the same sector
		"elsewhere": client("elsewhere", pairwise(map[string]any{"sector_identifier_uri": "https://elsewhere.example/uris.json"})),
	}
	subs := map[string]string{}
	for name, c := range clients {
		b := s.Browser(t)
		at := b.Decide(t, b.Login(t, b.Authorize(t, c.ID, c.Push(t, map[string]string{"scope": "openid offline_access"}))), "approve")
		tokens := c.Exchange(t, at.Left.Query().Get("code"))
		sub := idClaims(t, tokens)["sub"].(string)
		if len(sub) > 255 || strings.Contains(sub, "alice") { // OpenID Connect Core §2
			t.Errorf("OP-08: sub %q", sub)
		}
		userInfo := c.Get(t, "/userinfo", tokens["access_token"].(string))
		introspected := s.Client("bank-api").Post(t, "/introspect", url.Values{"token": {tokens["access_token"].(string)}})
		refreshed := c.Token(t, refreshForm(tokens))
		places := map[string]any{
			"userinfo": userInfo.JSON["sub"], "introspection": introspected.JSON["sub"], "ID token after a refresh": idClaims(t, refreshed)["sub"],
		}
		if name == "sibling" {
			places["JWT access token"] = idClaims(t, map[string]any{"id_token": tokens["access_token"]})["sub"]
		}
		answer := decided(t, s, c, "approve", map[string]string{"response_type": "code id_token", "scope": "openid offline_access", "prompt": "consent"})
		fragment, _ := url.ParseQuery(answer.Left.Fragment)
		places["ID token of the authorization endpoint"] = idClaims(t, map[string]any{"id_token": fragment.Get("id_token")})["sub"]
		for place, got := range places {
			if got != sub {
				t.Errorf("OP-08: %s, %s: sub %v, want %s", name, place, got, sub)
			}
		}
		subs[name] = sub
	}
	customer, err := s.DB.FindCustomer(t.Context(), "default", authztest.Username)
	if err != nil {
		t.Fatal(err)
	}
	if subs["public"] != customer.ID.String() || subs["pairwise"] != subs["sibling"] || subs["pairwise"] == subs["public"] || subs["pairwise"] == subs["elsewhere"] {
		t.Errorf("OP-08: %v", subs)
	}

	b, c := s.Browser(t), clients["pairwise"]
	at := b.Decide(t, b.LoginAs(t, b.Authorize(t, c.ID, c.Push(t, onlyOpenID)), "bob"), "approve")
	if bobs := idClaims(t, c.Exchange(t, at.Left.Query().Get("code")))["sub"]; bobs == subs["pairwise"] {
		t.Error("OP-08: two customers have one name")
	}
}

// A session has another name with each client, the same with each ID token of one, and another one in another browser.
func TestSessionID(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	s.AddCustomer(t, "bob", "77")
	told := map[string]any{"backchannel_logout_uri": "https://app.example/logout"} // who is not has no use for it
	app, other := s.AddClient(t, "app", fapi.OpenID, fapi.ClientSecretBasic, told), s.AddClient(t, "other", fapi.OpenID, fapi.ClientSecretBasic, told)
	sid := func(b *authztest.Browser, c *authztest.Client, changes map[string]string) string {
		t.Helper()
		id, _ := idClaims(t, signIn(t, b, c, changes))["sid"].(string)
		if len(id) < 16 {
			t.Fatalf("sid %q", id)
		}
		return id
	}
	b := s.Browser(t)
	first := sid(b, app, onlyOpenID)
	if sid(b, app, onlyOpenID) != first {
		t.Error("LO-03: another sid in the same session")
	}
	if sid(b, app, map[string]string{"scope": "openid", "prompt": "login"}) != first {
		t.Error("LO-03: another sid after logging in again")
	}
	tokens := signIn(t, b, app, map[string]string{"scope": "openid offline_access", "prompt": "consent"})
	if idClaims(t, app.Token(t, refreshForm(tokens)))["sid"] != first {
		t.Error("LO-03: another sid after a refresh")
	}
	if sid(b, other, onlyOpenID) == first {
		t.Error("LO-03: two clients can compare sids")
	}
	if sid(s.Browser(t), app, onlyOpenID) == first {
		t.Error("LO-03: two browsers share a sid")
	}
	page := b.LoginAs(t, b.Authorize(t, app.ID, app.Push(t, map[string]string{"scope": "openid", "prompt": "login"})), "bob")
	if got := idClaims(t, app.Exchange(t, b.Decide(t, page, "approve").Left.Query().Get("code")))["sid"]; got == first {
		t.Error("LO-03: another customer in the same browser has the same sid")
	}
	b.Open(t, endSession("id_token_hint", tokens["id_token"].(string)))
	if sid(s.Browser(t), app, onlyOpenID) == first {
		t.Error("LO-03: a sid came back")
	}
}
