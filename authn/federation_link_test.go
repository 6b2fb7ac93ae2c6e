package authn

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/authn/federation"
	"github.com/countersign/countersign/storage"
)

func TestFederation_WhoMayLink(t *testing.T) {
	t.Parallel()
	link := func(by ...string) func(*federation.Config) { return func(c *federation.Config) { c.Link = by } }
	claim := func(name string, value any) func(map[string]any) {
		return func(c map[string]any) { c[name] = value }
	}
	profile := func(p storage.Profile) storage.Profile {
		p.Username, p.Name = alice, "Alice Doe"
		return p
	}
	verified := profile(storage.Profile{Email: "alice@heron.example", EmailVerified: true})
	for _, test := range []struct {
		name    string
		change  func(*federation.Config)
		claims  func(map[string]any)
		profile storage.Profile
		page    string
		logsIn  bool // whether the customer's own login leads to the link page
	}{
		{"verified on both sides", link("email"), nil, verified, "prove_link_page", true},
		{"account takeover: not verified there", link("email"), claim("email_verified", false), verified, "login_page", false},
		{"account takeover: nothing said of it there", link("email"), func(c map[string]any) { delete(c, "email_verified") }, verified, "login_page", false},
		{"account takeover: not verified here", link("email"), nil, profile(storage.Profile{Email: "alice@heron.example"}), "login_page", false},
		{"another address", link("email"), claim("email", "bob@heron.example"), verified, "login_page", false},
		{"not by email", link("phone"), nil, verified, "login_page", false},
		{"nobody", link(), nil, verified, "login_page", false},
		{"whoever can log in", link("login"), claim("email", "bob@heron.example"), verified, "prove_link_page", true},
		{"whoever can log in, with an address that nobody has verified", link("login"), claim("email_verified", false), verified, "prove_link_page", true},
		{"phone", link("phone"), func(c map[string]any) { c["phone_number"], c["phone_number_verified"] = "+254 712 345678", true },
			profile(storage.Profile{Email: "x@heron.example", PhoneNumber: "+254712345678", PhoneNumberVerified: true}), "prove_link_page", true},
		{"not of the domains", func(c *federation.Config) { c.Domains = []string{"meadow.example"} }, nil, verified, "login_page", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, p := federated(t, test.change, Config{})
			p.Claims = test.claims
			s.create(NewCustomer{Password: alicePassword, Profile: test.profile})
			b := s.browser()
			got := b.meadow().want(t, test.page)
			if test.page == "login_page" {
				if got.status != http.StatusForbidden || !strings.Contains(got.problem(), "Meadow cannot be used") || !strings.Contains(got.body, requestURI) {
					t.Errorf("%d %q", got.status, got.problem())
				}
				b.login(alice, alicePassword).want(t, "consent_page") // the other way goes on
				return
			}
			if test.logsIn {
				ask := b.postForm("/login", "username", alice, "password", alicePassword, "next", linkPage).want(t, "link_page")
				if strings.Contains(test.name, "nobody has verified") && strings.Contains(ask.body, "alice@heron.example") {
					t.Error("it names the identity by somebody else's address")
				}
			}
			if s.links() != 0 {
				t.Error("linked")
			}
		})
	}
}

func TestFederation_OnlyTheCandidateLinks(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, nil, Config{})
	verifiedAlice(s)
	s.create(NewCustomer{Password: alicePassword, Profile: storage.Profile{Username: "bob", Name: "Bob", Email: "bob@heron.example", EmailVerified: true}})
	b := s.browser()
	b.meadow().want(t, "prove_link_page")
	other := b.postForm("/login", "username", "bob", "password", alicePassword, "next", linkPage).want(t, "prove_link_page")
	if other.status != http.StatusForbidden || !strings.Contains(other.problem(), "another access") {
		t.Errorf("%d %q", other.status, other.problem())
	}
	b.postForm(linkPage, "decision", "link", fieldSeen, "x").want(t, "prove_link_page")
	if s.links() != 0 {
		t.Error("bob has linked alice's identity")
	}
}

