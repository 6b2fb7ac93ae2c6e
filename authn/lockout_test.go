package authn

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// G3, RTS (EU) 2018/389 art. 4(3)(b).
func TestLockOut_AfterFiveWrongPasswords(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	id := s.createAlice()
	b := s.browser()
	for i := range 5 {
		if p := b.login(alice, "wrong"); p.status != http.StatusForbidden {
			t.Errorf("attempt %d: %d", i, p.status)
		}
	}
	right, wrong := b.login(alice, alicePassword), b.login(alice, "wrong")
	if right.id != "login_page" || right.body != wrong.body || right.status != wrong.status {
		t.Errorf("during the lock a right password reads %d %q, a wrong one %d %q", right.status, right.problem(), wrong.status, wrong.problem())
	}
	var failed int
	if s.sql(t, &failed, `SELECT failed_attempts FROM customers`); failed != 5 {
		t.Errorf("%d failures counted during the lock, want the 5 before it", failed)
	}

	// Each lock in a row lasts twice as long as the one before, up to a day.
	for i, want := range []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 16 * time.Hour, 24 * time.Hour, 24 * time.Hour} {
		var lock time.Duration
		s.sql(t, &lock, `SELECT date_trunc('minute', locked_until - now() + interval '30 seconds') FROM customers`)
		if lock != want {
			t.Errorf("lock %d lasts %v, want %v", i+1, lock, want)
		}
		s.sql(t, nil, `UPDATE customers SET locked_until = now()`)
		for range 5 {
			if _, err := s.db.RecordFailure(t.Context(), id, 5, 15*time.Minute); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.sql(t, nil, `UPDATE customers SET locked_until = now()`)
	b.login(alice, alicePassword).want(t, "consent_page")
	if s.sql(t, &failed, `SELECT failed_attempts FROM customers WHERE locked_until IS NULL`); failed != 0 {
		t.Errorf("a complete login left %d failures", failed)
	}
}

// The page counts for itself: what it says of "too many" is no news about the customer.
func TestLockOut_PageSaysTooManyAttempts(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	for _, name := range []string{alice, "nobody"} {
		attempt := "0"
		for i := 1; i <= 6; i++ {
			p := s.browser().post("/login", "username", name, "password", "wrong", "attempt", attempt)
			for _, field := range hidden.FindAllStringSubmatch(p.body, -1) {
				if field[1] == "attempt" {
					attempt = field[2]
				}
			}
			if want := map[bool]int{false: http.StatusForbidden, true: http.StatusTooManyRequests}[i >= 5]; p.status != want {
				t.Errorf("%s, attempt %d: %d, want %d", name, i, p.status, want)
			}
		}
	}
	for _, forged := range []string{"-5", "x", "99999999999999999999"} {
		s.browser().post("/login", "username", alice, "password", "wrong", "attempt", forged).want(t, "login_page")
	}
}

func TestLockOut_FiftyConcurrentPasswordsCountFive(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	s.createAlice()
	var wg sync.WaitGroup
	for range 50 {
		b := s.browser()
		wg.Go(func() { b.login(alice, "wrong").want(t, "login_page") })
	}
	wg.Wait()
	var failed int
	if s.sql(t, &failed, `SELECT failed_attempts FROM customers WHERE locked_until > now()`); failed != 5 {
		t.Errorf("%d attempts got a verdict, want 5", failed)
	}
	s.browser().login(alice, alicePassword).want(t, "login_page")
}

// A right password that is still being hashed when the lock falls does not get in.
func TestLockOut_HoldsForAttemptsThatWereUnderWay(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	id := s.createAlice()
	c, err := s.credentials(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		s.browser().login(alice, "wrong")
	}
	right, _, err := s.hasher.check(t.Context(), c.PasswordHash, alicePassword)
	if !right || err != nil {
		t.Fatal(right, err)
	}
	w, r := httptestRequest()
	if err := s.begin(w, r, id, false, nil); err == nil || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("it got in: %v", err)
	}
}

func TestLockOut_WrongCodesCountToo(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	_, key := s.enrolled()
	for i := range 4 { // showing the password again buys no further guesses
		b := s.browser()
		b.login(alice, alicePassword).want(t, "second_factor_page")
		if p := b.post("/login/second-factor", "code", s.wrong(key)).want(t, "second_factor_page"); p.status != http.StatusForbidden {
			t.Errorf("attempt %d: %d", i, p.status)
		}
	}
	b := s.browser()
	b.login(alice, alicePassword).want(t, "second_factor_page")
	fifth := b.post("/login/second-factor", "code", s.wrong(key)).want(t, "second_factor_page")
	right := b.post("/login/second-factor", "code", s.code(key)).want(t, "second_factor_page")
	wrong := b.post("/login/second-factor", "code", s.wrong(key)).want(t, "second_factor_page")
	if fifth.status != http.StatusTooManyRequests || right.status != fifth.status || right.body != wrong.body {
		t.Errorf("%d, then %d %q and %d %q", fifth.status, right.status, right.problem(), wrong.status, wrong.problem())
	}
	s.browser().login(alice, alicePassword).want(t, "login_page")
	id, _ := s.FindCustomer(t.Context(), "", alice)
	if id.LockedUntil == nil || id.FailedAttempts != 5 {
		t.Errorf("%+v", id)
	}
	if err := s.Unlock(t.Context(), id.ID); err != nil {
		t.Fatal(err)
	}
	b = s.browser()
	b.login(alice, alicePassword).want(t, "second_factor_page")
	b.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
}

func TestLockOut_FiftyConcurrentCodesCountFive(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	_, key := s.enrolled()
	browsers := make([]*browser, 10)
	for i := range browsers {
		browsers[i] = s.browser()
		browsers[i].login(alice, alicePassword).want(t, "second_factor_page")
	}
	wrong := s.wrong(key)
	var refused atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		b := browsers[i%len(browsers)]
		wg.Go(func() {
			if b.post("/login/second-factor", "code", wrong).status == http.StatusForbidden {
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	var failed int
	if s.sql(t, &failed, `SELECT failed_attempts FROM customers WHERE locked_until > now()`); failed != 5 {
		t.Errorf("%d attempts got a verdict, want 5", failed)
	}
	if refused.Load() != 4 { // the fifth reads "locked" already
		t.Errorf("%d attempts were answered before the lock, want 4", refused.Load())
	}
	if p := browsers[0].post("/login/second-factor", "code", s.code(key)); p.id != "second_factor_page" {
		t.Errorf("the right code got in: %s", p.id)
	}
}
