package authn

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// passkeyFactor is a passkey after the password. It answers for this server's address only, so a false page gets nothing
// that it could use here.
type passkeyFactor struct{}

func (passkeyFactor) Kind() string               { return storage.Passkey }
func (passkeyFactor) Strength() Strength         { return Bound }
func (passkeyFactor) Label(text TextFunc) string { return text("factor.passkey") }
func (passkeyFactor) Available(c *Config) bool   { return newRelyingParty(c.Origin, c.Issuer) != nil }

func (passkeyFactor) Ask(ctx context.Context, q FactorRequest) (web.FactorPart, error) {
	options, state, err := q.Authn.BeginPasskey(ctx, q.Visitor, purposeLogin, q.Login)
	return passkeyPart(options, state, web.FactorPart{
		Title: q.Text("second_factor.passkey.title"), How: q.Text("second_factor.passkey.how"), Hint: q.Text("second_factor.passkey.hint"),
		Submit: web.Button{Text: q.Text("second_factor.passkey.submit")}, NoScript: q.Text("passkey.no_script"),
	}), err
}

// passkeyPart adds to a part what the script needs.
func passkeyPart(options json.RawMessage, state string, part web.FactorPart) web.FactorPart {
	part.Script, part.Options = web.PasskeyScript(), string(options)
	part.Inputs = []web.Input{{Name: fieldState, Type: "hidden", Value: state}, {Name: fieldResponse, Type: "hidden"}}
	return part
}

func (passkeyFactor) Verify(ctx context.Context, q FactorRequest, form url.Values) (Shown, error) {
	if len(form[fieldState]) != 1 || len(form[fieldResponse]) != 1 || form.Get(fieldResponse) == "" {
		return Shown{}, FormError(q.Text("problem.passkey_none"))
	}
	customer := q.Visitor.CustomerID
	assertion, err := q.Authn.checkPasskey(ctx, storage.Event{CustomerID: customer, Visit: q.Visitor.From}, q.Factors, place(purposeLogin, customer, q.Login), form.Get(fieldState), []byte(form.Get(fieldResponse)))
	switch {
	case errors.Is(err, ErrPasskey):
		return Shown{}, ErrWrongCode
	case errors.Is(err, ErrPasskeyExpired):
		return Shown{}, FormError(q.Text("problem.passkey_expired"))
	case err != nil:
		return Shown{}, err
	}
	return Shown{Proof: *assertion, AMR: amrPasskey}, nil
}
