package storage_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/storage"
)

// notified begins a request "code" whose client is told of the outcome, and opens it as "uri".
func (b *bundle) notified(t *testing.T) uuid.UUID {
	t.Helper()
	id := b.polled(t, "code", "user")
	b.enter(t, "user", "uri")
	b.exec(t, `INSERT INTO notifications (id, kind, client_id, about, due_at) SELECT id, 'ciba', client_id, '{}', expires_at FROM authorizations WHERE id = $1`, [16]byte(id))
	return id
}

func (b *bundle) outcome(t *testing.T, id uuid.UUID) *storage.Outcome {
	t.Helper()
	o, err := b.BackchannelOutcome(t.Context(), id, "tpp")
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (b *bundle) takeOne(t *testing.T) storage.Notification {
	t.Helper()
	b.exec(t, `UPDATE notifications SET due_at = now()`)
	taken, err := b.TakeNotifications(t.Context(), 10, time.Minute)
	if err != nil || len(taken) != 1 {
		t.Fatal(taken, err)
	}
	return taken[0]
}

func (b *bundle) approveNotified(t *testing.T) {
	t.Helper()
	if _, err := b.approve(t, "uri", "", "12"); err != nil {
		t.Fatal(err)
	}
}

func TestBackchannelOutcome(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		do   func(*testing.T, *bundle)
		want storage.OutcomeStatus
	}{
		{"nobody decided, and there is time", func(*testing.T, *bundle) {}, storage.Undecided},
		{"nobody decided in time", func(t *testing.T, b *bundle) { b.later(t, "code", "601 seconds") }, storage.Expired},
		{"a poll saw that it has expired", func(t *testing.T, b *bundle) {
			b.later(t, "code", "601 seconds")
			b.poll(t, "code", "tpp")
		}, storage.Expired},
		{"approved", func(t *testing.T, b *bundle) { b.approveNotified(t) }, storage.Granted},
		{"approved, and there were no tokens in time", func(t *testing.T, b *bundle) {
			b.approveNotified(t)
			b.later(t, "code", "601 seconds")
		}, storage.Expired},
		{"refused", func(t *testing.T, b *bundle) {
			if _, err := b.Deny(t.Context(), hash("uri"), "tpp", b.loginHash); err != nil {
				t.Fatal(err)
			}
		}, storage.Refused},
		{"abandoned", func(t *testing.T, b *bundle) {
			if _, err := b.Abandon(t.Context(), hash("uri"), "tpp"); err != nil {
				t.Fatal(err)
			}
		}, storage.Refused},
		{"approved and fetched", func(t *testing.T, b *bundle) {
			b.approveNotified(t)
			if _, err := b.poll(t, "code", "tpp"); err != nil {
				t.Fatal(err)
			}
		}, storage.Redeemed},
		{"approved and withdrawn", func(t *testing.T, b *bundle) {
			b.approveNotified(t)
			b.exec(t, "UPDATE grants SET revoked_at = now()")
		}, storage.Ended},
		{"approved, the customer disabled", func(t *testing.T, b *bundle) {
			b.approveNotified(t)
			b.exec(t, "UPDATE customers SET disabled_at = now()")
		}, storage.Ended},
		{"approved, and the authorization revoked", func(t *testing.T, b *bundle) {
			b.approveNotified(t)
			b.exec(t, "UPDATE authorizations SET revoked_at = now()")
		}, storage.Ended},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := b.notified(t)
			test.do(t, b)
			for range 2 { // asking changes nothing
				o := b.outcome(t, id)
				if o.Status != test.want || string(o.Request) != `{"user_code":"X"}` || (o.Live != nil) != (test.want == storage.Granted || test.want == storage.Redeemed) {
					t.Errorf("%q %s %v, want %q", o.Status, o.Request, o.Live, test.want)
				}
			}
			if _, err := b.BackchannelOutcome(t.Context(), id, "other"); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("another client's: %v", err)
			}
		})
	}
}

