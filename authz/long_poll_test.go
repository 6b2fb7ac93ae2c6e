package authz_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authz"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// longPoll is a poll that is under way.
type longPoll struct {
	began  time.Time
	answer chan *authztest.Answer // nil: it was given up
	giveUp context.CancelFunc
}

// startLongPoll polls at a server that need not be the client's own, with Prefer headers.
func startLongPoll(t *testing.T, c *authztest.Client, at *authztest.Server, form url.Values, prefer ...string) *longPoll {
	t.Helper()
	ctx, giveUp := context.WithCancel(t.Context())
	p := &longPoll{time.Now(), make(chan *authztest.Answer, 1), giveUp}
	r := postRequest(t, at.Issuer+"/token", c.Authenticated(t, form)).WithContext(ctx)
	r.Header["Prefer"] = prefer
	if c.Method == fapi.ClientSecretBasic {
		r.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret))
	}
	go func() {
		defer close(p.answer)
		if response, err := c.HTTP().Do(r); err == nil {
			p.answer <- readAnswer(t, response)
		}
	}()
	return p
}

func readAnswer(t *testing.T, response *http.Response) *authztest.Answer {
	return authztest.Do(t, &http.Client{Transport: answered{response}}, &http.Request{URL: &url.URL{Scheme: "https", Host: "answered"}})
}

// answered is a transport whose answer is there.
type answered struct{ response *http.Response }

func (a answered) RoundTrip(*http.Request) (*http.Response, error) { return a.response, nil }

// end returns the answer, which must come within that time from now.
func (p *longPoll) end(t *testing.T, within time.Duration) *authztest.Answer {
	t.Helper()
	select {
	case a := <-p.answer:
		if a == nil {
			t.Fatal("no answer")
		}
		return a
	case <-time.After(within):
		p.giveUp()
		t.Fatalf("no answer within %v", within)
	}
	return nil
}

func (p *longPoll) waits(t *testing.T) {
	t.Helper()
	select {
	case a := <-p.answer:
		t.Fatalf("does not wait: %+v", a)
	case <-time.After(100 * time.Millisecond):
	}
}

// pending checks an answer without an outcome, that was waited for or not.
func pending(t *testing.T, a *authztest.Answer, waited bool) {
	t.Helper()
	a.Refused(t, http.StatusBadRequest, fapi.AuthorizationPending)
	if applied := a.Header.Get("Preference-Applied"); (applied == "wait") != waited || !waited && applied != "" {
		t.Errorf("Preference-Applied %q", applied)
	}
}

