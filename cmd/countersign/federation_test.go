package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authn/federation"
)

// providersFolder has the files that the examples name.
func providersFolder(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(jose.JSONWebKey{Key: key, KeyID: "1", Algorithm: "ES256"})
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, content := range map[string]string{"meadow.secret": "s3cret\n", "google.secret": "s", "entra.secret": "s", "keycloak.jwk": string(encoded), "broken.jwk": "s3cret"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// The manual's examples are files that a server takes.
func TestIdentityProviders_TheManualsExamples(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../docs/federation.md")
	if err != nil {
		t.Fatal(err)
	}
	folder := providersFolder(t)
	seen := map[string]federation.Config{}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(manual, -1) {
		all, err := parseProviders(block[1], folder)
		if err != nil {
			t.Errorf("%v\n%s", err, block[1])
		}
		for _, c := range all {
			seen[c.ID] = c
		}
	}
	if len(seen) != 4 {
		t.Fatalf("%d examples", len(seen))
	}
	if c := seen["meadow"]; c.Auth != federation.SecretBasic || c.Secret != "s3cret" || c.ACR["gold"] != authn.SCA || c.Trusted || c.SignUp {
		t.Errorf("meadow: %+v", c)
	}
	if c := seen["keycloak"]; c.Auth != federation.PrivateKeyJWT || c.Key == nil || strings.Join(c.Link, ",") != "email,phone" {
		t.Errorf("keycloak: %+v", c)
	}
	if c := seen["entra"]; c.Claims["email_verified"] != "xms_edov" || strings.Join(c.Domains, ",") != "heron.example" {
		t.Errorf("entra: %+v", c)
	}
}

func TestIdentityProviders_Mistakes(t *testing.T) {
	t.Parallel()
	const good = "id: a\n    name: A\n    issuer: https://a.example\n    client_id: b\n    "
	folder := providersFolder(t)
	for _, test := range []struct{ name, entry, says string }{
		{"an unknown member", good + "client_secret_file: meadow.secret\n    secret: x", "secret"},
		{"the secret itself", good + "client_secret: x", "client_secret"},
		{"no secret", good + "auth: client_secret_basic", "needs a client secret"},
		{"no such file", good + "client_secret_file: nothing", "nothing"},
		{"a key that is none", good + "private_key_file: broken.jwk", "holds no JWK"},
		{"both", good + "client_secret_file: meadow.secret\n    private_key_file: keycloak.jwk", "no client secret"},
		{"acr", good + "client_secret_file: meadow.secret\n    acr: {gold: best}", "acr and amr lead"},
		{"max_age", good + "client_secret_file: meadow.secret\n    max_age: soon", "soon"},
		{"trusted", good + "client_secret_file: meadow.secret\n    link: [login]\n    trusted: true", "trusted needs"},
		{"http", strings.Replace(good, "https", "http", 1) + "client_secret_file: meadow.secret", "issuer must"},
		{"nothing", "", "there is no list"},
	} {
		text := ""
		if test.entry != "" {
			text = "providers:\n  - " + test.entry + "\n"
		}
		_, err := parseProviders([]byte(text), folder)
		if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	for _, s := range []federationSettings{{IdentityProviderCA: []string{"x"}}, {IdentityProviderAllow: []string{"10.0.0.0/8"}}, {IdentityProviders: filepath.Join(folder, "nothing")}} {
		if _, err := s.federation(); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
	file := filepath.Join(folder, "providers.yaml")
	if err := os.WriteFile(file, []byte("providers:\n  - "+good+"client_secret_file: meadow.secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&federationSettings{IdentityProviders: file, IdentityProviderAllow: []string{"10.0.0.1/8"}}).federation(); err == nil {
		t.Error("10.0.0.1/8 is taken for a network")
	}
	f, err := (&federationSettings{IdentityProviders: file, IdentityProviderAllow: []string{"10.0.0.0/8"}}).federation()
	if err != nil || len(f.Providers) != 1 || f.Calls == nil {
		t.Errorf("%+v %v", f, err)
	}
}
