package authztest

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/netip"
	"testing"

	"github.com/countersign/countersign/outbound"
)

// outbound makes what the server calls clients with. It trusts the test's authority, and has a certificate of it.
func (s *Server) outbound(t testing.TB, opts Options) *outbound.Client {
	o := outbound.Options{RootCAs: s.Roots}
	if !opts.Anonymous {
		cert := issue(t, s.ca, "countersign", x509.ExtKeyUsageClientAuth)
		o.Certificate = &cert
	}
	if !opts.PublicOnly {
		o.AllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}
	return outbound.New(o)
}

// Site serves what a client has on its web server, with a certificate of the test's authority, until the test ends. It
// returns the site's address, without a trailing slash.
func (s *Server) Site(t testing.TB, h http.Handler) string {
	t.Helper()
	return site(t, h, s.ca.serverTLS(t, tls.NoClientCert))
}

// ClosedSite is a Site for callers with a certificate of the test's authority.
func (s *Server) ClosedSite(t testing.TB, h http.Handler) string {
	t.Helper()
	config := s.ca.serverTLS(t, tls.RequireAndVerifyClientCert)
	config.ClientCAs = s.Roots
	return site(t, h, config)
}

func site(t testing.TB, h http.Handler, config *tls.Config) string {
	t.Helper()
	l := listen(t)
	closed := serve(l, h, config)
	t.Cleanup(func() { closed() })
	return "https://" + l.Addr().String()
}
