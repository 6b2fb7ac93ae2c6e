package fapi

import (
	"encoding/json"
	"errors"
	"slices"

	strict "github.com/go-jose/go-jose/v4/json"
)

const (
	maxClaimsSize = 16 << 10
	maxClaims     = 100 // in each of the two
	maxIntentID   = 255
)

// ClaimsRequest is the parameter claims (OpenID Connect Core §5.5). A claim that is asked for without more is nil.
type ClaimsRequest struct {
	UserInfo map[string]*ClaimRequest `json:"userinfo,omitempty"`
	IDToken  map[string]*ClaimRequest `json:"id_token,omitempty"`
}

// ClaimRequest says more about one claim (OpenID Connect Core §5.5.1). Its other members are ignored, as told there.
type ClaimRequest struct {
	Essential bool              `json:"essential,omitempty"`
	Value     json.RawMessage   `json:"value,omitempty"`
	Values    []json.RawMessage `json:"values,omitempty"`
}

// ParseClaims reads the parameter claims.
func ParseClaims(raw string) (*ClaimsRequest, error) {
	if len(raw) > maxClaimsSize {
		return nil, Refuse(InvalidRequest, "The claims parameter is too long.")
	}
	malformed := Refuse(InvalidRequest, "The claims parameter must be a JSON object with userinfo and id_token, which hold objects or null.")
	if _, err := checkJSON([]byte(raw)); err != nil {
		return nil, malformed.Because(err)
	}
	var claims *ClaimsRequest
	if err := strict.Unmarshal([]byte(raw), &claims); err != nil {
		return nil, malformed.Because(err)
	}
	if len(claims.UserInfo) > maxClaims || len(claims.IDToken) > maxClaims {
		return nil, Refuse(InvalidRequest, "The claims parameter asks for too many claims.")
	}
	return claims, nil
}

// stringsOf returns the value, or the values, that a claim is asked to have.
func (r *ClaimRequest) stringsOf() ([]string, error) {
	if r == nil {
		return nil, nil
	}
	raw := r.Values
	if len(r.Value) > 0 {
		raw = append(slices.Clone(raw), r.Value)
	}
	var values []string
	for _, text := range raw {
		s, ok := stringField(text)
		if !ok || s == "" || hasControls(s) {
			return nil, errors.New("a claim is asked for with a value that is not a string")
		}
		if !slices.Contains(values, s) {
			values = append(values, s)
		}
	}
	return values, nil
}

// intentID returns the consent that the request is about: openbanking_intent_id of UK Open Banking, in either place.
func (c *ClaimsRequest) intentID() (string, error) {
	if c == nil {
		return "", nil
	}
	found := ""
	for _, place := range []map[string]*ClaimRequest{c.IDToken, c.UserInfo} {
		claim := place["openbanking_intent_id"]
		if claim == nil || len(claim.Value) == 0 {
			continue
		}
		id, ok := stringField(claim.Value)
		if !ok || id == "" || len(id) > maxIntentID || hasControls(id) {
			return "", Refuse(InvalidRequest, "The openbanking_intent_id must be a string of at most 255 characters.")
		}
		if found != "" && found != id {
			return "", Refuse(InvalidRequest, "The openbanking_intent_id of id_token and userinfo are not the same.")
		}
		found = id
	}
	return found, nil
}
