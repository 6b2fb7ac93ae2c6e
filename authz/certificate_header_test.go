package authz_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// proxyAddress is where the proxies of these tests call from: an address of this machine that nothing else here uses.
const proxyAddress = "127.0.0.2"

func rfc9440(cert *x509.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(cert.Raw) + ":"
}

// startTrusting starts a server that takes certificates from the header of proxyAddress.
func startTrusting(t *testing.T, form fapi.CertificateForm, verified bool) *authztest.Server {
	t.Helper()
	return authztest.Start(t, authztest.Options{CertificateHeader: &fapi.CertificateHeader{
		Name: "Client-Cert", Form: form, Verified: verified, From: []netip.Prefix{netip.MustParsePrefix(proxyAddress + "/32")},
	}})
}

// from is an HTTP client that calls from that address.
func from(s *authztest.Server, address string, certs ...tls.Certificate) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Transport: &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{RootCAs: s.Roots, Certificates: certs}, DisableKeepAlives: true,
	}}
}

// startProxy puts a proxy that ends TLS before the listener for certificates, and returns the server as it looks from
// there. Its own certificate has the name of a client: it must never count.
func startProxy(t *testing.T, s *authztest.Server) *authztest.Server {
	t.Helper()
	target, err := url.Parse(s.MTLSBase)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Transport: from(s, proxyAddress, *s.Certificate(t, "tpp-mtls")).Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Del("Client-Cert")
			if certs := r.In.TLS.PeerCertificates; len(certs) > 0 {
				r.Out.Header.Set("Client-Cert", rfc9440(certs[0]))
			}
		},
	})
	proxy.TLS = &tls.Config{Certificates: []tls.Certificate{*s.ServerCertificate(t, "proxy")}, ClientAuth: tls.RequestClientCert}
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	return s.Behind(proxy.URL)
}

// post sends a form to a URL.
func post(t *testing.T, client *http.Client, address string, form url.Values, header http.Header) *authztest.Answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", authztest.FormType)
	return authztest.Do(t, client, r)
}

// flowBehind runs a whole flow over a proxy: the client's certificate counts for authentication, binding and use of tokens.
func flowBehind(t *testing.T, s, behind *authztest.Server) {
	t.Helper()
	c, bank := behind.Client("tpp-mtls"), behind.Client("bank-api")
	access := c.Grant(t, nil)["access_token"].(string)
	said := bank.Post(t, "/introspect", url.Values{"token": {access}})
	if cnf, _ := said.JSON["cnf"].(map[string]any); cnf["x5t#S256"] != fapi.CertificateThumbprint(c.Certificate.Leaf) {
		t.Errorf("MTLS-07: the token is bound to %v: %s", cnf, said.Body)
	}
	if answer := c.Get(t, "/userinfo", access); answer.Status != http.StatusOK {
		t.Errorf("its owner, over the proxy: %d", answer.Status)
	}
	if answer := s.Client("tpp-mtls").Get(t, "/userinfo", access); answer.Status != http.StatusOK {
		t.Errorf("its owner, directly: %d", answer.Status)
	}
	behind.Client("tpp").Get(t, "/userinfo", access).Challenged(t, 401, "Bearer", fapi.InvalidToken)
	none := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots}, DisableKeepAlives: true}}
	credentials := url.Values{"grant_type": {"client_credentials"}, "client_id": {"tpp-mtls"}}
	post(t, none, behind.MTLSBase+"/token", credentials, nil).Refused(t, 401, fapi.InvalidClient)
	post(t, none, behind.MTLSBase+"/token", credentials, http.Header{"Client-Cert": {rfc9440(c.Certificate.Leaf)}}).Refused(t, 401, fapi.InvalidClient)
	for name, other := range map[string]*tls.Certificate{"of another client": s.Certificate(t, "tpp"), "self-signed": authztest.SelfSigned(t, "tpp-mtls")} {
		k := behind.Client("tpp-mtls")
		k.Certificate = other
		t.Log(name)
		k.Post(t, "/token", credentials).Refused(t, 401, fapi.InvalidClient)
	}
	self := behind.Client("tpp-self")
	if tokens := self.Token(t, url.Values{"grant_type": {"client_credentials"}}); tokens["access_token"] == nil {
		t.Errorf("self_signed_tls_client_auth: %v", tokens)
	}
}

func TestCertificateHeader_behindProxy(t *testing.T) {
	t.Parallel()
	s := startTrusting(t, fapi.FormRFC9440, false)
	flowBehind(t, s, startProxy(t, s))
}

