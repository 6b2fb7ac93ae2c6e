// Package federationtest is an OpenID provider for tests, which does what it is told: log everybody in, lie, stall.
package federationtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/countersign/countersign/outbound"
)

// Provider is at https://127.0.0.1. Its client is "bank" with the secret "s3cret". Hooks are set before it is asked, or between two
// requests. It remembers nothing: a code is the nonce that the ID token is to have.
type Provider struct {
	*httptest.Server
	t testing.TB

	Key *ecdsa.PrivateKey
	KID string

	Document  func(map[string]any)                                     // changes its metadata
	Auth      func(asked, answer url.Values)                           // changes what the authorization endpoint answers
	Claims    func(map[string]any)                                     // changes the ID token's claims
	Sign      func(claims map[string]any) string                       // in place of signing properly
	UserInfo  map[string]any                                           // claims of the UserInfo endpoint
	Token     func(http.ResponseWriter, *http.Request) (answered bool) // before the token endpoint, as the next two
	Discovery func(http.ResponseWriter, *http.Request) (answered bool)
	JWKS      func(http.ResponseWriter) (answered bool)

	// How often what was asked for.
	Discoveries, Keys, Tokens atomic.Int64

	mu    sync.Mutex
	form  url.Values
	user  string
	asked url.Values
}

// New starts a provider for one test.
func New(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{t: t}
	p.Rotate("1")
	p.Server = httptest.NewTLSServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

// Rotate gives it a new key.
func (p *Provider) Rotate(kid string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Key, p.KID = key, kid
}

// Calls reach it.
func (p *Provider) Calls() *outbound.Client {
	roots := x509.NewCertPool()
	roots.AddCert(p.Certificate())
	return outbound.New(outbound.Options{RootCAs: roots, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
}

// LastToken is the form of the last token request, and the user name in its Authorization header.
func (p *Provider) LastToken() (form url.Values, user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.form, p.user
}

// LastAsked is the query of the last authorization request.
func (p *Provider) LastAsked() url.Values {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func (p *Provider) serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		p.Discoveries.Add(1)
		if p.Discovery == nil || !p.Discovery(w, r) {
			answer(w, p.document())
		}
	case "/jwks":
		p.Keys.Add(1)
		if p.JWKS == nil || !p.JWKS(w) {
			answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.Key.Public(), KeyID: p.KID, Algorithm: "ES256", Use: "sig"}}})
		}
	case "/auth":
		p.authorize(w, r)
	case "/token":
		p.Tokens.Add(1)
		_ = r.ParseForm()
		p.mu.Lock()
		p.form = r.PostForm
		p.user, _, _ = r.BasicAuth()
		p.mu.Unlock()
		if p.Token == nil || !p.Token(w, r) {
			answer(w, map[string]any{"access_token": "at", "token_type": "Bearer", "id_token": p.idToken(r.PostForm.Get("code"))})
		}
	case "/userinfo":
		answer(w, p.UserInfo)
	default:
		http.NotFound(w, r)
	}
}

func (p *Provider) document() map[string]any {
	d := map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/jwks",
		"userinfo_endpoint": p.URL + "/userinfo", "id_token_signing_alg_values_supported": []string{"ES256"},
	}
	if p.Document != nil {
		p.Document(d)
	}
	return d
}

// authorize logs whoever comes in at once, as a provider does that has a session of theirs.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Query()
	p.mu.Lock()
	p.asked = asked
	p.mu.Unlock()
	back := url.Values{"state": asked["state"], "code": asked["nonce"]}
	if p.Auth != nil {
		p.Auth(asked, back)
	}
	http.Redirect(w, r, asked.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

func (p *Provider) idToken(nonce string) string {
	now := time.Now()
	claims := map[string]any{
		"iss": p.URL, "sub": "alice-there", "aud": "bank", "nonce": nonce, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"auth_time": now.Unix(), "email": "alice@heron.example", "email_verified": true, "name": "Alice Doe",
	}
	if p.Claims != nil {
		p.Claims(claims)
	}
	if p.Sign != nil {
		return p.Sign(claims)
	}
	return p.Signed(claims, p.Key, p.KID)
}

// Signed is an ID token with these claims.
func (p *Provider) Signed(claims map[string]any, key *ecdsa.PrivateKey, kid string) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		p.t.Error(err)
		return ""
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		p.t.Error(err)
	}
	return text
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
