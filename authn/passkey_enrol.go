package authn

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// mostPasskeys is how many a customer may have.
const mostPasskeys = 20

// showNewPasskey answers GET /login/enrol/passkey, for a customer who has no second factor yet, and /self/factors/add/passkey,
// for one who wants another.
func (a *Authn) showNewPasskey(added bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if n := a.enrolling(w, r, passkeyFactor{}, r.URL.Query(), added); n != nil {
			a.newPasskeyPage(w, r, n, view{journey: n.journey, client: a.client(r.Context(), n.journey), status: http.StatusOK})
		}
	}
}

// newPasskey answers POST to the same addresses. What is wrong is not counted: there is nothing to guess.
func (a *Authn) newPasskey(added bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		form, j, ok := a.readForm(w, r, fieldState, fieldResponse)
		if !ok {
			return
		}
		n := a.enrolling(w, r, passkeyFactor{}, form, added)
		if n == nil {
			return
		}
		made, err := a.madePasskey(n, form)
		status, problem := http.StatusUnprocessableEntity, ""
		switch {
		case err == nil:
			a.enrolled(w, r, n, storage.Passkey, Shown{Proof: *made, AMR: amrPasskey})
			return
		case errors.Is(err, ErrPasskeyExpired):
			problem = "problem.passkey_expired"
		case errors.Is(err, ErrPasskey):
			status, problem = http.StatusForbidden, "problem.passkey_new"
		case errors.Is(err, storage.ErrConflict):
			status, problem = http.StatusConflict, "problem.passkey_there"
		case errors.Is(err, storage.ErrTooMany):
			problem = "problem.passkeys_many"
		default:
			a.fail(w, r, err)
			return
		}
		a.newPasskeyPage(w, r, n, a.again(r, j, status, problem))
	}
}

func (a *Authn) newPasskeyPage(w http.ResponseWriter, r *http.Request, n *enrolling, v view) {
	options, state, err := a.beginRegistration(n)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	page := web.EnrolFactor{
		EnrolFrame: web.EnrolFrame{Action: n.action, Hidden: v.hidden(), Client: v.client, Problem: v.problem},
		Part: passkeyPart(options, state, web.FactorPart{
			Title: n.Text("enrol_passkey.title"), How: n.Text("enrol_passkey.how"), Hint: n.Text("enrol_passkey.hint"),
			Submit: web.Button{Text: n.Text("enrol_passkey.submit")}, NoScript: n.Text("passkey.no_script"),
		}),
	}
	if !n.added {
		for _, f := range a.factors {
			if enrols(f) && f.Kind() != storage.Passkey {
				page.Others = append(page.Others, web.Way{Text: f.Label(a.pages.Text), URL: v.link(enrolPath + "/" + f.Kind())})
			}
		}
	}
	a.shown(r, a.pages.EnrolFactor(w, v.status, page))
}

