package resource

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

func TestCache(t *testing.T) {
	t.Parallel()
	t.Run("A18: a revocation shows after CacheFor", func(t *testing.T) {
		t.Parallel()
		b := setup(t, nil)
		token := b.issue(nil)
		expect(t, b.get(t, token), 200, "")
		b.set(func() { delete(b.tokens, token) })
		expect(t, b.get(t, token), 200, "")
		if b.count() != 1 {
			t.Errorf("asked %d times", b.count())
		}
		b.clock.advance(b.config.CacheFor)
		expect(t, b.get(t, token), 401, fapi.InvalidToken)
	})
	t.Run("A18: without a cache a revocation shows at once", func(t *testing.T) {
		t.Parallel()
		b := setup(t, func(c *Config) { c.CacheFor = 0 })
		token := b.issue(nil)
		expect(t, b.get(t, token), 200, "")
		b.set(func() { delete(b.tokens, token) })
		expect(t, b.get(t, token), 401, fapi.InvalidToken)
	})
	t.Run("A16: nothing is remembered longer than the token lives", func(t *testing.T) {
		t.Parallel()
		b := setup(t, nil)
		token := b.issue(m{"exp": b.clock.at(3 * time.Second)})
		expect(t, b.get(t, token), 200, "")
		b.set(func() { delete(b.tokens, token) })
		b.clock.advance(3 * time.Second)
		expect(t, b.get(t, token), 401, fapi.InvalidToken)
	})
	t.Run("B4: a consent that ends is noticed at once", func(t *testing.T) {
		t.Parallel()
		b := setup(t, nil)
		token := b.issue(m{"consent_expires_at": b.clock.date(3 * time.Second)})
		expect(t, b.get(t, token), 200, "")
		b.clock.advance(3 * time.Second)
		expect(t, b.get(t, token), 401, fapi.InvalidToken)
	})
	t.Run("a token that was refused is looked at again after a second", func(t *testing.T) {
		t.Parallel()
		b := setup(t, nil)
		token := b.issue(nil)
		claims := b.tokens[token]
		b.set(func() { delete(b.tokens, token) })
		expect(t, b.get(t, token), 401, fapi.InvalidToken)
		b.set(func() { b.tokens[token] = claims })
		expect(t, b.get(t, token), 401, fapi.InvalidToken)
		if b.count() != 1 {
			t.Errorf("asked %d times", b.count())
		}
		b.clock.advance(badFor)
		expect(t, b.get(t, token), 200, "")
	})
	t.Run("RFC 8705 §3: who asked first does not matter", func(t *testing.T) {
		t.Parallel()
		b := setup(t, nil)
		token := b.issue(nil)
		with := http.Header{"Authorization": {"Bearer " + token}}
		expect(t, b.call(t, otherCert, "GET", "/accounts", with), 401, fapi.InvalidToken)
		expect(t, b.call(t, tppCert, "GET", "/accounts", with), 200, "")
		expect(t, b.call(t, otherCert, "GET", "/accounts", with), 401, fapi.InvalidToken)
		expect(t, b.call(t, nil, "GET", "/accounts", with), 401, fapi.InvalidToken)
		if b.count() != 1 {
			t.Errorf("asked %d times", b.count())
		}
	})
	t.Run("50 calls at once with one token ask once", func(t *testing.T) {
		t.Parallel()
		b := setup(t, nil)
		token := b.issue(nil)
		client := b.as(tppCert)
		client.Transport.(*http.Transport).MaxConnsPerHost = 25
		var good atomic.Int32
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				r := must(http.NewRequest("GET", b.service.URL+"/accounts", nil))
				r.Header.Set("Authorization", "Bearer "+token)
				if response := must(client.Do(r)); response.StatusCode == 200 {
					response.Body.Close()
					good.Add(1)
				}
			})
		}
		all.Wait()
		if good.Load() != 50 || b.count() != 1 {
			t.Errorf("%d good, asked %d times", good.Load(), b.count())
		}
	})
	t.Run("who came first may leave", func(t *testing.T) {
		t.Parallel()
		b := newBundle(t)
		arrived, goOn := make(chan struct{}), make(chan struct{})
		claims := b.claims(nil)
		b.answer = func(w http.ResponseWriter, _ *http.Request) { close(arrived); <-goOn; writeJSON(w, claims) }
		b.start(t)
		ctx, leave := context.WithCancel(t.Context())
		first, second := make(chan error), make(chan error)
		go func() { _, err := b.guard.principal(ctx, "token"); first <- err }()
		<-arrived
		go func() { _, err := b.guard.principal(t.Context(), "token"); second <- err }()
		leave()
		if err := <-first; err == nil {
			t.Error("the call that was given up got an answer")
		}
		close(goOn)
		if err := <-second; err != nil {
			t.Error(err)
		}
	})
	t.Run("it is bounded, and bad tokens do not drive out good ones", func(t *testing.T) {
		t.Parallel()
		b := setup(t, func(c *Config) { c.CacheSize = 10 })
		token := b.issue(nil)
		expect(t, b.get(t, token), 200, "")
		for range 30 {
			b.guard.principal(t.Context(), rand.Text())
		}
		asked := b.count()
		expect(t, b.get(t, token), 200, "")
		for range 30 {
			must(b.guard.principal(t.Context(), b.issue(nil)))
		}
		if b.count() != asked+30 || len(b.guard.good.entries) != 10 || len(b.guard.bad.entries) != 10 {
			t.Errorf("%d good and %d bad tokens are remembered", len(b.guard.good.entries), len(b.guard.bad.entries))
		}
		b.clock.advance(time.Minute)
		must(b.guard.principal(t.Context(), b.issue(m{"exp": b.clock.at(time.Hour), "consent_expires_at": nil})))
		if n := len(b.guard.good.entries); n > 10-looks+1 {
			t.Errorf("%d tokens are remembered, though all but one expired", n)
		}
	})
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	known, token, jwt := b.issue(nil), b.issue(nil), b.sign(nil, nil)
	expect(t, b.get(t, known), 200, "")
	b.double.Close()
	expect(t, b.get(t, token), 503, fapi.TemporarilyUnavailable)
	expect(t, b.get(t, jwt), 503, fapi.TemporarilyUnavailable)
	expect(t, b.get(t, known), 200, "")
	b.clock.advance(b.config.CacheFor)
	expect(t, b.get(t, known), 503, fapi.TemporarilyUnavailable) // fail closed: no answer is older than CacheFor
}

