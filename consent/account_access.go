package consent

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"regexp"
	"time"

	"github.com/gorilla/mux"

	"github.com/countersign/countersign/storage"
)

// consentResponse is OBReadConsentResponse1.
type consentResponse struct {
	Data  consentData `json:"Data"`
	Risk  struct{}    `json:"Risk"`
	Links links       `json:"Links"`
	Meta  struct{}    `json:"Meta"`
}

type consentData struct {
	ConsentID               string    `json:"ConsentId"`
	CreationDateTime        dateTime  `json:"CreationDateTime"`
	Status                  string    `json:"Status"`
	StatusUpdateDateTime    dateTime  `json:"StatusUpdateDateTime"`
	Permissions             []string  `json:"Permissions"`
	ExpirationDateTime      *dateTime `json:"ExpirationDateTime,omitempty"`
	TransactionFromDateTime *dateTime `json:"TransactionFromDateTime,omitempty"`
	TransactionToDateTime   *dateTime `json:"TransactionToDateTime,omitempty"`
}

type links struct {
	Self string `json:"Self"`
}

// dateTime is ISO 8601 with its zone, as every date in a response is (banking.md A2-04).
type dateTime time.Time

func (t dateTime) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, time.RFC3339Nano), nil
}

func (c *Consents) accountAccess(k *storage.Consent) consentResponse {
	return consentResponse{
		Data: consentData{
			ConsentID:               k.ID,
			CreationDateTime:        dateTime(k.CreatedAt),
			Status:                  k.Status,
			StatusUpdateDateTime:    dateTime(k.StatusChangedAt),
			Permissions:             k.Permissions,
			ExpirationDateTime:      (*dateTime)(k.ExpiresAt),
			TransactionFromDateTime: (*dateTime)(k.TransactionsFrom),
			TransactionToDateTime:   (*dateTime)(k.TransactionsTo),
		},
		Links: links{Self: c.o.BaseURL + AccountAccessPath + "/" + k.ID},
	}
}

// createAccountAccess answers POST /account-access-consents. It is not idempotent: x-idempotency-key means nothing here
// (A1).
func (c *Consents) createAccountAccess(r *http.Request, caller Caller) (answer, error) {
	body, err := readJSON(r)
	if err != nil {
		return answer{}, err
	}
	asked, problems := parseAccountAccess(body, c.o.Now())
	if len(problems) > 0 {
		return answer{}, refuse(problems...)
	}
	k := &storage.Consent{
		ID:               newConsentID(),
		ClientID:         caller.ClientID,
		Type:             storage.AccountAccess,
		Permissions:      asked.permissions,
		ExpiresAt:        asked.expiration,
		TransactionsFrom: asked.from,
		TransactionsTo:   asked.to,
	}
	if err := c.o.DB.CreateConsent(r.Context(), k); err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, c.accountAccess(k)}, nil
}

// readAccountAccess answers GET /account-access-consents/{ConsentId}. One that was deleted is none any more (A2-08).
func (c *Consents) readAccountAccess(r *http.Request, caller Caller) (answer, error) {
	id, err := consentID(r)
	if err != nil {
		return answer{}, err
	}
	k, err := c.o.DB.FindConsent(r.Context(), id, caller.ClientID)
	if err == nil && (k.Type != storage.AccountAccess || k.Status == storage.Revoked) {
		err = storage.ErrNotFound
	}
	if err != nil {
		return answer{}, notHere(err)
	}
	return answer{http.StatusOK, c.accountAccess(k)}, nil
}

// deleteAccountAccess answers DELETE /account-access-consents/{ConsentId}: the consent is over for good and its tokens
// are dead (A2-08).
func (c *Consents) deleteAccountAccess(r *http.Request, caller Caller) (answer, error) {
	id, err := consentID(r)
	if err != nil {
		return answer{}, err
	}
	if err := c.o.DB.RevokeConsent(r.Context(), id, caller.ClientID); err != nil {
		return answer{}, notHere(err)
	}
	return answer{status: http.StatusNoContent}, nil
}

// notHere tells the two apart that the standard tells apart (A1-02): another client's is 403, none is 400.
func notHere(err error) error {
	switch {
	case errors.Is(err, storage.ErrForeign):
		return forbidden("The consent is another client's.")
	case errors.Is(err, storage.ErrNotFound):
		return refuse(problem{resourceNotFound, "There is no such consent.", "ConsentId"})
	}
	return err
}

// newConsentID makes an id that nobody guesses: 128 random bits, URL safe.
func newConsentID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its contract
	return "aac-" + base64.RawURLEncoding.EncodeToString(b[:])
}

// consentIDs is all that any of our consent ids ever looks like; the length is the standard's Max128Text.
var consentIDs = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// consentID reads the id from the path. What cannot be one is unknown, without asking the database.
func consentID(r *http.Request) (string, error) {
	id := mux.Vars(r)["ConsentId"]
	if !consentIDs.MatchString(id) {
		return "", notHere(storage.ErrNotFound)
	}
	return id, nil
}
