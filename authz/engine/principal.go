package engine

import (
	"encoding/json"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// PrincipalOf says whom the tokens of an authorization speak for.
func PrincipalOf(l *storage.Live) (*Principal, error) {
	s := &session{}
	if err := s.hydrate(l); err != nil {
		return nil, err
	}
	return principal(s), nil
}

// RequestOf returns the request that an authorization answers.
func RequestOf(l *storage.Live) (*fapi.AuthorizationRequest, error) {
	r := &fapi.AuthorizationRequest{}
	return r, json.Unmarshal(l.Request, r)
}

func principal(s *session) *Principal {
	l := s.live
	p := &Principal{
		ACR:                  l.ACR,
		AMR:                  l.AMR,
		AuthTime:             l.AuthTime.Unix(),
		Tenant:               l.Customer.Tenant,
		FineractClientID:     l.Customer.FineractClientID,
		Roles:                l.Customer.Roles,
		AccountIDs:           l.AccountIDs,
		GrantID:              l.GrantID.String(),
		AuthorizationDetails: s.details(),
	}
	if k := l.Consent; k != nil {
		p.ConsentID, p.ConsentType, p.ConsentStatus, p.ConsentExpiresAt = k.ID, k.Type, k.Status, k.ExpiresAt
		p.Permissions, p.TransactionsFrom, p.TransactionsTo = k.Permissions, k.TransactionsFrom, k.TransactionsTo
	}
	return p
}
