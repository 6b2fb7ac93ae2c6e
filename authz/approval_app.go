package authz

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// The API by which the bank's own app shows a customer what waits for them, and takes their decision, signed with a key of the
// device (docs/approval-app.md). What is listed, shown and decided is what the pages list, show and decide.

const approvalAppPath = "/approvals/v1"

// scopeApprovals is what a token of the app must have.
const scopeApprovals = "approvals"

var (
	errAppScope   = fapi.Refuse(fapi.InsufficientScope, "The call needs a token that a customer gave the app, with the scope approvals.")
	errNoApproval = fapi.Refuse(fapi.InvalidRequest, "There is no such request: it was decided, has expired, or never waited for this customer.").WithStatus(http.StatusNotFound)
)

func (s *Server) mountApprovals(r *mux.Router) {
	for path, methods := range map[string]map[string]appHandler{
		"/devices":                {http.MethodPost: s.addDevice, http.MethodGet: s.listDevices},
		"/devices/{id}":           {http.MethodDelete: s.removeDevice},
		"/requests":               {http.MethodGet: s.listWaiting},
		"/requests/{id}":          {http.MethodGet: s.showWaiting},
		"/requests/{id}/decision": {http.MethodPost: s.decideWaiting},
	} {
		var names []string
		for method := range methods {
			names = append(names, method)
		}
		slices.Sort(names)
		s.handle(r, approvalAppPath+path, names, func(w http.ResponseWriter, r *http.Request) { s.serveApp(w, r, methods[r.Method]) })
	}
}

// appHandler answers a call of the app, whose token has been checked.
type appHandler func(*http.Request, *appCall) (Response, error)

// appCall is who calls.
type appCall struct {
	client   *fapi.Client
	customer uuid.UUID
	subject  string // the customer, as the app knows them
	login    *storage.Authorization
	profile  *storage.Customer
}

func (s *Server) serveApp(w http.ResponseWriter, r *http.Request, answer appHandler) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	call, err := s.authenticateApp(r)
	var response Response
	if err == nil {
		response, err = answer(r, call)
	}
	if err != nil {
		s.refuseApp(w, r, err)
		return
	}
	response.write(w)
}

// authenticateApp finds out which customer's app calls. Nobody acts for the app: a token that was exchanged is not its own.
// One round trip.
func (s *Server) authenticateApp(r *http.Request) (*appCall, error) {
	a, err := s.authenticateToken(r, "")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(a.token.Audience, s.Resource) {
		return nil, errBadToken
	}
	if a.live == nil || a.token.Actor != nil || !slices.Contains(a.token.Scopes(), scopeApprovals) {
		return nil, errAppScope
	}
	return &appCall{a.client, a.live.Customer.ID, a.token.Subject, &a.live.Authorization, &a.live.Customer}, nil
}

// refuseApp answers with an error as JSON; what is wrong with the token stands in a challenge too (RFC 6750 §3, RFC 9470 §3).
func (s *Server) refuseApp(w http.ResponseWriter, r *http.Request, err error) {
	refused := refusal(err)
	if refused.Status != http.StatusUnauthorized && refused.Code != fapi.InsufficientScope {
		s.refuse(w, r, nil, err)
		return
	}
	s.challenge(w, r, err)
	if refused.Code == fapi.InsufficientUserAuthentication {
		w.Header().Set("WWW-Authenticate", w.Header().Get("WWW-Authenticate")+fmt.Sprintf(`, acr_values="%s", max_age="%d"`, authn.SCA, bindingAge/time.Second))
	}
	writeJSON(w, refused.Status, errorBody{refused.Code, refused.Description})
}

// waitingRequest is a request in few words.
type waitingRequest struct {
	ID             uuid.UUID `json:"id"`
	Kind           string    `json:"kind"`
	Client         appClient `json:"client"`
	BindingMessage string    `json:"binding_message,omitempty"`
	CreatedAt      string    `json:"created_at"` // RFC 3339
	ExpiresAt      string    `json:"expires_at"`
}

type appClient struct {
	ID     string `json:"client_id"`
	Name   string `json:"name"`
	Logo   string `json:"logo_uri,omitempty"`
	Policy string `json:"policy_uri,omitempty"`
	Terms  string `json:"tos_uri,omitempty"`
}

// listWaiting answers GET …/requests. One round trip.
func (s *Server) listWaiting(r *http.Request, call *appCall) (Response, error) {
	in, err := s.db.Inbox(r.Context(), call.customer)
	if err != nil {
		return nil, err
	}
	list := []waitingRequest{}
	for i := range in.Waiting {
		a := &in.Waiting[i]
		c := s.clients.find(a.ClientID)
		if c == nil { // its client is gone: it cannot be decided
			continue
		}
		var q fapi.AuthorizationRequest
		if err := json.Unmarshal(a.Request, &q); err != nil {
			return nil, err
		}
		list = append(list, s.waitingRequest(&a.Authorization, c.Client, &q, a.Consent, a.ExpiresAt))
	}
	return jsonResponse{http.StatusOK, map[string]any{"requests": list}}, nil
}

