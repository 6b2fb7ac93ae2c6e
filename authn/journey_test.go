package authn

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// There is no other return address than the journey's, whatever the two fields hold (no open redirect), and no mark-up.
func TestJourney_HostileFieldsStayFields(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{SignUp: true})
	s.createAlice()
	b := s.browser()
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, next := range []string{"", "/consents", "approvals", "/approvals/", "/self/../x", "/selfish", "/transactions/1", "//evil.example", "https://evil.example", "approvals&x"} {
		if p := b.postForm("/login", "username", alice, "password", alicePassword, "next", next); p.status != http.StatusBadRequest {
			t.Errorf("next=%q: %d", next, p.status)
		}
	}
	for _, evil := range []string{
		`https://evil.example/`, `//evil.example`, `/\evil.example`, `x&redirect_uri=https://evil.example`, `a#b`, "a\r\nLocation: https://evil.example",
		`"><script>alert(1)</script>`, `'onclick=x`, "%0d%0a", "a b", "\u202eevil", strings.Repeat("x", 2048),
	} {
		p := b.postForm("/login", "username", alice, "password", "wrong wrong wrong", "client_id", evil, "request_uri", evil)
		if fields := hidden.FindAllStringSubmatch(p.body, -1); p.id != "login_page" || len(fields) != 2 || strings.Contains(p.body, "<script>alert") {
			t.Errorf("%q: %d %s with fields %q", evil, p.status, p.id, fields)
		}
		if err := s.db.UnlockCustomer(t.Context(), s.id(t)); err != nil {
			t.Fatal(err)
		}
		r, _ := http.NewRequest(http.MethodPost, s.http.URL+"/login", strings.NewReader(url.Values{
			"username": {alice}, "password": {alicePassword}, "client_id": {evil}, "request_uri": {evil}, "return_to": {"https://evil.example"},
		}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := b.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		to, err := url.Parse(resp.Header.Get("Location"))
		if err != nil || resp.StatusCode != http.StatusSeeOther || to.IsAbs() || to.Host != "" || to.Path != "/authorize" || to.Fragment != "" ||
			len(to.Query()) != 2 || to.Query().Get("client_id") != evil || to.Query().Get("request_uri") != evil {
			t.Errorf("%q: %d to %q", evil, resp.StatusCode, resp.Header.Get("Location"))
		}
		for _, path := range []string{"/login?", "/sign-up?", "/recover?"} {
			p = b.get(path + url.Values{"client_id": {evil}, "request_uri": {evil}}.Encode())
			if strings.Contains(p.body, "<script>alert") || p.status >= 400 {
				t.Errorf("%s%q: %d", path, evil, p.status)
			}
		}
	}
}

func (s *server) id(t *testing.T) [16]byte {
	var id [16]byte
	s.sql(t, &id, `SELECT id FROM customers`)
	return id
}

func TestForms_BadInputIsRefused(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{SignUp: true})
	const urlencoded = "application/x-www-form-urlencoded"
	fields := map[string]string{
		"/login": "username=a&password=b", "/login/second-factor": "code=1", "/login/enrol": "code=1",
		"/sign-up": "username=a&name=b&email=c&password=d",
	}
	for path, good := range fields {
		first, _, _ := strings.Cut(good, "&")
		name, _, _ := strings.Cut(first, "=")
		for _, c := range []struct {
			why, method, mediaType, body string
			status                       int
		}{
			{"wrong method", http.MethodPut, urlencoded, good, http.StatusMethodNotAllowed},
			{"wrong method", http.MethodDelete, "", "", http.StatusMethodNotAllowed},
			{"JSON", http.MethodPost, "application/json", `{"username":"a"}`, http.StatusUnsupportedMediaType},
			{"multipart", http.MethodPost, "multipart/form-data; boundary=x", "--x--", http.StatusUnsupportedMediaType},
			{"no media type", http.MethodPost, "", good, http.StatusUnsupportedMediaType},
			{"empty", http.MethodPost, urlencoded, "", http.StatusBadRequest},
			{"missing", http.MethodPost, urlencoded, strings.Replace(good, name, "other", 1), http.StatusBadRequest},
			{"repeated", http.MethodPost, urlencoded, good + "&" + first, http.StatusBadRequest},
			{"in the query", http.MethodPost, urlencoded, "client_id=", http.StatusBadRequest},
			{"half a journey", http.MethodPost, urlencoded, good + "&client_id=tpp", http.StatusBadRequest},
			{"two journeys", http.MethodPost, urlencoded, good + "&client_id=a&request_uri=b&request_uri=c", http.StatusBadRequest},
			{"long journey", http.MethodPost, urlencoded, good + "&client_id=a&request_uri=" + strings.Repeat("b", 2049), http.StatusBadRequest},
			{"broken escape", http.MethodPost, urlencoded, good + "&x=%zz", http.StatusBadRequest},
			{"semicolon", http.MethodPost, urlencoded, good + ";x=1", http.StatusBadRequest},
			{"no UTF-8", http.MethodPost, urlencoded, good + "&x=%ff", http.StatusBadRequest},
			{"oversized", http.MethodPost, urlencoded, good + "&x=" + strings.Repeat("b", 64<<10), http.StatusRequestEntityTooLarge},
		} {
			query := ""
			if c.why == "in the query" {
				query = "?" + good
			}
			r, _ := http.NewRequest(c.method, s.http.URL+path+query, strings.NewReader(c.body))
			if c.mediaType != "" {
				r.Header.Set("Content-Type", c.mediaType)
			}
			if p := s.browser().do(r); p.status != c.status || p.id != "error_page" {
				t.Errorf("%s, %s: %d %s, want %d", path, c.why, p.status, p.id, c.status)
			}
		}
	}
	if p := s.browser().get("/sign-out"); p.status != http.StatusMethodNotAllowed {
		t.Errorf("a link signs out: %d", p.status)
	}
	r, _ := http.NewRequest(http.MethodPost, s.http.URL+"/login", strings.NewReader(fields["/login"]))
	r.Header.Set("Content-Type", urlencoded)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if p := s.browser().do(r); p.status != http.StatusForbidden || p.id != "error_page" {
		t.Errorf("another site's form: %d %s", p.status, p.id)
	}
	var n int
	if s.sql(t, &n, `SELECT (SELECT count(*) FROM customers) + (SELECT count(*) FROM logins)`); n != 0 {
		t.Errorf("%d rows stored", n)
	}
}

