package authn

import (
	"strings"
	"testing"
)

func TestNormalizeUsername(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"alice":                      "alice",
		" Alice\t":                   "alice",
		"ALICE@Heron.Example":        "alice@heron.example",
		"ａｌｉｃｅ":                      "alice",  // full width
		"e\u0301lodie":               "élodie", // composed
		"STRASSE":                    "strasse",
		"straße":                     "strasse",
		"\u00a0alice\u3000":          "alice",
		"a b":                        "a b",
		"":                           "",
		"   ":                        "",
		"al\x00ice":                  "",
		"al\nice":                    "",
		"al\u200bice":                "", // zero width space
		"\u202ealice":                "", // direction
		"al\u00adice":                "", // soft hyphen
		"\ufffdalice":                "",
		"\xffalice":                  "",
		"\ue000":                     "", // private use
		strings.Repeat("a", 254):     strings.Repeat("a", 254),
		strings.Repeat("a", 255):     "",
		strings.Repeat("\ufdfa", 99): "", // each becomes 18 characters
		strings.Repeat("a", 100000):  "",
	} {
		got, err := normalizeUsername(typed)
		if got != want || (err == nil) != (want != "") {
			if err == nil || want != "" {
				t.Errorf("%.40q: %.40q %v, want %.40q", typed, got, err, want)
			}
		}
	}
}

func FuzzNormalizeUsername(f *testing.F) {
	for _, s := range []string{"alice", "ＡＬＩＣＥ", "İ", "ß", "ﬃ", "\u0345\u0300", "a\u00a0b", "\ufdfa", "ϓ\u0301", "\u1e9b\u0323"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		name, err := normalizeUsername(typed)
		if err != nil {
			return
		}
		again, err := normalizeUsername(name)
		if err != nil || again != name {
			t.Errorf("%q became %q, and that %q (%v)", typed, name, again, err)
		}
		if checkUsername(name) != nil || strings.ContainsAny(name, "\x00\r\n\t") || strings.TrimSpace(name) != name {
			t.Errorf("%q became %q", typed, name)
		}
	})
}
