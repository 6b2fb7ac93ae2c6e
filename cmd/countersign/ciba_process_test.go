//go:build linux

package main

import (
	"crypto/tls"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// hearer is a client that is told of outcomes. Its endpoint is out of order until it is repaired.
type hearer struct {
	*caller
	mode      string
	hangs     bool // else it answers with 503
	bearer    string
	authReqID string
	site      *httptest.Server
	repaired  *atomic.Bool

	mu    sync.Mutex
	early []map[string]any // what came before
	late  []map[string]any // what was acknowledged
}

func (s *hearer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	message := map[string]any{}
	body, _ := io.ReadAll(r.Body)
	if json.Unmarshal(body, &message) != nil || r.Header.Get("Authorization") != "Bearer "+s.bearer {
		message = map[string]any{"forged": string(body)}
	}
	delete(message, "expires_in")
	s.mu.Lock()
	repaired := s.repaired.Load()
	if repaired {
		s.late = append(s.late, message)
	} else {
		s.early = append(s.early, message)
	}
	s.mu.Unlock()
	switch {
	case repaired:
		w.WriteHeader(http.StatusNoContent)
	case s.hangs:
		<-r.Context().Done()
	default:
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (s *hearer) heard() (early, late []map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]map[string]any(nil), s.early...), append([]map[string]any(nil), s.late...)
}

// addHearers registers hearers, and lets the servers call them.
func (h *house) addHearers(t *testing.T, repaired *atomic.Bool) (all []*hearer) {
	t.Helper()
	file := filepath.Join(h.dir, "clients.yaml")
	var clients struct {
		Clients []map[string]any `json:"clients"`
	}
	readJSONFile(t, file, &clients)
	for _, mode := range []string{"ping", "push"} {
		for _, hangs := range []bool{false, true} {
			key, err := newKey()
			ok(t, err)
			s := &hearer{caller: &caller{house: h, id: mode, key: key}, mode: mode, hangs: hangs, bearer: randomText(), repaired: repaired}
			if hangs {
				s.id += "-hangs"
			}
			pair, err := h.ca.server(key)
			ok(t, err)
			s.site = httptest.NewUnstartedServer(s)
			s.site.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			s.site.StartTLS()
			t.Cleanup(s.site.Close)
			clients.Clients = append(clients.Clients, map[string]any{
				"client_id": s.id, "profile": "openid", "token_endpoint_auth_method": "private_key_jwt", "scope": "openid accounts offline_access",
				"jwks":          jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: s.id, Algorithm: "ES256", Use: "sig"}}},
				"redirect_uris": []string{houseRedirect}, "resources": []string{houseResource},
				"grant_types":                              []string{"authorization_code", "refresh_token", "urn:openid:params:grant-type:ciba"},
				"backchannel_token_delivery_mode":          mode,
				"backchannel_client_notification_endpoint": s.site.URL + "/ciba",
			})
			all = append(all, s)
		}
	}
	ok(t, writeJSONFile(file, clients))
	settings := map[string]any{}
	readJSONFile(t, h.settings, &settings)
	settings["outbound-ca"], settings["outbound-allow"], settings["log-level"] = []string{h.ca.file}, []string{"127.0.0.0/8"}, "info"
	ok(t, writeJSONFile(h.settings, settings))
	return all
}

func readJSONFile(t *testing.T, name string, content any) {
	t.Helper()
	encoded, err := os.ReadFile(name)
	ok(t, err)
	ok(t, json.Unmarshal(encoded, content))
}

var decideLink = regexp.MustCompile(`href="([^"]*/authorize\?[^"]*)"`)

