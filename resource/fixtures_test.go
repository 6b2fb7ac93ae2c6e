package resource

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

const (
	api     = "https://api.bank.example"
	service = "accounts-api" // the service's own client_id
	tokenID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
)

type m = map[string]any

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Keys and certificates are made once: RSA takes a while.
var (
	serviceKey = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tppKey     = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) // for DPoP
	otherKey   = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	rsaKey     = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	edKey      = sync.OnceValue(func() ed25519.PrivateKey { _, k, err := ed25519.GenerateKey(rand.Reader); return must(k, err) })

	tppCert     = selfSigned("tpp")
	otherCert   = selfSigned("other")
	serviceCert = selfSigned(service)
)

func selfSigned(name string) *tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: must(x509.ParseCertificate(der))}
}

func thumbprint(cert *tls.Certificate) string { return fapi.CertificateThumbprint(cert.Leaf) }

func jkt(key crypto.Signer) string {
	sum := must((&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256))
	return base64.RawURLEncoding.EncodeToString(sum)
}

// clock is the time of both servers. It stands still unless a test moves it.
type clock struct {
	start  time.Time
	offset atomic.Int64
}

func newClock() *clock { return &clock{start: time.Now()} }

func (c *clock) now() time.Time              { return c.start.Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration)     { c.offset.Add(int64(d)) }
func (c *clock) at(d time.Duration) int64    { return c.now().Add(d).Unix() }
func (c *clock) date(d time.Duration) string { return c.now().Add(d).UTC().Format(time.RFC3339) }

// double stands for the authorization server: metadata, keys, introspection. It judges callers by the real rules.
type double struct {
	*httptest.Server
	clock *clock

	mu          sync.Mutex
	tokens      map[string]m
	metadata    m
	keys        []any
	client      *fapi.Client
	assertions  map[[32]byte]bool
	answer      http.HandlerFunc // instead of introspection
	asked       int
	fetchedKeys int
	keysFail    bool
}

func newDouble(t testing.TB, c *clock) *double {
	d := &double{clock: c, tokens: map[string]m{}, assertions: map[[32]byte]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, d.metadata) })
	mux.HandleFunc("GET /jwks", d.serveKeys)
	mux.HandleFunc("POST /introspect", d.introspect)
	mux.HandleFunc("POST /mtls/introspect", d.introspect)
	d.Server = httptest.NewUnstartedServer(mux)
	d.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	d.Config.ErrorLog = log.New(io.Discard, "", 0)
	d.StartTLS()
	t.Cleanup(d.Close)
	d.metadata = m{
		"issuer": d.URL, "jwks_uri": d.URL + "/jwks", "introspection_endpoint": d.URL + "/introspect",
		"mtls_endpoint_aliases": m{"introspection_endpoint": d.URL + "/mtls/introspect"},
	}
	d.register(fapi.PrivateKeyJWT, serviceKey.Public())
	return d
}

func (d *double) register(method fapi.AuthMethod, key any) {
	d.client = &fapi.Client{
		ID: service, Profile: fapi.FAPI2, GrantTypes: []string{fapi.GrantClientCredentials}, ResourceIdentifiers: []string{api},
		TokenEndpointAuthMethod: method,
		JWKS:                    &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key, KeyID: "service"}}},
	}
	if err := d.client.Prepare(); err != nil {
		panic(err)
	}
}

func writeJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body)
}

func (d *double) serveKeys(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fetchedKeys++
	if d.keysFail {
		http.Error(w, "no", http.StatusInternalServerError)
		return
	}
	writeJSON(w, m{"keys": d.keys})
}

func (d *double) introspect(w http.ResponseWriter, r *http.Request) {
	r.ParseForm() // net/http notices that the caller left only when the body was read
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if d.answer != nil {
		d.answer(w, r)
		return
	}
	if !d.authenticated(r) {
		w.WriteHeader(http.StatusUnauthorized)
		writeJSON(w, m{"error": "invalid_client"})
		return
	}
	if token, ok := d.tokens[r.PostFormValue("token")]; ok {
		writeJSON(w, token)
		return
	}
	writeJSON(w, m{"active": false})
}

