package authn

import (
	"fmt"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"
)

var (
	linkRow          = regexp.MustCompile(`name="link" value="([^"]+)"`)
	oldPasswordInput = regexp.MustCompile(`(id="old_password")`)
)

// What is done in one process holds in the other at once: a session that ended, a factor and a password that are gone, a deletion.
func TestSelf_TwoProcesses(t *testing.T) {
	s, b, id, key := selfSetup(t, Config{})
	second := serve(t, s.dsn, Config{Channels: []string{ChannelEmail, ChannelSMS}})
	second.clock.Store(s.clock.Load())
	there := second.browser()
	there.Jar = b.Jar
	there.get(sessionsPath).want(t, "self_sessions_page")
	s.things(t, onesOf(id))
	there.postForm(deletePath, "confirm", "yes").want(t, "self_data_page")
	if p := b.postForm(deletePath+"/cancel").want(t, "self_data_page"); p.at.RawQuery != "cancelled" {
		t.Errorf("cancelled by the other process: %v", p.at)
	}
	there.postForm(passwordPath, "old_password", alicePassword, "password", newAlicePassword).want(t, "self_password_page")
	if p := b.postForm(passwordPath, "old_password", alicePassword, "password", alicePassword+" again").want(t, "self_password_page"); p.status != http.StatusUnprocessableEntity {
		t.Errorf("the password of before: %d", p.status)
	}
	var session string
	s.sql(t, &session, `SELECT session_id::text FROM logins WHERE hash = $1`, s.LoginHash(b.request(t)))
	thief := second.browser()
	thief.Jar = s.browser().Jar
	second.clock.Store(s.clock.Load())
	thief.get(sessionsPath).want(t, "login_page")
	thief.postForm("/login", "username", alice, "password", newAlicePassword, "next", sessionsPath).want(t, "second_factor_page")
	thief.factor(key, sessionsPath).want(t, "self_sessions_page")
	if p := thief.postForm("/self/sessions/end", "session", session).want(t, "self_sessions_page"); p.at.RawQuery != "ended" {
		t.Errorf("%v", p.at)
	}
	for _, ended := range []*browser{b, there} {
		for path := range ownPagesOfSelf {
			ended.get(path).want(t, "login_page")
		}
	}
}

// The same form, sent twice one after the other or eight times at once, does what it says once.
func TestSelf_FormsSentTwiceAndAtOnce(t *testing.T) {
	for path, want := range map[string]struct {
		kind  string // of the event
		again int    // the status of a second one
		at    string // the page that it ends at
	}{
		"/self/factors/remove": {"factor.removed", http.StatusNotFound, "error_page"},
		"/self/links/remove":   {"idp.unlinked", http.StatusNotFound, "error_page"},
		"/self/sessions/end":   {"session.ended", http.StatusNotFound, "error_page"},
		"/self/devices/remove": {"device.removed", http.StatusNotFound, "error_page"},
		passwordPath:           {"password.changed", http.StatusUnprocessableEntity, "self_password_page"},
		profilePath:            {"profile.changed", http.StatusOK, "self_profile_page"},
		deletePath:             {"deletion.requested", http.StatusOK, "self_data_page"},
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			for _, atOnce := range []int{1, 8} {
				s, b, id, _ := selfSetup(t, Config{MaxFailures: 100})
				mine := onesOf(id)
				s.things(t, mine)
				fields := selfForms(mine)[path]
				var wait sync.WaitGroup
				for range atOnce {
					wait.Go(func() { b.postForm(path, fields...) })
				}
				wait.Wait()
				if p := b.postForm(path, fields...); p.status != want.again || p.id != want.at {
					t.Errorf("%d at once, again: %d %q", atOnce, p.status, p.id)
				}
				if n := s.selfCount(t, `SELECT count(*) FROM events WHERE kind = $1`, want.kind); n != 1 {
					t.Errorf("%d at once: %d events %s", atOnce, n, want.kind)
				}
			}
		})
	}
}

// A login that has expired, or was signed out, and one that is the customer's no more, opens nothing.
func TestSelf_LoginsThatAreOver(t *testing.T) {
	for name, end := range map[string]string{
		"expired":               `UPDATE logins SET expires_at = now() - interval '1 second'`,
		"gone":                  `DELETE FROM logins`,
		"of a disabled account": `UPDATE customers SET disabled_at = now()`,
	} {
		s, b, id, _ := selfSetup(t, Config{})
		mine := onesOf(id)
		s.things(t, mine)
		s.sql(t, nil, end)
		before := s.selfSnapshot(t)
		for path := range ownPagesOfSelf {
			b.get(path).want(t, "login_page")
		}
		for path, fields := range selfForms(mine) {
			b.postForm(path, fields...).want(t, "login_page")
		}
		if code, _, body := b.export(t, "application/json"); code != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, code, body)
		}
		if after := s.selfSnapshot(t); after != before {
			t.Errorf("%s: something was changed", name)
		}
	}
}

