package journeys_test

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/pquerna/otp/totp"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web/webtest"
)

// journeys are what customers do. Each begins with a customer and a browser of its own.
var journeys = []struct {
	name string
	go_  func(*person)
}{
	{"enrol", enrol},
	{"login", logIns},
	{"recover", recoverPassword},
	{"sign-up", signUp},
	{"approve", approve},
	{"self", self},
	{"leave", leave},
}

// Issue 6, "Must show": the whole login, enrolment, recovery and approval journeys, at phone width too, without JavaScript, and by
// keyboard alone; no barrier that is serious (WCAG 2.2 AA, by axe-core).
func TestJourneys(t *testing.T) {
	first := webtest.Chromium(t)
	bank := openBank(t)
	var axe *webtest.Axe
	t.Run("axe-core", func(t *testing.T) { axe = webtest.NewAxe(t) })
	t.Run("by", func(t *testing.T) {
		for _, m := range manners {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				s := &seen{pages: map[string]bool{}, barriers: map[string]webtest.Barrier{}}
				for _, j := range journeys {
					t.Run(j.name, func(t *testing.T) { j.go_(newPerson(t, first, bank, m, s, axe, j.name)) })
				}
				for where, b := range s.barriers {
					if b.Bars() {
						t.Errorf("%s: %v", where, b)
					} else {
						t.Logf("%s: %v", where, b)
					}
				}
			})
		}
	})
}

// app is a customer's authenticator app; each code is of a later step, since none is good twice. The bank takes those of the step before
// and of the next one too.
type app struct {
	secret string
	step   int64
}

func (a *app) code(p *person) string {
	p.Helper()
	const toType = 5 * time.Second
	a.step = max(a.step+1, time.Now().Add(toType).Unix()/30-1)
	time.Sleep(time.Until(time.Unix((a.step-1)*30, 0)))
	code, err := totp.GenerateCode(a.secret, time.Unix(a.step*30, 0))
	check(p.T, err)
	return code
}

var sixDigits = regexp.MustCompile(`\b[0-9]{6}\b`)

// mailed is the code that came with the next mail about something.
func (p *person) mailed(subject string, code *regexp.Regexp) string {
	p.Helper()
	text := p.mail.read(p.ctx, p.T, p.username+"@people.example", subject)
	found := code.FindString(text)
	if found == "" {
		p.Fatalf("no code in %q", text)
	}
	return found
}

// sentFactor has a code sent by email, and types it.
func (p *person) sentFactor(next string) {
	p.Helper()
	p.press("#submit_button", "second_factor_page")
	p.submit("#code", p.mailed("Your code", sixDigits), next)
}

// comesBack fails the test unless the app got a code that is worth tokens.
func (p *person) comesBack() {
	p.Helper()
	arrived, err := url.Parse(ask[string](p, `location.href`))
	check(p.T, err)
	form := p.app.ExchangeForm(arrived.Query().Get("code"))
	form.Set("redirect_uri", p.callback)
	if answer := p.app.Post(p.T, "/token", form); answer.JSON["access_token"] == nil {
		p.Errorf("at %v the code gets %s", arrived, answer.Body)
	}
}

// enrol: an app asks for two factors, and the customer has none yet.
func enrol(p *person) {
	p.customer(p.T, p.username)
	p.open(p.authorizeURL(p.T, map[string]string{"acr_values": authn.SCA}), "login_page")
	p.says("Acorn Budget")
	p.logInWith("not the password at all", "login_page")
	if !p.has("#problem[role=alert]") {
		p.Error("the page does not say what was wrong")
	}
	p.logIn("enrol_page")
	phone := &app{secret: strings.ReplaceAll(p.text("#secret"), " ", "")}
	p.submit("#code", "000000", "enrol_page")
	p.submit("#code", phone.code(p), "recovery_codes_page")
	p.press("#continue_link", "consent_page")
	p.says("Acorn Budget", "Savings", "Amina Wanjiru Njoroge")
	p.press("#approve_button", "consent_page") // without an account
	p.toggle("#account_2")
	p.press("#approve_button", "client_page")
	p.comesBack()

	p.open(p.authorizeURL(p.T, nil), "consent_page") // still logged in
	p.press("#deny_button", "client_page")
}

