package storage_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/storage/storagetest"
)

// bundle is a database with a customer who has logged in, an account of theirs, and a consent that waits.
type bundle struct {
	*storage.DB
	dsn       string
	sql       *pgx.Conn
	customer  uuid.UUID
	loginHash []byte
}

var masterKey = make([]byte, 32)

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{dsn: storagetest.New(t), customer: storage.NewID(), loginHash: hash("cookie")}
	b.DB = open(t, b.dsn)
	var err error
	if b.sql, err = pgx.Connect(t.Context(), b.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.sql.Close(context.Background()) })
	profile := b.Keys().Seal("customers.profile", b.customer[:], []byte(`{"username":"alice","name":"Alice Doe"}`))
	account := b.Keys().Seal("accounts.details", append(b.customer[:], "12"...), []byte(`{"name":"Savings","number":"0012","currency":"KES"}`))
	b.exec(t, `INSERT INTO customers (id, tenant, username_index, profile, password_hash, fineract_client_id, roles)
		VALUES ($1, 'default', '\x01', $2, '', 7, '{USER}')`, [16]byte(b.customer), profile)
	b.exec(t, `INSERT INTO accounts (customer_id, id, details) VALUES ($1, '12', $2)`, [16]byte(b.customer), account)
	b.exec(t, `INSERT INTO logins (hash, customer_id, auth_time, acr, amr, expires_at)
		VALUES ($1, $2, now(), 'urn:openbanking:psd2:sca', '{pwd,otp}', now() + interval '1 hour')`, b.loginHash, [16]byte(b.customer))
	b.exec(t, `INSERT INTO consents (id, client_id, type, status, permissions) VALUES ('aac-1', 'tpp', 'account-access', 'AwaitingAuthorisation', '{ReadAccountsBasic}')`)
	return b
}

