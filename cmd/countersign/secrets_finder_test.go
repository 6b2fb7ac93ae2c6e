//go:build linux

package main

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"
)

// confidential is what nobody may find again where it does not belong.
type confidential struct {
	what, value string
	guessable   bool   // there are so few that a plain hash gives it away
	told        string // id of the message that told it to the customer
}

// guessable are the kinds of secrets that somebody with a hash of one can find by trying.
var guessable = map[string]bool{"password": true, "code": true, "user code": true, "phone number": true, "email address": true, "account": true, "user name": true}

// finder looks for secrets in large texts, in every form in which carelessness leaves them.
type finder struct{ starts map[[4]byte][]needle }

type needle struct {
	secret *confidential
	form   string
	text   []byte
	word   bool // counts only if it is not part of a longer word: short codes are in every large number
}

func newFinder(all []*confidential) *finder {
	f := &finder{map[[4]byte][]needle{}}
	for _, s := range all {
		seen := map[string]bool{}
		for form, text := range formsOf(s) {
			if len(text) < 4 || seen[text] {
				continue
			}
			seen[text] = true
			if text == s.value {
				form = "itself"
			}
			word := len(text) <= 12 && len(text) <= len(s.value)
			start := [4]byte([]byte(text))
			f.starts[start] = append(f.starts[start], needle{s, form, []byte(text), word})
		}
	}
	return f
}

// formsOf are the texts by which a secret is known, by the form's name.
func formsOf(s *confidential) map[string]string {
	quoted, _ := json.Marshal(s.value)
	forms := map[string]string{
		"itself": s.value, "JSON": strings.Trim(string(quoted), `"`), "query": url.QueryEscape(s.value), "path": url.PathEscape(s.value), "HTML": html.EscapeString(s.value),
	}
	add := func(form string, value []byte) {
		forms[form+"hex"] = hex.EncodeToString(value)
		for shift, text := range inBase64(value) {
			forms[fmt.Sprint(form, "base64 ", shift)] = text
			forms[fmt.Sprint(form, "base64url ", shift)] = strings.NewReplacer("+", "-", "/", "_").Replace(text)
		}
	}
	add("", []byte(s.value))
	if raw, err := base64.RawURLEncoding.DecodeString(s.value); err == nil && len(raw) >= 16 {
		add("decoded, ", raw)
	}
	if s.what == "phone number" {
		forms["without +"], forms["national"] = s.value[1:], "0"+s.value[4:]
	}
	if s.guessable {
		forms["lower case"], forms["upper case"] = strings.ToLower(s.value), strings.ToUpper(s.value)
		for _, before := range []string{"", s.what + "\x00", "phone\x00", "email\x00", "sms\x00"} {
			for name, sum := range digests(before + s.value) {
				add(fmt.Sprintf("%s of %q+, ", name, before), sum)
			}
		}
	}
	whole := s.value
	if strings.HasPrefix(whole, "ey") { // of a JWT the signature is what nobody else has
		whole = whole[strings.LastIndexByte(whole, '.')+1:]
	}
	if n := len(whole); n >= 48 { // logs cut what is long
		forms["its start"], forms["its middle"], forms["its end"] = whole[:24], whole[n/2:n/2+24], whole[n-24:]
	}
	return forms
}

func digests(text string) map[string][]byte {
	a, b, c, d := md5.Sum([]byte(text)), sha1.Sum([]byte(text)), sha256.Sum256([]byte(text)), sha512.Sum512([]byte(text))
	return map[string][]byte{"MD5": a[:], "SHA-1": b[:], "SHA-256": c[:], "SHA-512": d[:]}
}

// inBase64 is what is certain of a value in base64, wherever in a longer one it begins.
func inBase64(value []byte) (shifted [3]string) {
	for shift := range shifted {
		all := base64.StdEncoding.EncodeToString(append(make([]byte, shift), value...))
		shifted[shift] = all[(shift*8+5)/6 : (shift+len(value))*8/6]
	}
	return shifted
}

// find is what there is of them in a text, each once.
func (f *finder) find(text []byte) (found []finding) {
	seen := map[string]bool{}
	for i := 0; i+4 <= len(text); i++ {
		for _, n := range f.starts[[4]byte(text[i:])] {
			if !bytes.HasPrefix(text[i:], n.text) || n.word && (i > 0 && (inWord(text[i-1]) || text[i-1] == '.') || i+len(n.text) < len(text) && inWord(text[i+len(n.text)])) {
				continue
			}
			if key := n.secret.value + n.form; !seen[key] {
				seen[key] = true
				found = append(found, finding{n, string(text[max(0, i-120):min(len(text), i+len(n.text)+60)])})
			}
		}
	}
	return found
}

func inWord(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

type finding struct {
	needle
	around string
}

func (f finding) String() string {
	return fmt.Sprintf("%s %q (%s) in %q", f.secret.what, f.secret.value, f.form, f.around)
}

func TestSecretFinder(t *testing.T) {
	t.Parallel()
	all := []*confidential{
		{what: "code", value: "040506", guessable: true}, {what: "code", value: "AB12C", guessable: true},
		{what: "password", value: `pass "word" of + hers`, guessable: true}, {what: "phone number", value: "+254711000222", guessable: true},
		{what: "cookie", value: "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA"},
		{what: "access token", value: "eyJhbGciOiJFUzI1NiJ9." + "claims." + strings.Repeat("abcdefghi", 8)},
	}
	f := newFinder(all)
	sum := sha256.Sum256([]byte("phone\x00+254711000222"))
	for _, test := range []struct {
		name, text string
		want       bool
	}{
		{"a code in a log line", `{"level":"debug","msg":"sent","code":"040506"}`, true},
		{"a code in words", "Your code is 040506.", true},
		{"a code as bytea", `\\x303430353036`, true},
		{"a code in base64", "MDQwNTA2", true},
		{"a code within base64", base64.StdEncoding.EncodeToString([]byte(`{"c":"040506"}`)), true},
		{"a code in lower case", "ab12c", true},
		{"a code's hash", "9d4b3e" + hex.EncodeToString(digests("040506")["SHA-1"]), true},
		{"a number that has the same digits", "id 10405061", false},
		{"the time of day", "2026-11-24 01:21:28.040506+00", false},
		{"hexadecimal digits", "\\xffab12cd", false},
		{"a password in JSON", `{"password":"pass \"word\" of + hers"}`, true},
		{"a password in a form", "password=pass+%22word%22+of+%2B+hers", true},
		{"a password in HTML", `value="pass &#34;word&#34; of + hers"`, true},
		{"a phone number without +", "to 254711000222", true},
		{"as one writes it at home", "0711000222", true},
		{"masked", "•••• 0222", false},
		{"its hash", base64.RawURLEncoding.EncodeToString(sum[:]), true},
		{"a cookie's bytes", "\\xabcdef1234567890abcdef1234567890abcdef1234567890abcdef1234567890", true},
		{"a cookie's hash", hex.EncodeToString(digests(all[4].value)["SHA-256"]), false},
		{"half a token", strings.Repeat("abcdefghi", 4), true},
		{"the header of a token", "eyJhbGciOiJFUzI1NiJ9.", false},
	} {
		if found := f.find([]byte(test.text)); (len(found) > 0) != test.want {
			t.Errorf("%s: %v", test.name, found)
		}
	}
}
