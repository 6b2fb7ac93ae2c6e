package main

import (
	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

// Values of the suite's variants.
const (
	mtls          = "mtls"
	dpop          = "dpop"
	privateKeyJWT = "private_key_jwt"

	plainOAuth    = "plain_oauth"
	openIDConnect = "openid_connect"

	simple = "simple"
	rar    = "rar"

	plainResponse = "plain_response"
	jarm          = "jarm"
)

// detailTypes are what the clients of rar combinations may ask for (RFC 9396 §10).
var detailTypes = []string{"account_information", "payment_initiation"}

// fapi2Variant is what the plans of FAPI 2.0 are varied by.
type fapi2Variant struct {
	sender     string // sender_constrain
	clientAuth string // client_auth_type
	openID     string // openid
	request    string // authorization_request_type
	response   string // fapi_response_mode; "" in the Security Profile
	signed     bool   // fapi_request_method is signed_non_repudiation
}

// fapi2Variants lists all of a response mode.
func fapi2Variants(signed bool, responses ...string) []fapi2Variant {
	var all []fapi2Variant
	for _, sender := range []string{mtls, dpop} {
		for _, auth := range []string{privateKeyJWT, mtls} {
			for _, openID := range []string{plainOAuth, openIDConnect} {
				for _, request := range []string{simple, rar} {
					for _, response := range responses {
						all = append(all, fapi2Variant{sender, auth, openID, request, response, signed})
					}
				}
			}
		}
	}
	return all
}

// securityProfilePlans are the plans of the FAPI 2.0 Security Profile: with a customer, and with client credentials alone.
func securityProfilePlans() []combination {
	var all []combination
	for _, v := range fapi2Variants(false, "") {
		all = append(all, v.combination("fapi2-security-profile-final-test-plan", "plain_fapi"))
	}
	for _, sender := range []string{mtls, dpop} {
		for _, auth := range []string{privateKeyJWT, mtls} {
			v := fapi2Variant{sender: sender, clientAuth: auth, openID: plainOAuth, request: simple}
			c := v.combination("fapi2-security-profile-final-test-plan", "fapi_client_credentials_grant")
			c.alias = aliasOf(sender, shortAuth[auth], "cc")
			c.browser, c.pictures, c.overrides = false, nil, nil
			for i := range c.clients {
				c.clients[i].metadata.GrantTypes = []string{fapi.GrantClientCredentials}
			}
			all = append(all, c)
		}
	}
	return all
}

// messageSigningPlans are the plans of FAPI 2.0 Message Signing.
func messageSigningPlans() []combination {
	var all []combination
	for _, v := range fapi2Variants(true, plainResponse, jarm) {
		all = append(all, v.combination("fapi2-message-signing-final-test-plan", "plain_fapi"))
	}
	return all
}

var (
	shortAuth   = map[string]string{privateKeyJWT: "pkjwt", mtls: "mtls"}
	shortOpenID = map[string]string{plainOAuth: "oauth", openIDConnect: "oidc"}
)

func (v fapi2Variant) combination(plan, profile string) combination {
	c := combination{
		plan: plan,
		variants: []variant{
			{"sender_constrain", v.sender}, {"client_auth_type", v.clientAuth}, {"openid", v.openID}, {"authorization_request_type", v.request},
		},
		alias:     aliasOf(v.sender, shortAuth[v.clientAuth], shortOpenID[v.openID], v.request),
		clients:   []clientSpec{v.client("client", ""), v.client("client2", secondSuffix)},
		browser:   true,
		resource:  true,
		details:   v.request == rar,
		pictures:  usedRequestURIPages("fapi2-security-profile-final-"),
		overrides: parOverrides("fapi2-security-profile-final-"),
	}
	if v.signed {
		c.variants = append(c.variants, variant{"fapi_request_method", "signed_non_repudiation"}, variant{"fapi_response_mode", v.response})
		c.alias = aliasOf("ms", c.alias, map[string]string{jarm: jarm}[v.response])
	}
	c.variants = append(c.variants, variant{"fapi_profile", profile})
	return c
}

func (v fapi2Variant) client(entry, suffix string) clientSpec {
	m := &fapi.Client{
		Profile:                      fapi.FAPI2,
		GrantTypes:                   []string{fapi.GrantAuthorizationCode, fapi.GrantRefreshToken},
		Scope:                        v.scope(),
		TokenEndpointAuthMethod:      v.authMethod(),
		CertificateBoundAccessTokens: v.sender == mtls,
		DPoPBoundAccessTokens:        v.sender == dpop,
		IDTokenSignedResponseAlg:     v.answerAlg(),
		AccessTokenFormat:            v.tokenFormat(),
	}
	if v.signed {
		m.Profile, m.AuthorizationSignedResponseAlg = fapi.FAPI2MessageSigning, v.answerAlg()
	}
	if v.response == jarm {
		m.ResponseModes = []string{"jwt"}
	}
	if v.request == rar {
		m.AuthorizationDetailsTypes = detailTypes
	}
	return clientSpec{
		entry: entry, suffix: suffix, metadata: m, signing: v.signingAlg(), signs: v.signed,
		certificate: v.sender == mtls || v.clientAuth == mtls,
	}
}

// scope is what the clients ask for: more than one, so that the suite can change their order.
func (v fapi2Variant) scope() string {
	if v.openID == openIDConnect {
		return "openid accounts payments"
	}
	return "accounts payments"
}

// What follows spreads over the combinations what the suite has no variant for, so that it is met as well.

// authMethod is how the clients authenticate. The suite does not tell the two ways with certificates apart.
func (v fapi2Variant) authMethod() fapi.AuthMethod {
	switch {
	case v.clientAuth == privateKeyJWT:
		return fapi.PrivateKeyJWT
	case v.request == rar:
		return fapi.SelfSignedTLSClientAuth
	}
	return fapi.TLSClientAuth
}

// signingAlg is what the clients sign with. Only with PS256 does the suite also try whether RS256 is refused; where it
// signs nothing, elliptic curves are cheaper to make.
func (v fapi2Variant) signingAlg() jose.SignatureAlgorithm {
	if v.clientAuth == privateKeyJWT || v.signed {
		return jose.PS256
	}
	return jose.ES256
}

// answerAlg is what the server signs with for the clients.
func (v fapi2Variant) answerAlg() jose.SignatureAlgorithm {
	switch {
	case v.sender == mtls && v.request == simple:
		return jose.PS256
	case v.sender == dpop && v.request == rar:
		return jose.EdDSA
	}
	return jose.ES256
}

// tokenFormat is the form of the clients' access tokens.
func (v fapi2Variant) tokenFormat() fapi.TokenFormat {
	if v.request == rar {
		return fapi.JWT
	}
	return fapi.Opaque
}
