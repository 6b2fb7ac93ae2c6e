package consent

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// maxLines is more than a person reads before pressing a button.
const maxLines = 60

// first are the members that a customer must see first: how much, to whom, from where.
var first = []string{"instructedAmount", "creditorName", "creditorAccount", "creditorAgent", "debtorAccount",
	"remittanceInformationUnstructured", "endToEndIdentification", "requestedExecutionDate"}

// details says what authorization_details ask for: an item for each type, a line for each member (RFC 9396 §11).
func (d *Describer) details(details []fapi.AuthorizationDetail, k *storage.Consent) (items []web.Item, lines []web.Detail, err error) {
	for i, detail := range details {
		members, err := d.members(detail, k)
		if err != nil {
			return nil, nil, err
		}
		if namesConsent(detail, k) && len(members) == 0 {
			continue // all that it says is which consent, and that is on the page
		}
		item, known := d.words.Types[detail.Type]
		if !known {
			item = web.Item{Title: d.text("type", "type", web.Tidy(detail.Type, longName)), Text: d.text("type.text")}
		}
		if !slices.Contains(items, item) {
			items = append(items, item)
		}
		if len(details) > 1 && len(members) > 0 { // whose lines these are
			lines = append(lines, web.Detail{Label: d.text("request", "n", strconv.Itoa(i+1), "of", strconv.Itoa(len(details))), Value: item.Title})
		}
		lines = append(lines, members...)
	}
	if len(lines) > maxLines {
		return nil, nil, fapi.Refuse(fapi.InvalidAuthorizationDetails, "The authorization_details hold more than a person can be shown.")
	}
	return items, lines, nil
}

// namesConsent tells whether a detail carries the id of the consent that the page describes.
func namesConsent(detail fapi.AuthorizationDetail, k *storage.Consent) bool {
	for _, raw := range detail.Fields {
		if k != nil && string(raw) == `"`+k.ID+`"` {
			return true
		}
	}
	return false
}

func (d *Describer) members(detail fapi.AuthorizationDetail, k *storage.Consent) ([]web.Detail, error) {
	names := slices.SortedFunc(maps.Keys(detail.Fields), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	var lines []web.Detail
	for _, name := range names {
		raw := detail.Fields[name]
		if name == "type" || k != nil && string(raw) == `"`+k.ID+`"` {
			continue
		}
		v, err := parseTree(raw)
		if err != nil {
			return nil, fapi.Refuse(fapi.InvalidAuthorizationDetails, "The authorization_details cannot be shown to the customer.").Because(err)
		}
		lines = append(lines, web.Detail{Label: d.label(name), Value: web.Tidy(d.value(&v), longValue)})
	}
	return lines, nil
}

func rank(name string) int {
	if i := slices.Index(first, name); i >= 0 {
		return i
	}
	return len(first)
}

// value writes a JSON value for a person: an amount as 12.50 EUR, members as "name: value".
func (d *Describer) value(v *value) string {
	var parts []string
	switch v.kind {
	case isNull:
		return "–"
	case isArray:
		for i := range v.items {
			parts = append(parts, d.value(&v.items[i]))
		}
		return strings.Join(parts, ", ")
	case isObject:
		if amount, ok := amount(v); ok {
			return amount
		}
		for i := range v.members {
			m := &v.members[i]
			parts = append(parts, d.label(m.name)+": "+d.value(&m.value))
		}
		return strings.Join(parts, "; ")
	}
	return v.text
}

// amount recognises {"amount": "12.50", "currency": "EUR"} in any order and case, and nothing with a third member.
func amount(v *value) (string, bool) {
	var sum, currency string
	for _, m := range v.members {
		switch {
		case strings.EqualFold(m.name, "amount") && (m.kind == isString || m.kind == isNumber):
			sum = m.text
		case strings.EqualFold(m.name, "currency") && m.kind == isString:
			currency = m.text
		}
	}
	return sum + " " + currency, len(v.members) == 2 && sum != "" && currency != ""
}

// label is a member's name for a person: its word, or the name itself taken apart (requestedBy: Requested by).
func (d *Describer) label(name string) string {
	if word, known := d.words.Labels[name]; known {
		return word
	}
	var b strings.Builder
	lower := false
	for _, r := range web.Tidy(name, longName) {
		if r == '_' || r == '-' {
			r = ' '
		}
		if unicode.IsUpper(r) && lower {
			b.WriteByte(' ')
			lower = false
			b.WriteRune(unicode.ToLower(r))
			continue
		}
		lower = unicode.IsLower(r) || unicode.IsDigit(r)
		b.WriteRune(r)
	}
	text := b.String()
	r, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return "–"
	}
	return string(unicode.ToUpper(r)) + text[size:]
}
