package fapi

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// transfer is a request as a client signs it.
func transfer() *HTTPMessage {
	return &HTTPMessage{
		Method: "POST", TargetURI: "https://api.bank.example/payments?x=1", Body: []byte(`{"amount":1}`),
		Header: http.Header{"Authorization": {"DPoP token"}, "Dpop": {"proof"}, "Content-Type": {"application/json"}},
	}
}

func httpKeys() *jose.JSONWebKeySet { return tpp(FAPI2).JWKS }

func httpKey() HTTPSigningKey { return HTTPSigningKey{ID: "ec", Signer: ecKey()} }

func sign(t *testing.T, m *HTTPMessage, input string) {
	t.Helper()
	members := must(parseDictionary([]string{"sig=" + input}))
	key := httpKey()
	base, err := m.signatureBase(&members[0].fieldItem)
	if err != nil {
		base = nil // what is asked for cannot be had: any signature will do
	}
	m.Header.Set("Signature-Input", "sig="+input)
	m.Header.Set("Signature", "sig="+writeBare(must(key.sign(base))))
}

const (
	allCovered = `"@method" "@target-uri" "authorization" "dpop" "content-digest"`
	allParams  = `;created=1772366400;keyid="ec";tag="fapi-2-request"` // now
)

func TestHTTPSignature_Request(t *testing.T) {
	t.Parallel()
	swap := strings.Replace
	at := func(d time.Duration) string { return strconv.FormatInt(now.Add(d).Unix(), 10) }
	for _, c := range []struct {
		name       string
		components string
		params     string
		before     func(*HTTPMessage) // it is signed
		change     func(*HTTPMessage)
		want       string // of the refusal; "": accepted
	}{
		{name: "all that it must cover", components: allCovered, params: allParams},
		{name: "in another order, and more", components: `"content-type" "dpop" "content-digest" "authorization" "@target-uri" "@method" "@authority" "@scheme" "@path" "@query" "@request-target" "content-digest";key="sha-256"`, params: allParams},
		{name: "§5.3.1.2-5: without @method", components: swap(allCovered, `"@method" `, "", 1), params: allParams, want: "does not cover"},
		{name: "§5.3.1.2-5: without @target-uri", components: swap(allCovered, "@target-uri", "@authority", 1), params: allParams, want: "does not cover"},
		{name: "§5.3.1.2-5: without Authorization", components: swap(allCovered, `"authorization" `, "", 1), params: allParams, want: "does not cover"},
		{name: "§5.3.1.2-7: without DPoP", components: swap(allCovered, `"dpop" `, "", 1), params: allParams, want: "does not cover"},
		{name: "§5.3.1.2-8: without Content-Digest", components: swap(allCovered, ` "content-digest"`, "", 1), params: allParams, want: "does not cover"},
		{name: "a member of Content-Digest is not all of it", components: swap(allCovered, `"content-digest"`, `"content-digest";key="sha-256"`, 1), params: allParams, want: "does not cover"},
		{name: "without DPoP, where there is none", components: swap(allCovered, `"dpop" `, "", 1), params: allParams, before: func(m *HTTPMessage) { m.Header.Del("DPoP") }},
		{name: "§5.3.1.2-4: another tag", components: allCovered, params: swap(allParams, "fapi-2-request", "fapi-2-response", 1), want: "with the tag"},
		{name: "§5.3.1.2-4: no tag", components: allCovered, params: swap(allParams, `;tag="fapi-2-request"`, "", 1), want: "with the tag"},
		{name: "a tag that is no string", components: allCovered, params: swap(allParams, `"fapi-2-request"`, "fapi-2-request", 1), want: "with the tag"},
		{name: "§5.3.1.2-6: no created", components: allCovered, params: `;keyid="ec";tag="fapi-2-request"`, want: "time of creation"},
		{name: "§5.3.1.2-6: a minute ago", components: allCovered, params: swap(allParams, "1772366400", at(-time.Minute), 1)},
		{name: "§5.3.1.2-6: older", components: allCovered, params: swap(allParams, "1772366400", at(-time.Minute-time.Second), 1), want: "just now"},
		{name: "a clock that is ahead", components: allCovered, params: swap(allParams, "1772366400", at(Skew), 1)},
		{name: "in the future", components: allCovered, params: swap(allParams, "1772366400", at(Skew+time.Second), 1), want: "just now"},
		{name: "created is no integer", components: allCovered, params: swap(allParams, "1772366400", "1772366400.5", 1), want: "of their types"},
		{name: "created twice", components: allCovered, params: allParams + ";created=1", want: "cannot be read"},
		{name: "not expired", components: allCovered, params: allParams + ";expires=" + at(time.Second)},
		{name: "RFC 9421 §2.3: expired", components: allCovered, params: allParams + ";expires=" + at(0), want: "has expired"},
		{name: "expires is 0", components: allCovered, params: allParams + ";expires=0", want: "has expired"},
		{name: "no keyid", components: allCovered, params: `;created=1772366400;tag="fapi-2-request"`, want: "keyid"},
		{name: "§5.3.1.2-1: an unknown keyid", components: allCovered, params: swap(allParams, `"ec"`, `"other"`, 1), want: "not valid"},
		{name: "another key of the client", components: allCovered, params: swap(allParams, `"ec"`, `"ed"`, 1), want: "not valid"},
		{name: "the alg of the key", components: allCovered, params: allParams + `;alg="ecdsa-p256-sha256"`},
		{name: "RFC 9421 §3.2-6: another alg", components: allCovered, params: allParams + `;alg="ed25519"`, want: "not valid"},
		{name: "RFC 9421 §3.3.7: a JWS alg", components: allCovered, params: allParams + `;alg="ES256"`, want: "not valid"},
		{name: "an unknown parameter", components: allCovered, params: allParams + `;x=1`},
		{name: "a nonce", components: allCovered, params: allParams + `;nonce="n"`},
		{name: "a nonce that is no string", components: allCovered, params: allParams + `;nonce=1`, want: "of their types"},
		{name: "RFC 9421 §2.5: covered twice", components: allCovered + ` "dpop"`, params: allParams, want: "cannot be had"},
		{name: "a field that is not there", components: allCovered + ` "x"`, params: allParams, want: "cannot be had"},
		{name: "a field in capitals", components: allCovered + ` "Content-Type"`, params: allParams, want: "cannot be had"},
		{name: "an unknown derived component", components: allCovered + ` "@x"`, params: allParams, want: "cannot be had"},
		{name: "RFC 9421 §2.3: @signature-params", components: allCovered + ` "@signature-params"`, params: allParams, want: "cannot be had"},
		{name: "RFC 9421 §2.2.9: @status of a request", components: allCovered + ` "@status"`, params: allParams, want: "cannot be had"},
		{name: "RFC 9421 §2.4: req in a request", components: allCovered + ` "@method";req`, params: allParams, want: "cannot be had"},
		{name: "RFC 9421 §2.1: tr", components: allCovered + ` "content-type";tr`, params: allParams, want: "cannot be had"},
		{name: "a component that is a token", components: allCovered + ` x`, params: allParams, want: "cannot be had"},
		{name: "RFC 9421 §2.2.8: a query parameter that is not there", components: allCovered + ` "@query-param";name="y"`, params: allParams, want: "cannot be had"},
		{name: "another method", components: allCovered, params: allParams, change: func(m *HTTPMessage) { m.Method = "PUT" }, want: "not valid"},
		{name: "another target", components: allCovered, params: allParams, change: func(m *HTTPMessage) { m.TargetURI += "1" }, want: "not valid"},
		{name: "another token", components: allCovered, params: allParams, change: func(m *HTTPMessage) { m.Header.Set("Authorization", "DPoP other") }, want: "not valid"},
		{name: "another proof", components: allCovered, params: allParams, change: func(m *HTTPMessage) { m.Header.Set("DPoP", "other") }, want: "not valid"},
		{name: "another content", components: allCovered, params: allParams, change: func(m *HTTPMessage) { m.Body = []byte(`{"amount":9}`) }, want: "Content-Digest"},
		{name: "another content, with its digest", components: allCovered, params: allParams, change: func(m *HTTPMessage) {
			m.Body = []byte(`{"amount":9}`)
			m.Header.Set("Content-Digest", contentDigest(m.Body))
		}, want: "not valid"},
		{name: "no content", components: allCovered, params: allParams, change: func(m *HTTPMessage) { m.Body = nil }, want: "Content-Digest"},
		{name: "no Signature", components: allCovered, params: allParams, change: func(m *HTTPMessage) { m.Header.Del("Signature") }, want: "no value"},
		{name: "no Signature-Input", components: allCovered, params: allParams, change: func(m *HTTPMessage) { m.Header.Del("Signature-Input") }, want: "with the tag"},
		{name: "a Signature with another label", components: allCovered, params: allParams, change: func(m *HTTPMessage) {
			m.Header.Set("Signature", "x"+m.Header.Get("Signature"))
		}, want: "no value"},
		{name: "a Signature that is a string", components: allCovered, params: allParams, change: func(m *HTTPMessage) { m.Header.Set("Signature", `sig="x"`) }, want: "no value"},
		{name: "an empty Signature", components: allCovered, params: allParams, change: func(m *HTTPMessage) { m.Header.Set("Signature", `sig=::`) }, want: "not valid"},
		{name: "a Signature in ASN.1", components: allCovered, params: allParams, change: func(m *HTTPMessage) {
			m.Header.Set("Signature", "sig="+writeBare(must(ecKey().Sign(rand.Reader, make([]byte, 32), crypto.SHA256))))
		}, want: "not valid"},
		{name: "a Signature with a zero in its middle", components: allCovered, params: allParams, change: func(m *HTTPMessage) {
			value := must(parseDictionary(m.Header["Signature"]))[0].value.([]byte)
			m.Header.Set("Signature", "sig="+writeBare(slices.Insert(value, 32, 0)))
		}, want: "not valid"},
		{name: "a field whose value has two lines", components: allCovered + ` "x"`, params: allParams, change: func(m *HTTPMessage) {
			m.Header["X"] = []string{"1\n\"y\": 2"}
		}, want: "cannot be had"},
		{name: "a field whose value is not ASCII", components: allCovered + ` "x"`, params: allParams, change: func(m *HTTPMessage) {
			m.Header["X"] = []string{"\xe9"}
		}, want: "cannot be had"},
		{name: "somebody else's signature beside", components: allCovered, params: allParams, change: func(m *HTTPMessage) {
			m.Header.Add("Signature-Input", `gateway=("@x");tag="other"`)
			m.Header.Add("Signature", `gateway=:AA==:`)
		}},
		{name: "two for this purpose", components: allCovered, params: allParams, change: func(m *HTTPMessage) {
			m.Header.Add("Signature-Input", `more=();tag="fapi-2-request"`)
		}, want: "more than one"},
		{name: "a label twice", components: allCovered, params: allParams, change: func(m *HTTPMessage) {
			m.Header.Add("Signature-Input", m.Header.Get("Signature-Input"))
		}, want: "cannot be read"},
		{name: "a Signature-Input that is no dictionary", components: allCovered, params: allParams, change: func(m *HTTPMessage) { m.Header.Set("Signature-Input", "(") }, want: "cannot be read"},
		{name: "a Signature that is no dictionary", components: allCovered, params: allParams, change: func(m *HTTPMessage) { m.Header.Set("Signature", ":") }, want: "cannot be read"},
		{name: "one that is too long", components: allCovered, params: allParams, change: func(m *HTTPMessage) {
			m.Header.Add("Signature-Input", `x="`+strings.Repeat("x", maxField)+`"`)
		}, want: "cannot be read"},
		{name: "no list", components: allCovered, params: allParams, change: func(m *HTTPMessage) {
			m.Header.Set("Signature-Input", `sig=1`+allParams)
		}, want: "of their types"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := transfer()
			if c.before != nil {
				c.before(m)
			}
			m.Header.Set("Content-Digest", contentDigest(m.Body))
			if input, err := parseDictionary([]string{"sig=(" + c.components + ")" + c.params}); err == nil && len(input) == 1 {
				sign(t, m, "("+c.components+")"+c.params)
			} else {
				m.Header.Set("Signature-Input", "sig=("+c.components+")"+c.params)
			}
			if c.change != nil {
				c.change(m)
			}
			got, err := CheckRequestSignature(m, httpKeys(), now)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got.KeyID != "ec" || got.Label != "sig" || len(got.Base) == 0 || len(got.Value) != 64 || !slices.Contains(got.Covered, `"@method"`) {
					t.Errorf("%+v", got)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if refused := AsError(err); refused.Status != 401 || refused.Code != InvalidRequest || got != nil {
				t.Errorf("§5.3.1.2-3: %d %s %v", refused.Status, refused.Code, got)
			}
		})
	}
	t.Run("without any signature", func(t *testing.T) {
		t.Parallel()
		if _, err := CheckRequestSignature(transfer(), httpKeys(), now); !errors.Is(err, ErrNotSigned) {
			t.Error(err)
		}
	})
}

