package authn

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authn/federation"
	"github.com/countersign/countersign/authn/federation/federationtest"
	"github.com/countersign/countersign/storage"
)

// federated is a server with a provider, Meadow, that says of everybody that they are alice@heron.example.
func federated(t *testing.T, change func(*federation.Config), c Config) (*server, *federationtest.Provider) {
	t.Helper()
	p := federationtest.New(t)
	f := federation.Config{ID: "meadow", Name: "Meadow", Issuer: p.URL, ClientID: "bank", Auth: federation.SecretBasic, Secret: "s3cret",
		Link: []string{federation.LinkEmail, federation.LinkPhone}}
	if change != nil {
		change(&f)
	}
	c.Federation.Providers, c.Federation.Calls = append(c.Federation.Providers, f), p.Calls()
	s := setup(t, c)
	s.config.Origin = s.http.URL
	return s, p
}

func verifiedAlice(s *server) uuid.UUID {
	return s.create(NewCustomer{Password: alicePassword, Profile: storage.Profile{Username: alice, Name: "Alice Doe", Email: "Alice@heron.example", EmailVerified: true}})
}

// linked is alice, who has linked her identity at Meadow.
func linked(s *server) uuid.UUID {
	s.t.Helper()
	id := verifiedAlice(s)
	s.linkTo(id, "alice-there")
	return id
}

