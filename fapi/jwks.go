package fapi

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeys    = 20   // without a kid every fitting key is tried: this bounds what one request may cost
	minRSABits = 2048 // FAPI 2.0 §5.4.1
	maxRSABits = 8192 // verifying costs with the square of it
)

// prepared is what Prepare works out of the metadata, so that no request has to.
type prepared struct {
	assertionAlgs     []jose.SignatureAlgorithm // alg values a client assertion may have
	requestObjectAlgs []jose.SignatureAlgorithm // and a request object
	keys              map[jose.SignatureAlgorithm][]clientKey
	subject           distinguishedName // tls_client_auth_subject_dn
	sanIP             netip.Addr
	sanURI            string
}

// clientKey is a key that may verify one algorithm.
type clientKey struct {
	kid string
	key any // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey
}

// prepare checks the keys and certificate metadata, and fills c.aux. It returns everything that is wrong.
func (c *Client) prepare() error {
	var wrong []error
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }

	c.aux = prepared{assertionAlgs: c.profile.Algorithms, requestObjectAlgs: c.profile.Algorithms}
	if alg := c.TokenEndpointAuthSigningAlg; alg != "" {
		c.aux.assertionAlgs = []jose.SignatureAlgorithm{alg}
	}
	if alg := c.RequestObjectSigningAlg; alg != "" {
		c.aux.requestObjectAlgs = []jose.SignatureAlgorithm{alg}
	}
	if c.JWKS != nil {
		if err := checkJWKS(c.JWKS); err != nil {
			add("jwks: %w", err)
		} else {
			c.aux.keys = keysByAlgorithm(c.JWKS, c.profile.Algorithms)
		}
	}
	switch c.TokenEndpointAuthMethod {
	case PrivateKeyJWT:
		if c.JWKS == nil || len(c.JWKS.Keys) == 0 {
			add("jwks: private_key_jwt needs the client's public keys (RFC 7523 §2.2)")
		} else if len(wrong) == 0 && !c.canVerify(c.aux.assertionAlgs) {
			add("jwks: no key can verify %v", c.aux.assertionAlgs)
		}
	case SelfSignedTLSClientAuth:
		if c.JWKS == nil || len(c.JWKS.Keys) == 0 {
			add("jwks: self_signed_tls_client_auth needs the client's certificates or their keys (RFC 8705 §2.2.2)")
		}
	case TLSClientAuth:
		if err := c.prepareSubject(); err != nil {
			wrong = append(wrong, err)
		}
	}
	if signs := c.RequireSignedRequestObject || c.RequestObjectSigningAlg != ""; signs && len(wrong) == 0 && !c.canVerify(c.aux.requestObjectAlgs) {
		add("jwks: no key can verify request objects signed with %v (RFC 9101 §6.2)", c.aux.requestObjectAlgs)
	}
	return errors.Join(wrong...)
}

// canVerify tells whether there is a key for one of the algorithms.
func (c *Client) canVerify(algs []jose.SignatureAlgorithm) bool {
	return slices.ContainsFunc(algs, func(alg jose.SignatureAlgorithm) bool { return len(c.aux.keys[alg]) > 0 })
}

// prepareSubject reads the one name that the client's certificate must carry (RFC 8705 §2.1.2).
func (c *Client) prepareSubject() (err error) {
	named := 0
	for _, name := range []string{
		c.TLSClientAuthSubjectDN, c.TLSClientAuthSANDNS, c.TLSClientAuthSANURI, c.TLSClientAuthSANIP, c.TLSClientAuthSANEmail,
	} {
		if name != "" {
			named++
		}
	}
	if named != 1 {
		return fmt.Errorf("tls_client_auth needs exactly one of the tls_client_auth_ names (RFC 8705 §2.1.2), not %d", named)
	}
	switch {
	case c.TLSClientAuthSubjectDN != "":
		if c.aux.subject, err = parseDN(c.TLSClientAuthSubjectDN); err != nil {
			return fmt.Errorf("tls_client_auth_subject_dn: %w", err)
		}
	case c.TLSClientAuthSANIP != "":
		if c.aux.sanIP, err = netip.ParseAddr(c.TLSClientAuthSANIP); err != nil || c.aux.sanIP.Zone() != "" {
			return fmt.Errorf("tls_client_auth_san_ip: %q is not an IP address", c.TLSClientAuthSANIP)
		}
		c.aux.sanIP = c.aux.sanIP.Unmap()
	case c.TLSClientAuthSANURI != "":
		u, err := url.Parse(c.TLSClientAuthSANURI)
		if err != nil || !u.IsAbs() {
			return fmt.Errorf("tls_client_auth_san_uri: %q is not an absolute URI", c.TLSClientAuthSANURI)
		}
		c.aux.sanURI = u.String() // certificates are compared as Go prints them
	}
	return nil
}

