package authz_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/resource"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// people is a server whose scopes are not all for everybody, and three of its customers.
type people struct {
	*authztest.Server
	authn *authn.Authn
	ids   map[string]uuid.UUID
}

// everyScope is what its clients ask for.
const everyScope = "openid accounts loans firm"

func startPeople(t *testing.T) *people {
	t.Helper()
	s := authztest.Start(t, authztest.Options{Customers: engine.Customers{
		Rules: fapi.ScopeRules{
			"loans": {Attributes: map[string][]string{"country": {"KE", "TZ"}}},
			"firm":  {Roles: []string{"ADMIN"}},
		},
		Attributes: []string{"country", "client_type"},
	}})
	pages, err := web.New(web.Brand{Name: "Meadow Bank"})
	if err != nil {
		t.Fatal(err)
	}
	p := &people{s, authn.New(s.DB, pages, zap.NewNop(), s.Config.Authn), map[string]uuid.UUID{}}
	for name, n := range map[string]authn.NewCustomer{
		"carol": {Roles: []string{"USER", "ADMIN"}, Profile: storage.Profile{Attributes: map[string]string{"country": "KE", "client_type": "firm", "risk": "low"}}},
		"kofi":  {Roles: []string{"USER"}, Profile: storage.Profile{Attributes: map[string]string{"country": "GH"}}},
	} {
		n.Profile.Username, n.Password = name, authztest.Password
		n.Accounts = []storage.Account{{ID: "1" + name, Name: "Savings", Number: "000000077", Currency: "KES"}}
		if p.ids[name], err = p.authn.CreateCustomer(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *people) change(t *testing.T, name string, c authn.Change) {
	t.Helper()
	if err := p.authn.ChangeCustomer(t.Context(), p.ids[name], c); err != nil {
		t.Fatal(err)
	}
}

func (p *people) client(t *testing.T, id string, more map[string]any) *authztest.Client {
	t.Helper()
	all := map[string]any{"scope": everyScope + " roles attributes offline_access"}
	maps.Copy(all, more)
	return p.AddClient(t, id, fapi.OpenID, fapi.PrivateKeyJWT, all)
}

// asked takes a request to the consent page, or to where it ends before.
func (p *people) asked(t *testing.T, c *authztest.Client, customer string, changes map[string]string) (*authztest.Browser, *authztest.Page) {
	t.Helper()
	all := map[string]string{"prompt": "consent"}
	maps.Copy(all, changes)
	b := p.Browser(t)
	return b, b.LoginAs(t, b.Authorize(t, c.ID, c.Push(t, all)), customer)
}

func (p *people) granted(t *testing.T, c *authztest.Client, customer string, changes map[string]string) map[string]any {
	t.Helper()
	b, page := p.asked(t, c, customer, changes)
	return c.Exchange(t, p.Response(t, b.Decide(t, page, "approve", "1"+customer)).Get("code"))
}

// said is what the bank's resource server is told of a token.
func (p *people) said(t *testing.T, tokens map[string]any) map[string]any {
	t.Helper()
	return p.Client("bank-api").Post(t, "/introspect", url.Values{"token": {tokens["access_token"].(string)}}).JSON
}

// D6: roles and attributes decide which scopes there are for a customer (RFC 6749 §3.3), in each way to a token.
func TestScopeRules_NarrowWhatIsGranted(t *testing.T) {
	t.Parallel()
	p := startPeople(t)
	opaque, asJWT := p.client(t, "opaque", nil), p.client(t, "as-jwt", map[string]any{"access_token_format": "jwt"})
	for _, c := range []*authztest.Client{opaque, asJWT} {
		for customer, want := range map[string]string{"carol": everyScope, "kofi": "openid accounts"} {
			t.Run("code, "+c.ID+", "+customer, func(t *testing.T) {
				b, page := p.asked(t, c, customer, map[string]string{"scope": everyScope})
				if shown := strings.Contains(strings.ReplaceAll(string(page.Body), `value="loans firm"`, ""), "firm"); shown != (customer == "carol") {
					t.Errorf("the page shows what is not for the customer, or hides what is: %v", shown)
				}
				tokens := c.Exchange(t, p.Response(t, b.Decide(t, page, "approve", "1"+customer)).Get("code"))
				if tokens["scope"] != nil && tokens["scope"] != want || tokens["scope"] == nil && want != everyScope {
					t.Errorf("RFC 6749 §5.1: the client is told %v, want %s", tokens["scope"], want)
				}
				if got := p.said(t, tokens)["scope"]; got != want {
					t.Errorf("introspection says %v, want %s", got, want)
				}
			})
		}
	}
	t.Run("RFC 6749 §4.1.2.1: of a request nothing is left", func(t *testing.T) {
		_, page := p.asked(t, opaque, "kofi", map[string]string{"scope": "loans firm", "nonce": ""})
		if got := p.Response(t, page); got.Get("error") != "access_denied" || got.Get("state") != "state-1" || got.Has("code") {
			t.Errorf("left with %v", got)
		}
	})
	t.Run("the second time, without a page", func(t *testing.T) {
		b, page := p.asked(t, opaque, "kofi", map[string]string{"scope": everyScope})
		b.Decide(t, page, "approve", "1kofi")
		page = b.Authorize(t, opaque.ID, opaque.Push(t, map[string]string{"scope": "openid firm"}))
		if code := p.Response(t, page).Get("code"); code != "" {
			if tokens := opaque.Exchange(t, code); p.said(t, tokens)["scope"] != "openid" {
				t.Errorf("got %v", p.said(t, tokens)["scope"])
			}
		}
	})
	t.Run("the form that the page sends is changed", func(t *testing.T) {
		for name, without := range map[string][]string{"nothing left out": {""}, "less": {"loans"}, "none": nil, "more": {"loans firm accounts"}} {
			b, page := p.asked(t, opaque, "kofi", map[string]string{"scope": everyScope})
			form, action := page.Form(t)
			if form.Get("without") != "loans firm" {
				t.Fatalf("the page leaves out %q", form.Get("without"))
			}
			form["without"], form["decision"], form["account"] = without, []string{"approve"}, []string{"1kofi"}
			if page := b.Post(t, action.String(), form); page.Left != nil {
				t.Errorf("%s: approved", name)
			}
		}
	})
	t.Run("hybrid", func(t *testing.T) {
		c := p.AddClient(t, "front", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"scope": everyScope, "response_types": fapi.FindProfile(fapi.OpenID).ResponseTypes})
		b, page := p.asked(t, c, "kofi", map[string]string{"scope": everyScope, "response_type": "code token"})
		answer := p.Response(t, b.Decide(t, page, "approve", "1kofi"))
		if answer.Get("scope") != "openid accounts" || p.said(t, map[string]any{"access_token": answer.Get("access_token")})["scope"] != "openid accounts" {
			t.Errorf("the front channel has %v", answer)
		}
	})
	t.Run("RFC 8628: device", func(t *testing.T) {
		c := addDevice(t, p.Server, "tv", fapi.NoAuth, map[string]any{"scope": everyScope})
		c.Scope = everyScope
		d, b := beginDevice(t, c, nil), p.Browser(t)
		page := b.LoginAs(t, b.Submit(t, b.Open(t, "/device").Is(t, "device_page"), url.Values{"user_code": {d.userCode}}), "kofi")
		b.Decide(t, page, "approve", "1kofi").Is(t, "done_page")
		if tokens := pollDevice(t, c, d).JSON; tokens["scope"] != "openid accounts" || p.said(t, tokens)["scope"] != "openid accounts" {
			t.Errorf("got %v", tokens)
		}
	})
	t.Run("CIBA", func(t *testing.T) {
		c := addBackchannel(t, p.Server, "caller", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"scope": everyScope})
		c.Scope = everyScope
		asked, b := beginBackchannel(t, c, url.Values{"login_hint": {"kofi"}}), p.Browser(t)
		page := b.LoginAs(t, b.Open(t, p.ApprovalURL(c.ID, authorizationOf(t, p.Server, asked))), "kofi")
		b.Decide(t, page, "approve", "1kofi").Is(t, "done_page")
		if tokens := pollBackchannel(t, c, asked).JSON; p.said(t, tokens)["scope"] != "openid accounts" {
			t.Errorf("got %v", tokens)
		}
	})
}