func TestCertificateHeader_untrusted(t *testing.T) {
	t.Parallel()
	s := startTrusting(t, fapi.FormRFC9440, false)
	c := s.Client("tpp-mtls")
	spoofed := http.Header{"Client-Cert": {rfc9440(c.Certificate.Leaf)}}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"tpp-mtls"}}
	t.Run("A9-11: from anybody, without a certificate", func(t *testing.T) {
		post(t, from(s, "127.0.0.1"), s.MTLSBase+"/token", form, spoofed).Refused(t, 401, fapi.InvalidClient)
	})
	t.Run("A9-11: from anybody, with a certificate of its own", func(t *testing.T) {
		post(t, from(s, "127.0.0.1", *s.Certificate(t, "tpp")), s.MTLSBase+"/token", form, spoofed).Refused(t, 401, fapi.InvalidClient)
	})
	t.Run("A9-11: its own certificate counts", func(t *testing.T) {
		for name, value := range map[string]string{"another's": rfc9440(s.Client("tpp").Certificate.Leaf), "garbage": "garbage"} {
			answer := post(t, from(s, "127.0.0.1", *c.Certificate), s.MTLSBase+"/token", form, http.Header{"Client-Cert": {value}})
			if answer.Status != http.StatusOK {
				t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
			}
		}
	})
	t.Run("A9-11: at the public listener, where no proxy takes certificates", func(t *testing.T) {
		post(t, from(s, proxyAddress), s.Issuer+"/token", form, spoofed).Refused(t, 401, fapi.InvalidClient)
	})
	t.Run("the proxy itself", func(t *testing.T) {
		if answer := post(t, from(s, proxyAddress), s.MTLSBase+"/token", form, spoofed); answer.Status != http.StatusOK {
			t.Errorf("%d %s", answer.Status, answer.Body)
		}
		post(t, from(s, proxyAddress, *c.Certificate), s.MTLSBase+"/token", form, nil).Refused(t, 401, fapi.InvalidClient) // A9-14
	})
	t.Run("no header is configured", func(t *testing.T) {
		plain := authztest.Start(t)
		good := http.Header{"Client-Cert": {rfc9440(plain.Client("tpp-mtls").Certificate.Leaf)}}
		post(t, from(plain, proxyAddress), plain.MTLSBase+"/token", form, good).Refused(t, 401, fapi.InvalidClient)
	})
}

// A9-12: what a trusted proxy sends is a certificate, clearly none, or refused; never taken for none.
func TestCertificateHeader_malformed(t *testing.T) {
	t.Parallel()
	s := startTrusting(t, fapi.FormRFC9440, false)
	c := s.Client("tpp-mtls")
	good := rfc9440(c.Certificate.Leaf)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"tpp-mtls"}}
	for name, test := range map[string]struct {
		values []string
		status int
		code   fapi.Code
	}{
		"none":          {nil, 401, fapi.InvalidClient},
		"empty":         {[]string{""}, 401, fapi.InvalidClient},
		"null":          {[]string{"null"}, 401, fapi.InvalidClient},
		"(null)":        {[]string{"(null)"}, 401, fapi.InvalidClient},
		"an empty one":  {[]string{"::"}, 401, fapi.InvalidClient},
		"twice":         {[]string{good, good}, 400, fapi.InvalidRequest},
		"twice, empty":  {[]string{"", good}, 400, fapi.InvalidRequest},
		"two in one":    {[]string{good + ", " + good}, 400, fapi.InvalidRequest},
		"garbage":       {[]string{"garbage"}, 400, fapi.InvalidRequest},
		"cut off":       {[]string{good[:100] + ":"}, 400, fapi.InvalidRequest},
		"of 17 KiB":     {[]string{good + strings.Repeat(" ", 17<<10) + ":"}, 400, fapi.InvalidRequest},
		"another form":  {[]string{base64.StdEncoding.EncodeToString(c.Certificate.Leaf.Raw)}, 400, fapi.InvalidRequest},
		"blanks around": {[]string{"  " + good + "  "}, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/token", "/par", "/introspect", "/revoke", "/userinfo"} {
				answer := post(t, from(s, proxyAddress), s.MTLSBase+path, form, http.Header{"Client-Cert": test.values})
				switch {
				case test.status == 400: // the same everywhere
					answer.Refused(t, 400, fapi.InvalidRequest)
				case path != "/token":
				case test.status == 200 && answer.Status != 200:
					t.Errorf("%d %s", answer.Status, answer.Body)
				case test.status != 200:
					answer.Refused(t, test.status, test.code)
				}
			}
		})
	}
	t.Run("also for a client that needs no certificate", func(t *testing.T) {
		post(t, from(s, proxyAddress), s.MTLSBase+"/token", url.Values{"client_id": {"web"}}, http.Header{"Client-Cert": {"garbage"}}).Refused(t, 400, fapi.InvalidRequest)
	})
}

// A9-13: where the proxy checks issuers, we need not; whose certificate it is and until when still counts.
func TestCertificateHeader_verified(t *testing.T) {
	t.Parallel()
	s := startTrusting(t, fapi.FormRFC9440, true)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"tpp-mtls"}}
	foreign := authztest.SelfSigned(t, "tpp-mtls")
	direct := from(s, "127.0.0.1", *authztest.SelfSigned(t, "tpp-mtls"))
	post(t, direct, s.MTLSBase+"/token", form, nil).Refused(t, 401, fapi.InvalidClient)
	if answer := post(t, from(s, proxyAddress), s.MTLSBase+"/token", form, http.Header{"Client-Cert": {rfc9440(foreign.Leaf)}}); answer.Status != http.StatusOK {
		t.Errorf("an issuer that the proxy knows: %d %s", answer.Status, answer.Body)
	}
	for name, cert := range map[string]*tls.Certificate{
		"expired": s.Expired(t, "tpp-mtls"), "of another name": authztest.SelfSigned(t, "tpp"), "of a server": s.ServerCertificate(t, "tpp-mtls"),
	} {
		t.Log(name)
		post(t, from(s, proxyAddress), s.MTLSBase+"/token", form, http.Header{"Client-Cert": {rfc9440(cert.Leaf)}}).Refused(t, 401, fapi.InvalidClient)
	}
	post(t, from(s, proxyAddress), s.MTLSBase+"/token", form, nil).Refused(t, 401, fapi.InvalidClient)
	post(t, direct, s.MTLSBase+"/token", form, nil).Refused(t, 401, fapi.InvalidClient)
}
