package consent

import (
	"errors"
	"slices"
	"strconv"
	"time"
)

// maxProblems bounds an answer: 64 KiB of nonsense would be thousands of them.
const maxProblems = 20

// accountAccessRequest is what OBReadConsent1 asks for. Permissions has each code once, in the order of the request.
type accountAccessRequest struct {
	permissions          []string
	expiration, from, to *time.Time
}

// reader collects what is wrong with a request while it is read.
type reader struct {
	now      time.Time
	problems []problem
}

func (r *reader) add(code, message, path string) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, problem{code, message, path})
	}
}

// parseAccountAccess reads the body of POST /account-access-consents (banking.md A2-01 to A2-06). The request is only to
// be used when there are no problems.
func parseAccountAccess(body []byte, now time.Time) (accountAccessRequest, []problem) {
	root, err := parseTree(body)
	if err != nil {
		p := problem{resourceInvalidFormat, "The body is not JSON.", ""}
		var bad *treeError
		if errors.As(err, &bad) {
			p.Message, p.Path = bad.message, bad.path
		}
		return accountAccessRequest{}, []problem{p}
	}
	if root.kind != isObject {
		return accountAccessRequest{}, []problem{{resourceInvalidFormat, "The body must be a JSON object.", ""}}
	}
	r := &reader{now: now}
	var asked accountAccessRequest
	r.members(&root, "", "Data", "Risk")
	if data := r.object(&root, "Data"); data != nil {
		r.members(data, "Data", "Permissions", "ExpirationDateTime", "TransactionFromDateTime", "TransactionToDateTime")
		asked.permissions = r.permissions(data)
		asked.expiration = r.date(data, "ExpirationDateTime")
		asked.from = r.date(data, "TransactionFromDateTime")
		asked.to = r.date(data, "TransactionToDateTime")
		if asked.expiration != nil && !asked.expiration.After(now) {
			r.add(fieldInvalidDate, "The date must be in the future.", "Data.ExpirationDateTime")
		}
		if asked.from != nil && asked.to != nil && asked.to.Before(*asked.from) {
			r.add(fieldInvalidDate, "The date must not be before TransactionFromDateTime.", "Data.TransactionToDateTime")
		}
	}
	if risk := r.object(&root, "Risk"); risk != nil { // mandatory and empty (A2-01)
		r.members(risk, "Risk")
	}
	return asked, r.problems
}

// members refuses what is not one of the names.
func (r *reader) members(v *value, path string, names ...string) {
	for _, m := range v.members {
		if !slices.Contains(names, m.name) {
			r.add(fieldUnexpected, "There is no such member here.", join(path, m.name))
		}
	}
}

// object returns a mandatory member that is an object.
func (r *reader) object(v *value, name string) *value {
	switch m := v.member(name); {
	case m == nil:
		r.add(fieldMissing, "The member is mandatory.", name)
	case m.kind != isObject:
		r.add(fieldInvalid, "The member must be an object.", name)
	default:
		return m
	}
	return nil
}

// date reads an optional moment: ISO 8601 with a time zone, in the form of RFC 3339.
func (r *reader) date(data *value, name string) *time.Time {
	m := data.member(name)
	if m == nil {
		return nil
	}
	var t time.Time
	if m.kind != isString || t.UnmarshalText([]byte(m.text)) != nil || t.UTC().Year() < 1 || t.UTC().Year() > 9999 {
		r.add(fieldInvalidDate, "The date must be an ISO 8601 date and time with a time zone.", "Data."+name)
		return nil
	}
	t = t.UTC().Truncate(time.Microsecond) // what Postgres keeps: every answer shows the same moment
	return &t
}

// permissions reads the codes and holds them against each other (A2-02, A2-03).
func (r *reader) permissions(data *value) []string {
	const path = "Data.Permissions"
	m := data.member("Permissions")
	switch {
	case m == nil:
		r.add(fieldMissing, "The member is mandatory.", path)
		return nil
	case m.kind != isArray:
		r.add(fieldInvalid, "The member must be an array of permission codes.", path)
		return nil
	case len(m.items) == 0:
		r.add(fieldInvalid, "There must be at least one permission code.", path)
		return nil
	}
	var codes []string
	before := len(r.problems)
	for i, item := range m.items {
		switch {
		case item.kind != isString || !permissionCodes[item.text]:
			r.add(fieldInvalid, "This is not a permission code that is supported.", path+"["+strconv.Itoa(i)+"]")
		case !slices.Contains(codes, item.text):
			codes = append(codes, item.text)
		}
	}
	if len(r.problems) > before || len(codes) == 0 {
		return nil
	}
	has := func(any ...string) bool {
		return slices.ContainsFunc(any, func(code string) bool { return slices.Contains(codes, code) })
	}
	if !has("ReadAccountsBasic", "ReadAccountsDetail") {
		r.add(fieldExpected, "ReadAccountsBasic or ReadAccountsDetail must be among the permissions.", path)
	}
	extent, direction := has("ReadTransactionsBasic", "ReadTransactionsDetail"), has("ReadTransactionsCredits", "ReadTransactionsDebits")
	if extent && !direction {
		r.add(fieldExpected, "ReadTransactionsBasic and ReadTransactionsDetail need ReadTransactionsCredits or ReadTransactionsDebits.", path)
	}
	if direction && !extent {
		r.add(fieldExpected, "ReadTransactionsCredits and ReadTransactionsDebits need ReadTransactionsBasic or ReadTransactionsDetail.", path)
	}
	return codes
}
