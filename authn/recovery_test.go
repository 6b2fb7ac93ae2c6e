package authn

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

var mailedCode = regexp.MustCompile(`\b[A-Z2-9]{5}-[A-Z2-9]{5}\b`)

// recoverySetup is a server with alice, whose address is verified.
func recoverySetup(t *testing.T, c Config) (*server, uuid.UUID) {
	t.Helper()
	c.Channels = []string{ChannelEmail}
	s := setup(t, c)
	id := s.create(NewCustomer{Profile: storage.Profile{Username: alice, Name: "Alice Doe", Email: "alice@heron.example", EmailVerified: true}, Password: alicePassword})
	return s, id
}

// authenticator gives alice one, which she shows; then her login is over.
func (s *server) authenticator() totp {
	s.t.Helper()
	b := s.browser()
	was := s.acr
	s.acr = SCA
	defer func() { s.acr = was }()
	key := totpOf(s.t, b.login(alice, alicePassword).want(s.t, "enrol_page").secret())
	b.post("/login/enrol", "code", s.code(key)).want(s.t, "recovery_codes_page")
	s.clock.Add(totpPeriod)
	s.selfMessages(s.t)
	return key
}

// recovering asks for a code and reads the mail.
func (b *browser) recovering(username string) (code string) {
	b.s.t.Helper()
	b.post("/recover", "username", username).want(b.s.t, "recover_code_page")
	mails := b.s.selfMessages(b.s.t)
	if len(mails) != 1 || mails[0].To != "alice@heron.example" || mails[0].Channel != ChannelEmail {
		b.s.t.Fatalf("%d mails: %+v", len(mails), mails)
	}
	if left := mails[0].ExpiresAt.Sub(b.s.now()); left > 15*time.Minute || left < 14*time.Minute {
		b.s.t.Errorf("the mail lasts %v", left)
	}
	if code = mailedCode.FindString(mails[0].Text); code == "" {
		b.s.t.Fatalf("no code in %q", mails[0].Text)
	}
	return code
}

func (b *browser) newPassword(code, password string) page {
	return b.post("/recover/code", "code", code, "password", password)
}

// E4: the mailbox stands for the password; all logins end, and the customer is told.
func TestRecover_WithoutASecondFactor(t *testing.T) {
	t.Parallel()
	s, id := recoverySetup(t, Config{})
	before := s.browser()
	before.login(alice, alicePassword).want(t, "consent_page")
	b := s.browser()
	for range 5 { // as somebody does who has forgotten it
		b.login(alice, "not this one either")
	}
	p := b.get("/login?client_id=" + tpp + "&request_uri=" + requestURI)
	if p = b.get("/recover?client_id="+tpp+"&request_uri="+requestURI).want(t, "recover_page"); !strings.Contains(p.body, requestURI) {
		t.Error("the journey is lost")
	}
	code := b.recovering("  ALICE ")
	p = b.newPassword(strings.ToLower(strings.ReplaceAll(code, "-", " ")), newAlicePassword).want(t, "done_page")
	if p.status != http.StatusOK || !strings.Contains(p.body, `href="/authorize?client_id=tpp`) {
		t.Errorf("%d %s", p.status, p.body)
	}
	if n := s.rows(t, `SELECT count(*) FROM limits WHERE customer_id IS NOT NULL`); n != 0 {
		t.Errorf("%d browsers are still known", n)
	}
	if p := before.get(journeyURL); p.id != "login_page" {
		t.Errorf("a login of before lives: %s", p.id)
	}
	if p := s.elsewhere(3).login(alice, alicePassword); p.id != "login_page" {
		t.Errorf("the old password works: %s", p.id)
	}
	b.login(alice, newAlicePassword).want(t, "consent_page") // in this browser nothing is blocked any more
	for _, kind := range []string{"recovery.begun", "recovery.completed"} {
		if n := s.selfCount(t, `SELECT count(*) FROM events WHERE customer_id = $1 AND kind = $2 AND visit IS NOT NULL`, [16]byte(id), kind); n != 1 {
			t.Errorf("%d events %s", n, kind)
		}
	}
	if mails := s.selfMessages(t); len(mails) != 1 || mails[0].To != "alice@heron.example" || mails[0].Subject != "Heron Bank: your password was changed" {
		t.Errorf("told by %+v", mails)
	}
	if p := b.newPassword(code, "another five words in a row"); p.id != "recover_page" {
		t.Errorf("the code works twice: %s %d", p.id, p.status)
	}
}

