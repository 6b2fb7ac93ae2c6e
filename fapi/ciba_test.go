package fapi

import (
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Clients that may use CIBA, one for each way to learn the outcome.
var (
	pollTPP = sync.OnceValue(func() *Client { return mustPrepare(backchannelTPP(OpenID, Poll)) })
	pingTPP = sync.OnceValue(func() *Client { return mustPrepare(backchannelTPP(OpenID, Ping)) })
	pushTPP = sync.OnceValue(func() *Client { return mustPrepare(backchannelTPP(OpenID, Push)) })
	fapiTPP = sync.OnceValue(func() *Client { return mustPrepare(backchannelTPP(FAPICIBA, Poll)) })
)

// backchannelTPP is a client that may use CIBA and nothing else, not yet prepared.
func backchannelTPP(profile ProfileName, mode DeliveryMode) *Client {
	c := tpp(profile)
	c.RedirectURIs, c.GrantTypes = nil, []string{GrantCIBA}
	c.BackchannelTokenDeliveryMode = mode
	if mode.Notifies() {
		c.BackchannelClientNotificationEndpoint = "https://tpp.example/ciba"
	}
	return c
}

const notificationToken = "8d67dc78-7faa-4d41-aabd-67707b374255"

// backchannelParams is a complete CIBA request, with changes as those of request; an empty value stays.
func backchannelParams(changes ...string) url.Values {
	params := url.Values{"scope": {"openid accounts"}, "login_hint": {"alice"}, "client_notification_token": {notificationToken}, "binding_message": {"W4SCT"}}
	for _, change := range changes {
		name, value, set := strings.Cut(change, "=")
		if added, ok := strings.CutPrefix(name, "+"); ok {
			params.Add(added, value)
		} else if params.Del(name); set {
			params.Set(name, value)
		}
	}
	return params
}

func TestCheckBackchannelRequest(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 9<<10)
	for _, test := range []struct {
		name   string
		params url.Values
		want   Code
	}{
		{"CIBA-01: accepts a complete request", backchannelParams(), ""},
		{"CIBA-01: accepts the client's own client_id", backchannelParams("client_id=tpp"), ""},
		{"CIBA-01: an empty client_id is none", backchannelParams("client_id="), ""},
		{"CIBA-01: refuses another client_id", backchannelParams("client_id=other"), InvalidRequest},
		{"RFC 6749 §3.1: ignores what it does not know", backchannelParams("foo=bar"), ""},
		{"ignores what belongs to a redirect", backchannelParams("redirect_uri=https://evil.example", "response_type=token", "code_challenge=x", "nonce=n"), ""},
		{"ignores prompt, which CIBA does not have", backchannelParams("prompt=none login"), ""},

		{"CIBA-01: refuses no scope", backchannelParams("scope"), InvalidScope},
		{"CIBA-01: refuses an empty scope", backchannelParams("scope="), InvalidScope},
		{"CIBA-01: refuses a scope without openid", backchannelParams("scope=accounts"), InvalidScope},
		{"CIBA-01: refuses a scope in quotes", backchannelParams(`scope=openid "accounts"`), InvalidScope},
		{"CIBA-01: accepts openid alone", backchannelParams("scope=openid"), ""},
		{"CIBA-01: openid may stand last", backchannelParams("scope=accounts openid"), ""},
		{"CIBA-01: authorization_details do not stand for openid", backchannelParams("scope", `authorization_details=[{"type":"account_information"}]`), InvalidScope},

		{"CIBA-01: refuses no hint", backchannelParams("login_hint"), InvalidRequest},
		{"CIBA-01: refuses an empty hint", backchannelParams("login_hint="), InvalidRequest},
		{"CIBA-01: accepts id_token_hint", backchannelParams("login_hint", "id_token_hint=eyJ.e30.x"), ""},
		{"CIBA-01: accepts login_hint_token", backchannelParams("login_hint", "login_hint_token=eyJ.e30.x"), ""},
		{"CIBA-01: an empty hint beside another is none", backchannelParams("id_token_hint=", "login_hint_token="), ""},
		{"CIBA-01: refuses two hints", backchannelParams("id_token_hint=eyJ.e30.x"), InvalidRequest},
		{"CIBA-01: refuses two other hints", backchannelParams("login_hint_token=eyJ.e30.x"), InvalidRequest},
		{"CIBA-01: refuses two tokens", backchannelParams("login_hint", "login_hint_token=eyJ.e30.x", "id_token_hint=eyJ.e30.x"), InvalidRequest},
		{"CIBA-01: refuses three hints", backchannelParams("id_token_hint=eyJ.e30.x", "login_hint_token=eyJ.e30.x"), InvalidRequest},
		{"CIBA-01: accepts a hint of 16 KiB", backchannelParams("login_hint=" + strings.Repeat("x", 16<<10)), ""},
		{"CIBA-01: refuses a longer one", backchannelParams("login_hint=" + strings.Repeat("x", 16<<10+1)), InvalidRequest},
		{"CIBA-01: refuses a hint with a line feed", backchannelParams("login_hint=ali\nce"), InvalidRequest},
		{"CIBA-01: refuses a hint that is no text", backchannelParams("login_hint=ali\xffce"), InvalidRequest},

		{"CIBA-05: accepts no binding_message", backchannelParams("binding_message"), ""},
		{"CIBA-05: an empty one is none", backchannelParams("binding_message="), ""},
		{"CIBA-05: accepts 1234", backchannelParams("binding_message=1234"), ""},
		{"CIBA-05: accepts ASCII punctuation", backchannelParams("binding_message=Pay 10.50 EUR (No. 4/7) to \"A&B\" <x>?"), ""},
		{"CIBA-05: accepts 64 characters", backchannelParams("binding_message=" + strings.Repeat("é", 64)), ""},
		{"CIBA-05: refuses 65 characters", backchannelParams("binding_message=" + strings.Repeat("x", 65)), InvalidBindingMessage},
		{"CIBA-05: accepts Chinese", backchannelParams("binding_message=品川 42"), ""},
		{"CIBA-05: accepts Devanagari, whose vowels are marks", backchannelParams("binding_message=हिन्दी ४२"), ""},
		{"CIBA-05: accepts Arabic", backchannelParams("binding_message=دفع ٤٢"), ""},
		{"CIBA-05: accepts a letter with its mark apart", backchannelParams("binding_message=cafe\u0301"), ""},
		{"CIBA-05: accepts four marks on a letter", backchannelParams("binding_message=a" + strings.Repeat("\u0301", 4)), ""},
		{"CIBA-05: refuses five", backchannelParams("binding_message=a" + strings.Repeat("\u0301", 5)), InvalidBindingMessage},
		{"CIBA-05: refuses a mark without letter", backchannelParams("binding_message=\u0301a"), InvalidBindingMessage},
		{"CIBA-05: refuses an emoji", backchannelParams("binding_message=1234 \U0001F44D\U0001F3FF"), InvalidBindingMessage},
		{"CIBA-05: refuses a line feed", backchannelParams("binding_message=a\nb"), InvalidBindingMessage},
		{"CIBA-05: refuses a tab", backchannelParams("binding_message=a\tb"), InvalidBindingMessage},
		{"CIBA-05: refuses DEL", backchannelParams("binding_message=a\x7fb"), InvalidBindingMessage},
		{"CIBA-05: refuses a C1 control", backchannelParams("binding_message=a\u0085b"), InvalidBindingMessage},
		{"CIBA-05: refuses a line separator", backchannelParams("binding_message=a\u2028b"), InvalidBindingMessage},
		{"CIBA-05: refuses a space that does not break", backchannelParams("binding_message=a\u00a0b"), InvalidBindingMessage},
		{"CIBA-05: refuses text turned round", backchannelParams("binding_message=\u202e4321"), InvalidBindingMessage},
		{"CIBA-05: refuses an isolate", backchannelParams("binding_message=a\u2067b"), InvalidBindingMessage},
		{"CIBA-05: refuses a joiner of no width", backchannelParams("binding_message=a\u200db"), InvalidBindingMessage},
		{"CIBA-05: refuses a letter that is not seen", backchannelParams("binding_message=a\u3164b"), InvalidBindingMessage},
		{"CIBA-05: refuses a mark that is not seen", backchannelParams("binding_message=a\ufe0fb"), InvalidBindingMessage},
		{"CIBA-05: refuses a private character", backchannelParams("binding_message=a\ue000b"), InvalidBindingMessage},
		{"CIBA-05: refuses a leading space", backchannelParams("binding_message= a"), InvalidBindingMessage},
		{"CIBA-05: refuses a trailing space", backchannelParams("binding_message=a "), InvalidBindingMessage},
		{"CIBA-05: refuses a superscript, which is no digit", backchannelParams("binding_message=4²"), InvalidBindingMessage},
		{"CIBA-05: refuses what is no text", backchannelParams("binding_message=a\xffb"), InvalidRequest},

		{"CIBA-01: accepts requested_expiry", backchannelParams("requested_expiry=120"), ""},
		{"CIBA-01: an empty requested_expiry is none", backchannelParams("requested_expiry="), ""},
		{"CIBA-01: refuses requested_expiry 0", backchannelParams("requested_expiry=0"), InvalidRequest},
		{"CIBA-01: refuses a negative one", backchannelParams("requested_expiry=-1"), InvalidRequest},
		{"CIBA-01: refuses a sign", backchannelParams("requested_expiry=+1"), InvalidRequest},
		{"CIBA-01: refuses a fraction", backchannelParams("requested_expiry=1.5"), InvalidRequest},
		{"CIBA-01: refuses an exponent", backchannelParams("requested_expiry=1e2"), InvalidRequest},
		{"CIBA-01: refuses a huge one", backchannelParams("requested_expiry=99999999999999999999"), InvalidRequest},
		{"CIBA-01: refuses a word", backchannelParams("requested_expiry=soon"), InvalidRequest},
		{"CIBA-01: refuses a space", backchannelParams("requested_expiry= 1"), InvalidRequest},
		{"CIBA-01: accepts acr_values and max_age", backchannelParams("acr_values=urn:a urn:b", "max_age=0"), ""},
		{"CIBA-01: refuses acr_values that are too long", backchannelParams("acr_values=" + long), InvalidRequest},
		{"CIBA-04: refuses a user_code that was not registered", backchannelParams("user_code=1234"), InvalidRequest},
		{"CIBA-04: an empty user_code is none", backchannelParams("user_code="), ""},
		{"X18: accepts openbanking_intent_id", backchannelParams("openbanking_intent_id=c1"), ""},
		{"X18: accepts it twice if it is the same", backchannelParams("openbanking_intent_id=c1", "openbanking-intent-id=c1", `claims={"id_token":{"openbanking_intent_id":{"value":"c1"}}}`), ""},
		{"X18: refuses two", backchannelParams("openbanking_intent_id=c1", "openbanking-intent-id=c2"), InvalidRequest},
		{"X18: refuses another one in claims", backchannelParams("openbanking-intent-id=c1", `claims={"id_token":{"openbanking_intent_id":{"value":"c2"}}}`), InvalidRequest},
		{"X18: refuses one that is too long", backchannelParams("openbanking_intent_id=" + strings.Repeat("c", 256)), InvalidRequest},
		{"X18: refuses one with a line feed", backchannelParams("openbanking_intent_id=c\n1"), InvalidRequest},
		{"RFC 8707 §2: accepts resources", backchannelParams("+resource=https://api.bank.example", "+resource=https://pay.bank.example/v1"), ""},
		{"RFC 8707 §2: refuses another", backchannelParams("resource=https://other.example"), InvalidTarget},
		{"RFC 9396 §5: refuses unknown authorization_details", backchannelParams(`authorization_details=[{"type":"x"}]`), InvalidAuthorizationDetails},
		{"OpenID Connect Core §5.5: refuses claims that are no JSON", backchannelParams("claims={"), InvalidRequest},
		{"CIBA-02: refuses a request that was not resolved", backchannelParams("request=eyJ.e30."), RequestNotSupported},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b, err := pollTPP().CheckBackchannelRequest(test.params, DefaultDetailTypes())
			refused(t, err, test.want)
			if err == nil && (!b.Polled() || b.ClientID != "tpp" || b.DeliveryMode != Poll || b.Prompt != nil || b.LoginHint != "" || b.NotificationToken != "") {
				t.Errorf("%+v", b)
			}
		})
	}
}