// isWaiting returns once so many wait, and have looked.
func isWaiting(t *testing.T, s *authztest.Server, n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	soon(t, fmt.Sprint(n, " polls wait"), func() bool {
		var unseen int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM authorizations WHERE status = 'pending' AND last_polled_at IS NULL`).Scan(&unseen); err != nil {
			t.Fatal(err)
		}
		return s.Waiting() == n && unseen == 0
	})
}

// stopRunning is what happens when the server is told to stop.
func stopRunning(t *testing.T, s *authztest.Server) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s.Run(ctx)
}

// polls counts the statements of polls since the last reset.
func polls(s *authztest.Server) (n int) {
	for _, sql := range s.Trace.SQL() {
		if strings.Contains(sql, "SET last_polled_at") {
			n++
		}
	}
	return n
}

// waitingTwins are two servers, and a client that both know.
func waitingTwins(t *testing.T, method fapi.AuthMethod) (one, two *authztest.Server, c *authztest.Client) {
	t.Helper()
	one, two = twins(t, authztest.Options{})
	c = addBackchannel(t, one, "speaker", method, fapi.Poll, nil)
	soon(t, "the twin knows the client", func() bool {
		return startLongPoll(t, c, two, backchannelPoll(backchannelRequest{authReqID: "x"})).end(t, 10*time.Second).JSON["error"] == "invalid_grant"
	})
	return one, two, c
}

// CIBA Core §7.3, §10.1: an answer that comes once there is something to say, wherever that was decided.
func TestLongPoll_Outcomes(t *testing.T) {
	t.Parallel()
	one, two, c := waitingTwins(t, fapi.PrivateKeyJWT)
	for _, test := range []struct {
		name    string
		prefer  string
		happens func(*testing.T, backchannelRequest)
		within  time.Duration // from what happens
		code    fapi.Code
		polls   int
	}{
		{"approved at the other replica", "wait=20", func(t *testing.T, b backchannelRequest) { decideBackchannel(t, two, c, b, "approve") }, time.Second, "", 2},
		{"refused at the other replica", "wait=20", func(t *testing.T, b backchannelRequest) { decideBackchannel(t, two, c, b, "deny") }, time.Second, fapi.AccessDenied, 2},
		{"approved here", "respond-async, WAIT = 20; x=y", func(t *testing.T, b backchannelRequest) { decideBackchannel(t, one, c, b, "approve") }, time.Second, "", 2},
		{"nothing in time", "wait=1", func(*testing.T, backchannelRequest) {}, 4 * time.Second, fapi.AuthorizationPending, 1},
		{"expires", "wait=20", nil, 5 * time.Second, fapi.ExpiredToken, 2},
		{"the client is disabled", "wait=20", func(t *testing.T, b backchannelRequest) {
			one.DisableClient(t, c.ID)
			one.SQL(t, `UPDATE authorizations SET status = 'denied', decided_at = now() WHERE status = 'pending'`)
		}, time.Second, fapi.InvalidClient, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := beginBackchannel(t, c, nil)
			if test.happens == nil {
				one.SQL(t, `UPDATE authorizations SET code_expires_at = now() + interval '1500 milliseconds', expires_at = now() + interval '1500 milliseconds' WHERE status = 'pending'`)
			}
			one.Trace.Reset()
			p := startLongPoll(t, c, one, backchannelPoll(b), test.prefer)
			isWaiting(t, one, 1)
			if test.happens != nil {
				test.happens(t, b)
			}
			a := p.end(t, test.within)
			took := time.Since(p.began)
			switch test.code {
			case "":
				if a.Status != http.StatusOK || a.JSON["id_token"] == nil || a.JSON["refresh_token"] == nil {
					t.Errorf("%d %s", a.Status, a.Body)
				}
			case fapi.InvalidClient:
				a.Refused(t, http.StatusUnauthorized, test.code)
			default:
				a.Refused(t, http.StatusBadRequest, test.code)
			}
			if a.Header.Get("Preference-Applied") != "wait" {
				t.Errorf("Preference-Applied %q", a.Header.Get("Preference-Applied"))
			}
			if n := polls(one); n != test.polls {
				t.Errorf("%d statements, want %d", n, test.polls)
			}
			if test.code == fapi.AuthorizationPending && took < time.Second || test.code == fapi.ExpiredToken && took < 1200*time.Millisecond {
				t.Errorf("answered after %v", took)
			}
			if test.code == fapi.ExpiredToken && statusOf(t, one, b) != "expired" {
				t.Errorf("the request is %s", statusOf(t, one, b))
			}
			isWaiting(t, one, 0)
			one.SQL(t, `UPDATE authorizations SET status = 'denied', decided_at = now() WHERE status = 'pending'`)
		})
	}
}

func statusOf(t *testing.T, s *authztest.Server, b backchannelRequest) (status string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), `SELECT status FROM authorizations WHERE code_hash = $1`, engine.CodeHash(b.authReqID)).Scan(&status); err != nil {
		t.Fatal(err)
	}
	return status
}

// RFC 7240 §2, §4.3: what a client prefers, and what is not understood.
func TestLongPoll_Preference(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		prefer []string
		want   time.Duration
	}{
		{nil, 0},
		{[]string{"wait=10"}, 10 * time.Second},
		{[]string{"Wait=10"}, 10 * time.Second},
		{[]string{"wait = 10"}, 10 * time.Second},
		{[]string{"respond-async,wait=10 ; a=b, lenient"}, 10 * time.Second},
		{[]string{"respond-async", "wait=10"}, 10 * time.Second},
		{[]string{`foo="a, wait=1", wait=10`}, 10 * time.Second},
		{[]string{`foo="a\", wait=1", wait=10`}, 10 * time.Second},
		{[]string{`foo; bar="x, wait=1"`, `wait=10`}, 10 * time.Second},
		{[]string{"wait=10, wait=20"}, 10 * time.Second},
		{[]string{"wait=x, wait=20"}, 0},
		{[]string{"wait=31"}, 30 * time.Second},
		{[]string{"wait=99999999999999999999999"}, 30 * time.Second},
		{[]string{"wait=0"}, 0},
		{[]string{"wait"}, 0},
		{[]string{"wait="}, 0},
		{[]string{"wait=-1"}, 0},
		{[]string{"wait=+1"}, 0},
		{[]string{"wait=1.5"}, 0},
		{[]string{"wait=1s"}, 0},
		{[]string{"wait=0x10"}, 0},
		{[]string{"wait=1_0"}, 0},
		{[]string{`wait="10"`}, 0},
		{[]string{"awaits=10, x-wait=10"}, 0},
		{[]string{"", ",,", `"`, `"wait=10`}, 0},
	} {
		if got := authz.PreferredWait(test.prefer...); got != test.want {
			t.Errorf("%q: %v, want %v", test.prefer, got, test.want)
		}
	}
}

// What is answered at once: a poll that does not ask to wait, and one that may not.
func TestLongPoll_AnsweredAtOnce(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "speaker", fapi.ClientSecretBasic, fapi.Poll, nil)
	other := addBackchannel(t, s, "other", fapi.ClientSecretBasic, fapi.Poll, nil)
	pusher := addBackchannel(t, s, "pusher", fapi.ClientSecretBasic, fapi.Push, map[string]any{"backchannel_client_notification_endpoint": "https://app.example/push"})
	b := beginBackchannel(t, c, nil)
	form := backchannelPoll(b)
	now := func(c *authztest.Client, form url.Values, prefer ...string) *authztest.Answer {
		t.Helper()
		return startLongPoll(t, c, s, form, prefer...).end(t, 3*time.Second)
	}
	pending(t, now(c, form), false)
	now(c, form, "wait=20").Refused(t, http.StatusBadRequest, fapi.SlowDown)
	for _, prefer := range []string{"wait=soon", "wait", "wait=0", "return=minimal"} {
		waitInterval(t, s, 15)
		pending(t, now(c, form, prefer), false)
	}
	s.SQL(t, `UPDATE authorizations SET poll_interval = '5 seconds'`)
	waitInterval(t, s, 15)
	p := startLongPoll(t, c, s, form, "wait=20")
	isWaiting(t, s, 1)
	t.Run("another client's, which does not take the place", func(t *testing.T) {
		now(other, form, "wait=20").Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
		p.waits(t)
	})
	t.Run("unknown", func(t *testing.T) {
		now(c, backchannelPoll(backchannelRequest{authReqID: rand.Text()}), "wait=20").Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
		now(c, backchannelPoll(backchannelRequest{}), "wait=20").Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
	})
	t.Run("CIBA Core §10.3: a client that is sent its tokens", func(t *testing.T) {
		now(pusher, form, "wait=20").Refused(t, http.StatusBadRequest, fapi.UnauthorizedClient)
	})
	t.Run("too many of the client", func(t *testing.T) {
		s.LimitWaiting(100, 1)
		pending(t, now(c, backchannelPoll(beginBackchannel(t, c, nil)), "wait=20"), false)
	})
	t.Run("too many", func(t *testing.T) {
		s.LimitWaiting(1, 100)
		pending(t, now(other, backchannelPoll(beginBackchannel(t, other, nil)), "wait=20"), false)
		s.LimitWaiting(100, 100)
	})
	t.Run("the server stops", func(t *testing.T) {
		p.waits(t)
		stopRunning(t, s)
		pending(t, p.end(t, time.Second), true)
		waitInterval(t, s, 15)
		pending(t, now(c, form, "wait=20"), false)
	})
	isWaiting(t, s, 0)
}

// CIBA Core §7.3: the interval counts from when a poll is sent. Whoever was answered after it may ask again at once.
func TestLongPoll_Interval(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "speaker", fapi.ClientSecretBasic, fapi.Poll, nil)
	form := backchannelPoll(beginBackchannel(t, c, nil))
	for range 2 {
		pending(t, startLongPoll(t, c, s, form, "wait=5").end(t, 8*time.Second), true)
	}
	pending(t, startLongPoll(t, c, s, form, "wait=1").end(t, 3*time.Second), true)
	startLongPoll(t, c, s, form, "wait=1").end(t, time.Second).Refused(t, http.StatusBadRequest, fapi.SlowDown)
}

// A request has one waiter: the newest poll, wherever it came, is answered by the outcome, and nothing redeems for those
// before it, whose client may be gone.
func TestLongPoll_NewestWaits(t *testing.T) {
	t.Parallel()
	one, two, c := waitingTwins(t, fapi.ClientSecretBasic)
	for _, test := range []struct {
		name string
		at   *authztest.Server
		wait string
	}{{"here", one, "wait=20"}, {"at the other replica", two, "wait=20"}, {"at the other replica, without waiting", two, ""}} {
		t.Run(test.name, func(t *testing.T) {
			b := beginBackchannel(t, c, nil)
			form := backchannelPoll(b)
			older := startLongPoll(t, c, one, form, "wait=20")
			isWaiting(t, one, 1)
			waitInterval(t, one, 6)
			newer := startLongPoll(t, c, test.at, form, test.wait)
			if test.wait == "" {
				pending(t, newer.end(t, time.Second), false)
			} else if test.at == two {
				isWaiting(t, two, 1)
			}
			if test.at == one {
				pending(t, older.end(t, time.Second), true)
				newer.waits(t)
			}
			decideBackchannel(t, two, c, b, "approve")
			if test.at == two {
				pending(t, older.end(t, time.Second), true)
			}
			if test.wait == "" {
				newer = startLongPoll(t, c, one, form, "wait=20")
			}
			a := newer.end(t, time.Second)
			if a.Status != http.StatusOK {
				t.Fatalf("%d %s", a.Status, a.Body)
			}
			time.Sleep(600 * time.Millisecond) // after which a second redemption would end the tokens
			if !isActive(t, one.Client("bank-api"), a.JSON["access_token"].(string)) {
				t.Error("the token is not active")
			}
		})
	}
}

// A plain poll that brought the tokens is not undone by an older one that goes on after it.
func TestLongPoll_GoesOnAfterRedemption(t *testing.T) {
	t.Parallel()
	one, two, c := waitingTwins(t, fapi.ClientSecretBasic)
	b := beginBackchannel(t, c, nil)
	p := startLongPoll(t, c, one, backchannelPoll(b), "wait=20")
	isWaiting(t, one, 1)
	one.SQL(t, `ALTER TABLE authorizations DISABLE TRIGGER authorizations_decided`) // the word of it comes late
	decideBackchannel(t, two, c, b, "approve")
	a := startLongPoll(t, c, two, backchannelPoll(b)).end(t, time.Second)
	time.Sleep(600 * time.Millisecond)
	one.SQL(t, fmt.Sprintf(`NOTIFY countersign_decisions, '%x'`, engine.CodeHash(b.authReqID)))
	pending(t, p.end(t, time.Second), true)
	if token, _ := a.JSON["access_token"].(string); !isActive(t, one.Client("bank-api"), token) {
		t.Errorf("the token is not active: %s", a.Body)
	}
}

// A word that means nothing wakes nobody for good: the poll goes on.
func TestLongPoll_WokenForNothing(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "speaker", fapi.ClientSecretBasic, fapi.Poll, nil)
	b := beginBackchannel(t, c, nil)
	p := startLongPoll(t, c, s, backchannelPoll(b), "wait=20")
	isWaiting(t, s, 1)
	for _, payload := range []string{fmt.Sprintf("%x", engine.CodeHash(b.authReqID)), "", "zz", "00"} {
		s.SQL(t, fmt.Sprintf(`NOTIFY countersign_decisions, '%s'`, payload))
		p.waits(t)
	}
	decideBackchannel(t, s, c, b, "approve")
	if a := p.end(t, time.Second); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// A decision that falls while nobody listens is found when somebody does again, by one statement for all who wait.
func TestLongPoll_ListenerLost(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "speaker", fapi.ClientSecretBasic, fapi.Poll, nil)
	decided, undecided := beginBackchannel(t, c, nil), beginBackchannel(t, c, nil)
	p, q := startLongPoll(t, c, s, backchannelPoll(decided), "wait=20"), startLongPoll(t, c, s, backchannelPoll(undecided), "wait=20")
	isWaiting(t, s, 2)
	s.Trace.Reset()
	conn, err := pgx.Connect(t.Context(), s.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var ended bool
	err = conn.QueryRow(t.Context(), `SELECT bool_and(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`).Scan(&ended)
	if err != nil || !ended {
		t.Fatalf("the listener was not ended: %v", err)
	}
	if _, err := conn.Exec(t.Context(), `UPDATE authorizations SET status = 'denied', decided_at = now() WHERE code_hash = $1`, engine.CodeHash(decided.authReqID)); err != nil {
		t.Fatal(err)
	}
	p.end(t, 5*time.Second).Refused(t, http.StatusBadRequest, fapi.AccessDenied)
	q.waits(t)
	if n := polls(s); n != 1 {
		t.Errorf("%d polls, want 1", n)
	}
	if _, err := conn.Exec(t.Context(), `UPDATE authorizations SET status = 'denied', decided_at = now() WHERE code_hash = $1`, engine.CodeHash(undecided.authReqID)); err != nil {
		t.Fatal(err)
	}
	q.end(t, time.Second).Refused(t, http.StatusBadRequest, fapi.AccessDenied)
}

// A client that goes away leaves nothing behind, and redeems nothing.
func TestLongPoll_ClientGone(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "speaker", fapi.ClientSecretBasic, fapi.Poll, nil)
	b := beginBackchannel(t, c, nil)
	p := startLongPoll(t, c, s, backchannelPoll(b), "wait=20")
	isWaiting(t, s, 1)
	p.giveUp()
	isWaiting(t, s, 0)
	decideBackchannel(t, s, c, b, "approve")
	if a := pollBackchannel(t, c, b); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// Whenever the decision comes, between the first look and the wait too, it is heard of.
func TestLongPoll_NoDecisionIsMissed(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "speaker", fapi.ClientSecretBasic, fapi.Poll, nil)
	conn, err := pgx.Connect(t.Context(), s.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for i := range 150 {
		code := rand.Text()
		err := s.DB.PushPolled(t.Context(), nil, &storage.Authorization{ID: storage.NewID(), ClientID: c.ID, Request: []byte(`{}`), Scopes: []string{}},
			storage.Polling{CodeHash: engine.CodeHash(code), Lifetime: time.Minute, Interval: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		s.Trace.Reset()
		p := startLongPoll(t, c, s, backchannelPoll(backchannelRequest{authReqID: code}), "wait=10")
		for polls(s) == 0 && i%3 > 0 { // it is being looked at, just now
			time.Sleep(10 * time.Microsecond)
		}
		time.Sleep(time.Duration(mathrand.IntN(1500)) * time.Microsecond)
		if _, err := conn.Exec(t.Context(), `UPDATE authorizations SET status = 'denied', decided_at = now() WHERE code_hash = $1`, engine.CodeHash(code)); err != nil {
			t.Fatal(err)
		}
		p.end(t, 3*time.Second).Refused(t, http.StatusBadRequest, fapi.AccessDenied)
	}
}

// RFC 8628: a device may wait as well.
func TestLongPoll_Device(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addDevice(t, s, "tv", fapi.NoAuth, nil)
	d := beginDevice(t, c, nil)
	p := startLongPoll(t, c, s, deviceForm(d.code), "wait=20")
	isWaiting(t, s, 1)
	decideDevice(t, s, d, "approve")
	if a := p.end(t, time.Second); a.Status != http.StatusOK || a.JSON["id_token"] == nil {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	t.Run("a code of a redirect is none to wait for", func(t *testing.T) {
		web := s.Client("web")
		form := url.Values{"grant_type": {"authorization_code"}, "code": {"x"}, "redirect_uri": {authztest.RedirectURI}, "device_code": {"x"}}
		startLongPoll(t, web, s, form, "wait=20").end(t, time.Second).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
	})
}

// A listener's limit on how long a request may take to come in is not one on how long its client may wait.
func TestLongPoll_OutlastsReadTimeout(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "speaker", fapi.ClientSecretBasic, fapi.Poll, nil)
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", version), func(t *testing.T) {
			listener := httptest.NewUnstartedServer(s.Public())
			listener.EnableHTTP2 = version == 2
			listener.Config.ReadTimeout = 700 * time.Millisecond
			listener.StartTLS()
			defer listener.Close()
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: listener.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}, ForceAttemptHTTP2: version == 2}}
			defer client.CloseIdleConnections()
			form := backchannelPoll(beginBackchannel(t, c, nil))
			for range 2 {
				r := postRequest(t, listener.URL+"/token", form)
				r.SetBasicAuth(c.ID, c.Secret)
				r.Header.Set("Prefer", "wait=2")
				response, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				if response.ProtoMajor != version {
					t.Errorf("HTTP/%d", response.ProtoMajor)
				}
				pending(t, readAnswer(t, response), true)
				waitInterval(t, s, 6)
			}
		})
	}
}

func FuzzPreferredWait(f *testing.F) {
	for _, seed := range []string{"wait=10", `foo="a\", wait=1" ; x="y", wait=31`, "wait=99999999999999999999", `"`, ",;="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if wait := authz.PreferredWait(line); wait < 0 || wait > 30*time.Second || wait%time.Second != 0 {
			t.Errorf("%q: %v", line, wait)
		}
		if wait := authz.PreferredWait("wait=7", line); wait != 7*time.Second {
			t.Errorf("%q takes the place of the first: %v", line, wait)
		}
	})
}
