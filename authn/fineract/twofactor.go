package fineract

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/storage"
)

// Ways to get a code.
const (
	bySMS   = "sms"
	byEmail = "email"
	byTOTP  = "totp" // ours: an authenticator app makes it, nothing is sent
)

const (
	alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	purpose  = "fineract" // of codes

	longestCode  = 5 * time.Minute // of life
	tokenBytes   = 16
	longestTyped = 64
)

// method is a way to get a code (OTPDeliveryMethod).
type method struct {
	Name   string `json:"name"`
	Target string `json:"target"`

	to authn.Destination
}

// methods are those that the customer can use now, of those that the institution allows. Codes go to addresses that were shown to be
// the customer's, no others.
func (c *call) methods() []method {
	cfg, p, all := c.configuration(), &c.profile, []method{}
	add := func(name string, to authn.Destination) {
		m := method{Name: name, Target: to.Masked(), to: to}
		if c.api.FullTargets {
			m.Target = to.Address
		}
		all = append(all, m)
	}
	if cfg.on(smsEnable) && p.PhoneNumber != "" && p.PhoneNumberVerified && c.api.Authn.Uses(storage.SMSFactor) {
		add(bySMS, authn.Destination{Channel: authn.ChannelSMS, Address: p.PhoneNumber})
	}
	if cfg.on(emailEnable) && p.Email != "" && p.EmailVerified && c.api.Authn.Uses(storage.EmailFactor) {
		add(byEmail, authn.Destination{Channel: authn.ChannelEmail, Address: p.Email})
	}
	if c.hasApp() {
		all = append(all, method{Name: byTOTP, Target: "authenticator"})
	}
	return all
}

// hasApp tells whether the customer's authenticator app counts.
func (c *call) hasApp() bool { return c.visitor.TOTP != nil && c.api.Authn.Uses(storage.TOTP) }

// listMethods answers GET /twofactor.
func (c *call) listMethods() (any, error) { return c.methods(), nil }

// requested is what a client learns of a code that was asked for (OTPMetadata).
type requested struct {
	RequestTime    int64  `json:"requestTime"`        // milliseconds since 1970
	TokenLiveTime  int    `json:"tokenLiveTimeInSec"` // seconds
	Extended       bool   `json:"extendedAccessToken"`
	DeliveryMethod method `json:"deliveryMethod"`
}

// requestCode answers POST /twofactor.
func (c *call) requestCode() (any, error) {
	var chosen *method
	for _, m := range c.methods() {
		if strings.EqualFold(m.Name, c.parameter("deliveryMethod")) {
			chosen = &m
			break
		}
	}
	if chosen == nil {
		return nil, errDelivery
	}
	cfg, now := c.configuration(), c.api.now()
	life := min(cfg.duration(otpLiveTime), longestCode)
	answer := requested{milliseconds(now), int(life.Seconds()), c.flag("extendedToken"), *chosen}
	var sent *storage.Event
	if chosen.Name != byTOTP {
		if err := c.send(chosen.to, answer.Extended, cfg, life, now); err != nil {
			return nil, err
		}
		e := c.event("fineract.code_requested", map[string]any{"method": chosen.Name})
		sent = &e
	}
	return answer, c.api.DB.RememberOTPRequest(c.r.Context(), c.api.tenant, c.visitor.Customer.ID, answer.Extended, life, sent)
}

func (c *call) send(to authn.Destination, extended bool, cfg configuration, life time.Duration, now time.Time) error {
	err := c.api.Authn.SendCode(c.r.Context(), authn.CodeRequest{
		CustomerID: c.visitor.Customer.ID, To: to, Purpose: purpose, Binding: c.binding(extended),
		Length: cfg.number(otpLength), Alphabet: alphabet, Lifetime: life,
		Compose: func(code string, _ time.Duration) (subject, text string) {
			values := c.values(code, life, now)
			if to.Channel == authn.ChannelSMS {
				return "", c.rendered(cfg, smsText, values)
			}
			return oneLine(c.rendered(cfg, emailSubject, values)), c.rendered(cfg, emailBody, values)
		},
	})
	switch {
	case errors.Is(err, authn.ErrTooManyCodes):
		return errTooMany
	case errors.Is(err, authn.ErrNoChannel):
		return errDelivery
	}
	return err
}

// binding is what alone a code is good for: this API, for this customer of this tenant, and the token that it was asked for.
func (c *call) binding(extended bool) []byte {
	return []byte(c.api.tenant + "/" + c.visitor.Customer.ID.String() + "/" + strconv.FormatBool(extended))
}

