package web

import "net/http"

// Device asks for the code that a device shows (RFC 8628 §3.3). Input: user_code.
type Device struct {
	Action   string
	UserCode string // what was typed, or came with the link
	// Confirm says that the code came with the link: the customer compares it with
	// the device's screen before anything goes on (RFC 8628 §3.3.1, §5.4).
	Confirm bool
	Problem string
}

// Device shows the page, with 200 or, with a Problem, 422 or 429. It belongs to
// no client yet; what its form leads to is a page of this server.
func (p *Pages) Device(w http.ResponseWriter, status int, v Device) error {
	return p.render(w, status, "device", csp(nil), v.Problem, v)
}
