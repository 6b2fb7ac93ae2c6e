package fapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

const maxJSONDepth = 16

// checkJSON accepts one JSON object or array that every reader understands alike: no duplicate members (RFC 8259 §4),
// nothing that Postgres or a float64 cannot hold. It returns the names of the outermost object's members.
func checkJSON(text []byte) (names []string, err error) {
	if !utf8.Valid(text) || !json.Valid(text) {
		return nil, errors.New("not JSON")
	}
	if err := checkEscapes(text); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	type level struct {
		members map[string]bool // nil in an array
		name    bool            // the next token is a member's name
	}
	var open []level
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return names, nil
		} else if err != nil {
			return nil, err
		}
		if inner := len(open) - 1; inner >= 0 && open[inner].members != nil {
			name, isString := token.(string)
			if open[inner].name && isString {
				if open[inner].members[name] {
					return nil, errors.New("a member is there twice")
				}
				open[inner].members[name], open[inner].name = true, false
				if inner == 0 {
					names = append(names, name)
				}
				continue
			}
			open[inner].name = true // this was the value
		}
		switch value := token.(type) {
		case json.Delim:
			switch value {
			case '{':
				open = append(open, level{members: make(map[string]bool), name: true})
			case '[':
				open = append(open, level{})
			default:
				open = open[:len(open)-1]
			}
			if len(open) > maxJSONDepth {
				return nil, errors.New("nested too deep")
			}
		case json.Number:
			if _, err := strconv.ParseFloat(value.String(), 64); err != nil {
				return nil, errors.New("a number is too large")
			}
		}
		if _, isDelim := token.(json.Delim); !isDelim && len(open) == 0 {
			return nil, errors.New("neither an object nor an array")
		}
	}
}

// checkEscapes refuses in valid JSON the \u escapes that are no text: NUL, and halves of surrogate pairs.
func checkEscapes(text []byte) error {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		if text[i] != 'u' {
			continue
		}
		r, err := strconv.ParseUint(string(text[i+1:i+5]), 16, 16)
		i += 4
		switch {
		case err != nil || r == 0 || r >= 0xdc00 && r <= 0xdfff:
			return fmt.Errorf("the escape \\u%04x is not a character", r)
		case r >= 0xd800 && r <= 0xdbff:
			if len(text) < i+7 || text[i+1] != '\\' || text[i+2] != 'u' {
				return errors.New("half a surrogate pair")
			}
			low, err := strconv.ParseUint(string(text[i+3:i+7]), 16, 16)
			if err != nil || low < 0xdc00 || low > 0xdfff {
				return errors.New("half a surrogate pair")
			}
			i += 6
		}
	}
	return nil
}
