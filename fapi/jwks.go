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
	"sync/atomic"

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
	backchannelAlgs   []jose.SignatureAlgorithm // and a signed CIBA request
	keys              *atomic.Pointer[keyRing]  // never nil, and it never holds nil
	subject           distinguishedName         // tls_client_auth_subject_dn
	sanIP             netip.Addr
	sanURI            string
}

// keyRing is a client's public keys, as registered or as last fetched, and sorted by what they verify.
type keyRing struct {
	set    jose.JSONWebKeySet
	verify map[jose.SignatureAlgorithm][]clientKey
}

// clientKey is a key that may verify one algorithm.
type clientKey struct {
	kid string
	key any // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey
}

// ErrUnknownKey is in every refusal that another key of the client might have averted: none that is known fits, or the
// signature names none and is of none. A client that registered a jwks_uri may have a new one there.
var ErrUnknownKey = errors.New("no known key of the client")

// prepare checks the keys and certificate metadata, and fills c.aux. It returns everything that is wrong.
func (c *Client) prepare() error {
	var wrong []error
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }

	c.aux = prepared{assertionAlgs: c.profile.Algorithms, requestObjectAlgs: c.profile.Algorithms, backchannelAlgs: c.profile.Algorithms, keys: &atomic.Pointer[keyRing]{}}
	c.aux.keys.Store(&keyRing{})
	if alg := c.TokenEndpointAuthSigningAlg; alg != "" {
		c.aux.assertionAlgs = []jose.SignatureAlgorithm{alg}
	}
	if alg := c.RequestObjectSigningAlg; alg != "" {
		c.aux.requestObjectAlgs = []jose.SignatureAlgorithm{alg}
	}
	if alg := c.BackchannelAuthenticationRequestSigningAlg; alg != "" {
		c.aux.backchannelAlgs = []jose.SignatureAlgorithm{alg}
	}
	if c.JWKS != nil {
		if err := checkJWKS(c.JWKS); err != nil {
			add("jwks: %w", err)
		} else {
			c.setKeys(*c.JWKS)
		}
	}
	known := c.JWKSURI == "" // what is fetched later is not judged now
	keyless := known && (c.JWKS == nil || len(c.JWKS.Keys) == 0)
	switch c.TokenEndpointAuthMethod {
	case PrivateKeyJWT:
		if keyless {
			add("jwks: private_key_jwt needs the client's public keys (RFC 7523 §2.2)")
		} else if known && len(wrong) == 0 && !c.canVerify(c.aux.assertionAlgs) {
			add("jwks: no key can verify %v", c.aux.assertionAlgs)
		}
	case SelfSignedTLSClientAuth:
		if keyless {
			add("jwks: self_signed_tls_client_auth needs the client's certificates or their keys (RFC 8705 §2.2.2)")
		}
	case TLSClientAuth:
		if err := c.prepareSubject(); err != nil {
			wrong = append(wrong, err)
		}
	}
	if signs := c.MustSignRequests() || c.RequestObjectSigningAlg != ""; signs && known && len(wrong) == 0 && !c.canVerify(c.aux.requestObjectAlgs) {
		add("jwks: no key can verify request objects signed with %v (RFC 9101 §6.2)", c.aux.requestObjectAlgs)
	}
	if c.signsBackchannel() && known && len(wrong) == 0 && !c.canVerify(c.aux.backchannelAlgs) {
		add("jwks: no key can verify authentication requests signed with %v (CIBA Core §7.1.1)", c.aux.backchannelAlgs)
	}
	return errors.Join(wrong...)
}

