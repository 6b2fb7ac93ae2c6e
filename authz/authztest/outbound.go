package authztest

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"testing"

	"github.com/countersign/countersign/outbound"
)

// outbound makes what the server calls clients with. It trusts the test's authority.
func (s *Server) outbound(publicOnly bool) *outbound.Client {
	o := outbound.Options{RootCAs: s.Roots}
	if !publicOnly {
		o.AllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}
	return outbound.New(o)
}

// Site serves what a client has on its web server, with a certificate of the test's authority, until the test ends. It
// returns the site's address, without a trailing slash.
func (s *Server) Site(t testing.TB, h http.Handler) string {
	t.Helper()
	l := listen(t)
	closed := serve(l, h, s.ca.serverTLS(t, tls.NoClientCert))
	t.Cleanup(func() { closed() })
	return "https://" + l.Addr().String()
}
