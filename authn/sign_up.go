package authn

import (
	"context"
	"errors"
	"net/http"
	"net/mail"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

const longestField = 254 // characters of a name or an address

// showSignUp answers GET /sign-up.
func (a *Authn) showSignUp(w http.ResponseWriter, r *http.Request) {
	j, err := readJourney(r.URL.Query())
	switch {
	case !a.config.SignUp:
		a.refuse(w, r, http.StatusNotFound)
	case err != nil:
		a.refuse(w, r, http.StatusBadRequest)
	default:
		a.signUpPage(w, r, view{journey: j, client: a.client(r.Context(), j), status: http.StatusOK}, url.Values{})
	}
}

func (a *Authn) signUpPage(w http.ResponseWriter, r *http.Request, v view, form url.Values) {
	page := web.SignUp{
		Action: "/sign-up", Hidden: v.hidden(), Client: v.client, Problem: v.problem, ByPhone: a.sends(ChannelSMS), OnlyPhone: a.sends(ChannelSMS) && !a.sends(ChannelEmail),
		Username: form.Get("username"), Name: form.Get("name"), Email: form.Get("email"), LoginURL: v.link("/login"),
	}
	if !v.journey.alone() {
		page.LoginURL = v.next()
	}
	a.shown(r, a.pages.SignUp(w, v.status, page))
}

// signUp answers POST /sign-up (E1: customers whom the core banking system does not know yet). That a name is taken must
// be said; whoever wants to learn it pays for a password hash with each name. Where codes can be sent, the customer is made
// once the address is shown to be theirs; elsewhere at once, with an address that counts as not verified.
func (a *Authn) signUp(w http.ResponseWriter, r *http.Request) {
	if !a.config.SignUp {
		a.refuse(w, r, http.StatusNotFound)
		return
	}
	form, j, ok := a.readForm(w, r, "username", "name", "email", "password")
	if !ok {
		return
	}
	profile := storage.Profile{Username: strings.TrimSpace(form.Get("username")), Name: strings.TrimSpace(form.Get("name"))}
	problem := a.applicantProblem(form, &profile)
	if problem == "" {
		if err := a.Attempt(r.Context(), "sign_up", a.PerAddress("sign up", r)); a.signUpBlocked(w, r, j, form, err) {
			return
		}
		next := j.next()
		var err error
		if a.sends(destinationOf(&profile).Channel) {
			next, err = j.link(signUpPage), a.applyWith(r.Context(), w, profile, form.Get("password"))
		} else {
			err = a.signUpAtOnce(w, r, profile, form.Get("password"))
		}
		if err == nil {
			a.goOn(w, r, next)
			return
		}
		if problem = newCustomerProblem(err); problem == "" {
			a.fail(w, r, err)
			return
		}
	}
	a.signUpPage(w, r, a.again(r, j, http.StatusUnprocessableEntity, problem), form)
}

// signUpBlocked answers who has signed up too often: in masses, or to learn which names are taken.
func (a *Authn) signUpBlocked(w http.ResponseWriter, r *http.Request, j journey, form url.Values, err error) bool {
	text, blocked := a.retryAfter(w, err)
	switch {
	case blocked:
		v := a.again(r, j, http.StatusTooManyRequests, "")
		v.problem = text
		a.signUpPage(w, r, v, form)
	case err != nil:
		a.fail(w, r, err)
	}
	return err != nil
}

// applicantProblem says what is wrong with a form, "" for nothing, and reads the address into a profile that has none.
func (a *Authn) applicantProblem(form url.Values, p *storage.Profile) string {
	asked := destinationOf(p).Address == ""
	switch {
	case p.Username == "", p.Name == "", asked && strings.TrimSpace(form.Get("email")) == "", form.Get("password") == "":
		return "problem.missing"
	case !isText(p.Name):
		return "problem.name"
	case asked && !a.addressOf(form.Get("email"), p):
		if a.sends(ChannelSMS) {
			return "problem.address"
		}
		return "problem.email"
	}
	if address, own := nameAsAddress(p); address && !own { // whoever names it, means somebody else
		return "problem.username_address"
	}
	return ""
}

// nameAsAddress tells whether a user name reads like an email address or a phone number, and whether it is their own.
func nameAsAddress(p *storage.Profile) (address, own bool) {
	name, err := normalizeUsername(p.Username)
	if err != nil {
		return false, false
	}
	if strings.Contains(name, "@") {
		email, err := normalizeUsername(p.Email)
		return true, err == nil && name == email
	}
	number := storage.PhoneNumber(name)
	return number != "", number == storage.PhoneNumber(p.PhoneNumber)
}

// newCustomerProblem is what the page says of an error, "" when it is not the visitor's.
func newCustomerProblem(err error) string {
	switch {
	case errors.Is(err, ErrUsername):
		return "problem.username"
	case errors.Is(err, storage.ErrConflict):
		return "problem.username_taken"
	case errors.Is(err, ErrPasswordShort):
		return "problem.password_short"
	case errors.Is(err, ErrPasswordLong), errors.Is(err, ErrPasswordWeak):
		return "problem.password_weak"
	}
	return ""
}

// applyWith checks and hashes what will be the customer's, and has the code sent.
func (a *Authn) applyWith(ctx context.Context, w http.ResponseWriter, profile storage.Profile, password string) error {
	n, err := a.newCustomer(ctx, NewCustomer{Profile: profile, Password: password})
	if err != nil {
		return err
	}
	return a.beginSignUp(ctx, w, n.Profile, n.PasswordHash)
}

// signUpAtOnce makes the customer without a code, and logs them in.
func (a *Authn) signUpAtOnce(w http.ResponseWriter, r *http.Request, profile storage.Profile, password string) error {
	id, err := a.CreateCustomer(r.Context(), NewCustomer{Profile: profile, Password: password})
	if err != nil {
		return err
	}
	return a.begin(w, r, &storage.Credentials{CustomerID: id}, nil)
}

// isText tells whether a person could have typed it as a name.
func isText(s string) bool {
	return utf8.RuneCountInString(s) <= longestField && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) })
}

// isEmail tells whether it has the form of an address. Whether it is the customer's own is not known.
func isEmail(s string) bool {
	address, err := mail.ParseAddress(s)
	return err == nil && address.Address == s && len(s) <= longestField
}
