package consent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// Paths of the pages, and of the API below them.
const (
	TransactionsPath    = "/transactions"
	transactionPagePath = TransactionsPath + "/{id:[0-9a-f-]{36}}"
	transactionsAPI     = TransactionsPath + "/v1"
	transactionAPI      = transactionsAPI + "/{id}"
	consumeAPI          = transactionAPI + "/consume"
)

const (
	idempotencyHeader = "X-Idempotency-Key"
	longestKey        = 128
)

// TransactionsScope is that of tokens that may call the API: of the bank's own backends.
const TransactionsScope = "transactions"

// transactionCall answers a client's call; id is uuid.Nil where the path has none.
type transactionCall func(r *http.Request, clientID string, id uuid.UUID) (answer, error)

// MountAPI adds the API. It authenticates its callers itself.
func (x *Transactions) MountAPI(r *mux.Router) {
	for path, calls := range map[string]map[string]transactionCall{
		transactionsAPI: {http.MethodPost: x.create},
		transactionAPI:  {http.MethodGet: x.read, http.MethodPatch: x.change, http.MethodDelete: x.withdraw},
		consumeAPI:      {http.MethodPost: x.consume},
	} {
		r.Handle(path, x.api(calls))
	}
}

func (x *Transactions) api(calls map[string]transactionCall) http.Handler {
	allow := strings.Join(slices.Sorted(maps.Keys(calls)), ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wellFormed := echoInteraction(w, r)
		w.Header().Set("Cache-Control", "no-store")
		call, ok := calls[r.Method]
		if !ok {
			w.Header().Set("Allow", allow)
			x.refuse(w, r, fapi.Refuse(fapi.InvalidRequest, "The endpoint has no such method.").WithStatus(http.StatusMethodNotAllowed))
			return
		}
		a, err := x.answer(r, wellFormed, call)
		if err != nil {
			x.refuse(w, r, err)
			return
		}
		x.write(w, r, a)
	})
}

var errUUID = fapi.Refuse(fapi.InvalidRequest, "The x-fapi-interaction-id must be one UUID.")

func (x *Transactions) answer(r *http.Request, wellFormed bool, call transactionCall) (answer, error) {
	caller, err := x.o.Authenticate(r)
	switch {
	case err != nil:
		return answer{}, err
	case caller.CustomerID != "" || !slices.Contains(caller.Scopes, TransactionsScope):
		return answer{}, errTransactionScope
	case !wellFormed:
		return answer{}, errUUID
	}
	var id uuid.UUID
	if text, named := mux.Vars(r)["id"]; named {
		if !isUUID(text) {
			return answer{}, errUnknownTransaction
		}
		id = uuid.MustParse(text)
	}
	return call(r, caller.ClientID, id)
}

// create answers POST /transactions/v1.
func (x *Transactions) create(r *http.Request, clientID string, _ uuid.UUID) (answer, error) {
	keys := r.Header.Values(idempotencyHeader)
	if len(keys) != 1 || keys[0] == "" || len(keys[0]) > longestKey || strings.TrimSpace(keys[0]) != keys[0] {
		return answer{}, fapi.Refuse(fapi.InvalidRequest, "The call needs one x-idempotency-key of at most 128 characters.")
	}
	q, err := readTransaction(r, startMembers)
	if err != nil {
		return answer{}, err
	}
	if q.sub == "" {
		return answer{}, fapi.Refuse(fapi.InvalidRequest, "The body must say in sub who starts the transaction.")
	}
	n := NewTransaction{
		ClientID: clientID, StartedBy: x.o.Customer(clientID, q.sub), MandateID: q.mandate, Details: q.over(storage.TransactionDetails{}), Lifetime: q.lifetime, Key: keys[0],
	}
	if err := CheckDetails(&n.Details); err != nil {
		return answer{}, err
	}
	t, err := x.Start(r.Context(), n)
	if errors.Is(err, storage.ErrNotFound) {
		err = errNoStarter
	}
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, x.response(t)}, nil
}

