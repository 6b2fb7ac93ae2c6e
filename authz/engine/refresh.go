package engine

import (
	"context"
	"errors"
	"strings"

	"github.com/ory/fosite"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// refreshHandler answers grant_type=refresh_token (RFC 6749 §6). fosite's own always rotates and ignores the scope
// parameter; FAPI 2.0 §5.3.2.1 forbids rotation for its clients, and only public ones need it (RFC 9700 §4.14).
type refreshHandler struct{ e *Engine }

func (h refreshHandler) CanHandleTokenEndpointRequest(_ context.Context, r fosite.AccessRequester) bool {
	return r.GetGrantTypes().ExactOne(fapi.GrantRefreshToken)
}

func (h refreshHandler) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool { return false }

var errBadRefreshToken = fapi.Refuse(fapi.InvalidGrant, "The refresh token is unknown, expired, revoked or another client's.")

func (h refreshHandler) HandleTokenEndpointRequest(ctx context.Context, r fosite.AccessRequester) error {
	c := callOf(ctx)
	c.err = h.load(ctx, c, r)
	return c.err
}

func (h refreshHandler) load(ctx context.Context, c *call, r fosite.AccessRequester) error {
	presented := r.GetRequestForm().Get("refresh_token")
	if presented == "" {
		return fapi.Refuse(fapi.InvalidRequest, "refresh_token is missing.")
	}
	t, ok := h.e.OpenRefreshToken(presented, c.now)
	if !ok || t.ClientID != c.client.ID {
		return errBadRefreshToken
	}
	if t.Confirmation != nil && !t.Confirmation.Matches(c.confirmation) {
		return fapi.Refuse(fapi.InvalidGrant, "The refresh token is bound to another key.")
	}
	var err error
	if c.client.Public() {
		c.live, err = h.e.db.Rotate(ctx, c.uses, t.AuthorizationID, c.client.ID, t.Generation)
	} else {
		c.live, err = h.e.db.LoadLive(ctx, c.uses, t.AuthorizationID, c.client.ID, "")
	}
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return errBadRefreshToken
	case errors.Is(err, storage.ErrAlreadyUsed):
		return Replayed.Because(err)
	case err != nil:
		return err
	}
	s := r.GetSession().(*session)
	if err := s.hydrate(c.live); err != nil {
		return err
	}
	scopes, err := narrowed(r.GetRequestForm().Get("scope"), c.live.Scopes)
	if err != nil {
		return err
	}
	for _, scope := range scopes {
		r.GrantScope(scope)
	}
	c.refreshToken = presented
	return nil
}

// narrowed returns the scopes of the new access token: those asked for, which must all have been granted.
func narrowed(asked string, granted []string) ([]string, error) {
	scopes := strings.Fields(asked)
	if len(scopes) == 0 {
		return granted, nil
	}
	for _, s := range scopes {
		if !contains(granted, s) {
			return nil, fapi.Refuse(fapi.InvalidScope, "The scope is more than was granted.")
		}
	}
	return scopes, nil
}

func (h refreshHandler) PopulateTokenEndpointResponse(ctx context.Context, r fosite.AccessRequester, response fosite.AccessResponder) error {
	c, s := callOf(ctx), r.GetSession().(*session)
	access, _, err := h.e.GenerateAccessToken(ctx, r)
	if err != nil {
		return err
	}
	response.SetAccessToken(access)
	response.SetTokenType("bearer")
	refresh := c.refreshToken
	if c.client.Public() {
		if refresh, _, err = h.e.GenerateRefreshToken(ctx, r); err != nil {
			return err
		}
	}
	response.SetExtra("refresh_token", refresh)
	if r.GetGrantedScopes().Has("openid") {
		idToken, err := h.e.idToken(c, s, access, r.GetGrantedScopes())
		if err != nil {
			return err
		}
		response.SetExtra("id_token", idToken)
	}
	return nil
}
