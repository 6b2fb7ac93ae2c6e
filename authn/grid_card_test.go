package authn

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"net/url"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// gridCard is a kind that a bank might add: a printed card, of which two fields are asked for.
type gridCard struct{}

func (gridCard) Kind() string           { return "grid_card" }
func (gridCard) Strength() Strength     { return Weak }
func (gridCard) Available(*Config) bool { return true }
func (gridCard) Label(TextFunc) string  { return "Your card" }

func (gridCard) Ask(context.Context, FactorRequest) (web.FactorPart, error) {
	return web.FactorPart{How: "Take your card.", Inputs: []web.Input{{Name: "A1", Label: "A1", Type: "text"}, {Name: "B2", Label: "B2", Type: "text"}}}, nil
}

func (gridCard) Verify(_ context.Context, q FactorRequest, form url.Values) (Shown, error) {
	var fields map[string]string
	if err := json.Unmarshal(q.Factors[0].Secret, &fields); err != nil {
		return Shown{}, err
	}
	for name, want := range fields {
		if form.Get(name) == "" {
			return Shown{}, FormError("Please type both fields.")
		}
		if subtle.ConstantTimeCompare([]byte(form.Get(name)), []byte(want)) != 1 {
			return Shown{}, ErrWrongCode
		}
	}
	return Shown{Proof: storage.ChangedSecret{Factor: q.Factors[0], Secret: q.Factors[0].Secret}, AMR: []string{"grid"}}, nil
}
