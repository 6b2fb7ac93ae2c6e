package fapi

import (
	"errors"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	strict "github.com/go-jose/go-jose/v4/json"
)

// HintIssuers are whose login_hint_tokens count (CIBA Core §7.1), by their iss. ReadStatementKeys reads their keys.
type HintIssuers map[string]*jose.JSONWebKeySet

// HintedUser is a customer as a login_hint_token names them: by one of the two.
type HintedUser struct {
	Subject  string // sub: as this server names the customer to the client
	Username string // preferred_username: by which the customer logs in
}

type hintClaims struct {
	Issuer    string      `json:"iss"`
	Audience  audience    `json:"aud"`
	ExpiresAt numericDate `json:"exp"`
	NotBefore numericDate `json:"nbf"`
	IssuedAt  numericDate `json:"iat"`
	Subject   string      `json:"sub"`
	Username  string      `json:"preferred_username"`
}

var errHintToken = Refuse(InvalidRequest, "The login_hint_token is not a JWT for this server that a trusted issuer has signed.")

// Check verifies a login_hint_token. CIBA Core leaves its form to the parties; here it is a JWT with iss, aud, exp and either
// sub or preferred_username.
func (h HintIssuers) Check(token, audience string, now time.Time) (HintedUser, error) {
	claims, err := h.verify(token)
	if err == nil {
		err = claims.check(audience, now)
	}
	switch {
	case err != nil:
		return HintedUser{}, errHintToken.Because(err)
	case !now.Before(time.Unix(int64(claims.ExpiresAt), 0).Add(Skew)):
		return HintedUser{}, Refuse(ExpiredLoginHintToken, "The login_hint_token has expired.")
	}
	return HintedUser{claims.Subject, claims.Username}, nil
}

// verify returns the claims of a token that one of the issuers has signed.
func (h HintIssuers) verify(token string) (*hintClaims, error) {
	jws, header, err := parseJWS(token, maxHint, StatementAlgorithms)
	if err != nil {
		return nil, err
	}
	if typ := jwtType(header); typ != "" && typ != "jwt" {
		return nil, errors.New("its typ is that of another kind of JWT")
	}
	var unverified, claims hintClaims
	if err := strict.Unmarshal(jws.UnsafePayloadWithoutVerification(), &unverified); err != nil {
		return nil, err
	}
	keys := h[unverified.Issuer]
	if keys == nil {
		return nil, errors.New("its issuer is not trusted")
	}
	payload, err := verifyWith(keys, jws, header)
	if err != nil {
		return nil, err
	}
	return &claims, strict.Unmarshal(payload, &claims)
}

// check checks whom the token is for, that it is valid by now and will not be for ever, and that it names one customer. A sub that
// is its iss is that of a client assertion (RFC 7523 §3).
func (c *hintClaims) check(audience string, now time.Time) error {
	switch {
	case audience == "" || !slices.Contains(c.Audience.values, audience):
		return errors.New("it is not for this server")
	case c.ExpiresAt == 0:
		return errors.New("exp is missing")
	case max(c.NotBefore, c.IssuedAt) > numericDate(now.Add(Skew).Unix()):
		return errors.New("it is from the future")
	case (c.Subject == "") == (c.Username == "") || c.Subject == c.Issuer:
		return errors.New("it names no customer, or two")
	}
	return nil
}
