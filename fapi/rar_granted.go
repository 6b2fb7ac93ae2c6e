package fapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Enrich says what was granted of details that were asked for: types that have a member for the accounts get those that
// the customer picked in it (RFC 9396 §7.1). What a client had put there itself does not count.
func Enrich(details []AuthorizationDetail, types map[string]DetailType, accounts []string) []AuthorizationDetail {
	granted := make([]AuthorizationDetail, len(details))
	for i, d := range details {
		granted[i] = d
		member := types[d.Type].Accounts
		if _, sent := d.Fields[member]; member == "" || len(accounts) == 0 && !sent {
			continue
		}
		fields := maps.Clone(d.Fields)
		delete(fields, member)
		if len(accounts) > 0 {
			fields[member], _ = json.Marshal(accounts) // strings always marshal
		}
		granted[i].Fields = fields
	}
	return granted
}

// Union returns details without those that are there before, word for word.
func Union(details []AuthorizationDetail) []AuthorizationDetail {
	var union []AuthorizationDetail
	for _, d := range details {
		if !slices.ContainsFunc(union, func(o AuthorizationDetail) bool { return maps.EqualFunc(o.Fields, d.Fields, equalJSON) }) {
			union = append(union, d)
		}
	}
	return union
}

// ForAudience returns the details that concern one of the resource servers (RFC 9396 §9.1): those with one of their
// locations there, and those without any. It never returns nil.
func ForAudience(details []AuthorizationDetail, audience []string) []AuthorizationDetail {
	kept := []AuthorizationDetail{}
	for _, d := range details {
		locations, _ := stringsField(d.Fields["locations"])
		if len(locations) == 0 || slices.ContainsFunc(audience, func(resource string) bool { return anyWithin(locations, resource) }) {
			kept = append(kept, d)
		}
	}
	return kept
}

// LocatedAt returns those of the resources in which details have a location, in the order of resources.
func LocatedAt(details []AuthorizationDetail, resources []string) []string {
	var located []string
	for _, resource := range resources {
		for _, d := range details {
			if locations, _ := stringsField(d.Fields["locations"]); anyWithin(locations, resource) {
				located = append(located, resource)
				break
			}
		}
	}
	return located
}

// anyWithin tells whether a location is a resource server's identifier or an address below it.
func anyWithin(locations []string, resource string) bool {
	below := strings.TrimSuffix(resource, "/") + "/"
	return slices.ContainsFunc(locations, func(l string) bool { return l == resource || strings.HasPrefix(l, below) })
}

var errWider = Refuse(InvalidAuthorizationDetails, "The authorization_details are more than was granted.")

// Narrow reads the parameter authorization_details of a token request: it may ask for less than was granted, never for
// more (RFC 9396 §6.1). Each object must be one that was granted, with the same members and values, but that of
// locations, actions, datatypes, privileges and the granted accounts a part is enough; accounts may be left out, and are
// then as granted.
func Narrow(raw string, granted []AuthorizationDetail, types map[string]DetailType) ([]AuthorizationDetail, error) {
	asked, err := readDetails(raw)
	if err != nil {
		return nil, err
	}
	narrowed := make([]AuthorizationDetail, len(asked))
	for i, d := range asked {
		j := slices.IndexFunc(granted, func(g AuthorizationDetail) bool { return within(d, g, types[g.Type].Accounts) })
		if j < 0 {
			return nil, errWider
		}
		narrowed[i] = d
		if member := types[d.Type].Accounts; member != "" && d.Fields[member] == nil && granted[j].Fields[member] != nil {
			narrowed[i].Fields = maps.Clone(d.Fields)
			narrowed[i].Fields[member] = granted[j].Fields[member]
		}
	}
	return Union(narrowed), nil
}

// within tells whether a detail asks for no more than one that was granted.
func within(asked, granted AuthorizationDetail, accounts string) bool {
	for name := range asked.Fields {
		if granted.Fields[name] == nil {
			return false // whether one member more means less is not for us to guess
		}
	}
	for name, have := range granted.Fields {
		want := asked.Fields[name]
		switch {
		case want == nil && name == accounts:
		case want == nil:
			return false // without it, it may mean more
		case slices.Contains([]string{"locations", "actions", "datatypes", "privileges", accounts}, name):
			if !isPart(want, have) {
				return false
			}
		case !equalJSON(want, have):
			return false
		}
	}
	return true
}

// isPart tells whether a list of strings holds some of another, or is the same. An empty one is no part: it could be read
// as all.
func isPart(want, have json.RawMessage) bool {
	some, ok := stringsField(want)
	all, known := stringsField(have)
	if !ok || !known || len(some) == 0 != (len(all) == 0) {
		return false
	}
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// equalJSON compares values, not spellings; numbers by their literals.
func equalJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	return bytes.Equal(canonical(a), canonical(b))
}

// canonical writes a value with its members in order and without spaces.
func canonical(raw json.RawMessage) []byte {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return raw
	}
	text, err := json.Marshal(v)
	if err != nil {
		return raw
	}
	return text
}
