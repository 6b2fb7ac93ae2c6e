package fapi

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

// soundBackchannel checks what holds of every CIBA request that is accepted.
func soundBackchannel(t *testing.T, c *Client, b *BackchannelRequest) {
	t.Helper()
	stored(t, &b.AuthorizationRequest)
	switch {
	case !b.Polled(), b.ClientID != c.ID, b.DeliveryMode != c.BackchannelTokenDeliveryMode, b.Prompt != nil, b.DPoPJKT != "",
		!slices.Contains(b.Scopes, "openid"), slices.ContainsFunc(b.Scopes, func(s string) bool { return !slices.Contains(c.Scopes(), s) }),
		!slices.Contains(hintParameters, b.Hint.Parameter), b.Hint.Value == "", len(b.Hint.Value) > maxHint,
		utf8.RuneCountInString(b.BindingMessage) > maxBindingMessage, !utf8.ValidString(b.BindingMessage), strings.TrimSpace(b.BindingMessage) != b.BindingMessage,
		hasControls(b.BindingMessage + b.Hint.Value + b.UserCode + b.IntentID + b.NotificationToken), b.UserCode != "" && !c.BackchannelUserCodeParameter,
		c.BackchannelTokenDeliveryMode.Notifies() != (b.NotificationToken != ""), len(b.NotificationToken) > maxNotificationToken, b.Expiry < 0,
		c.Rules().CIBAContext == Required && b.BindingMessage == "" && b.IntentID == "" && b.AuthorizationDetails == nil:
		t.Fatalf("accepted %+v", b)
	}
}

func FuzzBackchannelRequest(f *testing.F) {
	f.Add(backchannelParams().Encode())
	f.Add(backchannelParams("requested_expiry=90", "binding_message=हिन्दी", "openbanking-intent-id=c1", "authorization_details=["+account+"]").Encode())
	f.Add("scope=openid&login_hint_token=a.b.c&client_notification_token=" + strings.Repeat("a", 22) + "&acr_values=a+b&prompt=none")
	f.Add("scope=openid&login_hint=a&id_token_hint=b&user_code=1")
	clients := []*Client{pollTPP(), pingTPP(), pushTPP(), fapiTPP()}
	f.Fuzz(func(t *testing.T, query string) {
		params, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		wellFormed := CheckParameters(params)
		for _, c := range clients {
			_, use, err := c.ResolveBackchannelRequest(params, objectContext(false))
			sendable(t, err)
			if use != nil || err == nil && (params.Get("request")+params.Get("request_uri") != "" || c.MustSignBackchannel()) {
				t.Fatalf("accepted %q as signed", query)
			}
			b, err := c.CheckBackchannelRequest(params, DefaultDetailTypes())
			sendable(t, err)
			if err != nil {
				continue
			}
			if wellFormed != nil {
				t.Fatalf("accepted %q", query)
			}
			soundBackchannel(t, c, b)
		}
	})
}

func FuzzBackchannelObject(f *testing.F) {
	good := signBackchannel(jose.ES256, nil, nil)
	f.Add(good, string(must(json.Marshal(signedClaims(nil)))))
	f.Add(strings.Replace(good, ".", "..", 1), string(must(json.Marshal(signedClaims(map[string]any{"aud": []string{issuer}, "requested_expiry": "90", "sub": "tpp"})))))
	f.Add(good+".x.y", `{"iss":"tpp","iss":"tpp","exp":1e400,"nbf":0.5,"request":null}`)
	clients := []*Client{pollTPP(), pingTPP(), fapiTPP()}
	f.Fuzz(func(t *testing.T, object, claims string) {
		for _, c := range clients {
			_, _, err := c.ResolveBackchannelRequest(url.Values{"request": {object}}, objectContext(false))
			sendable(t, err)
			// Claims with a good signature come from the client, but need not be sane.
			signed := signRaw(claims)
			params, use, err := c.ResolveBackchannelRequest(url.Values{"request": {signed}}, objectContext(false))
			sendable(t, err)
			if err != nil {
				continue
			}
			if use == nil || !use.ExpiresAt.After(now) || use.ExpiresAt.After(now.Add(maxBackchannelObjectAge+2*Skew)) || use.IssuedAt.After(now) ||
				params.Has("request") || params.Has("request_uri") {
				t.Fatalf("accepted with %+v, %v", use, params)
			}
			if _, err := c.CheckAssertion(signed, assertionContext()); err == nil {
				t.Fatal("it is a client assertion too")
			}
			b, err := c.CheckBackchannelRequest(params, DefaultDetailTypes())
			sendable(t, err)
			if err == nil {
				soundBackchannel(t, c, b)
			}
		}
	})
}

func FuzzLoginHintToken(f *testing.F) {
	good := makeHint(jose.ES256, nil, nil)
	f.Add(good, `{"iss":"https://directory.example","aud":["https://bank.example"],"exp":1772366460.5,"sub":"s1"}`)
	f.Add("..", `{"iss":"https://directory.example","aud":"https://bank.example","exp":9999999999,"sub":null,"preferred_username":"a"}`)
	f.Add(strings.Replace(good, ".", "..", 1), `{"iss":"https://directory.example","sub":"a","sub":"b"}`)
	issuers := hintIssuers()
	f.Fuzz(func(t *testing.T, token, claims string) {
		for _, text := range []string{token, signRaw(claims)} {
			who, err := issuers.Check(text, issuer, now)
			sendable(t, err)
			if accepted := err == nil; accepted != ((who.Subject == "") != (who.Username == "")) || who.Subject != "" && who.Username != "" {
				t.Fatalf("%v with %+v", err, who)
			}
		}
	})
}
