package web

import (
	"html"
	"net/http/httptest"
	"strings"
	"testing"
)

// OpenID Connect Registration §2: a client's logo beside its name, from this server alone, on pages whose policy is as
// strict as without it.
func TestPages_ShowTheClientsLogo(t *testing.T) {
	p := newPages(t, meadow())
	image := `<img class="client-logo" src="` + html.EscapeString(clientLogo) + `" alt="" width="30" height="30">`
	for with, without := range map[string]string{
		"login-logo": "login", "second-factor-logo": "second-factor", "consent-logo": "consent", "sign-out-logo": "sign-out",
	} {
		w, page := rendered(t, p, named(with))
		plain, bare := rendered(t, p, named(without))
		if strings.Count(page, image) != 1 || strings.Contains(bare, "<img") {
			t.Errorf("%s: not one logo:\n%s", with, page)
		}
		if w.Header().Get("Content-Security-Policy") != plain.Header().Get("Content-Security-Policy") {
			t.Errorf("%s: a logo changes the policy", with)
		}
		if !strings.Contains(page, `<span class="host">acorn-budget.example</span>`) {
			t.Errorf("%s: the host is not beside the logo", with)
		}
	}
	for _, address := range []string{"https://tpp.example/logo.png", "//tpp.example/logo.png", "data:image/png;base64,AAAA", "javascript:attack()", "/\\tpp.example/x"} {
		c := tpp
		c.LogoURL = address
		w := httptest.NewRecorder()
		if err := p.Login(w, 200, Login{Client: &c}); err != nil || strings.Contains(w.Body.String(), "client-logo") || strings.Contains(w.Body.String(), "lead client") {
			t.Errorf("%q is shown: %v", address, err)
		}
	}
}
