package authztest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

// Client is a registered client with its keys. Its fields may be changed in a copy, to make a client that misbehaves.
type Client struct {
	ID          string
	Secret      string
	Method      fapi.AuthMethod
	Key         *ecdsa.PrivateKey // signs assertions
	DPoPKey     *ecdsa.PrivateKey // nil: no proofs
	Certificate *tls.Certificate  // nil: none is offered
	Scope       string
	Verifier    string // PKCE

	ResponseType, ResponseMode string // what it asks for; "" is code, and none
	Signs                      bool   // its requests are signed

	server *Server
}

// Clients of every server:
//
//	tpp         fapi2, private_key_jwt, tokens bound to its certificate, opaque
//	tpp-jwt     the same with JWT access tokens
//	tpp-dpop    fapi2, private_key_jwt, tokens bound by DPoP
//	tpp-mtls    fapi2, tls_client_auth
//	tpp-self    fapi2, self_signed_tls_client_auth
//	web         openid, client_secret_basic
//	spa         openid, public
//	hybrid      openid, client_secret_basic, all response types
//	fapi1       fapi1-advanced, private_key_jwt, tokens bound to its certificate, code id_token
//	ms          fapi2-message-signing, private_key_jwt, tokens bound to its certificate, JARM
//	bank-api    the bank's resource server, tls_client_auth
//	other-api   another resource server, private_key_jwt
func (s *Server) registerClients(t testing.TB) {
	s.clients = map[string]*Client{}
	add := func(id string, profile fapi.ProfileName, method fapi.AuthMethod, more map[string]any) *Client {
		c := s.newClient(t, id, profile, method, more)
		s.clients[id] = c
		return c
	}
	bound := map[string]any{"tls_client_certificate_bound_access_tokens": true}
	boundJWT := map[string]any{"tls_client_certificate_bound_access_tokens": true, "access_token_format": "jwt"}
	for id, more := range map[string]map[string]any{"tpp": bound, "tpp-jwt": boundJWT} {
		cert := issue(t, s.ca, id, x509.ExtKeyUsageClientAuth)
		add(id, fapi.FAPI2, fapi.PrivateKeyJWT, more).Certificate = &cert
	}
	add("tpp-dpop", fapi.FAPI2, fapi.PrivateKeyJWT, map[string]any{"dpop_bound_access_tokens": true}).DPoPKey = newKey(t)
	add("tpp-mtls", fapi.FAPI2, fapi.TLSClientAuth, bound)
	add("tpp-self", fapi.FAPI2, fapi.SelfSignedTLSClientAuth, bound)
	add("web", fapi.OpenID, fapi.ClientSecretBasic, nil)
	add("spa", fapi.OpenID, fapi.NoAuth, map[string]any{"grant_types": []string{"authorization_code", "refresh_token"}})
	add("hybrid", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"response_types": fapi.FindProfile(fapi.OpenID).ResponseTypes})
	signs := func(c *Client, typ, mode string) {
		cert := issue(t, s.ca, c.ID, x509.ExtKeyUsageClientAuth)
		c.Certificate, c.Signs, c.ResponseType, c.ResponseMode = &cert, true, typ, mode
	}
	signs(add("fapi1", fapi.FAPI1Advanced, fapi.PrivateKeyJWT, map[string]any{
		"tls_client_certificate_bound_access_tokens": true, "response_types": fapi.FindProfile(fapi.FAPI1Advanced).ResponseTypes,
	}), "code id_token", "")
	signs(add("ms", fapi.FAPI2MessageSigning, fapi.PrivateKeyJWT, map[string]any{
		"tls_client_certificate_bound_access_tokens": true, "response_modes": []string{"jwt"},
	}), "code", "jwt")
	service := func(id string) map[string]any {
		return map[string]any{"resource_identifiers": []string{id}, "grant_types": []string{"client_credentials"}, "scope": ""}
	}
	add("bank-api", fapi.FAPI2, fapi.TLSClientAuth, service(Resource))
	add("other-api", fapi.FAPI2, fapi.PrivateKeyJWT, service("https://other.example"))
}

