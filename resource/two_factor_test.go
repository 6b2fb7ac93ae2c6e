package resource

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// factors is what the authorization server says of second factors.
type factors struct {
	*bundle
	asked  []url.Values
	answer func(w http.ResponseWriter, form url.Values)
	ran    int // requests that came through
}

// askForFactors has /payments ask for both factors. Every token but "good" is refused.
func askForFactors(t testing.TB, change func(*Config)) *factors {
	t.Helper()
	f := &factors{bundle: setup(t, change)}
	f.answer = func(w http.ResponseWriter, form url.Values) {
		if form.Get("token") != "good" {
			writeJSON(w, m{"active": false})
			return
		}
		writeJSON(w, m{"active": true, "exp": f.clock.at(time.Hour)})
	}
	serve := func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.asked = append(f.asked, r.PostForm)
		if !f.authenticated(r) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		f.answer(w, r.PostForm)
	}
	asking := f.double.Config.Handler.(*http.ServeMux)
	asking.HandleFunc("POST /introspect/two-factor", serve)
	asking.HandleFunc("POST /mtls/introspect/two-factor", serve)
	f.service.Config.Handler.(*http.ServeMux).Handle("/payments", f.guard.Require(Need{Scopes: []string{"payments"}}, f.guard.TwoFactor(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.ran++ }))))
	return f
}

func (f *factors) pay(t testing.TB, access string, tokens ...string) *http.Response {
	t.Helper()
	header := http.Header{"Authorization": {"Bearer " + access}}
	if tokens != nil {
		header[http.CanonicalHeaderKey(TFATokenHeader)] = tokens
	}
	return f.call(t, tppCert, "GET", "/payments", header)
}

// shows fails the test unless the answer is what Fineract answers.
func (f *factors) shows(t testing.TB, r *http.Response, status int, asked int) {
	t.Helper()
	defer r.Body.Close()
	body := string(must(io.ReadAll(r.Body)))
	challenge := map[int]string{401: `Basic realm="Fineract Platform API Two Factor"`, 403: `Bearer error="insufficient_scope"`}[status]
	if r.StatusCode != status || r.Header.Get("WWW-Authenticate") != challenge {
		t.Errorf("%d %q %s, want %d", r.StatusCode, r.Header.Get("WWW-Authenticate"), body, status)
	}
	if status != 200 {
		var said struct{ Status int }
		if err := json.Unmarshal([]byte(body), &said); err != nil || said.Status != status || r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %v: %v", body, r.Header, err)
		}
	}
	if (status == 503) != (r.Header.Get("Retry-After") != "") {
		t.Errorf("%d with Retry-After %q", status, r.Header.Get("Retry-After"))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) != asked {
		t.Errorf("asked %d times, want %d", len(f.asked), asked)
	}
	if (status == 200) != (f.ran == 1) {
		t.Errorf("%d, and the handler ran %d times", status, f.ran)
	}
	f.asked, f.ran = nil, 0
}

func TestTwoFactor(t *testing.T) {
	t.Parallel()
	f := askForFactors(t, nil)
	access, other := f.issue(nil), f.issue(m{"sub": "bob"})
	f.shows(t, f.pay(t, access), 403, 1)
	f.shows(t, f.pay(t, access, "wrong"), 401, 1)
	f.shows(t, f.pay(t, access, "wrong"), 401, 0)
	f.shows(t, f.pay(t, access), 403, 0)
	f.clock.advance(badFor)
	f.shows(t, f.pay(t, access, "wrong"), 401, 1) // a refusal is remembered for a moment
	f.shows(t, f.pay(t, access, ""), 401, 1)
	f.shows(t, f.pay(t, access, "good", "good"), 401, 0)
	f.shows(t, f.pay(t, access, strings.Repeat("a", maxTFAToken+1)), 401, 0)
	f.shows(t, f.pay(t, access, "good"), 200, 1)
	f.shows(t, f.pay(t, access, "good"), 200, 0)
	f.shows(t, f.pay(t, access), 403, 0)
	f.shows(t, f.pay(t, access, "wrong"), 401, 0)
	f.shows(t, f.pay(t, other, "good"), 200, 1) // what is remembered of one customer says nothing of another

	f.set(func() { f.answer = func(w http.ResponseWriter, _ url.Values) { writeJSON(w, m{"active": false}) } })
	f.shows(t, f.pay(t, access, "good"), 200, 0)
	f.clock.advance(f.config.CacheFor)
	f.shows(t, f.pay(t, access, "good"), 401, 1) // an end shows after CacheFor

	f.set(func() { delete(f.tokens, access) })
	if r := f.pay(t, access, "good"); r.StatusCode != 200 && r.StatusCode != 401 {
		t.Errorf("a token that is dead: %d", r.StatusCode)
	}
}

