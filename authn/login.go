package authn

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
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
	v := view{journey: journeyOf(p.Hidden), client: p.Client, status: http.StatusOK}
	hash := a.LoginHash(r)
	if p.Login == nil || p.Fresh || hash == nil || !p.Factor && !a.factorDue(p.Login, p.ACR) {
		if name, err := normalizeUsername(p.LoginHint); err == nil {
			v.username = name
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
	attempts int
}

// again is the view of a step that the customer must repeat.
func (a *Authn) again(r *http.Request, j journey, status int, problem string) view {
	return view{journey: j, client: a.client(r.Context(), j), status: status, problem: a.pages.Text(problem)}
}

// fieldAttempts counts how often the login page was answered. It is the visitor's own and decides nothing but whether the
// page says "too many attempts": said because of the customer's row, it would tell that the name exists.
const fieldAttempts = "attempt"

func (a *Authn) loginPage(w http.ResponseWriter, r *http.Request, v view) {
	page := web.Login{Action: "/login", Client: v.client, Username: v.username, Problem: v.problem, Hidden: v.hidden()}
	if v.attempts > 0 {
		page.Hidden = v.hidden(web.Field{Name: fieldAttempts, Value: strconv.Itoa(v.attempts)})
	}
	if a.config.SignUp {
		page.SignUpURL = v.link("/sign-up")
	}
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
		v.attempts, _ = strconv.Atoi(form.Get(fieldAttempts))
		v.attempts = min(max(v.attempts, 0), 1000) + 1
		if v.attempts >= a.config.MaxFailures {
			v.problem, v.status = a.pages.Text("problem.locked"), http.StatusTooManyRequests
		}
		if a.atInterval(r.Context(), start) {
			a.loginPage(w, r, v)
		}
	default:
		a.fail(w, r, err)
	}
}

// errRefused is all that the outside learns of an attempt.
var errRefused = errors.New("authn: refused")

// enter checks a password and, if it is right, gives the browser a login.
func (a *Authn) enter(w http.ResponseWriter, r *http.Request, typed, password string) error {
	ctx := r.Context()
	c, err := a.credentials(ctx, typed)
	if err != nil {
		return err
	}
	if len(password) > longestPassword {
		password = "" // never right, at the usual price
	}
	password = normalizePassword(password)
	right, outdated, err := a.hasher.check(ctx, c.PasswordHash, password)
	if err != nil {
		return err
	}
	if c.CustomerID == uuid.Nil {
		a.log.Info("login.unknown_customer")
		return errRefused
	}
	if !right || c.Disabled {
		return a.failed(ctx, c.CustomerID, amrPassword)
	}
	var upgrade *storage.NewPasswordHash
	if outdated {
		hash, err := a.hasher.hash(ctx, password)
		if err != nil {
			return err
		}
		upgrade = &storage.NewPasswordHash{Old: c.PasswordHash, New: hash}
	}
	err = a.begin(w, r, c.CustomerID, c.HasSecondFactor, upgrade)
	if errors.Is(err, storage.ErrNotFound) {
		a.log.Warn("login.locked", zap.Stringer("customer", c.CustomerID))
		return errRefused
	}
	return err
}

// credentials finds what the password is checked against; for a name that does not exist, what no password matches.
func (a *Authn) credentials(ctx context.Context, typed string) (*storage.Credentials, error) {
	name, err := normalizeUsername(typed)
	if err != nil {
		name = "" // nobody's, and looked up all the same
	}
	c, err := a.db.FindCredentials(ctx, a.config.Tenant, name)
	if errors.Is(err, storage.ErrNotFound) {
		return &storage.Credentials{PasswordHash: a.hasher.dummy}, nil
	}
	return c, err
}

// begin makes the login of a customer whose password was right.
func (a *Authn) begin(w http.ResponseWriter, r *http.Request, customer uuid.UUID, hasFactor bool, upgrade *storage.NewPasswordHash) error {
	value, hash := newCookie()
	n := storage.NewLogin{Hash: hash, Replaces: a.LoginHash(r), AMR: []string{amrPassword}, Lifetime: stepLifetime, Visit: visitOf(r)}
	if !hasFactor && !a.config.RequireSecondFactor {
		n.ACR, n.Lifetime = CA, a.config.LoginLifetime
	}
	if _, err := a.db.BeginLogin(r.Context(), customer, n, upgrade); err != nil {
		return err
	}
	setCookie(w, value)
	a.log.Info("login.password", zap.Stringer("customer", customer), zap.String("acr", n.ACR), zap.Bool("hash_upgraded", upgrade != nil))
	return nil
}

// visitOf is where a request comes from.
func visitOf(r *http.Request) storage.Visit {
	v := storage.Visit{Address: r.RemoteAddr, UserAgent: r.UserAgent()}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		v.Address = host
	}
	if len(v.UserAgent) > longestUserAgent || !utf8.ValidString(v.UserAgent) {
		v.UserAgent = ""
	}
	return v
}

const longestUserAgent = 512 // bytes; of a browser that says more nobody learns anything

// failed counts a refused attempt, and returns errRefused or errLocked. It is counted even if the visitor has left: going
// away must not make a guess free.
func (a *Authn) failed(ctx context.Context, customer uuid.UUID, amr string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	locked, err := a.db.RecordFailure(ctx, customer, a.config.MaxFailures, a.config.LockFor)
	if err != nil {
		return err
	}
	a.log.Warn("login.refused", zap.Stringer("customer", customer), zap.String("amr", amr), zap.Bool("locked", locked))
	if locked {
		return errLocked
	}
	return errRefused
}

// errLocked is told apart from errRefused only where the customer has shown the password.
var errLocked = lockedError{}

type lockedError struct{}

func (lockedError) Error() string        { return "authn: locked" }
func (lockedError) Is(target error) bool { return target == errRefused }

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
