package authz_test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
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

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/reach"
	"github.com/countersign/countersign/storage"
)

// ownChannel is one that a bank wrote itself.
type ownChannel struct {
	mu   sync.Mutex
	sent []reach.Message
}

func (c *ownChannel) Kind() string                   { return reach.KindEmail }
func (c *ownChannel) Reaches(to reach.Customer) bool { return to.Email != "" }

func (c *ownChannel) Send(_ context.Context, m reach.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, m)
	return nil
}

func (c *ownChannel) got() []reach.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.sent)
}

// farEnd is a push service, a gateway or a webhook: it keeps what arrives, and answers as its test says, by default with 204.
type farEnd struct {
	mu     sync.Mutex
	all    []farCall
	answer func(nth int, path string) (status int)
}

type farCall struct {
	path, authorization string
	body                []byte
}

// fields are the members of the body.
func (c farCall) fields(t *testing.T) (all map[string]any) {
	t.Helper()
	if err := json.Unmarshal(c.body, &all); err != nil {
		t.Fatalf("%v: %s", err, c.body)
	}
	return all
}

func (x *farEnd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all = append(x.all, farCall{r.URL.Path, r.Header.Get("Authorization"), body})
	status := http.StatusNoContent
	if x.answer != nil {
		status = x.answer(len(x.all), r.URL.Path)
	}
	w.WriteHeader(status)
}

func (x *farEnd) arrived() []farCall {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.all)
}

// arrives waits for the nth call.
func (x *farEnd) arrives(t *testing.T, n int) {
	t.Helper()
	soon(t, fmt.Sprintf("call %d", n), func() bool { return len(x.arrived()) >= n })
}

func always(status int) func(int, string) int { return func(int, string) int { return status } }

// reachable is a server that reaches alice in every way, with all that is at the other end.
type reachable struct {
	*authztest.Server
	speaker            *authztest.Client
	alice              uuid.UUID
	browsers, sms, app *farEnd
	email              *ownChannel
	pushService        string
	logs               *observer.ObservedLogs
}

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func startReachable(t *testing.T) *reachable {
	t.Helper()
	r := &reachable{browsers: &farEnd{}, sms: &farEnd{}, app: &farEnd{}, email: &ownChannel{}}
	var core zapcore.Core
	core, r.logs = observer.New(zapcore.DebugLevel)
	r.Server = authztest.Start(t, authztest.Options{Log: zap.New(core), Channels: r.channels(t)})
	r.pushService = r.Site(t, r.browsers)
	r.speaker = addBackchannel(t, r.Server, "speaker", fapi.PrivateKeyJWT, fapi.Poll, nil)
	conn, err := pgx.Connect(t.Context(), r.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), `SELECT id FROM customers`).Scan((*[16]byte)(&r.alice)); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *reachable) channels(t *testing.T) func(*authztest.Server) []reach.Channel {
	return func(s *authztest.Server) []reach.Channel {
		sms, err := reach.NewSMS(reach.SMSOptions{URL: s.Site(t, r.sms), Token: "gateway-token", Bank: "Meadow Bank", RootCAs: s.Roots})
		if err != nil {
			t.Fatal(err)
		}
		app, err := reach.NewWebhook(reach.WebhookOptions{URL: s.Site(t, r.app), Secrets: []string{webhookSecret}, RootCAs: s.Roots})
		if err != nil {
			t.Fatal(err)
		}
		return []reach.Channel{r.email, sms, app}
	}
}

// knows sets what the bank knows of alice.
func (r *reachable) knows(t *testing.T, p storage.Profile) {
	t.Helper()
	p.Username = authztest.Username
	profile, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	r.SQL(t, `UPDATE customers SET profile = $2 WHERE id = $1`, [16]byte(r.alice), r.DB.Keys().Seal("customers.profile", r.alice[:], profile))
}

var provenProfile = storage.Profile{Email: "alice@example.com", EmailVerified: true, PhoneNumber: "+254711000222", PhoneNumberVerified: true}

// subscribes lets a browser of alice's ring, and returns its endpoint.
func (r *reachable) subscribes(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := r.pushService + "/" + name
	document := fmt.Sprintf(`{"endpoint":%q,"keys":{"p256dh":%q,"auth":%q}}`, endpoint, base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()),
		base64.RawURLEncoding.EncodeToString(make([]byte, 16)))
	if err := r.DB.SavePushSubscription(t.Context(), r.alice, []byte(document), endpoint); err != nil {
		t.Fatal(err)
	}
	return endpoint
}

