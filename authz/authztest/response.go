package authztest

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// RequestObject signs parameters as the client's request object (RFC 9101 §6.1); claims replace or, when nil, remove what
// it says.
func (c *Client) RequestObject(t testing.TB, params url.Values, claims map[string]any) string {
	t.Helper()
	now := time.Now()
	all := map[string]any{"iss": c.ID, "aud": c.server.issuer(), "jti": rand.Text(), "iat": now.Unix(), "nbf": now.Unix() - 5, "exp": now.Add(4 * time.Minute).Unix()}
	for name, values := range params {
		all[name] = values[0]
	}
	merge(all, claims)
	return sign(t, c.Key, map[jose.HeaderKey]any{"kid": c.ID, "typ": "oauth-authz-req+jwt"}, all)
}

// Request is the form of an authorization request of this client: its parameters, or the object that it signs.
func (c *Client) Request(t testing.TB, changes map[string]string) url.Values {
	t.Helper()
	params := c.Params(changes)
	if !c.Signs {
		return params
	}
	return url.Values{"client_id": {c.ID}, "request": {c.RequestObject(t, params, nil)}}
}

// Answered returns the parameters of the authorization response that a browser carries to the client, and the response
// mode by which it does: query, fragment or form_post.
func (p *Page) Answered(t testing.TB) (params url.Values, mode string) {
	t.Helper()
	if p.Left == nil {
		form, action := p.Is(t, "form_post_page").Form(t)
		if !strings.HasPrefix(action.String(), RedirectURI) {
			t.Errorf("posted to %v", action)
		}
		return form, "form_post"
	}
	if !strings.HasPrefix(p.Left.String(), RedirectURI) || p.Status != http.StatusSeeOther || p.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("sent to %v with %d %v", p.Left, p.Status, p.Header)
	}
	if p.Left.Fragment == "" {
		return p.Left.Query(), "query"
	}
	params, err := url.ParseQuery(p.Left.EscapedFragment())
	check(t, err)
	for name := range params {
		if p.Left.Query().Has(name) {
			t.Errorf("%s in the query, beside the fragment: %v", name, p.Left)
		}
	}
	return params, "fragment"
}

// Response returns the parameters of the authorization response, from within its JWT if it is signed.
func (s *Server) Response(t testing.TB, p *Page) url.Values {
	t.Helper()
	params, _ := p.Answered(t)
	if !params.Has("response") {
		return params
	}
	_, claims := s.Verified(t, params.Get("response"))
	params = url.Values{}
	for name, value := range claims {
		if text, ok := value.(string); ok {
			params.Set(name, text)
		}
	}
	return params
}

// Verified returns header and claims of a JWT that a published key of the server has signed.
func (s *Server) Verified(t testing.TB, token string) (map[string]any, map[string]any) {
	t.Helper()
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256, jose.RS256})
	if err != nil {
		t.Fatalf("%v: %s", err, token)
	}
	var set jose.JSONWebKeySet
	check(t, json.Unmarshal(s.Client("web").Raw(t, http.MethodGet, "/jwks", "", nil).Body, &set))
	h := jws.Signatures[0].Protected
	keys := set.Key(h.KeyID)
	if len(keys) != 1 || keys[0].Algorithm != h.Algorithm {
		t.Fatalf("kid %q, alg %s: not one key of the server's", h.KeyID, h.Algorithm)
	}
	payload, err := jws.Verify(keys[0])
	check(t, err)
	header, claims := map[string]any{"alg": h.Algorithm, "kid": h.KeyID}, map[string]any{}
	for name, value := range h.ExtraHeaders {
		header[string(name)] = value
	}
	check(t, json.Unmarshal(payload, &claims))
	return header, claims
}

// Decrypted returns what a JWE in compact form holds, and its header.
func Decrypted(t testing.TB, token string, key any) (string, map[jose.HeaderKey]any) {
	t.Helper()
	jwe, err := jose.ParseEncryptedCompact(token, []jose.KeyAlgorithm{jose.ECDH_ES, jose.RSA_OAEP_256}, []jose.ContentEncryption{jose.A128CBC_HS256, jose.A128GCM, jose.A256GCM})
	if err != nil {
		t.Fatalf("%v: %s", err, token)
	}
	plain, err := jwe.Decrypt(key)
	check(t, err)
	header := jwe.Header.ExtraHeaders
	if header == nil {
		header = map[jose.HeaderKey]any{}
	}
	header["kid"] = jwe.Header.KeyID
	return string(plain), header
}
