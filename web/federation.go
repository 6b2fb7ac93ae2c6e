package web

import "net/http"

// ProviderButton is another provider at which the customer may log in.
type ProviderButton struct {
	Name   string
	Action string // a path of this server
	Hidden []Field
}

// providersCSP lets the redirect through that answers a provider's button, to hosts that only the provider knows.
func providersCSP(client *Client, providers []ProviderButton) string {
	if len(providers) == 0 {
		return csp(client)
	}
	if client == nil {
		client = &Client{}
	}
	return csp(client)
}

// ProveLink asks somebody who comes from another provider to show that they have access here. Inputs of CodeAction: send, or code.
type ProveLink struct {
	Provider   string // that they come from
	Identity   string // by what they know themselves there
	Client     *Client
	Problem    string
	LoginURL   string // where they log in
	CodeAction string
	Masked     string // where a code can go, "" for nowhere
	CodeSent   bool
	SignUpURL  string // for those who have no access, "" for no link
}

// ProveLink shows the page.
func (p *Pages) ProveLink(w http.ResponseWriter, status int, v ProveLink) error {
	return p.render(w, status, "prove_link", csp(v.Client), v.Problem, v)
}

// Link asks whether an identity at another provider may be used to log in here. Input: decision, which is "link" or "stay".
type Link struct {
	Action   string
	Hidden   []Field
	Client   *Client
	Provider string
	Identity string // by what the customer knows it
	Customer string // whose access it is
}

// Link shows the page.
func (p *Pages) Link(w http.ResponseWriter, status int, v Link) error {
	return p.render(w, status, "link", csp(v.Client), "", v)
}

// LinkSignUp makes a customer of what another provider says. Input: username.
type LinkSignUp struct {
	Action             string
	Hidden             []Field
	Client             *Client
	Provider           string
	Problem            string
	Username           string
	Name, Email, Phone string // as the provider says, "" for what it does not
	BackURL            string
}

// LinkSignUp shows the page.
func (p *Pages) LinkSignUp(w http.ResponseWriter, status int, v LinkSignUp) error {
	return p.render(w, status, "link_sign_up", csp(v.Client), v.Problem, v)
}
