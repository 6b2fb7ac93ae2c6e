package authz

import (
	"context"
	"net/http"
	"time"

	"github.com/countersign/countersign/authz/engine"
)

// issueTokens answers POST /token (RFC 6749 §3.2).
func (s *Server) issueTokens(ctx context.Context, r *Request) (Response, error) {
	if code := polledWith(r.Form); code != "" {
		if wait := preferredWait(r.HTTP.Header); wait > 0 {
			return s.awaitTokens(ctx, r, code, wait)
		}
	}
	return s.tokens(ctx, r, time.Time{})
}

// tokens asks the engine. polledAt is when a poll came that goes on.
func (s *Server) tokens(ctx context.Context, r *Request, polledAt time.Time) (Response, error) {
	tokens, err := s.engine.Token(ctx, engine.TokenRequest{Client: r.Client, Form: r.Form, Uses: r.Uses, PolledAt: polledAt, Confirmation: r.Confirmation,
		Known: func(id string) bool { return s.clients.find(id) != nil },
	})
	if err != nil {
		return nil, err
	}
	return jsonResponse{http.StatusOK, tokens}, nil
}
