package storage_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

func TestTransaction_Lists(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	made, own := f.start(t, nil), f.start(t, func(n *storage.NewTransaction) { n.MandateID = uuid.Nil })
	f.start(t, func(n *storage.NewTransaction) { n.StartedBy = f.dave })
	sees := func(who uuid.UUID, waiting, started int) {
		t.Helper()
		w, s, err := f.ListTransactions(t.Context(), who)
		if err != nil || len(w) != waiting || len(s) != started {
			t.Errorf("%d wait, %d started, %v; want %d, %d", len(w), len(s), err, waiting, started)
		}
	}
	sees(f.alice, 1, 2)
	sees(f.bob, 2, 0)
	sees(f.dave, 1, 1) // not their own
	f.mustApprove(t, f.bob, made, storage.AwaitingApproval)
	sees(f.bob, 1, 0)
	f.mustApprove(t, f.alice, own, storage.ApprovedTransaction)
	sees(f.alice, 0, 2)
	f.exec(t, `UPDATE transactions SET expires_at = now()`)
	sees(f.bob, 0, 0)
	f.status(t, made.ID, storage.ExpiredTransaction, 1, 2)
	f.status(t, own.ID, storage.ExpiredTransaction, 1, 1)
	if err := f.ConsumeTransaction(t.Context(), own.ID, "app", own.Digest); err != storage.IsOver {
		t.Errorf("consumed too late: %v", err)
	}
	for who, want := range map[uuid.UUID]error{f.alice: nil, f.bob: nil, f.carol: nil, storage.NewID(): storage.ErrNotFound} {
		if _, err := f.ViewTransaction(t.Context(), made.ID, who); err != want {
			t.Errorf("%v", err)
		}
	}
	if _, err := f.ViewTransaction(t.Context(), own.ID, f.bob); err != storage.ErrNotFound {
		t.Errorf("somebody else's own: %v", err)
	}
	// Who is no more took no record along.
	f.exec(t, `DELETE FROM customers WHERE id IN ($1, $2)`, [16]byte(f.alice), [16]byte(f.bob))
	found := f.find(t, made.ID)
	if found.StartedBy != uuid.Nil || found.Starter != nil || len(found.Decisions) != 1 || found.Decisions[0].Customer != nil || found.Details.PayeeName != "Acme" {
		t.Errorf("%+v", found)
	}
}

// told is how many notices wait for somebody.
func (f *firm) told(t *testing.T, who uuid.UUID) int {
	t.Helper()
	return f.count(t, `SELECT count(*) FROM notifications WHERE kind = 'approval' AND about->>'customer_id' = $1`, who.String())
}

