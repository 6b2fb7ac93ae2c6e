package federation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/outbound"
)

func TestBegin_AsksAsTheStandardsSay(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	p := e.provider(func(c *Config) {
		c.Request = map[string]string{"ui_locales": "sw"}
		c.MaxAge = time.Hour
		c.ACR = map[string]string{"urn:x": "sca", "gold": "sca", "a b": "sca"}
	})
	ask := func(w Wish) url.Values {
		address, a, err := p.Begin(t.Context(), redirect, w)
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(address)
		q := u.Query()
		if !strings.HasPrefix(address, e.URL+"/auth?") || q.Get("state") != a.State || q.Get("nonce") != a.Nonce || q.Get("code_challenge") != hash256(a.Verifier) {
			t.Errorf("%s does not go with %+v", address, a)
		}
		if len(a.State) < 43 || len(a.Nonce) < 43 || len(a.Verifier) < 43 || a.State == a.Nonce {
			t.Errorf("not 256 random bits each: %+v", a)
		}
		for _, name := range []string{"state", "nonce", "code_challenge"} {
			q.Del(name)
		}
		return q
	}
	common := url.Values{"client_id": {"bank"}, "redirect_uri": {redirect}, "response_type": {"code"}, "scope": {"openid email profile"},
		"code_challenge_method": {"S256"}, "ui_locales": {"sw"}, "max_age": {"3600"}}
	if diff := cmp.Diff(common, ask(Wish{ACR: "ca"})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	common["prompt"], common["max_age"], common["login_hint"], common["acr_values"] = []string{"login"}, []string{"0"}, []string{"alice"}, []string{"gold urn:x"}
	if diff := cmp.Diff(common, ask(Wish{Fresh: true, ACR: "sca", Hint: "alice"})); diff != "" {
		t.Errorf("a login anew (-want +got):\n%s", diff)
	}
	if n := e.Discoveries.Load(); n != 1 {
		t.Errorf("the document was fetched %d times", n)
	}
}

func TestFinish_ReadsWhoItIs(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	e.Claims = func(c map[string]any) {
		c["acr"], c["amr"] = "gold", []string{"pwd", "hwk"}
		c["address"] = map[string]any{"country": "KE"}
		c["https://meadow.example/tier"] = "blue"
		c["upn"], c["nickname"], c["picture"], c["gender"] = "alice7", 7, strings.Repeat("x", 2000), []string{"f"}
		c["phone_number"] = "+254712345678"
	}
	e.UserInfo = map[string]any{"sub": "alice-there", "email": "other@heron.example", "phone_number_verified": true, "locale": "en-KE"}
	p := e.provider(func(c *Config) {
		c.UserInfo = true
		c.Claims = map[string]string{"preferred_username": "upn"}
		c.Attributes = map[string]string{"country": "address.country", "tier": "https://meadow.example/tier", "none": "address.street.number"}
		c.ACR = map[string]string{"gold": "sca"}
	})
	got, err := e.visit(p, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.AuthTime == nil || time.Since(*got.AuthTime) > time.Minute {
		t.Errorf("auth_time %v", got.AuthTime)
	}
	got.AuthTime = nil
	want := &Identity{Provider: "meadow", Issuer: e.URL, Subject: "alice-there", ACR: "sca",
		Profile:    map[string]string{"email": "alice@heron.example", "name": "Alice Doe", "preferred_username": "alice7", "nickname": "7", "phone_number": "+254712345678", "locale": "en-KE"},
		Attributes: map[string]string{"country": "KE", "tier": "blue"}, EmailVerified: true, PhoneVerified: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if form, user := e.LastToken(); user != "bank" || form.Get("code_verifier") == "" || form.Get("redirect_uri") != redirect || form.Has("client_secret") {
		t.Errorf("token request: %q %v", user, form)
	}
}

func TestFinish_AuthenticatesAsConfigured(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	if _, err := e.visit(e.provider(func(c *Config) { c.Auth = SecretPost }), false, nil); err != nil {
		t.Fatal(err)
	}
	if form, user := e.LastToken(); user != "" || form.Get("client_secret") != "s3cret" || form.Get("client_id") != "bank" {
		t.Errorf("client_secret_post: %q %v", user, form)
	}
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p := e.provider(func(c *Config) {
		c.Auth, c.Secret, c.Key = PrivateKeyJWT, "", &jose.JSONWebKey{Key: key, KeyID: "k", Algorithm: "ES256"}
	})
	if _, err := e.visit(p, false, nil); err != nil {
		t.Fatal(err)
	}
	form, user := e.LastToken()
	first := form.Get("client_assertion")
	token, err := jwt.ParseSigned(first, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var c jwt.Claims
	if err := token.Claims(key.Public(), &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(jwt.Expected{Issuer: "bank", Subject: "bank", AnyAudience: jwt.Audience{e.URL}, Time: time.Now()}); err != nil || len(c.Audience) != 1 ||
		token.Headers[0].KeyID != "k" || form.Has("client_secret") || user != "" {
		t.Errorf("private_key_jwt: %v %+v %v", err, c, form)
	}
	if _, err := e.visit(p, false, nil); err != nil {
		t.Fatal(err)
	}
	if form, _ := e.LastToken(); form.Get("client_assertion") == first {
		t.Error("the assertion is used twice")
	}
}

func TestFinish_RefusesAnswers(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(url.Values, *Attempt) {
		return func(v url.Values, _ *Attempt) { v.Set(name, value) }
	}
	for _, test := range []struct {
		name     string
		document func(map[string]any)
		change   func(url.Values, *Attempt)
		want     error
		asks     bool // the token endpoint is asked
	}{
		{"RFC 6749 §10.12: a foreign state", nil, set("state", "other"), ErrAnswer, false},
		{"RFC 6749 §10.12: no state", nil, func(v url.Values, _ *Attempt) { v.Del("state") }, ErrAnswer, false},
		{"RFC 9207 §2.4: another's iss", nil, set("iss", "https://evil.example"), ErrAnswer, false},
		{"RFC 9207 §2.4: an empty iss", nil, set("iss", ""), ErrAnswer, false},
		{"RFC 9207 §2.4: no iss from one that sends it", func(d map[string]any) { d["authorization_response_iss_parameter_supported"] = true }, nil, ErrAnswer, false},
		{"RFC 9207 §2.4: another's iss in an error", nil, func(v url.Values, _ *Attempt) { v.Set("iss", "https://evil.example"); v.Set("error", "access_denied") }, ErrAnswer, false},
		{"RFC 6749 §4.1.2.1: access_denied", nil, set("error", "access_denied"), ErrDenied, false},
		{"OIDC Core §3.1.2.6: login_required", nil, set("error", "login_required"), ErrDenied, false},
		{"RFC 6749 §4.1.2.1: temporarily_unavailable", nil, set("error", "temporarily_unavailable"), ErrUnavailable, false},
		{"RFC 6749 §4.1.2.1: invalid_scope", nil, set("error", "invalid_scope"), ErrAnswer, false},
		{"RFC 6749 §4.1.2.1: an error with a code", nil, func(v url.Values, _ *Attempt) { v.Set("error", "access_denied") }, ErrDenied, false},
		{"no code", nil, func(v url.Values, _ *Attempt) { v.Del("code") }, ErrAnswer, false},
		{"code twice", nil, func(v url.Values, _ *Attempt) { v.Add("code", "x") }, ErrAnswer, false},
		{"a huge code", nil, set("code", strings.Repeat("x", 5000)), ErrAnswer, false},
		{"a huge error", nil, set("error", strings.Repeat("x", 5000)), ErrAnswer, false},
		{"OIDC Core §3.1.3.7-11: code injection, another's nonce", nil, set("code", "nonce of the attacker's"), ErrAnswer, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := newEvil(t)
			e.Document = test.document
			_, err := e.visit(e.provider(nil), false, test.change)
			if !errors.Is(err, test.want) || (e.Tokens.Load() > 0) != test.asks {
				t.Errorf("%v, want %v; token requests: %d", err, test.want, e.Tokens.Load())
			}
			if err != nil && strings.Contains(err.Error(), "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx") {
				t.Errorf("the error quotes the request at length: %v", err)
			}
		})
	}
	t.Run("RFC 9207: iss as it must be", func(t *testing.T) {
		e := newEvil(t)
		e.Document = func(d map[string]any) { d["authorization_response_iss_parameter_supported"] = true }
		if _, err := e.visit(e.provider(nil), false, set("iss", e.URL)); err != nil {
			t.Error(err)
		}
	})
}

func TestFinish_RefusesIDTokens(t *testing.T) {
	t.Parallel()
	now := time.Now()
	claim := func(name string, value any) func(map[string]any) {
		return func(c map[string]any) {
			if value == nil {
				delete(c, name)
				return
			}
			c[name] = value
		}
	}
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for _, test := range []struct {
		name   string
		claims func(map[string]any)
		sign   func(*evil) func(map[string]any) string
	}{
		{"OIDC Core §3.1.3.7-2: another's iss", claim("iss", "https://evil.example"), nil},
		{"OIDC Core §3.1.3.7-2: no iss", claim("iss", nil), nil},
		{"OIDC Core §3.1.3.7-3: another's aud", claim("aud", "shop"), nil},
		{"OIDC Core §3.1.3.7-3: no aud", claim("aud", nil), nil},
		{"OIDC Core §3.1.3.7-4: two auds without azp", claim("aud", []string{"bank", "shop"}), nil},
		{"OIDC Core §3.1.3.7-5: another's azp", claim("azp", "shop"), nil},
		{"OIDC Core §3.1.3.7-9: expired", claim("exp", now.Add(-time.Second).Unix()), nil},
		{"OIDC Core §2: no exp", claim("exp", nil), nil},
		{"OIDC Core §3.1.3.7-10: iat of long ago", claim("iat", now.Add(-time.Hour).Unix()), nil},
		{"OIDC Core §3.1.3.7-10: iat ahead", claim("iat", now.Add(time.Hour).Unix()), nil},
		{"OIDC Core §2: no iat", claim("iat", nil), nil},
		{"RFC 7519 §4.1.5: nbf ahead", claim("nbf", now.Add(time.Hour).Unix()), nil},
		{"OIDC Core §3.1.3.7-11: no nonce", claim("nonce", nil), nil},
		{"OIDC Core §3.1.3.7-11: wrong nonce", claim("nonce", "other"), nil},
		{"OIDC Core §2: no sub", claim("sub", nil), nil},
		{"OIDC Core §2: a long sub", claim("sub", strings.Repeat("s", 256)), nil},
		{"OIDC Core §2: sub is no text", claim("sub", 7), nil},
		{"OIDC Core §3.1.3.8: another's at_hash", claim("at_hash", "AAAA"), nil},
		{"auth_time ahead", claim("auth_time", now.Add(time.Hour).Unix()), nil},
		{"auth_time is no number", claim("auth_time", "yesterday"), nil},
		{"RFC 8725 §3.1: alg none", nil, func(*evil) func(map[string]any) string { return unsigned }},
		{"RFC 8725 §2.1: HS256 with the client secret", nil, func(e *evil) func(map[string]any) string {
			return func(c map[string]any) string {
				signer, _ := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte("s3crets3crets3crets3crets3crets3")}, nil)
				text, _ := jwt.Signed(signer).Claims(c).Serialize()
				return text
			}
		}},
		{"another's key by the same kid", nil, func(e *evil) func(map[string]any) string {
			return func(c map[string]any) string { return e.Signed(c, other, "1") }
		}},
		{"a key that nobody has", nil, func(e *evil) func(map[string]any) string {
			return func(c map[string]any) string { return e.Signed(c, other, "7") }
		}},
		{"no JWT", nil, func(*evil) func(map[string]any) string { return func(map[string]any) string { return "x" } }},
		{"none", nil, func(*evil) func(map[string]any) string { return func(map[string]any) string { return "" } }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := newEvil(t)
			e.Claims = test.claims
			if test.sign != nil {
				e.Sign = test.sign(e)
			}
			if who, err := e.visit(e.provider(nil), false, nil); !errors.Is(err, ErrAnswer) {
				t.Errorf("%+v, %v", who, err)
			}
		})
	}
}

func TestFinish_RefusesTokenAnswers(t *testing.T) {
	t.Parallel()
	say := func(status int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprint(w, body)
			return true
		}
	}
	for _, test := range []struct {
		name  string
		token func(http.ResponseWriter, *http.Request) bool
		want  error
	}{
		{"no id_token", say(200, `{"access_token":"a","token_type":"Bearer"}`), ErrAnswer},
		{"id_token is no text", say(200, `{"access_token":"a","token_type":"Bearer","id_token":{}}`), ErrAnswer},
		{"no JSON", say(200, `<html>`), ErrAnswer},
		{"nothing", say(200, ``), ErrAnswer},
		{"invalid_grant: the code was used or stolen", say(400, `{"error":"invalid_grant","error_description":"`+strings.Repeat("y", 500)+`"}`), ErrAnswer},
		{"invalid_client: our secret is wrong", say(401, `{"error":"invalid_client"}`), ErrUnavailable},
		{"a failure there", say(500, `{}`), ErrUnavailable},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return true
		}, ErrUnavailable},
		{"too large", endless, ErrUnavailable},
		{"it hangs up", func(w http.ResponseWriter, _ *http.Request) bool { panic(http.ErrAbortHandler) }, ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := newEvil(t)
			e.Token = test.token
			_, err := e.visit(e.provider(nil), false, nil)
			if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if err != nil && (len(err.Error()) > 400 || strings.Contains(err.Error(), "yyyy")) {
				t.Errorf("the error quotes the provider: %v", err)
			}
			if n := e.Tokens.Load(); n > 2 { // net/http repeats a request whose connection broke before an answer, which is not ours to stop
				t.Errorf("the code was sent %d times", n)
			}
		})
	}
}

