package consent

import (
	"errors"
	"net/http"
	"regexp"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// Codes that the transaction API has besides those of OAuth (docs/transactions.md).
const (
	UnknownTransaction  fapi.Code = "unknown_transaction"
	NotPermitted        fapi.Code = "not_permitted"        // by the mandate
	LimitExceeded       fapi.Code = "limit_exceeded"       // of the mandate
	TooManyTransactions fapi.Code = "too_many_open"        // wait which the customer has started
	IdempotencyConflict fapi.Code = "idempotency_conflict" // the key came with another request
	InvalidStatus       fapi.Code = "invalid_status"       // it does not wait, or is not approved, any more
	StaleRevision       fapi.Code = "stale_revision"       // it was changed meanwhile
	ProofUsed           fapi.Code = "proof_used"           // the code or signature is good for nothing any more
)

var (
	transactionTypes = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,39}$`)

	errDetails = fapi.Refuse(fapi.InvalidRequest, "Members that are missing, not in the form that docs say, or cannot be shown to a person as they are.")

	errTransactionScope = fapi.Refuse(fapi.InsufficientScope, "The call needs a token of the client's own, with the scope transactions.")

	errForeignTransaction = fapi.Refuse(fapi.AccessDenied, "The transaction is another client's.").WithStatus(http.StatusForbidden)
	errUnknownTransaction = fapi.Refuse(UnknownTransaction, "There is no such transaction.").WithStatus(http.StatusNotFound)
	errNoStarter          = fapi.Refuse(NotPermitted, "There is no such customer who could start it.").WithStatus(http.StatusForbidden)
	errChangedMeanwhile   = fapi.Refuse(fapi.DigestMismatch, "These are not the details that were approved.").WithStatus(http.StatusConflict)
)

// transactionRefusals are what the outside reads of what the store says.
var transactionRefusals = map[error]*fapi.Error{
	storage.ErrNotFound:    errUnknownTransaction,
	storage.ErrForeign:     errForeignTransaction,
	storage.ErrConflict:    fapi.Refuse(IdempotencyConflict, "The idempotency key was used with another request.").WithStatus(http.StatusUnprocessableEntity),
	storage.ErrAlreadyUsed: fapi.Refuse(ProofUsed, "The proof was used, has expired or was replaced.").WithStatus(http.StatusConflict),
	storage.NotStarter:     fapi.Refuse(NotPermitted, "By the mandate, the customer may not start it.").WithStatus(http.StatusForbidden),
	storage.NotApprover:    fapi.Refuse(NotPermitted, "By the mandate, the customer may not approve it.").WithStatus(http.StatusForbidden),
	storage.IsOwn:          fapi.Refuse(NotPermitted, "Who has started it may not approve it.").WithStatus(http.StatusForbidden),
	storage.OverLimit:      fapi.Refuse(LimitExceeded, "The amount is above what the mandate allows, or in another currency.").WithStatus(http.StatusForbidden),
	storage.TooManyOpen:    fapi.Refuse(TooManyTransactions, "Too many transactions of the customer wait for approval.").WithStatus(http.StatusTooManyRequests),
	storage.IsOver:         fapi.Refuse(InvalidStatus, "The transaction is not in a status in which this can be done.").WithStatus(http.StatusConflict),
	storage.IsChanged:      errChangedMeanwhile,
	storage.HasDecided:     fapi.Refuse(InvalidStatus, "The customer has approved it before.").WithStatus(http.StatusConflict),
}

// refusedTransaction keeps the store's error as the cause.
func refusedTransaction(err error) error {
	for cause, refused := range transactionRefusals {
		if errors.Is(err, cause) {
			return refused.Because(err)
		}
	}
	return err
}
