package federation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func TestACRMapping(t *testing.T) {
	t.Parallel()
	p := &Provider{Config: Config{ACR: map[string]string{"gold": "sca", "silver": "ca"}, AMR: map[string]string{"hwk": "sca"}}}
	for _, test := range []struct {
		acr  string
		amr  []string
		want string
	}{{"", nil, ""}, {"gold", nil, "sca"}, {"silver", []string{"hwk"}, "ca"}, {"bronze", []string{"pwd", "hwk"}, "sca"}, {"Gold", []string{"pwd"}, ""}} {
		if got := p.acr(&tokenClaims{ACR: test.acr, AMR: test.amr}); got != test.want {
			t.Errorf("%q %v: %q, want %q", test.acr, test.amr, got, test.want)
		}
	}
}

func TestAllows(t *testing.T) {
	t.Parallel()
	p := &Provider{Config: Config{Domains: []string{"heron.example"}}}
	for email, want := range map[string]bool{
		"a@heron.example": true, "a@HERON.example": true, "a@evil.example": false, "a@sub.heron.example": false, "": false,
		`"x@heron.example"@evil.example`: false,
	} {
		who := &Identity{Profile: map[string]string{"email": email}, EmailVerified: true}
		if got := p.Allows(who); got != want {
			t.Errorf("%q: %t", email, got)
		}
		who.EmailVerified = false
		if p.Allows(who) {
			t.Errorf("%q, not verified, is let in", email)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	good := Config{ID: "meadow", Name: "Meadow", Issuer: "https://meadow.example/realms/x", ClientID: "bank", Auth: SecretBasic, Secret: "s"}
	for _, test := range []struct {
		name   string
		change func(*Config)
		says   string // "" for nothing wrong
	}{
		{"good", func(*Config) {}, ""},
		{"trusted", func(c *Config) { c.Trusted, c.Link = true, []string{LinkEmail} }, ""},
		{"trusted with nothing to go by", func(c *Config) { c.Trusted, c.Link = true, []string{LinkLogin} }, "trusted needs"},
		{"id", func(c *Config) { c.ID = "a/b" }, "id must"},
		{"http", func(c *Config) { c.Issuer = "http://meadow.example" }, "issuer must"},
		{"query", func(c *Config) { c.Issuer = "https://meadow.example?x" }, "issuer must"},
		{"no secret", func(c *Config) { c.Secret = "" }, "needs a client secret"},
		{"public key", func(c *Config) {
			c.Auth, c.Secret, c.Key = PrivateKeyJWT, "", &jose.JSONWebKey{Key: key.Public(), KeyID: "1", Algorithm: "ES256"}
		}, "private key with kid"},
		{"key without alg", func(c *Config) { c.Auth, c.Secret, c.Key = PrivateKeyJWT, "", &jose.JSONWebKey{Key: key, KeyID: "1"} }, "private key with kid"},
		{"auth none", func(c *Config) { c.Auth = "none" }, "auth must"},
		{"state", func(c *Config) { c.Request = map[string]string{"state": "x"} }, "state is not to be set"},
		{"acr", func(c *Config) { c.ACR = map[string]string{"gold": "best"} }, "acr and amr lead"},
		{"no acr", func(c *Config) { c.ACR = map[string]string{"": "sca"} }, "acr and amr lead"},
		{"link", func(c *Config) { c.Link = []string{"name"} }, "link is"},
		{"domains", func(c *Config) { c.Domains = []string{"@x.example"} }, "domains are"},
		{"member", func(c *Config) { c.Claims = map[string]string{"username": "x"} }, "no member username"},
	} {
		c := good
		test.change(&c)
		err := c.Check("ca", "sca")
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
