package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/storage/privatepg"
)

const (
	readyAfter = 30 * time.Second
	endsAfter  = 20 * time.Second
)

// servers are what runs until the end.
type servers struct {
	postgres *privatepg.Server // nil when somebody else's is used
	process  *exec.Cmd         // countersign serve
	ended    chan error        // when process ends
	log      *os.File
	bank     *http.Server
}

// start starts everything, in the order in which one needs the other.
func (s *setup) start(ctx context.Context, p *prepared) (_ *servers, err error) {
	up := &servers{}
	defer func() {
		if err != nil {
			up.stop()
		}
	}()
	if err := s.freePorts(); err != nil {
		return nil, err
	}
	if err := s.build(ctx); err != nil {
		return nil, err
	}
	database := s.DatabaseURL
	if database == "" {
		if up.postgres, err = privatepg.Start(ctx, privatepg.Options{}); err != nil {
			return nil, err
		}
		database = up.postgres.DSN("postgres")
		if err := s.remember("postgres", up.postgres.PID()); err != nil {
			return nil, err
		}
	}
	if err := s.writeSettings(p, database); err != nil {
		return nil, err
	}
	if _, err := s.countersign(ctx, "", "migrate", "--database-url", database); err != nil {
		return nil, err
	}
	if err := s.createCustomers(ctx, p, database); err != nil {
		return nil, err
	}
	if err := s.letRegister(ctx, p, database); err != nil {
		return nil, err
	}
	if err := s.serve(ctx, up); err != nil {
		return nil, err
	}
	up.bank, err = s.startBank(ctx, p)
	return up, err
}

// freePorts finds out early that something else listens. A server left over from another run would answer for the new one.
func (s *setup) freePorts() error {
	var busy []error
	for _, port := range []int{s.Port, s.MTLSPort, s.ResourcePort} {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			busy = append(busy, err)
			continue
		}
		l.Close()
	}
	return errors.Join(busy...)
}

func (s *setup) binary() string {
	name := "countersign"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return s.file("bin", name)
}

// build builds the server of this source tree.
func (s *setup) build(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "build", "-o", s.binary(), "github.com/countersign/countersign/cmd/countersign").CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// writeSettings writes the server's settings file, so that it can be started by hand as well.
func (s *setup) writeSettings(p *prepared, database string) error {
	var certs, keys []string
	for _, c := range p.serverCerts {
		certs, keys = append(certs, c.certFile), append(keys, c.keyFile)
	}
	settings := map[string]any{
		"database-url":          database,
		"master-key-file":       p.masterKey,
		"issuer":                s.issuer(),
		"mtls-base":             s.mtlsBase(),
		"listen":                fmt.Sprintf(":%d", s.Port),
		"mtls-listen":           fmt.Sprintf(":%d", s.MTLSPort),
		"tls-cert":              certs,
		"tls-key":               keys,
		"client-ca":             []string{s.ca.certFile},
		"clients":               s.file("clients.yaml"),
		"resource":              s.resource(),
		"second-factor":         "optional", // the suite's browser has no authenticator app
		"dpop-nonces":           s.DPoPNonces,
		"outbound-allow":        s.SuiteNetwork,
		"registration":          "open",
		"registration-profile":  []string{"openid"},
		"registration-per-hour": 10000,
		"ciba-max-open":         100, // modules leave requests behind
		// The suite sleeps as long, once in each plan.
		"request-uri-lifetime": "20s",
		"log-level":            s.LogLevel,
	}
	if s.SuiteCA != "" {
		ca, err := filepath.Abs(s.SuiteCA)
		if err != nil {
			return err
		}
		settings["outbound-ca"] = []string{ca}
	}
	content, err := yaml.Marshal(settings)
	if err != nil {
		return err
	}
	return write(s.file("serve.yaml"), content)
}

// countersign runs one of the server's own commands. It sees no settings from our environment but its own.
func (s *setup) countersign(ctx context.Context, input string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, s.binary(), args...)
	c.Env = ownEnvironment()
	c.Stdin = strings.NewReader(input)
	out, err := c.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("countersign %s: %w\n%s", strings.Join(args[:min(2, len(args))], " "), err, out)
	}
	return string(out), nil
}

// ownEnvironment leaves out what would win over the settings file.
func ownEnvironment() []string {
	var kept []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "COUNTERSIGN_") && !strings.HasPrefix(e, "DATABASE_URL=") {
			kept = append(kept, e)
		}
	}
	return kept
}

// serve starts the server and waits until it answers.
func (s *setup) serve(ctx context.Context, up *servers) error {
	var err error
	if up.log, err = os.OpenFile(s.file("server.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	up.process = exec.Command(s.binary(), "--config", s.file("serve.yaml"), "serve")
	up.process.Env, up.process.Stdout, up.process.Stderr = ownEnvironment(), up.log, up.log
	if err := up.process.Start(); err != nil {
		up.process = nil
		return err
	}
	up.ended = make(chan error, 1)
	go func() { up.ended <- up.process.Wait() }()
	if err := s.remember("server", up.process.Process.Pid); err != nil {
		return err
	}
	return s.ready(ctx, up)
}

// client is for calls to the server.
func (s *setup) client() *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(s.ca.Certificate)
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
}

func (s *setup) ready(ctx context.Context, up *servers) error {
	client := s.client()
	defer client.CloseIdleConnections()
	for deadline := time.Now().Add(readyAfter); ; {
		answer, err := client.Get(s.issuer() + "/readyz")
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(answer.Status)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server does not answer (see %s): %w", up.log.Name(), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-up.ended:
			up.ended <- err
			return fmt.Errorf("the server ended: %w\n%s", err, lastLines(up.log.Name()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func lastLines(file string) string {
	content, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-2000):])
}

// wait returns when ctx ends, or the server does.
func (up *servers) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-up.ended:
		up.ended <- err
		return fmt.Errorf("the server ended: %w\n%s", err, lastLines(up.log.Name()))
	}
}

// stop ends what was started, the other way round.
func (up *servers) stop() {
	if up.bank != nil {
		up.bank.Close()
	}
	if up.process != nil {
		if err := up.process.Process.Signal(syscall.SIGTERM); err != nil {
			up.process.Process.Kill() // Windows knows no other way
		}
		select {
		case <-up.ended:
		case <-time.After(endsAfter):
			up.process.Process.Kill()
		}
	}
	if up.log != nil {
		up.log.Close()
	}
	if up.postgres != nil {
		if err := up.postgres.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "conformance:", err)
		}
	}
}
