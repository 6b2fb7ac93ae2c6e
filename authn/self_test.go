package authn

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

const newAlicePassword = "seven quiet lamps by the harbour"

// selfSetup is a server with alice, who has an authenticator and is logged in, in b.
func selfSetup(t *testing.T, c Config) (s *server, b *browser, id uuid.UUID, key totp) {
	t.Helper()
	c.Channels = []string{ChannelEmail, ChannelSMS}
	s = setup(t, c)
	id, key = s.enrolled()
	b = s.browser()
	b.signIn(key, selfPath).want(t, "self_page")
	return s, b, id, key
}

// signIn logs alice in on the way to one of her pages.
func (b *browser) signIn(key totp, page string) page {
	b.s.t.Helper()
	p := b.get(page).want(b.s.t, "login_page")
	if !strings.Contains(p.body, fmt.Sprintf(`name="next" value="%s"`, page)) {
		b.s.t.Errorf("the login does not lead to %s", page)
	}
	b.postForm("/login", "username", alice, "password", alicePassword, "next", page).want(b.s.t, "second_factor_page")
	return b.factor(key, page)
}

// factor shows the second factor. The database's clock stands still while the server's moves: the factor is as new for both.
func (b *browser) factor(key totp, page string) page {
	b.s.t.Helper()
	b.s.clock.Add(totpPeriod)
	p := b.postForm("/login/second-factor", "kind", storage.TOTP, "code", b.s.code(key), "next", page)
	b.s.sql(b.s.t, nil, `UPDATE logins SET factor_at = factor_at + $1 WHERE hash = $2`, time.Duration(b.s.clock.Load())*time.Second, b.s.LoginHash(b.request(b.s.t)))
	return p
}

// bob is another customer, with one of everything.
type otherOnes struct{ id, factor, session, app, browser, link uuid.UUID }

func onesOf(id uuid.UUID) otherOnes {
	return otherOnes{id: id, factor: storage.NewID(), session: storage.NewID(), app: storage.NewID(), browser: storage.NewID(), link: storage.NewID()}
}

func (s *server) bob(t *testing.T) otherOnes {
	t.Helper()
	o := onesOf(s.create(NewCustomer{Profile: storage.Profile{Username: "bob", Name: "Bob Roe", Email: "bob@heron.example"}, Password: "nine slow tortoises at noon"}))
	s.things(t, o)
	return o
}

func (s *server) things(t *testing.T, o otherOnes) {
	t.Helper()
	s.sql(t, nil, `INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at) VALUES ($1, $2, 'grid_card', $3, now())`,
		[16]byte(o.factor), [16]byte(o.id), s.db.Keys().Seal("second_factors.secret", o.factor[:], []byte("[]")))
	s.sql(t, nil, `INSERT INTO logins (hash, customer_id, auth_time, acr, amr, expires_at, session_id) VALUES ($1, $2, now(), $3, '{pwd}', now() + interval '1 hour', $4)`,
		o.session[:], [16]byte(o.id), SCA, [16]byte(o.session))
	s.sql(t, nil, `INSERT INTO approval_devices (id, customer_id, client_id, public_key, name) VALUES ($1, $2, 'app', '{}', 'Pixel of somebody')`, [16]byte(o.app), [16]byte(o.id))
	s.sql(t, nil, `INSERT INTO push_subscriptions (id, customer_id, endpoint_hash, subscription) VALUES ($1, $2, $3, $4)`, [16]byte(o.browser), [16]byte(o.id), o.browser[:],
		s.db.Keys().Seal("push_subscriptions.subscription", o.browser[:], []byte(`{}`)))
	s.sql(t, nil, `INSERT INTO identity_links (id, customer_id, provider, identity, display) VALUES ($1, $2, 'corp', $3, $4)`, [16]byte(o.link), [16]byte(o.id), o.link[:],
		s.db.Keys().Seal("identity_links.display", o.id[:], []byte(`{"name":"someone@corp.example"}`)))
}

func (s *server) selfCount(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	s.sql(t, &n, sql, args...)
	return n
}

