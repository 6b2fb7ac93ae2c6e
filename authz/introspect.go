package authz

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// activeToken is the answer about a token that is good (RFC 7662 §2.2).
type activeToken struct {
	Active    bool   `json:"active"`
	TokenType string `json:"token_type"` // Bearer or DPoP
	*engine.AccessToken
}

var inactive = struct {
	Active bool `json:"active"`
}{false}

// introspectToken answers POST /introspect (RFC 7662 §2), with a signed answer to who asks for one (RFC 9701 §4).
func (s *Server) introspectToken(ctx context.Context, r *Request) (Response, error) {
	said, err := s.introspection(ctx, r)
	if err != nil {
		return nil, err
	}
	if !prefers(r.HTTP.Header.Values("Accept"), introspectionJWT) {
		return jsonResponse{http.StatusOK, said}, nil
	}
	token, err := s.keys.Sign(r.Client.IntrospectionSignedResponseAlg, keys.TypeIntrospection, signedIntrospection{
		Issuer: s.Issuer, Audience: r.Client.ID, IssuedAt: s.now().Unix(), Introspection: said,
	})
	if err == nil {
		token, err = r.Client.EncryptJWT(r.Client.IntrospectionEncryptedResponseAlg, r.Client.IntrospectionEncryptedResponseEnc, token)
	}
	return jwtResponse{introspectionJWT, token}, err
}

const introspectionJWT = "application/" + keys.TypeIntrospection

// signedIntrospection is RFC 9701 §5. It has no exp and no sub, so that nobody takes it for an access token (§8.1).
type signedIntrospection struct {
	Issuer        string `json:"iss"`
	Audience      string `json:"aud"`
	IssuedAt      int64  `json:"iat"`
	Introspection any    `json:"token_introspection"`
}

// introspection is what the calling resource server is told of a token. Only tokens that are meant for it are active; of
// all others, good or not, it learns nothing.
func (s *Server) introspection(ctx context.Context, r *Request) (any, error) {
	presented := r.Form.Get("token")
	if presented == "" {
		return nil, fapi.Refuse(fapi.InvalidRequest, "token is missing.")
	}
	t, ok := s.engine.OpenAccessToken(presented, s.now())
	if !ok || !slices.ContainsFunc(t.Audience, func(aud string) bool { return slices.Contains(r.Client.ResourceIdentifiers, aud) }) {
		return inactive, nil
	}
	principal, err := s.principal(ctx, r.Uses(), t)
	if errors.Is(err, storage.ErrNotFound) {
		return inactive, nil
	}
	if err != nil {
		return nil, err
	}
	out := activeToken{Active: true, TokenType: "Bearer", AccessToken: t}
	if t.Confirmation != nil && t.Confirmation.JKT != "" {
		out.TokenType = "DPoP"
	}
	t.Principal, t.AuthorizationID, t.MadeFrom, t.Only = principal, "", nil, nil
	return out, nil
}

// principal looks whether a token that opened is still good, and for whom it speaks. It returns storage.ErrNotFound when
// it is not. One round trip.
func (s *Server) principal(ctx context.Context, uses []storage.Use, t *engine.AccessToken) (*engine.Principal, error) {
	c, live, err := s.live(ctx, uses, t)
	if err != nil {
		return nil, err
	}
	if live == nil {
		return &engine.Principal{Roles: c.Roles}, nil
	}
	return s.engine.PrincipalOf(c, live, t)
}

// live returns the client of a token that is still good, and its authorization, which is nil with client credentials. It
// returns storage.ErrNotFound for a token that is not.
func (s *Server) live(ctx context.Context, uses []storage.Use, t *engine.AccessToken) (*fapi.Client, *storage.Live, error) {
	c := s.findClient(ctx, t.ClientID)
	if c == nil || s.clients.find(t.Owner()) == nil { // disabled since
		if err := s.db.Use(ctx, uses...); err != nil {
			return nil, nil, err
		}
		return nil, nil, storage.ErrNotFound
	}
	if t.AuthorizationID != "" {
		live, err := s.db.LoadLive(ctx, uses, t.ID(), t.Owner(), t.JTIs()...)
		if err == nil {
			err = s.engine.NarrowToken(t, live)
		}
		return c.Client, live, err
	}
	revoked, err := s.db.TokenRevoked(ctx, uses, t.JTI)
	if err == nil && revoked {
		err = storage.ErrNotFound
	}
	return c.Client, nil, err
}