// A17, E4: with a second factor, nothing has changed until that is shown too.
func TestRecover_WithASecondFactor(t *testing.T) {
	t.Parallel()
	s, id := recoverySetup(t, Config{})
	key := s.authenticator()
	elsewhere := s.browser()
	elsewhere.login(alice, alicePassword).want(t, "second_factor_page")
	elsewhere.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
	s.clock.Add(totpPeriod)
	rival := s.browser()
	rivals := rival.recovering(alice)
	b := s.browser()
	code := b.recovering(alice)
	b.newPassword(code, newAlicePassword).want(t, "second_factor_page")

	if p := b.get("/consents"); !strings.Contains(p.body, "consents_page") {
		t.Fatal(p.body)
	}
	if p := b.get(journeyURL); p.id != "second_factor_page" {
		t.Errorf("half a recovery is a login: %s", p.id)
	}
	elsewhere.get(journeyURL).want(t, "consent_page")
	s.browser().login(alice, alicePassword).want(t, "second_factor_page")
	if p := s.browser().login(alice, newAlicePassword); p.id != "login_page" {
		t.Errorf("the new password counts already: %s", p.id)
	}
	if mails := s.selfMessages(t); len(mails) != 0 {
		t.Errorf("told too early: %+v", mails)
	}
	if p := b.post("/login/second-factor", "code", s.wrong(key)); p.status != http.StatusForbidden {
		t.Errorf("%d", p.status)
	}
	b.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
	s.clock.Add(totpPeriod)

	if p := elsewhere.get(journeyURL); p.id != "login_page" {
		t.Errorf("another login lives: %s", p.id)
	}
	if n := s.rows(t, `SELECT count(*) FROM limits WHERE customer_id IS NOT NULL`); n != 1 {
		t.Errorf("%d browsers are known, want this one", n)
	}
	b.get(journeyURL).want(t, "consent_page")
	if p := s.browser().login(alice, alicePassword); p.id != "login_page" {
		t.Errorf("the old password works: %s", p.id)
	}
	s.browser().login(alice, newAlicePassword).want(t, "second_factor_page")
	if p := rival.newPassword(rivals, "another five words in a row"); p.status != http.StatusForbidden {
		t.Errorf("another recovery lives: %d %s", p.status, p.id)
	}
	if n := s.selfCount(t, `SELECT count(*) FROM events WHERE customer_id = $1 AND kind = 'recovery.completed'`, [16]byte(id)); n != 1 {
		t.Errorf("%d events", n)
	}
	if mails := s.selfMessages(t); len(mails) != 1 || mails[0].Subject != "Heron Bank: your password was changed" {
		t.Errorf("told by %+v", mails)
	}
}

// A password that is set between the code and the second factor is not overwritten, and nobody gets in.
func TestRecover_HalfOneIsVoidOnceThePasswordChanges(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]string{
		"another password": `UPDATE customers SET password_hash = password_hash || 'x'`,
		"disabled":         `UPDATE customers SET disabled_at = now()`,
		"expired":          `UPDATE logins SET expires_at = now() WHERE recovery IS NOT NULL`,
	} {
		s, _ := recoverySetup(t, Config{})
		key := s.authenticator()
		b := s.browser()
		b.newPassword(b.recovering(alice), newAlicePassword).want(t, "second_factor_page")
		s.sql(t, nil, spoil)
		var before, after string
		s.sql(t, &before, `SELECT password_hash FROM customers`)
		if p := b.post("/login/second-factor", "code", s.code(key)); p.id == "consent_page" {
			t.Errorf("%s: got in", name)
		}
		if s.sql(t, &after, `SELECT password_hash FROM customers`); before != after {
			t.Errorf("%s: the password was set", name)
		}
	}
}

