package authn

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authn/federation"
	"github.com/countersign/countersign/outbound"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// Federation is where else customers may log in. Redirect URIs are {Config.Origin}/login/idp/{id}/callback.
type Federation struct {
	Providers []federation.Config
	Calls     *outbound.Client // reaches them; nil: one that calls public addresses only
}

func (c *Config) checkFederation() error {
	f := &c.Federation
	var wrong []error
	seen := map[string]bool{}
	for i := range f.Providers {
		c := &f.Providers[i]
		if seen[c.ID] {
			wrong = append(wrong, errors.New("identity provider "+c.ID+" is there twice"))
		}
		seen[c.ID] = true
		wrong = append(wrong, c.Check(CA, SCA))
	}
	return errors.Join(wrong...)
}

// amrFederated says that another provider has found out who it is. RFC 8176's registry has no value for that; what that provider
// said it was shown is not ours to say.
const amrFederated = "fed"

const (
	// The prefix is loginCookie's. It names the browser on one way to a provider and back.
	visitCookie   = "__Host-idp"
	visitLifetime = 10 * time.Minute
	fieldFresh    = "fresh"
	fieldHint     = "login_hint"
	fieldACR      = "acr"

	// unknownAge is how old a login is taken to be of which the provider does not say when it was.
	unknownAge = 24 * time.Hour
)

// identityVisit is a browser on the way to a provider.
type identityVisit struct {
	Provider string             `json:"provider"`
	Attempt  federation.Attempt `json:"attempt"`
	Journey  string             `json:"journey"`
	By       uuid.UUID          `json:"by,omitzero"` // who wants to link what comes back, from their own pages
}

func (a *Authn) federationRoutes() map[string]methods {
	return map[string]methods{
		"/login/idp/{id}":          {http.MethodPost: a.leave},
		"/login/idp/{id}/callback": {http.MethodGet: a.comeBack},
		linkPage:                   {http.MethodGet: a.showLink, http.MethodPost: a.link},
		linkPage + "/code":         {http.MethodPost: a.linkCode},
		linkPage + "/sign-up":      {http.MethodGet: a.showLinkSignUp, http.MethodPost: a.linkSignUp},
		"/self/links/add":          {http.MethodPost: a.addOwnLink},
	}
}

func newProviders(f Federation, now func() time.Time) map[string]*federation.Provider {
	if f.Calls == nil {
		f.Calls = outbound.New(outbound.Options{})
	}
	all := map[string]*federation.Provider{}
	for _, c := range f.Providers {
		all[c.ID] = federation.New(c, f.Calls, now)
	}
	return all
}

// providerButtons are what the login page offers. On the way to a link there are none: that one has a link is what is to be shown.
func (a *Authn) providerButtons(v view) (all []web.ProviderButton) {
	if v.page == linkPage {
		return nil
	}
	hidden := v.hidden()
	if v.fresh {
		hidden = append(hidden, web.Field{Name: fieldFresh, Value: "1"})
	}
	if v.hint != "" {
		hidden = append(hidden, web.Field{Name: fieldHint, Value: v.hint})
	}
	if v.acr != "" {
		hidden = append(hidden, web.Field{Name: fieldACR, Value: v.acr})
	}
	for _, c := range a.config.Federation.Providers {
		all = append(all, web.ProviderButton{Name: c.Name, Action: "/login/idp/" + c.ID, Hidden: hidden})
	}
	return all
}

func (a *Authn) provider(w http.ResponseWriter, r *http.Request) *federation.Provider {
	p := a.providers[mux.Vars(r)["id"]]
	if p == nil {
		a.refuse(w, r, http.StatusNotFound)
	}
	return p
}

func (a *Authn) callback(p *federation.Provider) string {
	return a.config.Origin + "/login/idp/" + p.ID + "/callback"
}

