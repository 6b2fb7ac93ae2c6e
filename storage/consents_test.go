package storage_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/storage"
)

// query reads one value.
func query[T any](t *testing.T, b *bundle, sql string, args ...any) (v T) {
	t.Helper()
	if err := b.sql.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (b *bundle) status(t *testing.T, consent string) string {
	t.Helper()
	return query[string](t, b, `SELECT status FROM consents WHERE id = $1`, consent)
}

// live is an authorization with tokens, under a consent ("" for none).
func (b *bundle) live(t *testing.T, name, consent string) *storage.Authorization {
	t.Helper()
	a := b.approved(t, name, consent, name)
	if _, err := b.redeem(t, name); err != nil {
		t.Fatal(err)
	}
	return a
}

// lives asks what every use of a token asks.
func (b *bundle) lives(t *testing.T, a *storage.Authorization) bool {
	t.Helper()
	switch _, err := b.LoadLive(t.Context(), nil, a.ID, "tpp", ""); {
	case err == nil:
		return true
	case !errors.Is(err, storage.ErrNotFound):
		t.Fatal(err)
	}
	return false
}

func TestConsent_CreateAndFind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	in := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	k := &storage.Consent{ID: "aac-2", ClientID: "tpp", Type: storage.AccountAccess, Permissions: []string{"ReadBalances", "ReadAccountsBasic"}, ExpiresAt: &in, TransactionsTo: &in}
	if err := b.CreateConsent(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	if k.Status != storage.AwaitingAuthorisation || k.CreatedAt.IsZero() || !k.StatusChangedAt.Equal(k.CreatedAt) {
		t.Errorf("created %+v", k)
	}
	found, err := b.FindConsent(t.Context(), "aac-2", "tpp")
	if err != nil || !cmp.Equal(found, k) {
		t.Errorf("found %v, %v", cmp.Diff(k, found), err)
	}
	if err := b.CreateConsent(t.Context(), k); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("a second one of that id: %v", err)
	}
}

// A1-02: the API must tell another client's consent from none.
func TestConsent_UnknownAndForeign(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range []struct {
		name, id, client string
		want             error
	}{
		{"own", "aac-1", "tpp", nil},
		{"another client's", "aac-1", "other", storage.ErrForeign},
		{"unknown", "aac-0", "tpp", storage.ErrNotFound},
		{"no text for Postgres: NUL", "aac-1\x00", "tpp", storage.ErrNotFound},
		{"no text for Postgres: not UTF-8", "aac-\xff", "tpp", storage.ErrNotFound},
		{"empty", "", "tpp", storage.ErrNotFound},
	} {
		if _, err := b.FindConsent(t.Context(), c.id, c.client); !errors.Is(err, c.want) {
			t.Errorf("%s: find: %v", c.name, err)
		}
		if c.want != nil {
			if err := b.RevokeConsent(t.Context(), c.id, c.client); !errors.Is(err, c.want) {
				t.Errorf("%s: revoke: %v", c.name, err)
			}
		}
	}
	if s := b.status(t, "aac-1"); s != storage.AwaitingAuthorisation {
		t.Errorf("the consent is %s", s)
	}
}

// A2-08: whatever state it was in, the client's DELETE ends a consent for good, and its tokens.
func TestRevokeConsent_EndsEverything(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.live(t, "uri", "aac-1")
	apart := b.live(t, "apart", "")
	if err := b.RevokeConsent(t.Context(), "aac-1", "tpp"); err != nil {
		t.Fatal(err)
	}
	if b.lives(t, a) {
		t.Error("a token of the consent lives")
	}
	if !b.lives(t, apart) {
		t.Error("a token of another grant died too")
	}
	if s := b.status(t, "aac-1"); s != storage.Revoked {
		t.Errorf("the consent is %s", s)
	}
	if err := b.RevokeConsent(t.Context(), "aac-1", "tpp"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
	if err := b.push(t, "again", "aac-1"); err == nil {
		if _, err := b.Open(t.Context(), hash("again"), "tpp", b.loginHash); err == nil {
			if _, err := b.approve(t, "again", "again", "12"); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("approved after the end: %v", err)
			}
		}
	}
	for _, status := range []string{storage.AwaitingAuthorisation, storage.Rejected} {
		b.exec(t, `INSERT INTO consents (id, client_id, type, status, permissions) VALUES ($1, 'tpp', 'account-access', $1, '{ReadAccountsBasic}')`, status)
		if err := b.RevokeConsent(t.Context(), status, "tpp"); err != nil || b.status(t, status) != storage.Revoked {
			t.Errorf("%s: %v", status, err)
		}
	}
}

func TestRevokeConsent_OnceAmongMany(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.live(t, "uri", "aac-1")
	errs := atOnce(50, func(int) error { return b.RevokeConsent(context.Background(), "aac-1", "tpp") })
	if n := count(errs, nil); n != 1 || count(errs, storage.ErrNotFound) != 49 {
		t.Errorf("%d of 50 revoked it: %v", n, errs)
	}
	if b.lives(t, a) {
		t.Error("a token lives")
	}
}

