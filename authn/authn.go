package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/mux"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// Authentication context classes (UK Open Banking Security Profile).
const (
	SCA = "urn:openbanking:psd2:sca" // two independent factors
	CA  = "urn:openbanking:psd2:ca"  // one
)

// Authentication method references (RFC 8176 §2).
const (
	amrPassword = "pwd"
	amrOTP      = "otp"
	amrMultiple = "mfa"
)

// stepLifetime is how long a customer may take from the password to the second factor, which includes installing an
// authenticator app and setting it up.
const stepLifetime = 15 * time.Minute

// Config of an Authn. Zero values are replaced by the defaults.
type Config struct {
	Tenant string // whose customers log in here
	Issuer string // the bank's name in authenticator apps; default "Countersign"

	// RequireSecondFactor makes everybody enrol one. Without it, it is asked of those who have one, and of everybody when a
	// request needs SCA.
	RequireSecondFactor bool
	SignUp              bool // whether customers may create their own access

	LoginLifetime time.Duration // of a complete login, from its last step; default 5 minutes (see the package)
	MaxFailures   int           // attempts before a lock; default 5, the most that RTS (EU) 2018/389 art. 4(3)(b) allows
	LockFor       time.Duration // the first lock; each one in a row lasts twice as long, up to a day. Default 15 minutes
	Argon2        Argon2        // default: OWASP's m=19456, t=2, p=1
	Channels      []string      // by which codes can be sent: "email", "sms"
	CodesPerHour  int           // that a customer may ask for; default 3
	Policy        Policy        // over DefaultPolicy

	// Client names the client of a journey on a page that is shown again, nil when there is no such journey. It must not
	// ask the database: it runs with every wrong password. May be nil.
	Client func(ctx context.Context, clientID, requestURI string) *web.Client
}

// Validate reports all mistakes at once.
func (c Config) Validate() error {
	c.fill()
	var problems []error
	if c.Tenant == "" {
		problems = append(problems, errors.New("tenant is empty"))
	}
	if c.LoginLifetime < 0 || c.LockFor < 0 || c.MaxFailures < 0 || c.CodesPerHour < 0 {
		problems = append(problems, errors.New("login lifetime, lock and numbers of failures and codes must not be negative"))
	}
	if err := c.Argon2.check(); err != nil {
		problems = append(problems, err)
	}
	if err := c.Policy.check(); err != nil {
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("authn: %w", err)
	}
	return nil
}

func (c *Config) fill() {
	if c.Issuer == "" {
		c.Issuer = "Countersign"
	}
	if c.LoginLifetime == 0 {
		c.LoginLifetime = 5 * time.Minute
	}
	if c.MaxFailures == 0 {
		c.MaxFailures = 5
	}
	if c.CodesPerHour == 0 {
		c.CodesPerHour = 3
	}
	if c.LockFor == 0 {
		c.LockFor = 15 * time.Minute
	}
	if c.Argon2 == (Argon2{}) {
		c.Argon2 = Argon2{Memory: 19456, Time: 2, Threads: 1}
	}
}

// Authn authenticates customers. It is safe for concurrent use.
type Authn struct {
	db     *storage.DB
	pages  *web.Pages
	log    *zap.Logger
	config Config
	hasher *hasher
	now    func() time.Time
}

// New returns an Authn. The config has been validated.
func New(db *storage.DB, pages *web.Pages, log *zap.Logger, c Config) *Authn {
	c.fill()
	return &Authn{db: db, pages: pages, log: log.Named("authn"), config: c, hasher: newHasher(c.Argon2), now: time.Now}
}

// Mount adds the pages' addresses to r, which [web.Pages.Protect] must surround.
func (a *Authn) Mount(r *mux.Router) {
	for path, m := range map[string]methods{
		"/login":               {http.MethodGet: a.showLogin, http.MethodPost: a.login},
		"/login/second-factor": {http.MethodPost: a.secondFactor},
		"/login/enrol":         {http.MethodGet: a.showEnrol, http.MethodPost: a.enrol},
		"/sign-up":             {http.MethodGet: a.showSignUp, http.MethodPost: a.signUp},
		"/sign-out":            {http.MethodPost: a.signOut},
	} {
		r.Handle(path, a.only(m))
	}
}

// Satisfies tells whether a login does for a request: it is complete, not older than after (nil: any age does) and of
// that acr. "" is any acr, and SCA is CA too; one that this server does not know is never satisfied.
func (a *Authn) Satisfies(login *storage.Login, after *time.Time, acr string) bool {
	if login == nil || login.ACR == "" || a.factorDue(login, acr) {
		return false
	}
	if after != nil && login.AuthTime.Before(*after) {
		return false
	}
	return acr == "" || acr == login.ACR || acr == CA && login.ACR == SCA
}

// factorDue tells whether what a login lacks is the second factor.
func (a *Authn) factorDue(login *storage.Login, acr string) bool {
	return login.ACR == "" || login.ACR != SCA && (acr == SCA || a.config.RequireSecondFactor)
}

// completed is what a login becomes by the second factor.
func completed(login *storage.Login, factorAMR string) (acr string, amr []string) {
	amr = slices.Clone(login.AMR)
	for _, m := range []string{factorAMR, amrMultiple} {
		if !slices.Contains(amr, m) {
			amr = append(amr, m)
		}
	}
	return SCA, amr
}