// logIns: with each kind of second factor.
func logIns(p *person) {
	p.customer(p.T, p.username, storage.TOTP, storage.EmailFactor)
	phone := &app{secret: "MFXCAYLQOATXGIDPO5XCA43FMNZGK5BB"}
	finish := func() {
		p.Helper()
		p.toggle("#account_1")
		p.press("#approve_button", "client_page")
		p.comesBack()
		p.forget()
	}
	sca := map[string]string{"acr_values": authn.SCA}
	p.open(p.authorizeURL(p.T, sca), "login_page")
	p.logIn("second_factor_page")
	p.submit("#code", "000000", "second_factor_page")
	p.submit("#code", phone.code(p), "consent_page")
	finish()

	p.open(p.authorizeURL(p.T, sca), "login_page")
	p.logIn("second_factor_page")
	p.press(`#ways a[href*="kind=email"]`, "second_factor_page")
	p.says("Amina", "l•••@people.example")
	p.sentFactor("consent_page")
	finish()

	p.open("/self/factors/recovery-codes", "login_page")
	p.logIn("second_factor_page")
	p.press(`#ways a[href*="kind=totp"]`, "second_factor_page")
	p.submit("#code", phone.code(p), "recovery_codes_page")
	p.press("#submit_button", "recovery_codes_page")
	codes := strings.Fields(p.text("#recovery_codes"))
	p.press("#continue_link", "self_factors_page")
	p.press("#sign_out_button", "login_page")

	p.open(p.authorizeURL(p.T, sca), "login_page")
	p.logIn("second_factor_page")
	p.press(`#ways a[href*="kind=recovery_codes"]`, "second_factor_page")
	p.submit("#code", codes[0], "consent_page")
	finish()
}

const newPassword = "seven quiet otters in the reeds"

var recoveryCode = regexp.MustCompile(`\b[A-Z2-9]{5}-?[A-Z2-9]{5}\b`)

// recoverPassword: a lost password, on the way to an app.
func recoverPassword(p *person) {
	p.customer(p.T, p.username, storage.TOTP)
	phone := &app{secret: "MFXCAYLQOATXGIDPO5XCA43FMNZGK5BB"}
	p.open(p.authorizeURL(p.T, nil), "login_page")
	p.press("#recover_link", "recover_page")
	p.submit("#username", p.username, "recover_code_page")
	code := p.mailed("Your code for a new password", recoveryCode)
	p.fill("#code", "WRONG-WRONG")
	p.submit("#password", newPassword, "recover_code_page")
	p.fill("#code", code)
	p.submit("#password", "password1234", "recover_code_page") // everybody's
	p.fill("#code", code)
	p.submit("#password", newPassword, "second_factor_page")
	p.submit("#code", phone.code(p), "consent_page")
	p.forget()
	p.open(p.authorizeURL(p.T, nil), "login_page")
	p.logIn("login_page") // the old one is over
	p.logInWith(newPassword, "second_factor_page")
	p.submit("#code", phone.code(p), "consent_page")
}

