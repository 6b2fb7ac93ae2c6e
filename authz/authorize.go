package authz

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// journey is one look at a pending authorization, for the visitor that the browser's cookie names.
type journey struct {
	*storage.Journey
	client    *fapi.Client
	request   fapi.AuthorizationRequest
	page      *web.Client // the client, as pages show it
	uri       string      // request_uri
	loginHash []byte
	without   []string // scopes that were asked for and are not for this customer
}

// authorize answers GET and POST /authorize (RFC 6749 §3.1). It is the dispatcher of a journey: each step (login, second
// factor, decision) returns here, and one look at the store says what is next.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	params, err := readAuthorization(w, r)
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	c := s.findClient(r.Context(), params.Get("client_id"))
	if c == nil || len(params["client_id"]) > 1 {
		s.errorPage(w, r, fapi.Refuse(fapi.InvalidRequest, "The app that sent you here is not known to us."))
		return
	}
	s.readyToEncrypt(r.Context(), c.Client)
	uri := params.Get("request_uri")
	if uri == "" || params.Get("request") != "" || isReference(uri) {
		s.begin(w, r, c, params)
		return
	}
	switch err := fapi.CheckParameters(params); {
	case err != nil:
		s.errorPage(w, r, err)
	case r.Method == http.MethodPost: // another site's post comes without the login's cookie; what follows it has it
		http.Redirect(w, r, authorizeURL(c.ID, uri), http.StatusSeeOther)
	default:
		s.proceed(w, r, c.Client, uri)
	}
}

// readAuthorization reads the parameters of an authorization request, which are not checked yet.
func readAuthorization(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method == http.MethodPost {
		return readForm(w, r)
	}
	params, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fapi.Refuse(fapi.InvalidRequest, "The link is damaged.").Because(err)
	}
	return params, nil
}

// begin takes a request that came by way of the browser: it is checked, stored as if it had been pushed, and goes on as
// if it had been.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, c *registeredClient, params url.Values) {
	params, err := s.resolveRequest(r.Context(), c, params, true)
	redirect, lost := c.CheckRedirect(params) // where refusals go, that of a request object too
	if lost != nil {
		if err == nil {
			err = lost
		}
		s.errorPage(w, r, err)
		return
	}
	var uri string
	if err == nil {
		uri, err = s.pushFromBrowser(r.Context(), c.Client, params)
	}
	if err != nil {
		s.redirectError(w, r, c.Client, redirect, err)
		return
	}
	http.Redirect(w, r, authorizeURL(c.ID, uri), http.StatusSeeOther)
}

// pushFromBrowser checks and stores a request that its client did not push.
func (s *Server) pushFromBrowser(ctx context.Context, c *fapi.Client, params url.Values) (uri string, err error) {
	if c.MustPush() {
		return "", fapi.Refuse(fapi.InvalidRequest, "The client must push its authorization requests.")
	}
	q, err := c.CheckAuthorizationRequest(params, s.DetailTypes)
	if err != nil {
		return "", err
	}
	a, err := s.pending(ctx, c, q)
	if err != nil {
		return "", err
	}
	return s.push(ctx, a, nil)
}

// authorizeURL is where a journey goes on. It is a path of ours: no one can be sent elsewhere by it.
func authorizeURL(clientID, requestURI string) string {
	return authorizePath + "?" + url.Values{"client_id": {clientID}, "request_uri": {requestURI}}.Encode()
}

var errRequestURI = fapi.Refuse(fapi.InvalidRequestURI, "The link has expired or was used. Please start again in the app.")

