package authn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/storage"
)

// ask begins what FinishPasskey finishes.
func (s *server) ask(t testing.TB, visitor *storage.Visitor, purpose string, binding []byte) (q passkeyQuestion) {
	t.Helper()
	options, state, err := s.BeginPasskey(t.Context(), visitor, purpose, binding)
	if err == nil {
		err = json.Unmarshal(options, &q)
	}
	if err != nil {
		t.Fatal(err)
	}
	q.state = state
	return q
}

func (s *server) visitorOf(t *testing.T, k *softKey) *storage.Visitor {
	t.Helper()
	b := s.browser()
	q := b.signInQuestion()
	b.post(passkeyPath, "state", q.state, "response", k.get(q)).want(t, "consent_page")
	visitor, err := s.db.FindLogin(t.Context(), hashOf(t, b))
	if err != nil {
		t.Fatal(err)
	}
	return visitor
}

// RTS (EU) 2018/389 art. 5(1): the assertion is good for this amount and payee, once, by this customer.
func TestPasskey_Transaction(t *testing.T) {
	s := passkeys(t, Config{MaxFailures: 1000})
	id, k := s.alicesPasskey()
	other := newSoftKey(t)
	s.withPasskey(bob, other)
	alices, bobs := s.visitorOf(t, k), s.visitorOf(t, other)
	digest, changed := []byte("digest of 12.00 EUR to Merchant A"), []byte("digest of 99.00 EUR to Merchant A")

	q := s.ask(t, alices, "payment", digest)
	answer := []byte(k.get(q))
	f, err := s.FinishPasskey(t.Context(), alices, "payment", digest, q.state, answer)
	if err != nil || f.Kind != storage.Passkey || f.LastUsedAt == nil {
		t.Fatalf("%+v %v", f, err)
	}
	fresh := s.ask(t, alices, "payment", digest)
	if fresh.PublicKey.Challenge == q.PublicKey.Challenge {
		t.Error("a challenge twice")
	}
	for name, c := range map[string]struct {
		visitor *storage.Visitor
		purpose string
		binding []byte
		state   string
		answer  string
		want    error
	}{
		"replayed":                           {alices, "payment", digest, q.state, string(answer), ErrPasskey},
		"signed anew for what was used":      {alices, "payment", digest, q.state, k.get(q), ErrPasskey},
		"another amount":                     {alices, "payment", changed, fresh.state, k.get(fresh), ErrPasskey},
		"another amount's challenge":         {alices, "payment", digest, fresh.state, k.get(s.ask(t, alices, "payment", changed)), ErrPasskey},
		"another purpose":                    {alices, "mandate", digest, fresh.state, k.get(fresh), ErrPasskey},
		"another customer's":                 {bobs, "payment", digest, fresh.state, k.get(fresh), ErrPasskey},
		"asked of another approver":          {bobs, "payment", digest, fresh.state, other.get(fresh), ErrPasskey},
		"another customer's key":             {alices, "payment", digest, fresh.state, other.get(fresh), ErrPasskey},
		"a purpose that eats into the other": {alices, "paymen", append([]byte("t"), digest...), fresh.state, k.get(fresh), ErrPasskey},
		"not verified":                       {alices, "payment", digest, fresh.state, k.get(fresh, func(s *said) { s.flags = flagUP }), ErrPasskey},
		"nothing":                            {alices, "payment", digest, fresh.state, "", ErrPasskey},
		"of the login":                       {alices, "payment", digest, fresh.state, k.get(s.browser().signInQuestion()), ErrPasskey},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.failures(c.visitor.CustomerID)
			f, err := s.FinishPasskey(t.Context(), c.visitor, c.purpose, c.binding, c.state, []byte(c.answer))
			if f != nil || !errors.Is(err, c.want) || s.failures(c.visitor.CustomerID) != before+1 {
				t.Errorf("%v %v", f, err)
			}
		})
	}
	s.clock.Add(301)
	before := s.failures(id)
	if _, err := s.FinishPasskey(t.Context(), alices, "payment", digest, fresh.state, []byte(k.get(fresh))); !errors.Is(err, ErrPasskeyExpired) || s.failures(id) != before {
		t.Errorf("expired: %v", err)
	}
	s.clock.Add(-301)
	if _, err := s.FinishPasskey(t.Context(), alices, "payment", digest, fresh.state, []byte(k.get(fresh))); err != nil {
		t.Errorf("nothing else was wrong: %v", err)
	}
	var blocked *Blocked
	waits := *alices
	waits.Wait = time.Minute
	if _, err := s.FinishPasskey(t.Context(), &waits, "payment", digest, "", nil); !errors.As(err, &blocked) {
		t.Errorf("blocked: %v", err)
	}
	q = s.ask(t, alices, "payment", digest)
	s.sql(t, nil, `UPDATE customers SET disabled_at = now()`) // since the visitor was looked at
	if _, err := s.FinishPasskey(t.Context(), alices, "payment", digest, q.state, []byte(k.get(q))); !errors.Is(err, ErrPasskey) {
		t.Errorf("disabled meanwhile: %v", err)
	}
	alices.Factors = nil
	if _, _, err := s.BeginPasskey(t.Context(), alices, "payment", digest); !errors.Is(err, ErrNoPasskey) {
		t.Errorf("without one: %v", err)
	}
}

