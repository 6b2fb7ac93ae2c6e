package authn

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go"
	"golang.org/x/text/unicode/norm"
)

// What is wrong with a new password.
var (
	ErrPasswordShort = errors.New("authn: a password has at least 12 characters")
	ErrPasswordLong  = errors.New("authn: a password has at most 1024 bytes")
	ErrPasswordWeak  = errors.New("authn: this password is too easy to guess, or others have had it stolen")
)

const (
	shortestPassword = 12   // characters
	longestPassword  = 1024 // bytes: hashing must not become a way to keep the server busy
	leastDifferent   = 6    // characters
	leastEntropy     = 35   // bits, by zxcvbn: an attacker who knows how people choose needs that many tries, 2 to the power of it
	judged           = 64   // characters, of the beginning: what judging takes grows faster than the password
)

// normalizePassword makes a password the same whichever way a keyboard composes its letters (RFC 8265 §4.2).
func normalizePassword(p string) string { return norm.NFC.String(p) }

// everywhere are words that an attacker of any bank here tries.
var everywhere = []string{"fineract", "mifos", "countersign", "bank", "banking"}

// checkPassword tells what is wrong with a new password. Nothing is demanded of its characters, only that it is long and
// that an attacker's first tries do not hit it (NIST SP 800-63B §3.1.1.2). personal are words about its owner.
func checkPassword(password string, personal ...string) error {
	if len(password) > longestPassword {
		return ErrPasswordLong
	}
	if utf8.RuneCountInString(password) < shortestPassword {
		return ErrPasswordShort
	}
	if guessable(password, personal...) || leaked.has(password) {
		return ErrPasswordWeak
	}
	return nil
}

// guessable tells whether a password is made of what people make passwords of.
func guessable(password string, personal ...string) bool {
	words := everywhere
	for _, p := range personal {
		p = strings.ToLower(p)
		words = append(words, p)
		words = append(words, strings.FieldsFunc(p, func(r rune) bool { return strings.ContainsRune(" .-_@", r) })...)
	}
	unit := []rune(strings.ToLower(password))
	unit = repeated(unit[:min(len(unit), judged)])
	different := map[rune]bool{}
	for _, r := range unit {
		different[r] = true
	}
	if len(different) < leastDifferent {
		return true
	}
	return zxcvbn.PasswordStrength(string(unit), words).Entropy < leastEntropy
}

// repeated is what s is made of if it is the same again and again, whole or cut off at the end; else s itself.
func repeated(s []rune) []rune {
	for n := 1; n <= len(s)/2; n++ {
		same := true
		for i := n; i < len(s) && same; i++ {
			same = s[i] == s[i-n]
		}
		if same {
			return s[:n]
		}
	}
	return s
}
