package authn

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

const (
	aliceEmail = "alice.doe@heron.example"
	alicePhone = "+254700123456"
)

var bothChannels = []string{ChannelEmail, ChannelSMS}

// setFactor gives a customer a confirmed factor.
func (s *server) setFactor(customer uuid.UUID, kind string, secret any) {
	s.t.Helper()
	raw, err := json.Marshal(secret)
	if err == nil {
		err = s.db.SetFactor(s.t.Context(), storage.NewID(), customer, kind, raw, storage.Event{CustomerID: customer, Kind: eventFactorAdded})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// withEmail makes alice with codes by email.
func (s *server) withEmail() uuid.UUID {
	id := s.createAlice()
	s.setFactor(id, storage.EmailFactor, sentSecret{aliceEmail})
	return id
}

// outbox takes what waits to be sent.
func (s *server) outbox() (all []storage.Message) {
	s.t.Helper()
	waiting, err := s.db.TakeNotifications(s.t.Context(), 100, time.Hour)
	for _, n := range waiting {
		if n.Kind != storage.MessageNotification {
			continue
		}
		m, failed := s.db.Message(n)
		if failed != nil {
			err = failed
		}
		all = append(all, m)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

var sixDigits = regexp.MustCompile(`\b[0-9]{6}\b`)

// sent is the code of the one message with a code that waits.
func (s *server) sent() string {
	s.t.Helper()
	all := slices.DeleteFunc(s.outbox(), func(m storage.Message) bool { return !sixDigits.MatchString(m.Text) })
	if len(all) != 1 {
		s.t.Fatalf("%d messages: %+v", len(all), all)
	}
	return sixDigits.FindString(all[0].Text)
}

func not(code string) string {
	if code[0] == '9' {
		return "0" + code[1:]
	}
	return string(code[0]+1) + code[1:]
}

const (
	secondFactorForm = "/login/second-factor"
	shownPage        = "consent_page"
)

// sendTo has a code sent by a kind.
func (b *browser) sendTo(kind string) page {
	return b.post(secondFactorForm, "kind", kind, "send", "1")
}

func (b *browser) typeCode(kind, code string) page {
	return b.post(secondFactorForm, "kind", kind, "code", code)
}

// hash is of the browser's login.
func (b *browser) hash() []byte {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: loginCookie, Value: b.cookie()})
	return b.s.LoginHash(r)
}

func (p page) how() string {
	return find(regexp.MustCompile(`id="code_how">([^<]*)<`), p.body)
}

// E4, E10: a code by email, asked for by a button, to a masked destination, with part of the name.
func TestSentCode_Login(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Channels: bothChannels})
	id := s.withEmail()
	s.setFactor(id, storage.SMSFactor, sentSecret{alicePhone})
	for kind, want := range map[string]struct{ to, masked, amr string }{
		storage.EmailFactor: {aliceEmail, "a•••@heron.example", "pwd,otp,mfa"},
		storage.SMSFactor:   {alicePhone, "•••• 3456", "pwd,otp,sms,mfa"},
	} {
		b := s.browser()
		b.login(alice, alicePassword).want(t, "second_factor_page")
		p := b.get(pathOf(journeyURL, secondFactorForm)+"&kind="+kind).want(t, "second_factor_page")
		if p.how() != "Alice, we can send a code to "+want.masked+"." || len(s.outbox()) != 0 {
			t.Errorf("before the button: %q", p.how())
		}
		b.get(pathOf(journeyURL, secondFactorForm) + "&send=1&kind=" + kind)
		if len(s.outbox()) != 0 {
			t.Error("looking at a page sent a code")
		}
		p = b.sendTo(kind).want(t, "second_factor_page")
		if p.how() != "Alice, we sent a code to "+want.masked+". It is good for 5 minutes." {
			t.Errorf("after it: %q", p.how())
		}
		for _, secret := range []string{aliceEmail, "alice.doe", "700123", "Doe"} {
			if strings.Contains(p.body, secret) {
				t.Errorf("the page says %q", secret)
			}
		}
		all := s.outbox()
		if len(all) != 1 || all[0].To != want.to || !strings.HasPrefix(all[0].Text, "Alice, ") || all[0].ExpiresAt.After(time.Now().Add(5*time.Minute)) {
			t.Fatalf("%+v", all)
		}
		code := sixDigits.FindString(all[0].Text)
		if p := b.typeCode(kind, not(code)).want(t, "second_factor_page"); p.status != http.StatusForbidden || p.problem() == "" {
			t.Errorf("a wrong code: %d %q", p.status, p.problem())
		}
		p = b.typeCode(kind, code[:3]+" "+code[3:]).want(t, shownPage)
		if want := fmt.Sprintf("%s %s %s", id, SCA, want.amr); !strings.Contains(p.body, want) {
			t.Errorf("logged in as %q, want %q", p.body, want)
		}
	}
	for _, entry := range s.logs.All() {
		if line := fmt.Sprint(entry.Message, entry.ContextMap()); sixDigits.MatchString(strings.ReplaceAll(line, id.String(), "")) && strings.Contains(line, "code.") || strings.Contains(line, aliceEmail) || strings.Contains(line, alicePhone) {
			t.Errorf("the log says %q", line)
		}
	}
}

