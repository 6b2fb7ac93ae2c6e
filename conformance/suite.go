package main

import (
	"encoding/json"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authn"
)

// suiteConfig is the suite's configuration of one combination. Its names are the suite's.
type suiteConfig struct {
	Alias       string `json:"alias"`
	Description string `json:"description"`
	Server      struct {
		DiscoveryURL string   `json:"discoveryUrl"`
		Metadata     []string `json:"allow_unexpected_metadata_fields"`
	} `json:"server"`
	Client     *suiteClient              `json:"client,omitempty"`
	Client2    *suiteClient              `json:"client2,omitempty"`
	SecretPost *suiteClient              `json:"client_secret_post,omitempty"`
	MTLS       *suiteCertificate         `json:"mtls,omitempty"`
	MTLS2      *suiteCertificate         `json:"mtls2,omitempty"`
	Resource   *suiteResource            `json:"resource,omitempty"`
	Browser    []visit                   `json:"browser,omitempty"`
	Override   map[string]map[string]any `json:"override,omitempty"`
	Decide     string                    `json:"automated_ciba_approval_url,omitempty"` // called to have a CIBA request decided
	Options    struct {
		CSS bool `json:"browsercontrol_css_enable"` // the looks of our pages cost it a fifth of its time
	} `json:"options"`
}

type suiteClient struct {
	ID     string              `json:"client_id,omitempty"`
	Name   string              `json:"client_name,omitempty"` // of one that the suite registers
	Secret string              `json:"client_secret,omitempty"`
	Scope  string              `json:"scope,omitempty"`
	Token  string              `json:"initial_access_token,omitempty"`
	JWKS   *jose.JSONWebKeySet `json:"jwks,omitempty"` // with the private key

	HintType string `json:"hint_type,omitempty"` // of CIBA requests
	Hint     string `json:"hint_value,omitempty"`
	ACR      string `json:"acr_value,omitempty"` // that they ask for
}

type suiteResource struct {
	URL     string           `json:"resourceUrl"`
	Details []map[string]any `json:"richAuthorizationRequest,omitempty"`
}

type suiteCertificate struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
	CA   string `json:"ca,omitempty"`
}

// suiteConfig makes the configuration of a combination.
func (s *setup) suiteConfig(c combination, clients []testClient, p pages) (*suiteConfig, error) {
	out := &suiteConfig{Alias: c.alias, Description: "Countersign, " + c.spec()}
	out.Server.DiscoveryURL = s.issuer() + "/.well-known/openid-configuration"
	out.Server.Metadata = []string{"grant_management_endpoint"} // Grant Management §7.1: of its metadata the suite knows all but this
	if err := out.setClients(c, clients, s.ca); err != nil {
		return nil, err
	}
	if c.dynamic {
		token, err := s.registrationToken(c.profile)
		if err != nil {
			return nil, err
		}
		out.Client = &suiteClient{Name: "Conformance " + c.alias + " 1", Scope: c.scope, Token: token}
		out.Client2 = &suiteClient{Name: "Conformance " + c.alias + " 2", Scope: c.scope, Token: token}
	}
	if c.resource {
		out.Resource = &suiteResource{URL: s.resource() + resourcePath}
	}
	if c.details {
		out.Resource.Details = []map[string]any{
			{"type": "account_information", "actions": []string{"list_accounts", "read_balances"}, "locations": []string{s.resource()}},
			{"type": "payment_initiation", "instructedAmount": map[string]string{"currency": "EUR", "amount": "123.50"},
				"creditorName": "Merchant A", "creditorAccount": map[string]string{"iban": "DE02100100109307118603"}},
		}
	}
	if c.browser {
		out.Browser, out.Override = p.browser(), p.override(c)
	}
	if c.phone {
		out.Decide = s.decideURL(c)
		out.Client.HintType, out.Client.Hint = "login_hint", c.customer()
		out.Client2.HintType, out.Client2.Hint, out.Client2.ACR = "login_hint", c.customer(), authn.CA
	}
	return out, nil
}

// setClients writes the clients where the suite looks for them.
func (out *suiteConfig) setClients(c combination, clients []testClient, ca *authority) error {
	for _, t := range clients {
		entry := &suiteClient{ID: t.ID, Scope: t.Scope, Secret: t.secret}
		if t.signing.Key != nil {
			entry.JWKS = &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{t.signing}}
		}
		shown, err := suiteCert(t, ca)
		if err != nil {
			return err
		}
		switch t.entry {
		case "client":
			out.Client, out.MTLS = entry, shown
		case "client2":
			out.Client2, out.MTLS2 = entry, shown
		case "client_secret_post":
			out.SecretPost = entry
		}
	}
	return nil
}

// suiteCert is the certificate that the suite shows for a client; nil when it shows none.
func suiteCert(t testClient, ca *authority) (*suiteCertificate, error) {
	if t.tls.Certificate == nil {
		return nil, nil
	}
	key, err := t.tls.keyPEM()
	if err != nil {
		return nil, err
	}
	shown := &suiteCertificate{Cert: string(t.tls.pem()), Key: key}
	if t.tls.Issuer.String() != t.tls.Subject.String() {
		shown.CA = string(ca.pem())
	}
	return shown, nil
}

func writeJSON(file string, v any) error {
	content, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return write(file, append(content, '\n'))
}
