package authz_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// receiver is a client's logout endpoint. It answers as its test says, and keeps the forms it was sent.
type receiver struct {
	mu     sync.Mutex
	calls  []string // logout tokens
	faults []string
	answer func(call int, w http.ResponseWriter, r *http.Request)
}

func (x *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	r.ParseForm()
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || r.Header.Get("Content-Type") != authztest.FormType || len(r.PostForm) != 1 {
		x.faults = append(x.faults, fmt.Sprintf("%s %s %s %v", r.Method, r.URL, r.Header.Get("Content-Type"), r.PostForm))
	}
	x.calls = append(x.calls, r.PostForm.Get("logout_token"))
	n, answer := len(x.calls), x.answer
	x.mu.Unlock()
	if answer != nil {
		answer(n, w, r)
	}
}

func (x *receiver) heard() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.calls)
}

// hears waits for the nth logout token.
func (x *receiver) hears(t *testing.T, n int) string {
	t.Helper()
	soon(t, fmt.Sprintf("logout token %d", n), func() bool { return len(x.heard()) >= n })
	if len(x.faults) > 0 {
		t.Errorf("LO-03: called with %v", x.faults)
	}
	return x.heard()[n-1]
}

// listener registers a client that wants to hear of logouts.
func listener(t *testing.T, s *authztest.Server, id string, x *receiver, more map[string]any) *authztest.Client {
	t.Helper()
	return listenerAt(t, s, id, s.Site(t, x)+"/backchannel_logout", more)
}

func listenerAt(t *testing.T, s *authztest.Server, id, address string, more map[string]any) *authztest.Client {
	t.Helper()
	all := map[string]any{"backchannel_logout_uri": address, "backchannel_logout_session_required": true, "post_logout_redirect_uris": []string{loggedOutURI}}
	for name, value := range more {
		all[name] = value
	}
	return s.AddClient(t, id, fapi.OpenID, fapi.ClientSecretBasic, all)
}

