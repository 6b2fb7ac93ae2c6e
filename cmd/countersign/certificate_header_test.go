package main

import "testing"

func TestCertificateHeaderSettings(t *testing.T) {
	t.Parallel()
	proxy := []string{"10.1.2.0/24", "2001:db8::/64"}
	for name, test := range map[string]struct {
		settings serverSettings
		want     bool // a header
		wrong    bool
	}{
		"nothing is set":               {serverSettings{CertificateForm: "rfc9440"}, false, false},
		"a header and its proxies":     {serverSettings{CertificateHeader: "Client-Cert", CertificateForm: "rfc9440", TrustedProxies: proxy}, true, false},
		"WSO2's header":                {serverSettings{CertificateHeader: "ssl.client.auth.cert.X509", CertificateForm: "pem", TrustedProxies: proxy}, true, false},
		"a header from nobody":         {serverSettings{CertificateHeader: "Client-Cert", CertificateForm: "rfc9440"}, true, true},
		"proxies without a header":     {serverSettings{CertificateForm: "rfc9440", TrustedProxies: proxy}, true, true},
		"a promise without a header":   {serverSettings{CertificateForm: "rfc9440", CertificateVerified: true}, true, true},
		"a proxy that is no network":   {serverSettings{CertificateHeader: "Client-Cert", CertificateForm: "rfc9440", TrustedProxies: []string{"10.1.2.3"}}, true, true},
		"a network with bits of hosts": {serverSettings{CertificateHeader: "Client-Cert", CertificateForm: "rfc9440", TrustedProxies: []string{"10.1.2.3/8"}}, true, true},
		"everybody":                    {serverSettings{CertificateHeader: "Client-Cert", CertificateForm: "rfc9440", TrustedProxies: []string{"::/0"}}, true, true},
		"a form that is not known":     {serverSettings{CertificateHeader: "Client-Cert", CertificateForm: "x", TrustedProxies: proxy}, true, true},
	} {
		h, err := test.settings.certificateHeader()
		if (err != nil) != test.wrong || err == nil && (h != nil) != test.want {
			t.Errorf("%s: %v %v", name, h, err)
		}
	}
}
