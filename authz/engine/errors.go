package engine

import (
	"errors"

	"github.com/ory/fosite"

	"github.com/countersign/countersign/fapi"
)

// refusals are the answers that fosite may give a checked request, with texts of ours: fosite's carry bytes of the
// request. What is not here is a server_error: a rule that fapi should have found first, or a fault of ours.
var refusals = []struct {
	fosite  *fosite.RFC6749Error
	refusal *fapi.Error
}{
	{fosite.ErrInvalidGrant, fapi.Refuse(fapi.InvalidGrant, "The grant is unknown, expired, spent, revoked, another client's, or does not fit the request.")},
	{fosite.ErrInvalidScope, fapi.Refuse(fapi.InvalidScope, "The client may not ask for this scope.")},
	{fosite.ErrUnauthorizedClient, fapi.Refuse(fapi.UnauthorizedClient, "The client is not registered for this.")},
	{fosite.ErrUnsupportedResponseType, fapi.Refuse(fapi.UnsupportedResponseType, "The client may not use this response_type.")},
	{fosite.ErrInvalidRequest, fapi.Refuse(fapi.InvalidRequest, "The request lacks a parameter or has a malformed one.")},
	{fosite.ErrLoginRequired, fapi.Refuse(fapi.LoginRequired, "The customer must log in anew.")},
}

// refusal turns an error of fosite's into ours.
func refusal(err error) error {
	var ours *fapi.Error
	if err == nil || errors.As(err, &ours) {
		return err
	}
	var theirs *fosite.RFC6749Error
	if errors.As(err, &theirs) {
		for _, r := range refusals {
			if theirs.ErrorField == r.fosite.ErrorField {
				return r.refusal.Because(errors.New(theirs.GetDescription() + " " + theirs.Debug()))
			}
		}
	}
	return err
}
