package storage_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/storage"
)

const tenMinutes = 10 * time.Minute

// pushPolled begins a request that the client polls for, as device codes and CIBA do.
func (b *bundle) pushPolled(t *testing.T, code, userCode string, uses ...storage.Use) (uuid.UUID, error) {
	t.Helper()
	id := storage.NewID()
	var user []byte
	if userCode != "" {
		user = hash(userCode)
	}
	return id, b.PushPolled(t.Context(), uses, &storage.Authorization{
		ID: id, ClientID: "tpp", Request: []byte(`{"user_code":"X"}`), Scopes: []string{"accounts"},
	}, storage.Polling{CodeHash: hash(code), UserCodeHash: user, Lifetime: tenMinutes, Interval: 5 * time.Second})
}

func (b *bundle) polled(t *testing.T, code, userCode string) uuid.UUID {
	t.Helper()
	id, err := b.pushPolled(t, code, userCode)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (b *bundle) poll(t *testing.T, code, client string) (*storage.Live, error) {
	t.Helper()
	return b.Poll(t.Context(), nil, hash(code), client, time.Hour)
}

// later lets time pass for one request.
func (b *bundle) later(t *testing.T, code, by string) {
	t.Helper()
	b.exec(t, `UPDATE authorizations SET last_polled_at = last_polled_at - $2::text::interval, expires_at = expires_at - $2::text::interval,
		code_expires_at = code_expires_at - $2::text::interval, redeemed_at = redeemed_at - $2::text::interval WHERE code_hash = $1`, hash(code), by)
}

func (b *bundle) guess(t *testing.T, userCode, uri, source string) (string, error) {
	t.Helper()
	return b.EnterUserCode(t.Context(), storage.Guess{
		UserCodeHash: hash(userCode), RequestURIHash: hash(uri), Source: hash(source), Window: tenMinutes, PerSource: 3, Together: 5,
	})
}

func (b *bundle) enter(t *testing.T, userCode, uri string) {
	t.Helper()
	if client, err := b.guess(t, userCode, uri, "home"); err != nil || client != "tpp" {
		t.Fatalf("%q, %v", client, err)
	}
	if _, err := b.Open(t.Context(), hash(uri), "tpp", b.loginHash); err != nil {
		t.Fatal(err)
	}
}

// RFC 8628 §3.5, step by step.
func TestPoll(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		do   func(*testing.T, *bundle) // after a request "code" with the user code "user" was begun
		want []error                   // of one poll after the other, at once
	}{
		{"pending, and asked too soon", func(*testing.T, *bundle) {}, []error{storage.ErrPending, storage.ErrTooEarly, storage.ErrTooEarly}},
		{"pending, entered", func(t *testing.T, b *bundle) { b.enter(t, "user", "uri") }, []error{storage.ErrPending}},
		{"slower from then on", func(t *testing.T, b *bundle) {
			for _, step := range []struct {
				after string
				want  error
			}{{"0", storage.ErrPending}, {"4.4 seconds", storage.ErrTooEarly}, {"5 seconds", storage.ErrTooEarly}, {"14.6 seconds", storage.ErrPending}} {
				b.later(t, "code", step.after)
				if _, err := b.poll(t, "code", "tpp"); !errors.Is(err, step.want) {
					t.Errorf("after %s: %v, want %v", step.after, err, step.want)
				}
			}
			b.later(t, "code", "15 seconds")
		}, []error{storage.ErrPending}},
		{"expired", func(t *testing.T, b *bundle) { b.later(t, "code", "601 seconds") }, []error{storage.ErrExpired, storage.ErrExpired}},
		{"denied", func(t *testing.T, b *bundle) {
			b.enter(t, "user", "uri")
			if _, err := b.Deny(t.Context(), hash("uri"), "tpp", b.loginHash); err != nil {
				t.Fatal(err)
			}
		}, []error{storage.ErrDenied, storage.ErrDenied}},
		{"approved, once", func(t *testing.T, b *bundle) { b.approveEntered(t) }, []error{nil, storage.ErrNotFound}},
		{"approved, asked too soon", func(t *testing.T, b *bundle) {
			b.poll(t, "code", "tpp")
			b.approveEntered(t)
		}, []error{nil}},
		{"approved, fetched too late", func(t *testing.T, b *bundle) {
			b.approveEntered(t)
			b.later(t, "code", "601 seconds")
		}, []error{storage.ErrExpired}},
		{"approved, fetched a minute after", func(t *testing.T, b *bundle) { // longer than codes of redirects live
			b.approveEntered(t)
			b.later(t, "code", "120 seconds")
		}, []error{nil}},
		{"approved, withdrawn", func(t *testing.T, b *bundle) {
			b.approveEntered(t)
			b.exec(t, "UPDATE grants SET revoked_at = now()")
		}, []error{storage.ErrNotFound}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.polled(t, "code", "user")
			test.do(t, b)
			for i, want := range test.want {
				if live, err := b.poll(t, "code", "tpp"); !errors.Is(err, want) || (err == nil) != (live != nil) {
					t.Errorf("poll %d: %v, want %v", i, err, want)
				}
			}
			if _, err := b.poll(t, "code", "other"); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("another client's poll: %v", err)
			}
			if _, err := b.poll(t, "unknown", "tpp"); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("unknown: %v", err)
			}
		})
	}
}

