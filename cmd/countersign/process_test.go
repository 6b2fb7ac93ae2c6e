//go:build linux

package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestProcesses runs the real binary, twice on one database, and does to it what happens in machine rooms.
func TestProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds the binary and runs a Postgres that waits for the disk")
	}
	t.Parallel()
	h := openHouse(t)
	one, two := h.replicas[0], h.replicas[1]
	one.start(t)
	two.start(t)
	h.logIn(t, one)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *house, *replica, *replica)
	}{
		{"a jti is good once on both", replayOnBoth},
		{"one flow, each step on the other", flowOnBoth},
		{"kill -9 of a server under load", killServer},
		{"SIGTERM drains", drains},
		{"kill -9 of Postgres under load", killPostgres},
	} {
		if !t.Run(test.name, func(t *testing.T) {
			began := time.Now()
			test.run(t, h, one, two)
			t.Logf("took %v", time.Since(began).Round(10*time.Millisecond))
		}) && t.Failed() {
			t.Logf("one said: %s\ntwo said: %s", one.log, two.log)
		}
	}
}

// G4: processes share nothing but the database, so a flow may change between them at every step.
func flowOnBoth(t *testing.T, h *house, one, two *replica) {
	c, bank := h.callers["tpp"], h.callers["bank-api"]
	channel, bankChannel, browser := c.client(), bank.client(), h.browser(nil)
	defer channel.CloseIdleConnections()
	defer bankChannel.CloseIdleConnections()
	defer browser.CloseIdleConnections()
	verifier := randomText() + randomText()
	pushed := c.post(channel, one, "/par", pushForm(verifier))
	page := h.visit(browser, two, c.id, pushed.text("request_uri"), h.login)
	if page.page() != "consent_page" {
		t.Fatalf("pushed to one: %v; at the other: %v", pushed, page)
	}
	left, err := url.Parse(do(browser, h.decision(one, page)).header.Get("Location"))
	if err != nil || left.Query().Get("code") == "" {
		t.Fatalf("the page of one, decided on the other, leads to %v", left)
	}
	tokens := c.post(channel, two, "/token", codeForm(left.Query().Get("code"), verifier))
	access, refresh := tokens.text("access_token"), tokens.text("refresh_token")
	if tokens.status != http.StatusOK || access == "" || refresh == "" {
		t.Fatalf("code exchange: %v", tokens)
	}
	if a := bank.post(bankChannel, one, "/introspect", url.Values{"token": {access}}); a.json["active"] != true {
		t.Errorf("introspection: %v", a)
	}
	if a := c.post(channel, two, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}); a.status != http.StatusOK {
		t.Errorf("refresh: %v", a)
	}
	if a := c.post(channel, one, "/revoke", url.Values{"token": {refresh}}); a.status != http.StatusOK {
		t.Errorf("revocation: %v", a)
	}
	if a := bank.post(bankChannel, two, "/introspect", url.Values{"token": {access}}); a.json["active"] != false {
		t.Errorf("introspection after the revocation: %v", a)
	}
}

// A9, G4: the memory of used assertions is not in a process.
func replayOnBoth(t *testing.T, h *house, one, two *replica) {
	c := h.callers["tpp"]
	client := c.client()
	defer client.CloseIdleConnections()
	for _, order := range [][]*replica{{one, two}, {two, one}} {
		form, _ := c.authenticated(clientCredentialsForm)
		if a := do(client, formRequest("https://"+order[0].mutual+"/token", form)); a.status != http.StatusOK {
			t.Fatalf("first use: %v", a)
		}
		for _, path := range []string{"/token", "/par"} {
			again := pushForm("v")
			again.Set("client_id", c.id)
			again.Set("grant_type", "client_credentials")
			withAssertion(again, form.Get("client_assertion"))
			if a := do(client, formRequest("https://"+order[1].mutual+path, again)); !a.is(http.StatusUnauthorized, "invalid_client") {
				t.Errorf("second use, at the other process's %s: %v", path, a)
			}
		}
	}
	// And if both get it at the same moment, one takes it.
	for range 10 {
		form, _ := c.authenticated(clientCredentialsForm)
		var answers [8]answer
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				answers[i] = do(client, formRequest("https://"+h.replicas[i%2].mutual+"/token", form))
			})
		}
		wg.Wait()
		taken := 0
		for _, a := range answers {
			if a.status == http.StatusOK {
				taken++
			} else if !a.is(http.StatusUnauthorized, "invalid_client") {
				t.Errorf("answered %v", a)
			}
		}
		if taken != 1 {
			t.Errorf("one assertion was taken %d times", taken)
		}
	}
}

