package consent

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// Usable tells whether an authorization request may name a consent (banking.md A8-02). customer is who is logged in,
// uuid.Nil while nobody is: ask again then. An Authorised consent may be named again by the same customer, who is asked
// again (A8-09).
//
// A refusal is a *fapi.Error with invalid_request. An unknown consent (k is nil) and another client's read the same: a
// customer's browser is no place to learn that somebody else's exists.
func Usable(k *storage.Consent, clientID string, customer uuid.UUID, now time.Time) error {
	switch {
	case k == nil || k.ClientID != clientID:
		return fapi.Refuse(fapi.InvalidRequest, "There is no such consent.")
	case k.Status == storage.Rejected:
		return fapi.Refuse(fapi.InvalidRequest, "The consent was rejected.")
	case k.Status == storage.Revoked:
		return fapi.Refuse(fapi.InvalidRequest, "The consent was revoked.")
	case k.Status != storage.AwaitingAuthorisation && k.Status != storage.Authorised:
		return fapi.Refuse(fapi.InvalidRequest, "The consent cannot be authorised.")
	case k.ExpiresAt != nil && !k.ExpiresAt.After(now):
		return fapi.Refuse(fapi.InvalidRequest, "The consent has expired.")
	case k.Status == storage.Authorised && k.CustomerID == nil,
		k.CustomerID != nil && customer != uuid.Nil && *k.CustomerID != customer:
		return fapi.Refuse(fapi.InvalidRequest, "The consent is another customer's.")
	}
	return nil
}

// consentScopes are the scopes whose consents they are (A1).
var consentScopes = map[string]string{storage.AccountAccess: "accounts"}

// FitsScopes tells whether a request's scopes include the one that a consent is for (A8-02). The refusal is
// invalid_request.
func FitsScopes(k *storage.Consent, scopes []string) error {
	if scope, known := consentScopes[k.Type]; !known || !slices.Contains(scopes, scope) {
		return fapi.Refuse(fapi.InvalidRequest, "The consent needs another scope than the request has.")
	}
	return nil
}
