package authn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// Factor is a kind of second factor. Each has a file of its own and a line in ownFactors, or in Config.Factors if it is the
// institution's (docs/second-factors.md). It keeps nothing: what belongs to a customer is in the request.
type Factor interface {
	Kind() string               // as stored: a-z, 0-9 and _
	Strength() Strength         // which one is offered first
	Label(text TextFunc) string // as the customer knows it: "authenticator app"
	Available(c *Config) bool   // whether this server can use it: it has a channel, say
	Ask(ctx context.Context, q FactorRequest) (web.FactorPart, error)
	// Verify checks what the form brings. It returns ErrWrongCode, which is counted, or a FormError, which is not.
	Verify(ctx context.Context, q FactorRequest, form url.Values) (Shown, error)
}

// Sender is a Factor for which something must be sent first. It is asked to by a button with the name "send".
type Sender interface {
	Factor
	Send(ctx context.Context, q FactorRequest) error // ErrTooManyCodes, ErrNoChannel, FormError
}

// Enroller is a Factor that is enrolled at the common addresses, /login/enrol/KIND and /self/factors/add/KIND. A Factor that is not
// has pages of its own there, or none if it is a last resort.
type Enroller interface {
	Factor
	// Begin makes the secret of a new factor. form is nil at the first look at the page; nil without an error then means that the
	// customer has something to say first. A form with "begin" begins anew.
	Begin(ctx context.Context, q FactorRequest, form url.Values) (secret []byte, err error)
	// EnrolPage shows what was begun: q.Factors has it, or is empty.
	EnrolPage(w http.ResponseWriter, status int, q FactorRequest, f web.EnrolFrame) error
	// Confirm checks that the customer has what was begun. A wrong answer is ErrWrongCode; it is not counted as a failed login.
	Confirm(ctx context.Context, q FactorRequest, form url.Values) (Shown, error)
}

// FactorRequest is the customer a Factor is asked about.
type FactorRequest struct {
	Authn   *Authn
	Visitor *storage.Visitor
	Login   []byte                  // hash of the login: what is sent is good for it alone
	Factors []*storage.SecondFactor // the customer's of this kind, the last used first
	Now     time.Time
}

// Text is a text of the catalogue.
func (q FactorRequest) Text(key string, values ...string) string {
	return q.Authn.pages.Text(key, values...)
}

// TextFunc is a text of the catalogue; values come in pairs.
type TextFunc = func(key string, values ...string) string

// Shown is a second factor that was right.
type Shown struct {
	Proof storage.Proof // uses it up; until then nothing has happened
	AMR   []string      // RFC 8176 §2, without mfa
}

// FormError is what is wrong with a form, in words for the customer. Nothing was guessed.
type FormError string

func (e FormError) Error() string { return "authn: " + string(e) }

// Strength orders the kinds.
type Strength int

// Strengths. A LastResort is never what is asked for first, however recently it was used.
const (
	LastResort Strength = iota
	Weak                // somebody between the bank and the customer can read it
	Strong              // a secret that stays with the customer
	Bound               // and is good for this server only, so nobody can be talked out of it
)

// ownFactors are the kinds of this package; authenticator apps are what is enrolled unless the customer chooses otherwise.
var ownFactors = []Factor{
	totpFactor{},
	sentFactor{storage.EmailFactor, ChannelEmail},
	sentFactor{storage.SMSFactor, ChannelSMS},
	passkeyFactor{},
	recoveryFactor{},
}

// kinds are the names of all kinds that there are, used here or not.
func (c *Config) kinds() (all []string) {
	for _, f := range slices.Concat(ownFactors, c.Factors) {
		all = append(all, f.Kind())
	}
	return all
}

// usable are the kinds that this server uses.
func (c *Config) usable() []Factor {
	return slices.DeleteFunc(slices.Concat(ownFactors, c.Factors), func(f Factor) bool {
		return !f.Available(c) || len(c.FactorKinds) > 0 && !slices.Contains(c.FactorKinds, f.Kind())
	})
}

