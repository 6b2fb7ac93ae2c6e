package authz_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// badRequest is an authorization request that must be refused, pushed or not.
type badRequest struct {
	name   string
	change url.Values // replaces parameters; one without values is left out
	code   fapi.Code
	state  string // sent back; "-" is none, "" the one of every request
}

// badRequests are wrong for every client and at both doors (RFC 9126 §2.1: a pushed request is validated like one that
// comes by way of the browser).
func badRequests() []badRequest {
	v := func(pairs ...string) url.Values {
		values := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			values.Add(pairs[i], pairs[i+1])
		}
		return values
	}
	without := func(name string) url.Values { return url.Values{name: nil} }
	long := func(n int) string { return strings.Repeat("x", n) }
	account := `{"type":"account_information"}`
	return []badRequest{
		{"OP-01: without response_type", without("response_type"), fapi.InvalidRequest, ""},
		{"an empty response_type", v("response_type", ""), fapi.InvalidRequest, ""},
		{"RFC 9700 §2.1.2: response_type token", v("response_type", "token"), fapi.UnsupportedResponseType, ""},
		{"response_type none", v("response_type", "none"), fapi.UnsupportedResponseType, ""},
		{"response_type in capitals", v("response_type", "CODE"), fapi.UnsupportedResponseType, ""},
		{"response_type twice", v("response_type", "code", "response_type", "code"), fapi.InvalidRequest, ""},
		{"an unknown response_mode", v("response_mode", "pigeon"), fapi.InvalidRequest, ""},
		{"JARM §2.3: an unknown response_mode that is signed", v("response_mode", "pigeon.jwt"), fapi.InvalidRequest, ""},

		{"RFC 9700 §2.1.1: PKCE plain", v("code_challenge_method", "plain"), fapi.InvalidRequest, ""},
		{"RFC 7636 §4.3: no method, which means plain", without("code_challenge_method"), fapi.InvalidRequest, ""},
		{"a method in lower case", v("code_challenge_method", "s256"), fapi.InvalidRequest, ""},
		{"a method without a challenge", without("code_challenge"), fapi.InvalidRequest, ""},
		{"a challenge that is no SHA-256", v("code_challenge", "abc"), fapi.InvalidRequest, ""},
		{"a challenge with padding", v("code_challenge", long(43)+"="), fapi.InvalidRequest, ""},
		{"a challenge with other characters", v("code_challenge", long(42)+"+"), fapi.InvalidRequest, ""},
		{"a challenge twice", v("code_challenge", long(43), "code_challenge", long(43)), fapi.InvalidRequest, ""},

		{"RFC 6749 §4.1.2.1: no scope at all", without("scope"), fapi.InvalidScope, ""},
		{"a scope of blanks", v("scope", "   "), fapi.InvalidScope, ""},
		{"only a scope that the client does not have", v("scope", "payments"), fapi.InvalidScope, ""},
		{"RFC 6749 §3.3: a scope with a quotation mark", v("scope", `openid "x`), fapi.InvalidScope, ""},
		{"a scope with a backslash", v("scope", `openid a\b`), fapi.InvalidScope, ""},
		{"a scope with other than ASCII", v("scope", "openid \u00e9"), fapi.InvalidScope, ""},
		{"a scope with a tab", v("scope", "openid\taccounts"), fapi.InvalidRequest, ""},
		{"a scope that is too long", v("scope", "openid "+long(9<<10)), fapi.InvalidRequest, ""},
		{"RFC 6749 §3.1: scope twice", v("scope", "openid", "scope", "accounts"), fapi.InvalidRequest, ""},

		{"OpenID Connect Core §3.1.2.1: prompt none with login", v("prompt", "none login"), fapi.InvalidRequest, ""},
		{"prompt none with consent", v("prompt", "consent none"), fapi.InvalidRequest, ""},
		{"max_age that is negative", v("max_age", "-1"), fapi.InvalidRequest, ""},
		{"max_age that is no number", v("max_age", "soon"), fapi.InvalidRequest, ""},
		{"max_age with a fraction", v("max_age", "1.5"), fapi.InvalidRequest, ""},
		{"max_age that is too large", v("max_age", "99999999999999999999"), fapi.InvalidRequest, ""},
		{"a nonce that is too long", v("nonce", long(1025)), fapi.InvalidRequest, ""},
		{"a nonce with a line break", v("nonce", "a\r\nb"), fapi.InvalidRequest, ""},
		{"a nonce with NUL", v("nonce", "a\x00b"), fapi.InvalidRequest, ""},
		{"a nonce that is no UTF-8", v("nonce", "a\xff"), fapi.InvalidRequest, ""},
		{"nonce twice", v("nonce", "a", "nonce", "a"), fapi.InvalidRequest, ""},
		{"a state with a line break is refused and not sent back", v("state", "a\r\nb"), fapi.InvalidRequest, "-"},
		{"a state with NUL", v("state", "a\x00b"), fapi.InvalidRequest, "-"},
		{"a state that is no UTF-8", v("state", "\xff"), fapi.InvalidRequest, "-"},
		{"a state that is too long", v("state", long(4097)), fapi.InvalidRequest, "-"},
		{"a login_hint with a control character", v("login_hint", "a\x1b[2Jb"), fapi.InvalidRequest, ""},
		{"an id_token_hint that is no token", v("id_token_hint", "garbage"), fapi.InvalidRequest, ""},
		{"an id_token_hint that another issuer signed", v("id_token_hint", foreignIDToken), fapi.InvalidRequest, ""},
		{"an unknown parameter that is too long", v("x", long(9<<10)), fapi.InvalidRequest, ""},
		{"an unknown parameter twice", v("x", "1", "x", "2"), fapi.InvalidRequest, ""},
		{"an unknown parameter that is no UTF-8", v("x", "\xc3\x28"), fapi.InvalidRequest, ""},

		{"OpenID Connect Core §5.5: claims that are no JSON", v("claims", "{"), fapi.InvalidRequest, ""},
		{"claims that are a list", v("claims", "[]"), fapi.InvalidRequest, ""},
		{"claims that are a string", v("claims", `"id_token"`), fapi.InvalidRequest, ""},
		{"claims whose id_token is a list", v("claims", `{"id_token":["acr"]}`), fapi.InvalidRequest, ""},
		{"claims with a member twice", v("claims", `{"id_token":{"acr":null},"id_token":{}}`), fapi.InvalidRequest, ""},
		{"claims with something behind", v("claims", `{}{}`), fapi.InvalidRequest, ""},
		{"claims that are too long", v("claims", `{"id_token":{"`+long(17<<10)+`":null}}`), fapi.InvalidRequest, ""},
		{"claims nested too deep", v("claims", `{"userinfo":{"x":{"value":`+strings.Repeat("[", 50)+strings.Repeat("]", 50)+`}}}`), fapi.InvalidRequest, ""},
		{"claims twice", v("claims", `{}`, "claims", `{}`), fapi.InvalidRequest, ""},
		{"an acr that is a number", v("claims", `{"id_token":{"acr":{"value":1}}}`), fapi.InvalidRequest, ""},
		{"OpenID Connect Core §5.5.1.1: an essential acr that the server does not have", v("claims", `{"id_token":{"acr":{"essential":true,"values":["urn:other:acr"]}}}`), fapi.UnmetAuthentication, ""},
		{"an intent id that is a number", v("claims", `{"id_token":{"openbanking_intent_id":{"value":7}}}`), fapi.InvalidRequest, ""},
		{"intent ids that contradict each other", v("claims", `{"id_token":{"openbanking_intent_id":{"value":"a"}},"userinfo":{"openbanking_intent_id":{"value":"b"}}}`), fapi.InvalidRequest, ""},
		{"an intent id that is unknown", v("claims", `{"id_token":{"openbanking_intent_id":{"value":"no-such-consent"}}}`), fapi.InvalidRequest, ""},

		{"RFC 9396 §5: authorization_details that are no JSON", v("authorization_details", "nonsense"), fapi.InvalidAuthorizationDetails, ""},
		{"authorization_details that are an object", v("authorization_details", account), fapi.InvalidAuthorizationDetails, ""},
		{"authorization_details that are empty", v("authorization_details", "[]"), fapi.InvalidAuthorizationDetails, ""},
		{"authorization_details without a type", v("authorization_details", `[{"actions":["read"]}]`), fapi.InvalidAuthorizationDetails, ""},
		{"a type that is a number", v("authorization_details", `[{"type":1}]`), fapi.InvalidAuthorizationDetails, ""},
		{"a type that is unknown", v("authorization_details", `[{"type":"https://nowhere.example"}]`), fapi.InvalidAuthorizationDetails, ""},
		{"a type that the client did not register", v("authorization_details", `[{"type":"customer_information"}]`), fapi.InvalidAuthorizationDetails, ""},
		{"a good type and a bad one", v("authorization_details", `[`+account+`,{"type":"unknown"}]`), fapi.InvalidAuthorizationDetails, ""},
		{"a member that the type does not have", v("authorization_details", `[{"type":"account_information","pin":1}]`), fapi.InvalidAuthorizationDetails, ""},
		{"a member of the wrong kind", v("authorization_details", `[{"type":"account_information","actions":"read"}]`), fapi.InvalidAuthorizationDetails, ""},
		{"a member twice", v("authorization_details", `[{"type":"account_information","type":"x"}]`), fapi.InvalidAuthorizationDetails, ""},
		{"a consent id that is a number", v("authorization_details", `[{"type":"account_information","consent_id":7}]`), fapi.InvalidAuthorizationDetails, ""},
		{"a consent id that is unknown", v("authorization_details", `[{"type":"account_information","consent_id":"no-such-consent"}]`), fapi.InvalidRequest, ""},
		{"two consents", v("authorization_details", `[{"type":"account_information","consent_id":"a"},{"type":"account_information","consent_id":"b"}]`), fapi.InvalidRequest, ""},
		{"too many details", v("authorization_details", `[`+strings.Repeat(account+",", 20)+account+`]`), fapi.InvalidAuthorizationDetails, ""},

		{"RFC 8707 §2: a resource that the client does not have", v("resource", "https://nowhere.example"), fapi.InvalidTarget, ""},
		{"a resource with a fragment", v("resource", authztest.Resource+"#x"), fapi.InvalidTarget, ""},
		{"a resource that is relative", v("resource", "/api"), fapi.InvalidTarget, ""},
		{"a good resource and a bad one", v("resource", authztest.Resource, "resource", "https://nowhere.example"), fapi.InvalidTarget, ""},
		{"RFC 9449 §10: a dpop_jkt that is no thumbprint", v("dpop_jkt", "abc"), fapi.InvalidRequest, ""},
		{"RFC 9101 §6.1: a request object that is not signed", v("request", "eyJhbGciOiJub25lIn0.e30."), fapi.InvalidRequestObject, ""},
	}
}