// beginRegistration makes the options for navigator.credentials.create() (WebAuthn §5.4), and the state that comes back with
// the answer.
func (a *Authn) beginRegistration(n *enrolling) (json.RawMessage, string, error) {
	user, err := a.passkeyUser(n.Visitor.CustomerID, n.Factors)
	if err != nil {
		return nil, "", err
	}
	profile, err := n.Visitor.Customer.Profile()
	if err != nil {
		return nil, "", err
	}
	user.name, user.label = profile.Username, profile.Name
	if user.label == "" {
		user.label = profile.Username
	}
	c, state := a.newChallenge(place(purposeEnrol, n.Visitor.CustomerID, n.Login))
	asked, _, err := a.passkeys.BeginRegistration(user, func(o *protocol.PublicKeyCredentialCreationOptions) error {
		o.Challenge, o.Parameters = c.hash[:], algorithms
		for i := range user.credentials {
			o.CredentialExcludeList = append(o.CredentialExcludeList, user.credentials[i].Descriptor())
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	options, err := a.passkeyOptions(asked.Response)
	return options, state, err
}

// madePasskey checks what a new passkey says of itself (WebAuthn §7.1). It returns ErrPasskey, ErrPasskeyExpired,
// storage.ErrTooMany, or storage.ErrConflict for one that the customer has.
func (a *Authn) madePasskey(n *enrolling, form url.Values) (*storage.NewPasskey, error) {
	if len(n.Factors) >= mostPasskeys {
		return nil, storage.ErrTooMany
	}
	customer := n.Visitor.CustomerID
	c, err := a.openChallenge(place(purposeEnrol, customer, n.Login), form.Get(fieldState))
	if err != nil {
		return nil, err
	}
	user, err := a.passkeyUser(customer, n.Factors)
	if err != nil {
		return nil, err
	}
	made, err := a.checkRegistration(user, c, []byte(form.Get(fieldResponse)))
	if err != nil {
		return nil, a.noPasskey(customer, err)
	}
	if slices.ContainsFunc(user.credentials, func(c webauthn.Credential) bool { return bytes.Equal(c.ID, made.ID) }) {
		return nil, storage.ErrConflict
	}
	f := &storage.SecondFactor{ID: storage.NewID(), Kind: storage.Passkey, Name: a.passkeyName(made.Authenticator.AAGUID, n.Factors), LastStep: int64(made.Authenticator.SignCount)}
	f.Secret, err = sealable(made)
	return &storage.NewPasskey{Assertion: storage.Assertion{Factor: f, Challenge: c.use()}, CredentialID: made.ID, Another: n.added}, err
}

func (a *Authn) checkRegistration(user *passkeyUser, c challenge, response []byte) (*webauthn.Credential, error) {
	if len(response) > longestPasskey {
		return nil, errors.New("too long")
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return nil, err
	}
	session := webauthn.SessionData{Challenge: c.encoded(), UserID: user.handle, UserVerification: protocol.VerificationRequired, CredParams: algorithms}
	made, err := a.passkeys.CreateCredential(user, session, parsed)
	if err != nil {
		return nil, err
	}
	if err := a.passkeys.strictly(&parsed.Response.CollectedClientData); err != nil {
		return nil, err
	}
	key, err := webauthncose.ParsePublicKey(made.PublicKey) // the library does when it is used, which is too late
	if err != nil {
		return nil, err
	}
	if rsa, ok := key.(webauthncose.RSAPublicKeyData); ok && len(rsa.Modulus) < 256 {
		return nil, errors.New("an RSA key of less than 2048 bits")
	}
	return made, nil
}

// makers are what customers know the keeper of a passkey by, by its AAGUID. It names the passkey and decides nothing: nothing
// vouches for it.
var makers = map[string]string{
	"fbfc3007154e4ecc8c0b6e020557d7bd": "iCloud Keychain",
	"ea9b8d664d011d213ce4b6b48cb575d4": "Google Password Manager",
	"08987058cadc4b81b6e130de50dcbe96": "Windows Hello",
	"9ddd1817af5a4672a2b93e3dd95000a9": "Windows Hello",
	"6028b017b1d44c02b4b3afcdafc96bb2": "Windows Hello",
	"53414d53554e47000000000000000000": "Samsung Pass",
	"bada5566a7aa401fbd9645619a55120d": "1Password",
	"d548826e79b4db40a3d811116f7e8349": "Bitwarden",
}

// passkeyName is what a passkey is called until its customer finds a better name. None of the others is called so.
func (a *Authn) passkeyName(aaguid []byte, others []*storage.SecondFactor) string {
	name := makers[hex.EncodeToString(aaguid)]
	if name == "" {
		name = a.pages.Text("passkey.name")
	}
	numbered := name
	for i := 2; slices.ContainsFunc(others, func(f *storage.SecondFactor) bool { return f.Name == numbered }); i++ {
		numbered = name + " " + strconv.Itoa(i)
	}
	return numbered
}