// design.md: a login with a code by email is two round trips for the password, two to send, three to check.
func TestSentCode_RoundTrips(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Channels: bothChannels})
	s.withEmail()
	cookie := ""
	post := func(handle http.HandlerFunc, want int64, form url.Values) {
		t.Helper()
		form.Set("client_id", tpp)
		form.Set("request_uri", requestURI)
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		before := s.trips.n.Load()
		handle(w, r)
		if n := s.trips.n.Load() - before; n > want || w.Code != http.StatusSeeOther {
			t.Errorf("%v: %d, %d round trips, want %d", form, w.Code, n, want)
		}
		for _, c := range w.Result().Cookies() {
			if c.Name == loginCookie {
				cookie = c.Name + "=" + c.Value
			}
		}
	}
	post(s.Authn.login, 2, url.Values{"username": {alice}, "password": {alicePassword}})
	post(s.secondFactor, 2, url.Values{"kind": {"email"}, "send": {"1"}})
	post(s.secondFactor, 3, url.Values{"kind": {"email"}, "code": {s.sent()}})
}

// E6, E9: what a code is not good for.
func TestSentCode_Refused(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(t *testing.T, s *server, b *browser, code string) page{
		"twice": func(t *testing.T, s *server, b *browser, code string) page {
			b.typeCode("email", code).want(t, shownPage)
			other := s.browser()
			other.login(alice, alicePassword)
			return other.typeCode("email", code)
		},
		"in another login of the customer": func(t *testing.T, s *server, b *browser, code string) page {
			other := s.browser()
			other.login(alice, alicePassword)
			return other.typeCode("email", code)
		},
		"of another customer": func(t *testing.T, s *server, b *browser, code string) page {
			id := s.create(NewCustomer{Profile: storage.Profile{Username: "bob", Name: "Bob"}, Password: alicePassword})
			s.setFactor(id, storage.EmailFactor, sentSecret{"bob@heron.example"})
			other := s.browser()
			other.login("bob", alicePassword).want(t, "second_factor_page")
			return other.typeCode("email", code)
		},
		"after a newer one": func(t *testing.T, s *server, b *browser, code string) page {
			b.sendTo("email").want(t, "second_factor_page")
			if newer := s.sent(); newer == code {
				t.Skip("the newer one is the same, once in a million")
			}
			return b.typeCode("email", code)
		},
		"after one for something else": func(t *testing.T, s *server, b *browser, code string) page {
			q := CodeRequest{CustomerID: uuid.UUID(s.id(t)), To: Destination{ChannelEmail, aliceEmail}, Purpose: "recovery", Binding: []byte("x")}
			if err := s.SendCode(t.Context(), q); err != nil {
				t.Fatal(err)
			}
			return b.typeCode("email", code)
		},
		"after five minutes": func(t *testing.T, s *server, b *browser, code string) page {
			s.sql(t, nil, `UPDATE one_time_codes SET expires_at = expires_at - interval '5 minutes'`)
			return b.typeCode("email", code)
		},
		"for another kind": func(t *testing.T, s *server, b *browser, code string) page {
			s.setFactor(uuid.UUID(s.id(t)), storage.TOTP, "none")
			return b.typeCode("totp", code)
		},
		"of a factor that was removed": func(t *testing.T, s *server, b *browser, code string) page {
			s.sql(t, nil, `UPDATE second_factors SET id = gen_random_uuid()`)
			s.sql(t, nil, `DELETE FROM second_factors`)
			s.setFactor(uuid.UUID(s.id(t)), storage.RecoveryCodes, recoverySecret{})
			return b.typeCode("email", code)
		},
		"of a factor whose address has changed": func(t *testing.T, s *server, b *browser, code string) page {
			visitor, err := s.db.FindLogin(t.Context(), b.hash())
			if err != nil {
				t.Fatal(err)
			}
			s.setFactor(visitor.CustomerID, storage.EmailFactor, sentSecret{"new@heron.example"})
			c, err := s.CheckCode(t.Context(), visitor.CustomerID, codeForLogin, b.hash(), code)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.db.CompleteLogin(t.Context(), storage.SentCode{Factor: visitor.Confirmed()[0], Code: c},
				storage.NewLogin{Hash: make([]byte, 32), Replaces: b.hash(), ACR: SCA, AMR: []string{}, Lifetime: time.Minute})
			if err != storage.ErrNotFound {
				t.Errorf("completed: %v", err)
			}
			return b.typeCode("email", code)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t, Config{Channels: bothChannels, CodesPerHour: 10})
			s.withEmail()
			b := s.browser()
			b.login(alice, alicePassword).want(t, "second_factor_page")
			b.sendTo("email").want(t, "second_factor_page")
			if p := attack(t, s, b, s.sent()); p.id != "second_factor_page" {
				t.Errorf("%d %s", p.status, p.id)
			}
		})
	}
}

