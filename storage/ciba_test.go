package storage_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

// asking is a CIBA request for the bundle's customer, which change alters.
type asking struct {
	storage.Authorization
	storage.Backchannel
	uses []storage.Use
}

func (b *bundle) asking(code string, change func(*asking)) *asking {
	q := &asking{
		Authorization: storage.Authorization{ID: storage.NewID(), ClientID: "tpp", Request: []byte(`{}`), Scopes: []string{"openid"}, RequestURIHash: hash("uri " + code)},
		Backchannel: storage.Backchannel{
			Polling:  storage.Polling{CodeHash: hash(code), Lifetime: tenMinutes, Interval: 5 * time.Second},
			Customer: storage.Hinted{Tenant: "default", ID: b.customer}, MaxOpen: 3, CodeLimit: storage.CodeLimit{Failures: 3, Window: tenMinutes},
		},
	}
	if change != nil {
		change(q)
	}
	return q
}

func (q *asking) at(t *testing.T, db *storage.DB) error {
	t.Helper()
	return db.PushBackchannel(t.Context(), q.uses, &q.Authorization, q.Backchannel)
}

// askBackchannel makes a request and fails the test unless that ends with this error.
func (b *bundle) askBackchannel(t *testing.T, code string, want error, change func(*asking)) *asking {
	t.Helper()
	q := b.asking(code, change)
	if err := q.at(t, b.DB); !errors.Is(err, want) {
		t.Fatalf("%s: %v, want %v", code, err, want)
	}
	return q
}

func withCode(code string) func(*asking) {
	return func(q *asking) { q.AsksCode, q.UserCode = true, code }
}

