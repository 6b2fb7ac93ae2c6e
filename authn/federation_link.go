package authn

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authn/federation"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// An identity that no customer has becomes one's in three steps. The provider has shown who somebody is there; the customer shows that
// the access here is theirs, by logging in or by a code to an address that we know, with their second factor if they have one; and
// the customer agrees. An email address that is the same on both sides never links by itself: whoever can have a provider say it
// would take over the access. The word of a provider that the institution trusts with that stands for the login, but not for the
// second factor, nor for the customer's yes.

// linkPage is where that happens. A login can come back to it.
const linkPage = "/login/link"

const (
	purposeLink  = "link"
	fieldSeen    = "seen" // what the page was about when it was shown
	fieldHow     = "how"
	decisionLink = "link"
)

// pendingLink is an identity that waits for its customer, in the browser that came back with it.
type pendingLink struct {
	Identity   federation.Identity `json:"identity"`
	Journey    string              `json:"journey"`
	At         time.Time           `json:"at"`
	By         uuid.UUID           `json:"by,omitzero"`          // who wanted it, on their own pages
	Anyone     bool                `json:"anyone,omitempty"`     // who can log in may link it
	Candidates []uuid.UUID         `json:"candidates,omitempty"` // who may besides
	CodeTo     Destination         `json:"code_to,omitzero"`     // of the only candidate
	Vouched    *voucher            `json:"vouched,omitempty"`    // who the only one is, where the provider's word is enough
	Taken      bool                `json:"taken,omitempty"`      // the verified address is somebody's

	hash     []byte
	journey  journey
	provider *federation.Provider
}

type voucher struct {
	Username string `json:"username"`
	Email    string `json:"email"`
}

func (l *pendingLink) may(customer uuid.UUID) bool {
	if l.By != uuid.Nil && l.By != customer {
		return false
	}
	return l.Anyone || slices.Contains(l.Candidates, customer)
}

// known is by what the customer knows the identity. An address that nobody has verified could be anybody's.
func (l *pendingLink) known() string {
	for _, member := range []string{"email", "preferred_username", "phone_number", "name"} {
		if member == "email" && !l.Identity.EmailVerified || member == "phone_number" && !l.Identity.PhoneVerified {
			continue
		}
		if text := web.Tidy(l.Identity.Profile[member], longestField); text != "" {
			return text
		}
	}
	return l.Identity.Subject
}

