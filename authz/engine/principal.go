package engine

import (
	"encoding/json"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// PrincipalOf says whom a token of an authorization speaks for, and which of the granted details it carries.
func (e *Engine) PrincipalOf(c *fapi.Client, l *storage.Live, t *AccessToken) (*Principal, error) {
	s := &session{}
	if err := s.hydrate(l); err != nil {
		return nil, err
	}
	if only := t.only(); only != nil {
		return e.principal(s, *only)
	}
	details, _, err := e.granted(c, s)
	if err != nil {
		return nil, err
	}
	return e.principal(s, details)
}

// RequestOf returns the request that an authorization answers.
func RequestOf(l *storage.Live) (*fapi.AuthorizationRequest, error) {
	r := &fapi.AuthorizationRequest{}
	return r, json.Unmarshal(l.Request, r)
}

func (e *Engine) principal(s *session, details []fapi.AuthorizationDetail) (*Principal, error) {
	l := s.live
	attributes, err := e.attributes(&l.Customer)
	if err != nil {
		return nil, err
	}
	p := &Principal{
		ACR:                  l.ACR,
		AMR:                  l.AMR,
		AuthTime:             l.AuthTime.Unix(),
		Tenant:               l.Customer.Tenant,
		FineractClientID:     l.Customer.FineractClientID,
		Roles:                l.Customer.Roles,
		Attributes:           attributes,
		AccountIDs:           l.AccountIDs,
		GrantID:              l.GrantID.String(),
		AuthorizationDetails: details,
	}
	if k := l.Consent; k != nil {
		p.ConsentID, p.ConsentType, p.ConsentStatus, p.ConsentExpiresAt = k.ID, k.Type, k.Status, k.ExpiresAt
		p.Permissions, p.TransactionsFrom, p.TransactionsTo = k.Permissions, k.TransactionsFrom, k.TransactionsTo
	}
	return p, nil
}
