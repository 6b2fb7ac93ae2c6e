package storage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

// managed is a request that knows of grants.
type managed struct {
	action storage.GrantAction
	grant  uuid.UUID
	scopes string
	terms  string
	client string // "": tpp
	login  []byte // nil: alice's
	picked []string
}

// decide takes a request up to its code, which is its name.
func (b *bundle) decide(t *testing.T, name string, m managed) (*storage.Authorization, error) {
	t.Helper()
	if err := b.ask(t, name, m); err != nil {
		return nil, err
	}
	return b.agree(name, m)
}

func (b *bundle) ask(t *testing.T, name string, m managed) error {
	t.Helper()
	a := &storage.Authorization{
		ID: storage.NewID(), ClientID: m.clientID(), Request: []byte(`{}`), Scopes: append([]string{}, strings.Fields(m.scopes)...),
		RequestURIHash: hash(name), RequestURILifetime: time.Minute, JourneyLifetime: time.Hour, GrantAction: m.action, GrantID: m.grant,
	}
	if m.terms != "" {
		a.Terms = []byte(m.terms)
	}
	if err := b.Push(t.Context(), nil, a); err != nil {
		return err
	}
	_, err := b.Open(t.Context(), hash(name), m.clientID(), b.loginHash)
	return err
}

func (m managed) clientID() string {
	if m.client == "" {
		return "tpp"
	}
	return m.client
}

func (b *bundle) agree(name string, m managed) (*storage.Authorization, error) {
	login := m.login
	if login == nil {
		login = b.loginHash
	}
	return b.Approve(context.Background(), storage.Approval{RequestURIHash: hash(name), ClientID: m.clientID(), LoginHash: login,
		AccountIDs: m.picked, CodeHash: hash(name), CodeLifetime: time.Minute})
}

// made is a managed grant with tokens.
func (b *bundle) made(t *testing.T, name, scopes, terms string) *storage.Authorization {
	t.Helper()
	a, err := b.decide(t, name, managed{action: storage.Create, scopes: scopes, terms: terms})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.redeem(t, name); err != nil {
		t.Fatal(err)
	}
	return a
}

func texts(terms storage.Terms) (list []string) {
	for _, term := range terms {
		list = append(list, string(term.Text))
	}
	return list
}

// otherCustomer is Bob, with the account 77; it returns the hash of his cookie.
func (b *bundle) otherCustomer(t *testing.T) []byte {
	t.Helper()
	bob := storage.NewID()
	b.exec(t, `INSERT INTO customers (id, tenant, username_index, profile, password_hash) VALUES ($1, 'default', '\x02', '\x00', '')`, [16]byte(bob))
	b.exec(t, `INSERT INTO logins (hash, customer_id, auth_time, acr, amr, expires_at) VALUES ($1, $2, now(), 'a', '{pwd}', now() + interval '1 hour')`,
		hash("bob"), [16]byte(bob))
	return hash("bob")
}

// GM-01, GM-03: what each action makes of the grant, and of what was issued before.
func TestManagedGrants_Actions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.made(t, "first", "accounts openid", `"one"`)
	if again := b.made(t, "again", "accounts openid", ""); again.GrantID == first.GrantID {
		t.Error("create took an old grant")
	}
	if plain := b.approvedPlainly(t, "plain"); plain.GrantID == first.GrantID {
		t.Error("a request that knows nothing of grants changed one")
	}

	merged, err := b.decide(t, "merge", managed{action: storage.Merge, grant: first.GrantID, scopes: "payments openid", terms: `"two"`, picked: []string{"12"}})
	if err != nil || merged.GrantID != first.GrantID {
		t.Fatal(merged, err)
	}
	if diff := cmp.Diff([]string{"accounts", "openid", "payments"}, merged.Scopes); diff != "" {
		t.Errorf("GM-03: merge is the union: %s", diff)
	}
	if b.lives(t, first) {
		t.Error("GM-03: tokens from before the merge live")
	}
	live, err := b.redeem(t, "merge")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`"one"`, `"two"`}, texts(live.Terms)); diff != "" || !slices.Equal(live.AccountIDs, []string{"12"}) || len(live.Terms[0].AccountIDs) != 0 {
		t.Errorf("GM-03: merge keeps what was granted: %s, accounts %v, %v", diff, live.AccountIDs, live.Terms)
	}

	replaced, err := b.decide(t, "replace", managed{action: storage.Replace, grant: first.GrantID, scopes: "openid", terms: `"three"`})
	if err != nil || replaced.GrantID != first.GrantID {
		t.Fatal(replaced, err)
	}
	if b.lives(t, merged) {
		t.Error("GM-03: tokens from before the replacement live")
	}
	if live, err = b.redeem(t, "replace"); err != nil {
		t.Fatal(err)
	}
	if cmp.Diff([]string{`"three"`}, texts(live.Terms)) != "" || !slices.Equal(live.Scopes, []string{"openid"}) || len(live.AccountIDs) != 0 {
		t.Errorf("GM-03: replace is exactly the new: %v, %v, %v", texts(live.Terms), live.Scopes, live.AccountIDs)
	}
}

