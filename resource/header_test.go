package resource

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/countersign/countersign/fapi"
)

func TestHeader(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	token := b.issue(nil)
	for _, test := range []struct {
		name   string
		values []string
		status int
		code   fapi.Code
	}{
		{"RFC 6750 §2.1: accepts Bearer", []string{"Bearer " + token}, 200, ""},
		{"RFC 9110 §11.1: accepts bearer", []string{"bearer " + token}, 200, ""},
		{"RFC 9110 §11.1: accepts bEaReR", []string{"bEaReR " + token}, 200, ""},
		{"RFC 9110 §11.4: accepts two spaces", []string{"Bearer  " + token}, 200, ""},
		{"RFC 6750 §3.1: no code when nothing was brought", nil, 401, ""},
		{"RFC 6750 §3: refuses another scheme", []string{"Basic " + token}, 401, ""},
		{"RFC 6750 §3: refuses a token without a scheme", []string{token}, 401, ""},
		{"RFC 9110 §11.6.2: refuses two headers", []string{"Bearer " + token, "Bearer " + token}, 400, fapi.InvalidRequest},
		{"RFC 9110 §11.6.2: refuses two headers, the second of another scheme", []string{"Bearer " + token, "Basic x"}, 400, fapi.InvalidRequest},
		{"RFC 9110 §11.6.2: refuses two in one", []string{"Bearer " + token + ", Bearer " + token}, 401, fapi.InvalidToken},
		{"RFC 6750 §2.1: refuses a scheme without a token", []string{"Bearer"}, 401, fapi.InvalidToken},
		{"RFC 6750 §2.1: refuses = alone", []string{"Bearer =="}, 401, fapi.InvalidToken},
		{"RFC 6750 §2.1: refuses a tab for the space", []string{"Bearer\t" + token}, 401, ""},
		{"RFC 6750 §2.1: refuses characters that no token has", []string{"Bearer " + token + "\x80"}, 401, fapi.InvalidToken},
		{"refuses a token of more than 16 KiB", []string{"Bearer " + strings.Repeat("x", maxToken+1)}, 401, fapi.InvalidToken},
		{"refuses an unknown token", []string{"Bearer unknown"}, 401, fapi.InvalidToken},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			expect(t, b.call(t, tppCert, "GET", "/accounts", http.Header{"Authorization": test.values}), test.status, test.code)
		})
	}
}

func TestHeader_otherPlaces(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	token := b.issue(nil)
	good := "Bearer " + token
	const form = "application/x-www-form-urlencoded"
	for _, test := range []struct {
		name                                  string
		authorization, query, mediaType, body string
		status                                int
		code                                  fapi.Code
	}{
		{"FAPI 2.0 §5.3.4: refuses a token in the query", "", "?access_token=" + token, "", "", 400, fapi.InvalidRequest},
		{"RFC 6750 §2: refuses one in header and query", good, "?x=1&access_token=" + token, "", "", 400, fapi.InvalidRequest},
		{"RFC 6750 §2: refuses one in an escaped name", good, "?access%5ftoken=x", "", "", 400, fapi.InvalidRequest},
		{"accepts another query", good, "?page=2", "", "", 200, ""},
		{"FAPI 2.0 §5.3.4: refuses a token in a form", "", "", form, "access_token=" + token, 400, fapi.InvalidRequest},
		{"RFC 6750 §2: refuses one in header and form", good, "", form + "; charset=utf-8", "a=b&access_token=" + token, 400, fapi.InvalidRequest},
		{"hands a form on whole", good, "", form, "a=b&c=" + strings.Repeat("d", 2*maxForm), 200, ""},
		{"hands JSON on unread", good, "", "application/json", `{"access_token":"x"}`, 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := must(http.NewRequest("POST", b.service.URL+"/accounts"+test.query, strings.NewReader(test.body)))
			if test.authorization != "" {
				r.Header.Set("Authorization", test.authorization)
			}
			r.Header.Set("Content-Type", test.mediaType)
			response := must(b.as(tppCert).Do(r))
			if test.status == 200 {
				if body := must(io.ReadAll(response.Body)); string(body) != test.body {
					t.Errorf("the handler got %d bytes of %d", len(body), len(test.body))
				}
			}
			expect(t, response, test.status, test.code)
		})
	}
}

func TestChallenges(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	dpopToken := b.issue(m{"cnf": m{"jkt": jkt(tppKey)}})
	for _, test := range []struct {
		name, authorization string
		want                []string
	}{
		{"RFC 9449 §7.2: offers both schemes", "", []string{`DPoP algs="ES256 PS256 EdDSA"`, `Bearer`}},
		{
			"RFC 6750 §3: says what was wrong", "Bearer unknown",
			[]string{`Bearer error="invalid_token", error_description="The access token is unknown, expired, revoked, or not meant for this service."`},
		},
		{
			"RFC 9449 §7.1: answers in the scheme of the call", "DPoP unknown",
			[]string{`DPoP error="invalid_dpop_proof", error_description="The request needs exactly one DPoP header.", algs="ES256 PS256 EdDSA"`},
		},
		{
			"RFC 9449 §7.2: offers DPoP for a token that was presented as Bearer", "Bearer " + dpopToken,
			[]string{
				`Bearer error="invalid_token", error_description="The access token is bound by DPoP: its scheme is DPoP, and it needs a proof."`,
				`DPoP algs="ES256 PS256 EdDSA"`,
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			header := http.Header{}
			if test.authorization != "" {
				header.Set("Authorization", test.authorization)
			}
			r := b.call(t, tppCert, "GET", "/accounts", header)
			defer r.Body.Close()
			if got := r.Header["Www-Authenticate"]; r.StatusCode != 401 || strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("status %d\ngot  %q\nwant %q", r.StatusCode, got, test.want)
			}
		})
	}
}

func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{"", "Bearer x", "dpop  a.b.c==", "Bearer", "Bearer ", "Basic eA==", "Bearer a b", "\x00 x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		s, token, err := parseAuthorization([]string{value})
		if (err == nil) != (token != "") {
			t.Fatalf("token %q with error %v", token, err)
		}
		if err != nil {
			if status := fapi.AsError(err).Status; status != 401 && status != 400 {
				t.Fatalf("status %d", status)
			}
			return
		}
		if strings.ContainsAny(token, " ,\"\r\n\t") || len(token) > maxToken || s != bearer && s != dpop {
			t.Fatalf("%q was read as %s %q", value, s, token)
		}
		if again, same, err := parseAuthorization([]string{string(s) + " " + token}); err != nil || again != s || same != token {
			t.Fatalf("%q is read otherwise when it is written again", value)
		}
	})
}
