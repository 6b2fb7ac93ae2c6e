package authz

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authn/fineract"
	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/authz/notify"
	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/outbound"
	"github.com/countersign/countersign/reach"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// Config is what an institution decides about its server.
type Config struct {
	Issuer      string                     // https URL of the public listener, without a trailing slash
	MTLSBase    string                     // https URL of the listener that asks for client certificates
	Resource    string                     // audience of tokens for which no other resource server was named (RFC 8707)
	ClientCAs   *x509.CertPool             // issuers of certificates for tls_client_auth
	DPoPNonces  bool                       // demand a nonce of ours in DPoP proofs (RFC 9449 §8)
	Scopes      []string                   // shown in the metadata
	DetailTypes map[string]fapi.DetailType // types of authorization_details
	RequireSCA  bool                       // granting access to accounts, and paying, needs strong customer authentication (PSD2)
	LowValue    fapi.AmountLimits          // up to which paying does not (Regulation (EU) 2018/389, Article 16); by default it always does
	Authn       authn.Config               // how customers log in
	Customers   engine.Customers           // what their roles and attributes decide, and who is told of them
	Zone        *time.Location             // in which customers read dates; nil: UTC

	Registration Registration // clients that register themselves
	CIBA         CIBA         // requests that reach customers on another device

	Transactions consent.TransactionLimits // docs/transactions.md; how they are approved, Authn says

	Fineract fineract.Config // Apache Fineract's two-factor API; by default there is none

	SilentBrowsers bool // customers' browsers are not rung (docs/reach.md)

	ForwardedFrom     []netip.Prefix          // proxies that say where a request comes from (X-Forwarded-For); none: it comes from the peer
	CertificateHeader *fapi.CertificateHeader // in which proxies in front of MutualTLS hand over client certificates; nil: there are none

	RequestURILifetime time.Duration // at most, of a pushed request (RFC 9126 §2.2); 0: the profile's, and never longer than that
}

const minRequestURILifetime = 5 * time.Second // RFC 9126 §2.2 counts in seconds; a browser needs some to get here

// Server answers the protocol endpoints. It is safe for concurrent use.
type Server struct {
	Config
	db       *storage.DB
	keys     *keys.Set
	engine   *engine.Engine
	pages    *web.Pages
	authn    *authn.Authn
	fineract *fineract.API
	consents *consent.Consents
	payments *consent.Transactions
	log      *zap.Logger
	clients  clientCache
	notices  *notify.Queue
	webPush  *reach.WebPush // nil with SilentBrowsers
	waiters  *waiters
	metrics  *metrics
	logos    logos
	outbound *outbound.Client
	nonces   *fapi.Nonces
	pageKey  []byte // of pageProof
	metadata []byte
	warnedAt atomic.Int64 // Unix time, of an untrusted header
	now      func() time.Time
}

// Parts are what a server is made of.
type Parts struct {
	DB       *storage.DB
	Keys     *keys.Set
	Pages    *web.Pages
	Outbound *outbound.Client // calls what clients name; nil: one that calls public addresses only
	Channels []reach.Channel  // by which customers are told what waits for them, beside their browsers; one of a kind
	Log      *zap.Logger
}

// New makes a Server and loads its clients.
func New(ctx context.Context, c Config, p Parts) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.CIBA.fill()
	s := &Server{
		Config: c, db: p.DB, keys: p.Keys, pages: p.Pages, log: p.Log, now: time.Now,
		engine: engine.New(c.Issuer, c.Resource, c.DetailTypes, c.Customers, p.DB, p.Keys),
		nonces: fapi.NewNonces(p.DB.Keys().Derive("dpop nonces")), pageKey: p.DB.Keys().Derive("consent pages"),
		logos: logos{woken: make(chan struct{}, 1)}, waiters: newWaiters(), metrics: newMetrics(),
	}
	if s.outbound = p.Outbound; s.outbound == nil {
		s.outbound = outbound.New(outbound.Options{})
	}
	c.Authn.Client, c.Authn.Origin, c.Authn.Zone = s.pageClient, c.Issuer, c.Zone
	for _, channel := range p.Channels {
		c.Authn.Channels = append(c.Authn.Channels, channel.Kind())
	}
	told := c.Authn.Refused
	c.Authn.Refused = func(action, reason string) {
		s.metrics.refused(action, reason)
		if told != nil {
			told(action, reason)
		}
	}
	s.authn = authn.New(p.DB, p.Pages, p.Log, c.Authn)
	s.fineract = s.newFineract(c.Fineract)
	var err error
	if s.consents, err = consent.New(s.consentOptions()); err != nil {
		return nil, err
	}
	if s.payments, err = s.newTransactions(); err != nil {
		return nil, err
	}
	channels, err := s.channels(p.Channels)
	if err != nil {
		return nil, err
	}
	s.notices = notify.New(p.DB, p.Log, s.reaching(map[string]notify.Kind{
		storage.LogoutNotification: {Send: s.tellLogout},
		storage.CIBANotification:   {Send: s.tellOutcome, Retries: outcomeRetries, GiveUp: s.giveUpOutcome},
	}, channels))
	if s.metadata, err = s.discovery(); err != nil {
		return nil, err
	}
	return s, s.clients.load(ctx, s.db, s.log)
}