func (b *bundle) approvedPlainly(t *testing.T, name string) *storage.Authorization {
	t.Helper()
	a, err := b.decide(t, name, managed{scopes: "openid"})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A code that was not redeemed before the merge brings nothing after it.
func TestManagedGrants_EarlierCodesEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, err := b.decide(t, "first", managed{action: storage.Create, scopes: "openid"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.decide(t, "merge", managed{action: storage.Merge, grant: first.GrantID, scopes: "openid"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.redeem(t, "first"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the code from before: %v", err)
	}
	if _, err := b.redeem(t, "merge"); err != nil {
		t.Error(err)
	}
}

// GM-01: whose grants can be changed, by whom, and when.
func TestManagedGrants_OnlyOnesOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bob := b.otherCustomer(t)
	mine := b.made(t, "mine", "openid", `"one"`)
	foreign, err := b.decide(t, "foreign", managed{action: storage.Create, scopes: "openid", client: "other"})
	if err != nil {
		t.Fatal(err)
	}
	ended := b.made(t, "ended", "openid", "")
	if err := b.RevokeGrant(t.Context(), "tpp", ended.GrantID); err != nil {
		t.Fatal(err)
	}
	consented := b.live(t, "consented", "aac-1")
	plain := b.approvedPlainly(t, "plain")
	for _, action := range []storage.GrantAction{storage.Merge, storage.Replace} {
		for name, grant := range map[string]uuid.UUID{
			"another client's": foreign.GrantID, "unknown": storage.NewID(), "ended": ended.GrantID,
			"a consent's": consented.GrantID, "one that is not managed": plain.GrantID,
		} {
			if err := b.ask(t, string(action)+name, managed{action: action, grant: grant, scopes: "openid"}); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%s %s: %v", action, name, err)
			}
		}
		if _, err := b.decide(t, string(action)+" bob", managed{action: action, grant: mine.GrantID, scopes: "payments", login: bob}); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s by another customer: %v", action, err)
		}
	}
	// It ends between the page and the button.
	for i, action := range []storage.GrantAction{storage.Merge, storage.Replace} {
		g := b.made(t, fmt.Sprint("late ", i), "openid", "")
		m := managed{action: action, grant: g.GrantID, scopes: "openid"}
		if err := b.ask(t, fmt.Sprint("too late ", i), m); err != nil {
			t.Fatal(err)
		}
		if _, err := b.WithdrawGrant(t.Context(), b.customer, g.GrantID); err != nil {
			t.Fatal(err)
		}
		if _, err := b.agree(fmt.Sprint("too late ", i), m); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s of a grant that was withdrawn: %v", action, err)
		}
	}
	if !b.lives(t, mine) {
		t.Error("the grant was touched")
	}
}

// GM-05: what is found by its id.
func TestFindAndRevokeGrant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.made(t, "a", "openid accounts", `"one"`)
	g, err := b.FindGrant(t.Context(), a.GrantID)
	if err != nil || g.ClientID != "tpp" || g.CustomerID != b.customer || !slices.Equal(texts(g.Terms), []string{`"one"`}) || !slices.Equal(g.Terms[0].Scopes, []string{"openid", "accounts"}) {
		t.Fatalf("%+v, %v", g, err)
	}
	for name, id := range map[string]uuid.UUID{"unknown": storage.NewID(), "none": uuid.Nil, "not managed": b.approvedPlainly(t, "plain").GrantID, "a consent's": b.live(t, "c", "aac-1").GrantID} {
		if _, err := b.FindGrant(t.Context(), id); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if err := b.RevokeGrant(t.Context(), "tpp", id); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.RevokeGrant(t.Context(), "other", a.GrantID); !errors.Is(err, storage.ErrNotFound) || !b.lives(t, a) {
		t.Errorf("another client ended it: %v", err)
	}
	if err := b.RevokeGrant(t.Context(), "tpp", a.GrantID); err != nil || b.lives(t, a) {
		t.Errorf("tokens outlive their grant: %v", err)
	}
	if _, err := b.FindGrant(t.Context(), a.GrantID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("what has ended is found: %v", err)
	}
	if err := b.RevokeGrant(t.Context(), "tpp", a.GrantID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("ended twice: %v", err)
	}
	listed, _, err := b.ListGrants(t.Context(), b.customer)
	i := slices.IndexFunc(listed, func(g storage.Grant) bool { return g.ID == a.GrantID })
	if err != nil || i < 0 || !listed[i].EndedByClient || listed[i].EndedAt == nil {
		t.Errorf("%+v, %v", listed, err)
	}
}

