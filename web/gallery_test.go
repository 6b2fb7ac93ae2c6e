package web

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	tpp = Client{
		Name:        "Acorn Budget",
		URL:         "https://acorn-budget.example/about",
		RedirectURI: "https://app.acorn-budget.example/callback",
		PolicyURL:   "https://www.acorn-budget.example/privacy",
		TermsURL:    "https://www.acorn-budget.example/terms",
	}
	hidden = []Field{{"client_id", "acorn"}, {"request_uri", "urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c"}}
)

// shot is one page in one state, as the tests here render and photograph it.
type shot struct {
	name   string
	id     string // of its main element
	render func(*Pages, http.ResponseWriter) error
}

// gallery is every page in the states that look different.
func gallery() []shot {
	until := time.Date(2027, time.March, 3, 12, 0, 0, 0, time.UTC)
	items := []Item{
		{"See your accounts", "The name, number and type of each account."},
		{"See balances", "What is in each account, now and as it changes."},
		{"See transactions", "Payments in and out, with amount, date and the other party's name."},
	}
	accounts := []Account{
		{"22289", "Everyday account", "•••• 4821", "GBP", true},
		{"31820", "Rainy-day savings", "•••• 0937", "GBP", false},
		{"40017", "Travel", "•••• 5520", "EUR", false},
	}
	login := Login{Action: "/login", Hidden: hidden, Client: &tpp, SignUpURL: "/sign-up", RecoverURL: "/recover"}
	second := appFactor()
	enrol := EnrolTOTP{
		EnrolFrame: EnrolFrame{Action: "/login/enrol", Hidden: hidden}, QRPNG: dots(), Secret: "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
		Account: "alice", Issuer: "Meadow Bank", URI: "otpauth://totp/Meadow%20Bank:alice?secret=JBSWY3DPEHPK3PXP&issuer=Meadow%20Bank",
	}
	signUp := SignUp{Action: "/sign-up", Hidden: hidden, Client: &tpp, LoginURL: "/login"}
	consent := Consent{
		Action: "/consent", Hidden: hidden, Client: tpp, Customer: "Alice Example", SwitchURL: "/login?switch=1",
		Items: items, Accounts: accounts, Until: &until, History: "Transactions from 1 January 2026 to 1 March 2026",
		ManageURL: "/consents",
	}
	marked := tpp
	marked.LogoURL = clientLogo
	granted := func(id, name, status string, withdrawable bool) Granted {
		return Granted{
			ID: id, Client: Client{Name: name, URL: "https://www.acorn-budget.example"}, Items: items, Accounts: accounts[:2],
			Since: until.AddDate(-1, 0, 0), Until: &until, Status: status, Withdrawable: withdrawable,
		}
	}
	endless := granted("c2", "Ledgerly", "Active", true)
	endless.Details = []Detail{{"Amount", "123.50 EUR"}, {"To", "Merchant A"}, {"Payee's account", "DE02100100109307118603"}}
	endless.Until, endless.OpenURL = nil, "/consents/open?client_id=ledgerly"

	return append(slices.Concat(customersGallery(), factorGallery(), selfGallery(), federationGallery(), recoveryGallery(), transactionGallery()), []shot{
		{"login", "login_page", func(p *Pages, w http.ResponseWriter) error { return p.Login(w, 200, login) }},
		{"login-logo", "login_page", func(p *Pages, w http.ResponseWriter) error {
			v := login
			v.Client = &marked
			return p.Login(w, 200, v)
		}},
		{"second-factor-logo", "second_factor_page", func(p *Pages, w http.ResponseWriter) error {
			v := second
			v.Client = &marked
			return p.SecondFactor(w, 200, v)
		}},
		{"login-plain", "login_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Login(w, 200, Login{Action: "/login"})
		}},
		{"login-problem", "login_page", func(p *Pages, w http.ResponseWriter) error {
			v := login
			v.Username, v.Problem = "alice", p.Text("problem.credentials")
			return p.Login(w, 401, v)
		}},
		{"second-factor", "second_factor_page", func(p *Pages, w http.ResponseWriter) error { return p.SecondFactor(w, 200, second) }},
		{"second-factor-problem", "second_factor_page", func(p *Pages, w http.ResponseWriter) error {
			v := second
			v.Problem = p.Text("problem.code")
			return p.SecondFactor(w, 401, v)
		}},
		{"enrol", "enrol_page", func(p *Pages, w http.ResponseWriter) error { return p.EnrolTOTP(w, 200, enrol) }},
		{"enrol-problem", "enrol_page", func(p *Pages, w http.ResponseWriter) error {
			v := enrol
			v.Problem = p.Text("problem.code")
			return p.EnrolTOTP(w, 401, v)
		}},
		{"sign-up", "sign_up_page", func(p *Pages, w http.ResponseWriter) error { return p.SignUp(w, 200, signUp) }},
		{"sign-up-problem", "sign_up_page", func(p *Pages, w http.ResponseWriter) error {
			v := signUp
			v.Username, v.Name, v.Email, v.Problem = "alice", "Alice Example", "alice@meadow.example", p.Text("problem.password_short")
			return p.SignUp(w, 400, v)
		}},
		{"consent", "consent_page", func(p *Pages, w http.ResponseWriter) error { return p.Consent(w, 200, consent) }},
		{"consent-logo", "consent_page", func(p *Pages, w http.ResponseWriter) error {
			v := consent
			v.Client = marked
			return p.Consent(w, 200, v)
		}},
		{"consent-problem", "consent_page", func(p *Pages, w http.ResponseWriter) error {
			v := consent
			v.Until, v.Problem = nil, p.Text("problem.accounts")
			return p.Consent(w, 400, v)
		}},
		{"consent-payment", "consent_page", func(p *Pages, w http.ResponseWriter) error {
			v := consent
			v.Items = []Item{{"Make one payment", "From the account you choose below."}}
			v.Details = []Detail{{"Amount", "£165.88"}, {"To", "ACME Ltd."}, {"Account", "08-08-00 21325698"}, {"Reference", "FRESCO-101"}}
			v.Once, v.OneAccount, v.History, v.BindingMessage = true, true, "", "W4SCT"
			return p.Consent(w, 200, v)
		}},
		{"consent-replace", "consent_page", func(p *Pages, w http.ResponseWriter) error {
			v := consent
			v.Earlier = "You gave Acorn Budget permission before, on 3 March 2026. What is asked now takes its place: nothing of the earlier permission remains."
			v.Items = []Item{{"Make a payment from your account", "Check the amount and the payee below."}, {"See information about your accounts", ""}}
			v.Details = []Detail{{"Request 1 of 2", "Make a payment from your account"}, {"Amount", "123.50 EUR"}, {"To", "Merchant A"},
				{"Payee's account", "DE02100100109307118603"}, {"Message to the payee", "Ref Number Merchant 2026/11/000123, thank you for your order"},
				{"Where", "https://api.bank.example/payments/v1/a-rather-long-address-without-any-place-to-break-it"},
				{"Request 2 of 2", "See information about your accounts"}, {"It may", "list_accounts, read_balances"}}
			return p.Consent(w, 200, v)
		}},
		{"consent-long", "consent_page", func(p *Pages, w http.ResponseWriter) error {
			v := consent
			v.Client.Name = "Internationale Vermögensverwaltungsgesellschaft für Haushaltsbuchführung " + strings.Repeat("W", 60)
			v.Client.URL = "https://" + strings.Repeat("a-very-long-label.", 8) + "example"
			v.Customer = strings.Repeat("Alice", 20)
			v.Accounts = []Account{{"1", strings.Repeat("Account", 12), strings.Repeat("•", 30) + "4821", "GBP", true}, {"2", "Short", "•••• 1", "EUR", false}}
			v.Items = []Item{{strings.Repeat("Everything", 12), strings.Repeat("and more", 40)}}
			v.History = strings.Repeat("x", 90)
			return p.Consent(w, 200, v)
		}},
		{"device", "device_page", func(p *Pages, w http.ResponseWriter) error { return p.Device(w, 200, Device{Action: "/device"}) }},
		{"device-confirm", "device_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Device(w, 200, Device{Action: "/device", UserCode: "WDJB-MJHT", Confirm: true})
		}},
		{"device-problem", "device_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Device(w, 422, Device{Action: "/device", UserCode: "WDJB", Problem: p.Text("problem.user_code")})
		}},
		{"consent-device", "consent_page", func(p *Pages, w http.ResponseWriter) error {
			v := consent
			v.UserCode, v.Client.RedirectURI = "WDJB-MJHT", ""
			return p.Consent(w, 200, v)
		}},
		{"consent-ciba", "consent_page", func(p *Pages, w http.ResponseWriter) error { return p.Consent(w, 200, ciba()) }},
		{"consent-ciba-problem", "consent_page", func(p *Pages, w http.ResponseWriter) error {
			v := ciba()
			v.Problem = p.Text("problem.number")
			return p.Consent(w, 422, v)
		}},
		{"approvals", "approvals_page", func(p *Pages, w http.ResponseWriter) error { return p.Approvals(w, 200, approvals(2)) }},
		{"approvals-none", "approvals_page", func(p *Pages, w http.ResponseWriter) error { return p.Approvals(w, 200, approvals(0)) }},
		{"approvals-blocked", "approvals_page", func(p *Pages, w http.ResponseWriter) error {
			v := approvals(1)
			v.Blocked = []Blocked{{"acorn", "Acorn Budget", until}, {"long", "Internationale Vermögensverwaltungsgesellschaft für Haushaltsbuchführung", until}}
			v.Ringing, v.HasUserCode, v.Notice = []string{"00ff", "ff00"}, true, p.Text("approvals.notice.coded")
			return p.Approvals(w, 200, v)
		}},
		{"approvals-problem", "approvals_page", func(p *Pages, w http.ResponseWriter) error {
			v := approvals(0)
			v.Problem, v.HasUserCode = p.Text("problem.own_code"), true
			return p.Approvals(w, 422, v)
		}},
		{"approval-done", "done_page", func(p *Pages, w http.ResponseWriter) error { return p.Done(w, 200, decided(p, "done")) }},
		{"approval-number", "done_page", func(p *Pages, w http.ResponseWriter) error { return p.Done(w, 200, decided(p, "number")) }},
		{"approval-reported", "done_page", func(p *Pages, w http.ResponseWriter) error { return p.Done(w, 200, decided(p, "reported")) }},
		{"sign-out", "sign_out_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SignOut(w, 200, SignOut{Action: "/end_session/confirm", Hidden: hidden[:1], Client: &tpp, Customer: "Alice Example"})
		}},
		{"sign-out-logo", "sign_out_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SignOut(w, 200, SignOut{Action: "/end_session/confirm", Hidden: hidden[:1], Client: &marked, Customer: "Alice Example"})
		}},
		{"sign-out-plain", "sign_out_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SignOut(w, 200, SignOut{Action: "/end_session/confirm", Customer: strings.Repeat("Alice", 20)})
		}},
		{"signed-out", "done_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Done(w, 200, Done{
				Title: p.Text("signed_out.title"), Text: p.Text("signed_out.text"),
				LinkText: p.Text("signed_out.back", "client", tpp.Name), LinkURL: tpp.URL,
			})
		}},
		{"consents", "consents_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Consents(w, 200, Consents{
				Customer: "Alice Example", Action: "/consents", SignOutAction: "/sign-out",
				Notice: "Acorn Budget no longer has access.",
				Active: []Granted{granted("c1", "Acorn Budget", "Active", true), endless, granted("c3", "Internationale Vermögensverwaltungsgesellschaft für Haushaltsbuchführung", "Waiting for a second approver", false)},
				Ended:  []Granted{granted("c4", "Old Saver", "Withdrawn", false)},
			})
		}},
		{"consents-none", "consents_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Consents(w, 200, Consents{Customer: "Alice Example", Action: "/consents", SignOutAction: "/sign-out"})
		}},
		{"done", "done_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Done(w, 200, Done{"You are signed out", "It is safe to close this window.", "Sign in again", "/login"})
		}},
		{"error", "error_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Error(w, 400, Error{Code: "invalid_request_uri", Reference: "0190c5a4-6f2e-7c31-a5d0-4b9f2a7de311"})
		}},
		{"form-post", "form_post_page", func(p *Pages, w http.ResponseWriter) error {
			return p.FormPost(w, FormPost{Action: tpp.RedirectURI, Params: []Field{{"code", "abc"}, {"state", "xyz"}, {"submit", "shadow"}}})
		}},
	}...)
}

