package resource

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	strict "github.com/go-jose/go-jose/v4/json" // exact member names, duplicates refused

	"github.com/countersign/countersign/fapi"
)

// claims is what is said of a token: by itself (RFC 9068 §2.2) or by introspection (RFC 7662 §2.2). The members are the same.
type claims struct {
	Active    bool        `json:"active"` // introspection only
	Issuer    string      `json:"iss"`
	Subject   string      `json:"sub"`
	Audience  audience    `json:"aud"`
	ClientID  string      `json:"client_id"`
	Scope     string      `json:"scope"`
	TokenID   string      `json:"jti"`
	IssuedAt  numericDate `json:"iat"`
	NotBefore numericDate `json:"nbf"`
	ExpiresAt numericDate `json:"exp"`

	Confirmation         *fapi.Confirmation         `json:"cnf"`
	ACR                  string                     `json:"acr"`
	AMR                  []string                   `json:"amr"`
	AuthTime             numericDate                `json:"auth_time"`
	Tenant               string                     `json:"fineract_tenant"`
	FineractClientID     int64                      `json:"fineract_client_id"`
	Roles                []string                   `json:"roles"`
	Attributes           map[string]string          `json:"attributes"`
	ConsentID            string                     `json:"consent_id"`
	ConsentType          string                     `json:"consent_type"`
	ConsentStatus        string                     `json:"consent_status"`
	ConsentExpiresAt     time.Time                  `json:"consent_expires_at"`
	Permissions          []string                   `json:"permissions"`
	TransactionsFrom     time.Time                  `json:"transaction_from"`
	TransactionsTo       time.Time                  `json:"transaction_to"`
	AccountIDs           []string                   `json:"account_ids"`
	GrantID              string                     `json:"grant_id"`
	AuthorizationDetails []fapi.AuthorizationDetail `json:"authorization_details"`
}

var errBadToken = fapi.Refuse(fapi.InvalidToken, "The access token is unknown, expired, revoked, or not meant for this service.")

func parseClaims(text []byte) (*claims, error) {
	c := &claims{}
	if err := strict.Unmarshal(text, c); err != nil {
		return nil, err
	}
	return c, nil
}

// check tells whether a token that the authorization server vouches for is meant for this service, now (RFC 9068 §4).
func (c *claims) check(want *Config, now time.Time) error {
	var cause error
	switch {
	case c.Issuer != want.Issuer:
		cause = fmt.Errorf("iss is %q", c.Issuer)
	case !slices.Contains(c.Audience, want.Audience):
		cause = fmt.Errorf("aud is %q", c.Audience)
	case c.Subject == "" || c.ClientID == "" || c.ExpiresAt == 0:
		cause = errors.New("sub, client_id or exp is missing")
	case !now.Before(c.ExpiresAt.time().Add(fapi.Skew)):
		cause = errors.New("expired")
	case c.NotBefore.time().After(now.Add(fapi.Skew)), c.IssuedAt.time().After(now.Add(fapi.Skew)):
		cause = errors.New("not valid yet")
	case c.Confirmation != nil && c.Confirmation.Empty():
		// RFC 7800 §3.1 lets unknown confirmations be ignored. That would make a bearer token of a bound one.
		cause = errors.New("cnf has neither x5t#S256 nor jkt")
	default:
		return nil
	}
	return errBadToken.Because(cause)
}

func (c *claims) principal() *Principal {
	p := &Principal{
		Subject: c.Subject, ClientID: c.ClientID, Tenant: c.Tenant, FineractClientID: c.FineractClientID,
		Scopes: strings.Fields(c.Scope), Roles: c.Roles, Attributes: c.Attributes, AccountIDs: c.AccountIDs,
		Consent: Consent{
			ID: c.ConsentID, Type: c.ConsentType, Status: c.ConsentStatus, ExpiresAt: c.ConsentExpiresAt,
			Permissions: c.Permissions, TransactionsFrom: c.TransactionsFrom, TransactionsTo: c.TransactionsTo,
		},
		ACR: c.ACR, AMR: c.AMR, Audience: c.Audience, ExpiresAt: c.ExpiresAt.time(),
		AuthorizationDetails: c.AuthorizationDetails, TokenID: c.TokenID, GrantID: c.GrantID,
	}
	if c.AuthTime != 0 {
		p.AuthTime = c.AuthTime.time()
	}
	if c.Confirmation != nil {
		p.Confirmation = *c.Confirmation
	}
	return p
}

// numericDate is seconds since 1970 (RFC 7519 §2). 0 is absent.
type numericDate int64

const year10000 = 253402300800

func (d *numericDate) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	seconds, err := strconv.ParseFloat(string(text), 64) // a fraction is allowed
	if err != nil || seconds < 1 || seconds >= year10000 {
		return errors.New("not a NumericDate")
	}
	*d = numericDate(seconds)
	return nil
}

func (d numericDate) time() time.Time { return time.Unix(int64(d), 0) }

// audience is an aud claim: a string, or an array of them (RFC 7519 §4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(text []byte) error {
	if text[0] == '"' {
		*a = make(audience, 1)
		return strict.Unmarshal(text, &(*a)[0])
	}
	return strict.Unmarshal(text, (*[]string)(a))
}
