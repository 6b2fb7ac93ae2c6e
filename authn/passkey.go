package authn

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
)

// What is wrong with what a browser brings of a passkey.
var (
	ErrPasskey        = errors.New("authn: no assertion by a passkey of the customer for this")
	ErrPasskeyExpired = errors.New("authn: the challenge is too old")
	ErrNoPasskey      = errors.New("authn: the customer has no passkey, or this server takes none")
)

// What a passkey shows, in the words of RFC 8176 §2 and, for pop, OpenID Connect EAP ACR Values 1.0 §3. Not hwk or swk: without
// attestation nobody knows where the key lives.
var amrPasskey = []string{"pop", "user"}

const (
	challengeLifetime = 5 * time.Minute
	clockLeeway       = 5 * time.Minute // between this server and the database, which forgets used challenges
	nonceBytes        = 32
	stateBytes        = nonceBytes + 8 + 8 // nonce, expiry and memory: Unix nanoseconds
	statePurpose      = "passkey.state"
)

// relyingParty is what passkeys are made for: this server, and nobody else.
type relyingParty struct {
	*webauthn.WebAuthn
	origin string
}

// newRelyingParty returns nil when the issuer's host cannot have passkeys: it is an IP address.
func newRelyingParty(issuer, name string) *relyingParty {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || protocol.ValidateRPID(u.Hostname()) != nil {
		return nil
	}
	origin := u.Scheme + "://" + u.Host
	w, err := webauthn.New(&webauthn.Config{
		RPID: u.Hostname(), RPDisplayName: name, RPOrigins: []string{origin},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
		// Some password managers tell more than they were asked (WebAuthn §7.1 step 20 leaves it to us). Nothing here reads it.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
		Timeouts: webauthn.TimeoutsConfig{
			Login: webauthn.TimeoutConfig{Timeout: challengeLifetime}, Registration: webauthn.TimeoutConfig{Timeout: challengeLifetime},
		},
	})
	if err != nil {
		return nil
	}
	return &relyingParty{w, origin}
}

// algorithms of credential keys, the preferred one first.
var algorithms = []protocol.CredentialParameter{
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgES256},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgEdDSA},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgRS256},
}

// passkeyUser is a customer as WebAuthn knows one.
type passkeyUser struct {
	handle      []byte
	name, label string
	credentials []webauthn.Credential
	factors     []*storage.SecondFactor // of which the credentials are, in their order
}

func (u *passkeyUser) WebAuthnID() []byte                         { return u.handle }
func (u *passkeyUser) WebAuthnName() string                       { return u.name }
func (u *passkeyUser) WebAuthnDisplayName() string                { return u.label }
func (u *passkeyUser) WebAuthnCredentials() []webauthn.Credential { return u.credentials }

// passkeyUser opens a customer's passkeys.
func (a *Authn) passkeyUser(customer uuid.UUID, factors []*storage.SecondFactor) (*passkeyUser, error) {
	u := &passkeyUser{handle: a.db.UserHandle(customer)}
	for _, f := range factors {
		if f.Kind != storage.Passkey || !f.Confirmed {
			continue
		}
		c, err := openCredential(f)
		if err != nil {
			return nil, err
		}
		u.credentials, u.factors = append(u.credentials, *c), append(u.factors, f)
	}
	return u, nil
}

// openCredential is what the secret of a passkey is: the credential record (WebAuthn §4), without the attestation. The
// counter is a column, since it decides.
func openCredential(f *storage.SecondFactor) (*webauthn.Credential, error) {
	c := &webauthn.Credential{}
	if err := json.Unmarshal(f.Secret, c); err != nil {
		return nil, fmt.Errorf("authn: passkey %s: %w", f.ID, err)
	}
	c.Authenticator.SignCount = uint32(f.LastStep)
	return c, nil
}

func sealable(c *webauthn.Credential) ([]byte, error) {
	c.Attestation = webauthn.CredentialAttestation{} // none was asked for, and it may tell one customer from others
	return json.Marshal(c)
}

// challenge is what a passkey signs, once: SHA-256 over a nonce and what alone it is good for. The state carries the nonce
// through the page, sealed, so nothing is stored before somebody answers.
type challenge struct {
	hash     [32]byte
	expires  time.Time
	remember time.Time // RememberedSince, when it was made
}

// place is what a challenge is good for: a purpose of a customer (uuid.Nil: nobody knows yet whose), and the login, payment or
// browser it is bound to.
func place(purpose string, customer uuid.UUID, binding []byte) []byte {
	h := sha256.New()
	h.Write([]byte{byte(len(purpose))})
	h.Write([]byte(purpose))
	h.Write(customer[:])
	h.Write(binding)
	return h.Sum(nil)
}

