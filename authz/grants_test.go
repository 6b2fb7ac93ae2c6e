package authz_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// changing are the parameters that act on a grant.
func changing(action, grant string, more map[string]string) map[string]string {
	all := map[string]string{"grant_management_action": action, "grant_id": grant}
	for name, value := range more {
		all[name] = value
	}
	return all
}

// grantCall calls the grant management API with a token.
func grantCall(t testing.TB, c *authztest.Client, method, grant, token string) *authztest.Answer {
	t.Helper()
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return c.Raw(t, method, "/grants/"+grant, "", header)
}

func ownToken(t testing.TB, c *authztest.Client, scope string) string {
	t.Helper()
	return c.Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {scope}})["access_token"].(string)
}

func idOf(t testing.TB, tokens map[string]any) string {
	t.Helper()
	id, _ := tokens["grant_id"].(string)
	if len(id) < 20 {
		t.Fatalf("GM-02: grant_id %v", tokens["grant_id"])
	}
	return id
}

// GM-02, GM-03: create, merge and replace, as their client sees them.
func TestGrants_Actions(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := rich(t, s, "rich", nil)
	query := ownToken(t, c, "grant_management_query")
	created := c.Grant(t, changing("create", "", map[string]string{"scope": "openid accounts", "authorization_details": "[" + accountDetail + "]"}))
	id := idOf(t, created)
	if other := idOf(t, c.Grant(t, changing("create", "", nil))); other == id {
		t.Error("GM-01: create made no new grant")
	}
	if plain := c.Grant(t, nil); plain["grant_id"] != nil {
		t.Errorf("GM-02: a grant_id without an action: %v", plain)
	}
	alive(t, s, c, created)

	merged := c.Grant(t, changing("merge", id, map[string]string{"scope": "openid profile", "authorization_details": "[" + paymentDetail + "]",
		"claims": `{"userinfo":{"email":null}}`, "nonce": "n-2"}))
	if idOf(t, merged) != id || merged["scope"] != "accounts openid profile" {
		t.Errorf("GM-03: merged into %v: %v", merged["grant_id"], merged["scope"])
	}
	has(t, "GM-03: the union", merged, accountGranted, paymentDetail)
	has(t, "GM-03: the union at introspection", introspected(t, s, merged), accountGranted, paymentDetail)
	dead(t, s, c, created)
	said := grantCall(t, c, "GET", id, query)
	if said.Status != http.StatusOK || said.Header.Get("Cache-Control") != "no-store" || said.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("GM-05: %d %s %v", said.Status, said.Body, said.Header)
	}
	has(t, "GM-05: query", said.JSON, accountGranted, paymentDetail)
	want := []any{map[string]any{"scope": "openid accounts profile"}}
	if diff := cmp.Diff(want, said.JSON["scopes"]); diff != "" {
		t.Errorf("GM-05: scopes: %s", diff)
	}
	if diff := cmp.Diff([]any{"email"}, said.JSON["claims"]); diff != "" {
		t.Errorf("GM-05: claims: %s", diff)
	}
	if text := string(said.Body); strings.Contains(text, "token") || strings.Contains(text, "Alice") || said.JSON["created_at"] == nil || said.JSON["last_updated_at"] == nil {
		t.Errorf("GM-05: %s", text)
	}

	replaced := c.Grant(t, changing("replace", id, map[string]string{"scope": "openid", "authorization_details": `[{"type":"customer_information"}]`, "nonce": "n-3"}))
	if idOf(t, replaced) != id || replaced["scope"] != "openid" {
		t.Errorf("GM-03: %v", replaced)
	}
	has(t, "GM-03: exactly the new", replaced, `{"type":"customer_information"}`)
	dead(t, s, c, merged)
	again := c.Token(t, refreshed(replaced["refresh_token"]))
	has(t, "GM-03: refreshing", again, `{"type":"customer_information"}`)
	if idOf(t, again) != id {
		t.Error("GM-02: the grant_id changes with refreshing")
	}
	has(t, "GM-05: query", grantCall(t, c, "GET", id, query).JSON, `{"type":"customer_information"}`)
}

