package authz_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// dead fails the test unless nothing that a grant led to is good any more.
func dead(t *testing.T, s *authztest.Server, c *authztest.Client, tokens map[string]any) {
	t.Helper()
	access := tokens["access_token"].(string)
	c.Get(t, "/userinfo", access).Challenged(t, 401, scheme(c), fapi.InvalidToken)
	if said := s.Client("bank-api").Post(t, "/introspect", url.Values{"token": {access}}); string(said.Body) != inactive {
		t.Errorf("INT-03: introspection says %s", said.Body)
	}
	c.Post(t, "/token", refreshed(tokens["refresh_token"])).Refused(t, 400, fapi.InvalidGrant)
}

func alive(t *testing.T, s *authztest.Server, c *authztest.Client, tokens map[string]any) {
	t.Helper()
	access := tokens["access_token"].(string)
	if info := c.Get(t, "/userinfo", access); info.Status != http.StatusOK {
		t.Errorf("userinfo %d", info.Status)
	}
	if said := s.Client("bank-api").Post(t, "/introspect", url.Values{"token": {access}}); said.JSON["active"] != true {
		t.Errorf("introspection says %s", said.Body)
	}
	c.Token(t, refreshed(tokens["refresh_token"]))
}

// Tokens, opaque or JWT, bound in either way, end with what they stand on.
func TestIsolation_TokensEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		sql   string
		named bool // the request names a consent
	}{
		"the grant was withdrawn":      {"UPDATE grants SET revoked_at = now()", false},
		"the customer was disabled":    {"UPDATE customers SET disabled_at = now()", false},
		"the authorization was ended":  {"UPDATE authorizations SET revoked_at = now()", false},
		"INT-03: the consent expired":  {"UPDATE consents SET expires_at = now() - interval '1 second'", true},
		"INT-03: the consent was over": {"UPDATE consents SET status = 'Revoked'", true},
		"the consent was rejected":     {"UPDATE consents SET status = 'Rejected'", true},
		"the consent is unknown":       {"DELETE FROM consents", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := authztest.Start(t)
			tokens := map[string]map[string]any{}
			for _, id := range []string{"tpp", "tpp-jwt", "tpp-dpop", "web", "spa"} {
				c, changes := s.Client(id), map[string]string{"scope": "openid accounts offline_access"}
				if end.named {
					if id == "spa" || id == "web" {
						continue // public clients create no consents, and one without a binding is like the others
					}
					changes["claims"] = `{"id_token":{"openbanking_intent_id":{"value":"` + c.Consent(t) + `"}}}`
				}
				tokens[id] = c.Grant(t, changes)
				alive(t, s, c, tokens[id])
				tokens[id] = s.Client(id).Grant(t, changes)
			}
			s.SQL(t, end.sql)
			for id := range tokens {
				dead(t, s, s.Client(id), tokens[id])
			}
		})
	}
}

// A disabled client can do nothing, and nothing that it was given is good; when it is enabled again, it is.
func TestIsolation_DisabledClient(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, api := s.Client("tpp-mtls"), s.Client("bank-api")
	tokens := c.Grant(t, nil)
	own := c.Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}})
	uri := c.Push(t, nil)
	p := show(t, s, c, authztest.Username, c.Push(t, nil))
	code := s.Approve(t, c, c.Push(t, nil))
	s.DisableClient(t, c.ID)

	for path, form := range map[string]url.Values{
		"/par": c.Params(nil), "/token": c.ExchangeForm(code), "/revoke": {"token": {tokens["access_token"].(string)}}, "/introspect": {"token": {"x"}},
	} {
		c.Post(t, path, form).Refused(t, 401, fapi.InvalidClient)
	}
	s.Browser(t).Authorize(t, c.ID, uri).Explains(t, 400, fapi.InvalidRequest)
	p.browser.Post(t, p.action, p.form).Explains(t, 400, fapi.InvalidRequestURI)
	for _, token := range []map[string]any{tokens, own} {
		access := token["access_token"].(string)
		c.Get(t, "/userinfo", access).Challenged(t, 401, "Bearer", fapi.InvalidToken)
		if said := api.Post(t, "/introspect", url.Values{"token": {access}}); string(said.Body) != inactive {
			t.Errorf("introspection says %s", said.Body)
		}
	}
	s.EnableClient(t, c.ID)
	alive(t, s, c, tokens)
	c.Exchange(t, code)
}

