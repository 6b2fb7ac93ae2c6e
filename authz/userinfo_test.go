package authz_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

func TestUserInfo(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	web, tpp := s.Client("web"), s.Client("tpp-mtls")
	tokens := web.Grant(t, map[string]string{"scope": "openid profile email accounts offline_access"})
	bound := tpp.Grant(t, nil)
	good := tokens["access_token"].(string)
	plain := s.Client("web").Grant(t, map[string]string{"scope": "accounts"})["access_token"].(string)
	own := web.Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}})["access_token"].(string)
	expired := s.Client("web")
	body := func(token string) string { return url.Values{"access_token": {token}}.Encode() }

	for _, c := range []struct {
		name          string
		client        *authztest.Client
		method, path  string
		authorization []string
		media, body   string
		status        int
		code          fapi.Code // "" is a challenge without one
	}{
		{"RFC 6750 §3.1: nothing: the challenge names no error", web, "GET", "/userinfo", nil, "", "", 401, ""},
		{"another scheme", web, "GET", "/userinfo", []string{"Basic d2ViOng="}, "", "", 401, ""},
		{"a scheme alone", web, "GET", "/userinfo", []string{"Bearer"}, "", "", 401, ""},
		{"a token alone", web, "GET", "/userinfo", []string{good}, "", "", 401, ""},
		{"an unknown token", web, "GET", "/userinfo", []string{"Bearer x"}, "", "", 401, fapi.InvalidToken},
		{"two tokens in one header", web, "GET", "/userinfo", []string{"Bearer " + good + " " + good}, "", "", 401, fapi.InvalidToken},
		{"a token with something behind", web, "GET", "/userinfo", []string{"Bearer " + good + "A"}, "", "", 401, fapi.InvalidToken},
		{"a token that was changed", web, "GET", "/userinfo", []string{"Bearer " + flipped(good, 30)}, "", "", 401, fapi.InvalidToken},
		{"a refresh token", web, "GET", "/userinfo", []string{"Bearer " + tokens["refresh_token"].(string)}, "", "", 401, fapi.InvalidToken},
		{"AT-02: an ID token", web, "GET", "/userinfo", []string{"Bearer " + tokens["id_token"].(string)}, "", "", 401, fapi.InvalidToken},
		{"a very long token", web, "GET", "/userinfo", []string{"Bearer " + strings.Repeat("x", 100000)}, "", "", 401, fapi.InvalidToken},
		{"F2-11: a token in the query", web, "GET", "/userinfo?access_token=" + url.QueryEscape(good), nil, "", "", 401, ""},
		{"F2-11: a token in the query and in the header", web, "GET", "/userinfo?access_token=x", []string{"Bearer " + good}, "", "", 400, fapi.InvalidRequest},
		{"OpenID Connect Core §5.3.1: a token without openid", web, "GET", "/userinfo", []string{"Bearer " + plain}, "", "", 403, fapi.InsufficientScope},
		{"a token that speaks for no customer", web, "GET", "/userinfo", []string{"Bearer " + own}, "", "", 403, fapi.InsufficientScope},
		{"an unknown token in the body", web, "POST", "/userinfo", nil, authztest.FormType, body("x"), 401, fapi.InvalidToken},
		{"RFC 6750 §2: a token in the body and in the header", web, "POST", "/userinfo", []string{"Bearer " + good}, authztest.FormType, body(good), 400, fapi.InvalidRequest},
		{"a token in the body twice", web, "POST", "/userinfo", nil, authztest.FormType, body(good) + "&" + body(good), 400, fapi.InvalidRequest},
		{"a body that is JSON", web, "POST", "/userinfo", nil, "application/json", `{"access_token":"x"}`, 415, fapi.InvalidRequest},
		{"a body that is too large", web, "POST", "/userinfo", nil, authztest.FormType, body(strings.Repeat("x", 70000)), 413, fapi.InvalidRequest},
		{"a token in the body and a query", web, "POST", "/userinfo?x=1", nil, authztest.FormType, body(good), 400, fapi.InvalidRequest},
		{"an empty body", web, "POST", "/userinfo", nil, authztest.FormType, "", 401, ""},
		{"F2-11: a bound token in the body", tpp, "POST", "/userinfo", nil, authztest.FormType, body(bound["access_token"].(string)), 401, fapi.InvalidToken},
	} {
		t.Run("refuses "+c.method+" "+c.name, func(t *testing.T) {
			header := http.Header{"Authorization": c.authorization}
			if c.media != "" {
				header.Set("Content-Type", c.media)
			}
			answer := c.client.Raw(t, c.method, c.path, c.body, header)
			answer.Challenged(t, c.status, "Bearer", c.code)
			if len(answer.Body) != 0 {
				t.Errorf("body %s", answer.Body)
			}
		})
	}
	for name, r := range map[string]struct {
		method, authorization, media, body string
	}{
		"GET":                              {"GET", "Bearer " + good, "", ""},
		"F2-11: the scheme in any case":    {"GET", "bEARER " + good, "", ""},
		"POST with the header":             {"POST", "Bearer " + good, authztest.FormType, ""},
		"POST with a body that is no form": {"POST", "Bearer " + good, "application/json", "{}"},
		"RFC 6750 §2.2: POST with a form":  {"POST", "", authztest.FormType, body(good)},
	} {
		t.Run("answers "+name, func(t *testing.T) {
			header := http.Header{"Content-Type": {r.media}}
			if r.authorization != "" {
				header.Set("Authorization", r.authorization)
			}
			answer := web.Raw(t, r.method, "/userinfo", r.body, header)
			if answer.Status != http.StatusOK || answer.Header.Get("Content-Type") != "application/json" || answer.Header.Get("Cache-Control") != "no-store" {
				t.Fatalf("answered %d %s", answer.Status, answer.Body)
			}
			if answer.JSON["sub"] != idClaims(t, tokens)["sub"] || answer.JSON["email"] != "alice@example.com" || answer.JSON["phone_number"] != nil {
				t.Errorf("OP-03: %s", answer.Body)
			}
		})
	}
	t.Run("OP-03: only what the scopes and the claims parameter ask for", func(t *testing.T) {
		less := expired.Grant(t, map[string]string{"scope": "openid accounts", "claims": `{"userinfo":{"email":{"essential":true},"shoe_size":null,"sub":{"value":"x"}}}`})
		answer := web.Get(t, "/userinfo", less["access_token"].(string))
		if answer.JSON["email"] != "alice@example.com" || len(answer.JSON) != 2 || answer.JSON["sub"] == "x" {
			t.Errorf("answered %s", answer.Body)
		}
	})
}
