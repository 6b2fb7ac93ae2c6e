package main

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"strconv"

	"github.com/go-jose/go-jose/v4"
	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/fapi"
)

// testClient is a client of a combination, with all that it needs to be that client.
type testClient struct {
	*fapi.Client
	entry   string          // its name in the suite's configuration
	signing jose.JSONWebKey // private; zero when it signs nothing
	tls     certificate     // zero when it shows none
	secret  string          // "" when it has none
}

// testClients makes the clients of a combination.
func (s *setup) testClients(c combination) ([]testClient, error) {
	var all []testClient
	for i, spec := range c.clients {
		t, err := s.testClient(c, spec, c.alias+"-"+strconv.Itoa(i+1))
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

func (s *setup) testClient(c combination, spec clientSpec, id string) (testClient, error) {
	t := testClient{Client: spec.metadata, entry: spec.entry}
	t.ID, t.Name, t.Resources = id, "Conformance "+id, []string{s.resource()}
	base := s.Suite + "/test/a/" + c.alias
	if t.MayUse(fapi.GrantAuthorizationCode) {
		t.RedirectURIs = []string{base + "/callback" + spec.suffix}
	}
	if spec.addresses != nil {
		spec.addresses(base, t.Client)
	}
	if err := s.giveKeys(&t, spec); err != nil {
		return t, err
	}
	switch t.TokenEndpointAuthMethod {
	case fapi.PrivateKeyJWT:
		t.register(t.signing.Public())
	case fapi.TLSClientAuth:
		t.TLSClientAuthSubjectDN = t.tls.Subject.String()
	case fapi.SelfSignedTLSClientAuth:
		t.register(certificateKey(t.tls))
	case fapi.ClientSecretBasic, fapi.ClientSecretPost:
		var err error
		if t.secret, err = keptSecret(s.file("keys", id+".secret")); err != nil {
			return t, err
		}
	}
	if spec.signs && t.TokenEndpointAuthMethod != fapi.PrivateKeyJWT {
		t.register(t.signing.Public())
	}
	return t, nil
}

// giveKeys makes what a client signs with and shows. Clients of different combinations share keys, since RSA keys take long
// to make; the clients of one do not: with them the suite tries whether one passes for the other.
func (s *setup) giveKeys(t *testClient, spec clientSpec) error {
	if spec.signing != "" {
		key, err := keptKey(s.file("keys", spec.entry+"-"+string(spec.signing)+".pem"), spec.signing)
		if err != nil {
			return err
		}
		t.signing = jose.JSONWebKey{Key: key, KeyID: t.ID + "-signing", Algorithm: string(spec.signing), Use: "sig"}
	}
	if !spec.certificate {
		return nil
	}
	var err error
	t.tls, err = s.ca.client(t.ID, t.TokenEndpointAuthMethod == fapi.SelfSignedTLSClientAuth)
	return err
}

// register adds a key to those that the server knows.
func (t *testClient) register(key jose.JSONWebKey) {
	if t.JWKS == nil {
		t.JWKS = &jose.JSONWebKeySet{}
	}
	t.JWKS.Keys = append(t.JWKS.Keys, key)
}

// certificateKey registers a certificate that nobody vouches for (RFC 8705 §2.2.2).
func certificateKey(c certificate) jose.JSONWebKey {
	return jose.JSONWebKey{
		Key: c.PublicKey, KeyID: c.Subject.CommonName + "-tls", Use: "sig", Certificates: []*x509.Certificate{c.Certificate},
	}
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

// writeClients writes what `countersign serve --clients` registers. Of a secret it holds the hash.
func writeClients(dir string, clients []testClient) error {
	list := make([]map[string]any, len(clients))
	for i, c := range clients {
		// The metadata's names are those of its JSON; keys know no other form at all.
		text, err := json.Marshal(c.Client)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &list[i]); err != nil {
			return err
		}
		if c.secret != "" {
			list[i]["client_secret_sha256"] = hex.EncodeToString(fapi.SecretHash(c.secret))
		}
	}
	content, err := yaml.Marshal(map[string]any{"clients": list})
	if err != nil {
		return err
	}
	return write(filepath.Join(dir, "clients.yaml"), content)
}
