package consent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"
)

// maxDepth is deeper than anything that is asked of us, and keeps the reader's stack small.
const maxDepth = 16

// kind is the type of a JSON value.
type kind int

const (
	isNull kind = iota
	isBool
	isNumber
	isString
	isArray
	isObject
)

// value is a JSON value that keeps the order of its members.
type value struct {
	kind    kind
	text    string // a string's content, a number's or a boolean's literal
	items   []value
	members []member
}

type member struct {
	name string
	value
}

// treeError says what is wrong with a text that should be JSON, and where.
type treeError struct{ message, path string }

func (e *treeError) Error() string { return e.message + " " + e.path }

// parseTree reads exactly one JSON value. It is stricter than encoding/json: two members of one name would be read as
// the first by one program and as the last by another, bytes that are not UTF-8 would be replaced in silence.
func parseTree(text []byte) (value, error) {
	if !utf8.Valid(text) || !json.Valid(text) {
		return value{}, &treeError{message: "The text is not JSON in UTF-8."}
	}
	t := tree{json.NewDecoder(bytes.NewReader(text))}
	t.UseNumber()
	v, err := t.value("", 0)
	if err != nil {
		return value{}, err
	}
	if _, err := t.Token(); !errors.Is(err, io.EOF) {
		return value{}, &treeError{message: "There is something after the end of the JSON text."}
	}
	return v, nil
}

type tree struct{ *json.Decoder }

func (t tree) value(path string, depth int) (value, error) {
	if depth > maxDepth {
		return value{}, &treeError{"The JSON text is nested too deeply.", path}
	}
	token, err := t.Token()
	if err != nil {
		return value{}, &treeError{"The text is not JSON.", path}
	}
	switch token := token.(type) {
	case nil:
		return value{kind: isNull}, nil
	case bool:
		return value{kind: isBool, text: strconv.FormatBool(token)}, nil
	case json.Number:
		return value{kind: isNumber, text: token.String()}, nil
	case string:
		return value{kind: isString, text: token}, nil
	case json.Delim:
		if token == '[' {
			return t.array(path, depth)
		}
		return t.object(path, depth)
	}
	return value{}, &treeError{"The text is not JSON.", path}
}

func (t tree) array(path string, depth int) (value, error) {
	v := value{kind: isArray}
	for t.More() {
		item, err := t.value(path+"["+strconv.Itoa(len(v.items))+"]", depth+1)
		if err != nil {
			return v, err
		}
		v.items = append(v.items, item)
	}
	_, err := t.Token() // the closing bracket
	return v, err
}

func (t tree) object(path string, depth int) (value, error) {
	v := value{kind: isObject}
	seen := map[string]bool{}
	for t.More() {
		token, err := t.Token()
		if err != nil {
			return v, err
		}
		name, _ := token.(string)
		at := join(path, name)
		if seen[name] {
			return v, &treeError{"A member occurs twice.", at}
		}
		seen[name] = true
		inner, err := t.value(at, depth+1)
		if err != nil {
			return v, err
		}
		v.members = append(v.members, member{name, inner})
	}
	_, err := t.Token() // the closing brace
	return v, err
}

// member returns the member of that name, or nil.
func (v *value) member(name string) *value {
	for i := range v.members {
		if v.members[i].name == name {
			return &v.members[i].value
		}
	}
	return nil
}

// at returns the value at a path of members, or nil.
func (v *value) at(path []string) *value {
	for _, name := range path {
		if v = v.member(name); v == nil {
			return nil
		}
	}
	return v
}

// remove takes out what is at a path of members, and the objects on the way that hold nothing else.
func (v *value) remove(path []string) {
	for i := range v.members {
		m := &v.members[i]
		if m.name != path[0] {
			continue
		}
		if len(path) > 1 {
			before := len(m.members)
			if m.value.remove(path[1:]); len(m.members) > 0 || before == 0 {
				return
			}
		}
		v.members = slices.Delete(v.members, i, i+1)
		return
	}
}

// join adds a member's name to a path. A name that is not plain is left out: paths go into answers and logs.
func join(path, name string) string {
	if len(name) > 64 {
		return path
	}
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-') {
			return path
		}
	}
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}
