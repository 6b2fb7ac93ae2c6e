package fapi

import (
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// responder is a client of a profile that registered all that it may, with changes.
func responder(profile ProfileName, change func(*Client)) *Client {
	c := tpp(profile)
	c.ResponseTypes = append([]string(nil), FindProfile(profile).ResponseTypes...)
	if FindProfile(profile).implicit() {
		c.GrantTypes = []string{GrantAuthorizationCode, GrantImplicit}
	}
	if change != nil {
		change(c)
	}
	return mustPrepare(c)
}

func TestResponseMode(t *testing.T) {
	t.Parallel()
	encrypts := func(c *Client) { c.AuthorizationEncryptedResponseAlg = jose.ECDH_ES }
	modes := func(modes ...string) func(*Client) { return func(c *Client) { c.ResponseModes = modes } }
	for _, test := range []struct {
		name       string
		profile    ProfileName
		client     func(*Client)
		typ, mode  string
		want       string // "" is refused
		refusal    Code
		refusalsBy string
	}{
		{"OAuth Multiple Response Types §3: code is answered by query", OpenID, nil, "code", "", "query", "", ""},
		{"OAuth Multiple Response Types §5: an ID token by fragment", OpenID, nil, "code id_token", "", "fragment", "", ""},
		{"OAuth Multiple Response Types §5: an access token by fragment", OpenID, nil, "code token", "", "fragment", "", ""},
		{"OAuth Multiple Response Types §3: the order of the words means nothing", OpenID, nil, "token id_token code", "", "fragment", "", ""},
		{"OAuth Multiple Response Types §5: no ID token by query", OpenID, nil, "code id_token", "query", "", InvalidRequest, "fragment"},
		{"OAuth Form Post §2: an ID token by form_post", OpenID, nil, "code id_token", "form_post", "form_post", "", ""},
		{"JARM §2.3.4: jwt of a code is query.jwt", OpenID, nil, "code", "jwt", "query.jwt", "", ""},
		{"JARM §2.3.4: jwt of an ID token is fragment.jwt", OpenID, nil, "code id_token", "jwt", "fragment.jwt", "", ""},
		{"JARM §2.3.1: no ID token by query.jwt", OpenID, nil, "code id_token", "query.jwt", "", InvalidRequest, "fragment.jwt"},
		{"JARM §2.3.1: but an encrypted one", OpenID, encrypts, "code id_token", "query.jwt", "query.jwt", "", ""},
		{"JARM §2.3.3: form_post.jwt", OpenID, nil, "code", "form_post.jwt", "form_post.jwt", "", ""},
		{"RFC 6749 §3.1.1: no response_type that is unknown", OpenID, nil, "code foo", "", "", UnsupportedResponseType, "query"},
		{"OpenID Connect Core §3.2: an ID token alone by fragment", OpenID, nil, "id_token", "", "fragment", "", ""},
		{"OpenID Connect Core §3.2: never by query", OpenID, nil, "token id_token", "query", "", InvalidRequest, "fragment"},
		{"RFC 9700 §2.1.2: no token alone", OpenID, nil, "token", "", "", UnsupportedResponseType, "fragment"},
		{"RFC 6749 §3.1.1: no word twice", OpenID, nil, "code code", "", "", UnsupportedResponseType, "query"},

		{"RFC 8705 §3: no token that must be bound", OpenID, func(c *Client) { c.CertificateBoundAccessTokens = true }, "code token", "", "", UnauthorizedClient, "fragment"},
		{"RFC 9449 §5: no token that must be bound", OpenID, func(c *Client) { c.DPoPBoundAccessTokens = true }, "code id_token token", "", "", UnauthorizedClient, "fragment"},
		{"RFC 8705 §3: an ID token needs not be bound", OpenID, func(c *Client) { c.CertificateBoundAccessTokens = true }, "code id_token", "", "fragment", "", ""},

		{"F1A-02: code id_token", FAPI1Advanced, nil, "code id_token", "", "fragment", "", ""},
		{"F1A-02: code id_token by query is refused", FAPI1Advanced, nil, "code id_token", "query", "", InvalidRequest, "fragment"},
		{"F1A-02: code alone is refused", FAPI1Advanced, nil, "code", "", "", InvalidRequest, "query"},
		{"F1A-02: code by form_post is refused", FAPI1Advanced, nil, "code", "form_post", "", InvalidRequest, "query"},
		{"F1A-09: code with JARM", FAPI1Advanced, nil, "code", "jwt", "query.jwt", "", ""},
		{"F1A-02: an access token is refused", FAPI1Advanced, nil, "code id_token token", "", "", UnsupportedResponseType, "fragment"},

		{"F2-07: code", FAPI2, nil, "code", "", "query", "", ""},
		{"F2-09: no code by fragment", FAPI2, nil, "code", "fragment", "", InvalidRequest, "query"},
		{"F2-07: no ID token", FAPI2, nil, "code id_token", "", "", UnsupportedResponseType, "fragment"},
		{"MS-03: all modes of the profile are the default", FAPI2MessageSigning, nil, "code", "", "query", "", ""},
		{"MS-03: no other than registered", FAPI2MessageSigning, modes("jwt"), "code", "", "", InvalidRequest, "query"},
		{"MS-03: jwt when registered", FAPI2MessageSigning, modes("jwt"), "code", "jwt", "query.jwt", "", ""},
		{"MS-03: jwt is its own long form", FAPI2MessageSigning, modes("jwt"), "code", "query.jwt", "query.jwt", "", ""},
		{"MS-03: jwt is not form_post.jwt", FAPI2MessageSigning, modes("jwt"), "code", "form_post.jwt", "", InvalidRequest, "query.jwt"},
		{"MS-03: query.jwt is what jwt stands for", FAPI2MessageSigning, modes("query.jwt"), "code", "jwt", "query.jwt", "", ""},
		{"MS-03: a refusal is signed when that was asked for", FAPI2MessageSigning, modes("query"), "code", "jwt", "", InvalidRequest, "query.jwt"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := responder(test.profile, test.client)
			params := request("response_type="+test.typ, "response_mode="+test.mode)
			redirect, err := c.CheckRedirect(params)
			refused(t, err, "")
			got, err := c.CheckAuthorizationRequest(params, nil)
			refused(t, err, test.refusal)
			if test.refusal != "" {
				if redirect.ResponseMode != test.refusalsBy {
					t.Errorf("the refusal goes by %q, want %q", redirect.ResponseMode, test.refusalsBy)
				}
				return
			}
			if got.ResponseMode != test.want || redirect.ResponseMode != test.want {
				t.Errorf("answered by %q, refused by %q, want %q", got.ResponseMode, redirect.ResponseMode, test.want)
			}
			if got.ResponseType != strings.TrimSpace(got.ResponseType) || strings.HasPrefix(got.ResponseType, "token") {
				t.Errorf("response_type %q", got.ResponseType)
			}
		})
	}
}