// E9: five attempts, however many run at once and on however many servers; the sixth gets no verdict, though it is right.
func TestSentCode_FiveAttemptsOverTwoServers(t *testing.T) {
	t.Parallel()
	c := Config{Channels: bothChannels, MaxFailures: 1000}
	one := setup(t, c)
	two := serve(t, one.dsn, c)
	one.withEmail()
	b := one.browser()
	b.login(alice, alicePassword).want(t, "second_factor_page")
	b.sendTo("email")
	code := one.sent()
	hash := b.hash()
	var verdicts atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, err := []*server{one, two}[i%2].db.TryCode(t.Context(), uuid.UUID(one.id(t)), codeForLogin, hash, codeAttempts)
			if err == nil {
				verdicts.Add(1)
			}
		})
	}
	wg.Wait()
	if verdicts.Load() != codeAttempts {
		t.Errorf("%d attempts got a verdict", verdicts.Load())
	}
	p := b.typeCode("email", code).want(t, "second_factor_page")
	if p.how() != "Alice, we can send a code to a•••@heron.example." {
		t.Errorf("a code that is worth nothing is still asked for: %q", p.how())
	}
}

// Wrong codes count with wrong passwords: the fifth locks.
func TestSentCode_WrongCodesLock(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Channels: bothChannels})
	s.withEmail()
	b := s.browser()
	b.login(alice, alicePassword)
	b.sendTo("email")
	code := s.sent()
	for range 4 {
		b.typeCode("email", not(code)).want(t, "second_factor_page")
	}
	if p := b.typeCode("email", not(code)); p.status != http.StatusTooManyRequests {
		t.Errorf("the fifth: %d", p.status)
	}
	if p := b.typeCode("email", code); p.status != http.StatusTooManyRequests || p.id != "second_factor_page" {
		t.Errorf("the right one, too late: %d %s", p.status, p.id)
	}
	if p := b.sendTo("email"); p.status != http.StatusTooManyRequests || len(s.outbox()) != 0 {
		t.Errorf("a code was sent during a lock: %d", p.status)
	}
}

// E9: three codes an hour, for all logins together; the fourth is refused and nothing is sent.
func TestSentCode_ThreeAnHour(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Channels: bothChannels})
	s.withEmail()
	var last *browser
	for range 3 {
		last = s.browser()
		last.login(alice, alicePassword)
		last.sendTo("email").want(t, "second_factor_page")
	}
	messages := s.outbox()
	if len(messages) != 3 {
		t.Fatalf("%d messages", len(messages))
	}
	for range 3 {
		if p := last.sendTo("email").want(t, "second_factor_page"); p.status != http.StatusTooManyRequests || p.problem() == "" || len(s.outbox()) != 0 {
			t.Errorf("the fourth: %d %q", p.status, p.problem())
		}
	}
	slices.SortFunc(messages, func(x, y storage.Message) int { return bytes.Compare(x.ID[:], y.ID[:]) })
	last.typeCode("email", sixDigits.FindString(messages[2].Text)).want(t, shownPage) // the last one is still good
	s.sql(t, nil, `UPDATE one_time_codes SET requests_since = requests_since - interval '1 hour'`)
	other := s.browser()
	other.login(alice, alicePassword)
	if p := other.sendTo("email"); p.status != http.StatusOK || len(s.outbox()) != 1 {
		t.Errorf("an hour later: %d", p.status)
	}
}

