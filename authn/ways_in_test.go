package authn

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authn/federation"
	"github.com/countersign/countersign/storage"
)

// tokenOfApp is a token of Fineract's two-factor API.
func (s *server) tokenOfApp(t *testing.T, customer uuid.UUID) {
	t.Helper()
	s.sql(t, nil, `INSERT INTO fineract_tfa_tokens (hash, tenant, customer_id, extended, valid_from, valid_to) VALUES ($2, 'default', $1, false, now(), now() + interval '1 day')`,
		[16]byte(customer), hashCookie(customer[:]))
}

// Who signs out everywhere else, or is reached elsewhere from now on, is out in the apps of Fineract's two-factor API too; nobody else is.
func TestSelf_EndsTokensOfApps(t *testing.T) {
	t.Parallel()
	s, b, id, _ := selfSetup(t, Config{})
	other := s.bob(t)
	s.tokenOfApp(t, other.id)
	left := func(when string, want int) {
		t.Helper()
		if n := s.selfCount(t, `SELECT count(*) FROM fineract_tfa_tokens WHERE customer_id = $1`, [16]byte(id)); n != want {
			t.Errorf("%s: %d tokens, want %d", when, n, want)
		}
	}
	s.tokenOfApp(t, id)
	b.postForm(profilePath, selfForms(onesOf(id))[profilePath]...).want(t, "self_profile_page")
	left("another name", 1)
	b.postForm("/self/sessions/end-others").want(t, "self_sessions_page")
	left("signed out everywhere else", 0)
	for _, address := range [][3]string{{"/self/email", "email", "new@heron.example"}, {"/self/phone", "phone", "+447700900123"}} {
		s.selfMessages(t)
		s.tokenOfApp(t, id)
		b.postForm(address[0], address[1], address[2]).want(t, "self_contact_page")
		left("before the code", 1)
		m := s.selfMessages(t)
		b.postForm(address[0]+"/confirm", address[1], address[2], "code", selfCode.FindString(m[len(m)-1].Text+m[len(m)-1].Subject)).want(t, "self_profile_page")
		want := 0
		if address[1] == "phone" { // she had none that a code could have gone to
			want = 1
		}
		left("another "+address[1], want)
		s.sql(t, nil, `DELETE FROM fineract_tfa_tokens WHERE customer_id = $1`, [16]byte(id))
	}
	if n := s.selfCount(t, `SELECT count(*) FROM fineract_tfa_tokens`); n != 1 {
		t.Errorf("%d tokens of others, want bob's", n)
	}
}