// selfMessages takes what waits to be sent, but that the second factor was added with which all begin here.
func (s *server) selfMessages(t *testing.T) (all []storage.Message) {
	t.Helper()
	taken, err := s.db.TakeNotifications(t.Context(), 100, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range taken {
		m, err := s.db.Message(n)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(m.Subject, "a second step was added") {
			all = append(all, m)
		}
	}
	return all
}

// snapshot is everything in the tables that customers' own forms change.
func (s *server) selfSnapshot(t *testing.T) string {
	t.Helper()
	var all string
	for _, table := range []string{"customers", "second_factors", "approval_devices", "push_subscriptions", "identity_links", "account_deletions", "events", "notifications", "one_time_codes"} {
		var rows string
		s.sql(t, &rows, `SELECT coalesce(string_agg(t::text, ';' ORDER BY t::text), '') FROM `+table+` t`)
		all += table + ": " + rows + "\n"
	}
	var sessions string
	s.sql(t, &sessions, `SELECT coalesce(string_agg(session_id::text, ';' ORDER BY session_id), '') FROM logins`)
	return all + sessions
}

// forms are all forms of the customer's own pages, as they would do something for the customer who owns o.
func selfForms(o otherOnes) map[string][]string {
	profile := []string{}
	for _, f := range profileFields {
		value := "New " + f.name
		switch f.name {
		case "locale":
			value = "en-GB"
		case "zoneinfo":
			value = "Europe/London"
		}
		profile = append(profile, f.name, value)
	}
	return map[string][]string{
		profilePath:                   profile,
		passwordPath:                  {"old_password", alicePassword, "password", newAlicePassword},
		"/self/email":                 {"email", "new@heron.example"},
		"/self/email/confirm":         {"email", "new@heron.example", "code", "123456"},
		"/self/phone":                 {"phone", "+44 7700 900123"},
		"/self/phone/confirm":         {"phone", "+447700900123", "code", "123456"},
		"/self/factors/rename":        {"factor", o.factor.String(), "name", "Drawer"},
		"/self/factors/remove":        {"factor", o.factor.String()},
		"/self/links/remove":          {"link", o.link.String()},
		"/self/sessions/end":          {"session", o.session.String()},
		"/self/sessions/end-others":   {},
		"/self/devices/remove":        {"app", o.app.String()},
		"/self/devices/silence":       {"browser", o.browser.String()},
		"/self/delete-account":        {"confirm", "yes"},
		"/self/delete-account/cancel": {},
	}
}

var ownPagesOfSelf = map[string]string{
	selfPath: "self_page", profilePath: "self_profile_page", passwordPath: "self_password_page", factorListPath: "self_factors_page",
	sessionsPath: "self_sessions_page", activityPath: "self_activity_page", dataPath: "self_data_page",
}

// Whoever is not logged in, and whoever reads only, changes nothing.
func TestSelf_FormsDoNothingWithoutALoginAndGETNever(t *testing.T) {
	s := setup(t, Config{Channels: []string{ChannelEmail, ChannelSMS}})
	id, key := s.enrolled()
	mine := onesOf(id)
	s.things(t, mine)
	before := s.selfSnapshot(t)
	stranger := s.browser()
	for path, fields := range selfForms(mine) {
		if p := stranger.postForm(path, fields...); p.id != "login_page" {
			t.Errorf("%s without a login: %q %d", path, p.id, p.status)
		}
	}
	for path := range ownPagesOfSelf {
		stranger.get(path).want(t, "login_page")
	}
	if after := s.selfSnapshot(t); after != before {
		t.Errorf("something was changed:\n%s\n%s", before, after)
	}
	b := s.browser()
	b.signIn(key, selfPath).want(t, "self_page")
	before = s.selfSnapshot(t)
	for path := range ownPagesOfSelf {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r, _ := http.NewRequest(method, s.http.URL+path, nil)
			if p := b.do(r); p.status != http.StatusOK {
				t.Errorf("%s %s: %d", method, path, p.status)
			}
		}
	}
	for path, fields := range selfForms(mine) {
		if ownPagesOfSelf[path] != "" {
			continue
		}
		query := url.Values{}
		for i := 0; i < len(fields); i += 2 {
			query.Set(fields[i], fields[i+1])
		}
		if p := b.get(path + "?" + query.Encode()); p.status != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: %d", path, p.status)
		}
	}
	if after := s.selfSnapshot(t); after != before {
		t.Errorf("reading changed something:\n%s\n%s", before, after)
	}
}