// What was taken from a customer is taken from tokens that are out, and given back with it.
func TestScopeRules_FollowTheCustomer(t *testing.T) {
	t.Parallel()
	p := startPeople(t)
	c := p.client(t, "later", map[string]any{"resources": []string{authztest.Resource}})
	tokens := p.granted(t, c, "carol", map[string]string{"scope": everyScope + " offline_access"})
	scopes := func(tokens map[string]any) string {
		var known []string
		scope, _ := p.said(t, tokens)["scope"].(string)
		for _, s := range strings.Fields(scope) {
			if s != "offline_access" {
				known = append(known, s)
			}
		}
		return strings.Join(known, " ")
	}
	refreshed := func(scope string) *authztest.Answer {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens["refresh_token"].(string)}}
		if scope != "" {
			form.Set("scope", scope)
		}
		return c.Post(t, "/token", form)
	}
	if got := scopes(tokens); got != everyScope {
		t.Fatal(got)
	}
	p.change(t, "carol", authn.Change{Roles: []string{"USER"}})
	if got := scopes(tokens); got != "openid accounts loans" {
		t.Errorf("without the role, introspection says %q", got)
	}
	if again := refreshed(""); again.Status != http.StatusOK || scopes(again.JSON) != "openid accounts loans" {
		t.Errorf("without the role, a refresh gets %s", again.Body)
	}
	refreshed("openid firm").Refused(t, http.StatusBadRequest, fapi.InvalidScope)

	p.change(t, "carol", authn.Change{Profile: func(q *storage.Profile) error { q.Attributes["country"] = "UG"; return nil }})
	if got := scopes(tokens); got != "openid accounts" {
		t.Errorf("in another country, introspection says %q", got)
	}
	p.change(t, "carol", authn.Change{Roles: []string{"USER", "ADMIN"}, Profile: func(q *storage.Profile) error { q.Attributes["country"] = "TZ"; return nil }})
	if again := refreshed(""); scopes(tokens) != everyScope || scopes(again.JSON) != everyScope {
		t.Errorf("with both again: %q, and by refresh %s", scopes(tokens), again.Body)
	}

	t.Run("RFC 8693: a token that is exchanged", func(t *testing.T) {
		service := addService(t, p.Server, "inner", fapi.OpenID, fapi.PrivateKeyJWT, authztest.Resource, map[string]any{"scope": "accounts firm loans"})
		p.change(t, "carol", authn.Change{Roles: []string{"USER"}})
		answer := service.Post(t, "/token", exchangeForm(tokens["access_token"].(string), nil))
		if answer.Status != http.StatusOK || strings.Contains(answer.JSON["scope"].(string), "firm") {
			t.Errorf("%d %s", answer.Status, answer.Body)
		}
	})
}

