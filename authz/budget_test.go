package authz_test

import (
	"crypto/rand"
	"crypto/tls"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// flow is one request and what it may cost.
type flow struct {
	name       string
	roundTrips int64 // to the database
	statements int64 // in them
	signatures int   // made by the server: JWTs in the answer
	// prepare does what comes before, and returns the request itself.
	prepare func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer
}

// budgets are those of docs/ARCHITECTURE.md, "What it costs", for a server that is warm.
var budgets = []flow{
	{"client_credentials, private_key_jwt, opaque", 1, 1, 0, clientCredentials("tpp")},
	{"client_credentials, private_key_jwt, JWT", 1, 1, 1, clientCredentials("tpp-jwt")},
	{"client_credentials, private_key_jwt, DPoP", 1, 2, 0, clientCredentials("tpp-dpop")},
	{"client_credentials, tls_client_auth", 0, 0, 0, clientCredentials("tpp-mtls")},
	{"client_credentials, self_signed_tls_client_auth", 0, 0, 0, clientCredentials("tpp-self")},
	{"client_credentials, client_secret_basic", 0, 0, 0, clientCredentials("web")},

	{"pushed request, private_key_jwt", 1, 2, 0, pushing("tpp")},
	{"pushed request, private_key_jwt, DPoP", 1, 3, 0, pushing("tpp-dpop")},
	{"pushed request, tls_client_auth", 1, 1, 0, pushing("tpp-mtls")},
	{"plain /authorize request", 1, 1, 0, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		p := newPerson(t)
		return func(t *testing.T) *authztest.Answer {
			return p.get(t, s, "/authorize?"+s.Client("web").Params(nil).Encode()).Answer
		}
	}},

	{"authorize page, nobody logged in", 1, 3, 0, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		p, c := newPerson(t), s.Client("tpp")
		at := authorizePath(c, c.Push(t, nil))
		return func(t *testing.T) *authztest.Answer { return p.get(t, s, at).Is(t, "login_page").Answer }
	}},
	{"authorize page, logged in", 1, 5, 0, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		p, c := loggedIn(t, s), s.Client("tpp")
		at := authorizePath(c, c.Push(t, nil))
		return func(t *testing.T) *authztest.Answer { return p.get(t, s, at).Is(t, "consent_page").Answer }
	}},
	{"decision, yes", 1, 1, 0, decision("tpp", "approve", nil)},
	{"decision, no", 1, 1, 0, decision("tpp", "deny", nil)},
	{"decision, yes, JARM", 1, 1, 1, decision("ms", "approve", nil)},
	{"decision, no, JARM", 1, 1, 1, decision("ms", "deny", nil)},
	{"decision, yes, code id_token", 1, 1, 1, decision("fapi1", "approve", nil)},
	{"decision, yes, code token", 1, 1, 0, decision("hybrid", "approve", map[string]string{"response_type": "code token"})},
	{"decision, yes, code id_token token", 1, 1, 1, decision("hybrid", "approve", map[string]string{"response_type": "code id_token token"})},

	{"code exchange, private_key_jwt, openid", 1, 2, 1, exchange("tpp", nil)},
	{"code exchange, tls_client_auth, openid", 1, 1, 1, exchange("tpp-mtls", nil)},
	{"code exchange, DPoP, openid", 1, 3, 1, exchange("tpp-dpop", nil)},
	{"code exchange, without openid", 1, 2, 0, exchange("tpp", map[string]string{"scope": "accounts", "nonce": ""})},
	{"code exchange, JWT access token and openid", 1, 2, 2, exchange("tpp-jwt", nil)},
	{"refresh, private_key_jwt, openid", 1, 2, 1, refreshing("tpp", nil)},
	{"refresh, without openid", 1, 2, 0, refreshing("tpp", map[string]string{"scope": "accounts", "nonce": ""})},
	{"refresh, public client (rotates)", 1, 1, 1, refreshing("spa", map[string]string{"scope": "openid accounts offline_access"})},

	{"introspection, tls_client_auth", 1, 1, 0, introspecting("bank-api", "tpp")},
	{"introspection, signed", 1, 1, 1, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		c, api := s.Client("tpp"), s.Client("bank-api")
		form := api.Authenticated(t, url.Values{"token": {c.Grant(t, nil)["access_token"].(string)}}).Encode()
		return func(t *testing.T) *authztest.Answer {
			return api.Raw(t, http.MethodPost, "/introspect", form, http.Header{"Accept": {"application/token-introspection+jwt"}})
		}
	}},
	{"introspection of client credentials, tls_client_auth", 1, 1, 0, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		c, api := s.Client("tpp-mtls"), s.Client("bank-api")
		access := c.Post(t, "/token", url.Values{"grant_type": {"client_credentials"}}).JSON["access_token"].(string)
		return func(t *testing.T) *authztest.Answer { return api.Post(t, "/introspect", url.Values{"token": {access}}) }
	}},
	{"introspection, private_key_jwt, a token for another", 1, 1, 0, introspecting("other-api", "tpp")},
	{"introspection of a forged token, tls_client_auth", 0, 0, 0, forged("csat_" + strings.Repeat("A", 200))},
	{"introspection of a forged JWT, tls_client_auth", 0, 0, 0, forged("eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJ4In0.AAAA")},
	{"introspection of noise, tls_client_auth", 0, 0, 0, forged("noise")},
	{"revocation of a refresh token", 1, 2, 0, revoking("tpp", "refresh_token")},
	{"revocation of an access token, tls_client_auth", 1, 1, 0, revoking("tpp-mtls", "access_token")},
	{"userinfo, certificate", 1, 1, 0, userInfo("tpp")},
	{"userinfo, DPoP", 1, 2, 0, userInfo("tpp-dpop")},

	{"device authorization request, public client", 1, 1, 0, deviceFlow(func(t *testing.T, s *authztest.Server, c *authztest.Client, d deviceRequest) func(*testing.T) *authztest.Answer {
		return func(t *testing.T) *authztest.Answer {
			return c.Post(t, "/device_authorization", url.Values{"client_id": {c.ID}, "scope": {c.Scope}})
		}
	})},
	{"user code entered", 1, 2, 0, deviceFlow(func(t *testing.T, s *authztest.Server, _ *authztest.Client, d deviceRequest) func(*testing.T) *authztest.Answer {
		p := newPerson(t)
		page := p.get(t, s, "/device")
		return func(t *testing.T) *authztest.Answer {
			return p.submit(t, s, page, url.Values{"user_code": {d.userCode}}).Answer
		}
	})},
	{"device code redeemed, openid", 1, 1, 1, deviceFlow(func(t *testing.T, s *authztest.Server, c *authztest.Client, d deviceRequest) func(*testing.T) *authztest.Answer {
		decideDevice(t, s, d, "approve")
		return func(t *testing.T) *authztest.Answer { return pollDevice(t, c, d) }
	})},
	{"CIBA request, private_key_jwt", 1, 3, 0, backchannelFlow(func(t *testing.T, s *authztest.Server, c *authztest.Client, _ backchannelRequest) func(*testing.T) *authztest.Answer {
		return func(t *testing.T) *authztest.Answer { return c.Post(t, "/bc-authorize", backchannelForm(c, nil)) }
	})},
	{"CIBA request, signed, private_key_jwt", 1, 4, 0, backchannelFlow(func(t *testing.T, s *authztest.Server, c *authztest.Client, _ backchannelRequest) func(*testing.T) *authztest.Answer {
		signed := url.Values{"request": {c.RequestObject(t, backchannelForm(c, nil), nil)}}
		return func(t *testing.T) *authztest.Answer { return c.Post(t, "/bc-authorize", signed) }
	})},
	{"CIBA request decided, yes", 1, 1, 0, backchannelFlow(func(t *testing.T, s *authztest.Server, c *authztest.Client, b backchannelRequest) func(*testing.T) *authztest.Answer {
		browser := s.Browser(t)
		page := openBackchannel(t, s, browser, c, b)
		return func(t *testing.T) *authztest.Answer { return browser.Decide(t, page, "approve", "12").Answer }
	})},
	{"CIBA request redeemed", 1, 2, 1, backchannelFlow(func(t *testing.T, s *authztest.Server, c *authztest.Client, b backchannelRequest) func(*testing.T) *authztest.Answer {
		decideBackchannel(t, s, c, b, "approve")
		return func(t *testing.T) *authztest.Answer { return pollBackchannel(t, c, b) }
	})},
	{"token exchange, tls_client_auth", 1, 1, 0, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		core := addService(t, s, "core-"+rand.Text(), fapi.FAPI2, fapi.TLSClientAuth, authztest.Resource, map[string]any{"tls_client_certificate_bound_access_tokens": true})
		subject := tppTokens(t, s, s.Client("tpp"))["access_token"].(string)
		return func(t *testing.T) *authztest.Answer { return core.Post(t, "/token", exchangeForm(subject, nil)) }
	}},

	{"logout with an ID token", 2, 3, 0, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		p, tpp := loggedIn(t, s), s.Client("tpp-mtls")
		hint := tpp.Grant(t, nil)["id_token"].(string)
		return func(t *testing.T) *authztest.Answer { return p.get(t, s, endSession("id_token_hint", hint)).Answer }
	}},
	{"sign-out", 1, 2, 0, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		p := loggedIn(t, s)
		page := p.get(t, s, "/consents").Is(t, "consents_page")
		return func(t *testing.T) *authztest.Answer { return p.submit(t, s, page, nil).Answer }
	}},

	{"OpenID configuration", 0, 0, 0, document("/.well-known/openid-configuration")},
	{"authorization server metadata", 0, 0, 0, document("/.well-known/oauth-authorization-server")},
	{"key set", 0, 0, 0, document("/jwks")},

	// The person's own steps. Each answers with a redirect to /authorize, which is counted there.
	{"login: password", 2, 3, 0, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		p, c := newPerson(t), s.Client("tpp")
		page := p.get(t, s, authorizePath(c, c.Push(t, nil))).Is(t, "login_page")
		return func(t *testing.T) *authztest.Answer { return p.submit(t, s, page, credentials).Answer }
	}},
	{"login: password, again in the same browser", 2, 4, 0, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		p, c := loggedIn(t, s), s.Client("tpp")
		page := p.get(t, s, authorizePath(c, c.Push(t, map[string]string{"prompt": "login"}))).Is(t, "login_page")
		return func(t *testing.T) *authztest.Answer { return p.submit(t, s, page, credentials).Answer }
	}},
}

