package authz_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
)

const loggedOutURI = "https://app.example/logged-out"

// logoutServer is a server with two clients that may be returned to.
func logoutServer(t *testing.T) (s *authztest.Server, app, other *authztest.Client) {
	t.Helper()
	s = authztest.Start(t)
	more := map[string]any{"post_logout_redirect_uris": []string{loggedOutURI, loggedOutURI + "?kept=a%20b"}}
	return s, s.AddClient(t, "app", fapi.OpenID, fapi.ClientSecretBasic, more), s.AddClient(t, "other", fapi.OpenID, fapi.ClientSecretBasic, more)
}

// signIn takes a client from its request to its tokens, in a browser that may be logged in.
func signIn(t *testing.T, b *authztest.Browser, c *authztest.Client, changes map[string]string) map[string]any {
	t.Helper()
	page := b.Authorize(t, c.ID, c.Push(t, changes))
	if page.ID() == "login_page" {
		page = b.Login(t, page)
	}
	if page.ID() == "consent_page" {
		page = b.Decide(t, page, "approve", pickable(page)...)
	}
	if page.Left == nil {
		t.Fatalf("still at %q", page.ID())
	}
	return c.Exchange(t, page.Left.Query().Get("code"))
}

// pickable is an account to pick, if the page asks for one.
func pickable(page *authztest.Page) []string {
	if strings.Contains(string(page.Body), `name="account"`) {
		return []string{"12"}
	}
	return nil
}

// onlyOpenID is a request for nothing but who the customer is.
var onlyOpenID = map[string]string{"scope": "openid"}

func endSession(pairs ...string) string {
	params := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		params.Set(pairs[i], pairs[i+1])
	}
	return "/end_session?" + params.Encode()
}

// isLoggedIn asks as a client does: with prompt=none (OpenID Connect Core §3.1.2.1).
func isLoggedIn(t *testing.T, b *authztest.Browser, c *authztest.Client) bool {
	t.Helper()
	page := b.Authorize(t, c.ID, c.Push(t, map[string]string{"prompt": "none", "scope": "openid"}))
	if page.Left == nil {
		t.Fatalf("prompt=none shows %q", page.ID())
	}
	switch answer := page.Left.Query(); answer.Get("error") {
	case "login_required":
		return false
	case "", "consent_required":
		return true
	default:
		t.Fatalf("prompt=none answers %v", answer)
		return false
	}
}

func TestLogout_WithTheClientsIDTokenIsAtOnce(t *testing.T) {
	t.Parallel()
	s, app, other := logoutServer(t)
	state := strings.Repeat("Ab+/ &=", 18)
	for name, test := range map[string]struct {
		params func(idToken string) []string
		want   string // "" for a page of ours
	}{
		"LO-01: back with state": {func(id string) []string {
			return []string{"id_token_hint", id, "post_logout_redirect_uri", loggedOutURI, "state", state}
		}, loggedOutURI + "?" + strings.ReplaceAll(url.Values{"state": {state}}.Encode(), "+", "%20")},
		"LO-01: back without state": {func(id string) []string {
			return []string{"id_token_hint", id, "post_logout_redirect_uri", loggedOutURI}
		}, loggedOutURI},
		"LO-01: a registered query stays as it is": {func(id string) []string {
			return []string{"id_token_hint", id, "post_logout_redirect_uri", loggedOutURI + "?kept=a%20b", "state", "s"}
		}, loggedOutURI + "?kept=a%20b&state=s"},
		"LO-01: client_id, logout_hint, ui_locales and what nobody knows are no obstacle": {func(id string) []string {
			return []string{"id_token_hint", id, "client_id", "app", "logout_hint", "alice", "ui_locales", "fr", "x", "y", "post_logout_redirect_uri", loggedOutURI}
		}, loggedOutURI},
		"LO-01: nowhere to go back to": {func(id string) []string { return []string{"id_token_hint", id, "state", "s"} }, ""},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(name+", "+method, func(t *testing.T) {
				b := s.Browser(t)
				id := signIn(t, b, app, onlyOpenID)["id_token"].(string)
				at := endSession(test.params(id)...)
				var page *authztest.Page
				if method == http.MethodGet {
					page = b.Open(t, at)
				} else { // from the client's site
					path, query, _ := strings.Cut(at, "?")
					form, _ := url.ParseQuery(query)
					page = b.PostWith(t, s.Issuer+path, form, http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://app.example"}})
				}
				if test.want == "" {
					if page.Left != nil || page.ID() != "done_page" || page.URL.Path != "/end_session/done" {
						t.Errorf("at %v %q, left for %v", page.URL, page.ID(), page.Left)
					}
				} else if page.Left == nil || page.Left.String() != test.want {
					t.Errorf("left for %v, want %s", page.Left, test.want)
				}
				if page.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("Cache-Control %q", page.Header.Get("Cache-Control"))
				}
				if isLoggedIn(t, b, app) || isLoggedIn(t, b, other) {
					t.Error("LO-02: prompt=none still finds a login")
				}
				if page := b.Open(t, "/consents"); page.ID() != "login_page" {
					t.Errorf("the customer's own page is %q", page.ID())
				}
			})
		}
	}
}

