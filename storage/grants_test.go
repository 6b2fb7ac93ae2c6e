package storage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

// A2-09: the customer's withdrawal kills the tokens and leaves the consent Authorised; its client may ask again.
func TestWithdrawGrant_TokensDieConsentStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.live(t, "uri", "aac-1")
	g, err := b.WithdrawGrant(t.Context(), b.customer, a.GrantID)
	if err != nil || g.ClientID != "tpp" || g.EndedAt == nil {
		t.Fatalf("%+v, %v", g, err)
	}
	if b.lives(t, a) {
		t.Error("a token lives")
	}
	if s := b.status(t, "aac-1"); s != storage.Authorised {
		t.Errorf("the consent is %s", s)
	}
	again := b.live(t, "again", "aac-1")
	if again.GrantID == a.GrantID || !b.lives(t, again) || b.lives(t, a) {
		t.Error("what was withdrawn came back to life")
	}
	if _, err := b.WithdrawGrant(t.Context(), b.customer, a.GrantID); err != nil || !b.lives(t, again) {
		t.Errorf("withdrawing the old grant again touched the new one: %v", err)
	}
}

func TestWithdrawGrant_OnlyOnesOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.live(t, "uri", "aac-1")
	for name, c := range map[string]struct{ customer, grant uuid.UUID }{
		"another customer's": {storage.NewID(), a.GrantID},
		"unknown":            {b.customer, storage.NewID()},
		"none":               {b.customer, uuid.Nil},
	} {
		if _, err := b.WithdrawGrant(t.Context(), c.customer, c.grant); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !b.lives(t, a) {
		t.Error("the tokens died")
	}
}

// A double click is no error, and the end does not move.
func TestWithdrawGrant_ManyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.live(t, "uri", "aac-1")
	ends := make([]*storage.Grant, 50)
	errs := atOnce(len(ends), func(i int) (err error) {
		ends[i], err = b.WithdrawGrant(context.Background(), b.customer, a.GrantID)
		return err
	})
	if count(errs, nil) != len(ends) {
		t.Fatal(errs)
	}
	for _, g := range ends {
		if !g.EndedAt.Equal(*ends[0].EndedAt) {
			t.Fatalf("it ended at %v and at %v", g.EndedAt, ends[0].EndedAt)
		}
	}
	if b.lives(t, a) {
		t.Error("a token lives")
	}
}

// A withdrawal and a new approval in any order leave the grants consistent: at most one is live, and tokens live with it.
func TestWithdrawGrant_AgainstApprovals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	last := b.live(t, "first", "aac-1")
	for i := range 20 {
		name := fmt.Sprint("round ", i)
		if err := b.push(t, name, "aac-1"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Open(t.Context(), hash(name), "tpp", b.loginHash); err != nil {
			t.Fatal(err)
		}
		var a *storage.Authorization
		errs := atOnce(2, func(n int) (err error) {
			if n == i%2 {
				a, err = b.approve(t, name, name, "12")
			} else {
				_, err = b.WithdrawGrant(context.Background(), b.customer, last.GrantID)
			}
			return err
		})
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		ended := query[bool](t, b, `SELECT revoked_at IS NOT NULL FROM grants WHERE id = $1`, [16]byte(a.GrantID))
		if ended != (a.GrantID == last.GrantID) {
			t.Fatalf("round %d: grant %v after %v, ended: %v", i, a.GrantID, last.GrantID, ended)
		}
		if _, err := b.redeem(t, name); (err == nil) == ended {
			t.Fatalf("round %d: ended: %v, redeemed: %v", i, ended, err)
		}
		if ended {
			a = b.live(t, name+" again", "aac-1")
		}
		last = a
	}
}

