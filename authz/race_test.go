package authz_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// outcome is what one of many requests at once came to.
type outcome struct {
	status   int
	header   http.Header
	body     []byte
	json     map[string]any
	began    time.Time
	answered time.Time
	err      error
}

func (o *outcome) String() string { return fmt.Sprintf("%d %.300s %v", o.status, o.body, o.err) }

// text is a member of the answer, "" if there is none.
func (o *outcome) text(name string) string {
	text, _ := o.json[name].(string)
	return text
}

// volley sends requests as the client at the same moment, each on a connection of its own that is open already, and
// returns what came of them. delays hold some of them back.
func volley(t *testing.T, client *authztest.Client, requests []*http.Request, delays ...time.Duration) []*outcome {
	t.Helper()
	outcomes := make([]*outcome, len(requests))
	delays = append(delays, make([]time.Duration, len(requests))...)
	gate := make(chan struct{})
	var ready, done sync.WaitGroup
	for i, r := range requests {
		ready.Add(1)
		done.Go(func() {
			c := client.HTTP()
			c.Timeout = time.Minute
			c.Transport.(*http.Transport).DisableKeepAlives = false
			defer c.CloseIdleConnections()
			if warm, err := c.Get(client.Base() + "/livez"); err == nil {
				io.Copy(io.Discard, warm.Body)
				warm.Body.Close()
			}
			ready.Done()
			<-gate
			time.Sleep(delays[i])
			outcomes[i] = send(c, r)
		})
	}
	ready.Wait()
	close(gate)
	done.Wait()
	for _, o := range outcomes {
		if o.err != nil {
			t.Fatal(o.err)
		}
	}
	return outcomes
}

func send(c *http.Client, r *http.Request) *outcome {
	o := &outcome{began: time.Now()}
	response, err := c.Do(r)
	if err != nil {
		o.err = err
		return o
	}
	defer response.Body.Close()
	o.status, o.header = response.StatusCode, response.Header
	o.body, o.err = io.ReadAll(io.LimitReader(response.Body, 1<<20))
	o.answered = time.Now()
	json.Unmarshal(o.body, &o.json) // pages are no JSON
	return o
}

func postRequest(t *testing.T, address string, form url.Values) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// one returns the only outcome that succeeded, and demands that all others were refused in one of the given ways.
func one(t *testing.T, outcomes []*outcome, refusals ...string) *outcome {
	t.Helper()
	var won *outcome
	refused := map[string]int{}
	for _, o := range outcomes {
		if o.status == http.StatusOK {
			if won != nil {
				t.Errorf("two succeeded: %v and %v", won, o)
			}
			won = o
			continue
		}
		refused[fmt.Sprintf("%d %s", o.status, o.text("error"))]++
	}
	n := 0
	for _, way := range refusals {
		n += refused[way]
	}
	if won == nil || n != len(outcomes)-1 {
		t.Fatalf("of %d, one succeeded: %v; refused: %v; all others should be %v", len(outcomes), won != nil, refused, refusals)
	}
	t.Logf("%d at once: one 200, refused: %v", len(outcomes), refused)
	return won
}

func isActive(t *testing.T, api *authztest.Client, token string) bool {
	t.Helper()
	answer := api.Post(t, "/introspect", url.Values{"token": {token}})
	if answer.Status != http.StatusOK {
		t.Errorf("introspection answers %d %s", answer.Status, answer.Body)
	}
	return answer.JSON["active"] == true
}

// RFC 6749 §4.1.2, RFC 9700 §4.5: a code is good once, whoever comes at the same moment. A later use ends the tokens.
func TestRace_RedemptionsOfOneCode(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for _, id := range []string{"tpp-mtls", "tpp"} {
		t.Run(id, func(t *testing.T) {
			c, api := s.Client(id), s.Client("bank-api")
			var won *outcome
			var code string
			for attempt := 1; ; attempt++ {
				code = s.Approve(t, c, c.Push(t, nil))
				requests := make([]*http.Request, 100)
				for i := range requests {
					requests[i] = postRequest(t, c.Base()+"/token", c.Authenticated(t, c.ExchangeForm(code)))
				}
				outcomes := volley(t, c, requests)
				won = one(t, outcomes, "400 invalid_grant")
				took := spread(outcomes)
				t.Logf("from the first question to the last answer: %v", took)
				if isActive(t, api, won.text("access_token")) {
					break
				}
				// What arrives half a second after the first is no longer "at once" (docs/decisions/0005-code-reuse.md).
				if took < 500*time.Millisecond {
					t.Fatal("the winner's access token is not active, though all came within half a second")
				}
				if attempt == 5 {
					t.Skipf("this machine is too busy: a hundred requests took %v", took)
				}
			}
			access, refresh := won.text("access_token"), refreshForm(won.json)
			if info := c.Get(t, "/userinfo", access); info.Status != http.StatusOK {
				t.Errorf("the winner's token at userinfo: %d", info.Status)
			}
			if answer := c.Post(t, "/token", refresh); answer.Status != http.StatusOK {
				t.Errorf("the winner's refresh token: %d %s", answer.Status, answer.Body)
			}

			time.Sleep(time.Second)
			c.Post(t, "/token", c.ExchangeForm(code)).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
			if isActive(t, api, access) {
				t.Error("the code was used again, and its access token is still active")
			}
			c.Post(t, "/token", refresh).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
			if info := c.Get(t, "/userinfo", access); info.Status != http.StatusUnauthorized {
				t.Errorf("the dead token at userinfo: %d", info.Status)
			}
		})
	}
}

