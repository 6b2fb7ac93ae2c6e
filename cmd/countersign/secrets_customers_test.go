//go:build linux

package main

import (
	"encoding/base32"
	"html"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// person is a customer with a browser, an authenticator app, a mailbox and a mobile number.
type person struct {
	v    *vault
	t    *testing.T
	b    *browser
	page *webPage
	app  *phone

	username, password, email, number string
	id                                string   // what the command line called the customer
	recovery                          []string // codes
	payments, device                  string   // the transaction password, the user code
}

// meet makes somebody up. What they are called and where they are reached is nobody else's.
func (v *vault) meet(t *testing.T, name string) *person {
	p := &person{v: v, t: t, app: &phone{}}
	p.username, p.password = name+"-"+digitsOf(6), p.newPassword()
	p.email, p.number = name+digitsOf(6)+"@heron.example", "+2547"+digitsOf(7)+"9"
	v.learn("user name", p.username)
	v.learn("email address", p.email)
	v.learn("phone number", p.number)
	p.anotherBrowser()
	return p
}

func (p *person) newPassword() string {
	return p.v.learn("password", "grey herons & "+randomText()).value
}

// digitsOf are random digits, the first of which is none that a timestamp would have there.
func digitsOf(n int) string {
	text := ""
	for len(text) < n {
		for _, c := range randomText() {
			if '1' <= c && c <= '9' && len(text) < n {
				text += string(c)
			}
		}
	}
	return text
}

func (p *person) anotherBrowser() {
	b, err := newBrowser(p.v.watch(p.v.browser(nil)), houseRedirect)
	ok(p.t, err)
	p.b = b
}

func (p *person) open(path string) *person {
	p.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = p.v.issuer + path
	}
	page, err := p.b.open(p.t.Context(), path)
	ok(p.t, err)
	p.page = page
	return p
}

// send sends the form that holds marker, with pairs of names and values.
func (p *person) send(marker string, pairs ...string) *person {
	p.t.Helper()
	typed := url.Values{}
	for pair := range slices.Chunk(pairs, 2) {
		typed.Add(pair[0], pair[1])
	}
	page, err := p.b.submit(p.t.Context(), p.page, marker, typed)
	ok(p.t, err)
	p.page = page
	return p
}

func (p *person) want(id string) *person {
	p.t.Helper()
	if err := p.page.is(id); err != nil {
		p.t.Fatal(err)
	}
	return p
}

var (
	recoveryCode = regexp.MustCompile(`<li><code>([^<]*)</code>`)
	anyHref      = regexp.MustCompile(`href="([^"]*)"`)
	sixDigits    = regexp.MustCompile(`\b[0-9]{6}\b`)
	lettersCode  = regexp.MustCompile(`\b[A-Z2-9]{4,5}(?:-[A-Z2-9]{2,5})+\b`)
)

// follow clicks on the link that has a marker.
func (p *person) follow(marker string) *person {
	p.t.Helper()
	for _, m := range anyHref.FindAllStringSubmatch(p.page.body, -1) {
		if to := html.UnescapeString(m[1]); strings.Contains(to, marker) {
			return p.open(to)
		}
	}
	p.t.Fatalf("no link with %s on %s\n%s", marker, p.page.title(), p.page.body)
	return nil
}

// mailed is the code in the next mail, texted that in the next text message.
func (p *person) mailed(pattern *regexp.Regexp) string {
	p.t.Helper()
	return p.codeOf(p.v.mail, p.email, pattern)
}
func (p *person) texted() string { p.t.Helper(); return p.codeOf(p.v.sms, p.number, sixDigits) }

func (p *person) codeOf(b *inbox, to string, pattern *regexp.Regexp) string {
	p.t.Helper()
	for {
		m := b.next(p.t, to, "")
		if code := pattern.FindString(m.text); code != "" {
			return p.v.tell("code", code, m.id)
		}
	}
}

func (p *person) login(password string) *person {
	p.t.Helper()
	return p.want("login_page").send(`id="password"`, "username", p.username, "password", password)
}

