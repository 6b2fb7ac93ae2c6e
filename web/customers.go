package web

import "net/http"

// SignUp registers a customer. Inputs: username, name, email, password.
type SignUp struct {
	Action   string
	Hidden   []Field
	Client   *Client
	Problem  string
	Username string
	Name     string
	Email    string
	LoginURL string // for those who have an account

	ByPhone   bool // email may be a phone number
	OnlyPhone bool // and must be

	// Of somebody whom the bank has invited: where the bank has their address, masked. The page does not ask for one then.
	Invited bool
	Masked  string
}

// SignUp shows the page.
func (p *Pages) SignUp(w http.ResponseWriter, status int, v SignUp) error {
	return p.render(w, status, "sign_up", csp(v.Client), v.Problem, v)
}

// SignUpCode asks who signs up for the code that was sent to their address. Inputs: code, or resend=1.
type SignUpCode struct {
	Action  string
	Hidden  []Field
	Client  *Client
	Problem string
	Masked  string // where it was sent
	BackURL string // where the address can be put right
}

// SignUpCode shows the page.
func (p *Pages) SignUpCode(w http.ResponseWriter, status int, v SignUpCode) error {
	return p.render(w, status, "sign_up_code", csp(v.Client), v.Problem, v)
}

// Invitation asks for the code that the bank has given somebody. Inputs: invitation; code, when one was Sent; or send=1.
type Invitation struct {
	Action   string
	Hidden   []Field
	Problem  string
	Customer string // who is signed in, "" for nobody
	LoginURL string // for those who have access, "" when somebody is signed in
	CanSend  bool   // the customer may ask for a code to the address that the bank has
	Sent     bool   // they have
}

// Invitation shows the page.
func (p *Pages) Invitation(w http.ResponseWriter, status int, v Invitation) error {
	return p.render(w, status, "invitation", csp(nil), v.Problem, v)
}