// newClient registers a client; more replaces its metadata.
func (s *Server) newClient(t testing.TB, id string, profile fapi.ProfileName, method fapi.AuthMethod, more map[string]any) *Client {
	t.Helper()
	c := &Client{ID: id, Method: method, Scope: "openid profile accounts", Verifier: rand.Text() + rand.Text(), server: s}
	m := map[string]any{"client_id": id, "client_name": "App " + id, "profile": profile, "token_endpoint_auth_method": method, "scope": c.Scope + " email offline_access"}
	switch method {
	case fapi.PrivateKeyJWT:
		c.Key = newKey(t)
		m["jwks"] = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: c.Key.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"}}}
	case fapi.TLSClientAuth:
		cert := issue(t, s.ca, id, x509.ExtKeyUsageClientAuth)
		c.Certificate = &cert
		m["tls_client_auth_subject_dn"] = "CN=" + id + ",O=Test"
	case fapi.SelfSignedTLSClientAuth:
		cert := issue(t, nil, id, x509.ExtKeyUsageClientAuth)
		c.Certificate = &cert
		m["jwks"] = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: cert.Leaf.PublicKey, KeyID: id, Certificates: []*x509.Certificate{cert.Leaf}}}}
	case fapi.ClientSecretBasic, fapi.ClientSecretPost:
		c.Secret = rand.Text()
	}
	if more["resource_identifiers"] == nil {
		m["redirect_uris"] = []string{RedirectURI, RedirectURI + "?dummy1=lorem&dummy2=ipsum"}
		m["grant_types"] = []string{"authorization_code", "refresh_token", "client_credentials"}
		m["resources"] = []string{Resource, "https://other.example"}
		m["authorization_details_types"] = []string{"account_information"}
	}
	for name, value := range more {
		m[name] = value
	}
	types, _ := m["response_types"].([]string)
	if slices.ContainsFunc(types, func(t string) bool { return !strings.Contains(t, "code") }) {
		m["grant_types"] = append(m["grant_types"].([]string), fapi.GrantImplicit)
	}
	s.Register(t, m, c.Secret)
	return c
}

// Client returns a copy of a registered client.
func (s *Server) Client(id string) *Client {
	c, ok := s.clients[id]
	if !ok {
		panic("no test client " + id)
	}
	mine := *c
	mine.server = s
	return &mine
}

// Certificate makes a certificate that the server's authority issued for another name.
func (s *Server) Certificate(t testing.TB, name string) *tls.Certificate {
	cert := issue(t, s.ca, name, x509.ExtKeyUsageClientAuth)
	return &cert
}

// HTTP is the client's HTTP client, with its certificate if it has one.
func (c *Client) HTTP() *http.Client {
	config := &tls.Config{RootCAs: c.server.Roots}
	if c.Certificate != nil {
		config.Certificates = []tls.Certificate{*c.Certificate}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Base is where the client calls: the listener for certificates if it has one.
func (c *Client) Base() string {
	if c.Certificate != nil {
		return c.server.MTLSBase
	}
	return c.server.Issuer
}

// Assertion makes a client assertion; claims replace or, when nil, remove those it has.
func (c *Client) Assertion(t testing.TB, claims map[string]any) string {
	t.Helper()
	now := time.Now()
	all := map[string]any{"iss": c.ID, "sub": c.ID, "aud": c.server.issuer(), "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
	merge(all, claims)
	return sign(t, c.Key, map[jose.HeaderKey]any{"kid": c.ID}, all)
}

// issuer is what the server calls itself, which is another address when it shares its database with another server.
func (s *Server) issuer() string { return s.Config.Issuer }

// Proof makes a DPoP proof; claims replace or, when nil, remove those it has.
func (c *Client) Proof(t testing.TB, method, target, token string, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"jti": rand.Text(), "htm": method, "htu": target, "iat": time.Now().Unix()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		all["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	merge(all, claims)
	return sign(t, c.DPoPKey, map[jose.HeaderKey]any{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: c.DPoPKey.Public()}}, all)
}

func merge(all, changes map[string]any) {
	for name, value := range changes {
		if value == nil {
			delete(all, name)
		} else {
			all[name] = value
		}
	}
}

func sign(t testing.TB, key *ecdsa.PrivateKey, header map[jose.HeaderKey]any, claims any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, &jose.SignerOptions{ExtraHeaders: header})
	check(t, err)
	payload, err := json.Marshal(claims)
	check(t, err)
	jws, err := signer.Sign(payload)
	check(t, err)
	text, err := jws.CompactSerialize()
	check(t, err)
	return text
}

// Answer is an endpoint's answer.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	JSON   map[string]any
}

// Authenticated adds the client's authentication to a form.
func (c *Client) Authenticated(t testing.TB, form url.Values) url.Values {
	t.Helper()
	all := url.Values{}
	for name, values := range form {
		all[name] = values
	}
	switch c.Method {
	case fapi.PrivateKeyJWT:
		all.Set("client_assertion_type", fapi.ClientAssertionType)
		all.Set("client_assertion", c.Assertion(t, nil))
	case fapi.TLSClientAuth, fapi.SelfSignedTLSClientAuth, fapi.NoAuth:
		all.Set("client_id", c.ID)
	case fapi.ClientSecretPost:
		all.Set("client_id", c.ID)
		all.Set("client_secret", c.Secret)
	}
	return all
}

// Post calls a back-channel endpoint as this client, with its authentication and, if it has a DPoP key, a proof; it
// takes a DPoP nonce when it is given one.
func (c *Client) Post(t testing.TB, path string, form url.Values) *Answer {
	t.Helper()
	answer := c.Send(t, path, c.Authenticated(t, form), nil)
	if answer.JSON["error"] == "use_dpop_nonce" {
		nonce := map[string]any{"nonce": answer.Header.Get("DPoP-Nonce")}
		answer = c.Send(t, path, c.Authenticated(t, form), nonce)
	}
	return answer
}

// Send posts a form as it is.
func (c *Client) Send(t testing.TB, path string, form url.Values, proof map[string]any) *Answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.Base()+path, strings.NewReader(form.Encode()))
	check(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.Method == fapi.ClientSecretBasic {
		r.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret))
	}
	if c.DPoPKey != nil {
		r.Header.Set("DPoP", c.Proof(t, http.MethodPost, c.advertised(path), "", proof))
	}
	return Do(t, c.HTTP(), r)
}