// What is another customer's is not there; nor is what a form has twice, not at all, or too much of.
func TestSelf_RefusesWhatIsNotOnesOwnOrNoForm(t *testing.T) {
	s, b, id, key := selfSetup(t, Config{})
	bob := s.bob(t)
	before := s.selfSnapshot(t)
	for _, path := range []string{"/self/factors/rename", "/self/factors/remove", "/self/links/remove", "/self/sessions/end", "/self/devices/remove", "/self/devices/silence"} {
		fields := selfForms(bob)[path]
		for name, c := range map[string]struct {
			fields []string
			status int
		}{
			"another customer's": {fields, http.StatusNotFound},
			"nobody's":           {append([]string{fields[0], storage.NewID().String()}, fields[2:]...), http.StatusNotFound},
			"no id":              {append([]string{fields[0], "x' OR 1=1"}, fields[2:]...), http.StatusBadRequest},
			"another spelling":   {append([]string{fields[0], "{" + fields[1] + "}"}, fields[2:]...), http.StatusBadRequest},
			"twice":              {append(fields[:2:2], fields...), http.StatusBadRequest},
			"missing":            {nil, http.StatusBadRequest},
			"oversized":          {append(fields[:len(fields):len(fields)], "x", strings.Repeat("x", largestForm)), http.StatusRequestEntityTooLarge},
			"not UTF-8":          {append(fields[:len(fields):len(fields)], "x", "\xff"), http.StatusBadRequest},
		} {
			if p := b.postForm(path, c.fields...); p.status != c.status || p.id != "error_page" {
				t.Errorf("%s, %s: %d %s, want %d", path, name, p.status, p.id, c.status)
			}
		}
	}
	own := otherOnes{id: id}
	for path, fields := range selfForms(own) {
		r, _ := http.NewRequest(http.MethodPost, s.http.URL+path, strings.NewReader(selfForm(fields...)))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		if p := b.do(r); p.status != http.StatusForbidden {
			t.Errorf("%s from another site: %d", path, p.status)
		}
		r, _ = http.NewRequest(http.MethodPost, s.http.URL+path, strings.NewReader(`{}`))
		r.Header.Set("Content-Type", "application/json")
		if p := b.do(r); p.status != http.StatusUnsupportedMediaType && p.id != "login_page" && p.id != "second_factor_page" {
			t.Errorf("%s as JSON: %d %s", path, p.status, p.id)
		}
	}
	for _, path := range []string{profilePath, passwordPath, "/self/email", "/self/phone"} {
		if p := b.postForm(path); p.status != http.StatusBadRequest {
			t.Errorf("%s, empty: %d", path, p.status)
		}
	}
	if after := s.selfSnapshot(t); after != before {
		t.Errorf("something was changed:\n%s\n%s", before, after)
	}
	_ = key
}

func selfForm(fields ...string) string {
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	return form.Encode()
}

func TestSelf_Overview(t *testing.T) {
	s, b, id, key := selfSetup(t, Config{})
	s.sql(t, nil, `UPDATE customers SET fineract_client_id = 4567123 WHERE id = $1`, [16]byte(id))
	other := s.browser()
	other.signIn(key, selfPath)
	p := other.get(selfPath).want(t, "self_page")
	for _, want := range []string{"Alice Doe", "a•••@heron.example", "CL-****123", "You signed in last", `href="/self/profile"`} {
		if !strings.Contains(p.body, want) {
			t.Errorf("no %q", want)
		}
	}
	for _, hidden := range []string{"alice@heron.example", "4567123"} {
		if strings.Contains(p.body, hidden) {
			t.Errorf("%q is shown", hidden)
		}
	}
	_ = b
}

