package authz_test

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

func TestPAR_Refuses(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	foreign := s.Client("tpp-dpop").Consent(t)
	claims := `{"id_token":{"openbanking_intent_id":{"value":"` + foreign + `"}}}`
	strict := []badRequest{
		{"FAPI 2.0 §5.3.2.2: response_type code id_token", url.Values{"response_type": {"code id_token"}}, fapi.UnsupportedResponseType, ""},
		{"FAPI2 F2-09: response_mode fragment", url.Values{"response_mode": {"fragment"}}, fapi.InvalidRequest, ""},
		{"FAPI 2.0 §5.3.2.2: no code_challenge", url.Values{"code_challenge": nil, "code_challenge_method": nil}, fapi.InvalidRequest, ""},
		{"a scope that is unknown besides good ones", url.Values{"scope": {"openid payments"}}, fapi.InvalidScope, ""},
		{"RFC 9126 §2.1: request_uri in a pushed request", url.Values{"request_uri": {"urn:ietf:params:oauth:request_uri:x"}}, fapi.InvalidRequest, ""},
		{"an empty request_uri in a pushed request", url.Values{"request_uri": {""}}, fapi.InvalidRequest, ""},
		{"the consent of another client in claims", url.Values{"claims": {claims}}, fapi.InvalidRequest, ""},
		{"the consent of another client in authorization_details", url.Values{"authorization_details": {`[{"type":"account_information","consent_id":"` + foreign + `"}]`}}, fapi.InvalidRequest, ""},
	}
	t.Run("cases", func(t *testing.T) {
		for _, id := range []string{"tpp-mtls", "web"} {
			c := s.Client(id)
			cases := badRequests()
			if id == "tpp-mtls" {
				cases = append(cases, strict...)
			}
			for _, bad := range cases {
				t.Run(id+" "+bad.name, func(t *testing.T) {
					pushRaw(t, c, bad.on(c.Params(nil))).Refused(t, http.StatusBadRequest, bad.code)
				})
			}
			for name, uris := range badRedirects {
				t.Run(id+" FAPI 2.0 §5.3.2.2: redirect_uri: "+name, func(t *testing.T) {
					bad := badRequest{change: url.Values{"redirect_uri": uris}}
					pushRaw(t, c, bad.on(c.Params(nil))).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
				})
			}
		}
		t.Run("RFC 7636 §4.4.1: a public client without code_challenge", func(t *testing.T) {
			spa := s.Client("spa")
			pushRaw(t, spa, spa.Params(map[string]string{"code_challenge": "", "code_challenge_method": ""})).Refused(t, 400, fapi.InvalidRequest)
		})
		t.Run("a client that has no authorization code grant", func(t *testing.T) {
			api := s.Client("bank-api")
			pushRaw(t, api, api.Params(nil)).Refused(t, 400, fapi.UnauthorizedClient)
		})
		t.Run("RFC 6749 §4.1.1: client_id is missing though the assertion names the client", func(t *testing.T) {
			tpp := s.Client("tpp")
			pushRaw(t, tpp, tpp.Params(map[string]string{"client_id": ""})).Refused(t, 400, fapi.InvalidRequest)
		})
		t.Run("RFC 9126 §2: a client that does not authenticate", func(t *testing.T) {
			tpp := s.Client("tpp")
			tpp.Raw(t, "POST", "/par", tpp.Params(nil).Encode(), nil).Refused(t, 401, fapi.InvalidClient)
		})
	})
	if n := s.Count(t, "SELECT count(*) FROM authorizations"); n != 0 {
		t.Errorf("%d authorizations are stored", n)
	}
	if n := s.Count(t, "SELECT count(*) FROM consents WHERE status <> 'AwaitingAuthorisation'"); n != 0 {
		t.Errorf("%d consents have changed", n)
	}
}

