package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// exchange is one request and its answer.
type exchange struct {
	method, url string
	certificate string // its common name; "" when none was shown
	sent        http.Header
	form        url.Values
	json        []byte

	status int
	header http.Header
	body   []byte

	before *exchange // the same call, which the server answered with a nonce
}

// value finds a member of the answer by a path such as Data.ConsentId; nil when it is not there.
func (ex *exchange) value(path string) any {
	var v any
	if json.Unmarshal(ex.body, &v) != nil {
		return nil
	}
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func (ex *exchange) decode(into any) error { return json.Unmarshal(ex.body, into) }

// text is a value as a person reads it.
func (ex *exchange) text(path string) string {
	switch v := ex.value(path).(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		encoded, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(encoded)
	}
}

// fault is the error code of the answer, from its challenge (RFC 6750 §3) or its body (RFC 6749 §5.2).
func (ex *exchange) fault() string {
	for _, challenge := range ex.header.Values("WWW-Authenticate") {
		if _, rest, ok := strings.Cut(challenge, `error="`); ok {
			code, _, _ := strings.Cut(rest, `"`)
			return code
		}
	}
	code, _ := ex.value("error").(string)
	return code
}

func (ex *exchange) wantsNonce() bool {
	return ex.fault() == "use_dpop_nonce" && ex.header.Get("DPoP-Nonce") != ""
}

// want tells what was expected if the answer is another one. code is "" for an answer without an error.
func (ex *exchange) want(status int, code string) error {
	if ex.status == status && ex.fault() == code {
		return nil
	}
	return fmt.Errorf("expected %s, got %s", outcome(status, code), outcome(ex.status, ex.fault()))
}

// wantValues tells which member of the answer is not as expected. Pairs of path and text; "*" is any but none.
func (ex *exchange) wantValues(pairs ...string) error {
	var wrong []error
	for pair := range slices.Chunk(pairs, 2) {
		got := ex.text(pair[0])
		if got != pair[1] && (pair[1] != "*" || got == "") {
			wrong = append(wrong, fmt.Errorf("expected %s to be %s, got %q", pair[0], pair[1], got))
		}
	}
	return errors.Join(wrong...)
}

func outcome(status int, code string) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", status, http.StatusText(status), code))
}

// idToken checks that an ID token answers a request, and returns what it says.
func (t *tpp) idToken(ctx context.Context, raw string, p *pending) (map[string]any, error) {
	claims, err := t.verified(ctx, raw)
	switch {
	case err != nil:
		return nil, err
	case claims["nonce"] != p.nonce:
		return nil, errors.New("ID token: it is the answer to another request")
	case claims["openbanking_intent_id"] != p.consentID:
		return nil, fmt.Errorf("ID token: it names the consent %v, not %s", claims["openbanking_intent_id"], p.consentID)
	}
	return claims, nil
}

// verified checks whom an ID token is from, and that it is meant for the app (OpenID Connect Core §3.1.3.7).
func (t *tpp) verified(ctx context.Context, raw string) (map[string]any, error) {
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA})
	if err != nil {
		return nil, err
	}
	ex, err := t.do(ctx, call{method: http.MethodGet, url: t.endpoints.JWKS})
	if err != nil {
		return nil, err
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(ex.body, &keys); err != nil {
		return nil, err
	}
	var claims map[string]any
	var registered jwt.Claims
	if err := token.Claims(keys, &claims, &registered); err != nil {
		return nil, fmt.Errorf("ID token: %w", err)
	}
	expected := jwt.Expected{Issuer: t.issuer, AnyAudience: jwt.Audience{t.id}, Time: time.Now()}
	if err := registered.ValidateWithLeeway(expected, 5*time.Second); err != nil {
		return nil, fmt.Errorf("ID token: %w", err)
	}
	return claims, nil
}
