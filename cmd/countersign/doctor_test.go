package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/fapi"
)

// certificateFiles writes a self-signed certificate for localhost and its key, and returns their names.
func (o *operator) certificateFiles(t *testing.T, name, host string, ends time.Time, rsaBits int) (cert, key string) {
	t.Helper()
	var private any
	var public any
	if rsaBits > 0 {
		k, err := rsa.GenerateKey(rand.Reader, rsaBits)
		ok(t, err)
		private, public = k, k.Public()
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ok(t, err)
		private, public = k, k.Public()
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: ends, DNSNames: []string{host},
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	ok(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	ok(t, err)
	cert, key = filepath.Join(o.dir, name+".pem"), filepath.Join(o.dir, name+".key")
	ok(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	ok(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	return cert, key
}

// freePort returns a port on which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	ok(t, err)
	return port
}

// judged runs the doctor and returns its findings by id.
func (o *operator) judged(t *testing.T, wantOK bool, args ...string) map[string]fapi.Finding {
	t.Helper()
	out := o.run(t, wantOK, "", append([]string{"doctor", "--json"}, args...)...)
	var findings []fapi.Finding
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&findings); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	byID := map[string]fapi.Finding{}
	for _, f := range findings {
		if f.Clause == "" || f.Requirement == "" || (f.Verdict != fapi.OK) != (f.Change != "") || byID[f.ID].ID != "" {
			t.Errorf("%+v", f)
		}
		byID[f.ID] = f
	}
	return byID
}

func failedIDs(findings map[string]fapi.Finding) string {
	var ids []string
	for id, f := range findings {
		if f.Verdict == fapi.Failed {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	master := strings.TrimSpace(o.run(t, true, "", "key", "master"))
	masterFile := filepath.Join(o.dir, "master.key")
	ok(t, os.WriteFile(masterFile, []byte(master), 0o400))
	o.env = append(slices.DeleteFunc(o.env, func(e string) bool { return strings.HasPrefix(e, "COUNTERSIGN_MASTER_KEY=") }), "COUNTERSIGN_MASTER_KEY_FILE="+masterFile)
	cert, key := o.certificateFiles(t, "good", "localhost", time.Now().Add(90*day), 2048)
	port, mtlsPort := freePort(t), freePort(t)
	settings := []string{
		"--issuer=https://localhost:" + port, "--mtls-base=https://localhost:" + mtlsPort, "--listen=127.0.0.1:" + port, "--mtls-listen=127.0.0.1:" + mtlsPort,
		"--tls-cert=" + cert, "--tls-key=" + key, "--resource=https://api.bank.example", "--outbound-ca=" + cert,
	}
	with := func(more ...string) []string { // a list that is given again is added to
		kept := slices.DeleteFunc(slices.Clone(settings), func(arg string) bool {
			name, _, _ := strings.Cut(arg, "=")
			return slices.ContainsFunc(more, func(m string) bool { return strings.HasPrefix(m, name+"=") })
		})
		return append(kept, more...)
	}

	if got := failedIDs(o.judged(t, false, settings...)); got != "schema" {
		t.Fatalf("before migrating: %s", got)
	}
	o.run(t, true, "", "migrate")
	found := o.judged(t, true, settings...)
	for _, id := range []string{"master-key", "certificate-kind", "clock", "schema", "hsts", "second-factor", "clients", "database-encryption"} {
		if found[id].Verdict != fapi.OK {
			t.Errorf("%+v", found[id])
		}
	}
	if !strings.Contains(o.run(t, true, "", append([]string{"doctor"}, settings...)...), "FAPI 1.0 Part 2 §8.5") {
		t.Error("the table names no clauses")
	}

	o.run(t, true, "client_id: eddy\nprofile: openid\nredirect_uris: [https://app.example/cb]\ntoken_endpoint_auth_method: none\nid_token_signed_response_alg: EdDSA\n", "client", "create", "-")
	o.run(t, true, "client_id: closed\nprofile: openid\nredirect_uris: [https://app.example/cb]\ntoken_endpoint_auth_method: client_secret_basic\nclient_name: Closed\n"+
		"grant_types: ['urn:openid:params:grant-type:ciba']\nbackchannel_token_delivery_mode: ping\nbackchannel_client_notification_endpoint: https://app.example/ping\nbackchannel_client_notification_mtls: true\n", "client", "create", "-")
	if got := failedIDs(o.judged(t, false, settings...)); got != "outbound-certificate" {
		t.Errorf("a client asks for a certificate that there is none of: %s", got)
	}
	settings = append(settings, "--outbound-certificate="+cert, "--outbound-key="+key)
	expired, expiredKey := o.certificateFiles(t, "expired", "localhost", time.Now().Add(-time.Minute), 0)
	soon, soonKey := o.certificateFiles(t, "soon", "localhost", time.Now().Add(day), 0)
	small, smallKey := o.certificateFiles(t, "small", "other.example", time.Now().Add(90*day), 1024)
	open := filepath.Join(o.dir, "open.key")
	ok(t, os.WriteFile(open, []byte(master), 0o644))
	zeros := filepath.Join(o.dir, "zeros.key")
	ok(t, os.WriteFile(zeros, []byte(strings.Repeat("A", 43)+"="), 0o400))
	for _, c := range []struct {
		name   string
		args   []string
		failed string
		advice string
	}{
		{"all is well", nil, "", ""},
		{"RFC 8414 §2: an issuer with a slash", []string{"--issuer=https://localhost:" + port + "/"}, "issuer", ""},
		{"RFC 8705 §5: one URL for both", []string{"--mtls-base=https://localhost:" + port}, "mtls-base", ""},
		{"RFC 8707 §2: a resource that is no URI", []string{"--resource=api"}, "resource", ""},
		{"RFC 9525: another host", []string{"--issuer=https://login.bank.example"}, "certificate-names", ""},
		{"an expired certificate", []string{"--tls-cert=" + expired, "--tls-key=" + expiredKey}, "certificate-time", "certificate-kind"},
		{"one that ends soon", []string{"--tls-cert=" + soon, "--tls-key=" + soonKey}, "", "certificate-time"},
		{"a small key", []string{"--tls-cert=" + small, "--tls-key=" + smallKey}, "certificate-keys certificate-names", ""},
		{"a file that is not there", []string{"--tls-cert=/none", "--tls-key=/none"}, "files", ""},
		{"RS256 alone", []string{"--signing=RS256"}, "signing-algorithms", ""},
		{"an algorithm that a client expects is missing", []string{"--signing=ES256"}, "signing-algorithms", ""},
		{"without nonces", []string{"--no-dpop-nonces"}, "", "dpop-nonces"},
		{"without HSTS", []string{"--no-hsts"}, "", "hsts"},
		{"one factor", []string{"--second-factor=optional"}, "", "second-factor"},
		{"RFC 9440 §4: a header with certificates from nobody in particular", []string{"--client-certificate-header=Client-Cert"}, "client-certificate-header", ""},
		{"a header with certificates from a proxy", []string{"--client-certificate-header=Client-Cert", "--trusted-proxy=10.1.2.0/24", "--trusted-proxy=10.1.3.0/24"}, "", ""},
		{"a master key that others read", []string{"--master-key-file=" + open}, "", "master-key"},
		{"a master key of zeros", []string{"--master-key-file=" + zeros}, "database master-key", ""},
		{"a database that does not answer", []string{"--database-url=postgres://127.0.0.1:1/x?sslmode=disable"}, "database", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := o.judged(t, c.failed == "", with(c.args...)...)
			if got := failedIDs(found); got != c.failed {
				t.Errorf("failed %q, want %q", got, c.failed)
			}
			if c.advice != "" && found[c.advice].Verdict != fapi.Advice {
				t.Errorf("%+v", found[c.advice])
			}
		})
	}
	t.Run("a running server", func(t *testing.T) {
		if got := failedIDs(o.judged(t, false, with("--url=https://localhost:"+port)...)); got != "server-answers" {
			t.Errorf("not running: %s", got)
		}
		serve := exec.Command(os.Args[0], append([]string{"serve"}, settings...)...)
		serve.Env, serve.Dir = o.env, o.dir
		ok(t, serve.Start())
		defer func() { serve.Process.Signal(os.Interrupt); serve.Wait() }()
		for range 100 {
			if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
				conn.Close()
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		found := o.judged(t, true, with("--url=https://localhost:"+port)...)
		for _, id := range []string{"server-tls", "server-certificate", "server-hsts", "discovery-issuer", "discovery-keys", "signing-keys"} {
			if found[id].Verdict != fapi.OK {
				t.Errorf("%s: %+v", id, found[id])
			}
		}
		if got := failedIDs(o.judged(t, false, with("--url=https://localhost:"+port, "--issuer=https://localhost:1", "--no-hsts")...)); got != "discovery-issuer server-hsts" {
			t.Errorf("other settings: %s", got)
		}
	})
}

func TestClientCheck(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.run(t, true, "", "migrate")
	o.run(t, true, "client_id: web\nclient_name: Web\nprofile: openid\nredirect_uris: [https://app.example/cb]\ntoken_endpoint_auth_method: client_secret_basic\n", "client", "create", "-")
	o.says(t, true, `advice +OpenID Connect Core §9 +Client authentication: .* … client_secret_basic\n +→ `, "", "client", "check", "web")
	o.says(t, false, `(?s)FAILED +FAPI 2.0 SP §5.3.2.1-6 .*enforced +FAPI 2.0 SP §5.3.2.2-3 .*1 of \d+ requirements are not met`, "", "client", "check", "web", "--profile", "fapi2")
	o.says(t, false, `there is no client "birch"`, "", "client", "check", "birch")
	o.says(t, false, `profile "fapi3" is not one of`, "", "client", "check", "web", "--profile", "fapi3")
	out := o.run(t, false, "", "client", "check", "web", "--profile", "fapi2-message-signing", "--json")
	var findings []fapi.Finding
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&findings); err != nil || fapi.Failures(findings) == 0 || !regexp.MustCompile(`"clause": "FAPI 2.0 MS §5.3.1-1"`).MatchString(out) {
		t.Errorf("%v: %s", err, out)
	}
}