func TestIsolation_DisabledCustomer(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := s.Client("tpp-mtls")
	p := show(t, s, c, authztest.Username, c.Push(t, nil))
	code := s.Approve(t, c, c.Push(t, nil))
	s.SQL(t, "UPDATE customers SET disabled_at = now()")
	c.Post(t, "/token", c.ExchangeForm(code)).Refused(t, 400, fapi.InvalidGrant)
	p.browser.Post(t, p.action, p.form).Is(t, "login_page")
	b := s.Browser(t)
	if page := b.Login(t, b.Authorize(t, c.ID, c.Push(t, nil))); page.ID() != "login_page" || page.Left != nil {
		t.Errorf("a disabled customer has logged in: page %q", page.ID())
	}
}

// What belongs to one client is nothing to another, and no try of another does it any harm.
func TestIsolation_BetweenClients(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	s.AddCustomer(t, "bob", "99")
	owner, other := s.Client("tpp-mtls"), s.Client("tpp-self")
	t.Run("PAR-04: request_uri", func(t *testing.T) {
		uri := owner.Push(t, nil)
		p := show(t, s, owner, authztest.Username, uri)
		p.browser.Authorize(t, other.ID, uri).Explains(t, 400, fapi.InvalidRequestURI)
		p.form.Set("client_id", other.ID)
		p.browser.Post(t, p.action, p.form).Explains(t, 400, fapi.InvalidRequestURI)
		p.form.Set("client_id", owner.ID)
		page := p.browser.Post(t, p.action, p.form)
		owner.Exchange(t, page.Left.Query().Get("code"))
	})
	t.Run("code", func(t *testing.T) {
		code := s.Approve(t, owner, owner.Push(t, nil))
		other.Verifier = owner.Verifier
		for range 2 {
			other.Post(t, "/token", other.ExchangeForm(code)).Refused(t, 400, fapi.InvalidGrant)
		}
		alive(t, s, owner, owner.Exchange(t, code))
	})
	t.Run("access token", func(t *testing.T) {
		tokens := s.Client("tpp-jwt").Grant(t, nil)
		s.Client("tpp").Get(t, "/userinfo", tokens["access_token"].(string)).Challenged(t, 401, "Bearer", fapi.InvalidToken)
		alive(t, s, s.Client("tpp-jwt"), tokens)
	})
	t.Run("consent", func(t *testing.T) {
		consent := owner.Consent(t)
		named := map[string]string{"claims": `{"id_token":{"openbanking_intent_id":{"value":"` + consent + `"}}}`}
		s.Client("tpp").Post(t, "/par", s.Client("tpp").Params(named)).Refused(t, 400, fapi.InvalidRequest)
		tokens := owner.Grant(t, named)
		t.Run("X: another customer's is refused, and stays as it is", func(t *testing.T) {
			b := s.Browser(t)
			b.LoginAs(t, b.Authorize(t, owner.ID, owner.Push(t, named)), "bob").Returns(t, s, fapi.InvalidRequest, "state-1")
			alive(t, s, owner, tokens)
		})
		for status, changes := range map[string]string{"Rejected": "status = 'Rejected'", "expired": "status = 'Authorised', expires_at = now() - interval '1 second'", "Revoked": "status = 'Revoked', expires_at = NULL"} {
			waiting := owner.Push(t, map[string]string{"claims": named["claims"]})
			s.SQL(t, "UPDATE consents SET "+changes+" WHERE id = $1", consent)
			owner.Post(t, "/par", owner.Params(named)).Refused(t, 400, fapi.InvalidRequest)
			s.Browser(t).Authorize(t, owner.ID, waiting).Returns(t, s, fapi.InvalidRequest, "state-1")
			s.SQL(t, "UPDATE consents SET status = 'Authorised', expires_at = NULL WHERE id = $1", consent)
			if t.Failed() {
				t.Fatalf("a consent that is %s", status)
			}
		}
		s.Browser(t).Authorize(t, owner.ID, owner.Push(t, map[string]string{"scope": "openid", "claims": named["claims"]})).Returns(t, s, fapi.InvalidRequest, "state-1")
	})
	t.Run("a consent belongs to who authorised it", func(t *testing.T) {
		consent := owner.Consent(t)
		details := map[string]string{"authorization_details": `[{"type":"account_information","consent_id":"` + consent + `"}]`}
		tokens := owner.Grant(t, details)
		granted, _ := tokens["authorization_details"].([]any)
		if len(granted) != 1 || granted[0].(map[string]any)["consent_id"] != consent || len(granted[0].(map[string]any)["accounts"].([]any)) != 1 {
			t.Errorf("RAR-04: %v", tokens["authorization_details"])
		}
		alive(t, s, owner, tokens)
	})
}
