package authn

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

// lax lets tests link without a second factor.
var lax = Policy{ChangeProfile: {ACR: CA}}

func (s *server) invite(t *testing.T, change func(*NewInvitation)) (string, *storage.Invitation) {
	t.Helper()
	n := NewInvitation{FineractClientID: 7, Profile: storage.Profile{Name: "Bob Mason", Email: "bob@heron.example"}, Roles: []string{"USER", "ADMIN"},
		Accounts: []storage.Account{{ID: "12", Name: "Savings", Number: "000000012", Currency: "KES"}}}
	if change != nil {
		change(&n)
	}
	code, i, err := s.Invite(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return code, i
}

// linked tells what a customer has of the core.
func (s *server) linked(t *testing.T, username string) (client int64, roles, accounts string) {
	t.Helper()
	c, err := s.FindCustomer(t.Context(), "", username)
	if err != nil {
		t.Fatal(err)
	}
	if c.FineractClientID != nil {
		client = *c.FineractClientID
	}
	list, err := s.db.ListAccounts(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		accounts += a.ID + " " + a.Number + " " + a.Currency
	}
	return client, strings.Join(c.Roles, " "), accounts
}

func TestInvitation_MakesACustomer(t *testing.T) {
	t.Parallel()
	for _, send := range []string{"", ChannelEmail} {
		s := setup(t, Config{Channels: []string{ChannelEmail}})
		code, _ := s.invite(t, func(n *NewInvitation) { n.SendTo, n.Page = send, "https://login.heron.example/invitation" })
		if send != "" {
			m, _ := s.mailed(t)
			if code != "" || m == nil || m.To != "bob@heron.example" || !strings.Contains(m.Text, "https://login.heron.example/invitation") {
				t.Fatalf("told %q, sent %+v", code, m)
			}
			for _, word := range strings.Fields(m.Text) {
				if word = strings.Trim(word, "."); len(word) == 14 && strings.Count(word, "-") == 2 {
					code = word
				}
			}
		}
		b := s.browser()
		b.get("/invitation").want(t, "invitation_page")
		p := b.postForm("/invitation", "invitation", " "+strings.ToLower(strings.ReplaceAll(code, "-", " "))).want(t, "sign_up_page")
		if !strings.Contains(p.body, `value="Bob Mason"`) || strings.Contains(p.body, "bob@heron.example") || !strings.Contains(p.body, "b•••@heron.example") {
			t.Errorf("page:\n%s", p.body)
		}
		if p := b.postForm("/invitation/sign-up", "invitation", code, "username", "bob", "name", "Bob Mason", "password", "short"); p.want(t, "sign_up_page").problem() != s.pages.Text("problem.password_short") {
			t.Errorf("%q", p.problem())
		}
		b.postForm("/invitation/sign-up", "invitation", code, "username", "bob", "name", "Robert Mason", "password", alicePassword).want(t, "consents_page")
		client, roles, accounts := s.linked(t, "bob")
		if client != 7 || roles != "USER ADMIN" || accounts != "12 000000012 KES" {
			t.Errorf("%d %q %q", client, roles, accounts)
		}
		c, _ := s.FindCustomer(t.Context(), "", "bob")
		if profile, err := c.Profile(); err != nil || profile.Email != "bob@heron.example" || profile.EmailVerified != (send != "") || profile.Name != "Robert Mason" {
			t.Errorf("%+v %v", profile, err)
		}
		events, err := s.db.ListEvents(t.Context(), c.ID, nil, 10)
		if err != nil || len(events) == 0 || events[len(events)-1].Kind != "customer.linked" {
			t.Errorf("%+v %v", events, err)
		}
		b.postForm("/invitation/sign-up", "invitation", code, "username", "bob2", "name", "Bob", "password", alicePassword).want(t, "invitation_page") // once
		s.browser().postForm("/invitation", "invitation", code).want(t, "invitation_page")
	}
}

// What is wrong with a code, the page does not say.
func TestInvitation_RefusesOtherCodes(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{AddressAttempts: 12})
	used, first := s.invite(t, nil)
	expired, second := s.invite(t, func(n *NewInvitation) { n.FineractClientID = 8 })
	elsewhere, _ := s.invite(t, func(n *NewInvitation) { n.Tenant = "other" })
	s.sql(t, nil, `UPDATE invitations SET used_at = now() WHERE id = $1`, [16]byte(first.ID))
	s.sql(t, nil, `UPDATE invitations SET expires_at = now() WHERE id = $1`, [16]byte(second.ID))
	for name, code := range map[string]string{
		"used": used, "expired": expired, "another tenant's": elsewhere, "guessed": "ABCD-EFGH-JKLM", "none": "", "half": used[:7],
		"oversized": strings.Repeat("A", 5000), "SQL": "' OR true --",
	} {
		p := s.browser().postForm("/invitation", "invitation", code)
		if p.want(t, "invitation_page").status != http.StatusForbidden || p.problem() != s.pages.Text("problem.invitation") {
			t.Errorf("%s: %d %q", name, p.status, p.problem())
		}
	}
	if p := s.browser().postForm("/invitation/sign-up", "invitation", used, "username", "bob", "name", "Bob", "password", alicePassword); p.status != http.StatusForbidden || p.id != "invitation_page" {
		t.Errorf("signed up with a used one: %d %s", p.status, p.id)
	}
	if p := s.browser().postForm("/invitation", "invitation", used, "invitation", "x"); p.status == http.StatusOK && p.id != "invitation_page" {
		t.Errorf("repeated: %d %s", p.status, p.id)
	}
	right, _ := s.invite(t, nil)
	var p page
	for range 5 {
		p = s.browser().postForm("/invitation", "invitation", "ABCD-EFGH-JKLM")
	}
	if p.status != http.StatusTooManyRequests {
		t.Errorf("guesses go on: %d", p.status)
	}
	if p := s.browser().postForm("/invitation", "invitation", right); p.status != http.StatusTooManyRequests {
		t.Errorf("a right guess got a verdict: %d", p.status)
	}
	var n int
	if s.sql(t, &n, `SELECT count(*) FROM customers`); n != 0 {
		t.Errorf("%d customers", n)
	}
}

