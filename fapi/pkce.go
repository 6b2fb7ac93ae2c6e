package fapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// CheckCodeChallenge accepts S256 and nothing else (FAPI 2.0 §5.3.2.2, RFC 9700 §2.1.1). No method means plain (RFC 7636 §4.3).
func CheckCodeChallenge(challenge, method string) error {
	if method != "S256" {
		return Refuse(InvalidRequest, "The code_challenge_method must be S256.")
	}
	if !isSHA256(challenge) {
		return Refuse(InvalidRequest, "The code_challenge must be a SHA-256 hash in base64url.")
	}
	return nil
}

// VerifierMatches tells whether the challenge was made of the verifier (RFC 7636 §4.6).
func VerifierMatches(challenge, verifier string) bool {
	if len(verifier) < 43 || len(verifier) > 128 { // RFC 7636 §4.1
		return false
	}
	for i := range len(verifier) {
		if !unreserved(verifier[i]) {
			return false
		}
	}
	sum := sha256.Sum256([]byte(verifier))
	var text [43]byte
	base64.RawURLEncoding.Encode(text[:], sum[:])
	return subtle.ConstantTimeCompare(text[:], []byte(challenge)) == 1
}

// isSHA256 tells whether text is 32 bytes in base64url, written in the one way.
func isSHA256(text string) bool {
	if len(text) != 43 {
		return false
	}
	sum, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(sum) == sha256.Size
}

// unreserved is the character class of RFC 3986 §2.3.
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}
