package authn

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// Somebody who signs up shows that the address is theirs before there is a customer. What they have typed waits, sealed, under a
// cookie of its own. Whether the address is a customer's already, only its mailbox learns: every answer here reads the same.

const (
	signUpCookie   = "__Host-sign-up"
	signUpLifetime = time.Hour // in which the mail arrives and is read
	signUpPage     = "/sign-up/code"
)

func (a *Authn) signUpLimits() storage.SignUpLimits {
	return storage.SignUpLimits{Lifetime: signUpLifetime, CodeLifetime: codeLifetime, PerHour: a.config.CodesPerHour}
}

// signUpPages are the addresses at which somebody signs up.
func (a *Authn) signUpPages() map[string]methods {
	return map[string]methods{
		"/sign-up": {http.MethodGet: a.showSignUp, http.MethodPost: a.signUp},
		signUpPage: {http.MethodGet: a.showSignUpCode, http.MethodPost: a.signUpCode},
	}
}

// destinationOf is where somebody's code goes: the address that they signed up with.
func destinationOf(p *storage.Profile) Destination {
	if p.Email != "" {
		return Destination{ChannelEmail, p.Email}
	}
	return Destination{ChannelSMS, p.PhoneNumber}
}

// beginSignUp has a code sent to who signs up, or word that they have access already. It returns storage.ErrConflict when the user
// name is somebody's.
func (a *Authn) beginSignUp(ctx context.Context, w http.ResponseWriter, profile storage.Profile, hash string) error {
	value, cookieHash := newCookie()
	s := storage.SignUp{Hash: cookieHash, Tenant: a.config.Tenant, Applicant: storage.Applicant{Profile: profile, PasswordHash: hash}}
	m, err := a.signUpMessage(ctx, &s)
	if err != nil {
		return err
	}
	if err := a.db.BeginSignUp(ctx, s, a.signUpLimits(), m); err != nil {
		return err
	}
	setSignUpCookie(w, value)
	a.log.Info("sign_up.begun", zap.String("channel", m.Channel))
	return nil
}

// signUpMessage writes what goes to the address, and sets the code, if there is one. It returns storage.ErrConflict when the user
// name is somebody's, unless it is the address itself: whose that is, nobody but its mailbox is told.
func (a *Authn) signUpMessage(ctx context.Context, s *storage.SignUp) (storage.Message, error) {
	to := destinationOf(&s.Applicant.Profile)
	m := storage.Message{Channel: to.Channel, To: to.Address, ExpiresAt: a.now().Add(codeLifetime)}
	customers, err := a.db.FindCustomersByEmail(ctx, s.Tenant, to.Address)
	if to.Channel == ChannelSMS {
		customers, err = a.db.FindCustomersByPhone(ctx, s.Tenant, to.Address)
	}
	if err != nil {
		return m, err
	}
	_, err = a.FindCustomer(ctx, s.Tenant, s.Applicant.Profile.Username)
	named := err == nil
	if !named && !errors.Is(err, storage.ErrNotFound) {
		return m, err
	}
	if address, _ := nameAsAddress(&s.Applicant.Profile); named && !address {
		return m, storage.ErrConflict
	}
	code := newCode(codeLength, digitsOnly) // as long to make when it is not sent
	if len(customers) > 0 || named {
		s.Code = ""
		m.Subject, m.Text = a.pages.Text("sign_up.known.subject"), a.pages.Text("sign_up.known.message", "bank", a.config.Issuer)
		return m, nil
	}
	s.Code = code
	m.Subject = a.pages.Text("sign_up.code.subject")
	m.Text = a.pages.Text("sign_up.code.message", "code", code, "minutes", strconv.Itoa(int(codeLifetime.Minutes())))
	return m, nil
}

// showSignUpCode answers GET /sign-up/code.
func (a *Authn) showSignUpCode(w http.ResponseWriter, r *http.Request) {
	j, err := readJourney(r.URL.Query())
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest)
		return
	}
	a.signUpCodePage(w, r, view{journey: j, client: a.client(r.Context(), j), status: http.StatusOK})
}

