package authn

import (
	"context"
	"crypto/tls"
	"encoding/base32"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/storage/storagetest"
	"github.com/countersign/countersign/web"
)

const (
	alice         = "alice"
	alicePassword = "three grey herons over water"
	tpp           = "tpp"
	requestURI    = "urn:ietf:params:oauth:request_uri:abc"
)

// server is one server over a database, with a dispatcher such as authz has.
type server struct {
	*Authn
	t     *testing.T
	dsn   string
	url   *url.URL
	http  *httptest.Server
	logs  *observer.ObservedLogs
	trips *trips
	clock atomic.Int64 // seconds ahead of the real time
	acr   string       // that /authorize requires
	fresh bool         // whether /authorize takes no login
}

type trips struct{ n atomic.Int64 }

func (c *trips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (c *trips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (c *trips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (c *trips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *trips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func setup(t *testing.T, c Config) *server { return serve(t, storagetest.New(t), c) }

func serve(t *testing.T, dsn string, c Config) *server {
	t.Helper()
	s := &server{t: t, dsn: dsn, trips: &trips{}}
	db, err := storage.Open(t.Context(), storage.Options{DSN: dsn, MasterKey: make([]byte, 32), Tracer: s.trips})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	pages, err := web.New(web.Brand{Name: "Heron Bank"})
	if err != nil {
		t.Fatal(err)
	}
	c.Tenant, c.Issuer = "default", "Heron Bank"
	if c.Argon2 == (Argon2{}) {
		c.Argon2 = Argon2{Memory: 64, Time: 1, Threads: 1}
	}
	c.Client = func(_ context.Context, clientID, _ string) *web.Client {
		if clientID != tpp {
			return nil
		}
		return &web.Client{Name: "Budget App", RedirectURI: "https://tpp.example/cb"}
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	s.logs = logs
	s.Authn = New(db, pages, zap.New(core), c)
	s.now = func() time.Time { return time.Now().Add(time.Duration(s.clock.Load()) * time.Second) }
	r := mux.NewRouter()
	s.Mount(r)
	r.HandleFunc("/authorize", s.authorize)
	r.HandleFunc("/consents", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `<main id="consents_page">`) })
	s.http = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if from := q.Header.Get("Test-From"); from != "" { // as package authz does for a proxy
			q.RemoteAddr = net.JoinHostPort(from, "0")
		}
		pages.Protect(r).ServeHTTP(w, q)
	}))
	t.Cleanup(s.http.Close)
	s.url, _ = url.Parse(s.http.URL)
	return s
}

// authorize is what package authz does of concern here.
func (s *server) authorize(w http.ResponseWriter, r *http.Request) {
	var login *storage.Login
	if hash := s.LoginHash(r); hash != nil {
		if v, err := s.db.FindLogin(r.Context(), hash); err == nil {
			login = &v.Login
		}
	}
	if !s.fresh && s.Satisfies(login, nil, s.acr) {
		fmt.Fprintf(w, `<main id="consent_page">%s %s %s`, login.CustomerID, login.ACR, strings.Join(login.AMR, ","))
		return
	}
	q := r.URL.Query()
	s.Ask(w, r, Prompt{Login: login, Fresh: s.fresh, ACR: s.acr, Client: s.client(r.Context(), journey{clientID: q.Get("client_id"), requestURI: q.Get("request_uri")}),
		LoginHint: q.Get("login_hint"),
		Hidden:    []web.Field{{Name: "client_id", Value: q.Get("client_id")}, {Name: "request_uri", Value: q.Get("request_uri")}}})
}

func (s *server) createAlice() uuid.UUID { return s.create(NewCustomer{Password: alicePassword}) }

func (s *server) create(n NewCustomer) uuid.UUID {
	s.t.Helper()
	if n.Profile.Username == "" {
		n.Profile = storage.Profile{Username: alice, Name: "Alice Doe", Email: "alice@heron.example"}
	}
	id, err := s.CreateCustomer(s.t.Context(), n)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// browser has a cookie jar of its own.
type browser struct {
	*http.Client
	s    *server
	from string // the address that it has, if not this machine's
}

func (s *server) browser() *browser {
	jar, _ := cookiejar.New(nil)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.http.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}, ForceAttemptHTTP2: true}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &browser{Client: &http.Client{Jar: jar, Transport: transport}, s: s}
}