func TestPAR_Takes(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := s.Client("tpp-mtls")
	var uris sync.Map
	t.Run("cases", func(t *testing.T) {
		for _, good := range goodRequests() {
			t.Run(good.name, func(t *testing.T) {
				answer := pushRaw(t, c, good.on(c.Params(nil)))
				uri, _ := answer.JSON["request_uri"].(string)
				if answer.Status != http.StatusCreated || answer.JSON["expires_in"] != 60.0 || len(answer.JSON) != 2 {
					t.Fatalf("answered %d %s", answer.Status, answer.Body)
				}
				if cache := answer.Header.Get("Cache-Control"); cache != "no-store" {
					t.Errorf("RFC 9126 §2.2: Cache-Control %q", cache)
				}
				random, ok := strings.CutPrefix(uri, "urn:ietf:params:oauth:request_uri:")
				if !ok || len(random) != 43 {
					t.Errorf("request_uri %q", uri)
				}
				if _, twice := uris.LoadOrStore(uri, true); twice {
					t.Error("one request_uri for two requests")
				}
			})
		}
	})
	if n, want := s.Count(t, "SELECT count(*) FROM authorizations WHERE status = 'pending' AND client_id = $1", c.ID), len(goodRequests()); n != want {
		t.Errorf("%d requests are pending, want %d", n, want)
	}
}

// RFC 9126 §7: what authenticates the client is not stored with its request.
func TestPAR_KeepsNoCredentials(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	post := s.AddClient(t, "web-post", fapi.OpenID, fapi.ClientSecretPost, nil)
	post.Push(t, nil)
	s.Client("tpp").Push(t, nil)
	b := s.Browser(t)
	for _, c := range []*authztest.Client{post, s.Client("tpp")} {
		page := b.Authorize(t, c.ID, c.Push(t, nil))
		for _, secret := range []string{"client_assertion", post.Secret} {
			if strings.Contains(string(page.Body), secret) {
				t.Errorf("the page knows %s", secret)
			}
		}
	}
}

// X7: a profile that does not demand HTTPS takes any port of a registered loopback address (RFC 8252 §7.3), and nothing
// else of it.
func TestPAR_LoopbackRedirects(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	app := s.AddClient(t, "native", fapi.OpenID, fapi.NoAuth, map[string]any{
		"grant_types": []string{"authorization_code"}, "redirect_uris": []string{authztest.RedirectURI, "http://127.0.0.1/cb", "com.example.app:/cb"},
	})
	for uri, status := range map[string]int{
		"http://127.0.0.1/cb": 201, "http://127.0.0.1:51004/cb": 201, "com.example.app:/cb": 201,
		"http://127.0.0.1:51004/other": 400, "http://127.0.0.1.evil.example/cb": 400, "http://127.0.0.1:80@evil.example/cb": 400,
		"http://localhost:51004/cb": 400, "https://127.0.0.1:51004/cb": 400, "http://127.0.0.1:0/cb": 400, "http://127.0.0.1:99999/cb": 400, "com.example.app:/cb/x": 400,
	} {
		t.Run(uri, func(t *testing.T) {
			if answer := pushRaw(t, app, app.Params(map[string]string{"redirect_uri": uri})); answer.Status != status {
				t.Errorf("answered %d %s, want %d", answer.Status, answer.Body, status)
			}
		})
	}
}

// One assertion pushes one request, however many arrive at once.
func TestPAR_TakesAnAssertionOnce(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	tpp := s.Client("tpp")
	form := tpp.Authenticated(t, tpp.Params(map[string]string{"state": rand.Text()}))
	var taken, refused atomic.Int32
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			switch answer := tpp.Send(t, "/par", form, nil); {
			case answer.Status == http.StatusCreated:
				taken.Add(1)
			case answer.Status == http.StatusUnauthorized && answer.JSON["error"] == "invalid_client":
				refused.Add(1)
			default:
				t.Errorf("answered %d %s", answer.Status, answer.Body)
			}
		})
	}
	all.Wait()
	if taken.Load() != 1 || refused.Load() != 11 {
		t.Errorf("%d taken, %d refused", taken.Load(), refused.Load())
	}
	if n := s.Count(t, "SELECT count(*) FROM authorizations"); n != 1 {
		t.Errorf("%d requests are stored", n)
	}
}
