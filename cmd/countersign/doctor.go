package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/migrations"
	"github.com/countersign/countersign/storage"
)

// doctorCommand looks at everything that a server is made of, and changes nothing. Its checks are in doctor_checks.go.
type doctorCommand struct {
	serverSettings `embed:""`

	URL  string `name:"url" help:"Look at the running server too, at this address; usually the issuer." placeholder:"URL"`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *doctorCommand) Run(ctx context.Context) error {
	e := &examination{settings: &c.serverSettings, now: time.Now()}
	e.lookAtFiles()
	e.lookAtDatabase(ctx)
	if c.URL != "" {
		e.lookAtServer(ctx, c.URL)
	}
	return report(os.Stdout, e.findings(), c.JSON)
}

// examination is what the checks look at. What could not be had is an error here, and a finding.
type examination struct {
	settings *serverSettings
	now      time.Time

	certificates []tls.Certificate
	filesErr     error
	masterErr    error

	database    database
	databaseErr error

	server *runningServer // nil when nobody asked
}

// database is what the database says.
type database struct {
	version    int           // of Postgres, as in 150018
	skew       time.Duration // its clock minus ours
	encrypted  bool          // the way there, or there is none
	migrations []migrations.Migration
	keys       []storage.SigningKey
	clients    []storage.Client
}

// runningServer is what a server says, and how.
type runningServer struct {
	err       error
	metadata  map[string]any
	jwks      []struct{ KID, Kty string }
	handshake *tls.ConnectionState
	old       error // what it says to TLS 1.1
	hsts      string
}

func (e *examination) lookAtFiles() {
	e.certificates, e.filesErr = loadCertificates(e.settings.TLSCert, e.settings.TLSKey)
	for i := range e.certificates {
		if c := &e.certificates[i]; c.Leaf == nil && len(c.Certificate) > 0 {
			leaf, err := x509.ParseCertificate(c.Certificate[0])
			c.Leaf, e.filesErr = leaf, errors.Join(e.filesErr, err)
		}
	}
	_, err := loadPool(e.settings.ClientCA)
	_, outboundErr := e.settings.outbound()
	e.filesErr = errors.Join(e.filesErr, err, outboundErr)
	_, e.masterErr = e.settings.masterKey()
}

func (e *examination) lookAtDatabase(ctx context.Context) {
	e.databaseErr = func() error {
		if err := e.lookAtPostgres(ctx); err != nil {
			return err
		}
		var err error
		if e.database.migrations, err = migrations.Status(ctx, e.settings.DatabaseURL); err != nil || e.behind() > 0 || e.masterErr != nil {
			return err
		}
		db, err := e.settings.open(ctx)
		if err != nil {
			return err
		}
		defer db.Close()
		if e.database.keys, err = db.ListSigningKeys(ctx); err != nil {
			return err
		}
		e.database.clients, err = db.ListClients(ctx)
		return err
	}()
}

func (e *examination) lookAtPostgres(ctx context.Context) error {
	config, err := pgx.ParseConfig(e.settings.DatabaseURL)
	if err != nil {
		return errors.New("the connection string cannot be read") // pgx would quote it
	}
	host := net.ParseIP(config.Host)
	e.database.encrypted = config.TLSConfig != nil || strings.HasPrefix(config.Host, "/") || config.Host == "localhost" || host != nil && host.IsLoopback()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("it does not answer: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var there time.Time
	asked := time.Now()
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, clock_timestamp()").Scan(&e.database.version, &there); err != nil {
		return err
	}
	e.database.skew = there.Sub(asked.Add(time.Since(asked) / 2))
	return nil
}

// behind counts the migrations that the database lacks.
func (e *examination) behind() (n int) {
	for _, m := range e.database.migrations {
		if m.AppliedAt.IsZero() {
			n++
		}
	}
	return n
}

// lookAtServer asks a running server as a client does, and tries what it must refuse.
func (e *examination) lookAtServer(ctx context.Context, address string) {
	s := &runningServer{}
	e.server = s
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		s.err = fmt.Errorf("%q is not an https URL", address)
		return
	}
	roots, err := x509.SystemCertPool()
	if err == nil {
		err = addToPool(roots, e.settings.OutboundCA)
	}
	if err != nil {
		s.err = err
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if s.err = s.fetch(ctx, client, strings.TrimSuffix(address, "/")+"/.well-known/openid-configuration", &s.metadata); s.err != nil {
		return
	}
	var set struct {
		Keys []struct{ KID, Kty string }
	}
	jwks, _ := s.metadata["jwks_uri"].(string)
	if s.err = s.fetch(ctx, client, jwks, &set); s.err != nil {
		return
	}
	s.jwks = set.Keys
	if s.hsts, s.err = s.headerOfPage(ctx, client); s.err != nil {
		return
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if s.old = err; err == nil {
		conn.Close()
	}
}

func (s *runningServer) fetch(ctx context.Context, client *http.Client, address string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, response.Status)
	}
	s.handshake = response.TLS
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// headerOfPage returns the Strict-Transport-Security of a page for browsers: without a request it is about an error.
func (s *runningServer) headerOfPage(ctx context.Context, client *http.Client) (string, error) {
	address, _ := s.metadata["authorization_endpoint"].(string)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(r)
	if err != nil {
		return "", err
	}
	response.Body.Close()
	return response.Header.Get("Strict-Transport-Security"), nil
}

func (e *examination) findings() []fapi.Finding {
	var all []fapi.Finding
	for _, c := range doctorChecks {
		if c.needs != nil && !c.needs(e) {
			continue
		}
		f := fapi.Finding{ID: c.id, Clause: c.clause, Requirement: c.words}
		f.Verdict, f.Found, f.Change = c.judge(e)
		all = append(all, f)
	}
	return all
}
