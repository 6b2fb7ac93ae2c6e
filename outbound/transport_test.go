package outbound_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/countersign/countersign/outbound"
)

// What a library asks for is held to the same as what we ask for.
func TestTransport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/form":
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			body, _ := io.ReadAll(r.Body)
			io.WriteString(w, r.Header.Get("Authorization")+" "+r.UserAgent()+" "+string(body))
		case "/elsewhere":
			http.Redirect(w, r, "/form", http.StatusFound)
		case "/large":
			io.WriteString(w, strings.Repeat("x", 101))
		}
	})
	library := &http.Client{Transport: outbound.New(b.options).Transport(100)}
	r, err := http.NewRequest(http.MethodPost, s.URL+"/form", strings.NewReader("a=1"))
	check(t, err)
	r.SetBasicAuth("bank", "x")
	before := len(r.Header)
	got, err := library.Do(r)
	check(t, err)
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	check(t, err)
	if got.StatusCode != http.StatusBadRequest || string(body) != "Basic YmFuazp4 Countersign a=1" || got.Header.Get("Content-Type") != "application/json" || len(r.Header) != before {
		t.Errorf("%d %q %v", got.StatusCode, body, r.Header)
	}
	public := &http.Client{Transport: outbound.New(outbound.Options{RootCAs: b.options.RootCAs}).Transport(100)}
	hits := s.hits.Load()
	for _, test := range []struct {
		name, address string
		by            *http.Client
		want          error
	}{
		{"a redirect", s.URL + "/elsewhere", library, outbound.ErrRedirect},
		{"too large", s.URL + "/large", library, outbound.ErrTooLarge},
		{"not public", s.URL + "/form", public, outbound.ErrAddress},
		{"http", strings.Replace(s.URL, "https", "http", 1), library, outbound.ErrURL},
		{"a user", strings.Replace(s.URL, "//", "//a:b@", 1), library, outbound.ErrURL},
	} {
		if _, err := test.by.Get(test.address); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if n := s.hits.Load() - hits; n != 2 {
		t.Errorf("%d calls arrived", n)
	}
}
