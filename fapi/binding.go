package fapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
)

// Confirmation is a cnf claim (RFC 7800): what the presenter of a token must prove to have.
type Confirmation struct {
	X5TS256 string `json:"x5t#S256,omitempty"` // RFC 8705 §3.1
	JKT     string `json:"jkt,omitempty"`      // RFC 9449 §6.1
}

// Empty tells whether nothing is to be proved: a bearer token.
func (k Confirmation) Empty() bool { return k.X5TS256 == "" && k.JKT == "" }

// Matches tells whether proof holds everything that k asks for. Nothing asked is always met.
func (k Confirmation) Matches(proof Confirmation) bool {
	return confirmed(k.X5TS256, proof.X5TS256) && confirmed(k.JKT, proof.JKT)
}

func confirmed(want, have string) bool {
	return want == "" || subtle.ConstantTimeCompare([]byte(want), []byte(have)) == 1
}

// CertificateThumbprint is the x5t#S256 of a certificate (RFC 8705 §3.1).
func CertificateThumbprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
