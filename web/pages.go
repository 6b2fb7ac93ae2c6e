package web

import (
	"cmp"
	"net/http"
	"time"
)

// Element ids that others rely on:
//
//	every page     main: login_page, second_factor_page, enrol_page, enrol_factor_page, add_factor_page, recovery_codes_page,
//	               sign_up_page, sign_up_code_page, invitation_page, recover_page, recover_code_page, device_page, approvals_page,
//	               consent_page, consents_page, sign_out_page, done_page, error_page, form_post_page
//	inputs         user_code, username, password, code, name, email, account_<n>, number_<n> (from 1)
//	buttons        submit_button, resend_button, approve_button, deny_button,
//	               report_button, withdraw_<n> (from 1), sign_out_button, stay_button, continue_button,
//	               allow_<n> (from 1), ring_button, silence_button, silence_all_button, save_code_button, remove_code_button
//	links          open_<n>, decide_<n> (from 1), continue_link, refresh_link, approvals_link, consents_link, list_link
//	texts          problem (what went wrong with the form), notice, earlier, waiting_count,
//	               error_code, error_reference

// Field is a hidden input: what carries a journey from page to page.
type Field struct{ Name, Value string }

// Client is the third party, as the customer should know it.
type Client struct {
	Name string
	// URL is client_uri. Only its host is shown, and only if it is https.
	URL string
	// RedirectURI is where the journey ends. Its host is shown on the consent
	// page, and CSP form-action lets a native app's URI through (security.go).
	RedirectURI string
	// LogoURL is its logo, "" for none: a path of this server. A monogram stands
	// for it on pages that show one.
	LogoURL string
	// PolicyURL and TermsURL are policy_uri and tos_uri: links on the login and
	// consent pages, if they are https, with the host that they lead to.
	PolicyURL, TermsURL string
}

// Login asks for user name and password. Inputs: username, password.
type Login struct {
	Action string // a path of this server, "" for the page's own address
	Hidden []Field
	// Client is nil when the customer just signs in. On the way to a client it
	// must be there: CSP form-action would stop the redirect at the end (csp).
	Client    *Client
	Username  string
	Problem   string
	SignUpURL string
	// RecoverURL is for who has lost the password.
	RecoverURL string
	Passkey    *LoginPasskey // nil: none can be used
	Providers  []ProviderButton
	Elsewhere  bool // the problem is another provider's: nothing that is typed here is wrong
}

// Login shows the page, with 200 or, with a Problem, 403 or 422 (401 would promise WWW-Authenticate).
// As with all pages: an error is for the log, the customer has been answered.
func (p *Pages) Login(w http.ResponseWriter, status int, v Login) error {
	return p.render(w, status, "login", passkeyCSP(providersCSP(v.Client, v.Providers), v.Passkey), cmp.Or(v.Problem, v.Passkey.problem()), v)
}

// Item is one thing that a client may do, in plain words.
type Item struct{ Title, Text string }

// Detail is one line of what exactly is asked, such as a payment's amount.
type Detail struct{ Label, Value string }

// Account is one account to choose, or one that was chosen.
type Account struct {
	ID           string
	Name         string
	MaskedNumber string
	Currency     string
	Checked      bool
}

// Consent asks the customer to decide. Inputs: account (repeated) and decision,
// which is "approve", "deny" or, if Reportable, "report".
type Consent struct {
	Action    string
	Hidden    []Field
	Client    Client
	Customer  string // who is signed in
	SwitchURL string // "Not you?"
	Items     []Item
	Details   []Detail
	// BindingMessage is CIBA's binding_message, to compare with the other device.
	BindingMessage string
	// UserCode is what the device shows that asks (RFC 8628 §5.4), "" for none:
	// with it the page warns of requests that somebody else began.
	UserCode string

	// Of a request that began on another device (CIBA), else nil, none, false and "": how long it can be decided; the
	// numbers of which the customer picks the one that the client shows (input: number); whether the customer can report
	// it (the decision "report"); and their list of such requests.
	Waits      *Waits
	Numbers    []string
	Reportable bool
	ListURL    string

	// Earlier says, in words, what becomes of a permission that was given before,
	// "" when there is none that changes.
	Earlier string

	// Until is when the permission ends, in the customer's time zone; nil means
	// that it lasts until it is withdrawn. Once says that it is used up by this
	// one request (a payment), and wins over Until.
	Until *time.Time
	Once  bool
	// History is how far back the client may look, in words.
	History string

	Accounts   []Account
	OneAccount bool   // radio buttons: exactly one account is chosen
	ManageURL  string // the customer's list of consents, where this one can be withdrawn
	Problem    string
}

// Consent shows the page.
func (p *Pages) Consent(w http.ResponseWriter, status int, v Consent) error {
	return p.render(w, status, "consent", csp(&v.Client), v.Problem, v)
}

// Granted is one row of the customer's list.
type Granted struct {
	ID           string
	Client       Client
	Items        []Item
	Details      []Detail
	Accounts     []Account
	Since        time.Time
	Until        *time.Time // nil: until withdrawn; for ended ones, when it ended
	Status       string     // in words, "" for none
	Withdrawable bool
	OpenURL      string // where the customer opens the client, "" for no link
}

// Consents is the customer's list of what was granted. Each withdrawable row
// has its own form with the input consent=<ID>.
type Consents struct {
	Customer      string
	Active, Ended []Granted
	Action        string
	Hidden        []Field
	Notice        string
	SignOutAction string
	ApprovalsURL  string // the list of what waits for the customer, "" for no link
}

// Consents shows the page.
func (p *Pages) Consents(w http.ResponseWriter, status int, v Consents) error {
	return p.render(w, status, "consents", csp(nil), "", v)
}

// SignOut asks whether the customer wants to sign out. Input: decision, which is
// "sign_out" or "stay".
type SignOut struct {
	Action   string
	Hidden   []Field
	Client   *Client // that sent the customer here; nil when nobody knows
	Customer string  // who is signed in
}

// SignOut shows the page.
func (p *Pages) SignOut(w http.ResponseWriter, status int, v SignOut) error {
	return p.render(w, status, "sign_out", csp(v.Client), "", v)
}

// Done says that something is finished.
type Done struct{ Title, Text, LinkText, LinkURL string }

// Done shows the page.
func (p *Pages) Done(w http.ResponseWriter, status int, v Done) error {
	return p.render(w, status, "done", csp(nil), "", v)
}

// Error tells the customer why the journey ends here. Empty Title and Text are
// filled with "This link cannot be used" and what to do about it.
type Error struct {
	Title     string
	Text      string
	Code      string // such as invalid_request_uri
	Reference string // the request's id, for the support line
}

// Error shows the page.
func (p *Pages) Error(w http.ResponseWriter, status int, v Error) error {
	if v.Title == "" {
		v.Title = p.Text("error.title")
	}
	if v.Text == "" {
		v.Text = p.Text("error.text")
	}
	return p.render(w, status, "error", csp(nil), "", v)
}

// FormPost is OAuth 2.0 Form Post Response Mode: a form that submits itself to
// the client, by one line of script or by its button.
type FormPost struct {
	Action string // the redirect URI: absolute, https (http on a loopback host)
	Params []Field
}

// FormPost shows the page, with 200.
func (p *Pages) FormPost(w http.ResponseWriter, v FormPost) error {
	return p.render(w, http.StatusOK, "form_post", formPostCSP(v.Action), "", v)
}
