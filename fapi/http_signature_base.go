package fapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// HTTPMessage is a request or a response, as far as a signature may cover it (RFC 9421 §2).
type HTTPMessage struct {
	Method    string // of a request
	TargetURI string // of a request: absolute, with its query, as it was called

	Status  int          // of a response; 0 for a request
	Request *HTTPMessage // that the response answers

	Header http.Header
	Body   []byte // the content as it is on the wire: encoded, if there is a Content-Encoding
}

const signatureParams = "@signature-params"

// signatureBase is what a signature is made over (RFC 9421 §2.5). input is a member of Signature-Input: the list of what
// is covered, and the parameters.
func (m *HTTPMessage) signatureBase(input *fieldItem) ([]byte, error) {
	covered, ok := input.value.([]fieldItem)
	if !ok {
		return nil, errors.New("the covered components are no list")
	}
	var base []byte
	seen := map[string]bool{}
	for i := range covered {
		name := covered[i].String()
		if seen[sortedName(&covered[i])] {
			return nil, fmt.Errorf("%s is covered twice", name)
		}
		seen[sortedName(&covered[i])] = true
		value, err := m.component(&covered[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if !isSignable(value) { // a line break in a value would make two lines of it
			return nil, fmt.Errorf("%s: its value has other characters than ASCII", name)
		}
		base = append(base, name+": "+value+"\n"...)
	}
	return append(base, (&fieldItem{value: signatureParams}).String()+": "+input.String()...), nil
}

// sortedName names a component: the order of its parameters makes no other one of it (RFC 9421 §2).
func sortedName(c *fieldItem) string {
	sorted := fieldItem{c.value, slices.Clone(c.params)}
	slices.SortFunc(sorted.params, func(a, b fieldParam) int { return strings.Compare(a.name, b.name) })
	return sorted.String()
}

func isSignable(value string) bool {
	for i := range len(value) {
		if c := value[i]; (c < ' ' || c > '~') && c != '\t' {
			return false
		}
	}
	return true
}

// component returns the value of a covered component. Parameters that are not known here are an error (RFC 9421 §2.5);
// so are those that need to know what a field means: sf, bs and tr.
func (m *HTTPMessage) component(c *fieldItem) (string, error) {
	name, ok := c.value.(string)
	if !ok {
		return "", errors.New("not a string")
	}
	var key, param *string
	for _, p := range c.params {
		text, isText := p.value.(string)
		switch {
		case p.name == "req" && p.value == true && m.Status != 0 && m.Request != nil:
			m = m.Request
		case p.name == "key" && isText && isDictionary(name):
			key = &text
		case p.name == "name" && isText && name == "@query-param":
			param = &text
		default:
			return "", fmt.Errorf("the parameter %q cannot be used", p.name)
		}
	}
	switch {
	case key != nil:
		return m.fieldMember(name, *key)
	case param != nil:
		return m.queryParam(*param)
	case strings.HasPrefix(name, "@"):
		return m.derived(name)
	}
	return m.field(name)
}

// isDictionary tells which fields are known to be dictionaries (RFC 9421 §2.1.2).
func isDictionary(name string) bool {
	return name == "signature" || name == "signature-input" || name == "content-digest"
}

// derived returns what is no field (RFC 9421 §2.2).
func (m *HTTPMessage) derived(name string) (string, error) {
	if m.Status != 0 {
		if name == "@status" {
			return strconv.Itoa(m.Status), nil
		}
		return "", errors.New("responses do not have it")
	}
	switch name {
	case "@method":
		return m.Method, nil
	case "@target-uri":
		return m.TargetURI, nil
	}
	u, err := url.Parse(m.TargetURI)
	if err != nil || u.Host == "" {
		return "", errors.New("the target URI is not absolute")
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	switch name {
	case "@scheme":
		return strings.ToLower(u.Scheme), nil
	case "@authority":
		return authorityOf(u), nil
	case "@path":
		return path, nil
	case "@query":
		return "?" + u.RawQuery, nil
	case "@request-target": // in origin form
		if u.RawQuery != "" || u.ForceQuery {
			path += "?" + u.RawQuery
		}
		return path, nil
	}
	return "", errors.New("not known here")
}

// authorityOf is host and port, normalised (RFC 9110 §4.2.3).
func authorityOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if strings.EqualFold(u.Scheme, "https") {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}

// queryParam returns one parameter of the query (RFC 9421 §2.2.8). One that is there twice has no value.
func (m *HTTPMessage) queryParam(name string) (string, error) {
	u, err := url.Parse(m.TargetURI)
	if err != nil || m.Status != 0 {
		return "", errors.New("there is no query")
	}
	decoded, err := url.PathUnescape(name)
	if err != nil {
		return "", err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", err
	}
	if values := query[decoded]; len(values) == 1 {
		return strings.ReplaceAll(url.QueryEscape(values[0]), "+", "%20"), nil
	}
	return "", errors.New("it is not in the query exactly once")
}

// field returns a field's value, its lines combined (RFC 9421 §2.1).
func (m *HTTPMessage) field(name string) (string, error) {
	if name != strings.ToLower(name) {
		return "", errors.New("names of fields are in lower case")
	}
	lines := m.Header.Values(name)
	if len(lines) == 0 {
		return "", errors.New("there is no such field")
	}
	trimmed := make([]string, len(lines))
	for i, line := range lines {
		trimmed[i] = strings.Trim(line, " \t")
	}
	return strings.Join(trimmed, ", "), nil
}

func (m *HTTPMessage) fieldMember(name, key string) (string, error) {
	members, err := parseDictionary(m.Header.Values(name))
	if err != nil {
		return "", err
	}
	item := findMember(members, key)
	if item == nil {
		return "", errors.New("there is no such member")
	}
	return item.String(), nil
}
