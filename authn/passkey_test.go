package authn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/storage"
)

var bob = NewCustomer{Profile: storage.Profile{Username: "bob", Name: "Bob Roe", Email: "bob@heron.example"}, Password: "four brown owls in the attic"}

// WebAuthn §5.4, §5.5: what is asked for.
func TestPasskey_Options(t *testing.T) {
	s := passkeys(t, Config{})
	id, k := s.alicesPasskey()
	b := s.browser()
	q := b.login(alice, alicePassword).want(t, "second_factor_page").question(t).PublicKey
	if q.RPID != bankID || q.UserVerification != "required" || len(q.Allow) != 1 || q.Allow[0].ID != base64.RawURLEncoding.EncodeToString(k.id) || q.Timeout != 300000 {
		t.Errorf("second factor: %+v", q)
	}
	q = s.browser().signInQuestion().PublicKey
	if q.RPID != bankID || q.UserVerification != "required" || len(q.Allow) != 0 {
		t.Errorf("first factor: %+v", q)
	}
	if strings.Contains(string(k.handle), string(id[:])) || len(k.handle) != 32 {
		t.Error("the user handle is the customer's id, which clients see")
	}
	s.create(bob)
	b = s.browser()
	b.login("bob", bob.Password)
	q = b.get(enrolPasskeyPath).want(t, "enrol_factor_page").question(t).PublicKey
	var algs []int
	for _, p := range q.Params {
		algs = append(algs, p.Alg)
	}
	if q.RP.ID != bankID || q.RP.Name != "Heron Bank" || q.User.Name != "bob" || q.User.DisplayName != "Bob Roe" || q.Attestation != "none" ||
		!slices.Equal(algs, []int{-7, -8, -257}) || q.Selection["residentKey"] != "required" || q.Selection["userVerification"] != "required" {
		t.Errorf("registration: %+v", q)
	}
	if q.User.ID == base64.RawURLEncoding.EncodeToString(k.handle) {
		t.Error("two customers, one handle")
	}
}

// RTS (EU) 2018/389 art. 4(1): after the password it is the second factor, alone it is both.
func TestPasskey_LogsIn(t *testing.T) {
	for name, key := range map[string]func() crypto.Signer{
		"ES256": func() crypto.Signer { k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader); return k },
		"EdDSA": func() crypto.Signer { _, k, _ := ed25519.GenerateKey(rand.Reader); return k },
		"RS256": func() crypto.Signer { k, _ := rsa.GenerateKey(rand.Reader, 2048); return k },
	} {
		t.Run(name, func(t *testing.T) {
			s := passkeys(t, Config{})
			k := softKeyOf(t, key())
			id := s.withPasskey(NewCustomer{Password: alicePassword}, k)

			b := s.browser()
			q := b.login(alice, alicePassword).question(t)
			before := b.cookie()
			p := b.post(secondFactorPath, "kind", storage.Passkey, "state", q.state, "response", k.get(q)).want(t, "consent_page")
			if !strings.Contains(p.body, id.String()+" "+SCA+" pwd,pop,user,mfa") || b.cookie() == before {
				t.Errorf("%s", p.body)
			}

			b = s.browser()
			q = b.signInQuestion()
			p = b.post(passkeyPath, "state", q.state, "response", k.get(q)).want(t, "consent_page")
			if !strings.Contains(p.body, id.String()+" "+SCA+" pop,user,mfa") {
				t.Errorf("%s", p.body)
			}
			var kinds string
			s.sql(t, &kinds, `SELECT string_agg(kind, ' ' ORDER BY at) FROM events WHERE customer_id = $1`, [16]byte(id))
			if kinds != "login login factor.added login login" { // the first by the password alone
				t.Errorf("events %q", kinds)
			}
			var counted bool
			s.sql(t, &counted, `SELECT last_step = 3 AND last_used_at IS NOT NULL AND name = 'Passkey' FROM second_factors WHERE customer_id = $1 AND kind = 'passkey'`, [16]byte(id))
			if !counted {
				t.Error("the counter, its use or its name is not kept")
			}
		})
	}
}

