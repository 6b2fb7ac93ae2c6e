package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// narrator writes what the demo does, for people, in 100 columns.
type narrator struct {
	w      io.Writer
	colour bool
	steps  int
	typed  bool   // the client_assertion_type was shown
	gone   func() // called when nobody reads any more; may be nil
}

const (
	columns   = 100
	nameWidth = 22 // of a parameter, in its column
)

// newNarrator uses colour on a terminal whose owner has not asked for none (no-color.org).
func newNarrator(w io.Writer) *narrator {
	return &narrator{w: w, colour: isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Colours, as SGR parameters.
const (
	bold  = "1"
	faint = "2"
	red   = "1;31"
	green = "32"
	blue  = "36"
)

func (n *narrator) paint(sgr, text string) string {
	if !n.colour || text == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

func (n *narrator) write(format string, args ...any) {
	if _, err := fmt.Fprintf(n.w, format, args...); err != nil && n.gone != nil {
		n.gone()
	}
}

func (n *narrator) line(format string, args ...any) { n.write(format+"\n", args...) }

// title opens the whole.
func (n *narrator) title(text string) {
	n.line("\n%s\n%s", n.paint(bold, text), n.paint(faint, strings.Repeat("─", columns)))
}

// chapter opens a part of the story.
func (n *narrator) chapter(name, text string) {
	n.line("\n%s\n%s", n.paint(faint, strings.Repeat("─", columns)), n.paint(bold, name))
	if text != "" {
		n.prose(0, "%s", text)
	}
}

// progress is a line about the preparations.
func (n *narrator) progress(what, text string) { n.line("  %-14s %s", what, text) }

// step opens a step, with the rule that it shows.
func (n *narrator) step(title, rule string) {
	n.steps++
	n.line("\n%s", n.paint(bold, fmt.Sprintf("%2d  %s", n.steps, title)))
	n.line("    %s\n", n.paint(faint, rule))
}

// prose is text between the lines, wrapped.
func (n *narrator) prose(indent int, format string, args ...any) {
	margin := strings.Repeat(" ", indent)
	for _, line := range wrapped(fmt.Sprintf(format, args...), columns-indent) {
		n.line("%s%s", margin, line)
	}
}

// shows says what a step has proved.
func (n *narrator) shows(format string, args ...any) {
	for i, line := range wrapped(fmt.Sprintf(format, args...), columns-6) {
		mark := n.paint(green, "✓")
		if i > 0 {
			mark = " "
		}
		n.line("    %s %s", mark, line)
	}
}

// failed says what a step should have proved.
func (n *narrator) failed(err error) {
	n.line("")
	for _, part := range strings.Split(err.Error(), "\n") {
		for i, line := range wrapped(part, columns-6) {
			mark := "✗"
			if i > 0 {
				mark = " "
			}
			n.line("    %s %s", n.paint(red, mark), n.paint(red, line))
		}
	}
}

// exchange tells a request and its answer. Of the answer it tells the members at paths, or its error.
func (n *narrator) exchange(ex *exchange, paths ...string) {
	if ex.before != nil {
		n.exchange(ex.before)
		n.line("")
	}
	n.request(ex)
	n.answer(ex, paths)
}

func (n *narrator) request(ex *exchange) {
	n.line("    %s", n.paint(blue, "→ "+ex.method+" "+cut(ex.url, columns-7-len(ex.method))))
	if ex.certificate != "" {
		n.pair("(client certificate)", "CN="+ex.certificate)
	}
	for _, name := range []string{"Authorization", "DPoP"} {
		if v := ex.sent.Get(name); v != "" {
			n.pair(name, secret(v))
		}
	}
	for _, name := range inOrder(ex.form) {
		if name == "client_assertion_type" { // there is but one
			if n.typed {
				continue
			}
			n.typed = true
		}
		n.pair(name, readable(name, ex.form.Get(name)))
	}
	if ex.json != nil {
		n.members(ex.json)
	}
}

func (n *narrator) answer(ex *exchange, paths []string) {
	n.line("    %s", n.paint(blue, fmt.Sprintf("← %d %s", ex.status, http.StatusText(ex.status))))
	for _, challenge := range ex.header.Values("WWW-Authenticate") {
		n.pair("WWW-Authenticate", challenge)
	}
	if nonce := ex.header.Get("DPoP-Nonce"); nonce != "" && ex.wantsNonce() {
		n.pair("DPoP-Nonce", secret(nonce))
	}
	if location := ex.header.Get("Location"); location != "" {
		n.pair("Location", location)
	}
	if ex.status >= 400 && len(paths) == 0 {
		paths = []string{"error", "error_description"}
	}
	for _, path := range paths {
		if text := ex.text(path); text != "" {
			n.pair(path, readable(path, text))
		}
	}
}

// members tells the members of a JSON object one level below Data, as they were sent.
func (n *narrator) members(object []byte) {
	var m struct{ Data map[string]json.RawMessage }
	if json.Unmarshal(object, &m) != nil {
		return
	}
	names := make([]string, 0, len(m.Data))
	for name := range m.Data {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n.pair("Data."+name, string(bytes.Trim(m.Data[name], `"`)))
	}
}

// pair is a name and its value, on several lines when the value is worth it.
func (n *narrator) pair(name, value string) {
	lines := wrapped(spaced(value), columns-9-nameWidth)
	if len(lines) > 4 {
		lines = append(lines[:3], cut(lines[3], columns-12-nameWidth)+" …")
	}
	label := fmt.Sprintf("%-*s", nameWidth, name)
	if utf8.RuneCountInString(name) > nameWidth { // a line of its own
		n.line("        %s", n.paint(faint, name))
		label = strings.Repeat(" ", nameWidth)
	}
	n.line("        %s %s", n.paint(faint, label), lines[0])
	for _, rest := range lines[1:] {
		n.line("        %-*s %s", nameWidth, "", rest)
	}
}

// spaced puts gaps into JSON, so that it can be wrapped and read.
func spaced(value string) string {
	if !strings.HasPrefix(value, "[") && !strings.HasPrefix(value, "{") {
		return value
	}
	var b strings.Builder
	quoted := false
	for i, r := range value {
		b.WriteRune(r)
		switch r {
		case '"':
			quoted = !quoted
		case ',', ':':
			if !quoted && !strings.HasPrefix(value[i+1:], " ") {
				b.WriteByte(' ')
			}
		}
	}
	return b.String()
}

// paramOrder is how parameters are best read; others follow.
var paramOrder = []string{"grant_type", "response_type", "scope", "redirect_uri", "authorization_details", "claims", "state", "nonce",
	"code_challenge", "code_challenge_method", "code", "code_verifier", "refresh_token", "token", "client_id", "client_assertion_type", "client_assertion"}

func inOrder(form url.Values) []string {
	var names []string
	for _, name := range paramOrder {
		if form.Has(name) {
			names = append(names, name)
		}
	}
	var rest []string
	for name := range form {
		if !slices.Contains(paramOrder, name) {
			rest = append(rest, name)
		}
	}
	slices.Sort(rest)
	return append(names, rest...)
}

// readable is a value as it may be shown: what opens doors is cut short.
func readable(name, value string) string {
	switch name {
	case "client_assertion", "request", "auth_req_id", "code", "code_verifier", "refresh_token", "token", "access_token", "id_token", "state", "nonce":
		return secret(value)
	case "request_uri":
		return secretAfter(value, len("urn:ietf:params:oauth:request_uri:"))
	}
	return value
}

// secret shows the beginning of a credential, after its scheme if it has one.
func secret(value string) string {
	if scheme, rest, ok := strings.Cut(value, " "); ok && !strings.Contains(rest, " ") {
		return scheme + " " + secret(rest)
	}
	return secretAfter(value, 0)
}

const shown = 10 // characters of a secret

func secretAfter(value string, open int) string {
	if len(value) <= open+shown {
		return value
	}
	return value[:open+shown] + "…"
}

func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(width-1, 0)]) + "…"
}

// wrapped breaks text at spaces, and within words only where one is longer than a line.
func wrapped(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		for {
			room := width - utf8.RuneCountInString(line)
			if line != "" {
				room--
			}
			if utf8.RuneCountInString(word) <= room {
				break
			}
			if line == "" { // the word itself is too long
				runes := []rune(word)
				lines, word = append(lines, string(runes[:width])), string(runes[width:])
				continue
			}
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" || len(lines) == 0 {
		lines = append(lines, line)
	}
	return lines
}

func seconds(since time.Time) string { return fmt.Sprintf("%.1f s", time.Since(since).Seconds()) }
