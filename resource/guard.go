package resource

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"github.com/countersign/countersign/fapi"
)

// Config is what a service says about itself and about the authorization server that it trusts.
type Config struct {
	Issuer   string   // the authorization server: the issuer of its metadata (RFC 8414), character for character
	Audience string   // this service's resource identifier (RFC 8707): tokens for another are refused
	URLs     []string // public https base URLs of this service, for the htu of DPoP proofs; nil: the Audience

	// How the service authenticates when it introspects. Without it only JWT access tokens are accepted.
	ClientID       string
	Authentication Authentication

	CertificateHeader *fapi.CertificateHeader // in which proxies in front of the service hand over client certificates; nil: there are none

	RootCAs   *x509.CertPool  // who may vouch for the authorization server's certificate; nil: those of the operating system
	Transport *http.Transport // to reach the authorization server, with a proxy for example; it is cloned. nil: a direct one
	Timeout   time.Duration   // of one call of the authorization server; 0: 5 seconds

	CacheFor         time.Duration // how long a token that was found good is not looked at again, 5 minutes at most; 0: not at all
	CacheSize        int           // tokens that are remembered; 0: 10,000
	AlwaysIntrospect bool          // ask about JWTs too, so that a revocation shows at once

	// Ask for answers that the authorization server signs (RFC 9701, FAPI 2.0 Message Signing §5.5), and take no others. They
	// must be signed with one of Algorithms, and must not be encrypted.
	SignedIntrospection bool

	AllowBearer  bool                      // accept tokens that are bound to nothing; FAPI 2.0 §5.3.4 wants none
	Algorithms   []jose.SignatureAlgorithm // of JWT access tokens; nil: ES256, PS256 and EdDSA (FAPI 2.0 §5.4.1)
	DPoPNonceKey []byte                    // 32 bytes or more, the same in all replicas: proofs must carry a nonce (RFC 9449 §9); nil: they need not
	Replays      Replays                   // nil: the memory of this process

	// Message signatures (FAPI 2.0 HTTP Signatures). Without ClientKeys those of requests are not looked at.
	RequestSignatures fapi.Requirement     // Optional: verified where there is one; Required: 401 without
	ClientKeys        ClientKeys           // where the public keys of clients are found
	ResponseKey       *fapi.HTTPSigningKey // signs every response, refusals too; nil: none is signed
	MaxSigned         int64                // bytes that the content of a signed message may have; 0: 1 MiB

	Open func() bool  // tells whether the channel is open; nil: until Close
	Log  *slog.Logger // refusals and faults, never a token; nil: slog.Default()
}

const (
	defaultTimeout   = 5 * time.Second
	defaultCacheSize = 10_000
	maxCacheFor      = 5 * time.Minute // a withdrawn consent must not live on here; our tokens live no longer either
	minNonceKey      = 32
)

// strongAlgorithms are those of FAPI 2.0 §5.4.1, for JWT access tokens and for DPoP proofs.
var strongAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA}

// Guard checks access tokens. It is safe for concurrent use.
type Guard struct {
	config   Config
	metadata metadata
	client   *http.Client
	keys     *keySet
	good     *cache // tokens that were accepted
	bad      *cache // tokens that were not: apart, so that a flood of them cannot drive the good ones out
	factors  *cache // second factors that were shown
	asking   singleflight.Group
	nonces   *fapi.Nonces // nil when none are demanded
	closed   atomic.Bool
	now      func() time.Time
}

// New checks the configuration, reports all that is wrong with it, and reads the metadata of the authorization server.
func New(ctx context.Context, c Config) (*Guard, error) {
	return newGuard(ctx, c, time.Now)
}

func newGuard(ctx context.Context, c Config, now func() time.Time) (*Guard, error) {
	c.fillIn(now)
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("resource: %w", err)
	}
	g := &Guard{config: c, client: c.newClient(), good: newCache(c.CacheSize), bad: newCache(c.CacheSize), factors: newCache(c.CacheSize), now: now}
	if c.DPoPNonceKey != nil {
		g.nonces = fapi.NewNonces(c.DPoPNonceKey)
	}
	g.keys = &keySet{fetch: g.fetchKeys, now: now}
	var err error
	if g.metadata, err = g.discover(ctx); err != nil {
		return nil, fmt.Errorf("resource: metadata of %s: %w", c.Issuer, err)
	}
	return g, nil
}