func challengeOf(nonce, place []byte) [32]byte {
	return sha256.Sum256(append(append([]byte("countersign passkey\x00"), nonce...), place...))
}

// newChallenge returns a challenge, and the state that it comes back with.
func (a *Authn) newChallenge(place []byte) (c challenge, state string) {
	c.expires, c.remember = a.now().Add(challengeLifetime), a.db.RememberedSince()
	raw := make([]byte, nonceBytes, stateBytes)
	rand.Read(raw)
	c.hash = challengeOf(raw, place)
	raw = binary.BigEndian.AppendUint64(raw, uint64(c.expires.UnixNano()))
	raw = binary.BigEndian.AppendUint64(raw, uint64(c.remember.UnixNano()))
	return c, base64.RawURLEncoding.EncodeToString(a.db.Keys().Seal(statePurpose, place, raw))
}

// openChallenge returns ErrPasskey for a state that was not made for this place, and ErrPasskeyExpired.
func (a *Authn) openChallenge(place []byte, state string) (c challenge, err error) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(state)
	if err != nil {
		return c, ErrPasskey
	}
	raw, err := a.db.Keys().Open(statePurpose, place, sealed)
	if err != nil || len(raw) != stateBytes {
		return c, ErrPasskey
	}
	c.hash = challengeOf(raw[:nonceBytes], place)
	c.expires = time.Unix(0, int64(binary.BigEndian.Uint64(raw[nonceBytes:])))
	c.remember = time.Unix(0, int64(binary.BigEndian.Uint64(raw[nonceBytes+8:])))
	if !a.now().Before(c.expires) {
		return c, ErrPasskeyExpired
	}
	return c, nil
}

func (c challenge) encoded() string { return base64.RawURLEncoding.EncodeToString(c.hash[:]) }

// use is its row among the identifiers that are used once.
func (c challenge) use() storage.Use {
	return storage.Use{Hash: sha256.Sum256(append([]byte("passkey challenge\x00"), c.hash[:]...)), ExpiresAt: c.expires.Add(clockLeeway), Remembered: c.remember}
}

// BeginPasskey makes the challenge for which one of a customer's passkeys is asked: options for [web.PasskeyScript], in the
// form's data-options, and the value of the hidden input state of that form, which has another, response, for the answer. purpose (up to 255 bytes) and binding are what the answer is good for, alone: binding is the
// digest of what is approved, amount and payee say. It returns ErrNoPasskey. Nothing is stored; no round trip.
func (a *Authn) BeginPasskey(_ context.Context, visitor *storage.Visitor, purpose string, binding []byte) (options json.RawMessage, state string, err error) {
	if a.passkeys == nil {
		return nil, "", ErrNoPasskey
	}
	user, err := a.passkeyUser(visitor.CustomerID, visitor.Confirmed())
	if err != nil {
		return nil, "", err
	}
	if len(user.credentials) == 0 {
		return nil, "", ErrNoPasskey
	}
	return a.beginAssertion(user, place(purpose, visitor.CustomerID, binding))
}

// beginAssertion asks for a user's passkey, or for anybody's when user is nil.
func (a *Authn) beginAssertion(user *passkeyUser, place []byte) (json.RawMessage, string, error) {
	c, state := a.newChallenge(place)
	ours := func(o *protocol.PublicKeyCredentialRequestOptions) error {
		o.Challenge = c.hash[:]
		return nil
	}
	var asked *protocol.CredentialAssertion
	var err error
	if user == nil {
		asked, _, err = a.passkeys.BeginDiscoverableLogin(ours)
	} else {
		asked, _, err = a.passkeys.BeginLogin(user, ours)
	}
	if err != nil {
		return nil, "", err
	}
	options, err := a.passkeyOptions(asked.Response)
	return options, state, err
}

// passkeyOptions are what the script gets: those of WebAuthn, and what it says when there is no answer.
func (a *Authn) passkeyOptions(publicKey any) (json.RawMessage, error) {
	texts := map[string]string{}
	for _, key := range []string{"cancelled", "there", "failed", "unsupported"} {
		texts[key] = a.pages.Text("passkey." + key)
	}
	return json.Marshal(map[string]any{"publicKey": publicKey, "texts": texts})
}

