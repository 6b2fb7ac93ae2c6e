package outbound_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/outbound"
)

func TestGet(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var seen http.Header
	s := b.serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header
		http.SetCookie(w, &http.Cookie{Name: "tracked", Value: "1"})
		w.Header().Set("Content-Type", "application/jwk-set+json")
		io.WriteString(w, "0123456789")
	})
	c := outbound.New(b.options)
	for range 2 {
		got, err := c.Get(t.Context(), s.URL+"/keys", 10)
		if err != nil || string(got.Body) != "0123456789" || got.Header.Get("Content-Type") != "application/jwk-set+json" {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	for name := range seen {
		if name != "User-Agent" && name != "Accept-Encoding" && name != "Connection" {
			t.Errorf("the second call carries %s: %q", name, seen[name])
		}
	}
	if _, err := c.Get(t.Context(), s.URL, 9); !errors.Is(err, outbound.ErrTooLarge) {
		t.Errorf("one byte more than the limit: %v", err)
	}
}

func TestPost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || string(body) != "logout_token=x" || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.Header.Get("Authorization") != "Bearer y" {
			t.Errorf("%s %q %v", r.Method, body, r.Header)
		}
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		case "/bad":
			w.WriteHeader(http.StatusBadRequest)
			for r.Context().Err() == nil { // without end, and nobody reads it
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}
	})
	c := outbound.New(b.options)
	post := func(path string) (int, error) {
		return c.Post(t.Context(), s.URL+path, "application/x-www-form-urlencoded", []byte("logout_token=x"), http.Header{"Authorization": {"Bearer y"}})
	}
	if status, err := post("/"); status != http.StatusOK || err != nil {
		t.Errorf("%d, %v", status, err)
	}
	if status, err := post("/bad"); status != http.StatusBadRequest || err != nil {
		t.Errorf("a refusal: %d, %v", status, err)
	}
	if _, err := post("/moved"); !errors.Is(err, outbound.ErrRedirect) {
		t.Errorf("a redirect: %v", err)
	}
}

func TestRefusesURLs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := outbound.New(b.options)
	for _, address := range []string{
		"", "http://127.0.0.1/", "HTTP://127.0.0.1/", "ftp://127.0.0.1/", "file:///etc/passwd", "https:", "https:///path", "https:127.0.0.1", "//127.0.0.1/",
		"https://user:secret@127.0.0.1/", "https://user@127.0.0.1/", "https://127.0.0.1:x/", "https://[::1/", "https://a b/", "unix:///run/x",
		"https://127.0.0.1/" + strings.Repeat("a", 2048),
	} {
		if _, err := c.Get(t.Context(), address, 10); !errors.Is(err, outbound.ErrURL) {
			t.Errorf("%.40q: %v", address, err)
		}
		if _, err := c.Post(t.Context(), address, "text/plain", nil, nil); !errors.Is(err, outbound.ErrURL) {
			t.Errorf("POST %.40q: %v", address, err)
		}
	}
}

// Each address stands for its network. None is dialled: the check comes before.
func TestRefusesAddresses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.options.AllowPrivate = nil
	c := outbound.New(b.options)
	listening := b.serve(t, func(http.ResponseWriter, *http.Request) {})
	for _, host := range []string{
		"127.0.0.1:" + listening.port, "[::ffff:127.0.0.1]:" + listening.port, "localhost:" + listening.port, "127.1.2.3", "0.0.0.0:" + listening.port, "[::]:" + listening.port, "[::1]",
		"10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "100.64.0.1", "100.100.100.200", "100.127.255.254",
		"169.254.169.254", "169.254.170.2", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1",
		"224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
		"[fc00::1]", "[fd00:ec2::254]", "[fe80::1]", "[fe80::1%25lo]", "[fec0::1]", "[ff02::1]", "[::127.0.0.1]", "[100::1]", "[2001:db8::1]", "[3fff::1]",
		"[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[64:ff9b::127.0.0.1]", "[64:ff9b::10.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]",
		"[2002:7f00:1::]", "[2002:a00:1::1]", "[2001::1]", "[5f00::1]",
	} {
		if _, err := c.Get(t.Context(), "https://"+host+"/", 10); !errors.Is(err, outbound.ErrAddress) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if n := listening.hits.Load(); n != 0 {
		t.Errorf("%d calls arrived", n)
	}
}

// Addresses that anybody reaches are not refused; no network is needed to see that.
func TestAcceptsPublicAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"1.1.1.1": true, "9.255.255.255": true, "11.0.0.1": true, "100.63.255.255": true, "100.128.0.1": true, "172.15.0.1": true, "172.32.0.1": true, "168.63.129.17": true,
		"223.255.255.254": true, "2606:4700::1111": true, "::ffff:1.1.1.1": true, "64:ff9b::1.1.1.1": true, "2a00::1": true,
		"2606:4700::1111%eth0": false, "64:ff9b::192.168.0.1": false, "": false,
	} {
		a, _ := netip.ParseAddr(address)
		if got := outbound.IsPublic(a); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
}

