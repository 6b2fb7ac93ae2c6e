package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz"
	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/outbound"
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
	calls, err := s.outbound()
	if err != nil {
		return nil, err
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
	keySet, err := keys.Open(ctx, a.db, signing, keys.AllEncryption...)
	if err != nil {
		return nil, err
	}
	config := s.authz(roots)
	if config.DetailTypes, err = s.detailTypes(); err != nil {
		return nil, err
	}
	if config.CertificateHeader, err = s.certificateHeader(); err != nil {
		return nil, err
	}
	if config.Registration, err = s.registration(); err != nil {
		return nil, err
	}
	if config.CIBA, err = s.ciba(); err != nil {
		return nil, err
	}
	if config.Authn.Transactions, config.Transactions, err = s.transactions(); err != nil {
		return nil, err
	}
	if config.Customers, err = s.customers(); err != nil {
		return nil, err
	}
	if config.LowValue, err = s.lowValue(); err != nil {
		return nil, err
	}
	if config.Authn.Federation, err = s.federation(); err != nil {
		return nil, err
	}
	s.limits(&config.Authn)
	if config.ForwardedFrom, err = networks("forwarded-from", s.ForwardedFrom); err != nil {
		return nil, err
	}
	if err = s.self(&config.Authn); err != nil {
		return nil, err
	}
	channels, err := s.channels(s.BankName)
	if err != nil {
		return nil, err
	}
	if a.server, err = authz.New(ctx, config, authz.Parts{DB: a.db, Keys: keySet, Pages: pages, Outbound: calls, Channels: channels, Log: log}); err != nil {
		return nil, err
	}
	return a, a.listen(certificates)
}

func (s *serverSettings) authz(roots *x509.CertPool) authz.Config {
	return authz.Config{
		Issuer: s.Issuer, MTLSBase: s.MTLSBase, Resource: s.Resource, ClientCAs: roots,
		DPoPNonces: s.DPoPNonces, Scopes: s.Scopes,
		RequireSCA: s.SecondFactor != "optional", SilentBrowsers: s.SilentBrowsers,
		Authn: s.authn(), Fineract: s.fineract(),

		RequestURILifetime: s.RequestURILifetime,
	}
}

// detailTypes are the built-in types of authorization_details, and the institution's own over them.
func (s *serverSettings) detailTypes() (map[string]fapi.DetailType, error) {
	types := fapi.DefaultDetailTypes()
	if s.DetailTypes == "" {
		return types, nil
	}
	own, err := fapi.LoadDetailTypes(os.DirFS(s.DetailTypes))
	if err == nil && len(own) == 0 {
		err = errors.New("the folder holds no .json files")
	}
	if err != nil {
		return nil, fmt.Errorf("types of authorization_details in %s: %w", s.DetailTypes, err)
	}
	maps.Copy(types, own)
	return types, nil
}

// outbound makes what calls the addresses that clients name.
func (s *serverSettings) outbound() (*outbound.Client, error) {
	o := outbound.Options{}
	if len(s.OutboundCA) > 0 {
		roots, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("outbound CA: %w", err)
		}
		if err := addToPool(roots, s.OutboundCA); err != nil {
			return nil, fmt.Errorf("outbound CA: %w", err)
		}
		o.RootCAs = roots
	}
	if s.OutboundCert != "" || s.OutboundKey != "" {
		pair, err := tls.LoadX509KeyPair(s.OutboundCert, s.OutboundKey)
		if err != nil {
			return nil, fmt.Errorf("outbound certificate: %w", err)
		}
		o.Certificate = &pair
	}
	var err error
	if o.AllowPrivate, err = networks("outbound-allow", s.OutboundAllow); err != nil {
		return nil, err
	}
	return outbound.New(o), nil
}

func networks(setting string, texts []string) (all []netip.Prefix, err error) {
	for _, text := range texts {
		network, err := netip.ParsePrefix(text)
		if err != nil || network.Masked() != network {
			return nil, fmt.Errorf("%s %q is not a network such as 10.1.0.0/16", setting, text)
		}
		all = append(all, network)
	}
	return all, nil
}

// certificateHeader is where client certificates come from that a proxy has seen; nil when there is no proxy.
func (s *serverSettings) certificateHeader() (*fapi.CertificateHeader, error) {
	if s.CertificateHeader == "" && len(s.TrustedProxies) == 0 && !s.CertificateVerified {
		return nil, nil
	}
	from, err := networks("trusted-proxy", s.TrustedProxies)
	if err != nil {
		return nil, err
	}
	h := &fapi.CertificateHeader{Name: s.CertificateHeader, Form: fapi.CertificateForm(s.CertificateForm), From: from, Verified: s.CertificateVerified}
	return h, h.Check()
}

func (s *serverSettings) authn() authn.Config {
	return authn.Config{Tenant: s.Tenant, Issuer: s.BankName, RequireSecondFactor: s.SecondFactor == "required", CustomersPerClient: s.CustomersPerClient, FactorKinds: s.FactorKinds, CodesPerHour: s.CodesPerHour, SignUp: s.SignUp}
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
