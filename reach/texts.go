package reach

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed texts
var files embed.FS

// texts are the words of messages in one language.
type texts struct {
	Messages map[string]Words `json:"messages"` // by type
	Link     string           `json:"link"`
	Footer   string           `json:"footer"` // with {bank}
}

var english = readTexts("texts/en.json")

func readTexts(name string) (t texts) {
	document, err := files.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(document, &t)
	}
	if err != nil {
		panic(err) // it is compiled in
	}
	return t
}

func (t texts) of(m Message) (Words, error) {
	if m.Words != nil {
		return *m.Words, nil
	}
	w, ok := t.Messages[m.Type]
	if !ok {
		return w, fmt.Errorf("%w: no texts for %q", ErrRefused, m.Type)
	}
	return w, nil
}

// signed is the line that says who writes.
func (t texts) signed(bank string) string { return strings.ReplaceAll(t.Footer, "{bank}", bank) }
