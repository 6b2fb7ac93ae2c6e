package authn

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// recoveryFactor is the kind of factor that codes on paper are: for when all else is lost.
type recoveryFactor struct{}

const (
	recoveryCodes    = 10
	recoveryLength   = 10                                 // letters: 50 bits
	recoveryAlphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ" // none is taken for another
	fewRecoveryCodes = 3
	recoveryPath     = "/self/factors/recovery-codes"
)

// recoverySecret is the secret of such a factor: what is left of the codes, as MACs under a key that is in no table.
type recoverySecret struct {
	Codes [][]byte `json:"codes"`
}

func (recoveryFactor) Kind() string               { return storage.RecoveryCodes }
func (recoveryFactor) Strength() Strength         { return LastResort }
func (recoveryFactor) Available(*Config) bool     { return true }
func (recoveryFactor) Label(text TextFunc) string { return text("factor.recovery_codes") }

func (recoveryFactor) Ask(_ context.Context, q FactorRequest) (web.FactorPart, error) {
	left, err := codesLeft(q.Factors[0])
	part := web.FactorPart{How: q.Text("second_factor.recovery"), Inputs: []web.Input{{
		Name: "code", Label: q.Text("second_factor.code"), Type: "text", Code: true, MaxLength: 2 * recoveryLength, Autocomplete: "off",
	}}}
	if left <= fewRecoveryCodes {
		part.How = q.Text("second_factor.recovery_few", "count", strconv.Itoa(left))
	}
	return part, err
}

func codesLeft(f *storage.SecondFactor) (int, error) {
	var s recoverySecret
	err := json.Unmarshal(f.Secret, &s)
	return len(s.Codes), err
}

// Verify looks for the code among those that are left. The proof is the list without it.
func (recoveryFactor) Verify(_ context.Context, q FactorRequest, form url.Values) (Shown, error) {
	typed, err := q.typed(form)
	if err != nil {
		return Shown{}, err
	}
	f := q.Factors[0]
	var s recoverySecret
	if err := json.Unmarshal(f.Secret, &s); err != nil {
		return Shown{}, err
	}
	mac, right := q.Authn.recoveryMAC(f.ID, typed), -1
	for i, code := range s.Codes {
		if hmac.Equal(mac, code) {
			right = i
		}
	}
	if right < 0 {
		return Shown{}, ErrWrongCode
	}
	secret, err := json.Marshal(recoverySecret{slices.Delete(s.Codes, right, right+1)})
	return Shown{storage.ChangedSecret{Factor: f, Secret: secret}, []string{amrOTP}}, err
}

// recoveryMAC is what is kept of a code, in whatever letters and groups it was typed. It is good in one row only.
func (a *Authn) recoveryMAC(row uuid.UUID, code string) []byte {
	mac := hmac.New(sha256.New, a.db.Keys().Derive("recovery codes"))
	mac.Write(row[:])
	mac.Write([]byte(strings.ToUpper(strings.ReplaceAll(code, "-", ""))))
	return mac.Sum(nil)
}

// makeRecoveryCodes gives the customer new ones, and remembers that and what went before, of which alone the customer is told then. Nobody
// can read them afterwards.
func (a *Authn) makeRecoveryCodes(r *http.Request, v *storage.Visitor, before ...storage.Event) ([]string, error) {
	id := storage.NewID()
	var s recoverySecret
	var shown []string
	for range recoveryCodes {
		code := newCode(recoveryLength, recoveryAlphabet)
		s.Codes = append(s.Codes, a.recoveryMAC(id, code))
		shown = append(shown, code[:recoveryLength/2]+"-"+code[recoveryLength/2:])
	}
	secret, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	added, err := a.factorAdded(r, v, storage.RecoveryCodes)
	if err != nil {
		return nil, err
	}
	if len(before) > 0 {
		added.Notice = nil
	}
	return shown, a.db.SetFactor(r.Context(), id, v.CustomerID, storage.RecoveryCodes, secret, append(before, added)...)
}

// guardRecoveryCodes lets the pages of recovery codes run, where these are used.
func (a *Authn) guardRecoveryCodes(w http.ResponseWriter, r *http.Request) (*storage.Visitor, bool) {
	if a.kind(storage.RecoveryCodes) == nil {
		a.goOn(w, r, factorListPath)
		return nil, false
	}
	return a.Guard(w, r, ChangeFactors, recoveryPath)
}

// showRecoveryCodes answers GET /self/factors/recovery-codes with how many are left.
func (a *Authn) showRecoveryCodes(w http.ResponseWriter, r *http.Request) {
	visitor, ok := a.guardRecoveryCodes(w, r)
	if !ok {
		return
	}
	page := web.RecoveryCodes{Action: recoveryPath, NextURL: factorListPath}
	for _, f := range visitor.Confirmed() {
		if f.Kind == storage.RecoveryCodes {
			var err error
			if page.Left, err = codesLeft(f); err != nil {
				a.fail(w, r, err)
				return
			}
		}
	}
	page.Few = page.Left <= fewRecoveryCodes
	a.shown(r, a.pages.RecoveryCodes(w, http.StatusOK, page))
}

// newRecoveryCodes answers POST /self/factors/recovery-codes with new ones, the only time.
func (a *Authn) newRecoveryCodes(w http.ResponseWriter, r *http.Request) {
	if _, _, ok := a.readForm(w, r); !ok {
		return
	}
	visitor, ok := a.guardRecoveryCodes(w, r)
	if !ok {
		return
	}
	codes, err := a.makeRecoveryCodes(r, visitor)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.shown(r, a.pages.RecoveryCodes(w, http.StatusOK, web.RecoveryCodes{Codes: codes, NextURL: factorListPath}))
}