// proceed finds out what the journey needs next, and shows or does it.
func (s *Server) proceed(w http.ResponseWriter, r *http.Request, c *fapi.Client, uri string) {
	j, err := s.look(r, c, uri)
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	visitor := uuid.Nil
	if j.Login != nil {
		visitor = j.Login.CustomerID
	}
	if err := s.usable(j, visitor); err != nil {
		s.giveUp(w, r, j, err)
		return
	}
	quiet := slices.Contains(j.request.Prompt, "none")
	lacks, err := s.lacks(j)
	switch {
	case err != nil:
		s.errorPage(w, r, err)
		return
	case lacks != nil && quiet:
		s.giveUp(w, r, j, fapi.Refuse(fapi.LoginRequired, "The customer must log in."))
		return
	case lacks != nil:
		lacks.Client, lacks.Hidden, lacks.LoginHint = j.page, j.hidden(), j.request.LoginHint
		s.authn.Ask(w, r, *lacks)
		return
	}
	if err := s.narrow(j, j.Customer); err != nil {
		s.giveUp(w, r, j, err)
		return
	}
	if s.agreedBefore(j) {
		s.approve(w, r, c, uri, storage.Approval{LoginHash: j.loginHash, Without: j.without})
		return
	}
	if quiet {
		s.giveUp(w, r, j, fapi.Refuse(fapi.ConsentRequired, "The customer must be asked."))
		return
	}
	s.askConsent(w, r, j, "")
}

// lacks tells what the visitor's login lacks for the request, nil: nothing. Whoever pays must show a second factor that the policy
// takes for it (authn.ApprovePayment), where paying needs one at all.
func (s *Server) lacks(j *journey) (*authn.Prompt, error) {
	if !s.authn.Satisfies(j.Login, j.AuthenticatedAfter, j.ACRRequired) || !s.isHinted(j) {
		return &authn.Prompt{
			Login: j.Login, ACR: j.ACRRequired,
			Fresh: j.Login != nil && j.AuthenticatedAfter != nil && j.Login.AuthTime.Before(*j.AuthenticatedAfter),
		}, nil
	}
	if j.ACRRequired != authn.SCA || !s.LowValue.Exceeded(j.request.AuthorizationDetails, s.DetailTypes) {
		return nil, nil
	}
	return s.authn.Lacks(j.Login, j.Customer, authn.ApprovePayment)
}

// usable tells whether the visitor, uuid.Nil while there is none, can be asked for what the journey is about.
func (s *Server) usable(j *journey, visitor uuid.UUID) error {
	if j.ConsentID != "" {
		if err := consent.Usable(j.Consent, j.client.ID, visitor, s.now()); err != nil {
			return err
		}
		if err := consent.FitsScopes(j.Consent, j.Scopes); err != nil {
			return err
		}
	}
	return j.grantUsable(visitor)
}

// askConsent shows who asks for what until when, and the customer's accounts to pick from (D3).
func (s *Server) askConsent(w http.ResponseWriter, r *http.Request, j *journey, problem string) {
	asked := j.asked()
	page, err := s.consents.Describe(asked)
	if err != nil {
		s.giveUp(w, r, j, err)
		return
	}
	profile, err := j.Customer.Profile()
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	accounts := "none"
	if s.consents.NeedsAccounts(asked) {
		accounts = "pick"
	}
	matching := ""
	page.Action = decisionPath
	page.Hidden = append(j.hidden(), web.Field{Name: "accounts", Value: accounts})
	if j.request.Number != "" {
		matching = s.numberProof(j.loginHash, j.uri, j.request.Number)
		page.Hidden = append(page.Hidden, web.Field{Name: "matching", Value: matching})
	}
	without := strings.Join(j.without, " ")
	if without != "" {
		page.Hidden = append(page.Hidden, web.Field{Name: "without", Value: without})
	}
	page.Hidden = append(page.Hidden, web.Field{Name: "shown", Value: s.pageProof(j.loginHash, j.uri, accounts, matching, without)})
	page.Customer = profile.Name
	if page.Customer == "" {
		page.Customer = profile.Username
	}
	page.SwitchURL = authn.SwitchURL(j.client.ID, j.uri)
	page.ManageURL = consent.CustomerPath
	if j.request.UserCode != "" {
		page.UserCode = fapi.ShowUserCode(j.request.UserCode)
	}
	if j.ForCustomer != uuid.Nil {
		s.onOtherDevice(&page, j)
	}
	page.Problem = problem
	status := http.StatusOK
	if problem != "" {
		status = http.StatusUnprocessableEntity
	}
	s.rendered(s.pages.Consent(w, status, page))
}

