package fapi

import (
	"errors"
	"fmt"
	"slices"
)

// ScopeRules say which scopes are for some customers only, by scope. One without a rule is for everybody. What a customer may
// not have is left out of what is granted (RFC 6749 §3.3), at the time of the grant and whenever a token of it is made or looked at.
type ScopeRules map[string]ScopeRule

// ScopeRule is what a customer must have for a scope.
type ScopeRule struct {
	Roles      []string            // one of them; none: any customer
	Attributes map[string][]string // every one of them, with one of the values
}

// Check reports all mistakes at once.
func (r ScopeRules) Check() error {
	var wrong []error
	for scope, rule := range r {
		switch {
		case scope == "openid":
			wrong = append(wrong, errors.New("scope rule: openid is for everybody: without it nobody can be logged in"))
		case !validScope(scope):
			wrong = append(wrong, fmt.Errorf("scope rule: %q is no scope (RFC 6749 §3.3)", scope))
		case len(rule.Roles) == 0 && len(rule.Attributes) == 0, slices.Contains(rule.Roles, ""):
			wrong = append(wrong, fmt.Errorf("scope rule: %s: must name roles or attributes", scope))
		}
		for name, values := range rule.Attributes {
			if name == "" || len(values) == 0 || slices.Contains(values, "") {
				wrong = append(wrong, fmt.Errorf("scope rule: %s: an attribute must have a name and values", scope))
			}
		}
	}
	return errors.Join(wrong...)
}

// Denied returns those of the scopes that are not for somebody with these roles and attributes.
func (r ScopeRules) Denied(scopes, roles []string, attributes map[string]string) (denied []string) {
	for _, scope := range scopes {
		if rule, ok := r[scope]; ok && !rule.Meets(roles, attributes) {
			denied = append(denied, scope)
		}
	}
	return denied
}

// Concern tells whether there is a rule for one of the scopes.
func (r ScopeRules) Concern(scopes []string) bool {
	return slices.ContainsFunc(scopes, func(s string) bool { _, ok := r[s]; return ok })
}

// Meets tells whether somebody with these roles and attributes has what the rule wants.
func (r ScopeRule) Meets(roles []string, attributes map[string]string) bool {
	if len(r.Roles) > 0 && !slices.ContainsFunc(r.Roles, func(role string) bool { return slices.Contains(roles, role) }) {
		return false
	}
	for name, values := range r.Attributes {
		if !slices.Contains(values, attributes[name]) { // values are never "", which is an attribute that is not there
			return false
		}
	}
	return true
}
