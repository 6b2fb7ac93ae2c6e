//go:build linux

package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/pquerna/otp/totp"

	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/storage"
)

// guesses is a house under attack by somebody who has all that comes before a secret, and guesses at that at both processes at once.
type guesses struct {
	*house
	t   *testing.T
	db  *storage.DB
	sql *pgx.Conn
	ids map[string]uuid.UUID
}

const (
	guessedAtOnce = 60
	mostVerdicts  = 5 // in a row (RTS (EU) 2018/389 art. 4(3)(b))
	mostMailed    = 10
	mostOfAddress = 150
)

// TestProcesses_Guesses: however many processes are asked at once, as many guesses get a verdict as may, and then the right secret gets
// none either.
func TestProcesses_Guesses(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds the binary and runs a Postgres that waits for the disk")
	}
	t.Parallel()
	h := openHouse(t)
	master := h.set(t, map[string]any{
		"smtp-address": "127.0.0.1:9", "smtp-tls": "none", "smtp-from": "Bank <bank@bank.example>", "fineract-api": true, "transaction-totp": true, "address-attempts": mostOfAddress,
	})
	db, err := (&databaseSettings{DatabaseURL: h.database, MasterKeyFile: master}).open(t.Context())
	ok(t, err)
	t.Cleanup(db.Close)
	conn, err := pgx.Connect(t.Context(), h.database)
	ok(t, err)
	g := &guesses{house: h, t: t, db: db, sql: conn, ids: map[string]uuid.UUID{}}
	for _, name := range []string{"password", "totp", "email", "paper", "fineract", "mailed", "payer"} {
		h.run(t, "customer", "create", "--username", name, "--name", name, "--email", name+"@customer.example", "--email-verified",
			"--password-file", filepath.Join(h.dir, "alice.password"), "--master-key-file", master)
		c, err := db.FindCustomer(t.Context(), "default", name)
		ok(t, err)
		g.ids[name] = c.ID
	}
	for _, name := range []string{"totp", "fineract", "payer"} {
		g.factor(name, storage.TOTP, guessedSecret)
	}
	g.factor("email", storage.EmailFactor, []byte(`{"address":"email@customer.example"}`))
	g.paperCode(onPaper)
	for _, r := range h.replicas {
		r.start(t)
	}
	for name, attack := range map[string]func(){
		"password": g.password, "totp": g.totp, "email code": g.email, "recovery code on paper": g.paper, "recovery code by mail": g.mailed,
		"Fineract's code": g.fineract, "Fineract's app code": g.fineractApp, "transaction": g.transaction, "invitation": g.invitation,
	} {
		t.Run(name, func(t *testing.T) { g.t = t; attack() })
	}
}

var guessedSecret = []byte("09876543210987654321")

// set adds settings, and returns the file of the master key.
func (h *house) set(t *testing.T, more map[string]any) (master string) {
	t.Helper()
	content, err := os.ReadFile(h.settings)
	ok(t, err)
	var settings map[string]any
	ok(t, json.Unmarshal(content, &settings))
	for name, value := range more {
		settings[name] = value
	}
	ok(t, writeJSONFile(h.settings, settings))
	return settings["master-key-file"].(string)
}

func (g *guesses) factor(name, kind string, secret []byte) {
	g.t.Helper()
	id := storage.NewID()
	_, err := g.sql.Exec(g.t.Context(), `INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at) VALUES ($1, $2, $3, $4, now())`,
		[16]byte(id), [16]byte(g.ids[name]), kind, g.db.Keys().Seal("second_factors.secret", id[:], secret))
	ok(g.t, err)
}

const (
	onPaper = "BBBBBCCCCC"
	byMail  = "DDDDDEEEEE"
)

// paperCode gives the customer a recovery code.
func (g *guesses) paperCode(code string) {
	g.factor("paper", storage.RecoveryCodes, nil)
	var id [16]byte
	ok(g.t, g.sql.QueryRow(g.t.Context(), `SELECT id FROM second_factors WHERE customer_id = $1`, [16]byte(g.ids["paper"])).Scan(&id))
	mac := hmac.New(sha256.New, g.db.Keys().Derive("recovery codes"))
	mac.Write(id[:])
	mac.Write([]byte(code))
	secret, err := json.Marshal(map[string][][]byte{"codes": {mac.Sum(nil)}})
	ok(g.t, err)
	_, err = g.sql.Exec(g.t.Context(), `UPDATE second_factors SET secret = $2 WHERE id = $1`, id, g.db.Keys().Seal("second_factors.secret", id[:], secret))
	ok(g.t, err)
}

