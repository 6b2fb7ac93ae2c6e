package resource

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"
)

const (
	keysFresh  = 5 * time.Minute  // then the set is fetched again, while the old one is still used
	keysUsable = time.Hour        // then it is not used any more: a key may have been withdrawn
	keysPause  = 10 * time.Second // between two fetches: unknown kids must not make us hammer the server
	keysRetry  = time.Second      // after one that failed

	maxKeys    = 100
	minRSABits = 2048 // FAPI 2.0 §5.4.1
	maxRSABits = 8192 // verifying costs with the square of it
)

// verifiable are the algorithms that this package can check. RS256 is for those who ask for it in [Config].Algorithms.
var verifiable = []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA, jose.RS256}

var errUnknownKey = errors.New("the authorization server has no such key")

// keySet is the authorization server's keys (RFC 7517), fetched when they are needed.
type keySet struct {
	fetch  func(context.Context) ([]byte, error)
	now    func() time.Time
	flight singleflight.Group

	mu        sync.Mutex
	keys      map[string]*jose.JSONWebKey // by kid; nil before the first fetch
	fetchedAt time.Time
	triedAt   time.Time
	failure   error // of the last try
}

func (g *Guard) fetchKeys(ctx context.Context) ([]byte, error) {
	if g.metadata.JWKSURI == "" {
		return nil, errors.New("the metadata has no jwks_uri")
	}
	return g.get(ctx, g.metadata.JWKSURI)
}

// find returns the key with that kid, or errUnknownKey. Any other error means that the set could not be had.
func (s *keySet) find(ctx context.Context, kid string) (*jose.JSONWebKey, error) {
	s.mu.Lock()
	key, age := s.keys[kid], s.now().Sub(s.fetchedAt)
	s.mu.Unlock()
	switch {
	case key == nil || age > keysUsable:
		return s.refreshed(ctx, kid)
	case age > keysFresh:
		s.flight.DoChan("", func() (any, error) { return nil, s.refresh(context.WithoutCancel(ctx)) })
	}
	return key, nil
}

func (s *keySet) refreshed(ctx context.Context, kid string) (*jose.JSONWebKey, error) {
	_, err, _ := s.flight.Do("", func() (any, error) { return nil, s.refresh(context.WithoutCancel(ctx)) })
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := s.keys[kid]; key != nil {
		return key, nil
	}
	return nil, errUnknownKey
}

// refresh fetches the set, unless that was just tried: then the outcome of that try stands.
func (s *keySet) refresh(ctx context.Context) error {
	s.mu.Lock()
	pause := keysPause
	if s.failure != nil {
		pause = keysRetry
	}
	now := s.now()
	recent, failure := now.Sub(s.triedAt) < pause, s.failure
	s.mu.Unlock()
	if recent {
		return failure
	}
	document, err := s.fetch(ctx)
	var keys map[string]*jose.JSONWebKey
	if err == nil {
		keys, err = parseKeys(document)
	}
	if err != nil {
		err = fmt.Errorf("keys of the authorization server: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.triedAt, s.failure = now, err
	if err == nil {
		s.keys, s.fetchedAt = keys, now
	}
	return err
}

// parseKeys reads a JWK Set (RFC 7517 §5). Keys that are not for signatures, too weak or of a kind not known here are
// left out, as §5 says; so are those whose kid another one has.
func parseKeys(document []byte) (map[string]*jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, err
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("%d keys are too many", len(set.Keys))
	}
	keys := make(map[string]*jose.JSONWebKey, len(set.Keys))
	var twice []string
	for _, text := range set.Keys {
		key := &jose.JSONWebKey{}
		if err := key.UnmarshalJSON(text); err != nil || key.KeyID == "" || key.Use != "" && key.Use != "sig" {
			continue
		}
		if _, ok := keys[key.KeyID]; ok {
			twice = append(twice, key.KeyID)
		}
		keys[key.KeyID] = key
	}
	for _, kid := range twice {
		delete(keys, kid)
	}
	return keys, nil
}

// verifies tells whether kty, crv and alg of a key agree with the algorithm (RFC 7517 §4), and whether it is strong enough.
func verifies(k *jose.JSONWebKey, alg jose.SignatureAlgorithm) bool {
	if k.Algorithm != "" && k.Algorithm != string(alg) && !(alg == jose.EdDSA && k.Algorithm == "Ed25519") { // RFC 9864 §2.2
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		return (alg == jose.PS256 || alg == jose.RS256) && bits >= minRSABits && bits <= maxRSABits
	case *ecdsa.PublicKey:
		return alg == jose.ES256 && key.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	}
	return false // private and symmetric keys too
}
