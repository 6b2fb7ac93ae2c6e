package authz_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/reach"
	"github.com/countersign/countersign/storage"
)

// everybody is a channel that reaches all customers.
type everybody struct{ ownChannel }

func (*everybody) Reaches(reach.Customer) bool { return true }

// settled waits until nothing is left to be told, and returns who was told how often.
func (c *everybody) settled(t *testing.T, f *firm) map[string]int {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); f.s.Count(t, `SELECT count(*) FROM notifications`) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("notices are still to be sent")
		}
	}
	told := map[string]int{}
	for _, m := range c.got() {
		for name, id := range f.people {
			if id == m.To.ID {
				told[name]++
			}
		}
	}
	return told
}

// D5: approvers are told that something waits, by the ways that CIBA has: those alone who may approve it, once for each revision,
// though two servers send; and whoever starts many rings them no more than so many times.
func TestTransactions_Notices(t *testing.T) {
	t.Parallel()
	channel := &everybody{}
	by := func(*authztest.Server) []reach.Channel { return []reach.Channel{channel} }
	f := newFirm(t, authztest.Options{Channels: by})
	authztest.Start(t, authztest.Options{Like: f.s, Channels: by})
	is := func(what string, each int) {
		t.Helper()
		told := channel.settled(t, f)
		if len(told) != 2 || told["first"] != each || told["second"] != each {
			t.Errorf("%s: told %v, want first and second %d times", what, told, each)
		}
	}
	made := f.start(t, nil)
	is("started", 1)
	m := channel.got()[0]
	if m.Type != reach.TransactionWaiting || m.About != made["id"] || m.URL != f.s.Config.Issuer+"/transactions" || m.Words != nil || m.ExpiresAt.Before(time.Now()) {
		t.Errorf("%+v", m)
	}
	f.core.call(t, "PATCH", transactionAt(made), `{"amount":"1500"}`) // which it is
	is("not changed", 1)
	f.core.call(t, "PATCH", transactionAt(made), `{"amount":"1501"}`)
	is("changed", 2)
	f.start(t, map[string]any{"mandate": nil})
	is("the maker's own", 2)

	var all sync.WaitGroup
	for i := range 15 {
		all.Go(func() { f.start(t, map[string]any{"amount": fmt.Sprint(i + 1)}) })
	}
	all.Wait()
	for i := range 15 {
		f.core.call(t, "PATCH", transactionAt(made), fmt.Sprintf(`{"amount":"%d"}`, i+1600))
	}
	is("many", storage.MaxNotices)
	ids := map[string]bool{}
	for _, m := range channel.got() {
		ids[m.ID] = true
	}
	if len(ids) != 2*storage.MaxNotices {
		t.Errorf("%d notices, %d told", len(ids), len(channel.got()))
	}
}

// Nobody is told of what does not wait for them any more when the message would go out.
func TestTransactions_NoticesTooLate(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	made := f.start(t, nil)
	id := uuid.MustParse(made["id"].(string))
	awaited := func(name string, revision int) error {
		_, err := f.s.DB.FindAwaited(t.Context(), storage.ApprovalWanted{TransactionID: id, Revision: revision, CustomerID: f.people[name]})
		return err
	}
	f.approves(t, "first", made)
	for name, want := range map[string]error{"first": storage.ErrNotFound, "second": nil, "maker": storage.ErrNotFound, "rest": storage.ErrNotFound} {
		if err := awaited(name, 1); err != want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	f.mandate.Members = slices.DeleteFunc(f.mandate.Members, func(m storage.MandateMember) bool { return m.CustomerID == f.people["second"] })
	if err := f.s.DB.SaveMandate(t.Context(), &f.mandate); err != nil {
		t.Fatal(err)
	}
	if err := awaited("second", 1); err != storage.ErrNotFound {
		t.Errorf("no member any more: %v", err)
	}
	f.core.call(t, "DELETE", transactionAt(made), "")
	if err := awaited("second", 1); err != storage.ErrNotFound {
		t.Errorf("withdrawn: %v", err)
	}
}
