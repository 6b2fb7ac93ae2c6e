package authz

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
)

// reloadClient makes this server know a client as it is stored now, without waiting to be told.
func (s *Server) reloadClient(ctx context.Context, id string) error {
	c := &s.clients
	c.loading.Lock()
	defer c.loading.Unlock()
	row, err := s.db.FindClient(ctx, id)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	before := c.all()
	byID := maps.Clone(before)
	delete(byID, id)
	if err == nil {
		if client := readClient(row, before[id], s.log); client != nil {
			byID[id] = client
		}
	}
	c.byID.Store(&byID)
	return nil
}

// findClient finds a client that calls. One that registered itself on another server a moment ago may come here before the
// news: the database is asked for such a client, but not more often than lookups allows.
func (s *Server) findClient(ctx context.Context, id string) *registeredClient {
	c := s.clients.find(id)
	if c != nil || s.Registration.Mode == RegistrationClosed || !isRegisteredID(id) || !s.clients.lookups.allow(s.now()) {
		return c
	}
	if err := s.reloadClient(ctx, id); err != nil {
		s.log.Error("client not looked up", zap.Error(err))
	}
	return s.clients.find(id)
}

// isRegisteredID tells whether an id has the form of those that clients get which register themselves.
func isRegisteredID(id string) bool {
	random, ok := strings.CutPrefix(id, clientPrefix)
	return ok && len(random) == 26 && !strings.ContainsFunc(random, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '2' || r > '7') })
}

// lookups bounds how often the database is asked for clients that are unknown: whoever makes up ids gets no more.
type lookups struct {
	mu    sync.Mutex
	began time.Time
	n     int
}

const lookupsPerSecond = 20

func (l *lookups) allow(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.began) >= time.Second || now.Before(l.began) {
		l.began, l.n = now, 0
	}
	l.n++
	return l.n <= lookupsPerSecond
}
