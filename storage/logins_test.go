package storage_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/countersign/countersign/storage"
)

func complete(replaces, name string) storage.NewLogin {
	return storage.NewLogin{Hash: hash(name), Replaces: hash(replaces), ACR: "urn:openbanking:psd2:sca", AMR: []string{"pwd", "otp", "mfa"}, Lifetime: time.Minute}
}

// halfLogin makes the login that the password leads to.
func (b *bundle) halfLogin(t *testing.T, name string) *storage.Visitor {
	t.Helper()
	if _, err := b.BeginLogin(t.Context(), b.customer, storage.NewLogin{Hash: hash(name), AMR: []string{"pwd"}, Lifetime: time.Minute}, nil); err != nil {
		t.Fatal(err)
	}
	v, err := b.FindLogin(t.Context(), hash(name))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestBeginFactor_IsOpenedByItsLoginAloneAndNeverReplacesAConfirmedOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.halfLogin(t, "mine")
	b.halfLogin(t, "theirs")
	first, err := b.BeginFactor(t.Context(), b.customer, hash("mine"), storage.TOTP, []byte("first secret"))
	if err != nil {
		t.Fatal(err)
	}
	for login, want := range map[string]string{"mine": "first secret", "theirs": ""} {
		v, err := b.FindLogin(t.Context(), hash(login))
		if err != nil || v.Confirmed() != nil {
			t.Fatal(v, err)
		}
		if got := v.Begun(storage.TOTP); (got != nil) != (want != "") || got != nil && string(got.Secret) != want {
			t.Errorf("%s reads %+v", login, got)
		}
	}
	second, err := b.BeginFactor(t.Context(), b.customer, hash("theirs"), storage.TOTP, []byte("second secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.CompleteLogin(t.Context(), storage.CountedCode{Factor: first, Step: 5}, complete("mine", "mine 2")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a replaced secret was confirmed: %v", err)
	}
	if _, err := b.CompleteLogin(t.Context(), storage.CountedCode{Factor: second, Step: 5}, complete("nobody", "theirs 2")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a login that does not exist was completed: %v", err)
	}
	l, err := b.CompleteLogin(t.Context(), storage.CountedCode{Factor: second, Step: 5}, complete("theirs", "theirs 2"))
	if err != nil || l.CustomerID != b.customer {
		t.Fatal(l, err)
	}
	if _, err := b.BeginFactor(t.Context(), b.customer, hash("mine"), storage.TOTP, []byte("third secret")); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("a confirmed secret was replaced: %v", err)
	}
	v, err := b.FindLogin(t.Context(), hash("mine"))
	if err != nil || len(v.Confirmed()) != 1 || !bytes.Equal(v.Confirmed()[0].Secret, []byte("second secret")) || v.Confirmed()[0].LastStep != 5 {
		t.Errorf("%+v %v", v, err)
	}
}

// AuthTime stays that of the password; the login that is replaced ends; nothing gets by a lock or a disabled customer.
func TestCompleteLogin_IsDecidedByWhatTheRowsSayThen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v := b.halfLogin(t, "half")
	f, err := b.BeginFactor(t.Context(), b.customer, hash("half"), storage.TOTP, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := b.CompleteLogin(t.Context(), storage.CountedCode{Factor: f, Step: 5}, complete("half", "whole"))
	if err != nil || !l.AuthTime.Equal(v.AuthTime) {
		t.Fatal(l, err)
	}
	if _, err := b.FindLogin(t.Context(), hash("half")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the login before is still there: %v", err)
	}
	f = b.halfLogin(t, "again").Confirmed()[0]
	for _, c := range []struct {
		why, spoil, mend string
		step             int64
	}{
		{"an earlier step", "", "", 4},
		{"the same step", "", "", 5},
		{"a blocked customer", blockSQL, `DELETE FROM limits`, 6},
		{"a disabled customer", `UPDATE customers SET disabled_at = now()`, `UPDATE customers SET disabled_at = NULL`, 7},
		{"an expired login", `UPDATE logins SET expires_at = now()`, `UPDATE logins SET expires_at = now() + interval '1 minute'`, 8},
	} {
		if c.spoil != "" {
			b.exec(t, c.spoil)
		}
		if _, err := b.CompleteLogin(t.Context(), storage.CountedCode{Factor: f, Step: c.step}, complete("again", "again "+c.why)); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", c.why, err)
		}
		if c.mend != "" {
			b.exec(t, c.mend)
		}
		if _, err := b.FindLogin(t.Context(), hash("again")); err != nil {
			t.Errorf("%s: the login before has ended: %v", c.why, err)
		}
	}
	if _, err := b.CompleteLogin(t.Context(), storage.CountedCode{Factor: f, Step: 9}, complete("again", "end")); err != nil {
		t.Error(err)
	}
}

// blockSQL blocks the customer in browsers that are not known.
const blockSQL = `
INSERT INTO limits (bucket, attempts, at, blocked_until, expires_at)
SELECT sha256('unknown browsers of '::bytea || username_index), 5, now(), now() + interval '1 minute', now() + interval '1 day' FROM customers
ON CONFLICT (bucket) DO UPDATE SET blocked_until = EXCLUDED.blocked_until`

func TestBeginLogin_RefusesBlockedAndDisabledCustomers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v, err := b.FindLogin(t.Context(), b.loginHash)
	if err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []string{blockSQL, `UPDATE customers SET disabled_at = now()`} {
		b.exec(t, `DELETE FROM limits`)
		b.exec(t, spoil)
		n := storage.NewLogin{Bucket: v.Bucket, Hash: hash("new"), Replaces: b.loginHash, ACR: "urn:openbanking:psd2:ca", AMR: []string{"pwd"}, Lifetime: time.Minute}
		if _, err := b.BeginLogin(t.Context(), b.customer, n, &storage.NewPasswordHash{Old: "", New: "x"}); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", spoil, err)
		}
		var untouched bool
		if err := b.sql.QueryRow(t.Context(), `SELECT password_hash = '' AND (SELECT count(*) FROM logins) = 1 FROM customers`).Scan(&untouched); err != nil || !untouched {
			t.Errorf("%s: something changed: %v", spoil, err)
		}
	}
}
