package authz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/authz/notify"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/outbound"
	"github.com/countersign/countersign/storage"
)

// logoutTokenLifetime is the longest that OpenID Connect Back-Channel Logout §2.4 recommends.
const logoutTokenLifetime = 2 * time.Minute

// logoutEvent says what kind of security event token a logout token is (RFC 8417 §2.2).
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// tellLogout posts a logout token to a client (OpenID Connect Back-Channel Logout §2.5). Each attempt has a token of its
// own: the client may remember the jti of one that it could not act on.
func (s *Server) tellLogout(ctx context.Context, n storage.Notification) error {
	var about storage.LoggedOut
	if err := json.Unmarshal(n.About, &about); err != nil {
		return fmt.Errorf("%w: %w", notify.ErrRefused, err)
	}
	c := s.clients.find(n.ClientID)
	if c == nil || c.BackChannelLogoutURI == "" { // since then
		return nil
	}
	token, err := s.logoutToken(c.Client, about)
	if err != nil {
		return err
	}
	body := url.Values{"logout_token": {token}}.Encode()
	status, err := s.outbound.Post(ctx, c.BackChannelLogoutURI, "application/x-www-form-urlencoded", []byte(body), nil)
	switch {
	case errors.Is(err, outbound.ErrURL), errors.Is(err, outbound.ErrAddress), errors.Is(err, outbound.ErrRedirect): // as it is registered
		return fmt.Errorf("%w: %w", notify.ErrRefused, err)
	case err != nil:
		return err
	}
	return heard(status)
}

// heard judges the status that a client answered a notification with.
func heard(status int) error {
	switch {
	case status == http.StatusOK, status == http.StatusNoContent: // OpenID Connect Back-Channel Logout §2.8
		return nil
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return fmt.Errorf("answered with %d", status)
	}
	return fmt.Errorf("answered with %d: %w", status, notify.ErrRefused)
}

// logoutToken makes a logout token (OpenID Connect Back-Channel Logout §2.4), signed and encrypted as the client's ID
// tokens are. It never has a nonce: nobody can take it for an ID token.
func (s *Server) logoutToken(c *fapi.Client, about storage.LoggedOut) (string, error) {
	now := s.now()
	token, err := s.keys.Sign(c.IDTokenSignedResponseAlg, keys.TypeLogout, map[string]any{
		"iss":    s.Issuer,
		"aud":    c.ID,
		"sub":    s.engine.Subject(c, about.CustomerID),
		"sid":    s.engine.SessionID(c, about.SessionID),
		"iat":    now.Unix(),
		"exp":    now.Add(logoutTokenLifetime).Unix(),
		"jti":    uuid.NewString(),
		"events": map[string]any{logoutEvent: struct{}{}},
	})
	if err != nil {
		return "", err
	}
	return c.EncryptJWT(c.IDTokenEncryptedResponseAlg, c.IDTokenEncryptedResponseEnc, token)
}
