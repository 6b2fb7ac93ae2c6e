package consent

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/storage/storagetest"
	"github.com/countersign/countersign/web"
)

// bundle is the API and the pages on a database of their own, with the customer alice.
type bundle struct {
	*Consents
	db     *storage.DB
	sql    *pgx.Conn
	alice  uuid.UUID
	server *httptest.Server
	failed []error // what Failed was told
}

// noon is the moment at which the API under test lives. The database has its own.
var noon = time.Now().UTC().Truncate(time.Second)

func setup(t *testing.T) *bundle {
	t.Helper()
	dsn := storagetest.New(t)
	db, err := storage.Open(t.Context(), storage.Options{DSN: dsn, MasterKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	b := &bundle{db: db, alice: storage.NewID()}
	if b.sql, err = pgx.Connect(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.sql.Close(context.Background()) })
	b.customer(t, b.alice, "alice", "Alice Doe")

	var mu sync.Mutex
	b.Consents, err = New(Options{
		DB: db, BaseURL: "https://bank.example", Pages: pages(t),
		Authenticate: authenticate,
		Visitor:      b.visitor,
		ClientName:   func(id string) string { return "The app " + id },
		Now:          func() time.Time { return noon },
		Failed: func(_ *http.Request, err error) {
			mu.Lock()
			defer mu.Unlock()
			b.failed = append(b.failed, err)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := mux.NewRouter()
	b.MountAPI(r)
	b.MountPages(r)
	b.server = httptest.NewServer(r)
	t.Cleanup(b.server.Close)
	return b
}

func pages(t *testing.T) *web.Pages {
	t.Helper()
	p, err := web.New(web.Brand{Name: "Ujamaa Bank"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (b *bundle) customer(t *testing.T, id uuid.UUID, username, name string) {
	t.Helper()
	err := b.db.CreateCustomer(t.Context(), storage.NewCustomer{
		ID: id, Tenant: "default", Username: username, Profile: storage.Profile{Username: username, Name: name},
		Accounts: []storage.Account{{ID: "12", Name: "Savings", Number: "000123456789", Currency: "KES"}, {ID: "13", Name: "Current", Number: "000987654321", Currency: "KES"}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// authenticate takes "Bearer client scope,scope" for the client's own token, with a fourth word for a customer's.
func authenticate(r *http.Request) (Caller, error) {
	words := strings.Fields(r.Header.Get("Authorization"))
	switch {
	case len(words) < 3:
		return Caller{}, fapi.Refuse(fapi.InvalidToken, "The token is not good.")
	case words[1] == "broken":
		return Caller{}, errors.New("the database is gone")
	case words[1] == "unbound":
		return Caller{}, fapi.Refuse(fapi.InsufficientScope, "The certificate is not the token's.")
	case words[1] == "busy":
		return Caller{}, fapi.Refuse(fapi.TemporarilyUnavailable, "Later.")
	}
	caller := Caller{ClientID: words[1], Scopes: strings.Split(words[2], ",")}
	if len(words) > 3 {
		caller.CustomerID = words[3]
	}
	return caller, nil
}

// visitor takes the customer's user name from a cookie; a second word is what is wrong with the login.
func (b *bundle) visitor(r *http.Request) (*storage.Customer, *storage.Login, error) {
	cookie, err := r.Cookie("visitor")
	if err != nil {
		return nil, nil, nil
	}
	name, state, _ := strings.Cut(cookie.Value, "-")
	switch state {
	case "unknown":
		return nil, nil, storage.ErrNotFound
	case "stale":
		return nil, nil, fapi.Refuse(fapi.LoginRequired, "")
	case "broken":
		return nil, nil, errors.New("the database is gone")
	}
	c, err := b.db.FindCustomer(r.Context(), "default", name)
	if err != nil {
		return nil, nil, err
	}
	login := &storage.Login{CustomerID: c.ID, ACR: "urn:openbanking:psd2:sca"}
	if state == "half" {
		login.ACR = ""
	}
	return &c.Customer, login, nil
}

// request is a call of the API; headers are names and values in turn, and the value "" removes one.
type request struct {
	method, path, body string
	headers            []string
}

type response struct {
	*http.Response
	body string
}

func (b *bundle) send(t *testing.T, q request) response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), q.method, b.server.URL+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(q.headers); i += 2 {
		if name, value := q.headers[i], q.headers[i+1]; value == "" {
			r.Header.Del(name)
		} else if slices.Contains([]string{"authorization", "content-type"}, strings.ToLower(name)) {
			r.Header.Set(name, value)
		} else {
			r.Header.Add(name, value)
		}
	}
	resp, err := b.server.Client().Transport.RoundTrip(r) // no redirects followed
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{resp, string(body)}
}

const (
	own     = "Bearer tpp accounts"
	minimal = `{"Data":{"Permissions":["ReadAccountsBasic"]},"Risk":{}}`
)

// call sends a request with the client's own token and, if there is a body, as JSON. Further headers win.
func (b *bundle) call(t *testing.T, method, path, body string, headers ...string) response {
	t.Helper()
	all := []string{"Authorization", own}
	if body != "" {
		all = append(all, "Content-Type", "application/json")
	}
	return b.send(t, request{method, path, body, append(all, headers...)})
}

// create makes a consent of the client's and returns its id.
func (b *bundle) create(t *testing.T) string {
	t.Helper()
	k := &storage.Consent{ID: newConsentID(), ClientID: "tpp", Type: storage.AccountAccess, Permissions: []string{"ReadAccountsBasic"}}
	if err := b.db.CreateConsent(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	return k.ID
}

func (b *bundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := b.sql.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// live makes what an approval and a redemption leave: an authorization whose tokens are good, and its grant.
func (b *bundle) live(t *testing.T, customer uuid.UUID, consent string) (authorization, grant uuid.UUID) {
	t.Helper()
	login, uri, code := sha256.Sum256([]byte(customer.String())), sha256.Sum256([]byte(uuid.NewString())), sha256.Sum256([]byte(uuid.NewString()))
	b.exec(t, `INSERT INTO logins (hash, customer_id, auth_time, acr, amr, expires_at)
		VALUES ($1, $2, now(), 'urn:openbanking:psd2:sca', '{pwd,otp}', now() + interval '1 hour') ON CONFLICT DO NOTHING`, login[:], [16]byte(customer))
	err := b.db.Push(t.Context(), nil, &storage.Authorization{ID: storage.NewID(), ClientID: "tpp", Request: []byte(`{}`), Scopes: []string{"openid", "accounts"},
		ConsentID: consent, RequestURIHash: uri[:], RequestURILifetime: time.Minute, JourneyLifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.db.Open(t.Context(), uri[:], "tpp", login[:]); err != nil {
		t.Fatal(err)
	}
	a, err := b.db.Approve(t.Context(), storage.Approval{RequestURIHash: uri[:], ClientID: "tpp", LoginHash: login[:], AccountIDs: []string{"12"}, CodeHash: code[:], CodeLifetime: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.db.Redeem(t.Context(), nil, code[:], "tpp", time.Hour); err != nil {
		t.Fatal(err)
	}
	return a.ID, a.GrantID
}

func (b *bundle) lives(t *testing.T, authorization uuid.UUID) bool {
	t.Helper()
	_, err := b.db.LoadLive(t.Context(), nil, authorization, "tpp", "")
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestNew_ReportsAllMistakes(t *testing.T) {
	t.Parallel()
	_, err := New(Options{BaseURL: "https://bank.example/"})
	for _, name := range []string{"DB", "Authenticate", "Pages", "Visitor", "ClientName", "BaseURL"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not in %v", name, err)
		}
	}
}
