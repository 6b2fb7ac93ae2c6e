package federation

import (
	"context"
	"crypto/subtle"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Members are those of our profile that a provider's claims can fill (OpenID Connect Core §5.1).
var Members = []string{
	"preferred_username", "name", "given_name", "family_name", "middle_name", "nickname", "profile", "picture", "website", "gender", "birthdate",
	"zoneinfo", "locale", "email", "email_verified", "phone_number", "phone_number_verified",
}

// Identity is who a customer is at a provider.
type Identity struct {
	Provider string `json:"provider"` // its id
	Issuer   string `json:"issuer"`
	Subject  string `json:"subject"` // sub; with the issuer it never means anybody else

	AuthTime *time.Time `json:"auth_time,omitempty"` // of the login there; nil when it does not say
	ACR      string     `json:"acr,omitempty"`       // ours, by the mapping; "" for one that is not mapped

	Profile    map[string]string `json:"profile,omitempty"` // by our names, of Members
	Attributes map[string]string `json:"attributes,omitempty"`

	EmailVerified bool `json:"email_verified,omitempty"`
	PhoneVerified bool `json:"phone_verified,omitempty"`
}

// tokenClaims are what is looked at beside go-oidc's own checks: signature, issuer, audience, expiry.
type tokenClaims struct {
	AuthorizedParty string   `json:"azp"`
	AuthTime        float64  `json:"auth_time"`
	ACR             string   `json:"acr"`
	AMR             []string `json:"amr"`
}

const (
	longestSubject = 255  // OpenID Connect Core §2
	longestClaim   = 1024 // bytes; a longer one is left out
)

// identity checks an ID token (OpenID Connect Core §3.1.3.7) and reads it.
func (p *Provider) identity(ctx context.Context, d *document, token *oauth2.Token, a *Attempt) (*Identity, error) {
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return nil, refuse("no id_token")
	}
	id, err := d.verifier.Verify(ctx, raw)
	if err != nil {
		return nil, refuse("id_token: %w", tidy(err))
	}
	var t tokenClaims
	if err := id.Claims(&t); err != nil {
		return nil, refuse("id_token: %w", tidy(err))
	}
	now := p.now()
	switch {
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(a.Nonce)) != 1:
		return nil, refuse("nonce is another's")
	case id.Subject == "" || len(id.Subject) > longestSubject:
		return nil, refuse("sub is missing or too long")
	case len(id.Audience) > 1 && t.AuthorizedParty == "", t.AuthorizedParty != "" && t.AuthorizedParty != p.ClientID:
		return nil, refuse("azp is missing or another's")
	case id.IssuedAt.After(now.Add(skew)), now.Sub(id.IssuedAt) > longestWait+skew:
		return nil, refuse("iat is not of now")
	case id.AccessTokenHash != "" && id.VerifyAccessToken(token.AccessToken) != nil:
		return nil, refuse("at_hash is another's")
	}
	who := &Identity{Provider: p.ID, Issuer: p.Issuer, Subject: id.Subject}
	if who.AuthTime, err = p.authTime(t.AuthTime, a, now); err != nil {
		return nil, err
	}
	who.ACR = p.acr(&t)
	claims, err := p.claims(ctx, d, id, token)
	if err != nil {
		return nil, err
	}
	p.read(who, claims)
	return who, nil
}

// authTime is when the customer logged in there, on our clock. A login that was asked for anew must say that it was: the provider's clock
// may be a little behind ours, and then the login was when it was asked for.
func (p *Provider) authTime(said float64, a *Attempt, now time.Time) (*time.Time, error) {
	switch {
	case said > float64(now.Add(skew).Unix()):
		return nil, refuse("auth_time lies ahead")
	case said > 0:
	case a.Fresh || p.MaxAge > 0:
		return nil, ErrNotFresh
	default:
		return nil, nil
	}
	at := time.Unix(int64(said), 0)
	if at.After(now) {
		at = now
	}
	if a.Fresh && at.Before(a.At.Add(-skew)) || p.MaxAge > 0 && now.Sub(at) > p.MaxAge+skew {
		return nil, ErrNotFresh
	}
	if a.Fresh && at.Before(a.At) {
		at = a.At
	}
	return &at, nil
}

// acr is what a login there is worth here: acr counts before amr.
func (p *Provider) acr(t *tokenClaims) string {
	if ours, mapped := p.ACR[t.ACR]; mapped {
		return ours
	}
	for _, theirs := range slices.Sorted(maps.Keys(p.AMR)) {
		if slices.Contains(t.AMR, theirs) {
			return p.AMR[theirs]
		}
	}
	return ""
}

// claims are the ID token's, and the UserInfo endpoint's where the token has none.
func (p *Provider) claims(ctx context.Context, d *document, id *oidc.IDToken, token *oauth2.Token) (map[string]any, error) {
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return nil, refuse("id_token: %w", tidy(err))
	}
	if !p.UserInfo {
		return claims, nil
	}
	info, err := d.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return nil, refuse("userinfo: %w", tidy(err))
	}
	if info.Subject != id.Subject { // OpenID Connect Core §5.3.2
		return nil, refuse("userinfo is about somebody else")
	}
	more := map[string]any{}
	if err := info.Claims(&more); err != nil {
		return nil, refuse("userinfo: %w", tidy(err))
	}
	maps.Copy(more, claims)
	return more, nil
}

// read takes over what the mapping names, as far as it is text of a sensible length.
func (p *Provider) read(who *Identity, claims map[string]any) {
	who.Profile, who.Attributes = map[string]string{}, map[string]string{}
	for _, member := range Members {
		name := member
		if other, mapped := p.Claims[member]; mapped {
			name = other
		}
		if text := textOf(claims, name); text != "" {
			who.Profile[member] = text
		}
	}
	for attribute, name := range p.Attributes {
		if text := textOf(claims, name); text != "" {
			who.Attributes[attribute] = text
		}
	}
	who.EmailVerified = who.Profile["email"] != "" && who.Profile["email_verified"] == "true"
	who.PhoneVerified = who.Profile["phone_number"] != "" && who.Profile["phone_number_verified"] == "true"
	delete(who.Profile, "email_verified")
	delete(who.Profile, "phone_number_verified")
}

// textOf finds a claim by its name, or by the way to it: address.country. Of an object or a list there is no text.
func textOf(claims map[string]any, name string) string {
	value, found := claims[name]
	for here := claims; !found; {
		first, rest, deeper := strings.Cut(name, ".")
		if !deeper {
			return ""
		}
		if here, _ = here[first].(map[string]any); here == nil {
			return ""
		}
		name = rest
		value, found = here[name]
	}
	var text string
	switch v := value.(type) {
	case string:
		text = v
	case bool:
		text = strconv.FormatBool(v)
	case float64:
		text = strconv.FormatFloat(v, 'f', -1, 64)
	}
	if len(text) > longestClaim || !utf8.ValidString(text) {
		return ""
	}
	return text
}

// Allows tells whether the provider's customers with that address are let in.
func (p *Provider) Allows(who *Identity) bool {
	if len(p.Domains) == 0 {
		return true
	}
	email := who.Profile["email"]
	domain := email[strings.LastIndexByte(email, '@')+1:]
	return who.EmailVerified && slices.Contains(p.Domains, strings.ToLower(domain))
}
