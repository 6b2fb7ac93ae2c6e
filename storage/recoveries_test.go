package storage_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

// recovery begins one of the customer's, whose code is CODE.
func (b *bundle) recovery(t *testing.T, name string, customer uuid.UUID) []byte {
	t.Helper()
	var was string
	if err := b.sql.QueryRow(t.Context(), `SELECT coalesce(password_hash, '') FROM customers WHERE id = $1`, [16]byte(b.customer)).Scan(&was); err != nil {
		t.Fatal(err)
	}
	r := storage.Recovery{Hash: hash(name), CustomerID: customer, PasswordHash: was, Bucket: b.BucketKey("x", name)}
	if err := b.BeginRecovery(t.Context(), r, storage.Visit{}, "CODE", time.Minute, storage.Message{Channel: "email", To: "a@heron.example"}); err != nil {
		t.Fatal(err)
	}
	return r.Hash
}

func (b *bundle) passwordHash(t *testing.T) (s string) {
	t.Helper()
	if err := b.sql.QueryRow(t.Context(), `SELECT coalesce(password_hash, '') FROM customers WHERE id = $1`, [16]byte(b.customer)).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// A code that is nobody's is never right, and no mail is sent.
func TestTryRecovery_OfNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.TryRecovery(t.Context(), b.recovery(t, "nobody's", uuid.Nil), storage.Visit{}, "CODE", 10); !errors.Is(err, storage.ErrNotFound) {
		t.Error(err)
	}
	if n := b.count(t, `SELECT count(*) FROM notifications`); n != 0 {
		t.Errorf("%d mails", n)
	}
	if id, err := b.TryRecovery(t.Context(), b.recovery(t, "mine", b.customer), storage.Visit{}, "CODE", 10); err != nil || id != b.customer {
		t.Error(id, err)
	}
	if n := b.count(t, `SELECT count(*) FROM notifications`); n != 1 {
		t.Errorf("%d mails", n)
	}
	if n := b.count(t, `SELECT count(*) FROM recoveries WHERE encode(code, 'escape') LIKE '%CODE%'`); n != 0 {
		t.Error("a code in clear")
	}
}

// However often it is used at once, a code sets one password; one that a second factor must go with sets none.
func TestFinishRecovery_Once(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.recovery(t, "mine", b.customer)
	var done atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			switch err := b.FinishRecovery(t.Context(), r, "new", storage.Event{CustomerID: b.customer, Kind: "recovery.completed"}, nil); {
			case err == nil:
				done.Add(1)
			case !errors.Is(err, storage.ErrNotFound):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if done.Load() != 1 || b.passwordHash(t) != "new" || b.count(t, `SELECT count(*) FROM events WHERE kind = 'recovery.completed'`) != 1 {
		t.Errorf("%d times", done.Load())
	}
	b.halfLogin(t, "half")
	f, err := b.BeginFactor(t.Context(), b.customer, hash("half"), storage.TOTP, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	r = b.recovery(t, "late", b.customer)
	if _, err := b.CompleteLogin(t.Context(), storage.CountedCode{Factor: f, Step: 5}, complete("half", "whole")); err != nil {
		t.Fatal(err)
	}
	if err := b.FinishRecovery(t.Context(), r, "newer", storage.Event{CustomerID: b.customer, Kind: "recovery.completed"}, nil); !errors.Is(err, storage.ErrNotFound) || b.passwordHash(t) != "new" {
		t.Errorf("a second factor that was confirmed meanwhile is not asked for: %v", err)
	}
	if _, err := b.FindLogin(t.Context(), hash("whole")); err != nil {
		t.Errorf("a login has ended although nothing was set: %v", err)
	}
}

// What stands for a new password is no login of itself, and the mailbox does not prove both halves of it, whatever a page lets through.
func TestCompleteLogin_OfARecovery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.halfLogin(t, "half")
	begun, err := b.BeginFactor(t.Context(), b.customer, hash("half"), storage.TOTP, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.CompleteLogin(t.Context(), storage.CountedCode{Factor: begun, Step: 5}, complete("half", "whole")); err != nil {
		t.Fatal(err)
	}
	n := storage.NewLogin{Hash: hash("recovering"), AMR: []string{"otp"}, Lifetime: time.Minute, Bucket: b.BucketKey("recovered", "x")}
	r := b.recovery(t, "mine", b.customer)
	notice := &storage.Message{Channel: "email", To: "a@heron.example"}
	if err := b.ContinueRecovery(t.Context(), r, b.customer, "new", n, notice); err != nil {
		t.Fatal(err)
	}
	if err := b.ContinueRecovery(t.Context(), r, b.customer, "newer", n, notice); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the code works twice: %v", err)
	}
	v, err := b.FindLogin(t.Context(), hash("recovering"))
	if err != nil || v.ACR != "" || !v.Recovers || b.passwordHash(t) == "new" {
		t.Fatal(v, err)
	}
	was, f := b.passwordHash(t), v.Confirmed()[0]
	byMail := complete("recovering", "by mail")
	byMail.FactorKind = storage.EmailFactor
	if _, err := b.CompleteLogin(t.Context(), storage.CountedCode{Factor: f, Step: 6}, byMail); !errors.Is(err, storage.ErrNotFound) || b.passwordHash(t) != was {
		t.Errorf("the mailbox proves both: %v", err)
	}
	whole := complete("recovering", "recovered")
	whole.FactorKind, whole.Recovers = storage.TOTP, true
	if _, err := b.CompleteLogin(t.Context(), storage.CountedCode{Factor: f, Step: 7}, whole); err != nil || b.passwordHash(t) != "new" {
		t.Fatal(err)
	}
	for name, there := range map[string]bool{"recovered": true, "recovering": false, "whole": false} {
		if v, err := b.FindLogin(t.Context(), hash(name)); (err == nil) != there || err == nil && v.Recovers {
			t.Errorf("%s: %+v %v", name, v, err)
		}
	}
	if n := b.count(t, `SELECT count(*) FROM notifications WHERE kind = 'message'`); n != 2 { // the code, and that there is a new password
		t.Errorf("%d messages", n)
	}
	b.exec(t, `UPDATE recoveries SET expires_at = now()`)
	if _, err := b.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := b.count(t, `SELECT count(*) FROM recoveries`); n != 0 {
		t.Errorf("%d recoveries are kept", n)
	}
	if _, err := b.FindLogin(t.Context(), hash("recovered")); err != nil {
		t.Errorf("the login went with it: %v", err)
	}
}
