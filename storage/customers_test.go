package storage_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/storage/storagetest"
)

// What staff change of a customer is changed, all of it, or nothing is.
func TestChangeCustomer_AllOrNothing(t *testing.T) {
	t.Parallel()
	db, ctx := open(t, storagetest.New(t)), t.Context()
	seven, eight, none := int64(7), int64(8), int64(0)
	alice := add(t, db, "default", storage.Profile{Username: "alice", Name: "Alice"})
	bob := add(t, db, "default", storage.Profile{Username: "bob"})
	if err := db.ChangeCustomer(ctx, bob, storage.CustomerChange{FineractClientID: &seven, MostPerClient: 1}); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	rename := func(p *storage.Profile) error { p.Name, p.Username = "Mallory", "mallory"; return nil }
	for _, c := range []struct {
		name   string
		who    uuid.UUID
		change storage.CustomerChange
		want   error
		is     string // name, client, roles, permissions and events of alice
	}{
		{"a client that is taken", alice, storage.CustomerChange{Profile: rename, FineractClientID: &seven, Roles: []string{"ADMIN"}, Grant: []string{"X"}, MostPerClient: 1}, storage.ErrClientTaken, "Alice 0 [] [] 0"},
		{"a profile that is refused", alice, storage.CustomerChange{Profile: func(p *storage.Profile) error { p.Name = "Mallory"; return refused }, FineractClientID: &eight, Roles: []string{"ADMIN"}}, refused, "Alice 0 [] [] 0"},
		{"nobody", storage.NewID(), storage.CustomerChange{Profile: rename}, storage.ErrNotFound, "Alice 0 [] [] 0"},
		{"all", alice, storage.CustomerChange{Profile: rename, FineractClientID: &eight, Roles: []string{"ADMIN"}, Grant: []string{"Y", "X", "Y"}, MostPerClient: 1}, nil, "Mallory 8 [ADMIN] [X Y] 1"},
		{"her own client again", alice, storage.CustomerChange{FineractClientID: &eight, Revoke: []string{"X", "Z"}, MostPerClient: 1}, nil, "Mallory 8 [ADMIN] [Y] 2"},
		{"a client that may have two", alice, storage.CustomerChange{FineractClientID: &seven, MostPerClient: 2}, nil, "Mallory 7 [ADMIN] [Y] 3"},
		{"no client", alice, storage.CustomerChange{FineractClientID: &none, MostPerClient: 1}, nil, "Mallory 0 [ADMIN] [Y] 4"},
	} {
		if err := db.ChangeCustomer(ctx, c.who, c.change); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if got := known(t, db, alice); got != c.is {
			t.Errorf("%s: %s, want %s", c.name, got, c.is)
		}
	}
}

