package main

import (
	"crypto/tls"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// The suite has requests decided that real pages show.
func TestPhone_DecidesWhatWaits(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := s.AddClient(t, "speaker", fapi.OpenID, fapi.PrivateKeyJWT, map[string]any{
		"grant_types": []string{fapi.GrantCIBA}, "response_types": []string{}, "redirect_uris": []string{}, "backchannel_token_delivery_mode": fapi.Poll,
	})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	all := phones{"alice": {
		http:  &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots}}, Timeout: pageLimit},
		inbox: s.Issuer + "/approvals", username: authztest.Username, password: authztest.Password,
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+phonePath+"{customer}", all.decide)
	call := func(customer, action string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, phonePath+customer+"?action="+action+"&auth_req_id=any", nil))
		return w
	}
	ask := func() url.Values {
		answer := c.Post(t, "/bc-authorize", url.Values{"scope": {"openid accounts"}, "login_hint": {authztest.Username}, "binding_message": {"1234"}})
		id, _ := answer.JSON["auth_req_id"].(string)
		return url.Values{"grant_type": {fapi.GrantCIBA}, "auth_req_id": {id}}
	}
	for name, row := range map[string]struct {
		waiting          int
		customer, action string
		status           int
		outcome          any // the token endpoint's error afterwards
	}{
		"allowed":              {1, "alice", "allow", http.StatusNoContent, nil},
		"denied":               {1, "alice", "deny", http.StatusNoContent, string(fapi.AccessDenied)},
		"left behind":          {3, "alice", "allow", http.StatusNoContent, nil},
		"nothing waits":        {0, "alice", "allow", http.StatusInternalServerError, nil},
		"another action":       {0, "alice", "wait", http.StatusBadRequest, nil},
		"somebody without one": {0, "bob", "allow", http.StatusBadRequest, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var polls []url.Values
			for range row.waiting {
				polls = append(polls, ask())
			}
			if w := call(row.customer, row.action); w.Code != row.status {
				t.Fatalf("answered %d %s", w.Code, w.Body)
			}
			for _, poll := range polls {
				if answer := c.Post(t, "/token", poll); answer.JSON["error"] != row.outcome || row.outcome == nil && answer.JSON["access_token"] == nil {
					t.Errorf("token endpoint: %d %s", answer.Status, answer.Body)
				}
			}
		})
	}
}