// What is decided in the last moment is decided: whoever looks meanwhile waits, and expires nothing.
func TestBackchannelOutcome_WhileSomebodyDecides(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end         func(pgx.Tx, context.Context) error
		first, then storage.OutcomeStatus
	}{
		"decided":     {pgx.Tx.Commit, storage.Undecided, storage.Refused},
		"not decided": {pgx.Tx.Rollback, storage.Expired, storage.Expired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := b.notified(t)
			b.later(t, "code", "601 seconds")
			tx, err := b.sql.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), `UPDATE authorizations SET status = 'denied'`); err != nil {
				t.Fatal(err)
			}
			saw := make(chan *storage.Outcome)
			go func() { o, _ := b.BackchannelOutcome(t.Context(), id, "tpp"); saw <- o }()
			select {
			case o := <-saw:
				t.Fatalf("does not wait: %+v", o)
			case <-time.After(200 * time.Millisecond):
			}
			if err := test.end(tx, t.Context()); err != nil {
				t.Fatal(err)
			}
			if o := <-saw; o == nil || o.Status != test.first {
				t.Errorf("%+v, want %q", o, test.first)
			}
			if o := b.outcome(t, id); o.Status != test.then {
				t.Errorf("then %q, want %q", o.Status, test.then)
			}
		})
	}
}

// CIBA Core §10.3: one token, whoever makes some at the same time, and a poll is too late.
func TestKeepTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.notified(t)
	n := b.takeOne(t)
	if err := b.KeepTokens(t.Context(), n, []byte("early"), time.Hour); !errors.Is(err, storage.ErrConflict) {
		t.Fatalf("kept before the decision: %v", err)
	}
	b.approveNotified(t)
	other := n
	other.ClientID = "other"
	if err := b.KeepTokens(t.Context(), other, []byte("other's"), time.Hour); !errors.Is(err, storage.ErrConflict) {
		t.Fatalf("kept for another client: %v", err)
	}
	var kept atomic.Int64
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			switch err := b.KeepTokens(t.Context(), n, []byte{'t', byte('a' + i)}, time.Hour); {
			case err == nil:
				kept.Add(1)
			case !errors.Is(err, storage.ErrConflict):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if kept.Load() != 1 || b.outcome(t, id).Status != storage.Redeemed {
		t.Errorf("kept %d times, %q", kept.Load(), b.outcome(t, id).Status)
	}
	again := b.takeOne(t)
	if payload, err := b.Payload(again); err != nil || len(payload) != 2 || payload[0] != 't' {
		t.Errorf("%q %v", payload, err)
	}
	other = again
	other.ID = storage.NewID()
	if _, err := b.Payload(other); err == nil {
		t.Error("opened as another's")
	}
	if payload, err := b.Payload(n); payload != nil || err != nil {
		t.Errorf("%q %v", payload, err)
	}
	if _, err := b.poll(t, "code", "tpp"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("fetched what was pushed: %v", err)
	}
}

// A client that was registered for push when it asked, and polls now.
func TestKeepTokens_OfWhatWasFetched(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.notified(t)
	b.approveNotified(t)
	if _, err := b.poll(t, "code", "tpp"); err != nil {
		t.Fatal(err)
	}
	if err := b.KeepTokens(t.Context(), b.takeOne(t), []byte("tokens"), time.Hour); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("kept: %v", err)
	}
}

// What nobody acknowledged ends when it is given up; what was only announced stays.
func TestGiveUpOutcome(t *testing.T) {
	t.Parallel()
	for name, pushed := range map[string]bool{"pushed": true, "pinged": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := b.notified(t)
			b.approveNotified(t)
			n := b.takeOne(t)
			if pushed {
				if err := b.KeepTokens(t.Context(), n, []byte("tokens"), time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			for _, want := range []bool{pushed, false} {
				if revoked, err := b.GiveUpOutcome(t.Context(), id); err != nil || revoked != want {
					t.Errorf("revoked %v, %v", revoked, err)
				}
			}
			_, err := b.LoadLive(t.Context(), nil, id, "tpp", "")
			if pushed != errors.Is(err, storage.ErrNotFound) {
				t.Errorf("the tokens: %v", err)
			}
			if next, err := b.NextNotification(t.Context(), time.Hour); err != nil || next != time.Hour {
				t.Errorf("still to be told in %v, %v", next, err)
			}
		})
	}
}
