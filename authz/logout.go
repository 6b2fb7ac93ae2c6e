package authz

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// logout is a logout request (OpenID Connect RP-Initiated Logout §2) once it was checked. From one step to the next it
// travels sealed: neither the ID token nor a promise of the browser comes along.
type logout struct {
	ClientID    string `json:"client_id,omitempty"`                // "" when the request does not say, or the client is no more
	Subject     string `json:"sub,omitempty"`                      // whom the client's ID token names; "" without one
	RedirectURI string `json:"post_logout_redirect_uri,omitempty"` // registered; "" for none
	State       string `json:"state,omitempty"`
	CheckedAt   int64  `json:"checked_at"` // Unix seconds
}

const (
	sentLogout    = "logout.sent"  // on the way from a client's site
	askedLogout   = "logout.asked" // on the page that asks; bound to the login that it was shown to
	fieldLogout   = "logout"
	logoutAskedIn = 15 * time.Minute // and answered
)

// endSession answers GET and POST /end_session (OpenID Connect RP-Initiated Logout §2).
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) {
	q, err := s.readLogout(w, r)
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	if r.Method == http.MethodPost { // another site's post comes without the login's cookie; what follows it has it
		s.deliver(w, "query", endSessionPath, url.Values{fieldLogout: {s.sealLogout(sentLogout, nil, q)}})
		return
	}
	s.logOut(w, r, q)
}

// readLogout reads a logout request as a client sent it, or as it was passed on.
func (s *Server) readLogout(w http.ResponseWriter, r *http.Request) (*logout, error) {
	params, err := readAuthorization(w, r)
	if err == nil {
		err = fapi.CheckParameters(params)
	}
	if err != nil {
		return nil, err
	}
	if r.Method == http.MethodGet && params.Has(fieldLogout) {
		return s.openLogout(sentLogout, nil, params.Get(fieldLogout))
	}
	return s.checkLogout(params)
}

var errHint = fapi.Refuse(fapi.InvalidRequest, "The id_token_hint is not an ID token that we gave the app.")

// checkLogout checks a client's parameters. logout_hint and ui_locales may be there and change nothing.
func (s *Server) checkLogout(params url.Values) (*logout, error) {
	q := &logout{ClientID: params.Get("client_id"), State: params.Get("state"), CheckedAt: s.now().Unix()}
	if token := params.Get("id_token_hint"); token != "" {
		hint, err := s.readHint(token)
		if err != nil || q.ClientID != "" && q.ClientID != hint.Audience {
			return nil, errHint.Because(err)
		}
		q.ClientID, q.Subject = hint.Audience, hint.Subject
	}
	c := s.clients.find(q.ClientID)
	if c == nil && q.ClientID != "" && q.Subject == "" {
		return nil, fapi.Refuse(fapi.InvalidRequest, "The app that sent you here is not known to us.")
	}
	if c == nil { // signing out needs no client; nobody vouches for where to go then
		q.ClientID = ""
		return q, nil
	}
	uri := params.Get("post_logout_redirect_uri")
	if uri != "" && !slices.Contains(c.PostLogoutRedirectURIs, uri) {
		return nil, fapi.Refuse(fapi.InvalidRequest, "The post_logout_redirect_uri is not registered for the app.")
	}
	q.RedirectURI = uri
	return q, nil
}

// tokenHint is what an ID token of ours says as an id_token_hint, expired or not (OpenID Connect Core §3.1.2.1,
// RP-Initiated Logout §4).
type tokenHint struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
}

// readHint reads an id_token_hint. Encrypted ID tokens come back decrypted: one that is encrypted is refused.
func (s *Server) readHint(token string) (*tokenHint, error) {
	payload, err := s.keys.VerifyHint(token)
	if err != nil {
		return nil, err
	}
	h := &tokenHint{}
	if err := json.Unmarshal(payload, h); err != nil {
		return nil, err
	}
	if h.Issuer != s.Issuer || h.Subject == "" || h.Audience == "" {
		return nil, errors.New("no ID token of ours")
	}
	return h, nil
}

// logOut ends the browser's session at once when the client's ID token names whose it is. Else the customer is asked:
// anybody can make a browser go here (§3).
func (s *Server) logOut(w http.ResponseWriter, r *http.Request, q *logout) {
	session, err := s.session(r)
	switch {
	case errors.Is(err, storage.ErrNotFound) && (q.Subject != "" || q.RedirectURI == ""):
		s.loggedOut(w, r, q)
	case errors.Is(err, storage.ErrNotFound):
		s.signedOut(w, q) // nobody has proved to want it: no redirect that the customer did not ask for
	case err != nil:
		s.errorPage(w, r, err)
	case s.isSubject(q, session):
		s.end(w, r, q)
	default:
		s.askLogout(w, r, q, session)
	}
}

