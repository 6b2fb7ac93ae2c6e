package authz

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// requestURIPrefix begins every request_uri of ours (RFC 9126 §2.2).
const requestURIPrefix = "urn:ietf:params:oauth:request_uri:"

// journeyLifetime is how long a person may take from the first page to the decision.
const journeyLifetime = 30 * time.Minute

// pushed is the answer to a pushed authorization request (RFC 9126 §2.2).
type pushed struct {
	RequestURI string `json:"request_uri"`
	ExpiresIn  int64  `json:"expires_in"` // seconds
}

// pushAuthorization answers POST /par (RFC 9126 §2). The request is stored as a pending authorization; nobody has been
// asked anything yet.
func (s *Server) pushAuthorization(ctx context.Context, r *Request) (Response, error) {
	if !r.Client.Redirects() {
		return nil, fapi.Refuse(fapi.UnauthorizedClient, "The client is not registered for the authorization code grant.")
	}
	params, err := s.resolveRequest(ctx, r.registered, withoutCredentials(r.Form), false)
	if err != nil {
		return nil, err
	}
	request, err := r.Client.CheckPushedRequest(params, s.DetailTypes)
	if err != nil {
		return nil, err
	}
	if r.Proof != nil { // RFC 9449 §10.1
		if request.DPoPJKT != "" && request.DPoPJKT != r.Proof.JKT {
			return nil, fapi.Refuse(fapi.InvalidDPoPProof, "The dpop_jkt is not that of the proof.")
		}
		request.DPoPJKT = r.Proof.JKT
	}
	a, err := s.pending(ctx, r.Client, request)
	if err != nil {
		return nil, err
	}
	uri, err := s.push(ctx, a, r.Uses())
	if err != nil {
		return nil, err
	}
	return jsonResponse{http.StatusCreated, pushed{uri, int64(a.RequestURILifetime / time.Second)}}, nil
}

// withoutCredentials is a form without what authenticated the client: it must not be stored (RFC 9126 §7).
func withoutCredentials(form url.Values) url.Values {
	params := make(url.Values, len(form))
	for name, values := range form {
		switch name {
		case "client_assertion", "client_assertion_type", "client_secret":
		default:
			params[name] = values
		}
	}
	return params
}

// pending makes of a request what is stored of it, if a customer can be asked at all.
func (s *Server) pending(ctx context.Context, c *fapi.Client, q *fapi.AuthorizationRequest) (*storage.Authorization, error) {
	if !q.Polled() {
		if err := s.engine.CheckAuthorize(ctx, c, q); err != nil {
			return nil, err
		}
	}
	consentID, err := s.namedConsent(q)
	if err != nil {
		return nil, err
	}
	acr, err := s.requiredACR(q, consentID)
	if err != nil {
		return nil, err
	}
	if q.IDTokenHint != "" {
		if _, err := s.keys.Verify(q.IDTokenHint, keys.TypeIDToken); err != nil {
			return nil, fapi.Refuse(fapi.InvalidRequest, "The id_token_hint is not an ID token of this server, or too old to tell.").Because(err)
		}
	}
	encoded, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	now := s.now()
	a := &storage.Authorization{
		ID:                 storage.NewID(),
		ClientID:           c.ID,
		Request:            encoded,
		Scopes:             q.Scopes,
		ConsentID:          consentID,
		AuthenticatedAfter: authenticatedAfter(q, now),
		ACRRequired:        acr,
		RequestURILifetime: s.requestURILifetime(c),
		JourneyLifetime:    journeyLifetime,
	}
	if a.Scopes == nil {
		a.Scopes = []string{}
	}
	if a.Terms, err = q.Terms(); err != nil {
		return nil, err
	}
	return a, manage(a, q)
}

// requestURILifetime is the profile's, unless the institution wants a shorter one.
func (s *Server) requestURILifetime(c *fapi.Client) time.Duration {
	if life := c.Rules().RequestURILifetime; s.RequestURILifetime == 0 || s.RequestURILifetime > life {
		return life
	}
	return s.RequestURILifetime
}

// push stores a pending authorization and returns its request_uri.
func (s *Server) push(ctx context.Context, a *storage.Authorization, uses []storage.Use) (string, error) {
	uri := requestURIPrefix + randomToken()
	a.RequestURIHash = hashOf(uri)
	err := s.db.Push(ctx, uses, a)
	if errors.Is(err, storage.ErrNotFound) {
		return "", unusable(a, err)
	}
	return uri, err
}

var errConsentUnusable = fapi.Refuse(fapi.InvalidRequest, "The consent is unknown, another client's, decided otherwise, or expired.")

// namedConsent returns the consent that a request names by the openbanking_intent_id claim or in its
// authorization_details; both must agree.
func (s *Server) namedConsent(q *fapi.AuthorizationRequest) (string, error) {
	id := q.IntentID
	for _, d := range q.AuthorizationDetails {
		member := s.DetailTypes[d.Type].Consent
		if member == "" || d.Fields[member] == nil {
			continue
		}
		var named string
		if err := json.Unmarshal(d.Fields[member], &named); err != nil || named == "" {
			return "", fapi.Refuse(fapi.InvalidAuthorizationDetails, "The consent id is not a string.")
		}
		if id != "" && id != named {
			return "", fapi.Refuse(fapi.InvalidRequest, "The request names more than one consent.")
		}
		id = named
	}
	return id, nil
}

// authenticatedAfter is the moment before which a login is too old for the request (OpenID Connect Core §3.1.2.1).
func authenticatedAfter(q *fapi.AuthorizationRequest, now time.Time) *time.Time {
	var after *time.Time
	if q.MaxAge != nil {
		t := now.Add(-time.Duration(*q.MaxAge) * time.Second)
		after = &t
	}
	if slices.Contains(q.Prompt, "login") {
		after = &now
	}
	return after
}

// requiredACR is the acr that the login must have: strong customer authentication when the request asks for it and would
// be content with nothing less, or when the institution wants it for what the request is about: a consent, or amounts that
// are not low.
//
// An essential acr that we cannot give is refused (OpenID Connect Core §5.5.1.1). So is one in acr_values (RFC 9470 §5: a
// client that asks for what a resource server has told it must not be sent back with less), unless it is an OpenID Connect
// request: there acr_values may name what we do not know (§3.1.2.1, a voluntary claim). What we know is a must in both.
func (s *Server) requiredACR(q *fapi.AuthorizationRequest, consentID string) (string, error) {
	required := ""
	if s.RequireSCA && (consentID != "" || s.LowValue.Exceeded(q.AuthorizationDetails, s.DetailTypes)) {
		required = authn.SCA
	}
	for _, asked := range []struct {
		values    []string
		voluntary bool
	}{
		{q.ACREssential, false},
		{q.ACRValues, slices.Contains(q.Scopes, "openid")},
	} {
		strong, weak := slices.Contains(asked.values, authn.SCA), slices.Contains(asked.values, authn.CA)
		switch {
		case len(asked.values) > 0 && !strong && !weak && !asked.voluntary:
			return "", fapi.Refuse(fapi.UnmetAuthentication, "The server cannot authenticate the customer as the acr demands.")
		case strong && !weak:
			required = authn.SCA
		}
	}
	return required, nil
}

// randomToken is 256 bits that nobody can guess.
func randomToken() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func hashOf(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

// requestURIHash returns what a request_uri of ours is found by, or nil for any other.
func requestURIHash(uri string) []byte {
	if !strings.HasPrefix(uri, requestURIPrefix) || len(uri) > 128 {
		return nil
	}
	return hashOf(uri)
}