// spread is the time from the first question to the last answer.
func spread(outcomes []*outcome) time.Duration {
	began, answered := outcomes[0].began, outcomes[0].answered
	for _, o := range outcomes {
		if o.began.Before(began) {
			began = o.began
		}
		if o.answered.After(answered) {
			answered = o.answered
		}
	}
	return answered.Sub(began)
}

// A page that is sent fifty times, yes or no, decides once and gives one code.
func TestRace_DecisionsOnOnePage(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for _, test := range []struct {
		name    string
		buttons []string
	}{
		{"all yes", []string{"approve"}},
		{"yes and no", []string{"approve", "deny"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, p := s.Client("tpp-mtls"), loggedIn(t, s)
			page := p.get(t, s, authorizePath(c, c.Push(t, nil))).Is(t, "consent_page")
			form, action := page.Form(t)
			requests := make([]*http.Request, 50)
			for i := range requests {
				button := test.buttons[i%len(test.buttons)]
				form.Set("decision", button)
				form.Set("account", "12")
				requests[i] = postRequest(t, action.String(), form)
				requests[i].Header.Set("Sec-Fetch-Site", "same-origin")
				for _, cookie := range p.jar.Cookies(action) {
					requests[i].AddCookie(cookie)
				}
			}
			web := s.Client("spa") // its HTTP client has no certificate, as a browser
			outcomes := volley(t, web, requests)
			var decided []url.Values
			for _, o := range outcomes {
				to, err := url.Parse(o.header.Get("Location"))
				if err != nil || o.status != http.StatusSeeOther {
					t.Fatalf("a decision was answered %v", o)
				}
				if strings.HasPrefix(to.String(), authztest.RedirectURI) {
					decided = append(decided, to.Query())
				} else if to.Path != "/authorize" || to.IsAbs() {
					t.Errorf("a decision that came too late leads to %v", to)
				}
			}
			if len(decided) != 1 {
				t.Fatalf("%d decisions were taken: %v", len(decided), decided)
			}
			if code := decided[0].Get("code"); code != "" {
				c.Exchange(t, code)
			} else if decided[0].Get("error") != "access_denied" {
				t.Errorf("the decision was %v", decided[0])
			}
			if late := p.get(t, s, page.URL.RequestURI()); late.ID() != "error_page" {
				t.Errorf("the decided request opens page %q", late.ID())
			}
		})
	}
}

// FAPI 2.0 §5.3.2.1, RFC 7523 §3: a client assertion is good once. RFC 9449 §11.1: so is a DPoP proof.
func TestRace_OneAssertionOneProof(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	grant := url.Values{"grant_type": {"client_credentials"}}

	t.Run("assertion", func(t *testing.T) {
		c := s.Client("tpp")
		form := c.Authenticated(t, grant)
		requests := make([]*http.Request, 50)
		for i := range requests {
			requests[i] = postRequest(t, c.Base()+"/token", form)
		}
		won := one(t, volley(t, c, requests), "401 invalid_client")
		if !isActive(t, s.Client("bank-api"), won.text("access_token")) {
			t.Error("the winner's token is not active")
		}
		c.Send(t, "/token", form, nil).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
		c.Send(t, "/par", c.Params(map[string]string{"client_assertion": form.Get("client_assertion"), "client_assertion_type": fapi.ClientAssertionType}), nil).
			Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	})

	t.Run("proof", func(t *testing.T) {
		c := s.Client("tpp-dpop")
		proof := c.Proof(t, http.MethodPost, c.Base()+"/token", "", nil)
		requests := make([]*http.Request, 50)
		for i := range requests {
			requests[i] = postRequest(t, c.Base()+"/token", c.Authenticated(t, grant))
			requests[i].Header.Set("DPoP", proof)
		}
		one(t, volley(t, c, requests), "400 invalid_dpop_proof")
	})

	// A code is not lost to a client whose assertion was refused: the replay and the redemption are one transaction.
	t.Run("assertion with a code", func(t *testing.T) {
		c := s.Client("tpp")
		used := c.Authenticated(t, grant)
		if answer := c.Send(t, "/token", used, nil); answer.Status != http.StatusOK {
			t.Fatalf("%d %s", answer.Status, answer.Body)
		}
		code := s.Approve(t, c, c.Push(t, nil))
		form := c.ExchangeForm(code)
		form.Set("client_assertion_type", fapi.ClientAssertionType)
		form.Set("client_assertion", used.Get("client_assertion"))
		c.Send(t, "/token", form, nil).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
		c.Exchange(t, code)
	})
}

