package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// authority is the one that vouches for the server, for the suite's clients and for the bank's API.
type authority struct {
	dir string
	certificate
}

// certificate is a certificate with its key, and the files that hold them.
type certificate struct {
	*x509.Certificate
	key               crypto.Signer
	certFile, keyFile string
}

const (
	certificateLife = 2 * 365 * 24 * time.Hour
	organization    = "Countersign Conformance"
)

// openAuthority makes the authority, or opens the one that is there.
func openAuthority(dir string) (*authority, error) {
	a := &authority{dir: filepath.Join(dir, "pki")}
	var err error
	a.certificate, err = a.kept("ca", jose.ES256, &x509.Certificate{
		Subject:               pkix.Name{CommonName: "CA", Organization: []string{organization}},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, true)
	return a, err
}

// server is the certificate of our listeners: for this machine, and for one more name if it has one.
func (a *authority) server(host string, alg jose.SignatureAlgorithm) (certificate, error) {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: host, Organization: []string{organization}},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1).To4()},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil && !ip.IsLoopback() {
		t.IPAddresses = append(t.IPAddresses, ip)
	} else if ip == nil && host != "localhost" {
		t.DNSNames = append(t.DNSNames, host)
	}
	return a.kept("server-"+string(alg), alg, t, false)
}

// client is the certificate of a client, from the authority or by itself (RFC 8705 §2.1, §2.2).
func (a *authority) client(name string, selfSigned bool) (certificate, error) {
	return a.kept(name, jose.ES256, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name, Organization: []string{organization}, Country: []string{"GB"}},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, selfSigned)
}

// kept returns the certificate in the folder if it is what is asked for and good for another day, else a new one for the
// key in the folder.
func (a *authority) kept(name string, alg jose.SignatureAlgorithm, t *x509.Certificate, selfSigned bool) (certificate, error) {
	c := certificate{certFile: filepath.Join(a.dir, name+".crt"), keyFile: filepath.Join(a.dir, name+".key")}
	var err error
	if c.key, err = keptKey(c.keyFile, alg); err != nil {
		return c, err
	}
	signer := a.certificate
	if selfSigned {
		signer = certificate{Certificate: t, key: c.key}
	}
	if content, err := os.ReadFile(c.certFile); err == nil {
		if block, _ := pem.Decode(content); block != nil {
			c.Certificate, err = x509.ParseCertificate(block.Bytes)
			if err == nil && c.does(t, signer, selfSigned) {
				return c, nil
			}
		}
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return c, err
	}
	t.SerialNumber, t.NotBefore, t.NotAfter = serial, time.Now().Add(-time.Hour), time.Now().Add(certificateLife)
	der, err := x509.CreateCertificate(rand.Reader, t, signer.Certificate, c.key.Public(), signer.key)
	if err != nil {
		return c, fmt.Errorf("certificate %s: %w", name, err)
	}
	if c.Certificate, err = x509.ParseCertificate(der); err != nil {
		return c, err
	}
	return c, write(c.certFile, c.pem())
}

// does tells whether a certificate that was found says what the template says, for its key and from that issuer.
func (c certificate) does(t *x509.Certificate, signer certificate, selfSigned bool) bool {
	issuer := signer.Certificate
	if selfSigned {
		issuer = c.Certificate
	}
	key, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(c.key.Public()) &&
		time.Until(c.NotAfter) > 24*time.Hour &&
		c.Subject.String() == t.Subject.String() &&
		slices.Equal(c.DNSNames, t.DNSNames) &&
		slices.EqualFunc(c.IPAddresses, t.IPAddresses, net.IP.Equal) &&
		bytes.Equal(c.RawIssuer, issuer.RawSubject) &&
		issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func (c certificate) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func (c certificate) keyPEM() (string, error) {
	content, err := os.ReadFile(c.keyFile)
	return string(content), err
}

func (c certificate) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: c.key, Leaf: c.Certificate}
}