// CIBA Core §7.1: every parameter that is there twice is refused, those with limits of their own too.
func TestCheckBackchannelRequest_twice(t *testing.T) {
	t.Parallel()
	for _, name := range append([]string{"scope", "client_id", "acr_values", "requested_expiry", "claims", "authorization_details", "openbanking_intent_id", "unknown"}, ownParameters...) {
		params := backchannelParams()
		params[name] = []string{"a", "a"}
		_, err := pollTPP().CheckBackchannelRequest(params, nil)
		refused(t, err, InvalidRequest)
		params[name] = []string{"", "a"}
		_, err = pollTPP().CheckBackchannelRequest(params, nil)
		refused(t, err, InvalidRequest)
	}
	large := backchannelParams()
	for _, name := range []string{"login_hint", "client_notification_token", "user_code"} {
		large.Set(name, strings.Repeat("x", 16<<10))
	}
	_, err := pollTPP().CheckBackchannelRequest(large, nil)
	refused(t, err, InvalidRequest)
}

func TestCheckBackchannelRequest_notificationToken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, token string
		want        Code
	}{
		{"accepts a UUID", notificationToken, ""},
		{"accepts all characters of a b64token", "AZaz09-._~+/AZaz09-._~+/==", ""},
		{"accepts 128 bits", strings.Repeat("a", 22), ""},
		{"refuses fewer", strings.Repeat("a", 21), InvalidRequest},
		{"padding is not random", strings.Repeat("a", 21) + "=", InvalidRequest},
		{"accepts 1024 characters", strings.Repeat("a", 1024), ""},
		{"refuses 1025", strings.Repeat("a", 1025), InvalidRequest},
		{"refuses 1025 with padding", strings.Repeat("a", 1023) + "==", InvalidRequest},
		{"refuses none", "", InvalidRequest},
		{"refuses padding alone", strings.Repeat("=", 30), InvalidRequest},
		{"refuses padding inside", strings.Repeat("a", 22) + "=a", InvalidRequest},
		{"refuses a space", strings.Repeat("a", 22) + " a", InvalidRequest},
		{"refuses a line break, which would end the header", strings.Repeat("a", 22) + "\r\nX: y", InvalidRequest},
		{"refuses a comma", strings.Repeat("a", 22) + ",a", InvalidRequest},
		{"refuses letters that are not ASCII", strings.Repeat("é", 22), InvalidRequest},
	} {
		t.Run("CIBA-01: "+test.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range []*Client{pingTPP(), pushTPP()} {
				b, err := c.CheckBackchannelRequest(backchannelParams("client_notification_token="+test.token), nil)
				refused(t, err, test.want)
				if err == nil && b.NotificationToken != test.token {
					t.Errorf("reads %q", b.NotificationToken)
				}
			}
			_, err := pollTPP().CheckBackchannelRequest(backchannelParams("client_notification_token="+test.token), nil)
			refused(t, err, "") // nobody is notified
		})
	}
	_, err := pingTPP().CheckBackchannelRequest(backchannelParams("client_notification_token"), nil)
	refused(t, err, InvalidRequest)
}