func (b *bundle) approveEntered(t *testing.T) {
	t.Helper()
	b.enter(t, "user", "uri")
	if _, err := b.approve(t, "uri", "not taken", "12"); err != nil {
		t.Fatal(err)
	}
}

// A code of the browser's is not polled, and what is polled is not redeemed as one.
func TestPoll_IsNotRedemption(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.approved(t, "browser", "", "code of a redirect")
	if _, err := b.poll(t, "code of a redirect", "tpp"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("an authorization code was polled: %v", err)
	}
	b.polled(t, "code", "user")
	b.approveEntered(t)
	if _, err := b.Redeem(t.Context(), nil, hash("code"), "tpp", time.Hour); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a device_code was redeemed as an authorization code: %v", err)
	}
	if _, err := b.poll(t, "code", "tpp"); err != nil {
		t.Errorf("and is spent by it: %v", err)
	}
}

// A device_code that is used again ends the tokens, like a code (RFC 6749 §4.1.2).
func TestPoll_ReuseEndsTheTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.polled(t, "code", "user")
	b.approveEntered(t)
	if _, err := b.poll(t, "code", "tpp"); err != nil {
		t.Fatal(err)
	}
	b.poll(t, "code", "tpp") // at once: a retry
	if _, err := b.LoadLive(t.Context(), nil, id, "tpp", "jti"); err != nil {
		t.Errorf("a retry ended the tokens: %v", err)
	}
	b.later(t, "code", "1 second")
	b.poll(t, "code", "tpp")
	if _, err := b.LoadLive(t.Context(), nil, id, "tpp", "jti"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the tokens live on: %v", err)
	}
}