func TestHTTPSignature_Algorithms(t *testing.T) {
	t.Parallel()
	named := func(alg string) *jose.JSONWebKeySet {
		return &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: rsaKey().Public(), KeyID: "k", Algorithm: alg}}}
	}
	pss := func(hash crypto.Hash) func([]byte) []byte {
		return func(base []byte) []byte {
			h := hash.New()
			h.Write(base)
			return must(rsaKey().Sign(rand.Reader, h.Sum(nil), &rsa.PSSOptions{SaltLength: hash.Size(), Hash: hash}))
		}
	}
	pkcs := func(base []byte) []byte {
		h := crypto.SHA256.New()
		h.Write(base)
		return must(rsaKey().Sign(rand.Reader, h.Sum(nil), crypto.SHA256))
	}
	for _, c := range []struct {
		name string
		keys *jose.JSONWebKeySet
		alg  string
		sign func([]byte) []byte
		ok   bool
	}{
		{"PS256 by the key (RFC 9421 §3.3.7)", named("PS256"), "", pss(crypto.SHA256), true},
		{"PS512 by the key", named("PS512"), "rsa-pss-sha512", pss(crypto.SHA512), true},
		{"a key that says nothing: PS256", named(""), "", pss(crypto.SHA256), true},
		{"a key that says nothing: rsa-pss-sha512", named(""), "", pss(crypto.SHA512), true},
		{"rsa-pss-sha512 by the parameter", named(""), "rsa-pss-sha512", pss(crypto.SHA512), true},
		{"the parameter says rsa-pss-sha512, it is PS256", named(""), "rsa-pss-sha512", pss(crypto.SHA256), false},
		{"RFC 9421 §3.2-6.4: key and parameter disagree", named("PS256"), "rsa-pss-sha512", pss(crypto.SHA512), false},
		{"FAPI 2.0 §5.4.1: PKCS #1 v1.5", named("RS256"), "", pkcs, false},
		{"FAPI 2.0 §5.4.1: rsa-v1_5-sha256", named(""), "rsa-v1_5-sha256", pkcs, false},
		{"a key for encryption", &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: rsaKey().Public(), KeyID: "k", Use: "enc"}}}, "", pss(crypto.SHA256), false},
		{"a shared secret", &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: []byte("secret"), KeyID: "k"}}}, "hmac-sha256", pkcs, false},
		{"P-384", &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p384Key().Public(), KeyID: "k"}}}, "", pkcs, false},
		{"one of two keys of that kid", &jose.JSONWebKeySet{Keys: append(named("").Keys, jose.JSONWebKey{Key: ecKey().Public(), KeyID: "k"})}, "", pss(crypto.SHA256), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := verifyHTTP(c.keys, "k", c.alg, []byte("base"), c.sign([]byte("base"))); (err == nil) != c.ok {
				t.Error(err)
			}
		})
	}
}

