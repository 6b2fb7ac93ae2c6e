package fapi

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

// request is a complete request with changes: "name=value" sets, "name" removes, "+name=value" adds.
func request(changes ...string) url.Values {
	params := url.Values{
		"client_id": {"tpp"}, "redirect_uri": {"https://tpp.example/callback"}, "response_type": {"code"},
		"scope": {"openid accounts"}, "state": {"s"}, "nonce": {"n"},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	for _, change := range changes {
		name, value, set := strings.Cut(change, "=")
		if added, ok := strings.CutPrefix(name, "+"); ok {
			params.Add(added, value)
		} else if set {
			params.Set(name, value)
		} else {
			params.Del(name)
		}
	}
	return params
}

func TestCheckAuthorizationRequest(t *testing.T) {
	t.Parallel()
	const other = Code("-") // as for fapi2
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, test := range []struct {
		name          string
		changes       []string
		fapi2, openid Code
	}{
		{"RFC 6749 §4.1.1: accepts a complete request", nil, "", other},
		{"RFC 6749 §4.1.1: accepts no state", []string{"state"}, "", other},
		{"OpenID Connect Core §3.1.2.1: accepts no nonce", []string{"nonce"}, "", other},
		{"RFC 6749 §3.1: ignores unknown parameters", []string{"foo=bar"}, "", other},
		{"RFC 6749 §3.1: an empty parameter is absent", []string{"request=", "claims=", "resource=", "authorization_details=", "dpop_jkt="}, "", other},
		{"RFC 6749 §4.1.1: refuses a missing client_id", []string{"client_id"}, InvalidRequest, other},
		{"RFC 6749 §4.1.1: refuses another client_id", []string{"client_id=other"}, InvalidRequest, other},
		{"RFC 6749 §3.1: refuses a parameter that is there twice", []string{"+scope=openid"}, InvalidRequest, other},
		{"RFC 6749 §3.1: refuses an unknown one that is there twice", []string{"foo=1", "+foo=2"}, InvalidRequest, other},
		{"RFC 6749 §3.1: refuses state twice", []string{"+state=s"}, InvalidRequest, other},

		{"RFC 6749 §4.1.2.1: refuses a missing response_type", []string{"response_type"}, InvalidRequest, other},
		{"FAPI2 §5.3.2.2: refuses code id_token", []string{"response_type=code id_token"}, UnsupportedResponseType, UnauthorizedClient},
		{"FAPI2 §5.3.2.2: refuses token", []string{"response_type=token"}, UnsupportedResponseType, other},
		{"OAuth Multiple Response Types §2: accepts form_post", []string{"response_mode=form_post"}, "", other},
		{"OAuth Multiple Response Types §2: accepts query", []string{"response_mode=query"}, "", other},
		{"F2-09: refuses fragment", []string{"response_mode=fragment"}, InvalidRequest, ""},
		{"JARM §2.3: accepts jwt", []string{"response_mode=jwt"}, "", other},
		{"JARM §2.3: refuses an unknown one", []string{"response_mode=web_message.jwt"}, InvalidRequest, other},

		{"RFC 9700 §2.1: refuses a missing redirect_uri", []string{"redirect_uri"}, InvalidRequest, other},
		{"RFC 9700 §2.1: refuses another redirect_uri", []string{"redirect_uri=https://tpp.example/other"}, InvalidRequest, other},

		{"FAPI2 §5.3.2.2: PKCE is required", []string{"code_challenge", "code_challenge_method"}, InvalidRequest, ""},
		{"FAPI2 §5.3.2.2: refuses plain", []string{"code_challenge_method=plain"}, InvalidRequest, other},
		{"RFC 7636 §4.3: no method means plain", []string{"code_challenge_method"}, InvalidRequest, other},
		{"RFC 7636 §4.2: refuses a challenge of 42 characters", []string{"code_challenge=" + challenge[1:]}, InvalidRequest, other},
		{"RFC 7636 §4.2: refuses a challenge of 44 characters", []string{"code_challenge=" + challenge + "A"}, InvalidRequest, other},
		{"RFC 7636 §4.2: refuses base64", []string{"code_challenge=" + strings.Replace(challenge, "-", "+", 1)}, InvalidRequest, other},
		{"RFC 4648 §3.5: refuses a challenge that no encoder writes", []string{"code_challenge=" + challenge[:42] + "N"}, InvalidRequest, other},
		{"RFC 7636 §4.3: refuses a method alone", []string{"code_challenge"}, InvalidRequest, other},

		{"RFC 6749 §3.3: refuses an unknown scope, or leaves it out", []string{"scope=openid unknown"}, InvalidScope, ""},
		{"RFC 6749 §3.3: refuses only unknown scopes", []string{"scope=unknown"}, InvalidScope, other},
		{"RFC 6749 §3.3: refuses no scope", []string{"scope"}, InvalidScope, other},
		{"RFC 6749 §3.3: refuses a blank scope", []string{"scope=  "}, InvalidScope, other},
		{"RFC 6749 §3.3: refuses a scope with a quote", []string{`scope=openid "`}, InvalidScope, other},
		{"RFC 9396 §3: accepts authorization_details without scope", []string{"scope", "authorization_details=[" + account + "]"}, "", other},
		{"RFC 9396 §5: refuses malformed authorization_details", []string{"authorization_details={}"}, InvalidAuthorizationDetails, other},

		{"F2-07: accepts a nonce of 64 characters", []string{"nonce=" + long(64)}, "", other},
		{"accepts a nonce of 1024 characters", []string{"nonce=" + long(1024)}, "", other},
		{"refuses a nonce of 1025 characters", []string{"nonce=" + long(1025)}, InvalidRequest, other},
		{"accepts a state of 4096 characters", []string{"state=" + long(4096)}, "", other},
		{"refuses a state of 4097 characters", []string{"state=" + long(4097)}, InvalidRequest, other},
		{"refuses a line feed in state", []string{"state=a\nb"}, InvalidRequest, other},
		{"refuses a control character anywhere", []string{"login_hint=a\rb"}, InvalidRequest, other},
		{"refuses NUL", []string{"foo=a\x00b"}, InvalidRequest, other},
		{"refuses what is not UTF-8", []string{"foo=\xff"}, InvalidRequest, other},
		{"refuses a name that is not UTF-8", []string{"\xff=x"}, InvalidRequest, other},
		{"refuses a long parameter", []string{"foo=" + long(8<<10+1)}, InvalidRequest, other},
		{"refuses a request of more than 32 KiB", []string{"a=" + long(8000), "b=" + long(8000), "c=" + long(8000), "d=" + long(8000), "e=" + long(8000)}, InvalidRequest, other},
		{"RFC 9126 §2: accepts a long client_assertion beside it", []string{"client_assertion=" + long(12<<10)}, "", other},

		{"OpenID Connect Core §3.1.2.1: accepts prompt none", []string{"prompt=none"}, "", other},
		{"OpenID Connect Core §3.1.2.1: refuses prompt none with others", []string{"prompt=none login"}, InvalidRequest, other},
		{"OpenID Connect Core §3.1.2.1: accepts max_age 0", []string{"max_age=0"}, "", other},
		{"OpenID Connect Core §3.1.2.1: refuses a negative max_age", []string{"max_age=-1"}, InvalidRequest, other},
		{"OpenID Connect Core §3.1.2.1: refuses a fractional max_age", []string{"max_age=1.5"}, InvalidRequest, other},
		{"OpenID Connect Core §3.1.2.1: refuses a max_age beyond all ages", []string{"max_age=99999999999999999999"}, InvalidRequest, other},

		{"OpenID Connect Core §6.1: refuses request", []string{"request=eyJ.e30."}, RequestNotSupported, other},
		{"OpenID Connect Core §6.2: refuses request_uri", []string{"request_uri=https://tpp.example/r"}, RequestURINotSupported, other},

		{"RFC 8707 §2: accepts a resource", []string{"resource=https://api.bank.example"}, "", other},
		{"RFC 8707 §2: accepts two", []string{"resource=https://api.bank.example", "+resource=https://pay.bank.example/v1"}, "", other},
		{"RFC 8707 §2: refuses another", []string{"resource=https://api.bank.example", "+resource=https://other.example"}, InvalidTarget, other},
		{"RFC 8707 §2: refuses a relative one", []string{"resource=/v1"}, InvalidTarget, other},
		{"RFC 8707 §2: refuses a fragment", []string{"resource=https://api.bank.example#x"}, InvalidTarget, other},
		{"RFC 9449 §10: accepts dpop_jkt", []string{"dpop_jkt=" + challenge}, "", other},
		{"RFC 9449 §10: refuses a dpop_jkt of another shape", []string{"dpop_jkt=x"}, InvalidRequest, other},

		{"OpenID Connect Core §5.5: refuses claims that are no JSON", []string{"claims={"}, InvalidRequest, other},
		{"OpenID Connect Core §5.5: refuses claims that are an array", []string{"claims=[]"}, InvalidRequest, other},
		{"OpenID Connect Core §5.5: accepts line breaks in claims", []string{"claims={\n\"id_token\":null}"}, "", other},
		{"OpenID Connect Core §5.5.1: refuses an acr that is no string", []string{`claims={"id_token":{"acr":{"essential":true,"values":[1]}}}`}, InvalidRequest, other},
		{"UK Open Banking: refuses two intents", []string{`claims={"id_token":{"openbanking_intent_id":{"value":"a"}},"userinfo":{"openbanking_intent_id":{"value":"b"}}}`}, InvalidRequest, other},
		{"UK Open Banking: refuses an intent that is no string", []string{`claims={"id_token":{"openbanking_intent_id":{"value":5}}}`}, InvalidRequest, other},
		{"UK Open Banking: refuses an intent of 256 characters", []string{`claims={"id_token":{"openbanking_intent_id":{"value":"` + long(256) + `"}}}`}, InvalidRequest, other},
	} {
		for _, client := range []*Client{strictTPP(), openTPP()} {
			code := test.fapi2
			if client.Profile == OpenID && test.openid != other {
				code = test.openid
			}
			t.Run(test.name+"/"+string(client.Profile), func(t *testing.T) {
				t.Parallel()
				got, err := client.CheckAuthorizationRequest(request(test.changes...), DefaultDetailTypes())
				refused(t, err, code)
				if code == "" {
					stored(t, got)
				}
			})
		}
	}
}

// stored checks that a request is the same after it was sealed and opened.
func stored(t *testing.T, q *AuthorizationRequest) {
	t.Helper()
	again := &AuthorizationRequest{}
	text := must(json.Marshal(q))
	if err := json.Unmarshal(text, again); err != nil {
		t.Fatal(err)
	}
	if second := must(json.Marshal(again)); string(second) != string(text) {
		t.Errorf("stored and read it is another:\n%s\n%s", text, second)
	}
}

func TestCheckAuthorizationRequest_reads(t *testing.T) {
	t.Parallel()
	age := int64(300)
	got, err := openTPP().CheckAuthorizationRequest(request(
		"scope=openid payments  unknown openid accounts", "response_mode=form_post", "prompt=login create login consent", "max_age=300",
		"acr_values=a b a", "login_hint=lee", "id_token_hint=h", "ui_locales=fr en", "display=popup", "dpop_jkt="+challenge,
		"resource=https://pay.bank.example/v1", "+resource=https://pay.bank.example/v1", "authorization_details=["+account+"]",
		`claims={"id_token":{"acr":{"essential":true,"values":["sca","mfa"],"value":"sca","x":1},"auth_time":null,
			"openbanking_intent_id":{"value":"urn:c:1"}},"userinfo":{"email":{"essential":true},"openbanking_intent_id":{"value":"urn:c:1"}},"y":1}`,
	), DefaultDetailTypes())
	refused(t, err, "")
	stored(t, got)
	text := func(s string) json.RawMessage { return json.RawMessage(s) }
	intent := &ClaimRequest{Value: text(`"urn:c:1"`)}
	want := &AuthorizationRequest{
		ClientID: "tpp", RedirectURI: "https://tpp.example/callback", ResponseType: "code", ResponseMode: "form_post", State: "s", Nonce: "n",
		Scopes: []string{"openid", "payments", "accounts"}, CodeChallenge: challenge, Prompt: []string{"login", "consent"}, MaxAge: &age,
		ACRValues: []string{"a", "b"}, ACREssential: []string{"sca", "mfa"}, LoginHint: "lee", IDTokenHint: "h", UILocales: "fr en", Display: "popup",
		Claims: &ClaimsRequest{
			IDToken: map[string]*ClaimRequest{
				"acr":       {Essential: true, Value: text(`"sca"`), Values: []json.RawMessage{text(`"sca"`), text(`"mfa"`)}},
				"auth_time": nil, "openbanking_intent_id": intent,
			},
			UserInfo: map[string]*ClaimRequest{"email": {Essential: true}, "openbanking_intent_id": intent},
		},
		AuthorizationDetails: []AuthorizationDetail{{Type: "account_information", Fields: map[string]json.RawMessage{
			"type": text(`"account_information"`), "actions": text(`["list_accounts","read_balances"]`), "locations": text(`["https://example.com/accounts"]`),
		}}},
		Resources: []string{"https://pay.bank.example/v1"}, DPoPJKT: challenge, IntentID: "urn:c:1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	t.Run("OpenID Connect Core §5.5.1.1: a voluntary acr is one of acr_values", func(t *testing.T) {
		t.Parallel()
		got, err := openTPP().CheckAuthorizationRequest(request(`claims={"id_token":{"acr":{"values":["sca"]}}}`), nil)
		refused(t, err, "")
		if diff := cmp.Diff([]string{"sca"}, got.ACRValues); diff != "" || got.ACREssential != nil {
			t.Errorf("%+v", got)
		}
	})
	t.Run("F2-09: no state stays no state", func(t *testing.T) {
		t.Parallel()
		got, err := strictTPP().CheckAuthorizationRequest(request("state", "nonce"), nil)
		refused(t, err, "")
		if text := string(must(json.Marshal(got))); strings.Contains(text, "state") || strings.Contains(text, "nonce") || got.ResponseMode != "query" {
			t.Error(text)
		}
	})
}

