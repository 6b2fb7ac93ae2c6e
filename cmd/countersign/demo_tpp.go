package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/fapi"
)

// tpp is the protocol side of a sample third-party app: a FAPI 2.0 client whose tokens are bound to its certificate, or
// by DPoP when it has a key for that.
type tpp struct {
	id, name string
	issuer   string // the authorization server
	bank     string // the bank's API
	callback string // redirect_uri

	key         *ecdsa.PrivateKey // signs client assertions
	dpopKey     *ecdsa.PrivateKey // nil: tokens are bound to the certificate
	certificate *tls.Certificate  // nil: none
	http        *http.Client

	endpoints endpointsOf
	nonces    *sync.Map // of servers, for DPoP proofs; by host
}

// endpointsOf is what the app needs of the server's metadata (RFC 8414 §2).
type endpointsOf struct {
	Issuer        string `json:"issuer"`
	Authorization string `json:"authorization_endpoint"`
	PAR           string `json:"pushed_authorization_request_endpoint"`
	Token         string `json:"token_endpoint"`
	Introspection string `json:"introspection_endpoint"`
	Backchannel   string `json:"backchannel_authentication_endpoint"`
	JWKS          string `json:"jwks_uri"`
	Aliases       struct {
		PAR           string `json:"pushed_authorization_request_endpoint"`
		Token         string `json:"token_endpoint"`
		Introspection string `json:"introspection_endpoint"`
		Backchannel   string `json:"backchannel_authentication_endpoint"`
	} `json:"mtls_endpoint_aliases"` // RFC 8705 §5
}

