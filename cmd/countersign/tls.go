package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// listenerTLS is the TLS of both listeners (BCP 195): 1.3 first, with Go's hybrid post-quantum key exchange, session
// tickets on; 1.2 only with the four suites that RFC 9325 §4.2 recommends. Go's own list has more, which FAPI refuses.
func listenerTLS(certificates []tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: certificates,
		MinVersion:   tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		},
		NextProtos: []string{"h2", "http/1.1"},
	}
}

// askForCertificate makes a listener ask for a client certificate and take any, or none: whose it must be depends on the
// client (RFC 8705 §2.1, §2.2), which the handshake does not know. That the client holds its key, the handshake has proved.
func askForCertificate(c *tls.Config) *tls.Config {
	asking := c.Clone()
	asking.ClientAuth = tls.RequestClientCert
	return asking
}

func loadCertificates(certFiles, keyFiles []string) ([]tls.Certificate, error) {
	if len(certFiles) != len(keyFiles) {
		return nil, fmt.Errorf("%d TLS certificates but %d keys", len(certFiles), len(keyFiles))
	}
	var loaded []tls.Certificate
	var wrong []error
	for i := range certFiles {
		c, err := tls.LoadX509KeyPair(certFiles[i], keyFiles[i])
		if err != nil {
			wrong = append(wrong, fmt.Errorf("TLS certificate %s: %w", certFiles[i], err))
		}
		loaded = append(loaded, c)
	}
	return loaded, errors.Join(wrong...)
}

func loadPool(files []string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	return pool, addToPool(pool, files)
}

func addToPool(pool *x509.CertPool, files []string) error {
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if !pool.AppendCertsFromPEM(content) {
			return fmt.Errorf("%s holds no certificate", file)
		}
	}
	return nil
}