func (s *Server) waitingRequest(a *storage.Authorization, c *fapi.Client, q *fapi.AuthorizationRequest, k *storage.Consent, expires time.Time) waitingRequest {
	page := s.onPages(c)
	w := waitingRequest{
		ID: a.ID, Kind: "scopes", BindingMessage: q.BindingMessage, CreatedAt: rfc3339(a.CreatedAt), ExpiresAt: rfc3339(expires),
		Client: appClient{ID: c.ID, Name: page.Name, Policy: page.PolicyURL, Terms: page.TermsURL},
	}
	if page.LogoURL != "" {
		w.Client.Logo = s.Issuer + page.LogoURL
	}
	switch {
	case k != nil:
		w.Kind = k.Type
	case len(q.AuthorizationDetails) > 0:
		w.Kind = q.AuthorizationDetails[0].Type
	}
	return w
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// shownRequest is all that a customer sees of a request before they decide. It is the same, byte for byte, each time it is
// written, until something in it changes: its digest is part of what they sign (RTS (EU) 2018/389 art. 5).
type shownRequest struct {
	waitingRequest
	Items    []shownItem    `json:"items"`
	Details  []shownDetail  `json:"details,omitempty"`
	Earlier  string         `json:"earlier,omitempty"`
	History  string         `json:"history,omitempty"`
	Until    string         `json:"until,omitempty"` // RFC 3339
	Accounts []shownAccount `json:"accounts,omitempty"`
	Numbers  []string       `json:"number_choices,omitempty"`
	ACR      string         `json:"acr_required,omitempty"`
}

type shownItem struct {
	Title string `json:"title"`
	Text  string `json:"text,omitempty"`
}

type shownDetail struct {
	Label string `json:"label"`
	Value string `json:"value"`
}

type shownAccount struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Number   string `json:"number"` // masked
	Currency string `json:"currency"`
}

// documentResponse is a JSON document whose digest goes with it (RFC 9530 §2).
type documentResponse struct{ document []byte }

func (d documentResponse) write(w http.ResponseWriter) {
	sum := sha256.Sum256(d.document)
	w.Header().Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
	writeJSON(w, http.StatusOK, json.RawMessage(d.document))
}

// showWaiting answers GET …/requests/{id}. One round trip.
func (s *Server) showWaiting(r *http.Request, call *appCall) (Response, error) {
	_, uri, err := s.approvalNamed(r)
	if err != nil {
		return nil, err
	}
	stored, err := s.db.OpenFor(r.Context(), requestURIHash(uri), call.customer)
	if err != nil {
		return nil, noApproval(err)
	}
	_, document, err := s.opened(r, call, stored, uri)
	if err != nil {
		return nil, err
	}
	return documentResponse{document}, nil
}

func noApproval(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return errNoApproval
	}
	return err
}

// approvalNamed reads which request a call is about.
func (s *Server) approvalNamed(r *http.Request) (id uuid.UUID, uri string, err error) {
	text := mux.Vars(r)["id"]
	if id, err = uuid.Parse(text); err != nil || id.String() != text {
		return id, "", errNoApproval
	}
	return id, s.approvalURI(id), nil
}

// opened makes of what the store found the journey, and what the customer is shown of it. What they cannot decide ends here, as
// on the page.
func (s *Server) opened(r *http.Request, call *appCall, stored *storage.Journey, uri string) (*journey, []byte, error) {
	c := s.findClient(r.Context(), stored.ClientID)
	if c == nil {
		return nil, nil, errNoApproval
	}
	j := &journey{Journey: stored, client: c.Client, uri: uri, page: s.onPages(c.Client)}
	if err := json.Unmarshal(j.Request, &j.request); err != nil {
		return nil, nil, err
	}
	var document []byte
	why := s.usable(j, call.customer)
	if why == nil {
		why = s.narrow(j, call.profile)
	}
	if why == nil {
		document, why = s.document(j)
	}
	var refused *fapi.Error
	if !errors.As(why, &refused) {
		return j, document, why
	}
	if _, err := s.db.Abandon(r.Context(), j.RequestURIHash, c.ID); err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, nil, err
	}
	return nil, nil, errNoApproval.Because(why)
}

// document is what the customer is shown. Its error is a *fapi.Error when it cannot be.
func (s *Server) document(j *journey) ([]byte, error) {
	page, err := s.consents.Describe(j.asked())
	if err != nil {
		return nil, err
	}
	shown := shownRequest{
		waitingRequest: s.waitingRequest(&j.Authorization, j.client, &j.request, j.Consent, j.ExpiresAt),
		Items:          []shownItem{}, Earlier: page.Earlier, History: page.History, ACR: j.ACRRequired,
	}
	for _, item := range page.Items {
		shown.Items = append(shown.Items, shownItem(item))
	}
	for _, detail := range page.Details {
		shown.Details = append(shown.Details, shownDetail(detail))
	}
	for _, account := range page.Accounts {
		shown.Accounts = append(shown.Accounts, shownAccount{account.ID, account.Name, account.MaskedNumber, account.Currency})
	}
	if page.Until != nil {
		shown.Until = rfc3339(*page.Until)
	}
	if j.request.Number != "" {
		shown.Numbers = s.choices(j.ID, j.request.Number)
	}
	return json.Marshal(shown)
}