func (g *guesses) count(sql string, args ...any) (n int) {
	g.t.Helper()
	ok(g.t, g.sql.QueryRow(g.t.Context(), sql, args...).Scan(&n))
	return n
}

// verdicts are those that the customer reads of.
func (g *guesses) verdicts(name string) int {
	g.t.Helper()
	return g.count(`SELECT count(*) FROM events WHERE customer_id = $1 AND kind IN ('login.refused', 'login.blocked', 'recovery.refused')`, [16]byte(g.ids[name]))
}

// browse is a browser with cookies of its own making.
func (g *guesses) post(at *replica, path string, form url.Values, cookies ...*http.Cookie) answer {
	r := formRequest("https://"+at.public+path, form)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	client := g.browser(nil)
	defer client.CloseIdleConnections()
	return do(client, r)
}

func (a answer) cookies() []*http.Cookie { return (&http.Response{Header: a.header}).Cookies() }

// half is a login that lacks the second factor.
func (g *guesses) half(at *replica, name string) []*http.Cookie {
	g.t.Helper()
	a := g.post(at, "/login", url.Values{"username": {name}, "password": {housePassword}})
	if a.status != http.StatusSeeOther {
		g.t.Fatalf("the password: %v", a)
	}
	return a.cookies()
}

// volley guesses at both processes at once. Whoever gets in has found it.
func (g *guesses) volley(guess func(at *replica, i int) answer, in func(answer) bool) {
	g.t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	answers := map[int]int{}
	for i := range guessedAtOnce {
		all.Go(func() {
			a := guess(g.replicas[i%2], i)
			mu.Lock()
			defer mu.Unlock()
			answers[a.status]++
			if in(a) || a.unknown() && a.status != http.StatusServiceUnavailable {
				g.t.Errorf("guess %d: %v", i, a)
			}
		})
	}
	all.Wait()
	g.t.Logf("answers: %v", answers)
}

// late tries what is right, at both.
func (g *guesses) late(right func(at *replica) answer, in func(answer) bool) {
	g.t.Helper()
	for _, at := range g.replicas {
		if a := right(at); in(a) {
			g.t.Errorf("the right one is taken after %d guesses: %v", guessedAtOnce, a)
		}
	}
}

func (g *guesses) atMost(most, got int) {
	g.t.Helper()
	if got > most || got == 0 {
		g.t.Errorf("%d verdicts, want 1 to %d", got, most)
	}
}

func loggedIn(a answer) bool { return a.status == http.StatusSeeOther }

func (g *guesses) password() {
	try := func(password string) func(*replica) answer {
		return func(at *replica) answer {
			return g.post(at, "/login", url.Values{"username": {"password"}, "password": {password}})
		}
	}
	g.volley(func(at *replica, i int) answer { return try(fmt.Sprint("guess number ", i))(at) }, loggedIn)
	g.atMost(mostVerdicts, g.verdicts("password"))
	g.late(try(housePassword), loggedIn)
}

// secondFactor guesses at a factor in two logins, one at each process.
func (g *guesses) secondFactor(name, kind string, begin func(at *replica, login []*http.Cookie), guess func(i int) string, right func() string) {
	logins := map[*replica][]*http.Cookie{}
	for _, at := range g.replicas {
		logins[at] = g.half(at, name)
		begin(at, logins[at])
	}
	try := func(at *replica, code string) answer {
		return g.post(at, "/login/second-factor", url.Values{"kind": {kind}, "code": {code}}, logins[at]...)
	}
	g.volley(func(at *replica, i int) answer { return try(at, guess(i)) }, loggedIn)
	g.atMost(mostVerdicts, g.verdicts(name))
	got := func(a answer) bool { return loggedIn(a) && len(a.cookies()) > 0 }
	g.late(func(at *replica) answer { return try(at, right()) }, got)
	if kind == storage.EmailFactor {
		return // that code is dead
	}
	_, err := g.sql.Exec(g.t.Context(), `DELETE FROM limits WHERE customer_id IS NULL`)
	ok(g.t, err)
	if a := try(g.replicas[0], right()); !got(a) {
		g.t.Errorf("the right one was not right: %v", a)
	}
}

func guessedCode(i int) string { return fmt.Sprintf("0000%02d", i) }

