//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// caller is a client of the servers: an app, or the bank's resource service.
type caller struct {
	house       *house
	id          string
	key         *ecdsa.PrivateKey // signs assertions; nil: the certificate authenticates
	certificate *tls.Certificate
}

// answer is what came of a request. status 0: it never arrived.
type answer struct {
	status int
	header http.Header
	body   []byte
	json   map[string]any
}

func (a answer) String() string { return fmt.Sprintf("%d %.300s", a.status, a.body) }

func (a answer) text(name string) string {
	text, _ := a.json[name].(string)
	return text
}

// unknown tells whether the client cannot know what became of its request: no answer, or an error of the server's.
func (a answer) unknown() bool { return a.status == 0 || a.status >= http.StatusInternalServerError }

func (a answer) is(status int, code string) bool {
	return a.status == status && a.text("error") == code
}

// browser is an HTTP client that follows no redirect, with the caller's certificate if there is one.
func (h *house) browser(certificate *tls.Certificate) *http.Client {
	config := &tls.Config{RootCAs: h.ca.pool()}
	if certificate != nil {
		config.Certificates = []tls.Certificate{*certificate}
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 4},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func do(c *http.Client, r *http.Request) answer {
	response, err := c.Do(r)
	if err != nil {
		return answer{body: []byte(err.Error())}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{body: []byte(err.Error())}
	}
	a := answer{status: response.StatusCode, header: response.Header, body: body}
	json.Unmarshal(body, &a.json) // pages are no JSON
	return a
}

func formRequest(address string, form url.Values) *http.Request {
	r, err := http.NewRequest(http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		panic(err) // the addresses are ours
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

// assertion makes a client assertion.
func (c *caller) assertion() string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: c.key}, (&jose.SignerOptions{}).WithHeader("kid", c.id))
	if err != nil {
		panic(err)
	}
	now := time.Now()
	payload, _ := json.Marshal(map[string]any{"iss": c.id, "sub": c.id, "aud": c.house.issuer, "jti": randomText(), "iat": now.Unix(), "exp": now.Add(3 * time.Minute).Unix()})
	signed, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return text
}

// authenticated adds what authenticates the caller, and returns the assertion if there is one.
func (c *caller) authenticated(form url.Values) (all url.Values, assertion string) {
	all = url.Values{}
	for name, values := range form {
		all[name] = values
	}
	all.Set("client_id", c.id)
	if c.key == nil {
		return all, ""
	}
	assertion = c.assertion()
	withAssertion(all, assertion)
	return all, assertion
}

func withAssertion(form url.Values, assertion string) {
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", assertion)
}

// post calls a replica's listener for certificates.
func (c *caller) post(client *http.Client, at *replica, path string, form url.Values) answer {
	all, _ := c.authenticated(form)
	return do(client, formRequest("https://"+at.mutual+path, all))
}

func (c *caller) client() *http.Client { return c.house.browser(c.certificate) }

var clientCredentialsForm = url.Values{"grant_type": {"client_credentials"}}

func pushForm(verifier string) url.Values {
	sum := sha256.Sum256([]byte(verifier))
	return url.Values{"response_type": {"code"}, "redirect_uri": {houseRedirect}, "scope": {"openid accounts"}, "state": {"s"}, "nonce": {"n"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}
}

func codeForm(code, verifier string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {houseRedirect}, "code_verifier": {verifier}}
}

var mainID = regexp.MustCompile(`<main[^>]*\bid="([^"]*)"`)

func (a answer) page() string {
	if m := mainID.FindSubmatch(a.body); m != nil {
		return string(m[1])
	}
	return ""
}

// visit opens an authorization request in a browser; login may be nil.
func (h *house) visit(client *http.Client, at *replica, clientID, requestURI string, login *http.Cookie) answer {
	r, err := http.NewRequest(http.MethodGet, "https://"+at.public+"/authorize?"+url.Values{"client_id": {clientID}, "request_uri": {requestURI}}.Encode(), nil)
	if err != nil {
		panic(err)
	}
	if login != nil {
		r.AddCookie(login)
	}
	return do(client, r)
}

// logIn gives the house the cookie of a login.
func (h *house) logIn(t *testing.T, at *replica) {
	t.Helper()
	client := h.browser(nil)
	defer client.CloseIdleConnections()
	page := do(client, formRequest("https://"+at.public+"/login", url.Values{"username": {houseUser}, "password": {housePassword}}))
	cookies := (&http.Response{Header: page.header}).Cookies()
	i := slices.IndexFunc(cookies, func(c *http.Cookie) bool { return c.Name == "__Host-login" })
	if page.status != http.StatusSeeOther || i < 0 {
		t.Fatalf("login answered %v", page)
	}
	h.login = &http.Cookie{Name: cookies[i].Name, Value: cookies[i].Value}
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)

