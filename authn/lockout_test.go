package authn

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/storage"
)

// elsewhere is a browser that nobody knows at an address of its own.
func (s *server) elsewhere(last int) *browser {
	b := s.browser()
	b.from = fmt.Sprintf("198.51.100.%d", last)
	return b
}

// waits is how long a page asks to wait, in seconds; 0 when it does not.
func (p page) waits() int {
	n, _ := strconv.Atoi(p.header.Get("Retry-After"))
	return n
}

// later lets every block end, or fall due that much earlier.
func (s *server) later(t *testing.T, by time.Duration) {
	t.Helper()
	s.sql(t, nil, `UPDATE limits SET blocked_until = blocked_until - $1::interval`, by)
}

// G3, RTS (EU) 2018/389 art. 4(3)(b): five in a row, then a block that grows. A name that is nobody's fares alike.
func TestLimits_FiveWrongPasswordsBegin(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	s.createAlice()
	for _, name := range []string{alice, "nobody"} {
		b := s.browser()
		for i := range 4 {
			if p := b.login(name, "wrong"); p.status != http.StatusForbidden || p.waits() != 0 {
				t.Errorf("%s, attempt %d: %d, wait %d", name, i+1, p.status, p.waits())
			}
		}
		for i, want := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
			p := b.login(name, "wrong").want(t, "login_page")
			if p.status != http.StatusTooManyRequests || p.waits() > 60*want || p.waits() < 60*want-30 {
				t.Errorf("%s, block %d: %d, wait %d s, want %d min", name, i+1, p.status, p.waits(), want)
			}
			if says := fmt.Sprintf("in %d minutes", want); want > 1 && !strings.Contains(p.problem(), says) || want == 1 && !strings.Contains(p.problem(), "in a minute") {
				t.Errorf("%s, block %d reads %q", name, i+1, p.problem())
			}
			right, wrong := b.login(name, alicePassword), b.login(name, "wrong")
			if right.id != "login_page" || right.status != wrong.status || right.problem() != wrong.problem() || right.status != http.StatusTooManyRequests {
				t.Errorf("%s, during block %d a right password reads %d %q, a wrong one %d %q", name, i+1, right.status, right.problem(), wrong.status, wrong.problem())
			}
			s.later(t, time.Hour)
		}
	}
	b := s.browser()
	b.login(alice, alicePassword).want(t, "consent_page")
	if n := s.rows(t, `SELECT count(*) FROM limits WHERE customer_id IS NULL AND attempts > 1`); n > 2 { // nobody's, the address
		t.Errorf("a complete login left %d buckets", n)
	}
	if n := s.rows(t, `SELECT count(*) FROM events WHERE kind = 'login.blocked'`); n != 8 {
		t.Errorf("%d events of blocks, want one for each", n)
	}
	if n := s.rows(t, `SELECT count(*) FROM events WHERE kind = 'login.refused' AND visit IS NOT NULL AND details->>'amr' = 'pwd'`); n != 4 { // during a block there is no verdict
		t.Errorf("%d events of refusals, want one for each verdict", n)
	}
}

func (s *server) rows(t *testing.T, sql string) (n int) {
	t.Helper()
	s.sql(t, &n, sql)
	return n
}