// Whatever a client was told before the server died is so afterwards, and nothing is so twice.
func killServer(t *testing.T, h *house, one, two *replica) {
	stop := h.load(one, two)
	var down time.Duration
	for range 3 {
		time.Sleep(700 * time.Millisecond)
		one.kill(t)
		began := time.Now()
		one.start(t)
		down += time.Since(began)
	}
	time.Sleep(500 * time.Millisecond)
	l := stop()
	t.Logf("killed three times under load; ready again after %v on average", (down / 3).Round(time.Millisecond))
	l.busy(t)
	l.holds(t, h, one)
}

// busy fails the test when the load was none.
func (l *told) busy(t *testing.T) {
	t.Helper()
	for _, what := range []string{"client_credentials", "pushed request", "consent page", "decision", "code exchange"} {
		if l.counts[what] < 10 {
			t.Errorf("only %d answers to %s: that is no load", l.counts[what], what)
		}
	}
	if l.counts["unanswered"] == 0 {
		t.Error("every request was answered: nothing was interrupted")
	}
}

// A crash of the database empties the memory of used assertions (docs/decisions/0003): whatever may have been used before
// is refused, from the first request on. All else is durable.
func killPostgres(t *testing.T, h *house, one, two *replica) {
	c := h.callers["tpp"]
	client := c.client()
	defer client.CloseIdleConnections()
	var used []string
	for range 40 {
		form, assertion := c.authenticated(clientCredentialsForm)
		if a := do(client, formRequest("https://"+one.mutual+"/token", form)); a.status != http.StatusOK {
			t.Fatalf("before the crash: %v", a)
		}
		used = append(used, assertion)
	}
	stop := h.load(one, two)
	time.Sleep(time.Second)
	h.killPostgres(t)
	time.Sleep(1100 * time.Millisecond) // connections in the pools are no longer taken for good: the next ones are new

	// Whichever request comes first after the crash, it may be a replay: try without a pause on both servers.
	recovered := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	outcomes := map[string]int{}
	for _, at := range h.replicas {
		wg.Go(func() {
			hammer := c.client()
			defer hammer.CloseIdleConnections()
			for i := 0; ; i++ {
				form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.id}}
				withAssertion(form, used[i%len(used)])
				a := do(hammer, formRequest("https://"+at.mutual+"/token", form))
				mu.Lock()
				outcomes[fmt.Sprint(a.status)+" "+a.text("error")]++
				mu.Unlock()
				select {
				case <-recovered:
					return
				default:
				}
			}
		})
	}
	crashed := time.Now()
	h.startPostgres(t)
	t.Logf("Postgres recovered within %v", time.Since(crashed).Round(time.Millisecond))
	time.Sleep(1200 * time.Millisecond)
	close(recovered)
	wg.Wait()
	t.Logf("replays of assertions that were used before the crash: %v", outcomes)
	if outcomes["200 "] > 0 || outcomes["401 invalid_client"] == 0 {
		t.Errorf("assertions that were used before the crash were taken again: %v", outcomes)
	}
	time.Sleep(time.Second)
	l := stop()
	l.busy(t)
	took := waitUntil(t, "a new assertion is accepted", 20*time.Second, func() bool {
		for _, at := range h.replicas {
			if a := c.post(client, at, "/token", clientCredentialsForm); a.status != http.StatusOK {
				return false
			}
		}
		return true
	})
	t.Logf("new assertions are accepted again after %v more", took.Round(100*time.Millisecond))
	l.holds(t, h, one)
	l.usedUp(t, h, two, append(l.unknown, used...))
}

