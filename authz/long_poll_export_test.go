package authz

import "time"

// Waiting is how many polls wait.
func (s *Server) Waiting() int { return len(s.waiters.waitedFor()) }

// LimitWaiting bounds the polls that wait.
func (s *Server) LimitWaiting(most, perClient int) {
	s.waiters.mu.Lock()
	defer s.waiters.mu.Unlock()
	s.waiters.most, s.waiters.perClient = most, perClient
}

// PreferredWait reads a Prefer header.
func PreferredWait(lines ...string) time.Duration {
	return preferredWait(map[string][]string{"Prefer": lines})
}
