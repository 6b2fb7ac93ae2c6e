package authz_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

func tokenOf(t *testing.T, a *authztest.Answer) string {
	t.Helper()
	if a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	return a.JSON["registration_access_token"].(string)
}

// RFC 7592 §2.1: a client reads what it registered; its token does not change.
func TestRegistration_Read(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	_, told := mustRegister(t, s, members{"client_uri": "https://app.example"})
	token := told["registration_access_token"].(string)
	for range 2 {
		answer := manage(t, s, http.MethodGet, told, token, nil)
		want := members{}
		for name, value := range told {
			want[name] = value
		}
		delete(want, "client_secret") // only its hash is kept
		if diff := cmp.Diff(want, answer.JSON); answer.Status != http.StatusOK || diff != "" {
			t.Errorf("%d (-want +got):\n%s", answer.Status, diff)
		}
		if answer.Header.Get("Cache-Control") != "no-store" {
			t.Error("it may be cached")
		}
	}
}

func TestRegistration_WrongToken(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, told := mustRegister(t, s, nil)
	_, other := mustRegister(t, s, nil)
	token := told["registration_access_token"].(string)
	foreign := other["registration_access_token"].(string)
	update := newcomer(members{"client_id": c.ID})
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		for name, wrong := range map[string]string{"none": "", "made up": "x", "another client's": foreign, "the secret": c.Secret, "the client's id": c.ID} {
			t.Run(method+" "+name, func(t *testing.T) {
				refusedToken(t, manage(t, s, method, told, wrong, update))
			})
		}
		for _, id := range []string{"dcr-AAAAAAAAAAAAAAAAAAAAAAAAAA", "tpp", "web"} {
			t.Run(method+" "+id, func(t *testing.T) {
				refusedToken(t, manage(t, s, method, members{"client_id": id}, token, update))
			})
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPatch} {
		if answer := manage(t, s, method, told, token, update); answer.Status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, answer.Status)
		}
	}
	// Neither client has suffered.
	tokenOf(t, manage(t, s, http.MethodGet, told, token, nil))
	tokenOf(t, manage(t, s, http.MethodGet, other, foreign, nil))

	s.DisableClient(t, c.ID)
	refusedToken(t, manage(t, s, http.MethodGet, told, token, nil))
	refusedToken(t, manage(t, s, http.MethodPut, told, token, update))
	refusedToken(t, manage(t, s, http.MethodDelete, told, token, nil))
}

// RFC 7592 §2.2: an update replaces everything.
func TestRegistration_Replace(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	c, told := mustRegister(t, one, members{"client_uri": "https://app.example", "contacts": []string{"a@app.example"}})
	token := told["registration_access_token"].(string)

	for name, changes := range map[string]members{
		"without client_id":         {"client_id": nil},
		"another client_id":         {"client_id": "web"},
		"registration_access_token": {"registration_access_token": token},
		"registration_client_uri":   {"registration_client_uri": told["registration_client_uri"]},
		"client_id_issued_at":       {"client_id_issued_at": told["client_id_issued_at"]},
		"client_secret_expires_at":  {"client_secret_expires_at": 0},
		"a secret of its choice":    {"client_secret": "mine"},
		"another profile":           {"profile": "fapi2"},
		"metadata that are wrong":   {"initiate_login_uri": "http://x"},
	} {
		t.Run(name, func(t *testing.T) {
			body := newcomer(members{"client_id": c.ID})
			for member, value := range changes {
				body[member] = value
			}
			manage(t, one, http.MethodPut, told, token, body).Refused(t, http.StatusBadRequest, fapi.InvalidClientMetadata)
		})
	}
	manage(t, one, http.MethodPut, told, token, newcomer(members{"client_id": c.ID, "redirect_uris": []string{"https://x/#y"}})).Refused(t, http.StatusBadRequest, fapi.InvalidRedirectURI)
	if got := manage(t, one, http.MethodGet, told, token, nil); got.JSON["client_uri"] != "https://app.example" {
		t.Errorf("an update that was refused changed something: %s", got.Body)
	}

	answer := manage(t, one, http.MethodPut, told, token, newcomer(members{"client_id": c.ID, "client_secret": c.Secret, "client_name": "Renamed", "scope": "openid"}))
	next := tokenOf(t, answer)
	if next == token || answer.JSON["client_name"] != "Renamed" || answer.JSON["client_uri"] != nil || answer.JSON["contacts"] != nil || answer.JSON["client_secret"] != c.Secret ||
		answer.JSON["client_id_issued_at"] != told["client_id_issued_at"] {
		t.Errorf("%s", answer.Body)
	}
	// It counts at once here, and soon there.
	c.Post(t, "/token", credentialsGrant).Refused(t, http.StatusBadRequest, fapi.InvalidScope)
	other := two.Client("web")
	other.ID, other.Secret = c.ID, c.Secret
	soon(t, "two knows the new scope", func() bool { return other.Post(t, "/token", credentialsGrant).Status == http.StatusBadRequest })

	t.Run("the way of authentication changes", func(t *testing.T) {
		public := manage(t, one, http.MethodPut, told, next, members{"client_id": c.ID, "redirect_uris": []string{authztest.RedirectURI}, "token_endpoint_auth_method": "none"})
		third := tokenOf(t, public)
		if public.JSON["client_secret"] != nil || public.JSON["client_secret_expires_at"] != nil {
			t.Errorf("%s", public.Body)
		}
		again := manage(t, one, http.MethodPut, told, third, newcomer(members{"client_id": c.ID}))
		if secret, _ := again.JSON["client_secret"].(string); secret == "" || secret == c.Secret {
			t.Errorf("no new secret: %s", again.Body)
		} else {
			c.Post(t, "/token", url.Values{"grant_type": {"client_credentials"}}).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
			c.Secret = secret
			if answer := c.Post(t, "/token", url.Values{"grant_type": {"client_credentials"}}); answer.Status != http.StatusOK {
				t.Errorf("%d %s", answer.Status, answer.Body)
			}
		}
	})
}