func TestLogin_EmptyFieldsAreAskedForAgain(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	p := s.browser().post("/login", "username", "bob", "password", "").want(t, "login_page")
	if p.status != http.StatusUnprocessableEntity || p.problem() == "" || !strings.Contains(p.body, `value="bob"`) || !strings.Contains(p.body, "Budget App") {
		t.Errorf("%d %q\n%s", p.status, p.problem(), p.body)
	}
}

// Chromium holds form-action against the redirect that ends the journey: a page that is shown again must still admit it.
func TestLogin_PageShownAgainKeepsTheClientsFormAction(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	s.createAlice()
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodPost, "/login", strings.NewReader(url.Values{"username": {alice}, "password": {"x"}, "client_id": {tpp}, "request_uri": {requestURI}}.Encode())),
	} {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		s.login(w, r)
		if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https:") {
			t.Errorf("Content-Security-Policy %q", csp)
		}
	}
}

func TestSatisfies(t *testing.T) {
	t.Parallel()
	now := time.Now()
	after := now.Add(time.Second)
	login := func(acr string) *storage.Login { return &storage.Login{ACR: acr, AuthTime: now} }
	for _, c := range []struct {
		login    *storage.Login
		after    *time.Time
		acr      string
		required bool
		want     bool
	}{
		{nil, nil, "", false, false},
		{login(""), nil, "", false, false},
		{login(""), nil, CA, false, false},
		{login(CA), nil, "", false, true},
		{login(CA), nil, CA, false, true},
		{login(CA), nil, SCA, false, false},
		{login(CA), nil, "", true, false},
		{login(SCA), nil, "", true, true},
		{login(SCA), nil, SCA, false, true},
		{login(SCA), nil, CA, false, true},
		{login(SCA), nil, "urn:another", false, false},
		{login(SCA), &now, "", false, true},
		{login(SCA), &after, "", false, false},
	} {
		a := &Authn{config: Config{RequireSecondFactor: c.required}}
		if got := a.Satisfies(c.login, c.after, c.acr); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestAsk_StartsAgainWithThePasswordWhenTheLoginIsTooOld(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	_, key := s.enrolled()
	b := s.browser()
	b.login(alice, alicePassword).want(t, "second_factor_page")
	s.fresh = true
	b.get(journeyURL).want(t, "login_page") // a half login is no shortcut either
	s.fresh = false
	b.post("/login/second-factor", "code", s.code(key)).want(t, "consent_page")
	s.fresh = true
	b.get(journeyURL).want(t, "login_page")
	p := b.get(journeyURL+"&login_hint=Alice").want(t, "login_page")
	if !strings.Contains(p.body, `value="alice"`) {
		t.Error("login_hint is not filled in")
	}
	b.get(journeyURL+"&login_hint=%00%22%3E").want(t, "login_page")
}

func TestTexts_ExistForEveryProblem(t *testing.T) {
	t.Parallel()
	pages, err := web.New(web.Brand{Name: "Heron Bank"})
	if err != nil {
		t.Fatal(err)
	}
	a := &Authn{pages: pages}
	for _, key := range []string{"error.server", "error.internal", "problem.missing", "problem.credentials", "problem.blocked", "problem.blocked_briefly", "problem.code",
		"problem.username", "problem.username_taken", "problem.name", "problem.email", "problem.password_short", "problem.password_weak",
		"problem.recovery", "recover.message.subject", "recover.message.text", "message.password_changed.subject", "message.password_changed.text"} {
		if a.pages.Text(key) == key {
			t.Errorf("no text %s", key)
		}
	}
}

func TestStep_WithoutALoginStartsAgain(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	s.createAlice()
	unknown, _ := newCookie()
	for _, cookie := range []string{"", unknown, "malformed"} {
		b := s.browser()
		b.Jar.SetCookies(s.url, []*http.Cookie{{Name: loginCookie, Value: cookie, Path: "/", Secure: true}})
		for _, p := range []page{b.post("/login/second-factor", "code", "123456"), b.post("/login/enrol", "code", "123456"), b.get(pathOf(journeyURL, "/login/enrol"))} {
			if p.id != "login_page" || p.at.RequestURI() != journeyURL {
				t.Errorf("cookie %q: %s at %s", cookie, p.id, p.at)
			}
		}
		b.get("/login").want(t, "login_page")
	}
	b := s.browser()
	b.login(alice, alicePassword).want(t, "consent_page")
	b.post("/login/second-factor", "code", "123456").want(t, "consent_page") // there is no factor to show
	for _, path := range []string{"/login?client_id=x", "/login/enrol?client_id=x"} {
		if p := b.get(path); p.status != http.StatusBadRequest || p.id != "error_page" {
			t.Errorf("%s: %d %s", path, p.status, p.id)
		}
	}
}

func TestPages_SayItIsOurFaultWhenTheDatabaseIsGone(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{SignUp: true})
	s.createAlice()
	b := s.browser()
	b.login(alice, alicePassword).want(t, "consent_page")
	s.db.Close()
	for _, p := range []page{
		b.login(alice, alicePassword), b.get("/login"), b.get("/login/enrol"), b.post("/login/second-factor", "code", "1"), b.postForm("/sign-out"),
		b.post("/sign-up", "username", "bob", "name", "Bob", "email", "bob@heron.example", "password", alicePassword),
	} {
		if p.status != http.StatusInternalServerError || p.id != "error_page" || strings.Contains(p.body, "pool") {
			t.Errorf("%s: %d %s\n%s", p.at, p.status, p.id, p.body)
		}
	}
}