func TestAllowPrivate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.serve(t, func(http.ResponseWriter, *http.Request) {})
	c := outbound.New(b.options)
	for _, host := range []string{"127.0.0.1", "[::ffff:127.0.0.1]"} {
		if _, err := c.Get(t.Context(), "https://"+host+":"+s.port, 10); err != nil {
			t.Errorf("%s is allowed: %v", host, err)
		}
	}
	for _, host := range []string{"[::1]", "[64:ff9b::127.0.0.1]", "10.0.0.1"} {
		if _, err := c.Get(t.Context(), "https://"+host+":"+s.port, 10); !errors.Is(err, outbound.ErrAddress) {
			t.Errorf("%s is not what was allowed: %v", host, err)
		}
	}
}

// DNS rebinding: a name that leads to a public address when it is looked at, and to this machine when it is called.
func TestRebinding(t *testing.T) {
	t.Parallel()
	public := netip.MustParsePrefix("203.0.113.0/24") // stands for the internet, where no test may call
	for test, answers := range map[string][][]string{
		"public first, then this machine": {{"203.0.113.1"}, {"127.0.0.1"}},
		"this machine":                    {{"127.0.0.1"}},
		"both at once":                    {{"203.0.113.1", "127.0.0.1"}},
		"both at once, the other way":     {{"127.0.0.1", "203.0.113.1"}},
		"the cloud's metadata":            {{"203.0.113.1"}, {"169.254.169.254"}},
	} {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			s := b.serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "inner secret") })
			resolver, asked := resolver(t, answers...)
			o := b.options
			o.Resolver, o.AllowPrivate, o.Timeout = resolver, []netip.Prefix{public}, 500*time.Millisecond
			c := outbound.New(o)
			for range 3 {
				if _, err := c.Get(t.Context(), "https://"+name+":"+s.port+"/", 100); err == nil {
					t.Error("answered")
				}
			}
			if last := answers[len(answers)-1]; len(last) == 1 {
				if _, err := c.Get(t.Context(), "https://"+name+":"+s.port+"/", 100); !errors.Is(err, outbound.ErrAddress) {
					t.Errorf("%v", err)
				}
			}
			if s.hits.Load() != 0 || asked.Load() < 3 {
				t.Errorf("%d calls arrived, %d questions", s.hits.Load(), asked.Load())
			}
		})
	}
	t.Run("the name serves to call what is allowed", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		s := b.serve(t, func(http.ResponseWriter, *http.Request) {})
		b.options.Resolver, _ = resolver(t, []string{"127.0.0.1"})
		if _, err := outbound.New(b.options).Get(t.Context(), "https://"+name+":"+s.port, 10); err != nil {
			t.Error(err)
		}
	})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	b, stranger := setup(t), setup(t)
	for test, config := range map[string]*tls.Config{
		"another authority": {Certificates: []tls.Certificate{stranger.certificate(t, nil)}},
		"another name": {Certificates: []tls.Certificate{b.certificate(t, func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(127, 0, 0, 2)}, []string{"secret.internal"}
		})}},
		"expired":           {Certificates: []tls.Certificate{b.certificate(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}},
		"TLS 1.1":           {Certificates: []tls.Certificate{b.certificate(t, nil)}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"TLS 1.2 with CBC":  {Certificates: []tls.Certificate{b.certificate(t, nil)}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
		"asks for our name": {Certificates: []tls.Certificate{b.certificate(t, nil)}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12},
	} {
		s := b.serveTLS(t, config, func(http.ResponseWriter, *http.Request) {})
		if _, err := outbound.New(b.options).Get(t.Context(), s.URL, 10); !errors.Is(err, outbound.ErrTLS) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", test, err)
		}
	}
	s := b.serveTLS(t, &tls.Config{Certificates: []tls.Certificate{b.certificate(t, nil)}, MaxVersion: tls.VersionTLS12}, func(http.ResponseWriter, *http.Request) {})
	if _, err := outbound.New(b.options).Get(t.Context(), s.URL, 10); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
	b.options.RootCAs = nil
	if _, err := outbound.New(b.options).Get(t.Context(), s.URL, 10); !errors.Is(err, outbound.ErrTLS) {
		t.Errorf("nobody vouches for it on this system: %v", err)
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	b := setup(t)
	target := b.serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "inner") })
	for _, status := range []int{301, 302, 303, 307, 308, 300, 304} {
		s := b.serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", target.URL+"/secret")
			w.WriteHeader(status)
		})
		if _, err := outbound.New(b.options).Get(t.Context(), s.URL, 10); !errors.Is(err, outbound.ErrRedirect) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d: %v", status, err)
		}
	}
	if target.hits.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// All of these end within the time of a call, and read no more than the limit.
func TestBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.options.Timeout = 400 * time.Millisecond
	var sent atomic.Int64
	endless := func(w io.Writer, piece []byte, pause time.Duration) {
		for {
			n, err := w.Write(piece)
			sent.Add(int64(n))
			if f, ok := w.(http.Flusher); ok {
				f.Flush()
			}
			if err != nil {
				return
			}
			time.Sleep(pause)
		}
	}
	var bomb bytes.Buffer
	zipped := gzip.NewWriter(&bomb)
	io.CopyN(zipped, zeros{}, 16<<20)
	check(t, zipped.Close())
	for test, of := range map[string]struct {
		url  string
		want error
	}{
		"slow body":       {b.serve(t, func(w http.ResponseWriter, _ *http.Request) { endless(w, []byte("x"), 20*time.Millisecond) }).URL, outbound.ErrTimeout},
		"slow headers":    {b.serveRaw(t, func(c net.Conn) { endless(c, []byte("H"), 50*time.Millisecond) }), outbound.ErrTimeout},
		"no answer":       {b.serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }).URL, outbound.ErrTimeout},
		"endless body":    {b.serve(t, func(w http.ResponseWriter, _ *http.Request) { endless(w, make([]byte, 1<<10), 0) }).URL, outbound.ErrTooLarge},
		"endless headers": {b.serveRaw(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\n"); endless(c, []byte("A: b\r\n"), 0) }), outbound.ErrAnswer},
		"endless 1xx":     {b.serveRaw(t, func(c net.Conn) { endless(c, []byte("HTTP/1.1 103 Early Hints\r\n\r\n"), 0) }), outbound.ErrAnswer},
		"a length that is too large": {b.serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000000000")
			endless(w, []byte("x"), time.Second)
		}).URL, outbound.ErrTooLarge},
		"gzip bomb that says so": {b.serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb.Bytes())
		}).URL, outbound.ErrAnswer},
		"body broken off": {b.serveRaw(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc") }), outbound.ErrAnswer},
	} {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			if _, err := outbound.New(b.options).Get(t.Context(), of.url, 32<<10); !errors.Is(err, of.want) {
				t.Errorf("%v, want %v", err, of.want)
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	t.Run("silent handshake", func(t *testing.T) {
		t.Parallel()
		l := listen(t)
		accept(t, l, func(c net.Conn) { io.Copy(io.Discard, c) })
		if _, err := outbound.New(b.options).Get(t.Context(), "https://"+l.Addr().String(), 10); !errors.Is(err, outbound.ErrTimeout) {
			t.Error(err)
		}
	})
	t.Run("the caller gives up", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := outbound.New(b.options).Get(ctx, "https://127.0.0.1:1", 10); !errors.Is(err, outbound.ErrTimeout) {
			t.Error(err)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// What the other side sends never comes back in an error: else it could be read by whoever sees the log, or the answer.
func TestErrorsAreMute(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plainText := listen(t)
	accept(t, plainText, func(c net.Conn) { io.WriteString(c, "secret secret secret\r\n") })
	for test, url := range map[string]string{
		"status line":    b.serveRaw(t, func(c net.Conn) { io.WriteString(c, "secret\r\n\r\n") }),
		"status":         b.serveRaw(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 secret\r\n\r\n") }),
		"reason":         b.serveRaw(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 404 secret\r\nContent-Length: 6\r\n\r\nsecret") }),
		"header":         b.serveRaw(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nsecret\r\n\r\n") }),
		"content length": b.serveRaw(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: secret\r\n\r\n") }),
		"chunk":          b.serveRaw(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n") }),
		"encoding":       b.serveRaw(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: secret\r\n\r\n") }),
		"coding": b.serveRaw(t, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Encoding: secret\r\nContent-Length: 1\r\n\r\nx")
		}),
		"no TLS": "https://" + plainText.Addr().String(),
	} {
		_, err := outbound.New(b.options).Get(t.Context(), url+"/?token=secret", 10)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", test, err)
		}
	}
}

func TestConcurrency(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.options.Concurrent, b.options.Timeout = 16, 20*time.Second // two for each host
	var all, most atomic.Int64
	handler := func() http.HandlerFunc {
		var running atomic.Int64
		return func(http.ResponseWriter, *http.Request) {
			if n := running.Add(1); n > 2 {
				t.Errorf("%d calls to one host at a time", n)
			}
			n := all.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(50 * time.Millisecond)
			all.Add(-1)
			running.Add(-1)
		}
	}
	c := outbound.New(b.options)
	var wg sync.WaitGroup
	for range 12 {
		url := b.serve(t, handler()).URL
		for range 4 {
			wg.Go(func() {
				for range 3 { // whoever comes back waits for its turn too
					if _, err := c.Get(t.Context(), url, 10); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if n := most.Load(); n > 16 || n < 2 {
		t.Errorf("%d calls at a time", n)
	}
	if n := c.Hosts(); n != 0 {
		t.Errorf("%d hosts are remembered", n)
	}
}

// A host that never answers holds up itself, and whoever waits for it no longer than a call may take.
func TestConcurrency_SlowHost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.options.Concurrent, b.options.Timeout = 16, time.Second
	slow := b.serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	quick := b.serve(t, func(http.ResponseWriter, *http.Request) {})
	c := outbound.New(b.options)
	var wg sync.WaitGroup
	start := time.Now()
	for range 50 {
		wg.Go(func() {
			if _, err := c.Get(t.Context(), slow.URL, 10); !errors.Is(err, outbound.ErrTimeout) {
				t.Error(err)
			}
		})
	}
	for range 5 {
		if _, err := c.Get(t.Context(), quick.URL, 10); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if took := time.Since(start); took > 5*time.Second || slow.hits.Load() > 10 {
		t.Errorf("took %v, %d calls", took, slow.hits.Load())
	}
}

// The environment's proxy is for people; it would be asked to connect where the check of the address does not reach.
func TestNoProxy(t *testing.T) {
	b := setup(t)
	proxied := listen(t)
	var asked atomic.Int64
	accept(t, proxied, func(net.Conn) { asked.Add(1) })
	for _, variable := range []string{"HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"} {
		t.Setenv(variable, fmt.Sprintf("http://%s", proxied.Addr()))
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	s := b.serve(t, func(http.ResponseWriter, *http.Request) {})
	b.options.Resolver, _ = resolver(t, []string{"127.0.0.1"})
	if _, err := outbound.New(b.options).Get(t.Context(), "https://"+name+":"+s.port, 10); err != nil || asked.Load() != 0 {
		t.Errorf("%v; the proxy was asked %d times", err, asked.Load())
	}
}

// Some want to know who calls. Nobody else is shown the certificate.
func TestPostIdentified(t *testing.T) {
	t.Parallel()
	b, stranger := setup(t), setup(t)
	roots := x509.NewCertPool()
	roots.AddCert(b.ca)
	ours := b.certificate(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	var seen atomic.Int64
	asks := func(auth tls.ClientAuthType, version uint16) *server {
		config := &tls.Config{Certificates: []tls.Certificate{b.certificate(t, nil)}, ClientAuth: auth, ClientCAs: roots, MaxVersion: version}
		return b.serveTLS(t, config, func(_ http.ResponseWriter, r *http.Request) { seen.Store(int64(len(r.TLS.PeerCertificates))) })
	}
	b.options.Certificate = &ours
	c := outbound.New(b.options)
	anonymous := b.options
	anonymous.Certificate = nil
	unknown := b.options
	theirs := stranger.certificate(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	unknown.Certificate = &theirs
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		closed, open := asks(tls.RequireAndVerifyClientCert, version), asks(tls.RequestClientCert, version)
		if status, err := c.PostIdentified(t.Context(), closed.URL, "text/plain", []byte("x"), nil); status != 200 || err != nil || seen.Load() != 1 {
			t.Errorf("%x: %d %v, %d certificates", version, status, err, seen.Load())
		}
		if status, err := c.Post(t.Context(), open.URL, "text/plain", []byte("x"), nil); status != 200 || err != nil || seen.Load() != 0 {
			t.Errorf("%x: not asked for: %d %v, %d certificates", version, status, err, seen.Load())
		}
		if _, err := c.Get(t.Context(), open.URL, 10); err != nil || seen.Load() != 0 {
			t.Errorf("%x: get: %v, %d certificates", version, err, seen.Load())
		}
		hits := closed.hits.Load()
		if _, err := c.Post(t.Context(), closed.URL, "text/plain", nil, nil); !errors.Is(err, outbound.ErrTLS) {
			t.Errorf("%x: without the certificate: %v", version, err)
		}
		if _, err := outbound.New(unknown).PostIdentified(t.Context(), closed.URL, "text/plain", nil, nil); !errors.Is(err, outbound.ErrTLS) {
			t.Errorf("%x: with a stranger's: %v", version, err)
		}
		if _, err := outbound.New(anonymous).PostIdentified(t.Context(), closed.URL, "text/plain", nil, nil); !errors.Is(err, outbound.ErrNoCertificate) {
			t.Errorf("%x: with none: %v", version, err)
		}
		if closed.hits.Load() != hits {
			t.Errorf("%x: %d calls arrived", version, closed.hits.Load()-hits)
		}
	}
}
