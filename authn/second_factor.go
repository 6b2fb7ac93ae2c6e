package authn

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// factor is one kind of second factor, opened for one customer.
type factor interface {
	// verify tells whether code is right, and of which step of the factor's count it is. It remembers nothing: the store
	// takes each step once.
	verify(code string, now time.Time) (step int64, ok bool)
	amr() string // RFC 8176 §2
}

// open makes the factor of a stored one.
func open(f *storage.SecondFactor) (factor, error) {
	switch f.Kind {
	case storage.TOTP:
		return totp(f.Secret), nil
	}
	return nil, fmt.Errorf("authn: unknown kind of second factor %q", f.Kind)
}

// factorPage asks for the second factor, or for the enrolment of one.
func (a *Authn) factorPage(w http.ResponseWriter, r *http.Request, v view, loginHash []byte, visitor *storage.Visitor) {
	if len(visitor.Confirmed()) == 0 {
		a.enrolPage(w, r, v, loginHash, visitor)
		return
	}
	a.shown(r, a.pages.SecondFactor(w, v.status, web.SecondFactor{
		Action: "/login/second-factor", Hidden: v.hidden(), Client: v.client, Problem: v.problem,
	}))
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
	return hash, visitor
}

// secondFactor answers POST /login/second-factor.
func (a *Authn) secondFactor(w http.ResponseWriter, r *http.Request) {
	form, j, ok := a.readForm(w, r, "code")
	if !ok {
		return
	}
	hash, visitor := a.visitor(w, r, j)
	if visitor == nil {
		return
	}
	usable := visitor.Confirmed()
	if len(usable) == 0 || visitor.FactorAt != nil && a.now().Sub(*visitor.FactorAt) < sentTwice { // nothing to show yet
		a.goOn(w, r, j.next())
		return
	}
	f := usable[0]
	again := func(status int, problem string) {
		a.factorPage(w, r, a.again(r, j, status, problem), hash, visitor)
	}
	code := digits(form.Get("code"))
	if code == "" {
		again(http.StatusUnprocessableEntity, "problem.missing")
		return
	}
	var err error = errLocked // no verdict during a lock
	if !visitor.Locked {
		err = a.show(w, r, hash, visitor, f, code)
	}
	switch {
	case err == nil:
		a.goOn(w, r, j.next())
	case err == errLocked:
		again(http.StatusTooManyRequests, "problem.locked")
	case errors.Is(err, errRefused):
		again(http.StatusForbidden, "problem.code")
	default:
		a.fail(w, r, err)
	}
}

// sentTwice is how soon after a factor was shown the same form cannot be meant.
const sentTwice = 5 * time.Second

// show checks a code and, if it is right, gives the browser a complete login.
func (a *Authn) show(w http.ResponseWriter, r *http.Request, loginHash []byte, visitor *storage.Visitor, f *storage.SecondFactor, code string) error {
	kind, err := open(f)
	if err != nil {
		return err
	}
	step, ok := kind.verify(code, a.now())
	if ok {
		err = a.complete(w, r, loginHash, visitor, f, kind, step)
	}
	if !ok || errors.Is(err, storage.ErrNotFound) { // wrong, used before, or locked since: none of them gets in
		return a.failed(r.Context(), visitor.CustomerID, kind.amr())
	}
	return err
}

// complete makes the login of a customer who has shown both factors.
func (a *Authn) complete(w http.ResponseWriter, r *http.Request, loginHash []byte, visitor *storage.Visitor, f *storage.SecondFactor, kind factor, step int64) error {
	value, hash := newCookie()
	n := storage.NewLogin{Hash: hash, Replaces: loginHash, Lifetime: a.config.LoginLifetime, FactorKind: f.Kind, Visit: visitOf(r)}
	n.ACR, n.AMR = completed(&visitor.Login, kind.amr())
	if _, err := a.db.CompleteLogin(r.Context(), storage.CountedCode{Factor: f, Step: step}, n); err != nil {
		return err
	}
	setCookie(w, value)
	a.log.Info("login.complete", zap.Stringer("customer", visitor.CustomerID), zap.String("acr", n.ACR), zap.Strings("amr", n.AMR),
		zap.String("factor", f.Kind), zap.Bool("enrolled", !f.Confirmed))
	return nil
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
