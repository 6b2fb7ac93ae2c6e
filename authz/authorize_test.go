package authz_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// doors are the two ways into the authorization endpoint (OpenID Connect Core §3.1.2.1).
var doors = map[string]func(*testing.T, *authztest.Server, url.Values) *authztest.Page{
	"GET": func(t *testing.T, s *authztest.Server, params url.Values) *authztest.Page {
		return s.Browser(t).Open(t, "/authorize?"+params.Encode())
	},
	"POST": func(t *testing.T, s *authztest.Server, params url.Values) *authztest.Page {
		return s.Browser(t).Post(t, s.Issuer+"/authorize", params)
	},
}

func TestAuthorize_SendsRefusalsToTheClient(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	foreign := s.Client("tpp-dpop").Consent(t)
	cases := append(badRequests(),
		badRequest{"a response_type that the client did not register", url.Values{"response_type": {"code id_token"}}, fapi.UnauthorizedClient, ""},
		badRequest{"the consent of another client", url.Values{"claims": {`{"id_token":{"openbanking_intent_id":{"value":"` + foreign + `"}}}`}}, fapi.InvalidRequest, ""},
		badRequest{"RFC 9126 §4: a request by value of a client that must push", url.Values{"client_id": {"tpp"}}, fapi.InvalidRequest, ""},
		badRequest{"FAPI2 F2-09: state beside a request that was not pushed", url.Values{"client_id": {"tpp"}, "request_uri": {""}}, fapi.InvalidRequest, ""},
		badRequest{"OpenID Connect Core §6.2: a request_uri of a client that registered none", url.Values{"request_uri": {"https://app.example/request"}}, fapi.RequestURINotSupported, ""},
		badRequest{"RFC 7636 §4.4.1: a public client without code_challenge", url.Values{"client_id": {"spa"}, "code_challenge": nil, "code_challenge_method": nil}, fapi.InvalidRequest, ""},
	)
	t.Run("cases", func(t *testing.T) {
		for method, open := range doors {
			for _, bad := range cases {
				t.Run(method+" "+bad.name, func(t *testing.T) {
					state := "state-1"
					if bad.state == "-" {
						state = ""
					}
					open(t, s, bad.on(s.Client("web").Params(nil))).Returns(t, s, bad.code, state)
				})
			}
		}
	})
	if n := s.Count(t, "SELECT count(*) FROM authorizations"); n != 0 {
		t.Errorf("%d authorizations are stored", n)
	}
}