// What a request object asks for is not known until it is read: JARM-only clients are then told as they registered (the
// suite's fapi1-advanced-final-ensure-matching-key-in-authorization-request), others plainly.
func TestCheckRedirect_UnreadObject(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		modes   []string
		changes []string
		want    string
	}{
		{[]string{"jwt"}, []string{"request=x"}, "query.jwt"},
		{[]string{"jwt"}, []string{"request_uri=https://tpp.example/r"}, "query.jwt"},
		{[]string{"jwt"}, nil, "query"},
		{[]string{"jwt", "form_post"}, []string{"request=x"}, "query"},
		{nil, []string{"request=x"}, "query"},
		{nil, []string{"request=x", "response_mode=jwt"}, "query.jwt"},
	} {
		c := responder(FAPI1Advanced, func(c *Client) { c.ResponseModes, c.ResponseTypes = test.modes, []string{"code"} })
		redirect, err := c.CheckRedirect(request(test.changes...))
		refused(t, err, "")
		if redirect.ResponseMode != test.want {
			t.Errorf("%v, %v: refused by %q, want %q", test.modes, test.changes, redirect.ResponseMode, test.want)
		}
	}
}

func TestNonceAndChallenge(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		profile ProfileName
		changes []string
		browser Code // sent through the browser
		pushed  Code
	}{
		{"F1B-18: openid needs a nonce", FAPI1Advanced, []string{"response_mode=jwt", "nonce"}, InvalidRequest, InvalidRequest},
		{"F1B-18: openid needs no state", FAPI1Advanced, []string{"response_mode=jwt", "state"}, "", ""},
		{"F1B-18: plain OAuth needs state", FAPI1Advanced, []string{"response_mode=jwt", "scope=accounts", "state"}, InvalidRequest, InvalidRequest},
		{"F1B-18: plain OAuth needs no nonce", FAPI1Advanced, []string{"response_mode=jwt", "scope=accounts", "nonce"}, "", ""},
		{"F1A-08: an ID token needs openid", FAPI1Advanced, []string{"response_type=code id_token", "scope=accounts"}, InvalidScope, InvalidScope},
		{"F1A-05: a challenge is needed only when pushed", FAPI1Advanced, []string{"response_mode=jwt", "code_challenge", "code_challenge_method"}, "", InvalidRequest},
		{"F1A-05: plain never does", FAPI1Advanced, []string{"response_mode=jwt", "code_challenge_method=plain"}, InvalidRequest, InvalidRequest},
		{"F1B-05: a challenge is always needed", FAPI1Baseline, []string{"code_challenge", "code_challenge_method"}, InvalidRequest, InvalidRequest},
		{"F1B-18: baseline needs a nonce", FAPI1Baseline, []string{"nonce"}, InvalidRequest, InvalidRequest},
		{"X5: code needs no nonce", OpenID, []string{"nonce"}, "", ""},
		{"OpenID Connect Core §3.3.2.11: an ID token needs a nonce", OpenID, []string{"response_type=code id_token", "nonce"}, InvalidRequest, InvalidRequest},
		{"OpenID Connect Core §3.3.2.11: code token needs none", OpenID, []string{"response_type=code token", "nonce"}, "", ""},
		{"X5: FAPI 2.0 needs no nonce", FAPI2, []string{"nonce", "state"}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := responder(test.profile, nil)
			_, err := c.CheckAuthorizationRequest(request(test.changes...), nil)
			refused(t, err, test.browser)
			_, err = c.CheckPushedRequest(request(test.changes...), nil)
			refused(t, err, test.pushed)
		})
	}
}

func TestRequestObjectIsRequired(t *testing.T) {
	t.Parallel()
	for profile, required := range map[ProfileName]bool{OpenID: false, FAPI1Baseline: false, FAPI2: false, FAPI1Advanced: true, FAPI2MessageSigning: true} {
		for _, browser := range []bool{true, false} {
			_, err := responder(profile, nil).ResolveRequest(request(), RequestObjectContext{Issuer: issuer, Now: now, AtAuthorizationEndpoint: browser})
			if required {
				refused(t, err, InvalidRequest)
			} else {
				refused(t, err, "")
			}
		}
	}
}
