package engine

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"strings"
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

// idToken makes an ID token (OpenID Connect Core §2), encrypted if the client registered so. What it is sent with has been
// made before it; fosite's hashes know no EdDSA.
func (e *Engine) idToken(c *call, s *session) (string, error) {
	alg := c.client.IDTokenSignedResponseAlg
	claims := map[string]any{
		"iss":       e.issuer,
		"sub":       e.Subject(c.client, s.live.CustomerID),
		"aud":       c.client.ID,
		"iat":       c.now.Unix(),
		"exp":       c.now.Add(c.client.Rules().IDTokenLifetime).Unix(),
		"auth_time": s.live.AuthTime.Unix(),
		"acr":       s.live.ACR,
		"amr":       s.live.AMR,
	}
	// The signature covers what goes out beside it: in an authorization response it is detached (FAPI 1.0 Part 2 §5.1.1).
	asked := strings.Fields(s.request.ResponseType)
	if c.accessToken != "" {
		claims["at_hash"] = leftHalfHash(alg, c.accessToken)
	}
	if c.authReqID != "" { // CIBA Core §10.3.1
		claims["urn:openid:params:jwt:claim:auth_req_id"] = c.authReqID
		if c.refreshToken != "" {
			claims["urn:openid:params:jwt:claim:rt_hash"] = leftHalfHash(alg, c.refreshToken)
		}
	}
	if c.atAuthorization && contains(asked, "code") {
		claims["c_hash"] = leftHalfHash(alg, c.code)
	}
	if c.atAuthorization && s.request.State != "" {
		claims["s_hash"] = leftHalfHash(alg, s.request.State)
	}
	if sid := e.SessionID(c.client, s.live.SessionID); sid != "" && c.client.BackChannelLogoutURI != "" { // who is never told has no use for it
		claims["sid"] = sid
	}
	if s.request.Nonce != "" {
		claims["nonce"] = s.request.Nonce
	}
	if s.live.ConsentID != "" {
		claims["openbanking_intent_id"] = s.live.ConsentID
	}
	names, err := e.personalClaims(c, s, asked)
	if err != nil {
		return "", err
	}
	for name, value := range names {
		if claims[name] == nil {
			claims[name] = value
		}
	}
	token, err := e.keys.Sign(alg, keys.TypeIDToken, claims)
	if err != nil {
		return "", err
	}
	return c.client.EncryptJWT(c.client.IDTokenEncryptedResponseAlg, c.client.IDTokenEncryptedResponseEnc, token)
}

// personalClaims are those that an ID token has about the customer. A browser's history is no place for personal data (FAPI
// 1.0 Part 2 §5.2.2.1): the token endpoint gives them, or an encrypted ID token. Only a client that gets nothing else at
// all gets them by the browser, and what its scopes ask for with them (OpenID Connect Core §5.4).
func (e *Engine) personalClaims(c *call, s *session, asked []string) (map[string]any, error) {
	alone := c.atAuthorization && len(asked) == 1
	if c.atAuthorization && !alone && c.client.IDTokenEncryptedResponseAlg == "" || s.request.Claims == nil && !alone {
		return nil, nil
	}
	known, err := e.userClaims(&s.live.Customer, s.live.Scopes)
	if err != nil {
		return nil, err
	}
	given := map[string]any{}
	give := func(name string) {
		if value, ok := known[name]; ok {
			given[name] = value
		}
	}
	if s.request.Claims != nil {
		for name := range s.request.Claims.IDToken {
			give(name)
		}
	}
	if alone {
		for _, scope := range s.live.Scopes {
			for _, name := range claimScopes[scope] {
				give(name)
			}
		}
	}
	return given, nil
}

// UserClaims returns the standard claims that we know of a customer (OpenID Connect Core §5.1).
func UserClaims(c *storage.Customer) (map[string]any, error) {
	p, err := c.Profile()
	if err != nil {
		return nil, err
	}
	claims := map[string]any{}
	for name, value := range map[string]string{
		"name": p.Name, "given_name": p.GivenName, "family_name": p.FamilyName, "middle_name": p.MiddleName, "nickname": p.Nickname,
		"preferred_username": p.Username, "profile": p.ProfilePage, "picture": p.Picture, "website": p.Website, "gender": p.Gender,
		"birthdate": p.Birthdate, "zoneinfo": p.ZoneInfo, "locale": p.Locale, "email": p.Email, "phone_number": p.PhoneNumber,
	} {
		if value != "" {
			claims[name] = value
		}
	}
	if p.UpdatedAt != 0 {
		claims["updated_at"] = p.UpdatedAt
	}
	if p.Email != "" {
		claims["email_verified"] = p.EmailVerified
	}
	if p.PhoneNumber != "" {
		claims["phone_number_verified"] = p.PhoneNumberVerified
	}
	if p.Address != (storage.Address{}) {
		claims["address"] = p.Address
	}
	return claims, nil
}

// claimScopes are the claims that a scope asks for (OpenID Connect Core §5.4).
var claimScopes = map[string][]string{
	"profile": {"name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website",
		"gender", "birthdate", "zoneinfo", "locale", "updated_at"},
	"email":   {"email", "email_verified"},
	"phone":   {"phone_number", "phone_number_verified"},
	"address": {"address"},

	"roles": {"roles"}, "attributes": {"attributes"}, // ours, docs/customers.md
}

// UserInfo returns the claims that an authorization entitles its client to at the userinfo endpoint. subject is the sub
// of the access token, which is that of the ID token.
func (e *Engine) UserInfo(l *storage.Live, subject string, scopes []string) (map[string]any, error) {
	r, err := RequestOf(l)
	if err != nil {
		return nil, err
	}
	known, err := e.userClaims(&l.Customer, scopes)
	if err != nil {
		return nil, err
	}
	claims := map[string]any{"sub": subject}
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

// leftHalfHash is at_hash, c_hash, s_hash and rt_hash: the left half of the hash that belongs to the algorithm (OpenID Connect Core §3.1.3.6).
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