func TestFederation_OldLoginProvesNothing(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, nil, Config{LoginLifetime: time.Hour})
	verifiedAlice(s)
	b := s.browser()
	b.login(alice, alicePassword).want(t, "consent_page")
	s.sql(t, nil, "UPDATE logins SET auth_time = now() - interval '10 minutes'")
	b.meadow().want(t, "prove_link_page")
	b.get(linkPage).want(t, "prove_link_page")
	b.get(linkPage+"?how=pwd").want(t, "login_page")
	ask := b.postForm("/login", "username", alice, "password", alicePassword, "next", linkPage).want(t, "link_page")
	// What is agreed to is what was shown, once, and "not now" is an answer.
	b.postForm(linkPage, "decision", "link", fieldSeen, "x").want(t, "link_page")
	if s.links() != 0 {
		t.Error("linked without what was shown")
	}
	b.agree(ask, "stay").want(t, "consent_page")
	if p := b.agree(ask, "link"); s.links() != 0 || p.status != http.StatusBadRequest {
		t.Errorf("linked after the customer said no: %d", p.status)
	}
}

func TestFederation_LinkNeedsTheSecondFactor(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, func(c *federation.Config) { c.Link = []string{federation.LinkLogin} }, Config{})
	id, key := s.enrolled()
	b := s.browser()
	b.meadow().want(t, "prove_link_page")
	b.postForm("/login", "username", alice, "password", alicePassword, "next", linkPage).want(t, "second_factor_page")
	b.get(linkPage).want(t, "second_factor_page")
	b.postForm(linkPage, "decision", "link", fieldSeen, "x").want(t, "second_factor_page")
	ask := b.postForm("/login/second-factor", "code", s.code(key), "next", linkPage).want(t, "link_page")
	b.agree(ask, "link").want(t, "consent_page")
	s.clock.Add(totpPeriod)

	// From now on the login there is one factor, and ours is the second.
	b = s.browser()
	b.meadow().want(t, "second_factor_page")
	in := b.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
	if !strings.Contains(in.body, id.String()+" "+SCA+" fed,otp,mfa") {
		t.Error(in.body)
	}
}

// A second factor that there is since the login counts at once.
func TestFederation_LinkNeedsANewFactor(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, nil, Config{Channels: []string{ChannelEmail}})
	id := verifiedAlice(s)
	b := s.browser()
	b.meadow().want(t, "prove_link_page")
	ask := b.postForm("/login", "username", alice, "password", alicePassword, "next", linkPage).want(t, "link_page")
	s.setFactor(id, storage.EmailFactor, sentSecret{aliceEmail})
	b.get(linkPage).want(t, "second_factor_page")
	b.agree(ask, "link").want(t, "second_factor_page")
	if s.links() != 0 {
		t.Error("linked without it")
	}
}

func TestFederation_LinkedByCode(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, nil, Config{Channels: []string{ChannelEmail}})
	id := verifiedAlice(s)
	b := s.browser()
	prove := b.meadow().want(t, "prove_link_page")
	if !strings.Contains(prove.body, "A•••@heron.example") {
		t.Errorf("no code is offered:\n%s", prove.body)
	}
	b.postForm(linkPage+"/code", "send", "1").want(t, "prove_link_page")
	code := s.sent()
	if p := b.postForm(linkPage+"/code", "code", not(code)).want(t, "prove_link_page"); p.status != http.StatusForbidden || p.problem() == "" {
		t.Errorf("a wrong code: %d", p.status)
	}
	// The code is good in this browser, for this identity, alone.
	other := s.browser()
	other.meadow().want(t, "prove_link_page")
	other.postForm(linkPage+"/code", "code", code).want(t, "prove_link_page")
	if other.cookie() != "" {
		t.Error("another browser logs in by the code")
	}
	ask := b.postForm(linkPage+"/code", "code", code).want(t, "link_page")
	if s.links() != 0 {
		t.Error("linked by the code alone")
	}
	if in := b.agree(ask, "link").want(t, "consent_page"); !strings.Contains(in.body, id.String()+" "+CA+" fed,otp") {
		t.Error(in.body)
	}
	b.postForm(linkPage+"/code", "code", code).want(t, "error_page")

	// A code by email shows nothing that another code by email would not.
	s.setFactor(id, storage.EmailFactor, sentSecret{aliceEmail})
	s.sql(t, nil, "DELETE FROM identity_links")
	b = s.browser()
	if p := b.meadow().want(t, "prove_link_page"); strings.Contains(p.body, "send_button") {
		t.Error("a code by email for a customer whose second factor is one")
	}
	b.postForm(linkPage+"/code", "send", "1").want(t, "error_page")
}

