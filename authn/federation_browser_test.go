package authn

import (
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/countersign/countersign/authn/federation"
	"github.com/countersign/countersign/authn/federation/federationtest"
	"github.com/countersign/countersign/storage/storagetest"
	"github.com/countersign/countersign/web/webtest"
)

// A real browser goes to the provider and comes back: forms may lead there (CSP form-action), and the cookies come along from another
// site's redirect. No script runs.
func TestFederation_InABrowser(t *testing.T) {
	t.Parallel()
	ctx := webtest.Chromium(t)
	p := federationtest.New(t)
	f := federation.Config{ID: "meadow", Name: "Meadow", Issuer: p.URL, ClientID: "bank", Auth: federation.SecretBasic, Secret: "s3cret", Link: []string{federation.LinkEmail}}
	s := serve(t, storagetest.New(t), Config{Policy: Policy{ViewAccess: {}, ChangeFactors: {}},
		Federation: Federation{Calls: p.Calls(), Providers: []federation.Config{f}}})
	s.config.Origin = s.http.URL
	id := verifiedAlice(s)
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	open(ctx, t, s.http.URL+"/login") // of a customer for whom no app waits: the strictest policy
	picture(ctx, t, "federation-login")
	press(ctx, t, "provider_1")
	shows(ctx, t, "whose it is", at("login_link"))
	picture(ctx, t, "federation-prove")
	press(ctx, t, "login_link")
	shows(ctx, t, "the login", at("password"))
	logInWith(ctx, t, alicePassword)
	shows(ctx, t, "the question", at("link_identity"))
	picture(ctx, t, "federation-link")
	press(ctx, t, "approve_button")
	shows(ctx, t, "the end", `location.pathname == "/consents"`)
	if s.links() != 1 {
		t.Errorf("%d links", s.links())
	}
	forget(ctx, t)
	open(ctx, t, s.http.URL+journeyURL)
	press(ctx, t, "provider_1")
	shows(ctx, t, "the end of the app's journey", atConsent)

	// The customer's own page, where the link is removed and made again.
	open(ctx, t, s.http.URL+factorListPath)
	picture(ctx, t, "federation-own")
	press(ctx, t, "unlink_1")
	shows(ctx, t, "that it is gone", at("notice"))
	press(ctx, t, "link_1")
	press(ctx, t, "approve_button")
	shows(ctx, t, "the link", at("unlink_1"))
	if e := s.happened(id, "idp.linked"); e != 2 {
		t.Errorf("linked %d times", e)
	}
}
