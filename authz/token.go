package authz

import (
	"context"
	"net/http"

	"github.com/countersign/countersign/authz/engine"
)

// issueTokens answers POST /token (RFC 6749 §3.2).
func (s *Server) issueTokens(ctx context.Context, r *Request) (Response, error) {
	tokens, err := s.engine.Token(ctx, engine.TokenRequest{Client: r.Client, Form: r.Form, Uses: r.Uses, Confirmation: r.Confirmation,
		Known: func(id string) bool { return s.clients.find(id) != nil },
	})
	if err != nil {
		return nil, err
	}
	return jsonResponse{http.StatusOK, tokens}, nil
}
