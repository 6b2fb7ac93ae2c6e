package storage_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/storage"
)

// notExported are the tables that are in no customer's export. A new table belongs here, or into storage/data_export.go.
var notExported = map[string]string{
	"deleted_customers":                "of customers who are gone",
	"retained_records":                 "of customers who are gone",
	"sign_ups":                         "of people who are no customers yet; purged when they expire",
	"identity_visits":                  "of a login at another provider that is under way; purged when it expires",
	"mandates":                         "of organizations; who belongs to them is in mandate_members",
	"fineract_twofactor_configuration": "of an institution",
	"clients":                          "of clients", "registrations": "of clients", "registration_tokens": "of clients", "client_logos": "of clients",
	"signing_keys": "ours", "data_keys": "ours", "goose_db_version": "ours",
	"used_jtis": "hashes of what clients used", "replay_memory": "hashes of what clients used", "revoked_tokens": "random numbers",
	"user_code_failures": "counted by network, whoever is there; purged within a day",
}

// noWords are columns of bytes in exported tables that say nothing to a person, or that nobody should have in a file.
var noWords = map[string]string{
	"customers.username_index": "keyed hash", "customers.email_index": "keyed hash", "customers.phone_index": "keyed hash", "customers.user_code_hash": "hash of a secret",
	"invitations.code_index": "keyed hash", "invitations.email_index": "keyed hash", "invitations.phone_index": "keyed hash",
	"second_factors.credential_index": "keyed hash", "identity_links.identity": "keyed hash; what it is made of is in display",
	"recoveries.hash": "hash of a cookie", "recoveries.code": "keyed hash", "recoveries.replaces": "hash", "recoveries.bucket": "keyed hash",
	"recoveries.notice": "the bank's own words", "logins.recovery": "hash of a cookie", "limits.bucket": "keyed hash", "logins.bucket": "keyed hash", "logins.hash": "hash of a cookie", "push_subscriptions.endpoint_hash": "hash; the endpoint is in subscription",
	"authorizations.request_uri_hash": "hash of a secret", "authorizations.code_hash": "hash of a secret", "authorizations.user_code_hash": "hash of a secret",
	"one_time_codes.code": "a secret of the next minutes", "one_time_codes.binding": "hash", "fineract_tfa_tokens.hash": "hash of a secret",
	"transactions.idempotency_hash": "hash", "transactions.request_hash": "hash", "transactions.digest": "hash; what it is made of is in details",
	"transaction_decisions.digest": "hash", "notifications.payload": "what a client is told, with its tokens", "account_deletions.message": "the bank's own words",
}

// staysWithout are the references to customers that are emptied when they go; of all others the row goes.
var staysWithout = map[string]string{
	"transactions.started_by":           "what a bank proves with; who it was is in retained_records",
	"transaction_decisions.customer_id": "the same",
}

func (b *bundle) rows(t *testing.T, sql string, args ...any) [][]string {
	t.Helper()
	rows, err := b.sql.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]string, error) {
		values, err := row.Values()
		texts := make([]string, len(values))
		for i, v := range values {
			texts[i] = fmt.Sprint(v)
		}
		return texts, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// E13: what is about customers is exported, or named above with the reason; and nothing but what is named stays without them.
func TestDataExport_CoversEveryTableAboutCustomers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	held := storage.Held()
	for _, row := range b.rows(t, `SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'`) {
		if (held[row[0]] == nil) == (notExported[row[0]] == "") {
			t.Errorf("%s: either in the data export (storage/data_export.go) or in notExported", row[0])
		}
	}
	for _, row := range b.rows(t, `SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = 'public' AND data_type = 'bytea'`) {
		if table, column := row[0], row[1]; held[table] != nil && (held[table][column] == "opened") == (noWords[table+"."+column] != "") {
			t.Errorf("%s.%s: either opened in the data export or in noWords", table, column)
		}
	}
	for _, row := range b.rows(t, `SELECT table_name::text, column_name::text FROM information_schema.columns
WHERE table_schema = 'public' AND data_type = 'text' AND column_name ~ 'password|secret|hash|token|code'`) {
		if table, column := row[0], row[1]; held[table] != nil && held[table][column] != "kept back" {
			t.Errorf("%s.%s: it sounds secret, and is handed out", table, column)
		}
	}
	for _, row := range b.rows(t, `
SELECT k.conrelid::regclass::text, a.attname::text, k.confdeltype::text FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
WHERE k.contype = 'f' AND k.confrelid = 'customers'::regclass`) {
		if column := row[0] + "." + row[1]; (row[2] == "c") == (staysWithout[column] != "") {
			t.Errorf("%s: what becomes of it when the customer is deleted? ON DELETE %q", column, row[2])
		}
	}
}

