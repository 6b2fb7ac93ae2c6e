package consent

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/storage"
)

// D6: approvers at once, on two servers over one database: exactly as many count as are needed, each once, and one outcome.
func TestTransaction_ApproversRaceOnTwoServers(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authn.Transactions{}, TransactionLimits{MaxOpen: 100, Notices: 10000})
	other, _ := f.open(authn.Transactions{}, TransactionLimits{})
	people := []string{"bob", "carol", "dave"}
	visitors := map[string][]*visitor{}
	for _, name := range people {
		visitors[name] = []*visitor{f.browserAt(f.branch, name), f.browserAt(other, name)}
	}
	for round := range 30 {
		m := f.start(nil)
		var wait sync.WaitGroup
		answers := make(chan shown, 4*len(people))
		codes := map[string]string{}
		for _, name := range people {
			codes[name] = visitors[name][0].code(visitors[name][round%2].show(m.ID), m.ID)
		}
		for name, code := range codes {
			for i := range 4 { // each presses twice on each server
				wait.Go(func() { answers <- visitors[name][i%2].type_(m.ID, m.Digest, code) })
			}
		}
		wait.Wait()
		close(answers)
		approved := 0
		for p := range answers {
			switch {
			case p.StatusCode == http.StatusSeeOther && strings.HasSuffix(p.Header.Get("Location"), "?approved"):
				approved++
			case p.StatusCode == http.StatusSeeOther, p.StatusCode == http.StatusForbidden, p.StatusCode == http.StatusConflict:
			default:
				t.Errorf("round %d: %d %q", round, p.StatusCode, p.problem())
			}
		}
		if approved != 2 {
			t.Errorf("round %d: %d were told that they have approved it", round, approved)
		}
		f.is(m.ID, storage.ApprovedTransaction, 2, 2)
		if n := f.count(`SELECT count(*) FROM transaction_decisions WHERE transaction_id = $1`, [16]byte(m.ID)); n != 2 {
			t.Errorf("round %d: %d decisions", round, n)
		}
		f.races(t, other, m)
		f.exec(`DELETE FROM limits`)
	}
	if n := f.count(`SELECT count(*) FROM events WHERE kind = 'transaction.approved'`); n != 60 {
		t.Errorf("%d events of 60 approvals", n)
	}
	if len(f.failed) > 0 {
		t.Error(f.failed)
	}
}

// races lets both servers consume a transaction that was approved.
func (f *firm) races(t *testing.T, other *branch, m made) {
	t.Helper()
	var wait sync.WaitGroup
	statuses := make(chan int, 6)
	for i := range cap(statuses) {
		b := []*branch{f.branch, other}[i%2]
		wait.Go(func() {
			statuses <- b.api(t, "POST", transactionAPI2(m.ID)+"/consume", `{"digest":"`+m.Digest+`"}`).StatusCode
		})
	}
	wait.Wait()
	close(statuses)
	consumed := 0
	for status := range statuses {
		switch status {
		case http.StatusOK:
			consumed++
		case http.StatusConflict:
		default:
			t.Errorf("consuming answered %d", status)
		}
	}
	if consumed != 1 {
		t.Errorf("consumed %d times", consumed)
	}
}

// The mandate as it is counts: of those who have approved already, and of those who are about to.
func TestTransaction_MandateChangesWhileItWaits(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authn.Transactions{})
	bob, carol, dave, eve := f.browser("bob"), f.browser("carol"), f.browser("dave"), f.browser("eve")
	m := f.start(nil)
	bob.approves(m.ID).leads(t, m.ID, "?approved")
	p := carol.show(m.ID)
	code := carol.code(p, m.ID)

	f.save(func(s *storage.Mandate) { // neither bob nor carol any more, but eve
		s.Members = []storage.MandateMember{
			{CustomerID: f.people["alice"], MayStart: true}, {CustomerID: f.people["dave"], MayApprove: true}, {CustomerID: f.people["eve"], MayApprove: true},
		}
	})
	f.is(m.ID, storage.AwaitingApproval, 0, 2)
	if got := carol.type_(m.ID, p.digest(), code); got.StatusCode != http.StatusNotFound {
		t.Errorf("who is no member any more: %d", got.StatusCode)
	}
	if got := bob.show(m.ID); got.StatusCode != http.StatusNotFound {
		t.Errorf("who is no member any more sees it: %d", got.StatusCode)
	}
	if got := eve.show(m.ID); !got.has("send_button") || !strings.Contains(got.body, "class=\"void\"") || !strings.Contains(got.body, "0 of 2 approvals") {
		t.Errorf("who is a member now: %s", got.body)
	}
	eve.approves(m.ID).leads(t, m.ID, "?approved")
	f.is(m.ID, storage.AwaitingApproval, 1, 2)

	f.save(func(s *storage.Mandate) { s.Tiers[1].Approvals = 3 })
	dave.approves(m.ID).leads(t, m.ID, "?approved")
	f.is(m.ID, storage.AwaitingApproval, 2, 3) // two were enough when it was started
	f.save(func(s *storage.Mandate) {
		s.Members = append(s.Members, storage.MandateMember{CustomerID: f.people["carol"], MayApprove: true})
		s.Tiers[1].UpTo = "1499"
	})
	if got := carol.show(m.ID); !got.has("why") || got.has("send_button") {
		t.Errorf("above the tiers: %s", got.body)
	}
	f.save(func(s *storage.Mandate) { s.Tiers[1].UpTo = "50000" })
	carol.approves(m.ID).leads(t, m.ID, "?approved")
	f.is(m.ID, storage.ApprovedTransaction, 3, 3)

	m = f.start(nil)
	p = carol.show(m.ID)
	code = carol.code(p, m.ID)
	if err := f.db.EndMandate(t.Context(), "default", f.mandate.ID); err != nil {
		t.Fatal(err)
	}
	if got := carol.type_(m.ID, p.digest(), code); got.StatusCode != http.StatusNotFound {
		t.Errorf("the mandate has ended: %d", got.StatusCode)
	}
	f.is(m.ID, storage.AwaitingApproval, 0, 3)
}
