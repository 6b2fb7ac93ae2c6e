package authn

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/storage/storagetest"
	"github.com/countersign/countersign/web/webtest"
)

// webServer is a server at an origin that browsers know passkeys of.
func webServer(t *testing.T, host string) (*server, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	origin := "https://" + host + ":" + port
	s := serve(t, storagetest.New(t), Config{Origin: origin, FactorKinds: []string{storage.TOTP, storage.Passkey}})
	s.acr = SCA
	mux := http.NewServeMux()
	mux.Handle("/static/", s.pages.Static())
	mux.Handle("/", s.http.Config.Handler)
	server := httptest.NewUnstartedServer(mux)
	server.Listener.Close()
	server.Listener = listener
	server.StartTLS()
	t.Cleanup(server.Close)
	return s, origin
}

// authenticatorIn plugs a virtual authenticator into a browser.
func authenticatorIn(ctx context.Context, t *testing.T, verifies bool) webauthn.AuthenticatorID {
	t.Helper()
	if _, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	added, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true,
		HasUserVerification: true, IsUserVerified: verifies, AutomaticPresenceSimulation: true,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return added.AuthenticatorID
}

func open(ctx context.Context, t *testing.T, url string) {
	t.Helper()
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
}

// shows waits until an expression is true in the page.
func shows(ctx context.Context, t *testing.T, what, expression string) {
	t.Helper()
	var last error
	for range 100 {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		if err == nil && ok {
			return
		}
		last = err
		time.Sleep(100 * time.Millisecond)
	}
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`))
	t.Fatalf("%s: %v\n%s", what, last, text)
}

func at(id string) string { return fmt.Sprintf(`document.getElementById(%q) !== null`, id) }

// atConsent is where a journey goes on; the page of this package's tests is plain text to a browser.
const atConsent = `document.body.innerText.includes("consent_page")`

func press(ctx context.Context, t *testing.T, id string) {
	t.Helper()
	shows(ctx, t, id, at(id))
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf(`document.getElementById(%q).click(), true`, id))); err != nil {
		t.Fatal(err)
	}
}

func typeIn(ctx context.Context, t *testing.T, id, text string) {
	t.Helper()
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf(`document.getElementById(%q).value = %q, true`, id, text))); err != nil {
		t.Fatal(err)
	}
}

func logInWith(ctx context.Context, t *testing.T, password string) {
	t.Helper()
	typeIn(ctx, t, "username", alice)
	typeIn(ctx, t, "password", password)
	press(ctx, t, "submit_button")
}

// picture photographs the page at both widths, if somebody wants to look.
func picture(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	folder := os.Getenv("COUNTERSIGN_SCREENSHOTS")
	if folder == "" {
		return
	}
	for _, width := range []int64{390, 1280} {
		err := chromedp.Do(ctx, chromedp.EmulateViewport(width, 800, func(m *emulation.SetDeviceMetricsOverrideParams, _ *emulation.SetTouchEmulationEnabledParams) {
			m.ScreenWidth, m.ScreenHeight, m.Mobile = width, 800, width < 600
		}))
		if err != nil {
			t.Fatal(err)
		}
		picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, fmt.Sprintf("%s-%d.png", name, width)), picture, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// forget signs the browser out.
func forget(ctx context.Context, t *testing.T) {
	t.Helper()
	if _, err := chromedp.Call(ctx, network.ClearBrowserCookies, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
}

// WebAuthn in a browser: a passkey is made, is the second factor, is the first, cannot be made twice, and is refused by the browser itself
// without the customer's fingerprint, and by the bank once it is removed.
func TestPasskey_Browser(t *testing.T) {
	s, origin := webServer(t, "localhost")
	id := s.createAlice()
	ctx := webtest.Chromium(t)
	key := authenticatorIn(ctx, t, true)
	journey := origin + journeyURL

	open(ctx, t, journey)
	logInWith(ctx, t, alicePassword)
	shows(ctx, t, "enrolment", at("enrol_page"))
	open(ctx, t, origin+strings.Replace(journeyURL, "/authorize", enrolPasskeyPath, 1))
	shows(ctx, t, "the passkey's", at("enrol_factor_page"))
	picture(ctx, t, "passkey-enrol")
	press(ctx, t, "submit_button")
	shows(ctx, t, "enrolled", atConsent)
	if n := s.count(t, `SELECT count(*) FROM second_factors WHERE customer_id = $1 AND kind = 'passkey' AND confirmed_at IS NOT NULL`, [16]byte(id)); n != 1 {
		t.Fatalf("%d passkeys", n)
	}

	held := func(verified bool) { // the authenticator answers only when it is touched
		t.Helper()
		if _, err := chromedp.Call(ctx, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: key, IsUserVerified: verified}); err != nil {
			t.Fatal(err)
		}
	}
	touched := func(enabled bool) {
		t.Helper()
		if _, err := chromedp.Call(ctx, webauthn.SetAutomaticPresenceSimulation, webauthn.SetAutomaticPresenceSimulationParams{AuthenticatorID: key, Enabled: enabled}); err != nil {
			t.Fatal(err)
		}
	}
	touched(false)
	forget(ctx, t)
	open(ctx, t, journey)
	shows(ctx, t, "login", at("login_page"))
	shows(ctx, t, "the button", `document.getElementById("passkey_button").checkVisibility()`)
	picture(ctx, t, "passkey-login")
	logInWith(ctx, t, alicePassword)
	shows(ctx, t, "second factor", at("second_factor_page"))
	picture(ctx, t, "passkey-second-factor")

	touched(true)
	held(false)
	press(ctx, t, "submit_button")
	shows(ctx, t, "without the fingerprint", `document.getElementById("passkey_problem")?.innerText.startsWith("No passkey was used") === true`)
	picture(ctx, t, "passkey-second-factor-cancelled")
	held(true)
	press(ctx, t, "submit_button")
	shows(ctx, t, "logged in", atConsent)
	shows(ctx, t, "by both", `document.body.innerText.includes("`+SCA+` pwd,pop,user,mfa")`)

	alone := func() {
		t.Helper()
		shows(ctx, t, "logged in", atConsent)
		shows(ctx, t, "by the passkey alone", `document.body.innerText.includes("`+SCA+` pop,user,mfa")`)
	}
	touched(false)
	forget(ctx, t)
	open(ctx, t, journey)
	shows(ctx, t, "the button", `document.getElementById("passkey_button")?.checkVisibility() === true`)
	press(ctx, t, "passkey_button")
	touched(true)
	alone()
	forget(ctx, t)
	open(ctx, t, journey) // it is offered where the user name is typed; this browser's customer picks it at once
	alone()

	open(ctx, t, origin+addPasskeyPath)
	shows(ctx, t, "another one", at("enrol_factor_page"))
	press(ctx, t, "submit_button")
	shows(ctx, t, "not here", `document.getElementById("passkey_problem")?.innerText.startsWith("This device already has a passkey") === true`)
	picture(ctx, t, "passkey-add-there")

	s.sql(t, nil, `UPDATE logins SET factor_at = factor_at - interval '301 seconds'`) // more than the policy's age
	open(ctx, t, origin+addPasskeyPath)
	shows(ctx, t, "stepping up", at("second_factor_page"))
	press(ctx, t, "submit_button")
	shows(ctx, t, "stepped up", at("enrol_factor_page"))

	if err := s.RemoveSecondFactors(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	touched(false)
	forget(ctx, t)
	open(ctx, t, journey)
	shows(ctx, t, "the button", `document.getElementById("passkey_button")?.checkVisibility() === true`)
	press(ctx, t, "passkey_button")
	touched(true)
	shows(ctx, t, "a removed one", `document.querySelector("#passkey_form #problem")?.innerText.startsWith("That passkey was not accepted") === true`)
	touched(false)
	picture(ctx, t, "passkey-login-refused")
}

// Another site cannot ask for the bank's passkey, nor the bank's for another name: the browser refuses.
func TestPasskey_BrowserAtAnotherSite(t *testing.T) {
	s, origin := webServer(t, "localhost")
	s.createAlice()
	ctx := webtest.Chromium(t)
	authenticatorIn(ctx, t, true)
	open(ctx, t, strings.Replace(origin, "localhost", "evil.example", 1)+journeyURL)
	shows(ctx, t, "login", at("login_page"))
	press(ctx, t, "passkey_button")
	shows(ctx, t, "refused", `document.getElementById("passkey_problem")?.innerText.startsWith("The passkey could not be used") === true`)
}

// Without scripts the login page has no such button, and the other pages say so.
func TestPasskey_WithoutScripts(t *testing.T) {
	s, origin := webServer(t, "localhost")
	s.createAlice()
	ctx := webtest.Chromium(t)
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	open(ctx, t, origin+journeyURL)
	shows(ctx, t, "no button", `!document.getElementById("passkey_button").checkVisibility()`)
	logInWith(ctx, t, alicePassword)
	shows(ctx, t, "enrolment", at("enrol_page"))
	open(ctx, t, origin+strings.Replace(journeyURL, "/authorize", enrolPasskeyPath, 1))
	shows(ctx, t, "it says so", `document.getElementById("no_script")?.innerText.startsWith("Passkeys need JavaScript") === true`)
	picture(ctx, t, "passkey-no-script")
}