func (d *double) authenticated(r *http.Request) bool {
	if r.PostFormValue("client_id") != service {
		return false
	}
	if d.client.TokenEndpointAuthMethod != fapi.PrivateKeyJWT {
		return strings.HasPrefix(r.URL.Path, "/mtls/") && d.client.CheckCertificate(r.TLS.PeerCertificates, nil, d.clock.now()) == nil
	}
	use, err := d.client.CheckAssertion(r.PostFormValue("client_assertion"), fapi.AssertionContext{Issuer: d.URL, Now: d.clock.now()})
	used := d.assertions[use.Hash]
	d.assertions[use.Hash] = true
	return err == nil && !used && r.PostFormValue("client_assertion_type") == fapi.ClientAssertionType
}

func (d *double) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *double) count() (asked int) {
	d.set(func() { asked = d.asked })
	return asked
}

// claims are those of a good token; changes replace members, nil takes one away.
func (d *double) claims(changes m) m {
	c := m{
		"active": true, "iss": d.URL, "sub": "alice", "aud": []string{"https://other.example", api}, "client_id": "tpp",
		"scope": "accounts payments", "jti": tokenID, "iat": d.clock.at(-time.Second), "exp": d.clock.at(5 * time.Minute),
		"cnf": m{"x5t#S256": thumbprint(tppCert)}, "token_type": "Bearer",
		"acr": "urn:openbanking:psd2:sca", "amr": []string{"pwd", "otp"}, "auth_time": d.clock.at(-time.Minute),
		"fineract_tenant": "default", "fineract_client_id": 42, "roles": []string{"USER"},
		"consent_id": "aac-1", "consent_type": "account-access", "consent_status": "Authorised", "consent_expires_at": d.clock.date(time.Hour),
		"permissions": []string{"ReadAccountsBasic", "ReadBalances"}, "account_ids": []string{"7", "8"},
		"transaction_from": d.clock.date(-24 * time.Hour), "grant_id": "g-1",
		"authorization_details": []m{{"type": "account_information", "consent_id": "aac-1"}},
	}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// issue makes an opaque token.
func (d *double) issue(changes m) string {
	token := "csat_" + rand.Text()
	d.set(func() { d.tokens[token] = d.claims(changes) })
	return token
}

// sign makes a JWT access token with the double's key, which it publishes as "as".
func (d *double) sign(header, changes m) string {
	d.set(func() {
		if d.keys == nil {
			d.keys = []any{jose.JSONWebKey{Key: otherKey.Public(), KeyID: "as", Algorithm: "ES256", Use: "sig"}}
		}
	})
	return signJWT(otherKey, jose.ES256, with(m{"typ": "at+jwt", "kid": "as"}, header), d.claims(changes))
}

func with(base, changes m) m {
	base = maps.Clone(base)
	maps.Copy(base, changes)
	return base
}

// signJWT makes a compact JWS. A nil member is left out.
func signJWT(key any, alg jose.SignatureAlgorithm, header, claims m) string {
	options := &jose.SignerOptions{}
	for name, value := range header {
		if value != nil {
			options.WithHeader(jose.HeaderKey(name), value)
		}
	}
	claims = maps.Clone(claims)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options))
	return must(must(signer.Sign(must(json.Marshal(claims)))).CompactSerialize())
}

// proof makes a DPoP proof of the TPP for GET /accounts.
func (b *bundle) proof(token string, header, claims m) string {
	return signJWT(tppKey, jose.ES256,
		with(m{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: tppKey.Public()}}, header),
		with(m{"jti": rand.Text(), "htm": "GET", "htu": api + "/accounts", "iat": b.clock.at(0), "ath": ath(token)}, claims))
}

