package fapi

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The metadata of CIBA Core §4, and what is ours.
func TestPrepare_backchannel(t *testing.T) {
	t.Parallel()
	const endpoint = "https://tpp.example/ciba"
	for _, test := range []struct {
		name    string
		profile ProfileName
		mode    DeliveryMode
		change  func(*Client)
		members string // of the faults, sorted; "" is accepted
	}{
		{"CIBA-17: poll", OpenID, Poll, nil, ""},
		{"CIBA-17: ping", OpenID, Ping, nil, ""},
		{"CIBA-17: push", OpenID, Push, nil, ""},
		{"FCB-04: poll", FAPICIBA, Poll, nil, ""},
		{"FCB-05: ping", FAPICIBA, Ping, nil, ""},
		{"FCB-03: no push", FAPICIBA, Push, nil, "backchannel_token_delivery_mode"},
		{"CIBA-17: the mode is required", OpenID, "", nil, "backchannel_token_delivery_mode"},
		{"CIBA-17: no other mode", OpenID, "long", nil, "backchannel_token_delivery_mode"},
		{"CIBA-17: poll has no notification endpoint", OpenID, Poll, func(c *Client) { c.BackchannelClientNotificationEndpoint = endpoint }, "backchannel_client_notification_endpoint"},
		{"CIBA-17: ping needs one", OpenID, Ping, func(c *Client) { c.BackchannelClientNotificationEndpoint = "" }, "backchannel_client_notification_endpoint"},
		{"CIBA-17: push needs one", OpenID, Push, func(c *Client) { c.BackchannelClientNotificationEndpoint = "" }, "backchannel_client_notification_endpoint"},
		{"CIBA-17: over http", OpenID, Ping, func(c *Client) { c.BackchannelClientNotificationEndpoint = "http://tpp.example/ciba" }, "backchannel_client_notification_endpoint"},
		{"CIBA-17: with a password", OpenID, Ping, func(c *Client) { c.BackchannelClientNotificationEndpoint = "https://a:b@tpp.example/" }, "backchannel_client_notification_endpoint"},
		{"CIBA-17: with a fragment", OpenID, Ping, func(c *Client) { c.BackchannelClientNotificationEndpoint = endpoint + "#x" }, "backchannel_client_notification_endpoint"},
		{"CIBA-17: too long", OpenID, Ping, func(c *Client) { c.BackchannelClientNotificationEndpoint += "/" + strings.Repeat("x", maxRedirectURI) }, "backchannel_client_notification_endpoint"},
		{"mutual TLS to the client", OpenID, Ping, func(c *Client) { c.BackchannelNotificationMTLS = true }, ""},
		{"mutual TLS to nobody", OpenID, Poll, func(c *Client) { c.BackchannelNotificationMTLS = true }, "backchannel_client_notification_mtls"},
		{"user code and number", OpenID, Poll, func(c *Client) { c.BackchannelUserCodeParameter, c.BackchannelNumberMatching = true, true }, ""},
		{"FCB-01: public clients", OpenID, Poll, func(c *Client) { c.TokenEndpointAuthMethod = NoAuth }, "grant_types"},
		{"pushed tokens cannot be bound: mtls", OpenID, Push, func(c *Client) { c.CertificateBoundAccessTokens = true }, "backchannel_token_delivery_mode"},
		{"pushed tokens cannot be bound: dpop", OpenID, Push, func(c *Client) { c.DPoPBoundAccessTokens = true }, "backchannel_token_delivery_mode"},
		{"fetched ones can", OpenID, Ping, func(c *Client) { c.CertificateBoundAccessTokens = true }, ""},
		{"CIBA-17: an algorithm of the profile", FAPICIBA, Poll, func(c *Client) { c.BackchannelAuthenticationRequestSigningAlg = "PS256" }, ""},
		{"FCB-12: RS256", FAPICIBA, Poll, func(c *Client) { c.BackchannelAuthenticationRequestSigningAlg = "RS256" }, "backchannel_authentication_request_signing_alg jwks"},
		{"CIBA-17: a symmetric algorithm", OpenID, Poll, func(c *Client) { c.BackchannelAuthenticationRequestSigningAlg = "HS256" }, "backchannel_authentication_request_signing_alg jwks"},
		{"CIBA-17: none", OpenID, Poll, func(c *Client) { c.BackchannelAuthenticationRequestSigningAlg = "none" }, "backchannel_authentication_request_signing_alg jwks"},
		{"CIBA-02: no key for signed requests", OpenID, Poll, func(c *Client) {
			c.TokenEndpointAuthMethod, c.JWKS, c.BackchannelAuthenticationRequestSigningAlg = ClientSecretBasic, nil, "ES256"
		}, "jwks"},
		{"CIBA-02: no key is needed for others", OpenID, Poll, func(c *Client) { c.TokenEndpointAuthMethod, c.JWKS = ClientSecretBasic, nil }, ""},
		{"CIBA-02: keys that are fetched are judged later", OpenID, Poll, func(c *Client) {
			c.JWKS, c.JWKSURI, c.BackchannelAuthenticationRequestSigningAlg = nil, "https://tpp.example/jwks", "ES256"
		}, ""},
		{"a profile without CIBA", FAPI2, Poll, nil, "grant_types"},
		{"without the grant there is nothing to register", OpenID, Ping, func(c *Client) {
			c.GrantTypes, c.BackchannelAuthenticationRequestSigningAlg = []string{GrantClientCredentials}, "ES256"
			c.BackchannelUserCodeParameter, c.BackchannelNumberMatching, c.BackchannelNotificationMTLS = true, true, true
		}, "backchannel_authentication_request_signing_alg backchannel_client_notification_endpoint backchannel_client_notification_mtls " +
			"backchannel_number_matching backchannel_token_delivery_mode backchannel_user_code_parameter"},
		{"CIBA Core §4: pairwise by the notification endpoint", OpenID, Ping, func(c *Client) { c.SubjectType = SubjectPairwise }, ""},
		{"CIBA Core §4: pairwise by the jwks_uri", OpenID, Poll, func(c *Client) { c.SubjectType, c.JWKS, c.JWKSURI = SubjectPairwise, nil, "https://tpp.example/jwks" }, ""},
		{"CIBA Core §4: pairwise by nothing", OpenID, Poll, func(c *Client) { c.SubjectType = SubjectPairwise }, "sector_identifier_uri"},
		{"OpenID Connect Core §8.1: pairwise by its sector", OpenID, Poll, func(c *Client) {
			c.SubjectType, c.SectorIdentifierURI = SubjectPairwise, "https://tpp.example/sector"
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := backchannelTPP(test.profile, test.mode)
			if test.change != nil {
				test.change(c)
			}
			err := c.Prepare()
			if got := strings.Join(faultyMembers(err), " "); got != test.members || (err != nil) != (test.members != "") {
				t.Errorf("faults of %q, want %q: %v", got, test.members, err)
			}
			if err == nil && (c.Redirects() || c.Pairwise() && c.Sector() != "tpp.example") {
				t.Errorf("sector %q, response types %v", c.Sector(), c.ResponseTypes)
			}
		})
	}
}