func TestHTTPSignature_Sign(t *testing.T) {
	t.Parallel()
	for kid, signer := range map[string]crypto.Signer{"ec": ecKey(), "ed": edKey(), "rsa": rsaKey()} {
		t.Run(kid, func(t *testing.T) {
			t.Parallel()
			key := HTTPSigningKey{ID: kid, Signer: signer}
			must(0, key.Check())
			request := transfer()
			must(0, SignRequest(request, key, now))
			asked := must(CheckRequestSignature(request, httpKeys(), now))
			response := &HTTPMessage{Status: 201, Request: request, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte("{}")}
			must(0, SignResponse(response, asked, key, now))
			got := must(CheckResponseSignature(response, httpKeys(), now))
			for _, name := range []string{`"@status"`, `"content-digest"`, `"@method";req`, `"@target-uri";req`, `"content-digest";req`, `"signature-input";req`, `"signature";req`, `"authorization";req`, `"dpop";req`} {
				if !slices.Contains(got.Covered, name) {
					t.Errorf("§5.3.2.1: %s is not covered: %v", name, got.Covered)
				}
			}
			for name, change := range map[string]func(m *HTTPMessage){
				"another status":       func(m *HTTPMessage) { m.Status = 200 },
				"another content":      func(m *HTTPMessage) { m.Body = []byte("[]") },
				"another method":       func(m *HTTPMessage) { m.Request.Method = "PUT" },
				"another target":       func(m *HTTPMessage) { m.Request.TargetURI += "2" },
				"another request":      func(m *HTTPMessage) { m.Request.Header.Set("Signature", "sig=:AA==:") },
				"another request body": func(m *HTTPMessage) { m.Request.Header.Set("Content-Digest", contentDigest(nil)) },
				"the request's tag": func(m *HTTPMessage) {
					m.Header["Signature-Input"] = []string{strings.Replace(m.Header.Get("Signature-Input"), "response", "request", 1)}
				},
				"no content digest": func(m *HTTPMessage) { m.Header.Del("Content-Digest") },
			} {
				changed, of := *response, *request
				changed.Request, changed.Header, of.Header = &of, response.Header.Clone(), request.Header.Clone()
				change(&changed)
				if _, err := CheckResponseSignature(&changed, httpKeys(), now); err == nil {
					t.Errorf("%s: accepted", name)
				}
			}
		})
	}
	t.Run("a response to a request without signature and content", func(t *testing.T) {
		t.Parallel()
		m := &HTTPMessage{Status: 204, Header: http.Header{}, Request: &HTTPMessage{Method: "GET", TargetURI: "https://api.bank.example/", Header: http.Header{}}}
		must(0, SignResponse(m, nil, httpKey(), now))
		if got := must(CheckResponseSignature(m, httpKeys(), now)); m.Header.Get("Content-Digest") != "" || len(got.Covered) != 3 {
			t.Errorf("%v %v", got.Covered, m.Header)
		}
	})
	t.Run("keys that cannot sign", func(t *testing.T) {
		t.Parallel()
		for _, key := range []HTTPSigningKey{{Signer: ecKey()}, {ID: "k"}, {ID: "k\n", Signer: ecKey()}, {ID: "k", Signer: p384Key()}} {
			if key.Check() == nil {
				t.Errorf("%+v is accepted", key)
			}
		}
	})
	t.Run("what is asked for can be given", func(t *testing.T) {
		t.Parallel()
		m := transfer()
		wanted := must(parseDictionary([]string{AcceptSignature(m)}))[0]
		must(0, SignRequest(m, httpKey(), now))
		got := must(CheckRequestSignature(m, httpKeys(), now))
		for _, name := range wanted.value.([]fieldItem) {
			if !slices.Contains(got.Covered, name.String()) {
				t.Errorf("%s is not covered", name.String())
			}
		}
	})
}

