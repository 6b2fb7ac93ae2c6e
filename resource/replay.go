package resource

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/countersign/countersign/fapi"
)

// Replays remembers the DPoP proofs that were used (RFC 9449 §11.1). Several processes behind one address need a shared
// one, or [Config].DPoPNonceKey to make the window small.
type Replays interface {
	// First records a use and tells whether it is the first with that hash. It must be atomic, and may forget the use
	// after ExpiresAt. An error means that it cannot tell: the request is answered with 503.
	First(ctx context.Context, use fapi.Use) (bool, error)

	// Since is the moment from which on every use is remembered. Proofs that may have been used before are refused.
	Since() time.Time
}

// maxReplays lets about 1,800 requests with DPoP come per second: a use is remembered for 70 seconds at most.
const maxReplays = 1 << 18

var errMemoryFull = errors.New("the memory of used DPoP proofs is full")

// memory is the Replays of one process. Uses are kept in two generations, so that forgetting costs nothing: the older
// one is dropped as a whole when the last of its uses has expired.
type memory struct {
	since time.Time
	size  int // of a generation
	now   func() time.Time

	mu       sync.Mutex
	new, old generation
}

type generation struct {
	uses   map[[32]byte]struct{}
	begun  time.Time
	expiry time.Time // of the use that expires last
}

const generationAge = 30 * time.Second

// newMemory makes a memory that begins now. What was used in another life of the process carries an older date; a second
// is the precision of those dates.
func newMemory(size int, now func() time.Time) *memory {
	return &memory{since: now().Truncate(time.Second).Add(-fapi.Skew), size: size / 2, now: now}
}

func (m *memory) Since() time.Time { return m.since }

func (m *memory) First(_ context.Context, use fapi.Use) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if !now.Before(m.old.expiry) && (now.Sub(m.new.begun) >= generationAge || len(m.new.uses) >= m.size) {
		m.old, m.new = m.new, generation{uses: map[[32]byte]struct{}{}, begun: now}
	}
	if _, used := m.new.uses[use.Hash]; used {
		return false, nil
	}
	if _, used := m.old.uses[use.Hash]; used {
		return false, nil
	}
	if len(m.new.uses) >= m.size {
		return false, errMemoryFull // to forget one would be to accept it again
	}
	m.new.uses[use.Hash] = struct{}{}
	if use.ExpiresAt.After(m.new.expiry) {
		m.new.expiry = use.ExpiresAt
	}
	return true, nil
}
