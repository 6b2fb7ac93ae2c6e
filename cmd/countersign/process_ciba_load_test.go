//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

const (
	loadClients     = 10
	loadConnections = 50 // of all clients, HTTP/2; of those the server lets 250 requests each be under way
	openPerCustomer = 5
	pollEvery       = 5 * time.Second
	measuredFor     = time.Minute
)

// TestCIBALoad measures what is in docs/performance.md: many pending requests that are polled at their interval, then waited for.
func TestCIBALoad(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("COUNTERSIGN_LOAD"))
	if err != nil || n <= 0 {
		t.Skip("COUNTERSIGN_LOAD is not set to a number of pending CIBA requests, such as 10000: this takes five minutes, and the whole machine")
	}
	h := openHouse(t)
	l := h.pollLoad(t, n)
	one := h.replicas[0]
	one.start(t)
	l.begin(t, one)

	l.measure(t, one, "polled every 5 s", func() { t.Logf("answers: %v", l.pollAtInterval(one).of) })

	restart(t, one)
	waiting := l.resident(t, one, indices(n), loadConnections, 2)
	l.measure(t, one, "waited for, 30 s at a time", func() { time.Sleep(measuredFor) })
	t.Logf("resident afterwards: %d MiB", residentKiB(t, one.process.Process.Pid)>>10)
	decided := min(1000, n/2)
	l.decide(t, waiting, decided)
	waiting.end(t, one)

	one.start(t)
	own := decided / loadConnections * loadConnections
	l.resident(t, one, indices(n)[decided:decided+own], own, 1).end(t, one)
}

// resident makes requests wait over a number of connections, and says what that takes.
func (l *pollLoad) resident(t *testing.T, at *replica, requests []int, connections, version int) *waiting {
	t.Helper()
	l.connect(t, at, connections, version)
	pid := at.process.Process.Pid
	before := residentKiB(t, pid)
	w := l.wait(at, requests, 20*time.Second)
	waitUntil(t, "all wait", 2*time.Minute, func() bool { return int(w.begun.Load()) == len(requests) })
	time.Sleep(time.Second)
	after := residentKiB(t, pid)
	t.Logf("resident: %d MiB before, %d MiB with %d waiting over %d connections of HTTP/%d: %.1f KiB each", before>>10, after>>10,
		len(requests), connections, version, float64(after-before)/float64(len(requests)))
	return w
}

// end tells the server to stop: all who wait are answered.
func (w *waiting) end(t *testing.T, at *replica) {
	t.Helper()
	w.stop()
	began := time.Now()
	ok(t, at.process.Process.Signal(syscall.SIGTERM))
	ok(t, <-at.ended)
	ended := time.Since(began)
	w.wg.Wait()
	t.Logf("SIGTERM ended it after %v; answers: %v", ended.Round(time.Millisecond), w.of)
	if w.of["no answer"] > 0 || ended > 10*time.Second {
		t.Error("SIGTERM left polls without an answer, or waited for them")
	}
}

func restart(t *testing.T, r *replica) {
	t.Helper()
	ok(t, r.process.Process.Signal(syscall.SIGTERM))
	ok(t, <-r.ended)
	r.start(t)
}

// pollLoad is a number of pending requests of some clients, for many customers.
type pollLoad struct {
	house       *house
	codes       []string
	callers     []*caller
	connections []*http.Client
	sql         *pgx.Conn
}