// enrol sets up the app, and takes the recovery codes down.
func (p *person) enrol() *person {
	p.t.Helper()
	p.want("enrol_page")
	key := strings.ReplaceAll(find(secretText, p.page.body), " ", "")
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(key)
	ok(p.t, err)
	p.v.key(key, raw)
	code, err := p.app.first(key, time.Now())
	ok(p.t, err)
	p.send(`id="code"`, "code", p.wrong()).want("enrol_page")
	p.send(`id="code"`, "code", p.v.learn("code", code).value)
	p.want("recovery_codes_page")
	for _, m := range recoveryCode.FindAllStringSubmatch(p.page.body, -1) {
		p.v.learn("recovery code", strings.ReplaceAll(m[1], "-", ""))
		p.recovery = append(p.recovery, p.v.learn("recovery code", m[1]).value)
	}
	if len(p.recovery) < 8 {
		p.t.Fatalf("recovery codes %v", p.recovery)
	}
	return p.open("/self").want("self_page")
}

// wrong is a code that is hardly right.
func (p *person) wrong() string { return p.v.learn("code", digitsOf(6)).value }

func (p *person) appCode() string {
	p.t.Helper()
	code, err := p.app.use(p.t.Context())
	ok(p.t, err)
	return p.v.learn("code", code).value
}

// signsIn logs in again, with the password and another factor.
func (p *person) signsIn(kind string, code func() string) *person {
	p.t.Helper()
	p.anotherBrowser()
	p.open("/self").login(p.password).want("second_factor_page")
	if !strings.Contains(p.page.body, `name="kind" value="`+kind+`"`) {
		p.follow("kind=" + kind).want("second_factor_page")
	}
	if kind == "email" || kind == "sms" {
		p.send(`id="submit_button"`, "send", "1").want("second_factor_page")
	}
	right := code()
	p.send(`id="code"`, "code", p.wrong()).want("second_factor_page")
	if p.page.status != http.StatusForbidden {
		p.t.Errorf("a wrong code: %d", p.page.status)
	}
	return p.send(`id="code"`, "code", right).want("self_page")
}

// adds sets up codes by a channel.
func (p *person) adds(kind, address string, code func() string) *person {
	p.t.Helper()
	p.open("/self/factors/add/"+kind).send(`id="address"`, "address", address, "begin", "1").want("enrol_factor_page")
	p.send(`id="code"`, "code", p.wrong())
	return p.want("enrol_factor_page").send(`id="code"`, "code", code())
}

// alice has been a customer for long: every factor, another password, another number.
func (v *vault) secondFactors(t *testing.T) *person {
	p := v.meet(t, "alice")
	file := v.keep("password file", p.password)
	said := v.runs("", true, "customer", "create", "--username", p.username, "--name", "Alice Doe", "--email", p.email, "--email-verified", "--phone", p.number, "--phone-verified",
		"--fineract-client-id", "77", "--account", "99:Savings:"+v.learn("account", "7"+digitsOf(9)).value+":KES", "--password-file", file)
	p.id = strings.TrimSpace(strings.TrimPrefix(said, "created"))
	p.open("/self").login(p.v.learn("password", "not hers & "+randomText()).value)
	p.want("login_page").send(`id="password"`, "username", p.password, "password", p.username) // who mistakes one field for the other
	p.want("login_page").send(`id="password"`, "username", p.password, "password", p.password)
	p.want("login_page").send(`id="password"`, "username", p.username, "password", "with a NUL \x00"+p.password)
	time.Sleep(time.Second) // first-block
	p.login(p.password).enrol()
	p.adds("email", p.email, func() string { return p.mailed(sixDigits) })
	p.adds("sms", p.number, p.texted)
	p.signsIn("totp", p.appCode)
	p.signsIn("email", func() string { return p.mailed(sixDigits) })
	p.signsIn("recovery_codes", func() string { return p.recovery[0] })
	return p.signsIn("sms", p.texted)
}

