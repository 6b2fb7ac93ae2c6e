package main

import (
	"encoding/json"

	"github.com/go-jose/go-jose/v4"
)

// suiteConfig is the suite's configuration of one combination. Its names are the suite's.
type suiteConfig struct {
	Alias       string `json:"alias"`
	Description string `json:"description"`
	Server      struct {
		DiscoveryURL string `json:"discoveryUrl"`
	} `json:"server"`
	Client   suiteClient       `json:"client"`
	Client2  suiteClient       `json:"client2"`
	MTLS     *suiteCertificate `json:"mtls,omitempty"`
	MTLS2    *suiteCertificate `json:"mtls2,omitempty"`
	Resource struct {
		URL     string           `json:"resourceUrl"`
		Details []map[string]any `json:"richAuthorizationRequest,omitempty"`
	} `json:"resource"`
	Browser  []visit        `json:"browser,omitempty"`
	Override map[string]any `json:"override,omitempty"`
	Options  struct {
		CSS bool `json:"browsercontrol_css_enable"` // the looks of our pages cost it a fifth of its time
	} `json:"options"`
}

type suiteClient struct {
	ID    string             `json:"client_id"`
	Scope string             `json:"scope"`
	JWKS  jose.JSONWebKeySet `json:"jwks"` // with the private key
}

type suiteCertificate struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
	CA   string `json:"ca,omitempty"`
}

// suiteConfig makes the configuration of a combination.
func (s *setup) suiteConfig(c combination, clients [2]testClient, p pages) (*suiteConfig, error) {
	out := &suiteConfig{Alias: c.alias(), Description: "Countersign, " + c.spec()}
	out.Server.DiscoveryURL = s.issuer() + "/.well-known/openid-configuration"
	out.Resource.URL = s.resource() + resourcePath
	for i, client := range []*suiteClient{&out.Client, &out.Client2} {
		*client = suiteClient{clients[i].ID, clients[i].Scope, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{clients[i].signing}}}
	}
	if c.needsCertificates() {
		for i, to := range []**suiteCertificate{&out.MTLS, &out.MTLS2} {
			key, err := clients[i].tls.keyPEM()
			if err != nil {
				return nil, err
			}
			*to = &suiteCertificate{Cert: string(clients[i].tls.pem()), Key: key}
			if clients[i].tls.Issuer.String() != clients[i].tls.Subject.String() {
				(*to).CA = string(s.ca.pem())
			}
		}
	}
	if c.request == rar {
		out.Resource.Details = []map[string]any{
			{"type": "account_information", "actions": []string{"list_accounts", "read_balances"}, "locations": []string{s.resource()}},
			{"type": "payment_initiation", "instructedAmount": map[string]string{"currency": "EUR", "amount": "123.50"},
				"creditorName": "Merchant A", "creditorAccount": map[string]string{"iban": "DE02100100109307118603"}},
		}
	}
	if c.hasBrowser() {
		out.Browser, out.Override = p.browser(), p.overrides()
	}
	return out, nil
}

func writeJSON(file string, v any) error {
	content, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return write(file, append(content, '\n'))
}
