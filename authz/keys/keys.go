// Package keys holds the keys with which the server signs, and those by which others encrypt to it: how they are made,
// which one is used now, which are published.
//
// Each algorithm has one current key and one next, which is published before it signs, so that a rotation never meets a
// relying party that has not seen the key. A retired key stays published while something it signed may be valid. What
// clients sign does not belong here (package fapi).
package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/storage"
)

// PublishedAfterRotation is how long a retired key stays published. Nothing that we sign lives longer.
const PublishedAfterRotation = 24 * time.Hour

// RotateAfter is the age at which a current key gives way to the next one.
const RotateAfter = 90 * 24 * time.Hour

// AllAlgorithms are those that the server can sign with, in the order in which it offers them.
var AllAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA, jose.RS256}

// Set is the server's keys. It is safe for concurrent use; Load replaces what it holds.
type Set struct {
	db         *storage.DB
	algorithms []jose.SignatureAlgorithm
	encryption []jose.KeyAlgorithm
	current    atomic.Pointer[snapshot]
}

type snapshot struct {
	signers   map[signerName]jose.Signer
	public    map[string]jose.JSONWebKey // by kid
	former    map[string]jose.JSONWebKey // published no longer: they verify only what comes back to us
	decrypt   map[string]decryptionKey   // by kid
	document  []byte
	activated map[string]time.Time // by algorithm
}

// signerName: a signer is made once for each type of JWT, because go-jose fixes the header in it.
type signerName struct {
	alg jose.SignatureAlgorithm
	typ string
}

// Types of the JWTs that the server makes.
const (
	TypeIDToken       = "JWT"
	TypeAccessToken   = "at+jwt"                  // RFC 9068 §2.1
	TypeIntrospection = "token-introspection+jwt" // RFC 9701 §5
	TypeLogout        = "logout+jwt"              // OpenID Connect Back-Channel Logout §2.4
	// TypeResponse is that of authorization responses and of userinfo: none. JARM and OpenID Connect name none, clients take
	// no other than JWT or none, and without it neither is ever mistaken for an ID token here.
	TypeResponse = ""
)

var types = []string{TypeIDToken, TypeAccessToken, TypeIntrospection, TypeLogout, TypeResponse}

// Open loads the keys of the database, and makes those that the algorithms miss, of signing and of encryption.
func Open(ctx context.Context, db *storage.DB, algorithms []jose.SignatureAlgorithm, encryption ...jose.KeyAlgorithm) (*Set, error) {
	s := &Set{db: db, algorithms: algorithms, encryption: encryption}
	stored, err := db.ListSigningKeys(ctx)
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, k := range stored {
		have[k.Alg+" "+k.State] = true
	}
	for _, alg := range s.all() {
		for _, state := range []string{storage.KeyCurrent, storage.KeyNext} {
			if have[alg+" "+state] {
				continue
			}
			k, err := generate(alg, state)
			if err != nil {
				return nil, err
			}
			if err := db.AddSigningKey(ctx, k); err != nil {
				return nil, err
			}
		}
	}
	return s, s.Load(ctx)
}

// all names the algorithms that need keys.
func (s *Set) all() []string {
	var names []string
	for _, alg := range s.algorithms {
		names = append(names, string(alg))
	}
	for _, alg := range s.encryption {
		names = append(names, string(alg))
	}
	return names
}

// Load reads the keys anew, after a rotation.
func (s *Set) Load(ctx context.Context) error {
	stored, err := s.db.ListSigningKeys(ctx)
	if err != nil {
		return err
	}
	snap := &snapshot{signers: map[signerName]jose.Signer{}, public: map[string]jose.JSONWebKey{}, former: map[string]jose.JSONWebKey{}, decrypt: map[string]decryptionKey{}, activated: map[string]time.Time{}}
	var document jose.JSONWebKeySet
	for _, k := range stored {
		parsed, err := x509.ParsePKCS8PrivateKey(k.PKCS8)
		if err != nil {
			return fmt.Errorf("signing key %s: %w", k.KID, err)
		}
		private, over := parsed.(crypto.Signer), k.PublishedUntil != nil && k.PublishedUntil.Before(time.Now())
		public := jose.JSONWebKey{Key: private.Public(), KeyID: k.KID, Algorithm: k.Alg, Use: "sig"}
		switch {
		case isEncryption(k.Alg):
			if !over {
				snap.addEncryption(k, private, &document)
			}
		case over:
			snap.former[k.KID] = public
		default:
			snap.public[k.KID] = public
			document.Keys = append(document.Keys, public)
			if err := snap.addSigners(k, private); err != nil {
				return fmt.Errorf("signing key %s: %w", k.KID, err)
			}
		}
		if k.State == storage.KeyCurrent && k.ActivatedAt != nil {
			snap.activated[k.Alg] = *k.ActivatedAt
		}
	}
	if snap.document, err = json.Marshal(document); err != nil {
		return err
	}
	s.current.Store(snap)
	return nil
}