func (b *bundle) count(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	if err := b.sql.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Why nobody is asked, and in which order that is found out (CIBA Core §13).
func TestPushBackchannel_Verdicts(t *testing.T) {
	t.Parallel()
	mute := func(t *testing.T, b *bundle) {
		b.exec(t, `INSERT INTO muted_clients (customer_id, client_id, until) VALUES ($1, 'tpp', now() + interval '1 hour')`, [16]byte(b.customer))
	}
	code := func(t *testing.T, b *bundle) {
		if err := b.SetUserCode(t.Context(), b.customer, "1234"); err != nil {
			t.Fatal(err)
		}
	}
	full := func(t *testing.T, b *bundle) {
		for i := range 3 {
			b.askBackchannel(t, fmt.Sprint("open", i), nil, nil)
		}
	}
	all := func(steps ...func(*testing.T, *bundle)) func(*testing.T, *bundle) {
		return func(t *testing.T, b *bundle) {
			for _, step := range steps {
				step(t, b)
			}
		}
	}
	disable := func(t *testing.T, b *bundle) { b.exec(t, `UPDATE customers SET disabled_at = now()`) }
	consent := func(q *asking) { q.ConsentID = "aac-1" }
	for _, test := range []struct {
		name   string
		before func(*testing.T, *bundle)
		change func(*asking)
		want   error
	}{
		{"found by the id", nil, nil, nil},
		{"an unknown id", nil, func(q *asking) { q.Customer.ID = storage.NewID() }, storage.ErrUnknownCustomer},
		{"an unknown name", nil, func(q *asking) { q.Customer = storage.Hinted{Tenant: "default", Username: "nobody"} }, storage.ErrUnknownCustomer},
		{"another tenant", nil, func(q *asking) { q.Customer.Tenant = "other" }, storage.ErrUnknownCustomer},
		{"disabled, which looks the same", disable, nil, storage.ErrUnknownCustomer},
		{"disabled, muted, with a wrong user code", all(disable, mute, code), withCode("0"), storage.ErrUnknownCustomer},
		{"the right user code", code, withCode("1234"), nil},
		{"a wrong one", code, withCode("4321"), storage.ErrWrongUserCode},
		{"a missing one", code, withCode(""), storage.ErrNoUserCode},
		{"one of a customer who has none", nil, withCode("1234"), storage.ErrWrongUserCode},
		{"none of a customer who has none", nil, withCode(""), nil},
		{"one that was taken back", all(code, func(t *testing.T, b *bundle) {
			if err := b.SetUserCode(t.Context(), b.customer, ""); err != nil {
				t.Fatal(err)
			}
		}), withCode(""), nil},
		{"a client that never asks for it", code, nil, nil},
		{"muted", mute, nil, storage.ErrMuted},
		{"another client is muted", mute, func(q *asking) { q.ClientID = "other" }, nil},
		{"muted until just now", func(t *testing.T, b *bundle) { mute(t, b); b.exec(t, `UPDATE muted_clients SET until = now()`) }, nil, nil},
		{"muted and a wrong user code: only the second is told", all(mute, code), withCode("0"), storage.ErrWrongUserCode},
		{"muted and no user code: only the second is told", all(mute, code), withCode(""), storage.ErrNoUserCode},
		{"muted and the right user code", all(mute, code), withCode("1234"), storage.ErrMuted},
		{"as many as may be open", full, nil, storage.ErrTooManyOpen},
		{"as many as may be open, of another client", full, func(q *asking) { q.ClientID = "other" }, storage.ErrTooManyOpen},
		{"as many, and a wrong user code", all(full, code), withCode("0"), storage.ErrWrongUserCode},
		{"as many, one of which has expired", all(full, func(t *testing.T, b *bundle) {
			b.exec(t, `UPDATE authorizations SET expires_at = now() WHERE code_hash = $1`, hash("open1"))
		}), nil, nil},
		{"as many, one of which is decided", all(full, func(t *testing.T, b *bundle) {
			if _, err := b.Deny(t.Context(), hash("uri open1"), "tpp", b.loginHash); err != nil {
				t.Fatal(err)
			}
		}), nil, nil},
		{"a consent", nil, consent, nil},
		{"another client's consent", nil, func(q *asking) { consent(q); q.ClientID = "other" }, storage.ErrNotFound},
		{"a consent that there is not", nil, func(q *asking) { q.ConsentID = "aac-0" }, storage.ErrNotFound},
		{"a consent that was given back", func(t *testing.T, b *bundle) { b.exec(t, `UPDATE consents SET status = 'Revoked'`) }, consent, storage.ErrNotFound},
		{"a consent of this customer", func(t *testing.T, b *bundle) { b.exec(t, `UPDATE consents SET customer_id = $1`, [16]byte(b.customer)) }, consent, nil},
		{"a consent of another customer", func(t *testing.T, b *bundle) {
			bob := storage.NewID()
			b.exec(t, `INSERT INTO customers (id, tenant, username_index, profile, password_hash, roles) VALUES ($1, 'default', '\x02', '', '', '{}')`, [16]byte(bob))
			b.exec(t, `UPDATE consents SET customer_id = $1`, [16]byte(bob))
		}, consent, storage.ErrNotFound},
		{"CIBA-08: a consent that the customer is being asked about", func(t *testing.T, b *bundle) { b.askBackchannel(t, "first", nil, consent) }, consent, storage.ErrBeingAsked},
		{"CIBA-08: after that has expired", func(t *testing.T, b *bundle) {
			b.askBackchannel(t, "first", nil, consent)
			b.exec(t, `UPDATE authorizations SET expires_at = now()`)
		}, consent, nil},
		{"a grant that there is not", nil, func(q *asking) { q.GrantAction, q.GrantID = storage.Merge, storage.NewID() }, storage.ErrNotFound},
		{"a replay", func(t *testing.T, b *bundle) {
			if err := b.Use(t.Context(), use("jti")); err != nil {
				t.Fatal(err)
			}
		}, func(q *asking) { q.uses = []storage.Use{use("new"), use("jti")} }, storage.ErrAlreadyUsed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if test.before != nil {
				test.before(t, b)
			}
			open := b.count(t, `SELECT count(*) FROM notifications`)
			q := b.askBackchannel(t, "code", test.want, func(q *asking) {
				q.uses, q.Notify = []storage.Use{use("used")}, true
				if test.change != nil {
					test.change(q)
				}
			})
			told := b.count(t, `SELECT count(*) FROM notifications`) - open
			if test.want == nil && (told != 2 || q.ForCustomer != b.customer || q.CreatedAt.IsZero()) || test.want != nil && told != 0 {
				t.Errorf("%d notifications; customer %v, created at %v", told, q.ForCustomer, q.CreatedAt)
			}
			if stored := b.count(t, `SELECT count(*) FROM authorizations WHERE code_hash = $1`, hash("code")); (stored == 1) != (test.want == nil) {
				t.Errorf("%d stored", stored)
			}
			used := errors.Is(b.Use(t.Context(), use("used")), storage.ErrAlreadyUsed)
			if used == errors.Is(test.want, storage.ErrAlreadyUsed) {
				t.Errorf("the identifier of a refused request is used: %v", used)
			}
		})
	}
}