// quiet waits until nothing is left to be sent.
func (r *reachable) quiet(t *testing.T) {
	t.Helper()
	soon(t, "an empty queue", func() bool { return waiting(t, r.Server) == 0 })
}

// logged are all lines of the log.
func (r *reachable) logged() string {
	var all strings.Builder
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "m"})
	for _, e := range r.logs.All() {
		line, _ := encoder.EncodeEntry(e.Entry, e.Context)
		all.Write(line.Bytes())
	}
	return all.String()
}

// Each way that there is, once, and without a word of who asks for what.
func TestReach_EachWayOnce(t *testing.T) {
	t.Parallel()
	r := startReachable(t)
	r.knows(t, provenProfile)
	r.subscribes(t, "phone")
	r.subscribes(t, "laptop")
	b := beginBackchannel(t, r.speaker, url.Values{"binding_message": {"TIGER42"}})
	id := authorizationOf(t, r.Server, b).String()
	r.quiet(t)

	var paths []string
	for _, d := range r.browsers.arrived() {
		paths = append(paths, d.path)
	}
	slices.Sort(paths)
	if !slices.Equal(paths, []string{"/laptop", "/phone"}) {
		t.Errorf("rung: %v", paths)
	}
	if mails := r.email.got(); len(mails) != 1 || mails[0].URL != r.Issuer+"/approvals" || mails[0].Type != "approval.requested" || mails[0].To.Email != provenProfile.Email {
		t.Errorf("%+v", mails)
	}
	texts := r.sms.arrived()
	if len(texts) != 1 || texts[0].authorization != "Bearer gateway-token" || texts[0].fields(t)["to"] != provenProfile.PhoneNumber || !strings.HasSuffix(texts[0].fields(t)["text"].(string), " "+r.Issuer+"/approvals") {
		t.Errorf("%+v", texts)
	}
	for _, identifies := range []string{"TIGER42", "speaker", id, b.authReqID, r.alice.String(), "Doe"} {
		if len(texts) > 0 && strings.Contains(string(texts[0].body), identifies) {
			t.Errorf("the text says %q: %s", identifies, texts[0].body)
		}
	}
	events := r.app.arrived()
	if len(events) != 1 {
		t.Fatalf("%d webhooks", len(events))
	}
	data, _ := events[0].fields(t)["data"].(map[string]any)
	if data["approval_id"] != id || data["customer_id"] != r.alice.String() || data["fineract_client_id"] != 7.0 || data["tenant"] != "default" || data["expires_at"] == nil || len(data) != 5 {
		t.Errorf("%s", events[0].body)
	}
	for _, secret := range []string{provenProfile.Email, provenProfile.PhoneNumber, r.pushService, "gateway-token", webhookSecret, r.alice.String(), "TIGER42", b.authReqID} {
		if strings.Contains(r.logged(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// An address that nobody proved to be theirs is somebody else's.
func TestReach_OnlyWhatWasVerified(t *testing.T) {
	t.Parallel()
	r := startReachable(t)
	p := provenProfile
	p.EmailVerified, p.PhoneNumberVerified = false, false
	r.knows(t, p)
	beginBackchannel(t, r.speaker, nil)
	r.app.arrives(t, 1)
	r.quiet(t)
	if len(r.email.got())+len(r.sms.arrived())+len(r.browsers.arrived()) != 0 {
		t.Error("the customer was told at an address that is not known to be theirs")
	}
}

// What fails is tried again by itself: what has arrived does not arrive again.
func TestReach_EachWayByItself(t *testing.T) {
	t.Parallel()
	r := startReachable(t)
	r.knows(t, provenProfile)
	r.app.answer = func(nth int, _ string) int { return []int{503, 429, 200}[nth-1] }
	r.browsers.answer = always(http.StatusForbidden)
	r.subscribes(t, "phone")
	beginBackchannel(t, r.speaker, nil)
	r.app.arrives(t, 1)
	soon(t, "all but one way", func() bool { return waiting(t, r.Server) == 1 })
	for range 2 {
		due(t, r.Server)
		time.Sleep(100 * time.Millisecond)
	}
	r.app.arrives(t, 3)
	r.quiet(t)
	if n, m, k := len(r.sms.arrived()), len(r.email.got()), len(r.browsers.arrived()); n != 1 || m != 1 || k != 1 {
		t.Errorf("%d texts, %d mails, %d rings", n, m, k)
	}
	all := r.app.arrived()
	if len(all) != 3 || all[0].fields(t)["id"] != all[2].fields(t)["id"] || string(all[0].body) != string(all[2].body) {
		t.Error("an attempt is another event")
	}
}

// Nobody is told of what is over, whenever that came to be.
func TestReach_NothingAfterTheDecision(t *testing.T) {
	t.Parallel()
	for name, over := range map[string]func(*testing.T, *reachable, backchannelRequest){
		"approved": func(t *testing.T, r *reachable, b backchannelRequest) {
			decideBackchannel(t, r.Server, r.speaker, b, "approve")
		},
		"denied": func(t *testing.T, r *reachable, b backchannelRequest) {
			decideBackchannel(t, r.Server, r.speaker, b, "deny")
		},
		"expired": func(t *testing.T, r *reachable, b backchannelRequest) {
			r.SQL(t, `UPDATE authorizations SET expires_at = now()`)
		},
		"disabled": func(t *testing.T, r *reachable, b backchannelRequest) {
			if err := r.DB.DisableCustomer(t.Context(), r.alice); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startReachable(t)
			r.app.answer = always(http.StatusServiceUnavailable)
			b := beginBackchannel(t, r.speaker, nil)
			r.app.arrives(t, 1)
			soon(t, "a failure", func() bool { return r.logs.FilterMessage("not told yet").Len() == 1 })
			over(t, r, b)
			// And one that was not split yet.
			r.SQL(t, `INSERT INTO notifications (kind, client_id, about, due_at) SELECT 'approval', client_id, about - 'subscription_id', now() + interval '1 hour' FROM notifications`)
			due(t, r.Server)
			r.quiet(t)
			if n := len(r.app.arrived()); n != 1 {
				t.Errorf("told %d times", n)
			}
		})
	}
}

// RFC 8030 §7.3: the push service does not know the browser any more.
func TestReach_ABrowserThatIsGone(t *testing.T) {
	t.Parallel()
	r := startReachable(t)
	r.browsers.answer = func(_ int, path string) int {
		if path == "/old" {
			return http.StatusGone
		}
		return http.StatusCreated
	}
	r.subscribes(t, "old")
	r.subscribes(t, "new")
	for range 2 {
		beginBackchannel(t, r.speaker, nil)
		r.quiet(t)
	}
	if n := len(r.browsers.arrived()); n != 3 || r.Count(t, `SELECT count(*) FROM push_subscriptions`) != 1 {
		t.Errorf("rung %d times", n)
	}
}

func TestReach_NoWay(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.InfoLevel)
	s := authztest.Start(t, authztest.Options{Log: zap.New(core)})
	c := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, nil)
	b := beginBackchannel(t, c, nil)
	soon(t, "an empty queue", func() bool { return waiting(t, s) == 0 })
	if logs.FilterMessage("no way to tell the customer").Len() != 1 {
		t.Errorf("%v", logs.All())
	}
	decideBackchannel(t, s, c, b, "approve") // who looks by themselves finds it
}

// Of two replicas, one splits and one sends, whichever that is.
func TestReach_TwoReplicas(t *testing.T) {
	t.Parallel()
	r := startReachable(t)
	authztest.Start(t, authztest.Options{Like: r.Server, Channels: r.channels(t)})
	const n = 5
	for range n {
		beginBackchannel(t, r.speaker, nil)
	}
	r.quiet(t)
	ids := map[any]bool{}
	for _, d := range r.app.arrived() {
		data, _ := d.fields(t)["data"].(map[string]any)
		ids[data["approval_id"]] = true
	}
	if len(ids) != n || len(r.app.arrived()) != n {
		t.Errorf("%d webhooks of %d requests", len(r.app.arrived()), len(ids))
	}
}

func TestReach_OneChannelOfAKind(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	if err := s.CheckChannels(&ownChannel{}, &ownChannel{}); err == nil {
		t.Error("two channels share their notifications")
	}
	if err := s.CheckChannels(&ownChannel{}); err != nil {
		t.Error(err)
	}
}