// session finds the session of the visitor's cookie, or returns storage.ErrNotFound.
func (s *Server) session(r *http.Request) (*storage.Session, error) {
	hash := s.authn.LoginHash(r)
	if hash == nil {
		return nil, storage.ErrNotFound
	}
	return s.db.FindSession(r.Context(), hash)
}

func (s *Server) isSubject(q *logout, session *storage.Session) bool {
	c := s.clients.find(q.ClientID)
	return c != nil && q.Subject != "" && q.Subject == s.engine.Subject(c.Client, session.Customer.ID)
}

func (s *Server) askLogout(w http.ResponseWriter, r *http.Request, q *logout, session *storage.Session) {
	profile, err := session.Customer.Profile()
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	page := web.SignOut{
		Action:   confirmLogoutPath,
		Hidden:   []web.Field{{Name: fieldLogout, Value: s.sealLogout(askedLogout, s.authn.LoginHash(r), q)}},
		Customer: profile.Name,
	}
	if page.Customer == "" {
		page.Customer = profile.Username
	}
	if c := s.clients.find(q.ClientID); c != nil {
		page.Client = s.onPages(c.Client)
		page.Client.RedirectURI = q.RedirectURI
	}
	s.rendered(s.pages.SignOut(w, http.StatusOK, page))
}

// confirmLogout answers POST /end_session/confirm: the customer pressed a button.
func (s *Server) confirmLogout(w http.ResponseWriter, r *http.Request) {
	form, err := readForm(w, r)
	if err == nil {
		err = fapi.CheckParameters(form)
	}
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	noStore(w.Header())
	hash := s.authn.LoginHash(r)
	if hash == nil { // signed out meanwhile
		http.Redirect(w, r, signedOutPath, http.StatusSeeOther)
		return
	}
	q, err := s.openLogout(askedLogout, hash, form.Get(fieldLogout))
	switch {
	case err != nil:
		s.errorPage(w, r, err)
	case form.Get("decision") == "sign_out":
		s.end(w, r, q)
	default:
		http.Redirect(w, r, consent.CustomerPath, http.StatusSeeOther)
	}
}

// end ends the browser's session. What the clients of it are told is on its way with that.
func (s *Server) end(w http.ResponseWriter, r *http.Request, q *logout) {
	if err := s.authn.End(w, r); err != nil {
		s.errorPage(w, r, err)
		return
	}
	s.loggedOut(w, r, q)
}

// loggedOut sends the customer where the client wants, or to a page of ours.
func (s *Server) loggedOut(w http.ResponseWriter, r *http.Request, q *logout) {
	noStore(w.Header())
	switch {
	case q.RedirectURI == "":
		http.Redirect(w, r, signedOutPath, http.StatusSeeOther)
	case q.State == "":
		w.Header().Set("Location", q.RedirectURI)
		w.WriteHeader(http.StatusSeeOther)
	default:
		s.deliver(w, "query", q.RedirectURI, url.Values{"state": {q.State}})
	}
}

// showSignedOut answers GET /end_session/done.
func (s *Server) showSignedOut(w http.ResponseWriter, _ *http.Request) { s.signedOut(w, &logout{}) }

func (s *Server) signedOut(w http.ResponseWriter, q *logout) {
	page := web.Done{Title: s.pages.Text("signed_out.title"), Text: s.pages.Text("signed_out.text")}
	if c := s.clients.find(q.ClientID); c != nil && q.RedirectURI != "" {
		page.LinkText, page.LinkURL = s.pages.Text("signed_out.back", "client", nameOf(c.Client)), q.RedirectURI
	}
	s.rendered(s.pages.Done(w, http.StatusOK, page))
}

func (s *Server) sealLogout(purpose string, loginHash []byte, q *logout) string {
	plain, _ := json.Marshal(q) // strings and a number always marshal
	return sealedEncoding.EncodeToString(s.db.Keys().Seal(purpose, loginHash, plain))
}

var sealedEncoding = base64.RawURLEncoding.Strict()

var errLogout = fapi.Refuse(fapi.InvalidRequest, "The page has expired. If you are still signed in, please sign out again.")

func (s *Server) openLogout(purpose string, loginHash []byte, sealed string) (*logout, error) {
	raw, err := sealedEncoding.DecodeString(sealed)
	if err != nil {
		return nil, errLogout.Because(err)
	}
	plain, err := s.db.Keys().Open(purpose, loginHash, raw)
	if err != nil {
		return nil, errLogout.Because(err)
	}
	q := &logout{}
	if err := json.Unmarshal(plain, q); err != nil {
		return nil, err
	}
	if s.now().Sub(time.Unix(q.CheckedAt, 0)) > logoutAskedIn {
		return nil, errLogout
	}
	return q, nil
}
