package authz_test

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// backChannel are the endpoints that clients post forms to, each with a request that is good.
func backChannel(s *authztest.Server) []struct {
	path   string
	client *authztest.Client
	form   url.Values
	status int
} {
	tpp := s.Client("tpp-mtls")
	return []struct {
		path   string
		client *authztest.Client
		form   url.Values
		status int
	}{
		{"/par", tpp, tpp.Params(nil), http.StatusCreated},
		{"/token", tpp, url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}}, http.StatusOK},
		{"/introspect", s.Client("bank-api"), url.Values{"token": {"unknown"}, "token_type_hint": {"access_token"}}, http.StatusOK},
		{"/revoke", tpp, url.Values{"token": {"unknown"}, "token_type_hint": {"access_token"}}, http.StatusOK},
	}
}

// What is wrong with these requests is so before anybody asks what they are about. None of them leaves a trace.
func TestBackChannel_RefusesWhatIsNoProperRequest(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	t.Run("cases", func(t *testing.T) {
		for _, e := range backChannel(s) {
			form := e.client.Authenticated(t, e.form)
			with := func(name, value string) string { return form.Encode() + "&" + name + "=" + value }
			body := form.Encode()
			multi, multiType := multipartForm(form)
			for _, c := range []struct {
				name   string
				method string
				query  string
				media  string // "-" is none
				body   string
				status int
				code   fapi.Code
			}{
				{"RFC 6749 §3.2: GET is no way to call it", "GET", "?" + body, "-", "", 405, fapi.InvalidRequest},
				{"PUT is refused", "PUT", "", "", body, 405, fapi.InvalidRequest},
				{"PATCH is refused", "PATCH", "", "", body, 405, fapi.InvalidRequest},
				{"DELETE is refused", "DELETE", "", "", body, 405, fapi.InvalidRequest},
				{"OPTIONS is refused: no browser app calls it across origins", "OPTIONS", "", "", "", 405, fapi.InvalidRequest},
				{"an unknown method is refused", "FROB", "", "", body, 405, fapi.InvalidRequest},

				{"a body without a media type", "POST", "", "-", body, 415, fapi.InvalidRequest},
				{"text/plain", "POST", "", "text/plain", body, 415, fapi.InvalidRequest},
				{"JSON", "POST", "", "application/json", `{"client_id":"tpp-mtls"}`, 415, fapi.InvalidRequest},
				{"multipart", "POST", "", multiType, multi, 415, fapi.InvalidRequest},
				{"a malformed media type", "POST", "", "application/x-www-form-urlencoded; charset", body, 415, fapi.InvalidRequest},
				{"a media type that begins alike", "POST", "", "application/x-www-form-urlencoded-2", body, 415, fapi.InvalidRequest},

				{"RFC 6749 §2.3.1: parameters in the query instead of the body", "POST", "?" + body, "", "", 400, fapi.InvalidRequest},
				{"parameters in the query besides the body", "POST", "?client_id=tpp-mtls", "", body, 400, fapi.InvalidRequest},
				{"an empty body", "POST", "", authztest.FormType, "", 401, fapi.InvalidClient},
				{"a body that is too large", "POST", "", "", with("x", strings.Repeat("x", 65<<10)), 413, fapi.InvalidRequest},
				{"too many parameters", "POST", "", "", with("x", "1") + many(70), 400, fapi.InvalidRequest},
				{"parameters that are too long together", "POST", "", "", with("x", strings.Repeat("x", 33<<10)), 400, fapi.InvalidRequest},
				{"a name that is too long", "POST", "", "", with(strings.Repeat("x", 33<<10), ""), 400, fapi.InvalidRequest},
				{"a broken escape", "POST", "", "", with("x", "%zz"), 400, fapi.InvalidRequest},
				{"half an escape", "POST", "", "", with("x", "%4"), 400, fapi.InvalidRequest},
				{"a semicolon between parameters", "POST", "", "", body + ";x=1", 400, fapi.InvalidRequest},
				{"a NUL in a value", "POST", "", "", with("x", "a%00b"), 400, fapi.InvalidRequest},
				{"invalid UTF-8 in a value", "POST", "", "", with("x", "%ff%fe"), 400, fapi.InvalidRequest},
				{"a NUL in a name", "POST", "", "", with("%00", "x"), 400, fapi.InvalidRequest},
				{"invalid UTF-8 in a name", "POST", "", "", with("%c3%28", "x"), 400, fapi.InvalidRequest},
				{"RFC 6749 §3.2: an unknown parameter twice", "POST", "", "", with("x", "1") + "&x=1", 400, fapi.InvalidRequest},
				{"RFC 6749 §3.2: client_id twice", "POST", "", "", with("client_id", e.client.ID), 400, fapi.InvalidRequest},
			} {
				t.Run(e.path+" "+c.name, func(t *testing.T) {
					header := http.Header{}
					switch c.media {
					case "":
					case "-":
						header["Content-Type"] = nil
					default:
						header.Set("Content-Type", c.media)
					}
					answer := e.client.Raw(t, c.method, e.path+c.query, c.body, header)
					answer.Refused(t, c.status, c.code)
					if allow := answer.Header.Values("Allow"); (c.status == 405) != slices.Equal(allow, []string{"POST"}) {
						t.Errorf("Allow %q", allow)
					}
				})
			}
			for name := range form {
				t.Run(fmt.Sprintf("%s RFC 6749 §3.2: refuses %s twice", e.path, name), func(t *testing.T) {
					e.client.Raw(t, "POST", e.path, with(name, url.QueryEscape(form.Get(name))), nil).Refused(t, 400, fapi.InvalidRequest)
				})
			}
			t.Run(e.path+" a body that is too large and does not tell its length", func(t *testing.T) {
				endless := io.MultiReader(strings.NewReader(body+"&x="), strings.NewReader(strings.Repeat("x", 65<<10)))
				r, err := http.NewRequestWithContext(t.Context(), "POST", e.client.Base()+e.path, endless)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", authztest.FormType)
				authztest.Do(t, e.client.HTTP(), r).Refused(t, 413, fapi.InvalidRequest)
			})
		}
	})
	for _, table := range []string{"authorizations", "used_jtis", "revoked_tokens", "grants"} {
		if n := s.Count(t, "SELECT count(*) FROM "+table); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
}

func TestBackChannel_TakesWhatIsOnlyUnusual(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for _, e := range backChannel(s) {
		body := e.client.Authenticated(t, e.form).Encode()
		for _, c := range []struct{ name, media, body string }{
			{"a plain request", authztest.FormType, body},
			{"a media type with charset", "application/x-www-form-urlencoded; charset=UTF-8", body},
			{"a media type in capitals", "Application/X-WWW-Form-Urlencoded", body},
			{"RFC 6749 §3.2: an unknown parameter", authztest.FormType, body + "&utm_source=x"},
			{"a parameter without a value", authztest.FormType, body + "&x"},
			{"empty pairs", authztest.FormType, "&&" + body + "&"},
		} {
			t.Run(e.path+" "+c.name, func(t *testing.T) {
				answer := e.client.Raw(t, "POST", e.path, c.body, http.Header{"Content-Type": {c.media}})
				if answer.Status != e.status || answer.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("answered %d %s", answer.Status, answer.Body)
				}
			})
		}
	}
}

