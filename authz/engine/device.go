package engine

import (
	"context"
	"errors"

	"github.com/ory/fosite"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// pollHandler answers the grant types of clients that wait for a decision made elsewhere: they ask with what they got
// when they began, until it can be redeemed (RFC 8628 §3.4). fosite's own looks, then acts, and loses races.
type pollHandler struct {
	e         *Engine
	grantType string
	parameter string // what the client polls with
}

func (h pollHandler) CanHandleTokenEndpointRequest(_ context.Context, r fosite.AccessRequester) bool {
	return r.GetGrantTypes().ExactOne(h.grantType)
}

func (h pollHandler) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool { return false }

func (h pollHandler) HandleTokenEndpointRequest(ctx context.Context, r fosite.AccessRequester) error {
	c := callOf(ctx)
	c.err = h.poll(ctx, c, r)
	return c.err
}

// unredeemed is what a client is told whose poll brings no tokens (RFC 8628 §3.5).
var unredeemed = map[error]*fapi.Error{
	storage.ErrPending:  fapi.Refuse(fapi.AuthorizationPending, "The customer has not decided yet."),
	storage.ErrTooEarly: fapi.Refuse(fapi.SlowDown, "The client asks too often: from now on it must wait 5 seconds longer."),
	storage.ErrDenied:   fapi.Refuse(fapi.AccessDenied, "The customer refused."),
	storage.ErrExpired:  fapi.Refuse(fapi.ExpiredToken, "The customer did not decide in time, or the client did not ask in time."),
	storage.ErrNotFound: fapi.Refuse(fapi.InvalidGrant, "The code is unknown, spent, revoked or another client's."),
}

// poll redeems an approved request. One round trip; what comes after it is refused with the request spent, as with a code.
func (h pollHandler) poll(ctx context.Context, c *call, r fosite.AccessRequester) error {
	presented := r.GetRequestForm().Get(h.parameter)
	if presented == "" {
		return fapi.Refuse(fapi.InvalidRequest, "What the client polls with is missing.")
	}
	live, err := h.ask(ctx, c, CodeHash(presented))
	for outcome, refused := range unredeemed {
		if errors.Is(err, outcome) {
			return refused.Because(err)
		}
	}
	if err != nil {
		return err
	}
	c.live = live
	s := r.GetSession().(*session)
	if err := s.hydrate(live); err != nil {
		return err
	}
	for _, scope := range live.Scopes {
		r.GrantScope(scope)
	}
	return nil
}

func (h pollHandler) ask(ctx context.Context, c *call, codeHash []byte) (*storage.Live, error) {
	if !c.polledAt.IsZero() {
		return h.e.Within(h.e.db.PollOn(ctx, c.polledAt, codeHash, c.client.ID, c.client.Rules().RefreshLifetime))
	}
	return h.e.Within(h.e.db.Poll(ctx, c.uses(), codeHash, c.client.ID, c.client.Rules().RefreshLifetime))
}

func (h pollHandler) PopulateTokenEndpointResponse(ctx context.Context, r fosite.AccessRequester, response fosite.AccessResponder) error {
	return h.e.respond(ctx, r, response, mayRefresh(callOf(ctx).client, r))
}

// respond makes the tokens of a response: an access token; a refresh token, if there is one, which is the one that was
// presented or new; with openid an ID token.
func (e *Engine) respond(ctx context.Context, r fosite.AccessRequester, response fosite.AccessResponder, refreshes bool) error {
	c, s := callOf(ctx), r.GetSession().(*session)
	access, _, err := e.GenerateAccessToken(ctx, r)
	if err != nil {
		return err
	}
	response.SetAccessToken(access)
	response.SetTokenType("bearer")
	if refreshes {
		if c.refreshToken == "" {
			if c.refreshToken, _, err = e.GenerateRefreshToken(ctx, r); err != nil {
				return err
			}
		}
		response.SetExtra("refresh_token", c.refreshToken)
	}
	if r.GetGrantedScopes().Has("openid") {
		idToken, err := e.idToken(c, s)
		if err != nil {
			return err
		}
		response.SetExtra("id_token", idToken)
	}
	return nil
}

func mayRefresh(c *fapi.Client, r fosite.AccessRequester) bool {
	return c.MayUse(fapi.GrantRefreshToken) && (c.Rules().Refresh == fapi.RefreshAlways || r.GetGrantedScopes().Has("offline_access"))
}
