package resource

import (
	"crypto/tls"
	"encoding/base64"
	"net/http"
	"net/netip"
	"testing"

	"github.com/countersign/countersign/fapi"
)

func TestCertificateHeader(t *testing.T) {
	t.Parallel()
	behind := func(network string) *bundle {
		return setup(t, func(c *Config) {
			c.CertificateHeader = &fapi.CertificateHeader{Name: "Client-Cert", Form: fapi.FormRFC9440, From: []netip.Prefix{netip.MustParsePrefix(network)}}
		})
	}
	proxied, direct, none := behind("127.0.0.0/8"), behind("10.0.0.0/8"), setup(t, nil)
	in := func(certs ...*tls.Certificate) (values []string) {
		for _, cert := range certs {
			values = append(values, ":"+base64.StdEncoding.EncodeToString(cert.Certificate[0])+":")
		}
		return values
	}
	for _, test := range []struct {
		name   string
		at     *bundle
		cert   *tls.Certificate // of the connection
		header []string
		status int
		code   fapi.Code
	}{
		{"MTLS-07: the client's certificate, from a proxy", proxied, serviceCert, in(tppCert), 200, ""},
		{"MTLS-07: another client's", proxied, serviceCert, in(otherCert), 401, fapi.InvalidToken},
		{"A9-14: the proxy's own does not count", proxied, tppCert, nil, 401, fapi.InvalidToken},
		{"A9-14: nor beside the client's", proxied, tppCert, in(otherCert), 401, fapi.InvalidToken},
		{"A9-12: none", proxied, tppCert, []string{"null"}, 401, fapi.InvalidToken},
		{"A9-12: twice", proxied, tppCert, in(tppCert, tppCert), 400, fapi.InvalidRequest},
		{"A9-12: garbage", proxied, tppCert, []string{"garbage"}, 400, fapi.InvalidRequest},
		{"A9-11: from anybody else", direct, nil, in(tppCert), 401, fapi.InvalidToken},
		{"A9-11: from anybody else, who has one", direct, otherCert, in(tppCert), 401, fapi.InvalidToken},
		{"A9-11: anybody's own counts", direct, tppCert, in(otherCert), 200, ""},
		{"no header is configured", none, otherCert, in(tppCert), 401, fapi.InvalidToken},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			header := http.Header{"Authorization": {"Bearer " + test.at.issue(nil)}, "Client-Cert": test.header}
			expect(t, test.at.call(t, test.cert, "GET", "/accounts", header), test.status, test.code)
		})
	}
	b := newBundle(t)
	b.config.CertificateHeader = &fapi.CertificateHeader{Name: "Client-Cert", Form: fapi.FormRFC9440}
	if _, err := New(t.Context(), b.config); err == nil {
		t.Error("a header from nobody: accepted")
	}
}