// Whoever guesses at alice's password slows down browsers and addresses that nobody knows, never the browser that she uses.
func TestLimits_NobodyCanLockOutAKnownBrowser(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	s.createAlice()
	hers := s.browser()
	hers.login(alice, alicePassword).want(t, "consent_page")
	for range 5 {
		s.browser().login(alice, "wrong") // at the same address, too
	}
	if p := s.elsewhere(7).login(alice, alicePassword); p.status != http.StatusTooManyRequests {
		t.Fatalf("an unknown browser is let in: %d", p.status)
	}
	hers.login(alice, alicePassword).want(t, "consent_page")
	if p := s.elsewhere(8).login(alice, alicePassword); p.status != http.StatusTooManyRequests {
		t.Errorf("her login has let the others guess again: %d", p.status)
	}
	// Known to alice is not known to bob.
	s.create(NewCustomer{Profile: storage.Profile{Username: "bob"}, Password: alicePassword})
	for range 5 {
		s.browser().login("bob", "wrong")
	}
	if p := hers.login("bob", alicePassword); p.status != http.StatusTooManyRequests {
		t.Errorf("alice's browser gets by bob's block: %d", p.status)
	}
	// Five guesses are all that the browser itself has.
	for i := range 5 {
		if p := hers.login(alice, "wrong"); (p.status == http.StatusTooManyRequests) != (i == 4) {
			t.Errorf("attempt %d: %d", i+1, p.status)
		}
	}
	if p := hers.login(alice, alicePassword); p.status != http.StatusTooManyRequests {
		t.Errorf("a known browser guesses without end: %d", p.status)
	}
}

// A cookie that no complete login has proven is worth nothing.
func TestLimits_ABrowserIsKnownByACompleteLoginAlone(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	_, key := s.enrolled()
	half := s.browser()
	half.login(alice, alicePassword).want(t, "second_factor_page")
	forged := s.browser()
	value, _ := newCookie()
	forged.Jar.SetCookies(s.url, []*http.Cookie{{Name: knownCookie, Value: value, Path: "/", Secure: true}})
	twice := s.browser()
	whole := s.browser()
	whole.login(alice, alicePassword).want(t, "second_factor_page")
	whole.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
	for range 5 {
		s.elsewhere(1).login(alice, "wrong")
	}
	for name, b := range map[string]*browser{"the password alone": half, "a forged cookie": forged, "no cookie": twice} {
		if p := b.login(alice, alicePassword); p.status != http.StatusTooManyRequests {
			t.Errorf("%s gets by: %d", name, p.status)
		}
	}
	whole.login(alice, alicePassword).want(t, "second_factor_page")
	for _, c := range whole.Jar.Cookies(s.url) {
		if c.Name == knownCookie {
			raw, _ := cookieEncoding.DecodeString(c.Value)
			if n := s.rows(t, fmt.Sprintf(`SELECT count(*) FROM limits WHERE bucket IN ('\x%x', '\x%x')`, raw, hashCookie(raw))); n != 0 {
				t.Error("the table tells the cookie")
			}
		}
	}
}

// G3: one address is slowed down whoever it guesses at; IPv6 addresses of one network are one.
func TestLimits_OfAnAddress(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{AddressAttempts: 8})
	s.createAlice()
	hers := s.browser()
	hers.from = "2001:db8::1"
	hers.login(alice, alicePassword).want(t, "consent_page")
	for i := range 8 {
		b := s.browser()
		b.from = fmt.Sprintf("2001:db8::%d", i+2)
		if p := b.login(fmt.Sprintf("name%d", i), "wrong"); (p.status == http.StatusTooManyRequests) != (i == 7) {
			t.Errorf("attempt %d: %d", i+1, p.status)
		}
	}
	b := s.browser()
	b.from = "2001:db8::ffff:1"
	if p := b.login(alice, alicePassword); p.status != http.StatusTooManyRequests || p.waits() == 0 {
		t.Errorf("another address of the network: %d", p.status)
	}
	b.from = "2001:db8:0:1::1"
	b.login(alice, alicePassword).want(t, "consent_page")
	hers.login(alice, alicePassword).want(t, "consent_page") // a known browser behind the same address
	if n := s.rows(t, `SELECT count(*) FROM limits WHERE encode(bucket, 'escape') LIKE '%2001%'`); n != 0 {
		t.Error("an address in clear")
	}
}

