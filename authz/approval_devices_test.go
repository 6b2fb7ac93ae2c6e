package authz_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

func TestApprovalDevices(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	app := addApp(t, s, "bank-app")
	s.AddCustomer(t, "bob", "99")
	p, bob := startApp(t, s, app, authztest.Username, true), startApp(t, s, app, "bob", true)
	type m = map[string]any
	good := p.proof(t, s, nil)
	for _, c := range []struct {
		name, device, proof string
		status              int
		code                fapi.Code
	}{
		{"no name", "", good, 400, fapi.InvalidRequest},
		{"a name with a line break", "a\nb", good, 400, fapi.InvalidRequest},
		{"a name that turns the text around", "a\u202eb", good, 400, fapi.InvalidRequest},
		{"a name of 65 characters", strings.Repeat("a", 65), good, 400, fapi.InvalidRequest},
		{"no proof", "Phone", "", 400, fapi.InvalidDeviceProof},
		{"another customer's proof", "Phone", p.proof(t, s, m{"sub": bob.sub}), 400, fapi.InvalidDeviceProof},
		{"another server's proof", "Phone", p.proof(t, s, m{"aud": "https://other.example"}), 400, fapi.InvalidDeviceProof},
		{"an old proof", "Phone", p.proof(t, s, m{"iat": time.Now().Unix() - 90}), 400, fapi.InvalidDeviceProof},
		{"a DPoP proof", "Phone", app.Proof(t, "POST", s.Issuer+appDevices, p.token, m{"sub": p.sub, "aud": s.Issuer}), 400, fapi.InvalidDeviceProof},
		{"the proof of a key that another has", "Phone", authztest.Sign(t, jose.ES256, p.key,
			map[jose.HeaderKey]any{"typ": "approval-device+jwt", "jwk": jose.JSONWebKey{Key: bob.key.Public()}}, m{"aud": s.Issuer, "sub": p.sub, "jti": "x", "iat": time.Now().Unix()}), 400, fapi.InvalidDeviceProof},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.call(t, s, http.MethodPost, appDevices, "application/json", asJSON(t, m{"name": c.device, "proof": c.proof})).Refused(t, c.status, c.code)
		})
	}
	add := func(p *phone, proof string) *authztest.Answer {
		return p.call(t, s, http.MethodPost, appDevices, "application/json", asJSON(t, m{"name": "Phone", "proof": proof}))
	}
	if n := s.Count(t, `SELECT count(*) FROM approval_devices`); n != 0 {
		t.Fatalf("%d devices", n)
	}
	p.call(t, s, http.MethodPost, appDevices, "text/plain", "{}").Refused(t, http.StatusUnsupportedMediaType, fapi.InvalidRequest)
	answer := add(p, good)
	id, _ := answer.JSON["id"].(string)
	if answer.Status != http.StatusCreated || len(id) != 36 || answer.JSON["name"] != "Phone" || answer.JSON["client_id"] != "bank-app" {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	t.Run("a key is registered once, for one customer", func(t *testing.T) {
		add(p, p.proof(t, s, nil)).Refused(t, http.StatusConflict, fapi.InvalidRequest)
		stolen := *bob
		stolen.key = p.key
		add(bob, stolen.proof(t, s, nil)).Refused(t, http.StatusConflict, fapi.InvalidRequest)
	})
	t.Run("another customer neither sees nor removes it", func(t *testing.T) {
		bob.call(t, s, http.MethodDelete, appDevices+"/"+id, "", "").Refused(t, http.StatusNotFound, fapi.InvalidRequest)
		if list := bob.get(t, s, appDevices).JSON["devices"]; len(list.([]any)) != 0 {
			t.Errorf("bob sees %v", list)
		}
	})
	t.Run("a proof is used once", func(t *testing.T) {
		if a := p.call(t, s, http.MethodDelete, appDevices+"/"+id, "", ""); a.Status != http.StatusNoContent || len(a.Body) != 0 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		p.call(t, s, http.MethodDelete, appDevices+"/"+id, "", "").Refused(t, http.StatusNotFound, fapi.InvalidRequest)
		p.call(t, s, http.MethodDelete, appDevices+"/x", "", "").Refused(t, http.StatusNotFound, fapi.InvalidRequest)
		add(p, good).Refused(t, http.StatusBadRequest, fapi.InvalidDeviceProof)
		if a := add(p, p.proof(t, s, nil)); a.Status != http.StatusCreated || a.JSON["id"] != id {
			t.Errorf("registered anew: %d %s", a.Status, a.Body)
		}
	})
	t.Run("ten of a customer, however many come at once", func(t *testing.T) {
		var done sync.WaitGroup
		answers := make([]*authztest.Answer, 14)
		for i := range answers {
			one := *p
			one.key = authztest.NewKey(t)
			proof := one.proof(t, s, nil)
			done.Go(func() { answers[i] = add(p, proof) })
		}
		done.Wait()
		statuses := map[int]int{}
		for _, a := range answers {
			statuses[a.Status]++
		}
		if statuses[201] != 9 || statuses[409] != 5 {
			t.Errorf("%v", statuses)
		}
	})
	t.Run("a lost phone: who takes the second factor away takes the devices too", func(t *testing.T) {
		customer, err := s.DB.FindCustomer(t.Context(), "default", authztest.Username)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.DB.RemoveFactors(t.Context(), customer.ID); err != nil {
			t.Fatal(err)
		}
		if n := s.Count(t, `SELECT count(*) FROM approval_devices WHERE customer_id = $1`, customer.ID); n != 0 {
			t.Errorf("%d devices are left", n)
		}
	})
}

