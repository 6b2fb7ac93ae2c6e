package authn

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// Prompt is what a request needs of a customer who is not, or not sufficiently, logged in.
type Prompt struct {
	Login     *storage.Login // the visitor's, nil when there is none
	Fresh     bool           // Login is too old: it starts again with the password
	ACR       string         // that is required, "" for any
	Factor    bool           // the second factor is to be shown again
	Without   []string       // kinds of second factors that do not do
	Client    *web.Client    // on whose behalf; nil when the customer just signs in
	Hidden    []web.Field    // client_id and request_uri of the journey, or ToPage; nothing else is carried on
	LoginHint string         // OpenID Connect Core §3.1.2.1
}

// Ask renders the page of the step that is due: the password, the second factor, or the enrolment of one.
func (a *Authn) Ask(w http.ResponseWriter, r *http.Request, p Prompt) {
	v := view{journey: journeyOf(p.Hidden), client: p.Client, status: http.StatusOK, without: p.Without, fresh: p.Fresh, acr: p.ACR}
	hash := a.LoginHash(r)
	if p.Login == nil || p.Fresh || hash == nil || !p.Factor && !a.factorDue(p.Login, p.ACR) {
		if name, err := normalizeUsername(p.LoginHint); err == nil {
			v.username, v.hint = name, p.LoginHint
		}
		a.loginPage(w, r, v)
		return
	}
	visitor, err := a.db.FindLogin(r.Context(), hash)
	switch {
	case errors.Is(err, storage.ErrNotFound): // it has ended since it was looked at
		a.loginPage(w, r, v)
	case err != nil:
		a.fail(w, r, err)
	default:
		a.factorPage(w, r, v, hash, visitor)
	}
}

// view is what the pages of a step have in common.
type view struct {
	journey
	client   *web.Client
	status   int
	problem  string
	username string
	fresh    bool   // the customer must log in anew, at another provider too
	acr      string // that is required, there too
	hint     string // who is expected there

	elsewhere bool // the problem is another provider's

	kind    string   // of the second factor that the customer chose
	without []string // kinds of second factors that do not do
}

// again is the view of a step that the customer must repeat.
func (a *Authn) again(r *http.Request, j journey, status int, problem string) view {
	return view{journey: j, client: a.client(r.Context(), j), status: status, problem: a.pages.Text(problem)}
}

func (a *Authn) loginPage(w http.ResponseWriter, r *http.Request, v view) {
	page := web.Login{Action: "/login", Client: v.client, Username: v.username, Problem: v.problem, Hidden: v.hidden(), RecoverURL: v.link(recoverPath)}
	a.offerPasskey(&page, v)
	if a.config.SignUp {
		page.SignUpURL = v.link("/sign-up")
	}
	page.Providers, page.Elsewhere = a.providerButtons(v), v.elsewhere
	a.shown(r, a.pages.Login(w, v.status, page))
}

// switchCustomer is the parameter by which the login page is shown to whoever is logged in already.
const switchCustomer = "switch"

// SwitchURL is where somebody else logs in on a journey.
func SwitchURL(clientID, requestURI string) string {
	return journey{clientID: clientID, requestURI: requestURI}.link("/login") + "&" + switchCustomer
}

// showLogin answers GET /login: a customer who just signs in, one who is not who logged in, or one whose journey goes on
// where it is decided.
func (a *Authn) showLogin(w http.ResponseWriter, r *http.Request) {
	j, err := readJourney(r.URL.Query())
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest)
		return
	}
	if !j.alone() && r.URL.Query().Has(switchCustomer) {
		a.loginPage(w, r, view{journey: j, client: a.client(r.Context(), j), status: http.StatusOK})
		return
	}
	if !j.alone() {
		a.goOn(w, r, j.next())
		return
	}
	v := view{journey: j, status: http.StatusOK}
	hash := a.LoginHash(r)
	if hash == nil {
		a.loginPage(w, r, v)
		return
	}
	visitor, err := a.db.FindLogin(r.Context(), hash)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		a.loginPage(w, r, v)
	case err != nil:
		a.fail(w, r, err)
	case a.Satisfies(&visitor.Login, nil, ""):
		a.goOn(w, r, j.next())
	default:
		a.factorPage(w, r, v, hash, visitor)
	}
}

// login answers POST /login: one look at the customer, the hash outside of any transaction, one statement that decides.
func (a *Authn) login(w http.ResponseWriter, r *http.Request) {
	start := a.now()
	form, j, ok := a.readForm(w, r, "username", "password")
	if !ok {
		return
	}
	typed, password := form.Get("username"), form.Get("password")
	if typed == "" || password == "" {
		v := a.again(r, j, http.StatusUnprocessableEntity, "problem.missing")
		v.username = typed
		a.loginPage(w, r, v)
		return
	}
	err := a.enter(w, r, typed, password)
	switch {
	case err == nil:
		a.goOn(w, r, j.next())
	case errors.Is(err, errRefused):
		v := a.again(r, j, http.StatusForbidden, "problem.credentials")
		v.username = typed
		if text, blocked := a.retryAfter(w, err); blocked {
			v.problem, v.status = text, http.StatusTooManyRequests
		}
		if a.atInterval(r.Context(), start) {
			a.loginPage(w, r, v)
		}
	default:
		a.fail(w, r, err)
	}
}

