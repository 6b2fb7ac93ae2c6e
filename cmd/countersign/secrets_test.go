//go:build linux

package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// A place is where a secret must not be.
type place struct {
	name    string
	text    []byte
	control string // is there: else nothing was looked at
	but     []string
}

// personal are kinds that are no secrets of the access: the customer's own pages and messages may say them.
var personal = []string{"phone number", "email address", "account", "user name", "subject", "postal address"}

// hashes are stored to be compared with; whoever imports one cannot have it otherwise.
var hashes = []string{"bcrypt hash"}

// TestNothingSecret goes through everything that customers, clients and operators do with secrets, on the real binary, and looks for all of
// them in whatever is left behind.
func TestNothingSecret(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds the binary and runs a Postgres")
	}
	if _, err := exec.LookPath("pg_dump"); err != nil {
		const why = "pg_dump is missing: install Postgres to have its dump searched (Debian: apt-get install postgresql)"
		if os.Getenv("COUNTERSIGN_REQUIRE_CLIENTS") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	t.Parallel()
	began := time.Now()
	v := openVault(t)
	v.at.start(t)
	journeys := func(name string, run func()) {
		at := time.Now()
		run()
		t.Logf("%s: %v", name, time.Since(at).Round(10*time.Millisecond))
	}
	var alice *person
	journeys("second factors", func() { alice = v.secondFactors(t) })
	journeys("own pages", func() { alice.ownPages() })
	journeys("sign-up and recovery", func() { v.signsUp(t) })
	journeys("invitation", func() { v.invited(t) })
	journeys("import", func() { v.imported(t) })
	journeys("clients", func() {
		alice.authorizes(v.api(t, "tpp"))
		alice.signsIn("email", func() string { return alice.mailed(sixDigits) })
		dpop := v.api(t, "app-dpop")
		dpop.proof, _ = newKey()
		alice.authorizes(dpop)
		alice.signsIn("sms", alice.texted)
		v.registers(t, alice)
	})
	journeys("devices", func() { v.devices(t, alice, alice.device) })
	journeys("Fineract", func() { v.fineract(t, alice) })
	journeys("payments", func() { v.pays(t, alice, alice.id, alice.payments) })
	var activity, export []byte
	journeys("activity, export", func() {
		activity = []byte(alice.open("/self/activity").want("self_activity_page").page.body)
		export = []byte(alice.open("/self/data-export").page.body)
	})
	journeys("federation", func() { v.federated(t, alice) })
	journeys("fumbles", func() { v.fumbles(t, alice) })
	v.runs("", false, "doctor", "--config", v.settings)
	metrics := do(v.browser(nil), get(t, "http://"+v.at.health+"/metrics")).body
	v.happened(t)

	places := []place{
		{"the server's log", v.at.log.everything(), alice.id, nil},
		{"the log of the database", v.postgresLog.everything(), lastStatement, hashes},
		{"the database", v.dump(t), alice.id, hashes},
		{"the command line", v.commands.everything(), "lines were refused", nil},
		{"metrics", metrics, "countersign_", nil},
		{"the activity page", activity, "self_activity_page", personal},
		{"the data export", export, alice.id, append([]string{"state", "nonce"}, personal...)},
		{"the webhook", v.hook.everything(), "approval.requested", nil},
	}
	t.Logf("journeys: %v", time.Since(began).Round(time.Millisecond))
	found := v.look(t, places)
	v.lookAtMessages(t)
	v.lookAtAnswers(t)
	if !found {
		v.plant(t)
	}
	t.Logf("%s; all in %v", v.sum(), time.Since(began).Round(time.Second))
}

func get(t *testing.T, address string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, address, nil)
	ok(t, err)
	return r
}

// everything is more than String, which is for people.
func (b *logBuffer) everything() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.all.Bytes())
}

func (b *inbox) everything() (all []byte) {
	for _, m := range b.messages() {
		all = append(append(all, m.text...), '\n')
	}
	return all
}

// lastStatement ends the database's log: all before it is there, too.
const lastStatement = "SELECT 'this was all'"

// happened waits until what was to be sent is sent or given up, and makes sure that the journeys got to where they were to go.
func (v *vault) happened(t *testing.T) {
	t.Helper()
	waitUntil(t, "refused messages are given up", 10*time.Second, func() bool {
		return bytes.Count(v.at.log.everything(), []byte("given up")) >= 3
	})
	db, err := pgx.Connect(t.Context(), v.database)
	ok(t, err)
	defer db.Close(t.Context())
	var kinds []string
	ok(t, db.QueryRow(t.Context(), `SELECT array_agg(DISTINCT kind) FROM events`).Scan(&kinds))
	for _, kind := range []string{
		"login", "factor.added", "password.changed", "password.set", "phone.changed", "profile.changed", "transaction_password.changed", "recovery.begun", "recovery.refused",
		"recovery.completed", "customer.signed_up", "customer.linked", "idp.linked", "fineract.code_requested", "fineract.token_issued", "fineract.token_ended", "data.exported",
	} {
		if !slices.Contains(kinds, kind) {
			t.Errorf("%s has not happened: %v", kind, kinds)
		}
	}
	for what, least := range map[string]int{
		"access token": 8, "refresh token": 3, "ID token": 4, "authorization code": 5, "code verifier": 4, "assertion": 10, "DPoP proof": 5, "client secret": 2, "registration token": 1,
		"device code": 2, "device user code": 2, "auth_req_id": 2, "request_uri": 5, "JARM response": 1, "cookie": 20, "password": 20, "code": 30, "recovery code": 30, "TOTP key": 6,
		"invitation": 4, "basic key": 1, "TFA token": 1, "provider's code": 3, "provider's ID token": 2, "notification token": 1, "phone number": 8, "email address": 8, "account": 5, "user code": 2,
	} {
		if n := len(v.all()) - len(v.all(what)); n < least {
			t.Errorf("only %d times %s", n, what)
		}
	}
	_, err = db.Exec(t.Context(), lastStatement)
	ok(t, err)
	waitUntil(t, "the database has logged all", 5*time.Second, func() bool { return bytes.Contains(v.postgresLog.everything(), []byte(lastStatement)) })
}

