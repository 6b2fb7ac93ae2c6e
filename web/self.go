package web

import (
	"net/http"
	"time"
)

// Element ids of the customer's own pages, beside those of pages.go:
//
//	pages    self_page, self_profile_page, self_contact_page, self_password_page, self_factors_page, self_sessions_page,
//	         self_activity_page, self_data_page
//	links    self_link, approvals_link, payments_link, consents_link, factors_link, sessions_link, activity_link (on each of them),
//	         profile_link, password_link, transaction_password_link, data_link, export_link, add_factor_link, codes_link, older_link, back_link
//	inputs   those of the forms below; name_<n> (from 1)
//	buttons  save_button, email_button, phone_button, confirm_button, password_button, rename_<n>, remove_<n>, end_<n>, end_others_button,
//	         forget_app_<n>, silence_<n>, unlink_<n>, link_<n> (from 1), delete_button, cancel_button
//	texts    deletion (when the customer will be gone)

// Own is what the customer's own pages have in common. Forms post to the page's own paths.
type Own struct {
	Customer string // who is signed in
	Notice   string
	Problem  string
}

// Self is the customer's overview.
type Self struct {
	Own
	Profile    ProfileFacts
	LastLogin  *Visited   // the one before this one, nil for none
	DeletionAt *time.Time // when the customer will be gone, nil for never

	TransactionPasswordURL string // where it is set; "" where the institution wants none
}

// ProfileFacts are what is shown of a customer, masked.
type ProfileFacts struct {
	Username, Email, Phone string
	Client                 string // in the core, "" for none
	Factors                int    // how many second factors there are
}

// Visited is where and when somebody came from.
type Visited struct {
	When    time.Time
	Browser string // in words
	From    string // a network address
}

// Self shows the page.
func (p *Pages) Self(w http.ResponseWriter, status int, v Self) error {
	return p.render(w, status, "self", csp(nil), v.Problem, v)
}

// SelfProfile lets the customer change what is known of them. Inputs: those of Fields, then, in forms of their own, email and
// phone.
type SelfProfile struct {
	Own
	Facts        ProfileFacts
	Fields       []TextField
	CanSendEmail bool // codes can be sent to a new address
	CanSendPhone bool
}

// TextField is an input for a line of text.
type TextField struct {
	Name, Label, Value, Autocomplete, Hint string
}

// SelfProfile shows the page.
func (p *Pages) SelfProfile(w http.ResponseWriter, status int, v SelfProfile) error {
	return p.render(w, status, "self_profile", csp(nil), v.Problem, v)
}

// SelfContact asks for the code that was sent to a new address. Input: code.
type SelfContact struct {
	Own
	Action string
	Hidden []Field
	Masked string
}

// SelfContact shows the page.
func (p *Pages) SelfContact(w http.ResponseWriter, status int, v SelfContact) error {
	return p.render(w, status, "self_contact", csp(nil), v.Problem, v)
}

// SelfPassword asks for the old password and a new one. Inputs: old_password, password.
type SelfPassword struct {
	Own
	Username string
	First    bool // there is no old one
}

// SelfPassword shows the page.
func (p *Pages) SelfPassword(w http.ResponseWriter, status int, v SelfPassword) error {
	return p.render(w, status, "self_password", csp(nil), v.Problem, v)
}

// SelfFactors is the list of the customer's second factors and of who else vouches for them. Inputs: factor and name; factor;
// link.
type SelfFactors struct {
	Own
	Factors   []FactorRow
	CodesURL  string // of recovery codes, "" for whoever has nothing that they could stand in for
	Links     []LinkRow
	Providers []ProviderButton // with whom the customer can link an identity
}

// FactorRow is a second factor.
type FactorRow struct {
	ID, Kind  string // what it is, in words
	Name      string // the customer's own, "" for none
	Masked    string // where codes go
	Since     time.Time
	LastUsed  *time.Time
	Removable bool
}

// LinkRow is an identity at another provider.
type LinkRow struct {
	ID, Provider string
	Name         string // by which the customer is known there, "" for none
	Since        time.Time
	LastUsed     *time.Time
}

// SelfFactors shows the page.
func (p *Pages) SelfFactors(w http.ResponseWriter, status int, v SelfFactors) error {
	return p.render(w, status, "self_factors", providersCSP(nil, v.Providers), v.Problem, v)
}

// SelfSessions is the list of browsers and devices. Inputs: session; app; browser.
type SelfSessions struct {
	Own
	Sessions []SessionRow
	Apps     []DeviceRow
	Ringing  []DeviceRow
}

// SessionRow is a browser in which the customer is, or was lately, signed in.
type SessionRow struct {
	ID string
	Visited
	This, Over bool
}

// DeviceRow is a device.
type DeviceRow struct {
	ID, Name string
	Since    time.Time
	LastUsed *time.Time
}

// SelfSessions shows the page.
func (p *Pages) SelfSessions(w http.ResponseWriter, status int, v SelfSessions) error {
	return p.render(w, status, "self_sessions", csp(nil), v.Problem, v)
}

// SelfActivity is what happened, the newest first.
type SelfActivity struct {
	Own
	Events   []EventRow
	OlderURL string // "" at the end
}

// EventRow is one thing that happened.
type EventRow struct {
	Visited
	What string
}

// SelfActivity shows the page.
func (p *Pages) SelfActivity(w http.ResponseWriter, status int, v SelfActivity) error {
	return p.render(w, status, "self_activity", csp(nil), v.Problem, v)
}

// SelfData is where the customer takes their data, or goes. Input: confirm, which is "yes".
type SelfData struct {
	Own
	DeletionAt *time.Time
	WaitDays   int
	KeepYears  int
}

// SelfData shows the page.
func (p *Pages) SelfData(w http.ResponseWriter, status int, v SelfData) error {
	return p.render(w, status, "self_data", csp(nil), v.Problem, v)
}

// Date is a day as people write it.
func (p *Pages) Date(t time.Time) string { return p.date(t) }
