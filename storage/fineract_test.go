package storage_test

import (
	"errors"
	"testing"
	"time"

	"github.com/countersign/countersign/storage"
)

// sentCode is a code that the customer was sent, and has typed right.
func (b *bundle) sentCode(t *testing.T) *storage.OneTimeCode {
	t.Helper()
	c := storage.OneTimeCode{ID: storage.NewID(), CustomerID: b.customer, Purpose: "fineract", Binding: []byte("x"), Code: "12345"}
	if err := b.SendCode(t.Context(), c, time.Minute, 1000, storage.Message{Channel: "email", To: "x", ExpiresAt: time.Now().Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	tried, err := b.TryCode(t.Context(), b.customer, "fineract", []byte("x"), 5)
	if err != nil {
		t.Fatal(err)
	}
	return tried
}

// Two who typed the same code right at once get one token: the code is used up where the token is made.
func TestCreateTFAToken_UsesTheFactorUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	create := func(name string, change func(*storage.NewTFAToken)) error {
		t.Helper()
		n := storage.NewTFAToken{Hash: hash(name), Tenant: "default", CustomerID: b.customer, Lifetime: time.Hour}
		change(&n)
		_, _, err := b.CreateTFAToken(t.Context(), n)
		return err
	}
	with := func(c *storage.OneTimeCode) func(*storage.NewTFAToken) {
		return func(n *storage.NewTFAToken) { n.Code = c }
	}
	refused := func(name string, err error) {
		t.Helper()
		if !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	code := b.sentCode(t)
	if err := create("first", with(code)); err != nil {
		t.Fatal(err)
	}
	refused("used", create("second", with(code)))
	older := b.sentCode(t)
	newer := b.sentCode(t)
	refused("replaced", create("third", with(older)))
	b.exec(t, `UPDATE one_time_codes SET expires_at = now()`)
	refused("expired meanwhile", create("fourth", with(newer)))
	refused("another tenant's customer", create("fifth", func(n *storage.NewTFAToken) { n.Code, n.Tenant = b.sentCode(t), "other" }))
	disabled := b.sentCode(t)
	b.exec(t, `UPDATE customers SET disabled_at = now() WHERE id = $1`, [16]byte(b.customer))
	refused("disabled meanwhile", create("sixth", with(disabled)))
	b.exec(t, `UPDATE customers SET disabled_at = NULL WHERE id = $1`, [16]byte(b.customer))

	b.halfLogin(t, "half")
	f, err := b.BeginFactor(t.Context(), b.customer, hash("half"), storage.TOTP, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	step := func(s int64) func(*storage.NewTFAToken) {
		return func(n *storage.NewTFAToken) { n.TOTP = &storage.CountedCode{Factor: f, Step: s} }
	}
	refused("not confirmed", create("seventh", step(5)))
	if _, err := b.CompleteLogin(t.Context(), storage.CountedCode{Factor: f, Step: 5}, complete("half", "whole")); err != nil {
		t.Fatal(err)
	}
	refused("used at the login page", create("eighth", step(5)))
	if err := create("ninth", step(6)); err != nil {
		t.Error(err)
	}
	refused("an older step", create("tenth", step(6)))
}

// Attempts that others have counted since the password was looked up count here, as they do where a login begins.
func TestPasswordHolds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `UPDATE customers SET password_hash = 'right' WHERE id = $1`, [16]byte(b.customer))
	bucket := storage.Bucket{Key: hash("bucket"), Limit: storage.Limit{Free: 1, First: time.Minute, Most: time.Minute}}
	holds := func(name, stored, upgrade string, key []byte, want error) {
		t.Helper()
		if err := b.PasswordHolds(t.Context(), b.customer, stored, upgrade, key); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	holds("right", "right", "", bucket.Key, nil)
	holds("right before", "right", "", nil, nil)
	holds("another since", "wrong", "", bucket.Key, storage.ErrNotFound)
	holds("another since, upgraded", "wrong", "right", bucket.Key, storage.ErrNotFound)
	holds("upgraded", "right", "better", bucket.Key, nil)
	holds("the old hash", "right", "", bucket.Key, storage.ErrNotFound)
	if _, err := b.Attempt(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	holds("blocked", "better", "", bucket.Key, storage.ErrNotFound)
	holds("blocked, upgraded", "better", "best", bucket.Key, storage.ErrNotFound)
	holds("blocked, but right before", "better", "", nil, nil)
	b.exec(t, `UPDATE customers SET disabled_at = now() WHERE id = $1`, [16]byte(b.customer))
	holds("disabled", "better", "", nil, storage.ErrNotFound)
}