func TestLimits_FiftyPasswordsAtOnceOnTwoServers(t *testing.T) {
	t.Parallel()
	one := setup(t, Config{})
	two := serve(t, one.dsn, Config{})
	one.createAlice()
	var wrong, blocked atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		b := []*server{one, two}[i%2].browser()
		wg.Go(func() {
			switch p := b.login(alice, "wrong"); p.status {
			case http.StatusForbidden:
				wrong.Add(1)
			case http.StatusTooManyRequests:
				blocked.Add(1)
			default:
				t.Errorf("%d %s", p.status, p.id)
			}
		})
	}
	wg.Wait()
	if wrong.Load() != 4 || blocked.Load() != 46 { // the fifth reads that a block has begun
		t.Errorf("%d wrong, %d blocked, want 4 and 46", wrong.Load(), blocked.Load())
	}
	if n := one.rows(t, `SELECT attempts::int FROM limits ORDER BY blocked_until NULLS LAST LIMIT 1`); n != 5 {
		t.Errorf("%d attempts got a verdict, want 5", n)
	}
	if p := two.browser().login(alice, alicePassword); p.status != http.StatusTooManyRequests {
		t.Errorf("%d", p.status)
	}
}

// A right password that is still being hashed when the block begins does not get in.
func TestLimits_HoldForAttemptsThatWereUnderWay(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	s.createAlice()
	c, _, err := s.checkCredentials(t.Context(), storage.Visit{}, alice, alicePassword)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		s.browser().login(alice, "wrong")
	}
	w, r := httptestRequest()
	if err := s.begin(w, r, c, nil); !errors.Is(err, storage.ErrNotFound) || strings.Contains(fmt.Sprint(w.Header()["Set-Cookie"]), loginCookie) {
		t.Errorf("it got in: %v", err)
	}
}

// A right password does not buy more guesses at the code.
func TestLimits_WrongCodesCountToo(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	_, key := s.enrolled()
	for i := range 4 {
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
	if fifth.status != http.StatusTooManyRequests || right.status != fifth.status || right.body != wrong.body || right.waits() == 0 {
		t.Errorf("%d, then %d %q and %d %q", fifth.status, right.status, right.problem(), wrong.status, wrong.problem())
	}
	if p := s.browser().login(alice, alicePassword); p.status != http.StatusTooManyRequests {
		t.Errorf("%d", p.status)
	}
	c, err := s.FindCustomer(t.Context(), "", alice)
	if err != nil || c.BlockedUntil == nil {
		t.Errorf("%+v %v", c, err)
	}
	if err := s.Unlock(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	b = s.browser()
	b.login(alice, alicePassword).want(t, "second_factor_page")
	b.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
}

func TestLimits_FiftyCodesAtOnce(t *testing.T) {
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
	if n := s.rows(t, `SELECT attempts::int FROM limits WHERE blocked_until > now()`); n != 5 || refused.Load() != 4 {
		t.Errorf("%d attempts got a verdict, %d before the block, want 5 and 4", n, refused.Load())
	}
	if p := browsers[0].post("/login/second-factor", "code", s.code(key)); p.id != "second_factor_page" {
		t.Errorf("the right code got in: %s", p.id)
	}
}

// What is counted is told to whoever watches the server.
func TestLimits_RefusalsAreCounted(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	counted := map[string]int{}
	s := setup(t, Config{Refused: func(action, reason string) {
		mu.Lock()
		defer mu.Unlock()
		counted[action+" "+reason]++
	}})
	s.createAlice()
	for range 7 {
		s.browser().login(alice, "wrong")
	}
	mu.Lock()
	defer mu.Unlock()
	if counted["login wrong"] != 5 || counted["login blocked"] != 2 {
		t.Errorf("%v", counted)
	}
}

// The cookie of a known browser lasts, and is for this host and no script.
func TestLimits_Cookie(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	s.createAlice()
	r := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader(url.Values{"username": {alice}, "password": {alicePassword}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	s.login(w, r)
	for _, c := range w.Result().Cookies() {
		if c.Name != knownCookie {
			continue
		}
		if !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode || c.MaxAge != 90*24*60*60 {
			t.Errorf("%+v", c)
		}
		return
	}
	t.Error("no cookie")
}