// seen ties a decision to the identity and the customer that the page showed.
func (l *pendingLink) seen(customer uuid.UUID) string {
	sum := sha256.Sum256(append(slices.Clone(l.hash), customer[:]...))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (l *pendingLink) signsUp() bool {
	return l.provider.SignUp && l.By == uuid.Nil && len(l.Candidates) == 0 && !l.Taken
}

// askWhose keeps an identity that nobody has, and asks whose it is. It returns errNobody when nobody may have it.
func (a *Authn) askWhose(w http.ResponseWriter, r *http.Request, p *federation.Provider, visit identityVisit, who *federation.Identity) error {
	l := &pendingLink{Identity: *who, Journey: visit.Journey, At: a.now(), By: visit.By, Anyone: slices.Contains(p.Link, federation.LinkLogin), provider: p}
	candidates, err := a.findCandidates(r.Context(), p, l)
	if err != nil {
		return err
	}
	if !l.Anyone && len(l.Candidates) == 0 && !l.signsUp() || l.By != uuid.Nil && !l.may(l.By) {
		return errNobody
	}
	if p.Trusted && l.By == uuid.Nil && len(candidates) == 1 {
		if err := a.vouch(w, r, l, &candidates[0]); err != nil {
			return err
		}
	}
	value, _ := newCookie()
	if err := a.db.SaveIdentityVisit(r.Context(), visitHash(value, purposeLink), l, visitLifetime); err != nil {
		return err
	}
	setVisitCookie(w, value)
	a.goOn(w, r, linkPage)
	return nil
}

// vouch takes the provider's word that the only candidate is here. One with a second factor is asked for it before anything is shown.
func (a *Authn) vouch(w http.ResponseWriter, r *http.Request, l *pendingLink, c *storage.CustomerRecord) error {
	profile, err := c.Profile()
	if err != nil {
		return err
	}
	if l.Vouched = (&voucher{profile.Username, profile.Email}); len(c.SecondFactors) == 0 {
		return nil
	}
	return a.beginElsewhere(w, r, c.ID, true, storage.NewLogin{AMR: []string{amrFederated}}, l.provider.ID)
}

// shared is one of the addresses that both sides may have verified.
type shared struct {
	by, channel, claim string
	verified           bool // there
	find               func(ctx context.Context, tenant, address string) ([]storage.CustomerRecord, error)
	here               func(*storage.Profile) (address string, verified bool)
}

func (a *Authn) contactsOf(who *federation.Identity) []shared {
	return []shared{
		{federation.LinkEmail, ChannelEmail, "email", who.EmailVerified, a.db.FindCustomersByEmail,
			func(p *storage.Profile) (string, bool) { return p.Email, p.EmailVerified }},
		{federation.LinkPhone, ChannelSMS, "phone_number", who.PhoneVerified, a.db.FindCustomersByPhone,
			func(p *storage.Profile) (string, bool) { return p.PhoneNumber, p.PhoneNumberVerified }},
	}
}

// findCandidates looks for customers with an address that both sides have verified.
func (a *Authn) findCandidates(ctx context.Context, p *federation.Provider, l *pendingLink) (candidates []storage.CustomerRecord, err error) {
	for _, c := range a.contactsOf(&l.Identity) {
		if !c.verified || !slices.Contains(p.Link, c.by) && !p.SignUp {
			continue
		}
		found, err := c.find(ctx, a.config.Tenant, l.Identity.Profile[c.claim])
		if err != nil {
			return nil, err
		}
		for i := range found {
			profile, err := found[i].Profile()
			if err != nil {
				return nil, err
			}
			address, verified := c.here(&profile)
			l.Taken = l.Taken || verified
			if !slices.Contains(p.Link, c.by) || !verified || found[i].DisabledAt != nil || slices.Contains(l.Candidates, found[i].ID) {
				continue
			}
			candidates, l.Candidates = append(candidates, found[i]), append(l.Candidates, found[i].ID)
			l.CodeTo = Destination{}
			if len(l.Candidates) == 1 && a.sends(c.channel) && addsTo(c.channel, found[i].SecondFactors) {
				l.CodeTo = Destination{Channel: c.channel, Address: address}
			}
		}
	}
	return candidates, nil
}

// addsTo tells whether a code by a channel shows something that the customer's second factors do not: a code by email, and then a code
// by email, would be one factor.
func addsTo(channel string, factors []string) bool {
	others := slices.DeleteFunc(slices.Clone(factors), func(kind string) bool { return kind == storage.RecoveryCodes })
	return len(others) == 0 || slices.ContainsFunc(others, func(kind string) bool { return kind != channel })
}

// pending finds the identity that waits in this browser. When there is none, it has answered.
func (a *Authn) pending(w http.ResponseWriter, r *http.Request) *pendingLink {
	cookie := visitOfBrowser(r)
	if cookie == "" {
		a.refuse(w, r, http.StatusBadRequest)
		return nil
	}
	l := &pendingLink{hash: visitHash(cookie, purposeLink)}
	err := a.db.FindIdentityVisit(r.Context(), l.hash, l)
	if err == nil {
		l.provider = a.providers[l.Identity.Provider]
		l.journey, err = keptJourney(l.Journey)
	}
	switch {
	case errors.Is(err, storage.ErrNotFound), err == nil && l.provider == nil:
		a.refuse(w, r, http.StatusBadRequest)
		return nil
	case err != nil:
		a.fail(w, r, err)
		return nil
	}
	return l
}

// prover is who has shown that the access here is theirs.
type prover struct {
	customer uuid.UUID
	profile  storage.Profile
	vouched  bool // by the provider's word: there is no login yet
}

// prover finds who has shown, since the identity came, that the access here is theirs; who began on their own pages has shown it before.
// When nobody has, it has answered with what is due.
func (a *Authn) prover(w http.ResponseWriter, r *http.Request, l *pendingLink) *prover {
	var v *storage.Visitor
	if hash := a.LoginHash(r); hash != nil {
		found, err := a.db.FindLogin(r.Context(), hash)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			a.fail(w, r, err)
			return nil
		}
		// A login from before shows who sat here then. The clocks may differ.
		if err == nil && (found.CustomerID == l.By || !found.AuthTime.Before(l.At.Add(-time.Minute))) {
			v = found
		}
	}
	switch {
	case v == nil && l.Vouched != nil:
		return &prover{customer: l.Candidates[0], profile: storage.Profile{Username: l.Vouched.Username, Email: l.Vouched.Email}, vouched: true}
	case v == nil:
		a.provePage(w, r, l, http.StatusOK, "", false)
		return nil
	case !l.may(v.CustomerID):
		a.provePage(w, r, l, http.StatusForbidden, a.pages.Text("problem.link_other", "provider", l.provider.Name), false)
		return nil
	}
	required := ""
	if len(v.Confirmed()) > 0 {
		required = SCA
	}
	if !a.Satisfies(&v.Login, nil, required) {
		a.Ask(w, r, Prompt{Login: &v.Login, ACR: required, Hidden: ToPage(linkPage)})
		return nil
	}
	profile, err := v.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return nil
	}
	return &prover{customer: v.CustomerID, profile: profile}
}

