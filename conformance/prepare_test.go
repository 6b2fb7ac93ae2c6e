package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/fapi"
)

// folder is prepared once: making its keys takes a second or two.
var folder = sync.OnceValues(func() (*setup, error) {
	s := testSetup(filepath.Join(testDir, "folder"))
	_, err := s.prepare()
	return s, err
})

var testDir string

func testSetup(dir string) *setup {
	return &setup{Dir: dir, Suite: "https://suite.example", Host: "localhost", Port: 9443, MTLSPort: 9444, ResourcePort: 9445, DPoPNonces: true, Prefix: "cs", patience: time.Second}
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
		hash, _ := metadata["client_secret_sha256"].(string)
		delete(metadata, "client_secret_sha256")
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
		if secret := strings.HasPrefix(string(c.TokenEndpointAuthMethod), "client_secret_"); secret != (len(hash) == 64) {
			t.Errorf("client %q authenticates by %s, and has the hash %q", c.ID, c.TokenEndpointAuthMethod, hash)
		}
		clients[c.ID] = c
	}
	return clients
}

func readConfig(t *testing.T, s *setup, c combination) *suiteConfig {
	t.Helper()
	content, err := os.ReadFile(s.file(c.alias + ".json"))
	if err != nil {
		t.Fatal(err)
	}
	config := &suiteConfig{}
	if err := json.Unmarshal(content, config); err != nil {
		t.Fatal(err)
	}
	return config
}

// elsewhere are the plans of the matrix whose configurations other parts of the project bring.
func elsewhere(spec string) bool {
	return strings.Contains(spec, "=openbanking_uk]")
}

func TestCombinations_AreThoseOfTheMatrix(t *testing.T) {
	content, err := os.ReadFile("testdata/matrix.txt")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(content)) {
		_, spec, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !elsewhere(spec) {
			want = append(want, spec)
		}
	}
	var got []string
	aliases := map[string]bool{}
	for _, c := range testSetup("").combinations() {
		got = append(got, c.spec())
		if aliases[c.alias] {
			t.Errorf("alias %s is there twice: plans side by side need their own", c.alias)
		}
		if ok, _ := path.Match("cs-*", c.alias); !ok || strings.Trim(c.alias, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			t.Errorf("alias %q is none for the suite", c.alias)
		}
		aliases[c.alias] = true
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plans (-matrix +combinations):\n%s", diff)
	}
}

func TestCombinations_MeetWhatTheSuiteHasNoVariantFor(t *testing.T) {
	methods, formats, algs := map[fapi.AuthMethod]bool{}, map[fapi.TokenFormat]bool{}, map[string]bool{}
	for _, c := range testSetup("").combinations() {
		for _, client := range c.clients {
			methods[client.metadata.TokenEndpointAuthMethod] = true
			formats[client.metadata.AccessTokenFormat] = true
			algs[string(client.metadata.IDTokenSignedResponseAlg)] = true
		}
	}
	for _, m := range []fapi.AuthMethod{fapi.PrivateKeyJWT, fapi.TLSClientAuth, fapi.SelfSignedTLSClientAuth, fapi.ClientSecretBasic, fapi.ClientSecretPost} {
		if !methods[m] {
			t.Errorf("no client authenticates by %s", m)
		}
	}
	if !formats[fapi.Opaque] || !formats[fapi.JWT] {
		t.Errorf("access tokens are only %v", formats)
	}
	for _, alg := range []string{"PS256", "ES256", "EdDSA", "RS256"} {
		if !algs[alg] {
			t.Errorf("no ID token is signed %s", alg)
		}
	}
}

