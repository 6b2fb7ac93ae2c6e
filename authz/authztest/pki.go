package authztest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"
)

// authority issues the certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	return &authority{cert, key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue makes a certificate for a name; by is nil for a self-signed one.
func issue(t testing.TB, by *authority, name string, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	return issueUntil(t, by, name, usage, time.Now().Add(time.Hour))
}

func issueUntil(t testing.TB, by *authority, name string, usage x509.ExtKeyUsage, until time.Time) tls.Certificate {
	t.Helper()
	key := newKey(t)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"Test"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	parent, signer := template, crypto.Signer(key)
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	check(t, err)
	leaf, err := x509.ParseCertificate(der)
	check(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) serverTLS(t testing.TB, clientAuth tls.ClientAuthType) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{issue(t, a, "localhost", x509.ExtKeyUsageServerAuth)}, ClientAuth: clientAuth}
}

// SelfSigned makes a certificate that nobody vouches for.
func SelfSigned(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	cert := issue(t, nil, name, x509.ExtKeyUsageClientAuth)
	return &cert
}

// Expired makes a client certificate of the server's authority that is no longer valid.
func (s *Server) Expired(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	cert := issueUntil(t, s.ca, name, x509.ExtKeyUsageClientAuth, time.Now().Add(-time.Minute))
	return &cert
}

// ServerCertificate makes a certificate of the server's authority that is not for clients.
func (s *Server) ServerCertificate(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	cert := issue(t, s.ca, name, x509.ExtKeyUsageServerAuth)
	return &cert
}

// Authority is who issued the certificates of the server and its clients.
func (s *Server) Authority() *x509.Certificate { return s.ca.cert }