const aliceID = "0190c5a4-6f2e-7c31-a5d0-4b9f2a7de311"

// full gives the customer something in many tables.
func (b *bundle) full(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	b.approved(t, "uri", "aac-1", "code")
	b.halfLogin(t, "half")
	f, err := b.BeginFactor(ctx, b.customer, hash("half"), storage.TOTP, []byte("JBSWY3DPEHPK3PXP"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.CompleteLogin(ctx, storage.CountedCode{Factor: f, Step: 5}, complete("half", "whole")); err != nil {
		t.Fatal(err)
	}
	email := storage.NewID()
	b.exec(t, `INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at) VALUES ($1, $2, 'email', $3, now())`, [16]byte(email), [16]byte(b.customer),
		b.Keys().Seal("second_factors.secret", email[:], []byte(`{"address":"alice@factor.example"}`)))
	if err := b.AddEvent(ctx, storage.Event{CustomerID: b.customer, Kind: "login", Visit: storage.Visit{Address: "203.0.113.7"}}); err != nil {
		t.Fatal(err)
	}
	c := storage.OneTimeCode{ID: storage.NewID(), CustomerID: b.customer, Purpose: "login", Binding: []byte("x"), Code: "918273"}
	if err := b.SendCode(ctx, c, time.Minute, 3, storage.Message{Channel: "email", To: "alice@x.example"}); err != nil {
		t.Fatal(err)
	}
	if err := b.SavePushSubscription(ctx, b.customer, []byte(`{"endpoint":"https://push.example/1"}`), "https://push.example/1"); err != nil {
		t.Fatal(err)
	}
	b.exec(t, `INSERT INTO approval_devices (id, customer_id, client_id, public_key, name) VALUES (gen_random_uuid(), $1, 'app', '{}', 'Pixel')`, [16]byte(b.customer))
	b.exec(t, `INSERT INTO muted_clients (customer_id, client_id, until) VALUES ($1, 'spam', now() + interval '1 day')`, [16]byte(b.customer))
	b.exec(t, `UPDATE customers SET password_hash = '$argon2id$secret' WHERE id = $1`, [16]byte(b.customer))
}

func TestDataExport_OpensWhatIsSealedAndKeepsSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.full(t)
	data, err := b.ExportData(t.Context(), b.customer, storage.Event{Kind: "data.exported"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, want := range []string{"Alice Doe", "Savings", "203.0.113.7", "alice@factor.example", "Pixel", "spam", "https://push.example/1", "aac-1", `"kind":"totp"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, secret := range []string{"argon2id", "JBSWY3DPEHPK3PXP", "918273", `\\x`, "code_hash", "username_index"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in it", secret)
		}
	}
	if n := len(data["events"]); n == 0 {
		t.Error("no events")
	}
	if got := b.rows(t, `SELECT count(*) FROM events WHERE kind = 'data.exported'`); got[0][0] != "1" {
		t.Errorf("%v events of the export", got)
	}
	if _, err := b.ExportData(t.Context(), storage.NewID(), storage.Event{Kind: "data.exported"}); err == nil {
		t.Error("somebody unknown was exported")
	}
}

// traces are the tables in which a customer's id stands anywhere.
func (b *bundle) traces(t *testing.T, id uuid.UUID) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, table := range b.rows(t, `SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'`) {
		n := b.rows(t, fmt.Sprintf(`SELECT count(*) FROM %s t WHERE t::text LIKE '%%%s%%'`, pgx.Identifier{table[0]}.Sanitize(), id))[0][0]
		if n != "0" {
			found[table[0]] = n
		}
	}
	return found
}

func (b *bundle) requestDeletion(t *testing.T, wait time.Duration) error {
	t.Helper()
	return b.RequestDeletion(t.Context(), wait, 24*time.Hour, storage.Farewell{Subject: "gone", Text: "gone"},
		storage.Event{CustomerID: b.customer, Kind: "deletion.requested"}, &storage.Message{Channel: "email", To: "a@b.example"})
}

func TestDeletion_WaitsAndCanBeCancelled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.requestDeletion(t, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := b.requestDeletion(t, 0); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a second request: %v", err)
	}
	if n, err := b.DeleteDue(t.Context(), 10); n != 0 || err != nil {
		t.Errorf("deleted %d before it was due, %v", n, err)
	}
	e := storage.Event{CustomerID: b.customer, Kind: "deletion.cancelled"}
	if err := b.CancelDeletion(t.Context(), e, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.CancelDeletion(t.Context(), e, nil); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("cancelled twice: %v", err)
	}
	if got := b.rows(t, `SELECT count(*) FILTER (WHERE kind = 'deletion.requested'), count(*) FILTER (WHERE kind = 'deletion.cancelled') FROM events`); got[0][0] != "1" || got[0][1] != "1" {
		t.Errorf("events %v", got)
	}
	if got := b.rows(t, `SELECT count(*) FROM notifications WHERE kind = 'message'`); got[0][0] != "1" {
		t.Errorf("%v messages", got)
	}
}

func TestDeletion_LeavesWhatMustBeKeptAndNothingElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.full(t)
	b.listening(t, "tpp")
	b.exec(t, `UPDATE customers SET profile = $2 WHERE id = $1`, [16]byte(b.customer), b.Keys().Seal("customers.profile", b.customer[:], []byte(`{"username":"alice","email":"alice@mail.example"}`)))
	other := storage.NewID()
	b.exec(t, `INSERT INTO customers (id, tenant, username_index, profile, password_hash) VALUES ($1, 'default', '\x02', $2, '')`, [16]byte(other),
		b.Keys().Seal("customers.profile", other[:], []byte(`{"username":"bob"}`)))
	if err := b.AddEvent(t.Context(), storage.Event{CustomerID: other, Kind: "login"}); err != nil {
		t.Fatal(err)
	}
	before := b.traces(t, other)
	backup := b.rows(t, `SELECT encode(profile, 'hex') FROM customers WHERE id = $1`, [16]byte(b.customer))[0][0]
	if err := b.requestDeletion(t, 0); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	var total [4]int64
	for i := range total { // as several replicas do
		wait.Go(func() { total[i], _ = b.DeleteDue(t.Context(), 10) })
	}
	wait.Wait()
	if n := total[0] + total[1] + total[2] + total[3]; n != 1 {
		t.Errorf("deleted %d times", n)
	}

	left := b.traces(t, b.customer)
	for table := range left {
		if table != "retained_records" && table != "deleted_customers" && table != "notifications" {
			t.Errorf("%s still names the customer", table)
		}
	}
	if left["deleted_customers"] != "1" {
		t.Error("no tombstone")
	}
	if got := b.rows(t, `SELECT count(*) FROM notifications WHERE kind = 'logout'`); got[0][0] != "1" {
		t.Errorf("%v clients are told", got)
	}
	if after := b.traces(t, other); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("of another customer there is %v, not %v", after, before)
	}
	kept, err := b.RetainedRecords(t.Context(), b.customer)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, r := range kept {
		kinds[r.Kind]++
		if r.FineractClientID == nil || *r.FineractClientID != 7 || r.Record["customer_id"] != nil {
			t.Errorf("%+v", r)
		}
	}
	if kinds["grants"] != 1 || kinds["consents"] != 1 {
		t.Errorf("kept %v", kinds)
	}
	messages := b.messages(t)
	if len(messages) != 3 || messages[2].To != "alice@mail.example" || messages[2].Subject != "gone" {
		t.Errorf("messages %+v", messages)
	}

	// Whoever comes back with a backup goes again.
	b.exec(t, `INSERT INTO customers (id, tenant, username_index, profile, password_hash) VALUES ($1, 'default', '\x01', decode($2, 'hex'), '')`, [16]byte(b.customer), backup)
	if _, err := b.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.rows(t, `SELECT count(*) FROM customers WHERE id = $1`, [16]byte(b.customer)); got[0][0] != "0" {
		t.Error("a deleted customer came back")
	}
	b.exec(t, `UPDATE retained_records SET retained_until = now() - interval '1 second'`)
	if _, err := b.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kept, _ := b.RetainedRecords(t.Context(), b.customer); len(kept) != 0 {
		t.Errorf("kept for longer: %+v", kept)
	}
}

