package fapi

import (
	"strings"
	"testing"
)

func TestVerifierMatches(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, verifier string
		want           bool
	}{
		{"43 characters", strings.Repeat("a", 43), true},
		{"42 characters", strings.Repeat("a", 42), false},
		{"128 characters", strings.Repeat("a", 128), true},
		{"129 characters", strings.Repeat("a", 129), false},
		{"all unreserved characters", "abcdefghijklmnopqrstuvwxyz0123456789-._~ABCDEFGHIJKLMNOPQRSTUVWXYZ", true},
		{"another character", strings.Repeat("a", 43) + "+", false},
		{"nothing", "", false},
	} {
		t.Run("RFC 7636 §4.1: "+test.name, func(t *testing.T) {
			t.Parallel()
			if got := VerifierMatches(s256(test.verifier), test.verifier); got != test.want {
				t.Errorf("VerifierMatches is %v", got)
			}
			if VerifierMatches("", test.verifier) || VerifierMatches(challenge, test.verifier) {
				t.Error("RFC 7636 §4.6: it matches another challenge")
			}
		})
	}
}
