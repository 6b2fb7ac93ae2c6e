package web

import (
	"net/http"
	"strings"
	"testing"
)

// federationGallery is the pages about other providers in the states that look different.
func federationGallery() []shot {
	prove := ProveLink{Provider: "Meadow ID", Identity: "alice@meadow.example", Client: &tpp, LoginURL: "/login/link?how=pwd", CodeAction: "/login/link/code", Masked: "a•••@meadow.example"}
	link := Link{Action: "/login/link", Hidden: []Field{{"seen", "x"}}, Client: &tpp, Provider: "Meadow ID", Identity: "alice@meadow.example", Customer: "alice"}
	join := LinkSignUp{Action: "/login/link/sign-up", Hidden: []Field{{"seen", "x"}}, Client: &tpp, Provider: "Meadow ID", Username: "alice",
		Name: "Alice Example", Email: "alice@meadow.example", Phone: "+254712345678", BackURL: "/login/link"}
	const long = "Kitchen-and-Bathroom-Fitters-of-the-Northern-Counties-Identity"
	return []shot{
		{"login-providers", "login_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Login(w, 503, Login{Action: "/login", Hidden: hidden, Client: &tpp, SignUpURL: "/sign-up", Elsewhere: true, Problem: p.Text("problem.idp_unavailable", "provider", "Meadow ID"),
				Providers: []ProviderButton{{"Meadow ID", "/login/idp/meadow", hidden}, {long, "/login/idp/long", hidden}}})
		}},
		{"prove-link", "prove_link_page", func(p *Pages, w http.ResponseWriter) error { return p.ProveLink(w, 200, prove) }},
		{"prove-link-sent", "prove_link_page", func(p *Pages, w http.ResponseWriter) error {
			v := prove
			v.CodeSent, v.Problem = true, p.Text("problem.code")
			return p.ProveLink(w, 403, v)
		}},
		{"prove-link-other", "prove_link_page", func(p *Pages, w http.ResponseWriter) error {
			v := prove
			v.Masked, v.SignUpURL, v.Problem = "", "/login/link/sign-up", p.Text("problem.link_other", "provider", v.Provider)
			return p.ProveLink(w, 403, v)
		}},
		{"link", "link_page", func(p *Pages, w http.ResponseWriter) error { return p.Link(w, 200, link) }},
		{"link-long", "link_page", func(p *Pages, w http.ResponseWriter) error {
			v := link
			v.Provider, v.Identity, v.Customer = long, strings.Repeat("alice.", 20)+"@meadow.example", strings.Repeat("W", 80)
			return p.Link(w, 200, v)
		}},
		{"link-sign-up", "link_sign_up_page", func(p *Pages, w http.ResponseWriter) error { return p.LinkSignUp(w, 200, join) }},
		{"link-sign-up-problem", "link_sign_up_page", func(p *Pages, w http.ResponseWriter) error {
			v := join
			v.Name, v.Phone, v.Problem = "", "", p.Text("problem.username_taken")
			return p.LinkSignUp(w, 422, v)
		}},
		{"self-factors-providers", "self_factors_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfFactors(w, 422, SelfFactors{Own: Own{Customer: "Alice Example", Problem: p.Text("problem.link_failed")},
				Providers: []ProviderButton{{"Meadow ID", "/self/links/add", []Field{{"provider", "meadow"}}}, {long, "/self/links/add", []Field{{"provider", "long"}}}}})
		}},
	}
}

// Where a provider's button leads in the end nobody here knows; without one the page keeps its forms at home.
func TestProviders_MayBeGoneTo(t *testing.T) {
	t.Parallel()
	button := []ProviderButton{{"Meadow ID", "/login/idp/meadow", nil}}
	for _, test := range []struct {
		client    *Client
		providers []ProviderButton
		want      string
	}{
		{nil, nil, "form-action 'self'"},
		{nil, button, "form-action 'self' https:"},
		{&tpp, button, "form-action 'self' https:"},
		{&Client{RedirectURI: "example.app:/cb"}, button, "form-action 'self' https: example.app:"},
	} {
		if got := providersCSP(test.client, test.providers); !strings.HasSuffix(got, test.want) {
			t.Errorf("%v: %q, want %q", test.client, got, test.want)
		}
	}
}