func TestHTTPSignature_fields(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{ // RFC 8941; "": refused
		{`a`, `a=?1`}, {`a;x`, `a=?1;x`}, {`a;x=?1`, `a=?1;x`}, {`a=?0`, `a=?0`}, {`a=?2`, ``}, {`a=?`, ``},
		{`a=1`, `a=1`}, {`a=-0`, `a=0`}, {`a=007`, `a=7`}, {`a=999999999999999`, `a=999999999999999`}, {`a=1000000000000000`, ``}, {`a=-`, ``}, {`a=+1`, ``},
		{`a=1.50`, `a=1.5`}, {`a=-00.0`, `a=-0.0`}, {`a=1.`, ``}, {`a=1.2345`, ``}, {`a=1234567890123.1`, ``},
		{`a="x\"\\"`, `a="x\"\\"`}, {`a="x`, ``}, {`a="\x"`, ``}, {"a=\"\n\"", ``}, {"a=\"\xe9\"", ``}, {`a="\`, ``},
		{`a=tok/en:*`, `a=tok/en:*`}, {`a=*x`, `a=*x`}, {`a=:aGk=:`, `a=:aGk=:`}, {`a=:aGk:`, ``}, {`a=:aGk=`, ``}, {"a=:aG\nk=:", ``}, {`a=:*:`, ``}, {`a=::`, `a=::`},
		{`a=()`, `a=()`}, {`a=(  "x"   1;y  );z=2`, `a=("x" 1;y);z=2`}, {`a=("x"1)`, ``}, {`a=("x"`, ``}, {`a=(("x"))`, ``}, {`a=(`, ``},
		{`a=1,b=2`, `a=1, b=2`}, {"a=1 \t,\t b=2", `a=1, b=2`}, {`a=1,`, ``}, {`,`, ``}, {`a=1 b=2`, ``}, {`a=1, a=2`, ``}, {`a;x=1;x=2`, ``}, {`a; x`, `a=?1;x`}, {`a ;x`, ``},
		{`A=1`, ``}, {`1=1`, ``}, {`=1`, ``}, {`a=`, ``}, {`a=@1`, ``}, {`*a=1`, `*a=1`}, {`a;`, ``}, {`a;x=`, ``},
		{strings.Repeat("x,", maxFieldMembers) + "x", ``}, {"a=(" + strings.Repeat("1 ", maxFieldItems+1) + ")", ``},
	} {
		members, err := parseDictionary([]string{c.text})
		var written []string
		for _, m := range members {
			written = append(written, m.key+"="+m.String())
		}
		if got := strings.Join(written, ", "); (err != nil) != (c.want == "") || err == nil && got != c.want {
			t.Errorf("%q is read as %q, %v", c.text, got, err)
		}
	}
}

func FuzzHTTPSignature(f *testing.F) {
	f.Add(`sig=(`+allCovered+`)`+allParams, "sig=:AA==:", contentDigest([]byte("x")))
	f.Add(`a, b;c=1.50;d=?0;e=tok/en:*, f=("x";key="\"\\" 1 -2);g=:AA==:`, `sig=("@query-param";name="%zz")`, `sig="x"`)
	f.Add("a=(", "=", ";")
	f.Fuzz(func(t *testing.T, input, signature, digest string) {
		m := transfer()
		m.Header["Signature-Input"], m.Header["Signature"], m.Header["Content-Digest"] = []string{input}, []string{signature}, []string{digest}
		_, err := CheckRequestSignature(m, httpKeys(), now)
		sendable(t, err)
		if err == nil {
			t.Fatal("accepted")
		}
		members, err := parseDictionary([]string{input})
		if err != nil {
			return
		}
		for _, member := range members {
			written := member.String()
			again, err := parseDictionary([]string{"k=" + written})
			if err != nil || again[0].String() != written {
				t.Fatalf("%q is written as %q, and that as %v (%v)", input, written, again, err)
			}
			if base, err := m.signatureBase(&member.fieldItem); err == nil {
				lines := strings.Split(string(base), "\n")
				if len(lines) != len(member.value.([]fieldItem))+1 {
					t.Fatalf("%d lines:\n%s", len(lines), base)
				}
			}
		}
	})
}
