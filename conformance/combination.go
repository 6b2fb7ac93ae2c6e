package main

import (
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

// What the suite calls its variants.
const (
	mtls = "mtls"
	dpop = "dpop"

	privateKeyJWT = "private_key_jwt"

	plainOAuth    = "plain_oauth"
	openIDConnect = "openid_connect"

	simple = "simple"
	rar    = "rar"

	plainFAPI         = "plain_fapi"
	clientCredentials = "fapi_client_credentials_grant"
)

// combination is one plan with the values of its variants, as the suite spells them.
type combination struct {
	plan       string
	sender     string // sender_constrain
	clientAuth string // client_auth_type
	openID     string // openid
	request    string // authorization_request_type
	profile    string // fapi_profile
}

const securityProfile = "fapi2-security-profile-final-test-plan"

// combinations lists all plans that are run.
func combinations() []combination {
	var all []combination
	for _, sender := range []string{mtls, dpop} {
		for _, auth := range []string{privateKeyJWT, mtls} {
			for _, openID := range []string{plainOAuth, openIDConnect} {
				for _, request := range []string{simple, rar} {
					all = append(all, combination{securityProfile, sender, auth, openID, request, plainFAPI})
				}
			}
		}
	}
	for _, sender := range []string{mtls, dpop} {
		for _, auth := range []string{privateKeyJWT, mtls} {
			all = append(all, combination{securityProfile, sender, auth, plainOAuth, simple, clientCredentials})
		}
	}
	return all
}

// spec is the plan as the suite's runner wants it named.
func (c combination) spec() string {
	return fmt.Sprintf("%s[sender_constrain=%s][client_auth_type=%s][openid=%s][authorization_request_type=%s][fapi_profile=%s]",
		c.plan, c.sender, c.clientAuth, c.openID, c.request, c.profile)
}

// alias names the combination in redirect URIs: plans with different aliases may run at the same time.
func (c combination) alias() string {
	auth := map[string]string{privateKeyJWT: "pkjwt", mtls: "mtls"}[c.clientAuth]
	openID := map[string]string{plainOAuth: "oauth", openIDConnect: "oidc"}[c.openID]
	parts := []string{"cs", c.sender, auth, openID, c.request}
	if !c.hasBrowser() {
		parts = []string{"cs", c.sender, auth, "cc"}
	}
	return strings.Join(parts, "-")
}

// hasBrowser tells whether a customer takes part.
func (c combination) hasBrowser() bool { return c.profile != clientCredentials }

// needsCertificates tells whether the suite shows client certificates.
func (c combination) needsCertificates() bool { return c.sender == mtls || c.clientAuth == mtls }

// scope is what the clients ask for: more than one, so that the suite can change their order.
func (c combination) scope() string {
	if c.openID == openIDConnect {
		return "openid accounts payments"
	}
	return "accounts payments"
}

// What follows spreads over the combinations what the suite has no variant for, so that it is met as well.

// authMethod is how the clients authenticate. The suite does not tell the two ways with certificates apart.
func (c combination) authMethod() fapi.AuthMethod {
	switch {
	case c.clientAuth == privateKeyJWT:
		return fapi.PrivateKeyJWT
	case c.request == rar:
		return fapi.SelfSignedTLSClientAuth
	}
	return fapi.TLSClientAuth
}

// signingAlg is what the clients sign with. Only with PS256 does the suite also try whether RS256 is refused; where it
// signs nothing, elliptic curves are cheaper to make.
func (c combination) signingAlg() jose.SignatureAlgorithm {
	if c.clientAuth == privateKeyJWT {
		return jose.PS256
	}
	return jose.ES256
}

// idTokenAlg is what the server signs for the clients.
func (c combination) idTokenAlg() jose.SignatureAlgorithm {
	switch {
	case c.sender == mtls && c.request == simple:
		return jose.PS256
	case c.sender == dpop && c.request == rar:
		return jose.EdDSA
	}
	return jose.ES256
}

// tokenFormat is the form of the clients' access tokens.
func (c combination) tokenFormat() fapi.TokenFormat {
	if c.request == rar {
		return fapi.JWT
	}
	return fapi.Opaque
}
