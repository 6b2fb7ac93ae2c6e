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

func (b *bundle) device(name string) *storage.ApprovalDevice {
	return &storage.ApprovalDevice{
		ID: uuid.NewSHA1(uuid.Nil, []byte(name)), CustomerID: b.customer, ClientID: "app", PublicKey: []byte(`{"kty": "OKP"}`), Name: name,
	}
}

func (b *bundle) deviceLogin(d *storage.ApprovalDevice) storage.DeviceLogin {
	return storage.DeviceLogin{Device: d.ID, Customer: d.CustomerID, ClientID: d.ClientID, ACR: "sca", AMR: []string{"pop", "pin", "mfa"}}
}

func TestAddApprovalDevice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const limit = 3
	first := b.device("first")
	if err := b.AddApprovalDevice(t.Context(), []storage.Use{use("proof")}, first, limit); err != nil || first.CreatedAt.IsZero() {
		t.Fatal(first, err)
	}
	for name, c := range map[string]struct {
		device *storage.ApprovalDevice
		uses   []storage.Use
		want   error
	}{
		"a proof that was used before": {b.device("second"), []storage.Use{use("proof")}, storage.ErrAlreadyUsed},
		"a key that is there":          {b.device("first"), []storage.Use{use("another")}, storage.ErrConflict},
		"a customer who is not there":  {&storage.ApprovalDevice{ID: storage.NewID(), CustomerID: storage.NewID(), PublicKey: []byte(`{}`)}, nil, storage.ErrTooManyDevices},
	} {
		if err := b.AddApprovalDevice(t.Context(), c.uses, c.device, limit); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	var done sync.WaitGroup
	errs := make([]error, 8)
	b.exec(t, `BEGIN`)
	b.exec(t, `SELECT 1 FROM customers FOR UPDATE`) // nobody gets past the customer before all are there
	for i := range errs {
		done.Go(func() { errs[i] = b.AddApprovalDevice(t.Context(), nil, b.device(fmt.Sprint("many ", i)), limit) })
	}
	time.Sleep(200 * time.Millisecond)
	b.exec(t, `COMMIT`)
	done.Wait()
	full := 0
	for _, err := range errs {
		if errors.Is(err, storage.ErrTooManyDevices) {
			full++
		} else if err != nil {
			t.Error(err)
		}
	}
	devices, err := b.ApprovalDevices(t.Context(), b.customer)
	if err != nil || len(devices) != limit || full != len(errs)-limit+1 || devices[0].Name != "first" || string(devices[0].PublicKey) != `{"kty": "OKP"}` {
		t.Errorf("%d devices, %d refused, %v", len(devices), full, err)
	}
	if err := b.RemoveApprovalDevice(t.Context(), storage.NewID(), first.ID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("somebody else removes it: %v", err)
	}
	for _, want := range []error{nil, storage.ErrNotFound} {
		if err := b.RemoveApprovalDevice(t.Context(), b.customer, first.ID); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// A signature decides as a login does, and nothing is left of it, whatever comes of it.
func TestDecideByDevice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := b.device("phone")
	if err := b.AddApprovalDevice(t.Context(), nil, d, 10); err != nil {
		t.Fatal(err)
	}
	login := b.deviceLogin(d)
	q := b.askBackchannel(t, "code", nil, nil)
	yes := storage.Approval{RequestURIHash: q.RequestURIHash, ClientID: "tpp", TokenLifetime: tenMinutes}
	if j, err := b.OpenFor(t.Context(), q.RequestURIHash, b.customer); err != nil || j.ID != q.ID || j.ClientID != "tpp" || j.Login != nil || j.ExpiresAt.IsZero() {
		t.Fatal(j, err)
	}
	if _, err := b.OpenFor(t.Context(), q.RequestURIHash, storage.NewID()); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("somebody else opens it: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*storage.DeviceLogin, *storage.Approval)
		sql    string
		want   error
	}{
		"another device":                 {func(l *storage.DeviceLogin, _ *storage.Approval) { l.Device = storage.NewID() }, "", storage.ErrNoDevice},
		"another customer":               {func(l *storage.DeviceLogin, _ *storage.Approval) { l.Customer = storage.NewID() }, "", storage.ErrNoDevice},
		"another app":                    {func(l *storage.DeviceLogin, _ *storage.Approval) { l.ClientID = "tpp" }, "", storage.ErrNoDevice},
		"an account that is not theirs":  {func(_ *storage.DeviceLogin, y *storage.Approval) { y.AccountIDs = []string{"nobody's"} }, "", storage.ErrNotFound},
		"another client's request":       {func(_ *storage.DeviceLogin, y *storage.Approval) { y.ClientID = "other" }, "", storage.ErrNotFound},
		"an acr that will not do":        {nil, `UPDATE authorizations SET acr_required = 'better'`, storage.ErrNotFound},
		"a customer who is disabled":     {nil, `UPDATE customers SET disabled_at = now()`, storage.ErrNoDevice},
		"a request that has expired":     {nil, `UPDATE authorizations SET expires_at = now()`, storage.ErrNotFound},
		"a request that was decided":     {nil, `UPDATE authorizations SET status = 'denied'`, storage.ErrNotFound},
		"a request that nobody opened":   {nil, `UPDATE authorizations SET opened_at = NULL`, storage.ErrNotFound},
		"a login that is wanted fresher": {nil, `UPDATE authorizations SET authenticated_after = now() + interval '1 minute'`, storage.ErrNotFound},
	} {
		l, y := login, yes
		if c.change != nil {
			c.change(&l, &y)
		}
		if c.sql != "" {
			b.exec(t, c.sql)
		}
		if err := b.ApproveBy(t.Context(), nil, l, y); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if n := b.count(t, `SELECT count(*) FROM logins WHERE amr @> '{pop}'`) + b.count(t, `SELECT count(*) FROM authorizations WHERE status = 'approved'`); n != 0 {
			t.Errorf("%s: something is left of it", name)
		}
		b.exec(t, `UPDATE customers SET disabled_at = NULL`)
		b.exec(t, `UPDATE authorizations SET expires_at = now() + interval '5 minutes', status = 'pending', opened_at = now(), authenticated_after = NULL, acr_required = NULL`)
	}
	if err := b.ApproveBy(t.Context(), []storage.Use{use("jti")}, login, yes); err != nil {
		t.Fatal(err)
	}
	if err := b.DenyBy(t.Context(), []storage.Use{use("jti")}, login, q.RequestURIHash, "tpp"); !errors.Is(err, storage.ErrAlreadyUsed) {
		t.Errorf("a replay: %v", err)
	}
	if err := b.DenyBy(t.Context(), []storage.Use{use("next")}, login, q.RequestURIHash, "tpp"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("after it was decided: %v", err)
	}
	if n := b.count(t, `SELECT count(*) FROM authorizations WHERE status = 'approved' AND customer_id = $1 AND acr = 'sca' AND amr = '{pop,pin,mfa}'`, [16]byte(b.customer)); n != 1 {
		t.Error("not approved")
	}
	if n := b.count(t, `SELECT count(*) FROM logins WHERE amr @> '{pop}'`); n != 0 {
		t.Error("a login is left")
	}
	devices, err := b.ApprovalDevices(t.Context(), b.customer)
	if err != nil || devices[0].LastUsedAt == nil {
		t.Errorf("%v %v", devices, err)
	}
}