func (c *Config) checkFactors() error {
	var wrong []error
	all := c.kinds()
	for i, kind := range all {
		if slices.Index(all, kind) != i || !kindName.MatchString(kind) {
			wrong = append(wrong, fmt.Errorf("kind of second factor %q is there twice, or not of a-z, 0-9 and _", kind))
		}
	}
	for _, kind := range c.FactorKinds {
		if !slices.Contains(all, kind) {
			wrong = append(wrong, fmt.Errorf("no kind of second factor %q", kind))
		}
	}
	return errors.Join(wrong...)
}

var kindName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`) // as in the database

// kind finds a kind that this server uses; nil for none.
func (a *Authn) kind(name string) Factor {
	for _, f := range a.factors {
		if f.Kind() == name {
			return f
		}
	}
	return nil
}

// request is what a kind is asked about.
func (a *Authn) request(f Factor, loginHash []byte, visitor *storage.Visitor) FactorRequest {
	q := FactorRequest{Authn: a, Visitor: visitor, Login: loginHash, Now: a.now()}
	for _, has := range visitor.Confirmed() {
		if has.Kind == f.Kind() {
			q.Factors = append(q.Factors, has)
		}
	}
	slices.SortStableFunc(q.Factors, func(x, y *storage.SecondFactor) int { return lastUse(y).Compare(lastUse(x)) })
	return q
}

func lastUse(f *storage.SecondFactor) time.Time {
	if f.LastUsedAt == nil {
		return time.Time{}
	}
	return *f.LastUsedAt
}

// offered are the kinds that the customer can show, the preferred one first: the last used, then the strongest.
func (a *Authn) offered(loginHash []byte, visitor *storage.Visitor, without []string) []Factor {
	used := map[string]time.Time{}
	var all []Factor
	for _, f := range a.factors {
		if visitor.Recovers && f.Kind() == recoveredBy {
			continue
		}
		if q := a.request(f, loginHash, visitor); len(q.Factors) > 0 && !slices.Contains(without, f.Kind()) {
			used[f.Kind()] = lastUse(q.Factors[0])
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, func(x, y Factor) int {
		return cmp.Or(
			cmp.Compare(btoi(x.Strength() == LastResort), btoi(y.Strength() == LastResort)),
			used[y.Kind()].Compare(used[x.Kind()]),
			cmp.Compare(y.Strength(), x.Strength()))
	})
	return all
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// factorPage asks for the second factor, or for the enrolment of one. The kind of the view is the one the customer chose; ""
// for none.
func (a *Authn) factorPage(w http.ResponseWriter, r *http.Request, v view, loginHash []byte, visitor *storage.Visitor) {
	if len(visitor.Confirmed()) == 0 {
		a.enrolFirst(w, r, v, loginHash, visitor)
		return
	}
	page := web.SecondFactor{Action: secondFactorPath, Hidden: v.hidden(withoutFields(v.without)...), Client: v.client, Problem: v.problem}
	offered := a.offered(loginHash, visitor, v.without)
	if len(offered) == 0 {
		a.shown(r, a.pages.SecondFactor(w, max(v.status, http.StatusForbidden), page))
		return
	}
	chosen := offered[0]
	if i := slices.IndexFunc(offered, func(f Factor) bool { return f.Kind() == v.kind }); i >= 0 {
		chosen = offered[i]
	}
	part, err := chosen.Ask(r.Context(), a.request(chosen, loginHash, visitor))
	if err != nil {
		a.fail(w, r, err)
		return
	}
	page.Part = &part
	page.Hidden = append(page.Hidden, web.Field{Name: fieldKind, Value: chosen.Kind()})
	for _, f := range offered {
		if f != chosen {
			page.Others = append(page.Others, web.Way{Text: f.Label(a.pages.Text), URL: v.factorLink(f.Kind())})
		}
	}
	a.shown(r, a.pages.SecondFactor(w, v.status, page))
}

const (
	secondFactorPath = "/login/second-factor"
	fieldKind        = "kind"
	fieldWithout     = "without" // kinds that do not do: said again by the request, in the end, so nobody gains by changing it
	fieldSend        = "send"
)

func withoutFields(kinds []string) []web.Field {
	if len(kinds) == 0 {
		return nil
	}
	return []web.Field{{Name: fieldWithout, Value: strings.Join(kinds, " ")}}
}

// factorLink leads to the page that asks for a kind.
func (v view) factorLink(kind string) string {
	q := url.Values{fieldKind: {kind}}
	for _, f := range v.hidden(withoutFields(v.without)...) {
		q.Set(f.Name, f.Value)
	}
	return secondFactorPath + "?" + q.Encode()
}

// readFactor reads which kind a request is about.
func (a *Authn) readFactor(v *view, form url.Values) {
	v.kind = form.Get(fieldKind)
	for _, kind := range strings.Fields(form.Get(fieldWithout)) {
		if slices.Contains(a.config.kinds(), kind) && !slices.Contains(v.without, kind) {
			v.without = append(v.without, kind)
		}
	}
}

// visitor finds the login that a step belongs to. When there is none, it has sent the visitor to where the journey starts.
func (a *Authn) visitor(w http.ResponseWriter, r *http.Request, j journey) ([]byte, *storage.Visitor) {
	hash := a.LoginHash(r)
	if hash == nil {
		a.goOn(w, r, j.next())
		return nil, nil
	}
	visitor, err := a.db.FindLogin(r.Context(), hash)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		a.goOn(w, r, j.next())
		return nil, nil
	case err != nil:
		a.fail(w, r, err)
		return nil, nil
	}
	visitor.From = visitOf(r)
	return hash, visitor
}

// showSecondFactor answers GET /login/second-factor: another kind than the preferred one, or what was sent.
func (a *Authn) showSecondFactor(w http.ResponseWriter, r *http.Request) {
	j, err := readJourney(r.URL.Query())
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest)
		return
	}
	hash, visitor := a.visitor(w, r, j)
	if visitor == nil {
		return
	}
	if len(visitor.Confirmed()) == 0 || a.justShown(visitor, "") {
		a.goOn(w, r, j.next())
		return
	}
	v := view{journey: j, client: a.client(r.Context(), j), status: http.StatusOK}
	a.readFactor(&v, r.URL.Query())
	a.factorPage(w, r, v, hash, visitor)
}

// readFactorForm reads a form that shows or enrols a factor: it says what kind, or has a code, and says nothing twice.
func (a *Authn) readFactorForm(w http.ResponseWriter, r *http.Request) (url.Values, journey, bool) {
	form, j, ok := a.readForm(w, r)
	if !ok {
		return nil, j, false
	}
	bad := !form.Has(fieldKind) && !form.Has("code")
	for _, values := range form {
		bad = bad || len(values) > 1
	}
	if bad {
		a.refuse(w, r, http.StatusBadRequest)
	}
	return form, j, !bad
}

// sentTwice is how soon after a factor was shown the same form cannot be meant.
const sentTwice = 5 * time.Second

func (a *Authn) justShown(visitor *storage.Visitor, kind string) bool {
	return visitor.FactorAt != nil && a.now().Sub(*visitor.FactorAt) < sentTwice && (kind == "" || kind == visitor.FactorKind)
}

// secondFactor answers POST /login/second-factor.
func (a *Authn) secondFactor(w http.ResponseWriter, r *http.Request) {
	form, j, ok := a.readFactorForm(w, r)
	if !ok {
		return
	}
	hash, visitor := a.visitor(w, r, j)
	if visitor == nil {
		return
	}
	v := a.again(r, j, http.StatusOK, "")
	a.readFactor(&v, form)
	offered := a.offered(hash, visitor, v.without)
	if v.kind == "" && len(offered) > 0 {
		v.kind = offered[0].Kind()
	}
	i := slices.IndexFunc(offered, func(f Factor) bool { return f.Kind() == v.kind })
	if i < 0 || a.justShown(visitor, v.kind) { // nothing to show, or nothing any more
		a.goOn(w, r, j.next())
		return
	}
	f, q := offered[i], a.request(offered[i], hash, visitor)
	next := j.next()
	var err error = &Blocked{visitor.Wait} // no verdict during a block
	switch sender, sends := f.(Sender); {
	case visitor.Wait > 0:
	case sends && form.Has(fieldSend):
		next = v.factorLink(v.kind)
		err = sender.Send(r.Context(), q)
	default:
		err = a.show(w, r, f, q, form)
	}
	if err == nil {
		a.goOn(w, r, next)
		return
	}
	a.retryAfter(w, err)
	if a.says(&v, err) {
		a.factorPage(w, r, v, hash, visitor)
		return
	}
	a.fail(w, r, err)
}

// says puts into a view what the customer did wrong. It returns false if we are at fault.
func (a *Authn) says(v *view, err error) bool {
	var wrong FormError
	switch text, blocked := a.waitText(err); {
	case blocked:
		v.status, v.problem = http.StatusTooManyRequests, text
	case errors.Is(err, errRefused), errors.Is(err, ErrWrongCode):
		v.status, v.problem = http.StatusForbidden, a.pages.Text("problem.code")
		if v.kind == storage.Passkey {
			v.problem = a.pages.Text("problem.passkey")
		}
	case errors.Is(err, ErrTooManyCodes):
		v.status, v.problem = http.StatusTooManyRequests, a.pages.Text("problem.codes_many")
	case errors.As(err, &wrong):
		v.status, v.problem = http.StatusUnprocessableEntity, string(wrong)
	default:
		return false
	}
	return true
}

// show checks a factor and, if it is right, gives the browser a complete login.
func (a *Authn) show(w http.ResponseWriter, r *http.Request, f Factor, q FactorRequest, form url.Values) error {
	shown, err := f.Verify(r.Context(), q, form)
	if err == nil {
		err = a.complete(w, r, q, f.Kind(), shown)
	}
	if errors.Is(err, ErrWrongCode) || errors.Is(err, storage.ErrNotFound) { // wrong, used before, or blocked since: none of them gets in
		return a.failed(r.Context(), q.Visitor, f.Kind())
	}
	return err
}

// complete makes the login of a customer who has shown both factors.
func (a *Authn) complete(w http.ResponseWriter, r *http.Request, q FactorRequest, kind string, shown Shown) error {
	value, hash := newCookie()
	n := storage.NewLogin{Hash: hash, Replaces: q.Login, Lifetime: a.config.LoginLifetime, FactorKind: kind, Visit: a.visit(w, r), Recovers: q.Visitor.Recovers}
	n.ACR, n.AMR = completed(&q.Visitor.Login, shown.AMR...)
	if _, err := a.db.CompleteLogin(r.Context(), shown.Proof, n); err != nil {
		return err
	}
	setCookie(w, value)
	a.log.Info("login.complete", zap.Stringer("customer", q.Visitor.CustomerID), zap.String("acr", n.ACR), zap.Strings("amr", n.AMR),
		zap.String("factor", kind))
	return nil
}

// typed is a code from a form, without the gaps with which apps show it.
func (q FactorRequest) typed(form url.Values) (string, error) {
	if len(form["code"]) != 1 || digits(form.Get("code")) == "" {
		return "", FormError(q.Text("problem.missing"))
	}
	return digits(form.Get("code")), nil
}

// digits takes out the gaps with which apps show a code.
func digits(code string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, code)
}
