//go:build linux

package main

import (
	"encoding/base32"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pquerna/otp/totp"

	"github.com/countersign/countersign/storage"
)

const loginConnections = 16

// loginLoad is a number of customers who log in once each: their TOTP codes are good once.
type loginLoad struct {
	*house
	at    *replica
	names []string
	half  [][]*http.Cookie
	taken []time.Duration
	codes string
}

// TestLoginLoad measures what is in docs/performance.md: what each step of a login costs.
func TestLoginLoad(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("COUNTERSIGN_LOAD_LOGINS"))
	if err != nil || n <= 0 {
		t.Skip("COUNTERSIGN_LOAD_LOGINS is not set to a number of customers, such as 1000: this takes a minute, and the whole machine")
	}
	l := openLoginLoad(t, n)
	page := l.browser(nil)
	defer page.CloseIdleConnections()
	l.measure(t, "the login page", func(c *http.Client, _ int) int {
		r, _ := http.NewRequest(http.MethodGet, "https://"+l.at.public+"/login", nil)
		return do(c, r).status
	}, http.StatusOK)
	l.measure(t, "password", func(c *http.Client, i int) int {
		a := do(c, formRequest("https://"+l.at.public+"/login", url.Values{"username": {l.names[i]}, "password": {housePassword}}))
		l.half[i] = a.cookies()
		return a.status
	}, http.StatusSeeOther)
	l.codes, err = totp.GenerateCode(base32.StdEncoding.EncodeToString(guessedSecret), time.Now())
	ok(t, err)
	l.measure(t, "second factor (TOTP)", func(c *http.Client, i int) int {
		r := formRequest("https://"+l.at.public+"/login/second-factor", url.Values{"kind": {storage.TOTP}, "code": {l.codes}})
		for _, cookie := range l.half[i] {
			r.AddCookie(cookie)
		}
		return do(c, r).status
	}, http.StatusSeeOther)
	l.measure(t, "a name that is nobody's", func(c *http.Client, i int) int {
		return do(c, formRequest("https://"+l.at.public+"/login", url.Values{"username": {fmt.Sprint("nobody-", i)}, "password": {housePassword}})).status
	}, http.StatusForbidden)
	t.Logf("resident: %d MiB; load average %s", residentKiB(t, l.at.process.Process.Pid)>>10, loadAverage())
}

// openLoginLoad makes the customers, all with the password and the TOTP key of one.
func openLoginLoad(t *testing.T, n int) *loginLoad {
	t.Helper()
	h := openHouse(t)
	master := h.set(t, map[string]any{"address-attempts": 1_000_000, "second-factor": "required"})
	db, err := (&databaseSettings{DatabaseURL: h.database, MasterKeyFile: master}).open(t.Context())
	ok(t, err)
	defer db.Close()
	conn, err := pgx.Connect(t.Context(), h.database)
	ok(t, err)
	defer conn.Close(t.Context())
	var hash string
	ok(t, conn.QueryRow(t.Context(), `SELECT password_hash FROM customers`).Scan(&hash))
	l := &loginLoad{house: h, at: h.replicas[0], half: make([][]*http.Cookie, n)}
	for i := range n {
		name, id, factor := fmt.Sprint("customer-", i), storage.NewID(), storage.NewID()
		ok(t, db.CreateCustomer(t.Context(), storage.NewCustomer{ID: id, Tenant: "default", Username: name, Profile: storage.Profile{Username: name}, PasswordHash: hash}))
		_, err := conn.Exec(t.Context(), `INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at) VALUES ($1, $2, 'totp', $3, now())`,
			[16]byte(factor), [16]byte(id), db.Keys().Seal("second_factors.secret", factor[:], guessedSecret))
		ok(t, err)
		l.names = append(l.names, name)
	}
	l.at.start(t)
	return l
}

// measure has each customer take a step, over some connections, and says what that costs the server and its database.
func (l *loginLoad) measure(t *testing.T, what string, step func(c *http.Client, i int) (status int), want int) {
	t.Helper()
	pid := l.at.process.Process.Pid
	l.taken = make([]time.Duration, len(l.names))
	server, postgres, began := cpuOf(t, pid), l.postgresCPU(t), time.Now()
	var next, wrong atomic.Int64
	var all sync.WaitGroup
	for range loginConnections {
		all.Go(func() {
			c := l.browser(nil)
			defer c.CloseIdleConnections()
			for i := int(next.Add(1)) - 1; i < len(l.names); i = int(next.Add(1)) - 1 {
				at := time.Now()
				if step(c, i) != want {
					wrong.Add(1)
				}
				l.taken[i] = time.Since(at)
			}
		})
	}
	all.Wait()
	n, took := len(l.names), time.Since(began)
	server, postgres = cpuOf(t, pid)-server, l.postgresCPU(t)-postgres
	slices.Sort(l.taken)
	each := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(n) }
	t.Logf("%s: %.0f/s, p50 %v, p99 %v, server %.2f ms each, Postgres %.2f ms each", what, float64(n)/took.Seconds(),
		l.taken[n/2].Round(100*time.Microsecond), l.taken[n*99/100].Round(100*time.Microsecond), each(server), each(postgres))
	if wrong.Load() > 0 {
		t.Errorf("%s: %d of %d were answered otherwise than with %d", what, wrong.Load(), n, want)
	}
}