// signUpCodePage asks for the code. Who has no sign-up, any more, begins anew.
func (a *Authn) signUpCodePage(w http.ResponseWriter, r *http.Request, v view) {
	s, err := a.db.FindSignUp(r.Context(), signUpHash(r))
	switch {
	case !a.config.SignUp:
		a.refuse(w, r, http.StatusNotFound)
	case errors.Is(err, storage.ErrNotFound):
		a.goOn(w, r, v.link("/sign-up"))
	case err != nil:
		a.fail(w, r, err)
	default:
		a.shown(r, a.pages.SignUpCode(w, v.status, web.SignUpCode{
			Action: signUpPage, Hidden: v.hidden(), Client: v.client, Problem: v.problem,
			Masked: destinationOf(&s.Applicant.Profile).Masked(), BackURL: v.link("/sign-up"),
		}))
	}
}

// signUpCode answers POST /sign-up/code: the code, or that another one is wanted.
func (a *Authn) signUpCode(w http.ResponseWriter, r *http.Request) {
	form, j, ok := a.readForm(w, r, "code")
	if !ok {
		return
	}
	if !a.config.SignUp {
		a.refuse(w, r, http.StatusNotFound)
		return
	}
	var err error
	if form.Get("resend") != "" {
		if err = a.resendSignUp(r.Context(), signUpHash(r)); err == nil {
			a.goOn(w, r, j.link(signUpPage))
			return
		}
	} else {
		err = a.finishSignUp(w, r, form.Get("code"))
	}
	switch {
	case err == nil:
		a.goOn(w, r, j.next())
	case errors.Is(err, ErrWrongCode):
		a.signUpCodePage(w, r, a.again(r, j, http.StatusForbidden, "problem.code"))
	case errors.Is(err, storage.ErrNotFound):
		a.goOn(w, r, j.link("/sign-up"))
	case errors.Is(err, storage.ErrConflict): // somebody else took the name while the mail was on its way
		a.signUpPage(w, r, a.again(r, j, http.StatusUnprocessableEntity, "problem.username_taken"), nil)
	default:
		a.fail(w, r, err)
	}
}

func (a *Authn) resendSignUp(ctx context.Context, hash []byte) error {
	s, err := a.db.FindSignUp(ctx, hash)
	if err != nil {
		return err
	}
	m, err := a.signUpMessage(ctx, s)
	if err != nil {
		return err
	}
	return a.db.ResendSignUp(ctx, *s, a.signUpLimits(), m)
}

// finishSignUp makes the customer, if the code is right, and logs them in: the password was typed within the hour.
func (a *Authn) finishSignUp(w http.ResponseWriter, r *http.Request, typed string) error {
	ctx := r.Context()
	s, err := a.db.TrySignUp(ctx, signUpHash(r), codeAttempts)
	if errors.Is(err, storage.ErrNotFound) {
		return ErrWrongCode
	}
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(digits(typed)), []byte(s.Code)) != 1 {
		return ErrWrongCode
	}
	p := s.Applicant.Profile
	p.EmailVerified, p.PhoneNumberVerified = p.Email != "", p.PhoneNumber != ""
	n, err := a.newCustomer(ctx, NewCustomer{Tenant: s.Tenant, Profile: p, PasswordHash: s.Applicant.PasswordHash})
	if err != nil {
		return err
	}
	if err := a.db.FinishSignUp(ctx, s, n, storage.Event{Kind: "customer.signed_up", Visit: visitOf(r)}); err != nil {
		if errors.Is(err, storage.ErrNotFound) {
			return ErrWrongCode
		}
		return err
	}
	a.created(n)
	setSignUpCookie(w, "")
	return a.begin(w, r, &storage.Credentials{CustomerID: n.ID}, nil)
}

// signUpHash is what the visitor's sign-up is found by; nobody's without a well-formed cookie.
func signUpHash(r *http.Request) []byte {
	cookies := r.CookiesNamed(signUpCookie)
	if len(cookies) != 1 {
		return nil
	}
	raw, err := cookieEncoding.DecodeString(cookies[0].Value)
	if err != nil || len(raw) != cookieBytes {
		return nil
	}
	return hashCookie(raw)
}

func setSignUpCookie(w http.ResponseWriter, value string) {
	c := &http.Cookie{Name: signUpCookie, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(signUpLifetime.Seconds())}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// addressOf reads where somebody can be reached: an email address, or a phone number if codes can be sent there.
func (a *Authn) addressOf(typed string, p *storage.Profile) bool {
	typed = strings.TrimSpace(typed)
	number := storage.PhoneNumber(typed)
	switch {
	case isEmail(typed) && (a.sends(ChannelEmail) || !a.sends(ChannelSMS)):
		p.Email = typed
	case number != "" && a.sends(ChannelSMS):
		p.PhoneNumber = number
	default:
		return false
	}
	return true
}