func TestCheckBackchannelRequest_reads(t *testing.T) {
	t.Parallel()
	c := backchannelTPP(OpenID, Ping)
	c.BackchannelUserCodeParameter = true
	mustPrepare(c)
	b, err := c.CheckBackchannelRequest(backchannelParams("login_hint", "login_hint_token=a.b.c", "user_code=7043", "requested_expiry=90", "acr_values=a b",
		"dpop_jkt="+challenge, "ui_locales=de", "openbanking-intent-id=c1", `authorization_details=[{"type":"account_information"}]`), DefaultDetailTypes())
	refused(t, err, "")
	if b.Hint != (Hint{"login_hint_token", "a.b.c"}) || b.UserCode != "7043" || b.Expiry != 90*time.Second || b.IntentID != "c1" || b.BindingMessage != "W4SCT" ||
		b.NotificationToken != notificationToken || b.DeliveryMode != Ping || len(b.ACRValues) != 2 || b.UILocales != "de" || b.DPoPJKT != "" || len(b.AuthorizationDetails) != 1 {
		t.Errorf("%+v", b)
	}
	stored(t, &b.AuthorizationRequest)
	if text := must(json.Marshal(b.AuthorizationRequest)); strings.Contains(string(text), "7043") || strings.Contains(string(text), "a.b.c") {
		t.Errorf("CIBA-04: what is stored holds the user code or the hint: %s", text)
	}
	for name, test := range map[string]struct {
		code string
		want Code
	}{
		"64 bytes": {strings.Repeat("1", 64), ""}, "65 bytes": {strings.Repeat("1", 65), InvalidUserCode}, "a control character": {"1\x00", InvalidRequest}, "a line feed": {"1\n", InvalidUserCode},
		"none": {"", ""},
	} {
		t.Run("CIBA-04: "+name, func(t *testing.T) {
			_, err := c.CheckBackchannelRequest(backchannelParams("user_code="+test.code), nil)
			refused(t, err, test.want)
		})
	}
	before := backchannelParams("client_id=", "prompt=none")
	kept := before.Encode()
	if _, err := c.CheckBackchannelRequest(before, nil); err != nil || before.Encode() != kept {
		t.Errorf("the parameters are changed: %v %s", err, before.Encode())
	}
}