// pollLoad makes the clients and the customers.
func (h *house) pollLoad(t *testing.T, n int) *pollLoad {
	t.Helper()
	l := &pollLoad{house: h, codes: make([]string, n)}
	var settings map[string]any
	content, err := os.ReadFile(h.settings)
	ok(t, err)
	ok(t, json.Unmarshal(content, &settings))
	settings["ciba-lifetime"], settings["ciba-max-open"] = "30m", openPerCustomer
	ok(t, writeJSONFile(h.settings, settings))

	var clients []map[string]any
	for i := range loadClients {
		id := fmt.Sprint("till-", i)
		cert, err := h.ca.client(id)
		ok(t, err)
		l.callers = append(l.callers, &caller{house: h, id: id, certificate: &cert})
		clients = append(clients, map[string]any{"client_id": id, "profile": "openid", "token_endpoint_auth_method": "tls_client_auth",
			"tls_client_auth_subject_dn": "CN=" + id + ",O=Countersign demo", "scope": "openid accounts", "grant_types": []string{fapi.GrantCIBA},
			"backchannel_token_delivery_mode": "poll"})
	}
	file := filepath.Join(h.dir, "tills.yaml")
	ok(t, writeJSONFile(file, map[string]any{"clients": clients}))
	h.run(t, "client", "create", file, "--master-key-file", settings["master-key-file"].(string))

	db, err := (&databaseSettings{DatabaseURL: h.database, MasterKeyFile: settings["master-key-file"].(string)}).open(t.Context())
	ok(t, err)
	defer db.Close()
	for i := range (n + openPerCustomer - 1) / openPerCustomer {
		name := fmt.Sprint("customer-", i)
		ok(t, db.CreateCustomer(t.Context(), storage.NewCustomer{ID: storage.NewID(), Tenant: "default", Username: name, Profile: storage.Profile{Username: name}, Roles: []string{"USER"}}))
	}
	l.sql, err = pgx.Connect(t.Context(), h.database)
	ok(t, err)
	t.Cleanup(func() { l.sql.Close(context.Background()) })
	return l
}

