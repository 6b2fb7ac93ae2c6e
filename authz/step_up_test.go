package authz_test

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/resource"
)

// payments is a service of the bank that guards itself with package resource, and calls of it by a client.
func payments(t *testing.T, s *authztest.Server, need resource.Need) func(*testing.T, *authztest.Client, map[string]any) *authztest.Answer {
	t.Helper()
	guard, err := resource.New(t.Context(), resource.Config{
		Issuer: s.Issuer, Audience: authztest.Resource, RootCAs: s.Roots, Log: slog.New(slog.DiscardHandler),
		ClientID: "bank-api", Authentication: resource.Certificate(*s.Client("bank-api").Certificate),
	})
	if err != nil {
		t.Fatal(err)
	}
	service := httptest.NewUnstartedServer(guard.Require(need, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	service.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	service.StartTLS()
	t.Cleanup(service.Close)
	trusted := x509.NewCertPool()
	trusted.AddCert(service.Certificate())
	return func(t *testing.T, c *authztest.Client, tokens map[string]any) *authztest.Answer {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, service.URL+"/payments", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+tokens["access_token"].(string))
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{*c.Certificate}}, DisableKeepAlives: true}
		return authztest.Do(t, &http.Client{Transport: transport}, r)
	}
}

// challenged reads what a resource server wants of the customer's login (RFC 9470 §3), as a client does.
func challenged(t *testing.T, a *authztest.Answer) map[string]string {
	t.Helper()
	header := a.Header.Get("WWW-Authenticate")
	if a.Status != http.StatusUnauthorized || !regexp.MustCompile(`^Bearer error="insufficient_user_authentication"`).MatchString(header) {
		t.Fatalf("answered %d, %q", a.Status, header)
	}
	wanted := map[string]string{}
	for _, m := range regexp.MustCompile(`(acr_values|max_age)="([^"]*)"`).FindAllStringSubmatch(header, -1) {
		wanted[m[1]] = m[2]
	}
	return wanted
}

// A client is told that the customer's login will not do, asks for a better one, and gets on (RFC 9470 §4 to §6).
func TestStepUp(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	essential := func(map[string]string) map[string]string {
		return map[string]string{"claims": `{"id_token":{"acr":{"essential":true,"value":"` + authn.SCA + `"}}}`, "max_age": "3600"}
	}
	asTold := func(wanted map[string]string) map[string]string { return wanted }
	oauth := func(wanted map[string]string) map[string]string {
		wanted["scope"], wanted["nonce"] = "accounts", ""
		return wanted
	}
	pay := payments(t, s, resource.Need{ACR: []string{authn.SCA}, MaxAge: time.Hour})
	for _, c := range []struct {
		name, client string
		request      func(wanted map[string]string) map[string]string
	}{
		{"RFC 9470 §4: acr_values and max_age as told, opaque token", "tpp", asTold},
		{"RFC 9470 §4: acr_values and max_age as told, JWT", "tpp-jwt", asTold},
		{"RFC 9470 §4: without OpenID Connect", "tpp", oauth},
		{"OpenID Connect Core §5.5.1.1: an essential acr", "tpp", essential},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.SQL(t, "DELETE FROM second_factors")
			client, b := s.Client(c.client), s.Browser(t)
			page := b.Decide(t, b.Login(t, b.Authorize(t, client.ID, client.Push(t, nil))), "approve", "12")
			weak := client.Exchange(t, page.Left.Query().Get("code"))
			wanted := challenged(t, pay(t, client, weak))
			if wanted["acr_values"] != authn.SCA || wanted["max_age"] != "3600" {
				t.Fatalf("told %v", wanted)
			}
			page = b.Authorize(t, client.ID, client.Push(t, c.request(wanted))) // the password is not asked again
			page = b.Decide(t, enrolled(t, b, page), "approve", "12")
			strong := client.Exchange(t, page.Left.Query().Get("code"))
			if a := pay(t, client, strong); a.Status != http.StatusOK {
				t.Errorf("answered %d %q", a.Status, a.Header.Get("WWW-Authenticate"))
			}
			challenged(t, pay(t, client, weak)) // what was issued before stays what it was
		})
	}
	t.Run("RFC 9470 §4: max_age alone", func(t *testing.T) {
		s.SQL(t, "DELETE FROM second_factors")
		pay := payments(t, s, resource.Need{MaxAge: 2 * time.Second})
		client, b := s.Client("tpp"), s.Browser(t)
		page := b.Decide(t, b.Login(t, b.Authorize(t, client.ID, client.Push(t, nil))), "approve", "12")
		old := client.Exchange(t, page.Left.Query().Get("code"))
		time.Sleep(3100 * time.Millisecond)
		wanted := challenged(t, pay(t, client, old))
		if len(wanted) != 1 || wanted["max_age"] != "2" {
			t.Fatalf("told %v", wanted)
		}
		page = b.Decide(t, b.Login(t, b.Authorize(t, client.ID, client.Push(t, wanted))), "approve", "12")
		if a := pay(t, client, client.Exchange(t, page.Left.Query().Get("code"))); a.Status != http.StatusOK {
			t.Errorf("answered %d %q", a.Status, a.Header.Get("WWW-Authenticate"))
		}
	})
	t.Run("RFC 9470 §5: an acr that the server cannot give", func(t *testing.T) {
		client := s.Client("tpp")
		changes := map[string]string{"scope": "accounts", "nonce": "", "acr_values": "urn:gold"}
		client.Post(t, "/par", client.Params(changes)).Refused(t, 400, "unmet_authentication_requirements")
		changes["acr_values"] += " " + authn.SCA // one of them will do
		client.Push(t, changes)
	})
}