func TestFederation_SignUp(t *testing.T) {
	t.Parallel()
	s, p := federated(t, func(c *federation.Config) {
		c.SignUp, c.Attributes = true, map[string]string{"country": "country"}
	}, Config{})
	p.Claims = func(c map[string]any) {
		c["preferred_username"], c["country"], c["given_name"] = "alice", "KE", "A\u202elice"
	}
	s.create(NewCustomer{Password: alicePassword, Profile: storage.Profile{Username: alice, Name: "Alice Other", Email: "other@heron.example"}})
	b := s.browser()
	form := b.meadow().want(t, "link_sign_up_page")
	for _, text := range []string{`value="alice"`, "Alice Doe", "alice@heron.example", "Meadow"} {
		if !strings.Contains(form.body, text) {
			t.Errorf("the page does not say %s", text)
		}
	}
	seen := hiddenOf(form, fieldSeen)
	for name, problem := range map[string]string{alice: "taken", " ": "cannot be", "a\u0007": "cannot be"} {
		if got := b.postForm(linkPage+"/sign-up", "username", name, fieldSeen, seen).want(t, "link_sign_up_page"); !strings.Contains(got.problem(), problem) {
			t.Errorf("%q: %q", name, got.problem())
		}
	}
	b.postForm(linkPage+"/sign-up", "username", "alice.doe", fieldSeen, "x").want(t, "link_sign_up_page")
	in := b.postForm(linkPage+"/sign-up", "username", "Alice.Doe", fieldSeen, seen).want(t, "consent_page")
	if !strings.Contains(in.body, CA+" fed") {
		t.Error(in.body)
	}
	c, err := s.FindCustomer(t.Context(), "", "alice.doe")
	if err != nil {
		t.Fatal(err)
	}
	profile, err := c.Profile()
	if err != nil || profile.Email != "alice@heron.example" || !profile.EmailVerified || profile.Name != "Alice Doe" || profile.GivenName != "" || profile.Attributes["country"] != "KE" {
		t.Errorf("%+v %v", profile, err)
	}
	if has, err := s.HasPassword(t.Context(), c.ID); has || err != nil {
		t.Errorf("a password: %t %v", has, err)
	}
	for _, password := range []string{"", strings.Repeat("\x00", 32), "alice.doe"} {
		s.browser().login("alice.doe", password).want(t, "login_page")
	}
	s.browser().meadow().want(t, "consent_page")
	b.get(linkPage+"/sign-up").want(t, "error_page")

	// The last way to log in stays.
	links, err := s.IdentityLinks(t.Context(), c.ID)
	if err != nil || len(links) != 1 {
		t.Fatal(links, err)
	}
	if err := s.Unlink(t.Context(), c.ID, links[0].ID, storage.Visit{}, nil); !errors.Is(err, ErrLastWay) {
		t.Errorf("the last way: %v", err)
	}
	s.linkTo(c.ID, "alice-elsewhere")
	links, _ = s.IdentityLinks(t.Context(), c.ID)
	var group sync.WaitGroup
	var mu sync.Mutex
	removed := 0
	for _, l := range links {
		group.Go(func() {
			err := s.Unlink(context.Background(), c.ID, l.ID, storage.Visit{}, nil)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				removed++
			} else if !errors.Is(err, ErrLastWay) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if removed != 1 || s.links() != 1 || s.happened(c.ID, "idp.unlinked") != 1 {
		t.Errorf("%d removed at once, %d left, %d events", removed, s.links(), s.happened(c.ID, "idp.unlinked"))
	}
}

func TestFederation_NoSignUpUnlessConfigured(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, func(c *federation.Config) { c.Link = []string{federation.LinkLogin} }, Config{SignUp: true})
	b := s.browser()
	if p := b.meadow().want(t, "prove_link_page"); strings.Contains(p.body, "sign_up_link") {
		t.Error("a sign-up is offered")
	}
	for _, p := range []page{b.get(linkPage + "/sign-up"), b.postForm(linkPage+"/sign-up", "username", "mallory", fieldSeen, "x")} {
		if p.status != http.StatusNotFound {
			t.Errorf("%d", p.status)
		}
	}
}

func TestFederation_Unlink(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, nil, Config{})
	id := linked(s)
	bob := s.create(NewCustomer{Password: alicePassword, Profile: storage.Profile{Username: "bob", Name: "Bob", Email: "b@heron.example"}})
	links, _ := s.IdentityLinks(t.Context(), id)
	if err := s.Unlink(t.Context(), bob, links[0].ID, storage.Visit{}, nil); !errors.Is(err, storage.ErrNotFound) || s.links() != 1 {
		t.Errorf("another's link: %v", err)
	}
	if err := s.Unlink(t.Context(), id, links[0].ID, storage.Visit{}, nil); err != nil || s.happened(id, "idp.unlinked") != 1 {
		t.Errorf("%v", err)
	}
	if err := s.Unlink(t.Context(), id, links[0].ID, storage.Visit{}, nil); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	s.browser().meadow().want(t, "prove_link_page")
}

