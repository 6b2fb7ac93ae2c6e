package authn

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authn/federation"
	"github.com/countersign/countersign/authn/federation/federationtest"
)

// A Keycloak that nobody here wrote is the other provider. Its distribution is on Maven Central; Maven keeps it in its own cache.
const (
	keycloakVersion = "26.7.3"
	keycloakSHA256  = "27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f"
	mavenCopy       = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"

	upstreamPassword = "what alice types at meadow"
	adminPassword    = "of this test alone"
)

type keycloak struct {
	t     *testing.T
	base  string
	http  *http.Client
	token string // of its administrator
	stop  func()
}

func (k *keycloak) issuer() string { return k.base + "/realms/meadow" }

func requireClients() bool { return os.Getenv("COUNTERSIGN_REQUIRE_CLIENTS") == "1" }

// needsKeycloak skips a test for want of a program, or fails it where all were to be installed.
func needsKeycloak(t *testing.T, why string) {
	t.Helper()
	if requireClients() {
		t.Fatal(why)
	}
	t.Skip(why)
}

// startKeycloak runs it with the certificate of the tests' servers, which the browsers here trust.
func startKeycloak(t *testing.T, trusted *http.Client, certificate tls.Certificate, signer jose.JSONWebKey) *keycloak {
	t.Helper()
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			needsKeycloak(t, "no "+program+" found: apt-get install -y openjdk-17-jre-headless maven")
		}
	}
	folder := t.TempDir()
	fetch := exec.CommandContext(t.Context(), "mvn", "-q", "-B", mavenCopy, "-Dartifact=org.keycloak:keycloak-quarkus-dist:"+keycloakVersion+":zip",
		"-DoutputDirectory="+folder)
	if !requireClients() { // 160 MB are not for everybody
		fetch.Args = append(fetch.Args, "--offline")
	}
	fetch.Dir = folder
	if out, err := fetch.CombinedOutput(); err != nil {
		needsKeycloak(t, fmt.Sprintf("Keycloak %s is not in Maven's cache; with COUNTERSIGN_REQUIRE_CLIENTS=1 it is fetched: %v\n%.500s", keycloakVersion, err, out))
	}
	home := unzip(t, filepath.Join(folder, "keycloak-quarkus-dist-"+keycloakVersion+".zip"), folder)
	imported := filepath.Join(home, "data", "import")
	if err := os.MkdirAll(imported, 0o700); err != nil {
		t.Fatal(err)
	}
	realm, err := json.Marshal(meadowRealm(t, signer))
	if err == nil {
		err = os.WriteFile(filepath.Join(imported, "meadow-realm.json"), realm, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	port, plain := freePort(t), freePort(t)
	k := &keycloak{t: t, base: "https://127.0.0.1:" + port, http: trusted}

	var log bytes.Buffer
	chain, key := writeCertificate(t, folder, certificate)
	run := exec.Command("sh", filepath.Join(home, "bin", "kc.sh"), "start-dev", "--import-realm", "--http-host=127.0.0.1", "--http-port="+plain,
		"--https-port="+port, "--https-certificate-file="+chain, "--https-certificate-key-file="+key)
	run.Env = append(os.Environ(), "JAVA_OPTS_KC_HEAP=-Xmx512m", "KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD="+adminPassword)
	run.Stdout, run.Stderr = &log, &log
	run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the shell and its Java
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = run.Wait(); close(ended) }()
	k.stop = sync.OnceFunc(func() {
		_ = syscall.Kill(-run.Process.Pid, syscall.SIGKILL)
		<-ended
	})
	t.Cleanup(k.stop)
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		response, err := k.http.Get(k.issuer())
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				break
			}
		}
		select {
		case <-ended:
			t.Fatalf("Keycloak has ended:\n%s", log.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("Keycloak does not answer: %v\n%s", err, log.String())
		}
	}
	k.login()
	return k
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func writeCertificate(t *testing.T, folder string, c tls.Certificate) (chain, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	chain, key = filepath.Join(folder, "chain.pem"), filepath.Join(folder, "key.pem")
	for name, block := range map[string]*pem.Block{chain: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return chain, key
}

// unzip unpacks an archive whose sum is known, and returns the folder that is in it.
func unzip(t *testing.T, archive, into string) string {
	t.Helper()
	content, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != keycloakSHA256 {
		t.Fatalf("%s is not what was published: %x", archive, sum)
	}
	files, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err == nil {
		err = os.CopyFS(into, files)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return filepath.Join(into, "keycloak-"+keycloakVersion)
}

func meadowRealm(t *testing.T, signer jose.JSONWebKey) map[string]any {
	t.Helper()
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{signer.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	client := func(id string, consent bool) map[string]any {
		return map[string]any{"clientId": id, "enabled": true, "secret": "s3cret", "redirectUris": []string{"https://127.0.0.1:*", "*"}, "consentRequired": consent,
			"attributes": map[string]string{"pkce.code.challenge.method": "S256"}}
	}
	signs := client("bank-signs", false)
	signs["clientAuthenticatorType"] = "client-jwt"
	signs["attributes"] = map[string]string{"pkce.code.challenge.method": "S256", "use.jwks.string": "true", "jwks.string": string(keys),
		"token.endpoint.auth.signing.alg": "ES256"}
	return map[string]any{
		"realm": "meadow", "enabled": true,
		"clients": []any{client("bank", false), client("bank-asks", true), signs},
		"users": []any{map[string]any{"username": "alice.meadow", "enabled": true, "email": "alice@heron.example", "emailVerified": true,
			"firstName": "Alice", "lastName": "Doe", "credentials": []any{map[string]any{"type": "password", "value": upstreamPassword}}}},
	}
}

func (k *keycloak) login() {
	k.t.Helper()
	response, err := k.http.PostForm(k.base+"/realms/master/protocol/openid-connect/token",
		url.Values{"grant_type": {"password"}, "client_id": {"admin-cli"}, "username": {"admin"}, "password": {adminPassword}})
	if err != nil {
		k.t.Fatal(err)
	}
	defer response.Body.Close()
	var said struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&said); err != nil || said.Token == "" {
		k.t.Fatalf("%d %v", response.StatusCode, err)
	}
	k.token = said.Token
}

func (k *keycloak) admin(method, path string, body, into any) {
	k.t.Helper()
	encoded, _ := json.Marshal(body)
	r, _ := http.NewRequest(method, k.base+"/admin/realms/meadow"+path, bytes.NewReader(encoded))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+k.token)
	response, err := k.http.Do(r)
	if err != nil {
		k.t.Fatal(err)
	}
	defer response.Body.Close()
	said, _ := io.ReadAll(response.Body)
	if response.StatusCode/100 != 2 {
		k.t.Fatalf("%s %s: %d %s", method, path, response.StatusCode, said)
	}
	if into != nil {
		if err := json.Unmarshal(said, into); err != nil {
			k.t.Fatal(err)
		}
	}
}

// rotate makes a new key for signatures and takes the older ones away.
func (k *keycloak) rotate() {
	const keyType = "org.keycloak.keys.KeyProvider"
	var old []struct{ ID, ProviderID string }
	k.admin(http.MethodGet, "/components?type="+keyType, nil, &old)
	k.admin(http.MethodPost, "/components", map[string]any{"name": "next", "providerId": "rsa-generated", "providerType": keyType,
		"config": map[string]any{"priority": []string{"900"}, "algorithm": []string{"RS256"}}}, nil)
	for _, c := range old {
		if c.ProviderID == "rsa-generated" {
			k.admin(http.MethodDelete, "/components/"+c.ID, nil, nil)
		}
	}
}

var keycloakForm = regexp.MustCompile(`<form[^>]* action="([^"]+)"`)

// send fills in Keycloak's form.
func (b *browser) send(t *testing.T, k *keycloak, p page, fields ...string) page {
	t.Helper()
	action := html.UnescapeString(find(keycloakForm, p.body))
	if !strings.HasPrefix(p.at.String(), k.base) || action == "" {
		t.Fatalf("no form of Keycloak's at %s:\n%.3000s", p.at, p.body)
	}
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	address, err := p.at.Parse(action)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequest(http.MethodPost, address.String(), strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(r)
}

func TestFederation_Keycloak(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts Keycloak on a JVM")
	}
	t.Parallel()
	trusted := federationtest.New(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := jose.JSONWebKey{Key: key, KeyID: "bank-1", Algorithm: "ES256", Use: "sig"}
	k := startKeycloak(t, trusted.Client(), trusted.TLS.Certificates[0], signer)
	provider := func(id, client, secret string) federation.Config {
		return federation.Config{ID: id, Name: "Meadow", Issuer: k.issuer(), ClientID: client, Auth: federation.SecretBasic, Secret: secret,
			Link: []string{federation.LinkEmail}, ACR: map[string]string{"1": SCA}} // Keycloak's "1" is a login, "0" its session
	}
	signs := provider("signs", "bank-signs", "")
	signs.Auth, signs.Key = federation.PrivateKeyJWT, &signer
	s := setup(t, Config{Federation: Federation{Calls: trusted.Calls(), Providers: []federation.Config{
		provider("meadow", "bank", "s3cret"), provider("asks", "bank-asks", "s3cret"), provider("wrong", "bank", "wrong"), signs,
	}}})
	s.config.Origin = s.http.URL
	id := verifiedAlice(s)
	there := []string{"username", "alice.meadow", "password", upstreamPassword}
	as := func(p page, acr string) {
		t.Helper()
		if p.want(t, "consent_page"); !strings.Contains(p.body, id.String()+" "+acr) {
			t.Errorf("%s, want %s", p.body, acr)
		}
	}

	b := s.browser()
	form := b.meadow()
	if wrong := b.send(t, k, form, "username", "alice.meadow", "password", "wrong"); !strings.HasPrefix(wrong.at.String(), k.base) {
		t.Fatalf("a wrong password there leads to %s", wrong.at)
	}
	form = b.meadow()
	b.send(t, k, form, there...).want(t, "prove_link_page")
	ask := b.postForm("/login", "username", alice, "password", alicePassword, "next", linkPage).want(t, "link_page")
	as(b.agree(ask, "link"), CA+" pwd")

	b = s.browser()
	as(b.send(t, k, b.meadow(), there...), SCA+" fed,mfa") // linked: nothing is asked
	as(b.meadow(), CA+" fed")                              // Keycloak's session: not mapped, so worth one factor
	as(b.send(t, k, b.meadow(fieldFresh, "1"), there...), SCA+" fed,mfa")

	k.rotate()
	as(s.browser().finishAt(t, k, "/login/idp/meadow", there), SCA+" fed,mfa")

	denied := s.browser()
	consent := denied.send(t, k, denied.post("/login/idp/asks"), there...)
	no := denied.send(t, k, consent, "cancel", "No").want(t, "login_page")
	if no.status != http.StatusForbidden || !strings.Contains(no.problem(), "You did not sign in at Meadow") {
		t.Errorf("the customer's no: %d %q", no.status, no.problem())
	}
	wrong := s.browser().finishAt(t, k, "/login/idp/wrong", there).want(t, "login_page")
	if wrong.status != http.StatusServiceUnavailable || !strings.Contains(wrong.problem(), "cannot be reached") {
		t.Errorf("a wrong secret: %d %q", wrong.status, wrong.problem())
	}
	as(s.browser().finishAt(t, k, "/login/idp/signs", there), SCA+" fed,mfa") // private_key_jwt

	// It goes away between the login there and the exchange of the code.
	b = s.browser()
	form = b.meadow()
	b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), s.http.URL) {
			return http.ErrUseLastResponse
		}
		return nil
	}
	back := b.send(t, k, form, there...).header.Get("Location")
	b.CheckRedirect = nil
	k.stop()
	gone := b.get(strings.TrimPrefix(back, s.http.URL)).want(t, "login_page")
	if gone.status != http.StatusServiceUnavailable || !strings.Contains(gone.problem(), "cannot be reached") || !strings.Contains(gone.body, requestURI) {
		t.Errorf("an outage: %d %q", gone.status, gone.problem())
	}
	b.login(alice, alicePassword).want(t, "consent_page")
	for _, entry := range s.logs.All() {
		if text := fmt.Sprint(entry.Message, entry.ContextMap()); strings.Contains(text, "s3cret") || strings.Contains(text, upstreamPassword) {
			t.Errorf("a secret in the log: %s", text)
		}
	}
}

func (b *browser) finishAt(t *testing.T, k *keycloak, path string, there []string) page {
	t.Helper()
	return b.send(t, k, b.post(path), there...)
}
