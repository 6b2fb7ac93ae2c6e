package authn

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

var recoveryCode = regexp.MustCompile(`<code>([2-9A-HJ-NP-Z]{5}-[2-9A-HJ-NP-Z]{5})</code>`)

func (p page) codes() (all []string) {
	for _, m := range recoveryCode.FindAllStringSubmatch(p.body, -1) {
		all = append(all, m[1])
	}
	return all
}

// enrolledWithCodes makes alice with an authenticator, and returns the recovery codes that she was shown.
func (s *server) enrolledWithCodes() (totp, []string) {
	s.t.Helper()
	s.createAlice()
	s.acr = SCA
	b := s.browser()
	key := totpOf(s.t, b.login(alice, alicePassword).want(s.t, "enrol_page").secret())
	p := b.post("/login/enrol", "code", s.code(key)).want(s.t, "recovery_codes_page")
	s.clock.Add(totpPeriod)
	s.acr = ""
	return key, p.codes()
}

// Whoever enrols a second factor may be somebody else: the customer is told of each, and of recovery codes only when they are made anew.
func TestEnrolment_IsTold(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Channels: []string{ChannelEmail}})
	told := func(want string) {
		t.Helper()
		all := s.outbox()
		if len(all) != 1 || all[0].To != "alice@heron.example" || !strings.Contains(all[0].Subject, "a second step was added") || !strings.Contains(all[0].Text, want) {
			t.Errorf("messages: %+v, want one about %q", all, want)
		}
	}
	key, _ := s.enrolledWithCodes()
	told("Authenticator app")
	b := s.browser()
	s.acr = SCA
	b.login(alice, alicePassword).want(t, "second_factor_page")
	b.post(secondFactorForm, "code", s.code(key)).want(t, "consent_page")
	s.outbox()
	b.postForm(recoveryPath).want(t, "recovery_codes_page")
	told("Recovery code")
}

// E3: ten codes, shown once, each good once.
func TestRecoveryCodes(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	s.createAlice()
	s.acr = SCA
	b := s.browser()
	key := totpOf(t, b.login(alice, alicePassword).want(t, "enrol_page").secret())
	code := s.code(key)
	p := b.post("/login/enrol", "code", code).want(t, "recovery_codes_page")
	codes := p.codes()
	if len(codes) != 10 {
		t.Fatalf("%d codes\n%s", len(codes), p.body)
	}
	file := find(regexp.MustCompile(`href="data:text/plain;charset=utf-8,([^"]*)"`), p.body)
	if text, err := url.PathUnescape(file); err != nil || text != strings.Join(codes, "\r\n")+"\r\n" {
		t.Errorf("file %q: %v", text, err)
	}
	if next := find(regexp.MustCompile(`id="continue_link" href="([^"]*)"`), p.body); strings.ReplaceAll(next, "&amp;", "&") != journeyURL {
		t.Errorf("goes on to %q", next)
	}
	if again := b.post("/login/enrol", "code", code).want(t, shownPage); len(again.codes()) != 0 {
		t.Error("shown twice")
	}
	plain := [][]byte{}
	for _, c := range codes {
		plain = append(plain, []byte(c), []byte(strings.ReplaceAll(c, "-", "")))
	}
	s.scan(t, plain)

	s.clock.Add(totpPeriod)
	use := func(code string) page {
		b := s.browser()
		p := b.login(alice, alicePassword).want(t, "second_factor_page")
		if strings.Contains(p.how(), "recovery") {
			t.Errorf("asked for before the app: %q", p.how())
		}
		if !strings.Contains(p.body, "kind=recovery_codes") {
			t.Error("no link to the recovery codes")
		}
		return b.typeCode("recovery_codes", code)
	}
	spellings := []string{codes[0], strings.ToLower(codes[1]), strings.ReplaceAll(codes[2], "-", ""), strings.ReplaceAll(codes[3], "-", " - ")}
	for _, typed := range spellings {
		if p := use(typed); p.id != shownPage || !strings.Contains(p.body, "pwd,otp,mfa") {
			t.Errorf("%q: %d %s", typed, p.status, p.id)
		}
		if p := use(typed); p.id != "second_factor_page" || p.status != http.StatusForbidden {
			t.Errorf("%q again: %d %s", typed, p.status, p.id)
		}
	}
	for _, c := range codes[4:7] {
		use(c).want(t, shownPage)
	}
	b = s.browser()
	b.login(alice, alicePassword)
	if p := b.get(pathOf(journeyURL, secondFactorForm) + "&kind=recovery_codes"); !strings.Contains(p.how(), "only 3 are left") {
		t.Errorf("no warning: %q", p.how())
	}
	s.sql(t, nil, `UPDATE second_factors SET id = gen_random_uuid() WHERE kind = 'recovery_codes'`)
	if p := b.typeCode("recovery_codes", codes[7]); p.id != "error_page" {
		t.Errorf("codes that were moved to another row: %s", p.id)
	}
}

