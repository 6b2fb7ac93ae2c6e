package fapi

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// DetailType is a type of authorization_details (RFC 9396 §2): what its objects may hold, and what a customer reads about
// them. It is data, a file of JSON (docs/authorization-details.md).
type DetailType struct {
	Name  string `json:"type"`
	Title string `json:"title"`          // what the customer allows, in a few words
	Text  string `json:"text,omitempty"` // a sentence more

	// Lines are what a page shows first, in this order; {a.b} stands for a member. A member that no line shows is shown
	// below them all the same, under its name in Labels: nothing that is asked for can be hidden by a type.
	Lines  []DetailLine      `json:"lines,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`

	Consent  string `json:"consent_id,omitempty"`  // the member that carries a consent's id, or ""
	Accounts string `json:"account_ids,omitempty"` // the member that says, once granted, which accounts the customer picked (RFC 9396 §7.1), or ""
	Amount   string `json:"amount,omitempty"`      // the member, as a path a.b, with the amount and currency of what is paid (AmountLimits), or ""

	Schema json.RawMessage `json:"schema"` // JSON Schema 2020-12 of the whole object

	compiled *jsonschema.Schema
}

// DetailLine is a line of a page: Text holds members as {a.b}.
type DetailLine struct {
	Label string `json:"label"`
	Text  string `json:"text"`
}

// commonMembers are those that every type may have (RFC 9396 §2.2); all but identifier are lists.
var commonMembers = []string{"type", "locations", "actions", "datatypes", "identifier", "privileges"}

// commonSchema is what the schema of a type refers to for them.
const (
	commonSchema     = "urn:countersign:authorization-detail"
	commonSchemaText = `{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"type": "object",
		"properties": {
			"type": {"type": "string"},
			"locations": {"$ref": "#/$defs/list"},
			"actions": {"$ref": "#/$defs/list"},
			"datatypes": {"$ref": "#/$defs/list"},
			"identifier": {"type": "string"},
			"privileges": {"$ref": "#/$defs/list"}
		},
		"required": ["type"],
		"$defs": {"list": {"type": "array", "items": {"type": "string"}}}
	}`
)

// ParseDetailType reads a file of one type. Its schema may refer to itself and to urn:countersign:authorization-detail;
// nothing is loaded from anywhere.
func ParseDetailType(text []byte) (DetailType, error) {
	var t DetailType
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil {
		return t, err
	}
	if dec.More() {
		return t, errors.New("there is more after the object")
	}
	if err := t.checkWords(); err != nil {
		return t, err
	}
	return t, t.compile()
}

func (t *DetailType) checkWords() error {
	var wrong []error
	if t.Name == "" || len(t.Name) > 255 || hasControls(t.Name) {
		wrong = append(wrong, errors.New("type: must be a text of 1 to 255 bytes"))
	}
	if t.Title == "" {
		wrong = append(wrong, errors.New("title: is missing: the customer must read something"))
	}
	for i, line := range t.Lines {
		if _, err := line.Members(); line.Label == "" || err != nil {
			wrong = append(wrong, fmt.Errorf("lines[%d]: must have a label, and a text with members as {a.b}", i))
		}
	}
	if t.Amount != "" && slices.Contains(strings.Split(t.Amount, "."), "") {
		wrong = append(wrong, errors.New("amount: must be a member, or a path of members as a.b"))
	}
	for name, member := range map[string]string{"consent_id": t.Consent, "account_ids": t.Accounts, "amount": t.Amount} {
		if slices.Contains(commonMembers, member) {
			wrong = append(wrong, fmt.Errorf("%s: %q is a common member (RFC 9396 §2.2)", name, member))
		}
	}
	return errors.Join(wrong...)
}

// Members are the members that a line shows, as paths.
func (l DetailLine) Members() (paths [][]string, err error) {
	rest := l.Text
	for {
		_, after, found := strings.Cut(rest, "{")
		if !found {
			break
		}
		path, more, closed := strings.Cut(after, "}")
		names := strings.Split(path, ".")
		if !closed || slices.Contains(names, "") || strings.Contains(path, "{") {
			return nil, errors.New("a { without a member and }")
		}
		paths, rest = append(paths, names), more
	}
	if len(paths) == 0 {
		return nil, errors.New("shows no member")
	}
	return paths, nil
}

// compile prepares the schema. One that would let unknown members pass is refused: RFC 9396 §5 wants them refused.
func (t *DetailType) compile() error {
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(t.Schema))
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	top, _ := schema.(map[string]any)
	if top["unevaluatedProperties"] != false && top["additionalProperties"] != false {
		return errors.New(`schema: must say "unevaluatedProperties": false, or additionalProperties: unknown members are refused (RFC 9396 §5)`)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	c.AssertFormat()
	common, err := jsonschema.UnmarshalJSON(strings.NewReader(commonSchemaText))
	if err != nil {
		return err
	}
	const own = "urn:countersign:type"
	if err := errors.Join(c.AddResource(commonSchema, common), c.AddResource(own, schema)); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if t.compiled, err = c.Compile(own); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	return nil
}

// noLoader loads nothing: a schema is whole by itself.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, errors.New("a schema may refer to itself and to " + commonSchema + " alone")
}

// check applies RFC 9396 §5: unknown, missing and ill-formed members are refused. Numbers are judged as float64, whose
// text is short: of a literal as long as the request, the validator would make a number of a million digits.
func (t *DetailType) check(d AuthorizationDetail) error {
	text, err := json.Marshal(d.Fields)
	if err != nil {
		return err
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return err
	}
	if t.compiled == nil {
		return errors.New("a type without a schema allows nothing")
	}
	if err := t.compiled.Validate(value); err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	for name, raw := range d.Fields { // whatever its own schema says of them
		ok := true
		switch {
		case name == "type", !slices.Contains(commonMembers, name):
		case name == "identifier":
			_, ok = stringField(raw)
		default:
			ok = isStrings(raw)
		}
		if !ok {
			return fmt.Errorf("%s: member %q", t.Name, name)
		}
	}
	return nil
}

//go:embed details/*.json
var builtIn embed.FS

var defaultTypes = sync.OnceValue(func() map[string]DetailType {
	files, err := fs.Sub(builtIn, "details")
	if err == nil {
		var types map[string]DetailType
		if types, err = LoadDetailTypes(files); err == nil {
			return types
		}
	}
	panic(err) // they are part of the program, and tested
})

// DefaultDetailTypes returns the built-in types, those of the examples in RFC 9396: account information, payments,
// customer data.
func DefaultDetailTypes() map[string]DetailType { return maps.Clone(defaultTypes()) }

// LoadDetailTypes reads the types in all files of a folder whose names end in .json.
func LoadDetailTypes(folder fs.FS) (map[string]DetailType, error) {
	names, err := fs.Glob(folder, "*.json")
	if err != nil {
		return nil, err
	}
	types := make(map[string]DetailType, len(names))
	var wrong []error
	for _, name := range names {
		text, err := fs.ReadFile(folder, name)
		if err != nil {
			return nil, err
		}
		t, err := ParseDetailType(text)
		if _, twice := types[t.Name]; err == nil && twice {
			err = fmt.Errorf("the type %q is there twice", t.Name)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
			continue
		}
		types[t.Name] = t
	}
	return types, errors.Join(wrong...)
}
