package fapi

import (
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// Structured fields of HTTP (RFC 8941): what the fields of signatures are made of. Stricter than its §4.2 in one thing:
// a key or parameter that is there twice is refused, where the RFC lets the last one win. What two readers could read
// differently must not be signed.

const (
	maxField        = 8 << 10
	maxFieldMembers = 20  // of a dictionary
	maxFieldItems   = 100 // of an inner list
)

var errField = errors.New("not a dictionary (RFC 8941 §3.2)")

// fieldToken and fieldDecimal are told apart from strings and integers, to be written as they were read.
type (
	fieldToken   string
	fieldDecimal string
)

// fieldItem is an item or an inner list, with its parameters.
type fieldItem struct {
	value  any // int64, fieldDecimal, string, fieldToken, []byte, bool; []fieldItem for an inner list
	params []fieldParam
}

type fieldParam struct {
	name  string
	value any
}

type fieldMember struct {
	key string
	fieldItem
}

// param returns the value of a parameter, or nil.
func (i *fieldItem) param(name string) any {
	for _, p := range i.params {
		if p.name == name {
			return p.value
		}
	}
	return nil
}

// parseDictionary reads a dictionary out of all the lines of a field (RFC 8941 §4.2).
func parseDictionary(lines []string) ([]fieldMember, error) {
	text := strings.Join(lines, ", ")
	if len(text) > maxField {
		return nil, errors.New("the field is too long")
	}
	p := &fieldParser{rest: strings.Trim(text, " ")}
	var members []fieldMember
	for p.rest != "" {
		member, err := p.member()
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(members, func(m fieldMember) bool { return m.key == member.key }) {
			return nil, errors.New("a key is there twice")
		}
		if members = append(members, member); len(members) > maxFieldMembers {
			return nil, errors.New("the field has too many members")
		}
		p.blank()
		if p.rest == "" {
			return members, nil
		}
		if !p.take(',') {
			return nil, errField
		}
		if p.blank(); p.rest == "" { // a comma at the end
			return nil, errField
		}
	}
	return members, nil
}

// findMember returns the member of that key, or nil.
func findMember(members []fieldMember, key string) *fieldItem {
	for i := range members {
		if members[i].key == key {
			return &members[i].fieldItem
		}
	}
	return nil
}

type fieldParser struct{ rest string }

func (p *fieldParser) take(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// span takes the characters of a set.
func (p *fieldParser) span(in func(byte) bool) string {
	n := 0
	for n < len(p.rest) && in(p.rest[n]) {
		n++
	}
	taken := p.rest[:n]
	p.rest = p.rest[n:]
	return taken
}

func (p *fieldParser) blank() { p.span(func(c byte) bool { return c == ' ' || c == '\t' }) }

func (p *fieldParser) member() (m fieldMember, err error) {
	if m.key, err = p.key(); err != nil {
		return m, err
	}
	switch {
	case !p.take('='): // RFC 8941 §3.2: true is left out
		m.value = true
		m.params, err = p.params()
	case strings.HasPrefix(p.rest, "("):
		m.fieldItem, err = p.innerList()
	default:
		m.fieldItem, err = p.item()
	}
	return m, err
}

func (p *fieldParser) key() (string, error) {
	if p.rest == "" || !isLower(p.rest[0]) && p.rest[0] != '*' {
		return "", errField
	}
	return p.span(func(c byte) bool { return isLower(c) || isDigit(c) || strings.IndexByte("_-.*", c) >= 0 }), nil
}

func (p *fieldParser) innerList() (fieldItem, error) {
	p.take('(')
	items := []fieldItem{}
	for {
		p.span(func(c byte) bool { return c == ' ' })
		if p.take(')') {
			params, err := p.params()
			return fieldItem{items, params}, err
		}
		item, err := p.item()
		if err != nil {
			return fieldItem{}, err
		}
		if items = append(items, item); len(items) > maxFieldItems {
			return fieldItem{}, errors.New("a list has too many items")
		}
		if p.rest == "" || p.rest[0] != ' ' && p.rest[0] != ')' {
			return fieldItem{}, errField
		}
	}
}

func (p *fieldParser) item() (i fieldItem, err error) {
	if i.value, err = p.bare(); err != nil {
		return i, err
	}
	i.params, err = p.params()
	return i, err
}

func (p *fieldParser) params() (params []fieldParam, err error) {
	for p.take(';') {
		p.span(func(c byte) bool { return c == ' ' })
		name, err := p.key()
		if err != nil {
			return nil, err
		}
		value := any(true)
		if p.take('=') {
			if value, err = p.bare(); err != nil {
				return nil, err
			}
		}
		if slices.ContainsFunc(params, func(q fieldParam) bool { return q.name == name }) {
			return nil, errors.New("a parameter is there twice")
		}
		params = append(params, fieldParam{name, value})
	}
	return params, nil
}

// bare reads what RFC 8941 §3.3 knows. Dates and display strings (RFC 9651) are not among it.
func (p *fieldParser) bare() (any, error) {
	if p.rest == "" {
		return nil, errField
	}
	switch c := p.rest[0]; {
	case c == '"':
		return p.text()
	case c == ':':
		return p.bytes()
	case c == '?':
		return p.boolean()
	case c == '-' || isDigit(c):
		return p.number()
	case isLower(c | 0x20), c == '*':
		return fieldToken(p.span(func(c byte) bool {
			return isLower(c|0x20) || isDigit(c) || strings.IndexByte("!#$%&'*+-.^_`|~:/", c) >= 0
		})), nil
	}
	return nil, errField
}

func (p *fieldParser) text() (string, error) {
	p.take('"')
	var out strings.Builder
	for p.rest != "" {
		c := p.rest[0]
		p.rest = p.rest[1:]
		switch {
		case c == '"':
			return out.String(), nil
		case c == '\\':
			if p.rest == "" || p.rest[0] != '"' && p.rest[0] != '\\' {
				return "", errField
			}
			c, p.rest = p.rest[0], p.rest[1:]
		case c < ' ' || c > '~':
			return "", errField
		}
		out.WriteByte(c)
	}
	return "", errField
}

func (p *fieldParser) bytes() ([]byte, error) {
	encoded, rest, found := strings.Cut(p.rest[1:], ":")
	if !found || strings.ContainsAny(encoded, "\r\n") { // Go's decoder would skip line breaks
		return nil, errField
	}
	p.rest = rest
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errField
	}
	return decoded, nil
}

func (p *fieldParser) boolean() (bool, error) {
	p.take('?')
	switch {
	case p.take('1'):
		return true, nil
	case p.take('0'):
		return false, nil
	}
	return false, errField
}

func (p *fieldParser) number() (any, error) {
	sign := ""
	if p.take('-') {
		sign = "-"
	}
	whole := p.span(isDigit)
	if whole == "" {
		return nil, errField
	}
	if !p.take('.') {
		if len(whole) > 15 {
			return nil, errField
		}
		return strconv.ParseInt(sign+whole, 10, 64)
	}
	fraction := p.span(isDigit)
	if len(whole) > 12 || fraction == "" || len(fraction) > 3 {
		return nil, errField
	}
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	if fraction = strings.TrimRight(fraction, "0"); fraction == "" {
		fraction = "0"
	}
	return fieldDecimal(sign + whole + "." + fraction), nil
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// String writes an item or inner list in the one way of RFC 8941 §4.1.
func (i *fieldItem) String() string {
	var out strings.Builder
	if list, ok := i.value.([]fieldItem); ok {
		out.WriteByte('(')
		for n := range list {
			if n > 0 {
				out.WriteByte(' ')
			}
			out.WriteString(list[n].String())
		}
		out.WriteByte(')')
	} else {
		out.WriteString(writeBare(i.value))
	}
	for _, p := range i.params {
		out.WriteString(";" + p.name)
		if p.value != true {
			out.WriteString("=" + writeBare(p.value))
		}
	}
	return out.String()
}

var fieldEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func writeBare(value any) string {
	switch v := value.(type) {
	case int64:
		return strconv.FormatInt(v, 10)
	case string:
		return `"` + fieldEscapes.Replace(v) + `"`
	case []byte:
		return ":" + base64.StdEncoding.EncodeToString(v) + ":"
	case fieldToken:
		return string(v)
	case fieldDecimal:
		return string(v)
	case bool:
		if v {
			return "?1"
		}
	}
	return "?0"
}