// CIBA Core §7.1: after so many wrong user codes none is right, for a while; a right one before that ends the counting.
func TestPushBackchannel_WrongUserCodes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	set := func(code string) {
		t.Helper()
		if err := b.SetUserCode(t.Context(), b.customer, code); err != nil {
			t.Fatal(err)
		}
	}
	set("1234")
	n := 0
	try := func(code string, want error) {
		t.Helper()
		n++
		b.askBackchannel(t, fmt.Sprint("try", n), want, func(q *asking) { withCode(code)(q); q.MaxOpen = 100 })
	}
	wrong := func(times int) {
		t.Helper()
		for range times {
			try("0000", storage.ErrWrongUserCode)
		}
	}
	wrong(2)
	try("1234", nil)
	wrong(2)
	try("", storage.ErrNoUserCode) // is none
	try("1234", nil)
	wrong(3)
	try("1234", storage.ErrWrongUserCode)
	b.exec(t, `UPDATE customers SET user_code_failed_at = user_code_failed_at - interval '9 minutes'`)
	wrong(1) // is not counted: else it could be kept up for ever
	b.exec(t, `UPDATE customers SET user_code_failed_at = user_code_failed_at - interval '1 minute'`)
	try("1234", nil)
	wrong(2)
	b.exec(t, `UPDATE customers SET user_code_failed_at = user_code_failed_at - interval '10 minutes'`)
	wrong(2) // the first two are too old to count
	try("1234", nil)
	wrong(3)
	set("987654")
	try("1234", storage.ErrWrongUserCode)
	try("987654", nil)
	if n := b.count(t, `SELECT count(*) FROM customers WHERE position('987654'::bytea IN user_code_hash) > 0 OR user_code_hash = sha256('987654'::bytea)`); n != 0 {
		t.Error("the user code is to be read from the database")
	}
	if err := b.SetUserCode(t.Context(), storage.NewID(), "1"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("of nobody: %v", err)
	}
}

// A client guesses one code at many customers: each has seen few wrong ones, the client has seen them all. Other clients are not
// held back, nor are requests of its own without a code.
func TestPushBackchannel_UserCodesAcrossCustomers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.SetUserCode(t.Context(), b.customer, "1234"); err != nil {
		t.Fatal(err)
	}
	n := 0
	try := func(client, code string, want error) {
		t.Helper()
		n++
		b.askBackchannel(t, fmt.Sprint("try", n), want, func(q *asking) {
			withCode(code)(q)
			q.ClientID, q.MaxOpen = client, 100
			q.Guesses = storage.Bucket{Key: []byte(client), Limit: storage.Limit{Free: 5, First: time.Minute, Most: time.Hour, Forget: time.Hour}}
		})
	}
	for range 4 {
		try("tpp", "0000", storage.ErrWrongUserCode)
		try("tpp", "1234", nil) // right ones neither count nor forgive
	}
	b.exec(t, `UPDATE customers SET user_code_failures = 0`) // as if each had been another customer's
	try("tpp", "0000", storage.ErrWrongUserCode)
	b.exec(t, `UPDATE customers SET user_code_failures = 0`)
	try("tpp", "1234", storage.ErrWrongUserCode)
	try("tpp", "0000", storage.ErrWrongUserCode)
	if n := b.count(t, `SELECT user_code_failures FROM customers`); n != 0 {
		t.Errorf("what got no verdict counts against the customer: %d", n)
	}
	try("other", "1234", nil)
	b.askBackchannel(t, "without", nil, func(q *asking) { q.MaxOpen, q.Guesses.Key = 100, []byte("tpp") })
	b.exec(t, `UPDATE limits SET blocked_until = now()`)
	try("tpp", "1234", nil)
}

