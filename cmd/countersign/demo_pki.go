package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// demoCA is the authority that everything in the demo trusts, and nothing else does.
type demoCA struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string // the certificate, for browsers
}

const (
	caLifetime   = 2 * 365 * 24 * time.Hour
	leafLifetime = 90 * 24 * time.Hour
)

// openCA makes an authority in dir. If keep is set, one that is there is used again, so that a browser has to be told only
// once; else its key is never written to disk.
func openCA(dir string, keep bool) (*demoCA, error) {
	ca := &demoCA{file: filepath.Join(dir, "ca.pem")}
	keyFile := filepath.Join(dir, "ca.key")
	if keep {
		pair, err := tls.LoadX509KeyPair(ca.file, keyFile)
		if err == nil && time.Until(pair.Leaf.NotAfter) > leafLifetime {
			key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
			if !ok {
				return nil, fmt.Errorf("%s: not a key that the demo has made", keyFile)
			}
			ca.certificate, ca.key = pair.Leaf, key
			return ca, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the demo's CA: %w", err)
		}
	}
	var err error
	if ca.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serialNumber(),
		Subject:               pkix.Name{Organization: []string{"Countersign"}, CommonName: "Countersign demo CA " + now.Format("2006-01-02 15:04")},
		NotBefore:             now.Add(-time.Minute),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		// Somebody who trusts it in a browser trusts it for this machine only.
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{"localhost"},
		PermittedIPRanges: []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 1).To4(), Mask: net.CIDRMask(32, 32)},
			{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ca.key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	if ca.certificate, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	if keep {
		if err := writeKey(keyFile, ca.key); err != nil {
			return nil, err
		}
	}
	return ca, writePEM(ca.file, 0o644, "CERTIFICATE", der)
}

// pool is what trusts this authority alone.
func (ca *demoCA) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.certificate)
	return pool
}

// server issues a certificate for this machine's own names.
func (ca *demoCA) server(key crypto.Signer) (tls.Certificate, error) {
	return ca.issue(key, &x509.Certificate{
		Subject:     pkix.Name{Organization: []string{"Countersign"}, CommonName: "localhost"},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// client issues a certificate that names a client.
func (ca *demoCA) client(name string) (tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return tls.Certificate{}, err
	}
	return ca.issue(key, &x509.Certificate{
		Subject:     pkix.Name{Organization: []string{"Countersign demo"}, CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (ca *demoCA) issue(key crypto.Signer, template *x509.Certificate) (tls.Certificate, error) {
	now := time.Now()
	template.SerialNumber = serialNumber()
	template.NotBefore, template.NotAfter = now.Add(-time.Minute), now.Add(leafLifetime)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, key.Public(), ca.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// serverPairs makes the certificates of all listeners, one for each kind of key that clients know.
func (ca *demoCA) serverPairs() ([]tls.Certificate, error) {
	elliptic, err := newKey()
	if err != nil {
		return nil, err
	}
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	var pairs []tls.Certificate
	for _, key := range []crypto.Signer{elliptic, old} {
		pair, err := ca.server(key)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, pair)
	}
	return pairs, nil
}

// writePair writes a certificate and its key as files that `countersign serve` and curl take.
func writePair(dir, name string, pair tls.Certificate) (cert, key string, err error) {
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	return cert, key, errors.Join(writePEM(cert, 0o644, "CERTIFICATE", pair.Certificate[0]), writeKey(key, pair.PrivateKey))
}

func writeKey(file string, key crypto.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(file, 0o600, "PRIVATE KEY", der)
}

func writePEM(file string, mode fs.FileMode, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func serialNumber() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f // positive (RFC 5280 §4.1.2.2)
	return new(big.Int).SetBytes(b[:])
}