var speaker = Client{Name: "Kitchen speaker", URL: "https://speakers.example"}

// ciba is a request that began on another device.
func ciba() Consent {
	return Consent{
		Action: "/consent", Hidden: hidden, Client: speaker, Customer: "Alice Example",
		Items:          []Item{{"Make a payment from your account", "Check the amount and the payee below."}, {"Know that it is you", "This alone tells it nothing else about you."}},
		Details:        []Detail{{"Amount", "123.50 EUR"}, {"To", "Merchant A"}, {"Payee's account", "DE02100100109307118603"}},
		BindingMessage: "W4SCT", Waits: &Waits{Left: 4*time.Minute + 12*time.Second, Total: 5 * time.Minute},
		Numbers: []string{"27", "42", "80"}, Reportable: true, ListURL: "/approvals", Once: true, OneAccount: true,
		Accounts: []Account{{"22289", "Everyday account", "•••• 4821", "GBP", true}, {"31820", "Rainy-day savings", "•••• 0937", "GBP", false}},
	}
}

func approvals(requests int) Approvals {
	marked := tpp
	marked.LogoURL = clientLogo
	payment := ciba()
	return Approvals{
		Customer: "Alice Example", SignOutAction: "/sign-out", AllowAction: "/approvals/allow", UserCodeAction: "/approvals/user-code",
		SilenceAction: "/approvals/silence", ConsentsURL: "/consents", SubscriptionsURL: "/approvals/subscriptions", WorkerURL: "/approvals/worker.js",
		PushKey: "BIXxHgEuTRNlKNWXHBq_0yDwcpNSQxqpkH1iUdUpvyJQzS1mGdzyjZl7sW8w04wwJqzbBE1V5GmeuX6GZl7ePMQ",
		Waiting: []Waiting{
			{speaker, payment.Items, payment.Details, "W4SCT", Waits{52 * time.Second, 5 * time.Minute}, "/authorize?client_id=speaker&request_uri=urn:x"},
			{marked, []Item{{"See your accounts", ""}, {"Know that it is you", ""}}, nil, "", Waits{4 * time.Minute, 5 * time.Minute}, "/authorize?client_id=acorn&request_uri=urn:y"},
		}[:requests],
	}
}

