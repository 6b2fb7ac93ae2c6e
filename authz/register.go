package authz

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// RegistrationMode says who may register a client (RFC 7591 §3).
type RegistrationMode string

const (
	RegistrationClosed    RegistrationMode = "closed"    // nobody: the endpoint is not there
	RegistrationToken     RegistrationMode = "token"     // who has an initial access token
	RegistrationStatement RegistrationMode = "statement" // who has a software statement
	RegistrationOpen      RegistrationMode = "open"      // everybody
)

// Registration is what an institution decides about clients that register themselves.
type Registration struct {
	Mode       RegistrationMode      // "" is closed
	Profiles   []fapi.ProfileName    // that they may choose among, the default first; none: fapi2
	Scopes     []string              // all that they may ask for; none: those in the metadata
	PerHour    int                   // so many may register in an hour; 0: 1000
	Statements fapi.StatementIssuers // whose software statements count
}

// check fills in the defaults.
func (c *Registration) check() error {
	modes := []RegistrationMode{RegistrationClosed, RegistrationToken, RegistrationStatement, RegistrationOpen}
	if c.Mode == "" {
		c.Mode = RegistrationClosed
	}
	if len(c.Profiles) == 0 {
		c.Profiles = []fapi.ProfileName{fapi.FAPI2}
	}
	if c.PerHour == 0 {
		c.PerHour = 1000
	}
	var wrong []error
	if !slices.Contains(modes, c.Mode) {
		wrong = append(wrong, fmt.Errorf("registration %q: must be one of %v", c.Mode, modes))
	}
	for _, name := range c.Profiles {
		if fapi.FindProfile(name) == nil {
			wrong = append(wrong, fmt.Errorf("registration: profile %q is not one of %v", name, fapi.ProfileNames()))
		}
	}
	if c.Mode == RegistrationStatement && len(c.Statements) == 0 {
		wrong = append(wrong, errors.New("registration by software statement needs an issuer of statements"))
	}
	if c.PerHour < 0 {
		wrong = append(wrong, errors.New("registration: the limit is negative"))
	}
	return errors.Join(wrong...)
}

func (s *Server) mountRegistration(r *mux.Router) {
	if s.Registration.Mode == RegistrationClosed {
		return
	}
	s.handle(r, registerPath, post, s.registration(http.StatusCreated, s.register))
	s.handle(r, registrationPath, []string{http.MethodGet, http.MethodPut, http.MethodDelete}, s.manageRegistration)
}

// clientPrefix begins the ids of clients that registered themselves. A random id collides with no customer's (RFC 9700
// §4.15), and the prefix with no id that an operator is likely to choose.
const clientPrefix = "dcr-"

// newSecret makes a client secret or a registration token: 260 random bits.
func newSecret() string { return rand.Text() + rand.Text() }

// registered is what a client is told about itself (RFC 7591 §3.2.1, RFC 7592 §3).
type registered struct {
	metadata  []byte
	issuedAt  time.Time
	secret    string // "": it has none, or keeps the one it knows
	hasSecret bool
	token     string // registration access token
	id        string
}

func (s *Server) information(c registered) (fapi.Metadata, error) {
	var all fapi.Metadata
	if err := json.Unmarshal(c.metadata, &all); err != nil {
		return nil, err
	}
	more := map[string]any{
		"client_id_issued_at":       c.issuedAt.Unix(),
		"registration_access_token": c.token,
		"registration_client_uri":   s.Issuer + registerPath + "/" + c.id,
	}
	if c.secret != "" {
		more["client_secret"] = c.secret
	}
	if c.hasSecret {
		more["client_secret_expires_at"] = 0 // never
	}
	for name, value := range more {
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		all[name] = raw
	}
	return all, nil
}

// registration makes an HTTP handler of what answers with a client's registration.
func (s *Server) registration(status int, answer func(http.ResponseWriter, *http.Request) (*registered, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		client, err := answer(w, r)
		var body fapi.Metadata
		if err == nil {
			body, err = s.information(*client)
		}
		if err != nil {
			s.refuseRegistration(w, r, err)
			return
		}
		writeJSON(w, status, body)
	}
}

var (
	errNotAllowed    = fapi.Refuse(fapi.InvalidToken, "The token is missing, unknown, expired or used up.")
	errManyRegister  = fapi.Refuse(fapi.TemporarilyUnavailable, "Too many clients have registered lately.").WithStatus(http.StatusTooManyRequests)
	errNoStatement   = fapi.Refuse(fapi.InvalidSoftwareStatement, "The registration needs a software_statement.")
	errNotJSON       = fapi.Refuse(fapi.InvalidClientMetadata, "The body must be application/json.").WithStatus(http.StatusUnsupportedMediaType)
	errLargeMetadata = fapi.Refuse(fapi.InvalidClientMetadata, "The metadata are too large.").WithStatus(http.StatusRequestEntityTooLarge)
)

