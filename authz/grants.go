package authz

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// Grant Management for OAuth 2.0: a client names the grant that a request makes or changes, asks what is in it, ends it.

const grantsPath = "/grants" // and /{grant_id} below it

// The scopes of its API (§6.1). They speak of clients: no customer needs to be asked.
const (
	scopeQueryGrant  = "grant_management_query"
	scopeRevokeGrant = "grant_management_revoke"
)

// grantActions are grant_management_actions_supported (§7.1).
var grantActions = []string{"query", "revoke", string(storage.Create), string(storage.Merge), string(storage.Replace)}

var (
	errGrantID    = fapi.Refuse(fapi.InvalidGrantID, "The grant_id is unknown, another client's or another customer's, or the grant has ended.")
	errFullGrant  = fapi.Refuse(fapi.InvalidRequest, "The grant was merged too often: it can only be replaced.")
	errConsentsOf = fapi.Refuse(fapi.InvalidRequest, "A consent is a grant by itself: a request that names one cannot have a grant_management_action.")
)

// manage writes into a pending authorization what its request does to a grant (§5.2).
func manage(a *storage.Authorization, q *fapi.AuthorizationRequest) error {
	if q.GrantAction == "" {
		return nil
	}
	if a.ConsentID != "" {
		return errConsentsOf
	}
	a.GrantAction = storage.GrantAction(q.GrantAction)
	if q.GrantID == "" {
		return nil
	}
	id, ok := parseGrantID(q.GrantID)
	if !ok {
		return errGrantID
	}
	a.GrantID = id
	return nil
}

// parseGrantID reads an id in the form in which it is given out, and in no other.
func parseGrantID(text string) (uuid.UUID, bool) {
	id, err := uuid.Parse(text)
	return id, err == nil && id != uuid.Nil && id.String() == text
}

// unusable says why the store did not take a request: of what it names, there is nothing to be asked about.
func unusable(a *storage.Authorization, cause error) error {
	if a.GrantID != uuid.Nil {
		return errGrantID.Because(cause)
	}
	return errConsentUnusable.Because(cause)
}

// grantUsable tells whether the visitor, if there is one, can be asked about the grant that a journey changes.
func (j *journey) grantUsable(visitor uuid.UUID) error {
	switch {
	case j.Grant == nil:
		return nil
	case j.Grant.EndedAt != nil, visitor != uuid.Nil && visitor != j.Grant.CustomerID:
		return errGrantID
	case j.Full && j.GrantAction == storage.Merge:
		return errFullGrant
	}
	return nil
}

// grantDocument is the answer to a query (§6.4). It never holds tokens, nor who the customer is.
type grantDocument struct {
	Scopes               []grantedScopes            `json:"scopes"`
	Claims               []string                   `json:"claims"`
	AuthorizationDetails []fapi.AuthorizationDetail `json:"authorization_details"`
	CreatedAt            string                     `json:"created_at"` // RFC 3339
	LastUpdatedAt        string                     `json:"last_updated_at"`
	UpdatedBy            string                     `json:"updated_by"`
}

// grantedScopes are scopes that were granted for the same resource servers.
type grantedScopes struct {
	Scope    string   `json:"scope"` // space separated
	Resource []string `json:"resource,omitempty"`
}

// serveGrant answers GET and DELETE /grants/{grant_id} (§6.4, §6.5).
func (s *Server) serveGrant(w http.ResponseWriter, r *http.Request) {
	g, err := s.managedGrant(r)
	if err != nil {
		s.refuseToken(w, r, err)
		return
	}
	if r.Method == http.MethodDelete {
		switch err := s.db.RevokeGrant(r.Context(), g.ClientID, g.ID); {
		case errors.Is(err, storage.ErrNotFound): // somebody ended it since
			s.refuseToken(w, r, errNoGrant)
		case err != nil:
			s.refuseToken(w, r, err)
		default:
			emptyResponse{http.StatusNoContent}.write(w)
		}
		return
	}
	document, err := s.describeGrant(g)
	if err != nil {
		s.refuseToken(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, document)
}

var (
	errNoGrant       = fapi.Refuse(fapi.InvalidRequest, "There is no such grant.").WithStatus(http.StatusNotFound)
	errForeignGrant  = fapi.Refuse(fapi.InvalidRequest, "The grant is another client's.").WithStatus(http.StatusForbidden)
	errGrantScope    = fapi.Refuse(fapi.InsufficientScope, "The call needs a token of the client's own, with the scope for it.")
	scopesOfGrantAPI = map[string]string{http.MethodGet: scopeQueryGrant, http.MethodDelete: scopeRevokeGrant}
)

// managedGrant authenticates the call (§6.1) and finds the grant that it is about. Two round trips.
func (s *Server) managedGrant(r *http.Request) (*storage.Grant, error) {
	a, err := s.authenticateToken(r, "")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(a.token.Audience, s.Resource) {
		return nil, errBadToken
	}
	if a.live != nil || !slices.Contains(a.token.Scopes(), scopesOfGrantAPI[r.Method]) {
		return nil, errGrantScope
	}
	id, ok := parseGrantID(mux.Vars(r)["grant_id"])
	if !ok {
		return nil, errNoGrant
	}
	g, err := s.db.FindGrant(r.Context(), id)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, errNoGrant
	case err != nil:
		return nil, err
	case g.ClientID != a.token.ClientID:
		return nil, errForeignGrant
	}
	return g, nil
}

// describeGrant says what is in a grant.
func (s *Server) describeGrant(g *storage.Grant) (*grantDocument, error) {
	approvals, err := s.engine.Granted(g)
	if err != nil {
		return nil, err
	}
	d := &grantDocument{
		Scopes: []grantedScopes{}, Claims: []string{}, AuthorizationDetails: []fapi.AuthorizationDetail{},
		CreatedAt: g.CreatedAt.UTC().Format(time.RFC3339), LastUpdatedAt: g.UpdatedAt.UTC().Format(time.RFC3339),
		UpdatedBy: "client", // only requests of the client change a grant
	}
	for i, terms := range approvals {
		d.addScopes(g.Terms[i].Scopes, terms.Resources)
		for _, name := range terms.Claims {
			d.Claims = add(d.Claims, name)
		}
		d.AuthorizationDetails = append(d.AuthorizationDetails, terms.AuthorizationDetails...)
	}
	if details := fapi.Union(d.AuthorizationDetails); details != nil {
		d.AuthorizationDetails = details
	}
	return d, nil
}

// addScopes joins scopes of approvals for the same resource servers.
func (d *grantDocument) addScopes(scopes, resources []string) {
	if len(scopes) == 0 {
		return
	}
	for i := range d.Scopes {
		if known := &d.Scopes[i]; slices.Equal(known.Resource, resources) {
			all := strings.Fields(known.Scope)
			for _, scope := range scopes {
				all = add(all, scope)
			}
			known.Scope = strings.Join(all, " ")
			return
		}
	}
	d.Scopes = append(d.Scopes, grantedScopes{strings.Join(scopes, " "), resources})
}