// A browser that is logged in as the customer stays in its session; the old cookie is worth nothing.
func TestPasskey_SignInReplacesTheLogin(t *testing.T) {
	s := passkeys(t, Config{})
	id, k := s.alicesPasskey()
	b := s.browser()
	q := b.signInQuestion()
	b.post(passkeyPath, "state", q.state, "response", k.get(q)).want(t, "consent_page")
	old := b.cookie()
	q = b.signInQuestion()
	b.post(passkeyPath, "state", q.state, "response", k.get(q)).want(t, "consent_page")
	var logins, sessions int
	s.sql(t, &logins, `SELECT count(*) FROM logins WHERE customer_id = $1`, [16]byte(id))
	s.sql(t, &sessions, `SELECT count(DISTINCT session_id) FROM logins WHERE customer_id = $1`, [16]byte(id))
	if b.cookie() == old || logins != 2 || sessions != 2 { // the other is of the browser that enrolled
		t.Errorf("%d logins in %d sessions", logins, sessions)
	}
}

// refusal is an assertion that does not do.
type refusal struct {
	change func(*said)
}

func refusals(victim *softKey, alien *softKey) map[string]refusal {
	return map[string]refusal{
		"§7.2-10 of a registration":               {change: func(s *said) { s.kind = "webauthn.create" }},
		"§7.2-11 another challenge":               {change: func(s *said) { s.challenge = base64.RawURLEncoding.EncodeToString(make([]byte, 32)) }},
		"§7.2-12 another origin":                  {change: func(s *said) { s.origin = "https://bank.example.evil.example" }},
		"§7.2-12 a subdomain":                     {change: func(s *said) { s.origin = "https://evil.bank.example" }},
		"§7.2-12 http":                            {change: func(s *said) { s.origin = "http://bank.example" }},
		"§7.2-12 another port":                    {change: func(s *said) { s.origin = "https://bank.example:8443" }},
		"§7.2-12 another spelling":                {change: func(s *said) { s.origin = "https://BANK.example/" }},
		"§7.2-13 in a frame":                      {change: func(s *said) { s.crossOrigin = true }},
		"§7.2-14 in a frame of another":           {change: func(s *said) { s.crossOrigin, s.topOrigin = true, "https://evil.example" }},
		"§7.2-14 in a frame, it is said":          {change: func(s *said) { s.topOrigin = bankOrigin }},
		"§7.2-15 another relying party":           {change: func(s *said) { s.rpID = "evil.example" }},
		"§7.2-16 nobody there":                    {change: func(s *said) { s.flags = flagUV }},
		"§7.2-17 not verified":                    {change: func(s *said) { s.flags = flagUP }},
		"§7.2-18 backed up, not eligible":         {change: func(s *said) { s.flags |= flagBS }},
		"§6.1.3 eligible since":                   {change: func(s *said) { s.flags |= flagBE }},
		"§7.2-21 signed by another key":           {change: func(s *said) { s.alter = resign(alien) }},
		"§7.2-22 the counter stands still":        {change: func(s *said) { s.counter-- }},
		"§7.2-22 the counter is gone":             {change: func(s *said) { s.counter = 0 }},
		"§7.2-6 the handle of another":            {change: func(s *said) { s.handle = alien.handle }},
		"§7.2-5 an unknown credential":            {change: func(s *said) { s.id = make([]byte, 32) }},
		"§5.1 id and rawId differ":                {change: func(s *said) { s.alter = func(c map[string]any) { c["id"] = "AAAA" } }},
		"§5.1 another type":                       {change: func(s *said) { s.alter = func(c map[string]any) { c["type"] = "password" } }},
		"§5.1 no response":                        {change: func(s *said) { s.alter = func(c map[string]any) { delete(c, "response") } }},
		"too long":                                {change: func(s *said) { s.alter = func(c map[string]any) { c["more"] = strings.Repeat("x", longestPasskey) } }},
		"§7.2-5 another customer's credential":    {change: func(s *said) { s.id, s.handle, s.alter = alien.id, alien.handle, resign(alien) }},
		"§7.2-6 its id, with the customer's name": {change: func(s *said) { s.id, s.alter = alien.id, resign(alien) }},
	}
}

// resign replaces the signature by another key's.
func resign(k *softKey) func(map[string]any) {
	return func(c map[string]any) {
		response := c["response"].(map[string]any)
		raw := func(name string) []byte {
			b, _ := base64.RawURLEncoding.DecodeString(response[name].(string))
			return b
		}
		response["signature"] = base64.RawURLEncoding.EncodeToString(k.sign(raw("clientDataJSON"), raw("authenticatorData")))
	}
}

