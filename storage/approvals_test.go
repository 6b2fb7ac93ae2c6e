package storage_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

// alsoLogin makes another customer, with a login.
func (b *bundle) alsoLogin(t *testing.T, cookie string) (customer uuid.UUID, loginHash []byte) {
	t.Helper()
	customer, loginHash = storage.NewID(), hash(cookie)
	b.exec(t, `INSERT INTO customers (id, tenant, username_index, profile, password_hash) VALUES ($1, 'default', $2, '', '')`, [16]byte(customer), hash("name "+cookie))
	b.exec(t, `INSERT INTO logins (hash, customer_id, auth_time, acr, amr, expires_at) VALUES ($1, $2, now(), 'x', '{pwd}', now() + interval '1 hour')`,
		loginHash, [16]byte(customer))
	return customer, loginHash
}

// What waits for a customer is what is pending, has not expired, is theirs, and comes from nobody whom they do not want.
func TestInbox(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other, _ := b.alsoLogin(t, "bob")
	ask := func(code string, change func(*asking)) uuid.UUID {
		return b.askBackchannel(t, code, nil, func(q *asking) {
			q.MaxOpen, q.Request = 10, []byte(`{"code":"`+code+`"}`)
			if change != nil {
				change(q)
			}
		}).ID
	}
	later := ask("later", nil)
	sooner := ask("sooner", func(q *asking) { q.Lifetime, q.ConsentID = time.Minute, "aac-1" })
	ask("bob's", func(q *asking) { q.Customer.ID = other })
	ask("muted", func(q *asking) { q.ClientID = "noisy" })
	b.exec(t, `INSERT INTO muted_clients (customer_id, client_id, until) VALUES ($1, 'noisy', now() + interval '1 hour'), ($1, 'long ago', now() - interval '1 second')`, [16]byte(b.customer))
	expired, denied := ask("expired", nil), ask("denied", nil)
	b.exec(t, `UPDATE authorizations SET expires_at = now() WHERE id = $1`, [16]byte(expired))
	b.exec(t, `UPDATE authorizations SET status = 'denied' WHERE id = $1`, [16]byte(denied))
	if err := b.push(t, "browser's", ""); err != nil {
		t.Fatal(err)
	}
	if err := b.SavePushSubscription(t.Context(), b.customer, []byte(`{}`), "https://push.example/1"); err != nil {
		t.Fatal(err)
	}

	in, err := b.Inbox(t.Context(), b.customer)
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Waiting) != 2 || in.Waiting[0].ID != sooner || in.Waiting[1].ID != later {
		t.Fatalf("waiting: %+v", in.Waiting)
	}
	first, second := in.Waiting[0], in.Waiting[1]
	if first.Consent == nil || first.Consent.ID != "aac-1" || second.Consent != nil || string(first.Request) != `{"code":"sooner"}` || first.ForCustomer != b.customer ||
		first.ClientID != "tpp" || len(first.Scopes) != 1 || first.ExpiresAt.Sub(first.CreatedAt) != time.Minute {
		t.Errorf("first: %+v", first)
	}
	if len(in.Muted) != 1 || in.Muted[0].ClientID != "noisy" || len(in.Ringing) != 1 || in.HasUserCode {
		t.Errorf("%+v", in)
	}
	if err := errors.Join(b.Unmute(t.Context(), b.customer, "noisy"), b.DropPushSubscriptions(t.Context(), b.customer), b.SetUserCode(t.Context(), b.customer, "1234")); err != nil {
		t.Fatal(err)
	}
	in, err = b.Inbox(t.Context(), b.customer)
	if err != nil || len(in.Waiting) != 3 || len(in.Muted) != 0 || len(in.Ringing) != 0 || !in.HasUserCode {
		t.Errorf("%+v, %v", in, err)
	}
	if _, err := b.Inbox(t.Context(), storage.NewID()); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("nobody's inbox: %v", err)
	}
}