// advertised is the endpoint's address as the metadata has it.
func (c *Client) advertised(path string) string {
	if c.Certificate != nil {
		return c.server.Config.MTLSBase + path
	}
	return c.server.issuer() + path
}

// Get calls a protected resource of the server with an access token.
func (c *Client) Get(t testing.TB, path, token string) *Answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.Base()+path, nil)
	check(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	if c.DPoPKey != nil {
		r.Header.Set("Authorization", "DPoP "+token)
		r.Header.Set("DPoP", c.Proof(t, http.MethodGet, c.advertised(path), token, nil))
	}
	return Do(t, c.HTTP(), r)
}

// Do sends a request and reads the answer.
func Do(t testing.TB, client *http.Client, r *http.Request) *Answer {
	t.Helper()
	response, err := client.Do(r)
	check(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	check(t, err)
	a := &Answer{Status: response.StatusCode, Header: response.Header, Body: body}
	json.Unmarshal(body, &a.JSON) // pages and empty bodies are no JSON
	return a
}

// Refused fails the test unless the answer is this error.
func (a *Answer) Refused(t testing.TB, status int, code fapi.Code) {
	t.Helper()
	if a.Status != status || a.JSON["error"] != string(code) {
		t.Errorf("answered %d %s, want %d %s", a.Status, a.Body, status, code)
	}
	if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("Cache-Control %q, Content-Type %q", a.Header.Get("Cache-Control"), a.Header.Get("Content-Type"))
	}
	if text, _ := a.JSON["error_description"].(string); text == "" || !describable(text) || len(a.JSON) != 2 {
		t.Errorf("body %s", a.Body)
	}
}

// Params are those of an authorization request of this client, PKCE included; changes replace or, when empty, remove.
func (c *Client) Params(changes map[string]string) url.Values {
	sum := sha256.Sum256([]byte(c.Verifier))
	params := url.Values{
		"client_id": {c.ID}, "response_type": {"code"}, "redirect_uri": {RedirectURI}, "scope": {c.Scope}, "state": {"state-1"}, "nonce": {"nonce-1"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	if c.ResponseType != "" {
		params.Set("response_type", c.ResponseType)
	}
	if c.ResponseMode != "" {
		params.Set("response_mode", c.ResponseMode)
	}
	for name, value := range changes {
		if value == "" {
			params.Del(name)
		} else {
			params.Set(name, value)
		}
	}
	return params
}

// Push pushes an authorization request and returns its request_uri.
func (c *Client) Push(t testing.TB, changes map[string]string) string {
	t.Helper()
	answer := c.Post(t, "/par", c.Request(t, changes))
	uri, _ := answer.JSON["request_uri"].(string)
	if answer.Status != http.StatusCreated || uri == "" {
		t.Fatalf("par answered %d %s", answer.Status, answer.Body)
	}
	return uri
}

// Exchange redeems a code and returns the tokens.
func (c *Client) Exchange(t testing.TB, code string) map[string]any {
	t.Helper()
	answer := c.Post(t, "/token", c.ExchangeForm(code))
	if answer.Status != http.StatusOK {
		t.Fatalf("token answered %d %s", answer.Status, answer.Body)
	}
	return answer.JSON
}

// ExchangeForm is the form that redeems a code.
func (c *Client) ExchangeForm(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {RedirectURI}, "code_verifier": {c.Verifier}}
}
