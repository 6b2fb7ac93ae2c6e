package authz_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// refreshed is the form that refreshes.
func refreshed(token any, pairs ...string) url.Values {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.(string)}}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return form
}

// A refresh that is refused leaves the token as good as it was.
func TestToken_RefusesRefreshes(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for _, c := range []struct {
		name   string
		client string
		change func(t *testing.T, c *authztest.Client, form url.Values, tokens map[string]any) *authztest.Client // who sends it
		status int
		code   fapi.Code
	}{
		{"RFC 6749 §6: a scope that was not granted", "tpp-mtls", scoped("openid email"), 400, fapi.InvalidScope},
		{"a scope that the client does not have", "tpp-mtls", scoped("payments"), 400, fapi.InvalidScope},
		{"a scope in capitals", "tpp-mtls", scoped("OPENID"), 400, fapi.InvalidScope},
		{"of a public client: a scope that was not granted", "spa", scoped("openid email"), 400, fapi.InvalidScope},
		{"RFC 8707 §2.2: a resource that was not asked for", "tpp-mtls", aimed("https://other.example"), 400, fapi.InvalidTarget},
		{"of a public client: a resource that is unknown", "spa", aimed("https://nowhere.example"), 400, fapi.InvalidTarget},
		{"F2-03: another client", "tpp-mtls", by("tpp"), 400, fapi.InvalidGrant},
		{"of a public client: another client", "spa", by("web"), 400, fapi.InvalidGrant},
		{"F2-03: without client authentication", "tpp-mtls", func(t *testing.T, c *authztest.Client, _ url.Values, _ map[string]any) *authztest.Client {
			c.Certificate = nil
			return c
		}, 401, fapi.InvalidClient},
		{"F2-03: without a certificate to bind to", "tpp", func(t *testing.T, c *authztest.Client, _ url.Values, _ map[string]any) *authztest.Client {
			c.Certificate = nil
			return c
		}, 400, fapi.InvalidRequest},
		{"the access token as refresh token", "tpp-mtls", presents("access_token"), 400, fapi.InvalidGrant},
		{"the ID token as refresh token", "tpp-mtls", presents("id_token"), 400, fapi.InvalidGrant},
		{"a JWT access token as refresh token", "tpp-jwt", presents("access_token"), 400, fapi.InvalidGrant},
		{"the refresh token with something behind", "tpp-mtls", func(_ *testing.T, c *authztest.Client, form url.Values, _ map[string]any) *authztest.Client {
			form.Set("refresh_token", form.Get("refresh_token")+"A")
			return c
		}, 400, fapi.InvalidGrant},
		{"the refresh token with a line break", "tpp-mtls", func(_ *testing.T, c *authztest.Client, form url.Values, _ map[string]any) *authztest.Client {
			form.Set("refresh_token", form.Get("refresh_token")+"\n")
			return c
		}, 400, fapi.InvalidGrant},
		{"the refresh token with the access token's prefix", "tpp-mtls", func(_ *testing.T, c *authztest.Client, form url.Values, _ map[string]any) *authztest.Client {
			form.Set("refresh_token", strings.Replace(form.Get("refresh_token"), "csrt_", "csat_", 1))
			return c
		}, 400, fapi.InvalidGrant},
		{"RFC 6749 §3.2: twice", "tpp-mtls", func(_ *testing.T, c *authztest.Client, form url.Values, _ map[string]any) *authztest.Client {
			form.Add("refresh_token", form.Get("refresh_token"))
			return c
		}, 400, fapi.InvalidRequest},
		{"as a code", "tpp-mtls", func(_ *testing.T, c *authztest.Client, form url.Values, _ map[string]any) *authztest.Client {
			form.Set("grant_type", "authorization_code")
			form.Set("code", form.Get("refresh_token"))
			return c
		}, 400, fapi.InvalidGrant},
	} {
		t.Run(c.name, func(t *testing.T) {
			owner := s.Client(c.client)
			tokens := owner.Grant(t, map[string]string{"scope": "openid accounts offline_access", "resource": authztest.Resource})
			form := refreshed(tokens["refresh_token"])
			caller := s.Client(c.client)
			if changed := c.change(t, caller, form, tokens); changed != nil {
				caller = changed
			} else {
				caller = s.Client(form.Get("by"))
				form.Del("by")
			}
			caller.Post(t, "/token", form).Refused(t, c.status, c.code)
			if again := owner.Post(t, "/token", refreshed(tokens["refresh_token"])); again.Status != http.StatusOK || again.JSON["scope"] != "openid accounts offline_access" {
				t.Errorf("the refresh token is no longer good: %d %s", again.Status, again.Body)
			}
		})
	}
}