// logoutClaims verifies a logout token with the published keys and returns its header and claims.
func logoutClaims(t *testing.T, s *authztest.Server, token string) (jose.Header, map[string]any) {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(s.Client("web").Raw(t, http.MethodGet, "/jwks", "", nil).Body, &set); err != nil {
		t.Fatal(err)
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	header := jws.Signatures[0].Protected
	payload, err := jws.Verify(set.Key(header.KeyID)[0])
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return header, claims
}

// due makes waiting notifications due at once.
func due(t *testing.T, s *authztest.Server) {
	t.Helper()
	s.SQL(t, "UPDATE notifications SET due_at = now()")
	s.SQL(t, "SELECT pg_notify('countersign_changes', 'notifications')")
}

func waiting(t *testing.T, s *authztest.Server) int {
	return s.Count(t, "SELECT count(*) FROM notifications")
}

func TestLogoutToken_SaysWhoseSessionHasEnded(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for id, more := range map[string]map[string]any{
		"ES256":    nil,
		"EdDSA":    {"id_token_signed_response_alg": "EdDSA"},
		"pairwise": {"subject_type": "pairwise"},
	} {
		t.Run("LO-03: "+id, func(t *testing.T) {
			x := &receiver{}
			app := listener(t, s, id, x, more)
			b := s.Browser(t)
			tokens := signIn(t, b, app, onlyOpenID)
			idToken := idClaims(t, tokens)
			page := b.Open(t, endSession("id_token_hint", tokens["id_token"].(string), "post_logout_redirect_uri", loggedOutURI))
			if page.Left == nil {
				t.Fatalf("at %q", page.ID())
			}
			header, claims := logoutClaims(t, s, x.hears(t, 1))
			wantAlg := "ES256"
			if more["id_token_signed_response_alg"] != nil {
				wantAlg = "EdDSA"
			}
			if header.Algorithm != wantAlg || header.ExtraHeaders[jose.HeaderType] != "logout+jwt" {
				t.Errorf("header %+v", header)
			}
			now := float64(time.Now().Unix())
			if iat, exp := claims["iat"].(float64), claims["exp"].(float64); iat > now || iat < now-30 || exp <= now || exp > iat+120 {
				t.Errorf("iat %v, exp %v at %v", iat, exp, now)
			}
			if jti, _ := claims["jti"].(string); len(jti) < 16 {
				t.Errorf("jti %v", claims["jti"])
			}
			for _, name := range []string{"iat", "exp", "jti"} {
				delete(claims, name)
			}
			want := map[string]any{
				"iss": s.Issuer, "aud": id, "sub": idToken["sub"], "sid": idToken["sid"],
				"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
			}
			if diff := cmp.Diff(want, claims); diff != "" || claims["sid"] == nil || claims["sid"] == "" {
				t.Error(diff)
			}
			soon(t, "the notification goes", func() bool { return waiting(t, s) == 0 })
		})
	}
}

func TestLogoutToken_IsEncryptedAsIDTokensAre(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	x := &receiver{}
	app := listener(t, s, "enc", x, map[string]any{
		"id_token_encrypted_response_alg": "RSA-OAEP-256", "id_token_encrypted_response_enc": "A256GCM",
		"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "enc-1", Algorithm: "RSA-OAEP-256", Use: "enc"}}},
	})
	b := s.Browser(t)
	tokens := signIn(t, b, app, onlyOpenID)
	decrypted := func(token string) string {
		jwe, err := jose.ParseEncryptedCompact(token, []jose.KeyAlgorithm{jose.RSA_OAEP_256}, []jose.ContentEncryption{jose.A256GCM})
		if err != nil {
			t.Fatal(err)
		}
		payload, err := jwe.Decrypt(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(payload)
	}
	encrypted := tokens["id_token"].(string)
	b.Open(t, endSession("id_token_hint", encrypted)).Explains(t, http.StatusBadRequest, fapi.InvalidRequest)
	if page := b.Open(t, endSession("id_token_hint", decrypted(encrypted), "post_logout_redirect_uri", loggedOutURI)); page.Left == nil {
		t.Fatalf("LO-01: at %q", page.ID())
	}
	_, claims := logoutClaims(t, s, decrypted(x.hears(t, 1)))
	if sid := idClaims(t, map[string]any{"id_token": decrypted(encrypted)})["sid"]; claims["sid"] != sid || sid == nil {
		t.Errorf("LO-03: sid %v, want %v", claims["sid"], sid)
	}
}

// Every client of the session is told, once, and no other.
func TestLogoutToken_GoesToTheClientsOfTheSession(t *testing.T) {
	t.Parallel()
	var heard [5]receiver
	s := authztest.Start(t)
	one := listener(t, s, "one", &heard[0], nil)
	two := listener(t, s, "two", &heard[1], nil)
	elsewhere := listener(t, s, "elsewhere", &heard[2], nil)
	plain := listener(t, s, "plain", &heard[3], nil)
	disabled := listener(t, s, "disabled", &heard[4], nil)
	s.AddCustomer(t, "bob", "77")

	for name, end := range map[string]func(t *testing.T, b *authztest.Browser, idToken string){
		"RP-initiated": func(t *testing.T, b *authztest.Browser, idToken string) {
			b.Open(t, endSession("id_token_hint", idToken))
		},
		"the customer's own page": func(t *testing.T, b *authztest.Browser, _ string) {
			b.Submit(t, b.Open(t, "/consents").Is(t, "consents_page"), nil)
		},
		"somebody else signs in": func(t *testing.T, b *authztest.Browser, _ string) {
			page := b.Authorize(t, "web", s.Client("web").Push(t, map[string]string{"prompt": "login"}))
			b.LoginAs(t, page, "bob")
		},
		"the customer is disabled": func(t *testing.T, _ *authztest.Browser, _ string) {
			s.SQL(t, "SELECT 1")
			customer, err := s.DB.FindCustomer(t.Context(), "default", authztest.Username)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.DB.DisableCustomer(t.Context(), customer.ID); err != nil {
				t.Fatal(err)
			}
			if err := s.DB.EnableCustomer(t.Context(), customer.ID); err != nil {
				t.Fatal(err)
			}
		},
		"signing out after the login has expired": func(t *testing.T, b *authztest.Browser, idToken string) {
			s.SQL(t, "UPDATE logins SET expires_at = now() - interval '1 hour'")
			if _, err := s.DB.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.Open(t, endSession("id_token_hint", idToken))
		},
		"after another login in the same browser": func(t *testing.T, b *authztest.Browser, idToken string) {
			b.Login(t, b.Authorize(t, "web", s.Client("web").Push(t, map[string]string{"prompt": "login"})))
			b.Open(t, endSession("id_token_hint", idToken))
		},
	} {
		t.Run("LO-03: "+name, func(t *testing.T) {
			s.SQL(t, "DELETE FROM logins")
			for i := range heard {
				heard[i].mu.Lock()
				heard[i].calls = nil
				heard[i].mu.Unlock()
			}
			b := s.Browser(t)
			tokens := signIn(t, b, one, onlyOpenID)
			signIn(t, b, one, map[string]string{"scope": "openid profile"}) // twice, and told once
			second := idClaims(t, signIn(t, b, two, onlyOpenID))
			signIn(t, b, plain, map[string]string{"scope": "accounts", "nonce": ""}) // it does not know who the customer is
			signIn(t, b, disabled, onlyOpenID)
			s.DisableClient(t, "disabled")
			defer s.EnableClient(t, "disabled")
			other := s.Browser(t)
			if name != "the customer is disabled" {
				signIn(t, other, elsewhere, onlyOpenID)
			}
			end(t, b, tokens["id_token"].(string))
			_, told := logoutClaims(t, s, heard[0].hears(t, 1))
			if told["sid"] != idClaims(t, tokens)["sid"] {
				t.Errorf("sid %v, want %v", told["sid"], idClaims(t, tokens)["sid"])
			}
			_, told = logoutClaims(t, s, heard[1].hears(t, 1))
			if told["sid"] != second["sid"] || told["sid"] == idClaims(t, tokens)["sid"] {
				t.Errorf("sid %v of the second client", told["sid"])
			}
			soon(t, "all is told", func() bool { return waiting(t, s) == 0 })
			for i, want := range []int{1, 1, 0, 0, 0} {
				if got := len(heard[i].heard()); got != want {
					t.Errorf("client %d was told %d times, want %d", i, got, want)
				}
			}
			if name != "the customer is disabled" && name != "signing out after the login has expired" && !isLoggedIn(t, other, elsewhere) {
				t.Error("another browser was signed out too")
			}
		})
	}
}

func TestLogoutToken_IsRetriedWhereThatHelps(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	elsewhere := &receiver{}
	target := s.Site(t, elsewhere)
	status := func(codes ...int) func(int, http.ResponseWriter, *http.Request) {
		return func(n int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", target)
			w.WriteHeader(codes[min(n, len(codes))-1])
		}
	}
	for i, test := range []struct {
		name   string
		answer func(int, http.ResponseWriter, *http.Request)
		calls  int // in all
	}{
		{"200", status(200), 1},
		{"204", status(204), 1},
		{"400 is final", status(400), 1},
		{"403 is final", status(403), 1},
		{"a redirect is not followed, and final", status(302, 200), 1},
		{"307 is not followed, and final", status(307, 200), 1},
		{"500 and then 200", status(500, 200), 2},
		{"503, 429 and then 204", status(503, 429, 204), 3},
		{"503 for ever", status(503), 6},
	} {
		t.Run("LO-03: "+test.name, func(t *testing.T) {
			x := &receiver{answer: test.answer}
			app := listener(t, s, fmt.Sprintf("app-%d", i), x, nil)
			b := s.Browser(t)
			tokens := signIn(t, b, app, onlyOpenID)
			b.Open(t, endSession("id_token_hint", tokens["id_token"].(string)))
			seen := map[string]bool{}
			for n := 1; n <= test.calls; n++ {
				_, claims := logoutClaims(t, s, x.hears(t, n))
				seen[claims["jti"].(string)] = true
				if n == test.calls {
					break
				}
				soon(t, "the next attempt waits", func() bool {
					return s.Count(t, "SELECT count(*) FROM notifications WHERE due_at > now() AND due_at <> created_at AND attempts = $1 AND due_at < now() + interval '2 hours'", n) == 1
				})
				if n < 3 && len(x.heard()) != n {
					t.Fatalf("attempt %d came at once", n+1)
				}
				time.Sleep(50 * time.Millisecond) // until the attempt before is recorded
				due(t, s)
			}
			soon(t, "the notification goes", func() bool { return waiting(t, s) == 0 })
			due(t, s)
			time.Sleep(50 * time.Millisecond)
			if got := len(x.heard()); got != test.calls || len(seen) != test.calls {
				t.Errorf("%d calls with %d jti, want %d", got, len(seen), test.calls)
			}
			if len(elsewhere.heard()) > 0 {
				t.Error("the redirect was followed")
			}
		})
	}
}

func TestLogoutToken_GoesOnlyWhereTheCertificateIsRight(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	x := &receiver{}
	wrong := httptest.NewTLSServer(x) // nobody vouches for it
	t.Cleanup(wrong.Close)
	app := listenerAt(t, s, "app", wrong.URL+"/logout", nil)
	b := s.Browser(t)
	page := b.Open(t, endSession("id_token_hint", signIn(t, b, app, onlyOpenID)["id_token"].(string), "post_logout_redirect_uri", loggedOutURI))
	if page.Left == nil {
		t.Fatalf("at %q", page.ID())
	}
	soon(t, "an attempt fails", func() bool {
		return s.Count(t, "SELECT count(*) FROM notifications WHERE attempts = 1 AND due_at < now() + interval '10 seconds'") == 1
	})
	if len(x.heard()) != 0 {
		t.Error("LO-03: the logout token was sent to whoever answered")
	}
}

func TestLogoutToken_StaysOffPrivateAddresses(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{PublicOnly: true})
	x := &receiver{}
	app := listener(t, s, "app", x, nil)
	b := s.Browser(t)
	b.Open(t, endSession("id_token_hint", signIn(t, b, app, onlyOpenID)["id_token"].(string)))
	soon(t, "the notification goes", func() bool { return waiting(t, s) == 0 })
	if len(x.heard()) != 0 {
		t.Error("LO-03: a logout token went to a private address")
	}
}

// The customer waits for no client, and no client for another.
func TestLogoutToken_ASlowClientHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	release := make(chan struct{})
	slow := &receiver{answer: func(int, http.ResponseWriter, *http.Request) { <-release }}
	quick := &receiver{}
	b := s.Browser(t)
	var idToken string
	for i := range 3 {
		idToken = signIn(t, b, listener(t, s, fmt.Sprintf("slow-%d", i), slow, nil), onlyOpenID)["id_token"].(string)
	}
	signIn(t, b, listener(t, s, "quick", quick, nil), onlyOpenID)
	began := time.Now()
	b.Open(t, endSession("id_token_hint", idToken)).Is(t, "done_page")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the customer waited %v", took)
	}
	quick.hears(t, 1)
	close(release)
	slow.hears(t, 3)
	soon(t, "all is told", func() bool { return waiting(t, s) == 0 })
}

