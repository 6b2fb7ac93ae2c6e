package main

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/outbound"
)

// What clients name is called as the operator decided, and a setting that says nothing useful is refused at the start.
func TestOutboundSettings(t *testing.T) {
	t.Parallel()
	site := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(site.Close)
	ca, empty := filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "empty.pem")
	for name, content := range map[string][]byte{ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw}), empty: []byte("none")} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		settings serverSettings
		want     error
	}{
		"nothing is set":  {serverSettings{}, outbound.ErrAddress},
		"the authority":   {serverSettings{OutboundCA: []string{ca}}, outbound.ErrAddress},
		"the network":     {serverSettings{OutboundAllow: []string{"127.0.0.0/8"}}, outbound.ErrTLS},
		"both":            {serverSettings{OutboundCA: []string{ca}, OutboundAllow: []string{"10.0.0.0/8", "127.0.0.1/32"}}, nil},
		"another network": {serverSettings{OutboundCA: []string{ca}, OutboundAllow: []string{"10.0.0.0/8"}}, outbound.ErrAddress},
		"an IPv6 network": {serverSettings{OutboundCA: []string{ca}, OutboundAllow: []string{"::/0"}}, outbound.ErrAddress},
	} {
		c, err := test.settings.outbound()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := c.Get(t.Context(), site.URL, 10); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	for _, s := range []serverSettings{
		{OutboundCA: []string{"/nonexistent.pem"}}, {OutboundCA: []string{empty}},
		{OutboundCert: ca}, {OutboundKey: ca}, {OutboundCert: ca, OutboundKey: ca},
		{OutboundAllow: []string{"127.0.0.1"}}, {OutboundAllow: []string{"10.1.2.3/8"}}, {OutboundAllow: []string{"localhost"}},
	} {
		if _, err := s.outbound(); err == nil || !strings.Contains(err.Error(), "outbound") {
			t.Errorf("%v %v: %v", s.OutboundCA, s.OutboundAllow, err)
		}
	}
}