func (b *bundle) messages(t *testing.T) (all []storage.Message) {
	t.Helper()
	taken, err := b.TakeNotifications(t.Context(), 100, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range taken {
		if n.Kind == storage.MessageNotification {
			m, err := b.Message(n)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, m)
		}
	}
	return all
}

// E14: one session ends, or all others; clients are told; another customer's stay.
func TestEndSession_OnlyOnesOwnAndClientsAreTold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.listening(t, "tpp")
	mine := b.sessionOf(t, "cookie")
	b.halfLogin(t, "phone")
	phone := b.sessionOf(t, "phone")
	b.approvedIn(t, "tpp", phone)
	e := storage.Event{CustomerID: b.customer, Kind: "session.ended"}
	stranger := storage.Event{CustomerID: uuid.MustParse(aliceID), Kind: "session.ended"}
	if err := b.EndSession(t.Context(), phone, stranger); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("another customer ended it: %v", err)
	}
	if err := b.EndOtherSessions(t.Context(), hash("gone"), e); err != nil {
		t.Fatal(err)
	}
	if b.sessionOf(t, "phone") != phone || b.sessionOf(t, "cookie") != mine {
		t.Error("a login that is gone ended others")
	}
	if err := b.EndOtherSessions(t.Context(), b.loginHash, e); err != nil {
		t.Fatal(err)
	}
	if _, err := b.FindLogin(t.Context(), hash("phone")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the other login lives: %v", err)
	}
	if told := b.told(t); told["tpp"] != phone || len(told) != 1 {
		t.Errorf("told %v", told)
	}
	d, err := b.ListDevices(t.Context(), b.customer, b.loginHash)
	if err != nil || len(d.Sessions) != 1 || !d.Sessions[0].This || d.Sessions[0].ID != mine {
		t.Errorf("%+v, %v", d, err)
	}
	if err := b.EndSession(t.Context(), mine, e); err != nil {
		t.Fatal(err)
	}
	if err := b.EndSession(t.Context(), mine, e); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("ended twice: %v", err)
	}
	if got := b.rows(t, `SELECT count(*) FROM events WHERE kind = 'session.ended'`); got[0][0] != "2" {
		t.Errorf("%v events", got)
	}
}

