package outbound

import (
	"context"
	"sync"
)

// hosts bounds how many calls run to one host, so that a slow one does not take the places of all others.
type hosts struct {
	each int
	mu   sync.Mutex
	busy map[string]*host // only those with calls that run or wait
}

type host struct {
	slots chan struct{}
	users int
}

// enter waits for a place. leave gives it back.
func (h *hosts) enter(ctx context.Context, name string) (leave func(), err error) {
	h.mu.Lock()
	at := h.busy[name]
	if at == nil {
		at = &host{slots: make(chan struct{}, h.each)}
		h.busy[name] = at
	}
	at.users++
	h.mu.Unlock()
	gone := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if at.users--; at.users == 0 {
			delete(h.busy, name)
		}
	}
	select {
	case at.slots <- struct{}{}:
		return func() { <-at.slots; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, ErrTimeout
	}
}
