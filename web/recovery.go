package web

import "net/http"

// Recover asks who has lost the password. Input: username.
type Recover struct {
	Action   string
	Hidden   []Field
	Client   *Client
	Problem  string
	Username string
	LoginURL string // for those who have remembered
	Branch   bool   // no mail can be sent: the page says where to go instead
}

// Recover shows the page.
func (p *Pages) Recover(w http.ResponseWriter, status int, v Recover) error {
	return p.render(w, status, "recover", csp(v.Client), v.Problem, v)
}

// RecoverCode asks for the code from the mail and a new password. Inputs: code, password.
type RecoverCode struct {
	Action   string
	Hidden   []Field
	Client   *Client
	Problem  string
	AgainURL string // where another code is asked for
}

// RecoverCode shows the page.
func (p *Pages) RecoverCode(w http.ResponseWriter, status int, v RecoverCode) error {
	return p.render(w, status, "recover_code", csp(v.Client), v.Problem, v)
}
