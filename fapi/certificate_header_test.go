package fapi

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestVectors_certificateHeader(t *testing.T) {
	t.Parallel()
	eachVector(t, "certificate-header", func(t *testing.T, v map[string]string) {
		var chain []string
		if v["chain"] != "" {
			chain = []string{v["chain"]}
		}
		certs, err := ParseCertificateHeader(CertificateForm(v["form"]), []string{v["value"]}, chain)
		refused(t, err, "")
		var thumbprints []string
		for _, cert := range certs {
			thumbprints = append(thumbprints, CertificateThumbprint(cert))
		}
		if got := strings.Join(thumbprints, " "); got != v["thumbprints"] {
			t.Errorf("thumbprints %s, want %s", got, v["thumbprints"])
		}
	})
}

// The ways in which the certificates of these tests are written.
func inBase64(certs ...*x509.Certificate) string {
	var der []byte
	for _, cert := range certs {
		der = append(der, cert.Raw...)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func inPEM(certs ...*x509.Certificate) string {
	var text bytes.Buffer
	for _, cert := range certs {
		pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	return text.String()
}

func escaped(text string) string { return url.PathEscape(text) }

func TestParseCertificateHeader(t *testing.T) {
	t.Parallel()
	root := newAuthority(nil, "Root")
	a, b := issue(root, ecKey(), leaf()), issue(root, otherKey(), leaf())
	ca := root.cert
	folded := strings.ReplaceAll(inPEM(a), "\n", "\n\t")
	xfcc := func(pairs ...string) string { return strings.Join(pairs, ";") }
	certA, certB, chainA := `Cert="`+escaped(inPEM(a))+`"`, `Cert="`+escaped(inPEM(b))+`"`, `Chain="`+escaped(inPEM(a, ca))+`"`
	own, both, none := []*x509.Certificate{a}, []*x509.Certificate{a, ca}, []*x509.Certificate(nil)
	wrong := []*x509.Certificate{}
	for _, test := range []struct {
		name  string
		form  CertificateForm
		value string
		chain []string
		want  []*x509.Certificate // wrong: refused
	}{
		{"RFC 9440 §2.2: a certificate", FormRFC9440, ":" + inBase64(a) + ":", nil, own},
		{"RFC 9440 §2.3: a chain", FormRFC9440, ":" + inBase64(a) + ":", []string{":" + inBase64(ca) + ":"}, both},
		{"RFC 9440 §2.3: a chain in two lines", FormRFC9440, ":" + inBase64(a) + ":", []string{":" + inBase64(ca) + ":", " :" + inBase64(b) + ": "}, []*x509.Certificate{a, ca, b}},
		{"blanks around it", FormRFC9440, " \t:" + inBase64(a) + ": ", nil, own},
		{"RFC 9440 §2.3: a chain without a certificate", FormRFC9440, "", []string{":" + inBase64(ca) + ":"}, wrong},
		{"an empty chain", FormRFC9440, ":" + inBase64(a) + ":", []string{" "}, own},
		{"RFC 9440 §2.2: two certificates", FormRFC9440, ":" + inBase64(a) + ":, :" + inBase64(b) + ":", nil, wrong},
		{"RFC 9440 §2.1: a parameter", FormRFC9440, ":" + inBase64(a) + ":;x=1", nil, wrong},
		{"RFC 9440 §2.1: no colons", FormRFC9440, inBase64(a), nil, wrong},
		{"RFC 9440 §2.1: a string", FormRFC9440, `"` + inBase64(a) + `"`, nil, wrong},
		{"RFC 9440 §2.1: a blank within", FormRFC9440, ":" + inBase64(a)[:9] + " " + inBase64(a)[9:] + ":", nil, wrong},
		{"RFC 9440 §2.1: a comma at the end", FormRFC9440, ":" + inBase64(a) + ":,", nil, wrong},
		{"RFC 9440 §2.3: a chain that is none", FormRFC9440, ":" + inBase64(a) + ":", []string{"x"}, wrong},
		{"RFC 9440: another certificate behind it", FormRFC9440, ":" + inBase64(a, ca) + ":", nil, wrong},
		{"a long chain", FormRFC9440, ":" + inBase64(a) + ":", slices.Repeat([]string{":" + inBase64(ca) + ":"}, maxChain), wrong},
		{"the longest", FormRFC9440, ":" + inBase64(a) + ":", slices.Repeat([]string{":" + inBase64(ca) + ":"}, maxChain-1), append(own, slices.Repeat(both[1:], maxChain-1)...)},

		{"nginx: a certificate", FormNginx, escaped(inPEM(a)), nil, own},
		{"nginx: a plus sign that is not encoded", FormNginx, strings.ReplaceAll(escaped(inPEM(a)), "%2B", "+"), nil, own},
		{"nginx: a chain", FormNginx, escaped(inPEM(a, ca)), nil, both},
		{"nginx: a header for a chain is not its", FormNginx, escaped(inPEM(a)), []string{"x"}, own},
		{"nginx: a bad escape", FormNginx, escaped(inPEM(a)) + "%zz", nil, wrong},
		{"nginx: no PEM", FormNginx, inBase64(a), nil, wrong},
		{"nginx: cut off", FormNginx, escaped(inPEM(a))[:200], nil, wrong},
		{"nginx: another block", FormNginx, escaped(strings.ReplaceAll(inPEM(a), "CERTIFICATE", "PRIVATE KEY")), nil, wrong},
		{"nginx: text before", FormNginx, "x" + escaped(inPEM(a)), nil, wrong},
		{"nginx: text behind", FormNginx, escaped(inPEM(a)) + "x", nil, wrong},
		{"nginx: two, by a comma", FormNginx, escaped(inPEM(b)) + "," + escaped(inPEM(a)), nil, wrong},
		{"nginx: encoded blanks alone", FormNginx, "%20%0A", nil, wrong},
		{"nginx: a long chain", FormNginx, escaped(inPEM(slices.Repeat(own, maxChain+1)...)), nil, wrong},

		{"HAProxy: a certificate", FormHAProxy, inBase64(a), nil, own},
		{"HAProxy: a chain", FormHAProxy, inBase64(a), []string{inBase64(ca, b)}, []*x509.Certificate{a, ca, b}},
		{"HAProxy: two chains", FormHAProxy, inBase64(a), []string{inBase64(ca), inBase64(ca)}, wrong},
		{"HAProxy: a chain alone", FormHAProxy, "", []string{inBase64(ca)}, wrong},
		{"HAProxy: two certificates", FormHAProxy, inBase64(a, ca), nil, wrong},
		{"HAProxy: the base64 of URLs", FormHAProxy, base64.RawURLEncoding.EncodeToString(a.Raw), nil, wrong},
		{"HAProxy: something behind the padding", FormHAProxy, inBase64(a) + "AAAA", nil, wrong},
		{"HAProxy: hexadecimal", FormHAProxy, strings.Repeat("3082", 100), nil, wrong},

		{"Envoy: Cert", FormEnvoy, xfcc("By=spiffe://bank/gateway", "Hash=ab", certA), nil, own},
		{"Envoy: Chain", FormEnvoy, xfcc("Hash=ab", chainA), nil, both},
		{"Envoy: both", FormEnvoy, xfcc(certA, chainA, `Subject="CN=\"a\\,b\\\";Cert=x"`, "URI=urn:a", "DNS=a", "DNS=b"), nil, both},
		{"Envoy: keys in lower case, blanks", FormEnvoy, " hash=ab; " + strings.ToLower(certA[:4]) + certA[4:] + " ", nil, own},
		{"Envoy: without quotes", FormEnvoy, strings.ReplaceAll(certA, `"`, ""), nil, own},
		{"Envoy: the last element counts", FormEnvoy, xfcc("Hash=cd", certB) + "," + xfcc("Hash=ab", certA), nil, own},
		{"Envoy: an earlier certificate is not its", FormEnvoy, xfcc("Hash=cd", certB) + "," + "Hash=ab", nil, wrong},
		{"Envoy: no certificate", FormEnvoy, "By=spiffe://bank/gateway;Hash=ab", nil, wrong},
		{"Envoy: an empty one", FormEnvoy, `Hash=ab;Cert=""`, nil, wrong},
		{"Envoy: a name that brings a certificate", FormEnvoy, xfcc("Hash=ab", certA, "URI=urn:a", certB), nil, wrong},
		{"Envoy: a name that brings the only certificate", FormEnvoy, xfcc("Hash=ab", "URI=urn:a", certB), nil, wrong},
		{"Envoy: a name that brings an element", FormEnvoy, xfcc("Hash=ab", certA, "URI=urn:a,Hash=cd", certB), nil, wrong},
		{"Envoy: a name that brings an element, DNS", FormEnvoy, xfcc("Hash=ab", certA, "DNS=a,By=x;"+certB), nil, wrong},
		{"Envoy: two certificates", FormEnvoy, xfcc("Hash=ab", certA, certB), nil, wrong},
		{"Envoy: two chains", FormEnvoy, xfcc(chainA, chainA), nil, wrong},
		{"Envoy: a chain of another", FormEnvoy, xfcc(certB, chainA), nil, wrong},
		{"Envoy: an unknown key", FormEnvoy, xfcc("Key=a", certA), nil, wrong},
		{"Envoy: a quote without end", FormEnvoy, certA[:len(certA)-1], nil, wrong},
		{"Envoy: an escape at the end", FormEnvoy, `Cert="\`, nil, wrong},
		{"Envoy: a quote of the client's that swallows the next", FormEnvoy, `Hash=",` + certA, nil, wrong},
		{"Envoy: a semicolon at the end", FormEnvoy, certA + ";", nil, wrong},
		{"Envoy: a comma at the end", FormEnvoy, certA + ",", nil, wrong},
		{"Envoy: PEM alone", FormEnvoy, escaped(inPEM(a)), nil, wrong},

		{"WSO2: PEM", FormPEM, strings.ReplaceAll(inPEM(a), "\n", " "), nil, own},
		{"WSO2: PEM with tabs", FormPEM, strings.ReplaceAll(inPEM(a), "\n", "\t"), nil, own},
		{"WSO2: PEM with folded lines", FormPEM, folded, nil, own},
		{"WSO2: PEM in one line", FormPEM, strings.ReplaceAll(inPEM(a), "\n", ""), nil, own},
		{"WSO2: URL-encoded PEM", FormPEM, escaped(inPEM(a)), nil, own},
		{"WSO2: a chain", FormPEM, strings.ReplaceAll(inPEM(a, ca), "\n", " "), nil, both},
		{"WSO2: base64", FormPEM, inBase64(a), nil, own},
		{"WSO2: base64 with blanks", FormPEM, "  " + inBase64(a)[:64] + " \t" + inBase64(a)[64:] + " ", nil, own},
		{"WSO2: base64, URL-encoded", FormPEM, url.QueryEscape(inBase64(a)), nil, own},
		{"WSO2: no base64", FormPEM, "-----BEGIN CERTIFICATE----- %%% -----END CERTIFICATE-----", nil, wrong},
		{"WSO2: without its end", FormPEM, strings.ReplaceAll(inPEM(a), "-----END", "END"), nil, wrong},
		{"WSO2: not a certificate", FormPEM, "aGVsbG8gd29ybGQ=", nil, wrong},
		{"WSO2: two, by a comma", FormPEM, inBase64(b) + "," + inBase64(a), nil, wrong},
		{"WSO2: words", FormPEM, "none", nil, wrong},
		{"WSO2: a byte that is no text", FormPEM, "\xff" + inBase64(a), nil, wrong},

		{"a form that is not known", "auto", inBase64(a), nil, wrong},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			certs, err := ParseCertificateHeader(test.form, []string{test.value}, test.chain)
			if test.want != nil && len(test.want) == 0 {
				refused(t, err, InvalidRequest)
				if certs != nil {
					t.Error("refused, and certificates")
				}
				return
			}
			refused(t, err, "")
			if !slices.EqualFunc(certs, test.want, (*x509.Certificate).Equal) {
				t.Errorf("%d certificates, or others", len(certs))
			}
		})
	}
	for form := range certificateForms {
		good := map[CertificateForm]string{FormRFC9440: ":" + inBase64(a) + ":", FormNginx: escaped(inPEM(a)), FormHAProxy: inBase64(a), FormEnvoy: certA, FormPEM: inPEM(a)}[form]
		for name, values := range map[string][]string{"none": nil, "empty": {""}, "blank": {" \t "}, "null": {"null"}, "NULL": {" NULL "}, "(null)": {"(null)"}, "no bytes": {"::"}} {
			if certs, err := ParseCertificateHeader(form, values, nil); err != nil || !slices.Equal(certs, none) {
				t.Errorf("%s, %s: %v %v", form, name, certs, err)
			}
		}
		for name, values := range map[string][]string{
			"twice": {good, good}, "twice, once empty": {"", good}, "too long": {good + strings.Repeat(" ", maxCertificateHeader)}, "nullified": {"null" + good},
			"random": {"!"}, "a list of nothing": {","},
		} {
			_, err := ParseCertificateHeader(form, values, nil)
			refused(t, err, InvalidRequest)
			if err == nil {
				t.Errorf("%s, %s: accepted", form, name)
			}
		}
	}
}

func TestCertificateHeader(t *testing.T) {
	t.Parallel()
	networks := func(texts ...string) (all []netip.Prefix) {
		for _, text := range texts {
			all = append(all, netip.MustParsePrefix(text))
		}
		return all
	}
	h := &CertificateHeader{Name: "ssl.client.auth.cert.X509", Form: FormPEM, From: networks("10.1.0.0/16", "2001:db8::/64", "fe80::/10")}
	if err := h.Check(); err != nil {
		t.Fatal(err)
	}
	for peer, want := range map[string]bool{
		"10.1.2.3:443": true, "10.2.0.1:443": false, "[::ffff:10.1.2.3]:443": true, "[2001:db8::7]:1": true, "[2001:db8:0:1::7]:1": false, "[fe80::1%eth0]:1": true,
		"": false, "10.1.2.3": false, "@": false, "proxy.example:443": false,
	} {
		if h.Trusts(peer) != want {
			t.Errorf("trusts %q: %v", peer, !want)
		}
	}
	for name, wrong := range map[string]CertificateHeader{
		"no name":             {Form: FormPEM, From: h.From},
		"a name with a blank": {Name: "X Cert", Form: FormPEM, From: h.From},
		"a name with a colon": {Name: "X-Cert:", Form: FormPEM, From: h.From},
		"no form":             {Name: "X-Cert", From: h.From},
		"no proxy":            {Name: "X-Cert", Form: FormPEM},
		"everybody":           {Name: "X-Cert", Form: FormPEM, From: networks("0.0.0.0/0")},
		"everybody, IPv6":     {Name: "X-Cert", Form: FormPEM, From: networks("10.0.0.0/8", "::/0")},
		"bits of a host":      {Name: "X-Cert", Form: FormPEM, From: networks("10.1.2.3/8")},
		"IPv4 in IPv6":        {Name: "X-Cert", Form: FormPEM, From: networks("::ffff:10.0.0.0/104")},
		"no network":          {Name: "X-Cert", Form: FormPEM, From: []netip.Prefix{{}}},
	} {
		if wrong.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	a := issue(nil, ecKey(), leaf())
	header := http.Header{}
	header.Set("SSL.client.auth.cert.x509", inBase64(a))
	if certs, err := h.Certificates(header); err != nil || len(certs) != 1 || !certs[0].Equal(a) || !h.Present(header) {
		t.Errorf("%v %v", certs, err)
	}
	own := &CertificateHeader{Name: "X-Cert", From: h.From, Parse: func(values []string) ([]*x509.Certificate, error) {
		if len(values) == 1 && values[0] == "a" {
			return []*x509.Certificate{a}, nil
		}
		return nil, errors.New("not a")
	}}
	if err := own.Check(); err != nil {
		t.Error(err)
	}
	if certs, err := own.Certificates(http.Header{"X-Cert": {"a"}}); err != nil || len(certs) != 1 {
		t.Errorf("a parser of its own: %v %v", certs, err)
	}
	_, err := own.Certificates(http.Header{"X-Cert": {"b"}})
	refused(t, err, InvalidRequest)
}

func FuzzCertificateHeader(f *testing.F) {
	for _, file := range must(filepath.Glob("testdata/certificate-header-*.txt")) {
		v, _ := readVector(f, file)
		f.Add(v["form"], v["value"], v["chain"])
	}
	f.Add("pem", "null", "")
	f.Add("rfc9440", "::", ",")
	f.Add("envoy", `Cert="\",Cert=;`, "")
	f.Fuzz(func(t *testing.T, form, value, chain string) {
		certs, err := ParseCertificateHeader(CertificateForm(form), []string{value}, []string{chain})
		sendable(t, err)
		size := 0
		for _, cert := range certs {
			size += len(cert.Raw)
		}
		if size > len(value)+len(chain) || len(certs) > maxChain || err != nil && certs != nil {
			t.Fatalf("%d certificates of %d bytes out of %d characters, %v", len(certs), size, len(value)+len(chain), err)
		}
		if err == nil && len(value)+len(chain) < maxCertificateHeader-2 {
			if again, err := ParseCertificateHeader(CertificateForm(form), []string{" " + value + "\t"}, []string{chain}); err != nil || len(again) != len(certs) {
				t.Fatalf("with blanks around: %d certificates, then %d (%v)", len(certs), len(again), err)
			}
		}
	})
}