// OpenID Connect Core §5.4: clients read roles and attributes with scopes of their own, and of attributes only those that are told.
func TestCustomers_RolesAndAttributesAsClaims(t *testing.T) {
	t.Parallel()
	p := startPeople(t)
	c := p.client(t, "reader", nil)
	roles, attributes := []any{"USER", "ADMIN"}, map[string]any{"country": "KE", "client_type": "firm"}
	for _, test := range []struct {
		name, customer, scope, claims string
		want                          map[string]any
	}{
		{"without the scopes", "carol", "openid accounts", "", map[string]any{}},
		{"roles", "carol", "openid roles", "", map[string]any{"roles": roles}},
		{"attributes", "carol", "openid attributes", "", map[string]any{"attributes": attributes}},
		{"both", "carol", "openid roles attributes", "", map[string]any{"roles": roles, "attributes": attributes}},
		{"of somebody with one", "kofi", "openid roles attributes", "", map[string]any{"roles": []any{"USER"}, "attributes": map[string]any{"country": "GH"}}},
		{"of somebody without any", "alice", "openid attributes", "", map[string]any{}},
		{"asked for by name, without the scopes", "carol", "openid", `{"userinfo":{"roles":null,"attributes":null},"id_token":{"roles":null,"attributes":{"essential":true}}}`, map[string]any{}},
		{"asked for by name in the ID token", "carol", "openid roles attributes", `{"id_token":{"roles":null,"attributes":null}}`, map[string]any{"roles": roles, "attributes": attributes}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.customer == "alice" {
				b, page := p.asked(t, c, "alice", map[string]string{"scope": test.scope})
				checkClaims(t, p, c, c.Exchange(t, p.Response(t, b.Decide(t, page, "approve", "12")).Get("code")), test.claims, test.want)
				return
			}
			checkClaims(t, p, c, p.granted(t, c, test.customer, map[string]string{"scope": test.scope, "claims": test.claims}), test.claims, test.want)
		})
	}
}