func ath(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// bundle is a service with its guard, in front of it a TPP, behind it the authorization server.
type bundle struct {
	*double
	clock     *clock
	config    Config
	guard     *Guard
	service   *httptest.Server
	principal atomic.Pointer[Principal] // the last that a handler saw
}

// setup starts everything. The handlers answer 200.
func setup(t testing.TB, change func(*Config)) *bundle {
	t.Helper()
	b := newBundle(t)
	if change != nil {
		change(&b.config)
	}
	b.start(t)
	return b
}

func newBundle(t testing.TB) *bundle {
	c := newClock()
	b := &bundle{double: newDouble(t, c), clock: c}
	pool := x509.NewCertPool()
	pool.AddCert(b.double.Certificate())
	b.config = Config{
		Issuer: b.double.URL, Audience: api, ClientID: service, Authentication: PrivateKeyJWT(serviceKey, "service", jose.ES256),
		RootCAs: pool, CacheFor: 10 * time.Second, Log: slog.New(slog.DiscardHandler),
	}
	return b
}

func (b *bundle) start(t testing.TB) {
	t.Helper()
	guard, err := newGuard(t.Context(), b.config, b.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	b.guard = guard
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.principal.Store(PrincipalFrom(r.Context()))
		w.Header().Set("Seen-Interaction-Id", r.Header.Get(interactionHeader))
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	mux := http.NewServeMux()
	mux.Handle("/accounts", guard.Require(Need{Scopes: []string{"accounts"}}, ok))
	mux.Handle("/accounts/{account}", guard.Require(Need{Account: PathValue("account")}, ok))
	mux.Handle("/self/clients/{id}", guard.Require(Need{Owner: PathValue("id")}, ok))
	b.service = httptest.NewUnstartedServer(mux)
	b.service.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	b.service.StartTLS()
	t.Cleanup(b.service.Close)
}

// as returns the HTTP client of somebody with that certificate, or none.
func (b *bundle) as(cert *tls.Certificate) *http.Client {
	t := b.service.Client().Transport.(*http.Transport).Clone()
	if cert != nil {
		t.TLSClientConfig.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{Transport: t}
}

// get calls GET /accounts as the TPP.
func (b *bundle) get(t testing.TB, token string) *http.Response {
	t.Helper()
	return b.call(t, tppCert, "GET", "/accounts", http.Header{"Authorization": {"Bearer " + token}})
}

func (b *bundle) call(t testing.TB, cert *tls.Certificate, method, path string, header http.Header) *http.Response {
	t.Helper()
	r := must(http.NewRequest(method, b.service.URL+path, nil))
	r.Header = header
	client := b.as(cert)
	defer client.CloseIdleConnections()
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// expect checks the status, and for a refusal the code in body and challenge.
func expect(t testing.TB, r *http.Response, status int, code fapi.Code) {
	t.Helper()
	defer r.Body.Close()
	body := string(must(io.ReadAll(r.Body)))
	if r.StatusCode != status {
		t.Fatalf("status %d %s %q, want %d", r.StatusCode, body, r.Header["Www-Authenticate"], status)
	}
	if r.Header.Get("Date") == "" || !isUUID(r.Header.Get(interactionHeader)) {
		t.Errorf("FAPI 1.0 Baseline §6.2.1: Date or x-fapi-interaction-id is missing: %v", r.Header)
	}
	if status < 400 {
		return
	}
	challenge := strings.Join(r.Header["Www-Authenticate"], ", ")
	if r.Header.Get("Cache-Control") != "no-store" {
		t.Error("the refusal may be cached")
	}
	if code == "" {
		if body != "" || strings.Contains(challenge, "error") {
			t.Errorf("RFC 6750 §3.1: a code for a call that brought nothing: %s %s", body, challenge)
		}
		return
	}
	if want := `{"error":"` + string(code) + `"}`; body != want {
		t.Errorf("body %s, want %s", body, want)
	}
	if challenged := status == 401 || status == 403; challenged != strings.Contains(challenge, `error="`+string(code)+`"`) {
		t.Errorf("status %d with the challenge %q", status, challenge)
	}
	if (status == 503) != (r.Header.Get("Retry-After") != "") {
		t.Errorf("status %d with Retry-After %q", status, r.Header.Get("Retry-After"))
	}
}