func TestInvitation_LinksACustomer(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Policy: lax})
	s.createAlice()
	code, _ := s.invite(t, nil)
	b := s.browser()
	b.get("/login?next=/invitation").want(t, "login_page")
	p := b.postForm("/login", "username", alice, "password", alicePassword, "next", "/invitation").want(t, "invitation_page")
	if !strings.Contains(p.body, "Alice Doe") {
		t.Errorf("page:\n%s", p.body)
	}
	b.postForm("/invitation", "invitation", code).want(t, "done_page")
	if client, roles, accounts := s.linked(t, alice); client != 7 || roles != "ADMIN USER" || accounts != "12 000000012 KES" {
		t.Errorf("%d %q %q", client, roles, accounts)
	}
	again, _ := s.invite(t, nil) // the same client: hers already, so its accounts may be brought up to date
	b.postForm("/invitation", "invitation", again).want(t, "done_page")

	for name, n := range map[string]func(*NewInvitation){
		"she is another client's":    func(n *NewInvitation) { n.FineractClientID = 8 },
		"the client is another's":    nil,
		"and for a new customer too": nil,
	} {
		code, _ := s.invite(t, n)
		who := b
		if n == nil {
			if _, err := s.FindCustomer(t.Context(), "", "bob"); err != nil {
				s.create(NewCustomer{Profile: storage.Profile{Username: "bob"}, Password: alicePassword})
			}
			who = s.browser()
			if strings.HasPrefix(name, "and") {
				p := who.postForm("/invitation/sign-up", "invitation", code, "username", "carl", "name", "Carl", "password", alicePassword)
				if p.want(t, "invitation_page").status != http.StatusConflict {
					t.Errorf("%s: %d %q", name, p.status, p.problem())
				}
				continue
			}
			who.postForm("/login", "username", "bob", "password", alicePassword, "next", "/invitation").want(t, "invitation_page")
		}
		if p := who.postForm("/invitation", "invitation", code).want(t, "invitation_page"); p.status != http.StatusConflict || p.problem() != s.pages.Text("problem.client_taken") {
			t.Errorf("%s: %d %q", name, p.status, p.problem())
		}
	}
	var n int
	if s.sql(t, &n, `SELECT count(*) FROM customers WHERE fineract_client_id = 7`); n != 1 {
		t.Errorf("%d customers of the client", n)
	}
}