// decision presses the button of a consent page.
func (h *house) decision(at *replica, page answer) *http.Request {
	form := url.Values{"decision": {"approve"}, "account": {"12"}}
	for _, m := range hiddenField.FindAllSubmatch(page.body, -1) {
		form.Set(string(m[1]), html.UnescapeString(string(m[2])))
	}
	r := formRequest("https://"+at.public+"/authorize/decision", form)
	r.AddCookie(h.login)
	return r
}

// told is what the clients of a load were told, and what they cannot know.
type told struct {
	mu         sync.Mutex
	pushed     []request // answered 201, or opened, and left there
	undecided  []request // whose decision was never answered
	codes      []*code
	tokens     []string
	assertions []string // of requests that succeeded: used up
	unknown    []string // assertions of requests that were never answered
	counts     map[string]int
	wrong      []string
}

type request struct {
	caller *caller
	uri    string
}

// code is a code that a browser was sent back with.
type code struct {
	caller          *caller
	value, verifier string
	state           codeState
}

type codeState int

const (
	unredeemed codeState = iota
	redeemed             // and answered 200
	perhaps              // never answered
)

func (l *told) count(what string) { l.counts[what]++ }

// take notes what was answered to a request with that assertion ("" with none), and tells whether it is success.
func (l *told) take(what string, a answer, success int, assertion string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case a.status == success:
		l.count(what)
		if assertion != "" {
			l.assertions = append(l.assertions, assertion)
		}
		return true
	case a.unknown():
		l.count("unanswered")
		if assertion != "" {
			l.unknown = append(l.unknown, assertion)
		}
	case a.is(http.StatusUnauthorized, "invalid_client") && assertion != "":
		l.count("assertion older than the memory")
	default:
		l.wrong = append(l.wrong, fmt.Sprintf("%s was answered %v", what, a))
	}
	return false
}

// load is several clients at work until stop is called, which returns what they were told.
func (h *house) load(at ...*replica) (stop func() *told) {
	l := &told{counts: map[string]int{}}
	ending := make(chan struct{})
	var wg sync.WaitGroup
	for i, work := range []func(*told, *caller, *http.Client, *http.Client, *replica, int){h.credentials, h.pushes, h.flow, h.flow} {
		for k, id := range []string{"tpp", "tpp-mtls"} {
			c := h.callers[id]
			server := at[(i+k)%len(at)]
			wg.Go(func() {
				channel, browser := c.client(), h.browser(nil)
				defer channel.CloseIdleConnections()
				defer browser.CloseIdleConnections()
				for n := 0; ; n++ {
					select {
					case <-ending:
						return
					case <-time.After(8 * time.Millisecond):
						work(l, c, channel, browser, server, n)
					}
				}
			})
		}
	}
	return func() *told {
		close(ending)
		wg.Wait()
		return l
	}
}

func (h *house) credentials(l *told, c *caller, channel, _ *http.Client, at *replica, _ int) {
	form, assertion := c.authenticated(clientCredentialsForm)
	a := do(channel, formRequest("https://"+at.mutual+"/token", form))
	if l.take("client_credentials", a, http.StatusOK, assertion) {
		l.mu.Lock()
		l.tokens = append(l.tokens, a.text("access_token"))
		l.mu.Unlock()
	}
}

func (h *house) push(l *told, c *caller, channel *http.Client, at *replica) (uri, verifier string) {
	verifier = randomText() + randomText()
	form, assertion := c.authenticated(pushForm(verifier))
	a := do(channel, formRequest("https://"+at.mutual+"/par", form))
	if l.take("pushed request", a, http.StatusCreated, assertion) {
		uri = a.text("request_uri")
	}
	return uri, verifier
}

func (h *house) pushes(l *told, c *caller, channel, _ *http.Client, at *replica, _ int) {
	if uri, _ := h.push(l, c, channel, at); uri != "" {
		l.mu.Lock()
		l.pushed = append(l.pushed, request{c, uri})
		l.mu.Unlock()
	}
}

// flow goes from the pushed request to the tokens, and sometimes stops on the way.
func (h *house) flow(l *told, c *caller, channel, browser *http.Client, at *replica, n int) {
	uri, verifier := h.push(l, c, channel, at)
	if uri == "" {
		return
	}
	r := request{c, uri}
	page := h.visit(browser, at, c.id, uri, h.login)
	if !l.take("consent page", page, http.StatusOK, "") || n%5 == 4 {
		l.mu.Lock()
		l.pushed = append(l.pushed, r)
		l.mu.Unlock()
		return
	}
	left := do(browser, h.decision(at, page))
	if !l.take("decision", left, http.StatusSeeOther, "") {
		l.mu.Lock()
		l.undecided = append(l.undecided, r)
		l.mu.Unlock()
		return
	}
	to, err := url.Parse(left.header.Get("Location"))
	if err != nil || to.Query().Get("code") == "" {
		l.mu.Lock()
		l.wrong = append(l.wrong, fmt.Sprintf("a decision leads to %v", to))
		l.mu.Unlock()
		return
	}
	k := &code{caller: c, value: to.Query().Get("code"), verifier: verifier}
	l.mu.Lock()
	l.codes = append(l.codes, k)
	l.mu.Unlock()
	if n%3 == 2 {
		return
	}
	form, assertion := c.authenticated(codeForm(k.value, verifier))
	a := do(channel, formRequest("https://"+at.mutual+"/token", form))
	succeeded := l.take("code exchange", a, http.StatusOK, assertion)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case succeeded:
		k.state = redeemed
		l.tokens = append(l.tokens, a.text("access_token"))
	case a.unknown():
		k.state = perhaps
	}
}

