//go:build linux

package main

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/fapi"
)

// api is a client of the servers, whose traffic is recorded.
type api struct {
	*caller
	v     *vault
	t     *testing.T
	http  *http.Client
	proof *ecdsa.PrivateKey // signs DPoP proofs; nil: none
	nonce string
}

func (v *vault) api(t *testing.T, id string) *api {
	return &api{caller: v.callers[id], v: v, t: t, http: v.watch(v.browser(v.callers[id].certificate))}
}

// call sends a request, with a token if there is one; one that is answered with a nonce for DPoP proofs is sent again.
func (a *api) call(method, address, token string, kind string, body []byte) answer {
	a.t.Helper()
	for {
		r, err := http.NewRequest(method, address, bytes.NewReader(body))
		ok(a.t, err)
		r.Header.Set("Content-Type", kind)
		r.Header.Set("X-Idempotency-Key", randomText())
		scheme := "Bearer "
		if a.proof != nil {
			scheme = "DPoP "
			u, _ := url.Parse(address)
			nonces := &tpp{dpopKey: a.proof, nonces: noncesOf(u.Host, a.nonce)}
			proof, err := nonces.proofFor(method, u, token)
			ok(a.t, err)
			r.Header.Set("DPoP", proof)
		}
		if token != "" {
			r.Header.Set("Authorization", scheme+token)
		}
		got := do(a.http, r)
		if next := got.header.Get("DPoP-Nonce"); a.proof != nil && next != "" && a.nonce == "" {
			a.nonce = next
			continue
		}
		return got
	}
}

// form posts a form to the listener for certificates, authenticated.
func (a *api) form(path string, pairs url.Values) answer {
	a.t.Helper()
	all, _ := a.authenticated(pairs)
	got := a.call(http.MethodPost, a.v.mtlsBase+path, "", "application/x-www-form-urlencoded", []byte(all.Encode()))
	if got.text("error") == "use_dpop_nonce" || got.status == 0 {
		all, _ = a.authenticated(pairs)
		got = a.call(http.MethodPost, a.v.mtlsBase+path, "", "application/x-www-form-urlencoded", []byte(all.Encode()))
	}
	return got
}

func (a *api) is(got answer, status int) answer {
	a.t.Helper()
	if got.status != status {
		a.t.Fatalf("%s: %v", a.id, got)
	}
	return got
}

// consents presses the button of the consent page, and what stands before it.
func (p *person) consents() *person {
	p.t.Helper()
	return p.want("consent_page").send(`id="approve_button"`, append(accountPairs(p.page), "decision", "approve")...)
}

func accountPairs(page *webPage) (pairs []string) {
	for _, id := range page.accounts() {
		pairs = append(pairs, "account", id)
	}
	return pairs
}