// ownPages changes what a customer can change.
func (p *person) ownPages() *person {
	p.open("/self/profile").send(`id="save_button"`, "name", "Alice Doe-Ray", "given_name", "Alice", "family_name", "Doe-Ray", "nickname", "", "street_address",
		p.v.learn("postal address", digitsOf(6)+" Heron Lane").value, "postal_code", "", "locality", "Nairobi", "region", "", "country", "Kenya", "locale", "en-KE", "zoneinfo", "")
	was := p.number
	p.number = p.v.learn("phone number", "+2547"+digitsOf(8)).value
	p.open("/self/profile").send(`id="phone_button"`, "phone", p.number).want("self_contact_page")
	code := p.texted()
	p.send(`id="code"`, "code", p.wrong()).want("self_contact_page").send(`id="code"`, "code", code).want("self_profile_page")
	p.open("/self/profile").send(`id="phone_button"`, "phone", "+2547"+digitsOf(8)) // whose code is never typed
	p.number = was

	old := p.password
	p.password = p.newPassword()
	p.open("/self/password").send(`id="old_password"`, "old_password", p.password, "password", old).want("self_password_page")
	p.send(`id="old_password"`, "old_password", old, "password", p.password)
	p.payments = p.newPassword()
	p.open("/self/transaction-password").send(`id="password"`, "password", p.payments)
	p.device = p.v.learn("user code", "Heron"+digitsOf(5)).value
	p.open("/approvals").send(`id="user_code"`, "user_code", p.device, "do", "save")
	p.open("/self/factors/recovery-codes").send(`id="submit_button"`)
	for _, m := range recoveryCode.FindAllStringSubmatch(p.page.body, -1) {
		p.v.learn("recovery code", m[1])
	}
	for _, path := range []string{"/self", "/self/sessions", "/self/factors", "/self/data", "/consents"} {
		p.open(path)
	}
	return p
}

// signsUp is somebody whom nobody knows, and who forgets the password.
func (v *vault) signsUp(t *testing.T) *person {
	p := v.meet(t, "bob")
	apply := func(address, username string) *person {
		return p.open("/sign-up").send(`id="password"`, "name", "Bob Ray", "email", address, "username", username, "password", p.password).want("sign_up_code_page")
	}
	apply(v.learn("email address", "bounce"+digitsOf(6)+"@heron.example").value, p.username+"-a") // the first three never arrive
	filtered, dead := v.learn("email address", "filtered"+digitsOf(6)+"@heron.example").value, v.learn("phone number", "+2547"+digitsOf(5)+"000").value
	apply(filtered, p.username+"-b")
	p.codeOf(v.mail, filtered, sixDigits)
	apply(dead, p.username+"-c")
	p.codeOf(v.sms, dead, sixDigits)
	apply(p.email, p.username)
	code := p.mailed(sixDigits)
	p.send(`id="code"`, "code", p.wrong()).want("sign_up_code_page").send(`id="code"`, "code", code)

	p.anotherBrowser()
	p.open("/recover").send(`id="username"`, "username", p.username).want("recover_code_page")
	code = p.mailed(lettersCode)
	p.password = p.newPassword()
	p.send(`id="password"`, "code", "ABCD-"+p.wrong(), "password", p.password).send(`id="password"`, "code", code, "password", "sh"+digitsOf(6)).send(`id="password"`, "code", code, "password", p.password)
	p.open("/recover").send(`id="username"`, "username", p.username).want("recover_code_page") // and leaves it there
	p.mailed(lettersCode)
	return p
}

// invited is somebody with a letter of the branch's.
func (v *vault) invited(t *testing.T) {
	p := v.meet(t, "carol")
	said := v.runs("", true, "customer", "invite", "--name", "Carol Kim", "--email", p.email, "--phone", p.number, "--fineract-client-id", "78")
	code := lettersCode.FindString(said)
	v.learn("invitation", code)
	v.learn("invitation", strings.ReplaceAll(code, "-", ""))
	p.open("/invitation").send(`id="invitation"`, "invitation", v.learn("invitation", "ABCD-EFGH-JKLM").value).want("invitation_page")
	p.send(`id="invitation"`, "invitation", code).want("sign_up_page")
	p.send(`id="password"`, "name", "Carol Kim", "username", p.username, "password", p.password)

	other := v.meet(t, "carol")
	v.runs("", true, "customer", "invite", "--name", "Other", "--email", other.email, "--fineract-client-id", "79", "--send", "email", "--page", v.issuer+"/invitation")
	m := v.mail.next(t, other.email, "")
	v.tell("invitation", lettersCode.FindString(m.text), m.id)
}