// checkJWKS returns everything that is wrong with a client's key set.
func checkJWKS(set *jose.JSONWebKeySet) error {
	if len(set.Keys) > maxKeys {
		return fmt.Errorf("%d keys are too many: %d at most", len(set.Keys), maxKeys)
	}
	var wrong []error
	kids := make(map[string]bool, len(set.Keys))
	for i := range set.Keys {
		k := &set.Keys[i]
		if err := checkKey(k.Key); err != nil {
			wrong = append(wrong, fmt.Errorf("key %d (kid %q): %w", i+1, k.KeyID, err))
		}
		if k.KeyID != "" && kids[k.KeyID] {
			wrong = append(wrong, fmt.Errorf("kid %q is there twice (RFC 7517 §4.5)", k.KeyID))
		}
		kids[k.KeyID] = true
	}
	return errors.Join(wrong...)
}

// checkKey accepts public keys that are strong enough (FAPI 2.0 §5.4.1), and nothing else.
func checkKey(key any) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N == nil || k.N.BitLen() < minRSABits || k.N.BitLen() > maxRSABits || k.E < 3 || k.E%2 == 0 {
			return fmt.Errorf("an RSA key needs %d to %d bits and an odd exponent", minRSABits, maxRSABits)
		}
		return nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return errors.New("an EC key must be on P-256, P-384 or P-521")
		}
		return nil
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return errors.New("an Ed25519 key has 32 bytes")
		}
		return nil
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
		return errors.New("this is a private key: the server must not know it")
	case []byte:
		return errors.New("symmetric keys are not accepted")
	}
	return errors.New("not a public RSA, EC or Ed25519 key")
}

// keysByAlgorithm sorts the keys by the algorithms that they can verify. A key for two algorithms is there twice.
func keysByAlgorithm(set *jose.JSONWebKeySet, algs []jose.SignatureAlgorithm) map[jose.SignatureAlgorithm][]clientKey {
	keys := make(map[jose.SignatureAlgorithm][]clientKey)
	for i := range set.Keys {
		k := &set.Keys[i]
		for _, alg := range algs {
			if verifies(k, alg) {
				keys[alg] = append(keys[alg], clientKey{kid: k.KeyID, key: k.Key})
			}
		}
	}
	return keys
}

// verifies tells whether kty, crv, alg and use of a key agree with the algorithm (RFC 7517 §4).
func verifies(k *jose.JSONWebKey, alg jose.SignatureAlgorithm) bool {
	if k.Use != "" && k.Use != "sig" {
		return false
	}
	if k.Algorithm != "" && k.Algorithm != string(alg) &&
		!(alg == jose.EdDSA && k.Algorithm == "Ed25519") { // RFC 9864 §2.2 gave the algorithm that name
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return slices.Contains([]jose.SignatureAlgorithm{jose.PS256, jose.PS384, jose.PS512, jose.RS256, jose.RS384, jose.RS512}, alg)
	case *ecdsa.PublicKey:
		return alg == jose.ES256 && key.Curve == elliptic.P256() ||
			alg == jose.ES384 && key.Curve == elliptic.P384() ||
			alg == jose.ES512 && key.Curve == elliptic.P521()
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	}
	return false
}

// keysFor returns the client's keys that may have made a signature: the one with that kid, or all that fit the
// algorithm when the signature names none. A kid that is not there is never guessed around.
func (c *Client) keysFor(kid string, alg jose.SignatureAlgorithm) []clientKey {
	keys := c.aux.keys[alg]
	if kid == "" {
		return keys
	}
	for i := range keys {
		if keys[i].kid == kid {
			return keys[i : i+1]
		}
	}
	return nil
}

// privateMembers are the JWK members that only a private or symmetric key has (RFC 7518 §6, RFC 9964).
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}

// readRawJWKS takes from a key set as it was written what jose.JSONWebKey drops: stray private members are refused, and
// a key whose key_ops are without verify is kept as one that verifies nothing.
func readRawJWKS(raw json.RawMessage, set *jose.JSONWebKeySet) error {
	var written struct {
		Keys []map[string]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &written); err != nil || len(written.Keys) != len(set.Keys) {
		return errors.New("jwks: not a JWK Set (RFC 7517 §5)")
	}
	var wrong []error
	for i, key := range written.Keys {
		for _, name := range privateMembers {
			if _, ok := key[name]; ok {
				wrong = append(wrong, fmt.Errorf("jwks: key %d has the private or symmetric member %q: the server must not know it", i+1, name))
			}
		}
		if text, ok := key["key_ops"]; ok {
			var ops []string
			err := json.Unmarshal(text, &ops)
			switch verify := slices.Contains(ops, "verify"); {
			case err != nil || set.Keys[i].Use != "" && verify != (set.Keys[i].Use == "sig"):
				wrong = append(wrong, fmt.Errorf("jwks: key %d: key_ops and use disagree (RFC 7517 §4.3)", i+1))
			case !verify:
				set.Keys[i].Use = "enc"
			}
		}
	}
	return errors.Join(wrong...)
}

// verifySignature returns the payload of what the client has signed with one of its registered keys. known tells whether
// a key fits kid and alg at all.
func (c *Client) verifySignature(jws *jose.JSONWebSignature, header *jose.Header) (payload []byte, known bool, err error) {
	keys := c.keysFor(header.KeyID, jose.SignatureAlgorithm(header.Algorithm))
	for i := range keys {
		if payload, err = jws.Verify(keys[i].key); err == nil {
			break
		}
	}
	return payload, len(keys) > 0, err
}