func TestFinish_UserInfoIsAboutTheSame(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	e.UserInfo = map[string]any{"sub": "mallory", "email": "alice@heron.example", "email_verified": true}
	if _, err := e.visit(e.provider(func(c *Config) { c.UserInfo = true }), false, nil); !errors.Is(err, ErrAnswer) {
		t.Errorf("OIDC Core §5.3.2: %v", err)
	}
}

func TestFinish_SlowProvider(t *testing.T) {
	t.Parallel()
	for name, slow := range map[string]func(*evil){
		"document": func(e *evil) { e.Discovery = slowly },
		"token":    func(e *evil) { e.Token = slowly },
		"keys":     func(e *evil) { e.JWKS = func(w http.ResponseWriter) bool { time.Sleep(7 * time.Second); return true } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEvil(t)
			slow(e)
			start := time.Now()
			if _, err := e.visit(e.provider(nil), false, nil); err == nil {
				t.Error("it answered")
			}
			if took := time.Since(start); took > 2*callTimeout+time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestFinish_KeysRotate(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	p := e.provider(nil)
	ok := func(jwks int64) {
		t.Helper()
		if _, err := e.visit(p, false, nil); err != nil || e.Keys.Load() != jwks {
			t.Errorf("%v; keys fetched %d times, want %d", err, e.Keys.Load(), jwks)
		}
	}
	ok(1)
	ok(1)
	e.Rotate("2")
	ok(2)
	ok(2)
	// One fetch for each token by an unknown key, and none more.
	unknown, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	e.Sign = func(c map[string]any) string { return e.Signed(c, unknown, "9") }
	if _, err := e.visit(p, false, nil); !errors.Is(err, ErrAnswer) || e.Keys.Load() != 3 {
		t.Errorf("%v; keys fetched %d times", err, e.Keys.Load())
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		document  func(map[string]any)
		discovery func(http.ResponseWriter, *http.Request) bool
	}{
		{"OIDC Discovery §4.3: another's issuer", func(d map[string]any) { d["issuer"] = "https://evil.example" }, nil},
		{"OIDC Discovery §4.3: a slash more", func(d map[string]any) { d["issuer"] = d["issuer"].(string) + "/" }, nil},
		{"http authorization endpoint", func(d map[string]any) { d["authorization_endpoint"] = "http://meadow.example/auth" }, nil},
		{"javascript authorization endpoint", func(d map[string]any) { d["authorization_endpoint"] = "javascript:alert(1)" }, nil},
		{"http token endpoint on this machine", func(d map[string]any) { d["token_endpoint"] = "http://127.0.0.1/token" }, nil},
		{"http keys", func(d map[string]any) { d["jwks_uri"] = "http://meadow.example/jwks" }, nil},
		{"no keys", func(d map[string]any) { delete(d, "jwks_uri") }, nil},
		{"user info at a name", func(d map[string]any) { d["token_endpoint"] = "https://bank:pw@meadow.example/token" }, nil},
		{"too large", nil, endless},
		{"no JSON", nil, func(w http.ResponseWriter, _ *http.Request) bool { fmt.Fprint(w, "<html>"); return true }},
		{"404", nil, func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }},
		{"a redirect", nil, func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/", http.StatusFound)
			return true
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := newEvil(t)
			e.Document, e.Discovery = test.document, test.discovery
			if _, _, err := e.provider(nil).Begin(t.Context(), redirect, Wish{}); !errors.Is(err, ErrUnavailable) || len(err.Error()) > 400 {
				t.Errorf("%v", err)
			}
		})
	}
}

// A document may name any address. What only this server can reach is not called for it.
func TestCalls_ReachNothingInside(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, member, address string
		want                  error
	}{
		{"a cloud's metadata as the token endpoint", "token_endpoint", "https://169.254.169.254/latest/meta-data", ErrUnavailable},
		{"a neighbour as the keys", "jwks_uri", "https://10.0.0.1/jwks", ErrAnswer},
		{"a neighbour as the UserInfo endpoint", "userinfo_endpoint", "https://192.168.0.1/", ErrAnswer},
	} {
		e := newEvil(t)
		e.Document = func(d map[string]any) { d[test.member] = test.address }
		_, err := e.visit(e.provider(func(c *Config) { c.UserInfo = true }), false, nil)
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), "not public") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	e := newEvil(t)
	p := New(e.config(), outbound.New(outbound.Options{}), time.Now)
	if err := p.Discover(t.Context()); !errors.Is(err, ErrUnavailable) || e.Discoveries.Load() != 0 {
		t.Errorf("a private provider that nobody has allowed: %v", err)
	}
}

