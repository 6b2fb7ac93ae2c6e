package resource

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersign/countersign/fapi"
)

// InsufficientUserAuthentication asks the client to have the customer log in better, or again (RFC 9470 §3).
const InsufficientUserAuthentication fapi.Code = "insufficient_user_authentication"

// Need is what a request must have to reach a handler, besides a good token. The zero Need is met by every good token.
//
// The functions read a value out of the request ([PathValue] makes such a function); "" is refused.
type Need struct {
	Scopes      []string            // all of them
	Roles       []string            // one of them
	Permissions []string            // all of them, in the consent
	Attributes  map[string][]string // of the customer: each of them, with one of the values
	Customer    bool                // a customer, not the client itself

	Account func(*http.Request) string // the account called for: one of those that the customer chose
	Owner   func(*http.Request) string // the Fineract client called for, as in /self/clients/{id}: the customer's own
	Tenant  func(*http.Request) string // the tenant called for: the customer's own

	ACR    []string      // how the customer must be authenticated: one of them
	MaxAge time.Duration // how long ago at most; 0: it does not matter
}

// PathValue reads a wildcard of the pattern that the request matched (see [http.ServeMux]).
func PathValue(name string) func(*http.Request) string {
	return func(r *http.Request) string { return r.PathValue(name) }
}

// FineractTenant reads the tenant that a request to Fineract names, in its header or its query. One that names two is
// taken for one that names none.
func FineractTenant(r *http.Request) string {
	named := append(slices.Clone(r.Header.Values("Fineract-Platform-TenantId")), r.URL.Query()["tenantIdentifier"]...)
	if len(named) == 0 || slices.ContainsFunc(named, func(other string) bool { return other != named[0] }) {
		return ""
	}
	return named[0]
}

var (
	errConsentEnded  = fapi.Refuse(fapi.InvalidToken, "The consent has expired or is not authorised.")
	errLogInBetter   = fapi.Refuse(InsufficientUserAuthentication, "The customer must be authenticated in another way.").WithStatus(http.StatusUnauthorized)
	errLogInAgain    = fapi.Refuse(InsufficientUserAuthentication, "The customer must be authenticated again.").WithStatus(http.StatusUnauthorized)
	errScope         = fapi.Refuse(fapi.InsufficientScope, "The access token lacks a scope.")
	errNotCustomer   = fapi.Refuse(fapi.InsufficientScope, "This needs an access token that speaks for a customer.")
	errRole          = fapi.Refuse(fapi.InsufficientScope, "The access token lacks the role for this.")
	errAttribute     = fapi.Refuse(fapi.InsufficientScope, "This is not for a customer of this kind.")
	errPermission    = fapi.Refuse(fapi.InsufficientScope, "The consent does not give the permission for this.")
	errOtherTenant   = fapi.Refuse(fapi.InsufficientScope, "The access token is for another tenant.")
	errOtherOwner    = fapi.Refuse(fapi.InsufficientScope, "This belongs to another customer.")
	errOtherAccounts = fapi.Refuse(fapi.InsufficientScope, "The customer did not choose this account.")
)

// challenged is a refusal that tells the client more than its code: what to ask for the next time.
type challenged struct {
	refused *fapi.Error
	params  string
}

func (c *challenged) Error() string { return c.refused.Error() }
func (c *challenged) Unwrap() error { return c.refused }

// checker is a Need with what it puts into challenges, made once.
type checker struct {
	Need
	scope, acr, age error
}

// checker panics if the Need cannot be written into a challenge: the program is wrong, and says so when it starts.
func (n Need) checker() *checker {
	for _, name := range slices.Concat(n.Scopes, n.ACR) {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			panic(fmt.Sprintf("resource: %q is no scope (RFC 6749 §3.3) and no acr", name))
		}
	}
	if n.MaxAge < 0 {
		panic("resource: MaxAge is negative")
	}
	c := &checker{Need: n, scope: errScope, acr: errLogInBetter, age: errLogInAgain}
	if len(n.Scopes) > 0 {
		c.scope = &challenged{errScope, fmt.Sprintf(`scope="%s"`, strings.Join(n.Scopes, " "))} // RFC 6750 §3
	}
	var logIn []string // RFC 9470 §3: all that is needed, so that the customer is asked once
	if len(n.ACR) > 0 {
		logIn = append(logIn, fmt.Sprintf(`acr_values="%s"`, strings.Join(n.ACR, " ")))
	}
	if n.MaxAge > 0 {
		logIn = append(logIn, fmt.Sprintf(`max_age="%d"`, int64(n.MaxAge.Seconds())))
	}
	if len(logIn) > 0 {
		params := strings.Join(logIn, ", ")
		c.acr, c.age = &challenged{errLogInBetter, params}, &challenged{errLogInAgain, params}
	}
	return c
}

// check tells whether the principal may do what the request asks for. How to get a better token comes first (401), then
// what no token of this customer will ever allow.
func (c *checker) check(p *Principal, r *http.Request, now time.Time) error {
	switch {
	case !p.Consent.inForce(now):
		return errConsentEnded
	case len(c.ACR) > 0 && !slices.Contains(c.ACR, p.ACR):
		return c.acr
	case c.MaxAge > 0 && (p.AuthTime.IsZero() || now.Sub(p.AuthTime) > c.MaxAge):
		return c.age
	case !containsAll(p.Scopes, c.Scopes):
		return c.scope
	case c.Customer && !p.IsCustomer():
		return errNotCustomer
	case len(c.Roles) > 0 && !slices.ContainsFunc(c.Roles, p.HasRole):
		return errRole
	case !p.hasAttributes(c.Attributes):
		return errAttribute
	case !containsAll(p.Consent.Permissions, c.Permissions):
		return errPermission
	case c.Tenant != nil && !isNamed(c.Tenant(r), p.Tenant):
		return errOtherTenant
	case c.Owner != nil && (p.FineractClientID <= 0 || c.Owner(r) != strconv.FormatInt(p.FineractClientID, 10)):
		return errOtherOwner
	case c.Account != nil && !p.MayUseAccount(c.Account(r)):
		return errOtherAccounts
	}
	return nil
}

func (p *Principal) hasAttributes(needed map[string][]string) bool {
	for name, values := range needed {
		if have, ok := p.Attributes[name]; !ok || !slices.Contains(values, have) {
			return false
		}
	}
	return true
}

func isNamed(name, want string) bool { return name != "" && name == want }

func containsAll(have, want []string) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}
