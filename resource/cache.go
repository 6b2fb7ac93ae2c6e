package resource

import (
	"sync"
	"time"
)

// cache remembers what a token was found to be, by its hash: a dump of the memory shows no tokens. What a caller has
// to prove is checked after it, so that it never matters who asked first.
type cache struct {
	mu      sync.Mutex
	entries map[[32]byte]cacheEntry
	size    int
}

type cacheEntry struct {
	principal *Principal
	expiresAt time.Time
}

func newCache(size int) *cache { return &cache{entries: map[[32]byte]cacheEntry{}, size: size} }

// find returns what is remembered, nil for a token that was refused, and whether anything is.
func (c *cache) find(hash [32]byte, now time.Time) (*Principal, bool) {
	c.mu.Lock()
	e, ok := c.entries[hash]
	c.mu.Unlock()
	return e.principal, ok && now.Before(e.expiresAt)
}

const looks = 4 // entries that each new one makes the cache look at, for some that expired

// remember makes room by dropping entries that expired, or else any: Go's maps are walked from a random place.
func (c *cache) remember(hash [32]byte, p *Principal, expiresAt, now time.Time) {
	if !now.Before(expiresAt) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	looked := 0
	for old, e := range c.entries {
		if looked++; looked > looks {
			break
		}
		if !now.Before(e.expiresAt) {
			delete(c.entries, old)
		}
	}
	for old := range c.entries {
		if len(c.entries) < c.size {
			break
		}
		delete(c.entries, old)
	}
	c.entries[hash] = cacheEntry{p, expiresAt}
}