// A2-08: a revocation that meets an approval under way waits for it, and ends the grant that it makes.
func TestRevokeConsent_WaitsForAnApproval(t *testing.T) {
	t.Parallel()
	b := setup(t)
	approval, err := b.sql.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	grant := storage.NewID()
	for _, sql := range []string{
		`UPDATE consents SET status = 'Authorised', customer_id = '` + b.customer.String() + `' WHERE id = 'aac-1'`,
		`INSERT INTO grants (id, client_id, customer_id, consent_id, scopes) VALUES ('` + grant.String() + `', 'tpp', '` + b.customer.String() + `', 'aac-1', '{accounts}')`,
	} {
		if _, err := approval.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	revoked := make(chan error, 1)
	go func() { revoked <- b.RevokeConsent(context.Background(), "aac-1", "tpp") }()
	for query[int](t, b, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 0 {
		select {
		case err := <-revoked:
			t.Fatalf("it did not wait: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := approval.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-revoked; err != nil {
		t.Fatal(err)
	}
	if query[bool](t, b, `SELECT revoked_at IS NULL FROM grants WHERE id = $1`, [16]byte(grant)) {
		t.Error("the grant of the approval outlives the consent")
	}
	if s := b.status(t, "aac-1"); s != storage.Revoked {
		t.Errorf("the consent is %s", s)
	}
}

// Approvals and revocations in any order: a token lives only while its consent does.
func TestRevokeConsent_AgainstApprovals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 20 {
		id := "race-" + uuid.NewString()
		if err := b.CreateConsent(t.Context(), &storage.Consent{ID: id, ClientID: "tpp", Type: storage.AccountAccess, Permissions: []string{"ReadAccountsBasic"}}); err != nil {
			t.Fatal(err)
		}
		if err := b.push(t, id, id); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Open(t.Context(), hash(id), "tpp", b.loginHash); err != nil {
			t.Fatal(err)
		}
		errs := atOnce(2, func(n int) error {
			if n == i%2 {
				_, err := b.approve(t, id, id, "12")
				return err
			}
			return b.RevokeConsent(context.Background(), id, "tpp")
		})
		if err := errs[1-i%2]; err != nil {
			t.Fatalf("the revocation failed: %v", err)
		}
		if err := errs[i%2]; err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.Fatal(err)
		}
		if _, err := b.redeem(t, id); !errors.Is(err, storage.ErrNotFound) {
			t.Fatalf("a code of a revoked consent was redeemed: %v", err)
		}
		if n := query[int](t, b, `SELECT count(*)::int FROM grants WHERE consent_id = $1 AND revoked_at IS NULL`, id); n != 0 {
			t.Fatal("a grant outlives its consent")
		}
	}
}

// The budget: each call is one round trip.
func TestConsentsAndGrants_OneRoundTripEach(t *testing.T) {
	t.Parallel()
	b := setup(t)
	trips := &roundTrips{}
	db, err := storage.Open(t.Context(), storage.Options{DSN: b.dsn, MasterKey: masterKey, Tracer: trips, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	k := &storage.Consent{ID: "aac-3", ClientID: "tpp", Type: storage.AccountAccess, Permissions: []string{"ReadAccountsBasic"}}
	calls := map[string]func() error{
		"CreateConsent": func() error { k.ID = uuid.NewString(); return db.CreateConsent(t.Context(), k) },
		"FindConsent":   func() error { _, err := db.FindConsent(t.Context(), "aac-1", "tpp"); return err },
		"RevokeConsent": func() error { return skip(db.RevokeConsent(t.Context(), "aac-1", "tpp"), storage.ErrNotFound) },
		"ListGrants":    func() error { _, _, err := db.ListGrants(t.Context(), b.customer); return err },
		"WithdrawGrant": func() error {
			_, err := db.WithdrawGrant(t.Context(), b.customer, b.customer)
			return skip(err, storage.ErrNotFound)
		},
	}
	for name, call := range calls {
		if err := call(); err != nil { // prepares the statements on the connection
			t.Fatalf("%s: %v", name, err)
		}
		trips.n = 0
		if err := call(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if trips.n != 1 {
			t.Errorf("%s took %d round trips", name, trips.n)
		}
	}
}

func skip(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// roundTrips counts statements outside of batches, and batches.
type roundTrips struct{ n int }

func (r *roundTrips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	r.n++
	return ctx
}
func (*roundTrips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (r *roundTrips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	r.n++
	return ctx
}
func (*roundTrips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (*roundTrips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}
func (r *roundTrips) TracePrepareStart(ctx context.Context, _ *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	r.n++
	return ctx
}
func (*roundTrips) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}

// atOnce runs f n times, as much at the same moment as the machine can.
func atOnce(n int, f func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var done sync.WaitGroup
	for i := range n {
		done.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	done.Wait()
	return errs
}

// count counts the errors that are want.
func count(errs []error, want error) int {
	return len(slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return !errors.Is(err, want) }))
}