func TestDocument_IsFetchedWhenNeeded(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	var mu sync.Mutex
	down, ahead := true, time.Duration(0)
	e.Discovery = func(w http.ResponseWriter, _ *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if down {
			w.WriteHeader(http.StatusBadGateway)
		}
		return down
	}
	c := e.config()
	p := New(c, e.Calls(), func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(ahead) })
	set := func(isDown bool, later time.Duration) { mu.Lock(); down, ahead = isDown, ahead+later; mu.Unlock() }
	want := func(when string, err error, asked int64) {
		t.Helper()
		if got := p.Discover(t.Context()); !errors.Is(got, err) || e.Discoveries.Load() != asked {
			t.Errorf("%s: %v, asked %d times, want %d", when, got, e.Discoveries.Load(), asked)
		}
	}
	want("down", ErrUnavailable, 1)
	want("left alone for a while", ErrUnavailable, 1)
	set(false, retryAfter)
	want("up again", nil, 2)
	want("kept", nil, 2)
	set(true, documentAge+time.Second)
	want("down after an hour: what is known counts on", nil, 3)
	want("and it is left alone", nil, 3)
	set(false, retryAfter+time.Second)
	want("up again", nil, 4)

	// Many who wait share one call.
	p = New(c, e.Calls(), time.Now)
	before := e.Discoveries.Load()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := p.Discover(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := e.Discoveries.Load() - before; n > 3 {
		t.Errorf("20 who waited asked %d times", n)
	}
}