// factorBudgets are of a customer who shows a second factor.
var factorBudgets = []flow{
	{"login: second factor, enrolled on the spot", 3, 8, 0, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		s.SQL(t, "DELETE FROM second_factors")
		p := newPerson(t)
		page := p.factorPage(t, s).Is(t, "enrol_page")
		return func(t *testing.T) *authztest.Answer {
			return p.submit(t, s, page, url.Values{"code": {codeOf(t, secretOf(t, page), time.Now())}}).Answer
		}
	}},
	{"login: second factor", 2, 5, 0, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		s.SQL(t, "DELETE FROM second_factors")
		p := newPerson(t)
		page := p.factorPage(t, s).Is(t, "enrol_page")
		secret := secretOf(t, page)
		p.submit(t, s, page, url.Values{"code": {codeOf(t, secret, time.Now())}})
		p = newPerson(t)
		page = p.factorPage(t, s).Is(t, "second_factor_page")
		return func(t *testing.T) *authztest.Answer { // a step is good once: this is the code of the next one
			return p.submit(t, s, page, url.Values{"code": {codeOf(t, secret, time.Now().Add(30*time.Second))}}).Answer
		}
	}},
}

func TestBudget_OfEveryFlow(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for _, f := range budgets {
		t.Run(f.name, func(t *testing.T) { f.check(t, s) })
	}
}

