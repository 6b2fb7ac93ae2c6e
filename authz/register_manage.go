package authz

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"

	"github.com/gorilla/mux"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// maxFetchedSector is more than a list of redirect URIs needs.
const maxFetchedSector = 64 << 10

// manageRegistration answers GET, PUT and DELETE at a client's registration_client_uri (RFC 7592 §2).
func (s *Server) manageRegistration(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		s.registration(http.StatusOK, s.readRegistration)(w, r)
	case http.MethodPut:
		s.registration(http.StatusOK, s.replaceRegistration)(w, r)
	case http.MethodDelete:
		if err := s.unregister(r); err != nil {
			s.refuseRegistration(w, r, err)
			return
		}
		emptyResponse{http.StatusNoContent}.write(w)
	}
}

// managed is a call with the registration access token of a client.
type managed struct {
	*storage.Registration
	token string
	hash  []byte
	next  bool // the token is the one that replaces the stored one
}

// authenticateRegistration finds the client that the call is about and holds the token against it (RFC 7592 §2). Whose
// client was deleted has no token any more: it went with the client.
func (s *Server) authenticateRegistration(r *http.Request) (*managed, error) {
	token, given := bearerToken(r)
	if !given {
		return nil, errNotAllowed
	}
	stored, err := s.db.FindRegistration(r.Context(), mux.Vars(r)["client_id"])
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNotAllowed
	} else if err != nil {
		return nil, err
	}
	m := &managed{Registration: stored, token: token, hash: fapi.SecretHash(token)}
	current := subtle.ConstantTimeCompare(m.hash, stored.TokenHash) == 1
	m.next = subtle.ConstantTimeCompare(m.hash, stored.NextHash) == 1
	if !current && !m.next {
		return nil, errNotAllowed
	}
	return m, nil
}

// readRegistration answers GET (RFC 7592 §2.1). The secret is not told again: only its hash is kept.
func (s *Server) readRegistration(_ http.ResponseWriter, r *http.Request) (*registered, error) {
	m, err := s.authenticateRegistration(r)
	if err != nil {
		return nil, err
	}
	if m.next {
		if err := s.db.UseNextToken(r.Context(), m.ID, m.hash); err != nil {
			return nil, err
		}
	}
	return &registered{id: m.ID, metadata: m.Metadata, issuedAt: m.CreatedAt, hasSecret: m.SecretHash != nil, token: m.token}, nil
}

// replaceRegistration answers PUT (RFC 7592 §2.2). The client gets a new registration access token; the one that it came
// with stays good until the new one is used, so that a lost answer does not lock it out.
func (s *Server) replaceRegistration(w http.ResponseWriter, r *http.Request) (*registered, error) {
	ctx := r.Context()
	m, err := s.authenticateRegistration(r)
	if err != nil {
		return nil, err
	}
	metadata, err := readMetadata(w, r)
	if err != nil {
		return nil, err
	}
	secret, err := metadata.CheckReplacement(m.ID, m.SecretHash)
	if err != nil {
		return nil, err
	}
	before, err := fapi.ParseClient(m.Metadata)
	if err != nil {
		return nil, err
	}
	rules := s.registrationRules()
	rules.Profiles = []fapi.ProfileName{before.Profile} // what it was let in for
	c, stored, err := s.makeClient(ctx, m.ID, metadata, rules, before)
	if err != nil {
		return nil, err
	}
	made := &registered{id: m.ID, metadata: stored, issuedAt: m.CreatedAt, hasSecret: c.UsesSecret(), token: newSecret()}
	secretHash := m.SecretHash
	switch {
	case !made.hasSecret:
		secretHash = nil
	case secretHash == nil:
		made.secret = newSecret()
		secretHash = fapi.SecretHash(made.secret)
	default:
		made.secret = secret
	}
	err = s.db.ReplaceRegistration(ctx, m.ID, m.hash, fapi.SecretHash(made.token), stored, secretHash, s.newLogo(ctx, c))
	if err != nil {
		return nil, registrationRefused(err)
	}
	return made, s.reloadClient(ctx, m.ID)
}

// unregister answers DELETE (RFC 7592 §2.3): nothing of the client is left that would let anybody do anything.
func (s *Server) unregister(r *http.Request) error {
	m, err := s.authenticateRegistration(r)
	if err != nil {
		return err
	}
	if err := s.db.Unregister(r.Context(), m.ID, m.hash); err != nil {
		return registrationRefused(err)
	}
	return s.reloadClient(r.Context(), m.ID)
}

// fetchFor fetches what a member of the metadata points to, and hands it to take.
func (s *Server) fetchFor(ctx context.Context, member, address string, limit int64, take func([]byte) error) error {
	answer, err := s.outbound.Get(ctx, address, limit)
	if err == nil {
		err = take(answer.Body)
	}
	if err == nil || errors.Is(err, fapi.InvalidClientMetadata) {
		return err
	}
	return fapi.RefuseMember(member, err)
}
