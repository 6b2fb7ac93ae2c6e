package authn

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/countersign/countersign/storage"
)

func TestLogin_PasswordAloneIsCA(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	id := s.createAlice()
	b := s.browser()
	p := b.get(journeyURL).want(t, "login_page")
	if !strings.Contains(p.body, "Budget App") || !strings.Contains(p.body, `action="/login"`) {
		t.Errorf("the page names no client or posts elsewhere:\n%s", p.body)
	}
	p = b.login(" ALICE ", alicePassword).want(t, "consent_page")
	if want := fmt.Sprintf("%s %s pwd", id, CA); !strings.Contains(p.body, want) {
		t.Errorf("logged in as %q, want %q", p.body, want)
	}
	if p.at.RequestURI() != journeyURL {
		t.Errorf("ended at %s", p.at)
	}
	if p := b.postForm("/login", "username", alice, "password", alicePassword); p.id != "consents_page" || p.at.Path != "/consents" {
		t.Errorf("without a journey the login ended at %s", p.at)
	}
	b.get("/login").want(t, "consents_page")
}

// The design's budget: one look and one statement that decides.
func TestLogin_TakesTwoRoundTripsForEachStep(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	_, key := s.enrolled()
	form := func(fields url.Values, path, cookie string) (*httptest.ResponseRecorder, int64) {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(fields.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Cookie", cookie)
		w, before := httptest.NewRecorder(), s.trips.n.Load()
		switch path {
		case "/login":
			s.login(w, r)
		default:
			s.secondFactor(w, r)
		}
		if w.Code != http.StatusSeeOther {
			t.Fatalf("%s: %d\n%s", path, w.Code, w.Body)
		}
		return w, s.trips.n.Load() - before
	}
	w, n := form(url.Values{"username": {alice}, "password": {alicePassword}}, "/login", "")
	if n != 2 {
		t.Errorf("the password took %d round trips, want 2", n)
	}
	cookie := loginCookie + "=" + cookieOf(t, w.Result(), loginCookie).Value
	if _, n = form(url.Values{"code": {s.code(key)}}, "/login/second-factor", cookie); n != 2 {
		t.Errorf("the second factor took %d round trips, want 2", n)
	}
}

func cookieOf(t *testing.T, resp *http.Response, name string) *http.Cookie {
	t.Helper()
	for _, c := range resp.Cookies() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no cookie %s", name)
	return nil
}

// OWASP ASVS 3.4, RFC 6265bis §4.1.3.2.
func TestLogin_CookieIsHostOnlySecureAndHidden(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	s.createAlice()
	b := s.browser()
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r, _ := http.NewRequest(http.MethodPost, s.http.URL+"/login", strings.NewReader(url.Values{"username": {alice}, "password": {alicePassword}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := b.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	c := cookieOf(t, resp, loginCookie)
	if c.Name != "__Host-login" || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode || c.MaxAge != 0 {
		t.Errorf("cookie %+v", c)
	}
	if got := resp.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	var stored []byte
	s.sql(t, &stored, `SELECT hash FROM logins`)
	raw, _ := cookieEncoding.DecodeString(c.Value)
	if len(raw) != 32 || bytes.Contains(stored, raw) || !bytes.Equal(stored, hashCookie(raw)) {
		t.Errorf("the row holds %x for the cookie %x", stored, raw)
	}
}

func TestLoginHash_TakesOnlyItsOwnCookies(t *testing.T) {
	t.Parallel()
	a := &Authn{}
	good, hash := newCookie()
	for cookies, want := range map[string][]byte{
		"__Host-login=" + good:          hash,
		"other=1; __Host-login=" + good: hash,
		"":                              nil,
		"login=" + good:                 nil,
		"__Host-login=":                 nil,
		"__Host-login=" + good[1:]:      nil,
		"__Host-login=" + good + "A":    nil,
		"__Host-login=" + strings.Repeat("!", 43):               nil,
		"__Host-login=" + good + "; __Host-login=" + good:       nil,
		"__Host-login=" + good[:42] + "_":                       nil, // bits beyond the last byte
		"__Host-login=" + strings.Repeat("A", 5000):             nil,
		"__Host-login=" + strings.ReplaceAll(good, good, "AA="): nil,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Cookie", cookies)
		if good[42] == '_' && strings.HasSuffix(cookies, "_") {
			continue
		}
		if got := a.LoginHash(r); !bytes.Equal(got, want) {
			t.Errorf("%.80q: %x, want %x", cookies, got, want)
		}
	}
}

// OWASP ASVS 3.2.1: session fixation.
func TestLogin_EveryStepMakesANewCookieAndEndsTheOldOne(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	_, key := s.enrolled()
	b := s.browser()
	planted, plantedHash := newCookie()
	b.Jar.SetCookies(s.url, []*http.Cookie{{Name: loginCookie, Value: planted, Path: "/", Secure: true}})
	b.login(alice, alicePassword).want(t, "second_factor_page")
	half := b.cookie()
	if half == planted {
		t.Fatal("the planted cookie became a login")
	}
	b.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
	if b.cookie() == half {
		t.Fatal("the second factor kept the cookie")
	}
	raw, _ := cookieEncoding.DecodeString(half)
	for _, hash := range [][]byte{plantedHash, hashCookie(raw)} {
		if _, err := s.db.FindLogin(t.Context(), hash); err != storage.ErrNotFound {
			t.Errorf("an earlier cookie is still good: %v", err)
		}
	}
	old := b.cookie()
	b.login(alice, alicePassword).want(t, "second_factor_page")
	raw, _ = cookieEncoding.DecodeString(old)
	if _, err := s.db.FindLogin(t.Context(), hashCookie(raw)); err != storage.ErrNotFound {
		t.Errorf("the login before is still good: %v", err)
	}
}

func TestSignOut_EndsTheLoginOnTheServer(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	s.createAlice()
	b := s.browser()
	b.login(alice, alicePassword).want(t, "consent_page")
	stolen := b.cookie()
	if p := b.postForm("/sign-out").want(t, "login_page"); p.at.Path != "/login" {
		t.Errorf("ended at %s", p.at)
	}
	if b.cookie() != "" {
		t.Error("the browser still has a cookie")
	}
	thief := s.browser()
	thief.Jar.SetCookies(s.url, []*http.Cookie{{Name: loginCookie, Value: stolen, Path: "/", Secure: true}})
	thief.get(journeyURL).want(t, "login_page")
}

func TestLogin_ExpiresWithItsRow(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{LoginLifetime: time.Minute})
	s.createAlice()
	b := s.browser()
	b.login(alice, alicePassword).want(t, "consent_page")
	var lifetime time.Duration
	s.sql(t, &lifetime, `SELECT expires_at - auth_time FROM logins`)
	if lifetime != time.Minute {
		t.Errorf("a login lasts %v", lifetime)
	}
	s.sql(t, nil, `UPDATE logins SET expires_at = now()`)
	b.get(journeyURL).want(t, "login_page")
}

// ASVS 2.2.1, 3.1.x: nothing tells whether a name exists.
func TestLogin_UnknownNameReadsLikeAWrongPassword(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	s.createAlice()
	disabled := s.create(NewCustomer{Profile: storage.Profile{Username: "carol"}, Password: alicePassword})
	if err := s.Disable(t.Context(), disabled); err != nil {
		t.Fatal(err)
	}
	if p := s.browser().login("carol", alicePassword); p.id != "login_page" || p.status != http.StatusForbidden {
		t.Errorf("a disabled customer: %d %s", p.status, p.id)
	}
	s.sql(t, nil, `DELETE FROM limits`)
	// Each is tried more often than MaxFailures, so that all are blocked on the way.
	for i := range 7 {
		var pages []page
		for _, name := range []string{alice, "nobody", "carol", "no\x01name"} {
			p := s.browser().post("/login", "username", name, "password", "wrong password")
			p.body = strings.ReplaceAll(p.body, `value="`+name+`"`, "")
			p.body = strings.ReplaceAll(p.body, "value=\"no\x01name\"", "")
			pages = append(pages, p)
		}
		for _, p := range pages[1:3] {
			if p.status != pages[0].status || p.body != pages[0].body {
				t.Errorf("attempt %d: %d and %d\n%s", i, p.status, pages[0].status, cmp.Diff(p.body, pages[0].body))
			}
		}
		if p := pages[3]; p.status != pages[0].status || p.problem() != pages[0].problem() {
			t.Errorf("attempt %d: %d %q for an impossible name", i, p.status, p.problem())
		}
	}
}

// E2: imported hashes are taken, and become Argon2id at the first login; so do hashes of another price.
func TestLogin_UpgradesHashes(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	long := strings.Repeat("seven words make a very long password ", 3)
	imported, err := bcrypt.GenerateFromPassword([]byte(alicePassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	cut, err := bcrypt.GenerateFromPassword([]byte(long)[:72], bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	cheap, err := newHasher(Argon2{Memory: 32, Time: 1, Threads: 1}, 1<<20).hash(t.Context(), alicePassword)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ hash, password string }{
		"bcrypt":    {string(imported), alicePassword},
		"fineract":  {"{bcrypt}" + string(imported), alicePassword},
		"truncated": {string(cut), long},
		"cheap":     {cheap, alicePassword},
	} {
		id := s.create(NewCustomer{Profile: storage.Profile{Username: name}, PasswordHash: c.hash})
		s.browser().login(name, "another password").want(t, "login_page")
		var hash string
		s.sql(t, &hash, `SELECT password_hash FROM customers WHERE id = $1`, [16]byte(id))
		if hash != c.hash {
			t.Errorf("%s: a wrong password changed the hash to %s", name, hash)
		}
		s.browser().login(name, c.password).want(t, "consent_page")
		s.sql(t, &hash, `SELECT password_hash FROM customers WHERE id = $1`, [16]byte(id))
		if p, err := parsePHC(hash); err != nil || p.Argon2 != s.config.Argon2 {
			t.Errorf("%s: the hash is now %s: %v", name, hash, err)
		}
		s.browser().login(name, c.password).want(t, "consent_page")
	}
}

func TestLogin_ParallelUpgradesAllGetIn(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	imported, _ := bcrypt.GenerateFromPassword([]byte(alicePassword), bcrypt.MinCost)
	s.create(NewCustomer{PasswordHash: string(imported)})
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if p := s.browser().login(alice, alicePassword); p.id != "consent_page" {
				t.Errorf("%d %s %s", p.status, p.id, p.problem())
			}
		})
	}
	wg.Wait()
}

// Two servers over one database: no step is remembered by a process.
func TestLogin_ContinuesOnAnotherServer(t *testing.T) {
	t.Parallel()
	one := setup(t, Config{RequireSecondFactor: true})
	two := serve(t, one.dsn, Config{RequireSecondFactor: true})
	one.createAlice()
	on := func(s *server, cookie string) *browser {
		b := s.browser()
		b.Jar.SetCookies(s.url, []*http.Cookie{{Name: loginCookie, Value: cookie, Path: "/", Secure: true}})
		return b
	}
	b := on(one, "")
	key := totpOf(t, b.login(alice, alicePassword).want(t, "enrol_page").secret())
	b = on(two, b.cookie())
	if again := b.get(journeyURL).want(t, "enrol_page").secret(); again != key.String() {
		t.Error("the other server began another enrolment")
	}
	b.post("/login/enrol", "code", two.code(key)).want(t, "recovery_codes_page")
	b = on(one, b.cookie())
	b.get(journeyURL).want(t, "consent_page")
	b.postForm("/sign-out").want(t, "login_page")

	two.clock.Store(totpPeriod)
	b = on(two, "")
	b.login(alice, alicePassword).want(t, "second_factor_page")
	code := two.code(key)
	b = on(one, b.cookie())
	b.get(journeyURL).want(t, "second_factor_page")
	b.post("/login/second-factor", "code", code).want(t, "consent_page") // a step ahead, as clocks may be
	b = on(two, b.cookie())
	b.get(journeyURL).want(t, "consent_page")
}