// WebAuthn §7.2: each check, as the second factor. Refused with 403 on the same page, and counted.
func TestPasskey_SecondFactorRefusals(t *testing.T) {
	s := passkeys(t, Config{MaxFailures: 1000})
	id, k := s.alicesPasskey()
	other := newSoftKey(t)
	s.withPasskey(bob, other)
	for name, r := range refusals(k, other) {
		t.Run(name, func(t *testing.T) {
			b := s.browser()
			q := b.login(alice, alicePassword).question(t)
			before := s.failures(id)
			p := b.post(secondFactorPath, "kind", storage.Passkey, "state", q.state, "response", k.get(q, r.change)).want(t, "second_factor_page")
			if p.status != http.StatusForbidden || p.problem() != "That passkey was not accepted. Please try again, or use another way." || s.failures(id) != before+1 {
				t.Errorf("%d %q, %d failures", p.status, p.problem(), s.failures(id)-before)
			}
			b.post(secondFactorPath, "kind", storage.Passkey, "state", q.state, "response", k.get(q)).want(t, "consent_page") // and nothing else was wrong
		})
	}
}

// The same as the first factor: 403 on the login page. Nothing is counted: there is nothing to guess, and whoever knows a
// credential's id, which is no secret, must not be able to block its customer.
func TestPasskey_FirstFactorRefusals(t *testing.T) {
	s := passkeys(t, Config{MaxFailures: 1000})
	id, k := s.alicesPasskey()
	other := newSoftKey(t)
	bobs := s.withPasskey(bob, other)
	cases := refusals(k, other)
	cases["§7.2-6 no handle"] = refusal{change: func(s *said) { s.handle = nil }}
	for name, r := range cases {
		t.Run(name, func(t *testing.T) {
			b := s.browser()
			q := b.signInQuestion()
			before := s.failures(id) + s.failures(bobs)
			p := b.post(passkeyPath, "state", q.state, "response", k.get(q, r.change))
			if name == "§7.2-5 another customer's credential" { // is that customer's login here
				if p.want(t, "consent_page"); !strings.Contains(p.body, bobs.String()) {
					t.Errorf("%s", p.body)
				}
				return
			}
			p.want(t, "login_page")
			if got := s.failures(id) + s.failures(bobs) - before; p.status != http.StatusForbidden || p.problem() == "" || got != 0 || strings.Contains(p.body, "aria-invalid") {
				t.Errorf("%d %q, %d failures", p.status, p.problem(), got)
			}
			b.post(passkeyPath, "state", q.state, "response", k.get(q)).want(t, "consent_page")
		})
	}
}

