package engine

import (
	"slices"
	"strings"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// Customers is what an institution decides about its customers' roles and attributes.
type Customers struct {
	Rules      fapi.ScopeRules // scopes that are for some of them only
	Attributes []string        // names of those that are told: to resource servers, and to clients with the scope attributes
}

// Denied returns those of the scopes that are not for the customer.
func (e *Engine) Denied(c *storage.Customer, scopes []string) ([]string, error) {
	if !e.people.Rules.Concern(scopes) {
		return nil, nil
	}
	p, err := c.Profile()
	if err != nil {
		return nil, err
	}
	return e.people.Rules.Denied(scopes, c.Roles, p.Attributes), nil
}

// Within leaves of an authorization the scopes that are for its customer as they are now: a role that was taken away since
// ends what it was good for. It passes an error on.
func (e *Engine) Within(l *storage.Live, err error) (*storage.Live, error) {
	if err != nil {
		return nil, err
	}
	denied, err := e.Denied(&l.Customer, l.Scopes)
	if err != nil {
		return nil, err
	}
	l.Scopes = without(l.Scopes, denied)
	return l, nil
}

// NarrowToken leaves in a token the scopes that are for its customer as they are now.
func (e *Engine) NarrowToken(t *AccessToken, l *storage.Live) error {
	denied, err := e.Denied(&l.Customer, t.Scopes())
	if err == nil && len(denied) > 0 {
		t.Scope = strings.Join(without(t.Scopes(), denied), " ")
	}
	return err
}

func without(scopes, denied []string) []string {
	return slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return contains(denied, s) })
}

// attributes returns what is told of the customer, nil for nothing.
func (e *Engine) attributes(c *storage.Customer) (map[string]string, error) {
	if len(e.people.Attributes) == 0 {
		return nil, nil
	}
	p, err := c.Profile()
	if err != nil {
		return nil, err
	}
	told := map[string]string{}
	for _, name := range e.people.Attributes {
		if value := p.Attributes[name]; value != "" {
			told[name] = value
		}
	}
	return told, nil
}

// userClaims returns what a client with these scopes may learn of a customer: the standard claims, roles and attributes
// only with scopes that name them.
func (e *Engine) userClaims(c *storage.Customer, scopes []string) (map[string]any, error) {
	claims, err := UserClaims(c)
	if err != nil {
		return nil, err
	}
	if contains(scopes, "roles") && len(c.Roles) > 0 {
		claims["roles"] = c.Roles
	}
	if contains(scopes, "attributes") {
		told, err := e.attributes(c)
		if err != nil {
			return nil, err
		}
		if len(told) > 0 {
			claims["attributes"] = told
		}
	}
	return claims, nil
}