// An approval that is being written while the client asks: the poll sees the decision, but not the grant that came with
// it. It must neither fail nor spend the code.
func TestPoll_MeetsTheApproval(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.polled(t, "code", "user")
	b.enter(t, "user", "uri")
	tx, err := b.sql.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	grant := [16]byte(storage.NewID())
	for _, step := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO grants (id, client_id, customer_id, scopes) VALUES ($1, 'tpp', $2, '{accounts}')`, []any{grant, [16]byte(b.customer)}},
		{`UPDATE authorizations SET status = 'approved', decided_at = now(), grant_id = $1, customer_id = $2, auth_time = now(), acr = 'x', amr = '{}'
			WHERE code_hash = $3`, []any{grant, [16]byte(b.customer), hash("code")}},
	} {
		if _, err := tx.Exec(t.Context(), step.sql, step.args...); err != nil {
			t.Fatal(err)
		}
	}
	outcome := make(chan error, 1)
	go func() {
		_, err := b.Poll(t.Context(), nil, hash("code"), "tpp", time.Hour)
		outcome <- err
	}()
	b.waiting(t, tx, 1)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-outcome; !errors.Is(err, storage.ErrPending) {
		t.Errorf("the poll that waited: %v", err)
	}
	if _, err := b.poll(t, "code", "tpp"); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// Of fifty polls of an approved request, one gets the tokens.
func TestPoll_Race(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.polled(t, "code", "user")
	b.approveEntered(t)
	var won, lost int
	var mu sync.Mutex
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			_, err := b.Poll(t.Context(), nil, hash("code"), "tpp", time.Hour)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case errors.Is(err, storage.ErrNotFound):
				lost++
			default:
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if won != 1 || lost != 49 {
		t.Errorf("%d won, %d lost", won, lost)
	}
}

func TestPushPolled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.polled(t, "one", "user")
	if _, err := b.pushPolled(t, "two", "user", use("jti")); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("a user code that is taken: %v", err)
	}
	if _, err := b.pushPolled(t, "two", "other", use("jti")); err != nil {
		t.Errorf("with another one, and the same identifier: %v", err)
	}
	if _, err := b.pushPolled(t, "three", "third", use("jti")); !errors.Is(err, storage.ErrAlreadyUsed) {
		t.Errorf("replayed: %v", err)
	}
	for i := range 2 { // CIBA has no user code
		b.polled(t, fmt.Sprint("ciba", i), "")
	}
	b.exec(t, "UPDATE authorizations SET expires_at = now() - interval '2 hours'")
	b.exec(t, "UPDATE user_code_failures SET since = now() - interval '2 days'")
	if _, err := b.guess(t, "wrong", "uri", "elsewhere"); !errors.Is(err, storage.ErrNotFound) {
		t.Fatal(err)
	}
	b.exec(t, "UPDATE user_code_failures SET since = now() - interval '2 days'")
	if _, err := b.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	var authorizations, failures int
	if err := b.sql.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM authorizations), (SELECT count(*) FROM user_code_failures)").Scan(&authorizations, &failures); err != nil {
		t.Fatal(err)
	}
	if authorizations != 0 || failures != 1 {
		t.Errorf("after the purge %d requests, %d counters", authorizations, failures)
	}
}

// RFC 8628 §5.1: wrong codes are counted by source and together; right ones are not.
func TestEnterUserCode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.polled(t, "code", "user")
	for range 10 {
		b.enter(t, "user", "uri")
	}
	expect := func(code, source string, want error) {
		t.Helper()
		if _, err := b.guess(t, code, "uri 2", source); !errors.Is(err, want) {
			t.Errorf("%s from %s: %v, want %v", code, source, err, want)
		}
	}
	for range 3 {
		expect("wrong", "attacker", storage.ErrNotFound)
	}
	for range 10 { // which are not counted for all
		expect("user", "attacker", storage.ErrTooManyGuesses)
	}
	expect("user", "home", nil)
	expect("wrong", "second", storage.ErrNotFound)
	expect("wrong", "third", storage.ErrNotFound)
	expect("user", "home", storage.ErrTooManyGuesses)
	b.exec(t, "UPDATE user_code_failures SET since = since - interval '601 seconds'")
	expect("user", "attacker", nil)
	for range 3 {
		expect("wrong", "attacker", storage.ErrNotFound)
	}
	expect("user", "attacker", storage.ErrTooManyGuesses)
	expect("user", "home", nil)
	b.later(t, "code", "601 seconds")
	expect("user", "home", storage.ErrNotFound)
}

// Guesses that come at once are judged one after the other: no more get a look than the limit says. All of them are held
// until they have arrived, so that none could have seen another's failure.
func TestEnterUserCode_Race(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.sql.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT 1 FROM user_code_failures WHERE source = '' FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	var looked int
	var mu sync.Mutex
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			_, err := b.EnterUserCode(t.Context(), storage.Guess{
				UserCodeHash: hash(fmt.Sprint(i)), RequestURIHash: hash("uri"), Source: hash("attacker"), Window: tenMinutes, PerSource: 1, Together: 5,
			})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, storage.ErrNotFound):
				looked++
			case !errors.Is(err, storage.ErrTooManyGuesses):
				t.Error(err)
			}
		})
	}
	b.waiting(t, tx, 2)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait.Wait()
	if looked != 1 {
		t.Errorf("%d guesses were looked at, the limit is 1", looked)
	}
}

// waiting returns when that many statements wait for a lock.
func (b *bundle) waiting(t *testing.T, tx pgx.Tx, want int) {
	t.Helper()
	began := time.Now()
	for n := 0; n < want; {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%d statements wait for a lock, not %d", n, want)
		}
		if _, err := tx.Exec(t.Context(), "SELECT pg_stat_clear_snapshot()"); err != nil { // a transaction sees one otherwise
			t.Fatal(err)
		}
		if err := tx.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
}

// A poll that goes on counts from when it came, and gives way to a newer one.
func TestPollOn(t *testing.T) {
	t.Parallel()
	wait := func(t *testing.T, b *bundle) *storage.Pending {
		t.Helper()
		b.polled(t, "code", "user")
		_, err := b.poll(t, "code", "tpp")
		var p *storage.Pending
		if !errors.As(err, &p) || p.Left <= 9*time.Minute || p.Left > tenMinutes {
			t.Fatalf("%+v, %v", p, err)
		}
		return p
	}
	for _, test := range []struct {
		name     string
		happens  func(*testing.T, *bundle)
		want     error
		nextPoll error
	}{
		{"nothing", func(*testing.T, *bundle) {}, storage.ErrPending, storage.ErrTooEarly},
		{"nothing, for as long as the interval", func(t *testing.T, b *bundle) { time.Sleep(4600 * time.Millisecond) }, storage.ErrPending, storage.ErrPending},
		{"approval", func(t *testing.T, b *bundle) { b.approveEntered(t) }, nil, storage.ErrNotFound},
		{"refusal", func(t *testing.T, b *bundle) {
			b.enter(t, "user", "uri")
			if _, err := b.Deny(t.Context(), hash("uri"), "tpp", b.loginHash); err != nil {
				t.Fatal(err)
			}
		}, storage.ErrDenied, storage.ErrDenied},
		{"expiry", func(t *testing.T, b *bundle) {
			b.exec(t, `UPDATE authorizations SET code_expires_at = now() WHERE code_hash = $1`, hash("code"))
		}, storage.ErrExpired, storage.ErrExpired},
		{"a newer poll", func(t *testing.T, b *bundle) { b.poll(t, "code", "tpp") }, storage.ErrPending, storage.ErrTooEarly},
		{"a newer poll, then approval", func(t *testing.T, b *bundle) {
			b.poll(t, "code", "tpp")
			b.approveEntered(t)
		}, storage.ErrPending, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := wait(t, b)
			test.happens(t, b)
			for _, client := range []string{"other", "tpp"} {
				want := test.want
				if client == "other" {
					want = storage.ErrPending
				}
				_, err := b.PollOn(t.Context(), p.PolledAt, hash("code"), client, time.Hour)
				if !errors.Is(err, want) {
					t.Errorf("%s's poll that goes on: %v, want %v", client, err, want)
				}
				var again *storage.Pending
				if errors.As(err, &again) && !again.PolledAt.Equal(p.PolledAt) {
					t.Errorf("polled at %v, then at %v", p.PolledAt, again.PolledAt)
				}
			}
			if _, err := b.poll(t, "code", "tpp"); !errors.Is(err, test.nextPoll) {
				t.Errorf("the next poll: %v, want %v", err, test.nextPoll)
			}
		})
	}
}

// Servers hear which request was decided, and can ask which were.
func TestWatch_TellsOfDecisions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	decisions := make(chan string, 10)
	ready := make(chan struct{}, 10)
	go b.Watch(t.Context(), storage.Watcher{Changed: func(string) { ready <- struct{}{} }, Decided: func(codeHash []byte) { decisions <- string(codeHash) }})
	<-ready
	b.polled(t, "code", "user")
	b.polled(t, "undecided", "other")
	b.approved(t, "browser", "", "code of a redirect") // nobody polls for it
	b.approveEntered(t)
	select {
	case got := <-decisions:
		if got != string(hash("code")) {
			t.Errorf("decided: %x", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no word of the decision")
	}
	decided, err := b.DecidedAmong(t.Context(), [][]byte{hash("undecided"), hash("code"), hash("unknown")})
	if err != nil || len(decided) != 1 || string(decided[0]) != string(hash("code")) {
		t.Errorf("%x, %v", decided, err)
	}
}
