package fapi

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/go-jose/go-jose/v4"
)

// httpAlgorithm is an algorithm of message signatures. The key says which: the JWS algorithms of FAPI 2.0 §5.4.1 over
// the signature base (RFC 9421 §3.3.7), for which there is no alg parameter; and those of the RFC's own that are as strong.
// RSA with PKCS #1 v1.5 and shared secrets are not accepted.
type httpAlgorithm struct {
	jws    jose.SignatureAlgorithm
	name   string // alg parameter (RFC 9421 §6.2.2); "": none
	verify func(key any, base, signature []byte) bool
}

var httpAlgorithms = []httpAlgorithm{
	{jose.ES256, "ecdsa-p256-sha256", verifyP256}, // RFC 9421 §3.3.4: the same as RFC 7518 §3.4
	{jose.EdDSA, "ed25519", func(key any, base, signature []byte) bool {
		return ed25519.Verify(key.(ed25519.PublicKey), base, signature)
	}},
	{jose.PS256, "", func(key any, base, signature []byte) bool {
		sum := sha256.Sum256(base)
		return rsa.VerifyPSS(key.(*rsa.PublicKey), crypto.SHA256, sum[:], signature, &rsa.PSSOptions{SaltLength: sha256.Size}) == nil
	}},
	{jose.PS512, "rsa-pss-sha512", func(key any, base, signature []byte) bool { // RFC 9421 §3.3.1: the same as RFC 7518 §3.5
		sum := sha512.Sum512(base)
		return rsa.VerifyPSS(key.(*rsa.PublicKey), crypto.SHA512, sum[:], signature, &rsa.PSSOptions{SaltLength: sha512.Size}) == nil
	}},
}

func verifyP256(key any, base, signature []byte) bool {
	const size = 32
	if len(signature) != 2*size {
		return false
	}
	sum := sha256.Sum256(base)
	r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
	return ecdsa.Verify(key.(*ecdsa.PublicKey), sum[:], r, s)
}

// verifyHTTP checks a signature with the keys of that kid. alg is the signature's own parameter, or "": then what the key
// says holds, and an RSA key that says nothing may have used either PSS.
func verifyHTTP(keys *jose.JSONWebKeySet, kid, alg string, base, signature []byte) error {
	fits := false
	for _, key := range keys.Key(kid) {
		if checkKey(key.Key) != nil {
			continue
		}
		for _, a := range httpAlgorithms {
			if !verifies(&key, a.jws) || alg != "" && alg != a.name {
				continue
			}
			if fits = true; a.verify(key.Key, base, signature) {
				return nil
			}
		}
	}
	if !fits {
		return fmt.Errorf("no key %q for the algorithm %q", kid, alg)
	}
	return errors.New("it was not made by that key over this message")
}

// HTTPSigningKey signs messages: a P-256, RSA or Ed25519 key, by which ES256, PS256 or EdDSA is used.
type HTTPSigningKey struct {
	ID     string // the kid under which the other side finds the public key
	Signer crypto.Signer
}

// Check tells what is wrong with the key.
func (k *HTTPSigningKey) Check() error {
	if k.ID == "" || !isSignable(k.ID) {
		return errors.New("the key needs a kid of ASCII characters")
	}
	if k.Signer == nil {
		return errors.New("there is no key")
	}
	public := k.Signer.Public()
	if ec, ok := public.(*ecdsa.PublicKey); ok && ec.Curve != elliptic.P256() {
		return errors.New("an EC key must be on P-256")
	}
	return checkKey(public)
}

func (k *HTTPSigningKey) sign(base []byte) ([]byte, error) {
	sum := sha256.Sum256(base)
	switch k.Signer.Public().(type) {
	case ed25519.PublicKey:
		return k.Signer.Sign(rand.Reader, base, crypto.Hash(0))
	case *rsa.PublicKey:
		return k.Signer.Sign(rand.Reader, sum[:], &rsa.PSSOptions{SaltLength: sha256.Size, Hash: crypto.SHA256})
	}
	der, err := k.Signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var point struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &point); err != nil {
		return nil, err
	}
	signature := make([]byte, 64)
	point.R.FillBytes(signature[:32])
	point.S.FillBytes(signature[32:])
	return signature, nil
}