// signUp: somebody whom the bank does not know, and somebody whom the branch has given a code.
func signUp(p *person) {
	p.open(p.authorizeURL(p.T, nil), "login_page")
	p.press(`main .note a[href^="/sign-up"]`, "sign_up_page")
	p.fill("#name", "Amina Wanjiru Njoroge")
	p.fill("#email", p.username+"@people.example")
	p.fill("#username", p.username)
	p.submit("#password", "password1234", "sign_up_page")
	p.submit("#password", authztest.Password, "sign_up_code_page")
	p.submit("#code", "000000", "sign_up_code_page")
	p.submit("#code", p.mailed("Your code to create your access", sixDigits), "consent_page")
	p.press("#deny_button", "client_page")
	p.forget()

	invitation, _, err := p.authn.Invite(p.Context(), authn.NewInvitation{FineractClientID: time.Now().UnixNano() / 1000, Profile: storage.Profile{Name: "Amina Wanjiru Njoroge"}})
	check(p.T, err)
	p.open("/invitation", "invitation_page")
	p.submit("#invitation", "AAAA-AAAA-AAAA", "invitation_page")
	p.submit("#invitation", strings.ToLower(invitation), "sign_up_page")
	p.fill("#email", p.username+"-invited@people.example")
	p.fill("#username", p.username+"-invited")
	p.submit("#password", authztest.Password, "consents_page")
}

// approve: what a speaker asks for, and a payment, with a code that names it.
func approve(p *person) {
	id := p.customer(p.T, p.username, storage.EmailFactor)
	asked := p.askByCIBA(p.T, p.username)
	payment, refused := p.startPayment(p.T, id), p.startPayment(p.T, id)
	p.open("/approvals", "login_page")
	p.logIn("second_factor_page")
	p.sentFactor("approvals_page")
	p.says("Kitchen speaker", "W4SCT", "1 250.00 KES", "Mama Mboga Groceries")
	p.press("#decide_1", "consent_page")
	p.says("Kitchen speaker", "W4SCT", "Mama Mboga Groceries")
	p.press("#approve_button", "done_page")
	if answer := p.speaker.Post(p.T, "/token", url.Values{"grant_type": {fapi.GrantCIBA}, "auth_req_id": {asked}}); answer.JSON["access_token"] == nil {
		p.Errorf("the speaker gets %s", answer.Body)
	}
	p.press("#continue_link", "approvals_page")

	p.press("#transactions_link", "transactions_page")
	p.press(`a[href$="`+payment+`"]`, "transaction_page")
	p.says("48 500 KES", "Acme Feeds", "DE02100100109307118603", "Meadow Payments")
	p.press("#send_button", "transaction_page")
	p.submit("#code", "000000", "transaction_page")
	text := p.mail.read(p.ctx, p.T, p.username+"@people.example", "Your code to approve a payment")
	for _, said := range []string{"48 500 KES", "Acme Feeds", "DE02100100109307118603"} { // RTS art. 5(1)
		if !strings.Contains(strings.ReplaceAll(text, "\n", " "), said) {
			p.Errorf("the mail lacks %q:\n%s", said, text)
		}
	}
	p.submit("#code", sixDigits.FindString(text), "transaction_page")
	p.says("Approved. It is carried out now.")
	p.transaction(p.T, payment, storage.ApprovedTransaction)
	p.press("#list_link", "transactions_page")

	p.press(`a[href$="`+refused+`"]`, "transaction_page")
	p.toggle("#reject summary")
	p.fill("#reason", "Not ours")
	p.press("#reject_button", "transaction_page")
	p.transaction(p.T, refused, storage.RejectedTransaction)
}