func TestRoutes_AreOnlyWhatIsDocumented(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	tpp, web := s.Client("tpp-mtls"), s.Client("web")
	for _, c := range []struct {
		name   string
		client *authztest.Client
		method string
		path   string
		status int
		allow  string
	}{
		{"a path with a slash too many is another path", tpp, "POST", "/token/", 404, ""},
		{"paths are case-sensitive", tpp, "POST", "/Token", 404, ""},
		{"no page is served where browsers are asked for certificates", tpp, "GET", "/authorize", 404, ""},
		{"nor a decision", tpp, "POST", "/authorize/decision", 404, ""},
		{"nor the login", tpp, "POST", "/login", 404, ""},
		{"an unknown page", web, "GET", "/nothing", 404, ""},
		{"the metadata cannot be posted to", web, "POST", "/.well-known/openid-configuration", 405, "GET, HEAD"},
		{"nor the keys", web, "DELETE", "/jwks", 405, "GET, HEAD"},
		{"RFC 6749 §3.1: the authorization endpoint has GET and POST", web, "PUT", "/authorize", 405, "GET, POST"},
		{"a decision is posted", web, "GET", "/authorize/decision", 405, "POST"},
		{"OpenID Connect Core §5.3.1: userinfo has GET and POST", web, "DELETE", "/userinfo", 405, "GET, POST"},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer := c.client.Raw(t, c.method, c.path, "", nil)
			if allow := strings.Join(answer.Header.Values("Allow"), ", "); answer.Status != c.status || allow != c.allow {
				t.Errorf("answered %d, Allow %q", answer.Status, allow)
			}
		})
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "&p%d=1", i)
	}
	return b.String()
}

func multipartForm(form url.Values) (body, mediaType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name := range form {
		w.WriteField(name, form.Get(name))
	}
	w.Close()
	return b.String(), w.FormDataContentType()
}
