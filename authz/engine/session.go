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

// details are the granted authorization_details, with the accounts that the customer picked (RFC 9396 §7.1).
func (s *session) details() []fapi.AuthorizationDetail { return Details(&s.request, s.live.AccountIDs) }

// Details returns what was granted of a request's authorization_details: each one that names a consent is enriched with
// the accounts that the customer picked.
func Details(r *fapi.AuthorizationRequest, accounts []string) []fapi.AuthorizationDetail {
	if len(accounts) == 0 {
		return r.AuthorizationDetails
	}
	granted := make([]fapi.AuthorizationDetail, len(r.AuthorizationDetails))
	for i, d := range r.AuthorizationDetails {
		granted[i] = d
		if _, named := d.Fields["consent_id"]; !named {
			continue
		}
		fields := make(map[string]json.RawMessage, len(d.Fields)+1)
		for k, v := range d.Fields {
			fields[k] = v
		}
		fields["accounts"], _ = json.Marshal(accounts) // strings always marshal
		granted[i].Fields = fields
	}
	return granted
}

func (s *session) SetExpiresAt(fosite.TokenType, time.Time) {}
func (s *session) GetExpiresAt(fosite.TokenType) time.Time  { return time.Time{} }
func (s *session) GetUsername() string                      { return "" }
func (s *session) GetSubject() string                       { return s.claims.Subject }
func (s *session) Clone() fosite.Session                    { return s }
func (s *session) IDTokenClaims() *jwt.IDTokenClaims        { return &s.claims }
func (s *session) IDTokenHeaders() *jwt.Headers             { return &s.headers }
