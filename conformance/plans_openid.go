package main

import (
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

const (
	staticClient  = "static_client"
	dynamicClient = "dynamic_client"
)

// openIDPlans are the certification plans of OpenID Connect.
func openIDPlans() []combination {
	var all []combination
	for _, p := range []struct {
		name  string
		types []string // response types of its clients
	}{
		{"basic", []string{"code"}},
		{"hybrid", []string{"code", "code id_token", "code token", "code id_token token"}},
		{"formpost-basic", []string{"code"}},
		{"formpost-hybrid", []string{"code", "code id_token", "code token", "code id_token token"}},
	} {
		for _, registration := range []string{staticClient, dynamicClient} {
			c := openIDPlan("oidcc-"+p.name+"-certification-test-plan",
				variant{"server_metadata", "discovery"}, variant{"client_registration", registration})
			c.alias = aliasOf("oidc", p.name, shortRegistration[registration])
			c.register(registration, p.types, nil)
			all = append(all, c)
		}
	}
	config := openIDPlan("oidcc-config-certification-test-plan")
	config.alias, config.browser, config.pictures = "oidc-config", false, nil
	all = append(all, config)
	for _, responseType := range []string{"code", "code id_token"} {
		c := openIDPlan("oidcc-dynamic-certification-test-plan", variant{"response_type", responseType})
		c.alias = aliasOf("oidc-dynamic", strings.ReplaceAll(responseType, " ", "-"))
		c.register(dynamicClient, nil, nil)
		all = append(all, c)
	}
	third := openIDPlan("oidcc-3rdparty-init-login-certification-test-plan", variant{"response_type", "code"})
	third.alias = "oidc-3rdparty"
	third.register(dynamicClient, nil, nil)
	all = append(all, third)
	for _, p := range []struct {
		name      string
		addresses func(string, *fapi.Client)
	}{
		{"rp-initiated-logout", afterLogout},
		{"backchannel-rp-initiated-logout", func(base string, c *fapi.Client) {
			afterLogout(base, c)
			c.BackChannelLogoutURI, c.BackChannelLogoutSessionRequired = base+"/backchannel_logout", true
		}},
	} {
		for _, registration := range []string{staticClient, dynamicClient} {
			c := openIDPlan("oidcc-"+p.name+"-certification-test-plan",
				variant{"response_type", "code"}, variant{"client_registration", registration})
			c.alias = aliasOf("oidc", p.name, shortRegistration[registration])
			c.register(registration, []string{"code"}, p.addresses)
			all = append(all, c)
		}
	}
	return all
}

var shortRegistration = map[string]string{staticClient: "static", dynamicClient: "dynamic"}

func openIDPlan(name string, variants ...variant) combination {
	return combination{
		plan: name, variants: variants, browser: true,
		pictures: openIDPages,
	}
}

// register gives the combination its clients: those of a static plan, one for each way to send a secret and a second one;
// or the names of those that the suite registers.
func (c *combination) register(registration string, responseTypes []string, addresses func(string, *fapi.Client)) {
	if registration == dynamicClient {
		c.dynamic = true
		return
	}
	for _, entry := range []struct {
		name string
		auth fapi.AuthMethod
	}{
		{"client", fapi.ClientSecretBasic}, {"client2", fapi.ClientSecretBasic}, {"client_secret_post", fapi.ClientSecretPost},
	} {
		c.clients = append(c.clients, clientSpec{entry: entry.name, addresses: addresses, metadata: &fapi.Client{
			Profile:                  fapi.OpenID,
			GrantTypes:               []string{fapi.GrantAuthorizationCode, fapi.GrantRefreshToken},
			ResponseTypes:            responseTypes,
			Scope:                    "openid profile email address phone offline_access",
			TokenEndpointAuthMethod:  entry.auth,
			IDTokenSignedResponseAlg: jose.RS256,
		}})
	}
}

// afterLogout is where the suite wants the browser after a logout.
func afterLogout(base string, c *fapi.Client) {
	c.PostLogoutRedirectURIs = []string{base + "/post_logout_redirect"}
}
