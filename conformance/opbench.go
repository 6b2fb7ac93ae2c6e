package main

import (
	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

// benchConfig is a file of the benchmark (opbench): one server under test, and the clients that put it to work.
type benchConfig struct {
	Name         string            `json:"name"`
	Note         string            `json:"note"`
	Discovery    string            `json:"discovery"`
	CA           string            `json:"ca"`
	Client       benchClient       `json:"client"`
	Introspector benchClient       `json:"introspector"`
	Scope        string            `json:"scope"`
	CCParams     map[string]string `json:"cc_params"`
	RedirectURI  string            `json:"redirect_uri"`
	Binding      string            `json:"binding"`
	Login        benchLogin        `json:"login"`
	PIDFile      string            `json:"pid_file"`
	DBPIDFile    string            `json:"db_pid_file"`
	Start        []string          `json:"start"`
	Skip         []string          `json:"skip"`
}

type benchClient struct {
	ID      string `json:"id"`
	Auth    string `json:"auth"`
	Key     string `json:"key,omitempty"`
	KID     string `json:"kid,omitempty"`
	Alg     string `json:"alg,omitempty"`
	Cert    string `json:"cert"`
	CertKey string `json:"cert_key"`
}

type benchLogin struct {
	Hook   string            `json:"hook"`
	Fields map[string]string `json:"fields"`
}

const benchRedirect = "https://client.example.org/callback" // nobody answers there: the benchmark reads it off the redirect

// benchmarks are the ways in which the server is measured. The first is the one to compare with others.
var benchmarks = []struct {
	name, note string
	auth       fapi.AuthMethod
	format     fapi.TokenFormat
}{
	{"countersign", "private_key_jwt PS256, opaque tokens bound by certificate, ID tokens ES256", fapi.PrivateKeyJWT, fapi.Opaque},
	{"countersign-jwt", "the same with JWT access tokens, ES256", fapi.PrivateKeyJWT, fapi.JWT},
	{"countersign-mtls", "clients authenticate by certificate, opaque tokens", fapi.TLSClientAuth, fapi.Opaque},
}

// writeBenchmarks writes the files and returns their clients.
func (s *setup) writeBenchmarks(p pages) ([]testClient, error) {
	var clients []testClient
	for _, b := range benchmarks {
		client, err := s.benchClient(b.name+"-client", b.auth)
		if err != nil {
			return nil, err
		}
		client.RedirectURIs = []string{benchRedirect}
		client.GrantTypes = []string{fapi.GrantAuthorizationCode, fapi.GrantRefreshToken, fapi.GrantClientCredentials}
		client.Scope = "openid accounts payments"
		client.AccessTokenFormat, client.IDTokenSignedResponseAlg = b.format, jose.ES256
		client.Resources = []string{s.resource()}

		introspector, err := s.benchClient(b.name+"-rs", b.auth)
		if err != nil {
			return nil, err
		}
		introspector.GrantTypes = []string{fapi.GrantClientCredentials}
		introspector.ResourceIdentifiers = []string{s.resource()}

		clients = append(clients, client, introspector)
		if err := writeJSON(s.file("opbench", b.name+".json"), benchConfig{
			Name: b.name, Note: b.note,
			Discovery: s.issuer() + "/.well-known/openid-configuration", CA: s.ca.certFile,
			Client: s.benchEntry(client), Introspector: s.benchEntry(introspector),
			Scope: client.Scope, CCParams: map[string]string{"scope": "accounts payments"},
			RedirectURI: benchRedirect, Binding: "mtls",
			Login: benchLogin{"form", map[string]string{
				"username": p.username, "password": p.password, "account": accounts[0].ID, "decision": "approve",
			}},
			PIDFile: s.file("server.pid"), DBPIDFile: s.file("postgres.pid"),
			Start: []string{s.binary(), "--config", s.file("serve.yaml"), "serve"},
		}); err != nil {
			return nil, err
		}
	}
	return clients, nil
}

// benchClient is a client with the certificate that its tokens are bound to and, where it signs, a key.
func (s *setup) benchClient(id string, auth fapi.AuthMethod) (testClient, error) {
	t := testClient{Client: &fapi.Client{
		ID: id, Profile: fapi.FAPI2, Name: id, TokenEndpointAuthMethod: auth, CertificateBoundAccessTokens: true,
	}}
	var err error
	if t.tls, err = s.ca.client(id, false); err != nil {
		return t, err
	}
	if auth == fapi.TLSClientAuth {
		t.TLSClientAuthSubjectDN = t.tls.Subject.String()
		return t, nil
	}
	key, err := keptKey(s.file("keys", id+".pem"), jose.PS256)
	if err != nil {
		return t, err
	}
	t.signing = jose.JSONWebKey{Key: key, KeyID: id + "-signing", Algorithm: string(jose.PS256), Use: "sig"}
	t.JWKS = &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{t.signing.Public()}}
	return t, nil
}

func (s *setup) benchEntry(t testClient) benchClient {
	b := benchClient{ID: t.ID, Auth: string(t.TokenEndpointAuthMethod), Cert: t.tls.certFile, CertKey: t.tls.keyFile}
	if t.signing.Key != nil {
		b.Key, b.KID, b.Alg = s.file("keys", t.ID+".pem"), t.signing.KeyID, t.signing.Algorithm
	}
	return b
}