func TestRecoveryCodes_OfConcurrentUsesOneWins(t *testing.T) {
	t.Parallel()
	c := Config{MaxFailures: 1000}
	s := setup(t, c)
	_, codes := s.enrolledWithCodes()
	two := serve(t, s.dsn, c)
	var browsers []*browser
	for i := range 20 {
		browsers = append(browsers, []*server{s, two}[i%2].browser())
		browsers[i].login(alice, alicePassword).want(t, "second_factor_page")
	}
	var in atomic.Int32
	var wg sync.WaitGroup
	for i, b := range browsers {
		wg.Go(func() {
			if b.typeCode("recovery_codes", codes[i%2]).id == shownPage {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	// Two different codes that are used at once may get in each other's way, but none gets in twice.
	if n := in.Load(); n < 1 || n > 2 {
		t.Errorf("%d logins with two codes", n)
	}
}

// On demand: how many are left, and new ones that end the old.
func TestRecoveryCodes_NewOnes(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	key, old := s.enrolledWithCodes()
	b := s.browser()
	if p := b.get(recoveryPath).want(t, "login_page"); len(p.codes()) != 0 {
		t.Error("shown to nobody")
	}
	b.postForm(recoveryPath).want(t, "login_page")
	b.postForm("/login", "username", alice, "password", alicePassword, "next", recoveryPath).want(t, "second_factor_page")
	p := b.postForm(secondFactorForm, "code", s.code(key), "next", recoveryPath).want(t, "recovery_codes_page")
	if len(p.codes()) != 0 || !strings.Contains(p.body, "You have 10 recovery codes left.") {
		t.Errorf("%s", p.body)
	}
	p = b.postForm(recoveryPath).want(t, "recovery_codes_page")
	fresh := p.codes()
	if len(fresh) != 10 || fresh[0] == old[0] {
		t.Fatalf("%v", fresh)
	}
	s.clock.Add(int64((6 * time.Minute).Seconds())) // the policy asks for a factor of the last five minutes
	b.postForm(recoveryPath).want(t, "second_factor_page")

	other := s.browser()
	other.login(alice, alicePassword)
	other.typeCode("recovery_codes", old[0]).want(t, "second_factor_page")
	other.typeCode("recovery_codes", fresh[0]).want(t, shownPage)
	events, err := s.db.ListEvents(t.Context(), uuid.UUID(s.id(t)), nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	var added []string
	for _, e := range events {
		if e.Kind == eventFactorAdded {
			added = append(added, e.Details["factor"].(string))
		}
	}
	if strings.Join(added, " ") != "recovery_codes recovery_codes totp" {
		t.Errorf("events %v", added)
	}
}

// A second factor is added from the customer's own pages, which ask for the first.
func TestAddFactor(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Channels: bothChannels})
	key, _ := s.enrolledWithCodes()
	s.outbox() // that it was added
	b := s.browser()
	for _, path := range []string{addPath, addPath + "/email"} {
		b.get(path).want(t, "login_page")
	}
	b.postForm(addPath+"/email", "kind", "email", "begin", "1", "address", aliceEmail).want(t, "login_page")
	b.postForm("/login", "username", alice, "password", alicePassword, "next", addPath+"/email").want(t, "second_factor_page")
	b.postForm(addPath+"/email", "kind", "email", "begin", "1", "address", aliceEmail).want(t, "second_factor_page")
	if len(s.outbox()) != 0 {
		t.Fatal("the password alone had a code sent")
	}
	b.postForm(secondFactorForm, "code", s.code(key), "next", addPath+"/email").want(t, "enrol_factor_page")
	p := b.get(addPath).want(t, "add_factor_page")
	if strings.Contains(p.body, addPath+"/totp") || !strings.Contains(p.body, addPath+"/sms") || !strings.Contains(p.body, addPath+"/email") || strings.Contains(p.body, "recovery_codes") {
		t.Errorf("%s", p.body)
	}
	p = b.postForm(addPath+"/email", "kind", "email", "begin", "1", "address", aliceEmail).want(t, "enrol_factor_page")
	if p.at.Path != addPath+"/email" {
		t.Errorf("at %s", p.at)
	}
	r, _ := http.NewRequest(http.MethodGet, s.http.URL+factorListPath, nil)
	if p := b.postForm(addPath+"/email", "kind", "email", "code", s.sent()); p.at.Path != r.URL.Path {
		t.Errorf("came back to %s %s", p.at, p.id)
	}
	b.get(addPath + "/email") // there is one of a kind
	var kinds string
	s.sql(t, &kinds, `SELECT string_agg(kind, ' ' ORDER BY kind) FROM second_factors WHERE confirmed_at IS NOT NULL`)
	if kinds != "email recovery_codes totp" {
		t.Errorf("%s", kinds)
	}
}

// The page asks for the kind that was used last; of unused ones for the strongest; recovery codes last always; and not for what
// does not do.
func TestSecondFactor_Preferred(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Channels: bothChannels, CodesPerHour: 100})
	id := s.withEmail()
	s.setFactor(id, storage.TOTP, "x")
	s.setFactor(id, storage.SMSFactor, sentSecret{alicePhone})
	s.setFactor(id, storage.RecoveryCodes, recoverySecret{})
	asked := func() string {
		b := s.browser()
		p := b.login(alice, alicePassword).want(t, "second_factor_page")
		order := []string{find(regexp.MustCompile(`name="kind" value="([^"]*)"`), p.body)}
		for _, m := range regexp.MustCompile(`second-factor\?[^"]*kind=([a-z_]+)`).FindAllStringSubmatch(p.body, -1) {
			order = append(order, m[1])
		}
		return strings.Join(order, " ")
	}
	if got := asked(); got != "totp email sms recovery_codes" {
		t.Errorf("unused: %s", got)
	}
	s.sql(t, nil, `UPDATE second_factors SET last_used_at = now() WHERE kind IN ('sms', 'recovery_codes')`)
	if got := asked(); got != "sms totp email recovery_codes" {
		t.Errorf("SMS and a recovery code were used: %s", got)
	}
	b := s.browser()
	b.login(alice, alicePassword)
	p := b.get(pathOf(journeyURL, secondFactorForm)+"&kind=email&without=sms+nonsense").want(t, "second_factor_page")
	if strings.Contains(p.body, "kind=sms") || strings.Contains(p.body, "nonsense") || !strings.Contains(p.body, `name="without" value="sms"`) {
		t.Errorf("%s", p.body)
	}
	b.post(secondFactorForm, "kind", "sms", "without", "sms", "send", "1")
	if len(s.outbox()) != 0 {
		t.Error("a code was sent by what does not do")
	}
	p = b.get(pathOf(journeyURL, secondFactorForm)+"&without=sms+email+totp+recovery_codes").want(t, "second_factor_page")
	if p.status != http.StatusForbidden || !strings.Contains(p.body, `id="none"`) {
		t.Errorf("%d %s", p.status, p.body)
	}
}

// A policy that takes a kind out holds whatever the form says.
func TestSecondFactor_WithoutSMS(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Channels: bothChannels, CodesPerHour: 100, Policy: Policy{ChangeFactors: {ACR: SCA, Without: []string{storage.SMSFactor}}}})
	id := s.createAlice()
	s.setFactor(id, storage.SMSFactor, sentSecret{alicePhone})
	b := s.browser()
	b.postForm("/login", "username", alice, "password", alicePassword, "next", addPath)
	b.postForm(secondFactorForm, "kind", "sms", "send", "1", "next", addPath).want(t, "second_factor_page")
	p := b.postForm(secondFactorForm, "kind", "sms", "code", s.sent(), "next", addPath).want(t, "second_factor_page")
	if p.status != http.StatusForbidden || !strings.Contains(p.body, `id="none"`) {
		t.Errorf("%d %s", p.status, p.body)
	}
}