// newHTTP makes a client that trusts roots alone, shows the certificate if there is one, and follows no redirect.
func newHTTP(roots *x509.CertPool, certificate *tls.Certificate) *http.Client {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if certificate != nil {
		config.Certificates = []tls.Certificate{*certificate}
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true},
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// with is the same app, but for the certificate that it shows.
func (d *demo) with(t *tpp, certificate *tls.Certificate) *tpp {
	other := *t
	other.certificate, other.http = certificate, d.newHTTP(certificate)
	return &other
}

// discover reads the metadata. With a certificate the app uses the endpoints that ask for one.
func (t *tpp) discover(ctx context.Context) (*exchange, error) {
	ex, err := t.do(ctx, call{method: http.MethodGet, url: t.issuer + "/.well-known/oauth-authorization-server"})
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(ex.body, &t.endpoints); err != nil {
		return ex, err
	}
	if t.endpoints.Issuer != t.issuer { // RFC 8414 §3.3
		return ex, fmt.Errorf("the metadata name another issuer: %s", t.endpoints.Issuer)
	}
	if a := t.endpoints.Aliases; t.certificate != nil {
		t.endpoints.PAR, t.endpoints.Token, t.endpoints.Introspection, t.endpoints.Backchannel = a.PAR, a.Token, a.Introspection, a.Backchannel
	}
	return ex, nil
}

// consentsURL is the account-access consent API, on the listener that the app uses.
func (t *tpp) consentsURL() string {
	return strings.TrimSuffix(t.endpoints.Token, "/token") + consent.AccountAccessPath
}

// permissions are what the app asks for (UK Open Banking 3.1).
var permissions = []string{"ReadAccountsDetail", "ReadBalances", "ReadTransactionsDetail", "ReadTransactionsCredits", "ReadTransactionsDebits"}

const consentLifetime = 90 * 24 * time.Hour // PSD2: the customer is asked again every 90 days

// ownToken gets a token of the app itself.
func (t *tpp) ownToken(ctx context.Context) (*exchange, error) {
	return t.token(ctx, url.Values{"grant_type": {fapi.GrantClientCredentials}, "scope": {"accounts"}})
}

// createConsent tells the bank what the app will ask of a customer.
func (t *tpp) createConsent(ctx context.Context, token string) (*exchange, error) {
	now := time.Now().UTC().Truncate(time.Second)
	return t.do(ctx, call{method: http.MethodPost, url: t.consentsURL(), token: token, json: map[string]any{
		"Data": map[string]any{
			"Permissions":             permissions,
			"ExpirationDateTime":      now.Add(consentLifetime),
			"TransactionFromDateTime": now.Add(-consentLifetime),
		},
		"Risk": struct{}{},
	}})
}

// deleteConsent gives a consent back.
func (t *tpp) deleteConsent(ctx context.Context, token, id string) (*exchange, error) {
	return t.do(ctx, call{method: http.MethodDelete, url: t.consentsURL() + "/" + id, token: token})
}

// pending is an authorization that a customer was sent to the bank for.
type pending struct {
	requestURI, state, nonce, verifier string
	consentID                          string
}

// push sends the authorization request over the back channel. The consent is named by RAR, or by the claim of UK Open
// Banking.
func (t *tpp) push(ctx context.Context, consentID string, asClaim bool) (*pending, *exchange, error) {
	p := &pending{state: rand.Text(), nonce: rand.Text(), verifier: rand.Text() + rand.Text(), consentID: consentID}
	challenge := sha256.Sum256([]byte(p.verifier))
	form := url.Values{
		"response_type": {"code"}, "redirect_uri": {t.callback}, "scope": {"openid accounts"},
		"state": {p.state}, "nonce": {p.nonce},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	if asClaim {
		form.Set("claims", fmt.Sprintf(`{"id_token":{"openbanking_intent_id":{"value":%q,"essential":true}}}`, consentID))
	} else {
		form.Set("authorization_details", fmt.Sprintf(`[{"type":"account_information","consent_id":%q}]`, consentID))
	}
	ex, err := t.post(ctx, t.endpoints.PAR, form)
	if err == nil {
		p.requestURI = ex.text("request_uri")
	}
	return p, ex, err
}

// authorizeURL is where the browser goes. All that it carries is a reference.
func (t *tpp) authorizeURL(p *pending) string {
	return t.endpoints.Authorization + "?" + url.Values{"client_id": {t.id}, "request_uri": {p.requestURI}}.Encode()
}

// readCallback takes the code out of the authorization response, if it is the answer to this request from this server.
func (t *tpp) readCallback(p *pending, answer url.Values) (code string, err error) {
	switch {
	case len(answer["iss"]) != 1 || answer.Get("iss") != t.issuer: // RFC 9207 §2.4: before anything else
		return "", errors.New("the answer is from another authorization server")
	case answer.Get("state") != p.state:
		return "", errors.New("the answer is to another request")
	case answer.Get("error") != "":
		return "", fmt.Errorf("%s: %s", answer.Get("error"), answer.Get("error_description"))
	case len(answer["code"]) != 1:
		return "", errors.New("the answer has no code")
	}
	return answer.Get("code"), nil
}

// redeem trades a code for tokens.
func (t *tpp) redeem(ctx context.Context, code, verifier string) (*exchange, error) {
	return t.token(ctx, url.Values{"grant_type": {fapi.GrantAuthorizationCode}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {t.callback}})
}

func (t *tpp) refresh(ctx context.Context, token string) (*exchange, error) {
	return t.token(ctx, url.Values{"grant_type": {fapi.GrantRefreshToken}, "refresh_token": {token}})
}

func (t *tpp) token(ctx context.Context, form url.Values) (*exchange, error) {
	return t.post(ctx, t.endpoints.Token, form)
}

// post calls an endpoint at which the app authenticates.
func (t *tpp) post(ctx context.Context, endpoint string, form url.Values) (*exchange, error) {
	return t.do(ctx, call{method: http.MethodPost, url: endpoint, form: form, assert: true, proof: t.dpopKey != nil})
}

// get calls the bank's API with a token.
func (t *tpp) get(ctx context.Context, path, token string) (*exchange, error) {
	return t.do(ctx, call{method: http.MethodGet, url: t.bank + path, token: token})
}

// assertion is how the app authenticates: a JWT signed for one call (RFC 7523 §2.2).
func (t *tpp) assertion() (string, error) {
	now := time.Now()
	return sign(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: t.key, KeyID: t.id}}, "JWT", false, map[string]any{
		"iss": t.id, "sub": t.id, "aud": t.issuer, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	})
}