// RFC 7592 §2.2, DCR-04: an update gives out a new token. The old one is good until the new one was used, so that a client
// that did not get the answer is not locked out.
func TestRegistration_TokenRotates(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, told := mustRegister(t, s, nil)
	update := newcomer(members{"client_id": c.ID})
	first := told["registration_access_token"].(string)

	lost := tokenOf(t, manage(t, s, http.MethodPut, told, first, update))
	if got := tokenOf(t, manage(t, s, http.MethodGet, told, first, nil)); got != first {
		t.Error("reading told another token than the one that came")
	}
	second := tokenOf(t, manage(t, s, http.MethodPut, told, first, update)) // the client tries again
	refusedToken(t, manage(t, s, http.MethodGet, told, lost, nil))          // what was lost is no good to who found it
	tokenOf(t, manage(t, s, http.MethodGet, told, second, nil))
	refusedToken(t, manage(t, s, http.MethodGet, told, first, nil))
	refusedToken(t, manage(t, s, http.MethodPut, told, first, update))
	refusedToken(t, manage(t, s, http.MethodDelete, told, first, nil))

	third := tokenOf(t, manage(t, s, http.MethodPut, told, second, update))
	fourth := tokenOf(t, manage(t, s, http.MethodPut, told, third, update)) // the first use of the third is an update
	refusedToken(t, manage(t, s, http.MethodGet, told, second, nil))
	tokenOf(t, manage(t, s, http.MethodGet, told, third, nil))
	if answer := manage(t, s, http.MethodDelete, told, fourth, nil); answer.Status != http.StatusNoContent {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
}

// RFC 7592 §2.3: nothing of a client that was deleted lives on, on any server.
func TestRegistration_Delete(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	c, told := mustRegister(t, one, members{"scope": "openid accounts profile"})
	other := two.Client("web")
	other.ID, other.Secret = c.ID, c.Secret
	tokens := c.Exchange(t, one.Approve(t, c, c.Push(t, nil)))
	access := tokens["access_token"].(string)
	alone := c.Post(t, "/token", credentialsGrant).JSON["access_token"].(string)
	code := one.Approve(t, c, c.Push(t, nil))
	api1, api2 := one.Client("bank-api"), two.Client("bank-api")
	if !isActive(t, api1, access) || !isActive(t, api2, alone) {
		t.Fatal("the tokens are not active to begin with")
	}
	waiting := c.Push(t, nil)

	token := told["registration_access_token"].(string)
	gone := manage(t, two, http.MethodDelete, told, token, nil)
	if gone.Status != http.StatusNoContent || len(gone.Body) != 0 || gone.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", gone.Status, gone.Body)
	}
	if isActive(t, api1, access) || isActive(t, api2, access) || isActive(t, api2, alone) {
		t.Error("a token is active after its client was deleted")
	}
	other.Post(t, "/token", credentialsGrant).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	soon(t, "one knows that the client is gone", func() bool { return c.Post(t, "/token", credentialsGrant).Status == http.StatusUnauthorized })
	if isActive(t, api1, alone) {
		t.Error("the client's own token is active on the other server")
	}
	c.Post(t, "/token", c.ExchangeForm(code)).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	one.Browser(t).Authorize(t, c.ID, waiting).Is(t, "error_page")
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		refusedToken(t, manage(t, one, method, told, token, newcomer(members{"client_id": c.ID})))
	}
	if n := one.Count(t, `SELECT (SELECT count(*) FROM clients WHERE client_id = $1) + (SELECT count(*) FROM registrations WHERE client_id = $1)
        + (SELECT count(*) FROM grants WHERE client_id = $1 AND revoked_at IS NULL)`, c.ID); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}