// A challenge is good once, for five minutes, for who was asked.
func TestPasskey_Challenges(t *testing.T) {
	s := passkeys(t, Config{MaxFailures: 1000})
	id, k := s.alicesPasskey()
	other := newSoftKey(t)
	s.withPasskey(bob, other)
	second := func(b *browser, q passkeyQuestion, answer string) page {
		return b.post(secondFactorPath, "kind", storage.Passkey, "state", q.state, "response", answer)
	}
	t.Run("another login's, second factor", func(t *testing.T) {
		q := s.browser().login(alice, alicePassword).question(t)
		b := s.browser()
		b.login(alice, alicePassword)
		if p := second(b, q, k.get(q)).want(t, "second_factor_page"); p.status != http.StatusForbidden {
			t.Errorf("%d", p.status)
		}
	})
	t.Run("another browser's, first factor", func(t *testing.T) {
		q := s.browser().signInQuestion()
		b := s.browser()
		b.signInQuestion()
		if p := b.post(passkeyPath, "state", q.state, "response", k.get(q)).want(t, "login_page"); p.status != http.StatusForbidden {
			t.Errorf("%d", p.status)
		}
		b = s.browser() // without the cookie
		if p := b.post(passkeyPath, "state", q.state, "response", k.get(q)).want(t, "login_page"); p.status != http.StatusUnprocessableEntity {
			t.Errorf("%d", p.status)
		}
	})
	t.Run("the first factor's as the second", func(t *testing.T) {
		b := s.browser()
		b.login(alice, alicePassword)
		q := b.signInQuestion()
		if p := second(b, q, k.get(q)).want(t, "second_factor_page"); p.status != http.StatusForbidden {
			t.Errorf("%d", p.status)
		}
	})
	t.Run("a state of nobody", func(t *testing.T) {
		for _, state := range []string{"", "x", strings.Repeat("A", 200), strings.Repeat("A", 200) + "="} {
			b := s.browser()
			q := b.signInQuestion()
			if p := b.post(passkeyPath, "state", state, "response", k.get(q)).want(t, "login_page"); p.status != http.StatusForbidden {
				t.Errorf("%q: %d", state, p.status)
			}
		}
	})
	t.Run("replayed, first factor", func(t *testing.T) {
		b := s.browser()
		q := b.signInQuestion()
		answer := k.get(q, func(s *said) { s.counter += 5 })
		k.counter += 5
		b.post(passkeyPath, "state", q.state, "response", answer).want(t, "consent_page")
		if p := b.post(passkeyPath, "state", q.state, "response", answer).want(t, "login_page"); p.status != http.StatusForbidden {
			t.Errorf("%d", p.status)
		}
		// Not only the counter stands in the way.
		if p := b.post(passkeyPath, "state", q.state, "response", k.get(q)).want(t, "login_page"); p.status != http.StatusForbidden {
			t.Errorf("answered twice: %d", p.status)
		}
	})
	t.Run("replayed, second factor", func(t *testing.T) {
		b := s.browser()
		q := b.login(alice, alicePassword).question(t)
		answer := k.get(q)
		second(b, q, answer).want(t, "consent_page")
		s.clock.Add(10)
		if p := second(b, q, answer).want(t, "second_factor_page"); p.status != http.StatusForbidden {
			t.Errorf("%d", p.status)
		}
	})
	t.Run("after five minutes", func(t *testing.T) {
		b := s.browser()
		q := b.login(alice, alicePassword).question(t)
		first := b.signInQuestion()
		before := s.failures(id)
		s.clock.Add(301)
		if p := second(b, q, k.get(q)).want(t, "second_factor_page"); p.status != http.StatusUnprocessableEntity || p.problem() != "That took too long. Please try again." {
			t.Errorf("%d %q", p.status, p.problem())
		}
		if p := b.post(passkeyPath, "state", first.state, "response", k.get(first)).want(t, "login_page"); p.status != http.StatusUnprocessableEntity {
			t.Errorf("%d %q", p.status, p.problem())
		}
		if s.failures(id) != before {
			t.Error("being slow counts as an attempt")
		}
	})
	t.Run("no answer", func(t *testing.T) {
		b := s.browser()
		q := b.login(alice, alicePassword).question(t)
		before := s.failures(id)
		if p := second(b, q, "").want(t, "second_factor_page"); p.status != http.StatusUnprocessableEntity || s.failures(id) != before {
			t.Errorf("%d %q", p.status, p.problem())
		}
		if p := b.post(passkeyPath, "state", q.state).want(t, "error_page"); p.status != http.StatusBadRequest {
			t.Errorf("%d", p.status)
		}
		if p := b.post(passkeyPath, "state", q.state, "state", q.state, "response", "").want(t, "error_page"); p.status != http.StatusBadRequest {
			t.Errorf("%d", p.status)
		}
	})
	t.Run("a memory of used ones that was lost", func(t *testing.T) {
		b := s.browser()
		q := b.signInQuestion()
		s.sql(t, nil, `UPDATE replay_memory SET since = now()`)
		defer s.sql(t, nil, `UPDATE replay_memory SET since = 'epoch'`)
		if p := b.post(passkeyPath, "state", q.state, "response", k.get(q)).want(t, "login_page"); p.status != http.StatusForbidden {
			t.Errorf("%d", p.status)
		}
	})
}

// Two copies of a key that count alike: one gets in, even if both are sent at once to different servers.
func TestPasskey_Cloned(t *testing.T) {
	s := passkeys(t, Config{MaxFailures: 1000})
	_, k := s.alicesPasskey()
	type try struct {
		b      *browser
		q      passkeyQuestion
		answer string
	}
	var tries []try
	for range 4 {
		b := s.browser()
		q := b.signInQuestion()
		tries = append(tries, try{b, q, k.copy().get(q)})
	}
	results := make(chan string, len(tries))
	for _, x := range tries {
		go func() { results <- x.b.post(passkeyPath, "state", x.q.state, "response", x.answer).id }()
	}
	in := 0
	for range tries {
		if <-results == "consent_page" {
			in++
		}
	}
	if in != 1 {
		t.Errorf("%d copies got in", in)
	}
}

