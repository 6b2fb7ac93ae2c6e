package authz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/authz/notify"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/outbound"
	"github.com/countersign/countersign/storage"
)

// outcomeRetries is how long a client may be out of reach: access tokens that are pushed live for five minutes.
var outcomeRetries = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute}

// tellOutcome tells a client what became of its request: that it may ask, or what it would be told (CIBA Core §10.2, §10.3, §12).
func (s *Server) tellOutcome(ctx context.Context, n storage.Notification) error {
	c := s.clients.find(n.ClientID)
	if c == nil || c.BackchannelClientNotificationEndpoint == "" { // disabled since then, or this replica has not heard of it yet
		return errors.New("the client has no endpoint")
	}
	o, err := s.db.BackchannelOutcome(ctx, n.ID, n.ClientID)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return fmt.Errorf("%w: the request was purged", notify.ErrRefused)
	case err != nil:
		return err
	case o.Status == storage.Undecided:
		return errors.New("the decision is on its way")
	}
	var q fapi.AuthorizationRequest
	if err := json.Unmarshal(o.Request, &q); err != nil {
		return fmt.Errorf("%w: %w", notify.ErrRefused, err)
	}
	var message any
	if q.DeliveryMode == fapi.Push {
		message, err = s.pushed(ctx, c.Client, n, o, q.AuthReqID)
	} else {
		message = ping(n, o, q.AuthReqID)
	}
	if err != nil || message == nil {
		return err
	}
	return s.postOutcome(ctx, c.Client, q.NotificationToken, message)
}

// ping is the message by which a client learns that it may ask (CIBA Core §10.2): once after each decision. That nobody decided
// in time, the client sees by its clock, and what it has fetched it needs not hear of again: then there is none.
func ping(n storage.Notification, o *storage.Outcome, authReqID string) any {
	if o.Status == storage.Expired || o.Status == storage.Redeemed && n.Attempt > 1 {
		return nil
	}
	return map[string]string{"auth_req_id": authReqID}
}

// pushedTokens is what a client is sent after an approval (CIBA Core §10.3.1).
type pushedTokens struct {
	AuthReqID string `json:"auth_req_id"`
	*engine.TokenResponse
}

// keptTokens are what each attempt sends.
type keptTokens struct {
	ExpiresAt int64 `json:"expires_at"` // of the access token
	*engine.TokenResponse
}

// pushedError is what a client is sent for which there are no tokens (CIBA Core §12).
type pushedError struct {
	AuthReqID   string    `json:"auth_req_id"`
	Error       fapi.Code `json:"error"`
	Description string    `json:"error_description"`
}

var failedOutcomes = map[storage.OutcomeStatus]*fapi.Error{
	storage.Refused: fapi.Refuse(fapi.AccessDenied, "The customer refused."),
	storage.Expired: fapi.Refuse(fapi.ExpiredToken, "The customer did not decide in time, or the client was not reached in time."),
	storage.Ended:   fapi.Refuse(fapi.TransactionFailed, "What the customer approved has ended since."),
}

// pushed is the message of an attempt. Tokens are made once, and kept before anybody can see them: what is lost on the way is
// sent again, and is the same.
func (s *Server) pushed(ctx context.Context, c *fapi.Client, n storage.Notification, o *storage.Outcome, authReqID string) (any, error) {
	payload, err := s.db.Payload(n)
	if err != nil {
		return nil, err
	}
	if payload != nil {
		return s.pushedAgain(payload, o, authReqID)
	}
	switch o.Status {
	case storage.Granted:
	case storage.Redeemed:
		return nil, fmt.Errorf("%w: redeemed otherwise", notify.ErrRefused)
	default:
		return failedPush(authReqID, failedOutcomes[o.Status]), nil
	}
	tokens, err := s.engine.Push(ctx, c, o.Live, authReqID)
	if refused := (*fapi.Error)(nil); errors.As(err, &refused) { // since the client changed what it is registered for
		s.log.Warn("not pushed", zap.Stringer("notification", n.ID), zap.String("client_id", c.ID), zap.Error(err))
		return failedPush(authReqID, fapi.Refuse(fapi.TransactionFailed, "What the customer approved cannot be pushed to the client.")), nil
	}
	if err != nil {
		return nil, err
	}
	kept := keptTokens{s.now().Unix() + tokens.ExpiresIn, tokens}
	if payload, err = json.Marshal(kept); err != nil {
		return nil, err
	}
	if err := s.db.KeepTokens(ctx, n, payload, c.Rules().RefreshLifetime); err != nil {
		return nil, err
	}
	return pushedTokens{authReqID, tokens}, nil
}

// pushedAgain is what an earlier attempt has sent, or was about to.
func (s *Server) pushedAgain(payload []byte, o *storage.Outcome, authReqID string) (any, error) {
	var kept keptTokens
	if err := json.Unmarshal(payload, &kept); err != nil {
		return nil, fmt.Errorf("%w: %w", notify.ErrRefused, err)
	}
	kept.ExpiresIn = kept.ExpiresAt - s.now().Unix()
	if o.Status != storage.Redeemed || kept.ExpiresIn <= 0 {
		return nil, fmt.Errorf("%w: the tokens have ended", notify.ErrRefused)
	}
	return pushedTokens{authReqID, kept.TokenResponse}, nil
}

func failedPush(authReqID string, e *fapi.Error) any {
	return pushedError{authReqID, e.Code, e.Description}
}

// postOutcome posts a message to a client's notification endpoint. What the client answers to it is all the same, if it took it;
// if not, nothing that is done again here helps, unless it could not be reached or failed.
func (s *Server) postOutcome(ctx context.Context, c *fapi.Client, token string, message any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	post := s.outbound.Post
	if c.BackchannelNotificationMTLS {
		post = s.outbound.PostIdentified
	}
	status, err := post(ctx, c.BackchannelClientNotificationEndpoint, "application/json", body, http.Header{"Authorization": {"Bearer " + token}})
	switch {
	case errors.Is(err, outbound.ErrURL), errors.Is(err, outbound.ErrAddress), errors.Is(err, outbound.ErrRedirect): // as it is registered
		return fmt.Errorf("%w: %w", notify.ErrRefused, err)
	case err != nil:
		return err
	case status >= 500:
		return fmt.Errorf("answered with %d", status)
	case status >= 300 || status < 200:
		return fmt.Errorf("%w: answered with %d", notify.ErrRefused, status)
	}
	return nil
}

// giveUpOutcome ends what was pushed and not acknowledged: it may be in anybody's hands. Who was to be pinged can still ask.
func (s *Server) giveUpOutcome(ctx context.Context, n storage.Notification) error {
	revoked, err := s.db.GiveUpOutcome(ctx, n.ID)
	if revoked {
		s.log.Error("pushed tokens revoked: nobody acknowledged them", zap.Stringer("authorization", n.ID), zap.String("client_id", n.ClientID))
	}
	return err
}