// WebAuthn §7.1: each check of a new passkey. 403 on the page that asked, not counted, and nothing is stored.
func TestPasskey_RegistrationRefusals(t *testing.T) {
	s := passkeys(t, Config{})
	id := s.create(NewCustomer{Password: alicePassword})
	taken := newSoftKey(t)
	s.withPasskey(bob, taken)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key    *softKey
		change func(*said)
	}{
		"§7.1-7 of a login":                  {change: func(s *said) { s.kind = "webauthn.get" }},
		"§7.1-8 another challenge":           {change: func(s *said) { s.challenge = base64.RawURLEncoding.EncodeToString(make([]byte, 32)) }},
		"§7.1-9 another origin":              {change: func(s *said) { s.origin = "https://evil.example" }},
		"§7.1-9 another spelling":            {change: func(s *said) { s.origin = "https://BANK.example" }},
		"§7.1-10 in a frame":                 {change: func(s *said) { s.crossOrigin = true }},
		"§7.1-14 another relying party":      {change: func(s *said) { s.rpID = "evil.example" }},
		"§7.1-15 nobody there":               {change: func(s *said) { s.flags = flagUV }},
		"§7.1-16 not verified":               {change: func(s *said) { s.flags = flagUP }},
		"§7.1-17 backed up, not eligible":    {change: func(s *said) { s.flags |= flagBS }},
		"§7.1-20 an algorithm not asked for": {key: softKeyOf(t, p384)},
		"a short RSA key":                    {key: softKeyOf(t, short)},
		"§7.1 the id of another":             {change: func(s *said) { s.id = make([]byte, 32) }},
		"§7.1 no credential":                 {change: func(s *said) { s.alter = func(c map[string]any) { delete(c, "response") } }},
		"too long":                           {change: func(s *said) { s.alter = func(c map[string]any) { c["more"] = strings.Repeat("x", longestPasskey) } }},
	} {
		t.Run(name, func(t *testing.T) {
			k := c.key
			if k == nil {
				k = newSoftKey(t)
			}
			if c.change == nil {
				c.change = func(*said) {}
			}
			b := s.browser()
			b.login(alice, alicePassword).want(t, "enrol_page")
			q := b.get((journey{clientID: tpp, requestURI: requestURI}).link(enrolPasskeyPath)).question(t)
			p := b.post(enrolPasskeyPath, "state", q.state, "response", k.create(q, c.change)).want(t, "enrol_factor_page")
			if p.status != http.StatusForbidden || p.problem() != "That passkey could not be added. Please try again." || s.failures(id) != 0 {
				t.Errorf("%d %q", p.status, p.problem())
			}
			if n := s.count(t, `SELECT count(*) FROM second_factors WHERE customer_id = $1 AND kind = 'passkey'`, [16]byte(id)); n != 0 {
				t.Errorf("%d passkeys", n)
			}
		})
	}
	enrol := func(b *browser) passkeyQuestion {
		b.login(alice, alicePassword)
		return b.get((journey{clientID: tpp, requestURI: requestURI}).link(enrolPasskeyPath)).want(t, "enrol_factor_page").question(t)
	}
	t.Run("§7.1-26 somebody else's credential", func(t *testing.T) {
		b := s.browser()
		q := enrol(b)
		b.post(enrolPasskeyPath, "state", q.state, "response", taken.copy().create(q)).want(t, "enrol_page") // asked again: nothing was added
		if n := s.count(t, `SELECT count(*) FROM second_factors WHERE customer_id = $1 AND kind = 'passkey'`, [16]byte(id)); n != 0 {
			t.Errorf("%d passkeys", n)
		}
	})
	t.Run("another login's challenge", func(t *testing.T) {
		q := enrol(s.browser())
		b := s.browser()
		enrol(b)
		if p := b.post(enrolPasskeyPath, "state", q.state, "response", newSoftKey(t).create(q)).want(t, "enrol_factor_page"); p.status != http.StatusForbidden {
			t.Errorf("%d", p.status)
		}
	})
	t.Run("after five minutes", func(t *testing.T) {
		b := s.browser()
		q := enrol(b)
		s.clock.Add(301)
		if p := b.post(enrolPasskeyPath, "state", q.state, "response", newSoftKey(t).create(q)).want(t, "enrol_factor_page"); p.status != http.StatusUnprocessableEntity {
			t.Errorf("%d", p.status)
		}
	})
	t.Run("the password alone does not do for another", func(t *testing.T) {
		first, second := s.browser(), s.browser()
		q, late := enrol(first), enrol(second)
		hash := hashOf(t, second)
		before, err := s.db.FindLogin(t.Context(), hash)
		if err != nil {
			t.Fatal(err)
		}
		first.post(enrolPasskeyPath, "state", q.state, "response", newSoftKey(t).create(q)).want(t, "consent_page")
		n := &enrolling{FactorRequest: s.request(passkeyFactor{}, hash, before)} // at the same time, say: it was looked at before
		made, err := s.madePasskey(n, url.Values{"state": {late.state}, "response": {newSoftKey(t).create(late)}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.db.CompleteLogin(t.Context(), *made, storage.NewLogin{Hash: make([]byte, 32), Replaces: hash, ACR: SCA, AMR: amrPasskey, Lifetime: time.Minute}); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("at the same time: %v", err)
		}
		second.post(enrolPasskeyPath, "state", late.state, "response", newSoftKey(t).create(late)).want(t, "second_factor_page")
		second.get(enrolPasskeyPath) // leads to where the journey goes on
		if n := s.count(t, `SELECT count(*) FROM second_factors WHERE customer_id = $1 AND kind = 'passkey'`, [16]byte(id)); n != 1 {
			t.Errorf("%d passkeys", n)
		}
	})
}