// canVerify tells whether there is a key for one of the algorithms.
func (c *Client) canVerify(algs []jose.SignatureAlgorithm) bool {
	verify := c.keys().verify
	return slices.ContainsFunc(algs, func(alg jose.SignatureAlgorithm) bool { return len(verify[alg]) > 0 })
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
func keysByAlgorithm(set jose.JSONWebKeySet, algs []jose.SignatureAlgorithm) map[jose.SignatureAlgorithm][]clientKey {
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

// keys returns what is known of the client's keys now.
func (c *Client) keys() *keyRing { return c.aux.keys.Load() }

func (c *Client) setKeys(set jose.JSONWebKeySet) {
	c.aux.keys.Store(&keyRing{set, keysByAlgorithm(set, c.profile.Algorithms)})
}

// SetKeys replaces the keys of a client by the JWK Set that its jwks_uri holds now. Those that nothing here is done with
// are left out (RFC 7517 §5); a set that is wrong as a registered one may not be is refused, and the old keys stay.
func (c *Client) SetKeys(document []byte) error {
	set, err := parseJWKS(document)
	if err == nil {
		err = checkJWKS(set)
	}
	if err != nil {
		return fmt.Errorf("the keys at the jwks_uri: %w", err)
	}
	c.setKeys(*set)
	return nil
}

// ForgetKeys empties what SetKeys has set.
func (c *Client) ForgetKeys() { c.setKeys(jose.JSONWebKeySet{}) }

// ShareKeys makes the client use the keys that were fetched for an earlier version of it, now and when they are fetched
// anew. It returns false, and does nothing, if the two do not have them from the same place for the same algorithms.
func (c *Client) ShareKeys(earlier *Client) bool {
	if c.JWKSURI == "" || c.JWKSURI != earlier.JWKSURI || c.profile != earlier.profile {
		return false
	}
	c.aux.keys = earlier.aux.keys
	return true
}

// Encrypts tells whether something is encrypted to the client.
func (c *Client) Encrypts() bool {
	return c.IDTokenEncryptedResponseAlg != "" || c.UserInfoEncryptedResponseAlg != "" ||
		c.AuthorizationEncryptedResponseAlg != "" || c.IntrospectionEncryptedResponseAlg != ""
}

// encryptionKey returns the key with which something is encrypted to the client (OpenID Connect Core §10.2): one that
// says that it is for that, else one that does not say what it is for.
func (c *Client) encryptionKey(alg jose.KeyAlgorithm) (jose.JSONWebKey, bool) {
	set := c.keys().set
	for _, use := range []string{"enc", ""} {
		for i := range set.Keys {
			if k := &set.Keys[i]; k.Use == use && encrypts(k, alg) {
				return *k, true
			}
		}
	}
	return jose.JSONWebKey{}, false
}

// encrypts tells whether kty, crv and alg of a key agree with the algorithm (RFC 7517 §4).
func encrypts(k *jose.JSONWebKey, alg jose.KeyAlgorithm) bool {
	if k.Algorithm != "" && k.Algorithm != string(alg) {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return alg == jose.RSA_OAEP_256
	case *ecdsa.PublicKey:
		return alg == jose.ECDH_ES && key.Curve == elliptic.P256()
	}
	return false
}

// keysFor returns the client's keys that may have made a signature: the one with that kid, or all that fit the
// algorithm when the signature names none. A kid that is not there is never guessed around.
func (c *Client) keysFor(kid string, alg jose.SignatureAlgorithm) []clientKey {
	keys := c.keys().verify[alg]
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

// parseJWKS reads a JWK Set that was fetched. Keys of kinds, curves and sizes that are not known here are left out
// (RFC 7517 §5).
func parseJWKS(document []byte) (*jose.JSONWebKeySet, error) {
	if _, err := checkJSON(document); err != nil {
		return nil, err
	}
	var written struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &written); err != nil || written.Keys == nil {
		return nil, errors.New("not a JWK Set (RFC 7517 §5)")
	}
	if len(written.Keys) > maxKeys {
		return nil, fmt.Errorf("%d keys are too many: %d at most", len(written.Keys), maxKeys)
	}
	set := &jose.JSONWebKeySet{}
	for _, text := range written.Keys {
		var one jose.JSONWebKey
		read := one.UnmarshalJSON(text)
		if err := readRawKey(text, &one); err != nil {
			return nil, err
		}
		if read == nil && checkKey(one.Key) == nil {
			set.Keys = append(set.Keys, one)
		}
	}
	return set, nil
}

// readRawJWKS takes from a key set as it was written what jose.JSONWebKey drops: stray private members are refused, and
// a key whose key_ops are without verify is kept as one that verifies nothing.
func readRawJWKS(raw json.RawMessage, set *jose.JSONWebKeySet) error {
	var written struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &written); err != nil || len(written.Keys) != len(set.Keys) {
		return errors.New("jwks: not a JWK Set (RFC 7517 §5)")
	}
	var wrong []error
	for i, text := range written.Keys {
		if err := readRawKey(text, &set.Keys[i]); err != nil {
			wrong = append(wrong, fmt.Errorf("jwks: key %d: %w", i+1, err))
		}
	}
	return errors.Join(wrong...)
}

func readRawKey(text json.RawMessage, key *jose.JSONWebKey) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return errors.New("not a JWK (RFC 7517 §4)")
	}
	for _, name := range privateMembers {
		if _, ok := members[name]; ok {
			return fmt.Errorf("it has the private or symmetric member %q: the server must not know it", name)
		}
	}
	written, ok := members["key_ops"]
	if !ok {
		return nil
	}
	var ops []string
	err := json.Unmarshal(written, &ops)
	switch verify := slices.Contains(ops, "verify"); {
	case err != nil || key.Use != "" && verify != (key.Use == "sig"):
		return errors.New("key_ops and use disagree (RFC 7517 §4.3)")
	case verify:
		key.Use = "sig"
	default:
		key.Use = "enc"
	}
	return nil
}

// verifySignature returns the payload of what the client has signed with one of its keys. An error without ErrUnknownKey
// is about the signature.
func (c *Client) verifySignature(jws *jose.JSONWebSignature, header *jose.Header) ([]byte, error) {
	keys := c.keysFor(header.KeyID, jose.SignatureAlgorithm(header.Algorithm))
	if len(keys) == 0 {
		return nil, ErrUnknownKey
	}
	var wrong error
	for i := range keys {
		payload, err := jws.Verify(keys[i].key)
		if err == nil {
			return payload, nil
		}
		wrong = err
	}
	if header.KeyID == "" {
		wrong = errors.Join(wrong, ErrUnknownKey)
	}
	return nil, wrong
}
