package authn

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// Action is something for which it matters how, and how long ago, the customer has logged in.
type Action string

// Actions that a Policy has rules for.
const (
	ViewAccess     Action = "access.view"     // reading one's profile, sessions, activity
	ChangePassword Action = "password.change" // the transaction password too
	ChangeFactors  Action = "factors.change"  // adding, removing a second factor
	ChangeProfile  Action = "profile.change"
	ExportData     Action = "data.export"
	DeleteAccount  Action = "account.delete"
	ApprovePayment Action = "payment.approve" // and any other transaction
)

// Rule is what a login must be for an action.
type Rule struct {
	ACR          string        `yaml:"acr"`            // "" for any complete login
	MaxAge       time.Duration `yaml:"max_age"`        // since the password, 0: any age
	FactorMaxAge time.Duration `yaml:"factor_max_age"` // since the second factor, 0: any age
	Without      []string      `yaml:"without"`        // kinds of second factors that do not do, such as "sms"

	Customers []CustomerRule `yaml:"customers"` // what holds for some customers besides
}

// CustomerRule is what a login of some customers must be, besides.
type CustomerRule struct {
	Who  fapi.ScopeRule `yaml:",inline"` // with one of the roles, and all of the attributes
	Rule `yaml:",inline"`
}

// Policy is the institution's rules. An action without one falls under DefaultPolicy.
type Policy map[Action]Rule

// DefaultPolicy is what holds unless an institution says otherwise. A customer who has no second factor yet may add the
// first: a rule that asks for one asks then for its enrolment.
var DefaultPolicy = Policy{
	ViewAccess:     {ACR: SCA},
	ChangePassword: {ACR: SCA, FactorMaxAge: 5 * time.Minute},
	ChangeFactors:  {ACR: SCA, FactorMaxAge: 5 * time.Minute},
	ChangeProfile:  {ACR: SCA, FactorMaxAge: 5 * time.Minute},
	ExportData:     {ACR: SCA, FactorMaxAge: 5 * time.Minute},
	DeleteAccount:  {ACR: SCA, MaxAge: 5 * time.Minute, FactorMaxAge: time.Minute},
	ApprovePayment: {ACR: SCA},
}

func (p Policy) check(factorKinds []string) error {
	var wrong []error
	for action, r := range p {
		if _, known := DefaultPolicy[action]; !known {
			wrong = append(wrong, fmt.Errorf("policy: no action %q", action))
		}
		wrong = append(wrong, r.check(action, factorKinds))
	}
	return errors.Join(wrong...)
}

func (r Rule) check(action Action, factorKinds []string) error {
	var wrong []error
	if r.ACR != "" && r.ACR != CA && r.ACR != SCA || r.MaxAge < 0 || r.FactorMaxAge < 0 {
		wrong = append(wrong, fmt.Errorf("policy: %s: acr must be %s or %s, an age not negative", action, CA, SCA))
	}
	for _, kind := range r.Without {
		if !slices.Contains(factorKinds, kind) {
			wrong = append(wrong, fmt.Errorf("policy: %s: no kind of second factor %q", action, kind))
		}
	}
	for _, some := range r.Customers {
		if len(some.Customers) > 0 || !tellsApart(some.Who) {
			wrong = append(wrong, fmt.Errorf("policy: %s: customers must name roles, or attributes with values, and no customers among them", action))
		}
		wrong = append(wrong, some.Rule.check(action, factorKinds))
	}
	return errors.Join(wrong...)
}

// tellsApart tells whether there can be customers whom a rule means, and others.
func tellsApart(who fapi.ScopeRule) bool {
	for name, values := range who.Attributes {
		if !attributeName.MatchString(name) || len(values) == 0 || slices.Contains(values, "") {
			return false
		}
	}
	return len(who.Roles)+len(who.Attributes) > 0 && checkRoles(who.Roles) == nil
}