// foreignIDToken has the form of ours and a signature of nobody's.
const foreignIDToken = "eyJhbGciOiJFUzI1NiIsImtpZCI6IngiLCJ0eXAiOiJKV1QifQ.eyJzdWIiOiJ4In0." +
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// on applies the change to a request.
func (b *badRequest) on(params url.Values) url.Values {
	for name, values := range b.change {
		if len(values) == 0 {
			params.Del(name)
		} else {
			params[name] = values
		}
	}
	return params
}

// goodRequests are unusual, and must be taken at both doors.
func goodRequests() []badRequest {
	v := func(name, value string) url.Values { return url.Values{name: {value}} }
	long := func(n int) string { return strings.Repeat("x", n) }
	return []badRequest{
		{name: "FAPI2 F2-09: without state", change: url.Values{"state": nil}},
		{name: "without nonce", change: url.Values{"nonce": nil}},
		{name: "RFC 6749 §3.1: an empty parameter is an absent one", change: url.Values{"nonce": {""}, "prompt": {""}, "resource": {""}, "claims": {""}, "max_age": {""}}},
		{name: "a state of 1000 characters", change: v("state", long(1000))},
		{name: "a state of one character", change: v("state", "x")},
		{name: "a state with every character of ASCII", change: v("state", ` !"#$%&'()*+,-./09:;<=>?@AZ[\]^_az{|}~`)},
		{name: "a state with other than ASCII", change: v("state", "größe")},
		{name: "FAPI 2.0 §5.3.2.2: a nonce of 64 characters", change: v("nonce", long(64))},
		{name: "a nonce of 384 characters", change: v("nonce", long(384))},
		{name: "RFC 6749 §3.1: an unknown parameter", change: v("utm_source", "x")},
		{name: "OP-01: display", change: v("display", "popup")},
		{name: "an unknown display", change: v("display", "hologram")},
		{name: "an unknown prompt", change: v("prompt", "create")},
		{name: "ui_locales, claims_locales and login_hint", change: url.Values{"ui_locales": {"fr-CA en"}, "claims_locales": {"fr"}, "login_hint": {"alice"}}},
		{name: "acr_values that nobody knows", change: v("acr_values", "1 2 urn:x")},
		{name: "max_age", change: v("max_age", "10000")},
		{name: "claims with null", change: v("claims", `{"userinfo":{"email":null},"id_token":null}`)},
		{name: "indented claims", change: v("claims", "{\n\t\"id_token\": {\"acr\": {\"essential\": true, \"values\": [\"urn:openbanking:psd2:ca\", \"urn:openbanking:psd2:sca\"]}}\n}")},
		{name: "a voluntary acr that the server does not have", change: v("claims", `{"id_token":{"acr":{"value":"urn:x"}}}`)},
		{name: "response_mode query", change: v("response_mode", "query")},
		{name: "JARM §2.3: response_mode jwt", change: v("response_mode", "jwt")},
		{name: "response_mode form_post", change: v("response_mode", "form_post")},
		{name: "a scope twice in the list, and blanks", change: v("scope", "openid  accounts openid ")},
		{name: "RFC 9396 §2: two details of one type", change: v("authorization_details", `[{"type":"account_information","actions":["list"]},{"type":"account_information","locations":["https://x.example"]}]`)},
		{name: "RFC 8707 §2: two resources", change: url.Values{"resource": {authztest.Resource, "https://other.example"}}},
		{name: "a redirect_uri with a query that is registered", change: v("redirect_uri", authztest.RedirectURI+"?dummy1=lorem&dummy2=ipsum")},
	}
}

