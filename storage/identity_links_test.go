package storage_test

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/storage"
)

// An identity is tenant, issuer and subject, and one customer's.
func TestIdentityLinks_AreOneCustomers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const issuer = "https://meadow.example"
	link := func(tenant, issuer, subject string, of storage.Profile) error {
		return b.AddIdentityLink(t.Context(), tenant, add(t, b.DB, tenant, of), "meadow", storage.LinkDisplay{Issuer: issuer, Subject: subject}, storage.Visit{}, nil)
	}
	if err := b.AddIdentityLink(t.Context(), "default", b.customer, "meadow", storage.LinkDisplay{Issuer: issuer, Subject: "a"}, storage.Visit{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := link("default", issuer, "a", storage.Profile{Username: "bob"}); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("another customer: %v", err)
	}
	if err := b.AddIdentityLink(t.Context(), "default", b.customer, "meadow", storage.LinkDisplay{Issuer: issuer, Subject: "a"}, storage.Visit{}, nil); err != nil {
		t.Errorf("the same customer again: %v", err)
	}
	if list, err := b.ListIdentityLinks(t.Context(), b.customer); err != nil || len(list) != 1 {
		t.Errorf("%v %v", list, err)
	}
	if err := link("other", issuer, "a", storage.Profile{Username: "alice"}); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	for _, test := range []struct {
		tenant, issuer, subject string
		found                   bool
	}{{"default", issuer, "a", true}, {"default", issuer, "A", false}, {"default", issuer + "/", "a", false}, {"third", issuer, "a", false}} {
		c, err := b.UseIdentityLink(t.Context(), test.tenant, test.issuer, test.subject)
		if test.found && (err != nil || c.CustomerID != b.customer) || !test.found && !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%+v: %+v %v", test, c, err)
		}
	}
	// Of many who want the same at once one gets it.
	var won atomic.Int64
	var group sync.WaitGroup
	for _, name := range []string{"c1", "c2", "c3", "c4", "c5"} {
		id := add(t, b.DB, "default", storage.Profile{Username: name})
		group.Go(func() {
			err := b.AddIdentityLink(t.Context(), "default", id, "meadow", storage.LinkDisplay{Issuer: issuer, Subject: "b"}, storage.Visit{}, nil)
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, storage.ErrConflict) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d customers got the same identity", won.Load())
	}
}

// What a browser comes back for is sealed, taken once, and gone after its time.
func TestIdentityVisits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	save := func(name string, content string, lifetime time.Duration) {
		t.Helper()
		if err := b.SaveIdentityVisit(t.Context(), hash(name), map[string]string{"verifier": content}, lifetime); err != nil {
			t.Fatal(err)
		}
	}
	save("x", "a long secret", time.Minute)
	save("old", "a long secret", -time.Second)
	var sealed []byte
	if err := b.sql.QueryRow(t.Context(), "SELECT content FROM identity_visits WHERE hash = $1", hash("x")).Scan(&sealed); err != nil || bytes.Contains(sealed, []byte("secret")) {
		t.Errorf("%q %v", sealed, err)
	}
	got := map[string]string{}
	for _, name := range []string{"old", "unknown"} {
		if err := b.TakeIdentityVisit(t.Context(), hash(name), &got); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if err := b.FindIdentityVisit(t.Context(), hash(name), &got); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.FindIdentityVisit(t.Context(), hash("x"), &got); err != nil || got["verifier"] != "a long secret" {
		t.Errorf("%v %v", got, err)
	}
	var taken atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if b.TakeIdentityVisit(t.Context(), hash("x"), &map[string]string{}) == nil {
				taken.Add(1)
			}
		})
	}
	group.Wait()
	if taken.Load() != 1 {
		t.Errorf("taken %d times", taken.Load())
	}
	// A row that was moved to another browser's hash does not open.
	save("mine", "a", time.Minute)
	b.exec(t, "UPDATE identity_visits SET hash = $1 WHERE hash = $2", hash("theirs"), hash("mine"))
	if err := b.FindIdentityVisit(t.Context(), hash("theirs"), &got); err == nil {
		t.Error("a row of another browser's opens")
	}
	var left int
	if _, err := b.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.sql.QueryRow(t.Context(), "SELECT count(*) FROM identity_visits").Scan(&left); err != nil || left != 1 {
		t.Errorf("%d rows after the purge, %v", left, err)
	}
}