// A browser sends no cookie with another site's post, and the address that it is sent on to lands in its history.
func TestLogout_APostIsPassedOnWithoutWhatItSaid(t *testing.T) {
	t.Parallel()
	s, app, _ := logoutServer(t)
	id := signIn(t, s.Browser(t), app, onlyOpenID)["id_token"].(string)
	form := url.Values{"id_token_hint": {id}, "post_logout_redirect_uri": {loggedOutURI}, "state": {"secret-state"}}
	answer := app.Raw(t, http.MethodPost, "/end_session", form.Encode(), nil)
	to := answer.Header.Get("Location")
	if answer.Status != http.StatusSeeOther || !strings.HasPrefix(to, "/end_session?logout=") || strings.Contains(to, id) || strings.Contains(to, "state") || answer.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("LO-01: %d to %s", answer.Status, to)
	}
	answer = app.Raw(t, http.MethodPost, "/end_session", url.Values{"id_token_hint": {"noise"}}.Encode(), nil)
	if answer.Status != http.StatusBadRequest || answer.Header.Get("Location") != "" {
		t.Errorf("LO-01: a bad post is passed on: %d", answer.Status)
	}
}

func TestLogout_WhatNobodyVouchesForIsAsked(t *testing.T) {
	t.Parallel()
	s, app, other := logoutServer(t)
	s.AddCustomer(t, "bob", "77")
	strange := s.Browser(t)
	page := strange.LoginAs(t, strange.Authorize(t, app.ID, app.Push(t, onlyOpenID)), "bob")
	bobs := app.Exchange(t, strange.Decide(t, page, "approve").Left.Query().Get("code"))["id_token"].(string)

	for name, test := range map[string]struct {
		params []string
		want   string // where the yes leads, "" for a page of ours
	}{
		"no parameters":                           {nil, ""},
		"only state":                              {[]string{"state", "s"}, ""},
		"no client to know the address by":        {[]string{"post_logout_redirect_uri", loggedOutURI, "state", "s"}, ""},
		"a client's name alone":                   {[]string{"client_id", "app", "post_logout_redirect_uri", loggedOutURI, "state", "s"}, loggedOutURI + "?state=s"},
		"somebody else's ID token":                {[]string{"id_token_hint", bobs, "post_logout_redirect_uri", loggedOutURI}, loggedOutURI},
		"somebody else's ID token and no address": {[]string{"id_token_hint", bobs}, ""},
	} {
		t.Run("LO-01: "+name, func(t *testing.T) {
			b := s.Browser(t)
			signIn(t, b, other, onlyOpenID)
			page := b.Open(t, endSession(test.params...)).Is(t, "sign_out_page")
			if !strings.Contains(string(page.Body), "Alice Doe") {
				t.Error("the page does not say who is signed in")
			}
			if !isLoggedIn(t, b, other) {
				t.Fatal("asking signed out")
			}
			form, action := page.Form(t)
			form.Set("decision", "sign_out")
			if forged := b.PostWith(t, action.String(), form, http.Header{"Sec-Fetch-Site": {"cross-site"}}); forged.Status != http.StatusForbidden {
				t.Errorf("another site's post was answered with %d", forged.Status)
			}
			if stayed := b.Submit(t, page, url.Values{"decision": {"stay"}}); stayed.ID() != "consents_page" || !isLoggedIn(t, b, other) {
				t.Fatalf("no means %q", stayed.ID())
			}
			page = b.Submit(t, page, url.Values{"decision": {"sign_out"}})
			if test.want == "" && (page.Left != nil || page.ID() != "done_page") || test.want != "" && (page.Left == nil || page.Left.String() != test.want) {
				t.Errorf("yes leads to %q, %v, want %q", page.ID(), page.Left, test.want)
			}
			if isLoggedIn(t, b, other) {
				t.Error("LO-02: prompt=none still finds a login")
			}
			if again := b.Post(t, action.String(), form); again.Left != nil || again.ID() != "done_page" {
				t.Errorf("the button pressed twice leads to %q, %v", again.ID(), again.Left)
			}
		})
	}
}

