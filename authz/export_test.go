package authz

import (
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
)

// PagePaths are the addresses of all pages and their forms, as the router has them.
func (s *Server) PagePaths() (paths []string) {
	err := s.pageRouter().Walk(func(r *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		path, err := r.GetPathTemplate()
		paths = append(paths, path)
		return err
	})
	if err != nil {
		panic(err)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// AgeKeys makes the keys at a client's jwks_uri look as if they had been fetched, and asked for, that much earlier.
func (s *Server) AgeKeys(clientID string, by time.Duration) {
	f := s.clients.find(clientID).fetched
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tried = f.tried.Add(-by)
	if at := f.at.Load(); at != 0 {
		f.at.Store(at - int64(by))
	}
}

// ApprovalURL is where a customer decides a CIBA request.
func (s *Server) ApprovalURL(clientID string, id uuid.UUID) string {
	return authorizeURL(clientID, s.approvalURI(id))
}

// Choices are the numbers of a new request that a customer picks from.
func (s *Server) Choices(number string) []string { return s.choices(uuid.New(), number) }
