package resource

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/fapi"
)

func TestNeed(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	alice := Principal{
		Subject: "alice", ClientID: "tpp", Tenant: "default", FineractClientID: 42, Scopes: []string{"accounts", "payments"}, Roles: []string{"USER"},
		Consent:    Consent{ID: "aac-1", Status: authorised, ExpiresAt: now.Add(time.Hour), Permissions: []string{"ReadAccountsBasic", "ReadBalances"}},
		AccountIDs: []string{"7"}, ACR: "sca", AuthTime: now.Add(-5 * time.Minute),
	}
	client := Principal{Subject: "tpp", ClientID: "tpp", Scopes: []string{"accounts"}}
	is := func(value string) func(*http.Request) string { return func(*http.Request) string { return value } }
	const loggedInBadly, forbidden = InsufficientUserAuthentication, fapi.InsufficientScope
	for _, test := range []struct {
		name   string
		who    Principal
		need   Need
		code   fapi.Code
		params string
	}{
		{"accepts anybody where nothing is needed", client, Need{}, "", ""},
		{"RFC 6750 §3.1: accepts a scope", alice, Need{Scopes: []string{"accounts"}}, "", ""},
		{"RFC 6750 §3.1: accepts two scopes", alice, Need{Scopes: []string{"payments", "accounts"}}, "", ""},
		{"RFC 6750 §3.1: refuses when one of two is missing", alice, Need{Scopes: []string{"accounts", "openid"}}, forbidden, `scope="accounts openid"`},
		{"RFC 6750 §3.1: refuses part of a scope", alice, Need{Scopes: []string{"account"}}, forbidden, `scope="account"`},
		{"A17: accepts one of two roles", alice, Need{Roles: []string{"ADMIN", "USER"}}, "", ""},
		{"A17: refuses without any", alice, Need{Roles: []string{"ADMIN"}}, forbidden, ""},
		{"A17: refuses the client itself where a customer is needed", client, Need{Customer: true}, forbidden, ""},
		{"A17: accepts a customer", alice, Need{Customer: true}, "", ""},
		{"B4: accepts permissions of the consent", alice, Need{Permissions: []string{"ReadBalances", "ReadAccountsBasic"}}, "", ""},
		{"B4: refuses when one is missing", alice, Need{Permissions: []string{"ReadBalances", "ReadAccountsDetail"}}, forbidden, ""},
		{"B4: refuses without a consent", client, Need{Permissions: []string{"ReadBalances"}}, forbidden, ""},
		{"B4: accepts an account that was chosen", alice, Need{Account: is("7")}, "", ""},
		{"B4: refuses another account", alice, Need{Account: is("8")}, forbidden, ""},
		{"B4: refuses no account", alice, Need{Account: is("")}, forbidden, ""},
		{"F3: accepts the owner", alice, Need{Owner: is("42")}, "", ""},
		{"F3: refuses another customer", alice, Need{Owner: is("43")}, forbidden, ""},
		{"F3: refuses the owner written otherwise", alice, Need{Owner: is("042")}, forbidden, ""},
		{"F3: refuses nobody", alice, Need{Owner: is("")}, forbidden, ""},
		{"F3: refuses who is no customer of Fineract", client, Need{Owner: is("0")}, forbidden, ""},
		{"B4: accepts the tenant", alice, Need{Tenant: is("default")}, "", ""},
		{"B4: refuses another tenant", alice, Need{Tenant: is("other")}, forbidden, ""},
		{"B4: refuses no tenant", client, Need{Tenant: is("")}, forbidden, ""},
		{"RFC 9470 §3: accepts one of two acrs", alice, Need{ACR: []string{"ca", "sca"}}, "", ""},
		{"RFC 9470 §3: refuses another acr", alice, Need{ACR: []string{"gold", "silver"}}, loggedInBadly, `acr_values="gold silver"`},
		{"RFC 9470 §3: refuses a missing acr", client, Need{ACR: []string{"sca"}}, loggedInBadly, `acr_values="sca"`},
		{"RFC 9470 §3: accepts a login that is young", alice, Need{MaxAge: 5 * time.Minute}, "", ""},
		{"RFC 9470 §3: refuses one that is old", alice, Need{MaxAge: 4 * time.Minute}, loggedInBadly, `max_age="240"`},
		{"RFC 9470 §3: refuses a missing auth_time", client, Need{MaxAge: time.Hour}, loggedInBadly, `max_age="3600"`},
		{"RFC 9470 §3: says all that is needed: a better login", alice, Need{ACR: []string{"gold"}, MaxAge: time.Hour}, loggedInBadly, `acr_values="gold", max_age="3600"`},
		{"RFC 9470 §3: says all that is needed: a newer login", alice, Need{ACR: []string{"sca"}, MaxAge: time.Minute}, loggedInBadly, `acr_values="sca", max_age="60"`},
		{"RFC 9470 §3: comes before the scope", alice, Need{ACR: []string{"gold"}, Scopes: []string{"x"}}, loggedInBadly, `acr_values="gold"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("GET", "/", nil)
			err := test.need.checker().check(&test.who, r, now)
			if test.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			refused := fapi.AsError(err)
			if refused.Code != test.code || refused.Status != map[fapi.Code]int{loggedInBadly: 401, forbidden: 403}[test.code] {
				t.Fatalf("got %v", err)
			}
			challenge := challenges(r, refused, err)[0]
			if !strings.HasPrefix(challenge, `Bearer error="`+string(test.code)+`"`) || !strings.HasSuffix(challenge, test.params) ||
				strings.Contains(challenge, "scope=") != strings.HasPrefix(test.params, "scope=") {
				t.Errorf("challenge %s", challenge)
			}
		})
	}
}

func TestNeed_overHTTP(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	token := b.issue(nil)
	for _, test := range []struct {
		name, path string
		token      string
		status     int
	}{
		{"F3: the owner", "/self/clients/42", token, 200},
		{"F3: another customer", "/self/clients/43", token, 403},
		{"F3: an escaped number is the same number", "/self/clients/4%32", token, 200},
		{"F3: more than a number", "/self/clients/42%2F..%2F43", token, 403},
		{"B4: an account that was chosen", "/accounts/8", token, 200},
		{"B4: another account", "/accounts/9", token, 403},
		{"RFC 6750 §3.1: a missing scope", "/accounts", b.issue(m{"scope": "payments"}), 403},
		{"RFC 6750 §3.1: no scope at all", "/accounts", b.issue(m{"scope": nil}), 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := b.call(t, tppCert, "GET", test.path, http.Header{"Authorization": {"Bearer " + test.token}})
			expect(t, r, test.status, fapi.InsufficientScope)
		})
	}
}

func TestNeed_malformed(t *testing.T) {
	t.Parallel()
	for _, need := range []Need{{Scopes: []string{""}}, {Scopes: []string{"a b"}}, {ACR: []string{`"`}}, {MaxAge: -1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v is accepted", need)
				}
			}()
			need.checker()
		}()
	}
}

func TestFineractTenant(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		header []string
		query  string
		want   string
	}{
		{nil, "", ""},
		{[]string{"a"}, "", "a"},
		{nil, "?tenantIdentifier=a", "a"},
		{[]string{"a"}, "?tenantIdentifier=a", "a"},
		{[]string{"a"}, "?tenantIdentifier=b", ""},
		{[]string{"a", "b"}, "", ""},
		{nil, "?tenantIdentifier=a&tenantIdentifier=b", ""},
	} {
		r := httptest.NewRequest("GET", "/"+test.query, nil)
		r.Header["Fineract-Platform-Tenantid"] = test.header
		if got := FineractTenant(r); got != test.want {
			t.Errorf("%v %q: got %q", test.header, test.query, got)
		}
	}
}