// Whoever dies between the logout and the delivery leaves the notification to the others.
func TestLogoutToken_SurvivesTheServer(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	t.Run("LO-03: told by one replica alone", func(t *testing.T) {
		x := &receiver{}
		b := one.Browser(t)
		app := listener(t, one, "both", x, nil)
		for n := range 5 {
			b.Open(t, endSession("id_token_hint", signIn(t, b, app, onlyOpenID)["id_token"].(string)))
			x.hears(t, n+1)
		}
		soon(t, "all is told", func() bool { return waiting(t, one) == 0 })
		if got := len(x.heard()); got != 5 {
			t.Errorf("told %d times", got)
		}
	})
	t.Run("LO-03: taken by one that is no more", func(t *testing.T) {
		x := &receiver{}
		b := one.Browser(t)
		app := listener(t, one, "app", x, nil)
		idToken := signIn(t, b, app, onlyOpenID)["id_token"].(string)
		// In one transaction with the logout, a replica takes it that then dies: nobody else sees it before it is due again.
		one.SQL(t, `CREATE FUNCTION taken() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN NEW.attempts := 1; NEW.due_at := now() + interval '30 seconds'; RETURN NEW; END $$`)
		one.SQL(t, `CREATE TRIGGER taken BEFORE INSERT ON notifications FOR EACH ROW EXECUTE FUNCTION taken()`)
		b.Open(t, endSession("id_token_hint", idToken))
		one.SQL(t, `DROP TRIGGER taken ON notifications`)
		time.Sleep(100 * time.Millisecond)
		if len(x.heard()) != 0 || waiting(t, one) != 1 {
			t.Fatalf("%d calls, %d waiting", len(x.heard()), waiting(t, one))
		}
		due(t, two)
		x.hears(t, 1)
		soon(t, "the notification goes", func() bool { return waiting(t, two) == 0 })
	})
}

