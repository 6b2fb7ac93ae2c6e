package consent

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

func TestUsable(t *testing.T) {
	t.Parallel()
	now := time.Now()
	alice, bob := uuid.New(), uuid.New()
	past, future := now, now.Add(time.Microsecond)
	for _, c := range []struct {
		name     string
		consent  *storage.Consent
		customer uuid.UUID
		refused  string // the reason; "" for none
	}{
		{"A8-02: it waits, nobody is logged in", &storage.Consent{Status: storage.AwaitingAuthorisation}, uuid.Nil, ""},
		{"A8-02: it waits", &storage.Consent{Status: storage.AwaitingAuthorisation, ExpiresAt: &future}, alice, ""},
		{"A8-09: authorised, the same customer again", &storage.Consent{Status: storage.Authorised, CustomerID: &alice}, alice, ""},
		{"A8-09: authorised, nobody is logged in yet", &storage.Consent{Status: storage.Authorised, CustomerID: &alice}, uuid.Nil, ""},
		{"A8-09: authorised by another customer", &storage.Consent{Status: storage.Authorised, CustomerID: &alice}, bob, "The consent is another customer's."},
		{"A8-02: authorised by nobody known", &storage.Consent{Status: storage.Authorised}, alice, "The consent is another customer's."},
		{"A8-02: unknown", nil, alice, "There is no such consent."},
		{"A8-02: another client's", &storage.Consent{ClientID: "other", Status: storage.AwaitingAuthorisation}, alice, "There is no such consent."},
		{"A2-10: rejected", &storage.Consent{Status: storage.Rejected, CustomerID: &alice}, alice, "The consent was rejected."},
		{"A2-08: revoked", &storage.Consent{Status: storage.Revoked, CustomerID: &alice}, alice, "The consent was revoked."},
		{"A2-07: a status that we do not know", &storage.Consent{Status: "Consumed"}, alice, "The consent cannot be authorised."},
		{"A2-11: expired while it waited", &storage.Consent{Status: storage.AwaitingAuthorisation, ExpiresAt: &past}, alice, "The consent has expired."},
		{"A2-11: expired after it was authorised", &storage.Consent{Status: storage.Authorised, CustomerID: &alice, ExpiresAt: &past}, alice, "The consent has expired."},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.consent != nil && c.consent.ClientID == "" {
				c.consent.ClientID = "tpp"
			}
			invalidRequest(t, Usable(c.consent, "tpp", c.customer, now), c.refused)
		})
	}
}

func TestFitsScopes(t *testing.T) {
	t.Parallel()
	k := &storage.Consent{Type: storage.AccountAccess}
	const reason = "The consent needs another scope than the request has."
	invalidRequest(t, FitsScopes(k, []string{"openid", "accounts"}), "")
	invalidRequest(t, FitsScopes(k, []string{"openid", "payments"}), reason)
	invalidRequest(t, FitsScopes(k, nil), reason)
	invalidRequest(t, FitsScopes(&storage.Consent{Type: "unknown"}, []string{""}), reason)
}

func invalidRequest(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	var e *fapi.Error
	if !errors.As(err, &e) || e.Code != fapi.InvalidRequest || e.Status != http.StatusBadRequest || e.Description != want {
		t.Errorf("%v, want %q", err, want)
	}
}
