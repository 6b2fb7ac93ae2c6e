package authn

import (
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/storage"
)

// E5: a name that is nobody's costs the same round trips and the same hash, blocked or not.
func TestLogin_CostsTheSameForEveryName(t *testing.T) {
	t.Parallel()
	s, _ := recoverySetup(t, Config{})
	s.create(NewCustomer{Profile: storage.Profile{Username: "unverified", Email: "u@heron.example"}, Password: alicePassword})
	disabled := s.create(NewCustomer{Profile: storage.Profile{Username: "disabled"}, Password: alicePassword})
	if err := s.Disable(t.Context(), disabled); err != nil {
		t.Fatal(err)
	}
	hashed := s.hashes()
	observe := func(name string) (seen string) {
		for i := range 8 {
			before, hashes := s.trips.n.Load(), hashed.Load()
			p := s.elsewhere(len(name)).login(name, "wrong wrong wrong")
			seen += fmt.Sprintf("%d: %d %q, %d round trips, %d hashes\n", i, p.status, p.problem(), s.trips.n.Load()-before, hashed.Load()-hashes)
		}
		return seen
	}
	want := observe(alice)
	if !strings.Contains(want, "0: 403") || !strings.Contains(want, "2 round trips, 1 hashes") || !strings.Contains(want, "7: 429") {
		t.Errorf("alice:\n%s", want)
	}
	for _, name := range []string{"nobody", "unverified", "disabled", "no\x01name"} {
		if got := observe(name); got != want {
			t.Errorf("%q:\n%s\n--- alice:\n%s", name, got, want)
		}
	}
}

// E2: a flood of logins takes the memory that was set aside, and no more; whom there is no place for is told when to come again.
func TestLogin_AFloodKeepsToItsMemory(t *testing.T) {
	price := Argon2{Memory: 19456, Time: 1, Threads: 1} // one pass, for the test's sake; the memory is what counts
	const atOnce, visitors = 2, 400
	s := setup(t, Config{Argon2: price, HashMemory: atOnce * 19, AddressAttempts: 1 << 20})
	s.createAlice()
	if n := cap(s.hasher.slots); n > atOnce {
		t.Fatalf("%d hashes at once", n)
	}
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	var peak uint64
	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
				runtime.ReadMemStats(&now)
				peak = max(peak, now.HeapAlloc)
			}
		}
	}()
	var mu sync.Mutex
	answers := map[int]int{}
	var wg sync.WaitGroup
	b := s.browser()
	for i := range visitors {
		wg.Go(func() {
			form := url.Values{"username": {fmt.Sprintf("name%d", i)}, "password": {"wrong wrong wrong"}}
			r, _ := http.NewRequest(http.MethodPost, s.http.URL+"/login", strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			p := b.do(r)
			if p.status == http.StatusServiceUnavailable && (p.waits() == 0 || p.id != "error_page") {
				t.Errorf("503, wait %d, %s", p.waits(), p.id)
			}
			mu.Lock()
			defer mu.Unlock()
			answers[p.status]++
		})
	}
	wg.Wait()
	close(done)
	<-watched
	t.Logf("%v, at the peak %d MiB", answers, (peak-before.HeapAlloc)>>20)
	if answers[http.StatusForbidden] < atOnce*queuePerSlot || answers[http.StatusServiceUnavailable] == 0 || answers[http.StatusForbidden]+answers[http.StatusServiceUnavailable] != visitors {
		t.Errorf("%v", answers)
	}
	// What was freed is not collected at once: the heap may double meanwhile. All at once would have taken 7,600 MiB.
	if most := uint64(3*atOnce*19+100) << 20; peak-before.HeapAlloc > most {
		t.Errorf("%d MiB, want at most %d", (peak-before.HeapAlloc)>>20, most>>20)
	}
	s.browser().login(alice, alicePassword).want(t, "consent_page") // and afterwards all is well
}

// A login that somebody has planted is worth nothing once the customer has logged in with it, and neither is one that was read before
// the last step.
func TestLogin_CannotBePlanted(t *testing.T) {
	t.Parallel()
	s, _ := recoverySetup(t, Config{})
	key := s.authenticator()
	attacker := s.browser()
	attacker.login(alice, alicePassword).want(t, "second_factor_page") // who has the password already
	planted := attacker.cookie()
	victim := s.browser()
	victim.Jar.SetCookies(s.url, []*http.Cookie{{Name: loginCookie, Value: planted, Path: "/", Secure: true}})
	victim.login(alice, alicePassword).want(t, "second_factor_page")
	half := victim.cookie()
	victim.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
	for name, value := range map[string]string{"planted": planted, "of the step before": half} {
		other := s.browser()
		other.Jar.SetCookies(s.url, []*http.Cookie{{Name: loginCookie, Value: value, Path: "/", Secure: true}})
		if p := other.get(journeyURL); p.id != "login_page" {
			t.Errorf("%s: %s", name, p.id)
		}
	}
	// A recovery that was begun elsewhere is not gone on with either: what is planted is replaced.
	rival := s.browser()
	rivals := rival.recovering(alice)
	victim = s.browser()
	for _, c := range rival.Jar.Cookies(s.url) {
		victim.Jar.SetCookies(s.url, []*http.Cookie{{Name: c.Name, Value: c.Value, Path: "/", Secure: true}})
	}
	code := victim.recovering(alice)
	if p := rival.newPassword(code, newAlicePassword); p.status != http.StatusForbidden {
		t.Errorf("the code of her own recovery works elsewhere: %d %s", p.status, p.id)
	}
	if p := victim.newPassword(rivals, newAlicePassword); p.status != http.StatusForbidden {
		t.Errorf("%d %s", p.status, p.id)
	}
}

// Forms of other sites are not taken.
func TestLogin_FormsOfOtherSites(t *testing.T) {
	t.Parallel()
	s, _ := recoverySetup(t, Config{})
	for _, path := range []string{"/login", "/recover", "/recover/code"} {
		for name, header := range map[string][2]string{"Fetch Metadata": {"Sec-Fetch-Site", "cross-site"}, "Origin": {"Origin", "https://evil.example"}, "no origin": {"Origin", "null"}} {
			form := url.Values{"username": {alice}, "password": {alicePassword}, "code": {"AAAAA-AAAAA"}}
			r, _ := http.NewRequest(http.MethodPost, s.http.URL+path, strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set(header[0], header[1])
			b := s.browser()
			if p := b.do(r); p.status != http.StatusForbidden || p.id != "error_page" || len(b.Jar.Cookies(s.url)) != 0 {
				t.Errorf("%s, %s: %d %s", path, name, p.status, p.id)
			}
		}
	}
	if mails := s.selfMessages(t); len(mails) != 0 {
		t.Errorf("%d mails", len(mails))
	}
}
