package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/ory/fosite"

	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
)

// AccessToken is what an access token says. Its JSON is that of a JWT access token (RFC 9068 §2.2); an opaque token is
// the same, sealed.
type AccessToken struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"` // the customer, or the client itself (RFC 9068 §5)
	Audience  []string `json:"aud"`
	ClientID  string   `json:"client_id"`
	Scope     string   `json:"scope,omitempty"`
	JTI       string   `json:"jti"`
	IssuedAt  int64    `json:"iat"`
	ExpiresAt int64    `json:"exp"`

	Confirmation    *fapi.Confirmation `json:"cnf,omitempty"`
	AuthorizationID string             `json:"authorization_id,omitempty"` // none with client credentials

	// What of the granted authorization_details an opaque token carries; nil when all. A Principal says it by itself.
	Only *[]fapi.AuthorizationDetail `json:"only,omitempty"`

	// Of a token that was exchanged (RFC 8693).
	Actor            *Actor   `json:"act,omitempty"`
	AuthorizedClient string   `json:"authorized_client,omitempty"` // whose authorization it is
	MadeFrom         []string `json:"made_from,omitempty"`         // jti of the tokens that it was made from

	*Principal
}

// Principal is whom a token speaks for, as resource services in front of Fineract need it. A JWT access token holds it;
// introspection adds it to what an opaque one says.
type Principal struct {
	ACR                  string                     `json:"acr,omitempty"`
	AMR                  []string                   `json:"amr,omitempty"`
	AuthTime             int64                      `json:"auth_time,omitempty"`
	Tenant               string                     `json:"fineract_tenant,omitempty"`
	FineractClientID     *int64                     `json:"fineract_client_id,omitempty"`
	Roles                []string                   `json:"roles,omitempty"`
	Attributes           map[string]string          `json:"attributes,omitempty"`
	ConsentID            string                     `json:"consent_id,omitempty"`
	ConsentType          string                     `json:"consent_type,omitempty"`
	ConsentStatus        string                     `json:"consent_status,omitempty"`
	ConsentExpiresAt     *time.Time                 `json:"consent_expires_at,omitempty"`
	Permissions          []string                   `json:"permissions,omitempty"`
	TransactionsFrom     *time.Time                 `json:"transaction_from,omitempty"`
	TransactionsTo       *time.Time                 `json:"transaction_to,omitempty"`
	AccountIDs           []string                   `json:"account_ids,omitempty"`
	GrantID              string                     `json:"grant_id,omitempty"`
	AuthorizationDetails []fapi.AuthorizationDetail `json:"authorization_details,omitempty"`
}

// Scopes returns the scopes as a list.
func (t *AccessToken) Scopes() []string { return strings.Fields(t.Scope) }

// ID returns the authorization's id.
func (t *AccessToken) ID() uuid.UUID { return parseID(t.AuthorizationID) }

// RefreshToken is what a refresh token says.
type RefreshToken struct {
	ClientID        string             `json:"client_id"`
	AuthorizationID uuid.UUID          `json:"authorization_id"`
	Generation      int                `json:"generation,omitempty"` // counts rotations
	ExpiresAt       int64              `json:"exp"`
	Confirmation    *fapi.Confirmation `json:"cnf,omitempty"` // public clients only (RFC 8705 §4, RFC 9449 §5)
}

// Prefixes let secret scanners and humans see what they have found.
const (
	accessPrefix  = "csat_"
	refreshPrefix = "csrt_"

	accessPurpose  = "access_token"
	refreshPurpose = "refresh_token"
)

// OpenAccessToken returns what an access token of ours says, or false for anything else. An expired one is anything else.
func (e *Engine) OpenAccessToken(token string, now time.Time) (*AccessToken, bool) {
	var plain []byte
	if sealed, ok := strings.CutPrefix(token, accessPrefix); ok {
		var err error
		if plain, err = e.unseal(accessPurpose, sealed); err != nil {
			return nil, false
		}
	} else if strings.Count(token, ".") == 2 {
		var err error
		if plain, err = e.keys.Verify(token, keys.TypeAccessToken); err != nil {
			return nil, false
		}
	} else {
		return nil, false
	}
	t := &AccessToken{}
	if err := json.Unmarshal(plain, t); err != nil || t.ExpiresAt <= now.Unix() || t.Issuer != e.issuer {
		return nil, false
	}
	return t, true
}

