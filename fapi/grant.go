package fapi

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
)

// maxGrantID is more than any id of a grant has.
const maxGrantID = 64

// readGrant reads what a request does to a grant that its client manages (Grant Management for OAuth 2.0 §5.2). Whether
// there is such a grant is not known here.
func (q *AuthorizationRequest) readGrant(params url.Values, c *Client) error {
	q.GrantAction, q.GrantID = params.Get("grant_management_action"), params.Get("grant_id")
	switch q.GrantAction {
	case "":
		if q.GrantID != "" {
			return Refuse(InvalidRequest, "There is a grant_id without a grant_management_action.")
		}
		return nil
	case "create":
		if q.GrantID != "" {
			return Refuse(InvalidRequest, "With the grant_management_action create there is no grant_id.")
		}
	case "merge", "replace":
		if q.GrantID == "" {
			return Refuse(InvalidRequest, "The grant_id is missing.")
		}
	default:
		return Refuse(InvalidRequest, "The grant_management_action is not supported.")
	}
	if c.Public() { // §5.1
		return Refuse(InvalidRequest, "Only a client that authenticates can manage grants.")
	}
	if len(q.GrantID) > maxGrantID {
		return Refuse(InvalidGrantID, "The grant_id is unknown, another client's or ended.")
	}
	return nil
}

// Terms are what a request asks for besides scopes. They are what is kept of it in the grant.
type Terms struct {
	AuthorizationDetails []AuthorizationDetail `json:"authorization_details,omitempty"`
	Resources            []string              `json:"resource,omitempty"`
	Claims               []string              `json:"claims,omitempty"` // names, in order
}

// Terms returns them as JSON, nil when there are none.
func (q *AuthorizationRequest) Terms() ([]byte, error) {
	t := Terms{AuthorizationDetails: q.AuthorizationDetails, Resources: q.Resources}
	if q.Claims != nil {
		names := maps.Clone(q.Claims.UserInfo)
		if names == nil {
			names = q.Claims.IDToken
		} else {
			maps.Copy(names, q.Claims.IDToken)
		}
		t.Claims = slices.Sorted(maps.Keys(names))
	}
	if len(t.AuthorizationDetails) == 0 && len(t.Resources) == 0 && len(t.Claims) == 0 {
		return nil, nil
	}
	return json.Marshal(t)
}
