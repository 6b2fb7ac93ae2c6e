package fapi

import (
	"encoding/json"
	"errors"
	"fmt"
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

// DetailType says what the objects of one type may hold (RFC 9396 §2, §10).
type DetailType struct {
	Fields   []string // members that it may have besides type, locations, actions, datatypes, identifier and privileges
	Required []string
	Consent  string // the member that carries a consent id, or ""
}

// DefaultDetailTypes returns the types of the examples in RFC 9396: account information, payments, customer data.
func DefaultDetailTypes() map[string]DetailType {
	return map[string]DetailType{
		"account_information": {Fields: []string{"consent_id"}, Consent: "consent_id"},
		"payment_initiation": {
			Fields: []string{
				"consent_id", "instructedAmount", "creditorName", "creditorAccount", "creditorAgent", "debtorAccount",
				"endToEndIdentification", "remittanceInformationUnstructured", "requestedExecutionDate",
			},
			Required: []string{"instructedAmount", "creditorAccount"},
			Consent:  "consent_id",
		},
		"customer_information": {},
	}
}

// ParseAuthorizationDetails reads the parameter authorization_details. types are those that the server knows, allowed
// those that the client registered (RFC 9396 §10): others are refused.
func ParseAuthorizationDetails(raw string, types map[string]DetailType, allowed []string) ([]AuthorizationDetail, error) {
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
	for i := range details {
		d := &details[i]
		kind, known := types[d.Type]
		if !known || !slices.Contains(allowed, d.Type) {
			return nil, Refuse(InvalidAuthorizationDetails, "The authorization_details have a type that is not known or not allowed to this client.")
		}
		if err := d.check(kind); err != nil {
			return nil, Refuse(InvalidAuthorizationDetails, "The authorization_details have a member that their type does not have, lack one, or hold one of the wrong kind.").Because(err)
		}
	}
	return details, nil
}

// check applies RFC 9396 §5: unknown, missing and ill-formed members are refused.
func (d *AuthorizationDetail) check(kind DetailType) error {
	for name, value := range d.Fields {
		ok := true
		switch name {
		case "type":
		case "locations", "actions", "datatypes", "privileges": // RFC 9396 §2.2
			ok = isStrings(value)
		case "identifier":
			_, ok = stringField(value)
		case kind.Consent:
			var id string
			id, ok = stringField(value)
			ok = ok && id != ""
		default:
			ok = slices.Contains(kind.Fields, name)
		}
		if !ok {
			return fmt.Errorf("%s: member %q", d.Type, name)
		}
	}
	for _, name := range kind.Required {
		if value, ok := d.Fields[name]; !ok || string(value) == "null" {
			return fmt.Errorf("%s: %q is missing", d.Type, name)
		}
	}
	return nil
}

// isStrings tells whether value is an array of strings, null being none.
func isStrings(value json.RawMessage) bool {
	var list []*string
	return len(value) > 0 && value[0] == '[' && json.Unmarshal(value, &list) == nil && !slices.Contains(list, nil)
}
