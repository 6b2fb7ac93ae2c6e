package authn

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

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
		if r.ACR != "" && r.ACR != CA && r.ACR != SCA || r.MaxAge < 0 || r.FactorMaxAge < 0 {
			wrong = append(wrong, fmt.Errorf("policy: %s: acr must be %s or %s, an age not negative", action, CA, SCA))
		}
		for _, kind := range r.Without {
			if !slices.Contains(factorKinds, kind) {
				wrong = append(wrong, fmt.Errorf("policy: %s: no kind of second factor %q", action, kind))
			}
		}
	}
	return errors.Join(wrong...)
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

// Guard lets a page of the customer's own run for a login that does for the action. Otherwise it asks for what is missing and
// returns false; the customer comes back to page.
func (a *Authn) Guard(w http.ResponseWriter, r *http.Request, action Action, page string) (*storage.Visitor, bool) {
	return a.GuardBy(w, r, a.Rule(action), page)
}

// GuardBy is Guard by a rule that is not an action's alone, such as that of [Authn.TransactionRule].
func (a *Authn) GuardBy(w http.ResponseWriter, r *http.Request, rule Rule, page string) (*storage.Visitor, bool) {
	v, lacks, err := a.look(r, rule)
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

// look finds the visitor, and what their login lacks for a rule; nil: nothing.
func (a *Authn) look(r *http.Request, rule Rule) (*storage.Visitor, *Prompt, error) {
	hash := a.LoginHash(r)
	if hash == nil {
		return nil, &Prompt{}, nil
	}
	v, err := a.db.FindLogin(r.Context(), hash)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, &Prompt{}, nil
	case err != nil:
		return nil, nil, err
	}
	v.From = visitOf(r)
	return v, a.Meets(&v.Login, rule), nil
}