// Whoever another provider vouches for sets a first password, and keeps the link until there is one.
func TestSelf_LinksAndTheFirstPassword(t *testing.T) {
	s, b, id, _ := selfSetup(t, Config{})
	mine := onesOf(id)
	s.things(t, mine)
	s.sql(t, nil, `UPDATE customers SET password_hash = $1 WHERE id = $2`, s.hasher.noPassword(), [16]byte(id))
	if p := b.get(factorListPath).want(t, "self_factors_page"); find(linkRow, p.body) != mine.link.String() {
		t.Errorf("the link is not listed:\n%s", p.body)
	}
	if p := b.postForm("/self/links/remove", "link", mine.link.String()).want(t, "self_factors_page"); p.status != http.StatusUnprocessableEntity {
		t.Errorf("the last way to log in: %d", p.status)
	}
	if p := b.get(passwordPath).want(t, "self_password_page"); find(oldPasswordInput, p.body) != "" {
		t.Error("a password is asked for that nobody has")
	}
	if p := b.postForm(passwordPath, "old_password", "any", "password", newAlicePassword); p.status != http.StatusUnprocessableEntity {
		t.Errorf("an old password that nobody has: %d", p.status)
	}
	if p := b.postForm(passwordPath, "password", newAlicePassword).want(t, "self_password_page"); p.at.RawQuery != "password" {
		t.Errorf("%v %q", p.at, p.problem())
	}
	if p := b.postForm(passwordPath, "password", newAlicePassword+" more").want(t, "self_password_page"); p.status != http.StatusUnprocessableEntity {
		t.Errorf("without the old password: %d", p.status)
	}
	if p := b.postForm("/self/links/remove", "link", mine.link.String()).want(t, "self_factors_page"); p.at.RawQuery != "unlinked" {
		t.Errorf("%v %q", p.at, p.problem())
	}
}

// The one-time code for a new address is guessed in two processes at once: a few attempts, whoever counts.
func TestSelf_CodesForANewAddressAreNotGuessed(t *testing.T) {
	s, b, _, _ := selfSetup(t, Config{})
	second := serve(t, s.dsn, Config{Channels: []string{ChannelEmail, ChannelSMS}})
	second.clock.Store(s.clock.Load())
	there := second.browser()
	there.Jar = b.Jar
	b.postForm("/self/email", "email", "new@heron.example").want(t, "self_contact_page")
	m := s.selfMessages(t)
	code := selfCode.FindString(m[len(m)-1].Text + m[len(m)-1].Subject)
	var wait sync.WaitGroup
	for i := range 40 {
		wait.Go(func() {
			guess := fmt.Sprintf("%06d", i)
			if guess == code {
				return
			}
			[]*browser{b, there}[i%2].postForm("/self/email/confirm", "email", "new@heron.example", "code", guess)
		})
	}
	wait.Wait()
	if p := b.postForm("/self/email/confirm", "email", "new@heron.example", "code", code); p.id != "self_contact_page" {
		t.Errorf("the right code after 40 wrong ones: %d %q", p.status, p.id)
	}
	if n := s.selfCount(t, `SELECT attempts FROM one_time_codes`); n > 5 {
		t.Errorf("%d attempts had a verdict", n)
	}
}

// What is deleted cannot be used in the waiting period by those who were let in: every grant and token ends with the request.
func TestSelf_DeletionEndsAccessAtOnce(t *testing.T) {
	s, b, id, _ := selfSetup(t, Config{})
	bob := s.bob(t)
	for _, customer := range [][16]byte{id, bob.id} {
		s.sql(t, nil, `INSERT INTO grants (id, client_id, customer_id, scopes) VALUES (gen_random_uuid(), 'tpp', $1, '{accounts}')`, customer)
		s.sql(t, nil, `INSERT INTO fineract_tfa_tokens (hash, tenant, customer_id, extended, valid_from, valid_to) VALUES ($2, 'default', $1, false, now(), now() + interval '1 day')`, customer, customer[:])
	}
	code, body := b.postJSON(t, deletePath, "confirm", "yes")
	if code != http.StatusOK || time.Until(deletionAt(t, body)).Round(time.Hour) != 14*oneDay {
		t.Fatalf("%d %s", code, body)
	}
	for sql, want := range map[string]int{
		`SELECT count(*) FROM grants WHERE customer_id = $1 AND revoked_at IS NULL`:                             0,
		`SELECT count(*) FROM fineract_tfa_tokens WHERE customer_id = $1`:                                       0,
		`SELECT count(*) FROM grants WHERE customer_id <> $1 AND revoked_at IS NULL`:                            1,
		`SELECT count(*) FROM fineract_tfa_tokens WHERE customer_id <> $1`:                                      1,
		`SELECT count(*) FROM account_deletions WHERE customer_id = $1 AND due_at > now() + interval '13 days'`: 1,
	} {
		if n := s.selfCount(t, sql, [16]byte(id)); n != want {
			t.Errorf("%s: %d, want %d", sql, n, want)
		}
	}
	if code, body := b.postJSON(t, deletePath+"/cancel"); code != http.StatusOK || body != "{}\n" {
		t.Errorf("%d %s", code, body)
	}
	s.sql(t, nil, `UPDATE logins SET factor_at = now() - interval '1 hour'`)
	if code, body := b.postJSON(t, deletePath, "confirm", "yes"); code != http.StatusForbidden || !hasAll(body, `"insufficient_user_authentication"`, `"acr_values":"`+SCA+`"`, `"factor_max_age":60`) {
		t.Errorf("a stale factor: %d %s", code, body)
	}
	if n := s.selfCount(t, `SELECT count(*) FROM account_deletions`); n != 0 {
		t.Error("it was done all the same")
	}
}