// What is asked on a page is good for the login that saw it, for a while, and for nothing else.
func TestLogout_ThePageIsItsLoginsAlone(t *testing.T) {
	t.Parallel()
	s, app, _ := logoutServer(t)
	mine, theirs := s.Browser(t), s.Browser(t)
	signIn(t, mine, app, onlyOpenID)
	signIn(t, theirs, app, onlyOpenID)
	form, action := theirs.Open(t, endSession("client_id", "app", "post_logout_redirect_uri", loggedOutURI)).Is(t, "sign_out_page").Form(t)
	form.Set("decision", "sign_out")
	mine.Post(t, action.String(), form).Explains(t, http.StatusBadRequest, fapi.InvalidRequest)
	for name, value := range map[string]string{"nothing": "", "noise": "AAAA", "another alphabet": "+/=="} {
		form.Set("logout", value)
		if page := mine.Post(t, action.String(), form); page.Status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, page.Status)
		}
		mine.Open(t, "/end_session?logout="+url.QueryEscape(value)).Explains(t, http.StatusBadRequest, fapi.InvalidRequest)
	}
	if !isLoggedIn(t, mine, app) || !isLoggedIn(t, theirs, app) {
		t.Error("signed out by what should be worth nothing")
	}
}

func TestLogout_WithoutALoginThereIsNothingToAsk(t *testing.T) {
	t.Parallel()
	s, app, _ := logoutServer(t)
	id := signIn(t, s.Browser(t), app, onlyOpenID)["id_token"].(string)
	if page := s.Browser(t).Open(t, endSession("id_token_hint", id, "post_logout_redirect_uri", loggedOutURI, "state", "s")); page.Left == nil || page.Left.String() != loggedOutURI+"?state=s" {
		t.Errorf("LO-01: with an ID token, %q, left for %v", page.ID(), page.Left)
	}
	s.Browser(t).Open(t, endSession()).Is(t, "done_page")
	page := s.Browser(t).Open(t, endSession("client_id", "app", "post_logout_redirect_uri", loggedOutURI)).Is(t, "done_page")
	if !strings.Contains(string(page.Body), `id="continue_link" href="`+loggedOutURI+`"`) {
		t.Errorf("no way back:\n%s", page.Body)
	}
}

func TestLogout_RefusesWithoutARedirect(t *testing.T) {
	t.Parallel()
	s, app, _ := logoutServer(t)
	b := s.Browser(t)
	tokens := signIn(t, b, app, onlyOpenID)
	id := tokens["id_token"].(string)
	head, rest, _ := strings.Cut(id, ".")
	claims, signature, _ := strings.Cut(rest, ".")
	own := func(alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any) string {
		return authztest.Sign(t, alg, key, header, idClaims(t, tokens))
	}
	none := "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + claims + "."
	foreign := own(jose.ES256, authztest.NewKey(t), map[jose.HeaderKey]any{"kid": kidOf(t, id), "typ": "JWT"})
	hybrid := s.AddClient(t, "app-jwt", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"access_token_format": "jwt"})
	access := signIn(t, s.Browser(t), hybrid, onlyOpenID)["access_token"].(string)
	for name, params := range map[string][]string{
		"LO-01: alg none":                            {"id_token_hint", none},
		"LO-01: alg none with the old signature":     {"id_token_hint", none + signature},
		"LO-01: signed by the client":                {"id_token_hint", foreign},
		"LO-01: an algorithm we do not sign with":    {"id_token_hint", own(jose.HS256, []byte(strings.Repeat("k", 32)), map[jose.HeaderKey]any{"kid": kidOf(t, id), "typ": "JWT"})},
		"LO-01: a claim changed":                     {"id_token_hint", head + "." + flipped(claims, 9) + "." + signature},
		"LO-01: the signature changed":               {"id_token_hint", head + "." + claims + "." + flipped(signature, 3)},
		"LO-01: an access token":                     {"id_token_hint", access},
		"LO-01: encrypted":                           {"id_token_hint", "eyJhbGciOiJSU0EtT0FFUC0yNTYifQ.AA.AA.AA.AA"},
		"LO-01: noise":                               {"id_token_hint", "noise"},
		"LO-01: another client's ID token":           {"id_token_hint", id, "client_id", "other"},
		"LO-01: an address that is not registered":   {"id_token_hint", id, "post_logout_redirect_uri", "https://app.example/elsewhere"},
		"LO-01: a query added to the address":        {"id_token_hint", id, "post_logout_redirect_uri", loggedOutURI + "?foo=bar"},
		"LO-01: the redirect_uri is another address": {"id_token_hint", id, "post_logout_redirect_uri", authztest.RedirectURI},
		"LO-01: not registered, by client_id":        {"client_id", "app", "post_logout_redirect_uri", "https://evil.example/"},
		"LO-01: an unknown client":                   {"client_id", "nobody", "post_logout_redirect_uri", loggedOutURI},
		"LO-01: too long":                            {"state", strings.Repeat("s", 40<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "LO-01: too long" { // no browser sends such a URL; a form may be so long
				b.PostWith(t, s.Issuer+"/end_session", url.Values{"state": {strings.Repeat("s", 200<<10)}}, nil).Explains(t, http.StatusRequestEntityTooLarge, fapi.InvalidRequest)
				return
			}
			b.Open(t, endSession(params...)).Explains(t, http.StatusBadRequest, fapi.InvalidRequest)
		})
	}
	b.Open(t, "/end_session?state=1&state=2").Explains(t, http.StatusBadRequest, fapi.InvalidRequest)
	if !isLoggedIn(t, b, app) {
		t.Error("what was refused signed out")
	}
}

