package authn

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/http"
	"net/url"
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

// totpFactor is the kind of factor that authenticator apps are.
type totpFactor struct{}

func (totpFactor) Kind() string               { return storage.TOTP }
func (totpFactor) Strength() Strength         { return Strong }
func (totpFactor) Available(*Config) bool     { return true }
func (totpFactor) Label(text TextFunc) string { return text("factor.totp") }

func (totpFactor) Ask(_ context.Context, q FactorRequest) (web.FactorPart, error) {
	return web.FactorPart{How: q.Text("second_factor.app"), Inputs: []web.Input{codeInput(q)}}, nil
}

// codeInput takes a code of digits.
func codeInput(q FactorRequest) web.Input {
	return web.Input{
		Name: "code", Label: q.Text("second_factor.code"), Type: "text", Code: true, Pattern: "[0-9 ]{6,9}", MaxLength: 9,
		InputMode: "numeric", Autocomplete: "one-time-code",
	}
}

func (totpFactor) Verify(_ context.Context, q FactorRequest, form url.Values) (Shown, error) {
	code, err := q.typed(form)
	if err != nil {
		return Shown{}, err
	}
	for _, f := range q.Factors {
		if step, ok := totp(f.Secret).verify(code, q.Now); ok {
			return Shown{storage.CountedCode{Factor: f, Step: step}, []string{amrOTP}}, nil
		}
	}
	return Shown{}, ErrWrongCode
}

func (totpFactor) Begin(context.Context, FactorRequest, url.Values) ([]byte, error) {
	secret := make([]byte, totpSecret)
	rand.Read(secret)
	return secret, nil
}

// Confirm takes the first code, which shows that the app has the secret. There is nothing to guess: it stands on the page.
func (f totpFactor) Confirm(ctx context.Context, q FactorRequest, form url.Values) (Shown, error) {
	return f.Verify(ctx, q, form)
}

func (totpFactor) EnrolPage(w http.ResponseWriter, status int, q FactorRequest, f web.EnrolFrame) error {
	a := q.Authn
	profile, err := q.Visitor.Customer.Profile()
	if err != nil {
		return err
	}
	secret := q.Factors[0].Secret
	page := web.EnrolTOTP{EnrolFrame: f, Secret: totp(secret).String(), Account: profile.Username, Issuer: a.config.Issuer}
	key, err := keyURI(a.config.Issuer, profile.Username, secret)
	if err == nil {
		page.URI = key.String()
		page.QRPNG, err = qrPNG(key)
	}
	if err != nil { // the secret can still be typed
		a.log.Warn("no QR code", zap.Error(err))
	}
	return a.pages.EnrolTOTP(w, status, page)
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