func TestBudget_OfASecondFactor(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for _, f := range factorBudgets {
		t.Run(f.name, func(t *testing.T) { f.check(t, s) })
	}
}

// check runs a flow and compares. Flows of one server run one after the other, for they share its trace; what no request
// causes is in it too, so a flow that met with that runs again.
func (f flow) check(t *testing.T, s *authztest.Server) {
	var answer *authztest.Answer
	var sql []string
	for range 10 {
		run := f.prepare(t, s)
		s.Trace.Reset()
		answer = run(t)
		if sql = s.Trace.SQL(); !slices.ContainsFunc(sql, inBackground) {
			break
		}
	}
	if answer.Status >= http.StatusBadRequest {
		t.Fatalf("answered %d %s", answer.Status, answer.Body)
	}
	roundTrips, statements, signatures := s.Trace.RoundTrips(), s.Trace.Statements(), signaturesIn(answer)
	t.Logf("%d round trips, %d statements, %d signatures", roundTrips, statements, signatures)
	if roundTrips > f.roundTrips || statements > f.statements {
		t.Errorf("%d round trips with %d statements: the budget is %d with %d. The statements:\n%s",
			roundTrips, statements, f.roundTrips, f.statements, strings.Join(sql, "\n;\n"))
	}
	if roundTrips < f.roundTrips || statements < f.statements {
		t.Errorf("%d round trips with %d statements, less than the budget of %d with %d: lower the budget, so that it stays a limit",
			roundTrips, statements, f.roundTrips, f.statements)
	}
	if signatures != f.signatures {
		t.Errorf("%d signatures, not %d, in %s", signatures, f.signatures, answer.Body)
	}
}