func TestMaskedClient(t *testing.T) {
	for id, want := range map[int64]string{4567123: "CL-****123", 456712: "CL-****712", 45671: "CL-****71", 123: "CL-****3", 7: "CL-****"} {
		if got := maskedClient(&id); got != want {
			t.Errorf("%d: %s, want %s", id, got, want)
		}
	}
}

func TestSelf_BrowserInWords(t *testing.T) {
	s := setup(t, Config{})
	for agent, want := range map[string]string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                        "Firefox on Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0":           "Edge on Windows",
		"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36":                   "Chrome on Android",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1": "Safari on iPhone",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15":                   "Safari on Mac",
		"curl/8.0": "Unknown browser", "": "Unknown browser",
	} {
		if got := s.browser(); got == nil {
			t.Fatal()
		}
		if got := s.Authn.browser(agent); got != want {
			t.Errorf("%q: %q, want %q", agent, got, want)
		}
	}
}

func TestSelf_Profile(t *testing.T) {
	s, b, id, _ := selfSetup(t, Config{})
	fields := selfForms(otherOnes{})[profilePath]
	p := b.postForm(profilePath, fields...).want(t, "self_profile_page")
	if p.at.RawQuery != "saved" || !strings.Contains(p.body, "Your details are saved.") || !strings.Contains(p.body, `value="New locality"`) {
		t.Errorf("%s\n%s", p.at, p.body)
	}
	c, err := s.FindCustomer(t.Context(), "", alice)
	if err != nil {
		t.Fatal(err)
	}
	profile, err := c.Profile()
	if err != nil || profile.Name != "New name" || profile.Address.Country != "New country" || profile.Email != "alice@heron.example" || profile.Username != alice || profile.UpdatedAt == 0 {
		t.Errorf("%+v %v", profile, err)
	}
	if n := s.selfCount(t, `SELECT count(*) FROM events WHERE customer_id = $1 AND kind = 'profile.changed' AND details->'fields' ? 'name'`, [16]byte(id)); n != 1 {
		t.Errorf("%d events", n)
	}
	for field, value := range map[string]string{"name": "", "locale": "en_GB!", "zoneinfo": "../etc", "nickname": strings.Repeat("x", 300), "region": "a\x00b"} {
		changed := append([]string{}, fields...)
		for i := 0; i < len(changed); i += 2 {
			if changed[i] == field {
				changed[i+1] = value
			}
		}
		if p := b.postForm(profilePath, changed...).want(t, "self_profile_page"); p.status != http.StatusUnprocessableEntity || p.problem() == "" {
			t.Errorf("%s %q: %d %q", field, value, p.status, p.problem())
		}
	}
}

var selfCode = regexp.MustCompile(`\b\d{6}\b`)

