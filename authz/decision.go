package authz

import (
	"crypto/hmac"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"go.uber.org/zap"

	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// decide answers POST /authorize/decision: the customer pressed a button.
func (s *Server) decide(w http.ResponseWriter, r *http.Request) {
	form, err := readForm(w, r)
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	accounts := form["account"]
	delete(form, "account") // the only field that repeats
	err = fapi.CheckParameters(form)
	for _, id := range accounts {
		err = errors.Join(err, fapi.CheckParameters(url.Values{"account": {id}}))
	}
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	c, uri := s.findClient(r.Context(), form.Get("client_id")), form.Get("request_uri")
	loginHash := s.authn.LoginHash(r)
	if c == nil || requestURIHash(uri) == nil {
		s.errorPage(w, r, errRequestURI)
		return
	}
	s.readyToEncrypt(r.Context(), c.Client)
	proof, right := s.pageProof(loginHash, uri, form.Get("accounts"), form.Get("matching"), form.Get("without")), true
	if form.Get("matching") != "" {
		right = hmac.Equal([]byte(s.numberProof(loginHash, uri, form.Get("number"))), []byte(form.Get("matching")))
	}
	switch decision := form.Get("decision"); {
	case loginHash == nil || !hmac.Equal([]byte(proof), []byte(form.Get("shown"))):
		s.undecided(w, r, c.Client, uri)
	case decision == "approve" && !right && form.Get("number") == "":
		s.askAgain(w, r, c.Client, uri, "problem.number")
	case decision == "approve" && !right:
		s.deny(w, r, c.Client, uri, loginHash, errWrongNumber)
	case decision == "approve" && form.Get("accounts") == "pick" && len(accounts) == 0:
		s.askAgain(w, r, c.Client, uri, "problem.accounts")
	case decision == "approve":
		s.approve(w, r, c.Client, uri, storage.Approval{LoginHash: loginHash, AccountIDs: accounts, Without: strings.Fields(form.Get("without"))})
	case decision == "deny":
		s.deny(w, r, c.Client, uri, loginHash, nil)
	case decision == "report":
		s.report(w, r, c.Client, uri, loginHash)
	default:
		s.errorPage(w, r, fapi.Refuse(fapi.InvalidRequest, "The page was sent without a decision."))
	}
}

// Why a customer said no, when it was not by the button that says so.
var (
	errWrongNumber = errors.New("authz: the customer picked another number than the client shows")
	errReported    = errors.New("authz: the customer never asked for this")

	errDenied = fapi.Refuse(fapi.AccessDenied, "The customer refused.")
)

// approve records the yes and sends the code (RFC 6749 §4.1.2). y says whose yes, and to what. One round trip.
func (s *Server) approve(w http.ResponseWriter, r *http.Request, c *fapi.Client, uri string, y storage.Approval) {
	code := randomToken()
	y.RequestURIHash, y.ClientID = requestURIHash(uri), c.ID
	y.CodeHash, y.CodeLifetime, y.TokenLifetime = engine.CodeHash(code), c.Rules().CodeLifetime, c.Rules().AccessTokenLifetime
	a, err := s.db.Approve(r.Context(), y)
	if errors.Is(err, storage.ErrNotFound) {
		s.undecided(w, r, c, uri)
		return
	}
	var q fapi.AuthorizationRequest
	if err == nil {
		err = json.Unmarshal(a.Request, &q)
	}
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	if q.Polled() {
		s.decidedHere(w, r, c, &q, nil)
		return
	}
	params, err := s.engine.Authorize(r.Context(), c, &q, a, code)
	if err != nil {
		s.redirectError(w, r, c, redirectOf(&q), err)
		return
	}
	s.respond(w, r, c, redirectOf(&q), params)
}

// deny records the no (RFC 6749 §4.1.2.1). The client is not told why.
func (s *Server) deny(w http.ResponseWriter, r *http.Request, c *fapi.Client, uri string, loginHash []byte, why error) {
	a, err := s.db.Deny(r.Context(), requestURIHash(uri), c.ID, loginHash)
	if errors.Is(err, storage.ErrNotFound) {
		s.undecided(w, r, c, uri)
		return
	}
	s.sendRefusal(w, r, c, a, err, errDenied.Because(why))
}

// report records the no of a customer who never asked for this.
func (s *Server) report(w http.ResponseWriter, r *http.Request, c *fapi.Client, uri string, loginHash []byte) {
	a, err := s.db.Report(r.Context(), requestURIHash(uri), c.ID, loginHash)
	if errors.Is(err, storage.ErrNotFound) {
		s.undecided(w, r, c, uri)
		return
	}
	if err == nil {
		s.log.Warn("a customer reports a request that they never asked for", zap.String("client_id", c.ID), zap.Stringer("authorization", a.ID))
	}
	s.sendRefusal(w, r, c, a, err, errDenied.Because(errReported))
}

// undecided is for a decision that the store did not take, because something changed since the page was shown. What is
// wrong shows at the next look; if nothing is, the accounts were not the customer's.
func (s *Server) undecided(w http.ResponseWriter, r *http.Request, c *fapi.Client, uri string) {
	http.Redirect(w, r, authorizeURL(c.ID, uri), http.StatusSeeOther)
}

// giveUp ends a journey that cannot be decided and tells the client why.
func (s *Server) giveUp(w http.ResponseWriter, r *http.Request, j *journey, why error) {
	a, err := s.db.Abandon(r.Context(), j.RequestURIHash, j.client.ID)
	if errors.Is(err, storage.ErrNotFound) {
		err = errRequestURI
	}
	s.sendRefusal(w, r, j.client, a, err, why)
}

func (s *Server) sendRefusal(w http.ResponseWriter, r *http.Request, c *fapi.Client, a *storage.Authorization, err, why error) {
	var q fapi.AuthorizationRequest
	if err == nil {
		err = json.Unmarshal(a.Request, &q)
	}
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	if q.Polled() {
		s.decidedHere(w, r, c, &q, why)
		return
	}
	s.redirectError(w, r, c, redirectOf(&q), why)
}
