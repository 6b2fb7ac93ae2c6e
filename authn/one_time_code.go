package authn

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
)

// What is wrong with a code.
var (
	ErrWrongCode    = errors.New("authn: not the code, or not one any more")
	ErrTooManyCodes = errors.New("authn: too many codes in an hour")
	ErrNoChannel    = errors.New("authn: no code can be sent there")

	errNoCode = fmt.Errorf("%w: there is none", ErrWrongCode) // no verdict
)

// Channels by which codes are sent (package reach has the same names).
const (
	ChannelEmail = "email"
	ChannelSMS   = "sms"
)

// Destination is where a code goes.
type Destination struct {
	Channel string // ChannelEmail or ChannelSMS
	Address string // an email address, or a phone number (E.164)
}

// Masked is what pages and messages show of an address: a•••@example.com, •••• 4321.
func (d Destination) Masked() string {
	if d.Channel == ChannelEmail {
		if at := strings.LastIndexByte(d.Address, '@'); at > 0 {
			first := []rune(d.Address[:at])[:1]
			return string(first) + "•••" + d.Address[at:]
		}
		return "•••"
	}
	if len(d.Address) < 8 {
		return "••••"
	}
	return "•••• " + d.Address[len(d.Address)-4:]
}

// CodeRequest says which code is sent to whom, and what alone it is good for.
type CodeRequest struct {
	CustomerID uuid.UUID
	To         Destination
	Purpose    string // "login", "recovery" …
	Binding    []byte // what alone it is good for: the hash of a login, the digest of a payment

	Name string // part of the customer's, "" for none: who only pretends to be us does not know it

	// Zero values are replaced by the defaults.
	Length   int           // 6
	Alphabet string        // digits
	Lifetime time.Duration // 5 minutes, which is the most
	Compose  func(code string, lifetime time.Duration) (subject, text string)
}

const (
	codeLifetime = 5 * time.Minute
	codeAttempts = 5
	codeLength   = 6
	digitsOnly   = "0123456789"
)

// SendCode makes a code the customer's only one, and has it sent. It returns ErrTooManyCodes or ErrNoChannel, or nil before
// it was sent: how long that takes tells nobody anything. One round trip.
func (a *Authn) SendCode(ctx context.Context, q CodeRequest) error {
	if !a.sends(q.To.Channel) || q.To.Address == "" {
		return ErrNoChannel
	}
	q.fill(a.pages.Text)
	c := storage.OneTimeCode{ID: storage.NewID(), CustomerID: q.CustomerID, Purpose: q.Purpose, Binding: q.Binding, Code: newCode(q.Length, q.Alphabet)}
	m := storage.Message{Channel: q.To.Channel, To: q.To.Address, ExpiresAt: a.now().Add(q.Lifetime)}
	m.Subject, m.Text = q.Compose(c.Code, q.Lifetime)
	err := a.db.SendCode(ctx, c, q.Lifetime, a.config.CodesPerHour, m)
	if errors.Is(err, storage.ErrTooMany) {
		a.log.Warn("code.refused", zap.Stringer("customer", q.CustomerID), zap.String("purpose", q.Purpose))
		return ErrTooManyCodes
	}
	if err == nil {
		a.log.Info("code.sent", zap.Stringer("customer", q.CustomerID), zap.String("purpose", q.Purpose), zap.String("channel", q.To.Channel))
	}
	return err
}

// sends tells whether codes can be sent by a channel.
func (a *Authn) sends(channel string) bool {
	for _, c := range a.config.Channels {
		if c == channel {
			return true
		}
	}
	return false
}

func (q *CodeRequest) fill(text func(key string, values ...string) string) {
	if q.Length == 0 {
		q.Length = codeLength
	}
	if q.Alphabet == "" {
		q.Alphabet = digitsOnly
	}
	if q.Lifetime == 0 {
		q.Lifetime = codeLifetime
	}
	if q.Compose == nil {
		q.Compose = func(code string, lifetime time.Duration) (string, string) {
			values := []string{"code", code, "minutes", strconv.Itoa(int(lifetime.Minutes()))}
			if q.Name == "" {
				return text("code.subject"), text("code.text", values...)
			}
			return text("code.subject"), text("code.text_name", append(values, "name", q.Name)...)
		}
	}
}

// newCode draws each place by itself, all letters alike.
func newCode(length int, alphabet string) string {
	letters := []rune(alphabet)
	code := make([]rune, length)
	for i := range code {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(letters))))
		if err != nil {
			panic(err) // crypto/rand does not fail
		}
		code[i] = letters[n.Int64()]
	}
	return string(code)
}

// CheckCode counts an attempt at a customer's code and returns the code if typed is it, in upper or lower case. It is not used
// up thereby: [storage.SentCode] or UseCode do that, once. It returns ErrWrongCode. One round trip.
func (a *Authn) CheckCode(ctx context.Context, customer uuid.UUID, purpose string, binding []byte, typed string) (*storage.OneTimeCode, error) {
	c, err := a.db.TryCode(ctx, customer, purpose, binding, codeAttempts)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errNoCode
	}
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(strings.ToUpper(digits(typed))), []byte(strings.ToUpper(c.Code))) != 1 {
		return nil, ErrWrongCode
	}
	return c, nil
}

// UseCode uses a code up that CheckCode has returned. It returns ErrWrongCode when somebody else was faster, or it was replaced.
func (a *Authn) UseCode(ctx context.Context, c *storage.OneTimeCode) error {
	err := a.db.UseCode(ctx, c)
	if errors.Is(err, storage.ErrNotFound) {
		return ErrWrongCode
	}
	return err
}