func TestChannel(t *testing.T) { // F3
	t.Parallel()
	var open atomic.Bool
	b := setup(t, func(c *Config) { c.Open = open.Load })
	token := b.issue(nil)
	expect(t, b.get(t, token), 503, fapi.TemporarilyUnavailable)
	open.Store(true)
	expect(t, b.get(t, token), 200, "")
	b.guard.Close()
	expect(t, b.get(t, token), 503, fapi.TemporarilyUnavailable)
}

func TestInteraction(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	token := b.issue(nil)
	const id = "f81d4fae-7dec-11d0-A765-00a0c91e6bf6"
	for _, test := range []struct {
		name   string
		sent   []string
		want   string
		status int
	}{
		{"FAPI 1.0 Baseline §6.2.1: plays it back", []string{id}, id, 200},
		{"FAPI 1.0 Baseline §6.2.1: makes one", nil, "", 200},
		{"RFC 4122 §3: refuses what is no UUID", []string{"1"}, "", 400},
		{"RFC 4122 §3: refuses braces", []string{"{" + id[1:35] + "}"}, "", 400},
		{"RFC 4122 §3: refuses other letters", []string{"g" + id[1:]}, "", 400},
		{"refuses an empty one", []string{""}, "", 400},
		{"refuses two", []string{id, id}, "", 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := b.call(t, tppCert, "GET", "/accounts", http.Header{"Authorization": {"Bearer " + token}, interactionHeader: test.sent})
			got := r.Header.Get(interactionHeader)
			if test.want != "" && got != test.want || test.want == "" && (got == id || got[14] != '4') {
				t.Errorf("got %s", got)
			}
			if seen := r.Header.Get("Seen-Interaction-Id"); test.status == 200 && seen != got {
				t.Errorf("the handler saw %q", seen)
			}
			expect(t, r, test.status, fapi.InvalidRequest)
		})
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	for _, test := range []struct {
		name   string
		change func(*bundle)
		want   []string // "" is no error
	}{
		{"takes a good configuration", func(*bundle) {}, []string{""}},
		{"needs no introspection", func(b *bundle) { b.config.ClientID, b.config.Authentication = "", Authentication{} }, []string{""}},
		{"takes a transport", func(b *bundle) { b.config.Transport = &http.Transport{} }, []string{""}},
		{"reports all that is wrong", func(b *bundle) {
			b.config = Config{
				Issuer: "http://bank.example", Audience: "accounts", ClientID: "x", AlwaysIntrospect: true, CacheFor: time.Hour,
				Algorithms: []jose.SignatureAlgorithm{jose.HS256}, DPoPNonceKey: []byte("short"),
			}
		}, []string{"Issuer", "Audience", "URLs", "ClientID", "AlwaysIntrospect", "CacheFor", "HS256", "DPoPNonceKey"}},
		{"refuses an alg that the key has not", func(b *bundle) { b.config.Authentication = PrivateKeyJWT(p384, "", jose.ES256) }, []string{"Authentication"}},
		{"FAPI 2.0 §5.4.1: refuses RS256", func(b *bundle) { b.config.Authentication = PrivateKeyJWT(rsaKey(), "", jose.RS256) }, []string{"RS256"}},
		{"refuses no key", func(b *bundle) { b.config.Authentication = PrivateKeyJWT(nil, "", jose.ES256) }, []string{"needs a key"}},
		{"refuses no certificate", func(b *bundle) { b.config.Authentication = Certificate(tls.Certificate{}) }, []string{"certificate"}},
		{"RFC 8414 §3.3: refuses another issuer", func(b *bundle) { b.metadata["issuer"] = "https://evil.example" }, []string{"another issuer"}},
		{"refuses http", func(b *bundle) { b.metadata["introspection_endpoint"] = "http://bank.example" }, []string{"introspection_endpoint"}},
		{"refuses a jwks_uri with http", func(b *bundle) { b.metadata["jwks_uri"] = "http://bank.example" }, []string{"jwks_uri"}},
		{"refuses a server that it does not trust", func(b *bundle) { b.config.RootCAs = nil }, []string{"certificate"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBundle(t)
			test.change(b)
			guard, err := New(t.Context(), b.config)
			if test.want[0] == "" {
				if err != nil || guard == nil {
					t.Fatal(err)
				}
				return
			}
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not tell about %s", err, want)
				}
			}
		})
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/.well-known/oauth-authorization-server/bank/one", "/bank/one/.well-known/openid-configuration"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			b := newBundle(t)
			b.config.Issuer += "/bank/one"
			b.metadata["issuer"] = b.config.Issuer
			b.double.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != path {
					http.NotFound(w, r)
					return
				}
				writeJSON(w, b.metadata)
			})
			if _, err := New(t.Context(), b.config); err != nil {
				t.Error(err)
			}
		})
	}
}

