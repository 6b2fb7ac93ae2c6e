package authz

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/countersign/countersign/fapi"
)

// A client that registered a jwks_uri keeps its keys there and may change them whenever it likes (OpenID Connect Core
// §10.1.1). They are fetched when they are first needed, and then kept:
const (
	keysFresh  = time.Hour      // so long they are used as they are: a key that is gone there is gone here by then
	keysUsable = 24 * time.Hour // so long they are used though the place where they were does not answer
	keysPause  = time.Minute    // so long nothing is fetched again, whatever comes: who knows no key of the client may send unknown ones
)

// maxJWKS is how many bytes of keys are read: twenty keys with certificates.
const maxJWKS = 128 << 10

// fetchedKeys is when the keys of a client were fetched. All versions of a client share it, as they share the keys.
type fetchedKeys struct {
	at    atomic.Int64 // Unix nanoseconds of the last success; 0: never
	mu    sync.Mutex   // held while they are fetched
	tried time.Time
}

// keepFetched returns the state of a client's keys: that of the version before it, if both have them from the same place.
func keepFetched(c *fapi.Client, before *registeredClient) *fetchedKeys {
	switch {
	case c.JWKSURI == "":
		return nil
	case before != nil && c.ShareKeys(before.Client):
		return before.fetched
	}
	return &fetchedKeys{}
}

func (f *fetchedKeys) age(now time.Time) time.Duration { return now.Sub(time.Unix(0, f.at.Load())) }

// withKeys runs a check of something that the client proves with its keys. If they are at its jwks_uri they are there when
// the check runs, and are fetched anew when it finds none that fits. When they cannot be fetched the check decides
// without them, and so refuses.
func (s *Server) withKeys(ctx context.Context, c *registeredClient, check func() error) error {
	s.keysReady(ctx, c)
	err := check()
	if c.fetched != nil && errors.Is(err, fapi.ErrUnknownKey) && s.fetchKeys(ctx, c, true) {
		return check()
	}
	return err
}

// readyToEncrypt makes sure that the keys are there if answers to the client are encrypted.
func (s *Server) readyToEncrypt(ctx context.Context, c *fapi.Client) {
	if c.JWKSURI == "" || !c.Encrypts() {
		return
	}
	if registered := s.clients.find(c.ID); registered != nil {
		s.keysReady(ctx, registered)
	}
}

// keysReady fetches the client's keys if they are due. While old ones serve, only one request waits for the new ones.
func (s *Server) keysReady(ctx context.Context, c *registeredClient) {
	if c.fetched == nil {
		return
	}
	if age := c.fetched.age(s.now()); age >= keysFresh {
		s.fetchKeys(ctx, c, age >= keysUsable)
	}
}

// fetchKeys fetches the client's keys, once for all who want them now, and tells whether there are newer ones than when
// it was called. A call that is not to wait for another's fetch returns at once.
func (s *Server) fetchKeys(ctx context.Context, c *registeredClient, wait bool) bool {
	f := c.fetched
	before := f.at.Load()
	if wait {
		f.mu.Lock()
	} else if !f.mu.TryLock() {
		return false
	}
	defer f.mu.Unlock()
	now := s.now()
	if f.at.Load() != before {
		return true
	}
	if now.Sub(f.tried) < keysPause {
		return false
	}
	f.tried = now
	// Others wait for this fetch too: it does not end with the request that began it.
	answer, err := s.outbound.Get(context.WithoutCancel(ctx), c.JWKSURI, maxJWKS)
	if err == nil {
		err = c.SetKeys(answer.Body)
	}
	if err != nil {
		s.log.Warn("keys of a client not fetched", zap.String("client_id", c.ID), zap.Error(err))
		if f.age(now) >= keysUsable {
			c.ForgetKeys()
		}
		return false
	}
	f.at.Store(now.UnixNano())
	return true
}