func (s *server) linkTo(customer uuid.UUID, subject string) {
	s.t.Helper()
	issuer := s.config.Federation.Providers[0].Issuer
	err := s.db.AddIdentityLink(s.t.Context(), "default", customer, "meadow", storage.LinkDisplay{Issuer: issuer, Subject: subject, Name: "alice@heron.example"}, storage.Visit{}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
}

// meadow presses the button of the login page, and everything that redirects.
func (b *browser) meadow(more ...string) page { return b.post("/login/idp/meadow", more...) }

// agree presses the button of the page that asks whether to link.
func (b *browser) agree(p page, decision string) page {
	return b.postForm(linkPage, "decision", decision, fieldSeen, hiddenOf(p, fieldSeen))
}

func hiddenOf(p page, name string) string {
	for _, m := range hidden.FindAllStringSubmatch(p.body, -1) {
		if m[1] == name {
			return m[2]
		}
	}
	return ""
}

func (s *server) links() (n int) {
	s.sql(s.t, &n, "SELECT count(*) FROM identity_links")
	return n
}

func (s *server) happened(customer uuid.UUID, kind string) (n int) {
	s.t.Helper()
	events, err := s.db.ListEvents(s.t.Context(), customer, nil, 100)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func TestFederation_LinkedByPasswordAndConsent(t *testing.T) {
	t.Parallel()
	s, p := federated(t, nil, Config{})
	alice := verifiedAlice(s)
	b := s.browser()
	login := b.get(journeyURL).want(t, "login_page")
	if !strings.Contains(login.body, `action="/login/idp/meadow"`) || !strings.Contains(login.body, "Continue with <bdi>Meadow</bdi>") {
		t.Fatalf("no button:\n%s", login.body)
	}
	prove := b.meadow().want(t, "prove_link_page")
	if b.cookie() != "" || s.links() != 0 {
		t.Error("the address alone logs in, or links")
	}
	if !strings.Contains(prove.body, "Meadow") || !strings.Contains(prove.body, "alice@heron.example") || strings.Contains(prove.body, "send_button") {
		t.Errorf("it does not say what it is about, or offers a code that cannot be sent:\n%s", prove.body)
	}
	typed := b.get(linkPage+"?how=pwd").want(t, "login_page")
	if strings.Contains(typed.body, "/login/idp/") || hiddenOf(typed, fieldNext) != linkPage {
		t.Errorf("the way to the link offers other providers, or leads elsewhere:\n%s", typed.body)
	}
	b.postForm("/login", "username", "alice", "password", "wrong", "next", linkPage).want(t, "login_page")
	ask := b.postForm("/login", "username", "alice", "password", alicePassword, "next", linkPage).want(t, "link_page")
	for _, text := range []string{"Meadow", `id="link_identity">alice@heron.example<`, `id="link_customer">alice<`} {
		if !strings.Contains(ask.body, text) {
			t.Errorf("the page does not say %s", text)
		}
	}
	if s.links() != 0 {
		t.Error("linked before the customer has agreed")
	}
	done := b.agree(ask, "link").want(t, "consent_page")
	if !strings.Contains(done.body, alice.String()+" "+CA+" pwd") {
		t.Errorf("logged in as %s", done.body)
	}
	if s.links() != 1 || s.happened(alice, "idp.linked") != 1 {
		t.Errorf("%d links, %d events", s.links(), s.happened(alice, "idp.linked"))
	}
	again := s.browser().meadow().want(t, "consent_page")
	if !strings.Contains(again.body, alice.String()+" "+CA+" fed") {
		t.Errorf("the second time: %s", again.body)
	}
	if q := p.LastAsked(); q.Get("redirect_uri") != s.http.URL+"/login/idp/meadow/callback" || q.Has("prompt") || q.Has("login_hint") {
		t.Errorf("asked: %v", q)
	}
	list, err := s.IdentityLinks(t.Context(), alice)
	if err != nil || len(list) != 1 || list[0].LastUsedAt == nil || list[0].Display != (storage.LinkDisplay{Issuer: p.URL, Subject: "alice-there", Name: "alice@heron.example"}) {
		t.Errorf("%+v %v", list, err)
	}
	for _, text := range []string{"alice-there", "alice@heron.example", p.URL} {
		var n int
		s.sql(t, &n, `SELECT (SELECT count(*) FROM identity_links l WHERE l::text LIKE '%'||$1||'%' OR l::text LIKE '%'||$2||'%')
			+ (SELECT count(*) FROM identity_visits v WHERE v::text LIKE '%'||$1||'%' OR v::text LIKE '%'||$2||'%')`, text, hex.EncodeToString([]byte(text)))
		if n != 0 {
			t.Errorf("%s can be read in the database", text)
		}
	}
}

// stopAt goes to the provider, and returns the address to which it sends the browser back.
func (b *browser) stopAt(t *testing.T, path string) *url.URL {
	t.Helper()
	var back *url.URL
	b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasSuffix(r.URL.Path, "/callback") {
			back = r.URL
			return http.ErrUseLastResponse
		}
		return nil
	}
	b.post(path)
	b.CheckRedirect = nil
	if back == nil {
		t.Fatal("it does not come back")
	}
	return back
}

func TestFederation_AnswersOfOthers(t *testing.T) {
	t.Parallel()
	s, p := federated(t, nil, Config{Federation: Federation{Providers: []federation.Config{{
		ID: "evil", Name: "Evil", Issuer: "https://evil.example", ClientID: "bank", Auth: federation.SecretPost, Secret: "x"}}}})
	id := s.create(NewCustomer{Password: alicePassword})
	s.config.Federation.Providers[0], s.config.Federation.Providers[1] = s.config.Federation.Providers[1], s.config.Federation.Providers[0]
	s.linkTo(id, "alice-there")
	refused := func(name string, got page, b *browser) {
		t.Helper()
		if got.status != http.StatusBadRequest || b.cookie() != "" {
			t.Errorf("%s: %d %s, logged in: %t", name, got.status, got.id, b.cookie() != "")
		}
	}
	b, victim := s.browser(), s.browser()
	back := b.stopAt(t, "/login/idp/meadow")
	refused("login CSRF: another browser's answer", victim.get(back.RequestURI()), victim)
	victim.stopAt(t, "/login/idp/meadow")
	refused("login CSRF: another browser's answer, in the middle of its own", victim.get(back.RequestURI()), victim)
	refused("mix-up: at another provider's address", b.get(strings.Replace(back.RequestURI(), "/meadow/", "/evil/", 1)), b)
	back = b.stopAt(t, "/login/idp/meadow")
	before := p.Tokens.Load()
	foreign := *back
	q := foreign.Query()
	q.Set("state", strings.Repeat("A", 43))
	foreign.RawQuery = q.Encode()
	refused("a state that is nobody's", b.get(foreign.RequestURI()), b)
	refused("no state", b.get("/login/idp/meadow/callback?code=x"), b)
	refused("two states", b.get(back.RequestURI()+"&state=x"), b)
	if p.Tokens.Load() != before {
		t.Error("a code was sent on")
	}
	b.get(back.RequestURI()).want(t, "consent_page")
	fresh := s.browser()
	fresh.Jar = b.Jar
	if got := fresh.get(back.RequestURI()); got.status != http.StatusBadRequest {
		t.Errorf("replayed: %d", got.status)
	}
	back = victim.stopAt(t, "/login/idp/meadow")
	s.sql(t, nil, "UPDATE identity_visits SET expires_at = now()")
	refused("after ten minutes", victim.get(back.RequestURI()), victim)
	if n := p.Tokens.Load() - before; n != 1 {
		t.Errorf("%d codes were sent on", n)
	}
}

func TestFederation_OneOfManyAtOnce(t *testing.T) {
	t.Parallel()
	s, p := federated(t, nil, Config{})
	linked(s)
	b := s.browser()
	back := b.stopAt(t, "/login/idp/meadow")
	before := p.Tokens.Load()
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() { b.get(back.RequestURI()) })
	}
	group.Wait()
	if n := p.Tokens.Load() - before; n != 1 {
		t.Errorf("the code was sent %d times", n)
	}
}

