package engine

import (
	"encoding/json"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/token/jwt"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// session carries what an authorization says through fosite. It is made for one request and never shared, so a clone is
// the session itself.
type session struct {
	live    *storage.Live // nil for client credentials
	request fapi.AuthorizationRequest
	claims  jwt.IDTokenClaims
	headers jwt.Headers
}

func newSession(l *storage.Live) *session {
	s := &session{live: l}
	if l != nil {
		s.claims.Subject = l.CustomerID.String()
		s.claims.AuthTime = l.AuthTime
		s.claims.RequestedAt = l.CreatedAt
	}
	return s
}

// hydrate fills the session from an authorization that was loaded at the token endpoint.
func (s *session) hydrate(l *storage.Live) error {
	*s = *newSession(l)
	return json.Unmarshal(l.Request, &s.request)
}

func (s *session) SetExpiresAt(fosite.TokenType, time.Time) {}
func (s *session) GetExpiresAt(fosite.TokenType) time.Time  { return time.Time{} }
func (s *session) GetUsername() string                      { return "" }
func (s *session) GetSubject() string                       { return s.claims.Subject }
func (s *session) Clone() fosite.Session                    { return s }
func (s *session) IDTokenClaims() *jwt.IDTokenClaims        { return &s.claims }
func (s *session) IDTokenHeaders() *jwt.Headers             { return &s.headers }