// WebAuthn §6.1.1: a counter that has not grown is refused, and an event, one a day; the passkey itself goes on.
func TestPasskey_Copied(t *testing.T) {
	s := passkeys(t, Config{MaxFailures: 1000})
	id, k := s.alicesPasskey()
	behind := func(s *said) { s.counter = 1 }
	events := func() (n int) {
		return s.count(t, `SELECT count(*) FROM events WHERE customer_id = $1 AND kind = 'passkey.copied' AND details = '{"factor": "passkey"}'`, [16]byte(id))
	}
	first := func(k *softKey, change ...func(*said)) page {
		b := s.browser()
		q := b.signInQuestion()
		return b.post(passkeyPath, "state", q.state, "response", k.get(q, change...))
	}
	first(k).want(t, "consent_page")
	if p := first(k, behind, func(s *said) { s.alter = resign(newSoftKey(t)) }).want(t, "login_page"); p.status != http.StatusForbidden || events() != 0 {
		t.Errorf("%d, %d events by somebody without the key", p.status, events())
	}
	if p := first(k, behind).want(t, "login_page"); p.status != http.StatusForbidden || events() != 1 {
		t.Errorf("first factor: %d, %d events", p.status, events())
	}
	b := s.browser()
	q := b.login(alice, alicePassword).question(t)
	again := k.get(q, behind)
	if p := b.post(secondFactorPath, "kind", storage.Passkey, "state", q.state, "response", again).want(t, "second_factor_page"); p.status != http.StatusForbidden || events() != 1 {
		t.Errorf("second factor: %d, %d events", p.status, events())
	}
	s.sql(t, nil, `UPDATE events SET at = at - interval '25 hours'`)
	visitor := s.visitorOf(t, k)
	q = s.ask(t, visitor, "payment", []byte("1"))
	if _, err := s.FinishPasskey(t.Context(), visitor, "payment", []byte("1"), q.state, []byte(k.get(q, behind))); !errors.Is(err, ErrPasskey) || events() != 2 {
		t.Errorf("transaction: %v, %d events", err, events())
	}
	first(k).want(t, "consent_page")
	all, err := s.db.ListEvents(t.Context(), id, nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	from := 0
	for _, e := range all {
		if e.Kind == "passkey.copied" && e.Visit.Address != "" {
			from++
		}
		if e.Kind == "passkey.copied" && s.Authn.happened(e) != "A passkey was refused: there may be a copy of it" {
			t.Errorf("%q", s.Authn.happened(e))
		}
	}
	if from != 1 {
		t.Errorf("%d events say from where", from)
	}
}

// A passkey without a counter, as those that are synchronized: each challenge is still good once. Its backup state may change.
func TestPasskey_Synchronized(t *testing.T) {
	s := passkeys(t, Config{})
	k := newSoftKey(t)
	k.counts = false
	id := s.create(NewCustomer{Password: alicePassword})
	b := s.browser()
	b.login(alice, alicePassword)
	q := b.get(enrolPasskeyPath).question(t)
	apple := [16]byte{0xfb, 0xfc, 0x30, 0x07, 0x15, 0x4e, 0x4e, 0xcc, 0x8c, 0x0b, 0x6e, 0x02, 0x05, 0x57, 0xd7, 0xbd}
	b.post(enrolPasskeyPath, "state", q.state, "response", k.create(q, func(s *said) { s.flags |= flagBE; s.aaguid = apple })).want(t, "consent_page")
	for range 2 {
		b := s.browser()
		q := b.signInQuestion()
		answer := k.get(q, func(s *said) { s.flags |= flagBE | flagBS })
		b.post(passkeyPath, "state", q.state, "response", answer).want(t, "consent_page")
		if p := b.post(passkeyPath, "state", q.state, "response", answer).want(t, "login_page"); p.status != http.StatusForbidden {
			t.Errorf("replayed: %d", p.status)
		}
	}
	var name string
	s.sql(t, &name, `SELECT name FROM second_factors WHERE customer_id = $1 AND kind = 'passkey'`, [16]byte(id))
	if name != "iCloud Keychain" {
		t.Errorf("it is called %q", name)
	}
	visitor, err := s.db.FindLogin(t.Context(), hashOf(t, b))
	if err != nil {
		t.Fatal(err)
	}
	c, err := openCredential(visitor.Confirmed()[0])
	if err != nil || !c.Flags.BackupEligible || !c.Flags.BackupState || !c.Flags.UserVerified || len(c.Attestation.Object) != 0 {
		t.Errorf("%+v %v", c.Flags, err)
	}
}

func hashOf(t *testing.T, b *browser) []byte {
	t.Helper()
	raw, err := cookieEncoding.DecodeString(b.cookie())
	if err != nil {
		t.Fatal(err)
	}
	return hashCookie(raw)
}

// No verdict on the second factor during a block; as the first factor it is no guess, and not held up. One that was removed is
// nobody's.
func TestPasskey_BlockedAndRemoved(t *testing.T) {
	s := passkeys(t, Config{})
	id, k := s.alicesPasskey()
	b := s.browser()
	p := b.login(alice, alicePassword)
	for range 5 {
		q := p.question(t)
		p = b.post(secondFactorPath, "kind", storage.Passkey, "state", q.state, "response", k.get(q, func(s *said) { s.flags = flagUP }))
	}
	q := p.want(t, "second_factor_page").question(t)
	if p = b.post(secondFactorPath, "kind", storage.Passkey, "state", q.state, "response", k.get(q)).want(t, "second_factor_page"); p.status != http.StatusTooManyRequests {
		t.Errorf("second factor: %d", p.status)
	}
	q = b.signInQuestion()
	b.post(passkeyPath, "state", q.state, "response", k.get(q)).want(t, "consent_page") // of the same browser, with the half login that is blocked
	b = s.browser()
	q = b.signInQuestion()
	b.post(passkeyPath, "state", q.state, "response", k.get(q)).want(t, "consent_page")
	if err := s.RemoveSecondFactors(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b = s.browser()
	q = b.signInQuestion()
	if p = b.post(passkeyPath, "state", q.state, "response", k.get(q)).want(t, "login_page"); p.status != http.StatusForbidden {
		t.Errorf("removed: %d", p.status)
	}
}

// A disabled customer's passkey, and one of another tenant, is nobody's.
func TestPasskey_Disabled(t *testing.T) {
	s := passkeys(t, Config{})
	id, k := s.alicesPasskey()
	try := func() int {
		b := s.browser()
		q := b.signInQuestion()
		return b.post(passkeyPath, "state", q.state, "response", k.get(q)).status
	}
	s.config.Tenant = "another"
	if got := try(); got != http.StatusForbidden {
		t.Errorf("another tenant: %d", got)
	}
	s.config.Tenant = "default"
	if got := try(); got != http.StatusOK {
		t.Errorf("%d", got)
	}
	if err := s.Disable(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := try(); got != http.StatusForbidden {
		t.Errorf("disabled: %d", got)
	}
}

// Where the issuer is an IP address, or a bank does not want them, there are none.
func TestPasskey_None(t *testing.T) {
	for name, c := range map[string]Config{
		"an IP address": {Origin: "https://127.0.0.1:8443"}, "no origin": {}, "not wanted": {Origin: bankOrigin, FactorKinds: []string{storage.TOTP}},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup(t, c)
			b := s.browser()
			if p := b.get("/login").want(t, "login_page"); strings.Contains(p.body, "passkey") {
				t.Error("the login page offers one")
			}
			if p := b.get(passkeyPath); p.status != http.StatusNotFound {
				t.Errorf("%d", p.status)
			}
		})
	}
}

// Two round trips for a login, as with a code; none for a challenge.
func TestPasskey_RoundTrips(t *testing.T) {
	s := passkeys(t, Config{})
	_, k := s.alicesPasskey()
	s.http.Client().CheckRedirect = nil
	b := s.browser()
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	count := func(what string, want int64, do func()) {
		t.Helper()
		before := s.trips.n.Load()
		do()
		if got := s.trips.n.Load() - before; got != want {
			t.Errorf("%s: %d round trips, want %d", what, got, want)
		}
	}
	var q passkeyQuestion
	count("a challenge for the first factor", 0, func() { q = b.signInQuestion() })
	count("the first factor", 2, func() { b.post(passkeyPath, "state", q.state, "response", k.get(q)) })
	b = s.browser()
	q = b.login(alice, alicePassword).question(t)
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	count("the second factor", 2, func() {
		b.post(secondFactorPath, "kind", storage.Passkey, "state", q.state, "response", k.get(q))
	})
	visitor, err := s.db.FindLogin(t.Context(), hashOf(t, b))
	if err != nil {
		t.Fatal(err)
	}
	count("a transaction", 1, func() {
		q := s.ask(t, visitor, "payment", []byte("1"))
		if _, err := s.FinishPasskey(t.Context(), visitor, "payment", []byte("1"), q.state, []byte(k.get(q))); err != nil {
			t.Error(err)
		}
	})
}