// A refused second factor tells the customer where it was tried, whatever kind it was.
func TestLimits_EventsSayFromWhere(t *testing.T) {
	t.Parallel()
	s := passkeys(t, Config{})
	_, k := s.alicesPasskey()
	b := s.browser()
	b.from = "198.51.100.77"
	q := b.login(alice, alicePassword).question(t)
	b.post(secondFactorPath, "kind", storage.Passkey, "state", q.state, "response", newSoftKey(t).get(q)).want(t, "second_factor_page")
	visitor := s.visitorOf(t, k)
	visitor.From = storage.Visit{Address: "198.51.100.78"}
	asked := s.ask(t, visitor, "payment", []byte("1"))
	if _, err := s.FinishPasskey(t.Context(), visitor, "payment", []byte("2"), asked.state, []byte(k.get(asked))); !errors.Is(err, ErrPasskey) {
		t.Fatal(err)
	}
	events, err := s.db.ListEvents(t.Context(), visitor.CustomerID, nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	var from []string
	for _, e := range events {
		if e.Kind == "login.refused" {
			from = append(from, e.Visit.Address)
		}
	}
	if got := strings.Join(from, " "); got != "198.51.100.78 198.51.100.77" {
		t.Errorf("refused at %q", got)
	}
}

// A passkey is a way to log in: with one, a last link may go; without anything else, it stays itself. Of the two only one goes, however
// fast.
func TestSelf_TheLastWayIn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		passkeys bool // whether they can be used here
		want     error
	}{"passkeys are used": {true, nil}, "they are not": {false, ErrLastWay}} {
		s, id, link, _ := withLinkAndPasskey(t)
		if !c.passkeys {
			s.passkeys = nil
		}
		if err := s.Unlink(t.Context(), id, link, storage.Visit{}, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, id, link, key := withLinkAndPasskey(t)
	remove := func() error {
		ways, err := s.waysIn(context.Background(), id)
		if err != nil {
			return err
		}
		return s.db.RemoveFactor(context.Background(), key, true, ways, storage.Event{CustomerID: id, Kind: "factor.removed"}, nil)
	}
	var all sync.WaitGroup
	var ofLink, ofKey error
	all.Go(func() { ofLink = s.Unlink(context.Background(), id, link, storage.Visit{}, nil) })
	all.Go(func() { ofKey = remove() })
	all.Wait()
	if (ofLink == nil) == (ofKey == nil) || ofLink != nil && ofLink != ErrLastWay || ofKey != nil && ofKey != storage.ErrNotFound {
		t.Errorf("at once: the link %v, the passkey %v", ofLink, ofKey)
	}
	// With a password both may go.
	s, id, link, key = withLinkAndPasskey(t)
	s.sql(t, nil, `UPDATE customers SET password_hash = '$2a$10$abcdefghijklmnopqrstuuQFzUVVBtsDDDjKTHDpdBAM6i3GBQGOe' WHERE id = $1`, [16]byte(id))
	if err := errors.Join(s.Unlink(t.Context(), id, link, storage.Visit{}, nil), remove()); err != nil {
		t.Error(err)
	}
}

// withLinkAndPasskey is a customer without a password, who has a link and a passkey.
func withLinkAndPasskey(t *testing.T) (s *server, id, link, key uuid.UUID) {
	t.Helper()
	s, _ = federated(t, nil, Config{Origin: bankOrigin, FactorKinds: []string{storage.TOTP, storage.Passkey}})
	id = linked(s)
	s.sql(t, nil, `UPDATE customers SET password_hash = $1 WHERE id = $2`, s.hasher.noPassword(), [16]byte(id))
	key = storage.NewID()
	s.sql(t, nil, `INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at, credential_index) VALUES ($1, $2, 'passkey', $3, now(), $4)`,
		[16]byte(key), [16]byte(id), s.db.Keys().Seal("second_factors.secret", key[:], []byte("{}")), key[:])
	links, err := s.IdentityLinks(t.Context(), id)
	if err != nil || len(links) != 1 {
		t.Fatal(links, err)
	}
	return s, id, links[0].ID, key
}

// Each visit to a provider is a row of ours and, now and then, a call to it: one address makes so many, and others still get there.
func TestFederation_VisitsAreLimited(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, func(c *federation.Config) {}, Config{AddressAttempts: 4})
	linked(s)
	for i := range 12 {
		b := s.browser()
		b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		p := b.meadow()
		switch {
		case i < 4 && p.status != http.StatusSeeOther:
			t.Errorf("visit %d: %d %s", i+1, p.status, p.id)
		case i >= 4 && (p.status != http.StatusTooManyRequests || p.id != "login_page" || p.waits() == 0 || p.problem() == ""):
			t.Errorf("visit %d: %d %s, wait %d, %q", i+1, p.status, p.id, p.waits(), p.problem())
		}
	}
	if n := s.selfCount(t, `SELECT count(*) FROM identity_visits`); n != 4 {
		t.Errorf("%d visits are kept", n)
	}
	s.elsewhere(9).meadow().want(t, "consent_page")
	s.later(t, time.Hour)
	s.browser().meadow().want(t, "consent_page")
}

// Whatever way somebody gets in, a login that was planted in their browser before is none afterwards, and is not theirs.
func TestLogin_PlantedCookiesOfOtherWays(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]func(s *server, victim *browser){
		"at another provider": func(s *server, victim *browser) { victim.meadow().want(s.t, "consent_page") },
		"by a sign-up": func(s *server, victim *browser) {
			victim.post("/sign-up", "username", "victim", "name", "Victim", "email", "v@heron.example", "password", newAlicePassword).want(s.t, "consent_page")
		},
		"by the password, in the middle of a sign-up": func(s *server, victim *browser) {
			victim.get("/sign-up")
			victim.login(alice, alicePassword).want(s.t, "consent_page")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := federated(t, nil, Config{SignUp: true})
			linked(s)
			mallory := s.create(NewCustomer{Profile: storage.Profile{Username: "mallory"}, Password: alicePassword})
			attacker := s.browser()
			attacker.login("mallory", alicePassword).want(t, "consent_page")
			victim := s.browser()
			victim.Jar.SetCookies(s.url, []*http.Cookie{{Name: loginCookie, Value: attacker.cookie(), Path: "/", Secure: true}})
			in(s, victim)
			if p := attacker.get(journeyURL); p.id != "login_page" || victim.cookie() == attacker.cookie() {
				t.Errorf("the planted login is good: %s", p.id)
			}
			if p := victim.get(journeyURL).want(t, "consent_page"); strings.Contains(p.body, mallory.String()) {
				t.Error("the victim is logged in as somebody else")
			}
		})
	}
}