func checkClaims(t *testing.T, p *people, c *authztest.Client, tokens map[string]any, asked string, want map[string]any) {
	t.Helper()
	both := func(m map[string]any) map[string]any {
		got := map[string]any{}
		for _, name := range []string{"roles", "attributes"} {
			if m[name] != nil {
				got[name] = m[name]
			}
		}
		return got
	}
	if diff := cmp.Diff(want, both(c.Get(t, "/userinfo", tokens["access_token"].(string)).JSON)); diff != "" {
		t.Errorf("userinfo (-want +got):\n%s", diff)
	}
	if !strings.Contains(asked, "id_token") {
		want = map[string]any{}
	}
	if diff := cmp.Diff(want, both(idClaims(t, tokens))); diff != "" {
		t.Errorf("ID token (-want +got):\n%s", diff)
	}
	if said := p.said(t, tokens); strings.Contains(asJSON(t, said), "risk") {
		t.Errorf("the resource server is told what is told nobody: %v", said)
	}
}

// A resource server decides by role and attribute, of opaque tokens and JWTs alike.
func TestCustomers_AtAResourceServer(t *testing.T) {
	t.Parallel()
	p := startPeople(t)
	for _, format := range []string{"opaque", "jwt"} {
		c := p.client(t, "at-"+format, map[string]any{"access_token_format": format, "tls_client_certificate_bound_access_tokens": true})
		c.Certificate = p.Certificate(t, c.ID)
		carol, kofi := p.granted(t, c, "carol", map[string]string{"scope": everyScope}), p.granted(t, c, "kofi", map[string]string{"scope": everyScope})
		for _, test := range []struct {
			name        string
			need        resource.Need
			carol, kofi int
		}{
			{"a role", resource.Need{Roles: []string{"ADMIN", "SUPPORT"}}, 200, 403},
			{"a role that all have", resource.Need{Roles: []string{"USER"}}, 200, 200},
			{"a role in other letters", resource.Need{Roles: []string{"admin"}}, 403, 403},
			{"an attribute", resource.Need{Attributes: map[string][]string{"country": {"KE", "TZ"}}}, 200, 403},
			{"two attributes", resource.Need{Attributes: map[string][]string{"country": {"KE", "GH"}, "client_type": {"firm"}}}, 200, 403},
			{"an attribute that nobody is told", resource.Need{Attributes: map[string][]string{"risk": {"low"}}}, 403, 403},
			{"a scope that is not for all", resource.Need{Scopes: []string{"firm"}}, 200, 403},
		} {
			t.Run(format+", "+test.name, func(t *testing.T) {
				call := payments(t, p.Server, test.need)
				for name, one := range map[string]struct {
					tokens map[string]any
					want   int
				}{"carol": {carol, test.carol}, "kofi": {kofi, test.kofi}} {
					answer := call(t, c, one.tokens)
					if answer.Status != one.want || one.want == 403 && !strings.Contains(answer.Header.Get("WWW-Authenticate"), `error="insufficient_scope"`) {
						t.Errorf("%s: %d %s", name, answer.Status, answer.Header.Get("WWW-Authenticate"))
					}
				}
			})
		}
	}
	t.Run("roles of staff are never a customer's", func(t *testing.T) {
		for _, name := range []string{"Super user", "ALL_FUNCTIONS", "TELLER", "admin"} {
			if err := p.authn.ChangeCustomer(t.Context(), p.ids["kofi"], authn.Change{Roles: []string{name}}); err == nil {
				t.Errorf("a customer became %s", name)
			}
		}
		said := p.said(t, p.granted(t, p.client(t, "plain", nil), "kofi", map[string]string{"scope": everyScope}))
		for _, scope := range strings.Fields(said["scope"].(string)) {
			if scope == strings.ToUpper(scope) || !slices.Contains(strings.Fields(everyScope), scope) {
				t.Errorf("Fineract would take the scope %s for a permission", scope)
			}
		}
	})
}

