package authn

import (
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
		Action: "/sign-up", Hidden: v.hidden(), Client: v.client, Problem: v.problem,
		Username: form.Get("username"), Name: form.Get("name"), Email: form.Get("email"), LoginURL: v.link("/login"),
	}
	if !v.journey.alone() {
		page.LoginURL = v.next()
	}
	a.shown(r, a.pages.SignUp(w, v.status, page))
}

// signUp answers POST /sign-up (E1: customers whom the core banking system does not know yet). That a name is taken must
// be said; whoever wants to learn it pays for a password hash with each name.
func (a *Authn) signUp(w http.ResponseWriter, r *http.Request) {
	if !a.config.SignUp {
		a.refuse(w, r, http.StatusNotFound)
		return
	}
	form, j, ok := a.readForm(w, r, "username", "name", "email", "password")
	if !ok {
		return
	}
	profile := storage.Profile{
		Username: strings.TrimSpace(form.Get("username")),
		Name:     strings.TrimSpace(form.Get("name")),
		Email:    strings.TrimSpace(form.Get("email")),
	}
	problem := ""
	switch password := form.Get("password"); {
	case profile.Username == "", profile.Name == "", profile.Email == "", password == "":
		problem = "problem.missing"
	case !isText(profile.Name):
		problem = "problem.name"
	case !isEmail(profile.Email):
		problem = "problem.email"
	default:
		id, err := a.CreateCustomer(r.Context(), NewCustomer{Profile: profile, Password: password})
		if err == nil {
			err = a.begin(w, r, id, false, nil)
		}
		switch {
		case err == nil:
			a.goOn(w, r, j.next())
			return
		case errors.Is(err, ErrUsername):
			problem = "problem.username"
		case errors.Is(err, storage.ErrConflict):
			problem = "problem.username_taken"
		case errors.Is(err, ErrPasswordShort):
			problem = "problem.password_short"
		case errors.Is(err, ErrPasswordLong), errors.Is(err, ErrPasswordWeak):
			problem = "problem.password_weak"
		default:
			a.fail(w, r, err)
			return
		}
	}
	a.signUpPage(w, r, a.again(r, j, http.StatusUnprocessableEntity, problem), form)
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
