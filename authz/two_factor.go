package authz

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"github.com/countersign/countersign/authn/fineract"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// fineractScope is what an access token needs for Fineract's two-factor API (package fineract). An app that may read accounts
// is not thereby one that may have codes sent.
const fineractScope = "fineract"

var errNotForFineract = fapi.Refuse(fapi.InsufficientScope, "This needs an access token of a customer with the scope fineract.")

func (s *Server) newFineract(c fineract.Config) *fineract.API {
	c.Zone = s.Zone
	return fineract.New(c, fineract.Parts{DB: s.db, Authn: s.authn, Log: s.log, Bearer: s.fineractCaller})
}

// mountFineract adds Fineract's two-factor API and the endpoint that checks its tokens, if there is one.
func (s *Server) mountFineract(r *mux.Router) {
	if s.Fineract.Context == "" {
		return
	}
	s.fineract.Mount(r)
	s.handle(r, twoFactorRoute.path, twoFactorRoute.methods, s.backChannel(twoFactorRoute))
}

// fineractCaller tells which customer a call's access token speaks for: uuid.Nil for none. One round trip.
func (s *Server) fineractCaller(w http.ResponseWriter, r *http.Request) (uuid.UUID, error) {
	a, err := s.authenticateToken(r, "")
	if err == nil && (a.live == nil || !slices.Contains(a.token.Audience, s.Resource) || !slices.Contains(a.token.Scopes(), fineractScope)) {
		err = errNotForFineract
	}
	switch {
	case err == nil:
		return a.live.Customer.ID, nil
	case refusal(err).Status >= http.StatusInternalServerError:
		return uuid.Nil, err
	}
	s.challenge(w, r, err)
	return uuid.Nil, nil
}

// twoFactorRoute is where a resource server asks whether a customer has shown both factors. Its callers are those of /introspect.
var twoFactorRoute = &route{path: introspectPath + "/two-factor", source: "docs/fineract-two-factor.md", endpoint: introspect,
	answer: (*Server).checkTwoFactor, methods: post}

// twoFactor is the answer for a customer who may go on.
type twoFactor struct {
	Active    bool  `json:"active"`
	Bypass    bool  `json:"bypass,omitempty"` // no second factor is due
	ExpiresAt int64 `json:"exp,omitempty"`    // of the token, in seconds since 1970
}

// checkTwoFactor answers whether token, which may be missing, is a TFA token of the customer for whom access_token speaks. Two
// round trips.
func (s *Server) checkTwoFactor(ctx context.Context, r *Request) (Response, error) {
	t, ok := s.engine.OpenAccessToken(r.Form.Get("access_token"), s.now())
	if !ok || !slices.ContainsFunc(t.Audience, func(aud string) bool { return slices.Contains(r.Client.ResourceIdentifiers, aud) }) {
		return jsonResponse{http.StatusOK, inactive}, nil
	}
	_, live, err := s.live(ctx, r.Uses(), t)
	var v *storage.FineractVisitor
	if err == nil && live != nil {
		v, err = s.db.FineractVisitor(ctx, live.Customer.Tenant, live.Customer.ID, fineract.TokenHash(r.Form.Get("token")))
	}
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return jsonResponse{http.StatusOK, inactive}, nil
	case err != nil:
		return nil, err
	case v != nil && fineract.Bypasses(v):
		return jsonResponse{http.StatusOK, twoFactor{Active: true, Bypass: true}}, nil
	case v != nil && v.TokenEnds != nil:
		return jsonResponse{http.StatusOK, twoFactor{Active: true, ExpiresAt: v.TokenEnds.Unix()}}, nil
	}
	return jsonResponse{http.StatusOK, inactive}, nil
}