// The mailbox is not both halves of a recovery.
func TestRecover_TheMailboxIsNoSecondFactorToo(t *testing.T) {
	t.Parallel()
	s, id := recoverySetup(t, Config{})
	factor := func(kind string) *storage.SecondFactor {
		f := &storage.SecondFactor{ID: storage.NewID(), Kind: kind, Secret: []byte(`{"address":"alice@heron.example"}`)}
		if err := s.db.SetFactor(t.Context(), f.ID, id, kind, f.Secret, storage.Event{CustomerID: id, Kind: "factor.added"}); err != nil {
			t.Fatal(err)
		}
		return f
	}
	factor(storage.EmailFactor)
	b := s.browser()
	p := b.newPassword(b.recovering(alice), newAlicePassword)
	if p.id != "done_page" || p.status != http.StatusForbidden || !strings.Contains(p.body, "branch") {
		t.Errorf("with a mailbox alone: %d %s", p.status, p.id)
	}
	s.sql(t, nil, `DELETE FROM second_factors`)
	key := s.authenticator()
	factor(storage.EmailFactor)
	b = s.browser()
	p = b.newPassword(b.recovering(alice), newAlicePassword).want(t, "second_factor_page")
	if strings.Contains(p.body, "kind=email") {
		t.Error("codes by email are offered")
	}
	b.post("/login/second-factor", "kind", storage.EmailFactor, fieldSend, "1")
	if mails := s.selfMessages(t); len(mails) != 0 {
		t.Errorf("a code was sent: %+v", mails)
	}
	b.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
}

