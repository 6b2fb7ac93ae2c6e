package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

// Clients that nobody here wrote go through their flows against the demo's server: openid-client (npm) and the Nimbus OAuth
// SDK (JVM). Their programs are in conformance/independent; the test is the customer, with her browser and her phone.

const independentFolder = "../../conformance/independent"

// independentFlow is what the program of a client is told, as JSON in the environment variable FLOW.
type independentFlow struct {
	Flow     string          `json:"flow"`
	Issuer   string          `json:"issuer"`
	ClientID string          `json:"client_id"`
	Key      jose.JSONWebKey `json:"key"`
	Redirect string          `json:"redirect_uri"`
	Scope    string          `json:"scope"`
	Resource string          `json:"resource"`
	CA       string          `json:"ca"` // file
}

const independentRedirect = "https://app.example/callback"

func TestIndependentClients(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts the demo, Node and a JVM")
	}
	t.Parallel()
	programs := map[string]func(*testing.T) []string{"openid-client": openIDClient, "nimbus": nimbusClient}
	d := &demo{demoCommand: *newDemo(t), n: newNarrator(io.Discard), failed: make(chan error, 4)}
	t.Cleanup(d.stop)
	if err := d.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &story{demo: d}
	if err := s.enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	browser, err := d.newBrowser(independentRedirect)
	if err != nil {
		t.Fatal(err)
	}
	s.browser = browser
	for _, test := range []struct {
		program, flow, says string
		metadata            map[string]any
	}{
		{"openid-client", "messageSigning", "JARM answers with nothing but a JWT", map[string]any{
			"profile": fapi.FAPI2MessageSigning, "dpop_bound_access_tokens": true, "response_modes": []string{"jwt"},
		}},
		{"openid-client", "hybrid", "c_hash, s_hash and both ID tokens", map[string]any{
			"profile": fapi.OpenID, "response_types": []string{"code id_token"},
		}},
		{"openid-client", "device", "tokens for the device", map[string]any{
			"profile": fapi.OpenID, "grant_types": []string{"urn:ietf:params:oauth:grant-type:device_code"}, "redirect_uris": nil,
		}},
		{"nimbus", "messageSigning", "JARM: signed, for this client, with state and issuer", map[string]any{
			"profile": fapi.FAPI2MessageSigning, "dpop_bound_access_tokens": true, "response_modes": []string{"jwt"},
		}},
	} {
		t.Run(test.program+"/"+test.flow, func(t *testing.T) { // one after the other: there is one customer
			command := programs[test.program](t)
			key, err := newKey()
			if err != nil {
				t.Fatal(err)
			}
			id := strings.ToLower(test.program + "-" + test.flow)
			s.register(t, id, key, test.metadata)
			said := s.accompany(t, command, independentFlow{
				Flow: test.flow, Issuer: d.issuer(), ClientID: id, Key: jose.JSONWebKey{Key: key, KeyID: id}, Redirect: independentRedirect,
				Scope: "openid accounts", Resource: d.issuer() + "/userinfo", CA: d.ca.file,
			})
			if !strings.Contains(said, "ok "+test.says+"\n") || !strings.HasSuffix(said, "done\n") {
				t.Errorf("the program did not get to its end:\n%s", said)
			}
		})
	}
}

// register registers a client of the demo's server, and waits until the server has heard of it.
func (s *story) register(t *testing.T, id string, key *ecdsa.PrivateKey, more map[string]any) {
	t.Helper()
	metadata := map[string]any{
		"client_id": id, "client_name": id, "redirect_uris": []string{independentRedirect}, "scope": "openid accounts",
		"grant_types":                []string{fapi.GrantAuthorizationCode, fapi.GrantRefreshToken},
		"token_endpoint_auth_method": fapi.PrivateKeyJWT,
		"jwks":                       jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"}}},
	}
	for name, value := range more {
		metadata[name] = value
	}
	encoded, err := json.Marshal(metadata)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fapi.ParseClient(encoded); err != nil {
		t.Fatal(err)
	}
	if err := s.app.db.CreateClient(t.Context(), id, encoded, nil); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // a NOTIFY takes milliseconds
}

// accompany runs a program and is its customer. It returns what the program said.
func (s *story) accompany(t *testing.T, command []string, given independentFlow) string {
	t.Helper()
	flow, err := json.Marshal(given)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Env = append(os.Environ(), "FLOW="+string(flow), "NODE_EXTRA_CA_CERTS="+given.CA)
	var errors bytes.Buffer
	c.Stderr = &errors
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if address, found := strings.CutPrefix(lines.Text(), "open "); found {
			back, err := s.customer(ctx, address)
			if err != nil {
				t.Errorf("at %s: %v", address, err)
				cancel()
				break
			}
			fmt.Fprintln(stdin, back)
			continue
		}
		fmt.Fprintln(&said, lines.Text())
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v\n%s\n%s", err, said.String(), errors.String())
	}
	return said.String()
}

// customer opens an address and does what the pages ask of her, until she is sent back or there is no more to do.
func (s *story) customer(ctx context.Context, address string) (*url.URL, error) {
	page, err := s.browser.open(ctx, address)
	for range 6 {
		if err != nil || page.status == 0 {
			break
		}
		switch id := find(mainTag, page.body); id {
		case "login_page":
			page, err = s.browser.submit(ctx, page, `id="password"`, s.credentials())
		case "second_factor_page":
			code, failed := s.alice.use(ctx)
			if failed != nil {
				return nil, failed
			}
			page, err = s.browser.submit(ctx, page, `id="code"`, url.Values{"code": {code}})
		case "consent_page":
			page, err = s.browser.submit(ctx, page, `id="approve_button"`, url.Values{"decision": {"approve"}, "account": page.accounts()})
		case "device_page":
			page, err = s.browser.submit(ctx, page, `id="user_code"`, url.Values{"user_code": {page.url.Query().Get("user_code")}})
		case "done_page":
			return page.url, nil
		default:
			return nil, page.is("a page that she knows")
		}
	}
	if err != nil {
		return nil, err
	}
	return page.url, nil
}

// openIDClient returns the command that runs a flow with openid-client.
func openIDClient(t *testing.T) []string {
	t.Helper()
	folder := buildIndependent(t, "openid-client", []string{"node", "npm"}, "npm", "ci", "--no-audit", "--no-fund", "--silent")
	return []string{"node", filepath.Join(folder, "flow.mjs")}
}

// nimbusClient returns the command that runs the flow with the Nimbus OAuth SDK.
func nimbusClient(t *testing.T) []string {
	t.Helper()
	folder := buildIndependent(t, "nimbus", []string{"java", "mvn"}, "mvn", "-q", "-B", "package")
	target := filepath.Join(folder, "target")
	return []string{"java", "-cp", filepath.Join(target, "nimbus-client.jar") + string(os.PathListSeparator) + filepath.Join(target, "dependency", "*"), "Flow"}
}

// buildIndependent builds a program in a copy of its folder, or skips the test when its tools are missing.
func buildIndependent(t *testing.T, name string, tools []string, command ...string) string {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, fmt.Sprintf("%s is missing: install %s to run this client (Debian: apt-get install nodejs npm default-jdk-headless maven)", tool, strings.Join(tools, " and ")))
		}
	}
	folder := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(folder, os.DirFS(filepath.Join(independentFolder, name))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Dir = folder
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return folder
}

// missing skips a test for want of a program, or fails it where all were to be installed.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("COUNTERSIGN_REQUIRE_CLIENTS") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}
