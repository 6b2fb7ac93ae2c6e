package authn

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image/png"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pquerna/otp"

	"github.com/countersign/countersign/storage"
)

// E3: enrolment with a QR code, confirmed by a first code, then asked for at every login.
func TestTOTP_EnrolmentAndLogin(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	id := s.createAlice()
	s.acr = SCA
	b := s.browser()
	p := b.login(alice, alicePassword).want(t, "enrol_page")
	key := totpOf(t, p.secret())

	uri := strings.ReplaceAll(find(regexp.MustCompile(`href="(otpauth:[^"]*)"`), p.body), "&amp;", "&")
	parsed, err := otp.NewKeyFromURL(uri)
	if err != nil || parsed.Secret() != p.secret() || parsed.Issuer() != "Heron Bank" || parsed.AccountName() != alice ||
		parsed.Period() != 30 || parsed.Digits() != 6 || parsed.Algorithm() != otp.AlgorithmSHA1 || parsed.Type() != "totp" {
		t.Errorf("otpauth URI %q: %v", uri, err)
	}
	picture, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(find(regexp.MustCompile(`src="data:image/png;base64,([^"]*)"`), p.body), "&#43;", "+"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(picture)); err != nil || len(picture) > 4<<10 {
		t.Errorf("QR code of %d bytes: %v", len(picture), err)
	}

	if again := b.get(journeyURL).want(t, "enrol_page").secret(); again != key.String() {
		t.Error("looking at the page again changed the secret that was scanned")
	}
	p = b.post("/login/enrol", "code", s.wrong(key)).want(t, "enrol_page")
	if p.secret() != key.String() || p.problem() == "" {
		t.Errorf("a wrong code changed the secret, or says nothing: %q", p.problem())
	}
	code := s.code(key)
	b.post("/login/enrol", "code", code[:3]+" "+code[3:]).want(t, "recovery_codes_page")
	p = b.get(journeyURL).want(t, "consent_page")
	if want := fmt.Sprintf("%s %s pwd,otp,mfa", id, SCA); !strings.Contains(p.body, want) {
		t.Errorf("logged in as %q, want %q (RFC 8176)", p.body, want)
	}
	b.post("/login/enrol", "code", code).want(t, "consent_page") // sent twice: nothing changes
	b.get("/login/enrol").want(t, "consents_page")               // a confirmed secret is neither shown nor replaced

	s.acr = "" // from now on it is asked for whatever the request needs
	s.clock.Add(totpPeriod)
	b = s.browser()
	b.login(alice, alicePassword).want(t, "second_factor_page")
	b.get("/login").want(t, "second_factor_page")
	p = b.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
	if want := fmt.Sprintf("%s %s pwd,otp,mfa", id, SCA); !strings.Contains(p.body, want) {
		t.Errorf("logged in as %q, want %q", p.body, want)
	}
}

func TestTOTP_RequiredOfEverybody(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{RequireSecondFactor: true})
	s.createAlice()
	b := s.browser()
	b.login(alice, alicePassword).want(t, "enrol_page")
	b.get("/login").want(t, "enrol_page")
	b.postForm("/login/enrol", "code", "").want(t, "enrol_page")
}

// A half login must not get past a factor by enrolling another one.
func TestTOTP_PasswordAloneNeitherSeesNorReplacesASecret(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	_, key := s.enrolled()
	b := s.browser()
	b.login(alice, alicePassword).want(t, "second_factor_page")
	for _, p := range []page{b.get(pathOf(journeyURL, "/login/enrol")), b.post("/login/enrol", "code", s.code(key))} {
		if p.id != "second_factor_page" || p.secret() != "" {
			t.Errorf("%d %s", p.status, p.id)
		}
	}
	b.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
}

func pathOf(journey, path string) string { return strings.Replace(journey, "/authorize", path, 1) }

// Whoever else knows the password must not have their app confirmed by the customer, nor read the customer's secret.
func TestTOTP_EachLoginEnrolsItsOwnSecret(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{RequireSecondFactor: true})
	s.createAlice()
	mine, theirs := s.browser(), s.browser()
	first := totpOf(t, mine.login(alice, alicePassword).want(t, "enrol_page").secret())
	second := totpOf(t, theirs.login(alice, alicePassword).want(t, "enrol_page").secret())
	if bytes.Equal(first, second) {
		t.Fatal("two logins share a secret")
	}
	// The later one replaced the earlier, which confirms nothing any more and begins anew.
	p := mine.post("/login/enrol", "code", s.code(first)).want(t, "enrol_page")
	third := totpOf(t, p.secret())
	if bytes.Equal(third, first) || bytes.Equal(third, second) {
		t.Error("the secret is an old one")
	}
	theirs.post("/login/enrol", "code", s.code(second)).want(t, "enrol_page")
	var confirmed int
	if s.sql(t, &confirmed, `SELECT count(*) FROM second_factors WHERE confirmed_at IS NOT NULL`); confirmed != 0 {
		t.Error("a replaced secret was confirmed")
	}
}

