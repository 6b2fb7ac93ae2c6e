package fineract

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// What an administrator may write is read without a panic, and what a customer calls themselves never becomes a template.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{
		"Hello {{username}}.\nYour OTP login token is {{token}}.", "{{{token}}}", "{{&token}}", "{{#token}}{{username}}{{/token}}", "{{^token}}x{{/token}}",
		"{{! a note }}{{token}}", "{{=<% %>=}}<%token%>", "{{> other}}", "{{token", "}}{{", "{{#a}}{{/b}}", "{{.}}", "{{a.b}}", "{{#.}}{{.}}{{/.}}", "\x00{{\xff}}",
	} {
		f.Add(text, "Alice {{token}}")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		if utf8.RuneCountInString(text) > longestText || strings.Contains(text, "s3cret") {
			return
		}
		values := map[string]string{"username": shown(name), "token": "s3cret"}
		got, err := render(text, values)
		if err != nil {
			return
		}
		if !strings.Contains(text, "token") && !strings.Contains(text, "{{") && strings.Contains(got, "s3cret") {
			t.Errorf("%q shows the code", text)
		}
		if len(got) > longestText*(4*longestValue+longestText) {
			t.Errorf("%d bytes", len(got))
		}
	})
}

func TestTemplate_Values(t *testing.T) {
	t.Parallel()
	values := map[string]string{"username": shown("{{token}}{{{token}}}"), "token": "12345", "firstname": shown("A\r\nBcc: x@example.com\u2028\u0085b"), "lastname": `<b>"O'Doe" & Sons</b>`,
		"email": shown(strings.Repeat("é", 500))}
	for text, want := range map[string]string{
		"{{username}}":                           "{{token}}{{{token}}}",
		"{{#username}}{{username}}{{/username}}": "{{token}}{{{token}}}",
		"{{{username}}} {{&username}}":           "{{token}}{{{token}}} {{token}}{{{token}}}",
		"{{firstname}}":                          "A  Bcc: x@example.com  b",
		"{{lastname}}":                           `<b>"O'Doe" & Sons</b>`, // plain text: nothing is escaped
		"{{{lastname}}}":                         `<b>"O'Doe" & Sons</b>`,
		"{{email}}":                              strings.Repeat("é", longestValue),
		"{{nothing}}.":                           ".",
		"{{=<% %>=}}<%token%> {{token}}":         "12345 {{token}}",
		"{{!{{token}}}}":                         "}}",
	} {
		if got, err := render(text, values); err != nil || got != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"{{>x}}", "{{#token}}{{>x}}{{/token}}", "{{^x}}{{> y }}{{/x}}", "{{token", "{{#a}}", "{{/a}}", "{{#a}}{{/b}}", "{{}}"} {
		if _, err := parse(text); err == nil {
			t.Errorf("%s is taken for a template", text)
		}
	}
}