// A report denies, tells the client, rejects the consent, and mutes: for a day at first.
func TestReport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := b.askBackchannel(t, "code", nil, func(q *asking) { q.Notify, q.ConsentID = true, "aac-1" })
	_, bob := b.alsoLogin(t, "bob")
	for name, report := range map[string]func() error{
		"another customer":   func() error { _, err := b.Report(t.Context(), hash("uri code"), "tpp", bob); return err },
		"another client":     func() error { _, err := b.Report(t.Context(), hash("uri code"), "other", b.loginHash); return err },
		"nobody":             func() error { _, err := b.Report(t.Context(), hash("uri code"), "tpp", hash("no login")); return err },
		"an unknown request": func() error { _, err := b.Report(t.Context(), hash("no uri"), "tpp", b.loginHash); return err },
	} {
		if err := report(); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := b.count(t, `SELECT count(*) FROM muted_clients`); n != 0 {
		t.Fatal("a report that is none mutes")
	}
	a, err := b.Report(t.Context(), hash("uri code"), "tpp", b.loginHash)
	if err != nil || a.ID != q.ID || string(a.Request) != "{}" {
		t.Fatalf("%+v, %v", a, err)
	}
	if n := b.count(t, `SELECT count(*) FROM authorizations a JOIN notifications n USING (id) JOIN consents k ON k.id = a.consent_id
		JOIN muted_clients m ON m.customer_id = a.for_customer_id AND m.client_id = a.client_id
		WHERE a.status = 'denied' AND n.due_at <= now() AND k.status = 'Rejected' AND m.until = m.reported_at + interval '1 day'`); n != 1 {
		t.Error("not denied, told, rejected and muted at once")
	}
	if _, err := b.Report(t.Context(), hash("uri code"), "tpp", b.loginHash); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("reported twice: %v", err)
	}
	b.askBackchannel(t, "again", storage.ErrMuted, nil)
}

// Each time that a client is reported again, not long after it could ask again, it is silent for twice as long.
func TestReport_Doubles(t *testing.T) {
	t.Parallel()
	b := setup(t)
	day := 24 * time.Hour
	for i, step := range []struct {
		name  string
		sleep string // after which it is reported
		want  time.Duration
	}{
		{"first", "0", day},
		{"another request of the same night", "-1", day},
		{"a week after", "8 days", 2 * day},
		{"at once when it may ask again", "2 days", 4 * day},
		{"29 days after", "33 days", 8 * day},
		{"again", "8 days", 16 * day},
		{"never more than 30 days", "16 days", 30 * day},
		{"still not", "30 days", 30 * day},
		{"after a long time it begins anew", "61 days", day},
	} {
		muted := step.sleep == "-1" // what it began before it was muted
		if muted {
			step.sleep = "0"
			b.exec(t, `UPDATE muted_clients SET client_id = 'x'`)
		}
		b.exec(t, `UPDATE muted_clients SET reported_at = reported_at - $1::text::interval, until = until - $1::text::interval`, step.sleep)
		code := fmt.Sprint("code ", i)
		b.askBackchannel(t, code, nil, nil)
		if muted {
			b.exec(t, `UPDATE muted_clients SET client_id = 'tpp'`)
		}
		if _, err := b.Report(t.Context(), hash("uri "+code), "tpp", b.loginHash); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		var got time.Duration
		if err := b.sql.QueryRow(t.Context(), `SELECT until - reported_at FROM muted_clients`).Scan(&got); err != nil || got != step.want {
			t.Errorf("%s: muted for %v, want %v; %v", step.name, got, step.want, err)
		}
	}
}

// What no report can be held against any more goes.
func TestPurge_OldReports(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO muted_clients (customer_id, client_id, until) VALUES ($1, 'now', now() + interval '1 hour'),
		($1, 'recent', now() - interval '29 days'), ($1, 'old', now() - interval '31 days')`, [16]byte(b.customer))
	if _, err := b.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := b.count(t, `SELECT count(*) FROM muted_clients WHERE client_id <> 'old'`); n != 2 || b.count(t, `SELECT count(*) FROM muted_clients`) != 2 {
		t.Error("not those that are left")
	}
}

// What waits for nobody in particular is denied and mutes nobody.
func TestReport_OfABrowsersRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.push(t, "uri", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context(), hash("uri"), "tpp", b.loginHash); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Report(t.Context(), hash("uri"), "tpp", b.loginHash); err != nil {
		t.Fatal(err)
	}
	if n := b.count(t, `SELECT (SELECT count(*) FROM authorizations WHERE status = 'denied') * 10 + (SELECT count(*) FROM muted_clients)`); n != 10 {
		t.Errorf("%d", n)
	}
}