// leave answers POST /login/idp/{id}: the customer goes to the provider. What is wished for spares the customer a second way there: what
// counts is what the login there was.
func (a *Authn) leave(w http.ResponseWriter, r *http.Request) {
	p := a.provider(w, r)
	if p == nil {
		return
	}
	form, j, ok := a.readForm(w, r)
	if !ok {
		return
	}
	wish := federation.Wish{Fresh: form.Get(fieldFresh) == "1", ACR: form.Get(fieldACR), Hint: form.Get(fieldHint)}
	if len(wish.Hint) > longestField {
		wish.Hint = ""
	}
	err := a.Attempt(r.Context(), "idp", a.PerAddress("idp", r)) // each visit is a row, and a provider may be asked for its document
	if text, blocked := a.retryAfter(w, err); blocked {
		v := a.again(r, j, http.StatusTooManyRequests, "")
		v.problem, v.elsewhere = text, true
		a.loginPage(w, r, v)
		return
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.send(w, r, p, wish, identityVisit{Journey: j.query()})
}

// send sends a browser to a provider.
func (a *Authn) send(w http.ResponseWriter, r *http.Request, p *federation.Provider, wish federation.Wish, visit identityVisit) {
	address, attempt, err := p.Begin(r.Context(), a.callback(p), wish)
	if err != nil {
		a.cameToNothing(w, r, p, visit, err)
		return
	}
	value, _ := newCookie()
	visit.Provider, visit.Attempt = p.ID, *attempt
	if err := a.db.SaveIdentityVisit(r.Context(), visitHash(value, attempt.State), visit, visitLifetime); err != nil {
		a.fail(w, r, err)
		return
	}
	setVisitCookie(w, value)
	a.goOn(w, r, address)
}

// visitHash is what a visit is found by: by this browser alone, with what the provider gave back.
func visitHash(cookie, state string) []byte {
	sum := sha256.Sum256([]byte(cookie + "\x00" + state))
	return sum[:]
}

// setVisitCookie is Lax: the provider sends the browser back from its own site.
func setVisitCookie(w http.ResponseWriter, value string) {
	c := &http.Cookie{Name: visitCookie, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(visitLifetime.Seconds())}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// visitOfBrowser is the value of the cookie, "" for none.
func visitOfBrowser(r *http.Request) string {
	value := cookieValue(r, visitCookie)
	if cookieEncoding.DecodedLen(len(value)) != cookieBytes {
		return ""
	}
	return value
}

// comeBack answers GET /login/idp/{id}/callback. An answer that this browser did not ask for, or that was taken before, is none.
func (a *Authn) comeBack(w http.ResponseWriter, r *http.Request) {
	p := a.provider(w, r)
	if p == nil {
		return
	}
	answer, err := url.ParseQuery(r.URL.RawQuery)
	cookie := visitOfBrowser(r)
	if err != nil || cookie == "" || len(answer["state"]) != 1 {
		a.refuse(w, r, http.StatusBadRequest)
		return
	}
	var visit identityVisit
	err = a.db.TakeIdentityVisit(r.Context(), visitHash(cookie, answer.Get("state")), &visit)
	switch {
	case errors.Is(err, storage.ErrNotFound), err == nil && visit.Provider != p.ID:
		a.refused("idp", "foreign")
		a.log.Warn("idp.foreign_answer", zap.String("provider", p.ID))
		a.refuse(w, r, http.StatusBadRequest)
		return
	case err != nil:
		a.fail(w, r, err)
		return
	}
	setVisitCookie(w, "")
	visit.Attempt.State = answer.Get("state")
	who, err := p.Finish(r.Context(), answer, &visit.Attempt, a.callback(p))
	if err == nil && !p.Allows(who) {
		err = errNotAllowed
	}
	if err == nil {
		err = a.arrive(w, r, p, visit, who)
	}
	if err != nil {
		a.cameToNothing(w, r, p, visit, err)
	}
}

// keptJourney reads what query wrote.
func keptJourney(query string) (journey, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return journey{}, err
	}
	return readJourney(values)
}

var (
	errNotAllowed = errors.New("authn: this provider's customers of that address are not let in")
	errNobody     = errors.New("authn: no customer has that identity, and none can")
	errAnothers   = errors.New("authn: another customer has that identity")
)

// arrive lets the customer in who has an identity; where nobody has, it asks whose it is.
func (a *Authn) arrive(w http.ResponseWriter, r *http.Request, p *federation.Provider, visit identityVisit, who *federation.Identity) error {
	j, err := keptJourney(visit.Journey)
	if err != nil {
		return err
	}
	c, err := a.db.UseIdentityLink(r.Context(), a.config.Tenant, who.Issuer, who.Subject)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return a.askWhose(w, r, p, visit, who)
	case err != nil:
		return err
	case visit.By == uuid.Nil:
		err = a.beginFederated(w, r, c.CustomerID, c.HasSecondFactor, who)
	case visit.By != c.CustomerID:
		err = errAnothers
	}
	if err == nil {
		a.goOn(w, r, j.next())
	}
	return err
}