// known is what staff see of a customer, in a line.
func known(t *testing.T, db *storage.DB, id uuid.UUID) string {
	t.Helper()
	all, err := db.ListCustomers(t.Context(), "default", uuid.Nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	events, err := db.ListEvents(t.Context(), id, nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		if c := &all[i]; c.ID == id {
			p, err := c.Profile()
			if err != nil {
				t.Fatal(err)
			}
			client := int64(0)
			if c.FineractClientID != nil {
				client = *c.FineractClientID
			}
			return fmt.Sprint(p.Name, " ", client, " ", c.Roles, " ", c.Permissions, " ", len(events))
		}
	}
	return "nobody"
}

// An invitation is one customer's: whoever comes too late, or is not who may have it, stays what they were.
func TestInvitations_AreUsedOnce(t *testing.T) {
	t.Parallel()
	db, ctx := open(t, storagetest.New(t)), t.Context()
	lifetime := time.Hour
	invite := func(code string) *storage.Invitation {
		i := &storage.Invitation{ID: storage.NewID(), Tenant: "default", FineractClientID: 7, Invited: storage.Invited{Roles: []string{"USER", "ADMIN"}}}
		i.Invited.SetAccounts([]storage.Account{{ID: "12", Name: "Savings", Number: "000000012", Currency: "KES"}})
		if err := db.CreateInvitation(ctx, i, code, lifetime, nil); err != nil {
			t.Fatal(err)
		}
		return i
	}
	event := storage.Event{Kind: "customer.linked"}
	alice := add(t, db, "default", storage.Profile{Username: "alice", Name: "Alice"})
	gone := add(t, db, "default", storage.Profile{Username: "gone", Name: "Gone"})
	elsewhere := add(t, db, "other", storage.Profile{Username: "alice"})
	if err := db.DisableCustomer(ctx, gone); err != nil {
		t.Fatal(err)
	}
	one, late := invite("ONE"), invite("LATE")
	for name, c := range map[string]struct {
		who  uuid.UUID
		want error
	}{"another tenant's": {elsewhere, storage.ErrNotFound}, "disabled": {gone, storage.ErrClientTaken}, "nobody": {storage.NewID(), storage.ErrClientTaken}} {
		if err := db.LinkInvitation(ctx, one, c.who, 0, event); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c, err := db.FindCustomer(ctx, "other", "alice"); err != nil || c.FineractClientID != nil || len(c.Roles) != 0 {
		t.Errorf("the other tenant's: %+v %v", c, err)
	}
	if err := db.LinkInvitation(ctx, one, alice, 1, event); err != nil || known(t, db, alice) != "Alice 7 [ADMIN USER] [] 1" {
		t.Fatal(err, known(t, db, alice))
	}
	bob := add(t, db, "default", storage.Profile{Username: "bob", Name: "Bob"})
	if err := db.LinkInvitation(ctx, one, bob, 0, event); !errors.Is(err, storage.ErrNotFound) || known(t, db, bob) != "Bob 0 [] [] 0" {
		t.Errorf("used: %v; bob is %s", err, known(t, db, bob))
	}
	client := int64(7)
	carl := storage.NewCustomer{ID: storage.NewID(), Tenant: "default", Username: "carl", FineractClientID: &client}
	if err := db.AcceptInvitation(ctx, one, carl, event); !errors.Is(err, storage.ErrNotFound) || known(t, db, carl.ID) != "nobody" {
		t.Errorf("used: %v; carl is %s", err, known(t, db, carl.ID))
	}
	carl.MostPerClient = 1
	if err := db.AcceptInvitation(ctx, late, carl, event); !errors.Is(err, storage.ErrClientTaken) {
		t.Errorf("a client that is taken: %v", err)
	}
	if _, err := db.FindInvitation(ctx, "default", "LATE"); err != nil {
		t.Errorf("what was refused has used it up: %v", err)
	}
	if list, err := db.ListAccounts(ctx, bob); err != nil || len(list) != 0 {
		t.Errorf("bob has %v %v", list, err)
	}
	for _, c := range []struct {
		most int
		want error
		is   string
	}{{1, storage.ErrClientTaken, "Bob 0 [] [] 0"}, {2, nil, "Bob 7 [ADMIN USER] [] 1"}} {
		if err := db.LinkInvitation(ctx, late, bob, c.most, event); !errors.Is(err, c.want) || known(t, db, bob) != c.is {
			t.Errorf("at most %d: %v; bob is %s", c.most, err, known(t, db, bob))
		}
	}
	third := add(t, db, "default", storage.Profile{Username: "dora", Name: "Dora"})
	if err := db.LinkInvitation(ctx, invite("THIRD"), third, 2, event); !errors.Is(err, storage.ErrClientTaken) {
		t.Errorf("a third of two: %v", err)
	}
	if err := db.LinkInvitation(ctx, invite("ANY"), third, 0, event); err != nil {
		t.Errorf("any number: %v", err)
	}
	lifetime = -time.Second // as if it had expired after it was found
	expired, erin := invite("EXPIRED"), storage.NewCustomer{ID: storage.NewID(), Tenant: "default", Username: "erin"}
	if err := db.AcceptInvitation(ctx, expired, erin, event); !errors.Is(err, storage.ErrNotFound) || known(t, db, erin.ID) != "nobody" {
		t.Errorf("expired: %v; erin is %s", err, known(t, db, erin.ID))
	}
	if err := db.LinkInvitation(ctx, expired, third, 0, event); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("expired: %v", err)
	}
	for _, wrong := range [][2]string{{"other", "THIRD"}, {"default", "EXPIRED"}, {"default", "ONE"}, {"default", "third"}, {"default", ""}} {
		if _, err := db.FindInvitation(ctx, wrong[0], wrong[1]); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%v: %v", wrong, err)
		}
	}
}

// A sign-up whose code was replaced meanwhile makes nobody; one whose name was taken meanwhile is still there.
func TestSignUps_MakeOneCustomer(t *testing.T) {
	t.Parallel()
	db, ctx := open(t, storagetest.New(t)), t.Context()
	limits := storage.SignUpLimits{Lifetime: time.Hour, CodeLifetime: time.Minute, PerHour: 3}
	message := storage.Message{Channel: "email", To: "bob@heron.example", ExpiresAt: time.Now().Add(time.Minute)}
	s := storage.SignUp{Hash: []byte("hash of a cookie"), Tenant: "default", Code: "111111", Applicant: storage.Applicant{Profile: storage.Profile{Username: "bob", Email: "bob@heron.example"}, PasswordHash: "h"}}
	if err := db.BeginSignUp(ctx, s, limits, message); err != nil {
		t.Fatal(err)
	}
	old, err := db.TrySignUp(ctx, s.Hash, 5)
	if err != nil || old.Code != "111111" || old.Applicant.Profile.Username != "bob" {
		t.Fatal(old, err)
	}
	s.Code = "222222"
	if err := db.ResendSignUp(ctx, s, limits, message); err != nil {
		t.Fatal(err)
	}
	bob := storage.NewCustomer{ID: storage.NewID(), Tenant: "default", Username: "bob", Profile: s.Applicant.Profile}
	event := storage.Event{Kind: "customer.signed_up"}
	if err := db.FinishSignUp(ctx, old, bob, event); !errors.Is(err, storage.ErrNotFound) || known(t, db, bob.ID) != "nobody" {
		t.Errorf("an older code: %v; bob is %s", err, known(t, db, bob.ID))
	}
	now, err := db.TrySignUp(ctx, s.Hash, 5)
	if err != nil || now.Code != "222222" {
		t.Fatal(now, err)
	}
	add(t, db, "default", storage.Profile{Username: "carl"})
	taken := bob
	taken.Username = "carl"
	if err := db.FinishSignUp(ctx, now, taken, event); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("a name that is taken: %v", err)
	}
	if err := db.FinishSignUp(ctx, now, bob, event); err != nil || known(t, db, bob.ID) != " 0 [] [] 1" {
		t.Errorf("%v; bob is %s", err, known(t, db, bob.ID))
	}
	if _, err := db.FindSignUp(ctx, s.Hash); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("it is still there: %v", err)
	}
}