func TestCheckAuthorizationRequest_unauthorizedClient(t *testing.T) {
	t.Parallel()
	c := tpp(OpenID)
	c.GrantTypes, c.ResponseTypes = []string{GrantClientCredentials}, nil
	mustPrepare(c)
	_, err := c.CheckAuthorizationRequest(request(), nil)
	refused(t, err, UnauthorizedClient)

	public := &Client{ID: "tpp", Profile: OpenID, TokenEndpointAuthMethod: NoAuth, RedirectURIs: []string{"https://tpp.example/callback"}, Scope: "openid"}
	_, err = mustPrepare(public).CheckAuthorizationRequest(request("scope=openid", "code_challenge", "code_challenge_method"), nil)
	refused(t, err, InvalidRequest) // RFC 9700 §2.1.1: public clients need PKCE
}

func TestCheckPushedRequest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		changes []string
		code    Code
	}{
		{"RFC 9126 §2.1: accepts a complete request", nil, ""},
		{"RFC 9126 §2.1: refuses request_uri in a pushed request", []string{"request_uri=urn:x"}, InvalidRequest},
		{"RFC 9126 §2.1: refuses even an empty request_uri", []string{"request_uri="}, InvalidRequest},
		{"RFC 9126 §2.3: refuses what the authorization endpoint would", []string{"response_type=token"}, UnsupportedResponseType},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := strictTPP().CheckPushedRequest(request(test.changes...), nil)
			refused(t, err, test.code)
		})
	}
}