// connect makes the connections: of HTTP/2, which carry many requests each, or of HTTP/1.1.
func (l *pollLoad) connect(t *testing.T, at *replica, n, version int) {
	t.Helper()
	for _, c := range l.connections {
		c.CloseIdleConnections()
	}
	l.connections = make([]*http.Client, n)
	eachOf(indices(n), func(i int) {
		config := &tls.Config{RootCAs: l.house.ca.pool(), Certificates: []tls.Certificate{*l.callerOf(i).certificate}}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: version == 2, MaxConnsPerHost: 1}, Timeout: 2 * time.Minute}
		l.connections[i] = client
		response, err := client.Get("https://" + at.mutual + "/livez")
		if err != nil {
			t.Error(err)
			return
		}
		response.Body.Close()
		if response.ProtoMajor != version {
			t.Errorf("HTTP/%d", response.ProtoMajor)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

func (l *pollLoad) callerOf(i int) *caller {
	return l.callers[i%loadConnections*loadClients/loadConnections]
}

func (l *pollLoad) of(i int) (*http.Client, *caller) {
	return l.connections[i%len(l.connections)], l.callerOf(i)
}

// begin makes the requests.
func (l *pollLoad) begin(t *testing.T, at *replica) {
	t.Helper()
	l.connect(t, at, loadConnections, 2)
	began := time.Now()
	eachOf(indices(len(l.codes)), func(i int) {
		connection, c := l.of(i)
		a := c.post(connection, at, "/bc-authorize", url.Values{"scope": {"openid accounts"}, "login_hint": {fmt.Sprint("customer-", i/openPerCustomer)}, "binding_message": {"W4SCT"}})
		if l.codes[i] = a.text("auth_req_id"); l.codes[i] == "" {
			t.Errorf("bc-authorize: %v", a)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("%d requests begun, %.0f a second", len(l.codes), float64(len(l.codes))/time.Since(began).Seconds())
	_, err := l.sql.Exec(t.Context(), `DELETE FROM notifications`) // telling the customers is another measurement
	ok(t, err)
}

func indices(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// poll returns the error of the answer, or "tokens".
func (l *pollLoad) poll(at *replica, i int, prefer string) string {
	connection, c := l.of(i)
	r := formRequest("https://"+at.mutual+"/token", url.Values{"grant_type": {fapi.GrantCIBA}, "auth_req_id": {l.codes[i]}, "client_id": {c.id}})
	if prefer != "" {
		r.Header.Set("Prefer", prefer)
	}
	a := do(connection, r)
	switch {
	case a.status == 0:
		return "no answer"
	case a.status == http.StatusOK:
		return "tokens"
	}
	return a.text("error")
}

// pollAtInterval polls all requests in turn, each as soon as its interval allows.
func (l *pollLoad) pollAtInterval(at *replica) *outcomes {
	const workers = 128
	o := newOutcomes()
	began := time.Now()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			var mine []int
			var next []time.Time
			for i := w; i < len(l.codes); i += workers {
				mine = append(mine, i)
				next = append(next, began.Add(time.Duration(i)*pollEvery/time.Duration(len(l.codes))))
			}
			for len(mine) > 0 {
				for k, i := range mine {
					time.Sleep(time.Until(next[k]))
					if time.Since(began) > measuredFor {
						return
					}
					next[k] = time.Now().Add(pollEvery)
					o.add(l.poll(at, i, ""))
				}
			}
		})
	}
	wg.Wait()
	return o
}

// outcomes are answers by kind.
type outcomes struct {
	mu sync.Mutex
	of map[string]int
}

func newOutcomes() *outcomes { return &outcomes{of: map[string]int{}} }

func (o *outcomes) add(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of[what]++
}

func (o *outcomes) count(what string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.of[what]
}

// waiting are the polls that wait, each again as soon as it was answered.
type waiting struct {
	*outcomes
	wg     sync.WaitGroup
	begun  atomic.Int64
	stop   func()
	denied []time.Time // when the client heard
}

func (l *pollLoad) wait(at *replica, requests []int, ramp time.Duration) *waiting {
	stopping := make(chan struct{})
	w := &waiting{outcomes: newOutcomes(), stop: sync.OnceFunc(func() { close(stopping) }), denied: make([]time.Time, len(l.codes))}
	began := time.Now()
	for k, i := range requests {
		w.wg.Go(func() {
			time.Sleep(time.Until(began.Add(time.Duration(k) * ramp / time.Duration(len(requests)))))
			w.begun.Add(1)
			for {
				outcome := l.poll(at, i, "wait=30")
				w.add(outcome)
				if outcome != string(fapi.AuthorizationPending) {
					w.denied[i] = time.Now()
					return
				}
				select {
				case <-stopping:
					return
				default:
				}
			}
		})
	}
	return w
}

// decide refuses some requests, one after the other, and says how soon their clients knew.
func (l *pollLoad) decide(t *testing.T, w *waiting, n int) {
	t.Helper()
	decided := make([]time.Time, n)
	for i := range n {
		_, err := l.sql.Exec(t.Context(), `UPDATE authorizations SET status = 'denied', decided_at = now() WHERE code_hash = sha256($1)`, []byte(l.codes[i]))
		ok(t, err)
		decided[i] = time.Now()
		time.Sleep(5 * time.Millisecond)
	}
	waitUntil(t, "all have heard", 20*time.Second, func() bool {
		return w.count(string(fapi.AccessDenied)) == n
	})
	time.Sleep(100 * time.Millisecond)
	took := make([]time.Duration, n)
	for i := range n {
		took[i] = max(0, w.denied[i].Sub(decided[i]))
	}
	slices.Sort(took)
	t.Logf("%d decisions, heard after: p50 %v, p99 %v, longest %v", n, took[n/2], took[n*99/100], took[n-1])
}

// measure says what a load costs the server and its database.
func (l *pollLoad) measure(t *testing.T, at *replica, what string, run func()) {
	t.Helper()
	statements := l.statements(t)
	server, postgres, began := cpuOf(t, at.process.Process.Pid), l.house.postgresCPU(t), time.Now()
	run()
	took := time.Since(began).Seconds()
	server, postgres = cpuOf(t, at.process.Process.Pid)-server, l.house.postgresCPU(t)-postgres
	t.Logf("%s: %.0f statements/s, server %.1f %% of a core, Postgres %.1f %%; load average %s", what,
		float64(l.statements(t)-statements)/took, 100*server.Seconds()/took, 100*postgres.Seconds()/took, loadAverage())
}

// statements are the transactions that the database has seen; each poll is one.
func (l *pollLoad) statements(t *testing.T) (n int) {
	t.Helper()
	time.Sleep(1200 * time.Millisecond) // backends report once a second
	ok(t, l.sql.QueryRow(t.Context(), `SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()`).Scan(&n))
	return n
}

func (h *house) postgresCPU(t *testing.T) (sum time.Duration) {
	t.Helper()
	for _, pid := range append(childrenOf(t, h.postgres.PID()), h.postgres.PID()) {
		sum += cpuOf(t, pid)
	}
	return sum
}

// cpuOf is the time that a process has computed, 0 for one that has ended (proc(5)).
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(field)
		ok(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	ok(t, err)
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	ok(t, err)
	return n
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	return strings.TrimSpace(string(text))
}