// A new address counts once a code has come back from it; the old one is told.
func TestSelf_ContactChangesByACodeToTheNewAddress(t *testing.T) {
	s, b, id, _ := selfSetup(t, Config{})
	for path, bad := range map[string]string{"/self/email": "no address", "/self/phone": "07700 900123"} {
		field := strings.TrimPrefix(path, "/self/")
		if p := b.postForm(path, field, bad).want(t, "self_profile_page"); p.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", path, p.status)
		}
	}
	p := b.postForm("/self/email", "email", "new@heron.example").want(t, "self_contact_page")
	if !strings.Contains(p.body, "n•••@heron.example") {
		t.Error("not masked")
	}
	messages := s.selfMessages(t)
	if len(messages) != 1 || messages[0].To != "new@heron.example" {
		t.Fatalf("%+v", messages)
	}
	code := selfCode.FindString(messages[0].Text + messages[0].Subject)
	wrong := "000000"
	if wrong == code {
		wrong = "000001"
	}
	for name, c := range map[string][]string{
		"a wrong code":                 {"email", "new@heron.example", "code", wrong},
		"the code for another address": {"email", "evil@heron.example", "code", code},
		"an empty code":                {"email", "new@heron.example", "code", ""},
	} {
		if p := b.postForm("/self/email/confirm", c...).want(t, "self_contact_page"); p.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", name, p.status)
		}
	}
	if p := b.postForm("/self/phone/confirm", "phone", "+447700900123", "code", code); p.status != http.StatusUnprocessableEntity {
		t.Errorf("the code for another purpose: %d", p.status)
	}
	if p := b.postForm("/self/email/confirm", "email", "new@heron.example", "code", code).want(t, "self_profile_page"); p.at.RawQuery != "email" {
		t.Errorf("%v %q", p.at, p.problem())
	}
	if p := b.postForm("/self/email/confirm", "email", "new@heron.example", "code", code); p.status != http.StatusUnprocessableEntity {
		t.Errorf("the code again: %d", p.status)
	}
	c, err := s.FindCustomer(t.Context(), "", alice)
	if err != nil {
		t.Fatal(err)
	}
	if profile, err := c.Profile(); err != nil || profile.Email != "new@heron.example" || !profile.EmailVerified {
		t.Errorf("%+v %v", profile, err)
	}
	if found, err := s.db.FindCustomersByEmail(t.Context(), "default", "new@heron.example"); err != nil || len(found) != 1 || found[0].ID != id {
		t.Errorf("not found by the new address: %v", err)
	}
	if messages := s.selfMessages(t); len(messages) != 1 || messages[0].To != "alice@heron.example" {
		t.Errorf("the old address: %+v", messages)
	}
	if n := s.selfCount(t, `SELECT count(*) FROM events WHERE kind = 'email.changed'`); n != 1 {
		t.Errorf("%d events", n)
	}
	b.postForm("/self/phone", "phone", "+44 7700 900123").want(t, "self_contact_page")
	b.postForm("/self/phone", "phone", "+44 7700 900124").want(t, "self_contact_page")
	if p := b.postForm("/self/phone", "phone", "+44 7700 900125").want(t, "self_profile_page"); p.problem() == "" {
		t.Error("more codes than an hour has")
	}
}

func TestSelf_Password(t *testing.T) {
	s, b, _, key := selfSetup(t, Config{})
	other := s.browser()
	other.signIn(key, selfPath).want(t, "self_page")
	for name, c := range map[string]struct{ old, new, problem string }{
		"a wrong old one": {"not the password", newAlicePassword, "not right"},
		"a short one":     {alicePassword, "short", "too short"},
		"a weak one":      {alicePassword, "alice alice alice", "easy"},
		"an empty one":    {alicePassword, "", "every field"},
	} {
		if p := b.postForm(passwordPath, "old_password", c.old, "password", c.new).want(t, "self_password_page"); !strings.Contains(p.problem(), c.problem) || p.status != 422 {
			t.Errorf("%s: %d %q", name, p.status, p.problem())
		}
	}
	if p := b.postForm(passwordPath, "old_password", alicePassword, "password", newAlicePassword).want(t, "self_password_page"); p.at.RawQuery != "password" {
		t.Fatalf("%v %q", p.at, p.problem())
	}
	b.get(selfPath).want(t, "self_page")
	other.get(selfPath).want(t, "login_page")
	if p := other.postForm("/login", "username", alice, "password", alicePassword); p.status != http.StatusForbidden {
		t.Errorf("the old password: %d", p.status)
	}
	other.postForm("/login", "username", alice, "password", newAlicePassword, "next", selfPath).want(t, "second_factor_page")
	if n := s.selfCount(t, `SELECT count(*) FROM events WHERE kind = 'password.changed'`); n != 1 {
		t.Errorf("%d events", n)
	}
	if m := s.selfMessages(t); len(m) != 1 || m[0].To != "alice@heron.example" {
		t.Errorf("%+v", m)
	}
}

// A wrong old password is counted as at the login.
func TestSelf_PasswordGuessesAreCounted(t *testing.T) {
	_, b, _, _ := selfSetup(t, Config{MaxFailures: 3})
	for range 6 {
		b.postForm(passwordPath, "old_password", "not the password", "password", newAlicePassword)
	}
	if p := b.postForm(passwordPath, "old_password", alicePassword, "password", newAlicePassword).want(t, "self_password_page"); p.status != http.StatusTooManyRequests {
		t.Errorf("%d %q", p.status, p.problem())
	}
}