func (c *Config) check() error {
	var wrong []error
	for name, value := range map[string]string{"issuer": c.Issuer, "mtls_base": c.MTLSBase} {
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(value, "/") {
			wrong = append(wrong, fmt.Errorf("%s %q: must be an https URL without query, fragment and trailing slash", name, value))
		}
	}
	if u, err := url.Parse(c.Resource); err != nil || !u.IsAbs() || u.Fragment != "" {
		wrong = append(wrong, fmt.Errorf("resource %q: must be an absolute URI (RFC 8707 §2)", c.Resource))
	}
	if c.RequestURILifetime != 0 && c.RequestURILifetime < minRequestURILifetime {
		wrong = append(wrong, fmt.Errorf("request_uri lifetime %v: at least %v", c.RequestURILifetime, minRequestURILifetime))
	}
	if c.CertificateHeader != nil {
		if err := c.CertificateHeader.Check(); err != nil {
			wrong = append(wrong, err)
		}
	}
	if err := c.LowValue.Check(); err != nil {
		wrong = append(wrong, fmt.Errorf("low value: %w", err))
	}
	if err := c.Customers.Rules.Check(); err != nil {
		wrong = append(wrong, err)
	}
	if err := c.Registration.check(); err != nil {
		wrong = append(wrong, err)
	}
	if err := c.CIBA.check(); err != nil {
		wrong = append(wrong, err)
	}
	if err := c.Fineract.Check(); err != nil {
		wrong = append(wrong, fmt.Errorf("fineract: %w", err))
	}
	if err := c.Authn.Validate(); err != nil {
		wrong = append(wrong, err)
	}
	return errors.Join(wrong...)
}

// Run keeps caches true and rotates keys until ctx ends.
func (s *Server) Run(ctx context.Context) {
	go s.db.PurgeEvery(ctx, time.Minute, func(err error) { s.log.Error("purge failed", zap.Error(err)) })
	go s.rotateKeys(ctx)
	go s.fetchLogos(ctx)
	go s.indexContacts(ctx)
	notices := make(chan struct{})
	go func() { s.notices.Run(ctx); close(notices) }()
	context.AfterFunc(ctx, s.waiters.end)
	s.db.Watch(ctx, storage.Watcher{Decided: s.waiters.wake, Changed: func(table string) {
		var err error
		if table == "notifications" {
			s.notices.Wake()
		}
		if table == "" || table == "clients" || table == "client_logos" {
			err = s.clients.load(ctx, s.db, s.log)
			s.wakeLogos()
		}
		if table == "" || table == "signing_keys" {
			err = errors.Join(err, s.keys.Load(ctx))
		}
		if table == "" {
			err = errors.Join(err, s.wakeMissed(ctx))
		}
		if err != nil && ctx.Err() == nil {
			s.log.Error("reload failed", zap.String("table", table), zap.Error(err))
		}
	}})
	<-notices
}

func (s *Server) rotateKeys(ctx context.Context) {
	for {
		if err := s.keys.RotateDue(ctx, s.now()); err != nil && ctx.Err() == nil {
			s.log.Error("key rotation failed", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Hour):
		}
	}
}

// ready tells whether the server can answer requests.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.db.Ping(r.Context()); err != nil {
		http.Error(w, "database unreachable", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}