// approveOf begins a hearer's request, and has alice approve it on the page that lists what waits for her.
func (h *house) approveOf(t *testing.T, at *replica, s *hearer) {
	t.Helper()
	channel, browser := h.browser(nil), h.browser(nil)
	defer channel.CloseIdleConnections()
	defer browser.CloseIdleConnections()
	begun := s.post(channel, at, "/bc-authorize", url.Values{"scope": {"openid accounts offline_access"}, "login_hint": {houseUser}, "client_notification_token": {s.bearer}})
	if s.authReqID = begun.text("auth_req_id"); s.authReqID == "" {
		t.Fatalf("%s: %v", s.id, begun)
	}
	list := do(browser, h.withLogin(t, "https://"+at.public+"/approvals"))
	for _, m := range decideLink.FindAllSubmatch(list.body, -1) {
		to, err := url.Parse(html.UnescapeString(string(m[1])))
		ok(t, err)
		if to.Query().Get("client_id") == s.id {
			page := h.visit(browser, at, s.id, to.Query().Get("request_uri"), h.login)
			if done := do(browser, h.decision(at, page)); done.status >= http.StatusBadRequest {
				t.Fatalf("%s: %v\n%s", s.id, done, page.body)
			}
			return
		}
	}
	t.Fatalf("%s is not on the list: %v\n%s", s.id, list.status, list.body)
}

func (h *house) withLogin(t *testing.T, address string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, address, nil)
	ok(t, err)
	r.AddCookie(h.login)
	return r
}

// kill -9 between a decision and what is told of it: it is told after all, it is the same that was on its way, and once it was
// acknowledged nobody says it again.
func TestProcesses_KilledBeforeTheClientWasTold(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds the binary and runs a Postgres that waits for the disk")
	}
	t.Parallel()
	h := openHouse(t)
	var repaired atomic.Bool
	hearers := h.addHearers(t, &repaired)
	server := h.replicas[0]
	server.start(t)
	h.logIn(t, server)
	for _, s := range hearers {
		h.approveOf(t, server, s)
	}
	last := hearers[len(hearers)-1]
	waitUntil(t, "the last push hangs", 5*time.Second, func() bool { early, _ := last.heard(); return len(early) > 0 })
	server.kill(t)
	killed := time.Now()

	db, err := pgx.Connect(t.Context(), h.database)
	ok(t, err)
	defer db.Close(t.Context())
	waiting := func() (n int) {
		ok(t, db.QueryRow(t.Context(), `SELECT count(*) FROM notifications WHERE kind = 'ciba'`).Scan(&n))
		return n
	}
	if n := waiting(); n != len(hearers) {
		t.Fatalf("%d outcomes are still to be told, want %d", n, len(hearers))
	}
	repaired.Store(true)
	server.start(t)
	waitUntil(t, "everybody was told", 60*time.Second, func() bool { return waiting() == 0 })
	t.Logf("everybody was told %v after the server was killed", time.Since(killed).Round(100*time.Millisecond))
	for range 2 {
		server.kill(t)
		server.start(t)
	}
	time.Sleep(time.Second)
	if text := server.log.String(); strings.Contains(text, "given up") {
		t.Error(text)
	}
	for _, s := range hearers {
		s.judge(t, server)
	}
}

// judge checks what a hearer has heard, and that it is worth something.
func (s *hearer) judge(t *testing.T, at *replica) {
	t.Helper()
	early, late := s.heard()
	if len(late) != 1 || late[0]["auth_req_id"] != s.authReqID {
		t.Fatalf("%s: acknowledged %v", s.id, late)
	}
	for _, message := range early {
		if diff := cmp.Diff(message, late[0]); diff != "" {
			t.Errorf("%s: not what was on its way: %s", s.id, diff)
		}
	}
	channel := at.house.browser(nil)
	defer channel.CloseIdleConnections()
	tokens := late[0]
	if s.mode == "ping" {
		if len(tokens) != 1 {
			t.Errorf("%s: %v", s.id, tokens)
		}
		tokens = s.post(channel, at, "/token", url.Values{"grant_type": {"urn:openid:params:grant-type:ciba"}, "auth_req_id": {s.authReqID}}).json
	}
	access, _ := tokens["access_token"].(string)
	bank := at.house.callers["bank-api"]
	bankChannel := bank.client()
	defer bankChannel.CloseIdleConnections()
	if a := bank.post(bankChannel, at, "/introspect", url.Values{"token": {access}}); a.json["active"] != true {
		t.Errorf("%s: %v", s.id, a)
	}
}
