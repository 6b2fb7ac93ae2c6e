package main

import (
	"crypto/x509"
	"encoding/json"
	"path/filepath"
	"strconv"

	"github.com/go-jose/go-jose/v4"
	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/fapi"
)

// detailTypes are what the clients of rar combinations may ask for (RFC 9396 §10).
var detailTypes = []string{"account_information", "payment_initiation"}

// secondSuffix is what the suite adds to the redirect URI of its second client.
const secondSuffix = "?dummy1=lorem&dummy2=ipsum"

// testClient is one of the two clients of a combination, with all that it needs to be that client.
type testClient struct {
	*fapi.Client
	signing jose.JSONWebKey // private
	tls     certificate     // zero when the combination needs none
}

// testClients makes the two clients of a combination.
func (s *setup) testClients(c combination) ([2]testClient, error) {
	var both [2]testClient
	for i := range both {
		t, err := s.testClient(c, i)
		if err != nil {
			return both, err
		}
		both[i] = t
	}
	return both, nil
}

func (s *setup) testClient(c combination, i int) (testClient, error) {
	id := c.alias() + "-" + strconv.Itoa(i+1)
	t := testClient{Client: &fapi.Client{
		ID:                           id,
		Profile:                      fapi.FAPI2,
		Name:                         "Conformance " + id,
		GrantTypes:                   []string{fapi.GrantAuthorizationCode, fapi.GrantRefreshToken},
		Scope:                        c.scope(),
		TokenEndpointAuthMethod:      c.authMethod(),
		CertificateBoundAccessTokens: c.sender == mtls,
		DPoPBoundAccessTokens:        c.sender == dpop,
		IDTokenSignedResponseAlg:     c.idTokenAlg(),
		AccessTokenFormat:            c.tokenFormat(),
		Resources:                    []string{s.resource()},
	}}
	if c.hasBrowser() {
		callback := s.Suite + "/test/a/" + c.alias() + "/callback"
		t.RedirectURIs = []string{[2]string{callback, callback + secondSuffix}[i]}
	} else {
		t.GrantTypes = []string{fapi.GrantClientCredentials}
	}
	if c.request == rar {
		t.AuthorizationDetailsTypes = detailTypes
	}
	key, err := keptKey(s.file("keys", id+".pem"), c.signingAlg())
	if err != nil {
		return t, err
	}
	t.signing = jose.JSONWebKey{Key: key, KeyID: id + "-signing", Algorithm: string(c.signingAlg()), Use: "sig"}
	if c.needsCertificates() {
		if t.tls, err = s.ca.client(id, c.authMethod() == fapi.SelfSignedTLSClientAuth); err != nil {
			return t, err
		}
	}
	switch c.authMethod() {
	case fapi.PrivateKeyJWT:
		t.JWKS = &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{t.signing.Public()}}
	case fapi.TLSClientAuth:
		t.TLSClientAuthSubjectDN = t.tls.Subject.String()
	case fapi.SelfSignedTLSClientAuth:
		t.JWKS = certificateKeys(t.tls)
	}
	return t, nil
}

// certificateKeys registers a certificate that nobody vouches for (RFC 8705 §2.2.2).
func certificateKeys(c certificate) *jose.JSONWebKeySet {
	return &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
		Key: c.PublicKey, KeyID: c.Subject.CommonName + "-tls", Use: "sig", Certificates: []*x509.Certificate{c.Certificate},
	}}}
}

// bankID is the client that the sample API is at the introspection endpoint.
const bankID = "cs-bank-api"

// bankClient is the bank's API, which introspects with its certificate.
func (s *setup) bankClient() (testClient, error) {
	cert, err := s.ca.client(bankID, false)
	return testClient{tls: cert, Client: &fapi.Client{
		ID:                           bankID,
		Profile:                      fapi.FAPI2,
		Name:                         "Sample API of the bank",
		GrantTypes:                   []string{fapi.GrantClientCredentials},
		TokenEndpointAuthMethod:      fapi.TLSClientAuth,
		TLSClientAuthSubjectDN:       cert.Certificate.Subject.String(),
		CertificateBoundAccessTokens: true,
		ResourceIdentifiers:          []string{s.resource()},
	}}, err
}

// writeClients writes what `countersign serve --clients` registers.
func writeClients(dir string, clients []*fapi.Client) error {
	list := make([]any, len(clients))
	for i, c := range clients {
		// The metadata's names are those of its JSON; keys know no other form at all.
		text, err := json.Marshal(c)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &list[i]); err != nil {
			return err
		}
	}
	content, err := yaml.Marshal(map[string]any{"clients": list})
	if err != nil {
		return err
	}
	return write(filepath.Join(dir, "clients.yaml"), content)
}