func open(t *testing.T, dsn string) *storage.DB {
	t.Helper()
	db, err := storage.Open(t.Context(), storage.Options{DSN: dsn, MasterKey: masterKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func (b *bundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := b.sql.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func hash(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

func use(s string) storage.Use {
	return storage.Use{Hash: sha256.Sum256([]byte(s)), ExpiresAt: time.Now().Add(time.Minute)}
}

func (b *bundle) push(t *testing.T, uri, consent string, uses ...storage.Use) error {
	t.Helper()
	return b.Push(t.Context(), uses, &storage.Authorization{
		ID: storage.NewID(), ClientID: "tpp", Request: []byte(`{"state":"x"}`), Scopes: []string{"openid", "accounts"}, ConsentID: consent,
		RequestURIHash: hash(uri), RequestURILifetime: time.Minute, JourneyLifetime: time.Hour,
	})
}

// approved takes a request up to its code.
func (b *bundle) approved(t *testing.T, uri, consent, code string) *storage.Authorization {
	t.Helper()
	if err := b.push(t, uri, consent); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context(), hash(uri), "tpp", b.loginHash); err != nil {
		t.Fatal(err)
	}
	a, err := b.approve(t, uri, code, "12")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (b *bundle) approve(t *testing.T, uri, code string, accounts ...string) (*storage.Authorization, error) {
	t.Helper()
	return b.Approve(t.Context(), storage.Approval{RequestURIHash: hash(uri), ClientID: "tpp", LoginHash: b.loginHash,
		AccountIDs: accounts, CodeHash: hash(code), CodeLifetime: time.Minute})
}

func (b *bundle) redeem(t *testing.T, code string, uses ...storage.Use) (*storage.Live, error) {
	t.Helper()
	return b.Redeem(t.Context(), uses, hash(code), "tpp", time.Hour)
}

func TestJourney_FromPushToTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.push(t, "uri", "aac-1", use("a1")); err != nil {
		t.Fatal(err)
	}
	j, err := b.Open(t.Context(), hash("uri"), "tpp", b.loginHash)
	if err != nil {
		t.Fatal(err)
	}
	if string(j.Request) != `{"state":"x"}` || j.Consent == nil || j.Consent.ID != "aac-1" || j.Login == nil || len(j.Accounts) != 1 || j.Accounts[0].Name != "Savings" {
		t.Errorf("journey %+v", j)
	}
	if p, err := j.Customer.Profile(); err != nil || p.Name != "Alice Doe" {
		t.Errorf("profile %+v, %v", p, err)
	}
	if _, err := b.approve(t, "uri", "code", "99"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("approved with somebody else's account: %v", err)
	}
	a, err := b.approve(t, "uri", "code", "12")
	if err != nil || a.CustomerID != b.customer || a.ACR != "urn:openbanking:psd2:sca" {
		t.Fatalf("approved %+v, %v", a, err)
	}
	if _, err := b.Open(t.Context(), hash("uri"), "tpp", b.loginHash); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a decided request opens again: %v", err)
	}
	if _, err := b.Redeem(t.Context(), nil, hash("code"), "other", time.Hour); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("another client redeems the code: %v", err)
	}
	if _, err := b.redeem(t, "code", use("a1")); !errors.Is(err, storage.ErrAlreadyUsed) {
		t.Errorf("a replayed assertion: %v", err)
	}
	live, err := b.redeem(t, "code", use("a2"))
	if err != nil {
		t.Fatal(err)
	}
	if live.Consent == nil || live.Consent.Status != storage.Authorised || *live.Customer.FineractClientID != 7 || live.AccountIDs[0] != "12" {
		t.Errorf("live %+v", live)
	}
	if _, err := b.LoadLive(t.Context(), nil, a.ID, "tpp", "jti"); err != nil {
		t.Error(err)
	}
	if err := b.RevokeToken(t.Context(), nil, "jti", time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if _, err := b.LoadLive(t.Context(), nil, a.ID, "tpp", "jti"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a revoked token is good: %v", err)
	}
	if err := b.RevokeAuthorization(t.Context(), nil, a.ID, "tpp"); err != nil {
		t.Error(err)
	}
	if _, err := b.LoadLive(t.Context(), nil, a.ID, "tpp", ""); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a revoked authorization is good: %v", err)
	}
}

// RFC 6749 §4.1.2: a code is good once. A later use ends the tokens; the losers of a race do not.
func TestRedeem_OnceAmongAHundred(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.approved(t, "uri", "", "code")
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			switch _, err := b.redeem(t, "code"); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, storage.ErrNotFound):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 99 {
		t.Errorf("%d redeemed, %d were refused", won.Load(), lost.Load())
	}
	if _, err := b.LoadLive(t.Context(), nil, a.ID, "tpp", ""); err != nil {
		t.Errorf("the winner's tokens: %v", err)
	}
	time.Sleep(600 * time.Millisecond)
	if _, err := b.redeem(t, "code"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("redeemed again: %v", err)
	}
	if _, err := b.LoadLive(t.Context(), nil, a.ID, "tpp", ""); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the tokens live after a reuse of the code: %v", err)
	}
}