// However many are removed at once, one stays.
func TestRemoveFactor_TheLastOneStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := []uuid.UUID{storage.NewID(), storage.NewID(), storage.NewID()}
	for i, kind := range []string{"totp", "sms", "recovery_codes"} {
		b.exec(t, `INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at) VALUES ($1, $2, $3, '', now())`, [16]byte(ids[i]), [16]byte(b.customer), kind)
	}
	e := storage.Event{CustomerID: b.customer, Kind: "factor.removed", Details: map[string]any{"factor": "totp"}}
	if err := b.RemoveFactor(t.Context(), ids[0], true, storage.WaysIn{Password: true}, storage.Event{CustomerID: uuid.MustParse(aliceID)}, nil); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("another customer removed it: %v", err)
	}
	// Both are under way before either is done: somebody else holds the rows, then lets go.
	hold, err := b.sql.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hold.Exec(t.Context(), `SELECT 1 FROM second_factors WHERE customer_id = $1 FOR UPDATE`, [16]byte(b.customer)); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		wait.Go(func() { errs[i] = b.RemoveFactor(t.Context(), ids[i], false, storage.WaysIn{Password: true}, e, nil) })
	}
	time.Sleep(100 * time.Millisecond)
	if err := hold.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("%v", errs)
	}
	if err := b.RemoveFactor(t.Context(), ids[2], false, storage.WaysIn{Password: true}, e, nil); err != nil {
		t.Errorf("recovery codes: %v", err)
	}
	if got := b.rows(t, `SELECT count(*) FROM second_factors`); got[0][0] != "1" {
		t.Errorf("%v left", got)
	}
	if got := b.rows(t, `SELECT count(*) FROM events WHERE kind = 'factor.removed'`); got[0][0] != "2" {
		t.Errorf("%v events", got)
	}
}

// A profile that has changed since it was read is not overwritten, and a code proves one address once, whoever else has it.
func TestUpdateProfile_OfTwoAtOnceOneWins(t *testing.T) {
	t.Parallel()
	b := setup(t)
	read, err := b.CustomerByID(t.Context(), b.customer)
	if err != nil {
		t.Fatal(err)
	}
	e := storage.Event{CustomerID: b.customer, Kind: "profile.changed"}
	if err := b.UpdateProfile(t.Context(), &read.Customer, storage.Profile{Username: "alice", Name: "First"}, e, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.UpdateProfile(t.Context(), &read.Customer, storage.Profile{Username: "alice", Name: "Second"}, e, nil); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("what somebody else saved was overwritten: %v", err)
	}
	c := storage.OneTimeCode{ID: storage.NewID(), CustomerID: b.customer, Purpose: "email", Binding: []byte("x"), Code: "918273"}
	if err := b.SendCode(t.Context(), c, time.Minute, 3, storage.Message{Channel: "email", To: "alice@x.example"}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, storage.ErrNotFound} {
		if read, err = b.CustomerByID(t.Context(), b.customer); err != nil {
			t.Fatal(err)
		}
		if err := b.UpdateContact(t.Context(), &read.Customer, storage.Profile{Username: "alice", Email: fmt.Sprintf("a%d@x.example", i)}, &c, e, nil); !errors.Is(err, want) {
			t.Errorf("the code, for the %d. time: %v, want %v", i+1, err, want)
		}
	}
}
