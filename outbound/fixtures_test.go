package outbound_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/countersign/countersign/outbound"
)

const name = "client.example"

// bundle is an authority, and what a client needs that may call the machine itself.
type bundle struct {
	ca      *x509.Certificate
	key     *ecdsa.PrivateKey
	options outbound.Options
}

func setup(t *testing.T) *bundle {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	ca, err := x509.ParseCertificate(der)
	check(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return &bundle{ca, key, outbound.Options{RootCAs: roots, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Timeout: 2 * time.Second}}
}

// certificate is for client.example and 127.0.0.1, unless change says otherwise.
func (b *bundle) certificate(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, b.ca, key.Public(), b.key)
	check(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// server is a real TLS server on the machine itself.
type server struct {
	URL  string
	port string
	hits atomic.Int64
}

func (b *bundle) serve(t *testing.T, h http.HandlerFunc) *server {
	t.Helper()
	return b.serveTLS(t, &tls.Config{Certificates: []tls.Certificate{b.certificate(t, nil)}}, h)
}

func (b *bundle) serveTLS(t *testing.T, config *tls.Config, h http.HandlerFunc) *server {
	t.Helper()
	l := listen(t)
	s := &server{URL: "https://" + l.Addr().String()}
	_, s.port, _ = net.SplitHostPort(l.Addr().String())
	counted := func(w http.ResponseWriter, r *http.Request) {
		s.hits.Add(1)
		h(w, r)
	}
	running := &http.Server{Handler: http.HandlerFunc(counted), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	go running.Serve(tls.NewListener(l, config))
	t.Cleanup(func() { running.Close() })
	return s
}

// serveRaw is a TLS server that says after the handshake what a test writes; over is closed when the test ends.
func (b *bundle) serveRaw(t *testing.T, speak func(c net.Conn)) string {
	t.Helper()
	l := tls.NewListener(listen(t), &tls.Config{Certificates: []tls.Certificate{b.certificate(t, nil)}})
	accept(t, l, func(c net.Conn) {
		c.Read(make([]byte, 1024))
		speak(c)
	})
	return "https://" + l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	return l
}

func accept(t *testing.T, l net.Listener, speak func(net.Conn)) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				speak(c)
			}()
		}
	}()
}

// resolver asks a real DNS server on the machine, which answers the nth question for an IPv4 address with the nth of the
// answers, and the last one ever after; there are no IPv6 addresses.
func resolver(t *testing.T, answers ...[]string) (*net.Resolver, *atomic.Int64) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	var asked atomic.Int64
	go func() {
		packet := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(packet)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			var m dnsmessage.Message
			if err != nil || m.Unpack(packet[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA && strings.EqualFold(q.Name.String(), name+".") {
				nth := min(int(asked.Add(1)), len(answers)) - 1
				for _, text := range answers[nth] {
					m.Answers = append(m.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
						Body:   &dnsmessage.AResource{A: netip.MustParseAddr(text).As4()},
					})
				}
			}
			if packed, err := m.Pack(); err == nil {
				conn.WriteTo(packed, from)
			}
		}
	}()
	var d net.Dialer
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}, &asked
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
