package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

// asked is a request that waits for the bundle's customer, and the notification that is to tell that one.
func (b *bundle) asked(t *testing.T) (storage.ApprovalWanted, uuid.UUID) {
	t.Helper()
	w, n := storage.ApprovalWanted{AuthorizationID: b.polled(t, "code", ""), CustomerID: b.customer}, storage.NewID()
	b.exec(t, `UPDATE authorizations SET for_customer_id = $2 WHERE id = $1`, [16]byte(w.AuthorizationID), [16]byte(b.customer))
	b.exec(t, `INSERT INTO notifications (id, kind, client_id, about) VALUES ($1, 'approval', 'tpp', $2)`, [16]byte(n),
		fmt.Sprintf(`{"authorization_id": %q, "customer_id": %q}`, w.AuthorizationID, w.CustomerID))
	return w, n
}

func (b *bundle) anotherCustomer(t *testing.T) uuid.UUID {
	t.Helper()
	id := storage.NewID()
	b.exec(t, `INSERT INTO customers (id, tenant, username_index, profile, password_hash, roles) VALUES ($1, 'default', $2, $3, '', '{}')`,
		[16]byte(id), id[:], b.Keys().Seal("customers.profile", id[:], []byte(`{"username":"bob"}`)))
	return id
}

func (b *bundle) subscribe(t *testing.T, customer uuid.UUID, endpoint string) {
	t.Helper()
	if err := b.SavePushSubscription(t.Context(), customer, []byte(`{"endpoint":"`+endpoint+`"}`), endpoint); err != nil {
		t.Fatal(err)
	}
}