// eachOf runs check for all of them, four at a time.
func eachOf[T any](all []T, check func(T)) {
	var wg sync.WaitGroup
	for part := range 4 {
		wg.Go(func() {
			for i := part; i < len(all); i += 4 {
				check(all[i])
			}
		})
	}
	wg.Wait()
}

// holds looks whether everything that a client was told is so, and nothing is so twice.
func (l *told) holds(t *testing.T, h *house, at *replica) {
	t.Helper()
	for _, wrong := range l.wrong[:min(len(l.wrong), 10)] {
		t.Error(wrong)
	}
	bank, browser := h.callers["bank-api"], h.browser(nil)
	defer browser.CloseIdleConnections()
	bankClient := bank.client()
	defer bankClient.CloseIdleConnections()
	channels := map[*caller]*http.Client{}
	for _, c := range h.callers {
		channels[c] = c.client()
		defer channels[c].CloseIdleConnections()
	}

	eachOf(l.tokens, func(token string) {
		if a := bank.post(bankClient, at, "/introspect", url.Values{"token": {token}}); a.json["active"] != true {
			t.Errorf("a token that was handed out is not active: %v", a)
		}
	})
	eachOf(l.pushed, func(r request) {
		if a := h.visit(browser, at, r.caller.id, r.uri, nil); a.page() != "login_page" {
			t.Errorf("a request that was pushed does not open: %d, page %q", a.status, a.page())
		}
	})
	pending := 0
	for _, r := range l.undecided {
		switch a := h.visit(browser, at, r.caller.id, r.uri, nil); a.page() {
		case "login_page":
			pending++
		case "error_page": // decided, and the code never arrived
		default:
			t.Errorf("a request whose decision was never answered is at %d, page %q", a.status, a.page())
		}
	}
	var mu sync.Mutex
	late := map[bool]int{}
	eachOf(l.codes, func(k *code) {
		redeem := func() answer { return k.caller.post(channels[k.caller], at, "/token", codeForm(k.value, k.verifier)) }
		a := redeem()
		spent := a.is(http.StatusBadRequest, "invalid_grant")
		switch {
		case k.state == redeemed && !spent:
			t.Errorf("a code that was redeemed is redeemed again: %v", a)
		case k.state == unredeemed && a.status != http.StatusOK:
			t.Errorf("a code that was handed out does not redeem: %v", a)
		case k.state == perhaps && a.status != http.StatusOK && !spent:
			t.Errorf("a code whose redemption was never answered: %v", a)
		case k.state == perhaps:
			mu.Lock()
			late[spent]++
			mu.Unlock()
		}
		if a.status == http.StatusOK {
			if again := redeem(); !again.is(http.StatusBadRequest, "invalid_grant") {
				t.Errorf("a code redeems twice: %v", again)
			}
		}
	})
	l.usedUp(t, h, at, l.assertions)
	states := map[codeState]int{}
	for _, k := range l.codes {
		states[k.state]++
	}
	t.Logf("told: %v", l.counts)
	t.Logf("held: %d tokens active, %d requests open, %d codes (%d redeemed before, %d now, %d never answered: %d of them were spent), %d decisions never answered: %d of them were not taken, %d assertions used up",
		len(l.tokens), len(l.pushed), len(l.codes), states[redeemed], states[unredeemed], states[perhaps], late[true], len(l.undecided), pending, len(l.assertions))
}

// usedUp looks whether assertions are refused.
func (l *told) usedUp(t *testing.T, h *house, at *replica, assertions []string) {
	t.Helper()
	c := h.callers["tpp"]
	client := c.client()
	defer client.CloseIdleConnections()
	eachOf(assertions, func(assertion string) {
		form := url.Values{"grant_type": {"client_credentials"}}
		withAssertion(form, assertion)
		if a := do(client, formRequest("https://"+at.mutual+"/token", form)); !a.is(http.StatusUnauthorized, "invalid_client") {
			t.Errorf("an assertion that was used is taken again: %v", a)
		}
	})
}
