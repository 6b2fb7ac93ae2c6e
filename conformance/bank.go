package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/countersign/countersign/resource"
)

// resourcePath is what the suite calls with each token that it gets.
const resourcePath = "/resource"

// startBank serves the sample API. Tokens that are JWTs are introspected too: the suite wants a token to be dead as soon as
// the code that it came from is used again.
func (s *setup) startBank(ctx context.Context, p *prepared) (*http.Server, error) {
	roots := x509.NewCertPool()
	roots.AddCert(s.ca.Certificate)
	logFile, err := os.OpenFile(s.file("bank.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	config := resource.Config{
		Issuer: s.issuer(), Audience: s.resource(),
		ClientID: bankID, Authentication: resource.Certificate(p.bank.tls.tls()), AlwaysIntrospect: true,
		RootCAs: roots,
		Log:     slog.New(slog.NewTextHandler(logFile, nil)),
	}
	if s.DPoPNonces {
		config.DPoPNonceKey = make([]byte, 32)
		rand.Read(config.DPoPNonceKey)
	}
	guard, err := resource.New(ctx, config)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+resourcePath, guard.Require(resource.Need{}, http.HandlerFunc(answerCaller)))
	phones, err := s.phones(p.pages)
	if err != nil {
		return nil, err
	}
	mux.HandleFunc("POST "+phonePath+"{customer}", phones.decide)

	listener, err := net.Listen("tcp", ":"+strconv.Itoa(s.ResourcePort))
	if err != nil {
		return nil, fmt.Errorf("sample API: %w", err)
	}
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(logFile, "", 0), // the suite breaks off many handshakes on purpose
	}
	go server.Serve(tls.NewListener(listener, p.bankTLS()))
	return server, nil
}

// bankTLS asks for a certificate and takes any: the token says whose it must be. The cipher suites of TLS 1.2 are those of
// RFC 9325 §4.2, as for the server.
func (p *prepared) bankTLS() *tls.Config {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		},
		ClientAuth: tls.RequestClientCert,
		NextProtos: []string{"http/1.1"},
	}
	for _, c := range p.serverCerts {
		config.Certificates = append(config.Certificates, c.tls())
	}
	return config
}

// answerCaller tells the caller who it is. No suite looks at that, but people do.
func answerCaller(w http.ResponseWriter, r *http.Request) {
	p := resource.PrincipalFrom(r.Context())
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"principal": p})
}
