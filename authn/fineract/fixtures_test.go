package fineract_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp/totp"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/reach"
	"github.com/countersign/countersign/storage"
)

const tfaHeader = "Fineract-Platform-TFA-Token"

type m = map[string]any

// post is a way to reach customers of which the test is the far end.
type post struct {
	kind string
	mu   sync.Mutex
	sent []reach.Message
}

func (p *post) Kind() string                { return p.kind }
func (p *post) Reaches(reach.Customer) bool { return true }
func (p *post) Send(_ context.Context, msg reach.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, msg)
	return nil
}

// next waits for the n-th message, the first being 1.
func (p *post) next(t testing.TB, n int) reach.Message {
	t.Helper()
	for range 2000 {
		p.mu.Lock()
		sent := slices.Clone(p.sent)
		p.mu.Unlock()
		if len(sent) >= n {
			return sent[n-1]
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("message %d by %s has not come", n, p.kind)
	return reach.Message{}
}

// bank is a server with a customer, alice, who has an email address and a telephone of which both are known to be hers.
type bank struct {
	*authztest.Server
	alice     uuid.UUID
	mail, sms *post
	context   string
}

func start(t testing.TB, options ...authztest.Options) *bank {
	t.Helper()
	o := authztest.Options{}
	if len(options) > 0 {
		o = options[0]
	}
	b := &bank{mail: &post{kind: reach.KindEmail}, sms: &post{kind: reach.KindSMS}, context: "/fineract-provider/api/v1"}
	if o.Channels == nil {
		o.Channels = b.channels
	}
	if o.Fineract.Institution == "" {
		o.Fineract.Institution = "Meadow Bank"
	}
	b.Server = authztest.Start(t, o)
	b.alice = b.customer(t, authztest.Username)
	if o.Like == nil {
		b.knows(t, b.alice, storage.Profile{
			Username: authztest.Username, Name: "Alice Doe", GivenName: "Alice", FamilyName: "O'Doe & Sons",
			Email: "alice@example.com", EmailVerified: true, PhoneNumber: "+254711000222", PhoneNumberVerified: true,
		})
	}
	return b
}

func (b *bank) channels(*authztest.Server) []reach.Channel { return []reach.Channel{b.mail, b.sms} }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// customer finds a customer by user name: of two there are, alice is the older.
func (b *bank) customer(t testing.TB, username string) (id uuid.UUID) {
	t.Helper()
	c, err := b.DB.FindCustomer(t.Context(), "default", username)
	check(t, err)
	return c.ID
}

func (b *bank) knows(t testing.TB, id uuid.UUID, p storage.Profile) {
	t.Helper()
	plain, err := json.Marshal(p)
	check(t, err)
	b.SQL(t, `UPDATE customers SET profile = $2 WHERE id = $1`, [16]byte(id), b.DB.Keys().Seal("customers.profile", id[:], plain))
}

func (b *bank) grant(t testing.TB, id uuid.UUID, permissions ...string) {
	t.Helper()
	b.SQL(t, `UPDATE customers SET permissions = $2 WHERE id = $1`, [16]byte(id), permissions)
}

// anHourLater forgets how many codes were asked for.
func (b *bank) anHourLater(t testing.TB) {
	t.Helper()
	b.SQL(t, `UPDATE one_time_codes SET requests = 0`)
}

var appSecret = []byte("12345678901234567890")

// hasApp gives a customer an authenticator app.
func (b *bank) hasApp(t testing.TB, id uuid.UUID) {
	t.Helper()
	factor := storage.NewID()
	b.SQL(t, `INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at) VALUES ($1, $2, 'totp', $3, now())`,
		[16]byte(factor), [16]byte(id), b.DB.Keys().Seal("second_factors.secret", factor[:], appSecret))
}

func appCode(t testing.TB, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(appSecret), at)
	check(t, err)
	return code
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	raw    string
	body   any
}

func (a answer) object(t testing.TB) m {
	t.Helper()
	o, ok := a.body.(m)
	if !ok {
		t.Fatalf("%d %s: not an object", a.status, a.raw)
	}
	return o
}

// client is an app that was written for Fineract.
type client struct {
	b      *bank
	http   *http.Client
	header http.Header
}

// client makes one that sends the tenant's header with every call, and nothing else.
func (b *bank) client(t testing.TB) *client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: b.Roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{b, &http.Client{Transport: transport}, http.Header{"Fineract-Platform-Tenantid": {"default"}}}
}

// basic is one that sends alice's password too.
func (b *bank) basic(t testing.TB) *client {
	return b.client(t).as("Basic " + base64.StdEncoding.EncodeToString([]byte(authztest.Username+":"+authztest.Password)))
}

func (c *client) with(name, value string) *client {
	other := *c
	other.header = c.header.Clone()
	other.header.Set(name, value)
	return &other
}

func (c *client) without(name string) *client {
	other := *c
	other.header = c.header.Clone()
	other.header.Del(name)
	return &other
}

func (c *client) as(authorization string) *client { return c.with("Authorization", authorization) }
func (c *client) tfa(token string) *client        { return c.with(tfaHeader, token) }