// enter checks a password and, if it is right, gives the browser a login.
func (a *Authn) enter(w http.ResponseWriter, r *http.Request, typed, password string) error {
	c, upgrade, err := a.checkCredentials(r.Context(), visitOf(r), typed, password)
	if err != nil {
		return err
	}
	err = a.begin(w, r, c, upgrade)
	if errors.Is(err, storage.ErrNotFound) { // disabled or blocked meanwhile
		return a.countFailure(r.Context(), c.CustomerID, visitOf(r), amrPassword, a.loginBuckets(c)...)
	}
	return err
}

// checkCredentials looks for the customer whose user name and password these are. It returns errRefused, a *Blocked or ErrBusy; what was
// wrong has been counted. Whoever lets the customer in gives the Bucket to BeginLogin, which has the last word. One round trip when it is
// right, two when it is wrong.
func (a *Authn) checkCredentials(ctx context.Context, visit storage.Visit, typed, password string) (*storage.Credentials, *storage.NewPasswordHash, error) {
	if a.hasher.busy() { // not even a look
		return nil, nil, ErrBusy
	}
	c, err := a.credentials(ctx, visit, typed)
	if err != nil {
		return nil, nil, err
	}
	if c.Wait > 0 {
		a.refused("login", "blocked")
		a.log.Warn("login.blocked", zap.Stringer("customer", c.CustomerID), zap.Duration("blocked", c.Wait))
		return nil, nil, &Blocked{c.Wait}
	}
	if len(password) > longestPassword {
		password = "" // never right, at the usual price
	}
	password = normalizePassword(password)
	right, outdated, err := a.hasher.check(ctx, c.PasswordHash, password)
	if err != nil {
		return nil, nil, err
	}
	if !right || c.Disabled || c.CustomerID == uuid.Nil {
		return nil, nil, a.countFailure(ctx, c.CustomerID, visit, amrPassword, a.loginBuckets(c)...)
	}
	if !outdated {
		return c, nil, nil
	}
	hash, err := a.hasher.hash(ctx, password)
	return c, &storage.NewPasswordHash{Old: c.PasswordHash, New: hash}, err
}

// credentials finds what the password is checked against; for a name that does not exist, what no password matches.
func (a *Authn) credentials(ctx context.Context, visit storage.Visit, typed string) (*storage.Credentials, error) {
	name, err := normalizeUsername(typed)
	if err != nil {
		name = "" // nobody's, and looked up all the same
	}
	c, err := a.db.FindCredentials(ctx, a.config.Tenant, name, visit)
	if err == nil && c.CustomerID == uuid.Nil {
		c.PasswordHash = a.hasher.dummy
	}
	return c, err
}

// loginBuckets are where a wrong password is counted. In a browser that the customer is known by nobody else's attempts matter, nor do
// its own for others.
func (a *Authn) loginBuckets(c *storage.Credentials) []storage.Bucket {
	if c.Known {
		return []storage.Bucket{a.strict(c.Bucket)}
	}
	return []storage.Bucket{a.loose(c.Address), a.strict(c.Bucket)}
}

// begin makes the login of a customer whose password was right.
func (a *Authn) begin(w http.ResponseWriter, r *http.Request, c *storage.Credentials, upgrade *storage.NewPasswordHash) error {
	value, hash := newCookie()
	n := storage.NewLogin{Hash: hash, Replaces: a.LoginHash(r), AMR: []string{amrPassword}, Lifetime: stepLifetime, Visit: a.visit(w, r), Bucket: c.Bucket}
	if !c.HasSecondFactor && !a.config.RequireSecondFactor {
		n.ACR, n.Lifetime = CA, a.config.LoginLifetime
	}
	if _, err := a.db.BeginLogin(r.Context(), c.CustomerID, n, upgrade); err != nil {
		return err
	}
	setCookie(w, value)
	a.log.Info("login.password", zap.Stringer("customer", c.CustomerID), zap.String("acr", n.ACR), zap.Bool("hash_upgraded", upgrade != nil))
	return nil
}

// visitOf is where a request comes from.
func visitOf(r *http.Request) storage.Visit {
	v := storage.Visit{Address: r.RemoteAddr, UserAgent: r.UserAgent(), Browser: browserOf(r)}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		v.Address = host
	}
	if len(v.UserAgent) > longestUserAgent || !utf8.ValidString(v.UserAgent) {
		v.UserAgent = ""
	}
	return v
}

const longestUserAgent = 512 // bytes; of a browser that says more nobody learns anything

// refusalInterval hides what a refusal took: a name that exists costs a statement more than one that does not, and an
// imported hash another price.
const refusalInterval = 250 * time.Millisecond

// atInterval waits for the next multiple of the interval. It returns false if the visitor has left by then.
func (a *Authn) atInterval(ctx context.Context, start time.Time) bool {
	elapsed := a.now().Sub(start)
	select {
	case <-time.After(refusalInterval - elapsed%refusalInterval):
		return true
	case <-ctx.Done():
		return false
	}
}
