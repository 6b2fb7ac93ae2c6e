package authn

import (
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// oathtool computes the codes of a secret, as it is typed, at a step and those after it. It is an authenticator that nobody here wrote.
func oathtool(t *testing.T, secret string, step int64, more int) []string {
	t.Helper()
	if _, err := exec.LookPath("oathtool"); err != nil {
		const why = "oathtool is missing: install it to have another program make the codes (Debian: apt-get install oathtool)"
		if os.Getenv("COUNTERSIGN_REQUIRE_CLIENTS") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	at := time.Unix(step*totpPeriod, 0).UTC().Format("2006-01-02 15:04:05 UTC")
	out, err := exec.CommandContext(t.Context(), "oathtool", "--totp", "--base32", "--now", at, "--window", strconv.Itoa(more), secret).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// beginStep sets the clock back to the beginning of the step, so that it does not end while a test runs, and returns it.
func (s *server) beginStep() int64 {
	s.clock.Add(-(s.now().Unix() % totpPeriod))
	return s.now().Unix() / totpPeriod
}

// E3, RFC 6238: enrolment and logins with the codes of a program that read nothing but the secret on the page: the steps next to now are
// taken too, the ones after them are not, and none is taken that was, or that is before one that was.
func TestTOTP_CodesOfOathtool(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	s.createAlice()
	s.acr = SCA
	b := s.browser()
	secret := b.login(alice, alicePassword).want(t, "enrol_page").secret()
	b.post("/login/enrol", "code", oathtool(t, secret, s.beginStep(), 0)[0]).want(t, "recovery_codes_page")
	for _, attempt := range []struct {
		why   string
		later int64 // steps that pass before
		drift int64 // of the customer's clock
		taken bool
	}{
		{"the step of the enrolment again", 0, 0, false},
		{"two steps late", 3, -2, false},
		{"one step late", 0, -1, true},
		{"that one again", 0, -1, false},
		{"in time", 0, 0, true},
		{"the one before the one that was taken", 0, -1, false},
		{"one step early", 0, 1, true},
		{"that one in its time", 1, 0, false},
		{"two steps early", 0, 2, false},
		{"that one, once it is only one step early", 1, 1, true},
	} {
		s.clock.Add(attempt.later * totpPeriod)
		b := s.browser()
		b.login(alice, alicePassword).want(t, "second_factor_page")
		p := b.post(secondFactorForm, "code", oathtool(t, secret, s.beginStep()+attempt.drift, 0)[0])
		if (p.id == shownPage) != attempt.taken || !attempt.taken && p.status != http.StatusForbidden {
			t.Errorf("%s: %d %s %q", attempt.why, p.status, p.id, p.problem())
		}
	}
}

// The same codes over years, for secrets of our making.
func TestTOTP_AgreesWithOathtool(t *testing.T) {
	t.Parallel()
	for i := range int64(8) {
		secret, err := totpFactor{}.Begin(t.Context(), FactorRequest{}, nil)
		if err != nil || len(secret) != totpSecret {
			t.Fatalf("%d bytes: %v", len(secret), err)
		}
		first := 1_000_000 + i*i*20_000_000 // from 1970 to 2901
		for j, want := range oathtool(t, totp(secret).String(), first, 50) {
			if got, err := totp(secret).code(first + int64(j)); got != want || err != nil {
				t.Errorf("step %d: %s, oathtool says %s: %v", first+int64(j), got, want, err)
			}
		}
	}
}
