package resource

import (
	"context"
	"slices"
	"time"

	"github.com/countersign/countersign/fapi"
)

// Principal is whom a call speaks for, and what it may do. All calls with one token share it: it is not to be changed.
type Principal struct {
	Subject          string // the customer; the client itself where no customer is involved
	ClientID         string // the client that calls
	Tenant           string // of Fineract; "" without a customer
	FineractClientID int64  // the customer's number in Fineract; 0 is none
	Scopes           []string
	Roles            []string
	Attributes       map[string]string // of the customer: "country", "client_type" …
	Consent          Consent
	AccountIDs       []string // those that the customer chose

	ACR      string    // how the customer was authenticated
	AMR      []string  // by what (RFC 8176)
	AuthTime time.Time // when; zero without a customer

	Audience             []string
	ExpiresAt            time.Time
	Confirmation         fapi.Confirmation // what the caller has proved to hold; empty for a bearer token
	AuthorizationDetails []fapi.AuthorizationDetail
	TokenID              string // jti
	GrantID              string
}

// Consent is what the customer agreed to. Without one its ID is empty.
type Consent struct {
	ID               string
	Type             string
	Status           string
	ExpiresAt        time.Time // zero: it has no end
	Permissions      []string
	TransactionsFrom time.Time // zero: no bound
	TransactionsTo   time.Time // zero: no bound
}

// authorised is the only status of a consent under which a token is any good (UK Open Banking, OBReadConsentResponse1).
const authorised = "Authorised"

// inForce tells whether the consent, if there is one, still holds.
func (c *Consent) inForce(now time.Time) bool {
	return c.ID == "" || c.Status == authorised && (c.ExpiresAt.IsZero() || now.Before(c.ExpiresAt))
}

// IsCustomer tells whether the call speaks for a customer and not for the client itself (RFC 9068 §2.2, sub).
func (p *Principal) IsCustomer() bool { return p.Subject != p.ClientID }

// MayUseAccount tells whether the customer chose the account.
func (p *Principal) MayUseAccount(id string) bool {
	return id != "" && slices.Contains(p.AccountIDs, id)
}

// HasScope tells whether the token has the scope.
func (p *Principal) HasScope(scope string) bool { return slices.Contains(p.Scopes, scope) }

// HasRole tells whether the customer, or the client itself, has the role.
func (p *Principal) HasRole(role string) bool { return slices.Contains(p.Roles, role) }

// HasPermission tells whether the consent gives the permission.
func (p *Principal) HasPermission(permission string) bool {
	return slices.Contains(p.Consent.Permissions, permission)
}

// Owns tells whether the customer is this client of Fineract.
func (p *Principal) Owns(fineractClientID int64) bool {
	return fineractClientID > 0 && p.FineractClientID == fineractClientID
}

type contextKey struct{}

// PrincipalFrom returns the principal of a request that a [Guard] let through, or nil.
func PrincipalFrom(ctx context.Context) *Principal {
	p, _ := ctx.Value(contextKey{}).(*Principal)
	return p
}

// WithPrincipal returns a context with a principal, for tests of handlers.
func WithPrincipal(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}
