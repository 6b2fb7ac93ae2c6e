package fapi

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
)

const (
	maxDetailsSize = 32 << 10
	maxDetails     = 20
)

// AuthorizationDetail is one object of authorization_details (RFC 9396 §2), with all its members as they were sent.
type AuthorizationDetail struct {
	Type   string
	Fields map[string]json.RawMessage // the whole object, type included
}

// MarshalJSON writes the object. Type wins over a type in Fields.
func (d AuthorizationDetail) MarshalJSON() ([]byte, error) {
	name, err := json.Marshal(d.Type)
	if err != nil {
		return nil, err
	}
	fields := make(map[string]json.RawMessage, len(d.Fields)+1)
	maps.Copy(fields, d.Fields)
	fields["type"] = name
	return json.Marshal(fields)
}

// UnmarshalJSON reads an object with a type. Which other members it may have is not asked here.
func (d *AuthorizationDetail) UnmarshalJSON(text []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	name, ok := stringField(fields["type"])
	if !ok || name == "" {
		return errors.New("authorization_details: type must be a string")
	}
	*d = AuthorizationDetail{Type: name, Fields: fields}
	return nil
}

// stringField reads a JSON string.
func stringField(raw json.RawMessage) (string, bool) {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// stringsField reads a JSON array of strings, null being none.
func stringsField(raw json.RawMessage) ([]string, bool) {
	var list []*string
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &list) != nil || slices.Contains(list, nil) {
		return nil, false
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = *s
	}
	return out, true
}

// isStrings tells whether value is an array of strings, null being none.
func isStrings(value json.RawMessage) bool {
	_, ok := stringsField(value)
	return ok
}

// ParseAuthorizationDetails reads the parameter authorization_details. types are those that the server knows, allowed
// those that the client registered (RFC 9396 §10): others are refused. Size, depth and number are bounded before a schema
// sees anything.
func ParseAuthorizationDetails(raw string, types map[string]DetailType, allowed []string) ([]AuthorizationDetail, error) {
	details, err := readDetails(raw)
	if err != nil {
		return nil, err
	}
	for _, d := range details {
		kind, known := types[d.Type]
		if !known || !slices.Contains(allowed, d.Type) {
			return nil, Refuse(InvalidAuthorizationDetails, "The authorization_details have a type that is not known or not allowed to this client.")
		}
		if err := kind.check(d); err != nil {
			return nil, Refuse(InvalidAuthorizationDetails, "The authorization_details have a member that their type does not have, lack one, or hold one of the wrong kind.").Because(err)
		}
	}
	return details, nil
}

// readDetails reads a JSON array of 1 to 20 objects with types.
func readDetails(raw string) ([]AuthorizationDetail, error) {
	if len(raw) > maxDetailsSize {
		return nil, Refuse(InvalidAuthorizationDetails, "The authorization_details are too long.")
	}
	malformed := Refuse(InvalidAuthorizationDetails, "The authorization_details must be a JSON array of objects that each have a type.")
	if _, err := checkJSON([]byte(raw)); err != nil {
		return nil, malformed.Because(err)
	}
	var details []AuthorizationDetail
	if err := json.Unmarshal([]byte(raw), &details); err != nil {
		return nil, malformed.Because(err)
	}
	if len(details) == 0 || len(details) > maxDetails {
		return nil, Refuse(InvalidAuthorizationDetails, "The authorization_details must hold 1 to 20 objects.")
	}
	return details, nil
}
