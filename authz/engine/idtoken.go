package engine

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/ory/fosite"

	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/storage"
)

// GenerateIDToken is fosite's call for an ID token.
func (e *Engine) GenerateIDToken(ctx context.Context, _ time.Duration, r fosite.Requester) (string, error) {
	return e.idToken(callOf(ctx), r.GetSession().(*session))
}

// idToken makes an ID token (OpenID Connect Core §2). The access token has been made before it; fosite's hash of that
// knows no EdDSA.
func (e *Engine) idToken(c *call, s *session) (string, error) {
	claims := map[string]any{
		"iss":       e.issuer,
		"sub":       s.claims.Subject,
		"aud":       c.client.ID,
		"iat":       c.now.Unix(),
		"exp":       c.now.Add(c.client.Rules().IDTokenLifetime).Unix(),
		"auth_time": s.live.AuthTime.Unix(),
		"acr":       s.live.ACR,
		"amr":       s.live.AMR,
		"at_hash":   leftHalfHash(c.client.IDTokenSignedResponseAlg, c.accessToken),
	}
	if s.request.Nonce != "" {
		claims["nonce"] = s.request.Nonce
	}
	if s.live.ConsentID != "" {
		claims["openbanking_intent_id"] = s.live.ConsentID
	}
	if asked := s.request.Claims; asked != nil {
		known, err := UserClaims(&s.live.Customer)
		if err != nil {
			return "", err
		}
		for name := range asked.IDToken {
			if value, ok := known[name]; ok && claims[name] == nil {
				claims[name] = value
			}
		}
	}
	return e.keys.Sign(c.client.IDTokenSignedResponseAlg, keys.TypeIDToken, claims)
}

// UserClaims returns the standard claims that we know of a customer (OpenID Connect Core §5.1).
func UserClaims(c *storage.Customer) (map[string]any, error) {
	p, err := c.Profile()
	if err != nil {
		return nil, err
	}
	claims := map[string]any{}
	for name, value := range map[string]string{
		"name": p.Name, "given_name": p.GivenName, "family_name": p.FamilyName, "preferred_username": p.Username,
		"email": p.Email, "phone_number": p.PhoneNumber,
	} {
		if value != "" {
			claims[name] = value
		}
	}
	return claims, nil
}

// claimScopes are the claims that a scope asks for (OpenID Connect Core §5.4).
var claimScopes = map[string][]string{
	"profile": {"name", "given_name", "family_name", "preferred_username"},
	"email":   {"email"},
	"phone":   {"phone_number"},
}

// UserInfo returns the claims that an authorization entitles its client to at the userinfo endpoint.
func UserInfo(l *storage.Live, scopes []string) (map[string]any, error) {
	r, err := RequestOf(l)
	if err != nil {
		return nil, err
	}
	known, err := UserClaims(&l.Customer)
	if err != nil {
		return nil, err
	}
	claims := map[string]any{"sub": l.CustomerID.String()}
	give := func(name string) {
		if value, ok := known[name]; ok {
			claims[name] = value
		}
	}
	for _, scope := range scopes {
		for _, name := range claimScopes[scope] {
			give(name)
		}
	}
	if r.Claims != nil {
		for name := range r.Claims.UserInfo {
			give(name)
		}
		if _, asked := r.Claims.UserInfo["openbanking_intent_id"]; asked && l.ConsentID != "" {
			claims["openbanking_intent_id"] = l.ConsentID
		}
	}
	return claims, nil
}

// leftHalfHash is at_hash: the left half of the hash that belongs to the algorithm (OpenID Connect Core §3.1.3.6).
func leftHalfHash(alg jose.SignatureAlgorithm, s string) string {
	var sum []byte
	switch alg {
	case jose.EdDSA:
		full := sha512.Sum512([]byte(s))
		sum = full[:]
	default: // ES256, PS256, RS256
		full := sha256.Sum256([]byte(s))
		sum = full[:]
	}
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}
