package storage_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

// firm is an organization with people, on a database of its own. alice may start; bob, carol and dave may approve.
type firm struct {
	*bundle
	mandate                 storage.Mandate
	alice, bob, carol, dave uuid.UUID
	factors                 map[uuid.UUID]uuid.UUID
}

func newFirm(t *testing.T) *firm {
	t.Helper()
	f := &firm{bundle: setup(t), factors: map[uuid.UUID]uuid.UUID{}}
	f.alice = f.customer
	for i, who := range []*uuid.UUID{&f.bob, &f.carol, &f.dave} {
		*who = storage.NewID()
		f.exec(t, `INSERT INTO customers (id, tenant, username_index, profile, password_hash) VALUES ($1, 'default', $2, $3, '')`,
			[16]byte(*who), []byte{9, byte(i)}, f.Keys().Seal("customers.profile", who[:], fmt.Appendf(nil, `{"username":"person%d"}`, i)))
	}
	for _, who := range []uuid.UUID{f.alice, f.bob, f.carol, f.dave} {
		id := storage.NewID()
		f.factors[who] = id
		f.exec(t, `INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at) VALUES ($1, $2, 'email', '\x01', now())`, [16]byte(id), [16]byte(who))
	}
	f.mandate = storage.Mandate{
		ID: storage.NewID(), Tenant: "default", Name: "Meadow Dairy",
		Tiers: []storage.MandateTier{{Currency: "EUR", UpTo: "1000", Approvals: 1}, {Currency: "EUR", UpTo: "50000.50", Approvals: 2}, {Currency: "KES", Approvals: 1}},
		Members: []storage.MandateMember{
			{CustomerID: f.alice, MayStart: true}, {CustomerID: f.bob, MayApprove: true}, {CustomerID: f.carol, MayApprove: true}, {CustomerID: f.dave, MayStart: true, MayApprove: true},
		},
	}
	f.save(t, nil)
	return f
}

// save changes the mandate.
func (f *firm) save(t *testing.T, change func(*storage.Mandate)) {
	t.Helper()
	if change != nil {
		change(&f.mandate)
	}
	if err := f.SaveMandate(t.Context(), &f.mandate); err != nil {
		t.Fatal(err)
	}
}

func (f *firm) wanting(change func(*storage.NewTransaction)) storage.NewTransaction {
	n := storage.NewTransaction{
		ID: storage.NewID(), Tenant: "default", ClientID: "app", StartedBy: f.alice, MandateID: f.mandate.ID,
		Details:     storage.TransactionDetails{Type: "payment", Amount: "1500", Currency: "EUR", PayeeName: "Acme", PayeeAccount: "DE02"},
		RequestHash: hash("request"), Lifetime: time.Hour, MaxOpen: 50, Every: 6 * time.Minute,
	}
	n.Digest = hash("digest " + n.ID.String())
	if change != nil {
		change(&n)
	}
	return n
}

