package fapi

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func issue(parent *authority, key crypto.Signer, template *x509.Certificate) *x509.Certificate {
	template.SerialNumber = must(rand.Int(rand.Reader, big.NewInt(1<<62)))
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(time.Hour)
	}
	signer, signerKey := template, key
	if parent != nil {
		signer, signerKey = parent.cert, parent.key
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, signer, key.Public(), signerKey))))
}

func newAuthority(parent *authority, name string) *authority {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return &authority{key: key, cert: issue(parent, key, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})}
}

func leaf() *x509.Certificate {
	return &x509.Certificate{
		Subject:        pkix.Name{CommonName: "tpp", Organization: []string{"Acme"}, Country: []string{"GB"}},
		ExtKeyUsage:    []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:       []string{"other.example", "tpp.example"},
		EmailAddresses: []string{"Ops@tpp.example"},
		IPAddresses:    []net.IP{net.IPv4(192, 0, 2, 1), net.ParseIP("2001:db8::1")},
		URIs:           []*url.URL{must(url.Parse("urn:tpp:1"))},
	}
}

func tlsClient(change func(*Client)) *Client {
	c := tpp(FAPI2)
	c.TokenEndpointAuthMethod = TLSClientAuth
	c.JWKS = nil
	change(c)
	return mustPrepare(c)
}

func TestCheckCertificate_tlsClientAuth(t *testing.T) {
	t.Parallel()
	root := newAuthority(nil, "Root")
	middle := newAuthority(root, "Middle")
	stranger := newAuthority(nil, "Root")
	roots := x509.NewCertPool()
	roots.AddCert(root.cert)
	make1 := func(by *authority, change func(*x509.Certificate)) *x509.Certificate {
		template := leaf()
		if change != nil {
			change(template)
		}
		return issue(by, ecKey(), template)
	}
	good := make1(root, nil)
	byDN := tlsClient(func(c *Client) { c.TLSClientAuthSubjectDN = "CN=tpp,O=Acme,C=GB" })
	for _, test := range []struct {
		name   string
		client *Client
		chain  []*x509.Certificate
		roots  *x509.CertPool
		now    time.Time
		code   Code
	}{
		{"RFC 8705 §2.1: accepts the registered subject", byDN, []*x509.Certificate{good}, roots, now, ""},
		{"RFC 8705 §2.1: accepts intermediates that the client sends", byDN, []*x509.Certificate{make1(middle, nil), middle.cert}, roots, now, ""},
		{"RFC 8705 §2.1: refuses when they are missing", byDN, []*x509.Certificate{make1(middle, nil)}, roots, now, InvalidClient},
		{"RFC 8705 §2.1: refuses another subject", byDN, []*x509.Certificate{make1(root, func(c *x509.Certificate) { c.Subject.CommonName = "other" })}, roots, now, InvalidClient},
		{"RFC 8705 §2.1: refuses another authority", byDN, []*x509.Certificate{make1(stranger, nil), stranger.cert}, roots, now, InvalidClient},
		{"RFC 8705 §2.1: refuses a self-signed certificate", byDN, []*x509.Certificate{make1(nil, nil)}, roots, now, InvalidClient},
		{"RFC 8705 §2.1: refuses without trusted authorities", byDN, []*x509.Certificate{good}, nil, now, InvalidClient},
		{"RFC 8705 §2.1: refuses no certificate", byDN, nil, roots, now, InvalidClient},
		{"RFC 5280 §4.2.1.12: refuses a server's certificate", byDN, []*x509.Certificate{make1(root, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		})}, roots, now, InvalidClient},
		{"RFC 5280 §4.1.2.5: refuses an expired certificate", byDN, []*x509.Certificate{good}, roots, now.Add(2 * time.Hour), InvalidClient},
		{"RFC 5280 §4.1.2.5: refuses one of tomorrow", byDN, []*x509.Certificate{good}, roots, now.Add(-2 * time.Hour), InvalidClient},
		{"refuses a long chain", byDN, make([]*x509.Certificate, 11), roots, now, InvalidClient},
		{"RFC 8705 §2.1.2: refuses clients of other methods", strictTPP(), []*x509.Certificate{good}, roots, now, InvalidClient},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			refused(t, test.client.CheckCertificate(test.chain, test.roots, test.now), test.code)
		})
	}
	if err := byDN.CheckCertificate([]*x509.Certificate{good}, nil, now); !strings.Contains(err.Error(), "no trusted authorities") {
		t.Errorf("without roots those of the operating system are asked: %v", err)
	}
	for name, test := range map[string]struct {
		set  func(*Client)
		code Code
	}{
		"san_dns":                        {func(c *Client) { c.TLSClientAuthSANDNS = "TPP.example" }, ""},
		"another san_dns":                {func(c *Client) { c.TLSClientAuthSANDNS = "pp.example" }, InvalidClient},
		"san_dns is no pattern":          {func(c *Client) { c.TLSClientAuthSANDNS = "*.example" }, InvalidClient},
		"san_uri":                        {func(c *Client) { c.TLSClientAuthSANURI = "urn:tpp:1" }, ""},
		"another san_uri":                {func(c *Client) { c.TLSClientAuthSANURI = "urn:tpp:10" }, InvalidClient},
		"san_ip":                         {func(c *Client) { c.TLSClientAuthSANIP = "192.0.2.1" }, ""},
		"san_ip, IPv6 in another form":   {func(c *Client) { c.TLSClientAuthSANIP = "2001:DB8:0::1" }, ""},
		"another san_ip":                 {func(c *Client) { c.TLSClientAuthSANIP = "192.0.2.2" }, InvalidClient},
		"san_email":                      {func(c *Client) { c.TLSClientAuthSANEmail = "Ops@TPP.example" }, ""},
		"another san_email":              {func(c *Client) { c.TLSClientAuthSANEmail = "ops@tpp.example" }, InvalidClient},
		"the subject is not the san_dns": {func(c *Client) { c.TLSClientAuthSANDNS = "tpp" }, InvalidClient},
	} {
		t.Run("RFC 8705 §2.1.2: "+name, func(t *testing.T) {
			t.Parallel()
			refused(t, tlsClient(test.set).CheckCertificate([]*x509.Certificate{good}, roots, now), test.code)
		})
	}
}

