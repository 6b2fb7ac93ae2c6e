package authz_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// OpenID Connect Core §4: a customer opens an app from the bank's page.
func TestOpenApp(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	start := map[string]any{"initiate_login_uri": "https://app.example/start?tenant=a%20b"}
	app := s.AddClient(t, "app&co", fapi.OpenID, fapi.ClientSecretBasic, start)
	s.AddClient(t, "stranger", fapi.OpenID, fapi.ClientSecretBasic, start)
	silent := s.AddClient(t, "silent", fapi.OpenID, fapi.ClientSecretBasic, nil)
	gone := s.AddClient(t, "gone", fapi.OpenID, fapi.ClientSecretBasic, start)
	open := func(id string) string { return "/consents/open?" + url.Values{"client_id": {id}}.Encode() }

	b := s.Browser(t)
	b.Open(t, open(app.ID)).Is(t, "login_page")
	for _, c := range []*authztest.Client{app, silent, gone} {
		signIn(t, b, c, onlyOpenID)
	}
	page := b.Open(t, "/consents").Is(t, "consents_page")
	if body := string(page.Body); strings.Count(body, `href="/consents/open?`) != 2 || !strings.Contains(body, `href="/consents/open?client_id=app%26co"`) {
		t.Errorf("links:\n%s", body)
	}
	want := "https://app.example/start?tenant=a%20b&iss=" + url.QueryEscape(s.Issuer)
	if page := b.Open(t, open(app.ID)); page.Left == nil || page.Left.String() != want || page.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("sent to %v, want %s", page.Left, want)
	}
	if page := b.Open(t, open(app.ID)+"&target_link_uri=https%3A%2F%2Fevil.example%2F&iss=x&initiate_login_uri=https%3A%2F%2Fevil.example%2F"); page.Left == nil || page.Left.String() != want {
		t.Errorf("what the link adds went along: %v", page.Left)
	}
	s.SQL(t, "UPDATE grants SET revoked_at = now() WHERE client_id = 'gone'")
	for name, id := range map[string]string{
		"an app without an address": "silent", "one that the customer never gave access": "stranger", "one whose access has ended": "gone", "an unknown one": "nobody", "none": "",
	} {
		if page := b.Open(t, open(id)); page.Left != nil || page.Status != http.StatusNotFound || page.ID() != "error_page" {
			t.Errorf("%s: %d %q, left for %v", name, page.Status, page.ID(), page.Left)
		}
	}
}