// A grant holds what fits: then a merge finds it full. Of what is not managed, the newest approvals are kept.
func TestManagedGrants_Bounds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.made(t, "0", "openid", `"0"`)
	for i := 1; i < 20; i++ {
		if _, err := b.decide(t, fmt.Sprint(i), managed{action: storage.Merge, grant: a.GrantID, scopes: "openid", terms: fmt.Sprintf(`"%d"`, i)}); err != nil {
			t.Fatal(i, err)
		}
	}
	m := managed{action: storage.Merge, grant: a.GrantID, scopes: "openid"}
	if err := b.ask(t, "21", m); err != nil {
		t.Fatal(err)
	}
	if j, err := b.Open(t.Context(), hash("21"), "tpp", b.loginHash); err != nil || !j.Full || j.Grant.CustomerID != b.customer {
		t.Errorf("%+v, %v", j, err)
	}
	if _, err := b.agree("21", m); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := b.decide(t, "replace", managed{action: storage.Replace, grant: a.GrantID, scopes: "openid"}); err != nil {
		t.Error(err)
	}
	for i := range 25 {
		if _, err := b.decide(t, fmt.Sprint("plain ", i), managed{terms: fmt.Sprintf(`"%d"`, i)}); err != nil { // no scopes: RAR alone
			t.Fatal(err)
		}
	}
	listed, _, err := b.ListGrants(t.Context(), b.customer)
	i := slices.IndexFunc(listed, func(g storage.Grant) bool { return !g.Managed })
	if err != nil || len(listed[i].Terms) != 20 || string(listed[i].Terms[19].Text) != `"24"` || string(listed[i].Terms[0].Text) != `"5"` {
		t.Errorf("%v, %v", texts(listed[i].Terms), err)
	}
}

// What was granted is sealed, and opens only in the place where it was put.
func TestManagedGrants_TermsAreSealed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := b.made(t, "one", "openid", `"Merchant A"`), b.made(t, "two", "openid", `"Merchant B"`)
	for _, column := range []string{`SELECT terms::text FROM grants WHERE id = $1`, `SELECT encode(terms, 'escape') FROM authorizations WHERE grant_id = $1`} {
		if text := query[string](t, b, column, [16]byte(one.GrantID)); strings.Contains(text, "Merchant") {
			t.Errorf("%s: %s", column, text)
		}
	}
	b.exec(t, `UPDATE grants SET terms = jsonb_set(terms, '{0,sealed}', (SELECT terms->0->'sealed' FROM grants WHERE id = $2)) WHERE id = $1`,
		[16]byte(one.GrantID), [16]byte(two.GrantID))
	if _, err := b.FindGrant(t.Context(), one.GrantID); !errors.Is(err, storage.ErrUnsealed) {
		t.Errorf("one grant's terms open in another: %v", err)
	}
}

// 100 merges, withdrawals and refreshes at once leave one outcome: either the grant is gone and no token lives, or it
// holds every merge that was approved, and the tokens of the last one alone live.
func TestManagedGrants_ManyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for round, withdraw := range []bool{false, true, true} {
		name := func(i int) string { return fmt.Sprint("round ", round, " ", i) }
		first := b.made(t, name(-1), "openid", `"-1"`)
		const merges = 16
		asked := make([]managed, merges)
		for i := range asked {
			asked[i] = managed{action: storage.Merge, grant: first.GrantID, scopes: fmt.Sprint("s", i), terms: fmt.Sprintf(`"%d"`, i)}
			if err := b.ask(t, name(i), asked[i]); err != nil {
				t.Fatal(err)
			}
		}
		approved := make([]*storage.Authorization, merges)
		errs := atOnce(100, func(i int) (err error) {
			switch {
			case i < merges:
				approved[i], err = b.agree(name(i), asked[i])
			case withdraw && i == 60:
				_, err = b.WithdrawGrant(context.Background(), b.customer, first.GrantID)
			default:
				_, err = b.LoadLive(context.Background(), nil, first.ID, "tpp")
			}
			if errors.Is(err, storage.ErrNotFound) {
				err = nil
			}
			return err
		})
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		lives, good := 0, 1 // with the first approval
		for i, a := range approved {
			if a == nil {
				continue
			}
			good++
			if _, err := b.redeem(t, name(i)); err == nil {
				lives++
			}
		}
		g, err := b.FindGrant(t.Context(), first.GrantID)
		switch {
		case withdraw:
			if !errors.Is(err, storage.ErrNotFound) || lives != 0 || b.lives(t, first) {
				t.Errorf("round %d: withdrawn, and %d live (%v)", round, lives, err)
			}
		case err != nil || len(g.Terms) != good || len(g.Scopes) != good || good != merges+1 || lives != 1 || b.lives(t, first):
			t.Errorf("round %d: %d terms and %v of %d approvals, %d live, %v", round, len(g.Terms), g.Scopes, good, lives, err)
		}
	}
}