func (s *server) count(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	s.sql(t, &n, sql, args...)
	return n
}

// E6: another passkey, from the customer's own pages, by a login that is fresh enough.
func TestPasskey_Add(t *testing.T) {
	s := passkeys(t, Config{})
	id, k := s.alicesPasskey()
	has := func() int {
		return s.count(t, `SELECT count(*) FROM second_factors WHERE customer_id = $1 AND kind = 'passkey'`, [16]byte(id))
	}
	b := s.browser()
	b.get(addPasskeyPath).want(t, "login_page")
	q := b.signInQuestion()
	p := b.postForm(passkeyPath, "next", addPasskeyPath, "state", q.state, "response", k.get(q)).want(t, "enrol_factor_page")
	q = p.question(t)
	if len(q.PublicKey.Exclude) != 1 || q.PublicKey.Exclude[0].ID != base64.RawURLEncoding.EncodeToString(k.id) {
		t.Errorf("excluded: %+v", q.PublicKey.Exclude)
	}
	if p = b.postForm(addPasskeyPath, "state", q.state, "response", k.create(q)).want(t, "enrol_factor_page"); p.status != http.StatusConflict || has() != 1 {
		t.Errorf("the same again: %d, %d passkeys", p.status, has())
	}
	second := newSoftKey(t)
	before := b.cookie()
	b.postForm(addPasskeyPath, "state", q.state, "response", second.create(q))
	if has() != 2 || b.cookie() == before {
		t.Fatalf("%d passkeys", has())
	}
	another := s.browser()
	q = another.signInQuestion()
	another.post(passkeyPath, "state", q.state, "response", second.get(q)).want(t, "consent_page")

	for i := has(); i < mostPasskeys; i++ {
		q = b.get(addPasskeyPath).question(t)
		b.postForm(addPasskeyPath, "state", q.state, "response", newSoftKey(t).create(q))
	}
	var names string
	s.sql(t, &names, `SELECT string_agg(name, ', ' ORDER BY created_at) FROM second_factors WHERE customer_id = $1 AND kind = 'passkey'`, [16]byte(id))
	if !strings.HasPrefix(names, "Passkey, Passkey 2, Passkey 3, ") {
		t.Errorf("they are called %s", names)
	}
	q = b.get(addPasskeyPath).question(t)
	if p = b.postForm(addPasskeyPath, "state", q.state, "response", newSoftKey(t).create(q)).want(t, "enrol_factor_page"); p.status != http.StatusUnprocessableEntity || has() != mostPasskeys {
		t.Errorf("one too many: %d, %d passkeys", p.status, has())
	}

	s.clock.Add(301) // more than the policy's age
	b.get(addPasskeyPath).want(t, "second_factor_page")
}

// The parser never panics, and takes nothing that it was not asked for.
func FuzzPasskey(f *testing.F) {
	k := newSoftKey(f)
	var q passkeyQuestion
	q.PublicKey.Challenge = base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	f.Add(k.get(q))
	f.Add(k.create(q))
	f.Add("{}")
	rp := newRelyingParty(bankOrigin, "Heron Bank")
	a := &Authn{passkeys: rp}
	user := &passkeyUser{handle: make([]byte, 32)}
	f.Fuzz(func(t *testing.T, response string) {
		if parsed, err := parseAssertion([]byte(response)); err == nil && len(parsed.RawID) == 0 {
			t.Error("a credential without an id")
		}
		if _, err := a.checkRegistration(user, challenge{hash: [32]byte{1}}, []byte(response)); err == nil {
			t.Error("an answer to another challenge was taken")
		}
	})
}
