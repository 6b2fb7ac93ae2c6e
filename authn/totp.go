package authn

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/http"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	otptotp "github.com/pquerna/otp/totp"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// totp is an authenticator app's secret (RFC 6238). The parameters are those that every app supports; several ignore
// what the QR code says of others.
type totp []byte

const (
	totpPeriod = 30 // seconds
	totpDigits = 6
	totpSecret = 20 // bytes (RFC 4226 §4, R6)
	totpSkew   = 1  // steps that a clock may be off (RFC 6238 §5.2)
)

func (totp) amr() string { return amrOTP }

func (secret totp) verify(code string, now time.Time) (int64, bool) {
	current := now.Unix() / totpPeriod
	for _, step := range []int64{current, current - 1, current + 1} {
		want, err := secret.code(step)
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			return step, true
		}
	}
	return 0, false
}

func (secret totp) code(step int64) (string, error) {
	return hotp.GenerateCodeCustom(secret.String(), uint64(step), hotp.ValidateOpts{Digits: totpDigits, Algorithm: otp.AlgorithmSHA1})
}

// String is how the secret is typed into an app.
func (secret totp) String() string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
}

// showEnrol answers GET /login/enrol.
func (a *Authn) showEnrol(w http.ResponseWriter, r *http.Request) {
	j, err := readJourney(r.URL.Query())
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest)
		return
	}
	hash, visitor := a.visitor(w, r, j)
	if visitor == nil {
		return
	}
	if len(visitor.Confirmed()) > 0 { // it is not replaced: then the password alone would do
		a.goOn(w, r, j.next())
		return
	}
	a.enrolPage(w, r, view{journey: j, client: a.client(r.Context(), j), status: http.StatusOK}, hash, visitor)
}

// enrol answers POST /login/enrol: the first code shows that the app has the secret. Wrong ones are not counted, since
// there is nothing to guess: the secret stands on the page.
func (a *Authn) enrol(w http.ResponseWriter, r *http.Request) {
	form, j, ok := a.readForm(w, r, "code")
	if !ok {
		return
	}
	hash, visitor := a.visitor(w, r, j)
	if visitor == nil {
		return
	}
	if len(visitor.Confirmed()) > 0 {
		a.goOn(w, r, j.next())
		return
	}
	again := func(status int, problem string) {
		a.enrolPage(w, r, a.again(r, j, status, problem), hash, visitor)
	}
	code := digits(form.Get("code"))
	f := visitor.Begun(storage.TOTP)
	switch {
	case code == "":
		again(http.StatusUnprocessableEntity, "problem.missing")
		return
	case f == nil: // another login has begun anew
		again(http.StatusForbidden, "problem.code")
		return
	}
	kind, err := open(f)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	step, ok := kind.verify(code, a.now())
	if !ok {
		again(http.StatusForbidden, "problem.code")
		return
	}
	err = a.complete(w, r, hash, visitor, f, kind, step)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		a.fail(w, r, err)
		return
	}
	a.goOn(w, r, j.next()) // also when the login has ended or was locked meanwhile: it is asked for again
}

// enrolPage shows the secret that this login has begun with, or begins.
func (a *Authn) enrolPage(w http.ResponseWriter, r *http.Request, v view, loginHash []byte, visitor *storage.Visitor) {
	f := visitor.Begun(storage.TOTP)
	if f == nil {
		secret := make([]byte, totpSecret)
		rand.Read(secret)
		var err error
		f, err = a.db.BeginFactor(r.Context(), visitor.CustomerID, loginHash, storage.TOTP, secret)
		if errors.Is(err, storage.ErrConflict) { // confirmed meanwhile
			a.goOn(w, r, v.next())
			return
		}
		if err != nil {
			a.fail(w, r, err)
			return
		}
		a.log.Info("login.enrolment_begun", zap.Stringer("customer", visitor.CustomerID), zap.String("factor", storage.TOTP))
	}
	profile, err := visitor.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	page := web.EnrolTOTP{
		Action: "/login/enrol", Hidden: v.hidden(), Client: v.client, Problem: v.problem,
		Secret: totp(f.Secret).String(), Account: profile.Username, Issuer: a.config.Issuer,
	}
	key, err := keyURI(a.config.Issuer, profile.Username, f.Secret)
	if err == nil {
		page.URI = key.String()
		page.QRPNG, err = qrPNG(key)
	}
	if err != nil { // the secret can still be typed
		a.log.Warn("no QR code", zap.Error(err))
	}
	a.shown(r, a.pages.EnrolTOTP(w, v.status, page))
}

// keyURI is what authenticator apps read; a colon parts issuer and account there.
func keyURI(issuer, account string, secret []byte) (*otp.Key, error) {
	label := strings.NewReplacer(":", " ", "/", " ")
	return otptotp.Generate(otptotp.GenerateOpts{
		Issuer: label.Replace(issuer), AccountName: label.Replace(account),
		Period: totpPeriod, Secret: secret, Digits: totpDigits, Algorithm: otp.AlgorithmSHA1,
	})
}

const (
	qrPixels = 400
	qrQuiet  = 32 // pixels of white around it, without which scanners do not find its edges
)

func qrPNG(key *otp.Key) ([]byte, error) {
	code, err := key.Image(qrPixels, qrPixels)
	if err != nil {
		return nil, err
	}
	page := image.NewPaletted(image.Rect(0, 0, qrPixels+2*qrQuiet, qrPixels+2*qrQuiet), color.Palette{color.White, color.Black})
	draw.Draw(page, code.Bounds().Add(image.Pt(qrQuiet, qrQuiet)), code, code.Bounds().Min, draw.Src)
	var b bytes.Buffer
	err = png.Encode(&b, page)
	return b.Bytes(), err
}