// showLink answers GET /login/link.
func (a *Authn) showLink(w http.ResponseWriter, r *http.Request) {
	l := a.pending(w, r)
	if l == nil {
		return
	}
	if r.URL.Query().Get(fieldHow) == amrPassword {
		a.Ask(w, r, Prompt{Fresh: true, Hidden: ToPage(linkPage)})
		return
	}
	if by := a.prover(w, r, l); by != nil {
		a.linkPage(w, r, l, by)
	}
}

func (a *Authn) linkPage(w http.ResponseWriter, r *http.Request, l *pendingLink, by *prover) {
	a.shown(r, a.pages.Link(w, http.StatusOK, web.Link{
		Action: linkPage, Hidden: []web.Field{{Name: fieldSeen, Value: l.seen(by.customer)}}, Client: a.client(r.Context(), l.journey),
		Provider: l.provider.Name, Identity: l.known(), Customer: by.profile.Username,
	}))
}

// provePage offers the ways in which the customer can show whose access it is. sent: a code is on its way.
func (a *Authn) provePage(w http.ResponseWriter, r *http.Request, l *pendingLink, status int, problem string, sent bool) {
	page := web.ProveLink{
		Provider: l.provider.Name, Identity: l.known(), Client: a.client(r.Context(), l.journey), Problem: problem,
		CodeAction: linkPage + "/code", CodeSent: sent,
	}
	if l.Anyone || len(l.Candidates) > 0 {
		page.LoginURL = linkPage + "?" + fieldHow + "=" + amrPassword
	}
	if l.CodeTo.Address != "" {
		page.Masked = l.CodeTo.Masked()
	}
	if l.signsUp() {
		if page.LoginURL == "" { // nobody can have it but a newcomer
			a.goOn(w, r, linkPage+"/sign-up")
			return
		}
		page.SignUpURL = linkPage + "/sign-up"
	}
	a.shown(r, a.pages.ProveLink(w, status, page))
}

// link answers POST /login/link: the customer agrees, or does not.
func (a *Authn) link(w http.ResponseWriter, r *http.Request) {
	form, _, ok := a.readForm(w, r, "decision", fieldSeen)
	if !ok {
		return
	}
	l := a.pending(w, r)
	if l == nil {
		return
	}
	by := a.prover(w, r, l)
	if by == nil {
		return
	}
	if subtle.ConstantTimeCompare([]byte(form.Get(fieldSeen)), []byte(l.seen(by.customer))) != 1 {
		a.linkPage(w, r, l, by) // something else than was shown
		return
	}
	if !a.take(w, r, l) {
		return
	}
	var err error
	switch {
	case form.Get("decision") == decisionLink:
		err = a.agreed(w, r, l, by)
	case l.Vouched != nil && !by.vouched: // whoever says no to the provider's word is not logged in by it
		err = a.End(w, r)
	}
	if err != nil {
		a.cameToNothing(w, r, l.provider, identityVisit{Journey: l.Journey, By: l.By}, err)
		return
	}
	a.goOn(w, r, l.journey.next())
}