func (g *guesses) appCode() string {
	code, err := totp.GenerateCode(base32.StdEncoding.EncodeToString(guessedSecret), time.Now())
	ok(g.t, err)
	return code
}

func (g *guesses) totp() {
	g.secondFactor("totp", storage.TOTP, func(*replica, []*http.Cookie) {}, guessedCode, g.appCode)
}

// sentCode is the customer's active one, as whoever holds all keys would read it.
func (g *guesses) sentCode(name string) string {
	var id [16]byte
	var sealed []byte
	ok(g.t, g.sql.QueryRow(g.t.Context(), `SELECT id, code FROM one_time_codes WHERE customer_id = $1`, [16]byte(g.ids[name])).Scan(&id, &sealed))
	if sealed == nil {
		return ""
	}
	code, err := g.db.Keys().Open("one_time_codes.code", id[:], sealed)
	ok(g.t, err)
	return string(code)
}

func (g *guesses) email() {
	g.secondFactor("email", storage.EmailFactor, func(at *replica, login []*http.Cookie) {
		if a := g.post(at, "/login/second-factor", url.Values{"kind": {storage.EmailFactor}, "send": {"1"}}, login...); a.status != http.StatusSeeOther {
			g.t.Fatalf("sending: %v", a)
		}
	}, guessedCode, func() string { return g.sentCode("email") })
	// Of two codes the newer is good, and all verdicts may have gone to guesses at the older.
	if n := g.count(`SELECT attempts FROM one_time_codes WHERE customer_id = $1`, [16]byte(g.ids["email"])); n > mostVerdicts {
		g.t.Errorf("%d attempts at the code, want at most %d", n, mostVerdicts)
	}
}

func (g *guesses) paper() {
	g.secondFactor("paper", storage.RecoveryCodes, func(*replica, []*http.Cookie) {}, func(i int) string { return fmt.Sprintf("AAAAA-AAA%02d", i) }, func() string { return onPaper })
}

func (g *guesses) mailed() {
	a := g.post(g.replicas[0], "/recover", url.Values{"username": {"mailed"}})
	if a.status != http.StatusSeeOther || g.count(`SELECT count(*) FROM recoveries WHERE customer_id = $1`, [16]byte(g.ids["mailed"])) != 1 {
		g.t.Fatalf("%v", a)
	}
	var hash []byte
	ok(g.t, g.sql.QueryRow(g.t.Context(), `SELECT hash FROM recoveries WHERE customer_id = $1`, [16]byte(g.ids["mailed"])).Scan(&hash))
	_, err := g.sql.Exec(g.t.Context(), `UPDATE recoveries SET code = $1`, g.db.Keys().Index("recoveries.code", append(hash, byMail...)))
	ok(g.t, err)
	try := func(at *replica, code string) answer {
		return g.post(at, "/recover/code", url.Values{"code": {code}, "password": {"eleven angry geese on ice"}}, a.cookies()...)
	}
	back := func(a answer) bool { return a.status < 400 }
	g.volley(func(at *replica, i int) answer { return try(at, fmt.Sprintf("AAAAA-AAA%02d", i)) }, back)
	g.atMost(mostMailed, g.verdicts("mailed"))
	g.late(func(at *replica) answer { return try(at, byMail) }, back)
	_, err = g.sql.Exec(g.t.Context(), `UPDATE recoveries SET attempts = 0`)
	ok(g.t, err)
	if a := try(g.replicas[0], byMail); !back(a) {
		g.t.Errorf("the right one was not right: %v", a)
	}
}

// fineractCall is a call of Fineract's two-factor API with the password.
func (g *guesses) fineractCall(at *replica, path string) answer {
	r, err := http.NewRequest(http.MethodPost, "https://"+at.public+"/fineract-provider/api/v1/twofactor"+path, nil)
	ok(g.t, err)
	r.Header.Set("Fineract-Platform-TenantId", "default")
	r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("fineract:"+housePassword)))
	client := g.browser(nil)
	defer client.CloseIdleConnections()
	return do(client, r)
}

func (g *guesses) fineractCode(guess func(i int) string, right string) {
	validate := func(at *replica, code string) answer {
		return g.fineractCall(at, "/validate?"+url.Values{"token": {code}}.Encode())
	}
	got := func(a answer) bool { return a.status == http.StatusOK }
	before := g.verdicts("fineract")
	g.volley(func(at *replica, i int) answer { return validate(at, guess(i)) }, got)
	g.atMost(mostVerdicts, g.verdicts("fineract")-before)
	g.late(func(at *replica) answer { return validate(at, right) }, got)
	if n := g.count(`SELECT count(*) FROM fineract_tfa_tokens`); n != 0 {
		g.t.Errorf("%d tokens", n)
	}
}

