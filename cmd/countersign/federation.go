package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authn/federation"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/outbound"
)

// federationSettings are where else customers may log in (docs/federation.md).
type federationSettings struct {
	IdentityProviders  string   `name:"identity-providers" help:"YAML file of OpenID providers at which customers may log in; none by default." env:"COUNTERSIGN_IDENTITY_PROVIDERS" placeholder:"FILE"`
	IdentityProviderCA []string `name:"identity-provider-ca" help:"Authorities, beside the system's, that vouch for these providers (PEM)." env:"COUNTERSIGN_IDENTITY_PROVIDER_CA" placeholder:"FILE"`

	IdentityProviderAllow []string `name:"identity-provider-allow" help:"Networks of these providers that may be called although they are private; none by default." env:"COUNTERSIGN_IDENTITY_PROVIDER_ALLOW" placeholder:"CIDR"`
}

// providerEntry is one provider of the file.
type providerEntry struct {
	ID           string            `yaml:"id"`
	Name         string            `yaml:"name"`
	Issuer       string            `yaml:"issuer"`
	ClientID     string            `yaml:"client_id"`
	Auth         string            `yaml:"auth"`
	SecretFile   string            `yaml:"client_secret_file"`
	KeyFile      string            `yaml:"private_key_file"` // a JWK
	Scopes       []string          `yaml:"scopes"`
	UserInfo     bool              `yaml:"userinfo"`
	Claims       map[string]string `yaml:"claims"`
	Attributes   map[string]string `yaml:"attributes"`
	ACR          map[string]string `yaml:"acr"`
	AMR          map[string]string `yaml:"amr"`
	MaxAge       time.Duration     `yaml:"max_age"`
	Request      map[string]string `yaml:"request"`
	Link         []string          `yaml:"link"`
	Trusted      bool              `yaml:"trusted"`
	SignUp       bool              `yaml:"sign_up"`
	EmailDomains []string          `yaml:"email_domains"`
}

// federation reads the file, the secrets that it names included.
func (s *federationSettings) federation() (f authn.Federation, err error) {
	if s.IdentityProviders == "" {
		if len(s.IdentityProviderCA)+len(s.IdentityProviderAllow) > 0 {
			err = errors.New("identity-providers is not set, but identity-provider-ca or identity-provider-allow is")
		}
		return f, err
	}
	content, err := os.ReadFile(s.IdentityProviders)
	if err != nil {
		return f, fmt.Errorf("identity providers: %w", err)
	}
	if f.Providers, err = parseProviders(content, filepath.Dir(s.IdentityProviders)); err != nil {
		return f, fmt.Errorf("%s: %w", s.IdentityProviders, err)
	}
	// One host gets an eighth of the calls, and there are few hosts.
	o := outbound.Options{Concurrent: 256}
	if len(s.IdentityProviderCA) > 0 {
		if o.RootCAs, err = x509.SystemCertPool(); err == nil {
			err = addToPool(o.RootCAs, s.IdentityProviderCA)
		}
		if err != nil {
			return f, fmt.Errorf("identity-provider-ca: %w", err)
		}
	}
	if o.AllowPrivate, err = networks("identity-provider-allow", s.IdentityProviderAllow); err != nil {
		return f, err
	}
	f.Calls = outbound.New(o)
	return f, nil
}

// parseProviders reads the list under "providers". Files that it names are looked for beside it.
func parseProviders(content []byte, folder string) (all []federation.Config, err error) {
	var document struct {
		Providers []providerEntry `yaml:"providers"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(document.Providers) == 0 {
		return nil, errors.New(`there is no list "providers"`)
	}
	var wrong []error
	for _, e := range document.Providers {
		c, err := e.config(folder)
		if err == nil {
			err = c.Check(authn.CA, authn.SCA)
		}
		wrong, all = append(wrong, err), append(all, c)
	}
	return all, errors.Join(wrong...)
}

// acrNames are short for the values that the file means.
var acrNames = map[string]string{"ca": authn.CA, "sca": authn.SCA}

func (e *providerEntry) config(folder string) (federation.Config, error) {
	c := federation.Config{
		ID: e.ID, Name: e.Name, Issuer: e.Issuer, ClientID: e.ClientID, Auth: e.Auth, Scopes: e.Scopes, UserInfo: e.UserInfo, Claims: e.Claims,
		Attributes: e.Attributes, ACR: longNames(e.ACR), AMR: longNames(e.AMR), MaxAge: e.MaxAge, Request: e.Request, Link: e.Link, Trusted: e.Trusted, SignUp: e.SignUp,
		Domains: e.EmailDomains,
	}
	if e.Link == nil {
		c.Link = []string{federation.LinkEmail, federation.LinkPhone}
	}
	if c.Auth == "" {
		if c.Auth = federation.SecretBasic; e.KeyFile != "" {
			c.Auth = federation.PrivateKeyJWT
		}
	}
	var err error
	if e.SecretFile != "" {
		c.Secret, err = readBeside(folder, e.SecretFile)
	}
	if err == nil && e.KeyFile != "" {
		var text string
		c.Key = &jose.JSONWebKey{}
		if text, err = readBeside(folder, e.KeyFile); err == nil && json.Unmarshal([]byte(text), c.Key) != nil {
			err = errors.New("private_key_file holds no JWK") // what it holds is not to be quoted
		}
	}
	if err != nil {
		err = fmt.Errorf("identity provider %q: %w", e.ID, err)
	}
	return c, err
}

func longNames(mapped map[string]string) map[string]string {
	long := map[string]string{}
	for theirs, ours := range mapped {
		if name, short := acrNames[ours]; short {
			ours = name
		}
		long[theirs] = ours
	}
	return long
}

func readBeside(folder, file string) (string, error) {
	if !filepath.IsAbs(file) {
		file = filepath.Join(folder, file)
	}
	return fromFile("", file)
}

// identityProviders asks each provider for its documents.
func identityProviders(e *examination) (fapi.Verdict, string, string) {
	f, err := e.settings.federation()
	if err != nil {
		return fapi.Failed, "", err.Error()
	}
	var found, silent []string
	for _, c := range f.Providers {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := federation.New(c, f.Calls, time.Now).Discover(ctx)
		cancel()
		if err != nil {
			silent = append(silent, fmt.Sprintf("%s: %v", c.ID, err))
		}
		found = append(found, c.ID)
	}
	return unless(len(silent) == 0, strings.Join(found, ", "), strings.Join(silent, "; "))
}