// GM-01: errors of the request, at PAR, at the authorization endpoint and with the customer there.
func TestGrants_RefusesRequests(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	s.AddCustomer(t, "bob", "77")
	c, other := rich(t, s, "rich", nil), rich(t, s, "rich-other", nil)
	mine, foreign := idOf(t, c.Grant(t, changing("create", "", nil))), idOf(t, other.Grant(t, changing("create", "", nil)))
	over := idOf(t, c.Grant(t, changing("create", "", nil)))
	if a := grantCall(t, c, "DELETE", over, ownToken(t, c, "grant_management_revoke")); a.Status != http.StatusNoContent {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	plain := introspected(t, s, c.Grant(t, nil))["grant_id"].(string)
	consent := c.Consent(t)
	for _, r := range []struct {
		name    string
		changes map[string]string
		code    fapi.Code
	}{
		{"GM-01: an action without grant_id", changing("merge", "", nil), fapi.InvalidRequest},
		{"GM-01: a grant_id without action", changing("", mine, nil), fapi.InvalidRequest},
		{"GM-01: create with a grant_id", changing("create", mine, nil), fapi.InvalidRequest},
		{"GM-01: an unknown action", changing("revoke", mine, nil), fapi.InvalidRequest},
		{"GM-01: an unknown grant", changing("merge", "019ab000-0000-7000-8000-000000000000", nil), fapi.InvalidGrantID},
		{"GM-01: another client's grant", changing("merge", foreign, nil), fapi.InvalidGrantID},
		{"GM-01: another client's grant, to replace", changing("replace", foreign, nil), fapi.InvalidGrantID},
		{"GM-01: a grant that has ended", changing("replace", over, nil), fapi.InvalidGrantID},
		{"a grant that is not managed", changing("merge", plain, nil), fapi.InvalidGrantID},
		{"the id in capitals", changing("merge", strings.ToUpper(mine), nil), fapi.InvalidGrantID},
		{"the id in braces", changing("merge", "{"+mine+"}", nil), fapi.InvalidGrantID},
		{"no id", changing("merge", "x", nil), fapi.InvalidGrantID},
		{"nil", changing("merge", "00000000-0000-0000-0000-000000000000", nil), fapi.InvalidGrantID},
		{"GM-06: a consent is its own grant", changing("create", "", map[string]string{"authorization_details": `[{"type":"account_information","consent_id":"` + consent + `"}]`}), fapi.InvalidRequest},
	} {
		answer := c.Post(t, "/par", c.Params(r.changes))
		if answer.Refused(t, 400, r.code); t.Failed() {
			t.Fatal(r.name)
		}
	}
	t.Run("GM-01: a public client", func(t *testing.T) {
		s.Client("spa").Post(t, "/par", s.Client("spa").Params(changing("create", "", nil))).Refused(t, 400, fapi.InvalidRequest)
	})
	t.Run("GM-01: at the authorization endpoint", func(t *testing.T) {
		web := s.Client("web")
		s.Browser(t).Open(t, "/authorize?"+web.Params(changing("merge", mine, nil)).Encode()).Returns(t, s, fapi.InvalidGrantID, "state-1")
		s.Browser(t).Open(t, "/authorize?"+web.Params(changing("merge", "", nil)).Encode()).Returns(t, s, fapi.InvalidRequest, "state-1")
	})
	t.Run("GM-01: another customer", func(t *testing.T) {
		b := s.Browser(t)
		b.LoginAs(t, b.Authorize(t, c.ID, c.Push(t, changing("merge", mine, nil))), "bob").Returns(t, s, fapi.InvalidGrantID, "state-1")
	})
	t.Run("it ends while the customer reads", func(t *testing.T) {
		b := s.Browser(t)
		late := idOf(t, c.Grant(t, changing("create", "", nil)))
		page := b.Login(t, b.Authorize(t, c.ID, c.Push(t, changing("merge", late, nil)))).Is(t, "consent_page")
		grantCall(t, c, "DELETE", late, ownToken(t, c, "grant_management_revoke"))
		b.Decide(t, page, "approve", "12").Returns(t, s, fapi.InvalidGrantID, "state-1")
	})
	t.Run("the customer's no changes nothing", func(t *testing.T) {
		tokens := c.Grant(t, changing("create", "", nil))
		b := s.Browser(t)
		b.Decide(t, b.Login(t, b.Authorize(t, c.ID, c.Push(t, changing("replace", idOf(t, tokens), nil)))), "deny").Returns(t, s, fapi.AccessDenied, "state-1")
		alive(t, s, c, tokens)
	})
	t.Run("the page says what becomes of the earlier approval", func(t *testing.T) {
		for action, words := range map[string]string{"merge": "is added to that", "replace": "takes its place"} {
			b := s.Browser(t)
			page := b.Login(t, b.Authorize(t, c.ID, c.Push(t, changing(action, mine, nil)))).Is(t, "consent_page")
			if body := string(page.Body); !strings.Contains(body, `id="earlier"`) || !strings.Contains(body, words) {
				t.Errorf("%s: %s", action, body)
			}
		}
		b := s.Browser(t)
		if page := b.Login(t, b.Authorize(t, c.ID, c.Push(t, changing("create", "", nil)))); strings.Contains(string(page.Body), `id="earlier"`) {
			t.Error("create changes nothing")
		}
	})
}

// GM-05: who may ask, who may end, and what each is told.
func TestGrants_API(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, other := rich(t, s, "rich", nil), rich(t, s, "rich-other", nil)
	tokens := c.Grant(t, changing("create", "", nil))
	id := idOf(t, tokens)
	query, revoke := ownToken(t, c, "grant_management_query"), ownToken(t, c, "grant_management_revoke")
	plain := introspected(t, s, c.Grant(t, nil))["grant_id"].(string)
	theirs := c.Grant(t, map[string]string{"scope": "openid grant_management_query"})
	elsewhere := c.Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"grant_management_query"}, "resource": {otherResource}})["access_token"].(string)
	stolen := *c
	stolen.Certificate = s.Certificate(t, "thief")
	for _, r := range []struct {
		name, method, grant, token string
		client                     *authztest.Client
		status                     int
		code                       fapi.Code // of the challenge; "-" for one that names none
	}{
		{"no token", "GET", id, "", c, 401, "-"},
		{"no token, to end it", "DELETE", id, "", c, 401, "-"},
		{"a token that is none", "GET", id, "csat_x", c, 401, fapi.InvalidToken},
		{"a token of another certificate", "GET", id, query, &stolen, 401, fapi.InvalidToken},
		{"a token for another resource server", "GET", id, elsewhere, c, 401, fapi.InvalidToken},
		{"the customer's token", "GET", id, tokens["access_token"].(string), c, 403, fapi.InsufficientScope},
		{"the customer's token, with the scope", "GET", id, theirs["access_token"].(string), c, 403, fapi.InsufficientScope},
		{"to query, with the scope to revoke", "GET", id, revoke, c, 403, fapi.InsufficientScope},
		{"to revoke, with the scope to query", "DELETE", id, query, c, 403, fapi.InsufficientScope},
		{"another client's grant", "GET", id, ownToken(t, other, "grant_management_query"), other, 403, fapi.InvalidRequest},
		{"another client's grant, to end it", "DELETE", id, ownToken(t, other, "grant_management_revoke"), other, 403, fapi.InvalidRequest},
		{"unknown", "GET", "019ab000-0000-7000-8000-000000000000", query, c, 404, fapi.InvalidRequest},
		{"unknown, to end it", "DELETE", "019ab000-0000-7000-8000-000000000000", revoke, c, 404, fapi.InvalidRequest},
		{"not managed", "GET", plain, query, c, 404, fapi.InvalidRequest},
		{"no id", "GET", "x", query, c, 404, fapi.InvalidRequest},
		{"the id in capitals", "GET", strings.ToUpper(id), query, c, 404, fapi.InvalidRequest},
	} {
		answer := grantCall(t, r.client, r.method, r.grant, r.token)
		challenge := answer.Header.Get("WWW-Authenticate")
		named := r.code == "-" && !strings.Contains(challenge, "error=") || strings.Contains(challenge, `error="`+string(r.code)+`"`)
		if answer.Status != r.status || !named || answer.Header.Get("Cache-Control") != "no-store" || len(answer.Body) != 0 {
			t.Errorf("%s: %d %q %s", r.name, answer.Status, challenge, answer.Body)
		}
	}
	if answer := c.Raw(t, "POST", "/grants/"+id, "", nil); answer.Status != http.StatusMethodNotAllowed || !slices.Equal(answer.Header.Values("Allow"), []string{"GET", "DELETE"}) {
		t.Errorf("POST: %d %v", answer.Status, answer.Header)
	}
	alive(t, s, c, tokens)

	if answer := grantCall(t, c, "DELETE", id, revoke); answer.Status != http.StatusNoContent || len(answer.Body) != 0 || answer.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("GM-05: %d %s", answer.Status, answer.Body)
	}
	dead(t, s, c, tokens)
	for _, method := range []string{"GET", "DELETE"} {
		token := map[string]string{"GET": query, "DELETE": revoke}[method]
		if answer := grantCall(t, c, method, id, token); answer.Status != http.StatusNotFound {
			t.Errorf("%s of what has ended: %d", method, answer.Status)
		}
	}
	t.Run("with DPoP", func(t *testing.T) {
		d := s.AddClient(t, "rich-dpop", fapi.FAPI2, fapi.PrivateKeyJWT, map[string]any{"dpop_bound_access_tokens": true, "scope": "openid profile accounts grant_management_query"})
		d.DPoPKey = authztest.NewKey(t)
		mine := idOf(t, d.Grant(t, changing("create", "", nil)))
		token := ownToken(t, d, "grant_management_query")
		if answer := d.Get(t, "/grants/"+mine, token); answer.Status != http.StatusOK {
			t.Errorf("%d %s", answer.Status, answer.Body)
		}
		if answer := grantCall(t, d, "GET", mine, token); answer.Status != http.StatusUnauthorized {
			t.Errorf("as a bearer token: %d", answer.Status)
		}
	})
}