type refreshChange = func(*testing.T, *authztest.Client, url.Values, map[string]any) *authztest.Client

func scoped(scope string) refreshChange {
	return func(_ *testing.T, c *authztest.Client, form url.Values, _ map[string]any) *authztest.Client {
		form.Set("scope", scope)
		return c
	}
}

func aimed(resource string) refreshChange {
	return func(_ *testing.T, c *authztest.Client, form url.Values, _ map[string]any) *authztest.Client {
		form.Set("resource", resource)
		return c
	}
}

func by(id string) refreshChange {
	return func(_ *testing.T, _ *authztest.Client, form url.Values, _ map[string]any) *authztest.Client {
		form.Set("by", id)
		return nil
	}
}

func presents(name string) refreshChange {
	return func(_ *testing.T, c *authztest.Client, form url.Values, tokens map[string]any) *authztest.Client {
		form.Set("refresh_token", tokens[name].(string))
		return c
	}
}

func TestToken_Refreshes(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	api := s.Client("bank-api")
	all := map[string]string{"scope": "openid accounts offline_access"}
	for _, id := range []string{"tpp-mtls", "tpp-dpop", "web", "spa"} {
		t.Run("RFC 6749 §6: a narrower scope, and later all of it again: "+id, func(t *testing.T) {
			c := s.Client(id)
			tokens := c.Grant(t, all)
			narrow := c.Token(t, refreshed(tokens["refresh_token"], "scope", "accounts"))
			if said := api.Post(t, "/introspect", url.Values{"token": {narrow["access_token"].(string)}}); narrow["scope"] != "accounts" || said.JSON["scope"] != "accounts" || narrow["id_token"] != nil {
				t.Errorf("%v, introspected %s", narrow, said.Body)
			}
			c.Get(t, "/userinfo", narrow["access_token"].(string)).Challenged(t, 403, scheme(c), fapi.InsufficientScope)
			if wide := c.Token(t, refreshed(narrow["refresh_token"])); wide["scope"] != "openid accounts offline_access" || wide["id_token"] == nil {
				t.Errorf("%v", wide)
			}
		})
	}
	t.Run("OP-07: a refreshed ID token keeps sub and auth_time", func(t *testing.T) {
		c := s.Client("tpp-mtls")
		tokens := c.Grant(t, all)
		before, after := idClaims(t, tokens), idClaims(t, c.Token(t, refreshed(tokens["refresh_token"])))
		for _, name := range []string{"iss", "sub", "aud", "auth_time", "acr"} {
			if before[name] != after[name] || before[name] == nil {
				t.Errorf("%s was %v, is %v", name, before[name], after[name])
			}
		}
	})
	t.Run("X10: a FAPI client's token is not rotated and works as often as it is needed", func(t *testing.T) {
		c := s.Client("tpp-mtls")
		tokens := c.Grant(t, all)
		for range 3 {
			if again := c.Token(t, refreshed(tokens["refresh_token"])); again["refresh_token"] != tokens["refresh_token"] {
				t.Error("it was rotated")
			}
		}
	})
	t.Run("RFC 9700 §4.14.2: a public client's token that was rotated away ends all", func(t *testing.T) {
		spa := s.Client("spa")
		first := spa.Grant(t, all)
		second := spa.Token(t, refreshed(first["refresh_token"]))
		if second["refresh_token"] == first["refresh_token"] {
			t.Fatal("not rotated")
		}
		spa.Post(t, "/token", refreshed(first["refresh_token"])).Refused(t, 400, fapi.InvalidGrant)
		spa.Post(t, "/token", refreshed(second["refresh_token"])).Refused(t, 400, fapi.InvalidGrant)
		for _, tokens := range []map[string]any{first, second} {
			if said := api.Post(t, "/introspect", url.Values{"token": {tokens["access_token"].(string)}}); string(said.Body) != `{"active":false}` {
				t.Errorf("still %s", said.Body)
			}
		}
	})
	t.Run("a refresh token ends with its time", func(t *testing.T) {
		c := s.Client("tpp")
		consent := c.Consent(t)
		tokens := c.Grant(t, map[string]string{"claims": `{"id_token":{"openbanking_intent_id":{"value":"` + consent + `"}}}`})
		s.SQL(t, "UPDATE consents SET expires_at = now() - interval '1 second' WHERE id = $1", consent)
		c.Post(t, "/token", refreshed(tokens["refresh_token"])).Refused(t, 400, fapi.InvalidGrant)
	})
}

// scheme is how the client presents its tokens.
func scheme(c *authztest.Client) string {
	if c.DPoPKey != nil {
		return "DPoP"
	}
	return "Bearer"
}
