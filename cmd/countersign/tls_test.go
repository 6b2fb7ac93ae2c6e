package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"
)

// handshake connects to a listener with the server's TLS and returns what was agreed.
func handshake(t *testing.T, address string, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", address, client)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	// A session ticket comes with the first byte; the end may come with it too.
	if n, err := conn.Read(make([]byte, 1)); n == 0 {
		return tls.ConnectionState{}, err
	}
	return conn.ConnectionState(), nil
}

func TestTLS_WhatListenersAgreeTo(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ok(t, err)
	leaf, err := x509.ParseCertificate(der)
	ok(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	l, err := tls.Listen("tcp", "127.0.0.1:0", askForCertificate(listenerTLS([]tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}})))
	ok(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				conn.Write([]byte{0}) // which fails when the handshake does
				conn.Close()
			}()
		}
	}()
	client := func(change func(*tls.Config)) *tls.Config {
		c := &tls.Config{RootCAs: roots, ServerName: "localhost"}
		change(c)
		return c
	}

	t.Run("B8: TLS 1.3 with the hybrid post-quantum key exchange", func(t *testing.T) {
		state, err := handshake(t, l.Addr().String(), client(func(*tls.Config) {}))
		if err != nil || state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 {
			t.Errorf("version %x, key exchange %v, %v", state.Version, state.CurveID, err)
		}
	})
	t.Run("B8: sessions are resumed", func(t *testing.T) {
		c := client(func(c *tls.Config) { c.ClientSessionCache = tls.NewLRUClientSessionCache(1) })
		for i, resumed := range []bool{false, true} {
			if state, err := handshake(t, l.Addr().String(), c); err != nil || state.DidResume != resumed {
				t.Errorf("connection %d: resumed %v, %v", i+1, state.DidResume, err)
			}
		}
	})
	t.Run("RFC 9325 §4.2: TLS 1.2 with AES-GCM", func(t *testing.T) {
		state, err := handshake(t, l.Addr().String(), client(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }))
		if err != nil || state.CipherSuite != tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 {
			t.Errorf("suite %x, %v", state.CipherSuite, err)
		}
	})
	for name, change := range map[string]func(*tls.Config){
		"TLS 1.1":           func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		"CBC":               func(c *tls.Config) { c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA} },
		"ChaCha20 with 1.2": func(c *tls.Config) { c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256} },
	} {
		t.Run("FAPI 2.0 §5.2: refuses "+name, func(t *testing.T) {
			c := client(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
			change(c)
			if state, err := handshake(t, l.Addr().String(), c); err == nil {
				t.Errorf("agreed to version %x, suite %x", state.Version, state.CipherSuite)
			}
		})
	}
}