func TestFederation_StartsByButtonAlone(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, nil, Config{})
	b := s.browser()
	if p := b.get("/login/idp/meadow"); p.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", p.status)
	}
	r, _ := http.NewRequest(http.MethodPost, s.http.URL+"/login/idp/meadow", strings.NewReader(""))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if p := b.do(r); p.status != http.StatusForbidden {
		t.Errorf("from another site: %d", p.status)
	}
	if p := b.post("/login/idp/other"); p.status != http.StatusNotFound {
		t.Errorf("another provider: %d", p.status)
	}
	if p := b.postForm("/login/idp/meadow", "next", "https://evil.example/"); p.status != http.StatusBadRequest {
		t.Errorf("open redirect: %d", p.status)
	}
	for _, path := range []string{linkPage, linkPage + "/sign-up", linkPage + "?how=pwd"} {
		b.get(path).want(t, "error_page")
	}
}

func TestFederation_ProviderDoesNot(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		break_ func(*federationtest.Provider)
		status int
		says   string
	}{
		{"answer", func(p *federationtest.Provider) {
			p.Discovery = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(502); return true }
		}, 503, "Meadow cannot be reached"},
		{"take our secret", func(p *federationtest.Provider) {
			p.Token = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(401)
				_, _ = w.Write([]byte(`{"error":"invalid_client"}`))
				return true
			}
		}, 503, "Meadow cannot be reached"},
		{"let the customer", func(p *federationtest.Provider) {
			p.Auth = func(_, answer url.Values) { answer.Del("code"); answer.Set("error", "access_denied") }
		}, 403, "You did not sign in at Meadow"},
		{"say the truth", func(p *federationtest.Provider) {
			p.Claims = func(c map[string]any) { c["aud"] = "shop" }
		}, 403, "Signing in with Meadow did not work"},
		{"say when", func(p *federationtest.Provider) {
			p.Claims = func(c map[string]any) { delete(c, "auth_time") }
		}, 403, "Meadow cannot confirm"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, p := federated(t, nil, Config{})
			linked(s)
			test.break_(p)
			b := s.browser()
			for range 7 { // more than a lock takes
				got := b.meadow(fieldFresh, "1").want(t, "login_page")
				if strings.Contains(got.body, "aria-invalid") {
					t.Error("it says that a field here is wrong")
				}
				if got.status != test.status || !strings.Contains(got.problem(), test.says) || !strings.Contains(got.body, requestURI) || b.cookie() != "" {
					t.Fatalf("%d %q", got.status, got.problem())
				}
			}
			b.login(alice, alicePassword).want(t, "consent_page")
		})
	}
}

func TestFederation_LockedAndDisabled(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, nil, Config{})
	id := linked(s)
	if err := s.Disable(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b := s.browser()
	if p := b.meadow().want(t, "login_page"); p.status != http.StatusForbidden || b.cookie() != "" {
		t.Errorf("disabled: %d", p.status)
	}
}

func TestFederation_FreshLogin(t *testing.T) {
	t.Parallel()
	s, p := federated(t, nil, Config{})
	id := linked(s)
	ago := 2 * time.Hour
	p.Claims = func(c map[string]any) { c["auth_time"] = time.Now().Add(-ago).Unix() }
	b := s.browser()
	b.meadow().want(t, "consent_page")
	at := func() (age float64) {
		s.sql(t, &age, "SELECT extract(epoch FROM now() - auth_time)::float8 FROM logins WHERE customer_id = $1 ORDER BY created_at DESC LIMIT 1", [16]byte(id))
		return age
	}
	if age := at(); age < 7190 || age > 7300 {
		t.Errorf("a login of two hours ago counts as one of %v s ago", age)
	}
	s.fresh = true // as /authorize is for prompt=login, with a login that is there
	ask := b.get(journeyURL+"&login_hint=alice").want(t, "login_page")
	if hiddenOf(ask, fieldFresh) != "1" || hiddenOf(ask, fieldHint) != "alice" {
		t.Errorf("the button does not ask for a login anew:\n%s", ask.body)
	}
	b.meadow(fieldFresh, "1", fieldHint, "alice").want(t, "login_page")
	if q := p.LastAsked(); q.Get("prompt") != "login" || q.Get("max_age") != "0" || q.Get("login_hint") != "alice" {
		t.Errorf("asked: %v", q)
	}
	ago, s.fresh = 0, false
	b.meadow(fieldFresh, "1").want(t, "consent_page")
	if age := at(); age > 60 {
		t.Errorf("a login anew counts as one of %v s ago", age)
	}
	p.Claims = func(c map[string]any) { delete(c, "auth_time") }
	b.meadow().want(t, "consent_page")
	if age := at(); age < 86000 {
		t.Errorf("a login of nobody knows when counts as one of %v s ago", age)
	}
}