// endpoints are those of the browsers that would be rung.
func (b *bundle) endpoints(t *testing.T, w storage.ApprovalWanted) (all []string) {
	t.Helper()
	a, err := b.FindAwaited(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range a.Subscriptions {
		all = append(all, strings.TrimSuffix(strings.TrimPrefix(string(s.JSON), `{"endpoint":"`), `"}`))
	}
	return all
}

func TestPushSubscriptions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, _ := b.asked(t)
	bob := b.anotherCustomer(t)
	b.subscribe(t, b.customer, "https://push.example/1")
	b.subscribe(t, b.customer, "https://push.example/2")
	b.subscribe(t, b.customer, "https://push.example/1") // again, with new keys: the same browser
	if got := b.endpoints(t, w); !slices.Equal(got, []string{"https://push.example/2", "https://push.example/1"}) {
		t.Errorf("%v", got)
	}
	b.subscribe(t, bob, "https://push.example/1") // who uses the browser now
	if got := b.endpoints(t, w); !slices.Equal(got, []string{"https://push.example/2"}) {
		t.Errorf("after another customer subscribed: %v", got)
	}
	for endpoint, want := range map[string]int{"https://push.example/1": 1, "https://push.example/none": 1} { // not theirs, unknown
		if err := b.DropPushSubscription(t.Context(), b.customer, endpoint); err != nil || len(b.endpoints(t, w)) != want {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
	if n := b.count(t, `SELECT count(*) FROM push_subscriptions`); n != 2 {
		t.Errorf("%d subscriptions: one customer dropped another's", n)
	}
	if err := b.DropPushSubscription(t.Context(), b.customer, "https://push.example/2"); err != nil || len(b.endpoints(t, w)) != 0 {
		t.Errorf("%v", err)
	}
	if err := b.SavePushSubscription(t.Context(), storage.NewID(), []byte("{}"), "https://push.example/3"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("for nobody: %v", err)
	}
	b.exec(t, `DELETE FROM customers WHERE id = $1`, [16]byte(bob))
	if n := b.count(t, `SELECT count(*) FROM push_subscriptions`); n != 0 {
		t.Errorf("%d subscriptions outlive their customer, or had none", n)
	}
}

func TestPushSubscriptions_TenNewestOfEach(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, _ := b.asked(t)
	bob := b.anotherCustomer(t)
	b.subscribe(t, bob, "https://push.example/bob")
	for i := range 12 {
		b.subscribe(t, b.customer, fmt.Sprint("https://push.example/", i))
	}
	got := b.endpoints(t, w)
	if len(got) != 10 || got[0] != "https://push.example/2" || got[9] != "https://push.example/11" {
		t.Errorf("%v", got)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := b.SavePushSubscription(t.Context(), b.customer, []byte("{}"), fmt.Sprint("https://push.example/at-once/", i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := b.count(t, `SELECT count(*) FROM push_subscriptions`); n != 11 {
		t.Errorf("%d subscriptions of alice and bob", n)
	}
}

// Endpoint and keys are sealed, for their row.
func TestPushSubscriptions_AreSealed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, _ := b.asked(t)
	b.subscribe(t, b.customer, "https://push.example/1")
	var row []byte
	if err := b.sql.QueryRow(t.Context(), `SELECT convert_to(p::text, 'UTF8') || subscription FROM push_subscriptions p`).Scan(&row); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(row, []byte("push.example")) {
		t.Error("the endpoint is readable")
	}
	b.exec(t, `UPDATE push_subscriptions SET id = gen_random_uuid()`)
	if _, err := b.FindAwaited(t.Context(), w); !errors.Is(err, storage.ErrUnsealed) {
		t.Errorf("in another row: %v", err)
	}
}

func TestFindAwaited(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, _ := b.asked(t)
	a, err := b.FindAwaited(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	profile, err := a.Profile()
	if err != nil || profile.Name != "Alice Doe" || a.ID != b.customer || a.Tenant != "default" || *a.FineractClientID != 7 || a.ExpiresAt.Sub(a.CreatedAt) != tenMinutes {
		t.Errorf("%+v, %+v, %v", a, profile, err)
	}
	for _, test := range []struct {
		name, sql string
		as        func(*storage.ApprovalWanted)
	}{
		{"another customer's", "", func(w *storage.ApprovalWanted) { w.CustomerID = storage.NewID() }},
		{"unknown", "", func(w *storage.ApprovalWanted) { w.AuthorizationID = storage.NewID() }},
		{"approved", `UPDATE authorizations SET status = 'approved'`, nil},
		{"denied", `UPDATE authorizations SET status = 'denied'`, nil},
		{"expired, and noticed", `UPDATE authorizations SET status = 'expired'`, nil},
		{"expired", `UPDATE authorizations SET expires_at = now()`, nil},
		{"a disabled customer's", `UPDATE customers SET disabled_at = now()`, nil},
		{"for whoever logs in", `UPDATE authorizations SET for_customer_id = NULL`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := setup(t)
			w, _ := b.asked(t)
			if test.sql != "" {
				b.exec(t, test.sql)
			}
			if test.as != nil {
				test.as(&w)
			}
			if _, err := b.FindAwaited(t.Context(), w); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%v", err)
			}
		})
	}
}

// However often a notification is split, each way has one.
func TestSplitNotification(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, id := b.asked(t)
	browser := storage.NewID()
	ways := []storage.Way{{Kind: "web_push", SubscriptionID: browser}, {Kind: "email"}, {Kind: "sms"}, {Kind: "webhook"}}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if err := b.SplitNotification(t.Context(), id, ways); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	taken, err := b.TakeNotifications(t.Context(), 100, tenMinutes)
	if err != nil {
		t.Fatal(err)
	}
	about := fmt.Sprintf(`{"customer_id": %q, "authorization_id": %q}`, w.CustomerID, w.AuthorizationID)
	want := map[string]string{
		"email": about, "sms": about, "webhook": about,
		"web_push": fmt.Sprintf(`{"customer_id": %q, "subscription_id": %q, "authorization_id": %q}`, w.CustomerID, browser, w.AuthorizationID),
	}
	got := map[string]string{}
	for _, n := range taken {
		got[n.Kind] = string(n.About)
		if n.ClientID != "tpp" || n.ID == id {
			t.Errorf("%+v", n)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(taken) != 4 {
		t.Errorf("%d notifications\n%s", len(taken), diff)
	}
}

func TestSplitNotification_NoWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, id := b.asked(t)
	if err := b.SplitNotification(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	if n := b.count(t, `SELECT count(*) FROM notifications`); n != 0 {
		t.Errorf("%d notifications are left", n)
	}
}

// A way that the schema does not know leaves all as it was.
func TestSplitNotification_AllOrNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, id := b.asked(t)
	if err := b.SplitNotification(t.Context(), id, []storage.Way{{Kind: "email"}, {Kind: "pigeon"}}); err == nil {
		t.Error("a pigeon flies")
	}
	if n := b.count(t, `SELECT count(*) FROM notifications WHERE kind = 'approval'`); n != 1 {
		t.Errorf("%d notifications wait", n)
	}
}
