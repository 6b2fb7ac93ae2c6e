package main

import (
	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

// cibaVariant is what the plans of FAPI-CIBA are varied by.
type cibaVariant struct {
	clientAuth   string // client_auth_type
	mode         fapi.DeliveryMode
	registration string // client_registration
}

// cibaScope is what the clients ask for: the sample API takes any token, and more than one scope has another order.
const cibaScope = "openid accounts payments"

// cibaPlans are the plans of FAPI-CIBA.
func cibaPlans() []combination {
	var all []combination
	for _, auth := range []string{privateKeyJWT, mtls} {
		for _, mode := range []fapi.DeliveryMode{fapi.Poll, fapi.Ping} {
			for _, registration := range []string{staticClient, dynamicClient} {
				all = append(all, cibaVariant{auth, mode, registration}.combination())
			}
		}
	}
	return all
}

func (v cibaVariant) combination() combination {
	c := combination{
		plan: "fapi-ciba-id1-test-plan",
		variants: []variant{
			{"client_auth_type", v.clientAuth}, {"ciba_mode", string(v.mode)}, {"client_registration", v.registration},
			{"fapi_ciba_profile", "plain_fapi"},
		},
		alias:    aliasOf("ciba", shortAuth[v.clientAuth], string(v.mode), shortRegistration[v.registration]),
		resource: true,
		phone:    true,
	}
	if v.registration == dynamicClient {
		c.dynamic, c.profile, c.scope = true, fapi.FAPICIBA, cibaScope
	} else {
		c.clients = []clientSpec{v.client("client"), v.client("client2")}
	}
	return c
}

func (v cibaVariant) client(entry string) clientSpec {
	m := &fapi.Client{
		Profile:                      fapi.FAPICIBA,
		GrantTypes:                   []string{fapi.GrantCIBA, fapi.GrantRefreshToken},
		Scope:                        cibaScope,
		TokenEndpointAuthMethod:      fapi.PrivateKeyJWT,
		CertificateBoundAccessTokens: true,
		IDTokenSignedResponseAlg:     jose.PS256,
		AccessTokenFormat:            fapi.Opaque,
		BackchannelTokenDeliveryMode: v.mode,
		BackchannelAuthenticationRequestSigningAlg: jose.PS256,
	}
	if v.mode.Notifies() { // with what the suite has no variant for
		m.IDTokenSignedResponseAlg, m.AccessTokenFormat = jose.ES256, fapi.JWT
	}
	if v.clientAuth == mtls {
		m.TokenEndpointAuthMethod = map[fapi.DeliveryMode]fapi.AuthMethod{fapi.Poll: fapi.TLSClientAuth, fapi.Ping: fapi.SelfSignedTLSClientAuth}[v.mode]
	}
	return clientSpec{entry: entry, metadata: m, signing: jose.PS256, signs: true, certificate: true, addresses: pinged}
}

// pinged is where the suite waits for pings.
func pinged(base string, c *fapi.Client) {
	if c.BackchannelTokenDeliveryMode.Notifies() {
		c.BackchannelClientNotificationEndpoint = base + "/ciba-notification-endpoint"
	}
}
