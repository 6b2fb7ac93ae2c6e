package reach_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/reach"
)

const (
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newer  = "whsec_YW5vdGhlciBzZWNyZXQgb2YgMzIgYnl0ZXMgaW4gYWxs"
)

func newSMS(t *testing.T, s *server, template string) *reach.SMS {
	t.Helper()
	c, err := reach.NewSMS(reach.SMSOptions{URL: s.URL + "/send?account=hidden", Token: "swordfish", Template: template, Bank: "Meadow Bank", RootCAs: s.roots})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newWebhook(t *testing.T, s *server, secrets ...string) *reach.Webhook {
	t.Helper()
	c, err := reach.NewWebhook(reach.WebhookOptions{URL: s.URL + "/hook?account=hidden", Secrets: secrets, RootCAs: s.roots})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSMS_Request(t *testing.T) {
	t.Parallel()
	text := "Meadow Bank: Something needs your decision. If you did not start anything just now, refuse it. " + approvals
	for name, test := range map[string]struct{ template, want string }{
		"by default": {"", `{"to":"+254711000222","text":"TEXT"}`},
		"as the gateway wants it": {
			`{"messages": [{"destinations": [{"to": "tel:{to}", "messageId": "{id}"}], "from": "BANK", "text": "{text} {to}", "flash": false, "validity": 5, "{to}": null}]}`,
			`{"messages": [{"destinations": [{"to": "tel:+254711000222", "messageId": "ID"}], "from": "BANK", "text": "TEXT +254711000222", "flash": false, "validity": 5, "{to}": null}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, m := serve(t), approval()
			if err := newSMS(t, s, test.template).Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			p := s.one(t)
			if p.header.Get("Authorization") != "Bearer swordfish" || p.header.Get("Content-Type") != "application/json" || p.header.Get("Idempotency-Key") != m.ID {
				t.Errorf("%v", p.header)
			}
			var got, want any
			if err := json.Unmarshal(p.body, &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(strings.NewReplacer("TEXT", text, "ID", m.ID).Replace(test.want)), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A name with quotes, line ends or place holders stays inside its string.
func TestSMS_NothingGetsOutOfItsPlace(t *testing.T) {
	t.Parallel()
	s := serve(t)
	bank := "Meadow\", \"to\": \"+1900\"}\r\n{to} {text} \\ <b>"
	c, err := reach.NewSMS(reach.SMSOptions{URL: s.URL, Bank: bank, RootCAs: s.roots})
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []string{"", "0711000222", "+0711000222", "+25471100022211111", "+254711000222\n+1900", "+254 711 000 222", `+254711000222"`, "tel:+254711000222"} {
		m := approval()
		m.To.PhoneNumber = number
		if err := c.Send(t.Context(), m); c.Reaches(m.To) || !errors.Is(err, reach.ErrRefused) {
			t.Errorf("%q: %v", number, err)
		}
	}
	if err := c.Send(t.Context(), approval()); err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(s.one(t).body, &got); err != nil || len(got) != 2 || got["to"] != "+254711000222" || !strings.HasPrefix(got["text"], bank+": ") {
		t.Errorf("%v, %q", err, got)
	}
	if s.one(t).header.Get("Authorization") != "" {
		t.Error("a token that nobody set")
	}
}

// Standard Webhooks: what is signed, and that it is the same identifier at each attempt. independent_test.go has their library
// verify it.
func TestWebhook_Request(t *testing.T) {
	t.Parallel()
	s, m := serve(t), approval()
	c := newWebhook(t, s, secret, newer)
	now := time.Now()
	for range 2 {
		c.SetClock(func() time.Time { return now })
		if err := c.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute)
	}
	for i, p := range s.got() {
		at := strconv.FormatInt(now.Add(time.Duration(i-2)*time.Minute).Unix(), 10)
		var want []string
		for _, text := range []string{secret, newer} {
			key, err := base64.StdEncoding.DecodeString(text[len("whsec_"):])
			if err != nil {
				t.Fatal(err)
			}
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(m.ID + "." + at + "." + string(p.body)))
			want = append(want, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		}
		if p.header.Get("webhook-id") != m.ID || p.header.Get("webhook-timestamp") != at || p.header.Get("webhook-signature") != strings.Join(want, " ") {
			t.Errorf("%v, want %s %s", p.header, at, want)
		}
	}
	want := map[string]any{
		"type": "approval.requested", "id": m.ID, "created_at": m.CreatedAt.UTC().Format(time.RFC3339Nano), "data": map[string]any{
			"approval_id": m.About, "customer_id": m.To.ID.String(), "fineract_client_id": 7.0, "tenant": "default", "expires_at": m.ExpiresAt.UTC().Format(time.RFC3339Nano),
		},
	}
	var got any
	if err := json.Unmarshal(s.got()[0].body, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Error(diff)
	}
}

// The operator's own servers: what is retried, what is given up, and that they must prove who they are.
func TestOwnServers_HowItEnds(t *testing.T) {
	t.Parallel()
	for channel, connect := range map[string]func(*testing.T, *server) reach.Channel{
		"sms":     func(t *testing.T, s *server) reach.Channel { return newSMS(t, s, "") },
		"webhook": func(t *testing.T, s *server) reach.Channel { return newWebhook(t, s, secret) },
	} {
		for _, test := range []struct {
			status  int
			fails   bool
			refused bool
		}{
			{200, false, false}, {202, false, false}, {204, false, false},
			{302, true, true}, {400, true, true}, {401, true, true}, {404, true, true}, {410, true, true},
			{408, true, false}, {425, true, false}, {429, true, false}, {500, true, false}, {502, true, false}, {503, true, false},
		} {
			t.Run(channel+"/"+strconv.Itoa(test.status), func(t *testing.T) {
				t.Parallel()
				s := serve(t)
				s.answer(test.status)
				err := connect(t, s).Send(t.Context(), approval())
				if (err != nil) != test.fails || errors.Is(err, reach.ErrRefused) != test.refused {
					t.Errorf("%v", err)
				}
				mustNotShow(t, err, "hidden", "swordfish", secret)
				s.one(t)
			})
		}
		t.Run(channel+"/slow", func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			s.delay = 3 * time.Second
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			err := connect(t, s).Send(ctx, approval())
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, reach.ErrRefused) {
				t.Errorf("%v", err)
			}
			mustNotShow(t, err, "hidden")
		})
		t.Run(channel+"/nobody there", func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			c := connect(t, s)
			s.Close()
			err := c.Send(t.Context(), approval())
			if err == nil || errors.Is(err, reach.ErrRefused) {
				t.Errorf("%v", err)
			}
			mustNotShow(t, err, "hidden")
		})
		t.Run(channel+"/another certificate", func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			trusted := s.roots
			s.roots = nil // the system's
			err := connect(t, s).Send(t.Context(), approval())
			if err == nil || errors.Is(err, reach.ErrRefused) || len(s.got()) != 0 {
				t.Errorf("%v, %d requests", err, len(s.got()))
			}
			s.roots = trusted
		})
	}
}

