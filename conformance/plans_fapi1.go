package main

import (
	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

// fapi1Variant is what the plans of FAPI 1.0 Advanced are varied by.
type fapi1Variant struct {
	clientAuth string // client_auth_type
	method     string // fapi_auth_request_method
	response   string // fapi_response_mode
}

const (
	byValue = "by_value"
	pushed  = "pushed"
)

// advancedPlans are the plans of FAPI 1.0 Advanced.
func advancedPlans() []combination {
	var all []combination
	for _, auth := range []string{privateKeyJWT, mtls} {
		for _, method := range []string{byValue, pushed} {
			for _, response := range []string{plainResponse, jarm} {
				all = append(all, fapi1Variant{auth, method, response}.combination())
			}
		}
	}
	return all
}

func (v fapi1Variant) combination() combination {
	return combination{
		plan: "fapi1-advanced-final-test-plan",
		variants: []variant{
			{"client_auth_type", v.clientAuth}, {"fapi_auth_request_method", v.method}, {"fapi_response_mode", v.response},
			{"fapi_profile", "plain_fapi"},
		},
		alias:     aliasOf("f1", shortAuth[v.clientAuth], map[string]string{byValue: "value", pushed: "pushed"}[v.method], map[string]string{jarm: jarm}[v.response]),
		clients:   []clientSpec{v.client("client", ""), v.client("client2", secondSuffix)},
		browser:   true,
		resource:  true,
		pictures:  advancedPages(v),
		overrides: parOverrides("fapi1-advanced-final-"),
	}
}

func (v fapi1Variant) client(entry, suffix string) clientSpec {
	m := &fapi.Client{
		Profile:                        fapi.FAPI1Advanced,
		GrantTypes:                     []string{fapi.GrantAuthorizationCode, fapi.GrantRefreshToken},
		ResponseTypes:                  []string{"code id_token"},
		Scope:                          "openid accounts payments",
		TokenEndpointAuthMethod:        fapi.PrivateKeyJWT,
		CertificateBoundAccessTokens:   true,
		IDTokenSignedResponseAlg:       jose.PS256,
		AuthorizationSignedResponseAlg: jose.PS256,
		AccessTokenFormat:              fapi.Opaque,
	}
	if v.response == jarm {
		m.ResponseTypes, m.ResponseModes = []string{"code"}, []string{"jwt"}
	}
	if v.clientAuth == mtls { // and once more what the suite has no variant for
		m.TokenEndpointAuthMethod, m.IDTokenSignedResponseAlg, m.AuthorizationSignedResponseAlg = fapi.TLSClientAuth, jose.ES256, jose.ES256
	}
	if v.method == pushed {
		m.AccessTokenFormat = fapi.JWT
		if v.clientAuth == mtls {
			m.TokenEndpointAuthMethod = fapi.SelfSignedTLSClientAuth
		}
	}
	return clientSpec{entry: entry, suffix: suffix, metadata: m, signing: jose.PS256, signs: true, certificate: true}
}