// authorizes is the flow of an app that pushes its request; the tokens do everything that tokens do.
func (p *person) authorizes(a *api) {
	v := p.v
	verifier := v.learn("code verifier", randomText()+randomText()).value
	form := pushForm(verifier)
	form.Set("state", v.learn("state", randomText()).value)
	pushed := a.is(a.form("/par", form), http.StatusCreated)
	p.open("/authorize?" + url.Values{"client_id": {a.id}, "request_uri": {pushed.text("request_uri")}}.Encode()).consents()
	back := p.page.url.Query()
	if back.Get("code") == "" {
		p.t.Fatalf("no code: %v", p.page.url)
	}
	a.form("/token", codeForm(back.Get("code"), "another"+verifier)) // which ends nothing
	pushed = a.is(a.form("/par", form), http.StatusCreated)
	p.open("/authorize?" + url.Values{"client_id": {a.id}, "request_uri": {pushed.text("request_uri")}}.Encode()).consents()
	tokens := a.is(a.form("/token", codeForm(p.page.url.Query().Get("code"), verifier)), http.StatusOK)
	a.form("/token", codeForm(p.page.url.Query().Get("code"), verifier)) // again, which ends what it gave
	bank := v.api(p.t, "bank-api")
	bank.is(bank.form("/introspect", url.Values{"token": {tokens.text("access_token")}}), http.StatusOK)

	pushed = a.is(a.form("/par", form), http.StatusCreated)
	p.open("/authorize?" + url.Values{"client_id": {a.id}, "request_uri": {pushed.text("request_uri")}}.Encode()).consents()
	tokens = a.is(a.form("/token", codeForm(p.page.url.Query().Get("code"), verifier)), http.StatusOK)
	refreshed := a.is(a.form("/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.text("refresh_token")}}), http.StatusOK)
	for _, token := range []string{refreshed.text("access_token"), tokens.text("access_token"), tokens.text("refresh_token"), randomText()} {
		bank.is(bank.form("/introspect", url.Values{"token": {token}}), http.StatusOK)
		a.call(http.MethodGet, v.mtlsBase+"/userinfo", token, "", nil)
	}
	a.call(http.MethodGet, v.mtlsBase+"/userinfo?access_token="+tokens.text("access_token"), "", "", nil)
	p.open("/end_session?id_token_hint=" + url.QueryEscape(tokens.text("id_token")))
	a.form("/token?code=x&client_assertion="+a.assertionOrNothing(), url.Values{})
	a.form("/revoke", url.Values{"token": {tokens.text("access_token")}})
	a.is(a.form("/par", form), http.StatusCreated) // and leaves it there
}

func (a *api) assertionOrNothing() string {
	if a.key == nil {
		return ""
	}
	return a.v.learn("assertion", a.assertion()).value
}

// registers is a client that registers itself, and gets a secret.
func (v *vault) registers(t *testing.T, p *person) {
	a := &api{v: v, t: t, http: v.watch(v.browser(nil)), caller: &caller{house: v.house, id: "registered"}}
	body, _ := json.Marshal(map[string]any{"redirect_uris": []string{houseRedirect}, "token_endpoint_auth_method": "client_secret_basic", "scope": "openid email phone", "client_name": "Shop"})
	made := a.is(a.call(http.MethodPost, v.issuer+"/register", "", "application/json", body), http.StatusCreated)
	a.call(http.MethodGet, made.text("registration_client_uri"), made.text("registration_access_token"), "", nil)
	a.call(http.MethodGet, made.text("registration_client_uri"), "wrong"+made.text("registration_access_token"), "", nil)
	ask := url.Values{"client_id": {made.text("client_id")}, "response_type": {"code"}, "redirect_uri": {houseRedirect}, "scope": {"openid email phone"},
		"state": {v.learn("state", randomText()).value}, "nonce": {randomText()}, "login_hint": {p.username}}
	p.open("/authorize?" + ask.Encode()).consents()
	for _, secret := range []string{v.learn("client secret", randomText()).value, made.text("client_secret")} {
		r := formRequest(v.issuer+"/token", url.Values{"grant_type": {"authorization_code"}, "code": {p.page.url.Query().Get("code")}, "redirect_uri": {houseRedirect}})
		r.SetBasicAuth(made.text("client_id"), secret)
		if got := do(a.http, r); got.status == http.StatusOK {
			a.is(a.call(http.MethodGet, v.issuer+"/userinfo", got.text("access_token"), "", nil), http.StatusOK)
		} else if secret == made.text("client_secret") {
			t.Fatalf("client secret: %v", got)
		}
	}
	ask.Set("response_mode", "jwt")
	p.open("/authorize?" + ask.Encode())
	if strings.Contains(p.page.body, "consent_page") {
		p.consents()
	}
}

// devices are what asks from elsewhere: a display with a code that is typed, a speaker that is told the customer's code.
func (v *vault) devices(t *testing.T, p *person, userCode string) {
	display := v.api(t, "display")
	shown := display.is(display.form("/device_authorization", url.Values{"scope": {"openid accounts"}}), http.StatusOK)
	p.open("/device").send(`id="user_code"`, "user_code", "WDJB-MJHT").send(`id="user_code"`, "user_code", shown.text("user_code"))
	if p.page.is("device_page") == nil {
		p.send(`id="submit_button"`)
	}
	p.consents()
	poll := url.Values{"grant_type": {fapi.GrantDeviceCode}, "device_code": {shown.text("device_code")}}
	display.is(display.form("/token", poll), http.StatusOK)
	display.form("/token", poll)
	display.form("/device_authorization", url.Values{"scope": {"openid accounts"}}) // and leaves it there

	speaker := v.api(t, "speaker")
	ask := url.Values{"scope": {"openid accounts"}, "login_hint": {p.username}, "binding_message": {"Order 7"}, "user_code": {v.learn("user code", "Heron"+digitsOf(5)).value}}
	speaker.is(speaker.form("/bc-authorize", ask), http.StatusBadRequest)
	ask.Set("user_code", userCode)
	begun := speaker.is(speaker.form("/bc-authorize", ask), http.StatusOK)
	p.open("/approvals").follow("client_id=speaker").consents()
	speaker.is(speaker.form("/token", url.Values{"grant_type": {fapi.GrantCIBA}, "auth_req_id": {begun.text("auth_req_id")}}), http.StatusOK)
	speaker.is(speaker.form("/bc-authorize", ask), http.StatusOK) // and leaves it there

	till := v.api(t, "till")
	ask.Set("client_notification_token", randomText()+randomText())
	ask.Del("user_code")
	begun = till.is(till.form("/bc-authorize", ask), http.StatusOK)
	p.open("/approvals").follow("client_id=till").consents()
	waitUntil(t, "the till is told", 10*time.Second, func() bool { return bytes.Contains(v.told.everything(), []byte(begun.text("auth_req_id"))) })
}

var fineractCode = regexp.MustCompile(`\b[0-9A-Z]{5}\b`)

// fineract is a client that was written for Fineract.
func (v *vault) fineract(t *testing.T, p *person) {
	c := v.watch(v.browser(nil))
	token, key := "", ""
	call := func(method, path, body string) answer {
		r, err := http.NewRequest(method, v.issuer+"/fineract-provider/api/v1"+path, strings.NewReader(body))
		ok(t, err)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Fineract-Platform-TenantId", "default")
		if key != "" {
			r.Header.Set("Authorization", "Basic "+key)
		}
		if token != "" {
			r.Header.Set("Fineract-Platform-TFA-Token", token)
		}
		return do(c, r)
	}
	quoted, _ := json.Marshal(p.password)
	call("POST", "/authentication", `{"username":"`+p.username+`","password":"`+v.learn("password", "nor this & "+randomText()).value+`"}`)
	call("POST", "/authentication", `{"username":"`+p.username+`","password":`+string(quoted)+` and no more JSON`)
	call("POST", "/authentication?password="+url.QueryEscape(p.password), `{"username":"`+p.username+`","password":[`+string(quoted)+`]}`)
	time.Sleep(time.Second)
	in := call("POST", "/authentication", `{"username":"`+p.username+`","password":`+string(quoted)+`}`)
	if key = in.text("base64EncodedAuthenticationKey"); key == "" {
		t.Fatalf("authentication: %v", in)
	}
	call("GET", "/twofactor", "")
	if a := call("POST", "/twofactor?deliveryMethod=email", "{}"); a.status != http.StatusOK {
		t.Fatalf("code: %v", a)
	}
	m := v.mail.next(t, p.email, "OTP")
	code := v.tell("code", fineractCode.FindString(m.text[strings.Index(m.text, "OTP"):]), m.id)
	call("POST", "/twofactor/validate?token=ZZZZZ", "{}")
	got := call("POST", "/twofactor/validate?token="+code, "{}")
	if token = got.text("token"); token == "" {
		t.Fatalf("validate: %v", got)
	}
	if a := call("GET", "/twofactor/check", ""); a.status != http.StatusOK {
		t.Errorf("check: %v", a)
	}
	bank := v.api(t, "bank-api")
	bank.is(bank.form("/introspect/two-factor", url.Values{"access_token": {randomText()}, "token": {token}}), http.StatusOK)
	call("PUT", "/twofactor/configure", `{"otp-token-live-time":200}`)
	call("POST", "/twofactor/invalidate", `{"token":"`+token+`"}`)
	token = v.learn("TFA token", token[:31]+"f").value
	call("GET", "/twofactor/check", "")
	token = ""
	call("POST", "/twofactor?deliveryMethod=email", "{}") // and leaves it there
	m = v.mail.next(t, p.email, "OTP")
	v.tell("code", fineractCode.FindString(m.text[strings.Index(m.text, "OTP"):]), m.id)
}

// pays starts a transaction, and approves it by a code and the transaction password.
func (v *vault) pays(t *testing.T, p *person, sub, password string) {
	bank := v.api(t, "bank-api")
	token := bank.is(bank.form("/token", url.Values{"grant_type": {"client_credentials"}, "scope": {"transactions"}}), http.StatusOK).text("access_token")
	start := func() string {
		body, _ := json.Marshal(map[string]any{"type": "payment", "amount": "120.50", "currency": "EUR", "sub": sub, "reference": "invoice 7",
			"payee": map[string]string{"name": "Meadow Dairy", "account": v.learn("account", "KE9"+digitsOf(12)).value}, "from_account": v.learn("account", "8"+digitsOf(11)).value})
		made := bank.is(bank.call(http.MethodPost, v.mtlsBase+"/transactions/v1", token, "application/json", body), http.StatusCreated)
		return made.text("id")
	}
	id := start()
	p.open("/transactions/" + id).want("transaction_page")
	factor := regexp.MustCompile(`name="factor"[^>]*value="([^"]*)"`).FindAllStringSubmatch(p.page.body, -1)
	if len(factor) == 0 {
		t.Fatalf("no way to approve\n%s", p.page.body)
	}
	p.send(`id="send_button"`, "factor", html.UnescapeString(factor[0][1]), "do", "send").want("transaction_page")
	code := v.paymentCode(p)
	p.send(`id="code"`, "code", p.wrong(), "transaction_password", password, "do", "approve")
	p.want("transaction_page").send(`id="code"`, "code", code, "transaction_password", v.learn("password", "not that & "+randomText()).value, "do", "approve")
	p.want("transaction_page").send(`id="code"`, "code", code, "transaction_password", password, "do", "approve").want("transaction_page")
	if got := bank.call(http.MethodGet, v.mtlsBase+"/transactions/v1/"+id, token, "", nil); got.text("status") != "approved" {
		t.Errorf("the transaction: %v", got)
	}
	p.open("/transactions/"+start()).send(`id="reject_button"`, "do", "reject", "reason", "not mine")
	p.open("/transactions/"+start()).send(`id="send_button"`, "factor", html.UnescapeString(factor[0][1]), "do", "send") // and leaves it there
	v.paymentCode(p)
	bank.call(http.MethodPost, v.mtlsBase+"/transactions/v1", token, "application/json", []byte(`{"payee":"`+v.learn("account", "KE8"+digitsOf(12)).value+`", and no more JSON`))
}

// paymentCode is the code in the message that a payment's approval needs, however it came.
func (v *vault) paymentCode(p *person) string {
	p.t.Helper()
	var code string
	waitUntil(p.t, "a code for a payment", 10*time.Second, func() bool {
		for _, b := range []*inbox{v.mail, v.sms} {
			if m, there := b.take(func(m message) bool { return strings.Contains(m.text, "approves") }); there {
				code = v.tell("code", sixDigits.FindString(m.text), m.id)
			}
		}
		return code != ""
	})
	return code
}

// fumbles are requests that are wrong in ways that an error could quote.
func (v *vault) fumbles(t *testing.T, p *person) {
	c := v.watch(v.browser(nil))
	secret := func() string { return v.learn("password", "in a bad request & "+randomText()).value }
	post := func(path, kind, body string) {
		r, err := http.NewRequest(http.MethodPost, v.issuer+path, strings.NewReader(body))
		ok(t, err)
		r.Header.Set("Content-Type", kind)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		do(c, r)
	}
	const form = "application/x-www-form-urlencoded"
	for _, path := range []string{"/login", "/sign-up", "/recover", "/recover/code", "/login/second-factor", "/invitation", "/self/password", "/par", "/token", "/device", "/approvals/user-code", "/bc-authorize", "/introspect"} {
		post(path, form, "password="+url.QueryEscape(secret())+"&password="+url.QueryEscape(secret()))
		post(path, form, "username=%zz&password="+secret())
		post(path, form, "username="+url.QueryEscape(p.username)+"%00&password="+url.QueryEscape(secret())+"%ff%00&code="+p.wrong())
		post(path, "application/json", `{"password":"`+secret()+`"}`)
		post(path+"?password="+url.QueryEscape(secret()), form, "x=y")
		post(path, form, "password="+strings.Repeat(url.QueryEscape(secret()), 3000))
	}
	for _, path := range []string{"/nothing/" + url.PathEscape(secret()), "/login?password=" + url.QueryEscape(secret()), "/authorize?client_id=" + url.QueryEscape(secret()), "/authorize?client_id=tpp&request_uri=" + url.QueryEscape(secret()),
		"/login/idp/meadow/callback?code=" + url.QueryEscape(secret()) + "&state=" + randomText(), "/self/activity?before=" + url.QueryEscape(secret()), "/grants/" + randomText()} {
		for _, authorization := range []string{"", "Bearer " + secret(), "Basic " + base64.StdEncoding.EncodeToString([]byte(p.username+":"+secret())), "DPoP " + secret(), secret()} {
			r, err := http.NewRequest(http.MethodGet, v.issuer+path, nil)
			ok(t, err)
			r.Header.Set("Authorization", authorization)
			r.Header.Set("DPoP", secret())
			r.Header.Set("Cookie", "__Host-login="+v.learn("cookie", randomText()+randomText()).value)
			do(c, r)
		}
	}
}

func noncesOf(host, nonce string) *sync.Map {
	m := &sync.Map{}
	if nonce != "" {
		m.Store(host, nonce)
	}
	return m
}