func TestFinish_WhenTheLoginWas(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, test := range []struct {
		name   string
		said   any
		fresh  bool
		maxAge time.Duration
		want   error
		age    time.Duration // of the login, about; -1: not known
	}{
		{"of an hour ago", now.Add(-time.Hour).Unix(), false, 0, nil, time.Hour},
		{"not said", nil, false, 0, nil, -1},
		{"asked anew, of now", now.Unix(), true, 0, nil, 0},
		{"asked anew, by a clock that is behind", now.Add(-30 * time.Second).Unix(), true, 0, nil, 0},
		{"OIDC Core §3.1.3.7-13: asked anew, of an hour ago", now.Add(-time.Hour).Unix(), true, 0, ErrNotFresh, 0},
		{"OIDC Core §3.1.3.7-13: asked anew, not said", nil, true, 0, ErrNotFresh, 0},
		{"max_age, of an hour ago", now.Add(-time.Hour).Unix(), false, 2 * time.Hour, nil, time.Hour},
		{"max_age, too long ago", now.Add(-3 * time.Hour).Unix(), false, 2 * time.Hour, ErrNotFresh, 0},
		{"max_age, not said", nil, false, 2 * time.Hour, ErrNotFresh, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := newEvil(t)
			e.Claims = func(c map[string]any) {
				if c["auth_time"] = test.said; test.said == nil {
					delete(c, "auth_time")
				}
			}
			who, err := e.visit(e.provider(func(c *Config) { c.MaxAge = test.maxAge }), test.fresh, nil)
			if !errors.Is(err, test.want) {
				t.Fatalf("%v, want %v", err, test.want)
			}
			switch {
			case err != nil:
			case test.age < 0:
				if who.AuthTime != nil {
					t.Errorf("auth_time %v", who.AuthTime)
				}
			case who.AuthTime == nil || (time.Since(*who.AuthTime)-test.age).Abs() > 10*time.Second:
				t.Errorf("auth_time %v", who.AuthTime)
			}
		})
	}
}

// Clocks that are half a minute apart are no reason to refuse.
func TestFinish_ClocksDiffer(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-30 * time.Second, 30 * time.Second} {
		for _, fresh := range []bool{false, true} {
			e := newEvil(t)
			e.Claims = func(c map[string]any) {
				there := time.Now().Add(ahead)
				c["iat"], c["auth_time"], c["nbf"], c["exp"] = there.Unix(), there.Unix(), there.Unix(), there.Add(time.Minute).Unix()
			}
			who, err := e.visit(e.provider(nil), fresh, nil)
			if err != nil {
				t.Errorf("%v: %v", ahead, err)
			} else if who.AuthTime.After(time.Now()) {
				t.Errorf("%v: a login that lies ahead", ahead)
			}
		}
	}
}
