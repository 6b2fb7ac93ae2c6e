package authn

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/storage/storagetest"
)

// What somebody who means no good tries at sign-up and with invitations.

// TestSignUpPages_BadForms sends each page what no browser would.
func TestSignUpPages_BadForms(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{SignUp: true, Channels: []string{ChannelEmail}})
	good := map[string]url.Values{
		"/sign-up":            {"username": {"bob"}, "name": {"Bob"}, "email": {"bob@heron.example"}, "password": {alicePassword}},
		"/sign-up/code":       {"code": {"123456"}},
		"/invitation":         {"invitation": {"ABCD-EFGH-JKLM"}},
		"/invitation/sign-up": {"invitation": {"ABCD-EFGH-JKLM"}, "username": {"bob"}, "name": {"Bob"}, "password": {alicePassword}},
	}
	const form = "application/x-www-form-urlencoded"
	for path, fields := range good {
		send := func(method, kind, body, origin string) int {
			r, _ := http.NewRequest(method, s.http.URL+path, strings.NewReader(body))
			r.Header.Set("Content-Type", kind)
			if origin != "" {
				r.Header.Set("Origin", origin)
			}
			return s.browser().do(r).status
		}
		for field := range fields {
			without, twice, binary, long := url.Values{}, url.Values{}, url.Values{}, url.Values{}
			for name, values := range fields {
				without[name], twice[name], binary[name], long[name] = values, values, values, values
			}
			delete(without, field)
			twice[field] = append([]string{"x"}, fields[field]...)
			binary[field] = []string{"\xff\xfe"}
			long[field] = []string{strings.Repeat("x", 1<<20)}
			for name, c := range map[string]struct {
				form url.Values
				want int
			}{"without": {without, 400}, "twice": {twice, 400}, "binary": {binary, 400}, "long": {long, 413}} {
				if name == "without" && path == "/invitation" || name == "twice" && path == "/invitation" {
					continue // which has other forms; there is none that is right
				}
				if got := send(http.MethodPost, form, c.form.Encode(), s.http.URL); got != c.want {
					t.Errorf("%s, %s %s: %d, want %d", path, name, field, got, c.want)
				}
			}
		}
		for name, c := range map[string]struct{ got, want int }{
			"JSON":           {send(http.MethodPost, "application/json", `{}`, s.http.URL), 415},
			"from elsewhere": {send(http.MethodPost, form, fields.Encode(), "https://evil.example"), 403},
			"a method":       {send(http.MethodPut, form, fields.Encode(), s.http.URL), 405},
			"a half escape":  {send(http.MethodPost, form, "code=%f", s.http.URL), 400},
			"half a journey": {send(http.MethodPost, form, fields.Encode()+"&client_id=tpp", s.http.URL), 400},
			"another way on": {send(http.MethodPost, form, fields.Encode()+"&next=https://evil.example", s.http.URL), 400},
		} {
			if c.got != c.want {
				t.Errorf("%s, %s: %d, want %d", path, name, c.got, c.want)
			}
		}
	}
	for _, path := range []string{"/sign-up?client_id=tpp", "/sign-up?next=//evil.example", "/sign-up/code?client_id=tpp&client_id=tpp&request_uri=x"} {
		if p := s.browser().get(path); p.status != http.StatusBadRequest {
			t.Errorf("GET %s: %d", path, p.status)
		}
	}
	var n int
	if s.sql(t, &n, `SELECT (SELECT count(*) FROM customers) + (SELECT count(*) FROM sign_ups)`); n != 0 {
		t.Errorf("%d were made of that", n)
	}
}

