package authz_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// delivery is what arrived at a client's notification endpoint.
type delivery struct {
	method, target      string
	bearer, contentType string
	certificates        int
	body                []byte
}

// fields are the members of the message.
func (d delivery) fields(t *testing.T) map[string]any {
	t.Helper()
	all := map[string]any{}
	if err := json.Unmarshal(d.body, &all); err != nil {
		t.Fatalf("%v: %s", err, d.body)
	}
	return all
}

// mailbox is a client's notification endpoint. It keeps what arrives, and answers as its test says, by default with 204.
type mailbox struct {
	mu     sync.Mutex
	all    []delivery
	answer func(nth int, w http.ResponseWriter, r *http.Request)
}

func (x *mailbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	token, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !isBearer || len(r.Header["Authorization"]) != 1 {
		token = "not a bearer token"
	}
	x.mu.Lock()
	x.all = append(x.all, delivery{r.Method, r.URL.String(), token, r.Header.Get("Content-Type"), len(r.TLS.PeerCertificates), body})
	n, answer := len(x.all), x.answer
	x.mu.Unlock()
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer(n, w, r)
}

func (x *mailbox) arrived() []delivery {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.all)
}

// arrives waits for the nth delivery.
func (x *mailbox) arrives(t *testing.T, n int) delivery {
	t.Helper()
	soon(t, fmt.Sprintf("delivery %d", n), func() bool { return len(x.arrived()) >= n })
	return x.arrived()[n-1]
}

func answering(status int) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

const notificationToken = "secret-8d67dc78-7faa-4d41-aabd-67707b374255~_.+/=="

// addNotified registers a client that is told of outcomes at an address.
func addNotified(t *testing.T, s *authztest.Server, id string, mode fapi.DeliveryMode, address string, more map[string]any) *authztest.Client {
	t.Helper()
	all := map[string]any{"backchannel_client_notification_endpoint": address}
	for name, value := range more {
		all[name] = value
	}
	return addBackchannel(t, s, id, fapi.ClientSecretBasic, mode, all)
}

func beginNotified(t *testing.T, c *authztest.Client) backchannelRequest {
	t.Helper()
	return beginBackchannel(t, c, url.Values{"client_notification_token": {notificationToken}})
}

// untold counts the outcomes that are still to be told.
func untold(t *testing.T, s *authztest.Server) int {
	t.Helper()
	return s.Count(t, "SELECT count(*) FROM notifications WHERE kind = 'ciba'")
}

// settled waits until nothing is to be told any more.
func settled(t *testing.T, s *authztest.Server) {
	t.Helper()
	soon(t, "nothing is to be told", func() bool { return untold(t, s) == 0 })
}

// failed waits for the end of an attempt that is not the last, and checks when the next one is due.
func failed(t *testing.T, s *authztest.Server, attempt int, again time.Duration) {
	t.Helper()
	soon(t, fmt.Sprintf("attempt %d has failed, the next one is due after %v", attempt, again), func() bool {
		return s.Count(t, `SELECT count(*) FROM notifications WHERE kind = 'ciba' AND attempts = $1
			AND due_at BETWEEN now() + $2::float8 * interval '1 second' AND now() + $3::float8 * interval '1 second'`, attempt, again.Seconds()-4, again.Seconds()) == 1
	})
}

// tryAgain makes the attempt after that many due at once. A row whose attempt still runs may look as if it waited: it is made
// due until somebody takes it.
func tryAgain(t *testing.T, s *authztest.Server, attempts int) {
	t.Helper()
	soon(t, fmt.Sprintf("attempt %d begins", attempts+1), func() bool {
		s.SQL(t, "UPDATE notifications SET due_at = now() WHERE kind = 'ciba' AND attempts = $1", attempts)
		return s.Count(t, "SELECT count(*) FROM notifications WHERE kind = 'ciba' AND attempts = $1", attempts) == 0
	})
}

// overdue lets a request expire.
func overdue(t *testing.T, s *authztest.Server, b backchannelRequest) {
	t.Helper()
	id := authorizationOf(t, s, b)
	s.SQL(t, "UPDATE authorizations SET expires_at = now(), code_expires_at = now() WHERE id = $1", [16]byte(id))
	s.SQL(t, "UPDATE notifications SET due_at = now() WHERE id = $1", [16]byte(id))
}

var outcomeRetries = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute}