func BenchmarkRequire(b *testing.B) {
	s := setup(b, func(c *Config) { c.CacheFor = maxCacheFor })
	ok := s.guard.Require(Need{Scopes: []string{"accounts"}, Permissions: []string{"ReadAccountsBasic"}}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	opaque := s.issue(nil)
	opaque += strings.Repeat("x", 600) // as long as a sealed one
	s.set(func() { s.tokens[opaque] = s.claims(m{"exp": s.clock.at(time.Hour)}) })
	jwt := s.sign(nil, m{"exp": s.clock.at(time.Hour)})
	for _, test := range []struct {
		name, token string
		uncached    bool
	}{{"opaque, cached", opaque, false}, {"JWT, cached", jwt, false}, {"JWT, verified", jwt, true}} {
		b.Run(test.name, func(b *testing.B) {
			s.guard.config.CacheFor = maxCacheFor
			if test.uncached {
				s.guard.config.CacheFor = 0
			}
			r := httptest.NewRequest("GET", "/accounts", nil)
			r.Header.Set("Authorization", "Bearer "+test.token)
			r.Header.Set(interactionHeader, tokenID)
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{tppCert.Leaf}}
			w := httptest.NewRecorder()
			ok.ServeHTTP(w, r)
			b.ReportAllocs()
			for b.Loop() {
				ok.ServeHTTP(w, r)
			}
			if w.Code != 200 {
				b.Fatal(w.Code, w.Header())
			}
		})
	}
}