// inBackground tells whether a statement is one that no request causes: caches are read anew, rows purged, and a new
// connection learns since when used identifiers are remembered.
func inBackground(sql string) bool {
	for _, words := range []string{"INTO replay_memory", "ORDER BY c.client_id", "FROM signing_keys", "FROM data_keys", "LISTEN ",
		"WHERE expires_at < now()", "a.expires_at < now()", "WHERE published_until < now()", "UPDATE notifications SET attempts", "UPDATE notifications SET due_at", "min(due_at)", "INTO client_logos AS claimed", "DELETE FROM client_logos", "-- ping", "account_deletions", "begin", "commit"} {
		if strings.Contains(sql, words) {
			return true
		}
	}
	return false
}

// signaturesIn counts the JWTs of an answer: each was signed to make it.
func signaturesIn(a *authztest.Answer) int {
	return len(jwtPattern.FindAllString(a.Header.Get("Location")+" "+string(a.Body), -1))
}

var jwtPattern = regexp.MustCompile(`\beyJ[\w-]+\.[\w-]+\.[\w-]+`)

func clientCredentials(id string) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
	return func(_ *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		c := s.Client(id)
		return func(t *testing.T) *authztest.Answer {
			return c.Post(t, "/token", url.Values{"grant_type": {"client_credentials"}})
		}
	}
}

func pushing(id string) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
	return func(_ *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		c := s.Client(id)
		return func(t *testing.T) *authztest.Answer { return c.Post(t, "/par", c.Params(nil)) }
	}
}

func decision(id, button string, changes map[string]string) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
	return func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		p, c := loggedIn(t, s), s.Client(id)
		page := p.get(t, s, authorizePath(c, c.Push(t, changes))).Is(t, "consent_page")
		return func(t *testing.T) *authztest.Answer {
			return p.submit(t, s, page, url.Values{"decision": {button}, "account": {"12"}}).Answer
		}
	}
}

func exchange(id string, changes map[string]string) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
	return func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		c := s.Client(id)
		code := s.Approve(t, c, c.Push(t, changes))
		return func(t *testing.T) *authztest.Answer { return c.Post(t, "/token", c.ExchangeForm(code)) }
	}
}

func refreshing(id string, changes map[string]string) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
	return func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		c := s.Client(id)
		tokens := c.Exchange(t, s.Approve(t, c, c.Push(t, changes)))
		return func(t *testing.T) *authztest.Answer { return c.Post(t, "/token", refreshForm(tokens)) }
	}
}

func introspecting(caller, id string) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
	return func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		c, api := s.Client(id), s.Client(caller)
		tokens := c.Exchange(t, s.Approve(t, c, c.Push(t, nil)))
		return func(t *testing.T) *authztest.Answer {
			return api.Post(t, "/introspect", url.Values{"token": {tokens["access_token"].(string)}})
		}
	}
}

// backchannelFlow prepares a CIBA request for a budget. A poll that finds nothing is refused: TestBackchannel_PollBudget.
func backchannelFlow(then func(*testing.T, *authztest.Server, *authztest.Client, backchannelRequest) func(*testing.T) *authztest.Answer) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
	return func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		s.SQL(t, "DELETE FROM authorizations WHERE for_customer_id IS NOT NULL") // those of other flows wait for the same customer
		s.SQL(t, "DELETE FROM notifications")
		s.SQL(t, "ALTER TABLE notifications DISABLE TRIGGER USER") // the customer is told of it while the client is answered
		c := addBackchannel(t, s, "shop-"+rand.Text(), fapi.PrivateKeyJWT, fapi.Poll, nil)
		return then(t, s, c, beginBackchannel(t, c, nil))
	}
}