// proofFor is the proof that the app holds its DPoP key, for one call (RFC 9449 §4.2).
func (t *tpp) proofFor(method string, u *url.URL, token string) (string, error) {
	claims := map[string]any{
		"jti": rand.Text(), "htm": method, "htu": u.Scheme + "://" + u.Host + u.Path, "iat": time.Now().Unix(),
	}
	if token != "" {
		hash := sha256.Sum256([]byte(token))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(hash[:])
	}
	if nonce, ok := t.nonces.Load(u.Host); ok {
		claims["nonce"] = nonce
	}
	return sign(jose.SigningKey{Algorithm: jose.ES256, Key: t.dpopKey}, "dpop+jwt", true, claims)
}

func sign(key jose.SigningKey, kind jose.ContentType, embed bool, claims any) (string, error) {
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{EmbedJWK: embed}).WithType(kind))
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(claims).Serialize()
}

// call is one request to make.
type call struct {
	method, url string
	form        url.Values
	json        any
	token       string // access token
	assert      bool   // authenticate the client
	proof       bool   // add a DPoP proof without a token
	dpop        string // this proof instead of a new one
}

// do makes a call. One that the server answers with a nonce for DPoP proofs is made again (RFC 9449 §8, §9).
func (t *tpp) do(ctx context.Context, c call) (*exchange, error) {
	ex, err := t.once(ctx, c)
	if err != nil || !ex.wantsNonce() {
		return ex, err
	}
	again, err := t.once(ctx, c)
	if err == nil {
		again.before = ex
	}
	return again, err
}

func (t *tpp) once(ctx context.Context, c call) (*exchange, error) {
	var body io.Reader
	ex := &exchange{method: c.method, url: c.url, form: url.Values{}}
	if t.certificate != nil {
		ex.certificate = t.certificate.Leaf.Subject.CommonName
	}
	header := http.Header{"Accept": {"application/json"}}
	switch {
	case c.form != nil:
		for name, values := range c.form {
			ex.form[name] = slices.Clone(values)
		}
		if c.assert {
			assertion, err := t.assertion()
			if err != nil {
				return nil, err
			}
			ex.form.Set("client_id", t.id)
			ex.form.Set("client_assertion_type", fapi.ClientAssertionType)
			ex.form.Set("client_assertion", assertion)
		}
		header.Set("Content-Type", "application/x-www-form-urlencoded")
		body = strings.NewReader(ex.form.Encode())
	case c.json != nil:
		encoded, err := json.Marshal(c.json)
		if err != nil {
			return nil, err
		}
		ex.json = encoded
		header.Set("Content-Type", "application/json")
		body = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, c.method, c.url, body)
	if err != nil {
		return nil, err
	}
	r.Header = header
	if c.token != "" {
		scheme := "Bearer "
		if t.dpopKey != nil {
			scheme = "DPoP "
		}
		r.Header.Set("Authorization", scheme+c.token)
	}
	switch {
	case c.dpop != "":
		r.Header.Set("DPoP", c.dpop)
	case t.dpopKey != nil && (c.proof || c.token != ""):
		proof, err := t.proofFor(c.method, r.URL, c.token)
		if err != nil {
			return nil, err
		}
		r.Header.Set("DPoP", proof)
	}
	ex.sent = r.Header
	return ex, t.finish(ex, r)
}

func (t *tpp) finish(ex *exchange, r *http.Request) error {
	response, err := t.http.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	ex.status, ex.header = response.StatusCode, response.Header
	if nonce := response.Header.Get("DPoP-Nonce"); nonce != "" {
		t.nonces.Store(r.URL.Host, nonce)
	}
	ex.body, err = io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return err
}
