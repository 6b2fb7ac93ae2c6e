package authn

import (
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// What is wrong with a new password.
var (
	ErrPasswordShort = errors.New("authn: a password has at least 12 characters")
	ErrPasswordLong  = errors.New("authn: a password has at most 1024 bytes")
	ErrPasswordWeak  = errors.New("authn: this password is too easy to guess")
)

const (
	shortestPassword = 12   // characters
	longestPassword  = 1024 // bytes: hashing must not become a way to keep the server busy
	leastEffort      = 8
	leastDifferent   = 6 // characters
)

// normalizePassword makes a password the same whichever way a keyboard composes its letters (RFC 8265 §4.2).
func normalizePassword(p string) string { return norm.NFC.String(p) }

// checkPassword tells what is wrong with a new password. Nothing is demanded of its characters, only that it is long and
// that an attacker's first tries do not hit it (NIST SP 800-63B §3.1.1.2). personal are words about its owner.
func checkPassword(password string, personal ...string) error {
	if len(password) > longestPassword {
		return ErrPasswordLong
	}
	if utf8.RuneCountInString(password) < shortestPassword {
		return ErrPasswordShort
	}
	plain := skeleton(password)
	var words [][]rune
	for _, p := range personal {
		for _, word := range strings.FieldsFunc(p, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			words = append(words, skeleton(word))
		}
		if whole := skeleton(p); len(whole) >= 4 && index(plain, whole) >= 0 {
			return ErrPasswordWeak
		}
	}
	different := map[rune]bool{}
	for _, r := range password {
		different[r] = true
	}
	if len(different) < leastDifferent || effort(password, words) < leastEffort {
		return ErrPasswordWeak
	}
	return nil
}

// effort counts what an attacker has to guess: a character by itself is one guess, a well-known word, a date, a row of
// keys or a sequence is two however long it is, and what came before is one.
func effort(password string, personal [][]rune) int {
	plain := []rune(strings.ToLower(password))
	bare := skeleton(password)
	guesses := 0
	for i := 0; i < len(bare); {
		length, price := 1, 1
		try := func(l, p int) {
			if l >= 3 && l > length {
				length, price = l, p
			}
		}
		for _, words := range [][][]rune{wellKnown, personal} {
			for _, word := range words {
				if hasPrefix(bare[i:], word) {
					try(len(word), 2)
				}
			}
		}
		for _, row := range rows {
			try(longestIn(plain[i:], row), 2)
		}
		try(sequence(plain[i:]), 2)
		try(year(plain[i:]), 2)
		try(longestIn(plain[i:], plain[:i]), 1)
		guesses += price
		i += length
	}
	return guesses
}

// skeleton is a text without what people change in it to make it look harder.
func skeleton(s string) []rune {
	runes := []rune(strings.ToLower(s))
	for i, r := range runes {
		switch r {
		case '0':
			runes[i] = 'o'
		case '1', 'l', '!', '|':
			runes[i] = 'i'
		case '3':
			runes[i] = 'e'
		case '4', '@':
			runes[i] = 'a'
		case '5', '$':
			runes[i] = 's'
		case '7', '+':
			runes[i] = 't'
		case '8':
			runes[i] = 'b'
		}
	}
	return runes
}

// sequence is the length of a run such as aaaa, abcd or 4321.
func sequence(s []rune) int {
	if len(s) < 2 {
		return len(s)
	}
	step := s[1] - s[0]
	if step < -1 || step > 1 {
		return 1
	}
	n := 2
	for n < len(s) && s[n]-s[n-1] == step {
		n++
	}
	return n
}

func year(s []rune) int {
	if len(s) < 4 || !(s[0] == '1' && s[1] == '9' || s[0] == '2' && s[1] == '0') || !unicode.IsDigit(s[2]) || !unicode.IsDigit(s[3]) {
		return 0
	}
	return 4
}

// longestIn is how much of the beginning of s stands somewhere in t.
func longestIn(s, t []rune) int {
	longest := 0
	for i := range t {
		n := 0
		for n < len(s) && i+n < len(t) && s[n] == t[i+n] {
			n++
		}
		longest = max(longest, n)
	}
	return longest
}

func hasPrefix(s, prefix []rune) bool {
	return len(s) >= len(prefix) && slices.Equal(s[:len(prefix)], prefix)
}

func index(s, part []rune) int {
	for i := 0; i+len(part) <= len(s); i++ {
		if hasPrefix(s[i:], part) {
			return i
		}
	}
	return -1
}

// rows of keys, in both directions.
var rows = func() (rows [][]rune) {
	for _, row := range []string{"qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "yxcvbnm", "azertyuiop", "qsdfghjklm", "wxcvbn",
		"1234567890", "qazwsxedcrfvtgbyhnujmikolp", "1qaz2wsx3edc4rfv5tgb6yhn7ujm", "1q2w3e4r5t6y7u8i9o0p", "!@#$%^&*()"} {
		forward := []rune(row)
		backward := slices.Clone(forward)
		slices.Reverse(backward)
		rows = append(rows, forward, backward)
	}
	return rows
}()

// wellKnown are the words that lead lists of stolen passwords, and what people who must change theirs put in front of a
// number.
var wellKnown = func() (words [][]rune) {
	for _, word := range strings.Fields(`
		password passwort passw passwd pass pwd secret geheim login letmein welcome willkommen admin administrator root user
		guest test testing default changeme change temp demo master access enter open hello hallo iloveyou ilove loveyou
		love sunshine princess princesa dragon monkey football baseball basketball soccer hockey superman batman starwars
		pokemon naruto shadow michael jordan jennifer jessica ashley daniel thomas robert charlie andrew anthony matthew
		hunter ranger buster killer tigger whatever trustno trust freedom flower summer winter spring autumn january february
		march april june july august september october november december monday tuesday wednesday thursday friday saturday
		sunday bank banking money finance account customer credit mifos fineract countersign internet computer samsung google
		facebook liverpool chelsea arsenal barcelona juventus manchester london paris berlin india kenya nairobi mumbai
		jesus christ blessed angel lovely cookie cheese pepper ginger banana orange purple silver golden diamond mustang
		ferrari porsche mercedes qwerty azerty asdf zxcv abcd abc`) {
		words = append(words, skeleton(word))
	}
	return words
}()