// badRedirects must never be redirected to.
var badRedirects = map[string][]string{
	"no redirect_uri":                     nil,
	"an empty redirect_uri":               {""},
	"another host":                        {"https://evil.example/callback"},
	"a query that was not registered":     {authztest.RedirectURI + "?x=1"},
	"one parameter of the query missing":  {authztest.RedirectURI + "?dummy1=lorem"},
	"a slash more":                        {authztest.RedirectURI + "/"},
	"a longer path":                       {authztest.RedirectURI + "/x"},
	"a way around":                        {"https://app.example/x/../callback"},
	"an encoded character":                {"https://app.example/c%61llback"},
	"encoded twice":                       {"https%3A%2F%2Fapp.example%2Fcallback"},
	"another case":                        {"https://APP.example/callback"},
	"a port":                              {"https://app.example:443/callback"},
	"http":                                {"http://app.example/callback"},
	"a fragment":                          {authztest.RedirectURI + "#x"},
	"a user":                              {"https://app.example@evil.example/callback"},
	"a blank in front":                    {" " + authztest.RedirectURI},
	"a line break behind":                 {authztest.RedirectURI + "\r\n"},
	"NUL behind":                          {authztest.RedirectURI + "\x00"},
	"javascript":                          {"javascript:alert(1)"},
	"only a path":                         {"/callback"},
	"too long":                            {authztest.RedirectURI + "?x=" + strings.Repeat("x", 4<<10)},
	"RFC 6749 §3.1: two of them":          {authztest.RedirectURI, authztest.RedirectURI},
	"RFC 6749 §3.1: a good and a bad one": {authztest.RedirectURI, "https://evil.example/callback"},
}

// pushRaw pushes what no client of authztest would.
func pushRaw(t *testing.T, c *authztest.Client, params url.Values) *authztest.Answer {
	t.Helper()
	return c.Send(t, "/par", c.Authenticated(t, params), nil)
}