func TestFederation_IdentityIsOnesAlone(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, func(c *federation.Config) { c.Link = []string{federation.LinkLogin} }, Config{})
	s.createAlice()
	bob := s.create(NewCustomer{Password: alicePassword, Profile: storage.Profile{Username: "bob", Name: "Bob", Email: "b@heron.example"}})
	b := s.browser()
	b.meadow().want(t, "prove_link_page")
	ask := b.postForm("/login", "username", alice, "password", alicePassword, "next", linkPage).want(t, "link_page")
	s.linkTo(bob, "alice-there") // somebody else is faster
	if p := b.agree(ask, "link").want(t, "login_page"); s.links() != 1 || p.status != http.StatusForbidden {
		t.Errorf("%d links, %d", s.links(), p.status)
	}
	if in := s.browser().meadow().want(t, "consent_page"); !strings.Contains(in.body, bob.String()) {
		t.Error(in.body)
	}
}

// claims changes those of an ID token.
func claims(pairs ...any) func(map[string]any) {
	return func(c map[string]any) {
		for pair := range slices.Chunk(pairs, 2) {
			c[pair[0].(string)] = pair[1]
		}
	}
}

// The institution trusts the provider with addresses: the customer agrees, and types no password.
func TestFederation_TrustedProvider(t *testing.T) {
	t.Parallel()
	trusted := func(c *federation.Config) { c.Trusted = true }
	t.Run("one factor", func(t *testing.T) {
		t.Parallel()
		s, _ := federated(t, trusted, Config{})
		id := verifiedAlice(s)
		b := s.browser()
		ask := b.meadow().want(t, "link_page")
		if !strings.Contains(ask.body, `id="link_customer">alice<`) || s.links() != 0 || b.cookie() != "" {
			t.Errorf("linked or logged in before the customer has agreed:\n%s", ask.body)
		}
		b.postForm(linkPage, "decision", "link", fieldSeen, "x").want(t, "link_page")
		b.agree(ask, "stay").want(t, "login_page")
		if b.cookie() != "" || s.links() != 0 {
			t.Error("logged in, or linked, by a no")
		}
		ask = b.meadow().want(t, "link_page")
		if in := b.agree(ask, "link").want(t, "consent_page"); !strings.Contains(in.body, id.String()+" "+CA+" fed") || s.links() != 1 {
			t.Errorf("%s, %d links", in.body, s.links())
		}
	})
	t.Run("a second factor is not vouched for", func(t *testing.T) {
		t.Parallel()
		s, p := federated(t, trusted, Config{})
		id, key := s.enrolled()
		s.sql(t, nil, "DELETE FROM identity_links")
		if err := s.db.ChangeProfile(t.Context(), id, func(p *storage.Profile) error { p.EmailVerified = true; return nil }); err != nil {
			t.Fatal(err)
		}
		p.Claims = claims("acr", "gold")
		b := s.browser()
		if got := b.meadow().want(t, "second_factor_page"); strings.Contains(got.body, ">alice<") {
			t.Error("it names the customer before the second factor")
		}
		b.postForm(linkPage, "decision", "link", fieldSeen, "x").want(t, "second_factor_page")
		b.get(journeyURL).want(t, "second_factor_page")
		ask := b.postForm("/login/second-factor", "code", s.code(key), "next", linkPage).want(t, "link_page")
		b.agree(ask, "stay").want(t, "login_page")
		if b.cookie() != "" || s.links() != 0 {
			t.Error("logged in, or linked, after a no")
		}
		s.clock.Add(totpPeriod)
		b.meadow().want(t, "second_factor_page")
		ask = b.postForm("/login/second-factor", "code", s.code(key), "next", linkPage).want(t, "link_page")
		if in := b.agree(ask, "link").want(t, "consent_page"); !strings.Contains(in.body, id.String()+" "+SCA+" fed,otp,mfa") || s.links() != 1 {
			t.Errorf("%s, %d links", in.body, s.links())
		}
	})
	for name, change := range map[string]func(*server){
		"two customers share the address": func(s *server) {
			s.create(NewCustomer{Password: alicePassword, Profile: storage.Profile{Username: "al", Name: "Al", Email: "alice@heron.example", EmailVerified: true}})
		},
		"somebody else's session goes on": func(*server) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := federated(t, trusted, Config{})
			verifiedAlice(s)
			change(s)
			b := s.browser()
			if name == "two customers share the address" {
				b.meadow().want(t, "prove_link_page")
				return
			}
			s.create(NewCustomer{Password: alicePassword, Profile: storage.Profile{Username: "bob", Name: "Bob"}})
			b.login("bob", alicePassword).want(t, "consent_page")
			s.sql(t, nil, "UPDATE logins SET auth_time = now() - interval '3 minutes'")
			b.agree(b.meadow().want(t, "link_page"), "stay").want(t, "consent_page")
		})
	}
}