// issued is a token (AccessTokenData). Times are milliseconds since 1970.
type issued struct {
	Token     string `json:"token"`
	ValidFrom int64  `json:"validFrom"`
	ValidTo   int64  `json:"validTo"`
}

// validate answers POST /twofactor/validate.
func (c *call) validate() (any, error) {
	ctx := c.r.Context()
	typed := c.parameter("token")
	if typed == "" || len(typed) > longestTyped {
		return nil, errOTP
	}
	secret := make([]byte, tokenBytes)
	rand.Read(secret)
	token := hex.EncodeToString(secret)
	cfg := c.configuration()
	n := storage.NewTFAToken{
		Hash: TokenHash(token), Tenant: c.api.tenant, CustomerID: c.visitor.Customer.ID, Extended: c.visitor.Extended,
		Lifetime: cfg.duration(tokenLiveTime), Visit: authn.VisitOf(c.r),
	}
	if n.Extended {
		n.Lifetime = cfg.duration(tokenLiveTimeExtended)
	}
	err := c.proof(ctx, typed, &n)
	if err == nil {
		var from, to time.Time
		if from, to, err = c.api.DB.CreateTFAToken(ctx, n); err == nil {
			c.api.Log.Info("fineract.token_issued", zap.Stringer("customer", n.CustomerID), zap.Bool("extended", n.Extended), zap.Time("valid_to", to))
			return issued{token, milliseconds(from), milliseconds(to)}, nil
		}
	}
	if errors.Is(err, storage.ErrNotFound) { // right, and used before, or locked since
		if err := c.api.DB.AddEvent(ctx, c.event("login.refused", map[string]any{"amr": "otp"})); err != nil {
			return nil, err
		}
		err = authn.ErrWrongCode
	}
	if errors.Is(err, authn.ErrWrongCode) {
		c.api.Log.Warn("fineract.code_refused", zap.Stringer("customer", n.CustomerID))
		return nil, errOTP
	}
	return nil, err
}

// proof finds the second factor that was typed. A sent code has a few attempts of its own; guesses at those of an app block the
// next ones for a while.
func (c *call) proof(ctx context.Context, typed string, n *storage.NewTFAToken) (err error) {
	if c.hasApp() && isAppCode(typed) {
		n.TOTP, n.Forgive, err = c.api.Authn.CheckTOTP(ctx, n.CustomerID, n.Visit, c.visitor.TOTP, typed)
		if !errors.Is(err, authn.ErrWrongCode) && !errors.Is(err, authn.ErrRefused) {
			return err
		}
	}
	n.Code, err = c.api.Authn.CheckSent(ctx, n.CustomerID, n.Visit, purpose, c.binding(n.Extended), typed)
	return err
}

// isAppCode tells whether it looks like the code of an authenticator app.
func isAppCode(typed string) bool {
	return len(typed) == 6 && strings.Trim(typed, "0123456789") == ""
}

// invalidate answers POST /twofactor/invalidate. Fineract asks for the permission INVALIDATE_TWOFACTOR_ACCESSTOKEN; everybody may
// end their own.
func (c *call) invalidate() (any, error) {
	members, err := c.object()
	if err != nil {
		return nil, err
	}
	if err := unsupported(members, "token"); err != nil {
		return nil, err
	}
	token, ok := text(members["token"])
	if blank := isBlank(token); !ok || blank {
		e := mandatory("TWOFACTOR_ACCESSTOKEN", "token")
		if ok {
			return nil, invalid(e)
		}
		return nil, invalid(e, e)
	}
	err = c.api.DB.EndTFAToken(c.r.Context(), c.api.tenant, c.visitor.Customer.ID, TokenHash(token), authn.VisitOf(c.r))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errAccessToken
	}
	if err != nil {
		return nil, err
	}
	c.api.Log.Info("fineract.token_ended", zap.Stringer("customer", c.visitor.Customer.ID))
	return map[string]string{"resourceIdentifier": token}, nil
}

// check answers GET /twofactor/check, for gateways that hand on the headers of a call: 200 only if both factors were shown.
func (c *call) check() (any, error) {
	answer := struct {
		Username string `json:"username"`
		ValidTo  int64  `json:"validTo,omitempty"` // none for whoever needs no token
	}{Username: c.profile.Username}
	if c.visitor.TokenEnds != nil {
		answer.ValidTo = milliseconds(*c.visitor.TokenEnds)
	}
	return answer, nil
}

func (c *call) event(kind string, details map[string]any) storage.Event {
	return storage.Event{CustomerID: c.visitor.Customer.ID, Kind: kind, Visit: authn.VisitOf(c.r), Details: details}
}