// RFC 6749 §4.1.2.1: without a client and a redirect URI that can be trusted, only the person is told.
func TestAuthorize_SendsNobodyToAnAddressItCannotTrust(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	other := s.Client("tpp-mtls")
	foreign := other.Push(t, nil)
	type wrong struct {
		change url.Values
		status int
		code   fapi.Code
	}
	cases := map[string]wrong{
		"no client_id":                            {url.Values{"client_id": nil}, 400, fapi.InvalidRequest},
		"an empty client_id":                      {url.Values{"client_id": {""}}, 400, fapi.InvalidRequest},
		"an unknown client_id":                    {url.Values{"client_id": {"nobody"}}, 400, fapi.InvalidRequest},
		"a client_id with NUL":                    {url.Values{"client_id": {"web\x00"}}, 400, fapi.InvalidRequest},
		"a client_id in capitals":                 {url.Values{"client_id": {"WEB"}}, 400, fapi.InvalidRequest},
		"client_id twice":                         {url.Values{"client_id": {"web", "web"}}, 400, fapi.InvalidRequest},
		"two clients":                             {url.Values{"client_id": {"web", "spa"}}, 400, fapi.InvalidRequest},
		"state twice":                             {url.Values{"state": {"a", "b"}}, 400, fapi.InvalidRequest},
		"response_mode twice":                     {url.Values{"response_mode": {"query", "query"}}, 400, fapi.InvalidRequest},
		"a client that has no redirect URIs":      {url.Values{"client_id": {"bank-api"}}, 400, fapi.InvalidRequest},
		"a request_uri to fetch, and no way back": {url.Values{"request_uri": {"https://app.example/request"}, "redirect_uri": nil}, 400, fapi.RequestURINotSupported},
		"RFC 9126 §2.2: an unknown request_uri":   {url.Values{"request_uri": {"urn:ietf:params:oauth:request_uri:" + strings.Repeat("x", 43)}}, 400, fapi.InvalidRequestURI},
		"the prefix alone":                        {url.Values{"request_uri": {"urn:ietf:params:oauth:request_uri:"}}, 400, fapi.InvalidRequestURI},
		"a request_uri that is too long":          {url.Values{"request_uri": {"urn:ietf:params:oauth:request_uri:" + strings.Repeat("x", 2<<10)}}, 400, fapi.InvalidRequestURI},
		"a request_uri with NUL":                  {url.Values{"request_uri": {foreign + "\x00"}}, 400, fapi.InvalidRequest},
		"request_uri twice":                       {url.Values{"request_uri": {foreign, foreign}}, 400, fapi.InvalidRequest},
		"an empty one and a request_uri":          {url.Values{"request_uri": {"", foreign}}, 400, fapi.InvalidRequest},
		"RFC 9126 §4: another client's":           {url.Values{"request_uri": {foreign}}, 400, fapi.InvalidRequestURI},
	}
	for name, uris := range badRedirects {
		cases["redirect_uri: "+name] = wrong{url.Values{"redirect_uri": uris}, 400, fapi.InvalidRequest}
		cases["of a client that must push, redirect_uri: "+name] = wrong{url.Values{"client_id": {"tpp"}, "redirect_uri": uris}, 400, fapi.InvalidRequest}
	}
	t.Run("cases", func(t *testing.T) {
		for method, open := range doors {
			for name, c := range cases {
				t.Run(method+" "+name, func(t *testing.T) {
					bad := badRequest{change: c.change}
					page := open(t, s, bad.on(s.Client("web").Params(nil)))
					if name == "an empty one and a request_uri" && page.Left != nil {
						page.Returns(t, s, c.code, "state-1") // it is a request by value, with a parameter twice
						return
					}
					page.Explains(t, c.status, c.code)
					if strings.Contains(string(page.Body), "evil.example") {
						t.Error("the page shows the address")
					}
				})
			}
		}
		web := s.Client("web")
		good := web.Params(nil).Encode()
		for _, c := range []struct {
			name, method, query, media, body string
			status                           int
		}{
			{"a broken escape in the link", "GET", "?" + good + "&x=%zz", "", "", 400},
			{"a semicolon in the link", "GET", "?" + good + ";x=1", "", "", 400},
			{"JSON", "POST", "", "application/json", "{}", 415},
			{"multipart", "POST", "", "multipart/form-data; boundary=x", "--x--", 415},
			{"a form in the query of a POST", "POST", "?" + good, authztest.FormType, "", 400},
			{"a form and a query", "POST", "?state=x", authztest.FormType, good, 400},
			{"an empty form", "POST", "", authztest.FormType, "", 400},
			{"a form that is too large", "POST", "", authztest.FormType, good + "&x=" + strings.Repeat("x", 65<<10), 413},
		} {
			t.Run(c.method+" "+c.name, func(t *testing.T) {
				answer := web.Raw(t, c.method, "/authorize"+c.query, c.body, http.Header{"Content-Type": {c.media}})
				(&authztest.Page{Answer: answer}).Explains(t, c.status, fapi.InvalidRequest)
			})
		}
		t.Run("a link that is too long for HTTP", func(t *testing.T) {
			if answer := web.Raw(t, "GET", "/authorize?"+good+"&x="+strings.Repeat("x", 2<<20), "", nil); answer.Status != 431 {
				t.Errorf("answered %d", answer.Status)
			}
		})
	})
	if n := s.Count(t, "SELECT count(*) FROM authorizations WHERE status <> 'pending' OR opened_at IS NOT NULL"); n != 0 {
		t.Errorf("a foreign visit has opened the request")
	}
	// RFC 9126 §7.3: what others have tried has not used up the request.
	s.Browser(t).Authorize(t, other.ID, foreign).Is(t, "login_page")
}