// What an address here is worth nobody's sign-up may take over.
func TestFederation_SignUpTakesNothing(t *testing.T) {
	t.Parallel()
	signs := func(c *federation.Config) { c.SignUp, c.Link = true, nil }
	for _, test := range []struct {
		name     string
		claims   func(map[string]any)
		verified bool // of alice, whom we know
		page     string
	}{
		{"the address is a customer's", nil, true, "login_page"},
		{"it is nobody's verified one", nil, false, "link_sign_up_page"},
		{"the provider has not verified it", claims("email_verified", false), true, "link_sign_up_page"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, p := federated(t, signs, Config{})
			p.Claims = test.claims
			s.create(NewCustomer{Password: alicePassword, Profile: storage.Profile{Username: alice, Name: "Alice Doe", Email: "alice@heron.example", EmailVerified: test.verified}})
			b := s.browser()
			b.meadow().want(t, test.page)
			if test.page == "login_page" {
				b.get(linkPage+"/sign-up").want(t, "error_page")
				return
			}
			seen := hiddenOf(b.get(linkPage+"/sign-up"), fieldSeen)
			names := []string{"bob@heron.example", "+254712345678"}
			if test.claims != nil {
				names = append(names, "alice@heron.example") // so it says, but nobody has looked
			}
			for _, name := range names {
				if got := b.postForm(linkPage+"/sign-up", "username", name, fieldSeen, seen).want(t, "link_sign_up_page"); got.status != http.StatusUnprocessableEntity || got.problem() == "" {
					t.Errorf("%s: %d %q", name, got.status, got.problem())
				}
			}
			b.postForm(linkPage+"/sign-up", "username", "alice2", fieldSeen, seen).want(t, "consent_page")
			c, err := s.FindCustomer(t.Context(), "", "alice2")
			if err != nil {
				t.Fatal(err)
			}
			if profile, _ := c.Profile(); profile.EmailVerified != (test.claims == nil) {
				t.Errorf("%+v", profile)
			}
		})
	}
}

