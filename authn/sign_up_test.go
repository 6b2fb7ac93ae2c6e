package authn

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/storage"
)

// mailed returns the newest message that waits in the outbox, opened; nil when there is none. Messages are counted in n.
func (s *server) mailed(t *testing.T) (m *storage.Message, n int) {
	t.Helper()
	due, err := s.db.TakeNotifications(t.Context(), 100, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range due {
		if one.Kind != storage.MessageNotification {
			continue
		}
		opened, err := s.db.Message(one)
		if err != nil {
			t.Fatal(err)
		}
		n++
		if m == nil || one.ID.String() > m.ID.String() {
			m = &opened
		}
	}
	return m, n
}

var codeInMail = regexp.MustCompile(`\b[0-9]{6}\b`)

func bobSigns(b *browser, email string) page {
	return b.post("/sign-up", "username", "bob", "name", "Bob Mason", "email", email, "password", alicePassword)
}

// E1: with a channel for codes there is no customer before the address is shown to be theirs.
func TestSignUp_VerifiesTheAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ channel, address, problem string }{
		{ChannelEmail, "bob@heron.example", ""},
		{ChannelSMS, "+254 712 345 678", ""},
		{ChannelEmail, "+254 712 345 678", "problem.email"},
		{ChannelSMS, "0712 345 678", "problem.address"},
		{ChannelSMS, "bob@heron.example", "problem.address"},
	} {
		t.Run(c.channel+" "+c.address, func(t *testing.T) {
			s := setup(t, Config{SignUp: true, Channels: []string{c.channel}})
			b := s.browser()
			p := bobSigns(b, c.address)
			if c.problem != "" {
				if p.want(t, "sign_up_page").problem() != s.pages.Text(c.problem) {
					t.Errorf("%d %q", p.status, p.problem())
				}
				return
			}
			p.want(t, "sign_up_code_page")
			var n int
			if s.sql(t, &n, `SELECT count(*) FROM customers`); n != 0 || strings.Contains(p.body, c.address) {
				t.Errorf("%d customers before the code; or the page shows the whole address", n)
			}
			m, _ := s.mailed(t)
			if m == nil || m.Channel != c.channel || strings.ReplaceAll(m.To, " ", "") != strings.ReplaceAll(c.address, " ", "") {
				t.Fatalf("sent %+v", m)
			}
			code := codeInMail.FindString(m.Text)
			wrong := "000000"
			if code == wrong {
				wrong = "111111"
			}
			if p := b.post("/sign-up/code", "code", wrong).want(t, "sign_up_code_page"); p.status != http.StatusForbidden || p.problem() != s.pages.Text("problem.code") {
				t.Errorf("wrong code: %d %q", p.status, p.problem())
			}
			s.browser().post("/sign-up/code", "code", code).want(t, "sign_up_page") // another browser has no sign-up
			b.post("/sign-up/code", "code", code[:3]+" "+code[3:]).want(t, "consent_page")
			found, err := s.FindCustomer(t.Context(), "", "bob")
			if err != nil || found.Roles[0] != "USER" {
				t.Fatal(found, err)
			}
			profile, _ := found.Profile()
			if profile.EmailVerified != (c.channel == ChannelEmail) || profile.PhoneNumberVerified != (c.channel == ChannelSMS) {
				t.Errorf("profile %+v", profile)
			}
			b.post("/sign-up/code", "code", code).want(t, "sign_up_page") // once
			s.browser().login("bob", alicePassword).want(t, "consent_page")
			if s.sql(t, &n, `SELECT count(*) FROM events WHERE kind = 'customer.signed_up'`); n != 1 {
				t.Errorf("%d events", n)
			}
		})
	}
}

// Whether an address is a customer's, its mailbox alone learns.
func TestSignUp_DoesNotTellWhoseAddressItIs(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{SignUp: true, Channels: []string{ChannelEmail}})
	s.createAlice() // alice@heron.example
	ask := func(address string) (page, *storage.Message) {
		b := s.browser()
		p := bobSigns(b, address)
		m, _ := s.mailed(t)
		for range 6 {
			b.post("/sign-up/code", "code", "123456")
		}
		return p, m
	}
	free, invites := ask("bob@heron.example")
	taken, warns := ask("ALICE@heron.example")
	same := strings.NewReplacer("A•••@", "b•••@").Replace(taken.body)
	if free.status != taken.status || free.want(t, "sign_up_code_page").body != same {
		t.Errorf("pages differ:\n%s\n%s", free.body, taken.body)
	}
	if codeInMail.MatchString(warns.Text) || warns.Subject != s.pages.Text("sign_up.known.subject") || !codeInMail.MatchString(invites.Text) {
		t.Errorf("%+v\n%+v", warns, invites)
	}
	var codes int
	if s.sql(t, &codes, `SELECT count(*) FROM sign_ups WHERE code IS NOT NULL`); codes != 1 {
		t.Errorf("%d codes: that of an address which is a customer's must not exist", codes)
	}
}

