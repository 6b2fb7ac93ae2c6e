package resource

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

// signing makes a service that verifies signatures and signs its answers.
func signing(change func(*Config)) func(*Config) {
	return func(c *Config) {
		c.RequestSignatures = fapi.Required
		c.ClientKeys = KnownKeys(map[string]*jose.JSONWebKeySet{"tpp": {Keys: []jose.JSONWebKey{{Key: tppKey.Public(), KeyID: "tpp-1"}}}})
		c.ResponseKey = &fapi.HTTPSigningKey{ID: "api-1", Signer: serviceKey}
		c.MaxSigned = 1000
		if change != nil {
			change(c)
		}
	}
}

var apiKeys = &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: serviceKey.Public(), KeyID: "api-1"}}}

// transfer is a request of the TPP to POST /accounts, as it signs it.
func (b *bundle) transfer(token, body string) *fapi.HTTPMessage {
	return &fapi.HTTPMessage{
		Method: "POST", TargetURI: api + "/accounts?x=1", Body: []byte(body),
		Header: http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}},
	}
}

func (b *bundle) signed(t testing.TB, m *fapi.HTTPMessage) *fapi.HTTPMessage {
	t.Helper()
	if err := fapi.SignRequest(m, fapi.HTTPSigningKey{ID: "tpp-1", Signer: tppKey}, b.clock.now()); err != nil {
		t.Fatal(err)
	}
	return m
}

// send sends a message to the service, and returns its answer as one that can be verified.
func (b *bundle) send(t testing.TB, m *fapi.HTTPMessage) (*http.Response, *fapi.HTTPMessage) {
	t.Helper()
	r := must(http.NewRequest(m.Method, b.service.URL+strings.TrimPrefix(m.TargetURI, api), bytes.NewReader(m.Body)))
	r.Header = m.Header.Clone()
	client := b.as(tppCert)
	defer client.CloseIdleConnections()
	response := must(client.Do(r))
	body := must(io.ReadAll(response.Body))
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, &fapi.HTTPMessage{Status: response.StatusCode, Request: m, Header: response.Header, Body: body}
}

func TestSignature_request(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	signing(nil)(&b.config)
	b.start(t)
	token := b.issue(nil)
	for _, c := range []struct {
		name   string
		token  string
		body   string
		change func(*fapi.HTTPMessage) // after it was signed
		status int
		code   fapi.Code
	}{
		{"§5.3.1.2: signed", token, `{"amount":1}`, func(*fapi.HTTPMessage) {}, 200, ""},
		{"§5.3.1.2: signed, without content", token, "", func(m *fapi.HTTPMessage) {}, 200, ""},
		{"§5.3.1.2-3: not signed", token, "{}", func(m *fapi.HTTPMessage) { m.Header.Del("Signature"); m.Header.Del("Signature-Input") }, 401, fapi.InvalidRequest},
		{"§5.3.1.2-3: another content", token, "{}", func(m *fapi.HTTPMessage) { m.Body = []byte("[]") }, 401, fapi.InvalidRequest},
		{"§5.3.1.2-3: another query", token, "{}", func(m *fapi.HTTPMessage) { m.TargetURI += "2" }, 401, fapi.InvalidRequest},
		{"§5.3.1.2-3: another method", token, "{}", func(m *fapi.HTTPMessage) { m.Method = "PUT" }, 401, fapi.InvalidRequest},
		{"§5.3.1.2-3: another token", token, "{}", func(m *fapi.HTTPMessage) { m.Header.Set("Authorization", "Bearer "+b.issue(nil)) }, 401, fapi.InvalidRequest},
		{"§5.3.1.2-1: another client's key", b.issue(m{"client_id": "other"}), "{}", func(m *fapi.HTTPMessage) {}, 401, fapi.InvalidRequest},
		{"a bad token is told first", "unknown", "{}", func(m *fapi.HTTPMessage) { m.Header.Del("Signature") }, 401, fapi.InvalidToken},
		{"content as long as it may be", token, strings.Repeat("x", 1000), func(m *fapi.HTTPMessage) {}, 200, ""},
		{"content that is longer", token, strings.Repeat("x", 1001), func(m *fapi.HTTPMessage) {}, 413, fapi.InvalidRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := b.signed(t, b.transfer(c.token, c.body))
			c.change(m)
			response, answer := b.send(t, m)
			if c.status == 200 && string(answer.Body) != c.body {
				t.Errorf("the handler read %q", answer.Body)
			}
			if (c.status == 401 && c.code == fapi.InvalidRequest) != strings.Contains(response.Header.Get("Accept-Signature"), `("@method" "@target-uri" "authorization"`) {
				t.Errorf("RFC 9421 §5.1: Accept-Signature %q", response.Header.Get("Accept-Signature"))
			}
			expect(t, response, c.status, c.code)
			covered, err := fapi.CheckResponseSignature(answer, apiKeys, b.clock.now())
			if err != nil {
				t.Fatalf("§5.3.2: the answer's signature: %v", err)
			}
			if c.status == 200 && !slices.Contains(covered.Covered, `"authorization";req`) {
				t.Errorf("RFC 9421 §7.3.7: covered %v", covered.Covered)
			}
		})
	}
	t.Run("§5.3.1.2-6: sent a minute and a second later", func(t *testing.T) {
		m := b.signed(t, b.transfer(token, "{}"))
		b.clock.advance(time.Minute + time.Second)
		response, _ := b.send(t, m)
		expect(t, response, 401, fapi.InvalidRequest)
	})
}