// Fifty at once, on two pools: what is limited is limited.
func TestPushBackchannel_AtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	pools := []*storage.DB{b.DB, open(t, b.dsn)}
	volley := func(change func(int, *asking)) map[error]int {
		outcomes := map[error]int{}
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range 50 {
			q := b.asking(storage.NewID().String(), func(q *asking) { change(i, q) })
			all.Go(func() {
				err := q.at(t, pools[i%2])
				mu.Lock()
				defer mu.Unlock()
				outcomes[err]++
			})
		}
		all.Wait()
		return outcomes
	}
	clear := func() { b.exec(t, `DELETE FROM authorizations`) }

	if got := volley(func(i int, q *asking) { q.ClientID = fmt.Sprint("client", i%7) }); got[nil] != 3 || got[storage.ErrTooManyOpen] != 47 {
		t.Errorf("requests for one customer: %v", got)
	}
	clear()
	if got := volley(func(_ int, q *asking) { q.ConsentID = "aac-1" }); got[nil] != 1 || got[storage.ErrBeingAsked] != 49 {
		t.Errorf("requests about one consent: %v", got)
	}
	clear()
	if err := b.SetUserCode(t.Context(), b.customer, "0049"); err != nil {
		t.Fatal(err)
	}
	// One of fifty is right. It is found if it is among those that are judged, the first four; the other ones change nothing.
	got := volley(func(i int, q *asking) { withCode(fmt.Sprintf("%04d", i))(q) })
	failures := b.count(t, `SELECT user_code_failures FROM customers`)
	if got[nil]+got[storage.ErrWrongUserCode] != 50 || got[nil] > 1 || got[nil] == 0 && failures != 3 || failures > 3 {
		t.Errorf("guesses: %v, %d counted", got, failures)
	}
	clear()
	b.exec(t, `UPDATE customers SET user_code_failures = 0`)
	// All guess wrong, then one is right: it comes too late.
	volley(func(_ int, q *asking) { withCode("9999")(q) })
	if n := b.count(t, `SELECT user_code_failures FROM customers`); n != 3 {
		t.Errorf("%d of 50 wrong codes at once were judged, not 3", n)
	}
	b.askBackchannel(t, "late", storage.ErrWrongUserCode, withCode("0049"))
}

// A request that nobody decides ends, is told to its client, and goes.
func TestPushBackchannel_Expiry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := b.askBackchannel(t, "code", nil, func(q *asking) { q.Notify = true })
	due := func() int {
		return b.count(t, `SELECT count(*) FROM notifications WHERE id = $1 AND due_at <= now()`, [16]byte(q.Authorization.ID))
	}
	if due() != 0 {
		t.Error("the client is told before anything is decided")
	}
	if _, err := b.poll(t, "code", "tpp"); !errors.Is(err, storage.ErrPending) {
		t.Error(err)
	}
	age := func(by string) {
		b.later(t, "code", by)
		b.exec(t, `UPDATE notifications SET due_at = due_at - $1::text::interval`, by)
	}
	age("601 seconds")
	if due() != 1 {
		t.Error("the client is not told that nothing was decided")
	}
	for _, decide := range []func() error{
		func() error {
			_, err := b.Approve(t.Context(), storage.Approval{RequestURIHash: hash("uri code"), ClientID: "tpp", LoginHash: b.loginHash, CodeHash: hash("x"), CodeLifetime: time.Minute})
			return err
		},
		func() error { _, err := b.Deny(t.Context(), hash("uri code"), "tpp", b.loginHash); return err },
		func() error { _, err := b.Open(t.Context(), hash("uri code"), "tpp", b.loginHash); return err },
	} {
		if err := decide(); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("after its end: %v", err)
		}
	}
	for range 2 {
		if _, err := b.poll(t, "code", "tpp"); !errors.Is(err, storage.ErrExpired) {
			t.Error(err)
		}
	}
	if n := b.count(t, `SELECT count(*) FROM authorizations WHERE status = 'expired'`); n != 1 {
		t.Error("the end is not written down")
	}
	purge := func(want int) {
		t.Helper()
		if _, err := b.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := b.count(t, `SELECT count(*) FROM authorizations`); n != want {
			t.Errorf("%d left after a purge, want %d", n, want)
		}
	}
	purge(1) // its client may still ask, and be told
	age("1 hour")
	purge(0)
}