// pageProof proves that a page was shown to a login. A decision is taken only with it: else a page that was shown to one
// customer could be answered as another who has logged in since, and one that nobody would be shown could be answered. It
// covers what the page demands: that accounts are picked, which number is right, and which scopes are left out.
func (s *Server) pageProof(loginHash []byte, uri, accounts, matching, without string) string {
	mac := hmac.New(sha256.New, s.pageKey)
	mac.Write(loginHash)
	mac.Write(requestURIHash(uri))
	mac.Write([]byte(accounts + "\x00" + matching + "\x00" + without))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// askAgain shows the page again to a customer who agreed but did not pick what they must.
func (s *Server) askAgain(w http.ResponseWriter, r *http.Request, c *fapi.Client, uri, problem string) {
	j, err := s.look(r, c, uri)
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	lacks, err := s.lacks(j)
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	if lacks != nil {
		s.undecided(w, r, c, uri)
		return
	}
	if err := s.narrow(j, j.Customer); err != nil {
		s.giveUp(w, r, j, err)
		return
	}
	s.askConsent(w, r, j, s.pages.Text(problem))
}

// look opens the journey.
func (s *Server) look(r *http.Request, c *fapi.Client, uri string) (*journey, error) {
	hash := requestURIHash(uri)
	if hash == nil {
		return nil, errRequestURI
	}
	j := &journey{client: c, uri: uri, loginHash: s.authn.LoginHash(r)}
	var err error
	if j.Journey, err = s.db.Open(r.Context(), hash, c.ID, j.loginHash); err != nil {
		if errors.Is(err, storage.ErrNotFound) {
			err = errRequestURI
		}
		return nil, err
	}
	if err := json.Unmarshal(j.Request, &j.request); err != nil {
		return nil, err
	}
	if j.request.UserCode != "" && !s.enteredHere(r, uri) {
		return nil, errRequestURI
	}
	if j.ForCustomer != uuid.Nil && j.Login != nil && j.Login.CustomerID != j.ForCustomer { // somebody else is logged in here
		return nil, errRequestURI
	}
	j.page = s.onPages(c)
	j.page.RedirectURI = j.request.RedirectURI
	return j, nil
}

// isHinted tells whether the visitor is the one whom the client's id_token_hint names.
func (s *Server) isHinted(j *journey) bool {
	if j.request.IDTokenHint == "" || j.Login == nil {
		return true
	}
	hint, err := s.readHint(j.request.IDTokenHint)
	return err == nil && hint.Subject == s.engine.Subject(j.client, j.Login.CustomerID)
}

// agreedBefore tells whether the customer has granted all this before, and the profile lets it be remembered.
func (s *Server) agreedBefore(j *journey) bool {
	if j.request.Polled() || j.request.GrantAction != "" || !j.client.Rules().RememberConsent || j.ConsentID != "" || len(j.request.AuthorizationDetails) > 0 {
		return false
	}
	if slices.Contains(j.request.Prompt, "consent") || slices.Contains(j.request.Prompt, "select_account") {
		return false // the page is where a customer sees, and changes, as whom they agree
	}
	if s.consents.NeedsAccounts(j.asked()) {
		return false // which accounts they picked belongs to one authorization
	}
	for _, scope := range j.Scopes {
		if !slices.Contains(j.Agreed, scope) {
			return false
		}
	}
	return len(j.Scopes) > 0
}

func (j *journey) asked() consent.Asked {
	return consent.Asked{
		Client: *j.page, Scopes: j.Scopes, Details: j.request.AuthorizationDetails, Consent: j.Consent, Accounts: j.Accounts,
		Changes: j.Grant, Replaces: j.GrantAction == storage.Replace,
	}
}

func (j *journey) hidden() []web.Field {
	return []web.Field{{Name: "client_id", Value: j.client.ID}, {Name: "request_uri", Value: j.uri}}
}