func decided(p *Pages, outcome string) Done {
	return Done{p.Text("approval." + outcome + ".title"), p.Text("approval."+outcome+".text", "client", speaker.Name), p.Text("approval.list"), "/approvals"}
}

// clientLogo is where a client's logo is.
const clientLogo = "/clients/logo?client_id=acorn&v=0123456789abcdef"

// acorn is a logo with corners that can be seen through.
func acorn() []byte {
	const size = 128
	img := image.NewNRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			dx, dy := float64(x-size/2), float64(y-size/2)
			switch {
			case dy < -8 && dx*dx+dy*dy < 58*58:
				img.SetNRGBA(x, y, color.NRGBA{R: 122, G: 78, B: 36, A: 255})
			case dy >= -4 && dx*dx*1.3+dy*dy < 54*54:
				img.SetNRGBA(x, y, color.NRGBA{R: 214, G: 158, B: 66, A: 255})
			}
		}
	}
	return encoded(img)
}

// dots looks like a QR code.
func dots() []byte {
	const size, dot = 33, 6
	img := image.NewGray(image.Rect(0, 0, size*dot, size*dot))
	r := rand.New(rand.NewPCG(1, 2))
	for y := range size {
		for x := range size {
			c := color.Gray{Y: 255 * uint8(r.IntN(2))}
			for i := range dot * dot {
				img.SetGray(x*dot+i%dot, y*dot+i/dot, c)
			}
		}
	}
	return encoded(img)
}

func encoded(img image.Image) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func meadow() Brand {
	return Brand{
		Name: "Meadow Bank", Short: "Meadow", Colour: "#14532d", Support: "+44 20 7946 0000",
		PrivacyURL: "https://meadow.example/privacy", TermsURL: "https://meadow.example/terms",
	}
}

func newPages(t *testing.T, b Brand) *Pages {
	t.Helper()
	p, err := New(b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func rendered(t *testing.T, p *Pages, s shot) (*httptest.ResponseRecorder, string) {
	t.Helper()
	w := httptest.NewRecorder()
	if err := s.render(p, w); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	return w, w.Body.String()
}

func named(name string) shot {
	for _, s := range gallery() {
		if s.name == name {
			return s
		}
	}
	panic("no page " + name)
}