// E11: what a firm pays needs another second factor than what a person pays; the policy is looked at with the customer as they are now.
func TestPolicy_PaymentsOfSomeCustomers(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{RequireSCA: true, LowValue: fapi.AmountLimits{"EUR": "30"}, Authn: func(c *authn.Config) {
		c.Policy = authn.Policy{authn.ApprovePayment: {ACR: authn.SCA, Customers: []authn.CustomerRule{
			{Who: fapi.ScopeRule{Attributes: map[string][]string{"client_type": {"firm"}}}, Rule: authn.Rule{Without: []string{storage.TOTP}}},
			{Who: fapi.ScopeRule{Roles: []string{"SUPPORT"}}, Rule: authn.Rule{Without: []string{storage.TOTP}}},
		}}}
	}})
	alice, err := s.DB.FindCustomer(t.Context(), s.Config.Authn.Tenant, "alice")
	if err != nil {
		t.Fatal(err)
	}
	c := rich(t, s, "shop", nil)
	asked := c.Push(t, map[string]string{"authorization_details": "[" + paymentDetail + "]", "acr_values": authn.SCA})
	b := s.Browser(t)
	enrolled(t, b, b.Login(t, b.Authorize(t, c.ID, asked))).Is(t, "consent_page")
	for _, now := range []struct{ clientType, roles, page string }{
		{"person", "{USER}", "consent_page"}, {"firm", "{USER}", "second_factor_page"}, {"person", "{USER,ADMIN}", "consent_page"}, {"person", "{USER,SUPPORT}", "second_factor_page"},
	} {
		err := s.DB.ChangeProfile(t.Context(), alice.ID, func(p *storage.Profile) error {
			p.Attributes = map[string]string{"client_type": now.clientType}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		s.SQL(t, "UPDATE customers SET roles = '"+now.roles+"' WHERE id = '"+alice.ID.String()+"'")
		if got := b.Authorize(t, c.ID, asked).ID(); got != now.page {
			t.Errorf("a %s with the roles %s: %s, want %s", now.clientType, now.roles, got, now.page)
		}
		if now.page == "second_factor_page" {
			b.Post(t, s.Issuer+"/authorize/decision", url.Values{"client_id": {c.ID}, "request_uri": {asked}, "decision": {"approve"}}).Is(t, now.page)
		}
	}
}