func TestSelf_Factors(t *testing.T) {
	s, b, id, _ := selfSetup(t, Config{RequireSecondFactor: true})
	var factor string
	s.sql(t, &factor, `SELECT id::text FROM second_factors WHERE customer_id = $1 AND kind = 'totp'`, [16]byte(id))
	p := b.get(factorListPath).want(t, "self_factors_page")
	if strings.Count(p.body, `action="/self/factors/remove"`) != 1 || !strings.Contains(p.body, "cannot be removed") { // recovery codes alone
		t.Error("the only one can be removed")
	}
	if p := b.postForm("/self/factors/rename", "factor", factor, "name", " My <phone> "); p.at.RawQuery != "renamed" || !strings.Contains(p.body, "My &lt;phone&gt;") {
		t.Errorf("%v", p.at)
	}
	if p := b.postForm("/self/factors/rename", "factor", factor, "name", strings.Repeat("x", 61)); p.status != http.StatusUnprocessableEntity {
		t.Errorf("a long name: %d", p.status)
	}
	if p := b.postForm("/self/factors/remove", "factor", factor).want(t, "self_factors_page"); p.status != http.StatusUnprocessableEntity {
		t.Errorf("the last one: %d", p.status)
	}
	sms := storage.NewID()
	s.sql(t, nil, `INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at) VALUES ($1, $2, 'sms', $3, now())`, [16]byte(sms), [16]byte(id),
		s.db.Keys().Seal("second_factors.secret", sms[:], []byte(`{"address":"+447700900123"}`)))
	if p := b.get(factorListPath); !strings.Contains(p.body, "•••• 0123") || strings.Contains(p.body, "7700900123") {
		t.Error("the number is not masked")
	}
	if p := b.postForm("/self/factors/remove", "factor", factor).want(t, "self_factors_page"); p.at.RawQuery != "removed" {
		t.Errorf("%v %q", p.at, p.problem())
	}
	if n := s.selfCount(t, `SELECT count(*) FROM events WHERE kind = 'factor.removed' AND details->>'factor' = 'totp'`); n != 1 {
		t.Errorf("%d events", n)
	}
	if m := s.selfMessages(t); len(m) != 1 || m[0].To != "alice@heron.example" {
		t.Errorf("%+v", m)
	}
}

// agent is a browser that calls itself so.
type agent struct {
	http.RoundTripper
	name string
}

func (a agent) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("User-Agent", a.name)
	return a.RoundTripper.RoundTrip(r)
}

func TestSelf_SessionsAndDevices(t *testing.T) {
	s, b, id, key := selfSetup(t, Config{})
	s.things(t, onesOf(id))
	other := s.browser()
	other.Transport = agent{other.Transport, "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1"}
	other.from = "203.0.113.77"
	other.signIn(key, selfPath).want(t, "self_page")
	p := b.get(sessionsPath).want(t, "self_sessions_page")
	if strings.Count(p.body, `action="/self/sessions/end"`) != 3 || strings.Count(p.body, `id="this_session"`) != 1 ||
		!strings.Contains(p.body, "127.0.0.1") || !regexp.MustCompile(`<strong>Safari on iPhone</strong> <span>\d+ \w+ 20\d\d, \d\d:\d\d · <span class="number">203.0.113.77</span>`).MatchString(p.body) {
		t.Errorf("%s", p.body)
	}
	for field, path := range map[string]string{"app": "/self/devices/remove", "browser": "/self/devices/silence"} {
		value := regexp.MustCompile(`name="` + field + `" value="([^"]+)"`).FindStringSubmatch(p.body)[1]
		if p := b.postForm(path, field, value).want(t, "self_sessions_page"); strings.Contains(p.body, value) {
			t.Errorf("%s is still there", field)
		}
	}
	if p := b.postForm("/self/sessions/end-others").want(t, "self_sessions_page"); p.at.RawQuery != "others" || strings.Contains(p.body, `action="/self/sessions/end"`) {
		t.Errorf("%v", p.at)
	}
	other.get(selfPath).want(t, "login_page")
	b.get(selfPath).want(t, "self_page")
	for kind, want := range map[string]int{"device.removed": 1, "browser.silenced": 1, "sessions.ended": 1} {
		if n := s.selfCount(t, `SELECT count(*) FROM events WHERE kind = $1`, kind); n != want {
			t.Errorf("%s: %d events", kind, n)
		}
	}
}