// refuseRegistration writes an error (RFC 7591 §3.2.2; RFC 6750 §3 for tokens).
func (s *Server) refuseRegistration(w http.ResponseWriter, r *http.Request, err error) {
	refused := refusal(err)
	s.logRefusal(r, nil, refused)
	switch refused.Status {
	case http.StatusUnauthorized:
		challenge := "Bearer"
		if r.Header.Get("Authorization") != "" {
			challenge += fmt.Sprintf(` error="%s"`, refused.Code)
		}
		w.Header().Set("WWW-Authenticate", challenge)
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "600")
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, refused.Status, errorBody{refused.Code, refused.Description})
}

// register answers POST /register (RFC 7591 §3.1).
func (s *Server) register(w http.ResponseWriter, r *http.Request) (*registered, error) {
	ctx := r.Context()
	initial, profile, err := s.mayRegister(r)
	if err != nil {
		return nil, err
	}
	metadata, err := readMetadata(w, r)
	if err != nil {
		return nil, err
	}
	rules := s.registrationRules()
	if profile != "" {
		rules.Profiles = []fapi.ProfileName{fapi.ProfileName(profile)}
	}
	made := &registered{id: clientPrefix + rand.Text(), token: newSecret()}
	c, stored, err := s.makeClient(ctx, made.id, metadata, rules, nil)
	if err != nil {
		return nil, err
	}
	n := storage.NewRegistration{
		ClientID: made.id, Metadata: stored, TokenHash: fapi.SecretHash(made.token), InitialTokenHash: initial, PerHour: s.Registration.PerHour,
	}
	if c.UsesSecret() {
		made.secret, made.hasSecret = newSecret(), true
		n.SecretHash = fapi.SecretHash(made.secret)
	}
	n.Logo = s.newLogo(ctx, c)
	made.metadata = stored
	if made.issuedAt, err = s.db.Register(ctx, n); err != nil {
		return nil, registrationRefused(err)
	}
	return made, s.reloadClient(ctx, made.id) // it is used at once
}

// mayRegister tells whether the caller may register a client at all: before anything that it names is fetched. An initial
// access token counts whether one is needed or not.
func (s *Server) mayRegister(r *http.Request) (initialHash []byte, profile string, err error) {
	token, given := bearerToken(r)
	switch {
	case given:
		initialHash = fapi.SecretHash(token)
	case s.Registration.Mode == RegistrationToken || r.Header.Get("Authorization") != "":
		return nil, "", errNotAllowed
	}
	profile, err = s.db.MayRegister(r.Context(), initialHash, s.Registration.PerHour)
	return initialHash, profile, registrationRefused(err)
}

func registrationRefused(err error) error {
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return errNotAllowed
	case errors.Is(err, storage.ErrTooManyRegistrations):
		return errManyRegister
	}
	return err
}

func bearerToken(r *http.Request) (string, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

func readMetadata(w http.ResponseWriter, r *http.Request) (fapi.Metadata, error) {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return nil, errNotJSON
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, errLargeMetadata.Because(err)
	}
	return fapi.ParseRegistration(body)
}

func (s *Server) registrationRules() fapi.RegistrationRules {
	rules := fapi.RegistrationRules{
		Profiles: s.Registration.Profiles, Scopes: s.Registration.Scopes, DetailTypes: s.DetailTypes, Signing: s.keys.Algorithms(),
	}
	if len(rules.Scopes) == 0 {
		rules.Scopes = slices.DeleteFunc(slices.Clone(s.Scopes), func(scope string) bool { return scope == scopeApprovals || scope == consent.TransactionsScope }) // the bank's own
	}
	return rules
}

// makeClient makes a client of what it says, and what its software statement says, of itself; and looks at what its
// metadata point to. before is the client that is replaced, nil for a new one.
func (s *Server) makeClient(ctx context.Context, id string, metadata fapi.Metadata, rules fapi.RegistrationRules, before *fapi.Client) (*fapi.Client, []byte, error) {
	if err := s.applyStatement(metadata); err != nil {
		return nil, nil, err
	}
	c, stored, err := rules.Register(id, metadata, before)
	if err != nil {
		return nil, nil, err
	}
	if c.SectorIdentifierURI != "" {
		if err := s.fetchFor(ctx, "sector_identifier_uri", c.SectorIdentifierURI, maxFetchedSector, c.CheckSector); err != nil {
			return nil, nil, err
		}
	}
	if c.JWKSURI != "" {
		if err := s.fetchFor(ctx, "jwks_uri", c.JWKSURI, maxJWKS, c.SetKeys); err != nil {
			return nil, nil, err
		}
	}
	return c, stored, c.CheckKeys()
}

// applyStatement lets a software statement override the plain metadata (RFC 7591 §2.3). Where none are expected they mean
// nothing.
func (s *Server) applyStatement(metadata fapi.Metadata) error {
	statement, err := metadata.Statement()
	switch {
	case err != nil:
		return err
	case statement == "" && s.Registration.Mode == RegistrationStatement:
		return errNoStatement
	case statement == "" || len(s.Registration.Statements) == 0:
		return nil
	}
	vouched, err := s.Registration.Statements.Check(statement, s.now())
	if err != nil {
		return err
	}
	metadata.Override(vouched)
	return nil
}