// find returns the caller's transaction.
func (x *Transactions) find(r *http.Request, clientID string, id uuid.UUID) (*storage.Transaction, error) {
	t, err := x.Find(r.Context(), id)
	if err != nil {
		return nil, err
	}
	if t.ClientID != clientID {
		return nil, errForeignTransaction
	}
	return t, nil
}

// read answers GET /transactions/v1/{id}.
func (x *Transactions) read(r *http.Request, clientID string, id uuid.UUID) (answer, error) {
	t, err := x.find(r, clientID, id)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, x.response(t)}, nil
}

// change answers PATCH /transactions/v1/{id}: what is changed is another revision, which nobody has approved (RTS art. 5(1)(d)).
func (x *Transactions) change(r *http.Request, clientID string, id uuid.UUID) (answer, error) {
	q, err := readTransaction(r, changeMembers)
	if err != nil {
		return answer{}, err
	}
	t, err := x.find(r, clientID, id)
	if err != nil {
		return answer{}, err
	}
	details := q.over(t.Details)
	if err := CheckDetails(&details); err != nil {
		return answer{}, err
	}
	if details == t.Details && t.Status == storage.AwaitingApproval {
		return answer{http.StatusOK, x.response(t)}, nil
	}
	c := storage.TransactionChange{ID: id, ClientID: clientID, Revision: t.Revision, Details: details, Digest: Digest(id, t.Revision+1, details), Every: x.every()}
	err = x.o.DB.ChangeTransaction(r.Context(), c)
	if errors.Is(err, storage.IsChanged) {
		return answer{}, fapi.Refuse(StaleRevision, "The transaction was changed meanwhile.").WithStatus(http.StatusConflict)
	}
	if err != nil {
		return answer{}, refusedTransaction(err)
	}
	return x.read(r, clientID, id)
}

// withdraw answers DELETE /transactions/v1/{id}.
func (x *Transactions) withdraw(r *http.Request, clientID string, id uuid.UUID) (answer, error) {
	err := x.o.DB.VoidTransaction(r.Context(), id, clientID)
	return answer{status: http.StatusNoContent}, refusedTransaction(err)
}

// consume answers POST /transactions/v1/{id}/consume, with the digest of what the client is about to do, or with all of its details.
func (x *Transactions) consume(r *http.Request, clientID string, id uuid.UUID) (answer, error) {
	q, err := readTransaction(r, consumeMembers)
	if err != nil {
		return answer{}, err
	}
	digest := q.digest
	if digest == nil {
		t, err := x.find(r, clientID, id)
		if err != nil {
			return answer{}, err
		}
		details := q.over(storage.TransactionDetails{Type: t.Details.Type})
		if err := CheckDetails(&details); err != nil {
			return answer{}, err
		}
		digest = Digest(id, t.Revision, details)
	}
	if err := x.Consume(r.Context(), id, clientID, digest); err != nil {
		return answer{}, err
	}
	return x.read(r, clientID, id)
}

type transactionResponse struct {
	ID              uuid.UUID          `json:"id"`
	Status          string             `json:"status"`
	Type            string             `json:"type"`
	Amount          string             `json:"amount"`
	Currency        string             `json:"currency"`
	Payee           payee              `json:"payee"`
	FromAccount     string             `json:"from_account,omitempty"`
	Reference       string             `json:"reference,omitempty"`
	Revision        int                `json:"revision"`
	Digest          string             `json:"digest"` // base64url of SHA-256
	Mandate         *uuid.UUID         `json:"mandate,omitempty"`
	StartedBy       string             `json:"started_by,omitempty"` // sub
	ApprovalURL     string             `json:"approval_url"`
	MultiAuth       multiAuthorisation `json:"multi_authorisation"`
	Approvals       []decisionResponse `json:"approvals"` // of this revision
	Rejection       *decisionResponse  `json:"rejection,omitempty"`
	CreatedAt       dateTime           `json:"created_at"`
	StatusChangedAt dateTime           `json:"status_changed_at"`
	ExpiresAt       dateTime           `json:"expires_at"`
}

