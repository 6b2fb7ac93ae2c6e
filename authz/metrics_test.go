package authz_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
)

// G3: refusals are counted, and told on the health listener alone.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	form := "username=nobody&password=wrong+wrong+wrong"
	public := s.Public()
	for range 7 {
		r := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		public.ServeHTTP(httptest.NewRecorder(), r)
	}
	w := httptest.NewRecorder()
	s.Health().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`countersign_refusals_total{action="login",reason="wrong"} 5`, `countersign_refusals_total{action="login",reason="blocked"} 2`,
		"go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s in\n%.3000s", want, w.Body)
		}
	}
	for name, h := range map[string]http.Handler{"public": public, "mutual": s.MutualTLS()} {
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil)); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
}
