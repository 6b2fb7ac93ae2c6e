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
	if !c.client.Public() {
		c.refreshToken = presented
		live, err := h.e.Within(h.e.db.LoadLive(ctx, c.uses(), t.AuthorizationID, c.client.ID, ""))
		return h.take(c, r, live, err)
	}
	// To rotate ends the token that was presented: what the request asks for is judged before.
	if r.GetRequestForm().Get("scope") != "" || len(c.resources) > 0 || c.details != "" {
		live, err := h.e.Within(h.e.db.LoadLive(ctx, nil, t.AuthorizationID, c.client.ID, ""))
		if err := h.take(c, r, live, err); err != nil {
			return err
		}
	}
	live, err := h.e.Within(h.e.db.Rotate(ctx, c.uses(), t.AuthorizationID, c.client.ID, t.Generation))
	return h.take(c, r, live, err)
}

// take grants what the request asks for of what the store found.
func (h refreshHandler) take(c *call, r fosite.AccessRequester, live *storage.Live, err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return errBadRefreshToken
	}
	if err != nil {
		return err
	}
	c.live = live
	s := r.GetSession().(*session)
	if err := s.hydrate(live); err != nil {
		return err
	}
	if _, err := h.e.rights(c, s); err != nil {
		return err
	}
	scopes, err := narrowed(r.GetRequestForm().Get("scope"), live.Scopes)
	if err != nil {
		return err
	}
	for _, scope := range scopes {
		r.GrantScope(scope)
	}
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

// A refresh token that was presented is good for another time, unless the client is public.
func (h refreshHandler) PopulateTokenEndpointResponse(ctx context.Context, r fosite.AccessRequester, response fosite.AccessResponder) error {
	return h.e.respond(ctx, r, response, true)
}