// addSigners makes the signers of a key if it is the current one: one for each type of JWT.
func (snap *snapshot) addSigners(k storage.SigningKey, private crypto.Signer) error {
	if k.State != storage.KeyCurrent {
		return nil
	}
	alg := jose.SignatureAlgorithm(k.Alg)
	for _, typ := range types {
		options := &jose.SignerOptions{}
		if typ != TypeResponse {
			options.WithType(jose.ContentType(typ))
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: private, KeyID: k.KID}}, options)
		if err != nil {
			return err
		}
		snap.signers[signerName{alg, typ}] = signer
	}
	return nil
}

// Algorithms returns those that the server signs with.
func (s *Set) Algorithms() []jose.SignatureAlgorithm { return s.algorithms }

// JWKS returns the key set document (RFC 7517 §5).
func (s *Set) JWKS() []byte { return s.current.Load().document }

// Sign makes a JWT of the claims.
func (s *Set) Sign(alg jose.SignatureAlgorithm, typ string, claims any) (string, error) {
	signer, ok := s.current.Load().signers[signerName{alg, typ}]
	if !ok {
		return "", fmt.Errorf("keys: no key signs %s with %s", typ, alg)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// ErrNotOurs is returned for a JWT that no published key of ours signed, or that is of another type.
var ErrNotOurs = errors.New("keys: not signed by this server")

// Verify returns the claims of a JWT of that type that this server signed.
func (s *Set) Verify(token, typ string) ([]byte, error) {
	return s.verify(token, typ, s.current.Load().public)
}

// VerifyHint returns the claims of an ID token that this server signed, by a key that is published no longer too: a hint
// may be as old as the session that it ends (OpenID Connect RP-Initiated Logout §4).
func (s *Set) VerifyHint(token string) ([]byte, error) {
	snap := s.current.Load()
	return s.verify(token, TypeIDToken, snap.public, snap.former)
}

func (s *Set) verify(token, typ string, keys ...map[string]jose.JSONWebKey) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, s.algorithms)
	if err != nil {
		return nil, ErrNotOurs
	}
	header := jws.Signatures[0].Protected
	if header.ExtraHeaders[jose.HeaderType] != typ {
		return nil, ErrNotOurs
	}
	i := slices.IndexFunc(keys, func(set map[string]jose.JSONWebKey) bool { _, ok := set[header.KeyID]; return ok })
	if i < 0 {
		return nil, ErrNotOurs
	}
	key := keys[i][header.KeyID]
	if key.Algorithm != header.Algorithm {
		return nil, ErrNotOurs
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return nil, ErrNotOurs
	}
	return payload, nil
}

// Rotate makes the next key of an algorithm sign. It returns storage.ErrConflict when another replica did it meanwhile.
func (s *Set) Rotate(ctx context.Context, alg jose.SignatureAlgorithm) error {
	return s.rotate(ctx, string(alg))
}

func (s *Set) rotate(ctx context.Context, alg string) error {
	next, err := generate(alg, storage.KeyNext)
	if err != nil {
		return err
	}
	if err := s.db.RotateSigningKey(ctx, next, PublishedAfterRotation); err != nil {
		return err
	}
	return s.Load(ctx)
}

// RotateDue rotates the keys that have been in use for longer than RotateAfter.
func (s *Set) RotateDue(ctx context.Context, now time.Time) error {
	for alg, since := range s.current.Load().activated {
		if now.Sub(since) < RotateAfter {
			continue
		}
		if err := s.rotate(ctx, alg); err != nil && !errors.Is(err, storage.ErrConflict) {
			return err
		}
	}
	return nil
}

func generate(alg, state string) (storage.SigningKey, error) {
	var private crypto.Signer
	var err error
	switch alg {
	case string(jose.ES256), string(jose.ECDH_ES):
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case string(jose.EdDSA):
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case string(jose.PS256), string(jose.RS256), string(jose.RSA_OAEP_256):
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		err = fmt.Errorf("keys: no generator for %s", alg)
	}
	if err != nil {
		return storage.SigningKey{}, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return storage.SigningKey{}, err
	}
	print, err := (&jose.JSONWebKey{Key: private.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		return storage.SigningKey{}, err
	}
	return storage.SigningKey{KID: base64.RawURLEncoding.EncodeToString(print[:12]), Alg: alg, State: state, PKCS8: pkcs8}, nil
}