func TestSelf_ActivityIsPagedAndInWords(t *testing.T) {
	s, b, id, _ := selfSetup(t, Config{})
	for range 25 {
		if err := s.db.AddEvent(t.Context(), storage.Event{CustomerID: id, Kind: "factor.removed", Details: map[string]any{"factor": "totp"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.db.AddEvent(t.Context(), storage.Event{CustomerID: id, Kind: "something.new"}); err != nil {
		t.Fatal(err)
	}
	p := b.get(activityPath).want(t, "self_activity_page")
	older := regexp.MustCompile(`id="older_link" href="([^"]+)"`).FindStringSubmatch(p.body)
	if strings.Count(p.body, "<li><strong>") != eventsPerPage || older == nil || strings.Contains(p.body, "something.new") || !strings.Contains(p.body, "Something about your access changed") {
		t.Fatalf("%s", p.body)
	}
	next := b.get(older[1]).want(t, "self_activity_page")
	if !strings.Contains(next.body, "You signed in") || strings.Contains(next.body, "older_link") {
		t.Errorf("%s", next.body)
	}
	for _, bad := range []string{"x", "-1", "1&before=2", "99999999999999999999"} {
		if p := b.get(activityPath + "?before=" + bad); p.status != http.StatusBadRequest {
			t.Errorf("before=%s: %d", bad, p.status)
		}
	}
}

// request is one with the browser's cookies.
func (b *browser) request(t *testing.T) *http.Request {
	t.Helper()
	r, _ := http.NewRequest(http.MethodGet, b.s.http.URL, nil)
	for _, c := range b.Jar.Cookies(b.s.url) {
		r.AddCookie(c)
	}
	return r
}

// Budget: a page costs the guard and one more.
func TestSelf_RoundTrips(t *testing.T) {
	s, b, _, _ := selfSetup(t, Config{})
	for path := range ownPagesOfSelf {
		before := s.trips.n.Load()
		b.get(path)
		if n := s.trips.n.Load() - before; n > 2 {
			t.Errorf("%s: %d round trips", path, n)
		}
	}
	before := s.trips.n.Load()
	b.export(t, "")
	if n := s.trips.n.Load() - before; n > 2 {
		t.Errorf("export: %d round trips", n)
	}
}

// No log line of all this has personal data.
func TestSelf_LogsNameNobody(t *testing.T) {
	s, b, _, key := selfSetup(t, Config{})
	b.postForm(profilePath, selfForms(otherOnes{})[profilePath]...)
	b.postForm("/self/email", "email", "new@heron.example")
	b.postForm("/self/email/confirm", "email", "new@heron.example", "code", "000000")
	b.postForm("/self/phone", "phone", "+447700900123")
	b.postForm(passwordPath, "old_password", "wrong "+alicePassword, "password", newAlicePassword)
	b.postForm(passwordPath, "old_password", alicePassword, "password", newAlicePassword)
	b.postForm("/self/sessions/end-others")
	b.export(t, "")
	b.postForm(deletePath, "confirm", "yes")
	_ = key
	for _, entry := range s.logs.All() {
		line := entry.Message + fmt.Sprint(entry.ContextMap())
		for _, private := range []string{"Alice", "heron.example", "7700900123", "127.0.0.1", "Go-http-client", "herons", "lamps", "New name", "username"} {
			if strings.Contains(line, private) {
				t.Errorf("%q is in the log: %s", private, line)
			}
		}
	}
}