func (g *guesses) fineract() {
	if a := g.fineractCall(g.replicas[0], "?deliveryMethod=email"); a.status != http.StatusOK {
		g.t.Fatalf("%v", a)
	}
	g.fineractCode(func(i int) string { return fmt.Sprintf("_%04d", i) }, g.sentCode("fineract"))
}

func (g *guesses) fineractApp() { g.fineractCode(guessedCode, g.appCode()) }

var digestField = regexp.MustCompile(`name="digest" value="([^"]*)"`)

func (g *guesses) transaction() {
	login := g.half(g.replicas[0], "payer")
	in := g.post(g.replicas[1], "/login/second-factor", url.Values{"kind": {storage.TOTP}, "code": {g.appCode()}}, login...)
	if !loggedIn(in) {
		g.t.Fatalf("%v", in)
	}
	id, details := storage.NewID(), storage.TransactionDetails{Type: "payment", Amount: "10.00", Currency: "EUR", PayeeName: "Heron", PayeeAccount: "DE02100100109307118603"}
	ok(g.t, consent.CheckDetails(&details))
	_, err := g.db.StartTransaction(g.t.Context(), storage.NewTransaction{ID: id, Tenant: "default", ClientID: "tpp", StartedBy: g.ids["payer"], Details: details,
		Digest: consent.Digest(id, 1, details), RequestHash: id[:], Lifetime: time.Hour, MaxOpen: 5, Every: time.Minute})
	ok(g.t, err)
	path := "/transactions/" + id.String()
	r, err := http.NewRequest(http.MethodGet, "https://"+g.replicas[0].public+path, nil)
	ok(g.t, err)
	for _, c := range in.cookies() {
		r.AddCookie(c)
	}
	page := do(g.browser(nil), r)
	digest := digestField.FindSubmatch(page.body)
	if digest == nil {
		g.t.Fatalf("%v", page)
	}
	var factor [16]byte
	ok(g.t, g.sql.QueryRow(g.t.Context(), `SELECT id FROM second_factors WHERE customer_id = $1`, [16]byte(g.ids["payer"])).Scan(&factor))
	try := func(at *replica, code string) answer {
		return g.post(at, path, url.Values{"do": {"approve"}, "factor": {uuid.UUID(factor).String()}, "digest": {html.UnescapeString(string(digest[1]))}, "code": {code}}, in.cookies()...)
	}
	g.volley(func(at *replica, i int) answer { return try(at, guessedCode(i)) }, loggedIn)
	g.atMost(mostVerdicts, g.count(`SELECT attempts::int FROM limits WHERE bucket = $1`, g.db.BucketKey("transaction code customer", g.ids["payer"].String())))
	g.late(func(at *replica) answer { return try(at, g.appCode()) }, loggedIn)
	if n := g.count(`SELECT count(*) FROM transactions WHERE status <> 'awaiting_approval'`); n != 0 {
		g.t.Error("it is approved")
	}
}

// invitation: its codes are drawn from 50 bits; what is bounded is what one address may try.
func (g *guesses) invitation() {
	said := string(g.run(g.t, "customer", "invite", "--fineract-client-id", "77", "--name", "Invited", "--master-key-file", filepath.Join(g.dir, "master.key")))
	_, code, found := strings.Cut(said, "code ")
	if !found {
		g.t.Fatal(said)
	}
	try := func(at *replica, code string) answer {
		return g.post(at, "/invitation", url.Values{"invitation": {code}})
	}
	taken := func(a answer) bool { return a.status < 400 }
	for range (2*mostOfAddress + guessedAtOnce) / guessedAtOnce {
		g.volley(func(at *replica, i int) answer { return try(at, fmt.Sprintf("AAAAA-AAA%02d", i)) }, taken)
	}
	g.atMost(mostOfAddress, g.count(`SELECT ceil(attempts)::int FROM limits WHERE bucket = $1`, g.db.BucketKey("invitation address", "127.0.0.1")))
	g.late(func(at *replica) answer { return try(at, strings.TrimSpace(code)) }, taken)
	if n := g.count(`SELECT count(*) FROM invitations WHERE used_at IS NOT NULL`); n != 0 {
		g.t.Error("it is used")
	}
}
