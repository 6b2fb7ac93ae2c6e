package consent

import (
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

var errUnshowable = fapi.Refuse(fapi.InvalidAuthorizationDetails, "The authorization_details hold more, or longer texts, than a person can be shown.")

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
		item := d.typeItem(detail.Type)
		if !slices.Contains(items, item) {
			items = append(items, item)
		}
		if len(details) > 1 && len(members) > 0 { // whose lines these are
			lines = append(lines, web.Detail{Label: d.text("request", "n", strconv.Itoa(i+1), "of", strconv.Itoa(len(details))), Value: item.Title})
		}
		lines = append(lines, members...)
	}
	return items, lines, nil
}

// typeItem is what a customer allows with a type: the bank's words, the type's own, or its name.
func (d *Describer) typeItem(name string) web.Item {
	if item, known := d.words.Types[name]; known {
		return item
	}
	if t, known := d.types[name]; known {
		return web.Item{Title: t.Title, Text: t.Text}
	}
	return web.Item{Title: d.text("type", "type", web.Tidy(name, longName)), Text: d.text("type.text")}
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

// members are the lines of one detail: those that its type has words for, then every member, or part of one, that was
// not in them.
func (d *Describer) members(detail fapi.AuthorizationDetail, k *storage.Consent) ([]web.Detail, error) {
	object := value{kind: isObject}
	for _, name := range slices.Sorted(maps.Keys(detail.Fields)) {
		raw := detail.Fields[name]
		if name == "type" || k != nil && string(raw) == `"`+k.ID+`"` {
			continue
		}
		v, err := parseTree(raw)
		if err != nil {
			return nil, fapi.Refuse(fapi.InvalidAuthorizationDetails, "The authorization_details cannot be shown to the customer.").Because(err)
		}
		object.members = append(object.members, member{name, v})
	}
	kind := d.types[detail.Type]
	var lines []web.Detail
	for _, line := range kind.Lines {
		if text := d.fill(line, &object); text != "" {
			lines = append(lines, web.Detail{Label: line.Label, Value: text})
		}
	}
	for _, line := range kind.Lines {
		paths, _ := line.Members() // checked when the type was read
		for _, path := range paths {
			object.remove(path)
		}
	}
	for i := range object.members {
		m := &object.members[i]
		lines = append(lines, web.Detail{Label: d.label(m.name, kind.Labels), Value: d.value(&m.value, kind.Labels)})
	}
	for i := range lines {
		line := &lines[i]
		if utf8.RuneCountInString(line.Label) > longName || utf8.RuneCountInString(line.Value) > longValue {
			return nil, errUnshowable
		}
		line.Label, line.Value = web.Tidy(line.Label, longName), web.Tidy(line.Value, longValue)
	}
	return lines, nil
}

// fill writes a type's line, "" when none of the members in it is there.
func (d *Describer) fill(line fapi.DetailLine, object *value) string {
	paths, _ := line.Members()
	var pairs []string
	there := false
	for _, path := range paths {
		text := ""
		if v := object.at(path); v != nil {
			there, text = true, d.value(v, nil)
		}
		if strings.EqualFold(path[len(path)-1], "amount") {
			text = grouped(text)
		}
		pairs = append(pairs, "{"+strings.Join(path, ".")+"}", text)
	}
	if !there {
		return ""
	}
	return strings.NewReplacer(pairs...).Replace(line.Text)
}

// value writes a JSON value for a person: an amount as 12.50 EUR, members as "name: value".
func (d *Describer) value(v *value, labels map[string]string) string {
	var parts []string
	switch v.kind {
	case isNull:
		return "–"
	case isArray:
		for i := range v.items {
			parts = append(parts, d.value(&v.items[i], labels))
		}
		return strings.Join(parts, ", ")
	case isObject:
		if amount, ok := amount(v); ok {
			return amount
		}
		for i := range v.members {
			m := &v.members[i]
			parts = append(parts, d.label(m.name, labels)+": "+d.value(&m.value, labels))
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
	return grouped(sum) + " " + currency, len(v.members) == 2 && sum != "" && currency != ""
}

// grouped sets thousands apart: 1250.50 is read as 1 250.50. What is no decimal number stays as it is.
func grouped(amount string) string {
	if _, ok := fapi.Amount(amount); !ok {
		return amount
	}
	whole, _, _ := strings.Cut(amount, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		amount = amount[:i] + " " + amount[i:]
	}
	return amount
}

// label is a member's name for a person: its type's word, ours, or the name itself taken apart (requestedBy: Requested by).
func (d *Describer) label(name string, labels map[string]string) string {
	if word, known := labels[name]; known {
		return word
	}
	if word, known := d.words.Labels[name]; known {
		return word
	}
	var b strings.Builder
	lower := false
	for _, r := range web.Tidy(name, longName+1) {
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
