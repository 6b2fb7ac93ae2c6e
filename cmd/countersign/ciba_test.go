package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

func TestCIBASettings(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public()}}})
	if err != nil {
		t.Fatal(err)
	}
	file, empty := filepath.Join(t.TempDir(), "keys.json"), filepath.Join(t.TempDir(), "empty.json")
	for name, content := range map[string][]byte{file: document, empty: []byte(`{"keys":[]}`)} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		change func(*cibaSettings)
		want   string
	}{
		{"as they are", func(*cibaSettings) {}, ""},
		{"an issuer", func(s *cibaSettings) { s.LoginHintIssuers = []string{"https://shop.example=" + file} }, ""},
		{"an issuer without a file", func(s *cibaSettings) { s.LoginHintIssuers = []string{"https://shop.example"} }, "an issuer and a file"},
		{"a file without an issuer", func(s *cibaSettings) { s.LoginHintIssuers = []string{"=" + file} }, "an issuer and a file"},
		{"a file that is not there", func(s *cibaSettings) { s.LoginHintIssuers = []string{"https://shop.example=" + file + "x"} }, "no such file"},
		{"no keys", func(s *cibaSettings) { s.LoginHintIssuers = []string{"https://shop.example=" + empty} }, "https://shop.example"},
		{"no time", func(s *cibaSettings) { s.CIBALifetime = 0 }, "ciba-lifetime"},
		{"none open", func(s *cibaSettings) { s.CIBAMaxOpen = 0 }, "ciba-max-open"},
		{"nobody told", func(s *cibaSettings) { s.CIBANotices = 0 }, "ciba-notices"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := cibaSettings{CIBALifetime: time.Minute, CIBAMaxOpen: 3, CIBANotices: 4}
			test.change(&s)
			c, err := s.ciba()
			switch {
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v", err)
			case test.want == "" && (err != nil || c.Lifetime != time.Minute || c.MaxOpen != 3 || c.Notices != 4 || len(c.HintIssuers) != len(s.LoginHintIssuers)):
				t.Errorf("got %+v, %v", c, err)
			}
		})
	}
}

func TestSettings_LowValue(t *testing.T) {
	t.Parallel()
	got, err := (&serverSettings{LowValue: []string{"EUR=30", "KES=2000.50"}}).lowValue()
	if err != nil || !maps.Equal(got, fapi.AmountLimits{"EUR": "30", "KES": "2000.50"}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, wrong := range [][]string{{"30"}, {"EUR=30", "EUR=40"}} {
		if got, err := (&serverSettings{LowValue: wrong}).lowValue(); err == nil {
			t.Errorf("%v: %v", wrong, got)
		}
	}
}