// A kind of a bank's own: its name is all that the rest knows.
func TestFactor_OfABanksOwn(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Factors: []Factor{gridCard{}}})
	id := s.createAlice()
	s.setFactor(id, "grid_card", map[string]string{"A1": "17", "B2": "42"})
	b := s.browser()
	p := b.login(alice, alicePassword).want(t, "second_factor_page")
	if !strings.Contains(p.body, `name="B2"`) {
		t.Fatal(p.body)
	}
	if p := b.post(secondFactorForm, "kind", "grid_card", "A1", "17"); p.status != http.StatusUnprocessableEntity {
		t.Errorf("half: %d", p.status)
	}
	if p := b.post(secondFactorForm, "kind", "grid_card", "A1", "17", "B2", "43"); p.status != http.StatusForbidden {
		t.Errorf("wrong: %d", p.status)
	}
	p = b.post(secondFactorForm, "kind", "grid_card", "A1", "17", "B2", "42").want(t, shownPage)
	if !strings.Contains(p.body, "pwd,grid,mfa") {
		t.Error(p.body)
	}
	for _, c := range []Config{{Tenant: "t", Factors: []Factor{totpFactor{}}}, {Tenant: "t", FactorKinds: []string{"grid_card"}}, {Tenant: "t", Policy: Policy{ViewAccess: {Without: []string{"grid_card"}}}}} {
		if c.Validate() == nil {
			t.Errorf("%+v does", c)
		}
	}
}
