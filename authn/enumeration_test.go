package authn

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/countersign/countersign/storage"
)

// E5: whoever asks with a name learns the same of one that is a customer's, nobody's, a disabled customer's, or one whom too many have guessed at:
// status, header fields, cookies and every letter of the page, and as many round trips and hashes. The names are as long as each other, so that the
// pages are. What an answer takes is not measured: it leaves at fixed intervals (TestLogin_UnknownNameReadsLikeAWrongPassword).
func TestNames_AreNotTold(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, nil, Config{Channels: []string{ChannelEmail}, SignUp: true, AddressAttempts: 1 << 20})
	for _, name := range []string{"alice", "gone_", "block"} {
		id := s.create(NewCustomer{Profile: storage.Profile{Username: name, Name: "Of the bank", Email: name + "@heron.example", EmailVerified: true}, Password: alicePassword})
		if name == "gone_" {
			if err := s.Disable(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	block := func(name string) {
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() { s.browser().postForm("/login", "username", name, "password", "wrong") })
		}
		all.Wait()
	}
	hashed, passwords := s.hashes(), s.NewPasswords()
	form := func(path string, fields ...string) func(string) string {
		return func(name string) string {
			b := s.browser()
			b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			filled := slices.Clone(fields)
			for i := range filled {
				filled[i] = strings.ReplaceAll(filled[i], "NAME", name)
			}
			return strings.ReplaceAll(readable(b.postForm(path, filled...)), name, "NAME")
		}
	}
	for what, ask := range map[string]func(name string) string{
		"a wrong password":            form("/login", "username", "NAME", "password", "wrong wrong wrong"),
		"an empty one":                form("/login", "username", "NAME", "password", ""),
		"a long one":                  form("/login", "username", "NAME", "password", strings.Repeat("x", 5000)),
		"on the way to a client":      form("/login", "username", "NAME", "password", "wrong wrong wrong", "client_id", tpp, "request_uri", requestURI),
		"on the way to a link":        form("/login", "username", "NAME", "password", "wrong wrong wrong", "next", linkPage),
		"recovery":                    form("/recover", "username", "NAME"),
		"sign-up with that address":   form("/sign-up", "username", "newby", "name", "New", "email", "NAME@heron.example", "password", alicePassword),
		"a second factor, logged out": form("/login/second-factor", "username", "NAME", "code", "123456"),
		"an API": func(name string) string {
			_, err := passwords.Check(httptest.NewRequest(http.MethodGet, "/", nil), name, "wrong wrong wrong")
			return fmt.Sprint(err, errors.Is(err, ErrRefused))
		},
	} {
		observe := func(name string) (seen string) {
			s.sql(t, nil, `DELETE FROM limits`)
			if name == "block" || name == "zzzzz" { // and one of them is nobody's
				block(name)
			}
			trips, hashes := s.trips.n.Load(), hashed.Load()
			seen = ask(name)
			return fmt.Sprintf("%s\n%d round trips, %d hashes", seen, s.trips.n.Load()-trips, hashed.Load()-hashes)
		}
		customer := observe("alice")
		for _, name := range []string{"nobod", "gone_"} {
			differ(t, what, [2]string{"alice", name}, customer, observe(name))
		}
		differ(t, what, [2]string{"block", "zzzzz"}, observe("block"), observe("zzzzz"))
	}
	// A disabled customer's right password reads like anybody's wrong one.
	right := form("/login", "username", "NAME", "password", alicePassword)
	s.sql(t, nil, `DELETE FROM limits`)
	differ(t, "the right password", [2]string{"gone_", "nobod"}, right("gone_"), right("nobod"))
}

// differ tells where two answers do.
func differ(t *testing.T, what string, names [2]string, x, y string) {
	t.Helper()
	one, other := strings.Split(x, "\n"), strings.Split(y, "\n")
	for i := range max(len(one), len(other)) {
		if i >= len(one) || i >= len(other) || one[i] != other[i] {
			t.Errorf("%s: %s reads\n%.300s\n%s\n%.300s", what, names[0], strings.Join(one[min(i, len(one)):], "\n"), names[1], strings.Join(other[min(i, len(other)):], "\n"))
			return
		}
	}
}

// atRandom is what differs from one answer to the next, whoever asks: values of cookies, and seconds of a wait.
var atRandom = regexp.MustCompile(`=[A-Za-z0-9_-]{43}\b|Date: [^\n]*|Retry-After: [0-9]+`)

// readable is everything of an answer.
func readable(p page) string {
	var fields []string
	for name, values := range p.header {
		for _, value := range values {
			fields = append(fields, name+": "+value)
		}
	}
	slices.Sort(fields)
	return atRandom.ReplaceAllString(fmt.Sprintf("%d\n%s\n%s", p.status, strings.Join(fields, "\n"), p.body), "")
}

// Customers of two tenants have the same user name and password, and nothing else of each other: neither's wrong passwords keep the other
// out, their logins, recoveries and codes are their own.
func TestTenants_ShareNothing(t *testing.T) {
	t.Parallel()
	s, here := recoverySetup(t, Config{})
	profile := storage.Profile{Username: alice, Name: "Alice Elsewhere", Email: "alice@heron.example", EmailVerified: true}
	there, err := s.CreateCustomer(t.Context(), NewCustomer{Tenant: "other", Profile: profile, Password: newAlicePassword})
	if err != nil {
		t.Fatal(err)
	}
	other := serve(t, s.dsn, Config{Channels: []string{ChannelEmail}})
	other.config.Tenant = "other"
	if p := s.browser().login(alice, alicePassword).want(t, "consent_page"); !strings.Contains(p.body, here.String()) {
		t.Error(p.body)
	}
	if p := other.browser().login(alice, newAlicePassword).want(t, "consent_page"); !strings.Contains(p.body, there.String()) {
		t.Error(p.body)
	}
	s.browser().login(alice, newAlicePassword).want(t, "login_page")
	other.browser().login(alice, alicePassword).want(t, "login_page")
	for range 5 {
		s.elsewhere(1).login(alice, "wrong")
	}
	if p := s.elsewhere(2).login(alice, alicePassword); p.status != http.StatusTooManyRequests {
		t.Fatalf("no block: %d", p.status)
	}
	other.elsewhere(2).login(alice, newAlicePassword).want(t, "consent_page")
	s.selfMessages(t)
	other.browser().post("/recover", "username", alice)
	if n := s.rows(t, `SELECT count(*) FROM recoveries r JOIN customers c ON c.id = r.customer_id WHERE c.tenant = 'default'`); n != 0 || len(s.selfMessages(t)) != 1 {
		t.Errorf("a recovery there is one here: %d", n)
	}
	for range 4 { // as many mails as may be
		other.browser().post("/recover", "username", alice)
	}
	s.selfMessages(t)
	s.browser().post("/recover", "username", alice)
	if n := len(s.selfMessages(t)); n != 1 {
		t.Errorf("their recoveries use up hers: %d mails", n)
	}
}