func (f *firm) start(t *testing.T, change func(*storage.NewTransaction)) *storage.Transaction {
	t.Helper()
	made, err := f.StartTransaction(t.Context(), f.wanting(change))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// code sends one for a digest, and reads it back.
func (f *firm) code(t *testing.T, who uuid.UUID, digest []byte) storage.LinkedCode {
	t.Helper()
	c := storage.OneTimeCode{ID: storage.NewID(), CustomerID: who, Purpose: storage.TransactionPurpose, Binding: digest, Code: "123456"}
	if err := f.SendCode(t.Context(), c, time.Minute, 1000, storage.Message{Channel: "email", To: "x", ExpiresAt: time.Now().Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	return storage.LinkedCode{Factor: &storage.SecondFactor{ID: f.factors[who], Kind: "email"}, Code: &c}
}

// approve has somebody approve with a code of their own for what they were shown.
func (f *firm) approve(t *testing.T, who uuid.UUID, id uuid.UUID, digest []byte) (string, error) {
	t.Helper()
	return f.ApproveTransaction(t.Context(), storage.TransactionDecided{ID: id, Customer: who, Digest: digest}, f.code(t, who, digest))
}

func (f *firm) mustApprove(t *testing.T, who uuid.UUID, made *storage.Transaction, want string) {
	t.Helper()
	if got, err := f.approve(t, who, made.ID, made.Digest); err != nil || got != want {
		t.Fatalf("%q, %v, want %q", got, err, want)
	}
}

func (f *firm) status(t *testing.T, id uuid.UUID, status string, received, required int) {
	t.Helper()
	found, err := f.FindTransaction(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if found.Status != status || found.Received != received || found.Required != required {
		t.Errorf("%s %d/%d, want %s %d/%d", found.Status, found.Received, found.Required, status, received, required)
	}
}

func (f *firm) changed(made *storage.Transaction, amount string) storage.TransactionChange {
	details := made.Details
	details.Amount = amount
	return storage.TransactionChange{ID: made.ID, ClientID: "app", Revision: made.Revision, Details: details, Digest: hash(made.ID.String() + amount), Every: 6 * time.Minute}
}

// D5: two approvers, then once.
func TestTransaction_FromStartToConsumption(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	made := f.start(t, nil)
	f.status(t, made.ID, storage.AwaitingApproval, 0, 2)
	if err := f.ConsumeTransaction(t.Context(), made.ID, "app", made.Digest); err != storage.IsOver {
		t.Errorf("consumed before approval: %v", err)
	}
	f.mustApprove(t, f.bob, made, storage.AwaitingApproval)
	f.status(t, made.ID, storage.AwaitingApproval, 1, 2)
	if err := f.ConsumeTransaction(t.Context(), made.ID, "app", made.Digest); err != storage.IsOver {
		t.Errorf("consumed half approved: %v", err)
	}
	f.mustApprove(t, f.carol, made, storage.ApprovedTransaction)
	f.status(t, made.ID, storage.ApprovedTransaction, 2, 2)
	for name, c := range map[string]struct {
		client string
		digest []byte
		want   error
	}{
		"another client":                {"other", made.Digest, storage.ErrForeign},
		"another amount, another payee": {"app", hash("else"), storage.IsChanged},
		"no digest":                     {"app", []byte{}, storage.IsChanged},
	} {
		if err := f.ConsumeTransaction(t.Context(), made.ID, c.client, c.digest); err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := f.ConsumeTransaction(t.Context(), made.ID, "app", made.Digest); err != nil {
		t.Error(err)
	}
	if err := f.ConsumeTransaction(t.Context(), made.ID, "app", made.Digest); err != storage.IsOver {
		t.Errorf("twice: %v", err)
	}
	if err := f.VoidTransaction(t.Context(), made.ID, "app"); err != storage.IsOver {
		t.Errorf("void after consumption: %v", err)
	}
	f.status(t, made.ID, storage.ConsumedTransaction, 2, 2)
	found, _ := f.FindTransaction(t.Context(), made.ID)
	if len(found.Decisions) != 2 || found.Decisions[0].CustomerID != f.bob || found.Decisions[0].FactorKind != "email" || !found.Decisions[1].Counts || found.Organization != "Meadow Dairy" {
		t.Errorf("%+v", found)
	}
	if n := f.count(t, `SELECT count(*) FROM events WHERE kind IN ('transaction.started', 'transaction.approved')`); n != 3 {
		t.Errorf("%d events", n)
	}
}

func TestTransaction_WhoMayStart(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	for name, c := range map[string]struct {
		change func(*storage.NewTransaction)
		want   error
	}{
		"who may only approve":           {func(n *storage.NewTransaction) { n.StartedBy = f.bob }, storage.NotStarter},
		"nobody":                         {func(n *storage.NewTransaction) { n.StartedBy = storage.NewID() }, storage.ErrNotFound},
		"a customer of another tenant":   {func(n *storage.NewTransaction) { n.Tenant = "other" }, storage.ErrNotFound},
		"no such mandate":                {func(n *storage.NewTransaction) { n.MandateID = storage.NewID() }, storage.NotStarter},
		"an amount above all tiers":      {func(n *storage.NewTransaction) { n.Details.Amount = "50000.51" }, storage.OverLimit},
		"a currency without a tier":      {func(n *storage.NewTransaction) { n.Details.Currency = "USD" }, storage.OverLimit},
		"more than may wait":             {func(n *storage.NewTransaction) { n.MaxOpen = 0 }, storage.TooManyOpen},
		"the highest tier's last amount": {func(n *storage.NewTransaction) { n.Details.Amount = "50000.50" }, nil},
		"a tier without an end":          {func(n *storage.NewTransaction) { n.Details.Currency, n.Details.Amount = "KES", "999999999999999999" }, nil},
		"one's own":                      {func(n *storage.NewTransaction) { n.MandateID = uuid.Nil }, nil},
	} {
		if _, err := f.StartTransaction(t.Context(), f.wanting(c.change)); err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if n := f.count(t, `SELECT count(*) FROM transactions`); n != 3 {
		t.Errorf("%d rows", n)
	}
}

// The same key starts nothing twice, however many come at once; with another request it is refused.
func TestTransaction_IdempotencyKey(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	keyed := func(n *storage.NewTransaction) { n.IdempotencyHash = hash("key") }
	ids := make([]uuid.UUID, 20)
	var wait sync.WaitGroup
	for i := range ids {
		wait.Go(func() {
			if made, err := f.StartTransaction(t.Context(), f.wanting(keyed)); err != nil {
				t.Error(err)
			} else {
				ids[i] = made.ID
			}
		})
	}
	wait.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatal("several were started")
		}
	}
	if n := f.told(t, f.bob); n != 1 {
		t.Errorf("told %d times", n)
	}
	if _, err := f.StartTransaction(t.Context(), f.wanting(func(n *storage.NewTransaction) { keyed(n); n.RequestHash = hash("else") })); err != storage.ErrConflict {
		t.Errorf("another request: %v", err)
	}
	if _, err := f.StartTransaction(t.Context(), f.wanting(func(n *storage.NewTransaction) { keyed(n); n.ClientID = "other" })); err != nil {
		t.Errorf("another client's key: %v", err)
	}
	if made, err := f.StartTransaction(t.Context(), f.wanting(func(n *storage.NewTransaction) { keyed(n); n.MaxOpen = 0 })); err != nil || made.ID != ids[0] {
		t.Errorf("what was started is found when nothing more may be: %v", err)
	}
}

func TestTransaction_WhoMayApprove(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	stranger := storage.NewID()
	f.exec(t, `INSERT INTO customers (id, tenant, username_index, profile, password_hash) VALUES ($1, 'default', '\x77', '', '')`, [16]byte(stranger))
	f.factors[stranger] = storage.NewID()
	f.exec(t, `INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at) VALUES ($1, $2, 'email', '\x01', now())`, [16]byte(f.factors[stranger]), [16]byte(stranger))
	byDave := func(n *storage.NewTransaction) { n.StartedBy = f.dave }
	own := func(n *storage.NewTransaction) { n.MandateID = uuid.Nil }
	for name, c := range map[string]struct {
		start  func(*storage.NewTransaction)
		who    uuid.UUID
		before func(*firm, *storage.Transaction)
		want   error
	}{
		"an approver":               {nil, f.bob, nil, nil},
		"a maker":                   {nil, f.alice, nil, storage.NotApprover},
		"a stranger":                {nil, stranger, nil, storage.ErrForeign},
		"a maker who approves else": {byDave, f.dave, nil, storage.IsOwn},
		"twice":                     {nil, f.bob, func(f *firm, x *storage.Transaction) { f.mustApprove(t, f.bob, x, storage.AwaitingApproval) }, storage.HasDecided},
		"expired": {nil, f.bob, func(f *firm, x *storage.Transaction) {
			f.exec(t, `UPDATE transactions SET expires_at = now() WHERE id = $1`, [16]byte(x.ID))
		}, storage.IsOver},
		"rejected": {nil, f.bob, func(f *firm, x *storage.Transaction) {
			if err := f.RejectTransaction(t.Context(), storage.TransactionDecided{ID: x.ID, Customer: f.carol, Digest: x.Digest}, "no"); err != nil {
				t.Fatal(err)
			}
		}, storage.IsOver},
		"withdrawn": {nil, f.bob, func(f *firm, x *storage.Transaction) {
			if err := f.VoidTransaction(t.Context(), x.ID, "app"); err != nil {
				t.Fatal(err)
			}
		}, storage.IsOver},
		"one's own":                {own, f.alice, nil, nil},
		"somebody else's own":      {own, f.bob, nil, storage.ErrForeign},
		"after one's own approval": {own, f.alice, func(f *firm, x *storage.Transaction) { f.mustApprove(t, f.alice, x, storage.ApprovedTransaction) }, storage.IsOver},
	} {
		t.Run(name, func(t *testing.T) {
			made := f.start(t, c.start)
			if c.before != nil {
				c.before(f, made)
			}
			if _, err := f.approve(t, c.who, made.ID, made.Digest); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	t.Run("disabled", func(t *testing.T) {
		made := f.start(t, nil)
		f.exec(t, `UPDATE customers SET disabled_at = now() WHERE id = $1`, [16]byte(f.bob))
		if _, err := f.approve(t, f.bob, made.ID, made.Digest); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%v", err)
		}
	})
}

// Rights are those of the moment in which somebody approves.
func TestTransaction_MandateChangesMeanwhile(t *testing.T) {
	t.Parallel()
	without := func(who uuid.UUID) func(*storage.Mandate) {
		return func(m *storage.Mandate) {
			var left []storage.MandateMember
			for _, member := range m.Members {
				if member.CustomerID != who {
					left = append(left, member)
				}
			}
			m.Members = left
		}
	}
	for name, c := range map[string]struct {
		change func(*testing.T, *firm)
		status string
		want   error
	}{
		"nothing":                   {func(*testing.T, *firm) {}, storage.ApprovedTransaction, nil},
		"the approver is removed":   {func(t *testing.T, f *firm) { f.save(t, without(f.carol)) }, "", storage.ErrForeign},
		"the one before is removed": {func(t *testing.T, f *firm) { f.save(t, without(f.bob)) }, storage.AwaitingApproval, nil},
		"the tier is removed":       {func(t *testing.T, f *firm) { f.save(t, func(m *storage.Mandate) { m.Tiers = m.Tiers[:1] }) }, "", storage.OverLimit},
		"the tier wants more":       {func(t *testing.T, f *firm) { f.save(t, func(m *storage.Mandate) { m.Tiers[1].Approvals = 3 }) }, storage.AwaitingApproval, nil},
		"the approver only starts": {func(t *testing.T, f *firm) {
			f.save(t, func(m *storage.Mandate) { m.Members[2] = storage.MandateMember{CustomerID: f.carol, MayStart: true} })
		}, "", storage.NotApprover},
		"the mandate is removed": {func(t *testing.T, f *firm) { check(t, f.EndMandate(t.Context(), "default", f.mandate.ID)) }, "", storage.ErrForeign},
		"the one before is disabled": {func(t *testing.T, f *firm) {
			f.exec(t, `UPDATE customers SET disabled_at = now() WHERE id = $1`, [16]byte(f.bob))
		}, storage.AwaitingApproval, nil},
		"the tier wants less":        {func(t *testing.T, f *firm) { f.save(t, func(m *storage.Mandate) { m.Tiers[1].Approvals = 1 }) }, storage.ApprovedTransaction, nil},
		"another tenant's, unharmed": {func(t *testing.T, f *firm) { _ = f.EndMandate(t.Context(), "other", f.mandate.ID) }, storage.ApprovedTransaction, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFirm(t)
			made := f.start(t, nil)
			f.mustApprove(t, f.bob, made, storage.AwaitingApproval)
			c.change(t, f)
			if status, err := f.approve(t, f.carol, made.ID, made.Digest); err != c.want || status != c.status {
				t.Errorf("%q %v, want %q %v", status, err, c.status, c.want)
			}
		})
	}
}

// D5: whether the maker may approve is the mandate's to say, and to take back.
func TestTransaction_OwnApproval(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	own := func(may bool) func(*storage.Mandate) { return func(m *storage.Mandate) { m.OwnApproval = may } }
	f.save(t, own(true))
	made := f.start(t, func(n *storage.NewTransaction) { n.StartedBy = f.dave })
	f.mustApprove(t, f.dave, made, storage.AwaitingApproval)
	f.status(t, made.ID, storage.AwaitingApproval, 1, 2)
	f.save(t, own(false))
	f.status(t, made.ID, storage.AwaitingApproval, 0, 2)
	f.mustApprove(t, f.bob, made, storage.AwaitingApproval)
	f.mustApprove(t, f.carol, made, storage.ApprovedTransaction)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// PSD2 RTS art. 5(1)(d): a changed amount or payee voids what was given for the one before.
func TestTransaction_ChangeVoids(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	made := f.start(t, nil)
	f.mustApprove(t, f.bob, made, storage.AwaitingApproval)
	before := f.code(t, f.carol, made.Digest)
	change := f.changed(made, "1500.01")
	for name, c := range map[string]struct {
		change func(*storage.TransactionChange)
		want   error
	}{
		"another client's":        {func(c *storage.TransactionChange) { c.ClientID = "other" }, storage.ErrForeign},
		"an older revision":       {func(c *storage.TransactionChange) { c.Revision = 0 }, storage.IsChanged},
		"above all tiers":         {func(c *storage.TransactionChange) { c.Details.Amount = "50001" }, storage.OverLimit},
		"currencies do not mix":   {func(c *storage.TransactionChange) { c.Details.Currency = "USD" }, storage.OverLimit},
		"one that does not exist": {func(c *storage.TransactionChange) { c.ID = storage.NewID() }, storage.ErrNotFound},
	} {
		wrong := change
		if c.change(&wrong); !errors.Is(f.ChangeTransaction(t.Context(), wrong), c.want) {
			t.Errorf("%s", name)
		}
	}
	f.status(t, made.ID, storage.AwaitingApproval, 1, 2)
	check(t, f.ChangeTransaction(t.Context(), change))
	f.status(t, made.ID, storage.AwaitingApproval, 0, 2)

	decided := storage.TransactionDecided{ID: made.ID, Customer: f.carol, Digest: made.Digest}
	if _, err := f.ApproveTransaction(t.Context(), decided, before); err != storage.IsChanged {
		t.Errorf("an approval of what it was: %v", err)
	}
	decided.Digest = change.Digest
	if _, err := f.ApproveTransaction(t.Context(), decided, before); err != storage.ErrAlreadyUsed {
		t.Errorf("a code sent before: %v", err)
	}
	made.Digest = change.Digest
	f.mustApprove(t, f.carol, made, storage.AwaitingApproval)
	f.mustApprove(t, f.bob, made, storage.ApprovedTransaction) // again, now this
	if err := f.ChangeTransaction(t.Context(), storage.TransactionChange{ID: made.ID, ClientID: "app", Revision: 2, Details: made.Details, Digest: hash("x")}); err != storage.IsOver {
		t.Errorf("changed after approval: %v", err)
	}
	if err := f.ConsumeTransaction(t.Context(), made.ID, "app", change.Digest); err != nil {
		t.Error(err)
	}
}

// A code is good for one transaction, once, by one person.
func TestTransaction_CodesAreLinked(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	one := f.start(t, nil)
	two := f.start(t, nil) // the same amount, the same payee
	ofOne := f.code(t, f.bob, one.Digest)
	asks := func(x *storage.Transaction, who uuid.UUID, p storage.TransactionProof) error {
		_, err := f.ApproveTransaction(t.Context(), storage.TransactionDecided{ID: x.ID, Customer: who, Digest: x.Digest}, p)
		return err
	}
	if err := asks(two, f.bob, ofOne); err != storage.ErrAlreadyUsed {
		t.Errorf("of A for B: %v", err)
	}
	if err := asks(one, f.carol, ofOne); err != storage.ErrAlreadyUsed {
		t.Errorf("of another person: %v", err)
	}
	f.exec(t, `UPDATE second_factors SET confirmed_at = NULL WHERE customer_id = $1`, [16]byte(f.bob))
	if err := asks(one, f.bob, ofOne); err != storage.ErrAlreadyUsed {
		t.Errorf("of a factor that is none any more: %v", err)
	}
	f.exec(t, `UPDATE second_factors SET confirmed_at = now() WHERE customer_id = $1`, [16]byte(f.bob))
	f.code(t, f.bob, two.Digest) // a new one ends the older
	if err := asks(one, f.bob, ofOne); err != storage.ErrAlreadyUsed {
		t.Errorf("an older one: %v", err)
	}
	ofOne = f.code(t, f.bob, one.Digest)
	f.exec(t, `UPDATE one_time_codes SET purpose = 'login' WHERE customer_id = $1`, [16]byte(f.bob))
	if err := asks(one, f.bob, ofOne); err != storage.ErrAlreadyUsed {
		t.Errorf("of a login: %v", err)
	}
	ofOne = f.code(t, f.bob, one.Digest)
	f.exec(t, `UPDATE one_time_codes SET expires_at = now() WHERE customer_id = $1`, [16]byte(f.bob))
	if err := asks(one, f.bob, ofOne); err != storage.ErrAlreadyUsed {
		t.Errorf("an expired one: %v", err)
	}
	f.status(t, one.ID, storage.AwaitingApproval, 0, 2)
	if err := asks(one, f.bob, f.code(t, f.bob, one.Digest)); err != nil {
		t.Error(err)
	}
}

// 50 at once are one.
func TestTransaction_Races(t *testing.T) {
	t.Parallel()
	const many = 50
	race := func(what string, one func(i int) error) (won int) {
		results := make(chan error, many)
		for i := range many {
			go func() { results <- one(i) }()
		}
		for range many {
			if err := <-results; err == nil {
				won++
			} else if standing := storage.Standing(""); !errors.As(err, &standing) && err != storage.ErrAlreadyUsed {
				t.Errorf("%s: %v", what, err)
			}
		}
		return won
	}
	f := newFirm(t)
	made := f.start(t, nil)
	proof := f.code(t, f.bob, made.Digest)
	if won := race("one approval by one person", func(int) error {
		_, err := f.ApproveTransaction(t.Context(), storage.TransactionDecided{ID: made.ID, Customer: f.bob, Digest: made.Digest}, proof)
		return err
	}); won != 1 {
		t.Errorf("one person approved %d times", won)
	}
	f.status(t, made.ID, storage.AwaitingApproval, 1, 2)
	rest := []uuid.UUID{f.carol, f.dave}
	proofs := []storage.LinkedCode{f.code(t, f.carol, made.Digest), f.code(t, f.dave, made.Digest)}
	if won := race("the last approval, of two who are there", func(i int) error {
		_, err := f.ApproveTransaction(t.Context(), storage.TransactionDecided{ID: made.ID, Customer: rest[i%2], Digest: made.Digest}, proofs[i%2])
		return err
	}); won != 1 {
		t.Errorf("the last approval was given %d times", won)
	}
	f.status(t, made.ID, storage.ApprovedTransaction, 2, 2)
	if won := race("consumption", func(int) error { return f.ConsumeTransaction(t.Context(), made.ID, "app", made.Digest) }); won != 1 {
		t.Errorf("consumed %d times", won)
	}
	made = f.start(t, nil)
	if won := race("a change", func(i int) error { return f.ChangeTransaction(t.Context(), f.changed(made, fmt.Sprint(1+i))) }); won != 1 {
		t.Errorf("changed %d times", won)
	}
	f.mustApprove(t, f.bob, f.find(t, made.ID), storage.ApprovedTransaction) // up to 50: one
	if won := race("consumption or withdrawal", func(i int) error {
		if i%2 == 0 {
			return f.VoidTransaction(t.Context(), made.ID, "app")
		}
		return f.ConsumeTransaction(t.Context(), made.ID, "app", f.find(t, made.ID).Digest)
	}); won != 1 {
		t.Errorf("ended %d times", won)
	}
	if won := race("starting", func(int) error {
		_, err := f.StartTransaction(t.Context(), f.wanting(func(n *storage.NewTransaction) { n.MaxOpen = 3 }))
		return err
	}); won != 3 {
		t.Errorf("%d wait, of at most 3", won)
	}
}

func (f *firm) find(t *testing.T, id uuid.UUID) *storage.Transaction {
	t.Helper()
	found, err := f.FindTransaction(t.Context(), id)
	check(t, err)
	return found
}

// An approval and a change at once: never are two approvals of different revisions added up.
func TestTransaction_ChangeAgainstApproval(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	for range 10 {
		made := f.start(t, nil)
		f.mustApprove(t, f.bob, made, storage.AwaitingApproval)
		proof := f.code(t, f.carol, made.Digest)
		var wait sync.WaitGroup
		var approved, changed error
		wait.Go(func() {
			_, approved = f.ApproveTransaction(t.Context(), storage.TransactionDecided{ID: made.ID, Customer: f.carol, Digest: made.Digest}, proof)
		})
		wait.Go(func() { changed = f.ChangeTransaction(t.Context(), f.changed(made, "2000")) })
		wait.Wait()
		switch {
		case approved == nil && changed == storage.IsOver:
			f.status(t, made.ID, storage.ApprovedTransaction, 2, 2)
		case changed == nil && approved == storage.IsChanged:
			f.status(t, made.ID, storage.AwaitingApproval, 0, 2)
		default:
			t.Fatalf("approved: %v, changed: %v", approved, changed)
		}
	}
}

func TestTransaction_Reject(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	reject := func(x *storage.Transaction, who uuid.UUID) error {
		return f.RejectTransaction(t.Context(), storage.TransactionDecided{ID: x.ID, Customer: who, Digest: x.Digest}, "Not our supplier")
	}
	for name, who := range map[string]uuid.UUID{"an approver": f.bob, "who started it": f.alice} {
		made := f.start(t, nil)
		if err := reject(made, who); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		found := f.find(t, made.ID)
		if found.Status != storage.RejectedTransaction || found.Decisions[0].Reason != "Not our supplier" {
			t.Errorf("%s: %+v", name, found)
		}
		if err := reject(made, f.carol); err != storage.IsOver {
			t.Errorf("%s, then another: %v", name, err)
		}
	}
	made := f.start(t, nil)
	f.mustApprove(t, f.bob, made, storage.AwaitingApproval)
	check(t, reject(made, f.bob)) // who thinks better of it
	made = f.start(t, func(n *storage.NewTransaction) { n.MandateID = uuid.Nil })
	if err := reject(made, f.bob); err != storage.ErrForeign {
		t.Errorf("somebody else's: %v", err)
	}
	changed := *made
	changed.Digest = hash("else")
	if err := reject(&changed, f.alice); err != storage.IsChanged {
		t.Errorf("what is not shown any more: %v", err)
	}
}
