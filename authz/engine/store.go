package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/url"
	"time"

	"github.com/ory/fosite"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// store answers fosite's storage calls. A code is redeemed, in one statement, by the first call that asks for it; the
// calls that follow read what that one found (fosite alone would check and then act, and lose races). Nothing is stored
// per token, so the Create calls store nothing.
type store struct{ e *Engine }

func (s store) GetClient(ctx context.Context, id string) (fosite.Client, error) {
	if c := callOf(ctx).client; c.ID == id {
		return client{c}, nil
	}
	return nil, fosite.ErrNotFound
}

func (s store) GetAuthorizeCodeSession(ctx context.Context, signature string, given fosite.Session) (fosite.Requester, error) {
	c := callOf(ctx)
	if c.live == nil {
		c.live, c.err = s.e.Within(s.e.db.Redeem(ctx, c.uses(), []byte(signature), c.client.ID, c.client.Rules().RefreshLifetime))
		switch {
		case errors.Is(c.err, storage.ErrNotFound):
			c.err = nil
			return nil, fosite.ErrNotFound
		case c.err != nil:
			return nil, c.err
		}
		if c.err = given.(*session).hydrate(c.live); c.err != nil {
			return nil, c.err
		}
		if c.err = checkCodeBinding(given.(*session), c); c.err != nil {
			return nil, c.err
		}
	}
	return s.requester(c, given.(*session)), nil
}

// checkCodeBinding compares the DPoP key with the one that the authorization request named (RFC 9449 §10).
func checkCodeBinding(s *session, c *call) error {
	if s.request.DPoPJKT != "" && s.request.DPoPJKT != c.confirmation.JKT {
		return fapi.Refuse(fapi.InvalidGrant, "The code is bound to another DPoP key.")
	}
	return nil
}

// requester shows fosite the authorization request that a code stands for.
func (s store) requester(c *call, given *session) fosite.Requester {
	r := fosite.NewRequest()
	r.ID = c.live.ID.String()
	r.RequestedAt = c.live.CreatedAt
	r.Client = client{c.client}
	r.Session = given
	r.RequestedScope, r.GrantedScope = c.live.Scopes, c.live.Scopes
	r.Form = url.Values{"redirect_uri": {given.request.RedirectURI}}
	if given.request.CodeChallenge != "" {
		r.Form.Set("code_challenge", given.request.CodeChallenge)
		r.Form.Set("code_challenge_method", "S256")
	}
	return r
}

func (s store) GetPKCERequestSession(ctx context.Context, signature string, given fosite.Session) (fosite.Requester, error) {
	// Never ErrNotFound once the code is redeemed: fosite takes that for "no challenge was sent".
	return s.GetAuthorizeCodeSession(ctx, signature, given)
}

func (s store) GetOpenIDConnectSession(ctx context.Context, _ string, r fosite.Requester) (fosite.Requester, error) {
	if !r.GetGrantedScopes().Has("openid") {
		return nil, fosite.ErrNotFound
	}
	return r, nil
}

// CreateAccessTokenSession stores nothing. With client credentials no other statement has carried the identifiers that
// the request uses up, so they are used up here, before the token is handed out.
func (s store) CreateAccessTokenSession(ctx context.Context, _ string, _ fosite.Requester) error {
	c := callOf(ctx)
	if c.grantType != fapi.GrantClientCredentials {
		return nil
	}
	c.err = s.e.db.Use(ctx, c.uses()...)
	return c.err
}

// The approval has stored the code, its challenge and the OpenID Connect parameters in one statement.
func (s store) CreateAuthorizeCodeSession(context.Context, string, fosite.Requester) error {
	return nil
}
func (s store) CreatePKCERequestSession(context.Context, string, fosite.Requester) error { return nil }
func (s store) CreateOpenIDConnectSession(context.Context, string, fosite.Requester) error {
	return nil
}
func (s store) CreateRefreshTokenSession(context.Context, string, string, fosite.Requester) error {
	return nil
}

// Redeeming has spent the code, whatever else it was good for.
func (s store) InvalidateAuthorizeCodeSession(context.Context, string) error { return nil }
func (s store) DeletePKCERequestSession(context.Context, string) error       { return nil }
func (s store) DeleteOpenIDConnectSession(context.Context, string) error     { return nil }

// What follows is in fosite's interfaces but never called: tokens are opened, rotated and revoked by methods of ours.
var errNotCalled = errors.New("engine: fosite called a method that it has no reason to")

func (s store) GetAccessTokenSession(context.Context, string, fosite.Session) (fosite.Requester, error) {
	return nil, errNotCalled
}
func (s store) GetRefreshTokenSession(context.Context, string, fosite.Session) (fosite.Requester, error) {
	return nil, errNotCalled
}
func (s store) DeleteAccessTokenSession(context.Context, string) error         { return errNotCalled }
func (s store) DeleteRefreshTokenSession(context.Context, string) error        { return errNotCalled }
func (s store) RotateRefreshToken(context.Context, string, string) error       { return errNotCalled }
func (s store) RevokeRefreshToken(context.Context, string) error               { return errNotCalled }
func (s store) RevokeAccessToken(context.Context, string) error                { return errNotCalled }
func (s store) ClientAssertionJWTValid(context.Context, string) error          { return errNotCalled }
func (s store) SetClientAssertionJWT(context.Context, string, time.Time) error { return errNotCalled }

// CodeHash is what is stored of a code.
func CodeHash(code string) []byte {
	sum := sha256.Sum256([]byte(code))
	return sum[:]
}