// What the OpenID Foundation's suite registers for its CIBA plans, and what is left out.
func TestRegister_backchannel(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	device := func(changes m) m {
		return newcomer(with(m{
			"profile": "fapi-ciba", "redirect_uris": nil, "grant_types": []string{GrantCIBA}, "response_types": []string{},
			"backchannel_token_delivery_mode": "ping", "backchannel_client_notification_endpoint": "https://app.example/ciba",
			"backchannel_user_code_parameter": false, "backchannel_authentication_request_signing_alg": "PS256",
			"id_token_signed_response_alg": "PS256", "tls_client_certificate_bound_access_tokens": true,
		}, changes))
	}
	poll := m{"backchannel_token_delivery_mode": "poll", "backchannel_client_notification_endpoint": nil}
	rules := registrationRules()
	rules.Profiles = append(rules.Profiles, FAPICIBA)
	for _, test := range []struct {
		name    string
		body    m
		members string // that the refusal names
		is      m      // members of what is registered; nil: absent
	}{
		{name: "ping", body: device(nil), is: m{
			"grant_types": []any{GrantCIBA}, "response_types": nil, "backchannel_token_delivery_mode": "ping", "backchannel_client_notification_endpoint": "https://app.example/ciba",
			"backchannel_authentication_request_signing_alg": "PS256", "id_token_signed_response_alg": "PS256", "backchannel_user_code_parameter": nil,
		}},
		{name: "poll", body: device(poll), is: m{"backchannel_token_delivery_mode": "poll"}},
		{name: "openid", body: device(m{"profile": "openid", "response_types": nil}), is: m{"response_types": nil}},
		{name: "openid, push", body: device(m{"profile": "openid", "backchannel_token_delivery_mode": "push", "tls_client_certificate_bound_access_tokens": nil}), is: m{"backchannel_token_delivery_mode": "push"}},
		{name: "beside the code", body: device(m{"grant_types": []string{"authorization_code", GrantCIBA}, "redirect_uris": []string{"https://app.example/cb"}, "response_types": []string{"code id_token"}}), is: m{"response_types": []any{"code id_token"}}},
		{name: "ours", body: device(m{"backchannel_user_code_parameter": true, "backchannel_number_matching": true, "backchannel_client_notification_mtls": true}),
			is: m{"backchannel_user_code_parameter": true, "backchannel_number_matching": true, "backchannel_client_notification_mtls": true}},
		{name: "X11: push", body: device(m{"backchannel_token_delivery_mode": "push"}), members: "backchannel_token_delivery_mode"},
		{name: "no mode", body: device(m{"backchannel_token_delivery_mode": nil}), members: "backchannel_client_notification_endpoint, backchannel_token_delivery_mode"},
		{name: "a mode that is none", body: device(m{"backchannel_token_delivery_mode": 5}), members: "backchannel_token_delivery_mode"},
		{name: "no notification endpoint", body: device(m{"backchannel_client_notification_endpoint": nil}), members: "backchannel_client_notification_endpoint"},
		{name: "a notification endpoint over http", body: device(m{"backchannel_client_notification_endpoint": "http://app.example/"}), members: "backchannel_client_notification_endpoint"},
		{name: "RS256", body: device(m{"backchannel_authentication_request_signing_alg": "RS256"}), members: "backchannel_authentication_request_signing_alg, jwks"},
		{name: "a flag that is none", body: device(m{"backchannel_user_code_parameter": "yes"}), members: "backchannel_user_code_parameter"},
		{name: "a public client", body: device(m{"profile": "openid", "token_endpoint_auth_method": "none", "jwks": nil, "backchannel_authentication_request_signing_alg": nil, "tls_client_certificate_bound_access_tokens": nil}), members: "grant_types"},
		{name: "members without the grant", body: newcomer(m{"backchannel_token_delivery_mode": "poll", "backchannel_number_matching": true}), members: "backchannel_number_matching, backchannel_token_delivery_mode"},
		{name: "false is nothing", body: newcomer(m{"backchannel_user_code_parameter": false})},
		{name: "DCR-08: left out where the profile does not have it, with what belongs to it",
			body: device(m{"profile": "fapi1-advanced", "grant_types": []string{"authorization_code", GrantCIBA}, "redirect_uris": []string{"https://app.example/cb"}, "response_types": nil, "backchannel_number_matching": true}),
			is: m{"grant_types": []any{"authorization_code"}, "backchannel_token_delivery_mode": nil, "backchannel_client_notification_endpoint": nil,
				"backchannel_authentication_request_signing_alg": nil, "backchannel_number_matching": nil}},
		{name: "DCR-08: nothing is left", body: device(m{"profile": "fapi1-advanced"}), members: "grant_types"},
		{name: "DCR-08: the device grant is left out too", body: newcomer(m{"profile": "fapi2", "grant_types": []string{"authorization_code", GrantDeviceCode}}), is: m{"grant_types": []any{"authorization_code"}}},
	} {
		t.Run("CIBA-17: "+test.name, func(t *testing.T) {
			t.Parallel()
			c, effective, err := register(rules, test.body)
			if test.members != "" {
				refused(t, err, InvalidClientMetadata)
				if got := AsError(err).Description; got != "The metadata are not acceptable: "+test.members+"." {
					t.Errorf("the refusal says %q, want it to name %s", got, test.members)
				}
				return
			}
			refused(t, err, "")
			for name, want := range test.is {
				if diff := cmp.Diff(jsonValue(want), effective[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			if c.MayUse(GrantCIBA) != (c.BackchannelTokenDeliveryMode != "") {
				t.Error("the delivery mode and the grant disagree")
			}
		})
	}
}

// A client's keys that are fetched must do for its CIBA requests, and nobody belongs to a sector that does not say so.
func TestRegister_backchannelFetched(t *testing.T) {
	t.Parallel()
	c := backchannelTPP(OpenID, Ping)
	c.BackchannelAuthenticationRequestSigningAlg = "ES256"
	c.JWKS, c.JWKSURI, c.TokenEndpointAuthMethod, c.TLSClientAuthSubjectDN = nil, "https://tpp.example/jwks", TLSClientAuth, "CN=tpp"
	c.SubjectType, c.SectorIdentifierURI = SubjectPairwise, "https://sector.example/uris"
	mustPrepare(c)
	if got := strings.Join(faultyMembers(errors.Unwrap(c.CheckKeys())), " "); got != "jwks_uri" {
		t.Errorf("CIBA-02: keys that are missing: %q", got)
	}
	for _, test := range []struct {
		document string
		want     Code
	}{
		{`["https://tpp.example/ciba"]`, ""}, {`[]`, InvalidClientMetadata}, {`["https://tpp.example/jwks"]`, InvalidClientMetadata},
	} {
		refused(t, c.CheckSector([]byte(test.document)), test.want)
	}
	nowhere := backchannelTPP(OpenID, Poll)
	nowhere.SubjectType, nowhere.SectorIdentifierURI = SubjectPairwise, "https://sector.example/uris"
	refused(t, mustPrepare(nowhere).CheckSector([]byte(`["https://victim.example/cb"]`)), InvalidClientMetadata)
}