// E11: whoever is logged in with the password alone does not link.
func TestInvitation_NeedsAStepUp(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	id, key := s.enrolled()
	code, _ := s.invite(t, nil)
	b := s.browser()
	b.postForm("/login", "username", alice, "password", alicePassword, "next", "/invitation").want(t, "second_factor_page")
	b.postForm("/invitation", "invitation", code).want(t, "second_factor_page")
	if client, _, _ := s.linked(t, alice); client != 0 {
		t.Fatal("linked without the second factor")
	}
	b.postForm("/login/second-factor", "code", s.code(key), "next", "/invitation").want(t, "invitation_page")
	b.postForm("/invitation", "invitation", code).want(t, "done_page")
	if client, _, _ := s.linked(t, alice); client != 7 {
		t.Errorf("client %d of %s", client, id)
	}
}

// Who has shown that the core's address is theirs needs no letter from the branch.
func TestInvitation_LinksByTheCoresAddress(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Policy: lax, Channels: []string{ChannelEmail, ChannelSMS}})
	person := func(name string, p storage.Profile) (*browser, uuid.UUID) {
		p.Username = name
		id := s.create(NewCustomer{Profile: p, Password: alicePassword})
		b := s.browser()
		b.postForm("/login", "username", name, "password", alicePassword, "next", "/invitation").want(t, "invitation_page")
		return b, id
	}
	_, i := s.invite(t, func(n *NewInvitation) { n.Profile.PhoneNumber = "+254 712 345678" })
	unverified, _ := person("mallory", storage.Profile{Email: "bob@heron.example"})
	other, _ := person("carl", storage.Profile{Email: "carl@heron.example", EmailVerified: true})
	for _, b := range []*browser{unverified, other} {
		p := b.postForm("/invitation", "send", "1").want(t, "invitation_page")
		if m, _ := s.mailed(t); m != nil || !strings.Contains(p.body, s.pages.Text("invitation.sent")) {
			t.Errorf("sent %+v; page:\n%s", m, p.body)
		}
		if p := b.postForm("/invitation", "code", "123456").want(t, "invitation_page"); p.problem() != s.pages.Text("problem.code") {
			t.Errorf("%q", p.problem())
		}
	}
	for name, p := range map[string]storage.Profile{
		"byemail": {Email: "BOB@heron.example", EmailVerified: true}, "byphone": {PhoneNumber: "00254712345678", PhoneNumberVerified: true},
	} {
		b, id := person(name, p)
		b.postForm("/invitation", "send", "1").want(t, "invitation_page")
		m, _ := s.mailed(t)
		if m == nil {
			t.Fatal(name, ": nothing was sent")
		}
		code := codeInMail.FindString(m.Text)
		other.postForm("/invitation", "code", code).want(t, "invitation_page") // another customer's code
		b.postForm("/invitation", "code", code).want(t, "done_page")
		b.postForm("/invitation", "code", code).want(t, "invitation_page") // once
		if client, _, _ := s.linked(t, name); client != 7 {
			t.Errorf("%s: client %d", name, client)
		}
		s.sql(t, nil, `UPDATE customers SET fineract_client_id = NULL WHERE id = $1`, [16]byte(id)) // and once more by the other channel
		s.sql(t, nil, `UPDATE invitations SET used_at = NULL, customer_id = NULL WHERE id = $1`, [16]byte(i.ID))
	}
}