// RFC 6238 §5.2: a code is accepted once.
func TestTOTP_SameCodeTwiceIsRefused(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	_, key := s.enrolled()
	code := s.code(key)
	b := s.browser()
	b.login(alice, alicePassword).want(t, "second_factor_page")
	b.post("/login/second-factor", "code", code).want(t, "consent_page")
	other := s.browser()
	other.login(alice, alicePassword).want(t, "second_factor_page")
	p := other.post("/login/second-factor", "code", code).want(t, "second_factor_page")
	if p.status != http.StatusForbidden || p.problem() == "" {
		t.Errorf("%d %q", p.status, p.problem())
	}
	s.clock.Add(-totpPeriod) // the step before the one that was used
	other.post("/login/second-factor", "code", s.code(key)).want(t, "second_factor_page")
	s.clock.Add(3 * totpPeriod)
	other.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
}

func TestTOTP_OfConcurrentUsesOfACodeOneWins(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{MaxFailures: 1000})
	_, key := s.enrolled()
	const n = 20
	browsers := make([]*browser, n)
	for i := range browsers {
		browsers[i] = s.browser()
		browsers[i].login(alice, alicePassword).want(t, "second_factor_page")
	}
	code := s.code(key)
	var in atomic.Int32
	var wg sync.WaitGroup
	for _, b := range browsers {
		wg.Go(func() {
			if b.post("/login/second-factor", "code", code).id == "consent_page" {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 {
		t.Errorf("%d logins with one code", in.Load())
	}
}

// RFC 6238 §5.2: one step of clock drift either way. RFC 4226's secret, RFC 6238 appendix B's codes cut to six digits.
func TestTOTP_TakesTheStepsAroundNow(t *testing.T) {
	t.Parallel()
	key := totp("12345678901234567890")
	for at, code := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		for drift := max(-2, -at/30); drift <= 2; drift++ {
			step, ok := key.verify(code, time.Unix(at+drift*30, 0))
			if want := drift >= -1 && drift <= 1; ok != want || ok && step != at/30 {
				t.Errorf("%s of %d at drift %d: step %d, %v", code, at, drift, step, ok)
			}
		}
	}
	for _, code := range []string{"", "0", "28708", "2870822", "28708２", "abcdef", "-87082"} {
		if _, ok := key.verify(code, time.Unix(59, 0)); ok {
			t.Errorf("%q was taken", code)
		}
	}
}

// E3, E13: nothing that identifies a customer or makes codes is readable in the tables.
func TestSealed_TablesHoldNoPlainText(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	account := storage.Account{ID: "12", Name: "Holiday savings", Number: "KE-0098-77", Currency: "KES"}
	s.create(NewCustomer{Profile: storage.Profile{Username: "bob.the.builder", Name: "Robert Mason", Email: "bob@heron.example", PhoneNumber: "+254700123456"},
		Password: alicePassword, Accounts: []storage.Account{account}})
	s.acr = SCA
	b := s.browser()
	begun := totpOf(t, b.login("bob.the.builder", alicePassword).want(t, "enrol_page").secret())
	plain := [][]byte{[]byte("bob.the"), []byte("Robert"), []byte("heron.example"), []byte("700123456"), []byte("Holiday"), []byte("0098-77"),
		[]byte(alicePassword), begun, []byte(begun.String()), []byte(b.cookie())}
	s.scan(t, plain)
	b.post("/login/enrol", "code", s.code(begun)).want(t, "recovery_codes_page")
	s.scan(t, append(plain, []byte(b.cookie())))

	// What was sealed for one login or customer opens for no other.
	s.sql(t, nil, `UPDATE second_factors SET id = gen_random_uuid()`)
	if p := b.get("/login/enrol"); p.status != http.StatusInternalServerError || p.id != "error_page" {
		t.Errorf("a secret that was moved to another row: %d %s", p.status, p.id)
	}
	for _, entry := range s.logs.All() {
		line := fmt.Sprint(entry.Message, entry.ContextMap())
		for _, secret := range []string{"bob", "Mason", alicePassword, begun.String(), b.cookie()} {
			if strings.Contains(line, secret) {
				t.Errorf("the log says %q", line)
			}
		}
	}
}

// scan looks for plain texts in all columns of all rows, as they are stored.
func (s *server) scan(t *testing.T, plain [][]byte) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var rows int
	for _, table := range []string{"customers", "accounts", "second_factors", "logins"} {
		result, err := conn.Query(t.Context(), `SELECT * FROM `+table)
		if err != nil {
			t.Fatal(err)
		}
		for result.Next() {
			rows++
			for i, value := range result.RawValues() {
				for _, p := range plain {
					if bytes.Contains(value, p) {
						t.Errorf("%s.%s holds %q", table, result.FieldDescriptions()[i].Name, p)
					}
				}
			}
		}
		if result.Err() != nil {
			t.Fatal(result.Err())
		}
	}
	if rows < 4 {
		t.Fatalf("only %d rows looked at", rows)
	}
}

func TestRemoveSecondFactors_LetsTheCustomerEnrolAnother(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	id, old := s.enrolled()
	if err := s.RemoveSecondFactors(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveSecondFactors(t.Context(), id); err != storage.ErrNotFound {
		t.Errorf("again: %v", err)
	}
	s.acr = SCA
	p := s.browser().login(alice, alicePassword).want(t, "enrol_page")
	if p.secret() == old.String() {
		t.Error("the old secret is back")
	}
}