// Of many that ask at once, on two servers, three get one.
func TestSentCode_FloodOverTwoServers(t *testing.T) {
	t.Parallel()
	c := Config{Channels: bothChannels}
	one := setup(t, c)
	two := serve(t, one.dsn, c)
	id := one.withEmail()
	var sent atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			err := []*server{one, two}[i%2].SendCode(t.Context(), CodeRequest{CustomerID: id, To: Destination{ChannelEmail, aliceEmail}, Purpose: codeForLogin, Binding: []byte{byte(i)}})
			if err == nil {
				sent.Add(1)
			} else if err != ErrTooManyCodes {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(one.outbox()); sent.Load() != 3 || n != 3 {
		t.Errorf("%d sent, %d messages", sent.Load(), n)
	}
}

// What customers wrote is no template: neither on the page nor in the message.
func TestSentCode_NamesAreNoTemplates(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Channels: bothChannels, CodesPerHour: 100})
	for i, test := range []struct{ given, name, shown string }{
		{"Anna", "", "Anna, "},
		{"", "José-María O’Neill", "José-María, "},
		{"{code}", "", ""}, {"{{token}}", "", ""}, {"{{.Code}}", "", ""}, {"{bank}", "", ""}, {"%s", "", ""}, {"<b>", "", ""},
		{"", "https://evil.example wins", ""}, {"evil.example", "", ""}, {"0800123456", "", ""}, {strings.Repeat("a", 21), "", ""},
		{"Anna\r\nBcc:", "", "Anna, "}, {"\u202eanna", "", ""}, {"", "", ""},
	} {
		username := fmt.Sprintf("someone%d", i)
		id := s.create(NewCustomer{Profile: storage.Profile{Username: username, GivenName: test.given, Name: test.name}, Password: alicePassword})
		s.setFactor(id, storage.EmailFactor, sentSecret{aliceEmail})
		b := s.browser()
		b.login(username, alicePassword).want(t, "second_factor_page")
		p := b.sendTo("email").want(t, "second_factor_page")
		text := s.outbox()[0].Text
		code := sixDigits.FindString(text)
		want := test.shown + code + " is your code at Heron Bank. It is good for 5 minutes, and only on the page that asked for it. Nobody from the bank ever asks you for it."
		if diff := cmp.Diff(want, text); diff != "" {
			t.Errorf("%q: %s", test.given, diff)
		}
		if how := p.how(); strings.Contains(p.body, code) || strings.HasPrefix(how, "We sent") != (test.shown == "") {
			t.Errorf("%q: %q", test.given, how)
		}
	}
}