func (v *vault) dump(t *testing.T) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("pg_dump", "--dbname", v.database)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v\n%s", err, stderr.Bytes())
	}
	return out
}

func (v *vault) look(t *testing.T, places []place) (found bool) {
	t.Helper()
	for _, p := range places {
		if !bytes.Contains(p.text, []byte(p.control)) {
			t.Errorf("%s does not have %q, which is there always", p.name, p.control)
		}
		for _, f := range newFinder(v.all(p.but...)).find(p.text) {
			t.Errorf("%s: %v", p.name, f)
			found = true
		}
	}
	return found
}

// lookAtMessages finds in a message nothing but what it was sent for.
func (v *vault) lookAtMessages(t *testing.T) {
	t.Helper()
	f := newFinder(v.all("account", "user name")) // a payment's approval names the account; Fineract's mail its user
	codes := 0
	for _, b := range []*inbox{v.mail, v.sms} {
		for _, m := range b.messages() {
			for _, found := range f.find([]byte(m.text)) {
				if found.secret.told == m.id {
					codes++
				} else {
					t.Errorf("a message to %s: %v", m.to, found)
				}
			}
		}
	}
	if codes < 12 {
		t.Errorf("only %d codes were found in messages", codes)
	}
}

// inAddresses may be where a browser is sent: that is how they travel.
var inAddresses = []string{"authorization code", "request_uri", "JARM response", "device user code", "user code", "state", "nonce"}

// lookAtAnswers finds no secret in the address to which a browser is sent, and no password or code in the answer to whoever typed it.
func (v *vault) lookAtAnswers(t *testing.T) {
	t.Helper()
	f := newFinder(v.all(inAddresses...))
	refused := 0
	for _, s := range v.said {
		if strings.HasPrefix(s.url, v.issuer) { // else it is another provider's
			for _, found := range f.find([]byte(s.location)) {
				t.Errorf("%s %.80s leads to %v", s.method, s.url, found)
			}
		}
		if s.status >= http.StatusBadRequest {
			refused++
		}
		for _, typed := range s.typed {
			if len(typed) > 4 && bytes.Contains(s.body, []byte(typed)) {
				t.Errorf("%s %.80s (%d) says %q again", s.method, s.url, s.status, typed)
			}
		}
	}
	if len(v.said) < 300 || refused < 100 {
		t.Errorf("only %d requests, %d refused", len(v.said), refused)
	}
}

// plant shows that what is in the database, however, would have been found.
func (v *vault) plant(t *testing.T) {
	t.Helper()
	db, err := pgx.Connect(t.Context(), v.database)
	ok(t, err)
	defer db.Close(t.Context())
	kinds := map[string]*confidential{}
	for _, s := range v.all() {
		if kinds[s.what] == nil && utf8.ValidString(s.value) && !strings.ContainsAny(s.value, "\x00\"\\\n") && len(s.value) > 4 {
			kinds[s.what] = s
		}
	}
	_, err = db.Exec(t.Context(), `CREATE TABLE planted (plain text, bytes bytea, encoded text)`)
	ok(t, err)
	for _, s := range kinds {
		encoded := base64.StdEncoding.EncodeToString([]byte(`{"is":"` + s.value + `"}`))
		_, err = db.Exec(t.Context(), `INSERT INTO planted VALUES ($1, $2, $3)`, s.value, []byte("x"+s.value), encoded)
		ok(t, err)
	}
	found := map[string]bool{}
	for _, f := range newFinder(v.all()).find(v.dump(t)) {
		form, _, _ := strings.Cut(f.form, " ")
		found[f.secret.what+" "+strings.Replace(form, "base64url", "base64", 1)] = true // one and the same for most
	}
	for what := range kinds {
		for _, form := range []string{"itself", "hex", "base64"} {
			if !found[what+" "+form] {
				t.Errorf("a %s in the database is not found: %s", what, form)
			}
		}
	}
}

// sum counts what was used. Each kind must be there, or the journeys do not do what they say.
func (v *vault) sum() string {
	counts := map[string]int{}
	for _, s := range v.all() {
		counts[s.what]++
	}
	var all []string
	for what, n := range counts {
		all = append(all, fmt.Sprint(what, " ", n))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