// CIBA Core §10.2, as the conformance suite looks at it: one ping after a decision, with the request's id and nothing else.
func TestPing_AfterEitherDecision(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for decision, want := range map[string]fapi.Code{"approve": "", "deny": fapi.AccessDenied} {
		t.Run("CIBA-11: "+decision, func(t *testing.T) {
			x := &mailbox{}
			c := addNotified(t, s, "ping-"+decision, fapi.Ping, s.Site(t, x)+"/notify?kept=1", nil)
			b := beginNotified(t, c)
			time.Sleep(50 * time.Millisecond)
			if n := len(x.arrived()); n != 0 {
				t.Fatalf("%d pings before the decision", n)
			}
			decideBackchannel(t, s, c, b, decision)
			d := x.arrives(t, 1)
			wantBody, _ := json.Marshal(map[string]string{"auth_req_id": b.authReqID})
			if d.method != http.MethodPost || d.target != "/notify?kept=1" || d.bearer != notificationToken || d.contentType != "application/json" || !bytes.Equal(d.body, wantBody) {
				t.Errorf("%+v %s", d, d.body)
			}
			if d.certificates != 0 {
				t.Error("shows a certificate that nobody asked for")
			}
			settled(t, s)
			answer := pollBackchannel(t, c, b)
			if want != "" {
				answer.Refused(t, http.StatusBadRequest, want)
			} else if answer.Status != http.StatusOK || answer.JSON["access_token"] == nil {
				t.Errorf("CIBA-13: %d %s", answer.Status, answer.Body)
			}
			if claims := answer.JSON["id_token"]; claims != nil {
				if c := idClaims(t, answer.JSON); c["urn:openid:params:jwt:claim:auth_req_id"] != nil || c["urn:openid:params:jwt:claim:rt_hash"] != nil {
					t.Errorf("claims of a push in what was fetched: %v", c)
				}
			}
			if n := len(x.arrived()); n != 1 {
				t.Errorf("%d pings", n)
			}
		})
	}
}

// A client knows when its request expires, without being told.
func TestPing_NoneWhenNobodyDecides(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	x := &mailbox{}
	c := addNotified(t, s, "pinged", fapi.Ping, s.Site(t, x), nil)
	b := beginNotified(t, c)
	overdue(t, s, b)
	settled(t, s)
	if s.Count(t, "SELECT count(*) FROM authorizations WHERE status = 'expired'") != 1 {
		t.Error("not expired")
	}
	pollBackchannel(t, c, b).Refused(t, http.StatusBadRequest, fapi.ExpiredToken)
	if n := len(x.arrived()); n != 0 {
		t.Errorf("%d pings", n)
	}
}

// CIBA Core §10.2: whatever the endpoint answers, the client can ask for the tokens.
func TestPing_Answers(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	elsewhere := &mailbox{}
	target := s.Site(t, elsewhere)
	for name, test := range map[string]struct {
		answer  func(int, http.ResponseWriter, *http.Request)
		retried bool
	}{
		"204": {answering(204), false},
		"200": {answering(200), false},
		"202": {answering(202), false},
		"200 with a body": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, strings.Repeat(`{"error":"invalid_request"}`, 10000))
		}, false},
		"400": {answering(400), false},
		"401": {answering(401), false},
		"403": {answering(403), false},
		"404": {answering(404), false},
		"408": {answering(408), false},
		"429": {answering(429), false},
		"304": {answering(304), false},
		"307": {func(_ int, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target, http.StatusTemporaryRedirect)
		}, false},
		"302":       {func(_ int, w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, http.StatusFound) }, false},
		"500":       {answering(500), true},
		"503":       {answering(503), true},
		"no answer": {func(int, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, true},
	} {
		t.Run("CIBA-12: "+name, func(t *testing.T) {
			x := &mailbox{answer: test.answer}
			c := addNotified(t, s, "answers-"+strings.ReplaceAll(name, " ", "-"), fapi.Ping, s.Site(t, x), nil)
			b := beginNotified(t, c)
			decideBackchannel(t, s, c, b, "approve")
			x.arrives(t, 1)
			if test.retried {
				failed(t, s, 1, outcomeRetries[0])
				tryAgain(t, s, 1)
				x.arrives(t, 2)
				failed(t, s, 2, outcomeRetries[1])
			} else {
				settled(t, s)
			}
			if answer := pollBackchannel(t, c, b); answer.Status != http.StatusOK {
				t.Errorf("the tokens: %d %s", answer.Status, answer.Body)
			}
			if test.retried { // what was fetched needs no ping
				tryAgain(t, s, 2)
				settled(t, s)
			}
			want := 1
			if test.retried {
				want = 2
			}
			if n := len(x.arrived()); n != want {
				t.Errorf("%d pings, want %d", n, want)
			}
		})
	}
	if n := len(elsewhere.arrived()); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestPing_RetriesABoundedNumberOfTimes(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	x := &mailbox{answer: answering(503)}
	c := addNotified(t, s, "pinged", fapi.Ping, s.Site(t, x), nil)
	b := beginNotified(t, c)
	decideBackchannel(t, s, c, b, "approve")
	for i, again := range outcomeRetries {
		failed(t, s, i+1, again)
		tryAgain(t, s, i+1)
	}
	settled(t, s)
	if n := len(x.arrived()); n != 4 {
		t.Errorf("CIBA-12: %d pings, want 4", n)
	}
	for _, d := range x.arrived()[1:] {
		if diff := cmp.Diff(x.arrived()[0].fields(t), d.fields(t)); diff != "" {
			t.Error(diff)
		}
	}
	if answer := pollBackchannel(t, c, b); answer.Status != http.StatusOK {
		t.Errorf("what was not announced cannot be fetched: %d %s", answer.Status, answer.Body)
	}
}