// Everything unusual but right goes on to the login, by GET and by POST, and keeps what it said.
func TestAuthorize_Takes(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	web := s.Client("web")
	more := append(goodRequests(),
		badRequest{name: "no PKCE by a confidential client of the profile openid", change: url.Values{"code_challenge": nil, "code_challenge_method": nil}},
		badRequest{name: "a scope that is unknown besides good ones, which is left out", change: url.Values{"scope": {"openid payments"}}},
	)
	for method, open := range doors {
		for _, good := range more {
			t.Run(method+" "+good.name, func(t *testing.T) {
				page := open(t, s, good.on(web.Params(nil)))
				if page.Is(t, "login_page").Status != http.StatusOK || page.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("answered %d %v", page.Status, page.Header)
				}
				for header, want := range map[string]string{"X-Frame-Options": "DENY", "Referrer-Policy": "same-origin"} { // BCP-07, BCP-08
					if page.Header.Get(header) != want {
						t.Errorf("%s %q", header, page.Header.Get(header))
					}
				}
				if !strings.Contains(page.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
					t.Error("RFC 9700 §4.16: the page can be framed")
				}
			})
		}
	}
}

func TestAuthorize_AnswersAsAsked(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	web := s.Client("web")
	hairy := ` !"#$%&'()*+,-./09:;<=>?@AZ[\]^_az{|}~größe`
	for _, c := range []struct {
		name    string
		changes url.Values
		state   []string
		nonce   any
	}{
		{"RFC 6749 §4.1.2: state comes back as it was", url.Values{"state": {hairy}}, []string{hairy}, "nonce-1"},
		{"a long state comes back whole", url.Values{"state": {strings.Repeat("s", 1000)}}, []string{strings.Repeat("s", 1000)}, "nonce-1"},
		{"no state, no state", url.Values{"state": nil}, nil, "nonce-1"},
		{"an empty state is none", url.Values{"state": {""}}, nil, "nonce-1"},
		{"no nonce, no nonce", url.Values{"nonce": nil}, []string{"state-1"}, nil},
		{"a nonce of 384 characters", url.Values{"nonce": {strings.Repeat("n", 384)}}, []string{"state-1"}, strings.Repeat("n", 384)},
	} {
		t.Run(c.name, func(t *testing.T) {
			change := badRequest{change: c.changes}
			b := s.Browser(t)
			page := b.Decide(t, b.Login(t, b.Open(t, "/authorize?"+change.on(web.Params(nil)).Encode())), "approve", "12")
			if page.Left == nil {
				t.Fatalf("page %q", page.ID())
			}
			sent := page.Left.Query()
			code := sent.Get("code")
			want := url.Values{"code": {code}, "iss": {s.Issuer}}
			if c.state != nil {
				want["state"] = c.state
			}
			if sent.Encode() != want.Encode() || page.Left.Fragment != "" {
				t.Errorf("sent back with %v", sent)
			}
			if claims := idClaims(t, web.Exchange(t, code)); claims["nonce"] != c.nonce {
				t.Errorf("nonce %v", claims["nonce"])
			}
		})
	}
	t.Run("a redirect_uri with a query keeps it", func(t *testing.T) {
		b := s.Browser(t)
		page := b.Decide(t, b.Login(t, b.Open(t, "/authorize?"+web.Params(map[string]string{"redirect_uri": authztest.RedirectURI + "?dummy1=lorem&dummy2=ipsum"}).Encode())), "deny")
		if q := page.Left.Query(); q.Get("dummy1") != "lorem" || q.Get("dummy2") != "ipsum" || q.Get("error") != "access_denied" || q.Get("iss") != s.Issuer {
			t.Errorf("sent to %v", page.Left)
		}
	})
	t.Run("response_mode form_post: a refusal is posted, with iss and state", func(t *testing.T) {
		page := s.Browser(t).Open(t, "/authorize?"+web.Params(map[string]string{"response_mode": "form_post", "prompt": "none"}).Encode())
		form, action := page.Form(t)
		if action.String() != authztest.RedirectURI || form.Get("error") != "login_required" || form.Get("iss") != s.Issuer || form.Get("state") != "state-1" || len(form) != 4 {
			t.Errorf("posts %v to %v", form, action)
		}
	})
}