// self: the customer's own pages.
func self(p *person) {
	id := p.customer(p.T, p.username, storage.EmailFactor)
	p.open("/self", "login_page")
	p.logIn("second_factor_page")
	p.sentFactor("self_page")
	p.says(p.username, "s•••@people.example")

	p.press("#profile_link", "self_profile_page")
	p.fill("#nickname", "Ami")
	p.press("#save_button", "self_profile_page")
	p.press("#back_link", "self_page")
	p.press("#factors_link", "self_factors_page")
	p.press("#add_factor_link", "add_factor_page")
	p.press(`#ways a[href$="/totp"]`, "enrol_page")
	phone := &app{secret: strings.ReplaceAll(p.text("#secret"), " ", "")}
	p.submit("#code", phone.code(p), "recovery_codes_page")
	p.press("#continue_link", "self_factors_page")
	p.toggle("article:nth-of-type(3) .more summary")
	p.fill("#name_3", "My old phone")
	p.press("#rename_3", "self_factors_page")
	p.says("My old phone")
	p.SQL(p.T, `UPDATE logins SET factor_at = factor_at - interval '301 seconds' WHERE customer_id = $1`, [16]byte(id)) // more than the policy's age
	p.toggle("article:nth-of-type(1) .withdraw summary")
	p.press("#remove_1", "second_factor_page") // a step up
	p.submit("#code", phone.code(p), "self_factors_page")
	p.toggle("article:nth-of-type(1) .withdraw summary")
	p.press("#remove_1", "self_factors_page")
	if n := p.Count(p.T, `SELECT count(*) FROM second_factors WHERE customer_id = $1 AND kind = 'email'`, [16]byte(id)); n != 0 {
		p.Errorf("%d factors by email are left", n)
	}

	elsewhere := p.Browser(p.T) // another device of theirs
	asked := elsewhere.LoginAs(p.T, elsewhere.Open(p.T, "/approvals"), p.username).Is(p.T, "second_factor_page")
	elsewhere.Submit(p.T, asked, url.Values{"code": {phone.code(p)}}).Is(p.T, "approvals_page")
	p.press("#sessions_link", "self_sessions_page")
	p.press("form.row button", "self_sessions_page")
	elsewhere.Open(p.T, "/approvals").Is(p.T, "login_page")

	p.press("#self_link", "self_page")
	p.press("#password_link", "self_password_page")
	p.fill("#old_password", "not the password at all")
	p.submit("#password", newPassword, "self_password_page")
	p.fill("#old_password", authztest.Password)
	p.submit("#password", newPassword, "self_password_page")
	if !p.has("#notice") {
		p.Error("the page does not say that the password was changed")
	}
	p.mail.read(p.ctx, p.T, p.username+"@people.example", "your password was changed")
	p.press("#activity_link", "self_activity_page")
	p.press("#consents_link", "consents_page")
	p.press("#sign_out_button", "login_page")
}

// leave: everything that is held about the customer, in a file; then going, and staying.
func leave(p *person) {
	id := p.customer(p.T, p.username, storage.TOTP)
	phone := &app{secret: "MFXCAYLQOATXGIDPO5XCA43FMNZGK5BB"}
	p.open("/self/data", "login_page")
	p.logIn("second_factor_page")
	p.submit("#code", phone.code(p), "self_data_page")
	if export := p.download("#export_link"); export["customer_id"] != id.String() || export["schema"] != "countersign.data-export" {
		p.Errorf("the file has %v", export)
	}
	p.SQL(p.T, `UPDATE logins SET factor_at = factor_at - interval '61 seconds' WHERE customer_id = $1`, [16]byte(id))
	p.toggle(".withdraw summary")
	p.press("#delete_button", "second_factor_page") // a step up
	p.submit("#code", phone.code(p), "self_data_page")
	p.toggle(".withdraw summary")
	p.press("#delete_button", "self_data_page")
	p.mail.read(p.ctx, p.T, p.username+"@people.example", "your access will be deleted")
	p.press("#self_link", "self_page")
	if !p.has("#deletion") {
		p.Error("the page does not say that the access will be deleted")
	}
	p.press("#deletion a", "self_data_page")
	p.press("#cancel_button", "self_data_page")
	if p.has("#deletion") || !p.has("#delete_button") {
		p.Error("it is still to be deleted")
	}
}

// download activates a link to a file of JSON, and reads it.
func (p *person) download(selector string) (content map[string]any) {
	p.Helper()
	folder := p.TempDir()
	events := true
	_, err := chromedp.CallBrowser(p.ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: folder, EventsEnabled: &events, BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
	})
	check(p.T, err)
	p.activate(selector)
	for range 500 {
		file, err := os.ReadFile(filepath.Join(folder, "my-data.json"))
		if err == nil && json.Unmarshal(file, &content) == nil {
			return content
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.Fatal("no file has come")
	return nil
}