// There is nothing to ask for any more: nobody is told to.
func TestPing_NoneOnceThereIsNothingToFetch(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	x := &mailbox{answer: answering(503)}
	c := addNotified(t, s, "pinged", fapi.Ping, s.Site(t, x), nil)
	b := beginNotified(t, c)
	decideBackchannel(t, s, c, b, "approve")
	failed(t, s, 1, outcomeRetries[0])
	overdue(t, s, b)
	settled(t, s)
	if n := len(x.arrived()); n != 1 {
		t.Errorf("%d pings", n)
	}
}

// Whoever is disabled is told nothing, and may be back in time.
func TestPing_ADisabledClient(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	x := &mailbox{answer: answering(503)}
	c := addNotified(t, s, "pinged", fapi.Ping, s.Site(t, x), nil)
	b := beginNotified(t, c)
	decideBackchannel(t, s, c, b, "approve")
	failed(t, s, 1, outcomeRetries[0])
	if err := s.DB.DisableClient(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	soon(t, "the server has heard of it", func() bool { return c.Post(t, "/token", nil).Status == http.StatusUnauthorized })
	tryAgain(t, s, 1)
	failed(t, s, 2, outcomeRetries[1])
	if n := len(x.arrived()); n != 1 {
		t.Errorf("%d pings", n)
	}
	if err := s.DB.EnableClient(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	soon(t, "the client is back", func() bool { return c.Post(t, "/token", nil).Status == http.StatusBadRequest })
	tryAgain(t, s, 2)
	x.arrives(t, 2)
}

// A client may ask who calls; then the server shows its certificate, or does not call.
func TestPing_MutualTLS(t *testing.T) {
	t.Parallel()
	known := authztest.Start(t)
	unknown := authztest.Start(t, authztest.Options{Anonymous: true})
	asks := map[string]any{"backchannel_client_notification_mtls": true}
	for name, test := range map[string]struct {
		s       *authztest.Server
		more    map[string]any
		answer  func(int, http.ResponseWriter, *http.Request)
		arrives bool
		settles bool
	}{
		"registered":                               {known, asks, nil, true, true},
		"registered, answers with 401":             {known, asks, answering(401), true, true}, // CB: …-and-require-server-does-not-retry
		"asked for, but not registered":            {known, nil, nil, false, false},
		"registered, and there is none to show":    {unknown, asks, nil, false, false},
		"neither registered nor there to be shown": {unknown, nil, nil, false, false},
	} {
		t.Run("CIBA-12: "+name, func(t *testing.T) {
			x := &mailbox{answer: test.answer}
			c := addNotified(t, test.s, "closed-"+fmt.Sprint(len(name)), fapi.Ping, test.s.ClosedSite(t, x), test.more)
			b := beginNotified(t, c)
			decideBackchannel(t, test.s, c, b, "approve")
			if test.settles {
				settled(t, test.s)
			} else {
				failed(t, test.s, 1, outcomeRetries[0])
				test.s.SQL(t, "DELETE FROM notifications WHERE kind = 'ciba'")
			}
			all := x.arrived()
			if (len(all) == 1) != test.arrives || len(all) > 1 {
				t.Fatalf("%d pings", len(all))
			}
			if test.arrives && all[0].certificates != 1 {
				t.Errorf("%d certificates", all[0].certificates)
			}
			if answer := pollBackchannel(t, c, b); answer.Status != http.StatusOK {
				t.Errorf("the tokens: %d %s", answer.Status, answer.Body)
			}
		})
	}
}
