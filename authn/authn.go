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

	"github.com/countersign/countersign/authn/federation"
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
	Origin string // https URL of this server, for which passkeys are made; "" or an IP address: none can be used

	// RequireSecondFactor makes everybody enrol one. Without it, it is asked of those who have one, and of everybody when a
	// request needs SCA.
	RequireSecondFactor bool
	SignUp              bool // whether customers may create their own access
	CustomersPerClient  int  // customers that one client of the core may have; default 1, negative: any number

	LoginLifetime time.Duration // of a complete login, from its last step; default 5 minutes (see the package)
	MaxFailures   int           // in a row, before a block; default 5, the most that RTS (EU) 2018/389 art. 4(3)(b) allows
	FirstBlock    time.Duration // how long it lasts; with each further failure twice as long. Default 1 minute
	LongestBlock  time.Duration // default 1 hour

	AddressAttempts int // from one address that lead to nothing, before it is blocked, for unknown browsers; default 100, one less every 12 s

	Argon2       Argon2       // default: OWASP's m=19456, t=2, p=1
	HashMemory   int          // MiB that passwords may take that are hashed at the same time; default 256
	Channels     []string     // by which codes can be sent: "email", "sms"
	FactorKinds  []string     // kinds of second factors that customers use here; none: all that this server can use
	Factors      []Factor     // kinds of the institution's own
	CodesPerHour int          // that a customer may ask for; default 3
	Federation   Federation   // other providers at which customers may log in
	Policy       Policy       // over DefaultPolicy
	Transactions Transactions // how they are approved

	DeletionWait time.Duration  // from a customer's wish to be deleted to the deed; default 14 days
	RecordsKept  time.Duration  // how long what the law wants kept outlives a customer; default 5 years
	Zone         *time.Location // in which customers read dates; nil: UTC

	// Client names the client of a journey on a page that is shown again, nil when there is no such journey. It must not
	// ask the database: it runs with every wrong password. May be nil.
	Client func(ctx context.Context, clientID, requestURI string) *web.Client

	// Refused is told of each refusal, for metrics: what was tried, and why it did not do. May be nil.
	Refused func(action, reason string)
}

// Validate reports all mistakes at once.
func (c Config) Validate() error {
	c.fill()
	var problems []error
	if c.Tenant == "" {
		problems = append(problems, errors.New("tenant is empty"))
	}
	if c.LoginLifetime < 0 || c.FirstBlock < 0 || c.LongestBlock < 0 || c.MaxFailures < 0 || c.AddressAttempts < 0 || c.CodesPerHour < 0 {
		problems = append(problems, errors.New("login lifetime, blocks and numbers of failures, attempts and codes must not be negative"))
	}
	if err := c.checkFactors(); err != nil {
		problems = append(problems, err)
	}
	if err := c.checkFederation(); err != nil {
		problems = append(problems, err)
	}
	if err := c.Argon2.check(); err != nil {
		problems = append(problems, err)
	}
	if c.HashMemory < 0 || c.HashMemory > 1<<20 {
		problems = append(problems, errors.New("memory for hashing must be 1 MiB to 1 TiB"))
	}
	if err := c.Policy.check(c.kinds()); err != nil {
		problems = append(problems, err)
	}
	if err := c.Transactions.check(c.kinds()); err != nil {
		problems = append(problems, err)
	}
	if c.DeletionWait < 0 || c.RecordsKept < 0 {
		problems = append(problems, errors.New("the wait before a deletion, and how long records are kept, must not be negative"))
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
	if c.CustomersPerClient == 0 {
		c.CustomersPerClient = 1
	}
	if c.CodesPerHour == 0 {
		c.CodesPerHour = 3
	}
	if c.DeletionWait == 0 {
		c.DeletionWait = 14 * oneDay
	}
	if c.RecordsKept == 0 {
		c.RecordsKept = 5 * oneYear
	}
	if c.FirstBlock == 0 {
		c.FirstBlock = time.Minute
	}
	if c.LongestBlock == 0 {
		c.LongestBlock = time.Hour
	}
	if c.AddressAttempts == 0 {
		c.AddressAttempts = addressAttempts
	}
	if c.HashMemory == 0 {
		c.HashMemory = 256
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

	factors  []Factor      // kinds that are used here
	passkeys *relyingParty // nil: none can be used

	providers map[string]*federation.Provider // by id
}

// New returns an Authn. The config has been validated.
func New(db *storage.DB, pages *web.Pages, log *zap.Logger, c Config) *Authn {
	c.fill()
	a := &Authn{db: db, pages: pages, log: log.Named("authn"), config: c, hasher: newHasher(c.Argon2, uint32(c.HashMemory)<<10), now: time.Now, factors: c.usable()}
	if a.kind(storage.Passkey) != nil {
		a.passkeys = newRelyingParty(c.Origin, c.Issuer)
	}
	a.providers = newProviders(c.Federation, func() time.Time { return a.now() })
	return a
}

// Mount adds the pages' addresses to r, which [web.Pages.Protect] must surround.
func (a *Authn) Mount(r *mux.Router) {
	for path, m := range map[string]methods{
		"/login":               {http.MethodGet: a.showLogin, http.MethodPost: a.login},
		"/login/second-factor": {http.MethodGet: a.showSecondFactor, http.MethodPost: a.secondFactor},
		"/sign-out":            {http.MethodPost: a.signOut},
	} {
		r.Handle(path, a.only(m))
	}
	for path, m := range a.signUpPages() {
		r.Handle(path, a.only(m))
	}
	for path, m := range a.recoveryPages() {
		r.Handle(path, a.only(m))
	}
	for path, m := range a.invitationPages() {
		r.Handle(path, a.only(m))
	}
	for path, m := range a.enrolment() {
		r.Handle(path, a.only(m))
	}
	for path, m := range a.federationRoutes() {
		r.Handle(path, a.only(m))
	}
	for path, m := range a.passkeyRoutes() {
		r.Handle(path, a.only(m))
	}
	for path, m := range a.transactionPasswordRoutes() {
		r.Handle(path, a.only(m))
	}
	for path, m := range a.selfRoutes() {
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
func completed(login *storage.Login, factorAMR ...string) (acr string, amr []string) {
	amr = slices.Clone(login.AMR)
	for _, m := range slices.Concat(factorAMR, []string{amrMultiple}) {
		if !slices.Contains(amr, m) {
			amr = append(amr, m)
		}
	}
	return SCA, amr
}