// page is what a browser shows in the end.
type page struct {
	status int
	id     string // of main
	body   string
	at     *url.URL
	header http.Header
}

var (
	mainID  = regexp.MustCompile(`<main id="([a-z_]+)"`)
	problem = regexp.MustCompile(`id="problem"[^>]*>([^<]*)<`)
	secret  = regexp.MustCompile(`id="secret"><code[^>]*>([A-Z2-7 ]+)<`)
	hidden  = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

func find(re *regexp.Regexp, s string) string {
	if m := re.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

func (p page) problem() string { return find(problem, p.body) }
func (p page) secret() string  { return strings.ReplaceAll(find(secret, p.body), " ", "") }

func (p page) want(t *testing.T, id string) page {
	t.Helper()
	if p.id != id {
		t.Fatalf("page %q (%d, %q), want %q\n%.2000s", p.id, p.status, p.problem(), id, p.body)
	}
	return p
}

func (b *browser) do(r *http.Request) page {
	b.s.t.Helper()
	if b.from != "" {
		r.Header.Set("Test-From", b.from)
	}
	resp, err := b.Do(r)
	if err != nil {
		b.s.t.Error(err)
		return page{}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.s.t.Error(err)
	}
	return page{resp.StatusCode, find(mainID, string(body)), string(body), resp.Request.URL, resp.Header}
}

func (b *browser) get(path string) page {
	r, _ := http.NewRequest(http.MethodGet, b.s.http.URL+path, nil)
	return b.do(r)
}

// post sends a form in the journey.
func (b *browser) post(path string, fields ...string) page {
	return b.postForm(path, append(fields, "client_id", tpp, "request_uri", requestURI)...)
}

func (b *browser) postForm(path string, fields ...string) page {
	form := url.Values{}
	for pair := range slices.Chunk(fields, 2) {
		form.Add(pair[0], pair[1])
	}
	r, _ := http.NewRequest(http.MethodPost, b.s.http.URL+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", b.s.http.URL)
	return b.do(r)
}

func (b *browser) login(username, password string) page {
	return b.post("/login", "username", username, "password", password)
}

func (b *browser) cookie() string {
	for _, c := range b.Jar.Cookies(b.s.url) {
		if c.Name == loginCookie {
			return c.Value
		}
	}
	return ""
}

var journeyURL = (journey{clientID: tpp, requestURI: requestURI}).next()

// enrolled makes alice with an authenticator, whose secret it returns.
func (s *server) enrolled() (uuid.UUID, totp) {
	s.t.Helper()
	id := s.createAlice()
	b := s.browser()
	was := s.acr
	s.acr = SCA
	defer func() { s.acr = was }()
	p := b.login(alice, alicePassword).want(s.t, "enrol_page")
	key := totpOf(s.t, p.secret())
	b.post("/login/enrol", "code", s.code(key)).want(s.t, "recovery_codes_page")
	b.get(journeyURL).want(s.t, "consent_page")
	s.clock.Add(totpPeriod) // that code is used
	return id, key
}

func (s *server) code(key totp) string {
	s.t.Helper()
	code, err := key.code(s.now().Unix() / totpPeriod)
	if err != nil {
		s.t.Fatal(err)
	}
	return code
}

func totpOf(t *testing.T, typed string) totp {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(typed)
	if err != nil || len(key) != totpSecret {
		t.Fatalf("secret %q: %v", typed, err)
	}
	return key
}

// wrong is a code that is not the app's in the minutes around now.
func (s *server) wrong(key totp) string {
	for i := 0; ; i++ {
		code := fmt.Sprintf("%06d", i)
		if _, ok := key.verify(code, s.now()); !ok {
			return code
		}
	}
}

func (s *server) sql(t *testing.T, dest any, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if dest == nil {
		_, err = conn.Exec(t.Context(), sql, args...)
	} else {
		err = conn.QueryRow(t.Context(), sql, args...).Scan(dest)
	}
	if err != nil {
		t.Fatal(err)
	}
}