// D2: another client's, a spent, an expired or an unknown consent is refused.
func TestPush_RefusesUnusableConsents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO consents (id, client_id, type, status, permissions, expires_at) VALUES
		('other', 'other-tpp', 'account-access', 'AwaitingAuthorisation', '{}', NULL),
		('rejected', 'tpp', 'account-access', 'Rejected', '{}', NULL),
		('revoked', 'tpp', 'account-access', 'Revoked', '{}', NULL),
		('expired', 'tpp', 'account-access', 'AwaitingAuthorisation', '{}', now() - interval '1 second')`)
	for _, id := range []string{"unknown", "other", "rejected", "revoked", "expired"} {
		if err := b.push(t, "uri-"+id, id); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestDeny_RejectsTheConsent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.push(t, "uri", "aac-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Deny(t.Context(), hash("uri"), "tpp", b.loginHash); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("denied before it was opened: %v", err)
	}
	if _, err := b.Open(t.Context(), hash("uri"), "tpp", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Deny(t.Context(), hash("uri"), "tpp", b.loginHash); err != nil {
		t.Fatal(err)
	}
	if _, err := b.approve(t, "uri", "code"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("approved after the no: %v", err)
	}
	if err := b.push(t, "again", "aac-1"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a rejected consent was named again: %v", err)
	}
}

func TestApprove_OnceAmongMany(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.push(t, "uri", "aac-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context(), hash("uri"), "tpp", b.loginHash); err != nil {
		t.Fatal(err)
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := b.approve(t, "uri", "code"+string(rune('a'+i))); err == nil {
				won.Add(1)
			} else if !errors.Is(err, storage.ErrNotFound) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("approved %d times", won.Load())
	}
}

// RFC 9700 §4.14.2: a refresh token that was rotated away ends its family.
func TestRotate_DetectsReuse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.approved(t, "uri", "", "code")
	if _, err := b.redeem(t, "code"); err != nil {
		t.Fatal(err)
	}
	live, err := b.Rotate(t.Context(), nil, a.ID, "tpp", 0)
	if err != nil || live.RefreshGeneration != 1 {
		t.Fatalf("%+v, %v", live, err)
	}
	if _, err := b.Rotate(t.Context(), nil, a.ID, "tpp", 0); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the old token: %v", err)
	}
	if _, err := b.Rotate(t.Context(), nil, a.ID, "tpp", 1); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the new token after a reuse of the old one: %v", err)
	}
}

// A9, G4: one memory of used identifiers for all replicas.
func TestUse_OnceOnTwoReplicas(t *testing.T) {
	t.Parallel()
	dsn := storagetest.New(t)
	one, two := open(t, dsn), open(t, dsn)
	if err := one.Use(t.Context(), use("a"), use("b")); err != nil {
		t.Fatal(err)
	}
	if err := two.Use(t.Context(), use("b")); !errors.Is(err, storage.ErrAlreadyUsed) {
		t.Errorf("replayed on the other replica: %v", err)
	}
	if err := two.Use(t.Context(), use("c"), use("a")); !errors.Is(err, storage.ErrAlreadyUsed) {
		t.Errorf("replayed beside a new one: %v", err)
	}
	if err := two.Use(t.Context(), use("c")); err != nil {
		t.Errorf("the new one was used up by the refused request: %v", err)
	}
	if since := one.RememberedSince(); !since.Equal(time.Unix(0, 0)) {
		t.Errorf("a new database remembers since %v", since)
	}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO used_jtis (hash, expires_at) VALUES ('\x01', now() - interval '1 second'), ('\x02', now() + interval '1 minute')`)
	if n, err := b.Purge(t.Context()); err != nil || n != 1 {
		t.Errorf("purged %d, %v", n, err)
	}
}

func TestSigningKeys_Rotate(t *testing.T) {
	t.Parallel()
	db := open(t, storagetest.New(t))
	key := func(kid, state string) storage.SigningKey {
		return storage.SigningKey{KID: kid, Alg: "ES256", State: state, PKCS8: []byte("key " + kid)}
	}
	for _, k := range []storage.SigningKey{key("1", storage.KeyCurrent), key("2", storage.KeyNext), key("late", storage.KeyCurrent)} {
		if err := db.AddSigningKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.RotateSigningKey(t.Context(), key("3", storage.KeyNext), time.Hour); err != nil {
		t.Fatal(err)
	}
	keys, err := db.ListSigningKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for _, k := range keys {
		states[k.KID] = k.State
		if string(k.PKCS8) != "key "+k.KID {
			t.Errorf("key %s opened as %q", k.KID, k.PKCS8)
		}
	}
	if len(states) != 3 || states["1"] != storage.KeyRetired || states["2"] != storage.KeyCurrent || states["3"] != storage.KeyNext {
		t.Errorf("states %v", states)
	}
}

func TestWatch_TellsOfChanges(t *testing.T) {
	t.Parallel()
	dsn := storagetest.New(t)
	one, two := open(t, dsn), open(t, dsn)
	changes := make(chan string, 10)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go one.Watch(ctx, storage.Watcher{Changed: func(table string) { changes <- table }, Decided: func([]byte) {}})
	if first := <-changes; first != "" {
		t.Fatalf("first %q", first)
	}
	if err := two.CreateClient(t.Context(), "tpp", []byte(`{}`), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case table := <-changes:
		if table != "clients" {
			t.Errorf("change of %q", table)
		}
	case <-time.After(10 * time.Second):
		t.Error("no word of the change")
	}
	if err := two.CreateClient(t.Context(), "tpp", []byte(`{}`), nil); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("registered twice: %v", err)
	}
}