// agreed links, and logs in whom the provider's word alone has shown. It returns errAnothers when somebody else was faster.
func (a *Authn) agreed(w http.ResponseWriter, r *http.Request, l *pendingLink, by *prover) error {
	err := a.addLink(r, l, by.customer, a.notice(by.profile, "linked", "provider", l.provider.Name))
	if errors.Is(err, storage.ErrConflict) {
		return errAnothers
	}
	if err == nil && by.vouched {
		err = a.beginFederated(w, r, by.customer, false, &l.Identity)
	}
	return err
}

// take ends the wait: one decision counts.
func (a *Authn) take(w http.ResponseWriter, r *http.Request, l *pendingLink) bool {
	err := a.db.TakeIdentityVisit(r.Context(), l.hash, &pendingLink{})
	switch {
	case errors.Is(err, storage.ErrNotFound):
		a.refuse(w, r, http.StatusBadRequest)
		return false
	case err != nil:
		a.fail(w, r, err)
		return false
	}
	setVisitCookie(w, "")
	return true
}

// addLink tells the customer, if m says how.
func (a *Authn) addLink(r *http.Request, l *pendingLink, customer uuid.UUID, m *storage.Message) error {
	err := a.db.AddIdentityLink(r.Context(), a.config.Tenant, customer, l.provider.ID,
		storage.LinkDisplay{Issuer: l.Identity.Issuer, Subject: l.Identity.Subject, Name: l.known()}, visitOf(r), m)
	if err == nil {
		a.log.Info("idp.linked", zap.Stringer("customer", customer), zap.String("provider", l.provider.ID))
	}
	return err
}

// linkCode answers POST /login/link/code: a code to the address that both sides know, asked for or typed. What was shown then, at the
// provider and by the code, is a login as by a password: a second factor is asked for as after one.
func (a *Authn) linkCode(w http.ResponseWriter, r *http.Request) {
	form, _, ok := a.readForm(w, r)
	if !ok {
		return
	}
	l := a.pending(w, r)
	switch {
	case l == nil:
		return
	case l.CodeTo.Address == "" || len(l.Candidates) != 1:
		a.refuse(w, r, http.StatusBadRequest)
		return
	}
	customer := l.Candidates[0]
	again := func(status int, problem string) { a.provePage(w, r, l, status, a.pages.Text(problem), true) }
	if form.Get("send") != "" {
		err := a.SendCode(r.Context(), CodeRequest{CustomerID: customer, To: l.CodeTo, Purpose: purposeLink, Binding: l.hash})
		switch {
		case errors.Is(err, ErrTooManyCodes):
			again(http.StatusTooManyRequests, "problem.codes_many")
		case errors.Is(err, ErrNoChannel):
			again(http.StatusForbidden, "problem.no_channel")
		case err != nil:
			a.fail(w, r, err)
		default:
			a.provePage(w, r, l, http.StatusOK, "", true)
		}
		return
	}
	if digits(form.Get("code")) == "" {
		again(http.StatusUnprocessableEntity, "problem.missing")
		return
	}
	err := a.provedByCode(w, r, l, customer, form.Get("code"))
	switch {
	case errors.Is(err, ErrWrongCode):
		again(http.StatusForbidden, "problem.code")
	case errors.Is(err, errRefused):
		a.notThere(w, r, l.journey, l.provider, err)
	case err != nil:
		a.fail(w, r, err)
	default:
		a.goOn(w, r, linkPage)
	}
}

func (a *Authn) provedByCode(w http.ResponseWriter, r *http.Request, l *pendingLink, customer uuid.UUID, typed string) error {
	code, err := a.CheckCode(r.Context(), customer, purposeLink, l.hash, typed)
	if err != nil {
		return err
	}
	if err := a.UseCode(r.Context(), code); err != nil {
		return err
	}
	hasFactor, err := a.db.HasSecondFactor(r.Context(), customer)
	if err != nil {
		return err
	}
	return a.beginElsewhere(w, r, customer, hasFactor, storage.NewLogin{AMR: []string{amrFederated, amrOTP}}, l.provider.ID)
}
