package engine

import (
	"encoding/json"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// rights are what the next access token of an authorization is good for, besides scopes.
type rights struct {
	audience []string
	details  []fapi.AuthorizationDetail
	all      bool // details are all that were granted
}

// rights finds what a token request may have (RFC 8707 §2.2, RFC 9396 §6, §9.1): the details that were granted, or as much
// less as it asks for, and of them those that concern the token's audience, if one was named.
func (e *Engine) rights(c *call, s *session) (*rights, error) {
	granted, resources, err := e.granted(c.client, s)
	if err != nil {
		return nil, err
	}
	r := &rights{details: granted, all: true}
	if c.details != "" {
		if r.details, err = fapi.Narrow(c.details, granted, e.types); err != nil {
			return nil, err
		}
		r.all = false
	}
	if len(resources) == 0 { // where the details are is where the token goes
		resources = fapi.LocatedAt(r.details, c.client.Resources)
	}
	if r.audience, err = e.audience(c, resources); err != nil {
		return nil, err
	}
	if len(resources) > 0 || len(c.resources) > 0 {
		n := len(r.details)
		r.details = fapi.ForAudience(r.details, r.audience)
		r.all = r.all && len(r.details) == n
	}
	return r, nil
}

// granted returns what a customer granted besides scopes: what the request asked for, or all that is in the grant if its
// client manages it. Details hold the accounts that the customer picked (RFC 9396 §7.1). No resources are the default ones.
func (e *Engine) granted(c *fapi.Client, s *session) (details []fapi.AuthorizationDetail, resources []string, err error) {
	if s.live == nil {
		return nil, nil, nil
	}
	if s.live.Terms == nil {
		return fapi.Enrich(s.request.AuthorizationDetails, e.types, s.live.AccountIDs), s.request.Resources, nil
	}
	byDefault := false
	for _, term := range s.live.Terms {
		t, err := termsOf(term)
		if err != nil {
			return nil, nil, err
		}
		details = append(details, fapi.Enrich(t.AuthorizationDetails, e.types, term.AccountIDs)...)
		resources = union(resources, t.Resources)
		byDefault = byDefault || len(t.Resources) == 0
	}
	if byDefault && len(resources) > 0 { // one approval named its resource servers, another did not
		resources = union(resources, e.defaultAudience(c))
	}
	return fapi.Union(details), resources, nil
}

func termsOf(term storage.Term) (t fapi.Terms, err error) {
	if term.Text != nil {
		err = json.Unmarshal(term.Text, &t)
	}
	return t, err
}

func union(list, more []string) []string {
	for _, s := range more {
		if !contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// Granted returns what a grant holds: for each approval its scopes and terms, with the accounts that were picked then.
func (e *Engine) Granted(g *storage.Grant) ([]fapi.Terms, error) {
	all := make([]fapi.Terms, len(g.Terms))
	for i, term := range g.Terms {
		t, err := termsOf(term)
		if err != nil {
			return nil, err
		}
		t.AuthorizationDetails = fapi.Enrich(t.AuthorizationDetails, e.types, term.AccountIDs)
		all[i] = t
	}
	return all, nil
}

// only is what of the granted details a token carries, nil when all.
func (t *AccessToken) only() *[]fapi.AuthorizationDetail {
	if t.Principal != nil {
		return &t.Principal.AuthorizationDetails
	}
	return t.Only
}