// Codes: few guesses, newest only, for minutes; and an address is not flooded.
func TestSignUp_LimitsCodes(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{SignUp: true, Channels: []string{ChannelEmail}, CodesPerHour: 3})
	b := s.browser()
	bobSigns(b, "bob@heron.example").want(t, "sign_up_code_page")
	m, _ := s.mailed(t)
	first := codeInMail.FindString(m.Text)
	b.post("/sign-up/code", "code", "", "resend", "1").want(t, "sign_up_code_page")
	m, _ = s.mailed(t)
	second := codeInMail.FindString(m.Text)
	if first != second {
		if p := b.post("/sign-up/code", "code", first).want(t, "sign_up_code_page"); p.status != http.StatusForbidden {
			t.Errorf("the older code: %d", p.status)
		}
	}
	for range 5 {
		b.post("/sign-up/code", "code", "not it")
	}
	b.post("/sign-up/code", "code", second).want(t, "sign_up_code_page") // after five, none is right

	b.post("/sign-up/code", "code", "", "resend", "1")
	if m, _ = s.mailed(t); m == nil {
		t.Fatal("no third message")
	}
	third := codeInMail.FindString(m.Text)
	other := s.browser() // the same address, from elsewhere: that is one message too many
	if bobSigns(other, "BOB@heron.example").want(t, "sign_up_code_page"); len(third) == 0 {
		t.Error("no code")
	}
	b.post("/sign-up/code", "code", "", "resend", "1").want(t, "sign_up_code_page")
	if m, _ := s.mailed(t); m != nil {
		t.Errorf("a fourth message: %+v", m)
	}
	s.sql(t, nil, `UPDATE sign_ups SET code_expires_at = now()`)
	b.post("/sign-up/code", "code", third).want(t, "sign_up_code_page")
	s.sql(t, nil, `UPDATE sign_ups SET code_expires_at = now() + interval '1 minute', expires_at = now()`)
	b.post("/sign-up/code", "code", third).want(t, "sign_up_page")
	if _, err := s.db.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	if s.sql(t, &n, `SELECT (SELECT count(*) FROM sign_ups WHERE expires_at <= now()) + (SELECT count(*) FROM customers)`); n != 0 {
		t.Errorf("%d are left", n)
	}
}

func TestSignUp_NamesAreNobodyElses(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{SignUp: true, Channels: []string{ChannelEmail}})
	b, c := s.browser(), s.browser()
	bobSigns(b, "bob@heron.example").want(t, "sign_up_code_page")
	mine, _ := s.mailed(t)
	bobSigns(c, "robert@heron.example").want(t, "sign_up_code_page")
	his, _ := s.mailed(t)
	c.post("/sign-up/code", "code", codeInMail.FindString(his.Text)).want(t, "consent_page")
	if p := b.post("/sign-up/code", "code", codeInMail.FindString(mine.Text)).want(t, "sign_up_page"); p.problem() != s.pages.Text("problem.username_taken") {
		t.Errorf("%q", p.problem())
	}
	if p := bobSigns(s.browser(), "third@heron.example").want(t, "sign_up_page"); p.problem() != s.pages.Text("problem.username_taken") {
		t.Errorf("%q", p.problem())
	}
	p := s.browser().post("/sign-up", "username", "alice@heron.example", "name", "Mallory", "email", "mallory@heron.example", "password", alicePassword)
	if p.want(t, "sign_up_page").problem() != s.pages.Text("problem.username_address") {
		t.Errorf("somebody else's address as a name: %q", p.problem())
	}
}

func TestSignUp_MassesAreStopped(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{SignUp: true, Channels: []string{ChannelEmail}, AddressAttempts: 3})
	var seen []int
	for _, name := range []string{"bob1", "bob2", "bob3", "bob4", "bob5"} {
		p := s.browser().post("/sign-up", "username", name, "name", "Bob", "email", "b@heron.example", "password", alicePassword)
		seen = append(seen, p.status)
	}
	if seen[2] != http.StatusOK || seen[4] != http.StatusTooManyRequests {
		t.Errorf("answered %v, want three or four and then no more", seen)
	}
}
