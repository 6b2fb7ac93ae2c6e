package keys

import (
	"context"
	"crypto"
	"errors"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/storage"
)

// Encryption keys are for what is encrypted to the server: request objects (RFC 9101 §6.1). Only the current key of an
// algorithm is published, so that a retired one goes out of use as soon as clients look again (OpenID Connect Core
// §10.2.1). The next one decrypts already, because a replica may hear late that it is current; a retired one decrypts for
// PublishedAfterRotation.

// AllEncryption are the algorithms by which others can encrypt to the server.
var AllEncryption = []jose.KeyAlgorithm{jose.RSA_OAEP_256, jose.ECDH_ES}

// decryptionKey is a private key that decrypts one algorithm.
type decryptionKey struct {
	alg     string
	private crypto.Signer // *rsa.PrivateKey or *ecdsa.PrivateKey
	current bool
}

// isEncryption tells whether the keys of an algorithm encrypt; else they sign.
func isEncryption(alg string) bool {
	return alg == string(jose.RSA_OAEP_256) || alg == string(jose.ECDH_ES)
}

// ErrUndecipherable is returned for a JWE that no key of ours opens.
var ErrUndecipherable = errors.New("keys: not encrypted to this server")

// Decrypt returns what somebody encrypted to the server. It costs one operation with one private key at most: that which
// the kid names, or the current one of the algorithm if there is no kid.
func (s *Set) Decrypt(jwe *jose.JSONWebEncryption) ([]byte, error) {
	key, ok := s.current.Load().decryptionKey(jwe.Header.KeyID, jwe.Header.Algorithm)
	if !ok {
		return nil, ErrUndecipherable
	}
	payload, err := jwe.Decrypt(key.private)
	if err != nil {
		return nil, ErrUndecipherable
	}
	return payload, nil
}

func (snap *snapshot) decryptionKey(kid, alg string) (decryptionKey, bool) {
	if kid != "" {
		key, ok := snap.decrypt[kid]
		return key, ok && key.alg == alg
	}
	for _, key := range snap.decrypt {
		if key.current && key.alg == alg {
			return key, true
		}
	}
	return decryptionKey{}, false
}

// EncryptionAlgorithms returns those by which others can encrypt to the server.
func (s *Set) EncryptionAlgorithms() []jose.KeyAlgorithm { return s.encryption }

// RotateEncryption publishes the next encryption key of an algorithm in place of the current one. It returns
// storage.ErrConflict when another replica did it meanwhile.
func (s *Set) RotateEncryption(ctx context.Context, alg jose.KeyAlgorithm) error {
	return s.rotate(ctx, string(alg))
}

// addEncryption takes a key of the store into the snapshot, and into the published set if it is the current one.
func (snap *snapshot) addEncryption(k storage.SigningKey, private crypto.Signer, document *jose.JSONWebKeySet) {
	current := k.State == storage.KeyCurrent
	snap.decrypt[k.KID] = decryptionKey{k.Alg, private, current}
	if current {
		document.Keys = append(document.Keys, jose.JSONWebKey{Key: private.Public(), KeyID: k.KID, Algorithm: k.Alg, Use: "enc"})
	}
}
