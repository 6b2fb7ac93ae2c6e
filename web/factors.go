package web

import "net/http"

// Input is one thing that a form takes.
type Input struct {
	Name, Label, Value string
	Type               string // "text", "email", "tel", or "hidden"
	Code               bool   // it is set like a code
	Optional           bool
	Pattern            string // that the browser holds the customer to; "" for any
	MaxLength          int
	InputMode          string // "numeric", "tel"; "" for letters
	Autocomplete       string // "one-time-code", "email", "tel"
}

// Button sends a form.
type Button struct{ Text, Name, Value string }

// Way is a link to another way to do the same.
type Way struct{ Text, URL string }

// FactorPart is what one kind of second factor puts on the page that asks for it.
type FactorPart struct {
	Title  string // "" for the page's own
	How    string // what the customer is to do
	Inputs []Input
	Submit Button  // Text "" for the page's own
	Resend *Button // another button: it sends the form though its inputs are empty
	Hint   string  // "" for the page's own

	// Of a part that needs a script: its address, a path of this server, what it is given (JSON, in the form's data-options), and
	// what is said where scripts do not run. It sends the form itself, with its answer in a hidden input.
	Script, Options, NoScript string
}

// SecondFactor asks for a second factor, in one form. Inputs: those of the part.
type SecondFactor struct {
	Action  string
	Hidden  []Field
	Client  *Client
	Problem string
	Part    *FactorPart // nil: none of the customer's factors does for what is asked
	AddURL  string      // where another is added then; "" for no link
	Others  []Way
}

// SecondFactor shows the page.
func (p *Pages) SecondFactor(w http.ResponseWriter, status int, v SecondFactor) error {
	return p.render(w, status, "second_factor", scripted(csp(v.Client), v.Part), v.Problem, v)
}

func scripted(csp string, part *FactorPart) string {
	if part == nil || part.Script == "" {
		return csp
	}
	return csp + "; script-src 'self'"
}

// EnrolFrame is what the pages that enrol a factor have in common.
type EnrolFrame struct {
	Action  string
	Hidden  []Field
	Client  *Client
	Problem string
	Others  []Way
}

// EnrolTOTP shows a new authenticator secret and asks for its first code. Input: code.
type EnrolTOTP struct {
	EnrolFrame
	QRPNG   []byte
	Secret  string // base32; shown in groups of four
	Account string
	Issuer  string
	// URI is the otpauth:// URI. On a phone it is a link into the app: nobody
	// can scan the screen of the phone they hold.
	URI string
}

// EnrolTOTP shows the page.
func (p *Pages) EnrolTOTP(w http.ResponseWriter, status int, v EnrolTOTP) error {
	return p.render(w, status, "enrol", csp(v.Client), v.Problem, v)
}

// EnrolFactor enrols a factor of any kind: it asks what the part asks for.
type EnrolFactor struct {
	EnrolFrame
	Part FactorPart
}

// EnrolFactor shows the page.
func (p *Pages) EnrolFactor(w http.ResponseWriter, status int, v EnrolFactor) error {
	return p.render(w, status, "enrol_factor", scripted(csp(v.Client), &v.Part), v.Problem, v)
}

// AddFactor lets the customer choose which kind of factor to add.
type AddFactor struct {
	Ways []Way // none: there is nothing to add
	Back string
}

// AddFactor shows the page.
func (p *Pages) AddFactor(w http.ResponseWriter, status int, v AddFactor) error {
	return p.render(w, status, "add_factor", csp(nil), "", v)
}

// RecoveryCodes shows new recovery codes, the only time; or, without any, how many are left.
type RecoveryCodes struct {
	Codes   []string
	Client  *Client // on the way to one
	NextURL string  // where the customer goes on

	Action string // makes new ones; "" where codes are shown
	Left   int
	Few    bool
}

// RecoveryCodes shows the page.
func (p *Pages) RecoveryCodes(w http.ResponseWriter, status int, v RecoveryCodes) error {
	return p.render(w, status, "recovery_codes", csp(v.Client), "", v)
}