func TestSettingsOfOwnServers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		url, template, token string
		ok                   bool
	}{
		"enough":              {"https://gateway.example/send", "", "", true},
		"private":             {"https://10.0.0.1:8443/send", "", "", true},
		"http":                {"http://gateway.example/send", "", "", false},
		"no URL":              {"", "", "", false},
		"a password in it":    {"https://a:b@gateway.example/send", "", "", false},
		"not JSON":            {"https://gateway.example", "to={to}&text={text}", "", false},
		"two of them":         {"https://gateway.example", `{"a":"{to}"} {"b":"{text}"}`, "", false},
		"no recipient":        {"https://gateway.example", `{"text":"{text}"}`, "", false},
		"nothing to say":      {"https://gateway.example", `{"to":"{to}"}`, "", false},
		"a token of two line": {"https://gateway.example", "", "a\r\nb", false},
	} {
		if _, err := reach.NewSMS(reach.SMSOptions{URL: test.url, Template: test.template, Token: test.token}); (err == nil) != test.ok {
			t.Errorf("SMS: %s: %v", name, err)
		}
	}
	for name, test := range map[string]struct {
		url     string
		secrets []string
		ok      bool
	}{
		"one secret":       {"https://bank.example/hook", []string{secret}, true},
		"two":              {"https://bank.example/hook", []string{secret, newer + "\n"}, true},
		"none":             {"https://bank.example/hook", nil, false},
		"an empty one":     {"https://bank.example/hook", []string{secret, ""}, false},
		"without whsec_":   {"https://bank.example/hook", []string{secret[6:]}, false},
		"short":            {"https://bank.example/hook", []string{"whsec_c2hvcnQ="}, false},
		"not base64":       {"https://bank.example/hook", []string{"whsec_!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"}, false},
		"http":             {"http://bank.example/hook", []string{secret}, false},
		"with a fragment?": {"https://bank.example/hook#x", []string{secret}, false},
	} {
		_, err := reach.NewWebhook(reach.WebhookOptions{URL: test.url, Secrets: test.secrets})
		if (err == nil) != test.ok {
			t.Errorf("webhook: %s: %v", name, err)
		}
		mustNotShow(t, err, secret[6:])
	}
}

func TestChannels_WhomTheyReach(t *testing.T) {
	t.Parallel()
	s := serve(t)
	browser := subscribe(t, s.URL).Subscription
	all := []reach.Channel{
		newWebPush(t, nil, &forgotten{}), newSMS(t, s, ""), newWebhook(t, s, secret),
		newEmail(t, reach.EmailOptions{Address: "mail.example:587", TLS: reach.StartTLS, From: "no-reply@bank.example"}),
	}
	for name, test := range map[string]struct {
		customer reach.Customer
		want     string
	}{
		"nothing known": {reach.Customer{}, "webhook"},
		"a browser":     {reach.Customer{Browsers: []reach.Subscription{browser}}, "web_push webhook"},
		"a phone":       {reach.Customer{PhoneNumber: "+254711000222"}, "sms webhook"},
		"an address":    {reach.Customer{Email: "alice@example.com"}, "webhook email"},
	} {
		var got []string
		for _, c := range all {
			if c.Reaches(test.customer) {
				got = append(got, c.Kind())
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, c := range all[1:] { // without a browser web push has nobody to tell
		m := approval()
		m.Type = "of.a.newer.version"
		if err := c.Send(t.Context(), m); c.Kind() != reach.KindWebhook && !errors.Is(err, reach.ErrRefused) {
			t.Errorf("%s: %v", c.Kind(), err)
		}
	}
}
