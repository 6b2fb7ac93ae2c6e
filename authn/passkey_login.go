package authn

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// A passkey alone is a login: what the customer has, and, by the verification that the authenticator reports as done, what they
// know or are (RTS (EU) 2018/389 art. 4(1)). So it is SCA, and mfa.

const (
	passkeyPath    = "/login/passkey"
	purposeSignIn  = "sign-in" // as the first factor
	purposeLogin   = "login"   // as the second
	purposeEnrol   = "enrol"
	fieldState     = "state"
	fieldResponse  = "response"
	passkeyCookie  = "__Host-passkey" // binds a challenge to the browser that asked for it
	longestPasskey = 16 << 10         // of an answer; an attestation with certificates is the longest
)

func (a *Authn) passkeyRoutes() map[string]methods {
	if a.passkeys == nil {
		return nil
	}
	return map[string]methods{
		passkeyPath:                       {http.MethodGet: a.beginSignIn, http.MethodPost: a.signInByPasskey},
		enrolPath + "/" + storage.Passkey: {http.MethodGet: a.showNewPasskey(false), http.MethodPost: a.newPasskey(false)},
		addPath + "/" + storage.Passkey:   {http.MethodGet: a.showNewPasskey(true), http.MethodPost: a.newPasskey(true)},
	}
}

// offerPasskey puts a passkey on the login page, if this server takes them.
func (a *Authn) offerPasskey(page *web.Login, v view) {
	if a.passkeys == nil {
		return
	}
	page.Passkey = &web.LoginPasskey{Action: passkeyPath, Hidden: v.hidden(), BeginURL: passkeyPath, Script: web.PasskeyScript()}
	if v.kind == storage.Passkey {
		page.Passkey.Problem, page.Problem = v.problem, ""
	}
}

// beginSignIn answers GET /login/passkey, which the login page's script asks: a challenge for whoever is in front of this
// browser. Nothing is stored; no round trip.
func (a *Authn) beginSignIn(w http.ResponseWriter, r *http.Request) {
	hash := browserHash(r)
	if hash == nil {
		var value string
		value, hash = newCookie()
		http.SetCookie(w, &http.Cookie{Name: passkeyCookie, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	}
	options, state, err := a.beginAssertion(nil, place(purposeSignIn, uuid.Nil, hash))
	if err != nil {
		a.fail(w, r, err)
		return
	}
	body, err := json.Marshal(map[string]any{"options": options, "state": state})
	if err != nil {
		a.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(body) // whoever has left asks again
}

// browserHash is of the cookie that a challenge is bound to; nil without one.
func browserHash(r *http.Request) []byte {
	cookies := r.CookiesNamed(passkeyCookie)
	if len(cookies) != 1 {
		return nil
	}
	raw, err := cookieEncoding.DecodeString(cookies[0].Value)
	if err != nil || len(raw) != cookieBytes {
		return nil
	}
	return hashCookie(raw)
}

// signInByPasskey answers POST /login/passkey.
func (a *Authn) signInByPasskey(w http.ResponseWriter, r *http.Request) {
	form, j, ok := a.readForm(w, r, fieldState, fieldResponse)
	if !ok {
		return
	}
	err := a.enterByPasskey(w, r, form.Get(fieldState), []byte(form.Get(fieldResponse)))
	status, problem := http.StatusForbidden, "problem.passkey"
	switch {
	case err == nil:
		a.goOn(w, r, j.next())
		return
	case errors.Is(err, ErrPasskeyExpired):
		status, problem = http.StatusUnprocessableEntity, "problem.passkey_expired"
	case !errors.Is(err, ErrPasskey):
		a.fail(w, r, err)
		return
	}
	v := a.again(r, j, status, problem)
	v.kind = storage.Passkey
	a.loginPage(w, r, v)
}

// enterByPasskey checks an assertion and, if it is right, gives the browser a complete login. Two round trips.
func (a *Authn) enterByPasskey(w http.ResponseWriter, r *http.Request, state string, response []byte) error {
	ctx := r.Context()
	browser := browserHash(r)
	if browser == nil {
		return ErrPasskeyExpired
	}
	c, err := a.openChallenge(place(purposeSignIn, uuid.Nil, browser), state)
	if err != nil {
		return err
	}
	parsed, err := parseAssertion(response)
	if err != nil {
		return a.noPasskey(uuid.Nil, err)
	}
	owner, err := a.db.FindPasskey(ctx, a.config.Tenant, parsed.RawID)
	if errors.Is(err, storage.ErrNotFound) {
		a.log.Info("passkey.unknown")
		return ErrPasskey
	}
	if err != nil {
		return err
	}
	assertion, err := a.checkAssertion(ctx, storage.Event{CustomerID: owner.CustomerID, Visit: visitOf(r)}, []*storage.SecondFactor{&owner.Factor}, c, parsed)
	if err == nil && len(parsed.Response.UserHandle) == 0 { // nobody has said before who it is (WebAuthn §7.2 step 6)
		err = ErrPasskey
	}
	if err == nil {
		q := FactorRequest{Authn: a, Login: a.LoginHash(r), Visitor: &storage.Visitor{Login: storage.Login{CustomerID: owner.CustomerID}}}
		err = a.complete(w, r, q, storage.Passkey, Shown{Proof: storage.LoneAssertion(*assertion), AMR: amrPasskey})
	}
	if errors.Is(err, ErrPasskey) || errors.Is(err, storage.ErrNotFound) { // wrong, or used before: no guess, so nothing is counted
		a.refused("login", "wrong")
		return ErrPasskey
	}
	return err
}

func parseAssertion(response []byte) (*protocol.ParsedCredentialAssertionData, error) {
	if len(response) > longestPasskey {
		return nil, errors.New("too long")
	}
	return protocol.ParseCredentialRequestResponseBytes(response)
}