// A device is bound to whoever has just shown two factors (RTS (EU) 2018/389 art. 24): with an older token, or a weaker one,
// the app is told what to ask for (RFC 9470).
func TestApprovalDevices_WantStrongAuthentication(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	app := addApp(t, s, "bank-app")
	weak := startApp(t, s, app, authztest.Username, false)
	strong := startApp(t, s, app, authztest.Username, true)
	s.SQL(t, `UPDATE authorizations SET auth_time = now() - interval '16 minutes' WHERE acr = $1`, authn.SCA)
	for name, p := range map[string]*phone{"weak": weak, "old": strong} {
		answer := p.call(t, s, http.MethodPost, appDevices, "application/json", asJSON(t, map[string]any{"name": "Phone", "proof": p.proof(t, s, nil)}))
		answer.Refused(t, http.StatusUnauthorized, fapi.InsufficientUserAuthentication)
		answer.Challenged(t, http.StatusUnauthorized, "DPoP", fapi.InsufficientUserAuthentication)
		if challenge := answer.Header.Get("WWW-Authenticate"); !strings.Contains(challenge, `acr_values="`+authn.SCA+`"`) || !strings.Contains(challenge, `max_age="900"`) {
			t.Errorf("%s: challenged with %q", name, challenge)
		}
	}
}

// Who may call at all.
func TestApprovalApp_Tokens(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	app := addApp(t, s, "bank-app")
	p := startApp(t, s, app, authztest.Username, false)
	own := app.Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"approvals"}})["access_token"].(string)
	less := *app
	less.Scope = "openid accounts"
	b := s.Browser(t)
	page := b.Decide(t, b.Login(t, b.Authorize(t, app.ID, less.Push(t, nil))), "approve", "12")
	other := app.Exchange(t, page.Left.Query().Get("code"))["access_token"].(string)
	elsewhere := *app
	page = b.Decide(t, b.Authorize(t, app.ID, elsewhere.Push(t, map[string]string{"resource": "https://other.example"})), "approve")
	foreign := app.Exchange(t, page.Left.Query().Get("code"))["access_token"].(string)
	id := "0190163d-8694-8f39-a5c3-b9c7a5d1e2f3"
	for _, call := range []struct{ method, path string }{
		{"POST", appDevices}, {"GET", appDevices}, {"DELETE", appDevices + "/" + id},
		{"GET", appRequests}, {"GET", appRequests + "/" + id}, {"POST", appRequests + "/" + id + "/decision"},
	} {
		t.Run(call.method+" "+call.path, func(t *testing.T) {
			for _, c := range []struct {
				name, token string
				status      int
				code        fapi.Code
			}{
				{"RFC 6750 §3.1: a token of the app's own", own, 403, fapi.InsufficientScope},
				{"RFC 6750 §3.1: a token without the scope", other, 403, fapi.InsufficientScope},
				{"RFC 8707 §2: a token for another resource", foreign, 401, fapi.InvalidToken},
				{"RFC 6750 §3.1: a token that is none", "csat_x", 401, fapi.InvalidToken},
			} {
				q := *p
				q.token = c.token
				answer := q.call(t, s, call.method, call.path, "application/json", "{}")
				answer.Challenged(t, c.status, "DPoP", c.code)
				answer.Refused(t, c.status, c.code)
			}
			p.app.Raw(t, call.method, call.path, "", nil).Challenged(t, http.StatusUnauthorized, "Bearer", "")
			// RFC 9449 §7.1: the token alone is not enough.
			p.app.Raw(t, call.method, call.path, "", http.Header{"Authorization": {"Bearer " + p.token}}).Challenged(t, http.StatusUnauthorized, "Bearer", fapi.InvalidToken)
			answer := p.app.Raw(t, "PUT", call.path, "", nil)
			if answer.Status != http.StatusMethodNotAllowed || !strings.Contains(strings.Join(answer.Header["Allow"], ","), call.method) {
				t.Errorf("PUT answered %d, Allow %v", answer.Status, answer.Header["Allow"])
			}
		})
	}
	t.Run("RFC 8693: a service that acts for the customer is not the app", func(t *testing.T) {
		core := addService(t, s, "core", fapi.FAPI2, fapi.TLSClientAuth, authztest.Resource, map[string]any{"scope": "approvals", "tls_client_certificate_bound_access_tokens": true})
		token, _ := core.Token(t, exchangeForm(p.token, url.Values{"audience": {authztest.Resource}}))["access_token"].(string)
		core.Get(t, appRequests, token).Challenged(t, http.StatusForbidden, "Bearer", fapi.InsufficientScope)
	})
	t.Run("an app that registers itself cannot have the scope", func(t *testing.T) {
		s.Config.Scopes = append(slices.Clone(s.Config.Scopes), "approvals") // in the metadata, for all to see
		_, told := mustRegister(t, s, members{"scope": "openid approvals"})
		if scope := fmt.Sprint(told["scope"]); strings.Contains(scope, "approvals") {
			t.Errorf("registered with %q", scope)
		}
	})
}