// GM-05: scopes by the resource servers that they were granted for, and the default beside a named one.
func TestGrants_Resources(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := rich(t, s, "rich", nil)
	id := idOf(t, c.Grant(t, changing("create", "", map[string]string{"scope": "openid"})))
	merged := c.Grant(t, changing("merge", id, map[string]string{"scope": "openid profile", "resource": otherResource, "nonce": "n-2"}))
	said := grantCall(t, c, "GET", id, ownToken(t, c, "grant_management_query")).JSON["scopes"]
	want := []any{map[string]any{"scope": "openid"}, map[string]any{"scope": "openid profile", "resource": []any{otherResource}}}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
	}
	if aud, _ := json.Marshal(introspected(t, s, merged)["aud"]); string(aud) != `["`+otherResource+`","`+authztest.Resource+`"]` {
		t.Errorf("RES-02: a merged grant is good at all its resource servers: %s", aud)
	}
	if only := c.Token(t, refreshed(merged["refresh_token"], "resource", otherResource)); introspected(t, s, only)["active"] != false {
		t.Error("RES-02: a token for one is good at the other")
	}
}

// D4: the customer reads in the list what exactly is granted, and who ended it.
func TestGrants_CustomersList(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := rich(t, s, "rich", nil)
	c.Grant(t, map[string]string{"authorization_details": "[" + paymentDetail + "]"})
	id := idOf(t, c.Grant(t, changing("create", "", map[string]string{"authorization_details": strings.Replace("["+paymentDetail+"]", "Merchant A", "Merchant <b>", 1)})))
	b := s.Browser(t)
	page := string(b.Login(t, b.Open(t, "/consents")).Is(t, "consents_page").Body)
	for _, want := range []string{"Make a payment from your account", "123.50 EUR", "Merchant A", "Merchant &lt;b&gt;", "DE02100100109307118603"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not in the list: %s", want, page)
		}
	}
	grantCall(t, c, "DELETE", id, ownToken(t, c, "grant_management_revoke"))
	if page := string(b.Open(t, "/consents").Body); !strings.Contains(page, "Ended by the app") {
		t.Errorf("who ended it is not in the list: %s", page)
	}
}