// beginFederated makes the login of a customer who has logged in at a provider. It is one factor, unless the mapping says more. It
// returns errRefused for a customer who is locked or disabled.
func (a *Authn) beginFederated(w http.ResponseWriter, r *http.Request, customer uuid.UUID, hasFactor bool, who *federation.Identity) error {
	n := storage.NewLogin{AMR: []string{amrFederated}, AuthTime: who.AuthTime}
	if n.AuthTime == nil {
		at := a.now().Add(-unknownAge)
		n.AuthTime = &at
	}
	if who.ACR == SCA {
		n.ACR, n.AMR = SCA, append(n.AMR, amrMultiple)
	}
	return a.beginElsewhere(w, r, customer, hasFactor, n, who.Provider)
}

func (a *Authn) beginElsewhere(w http.ResponseWriter, r *http.Request, customer uuid.UUID, hasFactor bool, n storage.NewLogin, provider string) error {
	value, hash := newCookie()
	n.Hash, n.Replaces, n.Visit = hash, a.LoginHash(r), a.visit(w, r)
	if n.ACR == "" && !hasFactor && !a.config.RequireSecondFactor {
		n.ACR = CA
	}
	if n.Lifetime = stepLifetime; n.ACR != "" {
		n.Lifetime = a.config.LoginLifetime
	}
	_, err := a.db.BeginLogin(r.Context(), customer, n, nil)
	if errors.Is(err, storage.ErrNotFound) {
		a.log.Warn("login.locked", zap.Stringer("customer", customer), zap.String("provider", provider))
		return errRefused
	}
	if err != nil {
		return err
	}
	setCookie(w, value)
	a.log.Info("login.federated", zap.Stringer("customer", customer), zap.String("provider", provider), zap.String("acr", n.ACR))
	return nil
}

// cameToNothing says so on the page that the customer came from.
func (a *Authn) cameToNothing(w http.ResponseWriter, r *http.Request, p *federation.Provider, visit identityVisit, err error) {
	j, wrong := keptJourney(visit.Journey)
	switch {
	case wrong != nil:
		a.fail(w, r, wrong)
	case visit.By != uuid.Nil:
		a.notLinked(w, r, p, err)
	default:
		a.notThere(w, r, j, p, err)
	}
}

// notThere shows the login page again, with what became of the other way. Nothing counts against a customer: nobody has shown whose
// identity it is.
func (a *Authn) notThere(w http.ResponseWriter, r *http.Request, j journey, p *federation.Provider, err error) {
	status, problem := idpProblem(err)
	if problem == "" {
		a.fail(w, r, err)
		return
	}
	a.idpRefused(p, problem, err)
	v := a.again(r, j, status, problem)
	v.problem, v.elsewhere = a.pages.Text(problem, "provider", p.Name), true
	a.loginPage(w, r, v)
}

func (a *Authn) idpRefused(p *federation.Provider, problem string, err error) {
	a.refused("idp", strings.TrimPrefix(problem, "problem.idp_"))
	a.log.Warn("idp.refused", zap.String("provider", p.ID), zap.Error(err))
}

// idpProblem is what a page says of an error, "" when we are at fault.
func idpProblem(err error) (status int, problem string) {
	status = http.StatusForbidden
	switch {
	case errors.Is(err, federation.ErrDenied):
		problem = "problem.idp_denied"
	case errors.Is(err, federation.ErrNotFresh):
		problem = "problem.idp_not_fresh"
	case errors.Is(err, federation.ErrAnswer):
		problem = "problem.idp_failed"
	case errors.Is(err, federation.ErrUnavailable):
		status, problem = http.StatusServiceUnavailable, "problem.idp_unavailable"
	case errors.Is(err, errNotAllowed), errors.Is(err, errNobody), errors.Is(err, errAnothers):
		problem = "problem.idp_nobody"
	case errors.Is(err, errRefused):
		problem = "problem.idp_refused"
	}
	return status, problem
}

// noPassword is a hash that no password has, of a customer who has none: its salt and hash are zeros. Checking one costs what checking
// any costs.
func (h *hasher) noPassword() string {
	return phc{Argon2: h.price, salt: make([]byte, saltBytes), hash: make([]byte, hashBytes)}.String()
}

func isNoPassword(encoded string) bool {
	p, err := parsePHC(encoded)
	return err == nil && string(p.hash) == string(make([]byte, hashBytes))
}