// imported is somebody with a hash of another system's, who wants to be deleted in the end.
func (v *vault) imported(t *testing.T) {
	p := v.meet(t, "dave")
	hash, err := bcrypt.GenerateFromPassword([]byte(p.password), bcrypt.MinCost)
	ok(t, err)
	v.learn("bcrypt hash", string(hash))
	file := filepath.Join(v.dir, "customers.jsonl")
	line := `{"username":"` + p.username + `","name":"Dave Lee","password_hash":"{bcrypt}` + string(hash) + `","email":"` + p.email + `","email_verified":true,"phone_number":"` + p.number + `"}` + "\n"
	broken := `{"username":"` + p.username + `","password":"` + p.password + `"}` + "\n"
	ok(t, os.WriteFile(file, []byte(line+line+broken), 0o600))
	v.runs("", false, "customer", "import", file)
	p.open("/self").login(p.password).enrol()
	p.open("/self/data").send(`id="delete_button"`, "confirm", "yes")
	p.password = p.newPassword()
	v.runs(p.password+"\n", false, "customer", "set-password", p.username, "--password-file", "-")
	for _, command := range [][]string{{"list"}, {"show", p.username}, {"update", p.username, "--phone", v.learn("phone number", "+2547"+digitsOf(8)).value}, {"unlock", p.username}, {"reset-factor", p.username}, {"disable", p.username}} {
		v.runs("", false, append([]string{"customer"}, command...)...)
	}
	v.runs("", true, "customer", "export", p.username)
}

// federated are people who come from another identity provider: one whom we know, one who is new, one who is refused there.
func (v *vault) federated(t *testing.T, alice *person) {
	says := func(p *person, sub string) {
		v.provider.Claims = func(c map[string]any) {
			c["sub"], c["email"], c["email_verified"], c["name"], c["phone_number"] = v.learn("subject", sub+randomText()[:8]).value, p.email, true, "Alice Doe", p.number
		}
		claims := map[string]any{}
		v.provider.Claims(claims)
		v.provider.Claims = func(c map[string]any) {
			for name, value := range claims {
				c[name] = value
			}
		}
	}
	visit := func(p *person) {
		p.anotherBrowser()
		provider := v.watch(&http.Client{Transport: v.provider.Client().Transport, CheckRedirect: p.b.http.CheckRedirect})
		p.open("/self").want("login_page")
		action, fields, err := p.page.form(`id="provider_1"`)
		ok(t, err)
		to := do(p.b.http, formRequest(action, fields)).header.Get("Location")
		r, err := http.NewRequest(http.MethodGet, to, nil)
		ok(t, err)
		p.open(do(provider, r).header.Get("Location"))
	}
	says(alice, "alice-")
	visit(alice)
	alice.want("prove_link_page").send(`id="send_button"`, "send", "1")
	code := alice.mailed(sixDigits)
	alice.send(`id="code"`, "code", alice.wrong()).send(`id="code"`, "code", code)
	alice.want("second_factor_page").follow("kind=totp").want("second_factor_page").send(`id="code"`, "code", alice.appCode())
	alice.want("link_page").send(`id="approve_button"`, "decision", "link")

	eve := v.meet(t, "eve")
	says(eve, "eve-")
	visit(eve)
	eve.open("/login/link/sign-up").send(`id="username"`, "username", eve.username)
	says(eve, "refused-")
	visit(eve)
	says(v.meet(t, "later"), "later-")
	visit(v.meet(t, "later")) // and leaves it there
}
