package consent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/storage/storagetest"
)

const (
	bankURL       = "https://bank.example"
	loginPassword = "three grey herons over water"
)

// firm is Meadow Dairy with real logins and factors: alice may start, bob, carol and dave may approve, dave may start too. eve is a
// customer who has nothing to do with it. up to 1,000 EUR needs one approval, up to 50,000 EUR two.
type firm struct {
	t       *testing.T
	dsn     string
	db      *storage.DB
	sql     *pgx.Conn
	people  map[string]uuid.UUID
	emails  map[string]uuid.UUID // their factors
	mandate storage.Mandate
	*branch
	failed []error
	mu     sync.Mutex
}

// branch is one server over the firm's database.
type branch struct {
	*Transactions
	authn  *authn.Authn
	server *httptest.Server
	trips  *trips
}

// trips counts round trips.
type trips struct {
	mu sync.Mutex
	n  int
}

func (c *trips) count() { c.mu.Lock(); c.n++; c.mu.Unlock() }

func (c *trips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.count()
	return ctx
}
func (c *trips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (c *trips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.count()
	return ctx
}
func (c *trips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *trips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// cost is how many round trips something takes.
func (b *branch) cost(do func()) int {
	before := b.trips.n
	do()
	return b.trips.n - before
}

func newFirm(t *testing.T, c authn.Transactions, limits ...TransactionLimits) *firm {
	t.Helper()
	f := &firm{t: t, dsn: storagetest.New(t), people: map[string]uuid.UUID{}, emails: map[string]uuid.UUID{}}
	var l TransactionLimits
	if len(limits) > 0 {
		l = limits[0]
	}
	f.branch, f.db = f.open(c, l)
	var err error
	if f.sql, err = pgx.Connect(t.Context(), f.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.sql.Close(context.Background()) })
	for name, full := range map[string]string{"alice": "Alice Doe", "bob": "Bob Ray", "carol": "Carol Kim", "dave": "Dave Lee", "eve": "Eve Moss"} {
		id, err := f.authn.CreateCustomer(t.Context(), authn.NewCustomer{
			Profile:  storage.Profile{Username: name, Name: full, Email: name + "@meadow.example", EmailVerified: true},
			Password: loginPassword,
		})
		if err != nil {
			t.Fatal(err)
		}
		f.people[name] = id
		f.emails[name] = f.factor(name, storage.EmailFactor, map[string]string{"address": name + "@meadow.example"})
	}
	f.mandate = storage.Mandate{
		ID: storage.NewID(), Tenant: "default", Name: "Meadow Dairy",
		Tiers: []storage.MandateTier{{Currency: "EUR", UpTo: "1000", Approvals: 1}, {Currency: "EUR", UpTo: "50000", Approvals: 2}},
		Members: []storage.MandateMember{
			{CustomerID: f.people["alice"], MayStart: true}, {CustomerID: f.people["bob"], MayApprove: true},
			{CustomerID: f.people["carol"], MayApprove: true}, {CustomerID: f.people["dave"], MayStart: true, MayApprove: true},
		},
	}
	f.save(nil)
	return f
}

// open is another server of the bank's, with connections of its own.
func (f *firm) open(c authn.Transactions, limits TransactionLimits) (*branch, *storage.DB) {
	f.t.Helper()
	b := &branch{trips: &trips{}}
	db, err := storage.Open(f.t.Context(), storage.Options{DSN: f.dsn, MasterKey: make([]byte, 32), Tracer: b.trips})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(db.Close)
	config := authn.Config{
		Tenant: "default", Issuer: "Ujamaa Bank", Origin: bankURL, Channels: []string{authn.ChannelEmail, authn.ChannelSMS}, CodesPerHour: 1000,
		Argon2: authn.Argon2{Memory: 64, Time: 1, Threads: 1}, Transactions: c,
	}
	if err := config.Validate(); err != nil {
		f.t.Fatal(err)
	}
	p := pages(f.t)
	b.authn = authn.New(db, p, zap.NewNop(), config)
	b.Transactions, err = NewTransactions(TransactionOptions{
		DB: db, Tenant: "default", Limits: limits, Authoriser: b.authn, BaseURL: bankURL, Authenticate: authenticate,
		Subject: func(_ string, customer uuid.UUID) string { return "sub-" + customer.String() },
		Customer: func(_, subject string) uuid.UUID {
			id, _ := uuid.Parse(strings.TrimPrefix(subject, "sub-"))
			return id
		},
		Pages: p, ClientName: func(id string) string { return "The app " + id }, SignOutAction: "/sign-out",
		Failed: func(_ *http.Request, err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.failed = append(f.failed, err)
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	r := mux.NewRouter()
	b.MountAPI(r)
	inner := mux.NewRouter()
	b.authn.Mount(inner)
	b.MountPages(inner)
	r.NotFoundHandler = p.Protect(inner)
	b.server = httptest.NewTLSServer(r)
	f.t.Cleanup(b.server.Close)
	return b, db
}

// factor gives a person a confirmed factor.
func (f *firm) factor(name, kind string, secret any) uuid.UUID {
	f.t.Helper()
	raw, err := json.Marshal(secret)
	id := storage.NewID()
	if err == nil {
		err = f.db.SetFactor(f.t.Context(), id, f.people[name], kind, raw, storage.Event{CustomerID: f.people[name], Kind: "factor.added"})
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

func (f *firm) save(change func(*storage.Mandate)) {
	f.t.Helper()
	if change != nil {
		change(&f.mandate)
	}
	if err := f.db.SaveMandate(f.t.Context(), &f.mandate); err != nil {
		f.t.Fatal(err)
	}
}

func (f *firm) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.sql.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatal(err)
	}
}

func (f *firm) count(sql string, args ...any) (n int) {
	f.t.Helper()
	if err := f.sql.QueryRow(f.t.Context(), sql, args...).Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// body is a request to start a payment under the mandate; a change of nil removes a member.
func (f *firm) body(changes map[string]any) string {
	all := map[string]any{
		"type": "payment", "sub": "sub-" + f.people["alice"].String(), "mandate": f.mandate.ID.String(), "amount": "1500.00", "currency": "EUR",
		"payee": map[string]any{"name": "Acme Feeds", "account": "DE02100100109307118603"}, "reference": "Invoice 7", "from_account": "•••• 4821",
	}
	for name, value := range changes {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	raw, _ := json.Marshal(all)
	return string(raw)
}

const backend = "Bearer backend transactions"

// api calls the API as the bank's backend; further headers win.
func (b *branch) api(t *testing.T, method, path, body string, headers ...string) response {
	t.Helper()
	all := []string{"Authorization", backend}
	if body != "" {
		all = append(all, "Content-Type", "application/json")
	}
	return (&bundle{server: b.server}).send(t, request{method, path, body, append(all, headers...)})
}

// made is a transaction as the API shows it.
type made struct {
	transactionResponse
	StatusCode int
	Error      string `json:"error"`
	raw        string
}

func read(t *testing.T, r response) (m made) {
	t.Helper()
	if r.body != "" {
		var times struct {
			transactionResponse
			CreatedAt       any               `json:"created_at"`
			StatusChangedAt any               `json:"status_changed_at"`
			ExpiresAt       any               `json:"expires_at"`
			Approvals       []json.RawMessage `json:"approvals"`
			Rejection       json.RawMessage   `json:"rejection"`
			Error           string            `json:"error"`
		}
		if err := json.Unmarshal([]byte(r.body), &times); err != nil {
			t.Fatalf("%d %q: %v", r.StatusCode, r.body, err)
		}
		m.transactionResponse, m.Error = times.transactionResponse, times.Error
		m.Approvals = make([]decisionResponse, len(times.Approvals))
	}
	m.StatusCode, m.raw = r.StatusCode, r.body
	return m
}

// start starts a payment by the API.
func (f *firm) start(changes map[string]any) made {
	f.t.Helper()
	m := read(f.t, f.api(f.t, "POST", transactionsAPI, f.body(changes), "X-Idempotency-Key", uuid.NewString()))
	if m.StatusCode != http.StatusCreated {
		f.t.Fatalf("%d %s", m.StatusCode, m.raw)
	}
	return m
}

func (f *firm) look(id uuid.UUID) made {
	f.t.Helper()
	return read(f.t, f.api(f.t, "GET", transactionsAPI+"/"+id.String(), ""))
}

func (f *firm) is(id uuid.UUID, status string, received, required int) {
	f.t.Helper()
	if m := f.look(id); m.Status != status || m.MultiAuth.NumberReceived != received || m.MultiAuth.NumberRequired != required || len(m.Approvals) != received {
		f.t.Errorf("%s %d/%d (%d shown), want %s %d/%d", m.Status, m.MultiAuth.NumberReceived, m.MultiAuth.NumberRequired, len(m.Approvals), status, received, required)
	}
}

// visitor is a browser of somebody who has logged in with two factors.
type visitor struct {
	f      *firm
	b      *branch
	name   string
	cookie string
}

func (f *firm) browser(name string) *visitor { return f.browserAt(f.branch, name) }

func (f *firm) browserAt(b *branch, name string) *visitor {
	f.t.Helper()
	v := &visitor{f, b, name, base64.RawURLEncoding.EncodeToString([]byte(rand.Text() + rand.Text())[:32])}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: "__Host-login", Value: v.cookie})
	hash := b.authn.LoginHash(r)
	if hash == nil {
		f.t.Fatal("no login by that cookie")
	}
	f.exec(`INSERT INTO logins (hash, customer_id, auth_time, acr, amr, expires_at, factor_at, factor_kind, session_id)
		VALUES ($1, $2, now(), $3, '{pwd,otp,mfa}', now() + interval '1 hour', now(), 'email', $4)`, hash, [16]byte(f.people[name]), authn.SCA, [16]byte(storage.NewID()))
	return v
}

// shown is a page.
type shown struct {
	*http.Response
	id, body string
}

var (
	mainID    = regexp.MustCompile(`<main id="([a-z_]+)"`)
	digestIn  = regexp.MustCompile(`name="digest" value="([^"]*)"`)
	problemIn = regexp.MustCompile(`id="problem"[^>]*>([^<]*)<`)
	stateIn   = regexp.MustCompile(`name="state" value="([^"]*)"`)
	optionsIn = regexp.MustCompile(`data-options="([^"]*)"`)
)

func one(re *regexp.Regexp, s string) string {
	if m := re.FindStringSubmatch(s); m != nil {
		return html.UnescapeString(m[1])
	}
	return ""
}

func (p shown) digest() string  { return one(digestIn, p.body) }
func (p shown) problem() string { return one(problemIn, p.body) }
func (p shown) has(id string) bool {
	return strings.Contains(p.body, `id="`+id+`"`)
}

func (v *visitor) get(path string) shown { return v.send(http.MethodGet, path, nil) }

func (v *visitor) post(path string, fields ...string) shown {
	form := url.Values{}
	for pair := range slices.Chunk(fields, 2) {
		form.Add(pair[0], pair[1])
	}
	return v.send(http.MethodPost, path, form)
}

func (v *visitor) send(method, path string, form url.Values) shown {
	v.f.t.Helper()
	headers := []string{"Cookie", "__Host-login=" + v.cookie}
	if method == http.MethodPost {
		headers = append(headers, "Content-Type", "application/x-www-form-urlencoded", "Origin", v.b.server.URL)
	}
	r := (&bundle{server: v.b.server}).send(v.f.t, request{method, path, form.Encode(), headers})
	return shown{r.Response, one(mainID, r.body), r.body}
}

func pathOf(id uuid.UUID) string { return TransactionsPath + "/" + id.String() }

// show is the page of a transaction.
func (v *visitor) show(id uuid.UUID) shown { return v.get(pathOf(id)) }

// code has a code sent for what the page shows, and reads it.
func (v *visitor) code(p shown, id uuid.UUID) string {
	v.f.t.Helper()
	got := v.post(pathOf(id), "do", "send", "digest", p.digest(), "factor", v.f.emails[v.name].String())
	if got.StatusCode != http.StatusSeeOther || !strings.HasSuffix(got.Header.Get("Location"), "?sent="+v.f.emails[v.name].String()) {
		v.f.t.Fatalf("%d %s %s", got.StatusCode, got.Header.Get("Location"), got.problem())
	}
	all := v.f.outbox()
	if len(all) == 0 {
		v.f.t.Fatal("nothing was sent")
	}
	return codeIn.FindString(all[len(all)-1].Text)
}

var codeIn = regexp.MustCompile(`\b[0-9]{6}\b`)

// outbox takes the messages that wait to be sent.
func (f *firm) outbox() (all []storage.Message) {
	f.t.Helper()
	waiting, err := f.db.TakeNotifications(f.t.Context(), 1000, time.Hour)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, n := range waiting {
		if n.Kind != storage.MessageNotification {
			continue
		}
		m, err := f.db.Message(n)
		if err != nil {
			f.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func (v *visitor) type_(id uuid.UUID, digest, code string, more ...string) shown {
	return v.post(pathOf(id), append([]string{"do", "approve", "digest", digest, "factor", v.f.emails[v.name].String(), "code", code}, more...)...)
}

// approves goes all the way, by email.
func (v *visitor) approves(id uuid.UUID) shown {
	v.f.t.Helper()
	p := v.show(id)
	return v.type_(id, p.digest(), v.code(p, id))
}

func (p shown) leads(t *testing.T, id uuid.UUID, query string) {
	t.Helper()
	if want := pathOf(id) + query; p.StatusCode != http.StatusSeeOther || p.Header.Get("Location") != want {
		t.Errorf("%d to %q (%q), want %q", p.StatusCode, p.Header.Get("Location"), p.problem(), want)
	}
}

// key is a passkey of somebody's.
type key struct {
	private *ecdsa.PrivateKey
	id      []byte
	counter uint32
}

// passkey gives a person one.
func (f *firm) passkey(name string) *key {
	f.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	k := &key{private: private, id: []byte(rand.Text())}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		f.t.Fatal(err)
	}
	cose := append([]byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20}, point[1:33]...) // RFC 9053 §7.1.1
	cose = append(append(cose, 0x22, 0x58, 0x20), point[33:]...)
	credential, err := json.Marshal(map[string]any{"id": k.id, "publicKey": cose, "flags": map[string]any{"userPresent": true, "userVerified": true}})
	if err != nil {
		f.t.Fatal(err)
	}
	id := storage.NewID()
	f.exec(`INSERT INTO second_factors (id, customer_id, kind, secret, credential_index, confirmed_at) VALUES ($1, $2, 'passkey', $3, $4, now())`,
		[16]byte(id), [16]byte(f.people[name]), f.db.Keys().Seal("second_factors.secret", id[:], credential), k.id)
	return k
}

// answer signs what a page asks for (WebAuthn §7.2).
func (k *key) answer(t *testing.T, p shown) (state, response string) {
	t.Helper()
	var asked struct {
		PublicKey struct{ Challenge string }
	}
	if err := json.Unmarshal([]byte(one(optionsIn, p.body)), &asked); err != nil {
		t.Fatalf("no passkey is asked for: %v", err)
	}
	client := fmt.Appendf(nil, `{"type":"webauthn.get","challenge":%q,"origin":%q,"crossOrigin":false}`, asked.PublicKey.Challenge, bankURL)
	party, said := sha256.Sum256([]byte("bank.example")), sha256.Sum256(client)
	k.counter++
	data := binary.BigEndian.AppendUint32(append(party[:], 5), k.counter)
	sum := sha256.Sum256(append(slices.Clone(data), said[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, k.private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString
	raw, _ := json.Marshal(map[string]any{
		"id": text(k.id), "rawId": text(k.id), "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]string{"clientDataJSON": text(client), "authenticatorData": text(data), "signature": text(signature)},
	})
	return one(stateIn, p.body), string(raw)
}

// digestBytes is the digest that the API shows.
func (m made) digestBytes(t *testing.T) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(m.Digest)
	if err != nil || len(raw) != sha256.Size {
		t.Fatalf("digest %q", m.Digest)
	}
	return raw
}
