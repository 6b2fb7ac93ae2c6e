package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/fapi"
)

// folder is prepared once: making twenty RSA keys takes a second or two.
var folder = sync.OnceValues(func() (*setup, error) {
	s := testSetup(filepath.Join(testDir, "folder"))
	_, err := s.prepare()
	return s, err
})

var testDir string

func testSetup(dir string) *setup {
	return &setup{Dir: dir, Suite: "https://suite.example", Host: "localhost", Port: 9443, MTLSPort: 9444, ResourcePort: 9445, DPoPNonces: true}
}

func TestMain(m *testing.M) {
	var err error
	if testDir, err = os.MkdirTemp("", "conformance-test-*"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(testDir)
	os.Exit(code)
}

func preparedFolder(t *testing.T) *setup {
	t.Helper()
	s, err := folder()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// registered reads clients.yaml as the server does.
func registered(t *testing.T, s *setup) map[string]*fapi.Client {
	t.Helper()
	content, err := os.ReadFile(s.file("clients.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var document struct{ Clients []map[string]any }
	if err := yaml.Unmarshal(content, &document); err != nil {
		t.Fatal(err)
	}
	clients := map[string]*fapi.Client{}
	for _, metadata := range document.Clients {
		text, err := json.Marshal(metadata)
		if err != nil {
			t.Fatal(err)
		}
		c, err := fapi.ParseClient(text)
		if err != nil {
			t.Errorf("clients.yaml: %v", err)
			continue
		}
		if clients[c.ID] != nil {
			t.Errorf("clients.yaml has %q twice", c.ID)
		}
		if bytes.Contains(text, []byte(`"d":`)) {
			t.Errorf("clients.yaml holds a private key of %q", c.ID)
		}
		clients[c.ID] = c
	}
	return clients
}

func readConfig(t *testing.T, s *setup, c combination) *suiteConfig {
	t.Helper()
	content, err := os.ReadFile(s.file(c.alias() + ".json"))
	if err != nil {
		t.Fatal(err)
	}
	config := &suiteConfig{}
	if err := json.Unmarshal(content, config); err != nil {
		t.Fatal(err)
	}
	return config
}

func TestCombinations_AreThoseOfTheMatrix(t *testing.T) {
	all := combinations()
	if len(all) != 16+4 {
		t.Errorf("%d combinations, want 16 and 4 with client credentials", len(all))
	}
	specs, aliases := map[string]bool{}, map[string]bool{}
	for _, c := range all {
		specs[c.spec()], aliases[c.alias()] = true, true
	}
	if len(specs) != len(all) || len(aliases) != len(all) {
		t.Errorf("%d plans and %d aliases for %d combinations: plans side by side need their own", len(specs), len(aliases), len(all))
	}
	for _, want := range []string{
		"fapi2-security-profile-final-test-plan[sender_constrain=mtls][client_auth_type=private_key_jwt][openid=plain_oauth][authorization_request_type=simple][fapi_profile=plain_fapi]",
		"fapi2-security-profile-final-test-plan[sender_constrain=dpop][client_auth_type=mtls][openid=openid_connect][authorization_request_type=rar][fapi_profile=plain_fapi]",
		"fapi2-security-profile-final-test-plan[sender_constrain=dpop][client_auth_type=private_key_jwt][openid=plain_oauth][authorization_request_type=simple][fapi_profile=fapi_client_credentials_grant]",
	} {
		if !specs[want] {
			t.Errorf("no combination is %s", want)
		}
	}
	methods := map[fapi.AuthMethod]bool{}
	for _, c := range all {
		methods[c.authMethod()] = true
	}
	if len(methods) != 3 {
		t.Errorf("only %v: all three ways to authenticate must be met", methods)
	}
}

func TestPrepare_WritesThePlans(t *testing.T) {
	s := preparedFolder(t)
	content, err := os.ReadFile(s.file("plans.txt"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	for i, c := range combinations() {
		plan, config, _ := strings.Cut(lines[i], " ")
		if plan != c.spec() {
			t.Errorf("line %d is %s, want %s", i+1, plan, c.spec())
		}
		if _, err := os.Stat(config); err != nil {
			t.Error(err)
		}
	}
}

func TestPrepare_RegistersTheClientsOfEachCombination(t *testing.T) {
	s := preparedFolder(t)
	clients := registered(t, s)
	for _, c := range combinations() {
		t.Run(c.alias(), func(t *testing.T) {
			config := readConfig(t, s, c)
			callback := "https://suite.example/test/a/" + c.alias() + "/callback"
			for i, want := range []string{callback, callback + "?dummy1=lorem&dummy2=ipsum"} {
				entry := []suiteClient{config.Client, config.Client2}[i]
				client := clients[entry.ID]
				if client == nil {
					t.Fatalf("client %q of the configuration is not registered", entry.ID)
				}
				if client.CertificateBoundAccessTokens != (c.sender == mtls) || client.DPoPBoundAccessTokens != (c.sender == dpop) {
					t.Errorf("%s: tokens are not bound by %s alone", entry.ID, c.sender)
				}
				if client.Scope != entry.Scope {
					t.Errorf("%s: registered for %q, asks for %q", entry.ID, client.Scope, entry.Scope)
				}
				if c.hasBrowser() {
					if diff := cmp.Diff([]string{want}, client.RedirectURIs); diff != "" {
						t.Errorf("%s: redirect_uris (-want +got):\n%s", entry.ID, diff)
					}
				}
				if client.TokenEndpointAuthMethod == fapi.PrivateKeyJWT && client.JWKS.Keys[0].KeyID != entry.JWKS.Keys[0].KeyID {
					t.Errorf("%s: signs with a key that is not registered", entry.ID)
				}
				if c.request == rar {
					details, err := json.Marshal(config.Resource.Details)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := fapi.ParseAuthorizationDetails(string(details), fapi.DefaultDetailTypes(), client.AuthorizationDetailsTypes); err != nil {
						t.Errorf("%s: %v", entry.ID, err)
					}
				}
			}
		})
	}
}

func TestPrepare_ConfiguresEachVariant(t *testing.T) {
	s := preparedFolder(t)
	for _, c := range combinations() {
		t.Run(c.alias(), func(t *testing.T) {
			config := readConfig(t, s, c)
			if config.Alias != c.alias() || config.Server.DiscoveryURL != s.issuer()+"/.well-known/openid-configuration" {
				t.Errorf("alias %q, discoveryUrl %q", config.Alias, config.Server.DiscoveryURL)
			}
			for _, client := range []suiteClient{config.Client, config.Client2} {
				if got := slices.Contains(strings.Fields(client.Scope), "openid"); got != (c.openID == openIDConnect) {
					t.Errorf("scope %q with %s", client.Scope, c.openID)
				}
				if len(strings.Fields(client.Scope)) < 2 {
					t.Errorf("scope %q: one alone has no other order", client.Scope)
				}
				if len(client.JWKS.Keys) != 1 || client.JWKS.Keys[0].IsPublic() || client.JWKS.Keys[0].KeyID == "" || client.JWKS.Keys[0].Algorithm == "" {
					t.Errorf("%s: jwks must hold one private key with kid and alg", client.ID)
				}
			}
			if config.Client.JWKS.Keys[0].KeyID == config.Client2.JWKS.Keys[0].KeyID {
				t.Error("both clients have the same kid")
			}
			if (config.MTLS != nil) != c.needsCertificates() || (config.MTLS2 != nil) != c.needsCertificates() {
				t.Error("certificates are there, but must not be, or the other way round")
			} else if config.MTLS != nil && config.MTLS.Cert == config.MTLS2.Cert {
				t.Error("both clients have the same certificate")
			}
			if (len(config.Resource.Details) > 0) != (c.request == rar) {
				t.Errorf("richAuthorizationRequest with %s", c.request)
			}
			if (len(config.Browser) > 0) != c.hasBrowser() || len(config.Override) != 2*len(config.Browser) {
				t.Errorf("%d scripts and %d overrides with %s", len(config.Browser), len(config.Override), c.profile)
			}
		})
	}
}

func TestPrepare_KeepsKeysFromRunToRun(t *testing.T) {
	s := preparedFolder(t)
	before := snapshot(t, s.Dir)
	if _, err := testSetup(s.Dir).prepare(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot(t, s.Dir)); diff != "" {
		t.Errorf("another run changed files (-before +after):\n%s", diff)
	}
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, pattern := range []string{"*", "*/*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if info, err := os.Stat(name); err != nil || info.IsDir() {
				continue
			}
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(content)
		}
	}
	return files
}

func TestPrepare_ChangesTheCertificateWithTheHost(t *testing.T) {
	s := testSetup(t.TempDir())
	if err := s.ownFolder(); err != nil {
		t.Fatal(err)
	}
	ca, err := openAuthority(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "bank.example", "192.0.2.7"} {
		c, err := ca.server(host, "ES256")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"localhost", "127.0.0.1", host} {
			if err := c.VerifyHostname(name); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestPrepare_RefusesALink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Skipf("this system lets nobody make symbolic links: %v", err)
	}
	if _, err := testSetup(link).prepare(); err == nil {
		t.Error("wrote keys to where somebody else's link leads")
	}
}