type payee struct {
	Name    string `json:"name"`
	Account string `json:"account"`
}

// multiAuthorisation says what UK Open Banking's MultiAuthorisation says (OBMultiAuthorisation1).
type multiAuthorisation struct {
	Status         string `json:"status"`
	NumberRequired int    `json:"number_required"`
	NumberReceived int    `json:"number_received"`
}

type decisionResponse struct {
	Sub    string   `json:"sub,omitempty"`
	At     dateTime `json:"at"`
	Factor string   `json:"factor,omitempty"`
}

func (x *Transactions) response(t *storage.Transaction) transactionResponse {
	a := transactionResponse{
		ID: t.ID, Status: t.Status, Type: t.Details.Type, Amount: t.Details.Amount, Currency: t.Details.Currency,
		Payee: payee{t.Details.PayeeName, t.Details.PayeeAccount}, FromAccount: t.Details.FromAccount, Reference: t.Details.Reference,
		Revision: t.Revision, Digest: base64.RawURLEncoding.EncodeToString(t.Digest),
		ApprovalURL: x.o.BaseURL + TransactionsPath + "/" + t.ID.String(),
		MultiAuth:   multiAuthorisation{"AwaitingFurtherAuthorisation", t.Required, t.Received}, Approvals: []decisionResponse{},
		CreatedAt: dateTime(t.CreatedAt), StatusChangedAt: dateTime(t.StatusChangedAt), ExpiresAt: dateTime(t.ExpiresAt),
	}
	if t.MandateID != uuid.Nil {
		a.Mandate = &t.MandateID
	}
	if t.StartedBy != uuid.Nil {
		a.StartedBy = x.o.Subject(t.ClientID, t.StartedBy)
	}
	switch t.Status {
	case storage.ApprovedTransaction, storage.ConsumedTransaction:
		a.MultiAuth.Status = "Authorised"
	case storage.RejectedTransaction, storage.ExpiredTransaction, storage.VoidedTransaction:
		a.MultiAuth.Status = "Rejected"
	}
	for i := range t.Decisions {
		d := &t.Decisions[i]
		made := decisionResponse{At: dateTime(d.At), Factor: d.FactorKind}
		if d.CustomerID != uuid.Nil {
			made.Sub = x.o.Subject(t.ClientID, d.CustomerID)
		}
		switch {
		case d.Counts:
			a.Approvals = append(a.Approvals, made)
		case d.Answer == storage.RejectedTransaction:
			a.Rejection = &made
		}
	}
	return a
}

// errorAnswer is the one form in which this API refuses.
type errorAnswer struct {
	Error       fapi.Code `json:"error"`
	Description string    `json:"error_description"`
}

func (x *Transactions) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var media *refusal
	if errors.As(err, &media) {
		err = fapi.Refuse(fapi.InvalidRequest, "The body must be JSON (application/json, UTF-8) of at most 64 KiB.").WithStatus(media.status)
	}
	refused := fapi.AsError(err)
	switch {
	case refused.Code == fapi.ServerError:
		if r.Context().Err() == nil {
			x.o.Failed(r, err)
		}
	case refused.Status == http.StatusUnauthorized || refused.Code == fapi.InsufficientScope:
		x.o.Challenge(w, r, err)
	}
	x.write(w, r, answer{refused.Status, errorAnswer{refused.Code, refused.Description}})
}

func (x *Transactions) write(w http.ResponseWriter, r *http.Request, a answer) {
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(a.body); err != nil {
		x.o.Failed(r, err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(a.status)
	_, _ = w.Write(body.Bytes()) // the caller has gone: nobody to tell
}
