package fineract_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/countersign/countersign/authn/fineract"
	"github.com/countersign/countersign/authz/authztest"
)

const appOrigin = "https://app.bank.example"

// raw sends a request as it stands, line for line, and so without what net/http would make of it. Host, Content-Length and
// Connection are added.
func (b *bank) raw(t testing.TB, request string) answer {
	t.Helper()
	u, err := url.Parse(b.Issuer)
	check(t, err)
	conn, err := tls.Dial("tcp", u.Host, &tls.Config{RootCAs: b.Roots})
	check(t, err)
	defer conn.Close()
	head, body, _ := strings.Cut(strings.TrimLeft(request, "\n"), "\n\n")
	line, fields, _ := strings.Cut(head, "\n")
	method, target, _ := strings.Cut(line, " ")
	lines := []string{method + " " + target + " HTTP/1.1", "Host: " + u.Host, "Connection: close"}
	if fields != "" {
		lines = append(lines, strings.Split(fields, "\n")...)
	}
	if body != "" || method != http.MethodGet && method != http.MethodOptions {
		lines = append(lines, "Content-Length: "+strconv.Itoa(len(body)))
	}
	_, err = io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"+body)
	check(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	check(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(t, err)
	a := answer{status: response.StatusCode, header: response.Header, raw: string(text)}
	if len(text) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		check(t, decoder.Decode(&a.body))
	}
	return a
}

// replay fills in {key}, {code}, {token} … and sends.
func (b *bank) replay(t testing.TB, request string, values ...string) answer {
	t.Helper()
	return b.raw(t, strings.NewReplacer(values...).Replace(request))
}

const aliceKey = "YWxpY2U6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ=="

// What openMF/web-app (Angular; authentication.service.ts, authentication.interceptor.ts of 2025) sends from a browser: the calls of
// its HttpClient with its headers, each after the browser's preflight.
func TestReplay_WebApp(t *testing.T) {
	t.Parallel()
	b := start(t, authztest.Options{Fineract: fineract.Config{Origins: []string{appOrigin}}})
	const common = "Origin: " + appOrigin + "\nReferer: " + appOrigin + "/\nAccept: application/json, text/plain, */*\nFineract-Platform-TenantId: default\n" +
		"Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: cors\nSec-Fetch-Dest: empty\n"
	seen := func(a answer) answer {
		t.Helper()
		if a.header.Get("Access-Control-Allow-Origin") != appOrigin {
			t.Errorf("the browser hides the answer: %d %v", a.status, a.header)
		}
		return a
	}
	preflight := func(path, method, headers string) {
		t.Helper()
		a := seen(b.raw(t, "OPTIONS "+path+"\nOrigin: "+appOrigin+"\nAccess-Control-Request-Method: "+method+"\nAccess-Control-Request-Headers: "+headers+
			"\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: cors\nSec-Fetch-Dest: empty\n"))
		allowed := strings.ToLower(strings.ReplaceAll(a.header.Get("Access-Control-Allow-Headers"), " ", ""))
		for name := range strings.SplitSeq(headers, ",") {
			if !strings.Contains(","+allowed+",", ","+name+",") {
				t.Errorf("%s: the browser may not send %s", path, name)
			}
		}
		if a.status != 200 || !strings.Contains(a.header.Get("Access-Control-Allow-Methods"), method) {
			t.Errorf("preflight of %s %s: %d %v", method, path, a.status, a.header)
		}
	}

	preflight("/fineract-provider/api/v1/authentication", "POST", "content-type,fineract-platform-tenantid")
	a := seen(b.raw(t, "POST /fineract-provider/api/v1/authentication\n"+common+"Content-Type: application/json\n\n"+
		`{"username":"alice","password":"`+authztest.Password+`"}`))
	me := a.object(t)
	if a.status != 200 || me["isTwoFactorAuthenticationRequired"] != true || me["shouldRenewPassword"] != false || me["base64EncodedAuthenticationKey"] != aliceKey {
		t.Fatalf("%d %s", a.status, a.raw)
	}

	authorized := common + "Authorization: Basic " + aliceKey + "\n"
	preflight("/fineract-provider/api/v1/twofactor", "GET", "authorization,fineract-platform-tenantid")
	methods := seen(b.raw(t, "GET /fineract-provider/api/v1/twofactor\n"+authorized)).is(t, 200, `[{"name":"email","target":"a•••@example.com"}]`).body.([]any)
	b.replay(t, "POST /fineract-provider/api/v1/twofactor?deliveryMethod={name}&extendedToken=true\n"+authorized+"Content-Type: application/json\n\n{}",
		"{name}", methods[0].(m)["name"].(string))
	code := codeIn(t, b.mail.next(t, 1).Words.Text)
	a = seen(b.raw(t, "POST /fineract-provider/api/v1/twofactor/validate?token="+code+"\n"+authorized+"Content-Type: application/json\n\n{}"))
	token := a.object(t)["token"].(string)
	if number(t, a.object(t)["validTo"])-number(t, a.object(t)["validFrom"]) != 604800000 {
		t.Errorf("%s: the customer is not remembered for a week", a.raw)
	}

	preflight("/fineract-provider/api/v1/twofactor/check", "GET", "authorization,fineract-platform-tenantid,fineract-platform-tfa-token")
	signedIn := authorized + fineract.TokenHeader + ": " + token + "\n"
	if a := seen(b.raw(t, "GET /fineract-provider/api/v1/twofactor/check\n"+signedIn)); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	seen(b.raw(t, "POST /fineract-provider/api/v1/twofactor/invalidate\n"+signedIn+"Content-Type: application/json\n\n"+`{"token":"`+token+`"}`)).
		is(t, 200, `{"resourceIdentifier":"`+token+`"}`)
	seen(b.raw(t, "GET /fineract-provider/api/v1/twofactor/check\n"+signedIn)).badTFA(t)
	// A wrong password: the app shows what the error says, so it has to see it.
	seen(b.raw(t, "POST /fineract-provider/api/v1/authentication\n"+common+"Content-Type: application/json\n\n"+`{"username":"alice","password":"wrong"}`)).is(t, 401, unauthenticated)
}

// What openMF/community-app (AngularJS; AuthenticationService.js, ResourceFactoryProvider.js, EditTwoFactorConfigController.js) sends.
// Its $resource puts the parameters of a POST into body and query, its forms send every value as a string.
func TestReplay_CommunityApp(t *testing.T) {
	t.Parallel()
	b := start(t, authztest.Options{Fineract: fineract.Config{Origins: []string{appOrigin}}})
	b.grant(t, b.alice, "ALL_FUNCTIONS")
	const common = "Origin: " + appOrigin + "\nAccept: application/json, text/plain, */*\nFineract-Platform-TenantId: default\n"
	const sends = "Content-Type: application/json;charset=utf-8\n\n"
	api := "/fineract-provider/api/v1"
	me := b.raw(t, "POST "+api+"/authentication\n"+common+sends+`{"username":"alice","password":"`+authztest.Password+`"}`).object(t)
	if me["isTwoFactorAuthenticationRequired"] != true {
		t.Fatal("ALL_FUNCTIONS stands for BYPASS_TWOFACTOR")
	}
	authorized := common + "Authorization: Basic " + me["base64EncodedAuthenticationKey"].(string) + "\n"
	a := b.raw(t, "POST "+api+"/twofactor?deliveryMethod=email&extendedToken=false\n"+authorized+sends+`{"deliveryMethod":"email","extendedToken":false}`)
	if o := a.object(t); a.status != 200 || o["extendedAccessToken"] != false || number(t, o["tokenLiveTimeInSec"]) != 300 {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	a = b.raw(t, "POST "+api+"/twofactor/validate?token="+codeIn(t, b.mail.next(t, 1).Words.Text)+"\n"+authorized) // no body, no media type
	token := a.object(t)["token"].(string)
	signedIn := authorized + fineract.TokenHeader + ": " + token + "\n"

	b.raw(t, "GET "+api+"/twofactor/configure\n"+signedIn).is(t, 200, defaults)
	b.raw(t, "PUT "+api+"/twofactor/configure\n"+signedIn+sends+
		`{"otp-delivery-sms-enable":"true","otp-delivery-sms-provider":"1","otp-delivery-sms-text":"Your authentication token for Fineract is {{token}}."}`).
		is(t, 200, `{"changes":{"otp-delivery-sms-enable":true}}`)
	b.raw(t, "PUT "+api+"/twofactor/configure\n"+signedIn+sends+
		`{"otp-token-length":"6","access-token-live-time-extended":"604800","otp-token-live-time":"300","access-token-live-time":"86400"}`).
		is(t, 200, `{"changes":{"otp-token-length":6}}`)

	b.raw(t, "POST "+api+"/twofactor/invalidate\n"+signedIn+sends+`{"token": "null"}`).is(t, 403, wrongToken)
	b.raw(t, "POST "+api+"/twofactor/invalidate\n"+signedIn+sends+`{"token": "`+token+`"}`).is(t, 200, `{"resourceIdentifier":"`+token+`"}`)
}

// What Fineract's own end-to-end test (twofactor-tests/TwoFactorAuthenticationTest.java, REST Assured) sends and expects, the tenant
// always in the query. Where it calls /offices/1, which is Fineract's, stands our own check; where it expects the customer's whole address, the
// setting that shows it.
func TestReplay_FineractsOwnTest(t *testing.T) {
	t.Parallel()
	b := start(t, authztest.Options{Fineract: fineract.Config{FullTargets: true}})
	b.grant(t, b.alice, "ALL_FUNCTIONS")
	const spec = "Accept: */*\nUser-Agent: Apache-HttpClient/4.5.13 (Java/17.0.8)\nAccept-Encoding: gzip,deflate\nContent-Type: application/json\n"
	const office = "/fineract-provider/api/v1/twofactor/check?tenantIdentifier=default"
	a := b.raw(t, "POST /fineract-provider/api/v1/authentication?tenantIdentifier=default\n"+spec+"\n"+`{"username":"alice", "password":"`+authztest.Password+`"}`)
	if a.object(t)["isTwoFactorAuthenticationRequired"] != true { // testCheckTwofactorEnabled
		t.Errorf("%d %s", a.status, a.raw)
	}
	key := spec + "Authorization: Basic " + a.object(t)["base64EncodedAuthenticationKey"].(string) + "\n"
	if a := b.raw(t, "GET "+office+"\n"+key); a.status != 403 || a.object(t)["error"] != "Forbidden" { // testAccessWithoutTwofactor
		t.Errorf("%d %s", a.status, a.raw)
	}
	b.raw(t, "GET /fineract-provider/api/v1/twofactor?tenantIdentifier=default\n"+key).is(t, 200, `[{"name":"email","target":"alice@example.com"}]`) // testGetTwofactorMethods

	mails := 0
	pattern := regexp.MustCompile(`token is (.+).`)
	login := func() (code, with string) { // testTwofactorLogin
		t.Helper()
		if a := b.raw(t, "POST /fineract-provider/api/v1/twofactor?deliveryMethod=email&extendedToken=false&tenantIdentifier=default\n"+key); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.raw)
		}
		mails++
		code = pattern.FindStringSubmatch(b.mail.next(t, mails).Words.Text)[1]
		token := b.raw(t, "POST /fineract-provider/api/v1/twofactor/validate?token="+code+"&tenantIdentifier=default\n"+key).object(t)["token"].(string)
		with = key + "Fineract-Platform-TFA-Token: " + token + "\n"
		if a := b.raw(t, "GET "+office+"\n"+with); a.status != 200 {
			t.Errorf("%d %s", a.status, a.raw)
		}
		return code, with
	}
	logout := func(with string) {
		t.Helper()
		token := strings.TrimSpace(with[strings.LastIndex(with, " "):])
		if a := b.raw(t, "POST /fineract-provider/api/v1/twofactor/invalidate?tenantIdentifier=default\n"+with+"\n"+`{ "token": "`+token+`" }`); a.status != 200 {
			t.Errorf("%d %s", a.status, a.raw)
		}
		b.raw(t, "GET "+office+"\n"+with).badTFA(t)
	}
	length := func(with string) int64 {
		t.Helper()
		return number(t, b.raw(t, "GET /fineract-provider/api/v1/twofactor/configure?tenantIdentifier=default\n"+with).object(t)["otp-token-length"])
	}
	code, with := login() // testTfaConfigSettings
	if length(with) != int64(len(code)) {
		t.Errorf("the code %q has another length than is configured", code)
	}
	b.raw(t, "PUT /fineract-provider/api/v1/twofactor/configure?tenantIdentifier=default\n"+with+"\n"+`{"otp-token-length": 10 }`).is(t, 200, `{"changes":{"otp-token-length":10}}`)
	logout(with)
	code, with = login()
	if len(code) != 10 || length(with) != 10 {
		t.Errorf("code %q, %d configured", code, length(with))
	}
	b.raw(t, "PUT /fineract-provider/api/v1/twofactor/configure?tenantIdentifier=default\n"+with+"\n"+`{"otp-token-length": 5}`).is(t, 200, `{"changes":{"otp-token-length":5}}`)
	if length(with) != 5 {
		t.Error("the length was not set back")
	}
	logout(with)
	if got, _ := base64.StdEncoding.DecodeString(aliceKey); string(got) != "alice:"+authztest.Password {
		t.Errorf("the key is of %q", got)
	}
}
