package authz

import (
	"context"
	"net/http"
	"time"

	"github.com/countersign/countersign/fapi"
)

// revokeToken answers POST /revoke (RFC 7009 §2). A token that is not ours, or no longer good, is none to revoke: 200. A
// refresh token takes all tokens of its authorization with it, an access token only itself.
func (s *Server) revokeToken(ctx context.Context, r *Request) (Response, error) {
	presented := r.Form.Get("token")
	if presented == "" {
		return nil, fapi.Refuse(fapi.InvalidRequest, "token is missing.")
	}
	done := emptyResponse{http.StatusOK}
	if t, ok := s.engine.OpenRefreshToken(presented, s.now()); ok {
		if t.ClientID != r.Client.ID {
			return nil, errNotYours
		}
		return done, s.db.RevokeAuthorization(ctx, r.Uses(), t.AuthorizationID, r.Client.ID)
	}
	if t, ok := s.engine.OpenAccessToken(presented, s.now()); ok {
		if t.ClientID != r.Client.ID {
			return nil, errNotYours
		}
		return done, s.db.RevokeToken(ctx, r.Uses(), t.JTI, time.Unix(t.ExpiresAt, 0))
	}
	return done, nil
}

var errNotYours = fapi.Refuse(fapi.UnauthorizedClient, "The token was issued to another client.")
