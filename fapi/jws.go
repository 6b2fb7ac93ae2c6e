package fapi

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4"
	strict "github.com/go-jose/go-jose/v4/json" // exact member names, duplicates refused
)

// parseJWS reads a JWS in compact form. Nothing is verified yet.
func parseJWS(token string, limit int, algs []jose.SignatureAlgorithm) (*jose.JSONWebSignature, *jose.Header, error) {
	if err := checkCompact(token, limit, 3); err != nil {
		return nil, nil, err
	}
	jws, err := jose.ParseSignedCompact(token, algs)
	if err != nil {
		return nil, nil, err
	}
	header := &jws.Signatures[0].Protected
	// go-jose knows b64 (RFC 7797); no JWT here may change how it is to be read (RFC 7515 §4.1.11).
	if _, ok := header.ExtraHeaders["crit"]; ok {
		return nil, nil, errors.New("crit is not supported")
	}
	return jws, header, nil
}

// parseJWE reads a JWE in compact form. Nothing is decrypted yet.
func parseJWE(token string, limit int, algs []jose.KeyAlgorithm, encs []jose.ContentEncryption) (*jose.JSONWebEncryption, error) {
	if err := checkCompact(token, limit, 5); err != nil {
		return nil, err
	}
	jwe, err := jose.ParseEncryptedCompact(token, algs, encs)
	if err != nil {
		return nil, err
	}
	for _, name := range []jose.HeaderKey{"crit", "zip"} { // nothing here may grow while it is read
		if _, ok := jwe.Header.ExtraHeaders[name]; ok {
			return nil, fmt.Errorf("%s is not supported", name)
		}
	}
	return jwe, nil
}

// checkCompact refuses what is no compact JWS (3 parts) or JWE (5) before anything is decoded. Go's base64 decoder would
// skip line breaks.
func checkCompact(token string, limit, parts int) error {
	if token == "" || len(token) > limit {
		return errors.New("empty or too long")
	}
	dots := 0
	for i := range len(token) {
		c := token[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		case c == '.':
			dots++
		default:
			return errors.New("not in compact form")
		}
	}
	if dots+1 != parts {
		return fmt.Errorf("not %d parts", parts)
	}
	return nil
}

// jwtType returns the typ header, without what RFC 7515 §4.1.9 allows to leave out or write differently.
func jwtType(header *jose.Header) string {
	typ, _ := header.ExtraHeaders[jose.HeaderType].(string)
	return strings.TrimPrefix(strings.ToLower(typ), "application/")
}

// numericDate is seconds since 1970 (RFC 7519 §2). 0 is absent.
type numericDate int64

const year10000 = 253402300800

func (d *numericDate) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	seconds, err := strconv.ParseFloat(string(text), 64) // a fraction is allowed
	if err != nil || seconds < 1 || seconds >= year10000 {
		return errors.New("not a NumericDate")
	}
	*d = numericDate(seconds)
	return nil
}

// audience is an aud claim (RFC 7519 §4.1.3), and whether it was written as an array.
type audience struct {
	values []string
	array  bool
}

func (a *audience) UnmarshalJSON(text []byte) error {
	if text[0] == '[' {
		a.array = true
		return strict.Unmarshal(text, &a.values)
	}
	a.values = make([]string, 1)
	return strict.Unmarshal(text, &a.values[0])
}