// RFC 9700 §4.14.2: of a public client's refresh token that is used by two, one wins, and then the family is dead: the
// server cannot know which of them was the thief.
func TestRace_RefreshesOfAPublicClient(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, api := s.Client("spa"), s.Client("bank-api")
	tokens := c.Exchange(t, s.Approve(t, c, c.Push(t, map[string]string{"scope": "openid accounts offline_access"})))
	requests := make([]*http.Request, 30)
	for i := range requests {
		requests[i] = postRequest(t, c.Base()+"/token", c.Authenticated(t, refreshForm(tokens)))
	}
	won := one(t, volley(t, c, requests), "400 invalid_grant")
	for _, token := range []string{tokens["access_token"].(string), won.text("access_token")} {
		if isActive(t, api, token) {
			t.Error("an access token of the family is active")
		}
	}
	for _, token := range []map[string]any{tokens, won.json} {
		c.Post(t, "/token", refreshForm(token)).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
	}

	// A client that authenticates keeps its refresh token (FAPI 2.0 §5.3.2.1), however often it comes at once.
	t.Run("confidential", func(t *testing.T) {
		c := s.Client("tpp-mtls")
		tokens := c.Exchange(t, s.Approve(t, c, c.Push(t, nil)))
		requests := make([]*http.Request, 20)
		for i := range requests {
			requests[i] = postRequest(t, c.Base()+"/token", c.Authenticated(t, refreshForm(tokens)))
		}
		for _, o := range volley(t, c, requests) {
			if o.status != http.StatusOK || o.json["refresh_token"] != tokens["refresh_token"] {
				t.Fatalf("refused, or rotated: %v", o)
			}
		}
	})
}

var grantPattern = regexp.MustCompile(`name="consent" value="([^"]+)"`)

// D4: whatever order a withdrawal and a redemption take, no token of a grant lives once it is withdrawn.
func TestRace_WithdrawalWhileRedeeming(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, api, p := s.Client("tpp-mtls"), s.Client("bank-api"), loggedIn(t, s)
	redeemed := 0
	for round := range 10 {
		page := p.get(t, s, authorizePath(c, c.Push(t, nil))).Is(t, "consent_page")
		left, err := url.Parse(p.submit(t, s, page, url.Values{"decision": {"approve"}, "account": {"12"}}).Header.Get("Location"))
		if err != nil || left.Query().Get("code") == "" {
			t.Fatalf("no code: %v", left)
		}
		list := p.get(t, s, "/consents").Is(t, "consents_page")
		grant := grantPattern.FindSubmatch(list.Body)
		if grant == nil {
			t.Fatalf("nothing to withdraw: %s", list.Body)
		}
		withdrawal := postRequest(t, s.Issuer+"/consents/withdraw", url.Values{"consent": {string(grant[1])}})
		withdrawal.Header.Set("Sec-Fetch-Site", "same-origin")
		for _, cookie := range p.jar.Cookies(withdrawal.URL) {
			withdrawal.AddCookie(cookie)
		}
		requests := []*http.Request{withdrawal}
		for range 3 {
			requests = append(requests, postRequest(t, c.Base()+"/token", c.Authenticated(t, c.ExchangeForm(left.Query().Get("code")))))
		}
		later := time.Duration(round) * time.Millisecond // so that either comes first
		outcomes := volley(t, c, requests, 0, later, later, later)
		if o := outcomes[0]; o.status != http.StatusSeeOther || !strings.HasSuffix(o.header.Get("Location"), "?withdrawn") {
			t.Fatalf("the withdrawal was answered %v to %s", o, o.header.Get("Location"))
		}
		for _, o := range outcomes[1:] {
			switch {
			case o.status == http.StatusOK:
				redeemed++
				if isActive(t, api, o.text("access_token")) {
					t.Error("the grant is withdrawn, and a token of it is active")
				}
				c.Post(t, "/token", refreshForm(o.json)).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
			case o.status != http.StatusBadRequest || !bytes.Contains(o.body, []byte("invalid_grant")):
				t.Errorf("a redemption was answered %v", o)
			}
		}
	}
	t.Logf("10 withdrawals: in %d the redemption came first", redeemed)
}