func TestTwoFactor_Form(t *testing.T) {
	t.Parallel()
	f := askForFactors(t, nil)
	access := f.issue(nil)
	f.pay(t, access, "a&b=c").Body.Close()
	f.pay(t, access).Body.Close()
	if len(f.asked) != 2 || f.asked[0].Get("access_token") != access || f.asked[0].Get("token") != "a&b=c" || f.asked[0].Get("client_id") != service || f.asked[1].Has("token") {
		t.Errorf("asked %v", f.asked)
	}
}

func TestTwoFactor_Answers(t *testing.T) {
	t.Parallel()
	text := func(status int, media, body string) func(*factors) http.HandlerFunc {
		return func(*factors) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", media)
				w.WriteHeader(status)
				io.WriteString(w, body)
			}
		}
	}
	says := func(claims func(*factors) m) func(*factors) http.HandlerFunc {
		return func(f *factors) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, claims(f)) }
		}
	}
	for _, c := range []struct {
		name   string
		answer func(*factors) http.HandlerFunc
		status int
	}{
		{"no second factor is due", says(func(*factors) m { return m{"active": true, "bypass": true} }), 200},
		{"it has expired", says(func(f *factors) m { return m{"active": true, "exp": f.clock.at(0)} }), 401},
		{"active, and no more", says(func(*factors) m { return m{"active": true} }), 401},
		{"bypass of what is not active", says(func(*factors) m { return m{"active": false, "bypass": true} }), 401},
		{"a broken server", text(500, "application/json", `{"active":true,"bypass":true}`), 503},
		{"no such endpoint", text(404, "application/json", `{"active":true,"bypass":true}`), 503},
		{"not JSON", text(200, "text/html", `{"active":true,"bypass":true}`), 503},
		{"cut off", text(200, "application/json", `{"active":true,"bypass":true`), 503},
		{"another type", text(200, "application/json", `{"active":"true","bypass":true}`), 503},
		{"oversized", text(200, "application/json", `{"active":true,"bypass":true,"x":"`+strings.Repeat("a", maxAnswer)+`"}`), 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := askForFactors(t, nil)
			serve := c.answer(f)
			f.answer = func(w http.ResponseWriter, _ url.Values) { serve(w, nil) }
			f.shows(t, f.pay(t, f.issue(nil), "good"), c.status, 1)
		})
	}
	t.Run("nobody answers", func(t *testing.T) {
		t.Parallel()
		f := askForFactors(t, nil)
		access := f.issue(nil)
		f.pay(t, access, "good").Body.Close()
		f.asked, f.ran = nil, 0
		f.double.CloseClientConnections()
		f.double.Close()
		f.shows(t, f.pay(t, access, "good"), 200, 0) // while it is remembered
		f.shows(t, f.pay(t, access, "other"), 503, 0)
	})
	t.Run("it expires before it is forgotten", func(t *testing.T) {
		t.Parallel()
		f := askForFactors(t, nil)
		f.answer = func(w http.ResponseWriter, _ url.Values) {
			writeJSON(w, m{"active": true, "exp": f.clock.at(2 * time.Second)})
		}
		access := f.issue(nil)
		f.shows(t, f.pay(t, access, "good"), 200, 1)
		f.set(func() { f.answer = func(w http.ResponseWriter, _ url.Values) { writeJSON(w, m{"active": false}) } })
		f.clock.advance(2 * time.Second)
		f.shows(t, f.pay(t, access, "good"), 401, 1)
	})
	t.Run("no cache", func(t *testing.T) {
		t.Parallel()
		f := askForFactors(t, func(c *Config) { c.CacheFor = 0 })
		access := f.issue(nil)
		f.shows(t, f.pay(t, access, "good"), 200, 1)
		f.shows(t, f.pay(t, access, "good"), 200, 1)
		f.shows(t, f.pay(t, access), 403, 1)
		f.shows(t, f.pay(t, access), 403, 1)
	})
}

func TestTwoFactor_Misuse(t *testing.T) {
	t.Parallel()
	f := askForFactors(t, nil)
	w := httptest.NewRecorder()
	f.guard.TwoFactor(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("let through") })).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("without Require: %d", w.Code)
	}
	alone := newBundle(t)
	alone.config.ClientID, alone.config.Authentication = "", Authentication{}
	alone.start(t)
	defer func() {
		if recover() == nil {
			t.Error("a service that cannot ask asks for both factors")
		}
	}()
	alone.guard.TwoFactor(http.NotFoundHandler())
}