func TestSignature_DPoP(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	signing(nil)(&b.config)
	b.start(t)
	token := b.issue(m{"cnf": m{"jkt": jkt(tppKey)}, "token_type": "DPoP"})
	request := func() *fapi.HTTPMessage {
		return &fapi.HTTPMessage{Method: "GET", TargetURI: api + "/accounts", Header: http.Header{"Authorization": {"DPoP " + token}, "Dpop": {b.proof(token, nil, nil)}}}
	}
	signed := b.signed(t, request())
	response, _ := b.send(t, signed)
	expect(t, response, 200, "")
	response, _ = b.send(t, signed)
	expect(t, response, 401, fapi.InvalidDPoPProof) // the proof makes each signed request one of its own
	unsigned, proof := request(), request().Header
	b.signed(t, unsigned)
	unsigned.Header["Dpop"] = proof["Dpop"]
	response, _ = b.send(t, unsigned)
	expect(t, response, 401, fapi.InvalidRequest) // §5.3.1.2-7: a proof that the signature does not cover
}

func TestSignature_optional(t *testing.T) {
	t.Parallel()
	failing := func(context.Context, string) (*jose.JSONWebKeySet, error) { return nil, errors.New("down") }
	for _, c := range []struct {
		name   string
		config func(*Config)
		signed bool
		change func(*fapi.HTTPMessage)
		status int
		code   fapi.Code
	}{
		{"signed", nil, true, nil, 200, ""},
		{"not signed", nil, false, nil, 200, ""},
		{"signed badly", nil, true, func(m *fapi.HTTPMessage) { m.Header.Set("Authorization", m.Header.Get("Authorization")+"x") }, 401, fapi.InvalidToken},
		{"another content", nil, true, func(m *fapi.HTTPMessage) { m.Body = []byte("[]") }, 401, fapi.InvalidRequest},
		{"not signed, with a wrong digest", nil, false, func(m *fapi.HTTPMessage) {
			m.Header.Set("Content-Digest", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPA=:")
		}, 400, fapi.InvalidRequest},
		{"signatures are not looked at, but digests are", func(c *Config) { c.ClientKeys = nil }, true, func(m *fapi.HTTPMessage) { m.Body = []byte("[]") }, 400, fapi.InvalidRequest},
		{"signatures are not looked at", func(c *Config) { c.ClientKeys = nil }, true, func(m *fapi.HTTPMessage) { m.Header.Set("Signature", "x") }, 200, ""},
		{"the keys cannot be had", func(c *Config) { c.ClientKeys = failing }, true, nil, 503, fapi.TemporarilyUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBundle(t)
			signing(func(config *Config) {
				config.RequestSignatures = fapi.Optional
				if c.config != nil {
					c.config(config)
				}
			})(&b.config)
			b.start(t)
			m := b.transfer(b.issue(nil), "{}")
			if c.signed {
				b.signed(t, m)
			}
			if c.change != nil {
				c.change(m)
			}
			response, answer := b.send(t, m)
			expect(t, response, c.status, c.code)
			if _, err := fapi.CheckResponseSignature(answer, apiKeys, b.clock.now()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSignature_URLs(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	signing(func(c *Config) { c.URLs = []string{"https://mtls.bank.example/open", api} })(&b.config)
	b.start(t)
	m := b.signed(t, b.transfer(b.issue(nil), "{}"))
	response, answer := b.send(t, m)
	expect(t, response, 200, "")
	if _, err := fapi.CheckResponseSignature(answer, apiKeys, b.clock.now()); err != nil {
		t.Errorf("the answer is not tied to the URL that was called: %v", err)
	}
	r := httptest.NewRequest("GET", "/a%2Fb?q=é", nil)
	r.RequestURI, r.Host = "/a%2Fb?q=é", "api.bank.example"
	if got, want := b.guard.targetsOf(r)[0], api+"/a%2Fb?q=%C3%A9"; got != want {
		t.Errorf("target %q, want %q", got, want)
	}
}

func TestSignature_response(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	signing(nil)(&b.config)
	b.start(t)
	token := b.issue(nil)
	for _, c := range []struct {
		name    string
		method  string
		handler http.HandlerFunc
		status  int
		body    string
		covered bool // content-digest
	}{
		{"in pieces", "GET", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("a")); w.Write([]byte("b")) }, 200, "ab", true},
		{"nothing at all", "GET", func(http.ResponseWriter, *http.Request) {}, 200, "", false},
		{"§5.3.2.1-7: no content", "GET", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, 204, "", false},
		{"the first status is sent, and no 1xx", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(103)
			w.WriteHeader(201)
			w.WriteHeader(202)
		}, 201, "", false},
		{"HEAD has no content", "HEAD", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("a")) }, 200, "", false},
		{"a digest of the handler's own is replaced", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Digest", "sha-256=:AA==:")
			w.Write([]byte("a"))
		}, 200, "a", true},
		{"a handler that takes the request's headers away", "GET", func(w http.ResponseWriter, r *http.Request) { clear(r.Header) }, 200, "", false},
		{"content that is too long", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Account", "7")
			if _, err := fmt.Fprint(w, strings.Repeat("x", 1001)); err == nil {
				t.Error("the handler is not told")
			}
		}, 500, `{"error":"server_error"}`, false},
		{"what cannot be flushed", "GET", func(w http.ResponseWriter, r *http.Request) {
			if http.NewResponseController(w).Flush() == nil {
				t.Error("flushed before it was signed")
			}
		}, 200, "", false},
		{"the evidence is there", "GET", func(w http.ResponseWriter, r *http.Request) {
			if s := SignatureFrom(r.Context()); s == nil || s.KeyID != "tpp-1" || !bytes.Contains(s.Base, []byte(api+"/accounts?x=1")) {
				t.Errorf("%+v", s)
			}
		}, 200, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := b.transfer(token, "")
			m.Method = c.method
			b.signed(t, m)
			r := httptest.NewRequest(c.method, "/accounts?x=1", nil)
			r.Header = m.Header.Clone()
			r.TLS = tlsOf(tppCert)
			w := httptest.NewRecorder()
			b.guard.Require(Need{}, c.handler).ServeHTTP(w, r)
			response := w.Result()
			if w.Code != c.status || w.Body.String() != c.body || !isUUID(response.Header.Get(interactionHeader)) {
				t.Fatalf("%d %q %v", w.Code, w.Body, response.Header)
			}
			if c.status == 500 {
				if response.Header.Get("Signature") != "" || response.Header.Get("Account") != "" {
					t.Errorf("headers %v", response.Header)
				}
				return
			}
			got, err := fapi.CheckResponseSignature(&fapi.HTTPMessage{Status: w.Code, Request: m, Header: response.Header, Body: w.Body.Bytes()}, apiKeys, b.clock.now())
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(got.Covered, `"content-digest"`) != c.covered || (response.Header.Get("Content-Digest") != "") != c.covered {
				t.Errorf("covered %v, Content-Digest %q", got.Covered, response.Header.Get("Content-Digest"))
			}
		})
	}
}

func TestSignature_config(t *testing.T) {
	t.Parallel()
	for _, change := range []func(*Config){
		func(c *Config) { c.ClientKeys = nil },
		func(c *Config) { c.RequestSignatures = fapi.ForPublic },
		func(c *Config) { c.ResponseKey = &fapi.HTTPSigningKey{ID: rand.Text()} },
		func(c *Config) { c.MaxSigned = -1 },
	} {
		b := newBundle(t)
		signing(change)(&b.config)
		if _, err := New(t.Context(), b.config); err == nil {
			t.Errorf("accepted: %+v", b.config)
		}
	}
}

func tlsOf(cert *tls.Certificate) *tls.ConnectionState {
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}
}