func TestCheckCertificate_selfSigned(t *testing.T) {
	t.Parallel()
	registered := issue(nil, ecKey(), leaf())
	renewed := issue(nil, ecKey(), leaf())
	foreign := issue(nil, otherKey(), leaf())
	byKey, byCertificate := tpp(FAPI2), tpp(FAPI2)
	byKey.TokenEndpointAuthMethod, byCertificate.TokenEndpointAuthMethod = SelfSignedTLSClientAuth, SelfSignedTLSClientAuth
	byCertificate.JWKS = &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: ecKey().Public(), Certificates: []*x509.Certificate{registered}}}}
	mustPrepare(byKey)
	stored := must(ParseClient(must(json.Marshal(mustPrepare(byCertificate)))))
	for _, test := range []struct {
		name   string
		client *Client
		cert   *x509.Certificate
		now    time.Time
		code   Code
	}{
		{"RFC 8705 §2.2: accepts a certificate with a registered key", byKey, registered, now, ""},
		{"RFC 8705 §2.2: refuses another key", byKey, foreign, now, InvalidClient},
		{"RFC 8705 §2.2.2: accepts the certificate in x5c", byCertificate, registered, now, ""},
		{"RFC 8705 §2.2.2: accepts it after the client was stored", stored, registered, now, ""},
		{"RFC 8705 §2.2.2: refuses another than that in x5c, even with its key", byCertificate, renewed, now, InvalidClient},
		{"RFC 8705 §2.2: refuses an expired certificate", byKey, registered, registered.NotAfter.Add(1), InvalidClient},
		{"RFC 8705 §2.2: accepts it to its last second", byKey, registered, registered.NotAfter, ""},
		{"RFC 8705 §2.2: refuses it before its time", byKey, registered, registered.NotBefore.Add(-1), InvalidClient},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			refused(t, test.client.CheckCertificate([]*x509.Certificate{test.cert}, nil, test.now), test.code)
		})
	}
}

func TestConfirmation(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		bound, have Confirmation
		want        bool
	}{
		{"RFC 8705 §3: the certificate", Confirmation{X5TS256: "a"}, Confirmation{X5TS256: "a"}, true},
		{"RFC 8705 §3: another certificate", Confirmation{X5TS256: "a"}, Confirmation{X5TS256: "b"}, false},
		{"RFC 8705 §3: no certificate", Confirmation{X5TS256: "a"}, Confirmation{}, false},
		{"RFC 9449 §6: the key", Confirmation{JKT: "k"}, Confirmation{JKT: "k", X5TS256: "any"}, true},
		{"RFC 9449 §6: another key", Confirmation{JKT: "k"}, Confirmation{JKT: "l"}, false},
		{"both, one is missing", Confirmation{X5TS256: "a", JKT: "k"}, Confirmation{JKT: "k"}, false},
		{"one is not the other", Confirmation{JKT: "a"}, Confirmation{X5TS256: "a"}, false},
		{"RFC 6750: nothing is bound", Confirmation{}, Confirmation{JKT: "k"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := test.bound.Matches(test.have); got != test.want {
				t.Errorf("Matches is %v", got)
			}
			if test.bound.Empty() != (test.bound == Confirmation{}) {
				t.Error("Empty is wrong")
			}
		})
	}
	if text := must(json.Marshal(Confirmation{X5TS256: "a"})); string(text) != `{"x5t#S256":"a"}` {
		t.Errorf("RFC 8705 §3.1: %s", text)
	}
}