func TestLogout_HintsOutliveTokensAndKeys(t *testing.T) {
	t.Parallel()
	s, app, _ := logoutServer(t)
	b := s.Browser(t)
	tokens := signIn(t, b, app, onlyOpenID)
	set, err := keys.Open(t.Context(), s.DB, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	claims := idClaims(t, tokens)
	claims["exp"] = time.Now().Add(-24 * time.Hour).Unix()
	id, err := set.Sign(jose.ES256, keys.TypeIDToken, claims)
	if err != nil {
		t.Fatal(err)
	}
	claims["iss"] = "https://other.example"
	foreign, err := set.Sign(jose.ES256, keys.TypeIDToken, claims)
	if err != nil {
		t.Fatal(err)
	}
	b.Open(t, endSession("id_token_hint", foreign)).Explains(t, http.StatusBadRequest, fapi.InvalidRequest)
	// The key that signed it has been rotated away and is published no longer.
	s.SQL(t, `UPDATE signing_keys SET state = 'retired', published_until = now() - interval '90 days' WHERE kid = $1`, kidOf(t, id))
	s.SQL(t, `UPDATE signing_keys SET state = 'current', activated_at = now() WHERE alg = 'ES256' AND state = 'next'`)
	soon(t, "the retired key leaves the published set", func() bool { return !kids(t, s)[kidOf(t, id)] })
	if page := b.Open(t, endSession("id_token_hint", id, "post_logout_redirect_uri", loggedOutURI)); page.Left == nil || page.Left.String() != loggedOutURI {
		t.Errorf("LO-01: at %q, left for %v", page.ID(), page.Left)
	}
	s.SQL(t, `UPDATE signing_keys SET published_until = now() - interval '200 days' WHERE kid = $1`, kidOf(t, id))
	soon(t, "the old key is forgotten", func() bool {
		return s.Browser(t).Open(t, endSession("id_token_hint", id)).Status == http.StatusBadRequest
	})
}

// The sub of the hint counts for whom it names; the authorization endpoint reads it the same way.
func TestLogout_HintsOfPairwiseClients(t *testing.T) {
	t.Parallel()
	s, _, _ := logoutServer(t)
	app := s.AddClient(t, "pairwise", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{
		"subject_type": "pairwise", "post_logout_redirect_uris": []string{loggedOutURI},
	})
	b := s.Browser(t)
	id := signIn(t, b, app, onlyOpenID)["id_token"].(string)
	page := b.Authorize(t, app.ID, app.Push(t, map[string]string{"scope": "openid", "prompt": "none", "id_token_hint": id}))
	if page.Left == nil || page.Left.Query().Get("code") == "" {
		t.Errorf("OP-08: the hint is not understood at /authorize: %v", page.Left)
	}
	if page := b.Open(t, endSession("id_token_hint", id, "post_logout_redirect_uri", loggedOutURI)); page.Left == nil || page.Left.String() != loggedOutURI {
		t.Errorf("OP-08: at %q, left for %v", page.ID(), page.Left)
	}
}

func TestLogout_Metadata(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	answer := s.Client("web").Raw(t, http.MethodGet, "/.well-known/openid-configuration", "", nil)
	var m struct {
		EndSession string   `json:"end_session_endpoint"`
		Back       bool     `json:"backchannel_logout_supported"`
		Session    bool     `json:"backchannel_logout_session_supported"`
		Subjects   []string `json:"subject_types_supported"`
	}
	if err := json.Unmarshal(answer.Body, &m); err != nil {
		t.Fatal(err)
	}
	if m.EndSession != s.Issuer+"/end_session" || !m.Back || !m.Session || len(m.Subjects) != 2 {
		t.Errorf("LO-01, LO-03, OP-08: %+v", m)
	}
}
