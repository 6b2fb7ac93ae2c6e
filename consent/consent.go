package consent

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// Caller is who calls the API, as the access token says.
type Caller struct {
	ClientID   string
	Scopes     []string
	CustomerID string // "" for client_credentials
}

// Authenticate checks the access token of a request, its binding included. Its refusal is a *fapi.Error with status 401
// or 403; any other error is ours.
type Authenticate func(r *http.Request) (Caller, error)

// Challenge sets what a refused token is answered with: WWW-Authenticate, and DPoP-Nonce where due. It writes neither
// status nor body.
type Challenge func(w http.ResponseWriter, r *http.Request, err error)

// Visitor tells who is logged in. Nobody is when customer or login is nil, the second factor is still due, or the error
// is storage.ErrNotFound or fapi.LoginRequired.
type Visitor func(r *http.Request) (customer *storage.Customer, login *storage.Login, err error)

// Options of a Consents.
type Options struct {
	DB *storage.DB

	// The API. BaseURL is where clients reach it, without a slash at the end: the issuer, as a rule.
	BaseURL      string
	Authenticate Authenticate
	Challenge    Challenge // nil: RFC 6750's Bearer

	// The pages.
	Pages         *web.Pages
	Visitor       Visitor
	ClientName    func(clientID string) string
	OpenURL       func(clientID string) string // where the customer opens a client, "" for nowhere; may be nil
	LoginURL      string                       // "": /login
	SignOutAction string                       // "": no button
	ApprovalsURL  string                       // of what waits for the customer; "": no link
	DetailTypes   map[string]fapi.DetailType   // of authorization_details
	Words         Words                        // replaces words of English, entry by entry
	Zone          *time.Location               // in which the bank's customers read dates; nil: UTC

	Now    func() time.Time                   // nil: time.Now
	Failed func(r *http.Request, cause error) // told of what is our fault; nil: nobody is
}

// Consents serves the consent API and the customer's pages. Safe for concurrent use.
type Consents struct {
	*Describer
	o Options
}

// New checks the options, all of them at once.
func New(o Options) (*Consents, error) {
	var missing []error
	for name, absent := range map[string]bool{
		"DB": o.DB == nil, "Authenticate": o.Authenticate == nil, "Pages": o.Pages == nil, "Visitor": o.Visitor == nil, "ClientName": o.ClientName == nil,
	} {
		if absent {
			missing = append(missing, fmt.Errorf("consent: %s is missing", name))
		}
	}
	if u, err := url.Parse(o.BaseURL); err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(o.BaseURL, "/") {
		missing = append(missing, fmt.Errorf("consent: BaseURL %q must be absolute and end without a slash", o.BaseURL))
	}
	if err := errors.Join(missing...); err != nil {
		return nil, err
	}
	if o.Challenge == nil {
		o.Challenge = bearerChallenge
	}
	if o.LoginURL == "" {
		o.LoginURL = "/login"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OpenURL == nil {
		o.OpenURL = func(string) string { return "" }
	}
	if o.Failed == nil {
		o.Failed = func(*http.Request, error) {}
	}
	return &Consents{Describer: NewDescriber(o.Pages, o.DetailTypes, o.Words, o.Zone), o: o}, nil
}

// Paths that this package answers.
const (
	AccountAccessPath = "/open-banking/v3.1/aisp/account-access-consents" // and /{ConsentId} below it
	CustomerPath      = "/consents"
	WithdrawPath      = "/consents/withdraw"
)

// MountAPI adds the UK Open Banking consent API. It authenticates its callers itself.
func (c *Consents) MountAPI(r *mux.Router) {
	r.Handle(AccountAccessPath, c.api("accounts", methods{http.MethodPost: c.createAccountAccess}))
	r.Handle(AccountAccessPath+"/{ConsentId}", c.api("accounts", methods{
		http.MethodGet:    c.readAccountAccess,
		http.MethodDelete: c.deleteAccountAccess,
	}))
}

// MountPages adds the customer's pages. The withdrawal refuses what another site caused.
func (c *Consents) MountPages(r *mux.Router) {
	r.Handle(CustomerPath, c.page(http.MethodGet, c.list))
	r.Handle(WithdrawPath, c.o.Pages.Protect(c.page(http.MethodPost, c.withdraw)))
}