// OpenRefreshToken returns what a refresh token of ours says, or false for anything else. An expired one is anything else.
func (e *Engine) OpenRefreshToken(token string, now time.Time) (*RefreshToken, bool) {
	sealed, ok := strings.CutPrefix(token, refreshPrefix)
	if !ok {
		return nil, false
	}
	plain, err := e.unseal(refreshPurpose, sealed)
	if err != nil {
		return nil, false
	}
	t := &RefreshToken{}
	if err := json.Unmarshal(plain, t); err != nil || t.ExpiresAt <= now.Unix() {
		return nil, false
	}
	return t, true
}

func (e *Engine) seal(prefix, purpose string, token any) (string, error) {
	plain, err := json.Marshal(token)
	if err != nil {
		return "", err
	}
	return prefix + base64.RawURLEncoding.EncodeToString(e.db.Keys().Seal(purpose, nil, plain)), nil
}

func (e *Engine) unseal(purpose, sealed string) ([]byte, error) {
	if strings.ContainsAny(sealed, "\r\n") { // which Go's decoder would skip: a token is written in one way
		return nil, errors.New("engine: line break in a token")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil {
		return nil, err
	}
	return e.db.Keys().Open(purpose, nil, raw)
}

// GenerateAccessToken is fosite's call for an access token.
func (e *Engine) GenerateAccessToken(ctx context.Context, r fosite.Requester) (token, signature string, err error) {
	c, s := callOf(ctx), r.GetSession().(*session)
	if c.rights, err = e.rights(c, s); err != nil {
		c.err = err
		return "", "", err
	}
	t := &AccessToken{
		Issuer:    e.issuer,
		Subject:   c.client.ID,
		Audience:  c.rights.audience,
		ClientID:  c.client.ID,
		Scope:     strings.Join(r.GetGrantedScopes(), " "),
		JTI:       uuid.NewString(),
		IssuedAt:  c.now.Unix(),
		ExpiresAt: c.now.Add(c.client.Rules().AccessTokenLifetime).Unix(),
	}
	if !c.confirmation.Empty() {
		t.Confirmation = &c.confirmation
	}
	if s.live != nil {
		t.Subject, t.AuthorizationID = e.Subject(c.client, s.live.CustomerID), s.live.ID.String()
	}
	if c.client.AccessTokenFormat == fapi.JWT {
		if s.live != nil {
			if t.Principal, err = e.principal(s, c.rights.details); err != nil {
				return "", "", err
			}
		} else {
			t.Principal = &Principal{Roles: c.client.Roles}
		}
		token, err = e.keys.Sign(c.client.IDTokenSignedResponseAlg, keys.TypeAccessToken, t)
	} else {
		if !c.rights.all {
			t.Only = &c.rights.details
		}
		token, err = e.seal(accessPrefix, accessPurpose, t)
	}
	c.accessToken = token
	return token, "", err
}

// GenerateRefreshToken is fosite's call for a refresh token. Refreshing returns the one that was presented, unless the
// client is public (refresh.go).
func (e *Engine) GenerateRefreshToken(ctx context.Context, r fosite.Requester) (token, signature string, err error) {
	c, s := callOf(ctx), r.GetSession().(*session)
	t := &RefreshToken{
		ClientID:        c.client.ID,
		AuthorizationID: s.live.ID,
		Generation:      s.live.RefreshGeneration,
		ExpiresAt:       c.now.Add(c.client.Rules().RefreshLifetime).Unix(),
	}
	if s.live.Consent != nil && s.live.Consent.ExpiresAt != nil {
		t.ExpiresAt = min(t.ExpiresAt, s.live.Consent.ExpiresAt.Unix())
	}
	if c.client.Public() && !c.confirmation.Empty() {
		t.Confirmation = &c.confirmation
	}
	token, err = e.seal(refreshPrefix, refreshPurpose, t)
	return token, token, err // fosite takes an empty signature for no token
}

// GenerateAuthorizeCode hands fosite the code that the approval was stored with.
func (e *Engine) GenerateAuthorizeCode(ctx context.Context, _ fosite.Requester) (token, signature string, err error) {
	code := callOf(ctx).code
	return code, string(CodeHash(code)), nil
}

func (e *Engine) AuthorizeCodeSignature(_ context.Context, code string) string {
	return string(CodeHash(code))
}
func (e *Engine) AccessTokenSignature(_ context.Context, token string) string  { return token }
func (e *Engine) RefreshTokenSignature(_ context.Context, token string) string { return token }

// The store has judged the code; access and refresh tokens never pass through fosite.
func (e *Engine) ValidateAuthorizeCode(context.Context, fosite.Requester, string) error { return nil }
func (e *Engine) ValidateAccessToken(context.Context, fosite.Requester, string) error {
	return errNotCalled
}
func (e *Engine) ValidateRefreshToken(context.Context, fosite.Requester, string) error {
	return errNotCalled
}