// What is about a customer goes with them; nobody else's does.
func TestPushBackchannel_CustomerDeleted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bob := storage.NewID()
	b.exec(t, `INSERT INTO customers (id, tenant, username_index, profile, password_hash, roles) VALUES ($1, 'default', '\x02', '', '', '{}')`, [16]byte(bob))
	b.askBackchannel(t, "alice's", nil, nil)
	b.askBackchannel(t, "bob's", nil, func(q *asking) { q.Customer.ID = bob })
	b.exec(t, `INSERT INTO muted_clients (customer_id, client_id, until) VALUES ($1, 'other', now())`, [16]byte(b.customer))
	b.exec(t, `DELETE FROM customers WHERE id = $1`, [16]byte(b.customer))
	if n := b.count(t, `SELECT count(*) FROM authorizations`) + b.count(t, `SELECT count(*) FROM muted_clients`); n != 1 {
		t.Errorf("%d rows left", n)
	}
	if _, err := b.poll(t, "alice's", "tpp"); !errors.Is(err, storage.ErrNotFound) {
		t.Error(err)
	}
	if _, err := b.poll(t, "bob's", "tpp"); !errors.Is(err, storage.ErrPending) {
		t.Error(err)
	}
}

// Only whom it is for may decide, and their decision tells the client at once.
func TestPushBackchannel_Decision(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bob := storage.NewID()
	b.exec(t, `INSERT INTO customers (id, tenant, username_index, profile, password_hash, roles) VALUES ($1, 'default', '\x02', '', '', '{}')`, [16]byte(bob))
	b.exec(t, `INSERT INTO logins (hash, customer_id, auth_time, acr, amr, expires_at) VALUES ($1, $2, now(), 'urn:openbanking:psd2:sca', '{pwd}', now() + interval '1 hour')`, hash("bob"), [16]byte(bob))
	approve := func(code string, login []byte) error {
		_, err := b.Approve(t.Context(), storage.Approval{RequestURIHash: hash("uri " + code), ClientID: "tpp", LoginHash: login, CodeHash: hash("x"), CodeLifetime: time.Minute, TokenLifetime: time.Minute})
		return err
	}
	deny := func(code string, login []byte) error {
		_, err := b.Deny(t.Context(), hash("uri "+code), "tpp", login)
		return err
	}
	due := func(id uuid.UUID) int {
		return b.count(t, `SELECT count(*) FROM notifications WHERE id = $1 AND due_at <= now()`, [16]byte(id))
	}
	for name, decide := range map[string]func(string, []byte) error{"approve": approve, "deny": deny} {
		q := b.askBackchannel(t, name, nil, func(q *asking) { q.Notify = true })
		if err := decide(name, hash("bob")); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s by somebody else: %v", name, err)
		}
		if due(q.Authorization.ID) != 0 {
			t.Errorf("%s by somebody else is told", name)
		}
		if err := decide(name, b.loginHash); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if due(q.Authorization.ID) != 1 {
			t.Errorf("%s is not told", name)
		}
	}
	if _, err := b.poll(t, "approve", "other"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("another client: %v", err)
	}
	live, err := b.poll(t, "approve", "tpp")
	if err != nil || live.CustomerID != b.customer {
		t.Errorf("%+v, %v", live, err)
	}
}