func TestListGrants(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stranger := storage.NewID()
	b.exec(t, `INSERT INTO customers (id, tenant, username_index, profile, password_hash) VALUES ($1, 'default', '\x02', '', '')`, [16]byte(stranger))
	add := func(name, consentStatus, expires, revoked, updated string, customer uuid.UUID) {
		var consent *string
		if consentStatus != "" {
			consent = &name
			b.exec(t, `INSERT INTO consents (id, client_id, type, status, permissions, customer_id, expires_at, status_changed_at)
				VALUES ($1, $1, 'account-access', $2, '{ReadAccountsBasic}', $3, now() + $4::interval, now() - interval '3 hours')`, name, consentStatus, [16]byte(customer), null(expires))
		}
		b.exec(t, `INSERT INTO grants (id, client_id, customer_id, consent_id, scopes, account_ids, revoked_at, updated_at)
			VALUES ($1, $2, $3, $4, '{accounts}', '{12}', now() + $5::interval, now() + $6::interval)`,
			[16]byte(storage.NewID()), name, [16]byte(customer), consent, null(revoked), updated)
	}
	add("older", "", "", "", "-3 hours", b.customer)
	add("newer", storage.Authorised, "1 hour", "", "-1 hour", b.customer)
	add("expired", storage.Authorised, "-2 hours", "", "-9 hours", b.customer)
	add("deleted", storage.Revoked, "", "", "-9 hours", b.customer)
	add("withdrawn", storage.Authorised, "1 hour", "-1 hour", "-9 hours", b.customer)
	add("withdrawn before it expired", storage.Authorised, "-1 hour", "-5 hours", "-9 hours", b.customer)
	add("somebody else's", "", "", "", "-1 hour", stranger)

	grants, accounts, err := b.ListGrants(t.Context(), b.customer)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range grants {
		state := "live"
		if g.EndedAt != nil {
			state = "ended " + time.Since(*g.EndedAt).Round(time.Hour).String()
		}
		got = append(got, g.ClientID+": "+state)
		if g.CustomerID != b.customer || !slices.Equal(g.AccountIDs, []string{"12"}) || !slices.Equal(g.Scopes, []string{"accounts"}) {
			t.Errorf("%s: %+v", g.ClientID, g)
		}
		if (g.Consent == nil) != (g.ClientID == "older") {
			t.Errorf("%s: consent %+v", g.ClientID, g.Consent)
		} else if k := g.Consent; k != nil && (k.ID != g.ClientID || k.ClientID != g.ClientID || k.Permissions[0] != "ReadAccountsBasic" || k.CreatedAt.IsZero()) {
			t.Errorf("%s: consent %+v", g.ClientID, k)
		}
	}
	want := []string{
		"newer: live", "older: live",
		"withdrawn: ended 1h0m0s", "expired: ended 2h0m0s", "deleted: ended 3h0m0s", "withdrawn before it expired: ended 5h0m0s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(accounts) != 1 || accounts[0].Name != "Savings" {
		t.Errorf("accounts %+v", accounts)
	}
	if grants, accounts, err := b.ListGrants(t.Context(), storage.NewID()); err != nil || len(grants)+len(accounts) != 0 {
		t.Errorf("a stranger's list: %v, %v, %v", grants, accounts, err)
	}
}

func null(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// All that last must be there, or they could not be withdrawn; what has ended is bounded.
func TestListGrants_BoundsOnlyTheEnded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO grants (id, client_id, customer_id, scopes, revoked_at)
		SELECT gen_random_uuid(), 'tpp-' || n, $1, '{accounts}', CASE WHEN n % 2 = 0 THEN now() - n * interval '1 minute' END FROM generate_series(1, 200) n`, [16]byte(b.customer))
	grants, _, err := b.ListGrants(t.Context(), b.customer)
	if err != nil {
		t.Fatal(err)
	}
	live := slices.IndexFunc(grants, func(g storage.Grant) bool { return g.EndedAt != nil })
	if live != 100 || len(grants) != 150 || grants[100].ClientID != "tpp-2" || grants[149].ClientID != "tpp-100" {
		t.Errorf("%d live of %d", live, len(grants))
	}
}