// Close switches the channel off: every request is answered with 503 from now on.
func (g *Guard) Close() {
	g.closed.Store(true)
	g.client.CloseIdleConnections()
}

// open tells whether the channel is switched on (the bank can take it off the network without stopping the service).
func (g *Guard) open() bool { return !g.closed.Load() && (g.config.Open == nil || g.config.Open()) }

func (c *Config) fillIn(now func() time.Time) {
	if c.URLs == nil {
		c.URLs = []string{c.Audience}
	}
	c.URLs = slices.Clone(c.URLs)
	for i := range c.URLs {
		c.URLs[i] = strings.TrimSuffix(c.URLs[i], "/")
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.CacheSize == 0 {
		c.CacheSize = defaultCacheSize
	}
	if c.Algorithms == nil {
		c.Algorithms = strongAlgorithms
	}
	if c.MaxSigned == 0 {
		c.MaxSigned = defaultMaxSigned
	}
	if c.Replays == nil {
		c.Replays = newMemory(maxReplays, now)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

func (c *Config) check() error {
	var wrong []error
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if !isHTTPS(c.Issuer) {
		add("Issuer %q: must be an https URL without query and fragment (RFC 8414 §2)", c.Issuer)
	}
	if u, err := url.Parse(c.Audience); err != nil || !u.IsAbs() || u.Fragment != "" {
		add("Audience %q: must be an absolute URI without fragment (RFC 8707 §2)", c.Audience)
	}
	for _, base := range c.URLs {
		if !isHTTPS(base) {
			add("URLs %q: must be an https URL without query and fragment", base)
		}
	}
	if (c.ClientID == "") != c.Authentication.none() {
		add("ClientID and Authentication: one needs the other")
	}
	if (c.AlwaysIntrospect || c.SignedIntrospection) && c.Authentication.none() {
		add("AlwaysIntrospect and SignedIntrospection: need ClientID and Authentication")
	}
	if c.Authentication.err != nil {
		add("Authentication: %w", c.Authentication.err)
	}
	if c.Timeout < 0 || c.CacheSize < 0 || c.CacheFor < 0 || c.CacheFor > maxCacheFor {
		add("Timeout, CacheSize and CacheFor: must not be negative, CacheFor at most %v", maxCacheFor)
	}
	for _, alg := range c.Algorithms {
		if !slices.Contains(verifiable, alg) {
			add("Algorithms: %s is not supported", alg)
		}
	}
	if c.DPoPNonceKey != nil && len(c.DPoPNonceKey) < minNonceKey {
		add("DPoPNonceKey: needs %d bytes or more", minNonceKey)
	}
	if c.CertificateHeader != nil {
		if err := c.CertificateHeader.Check(); err != nil {
			add("CertificateHeader: %w", err)
		}
	}
	c.checkSignatures(add)
	return errors.Join(wrong...)
}

func isHTTPS(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.RawQuery == "" && !u.ForceQuery && u.Fragment == ""
}

// newClient makes the HTTP client for the authorization server. A redirect is an answer that nobody asked for: following
// it would carry a token elsewhere.
func (c *Config) newClient() *http.Client {
	t := &http.Transport{
		MaxConnsPerHost: 64, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
		ForceAttemptHTTP2: true, MaxResponseHeaderBytes: maxAnswer,
	}
	if c.Transport != nil {
		t = c.Transport.Clone()
	}
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if c.RootCAs != nil {
		t.TLSClientConfig.RootCAs = c.RootCAs
	}
	if c.Authentication.certificate != nil {
		t.TLSClientConfig.Certificates = []tls.Certificate{*c.Authentication.certificate}
	}
	return &http.Client{
		Transport:     t,
		Timeout:       c.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