// E5: neither answers, cookies, round trips nor hashes tell who is a customer.
func TestRecover_TellsNobodyWhoIsACustomer(t *testing.T) {
	t.Parallel()
	s, _ := recoverySetup(t, Config{CodesPerHour: 2})
	s.create(NewCustomer{Profile: storage.Profile{Username: "unverified", Email: "u@heron.example"}, Password: alicePassword})
	s.create(NewCustomer{Profile: storage.Profile{Username: "nomail"}, Password: alicePassword})
	gone := s.create(NewCustomer{Profile: storage.Profile{Username: "disabled", Email: "d@heron.example", EmailVerified: true}, Password: alicePassword})
	if err := s.Disable(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	s.create(NewCustomer{Profile: storage.Profile{Username: "factor", Email: "f@heron.example"}, Password: alicePassword})
	hashed := s.hashes()
	observe := func(name string) (seen string) {
		b := s.browser()
		for i := range 4 {
			before, hashes := s.trips.n.Load(), hashed.Load()
			p := b.post("/recover", "username", name)
			p.body = strings.ReplaceAll(p.body, name, "NAME")
			seen += fmt.Sprintf("%d: %d %s %d trips %d hashes, cookies", i, p.status, p.body, s.trips.n.Load()-before, hashed.Load()-hashes)
			for _, c := range b.Jar.Cookies(s.url) {
				seen += fmt.Sprintf(" %s %d", c.Name, len(c.Value))
			}
		}
		for range 12 {
			before, hashes := s.trips.n.Load(), hashed.Load()
			p := b.newPassword("AAAAA-AAAAA", newAlicePassword)
			seen += fmt.Sprintf("code: %d %s %d trips %d hashes\n", p.status, p.body, s.trips.n.Load()-before, hashed.Load()-hashes)
		}
		return seen
	}
	want := observe(alice)
	for _, name := range []string{"nobody", "unverified", "nomail", "disabled", "factor", strings.Repeat("x", 400)} {
		got, asked := strings.Split(observe(name), "\n"), strings.Split(want, "\n")
		for i := range min(len(got), len(asked)) {
			if got[i] != asked[i] {
				t.Errorf("%.20q reads %.300q, alice %.300q", name, got[i], asked[i])
				break
			}
		}
	}
	if mails := s.selfMessages(t); len(mails) != 2 || mails[0].To != "alice@heron.example" || mails[1].To != mails[0].To {
		t.Errorf("%d mails", len(mails))
	}
	if logs := fmt.Sprint(s.logs.All()); strings.Contains(logs, "heron.example") || strings.Contains(logs, "AAAAA") {
		t.Error("an address or a code is logged")
	}
}

func TestRecover_CodesOfNoUse(t *testing.T) {
	t.Parallel()
	s, id := recoverySetup(t, Config{CodesPerHour: 100, AddressAttempts: 10000})
	for name, spoil := range map[string]func(b *browser, code string) (*browser, string){
		"another browser": func(b *browser, code string) (*browser, string) {
			other := s.browser()
			other.recovering(alice)
			return other, code
		},
		"an older one of this browser": func(b *browser, code string) (*browser, string) { b.recovering(alice); return b, code },
		"expired": func(b *browser, code string) (*browser, string) {
			s.sql(t, nil, `UPDATE recoveries SET expires_at = expires_at - interval '15 minutes'`)
			return b, code
		},
		"the password changed": func(b *browser, code string) (*browser, string) {
			s.sql(t, nil, `UPDATE customers SET password_hash = password_hash || 'x'`)
			return b, code
		},
		"disabled": func(b *browser, code string) (*browser, string) {
			s.sql(t, nil, `UPDATE customers SET disabled_at = now()`)
			return b, code
		},
		"ten wrong ones before": func(b *browser, code string) (*browser, string) {
			for range recoveryAttempts {
				if p := b.newPassword("AAAAA-AAAAA", newAlicePassword); p.status != http.StatusForbidden {
					t.Errorf("%d", p.status)
				}
			}
			return b, code
		},
		"wrong":    func(b *browser, code string) (*browser, string) { return b, "AAAAA-AAAAA" },
		"half":     func(b *browser, code string) (*browser, string) { return b, code[:5] },
		"too long": func(b *browser, code string) (*browser, string) { return b, code + strings.Repeat("A", 5000) },
	} {
		b := s.browser()
		b, code := spoil(b, b.recovering(alice))
		var before, after string
		s.sql(t, &before, `SELECT password_hash FROM customers`)
		p := b.newPassword(code, newAlicePassword).want(t, "recover_code_page")
		if s.sql(t, &after, `SELECT password_hash FROM customers`); p.status != http.StatusForbidden || before != after {
			t.Errorf("%s: %d %q, changed: %v", name, p.status, p.problem(), before != after)
		}
		s.sql(t, nil, `UPDATE customers SET disabled_at = NULL`)
		s.sql(t, nil, `DELETE FROM recoveries`)
	}
	if n := s.selfCount(t, `SELECT count(*) FROM events WHERE customer_id = $1 AND kind = 'recovery.completed'`, [16]byte(id)); n != 0 {
		t.Errorf("%d events of recoveries", n)
	}
	if n := s.selfCount(t, `SELECT count(*) FROM events WHERE customer_id = $1 AND kind = 'recovery.refused' AND visit IS NOT NULL`, [16]byte(id)); n != recoveryAttempts+5 {
		t.Errorf("%d events of refusals, want one for each verdict", n) // ten, another browser's, the older one, wrong, half, too long
	}
}

// The new password is judged like any other; the code can be used again then.
func TestRecover_ANewPasswordThatDoesNotDo(t *testing.T) {
	t.Parallel()
	s, _ := recoverySetup(t, Config{})
	b := s.browser()
	code := b.recovering(alice)
	for password, problem := range map[string]string{"short": "too short", "password12345": "too easy", "alice doe 1990": "too easy", "": "fill in"} {
		p := b.newPassword(code, password).want(t, "recover_code_page")
		if p.status != http.StatusUnprocessableEntity || problem != "fill in" && !strings.Contains(p.problem(), problem) {
			t.Errorf("%q: %d %q", password, p.status, p.problem())
		}
	}
	b.newPassword(code, newAlicePassword).want(t, "done_page")
}

// E5, G3: mails in masses are stopped, on whichever server; nobody can use up what the customer's own browser may have.
func TestRecover_LimitsMails(t *testing.T) {
	t.Parallel()
	s, _ := recoverySetup(t, Config{})
	two := serve(t, s.dsn, Config{Channels: []string{ChannelEmail}})
	hers := s.browser()
	hers.login(alice, alicePassword).want(t, "consent_page")
	for i := range 6 {
		b := []*server{s, two}[i%2].elsewhere(i + 1)
		p := b.post("/recover", "username", alice)
		if blocked := p.status == http.StatusTooManyRequests; blocked != (i > 2) || blocked && p.waits() == 0 {
			t.Errorf("mail %d: %d, wait %d", i+1, p.status, p.waits())
		}
	}
	if mails := s.selfMessages(t); len(mails) != 3 {
		t.Errorf("%d mails", len(mails))
	}
	hers.recovering(alice)
	hers.recovering(alice)
	nobody := s.elsewhere(9)
	for i := range 4 {
		if p := nobody.post("/recover", "username", "nobody"); (p.status == http.StatusTooManyRequests) != (i > 2) {
			t.Errorf("nobody, %d: %d", i+1, p.status)
		}
	}
}

func TestRecover_OneAddress(t *testing.T) {
	t.Parallel()
	s, _ := recoverySetup(t, Config{AddressAttempts: 4})
	for i := range 6 {
		p := s.browser().post("/recover", "username", fmt.Sprintf("name%d", i))
		if (p.status == http.StatusTooManyRequests) != (i > 3) {
			t.Errorf("%d: %d", i+1, p.status)
		}
	}
	b := s.elsewhere(1)
	code := b.recovering(alice)
	for range 4 {
		b.newPassword("AAAAA-AAAAA", newAlicePassword)
	}
	if p := b.newPassword(code, newAlicePassword); p.status != http.StatusTooManyRequests || p.waits() == 0 {
		t.Errorf("codes without end: %d", p.status)
	}
}

// Where no mail can be sent, the page says where to go.
func TestRecover_WithoutMail(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	s.createAlice()
	p := s.browser().get("/recover").want(t, "recover_page")
	if !strings.Contains(p.body, "branch") || strings.Contains(p.body, "<form") {
		t.Error(p.body)
	}
	s.browser().post("/recover", "username", alice).want(t, "recover_page")
	if n := s.rows(t, `SELECT count(*) FROM recoveries`); n != 0 {
		t.Errorf("%d", n)
	}
	s.browser().get("/recover/code").want(t, "recover_page")
}

// E4: the branch helps whom the page cannot.
func TestSetPassword(t *testing.T) {
	t.Parallel()
	s, _ := recoverySetup(t, Config{})
	b := s.browser()
	b.login(alice, alicePassword).want(t, "consent_page")
	for range 5 {
		s.elsewhere(1).login(alice, "wrong wrong wrong")
	}
	c, err := s.FindCustomer(t.Context(), "", alice)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetPassword(t.Context(), c, "Alice Doe 1990"); !errors.Is(err, ErrPasswordWeak) {
		t.Error(err)
	}
	if err := s.SetPassword(t.Context(), c, newAlicePassword); err != nil {
		t.Fatal(err)
	}
	if p := b.get(journeyURL); p.id != "login_page" {
		t.Errorf("a login of before lives: %s", p.id)
	}
	s.elsewhere(1).login(alice, newAlicePassword).want(t, "consent_page")
	if mails := s.selfMessages(t); len(mails) != 1 {
		t.Errorf("told by %+v", mails)
	}
	if n := s.rows(t, `SELECT count(*) FROM events WHERE kind = 'password.set'`); n != 1 {
		t.Errorf("%d events", n)
	}
}