// Enrolment during a login: the address is typed or the profile's, and a code proves it.
func TestSentCode_Enrolment(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Channels: bothChannels, RequireSecondFactor: true, CodesPerHour: 100})
	s.create(NewCustomer{Profile: storage.Profile{Username: alice, Name: "Alice Doe", Email: aliceEmail}, Password: alicePassword})
	b := s.browser()
	p := b.login(alice, alicePassword).want(t, "enrol_page")
	for _, kind := range []string{"email", "sms"} {
		if !strings.Contains(p.body, `href="/login/enrol/`+kind+`?client_id=tpp&amp;request_uri=`) {
			t.Errorf("no link to %s", kind)
		}
	}
	p = b.get(pathOf(journeyURL, "/login/enrol/email")).want(t, "enrol_factor_page")
	if strings.Contains(p.body, aliceEmail) || !strings.Contains(p.how(), "a•••@heron.example") {
		t.Errorf("%q", p.how())
	}
	for _, bad := range []string{"alice", "alice@", "a@b c", "<a@b.example>", "Alice <a@b.example>", "a@b.example, c@d.example", "a@b.example\r\nBcc: c@d.example", strings.Repeat("a", 250) + "@b.example"} {
		if p := b.post("/login/enrol/email", "kind", "email", "begin", "1", "address", bad); p.status != http.StatusUnprocessableEntity || p.problem() == "" {
			t.Errorf("%q: %d", bad, p.status)
		}
	}
	for _, bad := range []string{"", "0700123456", "+0700123456", "+25470012345678901", "+254700;900", "tel:+254700123456"} {
		if p := b.post("/login/enrol/sms", "kind", "sms", "begin", "1", "address", bad); p.status != http.StatusUnprocessableEntity || p.problem() == "" {
			t.Errorf("%q: %d", bad, p.status)
		}
	}
	if len(s.outbox()) != 0 {
		t.Fatal("something was sent")
	}
	b.post("/login/enrol/sms", "kind", "sms", "begin", "1", "address", "+254 (700) 123-456").want(t, "enrol_factor_page")
	if m := s.outbox(); len(m) != 1 || m[0].To != alicePhone || m[0].Channel != ChannelSMS {
		t.Errorf("%+v", m)
	}
	p = b.post("/login/enrol/email", "kind", "email", "begin", "1", "address", "").want(t, "enrol_factor_page")
	if p.how() != "Alice, we sent a code to a•••@heron.example. It is good for 5 minutes." {
		t.Errorf("%q", p.how())
	}
	first := s.sent()
	b.post("/login/enrol/email", "kind", "email", "begin", "again").want(t, "enrol_factor_page")
	code := s.sent()
	for _, wrong := range []string{first, not(code)} {
		if p := b.post("/login/enrol/email", "kind", "email", "code", wrong); wrong != code && p.id != "enrol_factor_page" {
			t.Errorf("a wrong code: %d %s", p.status, p.id)
		}
	}
	var confirmed int
	if s.sql(t, &confirmed, `SELECT count(*) FROM second_factors WHERE confirmed_at IS NOT NULL`); confirmed != 0 {
		t.Fatal("confirmed without a code")
	}
	p = b.typeCode("email", code) // of an enrolment, shown as of a login
	if p.id != "enrol_page" {
		t.Errorf("%s", p.id)
	}
	b.post("/login/enrol/email", "kind", "email", "code", code).want(t, "recovery_codes_page")
	b.get(journeyURL).want(t, shownPage)
	s.scan(t, [][]byte{[]byte(aliceEmail), []byte("heron.example"), []byte(alicePhone), []byte(code)})

	s.outbox() // that a factor was added
	other := s.browser()
	other.login(alice, alicePassword).want(t, "second_factor_page")
	other.get(pathOf(journeyURL, "/login/enrol/sms")).want(t, "second_factor_page") // the password alone adds nothing
	other.post("/login/enrol/sms", "kind", "sms", "begin", "1", "address", "+15550001111").want(t, "second_factor_page")
	if len(s.outbox()) != 0 {
		t.Error("something was sent")
	}
	other.sendTo("email")
	other.typeCode("email", s.sent()).want(t, shownPage)
}

// A code that was sent to an address that another login has since replaced confirms nothing, and nobody gets in by it.
func TestSentCode_AnotherLoginsAddressIsNotConfirmed(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Channels: bothChannels, RequireSecondFactor: true, CodesPerHour: 10})
	s.createAlice()
	mine, theirs := s.browser(), s.browser()
	mine.login(alice, alicePassword).want(t, "enrol_page")
	theirs.login(alice, alicePassword).want(t, "enrol_page")
	theirs.post("/login/enrol/email", "kind", "email", "begin", "1", "address", "thief@evil.example")
	code := s.sent()
	mine.post("/login/enrol/email", "kind", "email", "begin", "1", "address", aliceEmail)
	newer := s.sent()
	theirs.post("/login/enrol/email", "kind", "email", "code", code).want(t, "enrol_factor_page")
	theirs.post("/login/enrol/email", "kind", "email", "code", newer).want(t, "enrol_factor_page")
	mine.post("/login/enrol/email", "kind", "email", "code", newer).want(t, "recovery_codes_page")
}

// A channel that is taken away is no way around the second factor.
func TestSentCode_WithoutItsChannel(t *testing.T) {
	t.Parallel()
	one := setup(t, Config{Channels: bothChannels})
	one.withEmail()
	for name, c := range map[string]Config{"no channel": {}, "kind switched off": {Channels: bothChannels, FactorKinds: []string{storage.TOTP}}} {
		s := serve(t, one.dsn, c)
		b := s.browser()
		p := b.login(alice, alicePassword).want(t, "second_factor_page")
		if p.status != http.StatusForbidden || !strings.Contains(p.body, `id="none"`) {
			t.Errorf("%s: %d", name, p.status)
		}
		for _, p := range []page{b.sendTo("email"), b.typeCode("email", "123456"), b.get(pathOf(journeyURL, "/login/enrol"))} {
			if p.id != "second_factor_page" || len(s.outbox()) != 0 {
				t.Errorf("%s: %d %s", name, p.status, p.id)
			}
		}
	}
}
