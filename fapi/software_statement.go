package fapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// StatementAlgorithms are those that software statements, and login_hint_tokens, may be signed with.
var StatementAlgorithms = []jose.SignatureAlgorithm{jose.PS256, jose.ES256}

// StatementIssuer vouches for software (RFC 7591 §2.3).
type StatementIssuer struct {
	Keys   *jose.JSONWebKeySet
	MaxAge time.Duration // since iat
	// Format makes client metadata of the statement's claims, for directories with names of their own. It may refuse the
	// statement with an Error. nil: the claims are metadata under their registered names.
	Format func(claims Metadata) (Metadata, error)
}

// StatementIssuers are whose software statements count, by their iss.
type StatementIssuers map[string]*StatementIssuer

type statementClaims struct {
	Issuer    string      `json:"iss"`
	IssuedAt  numericDate `json:"iat"`
	NotBefore numericDate `json:"nbf"`
	ExpiresAt numericDate `json:"exp"`
}

var (
	errStatement  = Refuse(InvalidSoftwareStatement, "The software statement is not a JWT that its issuer has signed, or it is not valid now.")
	errUnapproved = Refuse(UnapprovedSoftwareStatement, "The software statement comes from an issuer that is not trusted here.")
)

// ReadStatementKeys reads the JWK Set of an issuer of software statements, or of login_hint_tokens.
func ReadStatementKeys(document []byte) (*jose.JSONWebKeySet, error) {
	set, err := parseJWKS(document)
	if err != nil {
		return nil, err
	}
	if err := checkJWKS(set); err != nil {
		return nil, err
	}
	if len(keysByAlgorithm(*set, StatementAlgorithms)) == 0 {
		return nil, fmt.Errorf("no key for one of %v", StatementAlgorithms)
	}
	return set, nil
}

// Check verifies a software statement and returns the metadata that it vouches for (RFC 7591 §2.3, §3.1.1).
func (s StatementIssuers) Check(statement string, now time.Time) (Metadata, error) {
	jws, header, err := parseJWS(statement, maxStatement, StatementAlgorithms)
	if err != nil {
		return nil, errStatement.Because(err)
	}
	unverified, _, err := readStatement(jws.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, errStatement.Because(err)
	}
	issuer := s[unverified.Issuer]
	if issuer == nil {
		return nil, errUnapproved
	}
	payload, err := verifyWith(issuer.Keys, jws, header)
	if err != nil {
		return nil, errStatement.Because(err)
	}
	claims, all, err := readStatement(payload)
	if err == nil {
		err = claims.checkTime(now, issuer.MaxAge)
	}
	if err != nil {
		return nil, errStatement.Because(err)
	}
	if issuer.Format == nil {
		return all, nil
	}
	return issuer.Format(all)
}

func readStatement(payload []byte) (*statementClaims, Metadata, error) {
	if _, err := checkJSON(payload); err != nil {
		return nil, nil, err
	}
	var all Metadata
	if err := json.Unmarshal(payload, &all); err != nil {
		return nil, nil, err
	}
	var claims statementClaims
	for name, into := range map[string]any{"iss": &claims.Issuer, "iat": &claims.IssuedAt, "nbf": &claims.NotBefore, "exp": &claims.ExpiresAt} {
		if raw, ok := all[name]; ok {
			if err := json.Unmarshal(raw, into); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return &claims, all, nil
}

// verifyWith returns the payload of what an issuer has signed with one of its keys.
func verifyWith(issuer *jose.JSONWebKeySet, jws *jose.JSONWebSignature, header *jose.Header) ([]byte, error) {
	alg := jose.SignatureAlgorithm(header.Algorithm)
	for i := range issuer.Keys {
		key := &issuer.Keys[i]
		if header.KeyID != "" && key.KeyID != header.KeyID || !verifies(key, alg) {
			continue
		}
		if payload, err := jws.Verify(key.Key); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("no key of the issuer verifies it")
}

// checkTime wants to know when a statement was made; one that has an end must not be past it.
func (c *statementClaims) checkTime(now time.Time, maxAge time.Duration) error {
	at := func(d numericDate) time.Time { return time.Unix(int64(d), 0) }
	switch {
	case c.IssuedAt == 0:
		return errors.New("iat is missing")
	case at(c.IssuedAt).After(now.Add(Skew)), c.NotBefore != 0 && at(c.NotBefore).After(now.Add(Skew)):
		return errors.New("it is from the future")
	case now.Sub(at(c.IssuedAt)) > maxAge:
		return fmt.Errorf("it is older than %v", maxAge)
	case c.ExpiresAt != 0 && !now.Before(at(c.ExpiresAt)):
		return errors.New("it has expired")
	}
	return nil
}