// TestSignUpCode_BelongsToItsBrowser tries cookies that are no sign-up's.
func TestSignUpCode_BelongsToItsBrowser(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{SignUp: true, Channels: []string{ChannelEmail}})
	b := s.browser()
	bobSigns(b, "bob@heron.example").want(t, "sign_up_code_page")
	m, _ := s.mailed(t)
	code, own := codeInMail.FindString(m.Text), ""
	for _, c := range b.Jar.Cookies(s.url) {
		if c.Name == signUpCookie {
			own = c.Value
		}
	}
	for name, cookies := range map[string][]string{
		"none": nil, "empty": {""}, "no encoding": {"!!"}, "short": {own[:20]}, "long": {own + "AAAA"}, "another": {strings.Repeat("A", len(own))}, "two": {own, own},
	} {
		other := s.browser()
		other.Jar, _ = cookiejar.New(nil)
		r, _ := http.NewRequest(http.MethodPost, s.http.URL+signUpPage, strings.NewReader(url.Values{"code": {code}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", s.http.URL)
		for _, value := range cookies {
			r.AddCookie(&http.Cookie{Name: signUpCookie, Value: value})
		}
		if p := other.do(r); p.id != "sign_up_page" {
			t.Errorf("%s: %d %s", name, p.status, p.id)
		}
	}
	for _, typed := range []string{"", " ", "0", code[:5], code + "0", strings.Repeat("9", 5000), "' OR true --"} {
		s.sql(t, nil, `UPDATE sign_ups SET attempts = 0`)
		if p := b.post(signUpPage, "code", typed); p.id != "sign_up_code_page" || p.status != http.StatusForbidden {
			t.Errorf("%.20q: %d %s", typed, p.status, p.id)
		}
	}
	s.sql(t, nil, `UPDATE sign_ups SET attempts = 0`)
	b.post(signUpPage, "code", code).want(t, "consent_page")
}

// hashes counts what is hashed from now on.
func (s *server) hashes() *atomic.Int64 {
	n := &atomic.Int64{}
	slots := make(chan struct{})
	s.hasher.slots = slots
	go func() {
		for range slots { // taken
			n.Add(1)
			slots <- struct{}{} // and given back
		}
	}()
	return n
}

// E1: neither the answer nor what it costs tells whether an address is a customer's, also when it is the user name as well.
func TestSignUp_CostsTheSameForEveryAddress(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{SignUp: true, Channels: []string{ChannelEmail, ChannelSMS}})
	s.create(NewCustomer{Profile: storage.Profile{Username: "carol@heron.example", Email: "carol@heron.example"}, Password: alicePassword})
	s.create(NewCustomer{Profile: storage.Profile{Username: "by name", Email: "frank@heron.example"}, Password: alicePassword})
	s.create(NewCustomer{Profile: storage.Profile{Username: "grace@heron.example"}, Password: alicePassword}) // the address is her name only
	s.create(NewCustomer{Profile: storage.Profile{Username: "+254712345678", PhoneNumber: "+254 712 345678"}, Password: alicePassword})
	hashed := s.hashes()
	ask := func(username, address string) (status int, body string, trips, hashes, codes int64) {
		b := s.browser()
		p := b.post("/sign-up", "username", username, "name", "Bob", "email", address, "password", alicePassword)
		masked := destinationOf(&storage.Profile{Email: address}).Masked()
		if !strings.Contains(address, "@") {
			masked = destinationOf(&storage.Profile{PhoneNumber: address}).Masked()
		}
		// The request itself, without the page that it leads to.
		before, hashesBefore := s.trips.n.Load(), hashed.Load()
		r, _ := http.NewRequest(http.MethodPost, s.http.URL+"/sign-up", strings.NewReader(url.Values{"username": {username}, "name": {"Bob"}, "email": {address}, "password": {alicePassword}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", s.http.URL)
		b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		again := b.do(r)
		trips, hashes = s.trips.n.Load()-before, hashed.Load()-hashesBefore
		b.CheckRedirect = nil
		if m, _ := s.mailed(t); m != nil && codeInMail.MatchString(m.Text) {
			codes++
		}
		return p.status*1000 + again.status, strings.ReplaceAll(p.body, masked, "MASKED"), trips, hashes, codes
	}
	for _, kind := range []struct{ free, freeName, known, knownName string }{
		{"dave@heron.example", "dave", "frank@heron.example", "erin"},
		{"dora@heron.example", "dora@heron.example", "carol@heron.example", "Carol@heron.example"},
		{"dina@heron.example", "dina@heron.example", "grace@heron.example", "grace＠heron.example"},
		{"+254712999999", "+254712999999", "+254 712 345678", "+254712345678"},
	} {
		status, body, trips, hashes, codes := ask(kind.freeName, kind.free)
		status2, body2, trips2, hashes2, codes2 := ask(kind.knownName, kind.known)
		if status != 200303 || status != status2 || body != body2 || trips != trips2 || hashes != hashes2 || hashes != 1 || codes != 1 || codes2 != 0 {
			t.Errorf("%s and %s: status %d %d, round trips %d %d, hashes %d %d, codes %d %d; same page: %v", kind.free, kind.known, status, status2, trips, trips2, hashes, hashes2, codes, codes2, body == body2)
		}
	}
	for username, address := range map[string]string{
		"carol@heron.example": "mallory@heron.example", "carol＠heron.example": "mallory@heron.example", "+254712345678": "mallory@heron.example", "00254 712 345678": "+254712999998",
	} {
		if p := s.browser().post("/sign-up", "username", username, "name", "Mallory", "email", address, "password", alicePassword); p.problem() != s.pages.Text("problem.username_address") {
			t.Errorf("%s with %s: %d %q", username, address, p.status, p.problem())
		}
	}
}

// Two server processes and one user name: one becomes a customer, the other reads that the name is taken, and can choose another.
func TestSignUp_TwoServersRaceForAName(t *testing.T) {
	t.Parallel()
	config := Config{SignUp: true, Channels: []string{ChannelEmail}}
	one := setup(t, config)
	servers := []*server{one, serve(t, one.dsn, config)}
	for _, name := range []string{"bob", "carl", "dave"} {
		var browsers []*browser
		var codes []string
		for i := range 4 {
			b := servers[i%2].browser()
			b.post("/sign-up", "username", name, "name", "Bob", "email", name+string(rune('0'+i))+"@heron.example", "password", alicePassword).want(t, "sign_up_code_page")
			m, _ := one.mailed(t)
			browsers, codes = append(browsers, b), append(codes, codeInMail.FindString(m.Text))
		}
		var in, taken atomic.Int64
		var together sync.WaitGroup
		for i, b := range browsers {
			together.Go(func() {
				switch p := b.post(signUpPage, "code", codes[i]); {
				case p.id == "consent_page":
					in.Add(1)
				case p.id == "sign_up_page" && p.problem() == b.s.pages.Text("problem.username_taken"):
					taken.Add(1)
				default:
					t.Errorf("%d %s %q", p.status, p.id, p.problem())
				}
			})
		}
		together.Wait()
		var n int
		if one.sql(t, &n, `SELECT count(*) FROM customers`); in.Load() != 1 || taken.Load() != 3 {
			t.Errorf("%s: %d are in, %d refused; %d customers", name, in.Load(), taken.Load(), n)
		}
	}
}

// One code at sign-up, sent in at several servers at once, makes one customer and one login.
func TestSignUp_TwoServersRaceWithACode(t *testing.T) {
	t.Parallel()
	config := Config{SignUp: true, Channels: []string{ChannelEmail}}
	one := setup(t, config)
	two := serve(t, one.dsn, config)
	b := one.browser()
	bobSigns(b, "bob@heron.example").want(t, "sign_up_code_page")
	m, _ := one.mailed(t)
	var in atomic.Int64
	var together sync.WaitGroup
	for i := range 5 {
		s := []*server{one, two}[i%2]
		same := s.browser()
		same.Jar.SetCookies(s.url, b.Jar.Cookies(one.url))
		together.Go(func() {
			if p := same.post(signUpPage, "code", codeInMail.FindString(m.Text)); p.id == "consent_page" {
				in.Add(1)
			}
		})
	}
	together.Wait()
	var n int
	if one.sql(t, &n, `SELECT (SELECT count(*) FROM customers) * 100 + (SELECT count(*) FROM logins)`); in.Load() != 1 || n != 101 {
		t.Errorf("%d are in; customers and logins %d", in.Load(), n)
	}
}

// One invitation, sent in at several servers at once by people who become customers and by one who is: somebody gets it, once.
func TestInvitation_TwoServersRaceForACode(t *testing.T) {
	t.Parallel()
	dsn := storagetest.New(t)
	config := Config{Policy: lax, CustomersPerClient: -1} // the code alone is in the way, not that the client is taken
	one := serve(t, dsn, config)
	servers := []*server{one, serve(t, dsn, config)}
	aliceID := one.createAlice()
	for round := range 4 {
		client := int64(100 + round)
		one.sql(t, nil, `UPDATE customers SET fineract_client_id = NULL WHERE id = $1`, [16]byte(aliceID))
		code, _ := one.invite(t, func(n *NewInvitation) { n.FineractClientID = client })
		linking := servers[1].browser()
		linking.postForm("/login", "username", alice, "password", alicePassword, "next", "/invitation").want(t, "invitation_page")
		var got atomic.Int64
		var together sync.WaitGroup
		together.Go(func() {
			if p := linking.postForm("/invitation", "invitation", code); p.id == "done_page" {
				got.Add(1)
			}
		})
		for i := range 5 {
			b := servers[i%2].browser()
			name := "new" + string(rune('a'+round)) + string(rune('a'+i))
			together.Go(func() {
				p := b.postForm("/invitation/sign-up", "invitation", code, "username", name, "name", "New", "password", alicePassword)
				switch {
				case p.id == "consents_page":
					got.Add(1)
				case p.id != "invitation_page" || p.status != http.StatusForbidden && p.status != http.StatusConflict:
					t.Errorf("%d %s %q", p.status, p.id, p.problem())
				}
			})
		}
		together.Wait()
		var n int
		if one.sql(t, &n, `SELECT count(*) FROM customers WHERE fineract_client_id = $1`, client); got.Load() != 1 || n != 1 {
			t.Errorf("round %d: %d got it, %d are linked", round, got.Load(), n)
		}
		if one.sql(t, &n, `SELECT count(*) FROM customers WHERE fineract_client_id IS NULL`); n > 1 {
			t.Errorf("round %d: %d customers without the client whose invitation they took", round, n)
		}
	}
}

// Guesses at invitations are counted together at all servers, by the network that they come from.
func TestInvitation_GuessesAreCountedAcrossServers(t *testing.T) {
	t.Parallel()
	config := Config{AddressAttempts: 6}
	one := setup(t, config)
	servers := []*server{one, serve(t, one.dsn, config)}
	right, _ := one.invite(t, nil)
	var verdicts int
	var last page
	for i := range 10 {
		path, fields := "/invitation", []string{"invitation", "ABCD-EFGH-JKLM"}
		if i%3 == 2 {
			path, fields = "/invitation/sign-up", append(fields, "username", "bob", "name", "Bob", "password", alicePassword)
		}
		if last = servers[i%2].browser().postForm(path, fields...); last.status == http.StatusForbidden {
			verdicts++
		}
	}
	if verdicts < 6 || verdicts > 8 || last.status != http.StatusTooManyRequests || last.header.Get("Retry-After") == "" {
		t.Errorf("%d guesses got a verdict; the last one: %d, Retry-After %q", verdicts, last.status, last.header.Get("Retry-After"))
	}
	if p := servers[1].browser().postForm("/invitation/sign-up", "invitation", right, "username", "bob", "name", "Bob", "password", alicePassword); p.status != http.StatusTooManyRequests {
		t.Errorf("a right one, too late: %d", p.status)
	}
	elsewhere := one.browser()
	elsewhere.from = "198.51.100.9"
	elsewhere.postForm("/invitation", "invitation", right).want(t, "sign_up_page") // others are not kept out
}