// docs/operating.md: SIGTERM lets requests that have begun finish.
func drains(t *testing.T, h *house, one, two *replica) {
	c := h.callers["tpp-mtls"]
	client := c.client()
	defer client.CloseIdleConnections()
	l := &told{counts: map[string]int{}}
	uri, verifier := h.push(l, c, client, two)
	page := h.visit(client, two, c.id, uri, h.login)
	if page.page() != "consent_page" {
		t.Fatalf("no consent page: %v", page)
	}
	left, err := url.Parse(do(client, h.decision(two, page)).header.Get("Location"))
	ok(t, err)

	grant, _ := c.authenticated(clientCredentialsForm)
	push, _ := c.authenticated(pushForm(verifier))
	exchange, _ := c.authenticated(codeForm(left.Query().Get("code"), verifier))
	login := url.Values{"username": {houseUser}, "password": {housePassword}}
	inFlight := []*slowRequest{
		beginSlowly(t, h, one.mutual, "/token", grant), beginSlowly(t, h, one.mutual, "/par", push), beginSlowly(t, h, one.mutual, "/token", exchange),
		beginSlowly(t, h, one.public, "/login", login), beginSlowly(t, h, one.public, "/login", login),
	}
	time.Sleep(100 * time.Millisecond) // until the server has read so far
	ok(t, one.process.Process.Signal(syscall.SIGTERM))
	began := time.Now()
	waitUntil(t, "the public listener closes", 5*time.Second, func() bool {
		conn, err := tls.Dial("tcp", one.public, &tls.Config{RootCAs: h.ca.pool()})
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-one.ended:
		t.Fatalf("the server ended with requests in flight: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	wants := []int{http.StatusOK, http.StatusCreated, http.StatusOK, http.StatusSeeOther, http.StatusSeeOther}
	var tokens []string
	for i, r := range inFlight {
		a := r.finish()
		if a.status != wants[i] {
			t.Errorf("a request in flight (%s) was answered %v", r.path, a)
		}
		if token := a.text("access_token"); token != "" {
			tokens = append(tokens, token)
		}
		if uri := a.text("request_uri"); uri != "" {
			if page := h.visit(client, two, c.id, uri, nil); page.page() != "login_page" {
				t.Errorf("what was pushed in the end does not open: %v", page)
			}
		}
	}
	select {
	case err := <-one.ended:
		if err != nil {
			t.Errorf("the server ended with %v\n%s", err, one.log)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the server does not end")
	}
	t.Logf("%d requests in flight were answered; ended %v after SIGTERM", len(inFlight), time.Since(began).Round(10*time.Millisecond))
	bank := h.callers["bank-api"]
	bankClient := bank.client()
	defer bankClient.CloseIdleConnections()
	for _, token := range tokens {
		if a := bank.post(bankClient, two, "/introspect", url.Values{"token": {token}}); a.json["active"] != true {
			t.Errorf("a token of the last moment is not active: %v", a)
		}
	}
	one.start(t)
}

// slowRequest is a request whose second half is still to come.
type slowRequest struct {
	conn       *tls.Conn
	path, rest string
}

func beginSlowly(t *testing.T, h *house, address, path string, form url.Values) *slowRequest {
	t.Helper()
	config := &tls.Config{RootCAs: h.ca.pool(), NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{*h.callers["tpp-mtls"].certificate}}
	conn, err := tls.Dial("tcp", address, config)
	ok(t, err)
	t.Cleanup(func() { conn.Close() })
	body := form.Encode()
	ok(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nSec-Fetch-Site: same-origin\r\nContent-Length: %d\r\n\r\n%s",
		path, address, len(body), body[:len(body)/2])
	ok(t, err)
	return &slowRequest{conn, path, body[len(body)/2:]}
}

func (r *slowRequest) finish() answer {
	if _, err := r.conn.Write([]byte(r.rest)); err != nil {
		return answer{body: []byte(err.Error())}
	}
	response, err := http.ReadResponse(bufio.NewReader(r.conn), nil)
	if err != nil {
		return answer{body: []byte(err.Error())}
	}
	client := &http.Client{Transport: transportOf{response}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return do(client, formRequest("https://in.flight", url.Values{}))
}

// transportOf answers with a response that is there already.
type transportOf struct{ response *http.Response }

func (t transportOf) RoundTrip(*http.Request) (*http.Response, error) { return t.response, nil }