func TestPrepare_WritesThePlans(t *testing.T) {
	s := preparedFolder(t)
	content, err := os.ReadFile(s.file("plans.txt"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	for i, c := range s.combinations() {
		config := s.file(c.alias + ".json")
		if want := c.spec() + " " + config; lines[i] != want {
			t.Errorf("line %d is %s, want %s", i+1, lines[i], want)
		}
		if _, err := os.Stat(config); err != nil {
			t.Error(err)
		}
	}
}

// entries are the clients of a configuration.
func (c *suiteConfig) entries() map[string]*suiteClient {
	return map[string]*suiteClient{"client": c.Client, "client2": c.Client2, "client_secret_post": c.SecretPost}
}

func TestPrepare_RegistersTheClientsOfEachCombination(t *testing.T) {
	s := preparedFolder(t)
	clients := registered(t, s)
	for _, c := range s.combinations() {
		t.Run(c.alias, func(t *testing.T) {
			config := readConfig(t, s, c)
			for _, spec := range c.clients {
				entry := config.entries()[spec.entry]
				if entry == nil {
					t.Fatalf("the configuration has no %s", spec.entry)
				}
				client := clients[entry.ID]
				if client == nil {
					t.Fatalf("client %q of the configuration is not registered", entry.ID)
				}
				checkRegistered(t, c, spec, entry, client)
				if c.details {
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

func checkRegistered(t *testing.T, c combination, spec clientSpec, entry *suiteClient, client *fapi.Client) {
	t.Helper()
	if sender := c.value("sender_constrain"); sender != "" &&
		(client.CertificateBoundAccessTokens != (sender == mtls) || client.DPoPBoundAccessTokens != (sender == dpop)) {
		t.Errorf("%s: tokens are not bound by %s alone", entry.ID, sender)
	}
	if client.Scope != entry.Scope {
		t.Errorf("%s: registered for %q, asks for %q", entry.ID, client.Scope, entry.Scope)
	}
	if c.browser {
		want := []string{"https://suite.example/test/a/" + c.alias + "/callback" + spec.suffix}
		if diff := cmp.Diff(want, client.RedirectURIs); diff != "" {
			t.Errorf("%s: redirect_uris (-want +got):\n%s", entry.ID, diff)
		}
	}
	signs := spec.signs || client.TokenEndpointAuthMethod == fapi.PrivateKeyJWT
	if signs && !slices.ContainsFunc(client.JWKS.Keys, func(k jose.JSONWebKey) bool { return k.KeyID == entry.JWKS.Keys[0].KeyID }) {
		t.Errorf("%s: signs with a key that is not registered", entry.ID)
	}
	if got := slices.Contains(client.ResponseModes, "jwt"); got != (c.value("fapi_response_mode") == jarm) {
		t.Errorf("%s: response_modes %v", entry.ID, client.ResponseModes)
	}
}

func TestPrepare_ConfiguresEachVariant(t *testing.T) {
	s := preparedFolder(t)
	for _, c := range s.combinations() {
		t.Run(c.alias, func(t *testing.T) {
			config := readConfig(t, s, c)
			if config.Alias != c.alias || config.Server.DiscoveryURL != s.issuer()+"/.well-known/openid-configuration" {
				t.Errorf("alias %q, discoveryUrl %q", config.Alias, config.Server.DiscoveryURL)
			}
			if len(c.clients) > 0 && c.clients[0].metadata.Profile != fapi.OpenID {
				checkFAPIConfig(t, c, config)
			}
			if c.phone {
				checkPhone(t, s, c, config)
			}
			if c.value("client_registration") == dynamicClient && (config.Client.ID != "" || config.Client.Name == "") {
				t.Errorf("the suite registers its own clients, but has %+v", config.Client)
			}
			if (len(config.Browser) > 0) != c.browser {
				t.Errorf("%d scripts", len(config.Browser))
			}
			for module, picture := range c.pictures {
				if !strings.Contains(jsonOf(t, config.Override[module]), jsonOf(t, picture.text)) {
					t.Errorf("nothing looks at the page of %s", module)
				}
			}
		})
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func checkFAPIConfig(t *testing.T, c combination, config *suiteConfig) {
	t.Helper()
	for _, client := range []*suiteClient{config.Client, config.Client2} {
		if got := slices.Contains(strings.Fields(client.Scope), "openid"); got == (c.value("openid") == plainOAuth) {
			t.Errorf("scope %q with %s", client.Scope, c.value("openid"))
		}
		if len(strings.Fields(client.Scope)) < 2 {
			t.Errorf("scope %q: one alone has no other order", client.Scope)
		}
		if len(client.JWKS.Keys) != 1 || client.JWKS.Keys[0].IsPublic() || client.JWKS.Keys[0].KeyID == "" || client.JWKS.Keys[0].Algorithm == "" {
			t.Errorf("%s: jwks must hold one private key with kid and alg", client.ID)
		}
	}
	one, two := config.Client.JWKS.Keys[0], config.Client2.JWKS.Keys[0]
	if one.KeyID == two.KeyID || jsonOf(t, one.Key) == jsonOf(t, two.Key) {
		t.Error("both clients have the same key")
	}
	certificates := c.value("sender_constrain") != dpop || c.value("client_auth_type") == mtls
	if (config.MTLS != nil) != certificates || (config.MTLS2 != nil) != certificates {
		t.Error("certificates are there, but must not be, or the other way round")
	} else if config.MTLS != nil && config.MTLS.Cert == config.MTLS2.Cert {
		t.Error("both clients have the same certificate")
	}
	if (len(config.Resource.Details) > 0) != (c.value("authorization_request_type") == rar) {
		t.Error("richAuthorizationRequest is there, but must not be, or the other way round")
	}
}

// checkPhone looks for what a plan of CIBA asks a configuration for.
func checkPhone(t *testing.T, s *setup, c combination, config *suiteConfig) {
	t.Helper()
	for name, client := range map[string]*suiteClient{"client": config.Client, "client2": config.Client2} {
		if client.HintType != "login_hint" || client.Hint != c.alias {
			t.Errorf("%s: the hint is %s=%q: plans side by side need their own customers", name, client.HintType, client.Hint)
		}
		if scopes := strings.Fields(client.Scope); len(scopes) < 2 || !slices.Contains(scopes, "openid") {
			t.Errorf("%s: scope %q", name, client.Scope)
		}
	}
	if config.Client2.ACR != authn.CA {
		t.Errorf("client2 asks for acr %q, which the phone does not reach", config.Client2.ACR)
	}
	if want := s.resource() + "/phones/" + c.alias + "?action={action}&auth_req_id={auth_req_id}"; config.Decide != want {
		t.Errorf("requests are decided at %s, want %s", config.Decide, want)
	}
	for _, client := range registered(t, s) {
		if !strings.HasPrefix(client.ID, c.alias) {
			continue
		}
		want := ""
		if c.value("ciba_mode") == "ping" {
			want = "https://suite.example/test/a/" + c.alias + "/ciba-notification-endpoint"
		}
		if string(client.BackchannelTokenDeliveryMode) != c.value("ciba_mode") || client.BackchannelClientNotificationEndpoint != want {
			t.Errorf("%s: %s to %q", client.ID, client.BackchannelTokenDeliveryMode, client.BackchannelClientNotificationEndpoint)
		}
	}
}

// A plan whose clients register themselves shows the token that was given out last, from run to run.
func TestPrepare_WritesRegistrationTokens(t *testing.T) {
	s := testSetup(t.TempDir())
	if err := s.ownFolder(); err != nil {
		t.Fatal(err)
	}
	if err := write(s.tokenFile(fapi.FAPICIBA), []byte("token-of-the-operator\n")); err != nil {
		t.Fatal(err)
	}
	for _, c := range s.combinations() {
		if !c.dynamic {
			continue
		}
		if _, err := s.writePlan(c, pages{}); err != nil {
			t.Fatal(err)
		}
		want := ""
		if c.plan == "fapi-ciba-id1-test-plan" {
			want = "token-of-the-operator"
		}
		if config := readConfig(t, s, c); config.Client.Token != want || config.Client2.Token != want {
			t.Errorf("%s: tokens %q and %q, want %q", c.alias, config.Client.Token, config.Client2.Token, want)
		}
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
