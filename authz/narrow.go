package authz

import (
	"slices"

	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// narrow leaves out what is not for this customer (RFC 6749 §3.3), before they are asked about the rest. A request of which
// nothing is left, or not what its consent is for, is refused.
func (s *Server) narrow(j *journey, c *storage.Customer) error {
	denied, err := s.engine.Denied(c, j.Scopes)
	if err != nil || len(denied) == 0 {
		return err
	}
	j.without = denied
	j.Scopes = slices.DeleteFunc(slices.Clone(j.Scopes), func(scope string) bool { return slices.Contains(denied, scope) })
	if len(j.Scopes) == 0 && len(j.request.AuthorizationDetails) == 0 || j.ConsentID != "" && consent.FitsScopes(j.Consent, j.Scopes) != nil {
		return errNotForCustomer
	}
	return nil
}

var errNotForCustomer = fapi.Refuse(fapi.AccessDenied, "The customer may not grant what the request asks for.")
