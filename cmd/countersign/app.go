package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz"
	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// app is a server made of its settings, with its two listeners.
type app struct {
	settings  *serverSettings
	db        *storage.DB
	server    *authz.Server
	log       *zap.Logger
	listeners []*listener
}

type listener struct {
	net.Listener
	http *http.Server
	name string
}

// newApp opens the database and makes the server. tracer is told of every statement; it may be nil.
func newApp(ctx context.Context, s *serverSettings, log *zap.Logger, tracer pgx.QueryTracer) (_ *app, err error) {
	master, err := s.masterKey()
	if err != nil {
		return nil, err
	}
	roots, err := loadPool(s.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("client CA: %w", err)
	}
	certificates, err := loadCertificates(s.TLSCert, s.TLSKey)
	if err != nil {
		return nil, err
	}
	pages, err := web.New(web.Brand{Name: s.BankName, Colour: s.BankColour, Support: s.BankSupport})
	if err != nil {
		return nil, err
	}
	if !s.HSTS {
		pages = pages.WithoutHSTS()
	}
	a := &app{settings: s, log: log}
	if a.db, err = storage.Open(ctx, storage.Options{DSN: s.DatabaseURL, MasterKey: master, MaxConns: s.MaxConns, Tracer: tracer}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	if s.Clients != "" {
		if err := registerClients(ctx, a.db, s.Clients); err != nil {
			return nil, err
		}
	}
	signing := make([]jose.SignatureAlgorithm, len(s.Signing))
	for i, alg := range s.Signing {
		signing[i] = jose.SignatureAlgorithm(alg)
	}
	keySet, err := keys.Open(ctx, a.db, signing)
	if err != nil {
		return nil, err
	}
	if a.server, err = authz.New(ctx, s.authz(roots), authz.Parts{DB: a.db, Keys: keySet, Pages: pages, Log: log}); err != nil {
		return nil, err
	}
	return a, a.listen(certificates)
}

func (s *serverSettings) authz(roots *x509.CertPool) authz.Config {
	return authz.Config{
		Issuer: s.Issuer, MTLSBase: s.MTLSBase, Resource: s.Resource, ClientCAs: roots,
		DPoPNonces: s.DPoPNonces, Scopes: s.Scopes, DetailTypes: fapi.DefaultDetailTypes(),
		RequireSCA: s.SecondFactor != "optional",
		Authn:      s.authn(),
	}
}

func (s *serverSettings) authn() authn.Config {
	return authn.Config{Tenant: s.Tenant, Issuer: s.BankName, RequireSecondFactor: s.SecondFactor == "required", SignUp: s.SignUp}
}

func (a *app) listen(certificates []tls.Certificate) error {
	config := listenerTLS(certificates)
	for _, l := range []struct {
		name, address string
		tls           *tls.Config
		handler       http.Handler
	}{
		{"public", a.settings.Listen, config, a.server.Public()},
		{"mutual TLS", a.settings.MTLSListen, askForCertificate(config), a.server.MutualTLS()},
		{"health", a.settings.HealthListen, nil, a.server.Health()},
	} {
		if l.address == "" {
			continue
		}
		tcp, err := net.Listen("tcp", l.address)
		if err != nil {
			return fmt.Errorf("%s listener: %w", l.name, err)
		}
		if l.tls != nil {
			tcp = tls.NewListener(tcp, l.tls)
		}
		a.listeners = append(a.listeners, &listener{tcp, &http.Server{
			Handler:           l.handler,
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       30 * time.Second,
			WriteTimeout:      60 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    32 << 10,
			ErrorLog:          quietLog(a.log),
		}, l.name})
	}
	return nil
}

// quietLog takes net/http's own complaints, mostly of handshakes that scanners break off, to the debug level.
func quietLog(l *zap.Logger) *log.Logger {
	std, err := zap.NewStdLogAt(l, zap.DebugLevel)
	if err != nil { // only for a level that zap does not know
		panic(err)
	}
	return std
}

// drain is how long requests that have begun may take once the server is told to stop.
const drain = 15 * time.Second

// Run serves until ctx ends, then lets requests that have begun finish.
func (a *app) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go a.server.Run(ctx)
	failed := make(chan error, len(a.listeners))
	for _, l := range a.listeners {
		a.log.Info("listening", zap.String("listener", l.name), zap.String("address", l.Addr().String()))
		go func() {
			if err := l.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("%s listener: %w", l.name, err)
			}
		}()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	for _, l := range a.listeners {
		err = errors.Join(err, l.http.Shutdown(ending))
	}
	a.Close()
	return err
}

// Close ends listeners and the database without waiting for requests.
func (a *app) Close() {
	for _, l := range a.listeners {
		l.http.Close()
		l.Close()
	}
	if a.db != nil {
		a.db.Close()
	}
}