func (c *client) call(t testing.TB, method, path, body string) answer {
	t.Helper()
	r, err := http.NewRequest(method, c.b.Issuer+c.b.context+path, strings.NewReader(body))
	check(t, err)
	r.Header = c.header.Clone()
	if body != "" && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(r)
	check(t, err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	check(t, err)
	a := answer{status: response.StatusCode, header: response.Header, raw: string(raw)}
	if len(raw) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		if err := decoder.Decode(&a.body); err != nil {
			t.Fatalf("%s %s: %d %s: %v", method, path, a.status, raw, err)
		}
		if got := response.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s %s: Content-Type %q", method, path, got)
		}
	}
	if response.Header.Get("Cache-Control") != "no-store" && method != http.MethodOptions {
		t.Errorf("%s %s: the answer may be cached", method, path)
	}
	return a
}

// is fails the test unless the answer has that status and, as JSON, that body.
func (a answer) is(t testing.TB, status int, body string) answer {
	t.Helper()
	if a.status != status || !sameJSON(t, a.raw, body) {
		t.Errorf("answered %d\n%s\nwant %d\n%s", a.status, a.raw, status, body)
	}
	return a
}

func sameJSON(t testing.TB, got, want string) bool {
	t.Helper()
	if got == "" || want == "" {
		return got == want
	}
	var values [2]any
	for i, text := range []string{got, want} {
		check(t, json.Unmarshal([]byte(text), &values[i]))
	}
	x, _ := json.Marshal(values[0])
	y, _ := json.Marshal(values[1])
	return bytes.Equal(x, y)
}

func number(t testing.TB, v any) int64 {
	t.Helper()
	n, ok := v.(json.Number)
	if !ok {
		t.Fatalf("%v (%T) is not a number", v, v)
	}
	i, err := n.Int64()
	check(t, err)
	return i
}

// asks asks for a code by email and returns it; n counts alice's mails.
func (c *client) asks(t testing.TB, n int, query string) string {
	t.Helper()
	if a := c.call(t, "POST", "/twofactor?deliveryMethod=email"+query, ""); a.status != 200 {
		t.Fatalf("code: %d %s", a.status, a.raw)
	}
	return codeIn(t, c.b.mail.next(t, n).Words.Text)
}

func codeIn(t testing.TB, text string) string {
	t.Helper()
	i := strings.LastIndex(text, " ")
	return strings.TrimSuffix(text[i+1:], ".")
}

func (c *client) validates(t testing.TB, code string) answer {
	t.Helper()
	return c.call(t, "POST", "/twofactor/validate?token="+url.QueryEscape(code), "")
}

// token takes a client to a token.
func (c *client) token(t testing.TB, n int, query string) string {
	t.Helper()
	return c.validates(t, c.asks(t, n, query)).object(t)["token"].(string)
}

// violation is the body of a refusal by a domain rule, in full.
func violation(code, text string) string {
	return `{"developerMessage":"Request was understood but caused a domain rule violation.","httpStatusCode":"403",` +
		`"defaultUserMessage":"Errors contain reason for domain rule violation.","userMessageGlobalisationCode":"validation.msg.domain.rule.violation",` +
		`"errors":[{"developerMessage":"` + text + `","defaultUserMessage":"` + text + `","userMessageGlobalisationCode":"` + code + `","parameterName":"id","args":[]}]}`
}

var (
	wrongOTP        = violation("error.msg.twofactor.otp.token.invalid", "The provided one time token is invalid")
	wrongDelivery   = violation("error.msg.twofactor.otp.delivery.invalid", "The requested OTP delivery method is not supported or not currently unavailable.")
	wrongToken      = violation("error.msg.twofactor.access.token.invalid", "The provided access token is invalid")
	tooMany         = violation("error.msg.twofactor.otp.requests.exceeded", "Too many one time tokens were requested. Please try again later.")
	unauthenticated = `{"developerMessage":"Invalid authentication details were passed in api request.","httpStatusCode":"401",` +
		`"defaultUserMessage":"Unauthenticated. Please login.","userMessageGlobalisationCode":"error.msg.not.authenticated","errors":null}`
	badBody = `{"developerMessage":"The JSON provided in the body of the request is invalid or missing.","defaultUserMessage":"The JSON provided in the body of the request is invalid or missing.",` +
		`"userMessageGlobalisationCode":"error.msg.invalid.request.body","parameterName":"id","args":[]}`
)

// badTFA fails the test unless a token was refused as Fineract does.
func (a answer) badTFA(t testing.TB) {
	t.Helper()
	if a.status != 401 || a.header.Get("WWW-Authenticate") != `Basic realm="Fineract Platform API Two Factor"` {
		t.Errorf("a bad token: %d %q %s", a.status, a.header.Get("WWW-Authenticate"), a.raw)
		return
	}
	o := a.object(t)
	if number(t, o["status"]) != 401 || o["error"] != "Unauthorized" || o["path"] == "" || len(o) != 4 {
		t.Errorf("a bad token: %s", a.raw)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000-07:00", o["timestamp"].(string)); err != nil {
		t.Error(err)
	}
}

func decoded(t testing.TB, text string) (v any) {
	t.Helper()
	check(t, json.Unmarshal([]byte(text), &v))
	return v
}
