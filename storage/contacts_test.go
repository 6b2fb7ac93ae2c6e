package storage_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/storage/storagetest"
)

func TestPhoneNumber(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"+254 712 345678": "+254712345678", "00254712345678": "+254712345678", "tel:+44-7700-900123": "+447700900123", "+1 (310) 123.4567": "+13101234567",
		"0712345678": "", "254712345678": "", "+0712345678": "", "+12": "", "+1234567890123456": "", "+254712345678;ext=1": "", "+25471234567a": "",
		"alice": "", "": "", "+": "", "＋254712345678": "",
	} {
		if got := storage.PhoneNumber(typed); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}

func add(t *testing.T, db *storage.DB, tenant string, p storage.Profile) uuid.UUID {
	t.Helper()
	n := storage.NewCustomer{ID: storage.NewID(), Tenant: tenant, Username: p.Username, Profile: p}
	if err := db.CreateCustomer(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	return n.ID
}

func names(t *testing.T, found []storage.CustomerRecord, err error) (all string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range found {
		p, err := c.Profile()
		if err != nil {
			t.Fatal(err)
		}
		all += p.Username + " "
	}
	return all
}

func TestFindCustomersByContact(t *testing.T) {
	t.Parallel()
	db, ctx := open(t, storagetest.New(t)), t.Context()
	alice := add(t, db, "default", storage.Profile{Username: "alice", Email: "Family@heron.example", PhoneNumber: "+254 712 345678"})
	add(t, db, "default", storage.Profile{Username: "bob", Email: "family@heron.example", EmailVerified: true})
	add(t, db, "default", storage.Profile{Username: "none"})
	add(t, db, "other", storage.Profile{Username: "carl", Email: "family@heron.example", PhoneNumber: "+254712345678"})
	email := func(address string) string {
		found, err := db.FindCustomersByEmail(ctx, "default", address)
		return names(t, found, err)
	}
	phone := func(number string) string {
		found, err := db.FindCustomersByPhone(ctx, "default", number)
		return names(t, found, err)
	}
	for got, want := range map[string]string{
		email("FAMILY@heron.example") + "|": "alice bob |", email(" family@heron.example ") + "2": "alice bob 2", email("x@heron.example"): "", email(""): "", email("alice"): "",
		phone("00254712345678"): "alice ", phone("0712345678") + "n": "n",
	} {
		if got != want {
			t.Errorf("found %q, want %q", got, want)
		}
	}
	err := db.ChangeProfile(ctx, alice, func(p *storage.Profile) error {
		p.Email, p.Username, p.Attributes = "alice@heron.example", "mallory", map[string]string{"country": "KE"}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := email("family@heron.example") + email("alice@heron.example"); got != "bob alice " {
		t.Errorf("after the change: %q", got)
	}
	refused := errors.New("refused")
	if err := db.ChangeProfile(ctx, alice, func(p *storage.Profile) error { p.Email = ""; return refused }); !errors.Is(err, refused) {
		t.Error(err)
	}
	if email("alice@heron.example") != "alice " {
		t.Error("a change that was refused was made")
	}
	if err := db.ChangeProfile(ctx, storage.NewID(), func(*storage.Profile) error { return nil }); !errors.Is(err, storage.ErrNotFound) {
		t.Error(err)
	}
}

// Rows of a version that knew no indexes are found once IndexContacts has run, by however many replicas.
func TestIndexContacts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 450 {
		add(t, b.DB, "default", storage.Profile{Username: string(rune('a'+i%26)) + string(rune('a'+i/26)), Email: "old@heron.example", EmailVerified: i%2 == 0})
	}
	b.exec(t, `UPDATE customers SET email_index = NULL, email_verified = NULL, phone_verified = NULL`)
	if found, err := b.FindCustomersByEmail(t.Context(), "default", "old@heron.example"); err != nil || len(found) != 0 {
		t.Fatal(len(found), err)
	}
	var together sync.WaitGroup
	for range 3 {
		together.Go(func() {
			if _, err := b.IndexContacts(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	together.Wait()
	var left, verified int
	if err := b.sql.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE email_verified IS NULL OR profile IS NULL), count(*) FILTER (WHERE email_verified AND email_index IS NOT NULL) FROM customers`).Scan(&left, &verified); err != nil || left != 0 || verified != 225 {
		t.Errorf("%d left, %d verified, %v", left, verified, err)
	}
	if n, err := b.IndexContacts(t.Context()); n != 0 || err != nil {
		t.Error(n, err)
	}
}

func TestCustomers_OneFineractClientEach(t *testing.T) {
	t.Parallel()
	db, client := open(t, storagetest.New(t)), int64(7)
	customer := func(name string, most int) storage.NewCustomer {
		return storage.NewCustomer{ID: storage.NewID(), Tenant: "default", Username: name, FineractClientID: &client, MostPerClient: most}
	}
	var mu sync.Mutex
	var made, taken int
	var together sync.WaitGroup
	for i := range 8 {
		together.Go(func() {
			err := db.CreateCustomer(t.Context(), customer("c"+string(rune('0'+i)), 1))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made++
			case errors.Is(err, storage.ErrClientTaken):
				taken++
			default:
				t.Error(err)
			}
		})
	}
	together.Wait()
	if made != 1 || taken != 7 {
		t.Errorf("%d made, %d refused", made, taken)
	}
	for most, want := range map[int]error{1: storage.ErrClientTaken, 2: nil, 0: nil} {
		if most == 0 {
			continue // below, when there are two
		}
		if err := db.CreateCustomer(t.Context(), customer("most"+string(rune('0'+most)), most)); !errors.Is(err, want) {
			t.Errorf("at most %d: %v", most, err)
		}
	}
	if err := db.CreateCustomer(t.Context(), customer("any", 0)); err != nil {
		t.Errorf("any number: %v", err)
	}
	errs, err := db.CreateCustomers(t.Context(), []storage.NewCustomer{customer("x", 1), customer("any", 0), {ID: storage.NewID(), Tenant: "default", Username: "y"}})
	if err != nil || !errors.Is(errs[0], storage.ErrClientTaken) || !errors.Is(errs[1], storage.ErrConflict) || errs[2] != nil {
		t.Error(errs, err)
	}
}

// CIBA Core §7.1: an address is a hint if exactly one customer has shown that it is theirs.
func TestPushBackchannel_ByContact(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, hint string
		others     []storage.Profile
		found      bool
	}{
		{"a verified email address", "Alice@Heron.example", nil, true},
		{"a verified phone number", "tel:+254712345678", nil, true},
		{"the user name", "alice", nil, true},
		{"an email address that others have not shown to be theirs", "alice@heron.example", []storage.Profile{{Username: "x", Email: "alice@heron.example"}}, true},
		{"one that two have", "alice@heron.example", []storage.Profile{{Username: "x", Email: "ALICE@heron.example", EmailVerified: true}}, false},
		{"a number that two have", "+254712345678", []storage.Profile{{Username: "x", PhoneNumber: "+254712345678", PhoneNumberVerified: true}}, false},
		{"one that is another's user name", "alice@heron.example", []storage.Profile{{Username: "alice@heron.example"}}, false},
		{"an email address that nobody has shown to be theirs", "y@heron.example", []storage.Profile{{Username: "x", Email: "y@heron.example"}}, false},
		{"nobody's", "z@heron.example", nil, false},
		{"a national number", "0712345678", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := add(t, b.DB, "default", storage.Profile{Username: "alice", Email: "alice@heron.example", EmailVerified: true, PhoneNumber: "+254712345678", PhoneNumberVerified: true})
			add(t, b.DB, "other", storage.Profile{Username: "alice", Email: "alice@heron.example", EmailVerified: true, PhoneNumber: "+254712345678", PhoneNumberVerified: true})
			for _, p := range c.others {
				add(t, b.DB, "default", p)
			}
			want := storage.ErrUnknownCustomer
			if c.found {
				want = nil
			}
			q := b.askBackchannel(t, "hint", want, func(q *asking) {
				q.Customer = storage.Hinted{Tenant: "default", Username: c.hint, Contact: c.hint}
			})
			if c.found && q.ForCustomer != id {
				t.Errorf("found %v, want %v", q.ForCustomer, id)
			}
		})
	}
}