// of is the rule as it holds for one customer.
func (r Rule) of(c *storage.Customer) (Rule, error) {
	if len(r.Customers) == 0 {
		return r, nil
	}
	p, err := c.Profile()
	if err != nil {
		return r, err
	}
	for _, some := range r.Customers {
		if some.Who.Meets(c.Roles, p.Attributes) {
			r = r.and(some.Rule)
		}
	}
	return r, nil
}

// and is a rule that is as strict as both.
func (r Rule) and(other Rule) Rule {
	if r.ACR != SCA && other.ACR != "" {
		r.ACR = other.ACR
	}
	r.MaxAge, r.FactorMaxAge = shorter(r.MaxAge, other.MaxAge), shorter(r.FactorMaxAge, other.FactorMaxAge)
	r.Without = slices.Concat(r.Without, other.Without)
	return r
}

// shorter is the shorter of two ages; 0 is any age.
func shorter(x, y time.Duration) time.Duration {
	if x == 0 || y != 0 && y < x {
		return y
	}
	return x
}

// Rule is the one for an action.
func (a *Authn) Rule(action Action) Rule {
	if r, ok := a.config.Policy[action]; ok {
		return r
	}
	return DefaultPolicy[action]
}

// Meets tells what a login lacks for a rule, as the Prompt that would ask for it; nil: nothing.
func (a *Authn) Meets(login *storage.Login, r Rule) *Prompt {
	now := a.now()
	p := &Prompt{Login: login, ACR: r.ACR, Without: r.Without}
	switch {
	case login == nil:
		return p
	case r.MaxAge > 0 && now.Sub(login.AuthTime) > r.MaxAge:
		p.Fresh = true
		return p
	case !a.Satisfies(login, nil, r.ACR):
		return p
	case login.ACR != SCA:
		return nil
	case r.FactorMaxAge > 0 && (login.FactorAt == nil || now.Sub(*login.FactorAt) > r.FactorMaxAge),
		slices.Contains(r.Without, login.FactorKind):
		p.Factor = true
		return p
	}
	return nil
}

// Lacks tells what a customer's login lacks for an action, as Meets does.
func (a *Authn) Lacks(login *storage.Login, c *storage.Customer, action Action) (*Prompt, error) {
	rule, err := a.Rule(action).of(c)
	if err != nil {
		return nil, err
	}
	return a.Meets(login, rule), nil
}

// Guard lets a page of the customer's own run for a login that does for the action. Otherwise it asks for what is missing and
// returns false; the customer comes back to page.
func (a *Authn) Guard(w http.ResponseWriter, r *http.Request, action Action, page string) (*storage.Visitor, bool) {
	return a.GuardBy(w, r, a.Rule(action), page)
}

// GuardBy is Guard by a rule that is not an action's alone, such as that of [Authn.TransactionRule].
func (a *Authn) GuardBy(w http.ResponseWriter, r *http.Request, rule Rule, page string) (*storage.Visitor, bool) {
	v, _, lacks, err := a.look(r, rule)
	switch {
	case err != nil:
		a.fail(w, r, err)
		return nil, false
	case lacks == nil:
		return v, true
	}
	lacks.Hidden = ToPage(page)
	a.Ask(w, r, *lacks)
	return nil, false
}

// look finds the visitor, the rule as it holds for them, and what their login lacks for it; nil: nothing.
func (a *Authn) look(r *http.Request, rule Rule) (*storage.Visitor, Rule, *Prompt, error) {
	hash := a.LoginHash(r)
	if hash == nil {
		return nil, rule, &Prompt{}, nil
	}
	v, err := a.db.FindLogin(r.Context(), hash)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, rule, &Prompt{}, nil
	}
	if err == nil {
		rule, err = rule.of(&v.Customer)
	}
	if err != nil {
		return nil, rule, nil, err
	}
	v.From = visitOf(r)
	return v, rule, a.Meets(&v.Login, rule), nil
}
