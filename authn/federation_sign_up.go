package authn

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authn/federation"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// profileOf is what a provider said of somebody, as far as it can be a customer's profile. The user name is the customer's to choose.
func profileOf(who *federation.Identity) (storage.Profile, error) {
	members := map[string]string{}
	for name, text := range who.Profile {
		tidy := web.Tidy(text, longestField)
		if name == "preferred_username" || tidy != text || name == "email" && !isEmail(text) || name == "phone_number" && storage.PhoneNumber(text) == "" {
			continue
		}
		members[name] = text
	}
	encoded, err := json.Marshal(members)
	if err != nil {
		return storage.Profile{}, err
	}
	var p storage.Profile
	if err := json.Unmarshal(encoded, &p); err != nil {
		return p, err
	}
	p.EmailVerified, p.PhoneNumberVerified = who.EmailVerified && p.Email != "", who.PhoneVerified && p.PhoneNumber != ""
	p.Attributes = who.Attributes
	return p, nil
}

// newcomer finds the identity that may become a new customer. When there is none, it has answered.
func (a *Authn) newcomer(w http.ResponseWriter, r *http.Request) *pendingLink {
	l := a.pending(w, r)
	if l != nil && !l.signsUp() {
		a.refuse(w, r, http.StatusNotFound)
		return nil
	}
	return l
}

// showLinkSignUp answers GET /login/link/sign-up.
func (a *Authn) showLinkSignUp(w http.ResponseWriter, r *http.Request) {
	l := a.newcomer(w, r)
	if l == nil {
		return
	}
	username := l.Identity.Profile["preferred_username"]
	if _, err := normalizeUsername(username); err != nil {
		username = ""
	}
	a.linkSignUpPage(w, r, l, http.StatusOK, "", username)
}

func (a *Authn) linkSignUpPage(w http.ResponseWriter, r *http.Request, l *pendingLink, status int, problem, username string) {
	profile, err := profileOf(&l.Identity)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	back := linkPage
	if !l.Anyone {
		back = l.journey.link("/login")
	}
	a.shown(r, a.pages.LinkSignUp(w, status, web.LinkSignUp{
		Action: linkPage + "/sign-up", Hidden: []web.Field{{Name: fieldSeen, Value: l.seen(uuid.Nil)}}, Client: a.client(r.Context(), l.journey),
		Provider: l.provider.Name, Problem: problem, Username: username, Name: profile.Name, Email: profile.Email, Phone: profile.PhoneNumber, BackURL: back,
	}))
}

// linkSignUp answers POST /login/link/sign-up: a new customer of what the provider said, without a password.
func (a *Authn) linkSignUp(w http.ResponseWriter, r *http.Request) {
	form, _, ok := a.readForm(w, r, "username", fieldSeen)
	if !ok {
		return
	}
	l := a.newcomer(w, r)
	if l == nil {
		return
	}
	username := strings.TrimSpace(form.Get("username"))
	if form.Get(fieldSeen) != l.seen(uuid.Nil) {
		a.linkSignUpPage(w, r, l, http.StatusOK, "", username)
		return
	}
	profile, err := profileOf(&l.Identity)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	profile.Username = username
	if err = federatedName(profile); err == nil {
		err = a.newFederated(w, r, l, profile)
	}
	switch {
	case err == nil:
		a.goOn(w, r, l.journey.next())
	case errors.Is(err, ErrUsername):
		a.linkSignUpPage(w, r, l, http.StatusUnprocessableEntity, a.pages.Text("problem.username"), username)
	case errors.Is(err, errNameOfOthers):
		a.linkSignUpPage(w, r, l, http.StatusUnprocessableEntity, a.pages.Text("problem.username_address"), username)
	case errors.Is(err, errNameTaken):
		a.linkSignUpPage(w, r, l, http.StatusUnprocessableEntity, a.pages.Text("problem.username_taken"), username)
	case errors.Is(err, storage.ErrConflict), errors.Is(err, storage.ErrNotFound):
		a.notThere(w, r, l.journey, l.provider, errNobody)
	default:
		a.fail(w, r, err)
	}
}

var (
	errNameTaken    = errors.New("authn: the user name is taken")
	errNameOfOthers = errors.New("authn: the user name is an address, which nobody has verified as theirs")
)

// federatedName tells whether somebody may call themselves that.
func federatedName(p storage.Profile) error {
	if p.Username == "" {
		return ErrUsername
	}
	if !p.EmailVerified {
		p.Email = ""
	}
	if !p.PhoneNumberVerified {
		p.PhoneNumber = ""
	}
	if address, own := nameAsAddress(&p); address && !own {
		return errNameOfOthers
	}
	return nil
}

// newFederated makes the customer, then the link, then the login. A link that somebody else was faster with leaves a customer without
// any way to log in, who is disabled.
func (a *Authn) newFederated(w http.ResponseWriter, r *http.Request, l *pendingLink, profile storage.Profile) error {
	ctx := r.Context()
	customer, err := a.CreateCustomer(ctx, NewCustomer{Profile: profile, PasswordHash: a.hasher.noPassword()})
	if errors.Is(err, storage.ErrConflict) {
		return errNameTaken
	}
	if err != nil {
		return err
	}
	if err := a.db.TakeIdentityVisit(ctx, l.hash, &pendingLink{}); err != nil {
		return errors.Join(err, a.Disable(ctx, customer))
	}
	if err := a.addLink(r, l, customer, nil); err != nil {
		return errors.Join(err, a.Disable(ctx, customer))
	}
	setVisitCookie(w, "")
	return a.beginFederated(w, r, customer, false, &l.Identity)
}