// LO-03, OpenID Connect Back-Channel Logout §2.7: what a session's tokens end with, and what outlives it.
func TestLogout_EndsTheTokensOfTheSession(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	app := s.AddClient(t, "app", fapi.FAPI2, fapi.TLSClientAuth, map[string]any{"tls_client_certificate_bound_access_tokens": true})
	for name, test := range map[string]struct {
		scope string
		ends  bool
	}{
		"who the customer is":           {"openid profile", true},
		"offline_access":                {"openid offline_access", false},
		"accounts that were picked":     {"openid accounts", false},
		"not who the customer is (RAR)": {"accounts", false},
	} {
		t.Run("LO-03: "+name, func(t *testing.T) {
			changes := map[string]string{"scope": test.scope}
			if !strings.Contains(test.scope, "openid") {
				changes["nonce"] = ""
			}
			b := s.Browser(t)
			tokens := signIn(t, b, app, changes)
			b.Submit(t, b.Open(t, "/consents").Is(t, "consents_page"), nil)
			if test.ends {
				dead(t, s, app, tokens)
			} else {
				app.Token(t, refreshForm(tokens))
			}
		})
	}
	t.Run("LO-03: a consent outlives the session", func(t *testing.T) {
		b := s.Browser(t)
		details := fmt.Sprintf(`[{"type":"account_information","consent_id":%q}]`, app.Consent(t))
		tokens := signIn(t, b, app, map[string]string{"authorization_details": details})
		s.SQL(t, "UPDATE authorizations SET account_ids = '{}', terms = NULL WHERE consent_id IS NOT NULL") // it alone is reason enough
		b.Submit(t, b.Open(t, "/consents").Is(t, "consents_page"), nil)
		alive(t, s, app, tokens)
	})
	t.Run("LO-03: a device is not in the session of the browser that approved it", func(t *testing.T) {
		tv := addDevice(t, s, "tv", fapi.ClientSecretBasic, nil)
		tv.Scope = "openid"
		d, b := beginDevice(t, tv, nil), s.Browser(t)
		b.Decide(t, enterDevice(t, s, b, d.userCode), "approve").Is(t, "done_page")
		b.Submit(t, b.Open(t, "/consents").Is(t, "consents_page"), nil)
		answer := pollDevice(t, tv, d)
		if answer.Status != http.StatusOK || idClaims(t, answer.JSON)["sid"] != nil {
			t.Errorf("%d %s", answer.Status, answer.Body)
		}
	})
	t.Run("LO-03: a code that was not redeemed yet", func(t *testing.T) {
		b := s.Browser(t)
		page := b.Authorize(t, app.ID, app.Push(t, onlyOpenID))
		code := b.Decide(t, b.Login(t, page), "approve").Left.Query().Get("code")
		b.Submit(t, b.Open(t, "/consents").Is(t, "consents_page"), nil)
		app.Post(t, "/token", app.ExchangeForm(code)).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
	})
}
