package authz

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

// G3: limits count by the address that the last proxy has seen, and by none that a visitor has written.
func TestForwarded(t *testing.T) {
	t.Parallel()
	s := &Server{Config: Config{ForwardedFrom: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("fd00::/8")}}}
	for name, c := range map[string]struct {
		peer   string
		header []string
		want   string
	}{
		"no proxy":                 {"192.0.2.1:999", []string{"198.51.100.7"}, "192.0.2.1:999"},
		"no header":                {"10.1.2.3:999", nil, "10.1.2.3:999"},
		"one proxy":                {"10.1.2.3:999", []string{"198.51.100.7"}, "198.51.100.7:0"},
		"a visitor who pretends":   {"10.1.2.3:999", []string{"203.0.113.9, 198.51.100.7"}, "198.51.100.7:0"},
		"in a header of its own":   {"10.1.2.3:999", []string{"203.0.113.9", "198.51.100.7"}, "198.51.100.7:0"},
		"pretends to be a proxy":   {"10.1.2.3:999", []string{"203.0.113.9, 10.1.2.9, 198.51.100.7"}, "198.51.100.7:0"},
		"two proxies":              {"10.1.2.3:999", []string{"203.0.113.9, 198.51.100.7, 10.1.2.4"}, "198.51.100.7:0"},
		"nothing but proxies":      {"10.1.2.3:999", []string{"10.1.2.5, 10.1.2.4"}, "10.1.2.5:0"},
		"with a port":              {"10.1.2.3:999", []string{"198.51.100.7:1234"}, "198.51.100.7:0"},
		"IPv6":                     {"[fd00::1]:999", []string{"2001:db8::1"}, "[2001:db8::1]:0"},
		"IPv6 with a port":         {"[fd00::1]:999", []string{"[2001:db8::1]:80"}, "[2001:db8::1]:0"},
		"IPv6 in brackets":         {"[fd00::1]:999", []string{"[2001:db8::1]"}, "[2001:db8::1]:0"},
		"IPv4 as IPv6":             {"[::ffff:10.1.2.3]:999", []string{"::ffff:198.51.100.7"}, "198.51.100.7:0"},
		"rubbish":                  {"10.1.2.3:999", []string{"unknown"}, "10.1.2.3:999"},
		"rubbish behind a proxy":   {"10.1.2.3:999", []string{"_hidden, 10.1.2.4"}, "10.1.2.4:0"},
		"empty":                    {"10.1.2.3:999", []string{""}, "10.1.2.3:999"},
		"rubbish of the visitor's": {"10.1.2.3:999", []string{"';--, 198.51.100.7"}, "198.51.100.7:0"},
		"no peer":                  {"@", []string{"198.51.100.7"}, "@"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.peer
		for _, h := range c.header {
			r.Header.Add("X-Forwarded-For", h)
		}
		got := ""
		s.forwarded(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr })).ServeHTTP(httptest.NewRecorder(), r)
		if got != c.want || r.RemoteAddr != c.peer {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
