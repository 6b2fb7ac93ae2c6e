package engine

import (
	"context"
	"time"

	"github.com/ory/fosite"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// Push makes the tokens that a client is sent for a request (CIBA Core §10.3.1). What the store says of them is the caller's
// business. They are bearer tokens, since nobody is there who could prove possession of a key: a client whose tokens must be
// bound is refused.
func (e *Engine) Push(ctx context.Context, c *fapi.Client, live *storage.Live, authReqID string) (*TokenResponse, error) {
	if c.MustBind() {
		return nil, fapi.Refuse(fapi.TransactionFailed, "The client's tokens must be bound to a key: they cannot be pushed.")
	}
	live, err := e.Within(live, nil)
	if err != nil {
		return nil, err
	}
	made := &call{client: c, grantType: fapi.GrantCIBA, now: time.Now(), live: live, authReqID: authReqID}
	s := newSession(nil)
	if err := s.hydrate(live); err != nil {
		return nil, err
	}
	r := fosite.NewAccessRequest(s)
	r.Client = client{c}
	for _, scope := range live.Scopes {
		r.GrantScope(scope)
	}
	response := fosite.NewAccessResponse()
	if err := e.respond(context.WithValue(ctx, callKey{}, made), r, response, mayRefresh(c, r)); err != nil {
		return nil, err
	}
	return e.tokenResponse(made, r, response), nil
}