// A customer links from the own pages, where the second factor was shown.
func TestFederation_LinkFromOwnPages(t *testing.T) {
	t.Parallel()
	s, p := federated(t, func(c *federation.Config) { c.Link = []string{federation.LinkLogin} }, Config{Channels: []string{ChannelEmail}})
	id, key := s.enrolled()
	b := s.browser()
	b.login(alice, alicePassword).want(t, "second_factor_page")
	b.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
	own := b.get(factorListPath).want(t, "self_factors_page")
	if !strings.Contains(own.body, `action="/self/links/add"`) || !strings.Contains(own.header.Get("Content-Security-Policy"), "form-action 'self' https:") {
		t.Errorf("no button, or one that the browser holds back:\n%s", own.body)
	}
	for _, fields := range [][]string{{"provider", "other"}, {"provider", ""}} {
		if got := b.postForm("/self/links/add", fields...); got.status != http.StatusNotFound {
			t.Errorf("%v: %d", fields, got.status)
		}
	}
	// What goes wrong there is said here, and changes nothing.
	cookie := b.cookie()
	p.Claims = claims("aud", "shop")
	if got := b.postForm("/self/links/add", "provider", "meadow").want(t, "self_factors_page"); !strings.Contains(got.problem(), "Nothing was linked") {
		t.Errorf("%q", got.problem())
	}
	p.Claims = nil
	ask := b.postForm("/self/links/add", "provider", "meadow").want(t, "link_page")
	if s.links() != 0 || b.cookie() != cookie {
		t.Error("linked without a yes, or another login")
	}
	own = b.agree(ask, "link").want(t, "self_factors_page")
	if s.links() != 1 || s.happened(id, "idp.linked") != 1 || b.cookie() != cookie || !strings.Contains(own.body, "alice@heron.example") {
		t.Errorf("%d links, the login is another: %t\n%s", s.links(), b.cookie() != cookie, own.body)
	}
	told := slices.DeleteFunc(s.outbox(), func(m storage.Message) bool { return strings.Contains(m.Subject, "a second step was added") })
	if len(told) != 1 {
		t.Errorf("messages: %+v", told)
	}
	b.postForm("/self/links/add", "provider", "meadow").want(t, "self_factors_page") // again: it is linked

	// Another customer's identity is not for the taking, and logs nobody in as that customer.
	bob := s.create(NewCustomer{Password: alicePassword, Profile: storage.Profile{Username: "bob", Name: "Bob"}})
	s.sql(t, nil, "UPDATE identity_links SET customer_id = $1", [16]byte(bob))
	if got := b.postForm("/self/links/add", "provider", "meadow").want(t, "self_factors_page"); !strings.Contains(got.problem(), "cannot be linked") || b.cookie() != cookie {
		t.Errorf("%q", got.problem())
	}
	s.sql(t, nil, "DELETE FROM identity_links")

	// It takes the second factor, now, and the login that began it.
	s.sql(t, nil, "UPDATE logins SET factor_at = now() - interval '10 minutes'")
	b.postForm("/self/links/add", "provider", "meadow").want(t, "second_factor_page")
	s.sql(t, nil, "UPDATE logins SET factor_at = now()")
	b.postForm("/self/links/add", "provider", "meadow").want(t, "link_page")
	if err := s.db.EndLogin(t.Context(), s.LoginHash(b.carries())); err != nil {
		t.Fatal(err)
	}
	b.get(linkPage).want(t, "prove_link_page")
	other := b.postForm("/login", "username", "bob", "password", alicePassword, "next", linkPage).want(t, "prove_link_page")
	if s.links() != 0 || !strings.Contains(other.problem(), "another access") {
		t.Errorf("somebody else goes on with it: %q, %d links", other.problem(), s.links())
	}
}

// Who may link is the same from there.
func TestFederation_LinkFromOwnPagesNotByAnyone(t *testing.T) {
	t.Parallel()
	for by, status := range map[string]int{federation.LinkEmail: http.StatusUnprocessableEntity, "": http.StatusNotFound} {
		s, p := federated(t, func(c *federation.Config) {
			c.Link = slices.DeleteFunc([]string{by}, func(by string) bool { return by == "" })
		}, Config{})
		_, key := s.enrolled() // whose address nobody has verified; it is somebody else's
		s.create(NewCustomer{Password: alicePassword, Profile: storage.Profile{Username: "al", Name: "Al", Email: "alice@heron.example", EmailVerified: true}})
		b := s.browser()
		b.login(alice, alicePassword).want(t, "second_factor_page")
		b.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
		if got := b.postForm("/self/links/add", "provider", "meadow"); got.status != status || s.links() != 0 {
			t.Errorf("link: %q: %d %q", by, got.status, got.problem())
		}
		if asked := p.LastAsked() != nil; asked != (by != "") {
			t.Errorf("link: %q: the browser went there: %t", by, asked)
		}
	}
}

// carries is a request with the browser's cookies.
func (b *browser) carries() *http.Request {
	r, _ := http.NewRequest(http.MethodGet, b.s.http.URL, nil)
	for _, c := range b.Jar.Cookies(b.s.url) {
		r.AddCookie(c)
	}
	return r
}

// The same name at another issuer is somebody else.
func TestFederation_IssuerChanged(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, func(c *federation.Config) { c.Link = nil }, Config{})
	id := verifiedAlice(s)
	if err := s.db.AddIdentityLink(t.Context(), "default", id, "meadow", storage.LinkDisplay{Issuer: "https://meadow.example", Subject: "alice-there"}, storage.Visit{}, nil); err != nil {
		t.Fatal(err)
	}
	b := s.browser()
	if got := b.meadow().want(t, "login_page"); got.status != http.StatusForbidden || b.cookie() != "" {
		t.Errorf("%d", got.status)
	}
}