func forged(token string) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
	return func(_ *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		api := s.Client("bank-api")
		return func(t *testing.T) *authztest.Answer {
			answer := api.Post(t, "/introspect", url.Values{"token": {token}})
			if string(answer.Body) != `{"active":false}` {
				t.Errorf("a forged token is told more than inactive: %s", answer.Body)
			}
			return answer
		}
	}
}

func revoking(id, kind string) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
	return func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		c := s.Client(id)
		tokens := c.Exchange(t, s.Approve(t, c, c.Push(t, nil)))
		return func(t *testing.T) *authztest.Answer {
			return c.Post(t, "/revoke", url.Values{"token": {tokens[kind].(string)}})
		}
	}
}

func userInfo(id string) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
	return func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		c := s.Client(id)
		tokens := c.Exchange(t, s.Approve(t, c, c.Push(t, nil)))
		return func(t *testing.T) *authztest.Answer { return c.Get(t, "/userinfo", tokens["access_token"].(string)) }
	}
}

func document(path string) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
	return func(_ *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
		return func(t *testing.T) *authztest.Answer { return newPerson(t).get(t, s, path).Answer }
	}
}

func refreshForm(tokens map[string]any) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens["refresh_token"].(string)}}
}

// person is a browser that takes one step at a time, each at any of several servers: unlike authztest.Browser it follows
// no redirect by itself.
type person struct{ jar http.CookieJar }

func newPerson(t *testing.T) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &person{jar}
}

// loggedIn is a person who has just logged in.
func loggedIn(t *testing.T, s *authztest.Server) *person {
	t.Helper()
	p := newPerson(t)
	p.submit(t, s, p.get(t, s, "/login").Is(t, "login_page"), credentials)
	return p
}

var credentials = url.Values{"username": {authztest.Username}, "password": {authztest.Password}}

func authorizePath(c *authztest.Client, requestURI string) string {
	return "/authorize?" + url.Values{"client_id": {c.ID}, "request_uri": {requestURI}}.Encode()
}

func (p *person) get(t *testing.T, s *authztest.Server, path string) *authztest.Page {
	t.Helper()
	return p.send(t, s, http.MethodGet, path, nil)
}

// submit fills in the first form of a page, and sends it to that server, wherever the page came from.
func (p *person) submit(t *testing.T, s *authztest.Server, page *authztest.Page, fields url.Values) *authztest.Page {
	t.Helper()
	form, action := page.Form(t)
	for name, values := range fields {
		form[name] = values
	}
	return p.send(t, s, http.MethodPost, action.RequestURI(), form)
}

// next follows a redirect to that server.
func (p *person) next(t *testing.T, s *authztest.Server, page *authztest.Page) *authztest.Page {
	t.Helper()
	to, err := url.Parse(page.Header.Get("Location"))
	if err != nil || page.Status != http.StatusSeeOther || to.IsAbs() {
		t.Fatalf("%d, Location %q: not sent on within the server", page.Status, to)
	}
	return p.get(t, s, to.RequestURI())
}

func (p *person) send(t *testing.T, s *authztest.Server, method, path string, form url.Values) *authztest.Page {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.Issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots}, DisableKeepAlives: true}
	client := &http.Client{Jar: p.jar, Timeout: 30 * time.Second, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &authztest.Page{Answer: authztest.Do(t, client, r), URL: r.URL}
}

// factorPage logs in for a request that demands strong customer authentication, and returns the page after the password.
func (p *person) factorPage(t *testing.T, s *authztest.Server) *authztest.Page {
	t.Helper()
	c := s.Client("tpp")
	claims := `{"id_token":{"acr":{"essential":true,"value":"urn:openbanking:psd2:sca"}}}`
	page := p.get(t, s, authorizePath(c, c.Push(t, map[string]string{"claims": claims, "prompt": "login"})))
	return p.next(t, s, p.submit(t, s, page.Is(t, "login_page"), credentials))
}

var secretPattern = regexp.MustCompile(`id="secret"><code[^>]*>([A-Z2-7 ]+)`)

func secretOf(t *testing.T, page *authztest.Page) string {
	t.Helper()
	m := secretPattern.FindSubmatch(page.Body)
	if m == nil {
		t.Fatalf("no secret on page %q", page.ID())
	}
	return strings.ReplaceAll(string(m[1]), " ", "")
}

func codeOf(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}