// Whoever may approve is told, once for each revision, and of no more than so many without a pause, however many are started and
// changed at once. Nobody is told of what does not wait for them any more.
func TestTransaction_Notices(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	made := f.start(t, func(n *storage.NewTransaction) { n.StartedBy = f.dave })
	f.start(t, func(n *storage.NewTransaction) { n.MandateID = uuid.Nil })
	for name, c := range map[string]struct {
		who  uuid.UUID
		want int
	}{"an approver": {f.bob, 1}, "another": {f.carol, 1}, "who only starts": {f.alice, 0}, "who has started it": {f.dave, 0}} {
		if n := f.told(t, c.who); n != c.want {
			t.Errorf("%s was told %d times", name, n)
		}
	}
	wanted := storage.ApprovalWanted{TransactionID: made.ID, Revision: 1, CustomerID: f.bob}
	awaits := func(what string, w storage.ApprovalWanted, want error) {
		t.Helper()
		if a, err := f.FindAwaited(t.Context(), w); err != want || err == nil && (a.ID != w.CustomerID || !a.ExpiresAt.Equal(made.ExpiresAt)) {
			t.Errorf("%s: %+v %v", what, a, err)
		}
	}
	awaits("it waits", wanted, nil)
	awaits("for who has started it", storage.ApprovalWanted{TransactionID: made.ID, Revision: 1, CustomerID: f.dave}, storage.ErrNotFound)
	check(t, f.ChangeTransaction(t.Context(), f.changed(made, "1600")))
	if n := f.told(t, f.bob); n != 2 {
		t.Errorf("after a change: %d", n)
	}
	awaits("an older revision", wanted, storage.ErrNotFound)
	wanted.Revision = 2
	awaits("the newer", wanted, nil)
	f.mustApprove(t, f.bob, f.find(t, made.ID), storage.AwaitingApproval)
	awaits("after the approval", wanted, storage.ErrNotFound)
	wanted.CustomerID = f.carol
	f.exec(t, `UPDATE customers SET disabled_at = now() WHERE id = $1`, [16]byte(f.carol))
	awaits("disabled", wanted, storage.ErrNotFound)
	f.exec(t, `UPDATE customers SET disabled_at = NULL`)
	f.save(t, func(m *storage.Mandate) { m.Members[2].MayApprove = false; m.Members[2].MayStart = true })
	awaits("may not any more", wanted, storage.ErrNotFound)

	f.exec(t, `DELETE FROM notifications`)
	f.exec(t, `UPDATE mandate_members SET told_until = '-infinity'`)
	made = f.find(t, made.ID)
	var wait sync.WaitGroup
	for range 30 {
		wait.Go(func() { _, _ = f.StartTransaction(t.Context(), f.wanting(nil)) })
		wait.Go(func() {
			_ = f.ChangeTransaction(t.Context(), f.changed(f.find(t, made.ID), fmt.Sprint(1601+len(t.Name()))))
		})
	}
	wait.Wait()
	if n := f.told(t, f.bob); n != storage.MaxNotices {
		t.Errorf("told %d times", n)
	}
	f.exec(t, `UPDATE mandate_members SET told_until = told_until - interval '6 minutes'`)
	f.start(t, nil)
	f.start(t, nil)
	if n := f.told(t, f.bob); n != storage.MaxNotices+1 {
		t.Errorf("after the pause: told %d times", n)
	}
	waiting, _, err := f.ListTransactions(t.Context(), f.bob)
	if err != nil || len(waiting) != 33 {
		t.Errorf("%d wait in the list, %v", len(waiting), err)
	}
	in, err := f.Inbox(t.Context(), f.bob)
	if err != nil || in.Transactions != 33 {
		t.Errorf("%d wait by the count, %v", in.Transactions, err)
	}
}

func TestMandates(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	list, err := f.ListMandates(t.Context(), "default")
	if err != nil || len(list) != 1 || len(list[0].Members) != 4 || list[0].Tiers[1].UpTo != "50000.50" || list[0].Tiers[2].UpTo != "" {
		t.Fatalf("%+v, %v", list, err)
	}
	stranger := f.mandate
	stranger.Members = append([]storage.MandateMember{{CustomerID: storage.NewID(), MayStart: true}}, f.mandate.Members...)
	stranger.Name = "Changed"
	if err := f.SaveMandate(t.Context(), &stranger); err != storage.ErrNotFound {
		t.Errorf("a member who is no customer: %v", err)
	}
	foreign := f.mandate
	foreign.Tenant = "other"
	if err := f.SaveMandate(t.Context(), &foreign); err != storage.ErrConflict {
		t.Errorf("another tenant's: %v", err)
	}
	found, err := f.FindMandate(t.Context(), "default", f.mandate.ID)
	if err != nil || found.Name != "Meadow Dairy" || len(found.Members) != 4 {
		t.Errorf("a refused change changed something: %+v, %v", found, err)
	}
	check(t, f.EndMandate(t.Context(), "default", f.mandate.ID))
	if _, err := f.FindMandate(t.Context(), "default", f.mandate.ID); err != storage.ErrNotFound {
		t.Errorf("%v", err)
	}
	if err := f.EndMandate(t.Context(), "default", f.mandate.ID); err != storage.ErrNotFound {
		t.Errorf("%v", err)
	}
}
