package storage_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

// sessionOf reads the session of a login.
func (b *bundle) sessionOf(t *testing.T, name string) uuid.UUID {
	t.Helper()
	s, err := b.FindSession(t.Context(), hash(name))
	if err != nil {
		t.Fatalf("login %q: %v", name, err)
	}
	if s.Customer.ID != b.customer {
		t.Errorf("login %q is %v's", name, s.Customer.ID)
	}
	return s.ID
}

// approvedIn makes an authorization of a session, as Approve does.
func (b *bundle) approvedIn(t *testing.T, client string, session uuid.UUID) {
	t.Helper()
	b.exec(t, `INSERT INTO authorizations (id, client_id, status, request, scopes, request_uri_expires_at, expires_at, customer_id, session_id)
		VALUES ($1, $2, 'approved', '', '{openid}', now(), now() - interval '3 hours', $3, $4)`,
		[16]byte(storage.NewID()), client, [16]byte(b.customer), [16]byte(session))
}

// listening registers a client that wants to hear of logouts.
func (b *bundle) listening(t *testing.T, client string) {
	t.Helper()
	if err := b.SaveClient(t.Context(), client, []byte(`{"backchannel_logout_uri":"https://app.example/logout"}`), nil); err != nil {
		t.Fatal(err)
	}
}

// told takes the notifications, and returns the sessions that they are about by client.
func (b *bundle) told(t *testing.T) map[string]uuid.UUID {
	t.Helper()
	all, err := b.TakeNotifications(t.Context(), 100, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]uuid.UUID{}
	for _, n := range all {
		var about storage.LoggedOut
		if err := json.Unmarshal(n.About, &about); err != nil || n.Kind != storage.LogoutNotification || n.Attempt != 1 || about.CustomerID != b.customer {
			t.Errorf("%+v, %+v, %v", n, about, err)
		}
		told[n.ClientID] = about.SessionID
	}
	return told
}

func TestSession_LastsFromLoginToLogin(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.halfLogin(t, "half")
	session := b.sessionOf(t, "half")
	b.listening(t, "tpp")
	b.approvedIn(t, "tpp", session)
	f, err := b.BeginFactor(t.Context(), b.customer, hash("half"), storage.TOTP, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.CompleteLogin(t.Context(), storage.CountedCode{Factor: f, Step: 5}, complete("half", "full")); err != nil {
		t.Fatal(err)
	}
	if b.sessionOf(t, "full") != session {
		t.Error("the second factor began another session")
	}
	b.exec(t, `UPDATE logins SET expires_at = now() - interval '23 hours' WHERE hash = $1`, hash("full"))
	if _, err := b.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.FindLogin(t.Context(), hash("full")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("an expired login is found: %v", err)
	}
	again := storage.NewLogin{Hash: hash("again"), Replaces: hash("full"), ACR: "urn:openbanking:psd2:ca", AMR: []string{"pwd"}, Lifetime: time.Minute}
	if _, err := b.BeginLogin(t.Context(), b.customer, again, nil); err != nil {
		t.Fatal(err)
	}
	if b.sessionOf(t, "again") != session || b.sessionOf(t, "cookie") == session {
		t.Error("the next login with the cookie is not of its session, or another browser's is")
	}
	if told := b.told(t); len(told) != 0 {
		t.Errorf("told %v of a session that goes on", told)
	}
	if err := b.EndLogin(t.Context(), hash("again")); err != nil {
		t.Fatal(err)
	}
	if told := b.told(t); len(told) != 1 || told["tpp"] != session {
		t.Errorf("told %v, want %v", told, session)
	}
	if err := b.EndLogin(t.Context(), hash("again")); err != nil || len(b.told(t)) != 0 {
		t.Errorf("ended twice: %v", err)
	}
}

func TestPurge_KeepsWhatASessionIsToBeEndedBy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.approvedIn(t, "tpp", b.sessionOf(t, "cookie"))
	for age, want := range map[string]int{"-1 hour": 1, "23 hours": 1, "25 hours": 0} {
		b.exec(t, `UPDATE logins SET expires_at = now() - $1::interval`, age)
		if age == "25 hours" {
			continue // the last one, whatever the order
		}
		b.purged(t, want)
	}
	b.exec(t, `UPDATE logins SET expires_at = now() - interval '25 hours'`)
	b.purged(t, 0)
}

func (b *bundle) purged(t *testing.T, want int) {
	t.Helper()
	if _, err := b.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	var logins, authorizations int
	err := b.sql.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM logins), (SELECT count(*) FROM authorizations)`).Scan(&logins, &authorizations)
	if err != nil || logins != want || authorizations != want {
		t.Errorf("%d logins and %d authorizations are left, want %d: %v", logins, authorizations, want, err)
	}
}

// A decision and a logout at once: either the logout ends what was decided too, or nothing is decided.
func TestEndLogin_MissesNoDecision(t *testing.T) {
	t.Parallel()
	t.Run("the decision was first", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.listening(t, "tpp")
		session := b.sessionOf(t, "cookie")
		b.exec(t, `BEGIN`)
		b.exec(t, `SELECT 1 FROM logins WHERE hash = $1 FOR KEY SHARE`, b.loginHash) // as deciderSQL does
		ended := make(chan error, 1)
		go func() { ended <- b.EndLogin(context.Background(), b.loginHash) }()
		select {
		case <-ended:
			t.Fatal("the logout did not wait")
		case <-time.After(100 * time.Millisecond):
		}
		b.approvedIn(t, "tpp", session)
		b.exec(t, `COMMIT`)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if told := b.told(t); told["tpp"] != session {
			t.Errorf("told %v", told)
		}
	})
	t.Run("the logout was first", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		uri := b.opened(t)
		b.exec(t, `BEGIN`)
		b.exec(t, `DELETE FROM logins WHERE hash = $1`, b.loginHash)
		decided := make(chan error, 1)
		go func() {
			_, err := b.Approve(context.Background(), storage.Approval{RequestURIHash: uri, ClientID: "tpp", LoginHash: b.loginHash, CodeHash: hash("code"), CodeLifetime: time.Minute})
			decided <- err
		}()
		select {
		case <-decided:
			t.Fatal("the decision did not wait")
		case <-time.After(100 * time.Millisecond):
		}
		b.exec(t, `COMMIT`)
		if err := <-decided; !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("decided by a login that has ended: %v", err)
		}
	})
}

// opened pushes and opens a request without a consent, and returns the hash of its request_uri.
func (b *bundle) opened(t *testing.T) []byte {
	t.Helper()
	a := storage.Authorization{ID: storage.NewID(), ClientID: "tpp", Request: []byte("{}"), Scopes: []string{"openid"},
		RequestURIHash: hash("uri"), RequestURILifetime: time.Minute, JourneyLifetime: time.Minute}
	if err := b.Push(t.Context(), nil, &a); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context(), a.RequestURIHash, "tpp", b.loginHash); err != nil {
		t.Fatal(err)
	}
	return a.RequestURIHash
}
