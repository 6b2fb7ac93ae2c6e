package fapi

import (
	"net/url"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// deviceClient is a client of the openid profile that may use the device grant alone.
func deviceClient() *Client {
	c := &Client{
		ID: "tv", Profile: OpenID, TokenEndpointAuthMethod: NoAuth, GrantTypes: []string{GrantDeviceCode, GrantRefreshToken},
		Scope: "openid accounts offline_access", Resources: []string{"https://api.bank.example"}, AuthorizationDetailsTypes: []string{"account_information"},
	}
	return must(c, c.Prepare())
}

func TestCheckDeviceRequest(t *testing.T) {
	t.Parallel()
	c := deviceClient()
	for _, test := range []struct {
		name   string
		params url.Values
		want   Code
	}{
		{"RFC 8628 §3.1: accepts client_id and scope", url.Values{"client_id": {"tv"}, "scope": {"accounts"}}, ""},
		{"RFC 8628 §3.1: whoever authenticated needs no client_id", url.Values{"scope": {"accounts"}}, ""},
		{"RFC 8628 §3.1: refuses another client_id", url.Values{"client_id": {"other"}, "scope": {"accounts"}}, InvalidRequest},
		{"RFC 8628 §3.1: refuses a client_id that is empty", url.Values{"client_id": {""}, "scope": {"accounts"}}, InvalidRequest},
		{"RFC 8628 §3.1: refuses a parameter that is there twice", url.Values{"scope": {"accounts", "openid"}}, InvalidRequest},
		{"RFC 8628 §3.1: ignores what it does not know", url.Values{"scope": {"accounts"}, "foo": {"bar"}}, ""},
		{"ignores what belongs to a redirect", url.Values{"scope": {"accounts"}, "redirect_uri": {"https://evil.example"}, "response_type": {"token"}, "code_challenge": {"x"}}, ""},
		{"RFC 6749 §3.3: refuses no scope", url.Values{}, InvalidScope},
		{"RFC 6749 §3.3: refuses only unknown scopes", url.Values{"scope": {"payments"}}, InvalidScope},
		{"RFC 8707 §2: accepts a resource", url.Values{"scope": {"accounts"}, "resource": {"https://api.bank.example"}}, ""},
		{"RFC 8707 §2: refuses another", url.Values{"scope": {"accounts"}, "resource": {"https://other.example"}}, InvalidTarget},
		{"RFC 9396 §3: accepts authorization_details", url.Values{"authorization_details": {`[{"type":"account_information"}]`}}, ""},
		{"RFC 9396 §5: refuses unknown ones", url.Values{"authorization_details": {`[{"type":"x"}]`}}, InvalidAuthorizationDetails},
		{"OpenID Connect Core §3.1.2.1: accepts acr_values and max_age", url.Values{"scope": {"accounts"}, "acr_values": {"a b"}, "max_age": {"0"}}, ""},
		{"refuses prompt none: the customer must be asked", url.Values{"scope": {"accounts"}, "prompt": {"none"}}, InvalidRequest},
		{"OpenID Connect Core §6: refuses a request object", url.Values{"scope": {"accounts"}, "request": {"eyJ.e30."}}, RequestNotSupported},
		{"RFC 9126: refuses a request_uri", url.Values{"scope": {"accounts"}, "request_uri": {"urn:x"}}, RequestURINotSupported},
		{"refuses a line feed", url.Values{"scope": {"accounts"}, "login_hint": {"a\nb"}}, InvalidRequest},
		{"refuses what is too long", url.Values{"scope": {"accounts"}, "login_hint": {strings.Repeat("x", 9<<10)}}, InvalidRequest},
		{"RFC 9449 §10 is about codes: dpop_jkt is not kept", url.Values{"scope": {"accounts"}, "dpop_jkt": {challenge}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			q, err := c.CheckDeviceRequest(test.params, DefaultDetailTypes())
			if test.want != "" {
				if AsError(err).Code != test.want {
					t.Errorf("%v, want %s", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !q.Polled() || q.ClientID != "tv" || q.ResponseType != "" || q.CodeChallenge != "" || q.DPoPJKT != "" {
				t.Errorf("%+v", q)
			}
		})
	}
}

func TestReadUserCode(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"WDJB-MJHT": "WDJBMJHT", "wdjbmjht": "WDJBMJHT", " wd jb – mj ht ": "WDJBMJHT", "W-D-J-B-M-J-H-T": "WDJBMJHT",
		"": "", "WDJB-MJH": "", "WDJB-MJHTT": "", "WDJB-MJHA": "", "WDJB-MJH0": "", "WDJB_MJHT": "", "ＷDJBMJH": "", "WDJB-MJHT\n": "",
		strings.Repeat(" ", 60) + "WDJBMJHT": "",
	} {
		if got := ReadUserCode(typed); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
	if shown := ShowUserCode("WDJBMJHT"); shown != "WDJB-MJHT" || ReadUserCode(shown) != "WDJBMJHT" {
		t.Error(shown)
	}
}

// X23: what a profile does not have cannot be registered.
func TestClient_DeviceAndExchange(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		profile  ProfileName
		public   bool
		grant    string
		accepted bool
	}{
		{OpenID, false, GrantDeviceCode, true}, {OpenID, true, GrantDeviceCode, true},
		{FAPI1Baseline, false, GrantDeviceCode, false}, {FAPI1Advanced, false, GrantDeviceCode, false},
		{FAPI2, false, GrantDeviceCode, false}, {FAPI2MessageSigning, false, GrantDeviceCode, false},
		{OpenID, false, GrantTokenExchange, true}, {OpenID, true, GrantTokenExchange, false},
		{FAPI1Baseline, false, GrantTokenExchange, false}, {FAPI1Advanced, false, GrantTokenExchange, false},
		{FAPI2, false, GrantTokenExchange, true}, {FAPI2MessageSigning, false, GrantTokenExchange, true},
	} {
		c := &Client{ID: "c", Profile: test.profile, TokenEndpointAuthMethod: TLSClientAuth, TLSClientAuthSubjectDN: "CN=c", GrantTypes: []string{test.grant}, Scope: "accounts",
			JWKS: &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: ecKey().Public()}}}}
		if test.public {
			c.TokenEndpointAuthMethod, c.TLSClientAuthSubjectDN = NoAuth, ""
		}
		if err := c.Prepare(); (err == nil) != test.accepted {
			t.Errorf("%s, public %t, %s: %v", test.profile, test.public, test.grant, err)
		}
	}
}