// FinishPasskey checks the answer to a challenge of BeginPasskey with the same visitor, purpose and binding, and uses it up:
// what is decided by it can be decided. response is the credential as JSON (WebAuthn §5.1, toJSON), as web/static/passkey.js
// posts it. It returns the passkey, or ErrPasskey, which was counted as a failed attempt; ErrPasskeyExpired, which was not;
// a *Blocked, without a verdict; ErrNoPasskey. One round trip.
func (a *Authn) FinishPasskey(ctx context.Context, visitor *storage.Visitor, purpose string, binding []byte, state string, response []byte) (*storage.SecondFactor, error) {
	if visitor.Wait > 0 {
		return nil, &Blocked{visitor.Wait}
	}
	assertion, err := a.checkPasskey(ctx, storage.Event{CustomerID: visitor.CustomerID, Visit: visitor.From}, visitor.Confirmed(), place(purpose, visitor.CustomerID, binding), state, response)
	if err == nil {
		err = a.db.UsePasskey(ctx, visitor.CustomerID, *assertion)
	}
	switch {
	case err == nil:
		a.log.Info("passkey.used", zap.Stringer("customer", visitor.CustomerID), zap.String("purpose", purpose))
		return assertion.Factor, nil
	case errors.Is(err, ErrPasskey), errors.Is(err, storage.ErrAlreadyUsed), errors.Is(err, storage.ErrNotFound):
		if err = a.failed(ctx, visitor, storage.Passkey); err == errRefused {
			err = ErrPasskey
		}
	}
	return nil, err
}

// checkPasskey is checkAssertion for what a browser has posted.
func (a *Authn) checkPasskey(ctx context.Context, e storage.Event, factors []*storage.SecondFactor, place []byte, state string, response []byte) (*storage.Assertion, error) {
	if a.passkeys == nil {
		return nil, ErrNoPasskey
	}
	c, err := a.openChallenge(place, state)
	if err != nil {
		return nil, err
	}
	parsed, err := parseAssertion(response)
	if err != nil {
		return nil, a.noPasskey(e.CustomerID, err)
	}
	return a.checkAssertion(ctx, e, factors, c, parsed)
}

// checkAssertion checks the answer of e's customer to a challenge (WebAuthn §7.2). Nothing is used up yet: the store does that, with
// what it lets happen. It returns ErrPasskey or ErrNoPasskey. No round trip; one if there may be a copy of the key.
func (a *Authn) checkAssertion(ctx context.Context, e storage.Event, factors []*storage.SecondFactor, c challenge, parsed *protocol.ParsedCredentialAssertionData) (*storage.Assertion, error) {
	user, err := a.passkeyUser(e.CustomerID, factors)
	if err != nil {
		return nil, err
	}
	if len(user.credentials) == 0 {
		return nil, ErrNoPasskey
	}
	session := webauthn.SessionData{Challenge: c.encoded(), UserID: user.handle, UserVerification: protocol.VerificationRequired}
	for i := range user.credentials {
		session.AllowedCredentialIDs = append(session.AllowedCredentialIDs, user.credentials[i].ID)
	}
	used, err := a.passkeys.ValidateLogin(user, session, parsed)
	if err == nil {
		err = a.passkeys.strictly(&parsed.Response.CollectedClientData)
	}
	if err != nil {
		return nil, a.noPasskey(e.CustomerID, err)
	}
	i := slices.IndexFunc(user.credentials, func(c webauthn.Credential) bool { return bytes.Equal(c.ID, used.ID) })
	if used.Authenticator.CloneWarning {
		return nil, a.copied(ctx, e, user.factors[i])
	}
	after := *user.factors[i]
	after.LastStep = int64(used.Authenticator.SignCount)
	after.Secret, err = sealable(used)
	return &storage.Assertion{Factor: &after, Challenge: c.use()}, err
}

// copied refuses an assertion that is right but for its counter, which has not grown: there may be a copy of the key (WebAuthn §6.1.1).
// The passkey stays, since nobody knows which one is the copy; the customer reads of it.
func (a *Authn) copied(ctx context.Context, e storage.Event, f *storage.SecondFactor) error {
	a.log.Warn("passkey.copied", zap.Stringer("customer", e.CustomerID), zap.Stringer("passkey", f.ID))
	e.Kind, e.Details = "passkey.copied", map[string]any{"factor": f.Kind}
	if err := a.db.PasskeyCopied(ctx, f.ID, e); err != nil {
		return err
	}
	return ErrPasskey
}

var errOrigin = errors.New("not our origin")

// strictly asks of client data what browsers send and the library does not insist on: our origin, letter by letter.
func (rp *relyingParty) strictly(data *protocol.CollectedClientData) error {
	if subtle.ConstantTimeCompare([]byte(data.Origin), []byte(rp.origin)) != 1 {
		return errOrigin
	}
	return nil
}

// noPasskey logs why, for whoever has to find out; the outside learns that it was not accepted.
func (a *Authn) noPasskey(customer uuid.UUID, err error) error {
	why := err.Error()
	if detailed := (*protocol.Error)(nil); errors.As(err, &detailed) {
		why = detailed.Details
	}
	a.log.Info("passkey.refused", zap.Stringer("customer", customer), zap.String("why", why))
	return ErrPasskey
}