// Merges, refreshes and the customer's withdrawal at once: nothing outlives the withdrawal.
func TestGrants_WithdrawalAgainstMerges(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := rich(t, s, "rich", nil)
	tokens := c.Grant(t, changing("create", "", nil))
	id := idOf(t, tokens)
	revoke := ownToken(t, c, "grant_management_revoke")
	const merges = 4
	browsers, pages := make([]*authztest.Browser, merges), make([]*authztest.Page, merges)
	for i := range pages {
		browsers[i] = s.Browser(t)
		pages[i] = browsers[i].Login(t, browsers[i].Authorize(t, c.ID, c.Push(t, changing("merge", id, nil)))).Is(t, "consent_page")
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			switch {
			case i < merges:
				browsers[i].Decide(t, pages[i], "approve", "12")
			case i == 10:
				if answer := grantCall(t, c, "DELETE", id, revoke); answer.Status != http.StatusNoContent {
					t.Errorf("%d %s", answer.Status, answer.Body)
				}
			default:
				c.Post(t, "/token", refreshed(tokens["refresh_token"]))
			}
		})
	}
	all.Wait()
	dead(t, s, c, tokens)
	if n := s.Count(t, `SELECT count(*) FROM authorizations a JOIN grants g ON g.id = a.grant_id WHERE g.id = $1 AND g.revoked_at IS NULL`, id); n != 0 {
		t.Errorf("%d authorizations of a grant that lives on", n)
	}
}