func TestFederation_ACR(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, acr string
		require   bool
		page, in  string
	}{
		{"not mapped", "x", false, "consent_page", CA + " fed"},
		{"mapped to two factors", "gold", false, "consent_page", SCA + " fed,mfa"},
		{"mapped to one", "silver", true, "enrol_page", ""},
		{"not mapped, ours is due", "x", true, "enrol_page", ""},
		{"mapped to two factors, ours is not due", "gold", true, "consent_page", SCA + " fed,mfa"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, p := federated(t, func(c *federation.Config) { c.ACR = map[string]string{"gold": SCA, "silver": CA} }, Config{RequireSecondFactor: test.require})
			p.Claims = func(c map[string]any) { c["acr"] = test.acr }
			linked(s)
			b := s.browser()
			if got := b.meadow().want(t, test.page); !strings.Contains(got.body, test.in) {
				t.Error(got.body)
			}
			if got := b.get("/self/factors/add"); got.id != "enrol_page" { // what the provider has seen is no factor of ours
				t.Errorf("a change of factors: %s", got.id)
			}
		})
	}
}

// What a client asks for is passed on, as the provider calls it.
func TestFederation_AsksForTheACR(t *testing.T) {
	t.Parallel()
	s, p := federated(t, func(c *federation.Config) { c.ACR = map[string]string{"gold": SCA, "silver": CA} }, Config{})
	p.Claims = func(c map[string]any) { c["acr"] = p.LastAsked().Get("acr_values") }
	id := linked(s)
	s.acr = SCA
	b := s.browser()
	ask := b.get(journeyURL).want(t, "login_page")
	if hiddenOf(ask, fieldACR) != SCA {
		t.Errorf("the button does not say what is asked for:\n%s", ask.body)
	}
	if in := b.meadow(fieldACR, SCA).want(t, "consent_page"); !strings.Contains(in.body, id.String()+" "+SCA+" fed,mfa") || p.LastAsked().Get("acr_values") != "gold" {
		t.Errorf("%s, asked: %v", in.body, p.LastAsked())
	}
	if b.meadow(fieldACR, "x"); p.LastAsked().Has("acr_values") {
		t.Errorf("asked: %v", p.LastAsked())
	}
}

func TestFederation_NothingSecretInLogs(t *testing.T) {
	t.Parallel()
	s, p := federated(t, nil, Config{})
	linked(s)
	var codes []string
	p.Auth = func(asked, answer url.Values) { codes = append(codes, answer.Get("code"), asked.Get("state")) }
	s.browser().meadow().want(t, "consent_page")
	for _, claim := range []string{"nonce", "aud", "iss", "sub"} {
		p.Claims = claims(claim, "somebody else's")
		s.browser().meadow()
	}
	p.Claims, p.Token = nil, func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusBadRequest)
		_ = r.ParseForm()
		_, secret, _ := r.BasicAuth()
		_, _ = w.Write([]byte(secret + r.PostForm.Encode())) // it says what it was told
		return true
	}
	s.browser().meadow()
	all := s.logs.All()
	if len(all) < 5 || len(codes) != 12 {
		t.Fatalf("%d entries, %d codes", len(all), len(codes))
	}
	for _, entry := range all {
		text := entry.Message + fmt.Sprint(entry.ContextMap())
		for _, secret := range append(codes, "s3cret", "eyJ", "alice@heron.example", "code_verifier") {
			if strings.Contains(text, secret) {
				t.Errorf("%q in the log: %s", secret, text)
			}
		}
	}
}

func TestFederation_Costs(t *testing.T) {
	t.Parallel()
	s, _ := federated(t, nil, Config{})
	linked(s)
	b := s.browser()
	before := s.trips.n.Load()
	back := b.stopAt(t, "/login/idp/meadow")
	if n := s.trips.n.Load() - before; n != 2 { // the address is counted, the visit kept
		t.Errorf("leaving: %d round trips", n)
	}
	before = s.trips.n.Load()
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	b.get(back.RequestURI())
	if n := s.trips.n.Load() - before; n != 3 {
		t.Errorf("coming back: %d round trips", n)
	}
}
