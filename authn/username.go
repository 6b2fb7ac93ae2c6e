package authn

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// ErrUsername is returned for what cannot be a user name.
var ErrUsername = errors.New("authn: a user name has 1 to 254 characters that can be seen")

const longestUsername = 254

// Username is the form in which a customer's name is looked up. It returns ErrUsername for what cannot be one.
func Username(name string) (string, error) { return normalizeUsername(name) }

// normalizeUsername is the form in which a name is looked up, so that a name is the same however a keyboard composes or
// capitalises it (NFKC, case folded, trimmed). Normalising what is normalised changes nothing.
func normalizeUsername(name string) (string, error) {
	if len(name) > 4*longestUsername || !utf8.ValidString(name) {
		return "", ErrUsername
	}
	// Folding can leave something to compose and composing something to fold; two rounds settle all of Unicode today.
	for range 4 {
		next := strings.TrimSpace(norm.NFKC.String(cases.Fold().String(norm.NFKC.String(name))))
		if next == name {
			return name, checkUsername(name)
		}
		name = next
	}
	return "", ErrUsername
}

func checkUsername(name string) error {
	if name == "" || utf8.RuneCountInString(name) > longestUsername {
		return ErrUsername
	}
	for _, r := range name {
		// Graphic leaves out what controls, joins or reorders: two names that look alike would be different ones.
		if !unicode.IsGraphic(r) || r == utf8.RuneError || unicode.IsSpace(r) && r != ' ' {
			return ErrUsername
		}
	}
	return nil
}
