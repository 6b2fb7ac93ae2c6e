package authn

import (
	"errors"
	"strings"
	"testing"
)

// E2: at least 12 characters, and none that an attacker tries first.
func TestCheckPassword(t *testing.T) {
	t.Parallel()
	personal := []string{"alice.doe", "Alice Doe", "Heron Bank"}
	for password, want := range map[string]error{
		"":                          ErrPasswordShort,
		"x7#kQ9!vLm2":               ErrPasswordShort, // 11
		"x7#kQ9!vLm2p":              nil,              // 12
		"änderungölöß":              nil,              // 12 characters in 16 bytes
		"äöüäöüäöüäö":               ErrPasswordShort, // 11 in 22
		strings.Repeat("kx9 ", 257): ErrPasswordLong,
		"correct horse battery":     nil,
		alicePassword:               nil,
		"Tr0ub4dor&3 zebra":         nil,
		"839201746582":              ErrPasswordWeak, // digits alone
		"8392017465820347561":       nil,
		"k7#xQ2!mk7#xQ2!m":          nil, // twice eight that nobody guesses
		"password1234":              ErrPasswordWeak,
		"P@ssw0rd2026!":             ErrPasswordWeak,
		"Welcome12345":              ErrPasswordWeak,
		"qwertyuiop12":              ErrPasswordWeak,
		"1qaz2wsx3edc":              ErrPasswordWeak,
		"poiuytrewq09":              ErrPasswordWeak,
		"123456789012":              ErrPasswordWeak,
		"abcdefghijkl":              ErrPasswordWeak,
		"aaaaaaaaaaaa":              ErrPasswordWeak,
		"ababababcdcd":              ErrPasswordWeak,
		"xkcdxkcdxkcd":              ErrPasswordWeak,
		"k7#xk7#xk7#xk7#x":          ErrPasswordWeak,
		"Summer2026!!":              ErrPasswordWeak,
		"mifosmifosmifos":           ErrPasswordWeak,
		"iloveyou12345":             ErrPasswordWeak,
		"heronbank2026":             ErrPasswordWeak,
		"grey-alice.doe-water":      ErrPasswordWeak, // contains the user name
		"grey-ALICE.DOE-water":      ErrPasswordWeak,
		"AliceDoe1990":              ErrPasswordWeak,
		"            ":              ErrPasswordWeak,
		"\U0001F600\U0001F600\U0001F600\U0001F600\U0001F600\U0001F600\U0001F600\U0001F600\U0001F600\U0001F600\U0001F600\U0001F600": ErrPasswordWeak,
	} {
		if err := checkPassword(password, personal...); !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", password, err, want)
		}
	}
}

// What judging takes is bounded, whatever is typed: 64 characters of a kilobyte count.
func TestCheckPassword_JudgesTheBeginning(t *testing.T) {
	t.Parallel()
	good := "three grey herons over water "
	if err := checkPassword(good + strings.Repeat("1234567 ", 100)); err != nil {
		t.Error(err)
	}
	if err := checkPassword(strings.Repeat("password ", 8) + good); !errors.Is(err, ErrPasswordWeak) {
		t.Error(err)
	}
}

// RFC 8265 §4.2.2: a password is the same however a keyboard composes it.
func TestNormalizePassword(t *testing.T) {
	t.Parallel()
	if composed, apart := normalizePassword("f\u00fcnf graue Reiher"), normalizePassword("fu\u0308nf graue Reiher"); composed != apart {
		t.Errorf("%q and %q", composed, apart)
	}
}

func FuzzCheckPassword(f *testing.F) {
	f.Add("correct horse battery", "alice")
	f.Add("İıſK0l1!|", "ß")
	f.Fuzz(func(t *testing.T, password, name string) {
		if checkPassword(password, name) == nil && (len(password) > longestPassword || len([]rune(password)) < shortestPassword) {
			t.Errorf("%q was taken", password)
		}
	})
}