func TestCheckBackchannelRequest_context(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		params url.Values
		want   Code
	}{
		{"refuses nothing that says what it is about", backchannelParams("binding_message"), InvalidRequest},
		{"refuses an empty binding_message", backchannelParams("binding_message="), InvalidRequest},
		{"accepts a binding_message", backchannelParams(), ""},
		{"accepts authorization_details", backchannelParams("binding_message", `authorization_details=[{"type":"account_information"}]`), ""},
		{"refuses empty authorization_details", backchannelParams("binding_message", "authorization_details=[]"), InvalidAuthorizationDetails},
		{"accepts a consent", backchannelParams("binding_message", "openbanking_intent_id=c1"), ""},
		{"accepts a consent in claims", backchannelParams("binding_message", `claims={"id_token":{"openbanking_intent_id":{"value":"c1"}}}`), ""},
		{"other claims say nothing", backchannelParams("binding_message", `claims={"id_token":{"acr":null}}`), InvalidRequest},
		{"a scope that is not registered is refused", backchannelParams("scope=openid other"), InvalidScope},
	} {
		t.Run("FCB-02: "+test.name, func(t *testing.T) {
			t.Parallel()
			_, err := fapiTPP().CheckBackchannelRequest(test.params, DefaultDetailTypes())
			refused(t, err, test.want)
		})
	}
}
