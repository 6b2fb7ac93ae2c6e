package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/fapi"
)

// accessSettings are what customers' roles and attributes decide (docs/customers.md).
type accessSettings struct {
	ScopeRoles         []string `name:"scope-roles" help:"Scopes for customers with one of these roles only. A role without a scope before it belongs to the scope before." env:"COUNTERSIGN_SCOPE_ROLES" placeholder:"SCOPE=ROLE,ROLE"`
	ScopeAttributes    []string `name:"scope-attributes" help:"Scopes for customers only whose attribute has one of these values." env:"COUNTERSIGN_SCOPE_ATTRIBUTES" placeholder:"SCOPE=NAME:VALUE,VALUE"`
	ToldAttributes     []string `name:"told-attributes" help:"Attributes that resource servers are told, and clients with the scope attributes." env:"COUNTERSIGN_TOLD_ATTRIBUTES" default:"country,client_type"`
	CustomersPerClient int      `name:"customers-per-client" help:"Customers that one Fineract client may have; -1 for any number." env:"COUNTERSIGN_CUSTOMERS_PER_CLIENT" default:"1"`
}

func (s *accessSettings) customers() (engine.Customers, error) {
	c := engine.Customers{Rules: fapi.ScopeRules{}, Attributes: s.ToldAttributes}
	err := errors.Join(
		eachScope("scope-roles", s.ScopeRoles, func(scope, role string, _ bool) error {
			rule := c.Rules[scope]
			rule.Roles = append(rule.Roles, role)
			c.Rules[scope] = rule
			return nil
		}),
		s.scopeAttributes(c.Rules),
	)
	return c, err
}

func (s *accessSettings) scopeAttributes(rules fapi.ScopeRules) error {
	attribute := ""
	return eachScope("scope-attributes", s.ScopeAttributes, func(scope, value string, first bool) error {
		if first {
			name, firstValue, ok := strings.Cut(value, ":")
			if !ok || name == "" {
				return errors.New("scope-attributes must name an attribute, such as write:loans=country:KE,TZ")
			}
			attribute, value = name, firstValue
		}
		rule := rules[scope]
		if rule.Attributes == nil {
			rule.Attributes = map[string][]string{}
		}
		rule.Attributes[attribute] = append(rule.Attributes[attribute], value)
		rules[scope] = rule
		return nil
	})
}

// eachScope goes through a list such as write:loans=USER,ADMIN, whose commas the command line has taken for its own: what has no =
// belongs to the scope before.
func eachScope(setting string, list []string, each func(scope, value string, first bool) error) error {
	scope := ""
	for _, text := range list {
		name, value, first := strings.Cut(text, "=")
		if first {
			scope = name
		} else {
			value = text
		}
		if scope == "" || value == "" {
			return fmt.Errorf("%s must be a scope and values, such as write:loans=USER,ADMIN", setting)
		}
		if err := each(scope, value, first); err != nil {
			return err
		}
	}
	return nil
}
