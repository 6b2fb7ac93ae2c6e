package authz_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// Three devices at two servers: one approves, one refuses, one approves again, while time runs out. One of it comes true, and
// all that anybody hears is that.
func TestBackchannel_OneOutcome(t *testing.T) {
	t.Parallel()
	const rounds = 50
	for _, mode := range []fapi.DeliveryMode{fapi.Poll, fapi.Ping, fapi.Push} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			one, two := twins(t, authztest.Options{})
			r := &race{one: one, two: two, mode: mode, inbox: &mailbox{}, outcomes: map[string]int{}}
			r.push = newPushClient(t, one, "raced")
			more := map[string]any{}
			if mode.Notifies() {
				more["backchannel_client_notification_endpoint"] = one.Site(t, r.inbox)
			}
			r.client = addBackchannel(t, one, "raced", fapi.ClientSecretBasic, mode, more)
			soon(t, "both servers know the client", func() bool {
				return r.clientAt(two).Post(t, "/token", backchannelPoll(backchannelRequest{authReqID: "x"})).Status == http.StatusBadRequest
			})
			for i := range 3 {
				r.browsers[i] = r.at(i).Browser(t)
			}
			for n := range rounds {
				r.round(t, n)
				if t.Failed() {
					t.Fatalf("in round %d", n)
				}
			}
			t.Logf("%d rounds: %v", rounds, r.outcomes)
			for _, outcome := range []string{"approved", "denied", "expired"} {
				if r.outcomes[outcome] == 0 {
					t.Errorf("never %s: that was no race", outcome)
				}
			}
		})
	}
}

type race struct {
	one, two *authztest.Server
	mode     fapi.DeliveryMode
	client   *authztest.Client
	browsers [3]*authztest.Browser
	inbox    *mailbox
	push     *pushClient
	outcomes map[string]int
}

// at is the server that a device uses.
func (r *race) at(device int) *authztest.Server {
	if device == 0 {
		return r.one
	}
	return r.two
}

// clientAt is the client as it calls one of the servers.
func (r *race) clientAt(s *authztest.Server) *authztest.Client {
	c := s.Client("web")
	c.ID, c.Secret = r.client.ID, r.client.Secret
	return c
}

func (r *race) round(t *testing.T, n int) {
	t.Helper()
	bearer := fmt.Sprintf("%s%d", "bearer-token-of-round-", n)
	b := beginBackchannel(t, r.client, url.Values{"client_notification_token": {bearer}})
	r.push.expects(b, bearer)
	before := len(r.inbox.arrived())
	var forms [3]url.Values
	var actions [3]string
	for i, browser := range r.browsers {
		page := openBackchannel(t, r.at(i), browser, r.client, b).Is(t, "consent_page")
		form, action := page.Form(t)
		form.Set("decision", []string{"approve", "deny", "approve"}[i])
		form.Set("account", "12")
		forms[i], actions[i] = form, action.String()
	}
	// Who wins differs: one of the three is early, or the time is over before all of them, or in their midst.
	id := authorizationOf(t, r.one, b)
	left := []time.Duration{0, 3, 6, 10, 1000}[n%5] * time.Millisecond
	var pages [3]*authztest.Page
	var wg sync.WaitGroup
	r.one.SQL(t, `WITH a AS (UPDATE authorizations SET expires_at = now() + $2, code_expires_at = now() + $2 WHERE id = $1 RETURNING id, expires_at)
		UPDATE notifications n SET due_at = a.expires_at FROM a WHERE n.id = a.id`, [16]byte(id), left)
	for i, browser := range r.browsers {
		wg.Go(func() {
			time.Sleep([]time.Duration{0, 2, 4}[(i+n)%3] * time.Millisecond)
			pages[i] = browser.Post(t, actions[i], forms[i])
		})
	}
	wg.Wait()
	r.one.SQL(t, "SELECT pg_notify('countersign_changes', 'notifications')") // when requests expire is else known from the start
	r.judge(t, b, before, pages)
}

// judge checks that the devices, the store and the client saw one outcome.
func (r *race) judge(t *testing.T, b backchannelRequest, before int, pages [3]*authztest.Page) {
	t.Helper()
	id := authorizationOf(t, r.one, b)
	soon(t, "it is decided, or has expired", func() bool {
		return r.one.Count(t, "SELECT count(*) FROM authorizations WHERE id = $1 AND (status <> 'pending' OR expires_at <= now())", [16]byte(id)) == 1
	})
	if r.mode.Notifies() {
		soon(t, "the outcome was told", func() bool {
			return r.one.Count(t, "SELECT count(*) FROM notifications WHERE id = $1", [16]byte(id)) == 0
		})
	}
	polls := r.polls(t, b)
	outcome := "expired"
	for _, status := range []string{"approved", "denied"} {
		if r.one.Count(t, "SELECT count(*) FROM authorizations WHERE id = $1 AND status = $2", [16]byte(id), status) == 1 {
			outcome = status
		}
	}
	r.outcomes[outcome]++
	done := 0
	for _, page := range pages {
		if page.ID() == "done_page" {
			done++
		}
	}
	if outcome == "expired" && done != 0 || outcome != "expired" && done == 0 {
		t.Errorf("%s, and %d devices were told that they have decided", outcome, done)
	}
	r.heard(t, outcome, b, r.inbox.arrived()[before:], polls)
}

// polls are the answers to two polls at once, one at each server.
func (r *race) polls(t *testing.T, b backchannelRequest) []*authztest.Answer {
	t.Helper()
	answers := make([]*authztest.Answer, 2)
	var wg sync.WaitGroup
	for i, s := range []*authztest.Server{r.one, r.two} {
		at := r.clientAt(s)
		wg.Go(func() { answers[i] = at.Post(t, "/token", backchannelPoll(b)) })
	}
	wg.Wait()
	return answers
}

// heard checks what the client was told, and how often.
func (r *race) heard(t *testing.T, outcome string, b backchannelRequest, arrived []delivery, polls []*authztest.Answer) {
	t.Helper()
	codes := map[string]fapi.Code{"denied": fapi.AccessDenied, "expired": fapi.ExpiredToken}
	want := 1
	if r.mode == fapi.Poll || r.mode == fapi.Ping && outcome == "expired" {
		want = 0
	}
	if len(arrived) != want {
		t.Errorf("%s, and %d messages arrived, want %d", outcome, len(arrived), want)
		return
	}
	if r.mode == fapi.Push {
		if err := r.push.take(arrived[0]); err != nil {
			t.Error(err)
			return
		}
		message := arrived[0].fields(t)
		if code, _ := message["error"].(string); code != string(codes[outcome]) || (code == "") != (message["access_token"] != nil) {
			t.Errorf("%s, and told %v", outcome, message)
		}
		for _, answer := range polls {
			answer.Refused(t, http.StatusBadRequest, fapi.UnauthorizedClient)
		}
		return
	}
	got := []string{}
	for _, answer := range polls {
		if answer.JSON["access_token"] != nil {
			got = append(got, "tokens")
		} else {
			got = append(got, answer.JSON["error"].(string))
		}
	}
	slices.Sort(got)
	expected := []string{string(codes[outcome]), string(codes[outcome])}
	if outcome == "approved" {
		expected = []string{string(fapi.InvalidGrant), "tokens"}
	}
	if !slices.Equal(got, expected) {
		t.Errorf("%s, and the polls say %v", outcome, got)
	}
}
