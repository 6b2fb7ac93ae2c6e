package authz_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// The configurations of docs/operating.md, in real proxies.

const nginxConfig = `
daemon off; worker_processes 1; pid %[1]s/pid; error_log stderr warn;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s ssl;
		ssl_certificate %[1]s/server.pem; ssl_certificate_key %[1]s/server.pem;
		ssl_verify_client optional_no_ca;
		location / {
			proxy_pass https://%[3]s;
			proxy_bind %[4]s;
			proxy_http_version 1.1;
			proxy_ssl_trusted_certificate %[1]s/ca.pem; proxy_ssl_verify on; proxy_ssl_name localhost;
			proxy_ssl_certificate %[1]s/own.pem; proxy_ssl_certificate_key %[1]s/own.pem;
			proxy_set_header Client-Cert $ssl_client_escaped_cert;
			proxy_set_header Client-Cert-Chain "";
		}
	}
}`

const haproxyConfig = `
defaults
	mode http
	timeout connect 5s
	timeout client 30s
	timeout server 30s
frontend mtls
	bind %[2]s ssl crt %[1]s/server.pem verify optional ca-file %[1]s/ca.pem crt-ignore-err all ca-ignore-err all no-ca-names
	http-request del-header Client-Cert
	http-request del-header Client-Cert-Chain
	http-request set-header Client-Cert :%%[ssl_c_der,base64]: if { ssl_c_used }
	default_backend countersign
backend countersign
	source %[4]s
	server one %[3]s ssl verify required ca-file %[1]s/ca.pem crt %[1]s/own.pem
`

func TestCertificateHeader_nginx(t *testing.T) {
	t.Parallel()
	asRoot := ""
	if os.Getuid() == 0 {
		asRoot = "user root;" // its workers write into the test's folder
	}
	s := startTrusting(t, fapi.FormNginx, false)
	behind := startProgram(t, s, "nginx", asRoot+nginxConfig, func(folder string) []string { return []string{"-p", folder, "-c", folder + "/config"} })
	flowBehind(t, s, behind)
}

func TestCertificateHeader_haproxy(t *testing.T) {
	t.Parallel()
	s := startTrusting(t, fapi.FormRFC9440, false)
	behind := startProgram(t, s, "haproxy", haproxyConfig, func(folder string) []string { return []string{"-db", "-f", folder + "/config"} })
	flowBehind(t, s, behind)
}

// startProgram runs a proxy before the listener for certificates until the test ends, and returns the server as it looks
// from there. config is a format: folder, address to listen at, that of the server, address to call from.
func startProgram(t *testing.T, s *authztest.Server, name, config string, args func(folder string) []string) *authztest.Server {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		why := name + " is not installed: install nginx and haproxy to run this test (Debian: apt-get install nginx-light haproxy)"
		if os.Getenv("COUNTERSIGN_REQUIRE_CLIENTS") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	folder := t.TempDir()
	for file, content := range map[string][]byte{
		"config":     fmt.Appendf(nil, config, folder, address, strings.TrimPrefix(s.MTLSBase, "https://"), proxyAddress),
		"server.pem": pemFile(t, s.ServerCertificate(t, "proxy")),
		"own.pem":    pemFile(t, s.Certificate(t, "tpp-mtls")), // must never count
		"ca.pem":     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Authority().Raw}),
	} {
		if err := os.WriteFile(filepath.Join(folder, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var said bytes.Buffer
	c := exec.Command(program, args(folder)...)
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() {
		c.Process.Signal(os.Interrupt)
		<-ended
		if t.Failed() {
			t.Logf("%s said: %s", name, said.String())
		}
	})
	for range 100 {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return s.Behind("https://" + address)
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v", name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not listen", name)
	return nil
}

// pemFile is a certificate with its key.
func pemFile(t *testing.T, cert *tls.Certificate) []byte {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
}