func TestCheckRedirect(t *testing.T) {
	t.Parallel()
	uris := []string{"https://tpp.example/callback", "https://tpp.example/cb?x=1"}
	native := append(uris, "http://127.0.0.1/cb", "http://[::1]", "http://127.0.0.1:9000/fixed", "http://localhost/cb", "com.example.app:/cb")
	clients := map[ProfileName]*Client{}
	for profile, registered := range map[ProfileName][]string{FAPI2: uris, OpenID: native} {
		c := tpp(profile)
		c.RedirectURIs = registered
		clients[profile] = mustPrepare(c)
	}
	for _, test := range []struct {
		name    string
		profile ProfileName
		uri     string
		ok      bool
	}{
		{"RFC 9700 §2.1: exactly", FAPI2, "https://tpp.example/callback", true},
		{"RFC 9700 §2.1: with its query", FAPI2, "https://tpp.example/cb?x=1", true},
		{"RFC 9700 §2.1: no other query", FAPI2, "https://tpp.example/cb?x=2", false},
		{"RFC 9700 §2.1: no query added", FAPI2, "https://tpp.example/callback?x=1", false},
		{"RFC 9700 §2.1: no path added", FAPI2, "https://tpp.example/callback/", false},
		{"RFC 9700 §2.1: no dots", FAPI2, "https://tpp.example/x/../callback", false},
		{"RFC 9700 §2.1: no other case", FAPI2, "https://TPP.example/callback", false},
		{"RFC 9700 §2.1: no port added", FAPI2, "https://tpp.example:443/callback", false},
		{"RFC 9700 §2.1: no user added", FAPI2, "https://tpp.example@evil.example/callback", false},
		{"RFC 9700 §2.1: no fragment added", FAPI2, "https://tpp.example/callback#", false},
		{"RFC 9700 §2.1: none", FAPI2, "", false},
		{"FAPI2 §5.3.2.2: no loopback", FAPI2, "http://127.0.0.1:8000/callback", false},
		{"RFC 8252 §7.3: any port", OpenID, "http://127.0.0.1:51234/cb", true},
		{"RFC 8252 §7.3: no port", OpenID, "http://127.0.0.1/cb", true},
		{"RFC 8252 §7.3: any port, IPv6", OpenID, "http://[::1]:1", true},
		{"RFC 8252 §7.3: no other path", OpenID, "http://127.0.0.1:51234/cb2", false},
		{"RFC 8252 §7.3: no path before it", OpenID, "http://127.0.0.1:51234/x/cb", false},
		{"RFC 8252 §7.3: no user", OpenID, "http://127.0.0.1:51234@evil.example/cb", false},
		{"RFC 8252 §7.3: no port 0", OpenID, "http://127.0.0.1:0/cb", false},
		{"RFC 8252 §7.3: no port 65536", OpenID, "http://127.0.0.1:65536/cb", false},
		{"RFC 8252 §7.3: no sign", OpenID, "http://127.0.0.1:+80/cb", false},
		{"RFC 8252 §7.3: no leading zero", OpenID, "http://127.0.0.1:080/cb", false},
		{"RFC 8252 §7.3: an empty port is another string", OpenID, "http://127.0.0.1:/cb", false},
		{"RFC 8252 §7.3: a registered port is fixed", OpenID, "http://127.0.0.1:9001/fixed", false},
		{"RFC 8252 §8.3: not for localhost", OpenID, "http://localhost:8000/cb", false},
		{"RFC 8252 §7.1: a private scheme", OpenID, "com.example.app:/cb", true},
		{"no port for https", OpenID, "https://tpp.example:8443/callback", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := clients[test.profile].CheckRedirect(request("redirect_uri=" + test.uri))
			if !test.ok {
				refused(t, err, InvalidRequest)
				if got != nil {
					t.Error("a refusal with a place to send it to")
				}
				return
			}
			refused(t, err, "")
			if diff := cmp.Diff(&Redirect{URI: test.uri, ResponseType: "code", ResponseMode: "query", State: "s"}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if onAnyPort("http://127.0.0.1.evil.example/", "http://127.0.0.1:80.evil.example/") {
		t.Error("RFC 8252 §7.3: another host passes for the loopback address")
	}
	strict := mustPrepare(tpp(FAPI2))
	strict.RedirectURIs = []string{"http://127.0.0.1/cb"}
	if strict.HasRedirectURI("http://127.0.0.1:80/cb") {
		t.Error("FAPI2 §5.3.2.2: a loopback redirect is accepted")
	}
	for _, test := range []struct {
		name    string
		changes []string
		want    *Redirect
	}{
		{"form_post", []string{"response_mode=form_post"}, &Redirect{uris[0], "code", "form_post", "s"}},
		{"jwt is resolved", []string{"response_mode=jwt"}, &Redirect{uris[0], "code", "query.jwt", "s"}},
		{"an unsupported response_mode is answered by the default", []string{"response_mode=fragment"}, &Redirect{uris[0], "code", "query", "s"}},
		{"an unsupported response_type is answered where it would be", []string{"response_type=token"}, &Redirect{uris[0], "token", "fragment", "s"}},
		{"a bad state is not sent back", []string{"state=a\r\nb"}, &Redirect{uris[0], "code", "query", ""}},
		{"a long state is not sent back", []string{"state=" + strings.Repeat("x", 4097)}, &Redirect{uris[0], "code", "query", ""}},
		{"redirect_uri twice", []string{"+redirect_uri=https://tpp.example/callback"}, nil},
		{"state twice", []string{"+state=s"}, nil},
		{"response_mode twice", []string{"response_mode=query", "+response_mode=query"}, nil},
	} {
		t.Run("RFC 6749 §4.1.2.1: "+test.name, func(t *testing.T) {
			t.Parallel()
			got, err := clients[FAPI2].CheckRedirect(request(test.changes...))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if test.want == nil {
				refused(t, err, InvalidRequest)
			}
		})
	}
}

func TestCheckParameters(t *testing.T) {
	t.Parallel()
	many := url.Values{}
	for i := range 65 {
		many.Set(fmt.Sprint("p", i), "x")
	}
	refused(t, CheckParameters(many), InvalidRequest)
	many.Del("p0")
	refused(t, CheckParameters(many), "")
	refused(t, CheckParameters(url.Values{"resource": {"a", "b"}, "scope": {"x"}}), "")
	refused(t, CheckParameters(url.Values{"a": {strings.Repeat("x", 32<<10-2)}}), "")
	refused(t, CheckParameters(url.Values{"a": {strings.Repeat("x", 32<<10-1)}}), InvalidRequest)
	refused(t, CheckParameters(url.Values{"a\x00": {"x"}}), InvalidRequest)
}
