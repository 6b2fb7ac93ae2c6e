package authn

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
)

// What an API needs that authenticates customers without pages of ours (package authn/fineract).

// ErrRefused is all that the outside learns of a refused attempt to log in.
var ErrRefused error = errRefused

// Tenant is whose customers log in here.
func (a *Authn) Tenant() string { return a.config.Tenant }

// Uses tells whether customers may use that kind of second factor here.
func (a *Authn) Uses(kind string) bool { return a.kind(kind) != nil }

// Refused counts a refusal for whoever watches the server.
func (a *Authn) Refused(action, reason string) { a.refused(action, reason) }

// VisitOf is where a request comes from.
func VisitOf(r *http.Request) storage.Visit { return visitOf(r) }

// CheckTOTP checks the code of a customer's authenticator app. Attempts count before anybody knows how they end; only who has shown the
// password can make them, so nobody else can keep the customer out. The store takes each step once, and then forgives the attempts in the
// bucket. It returns ErrWrongCode or a *Blocked. One round trip; two for a wrong one, which the customer reads of.
func (a *Authn) CheckTOTP(ctx context.Context, customer uuid.UUID, from storage.Visit, f *storage.SecondFactor, code string) (c *storage.CountedCode, bucket []byte, err error) {
	tries := a.PerCustomer("code without pages", customer.String())
	b, err := a.attempt(ctx, "code", tries)
	if err != nil {
		return nil, nil, err
	}
	step, ok := totp(f.Secret).verify(code, a.now())
	if !ok {
		return nil, nil, a.wrongCode(ctx, customer, from, f.Kind, b)
	}
	return &storage.CountedCode{Factor: f, Step: step}, tries.Key, nil
}

// CheckSent is CheckCode, and the customer reads of a wrong one. One round trip; two for a wrong one.
func (a *Authn) CheckSent(ctx context.Context, customer uuid.UUID, from storage.Visit, purpose string, binding []byte, typed string) (*storage.OneTimeCode, error) {
	c, err := a.CheckCode(ctx, customer, purpose, binding, typed)
	switch {
	case errors.Is(err, errNoCode): // and so no verdict
		a.refused("code", "wrong")
	case errors.Is(err, ErrWrongCode):
		err = a.wrongCode(ctx, customer, from, amrOTP, storage.Block{})
	}
	return c, err
}

// wrongCode remembers what the login page's limits remember there of a code that was tried: that it was refused, or that a wait began with
// it.
func (a *Authn) wrongCode(ctx context.Context, customer uuid.UUID, from storage.Visit, amr string, b storage.Block) error {
	a.refused("code", "wrong")
	e := storage.Event{CustomerID: customer, Kind: "login.refused", Visit: from, Details: map[string]any{"amr": amr}}
	if b.Began {
		e.Kind, e.Details["seconds"] = "login.blocked", int(math.Ceil(b.Wait.Seconds()))
	}
	ctx, cancel := untilDone(ctx)
	defer cancel()
	if err := a.db.AddEvent(ctx, e); err != nil {
		return err
	}
	return ErrWrongCode
}

const (
	rememberFor   = time.Minute
	mostRemember  = 10_000
	recallsLooked = 4 // entries that each new one makes the checker look at, for some that are old
)

// Passwords checks passwords for callers that send one with every call (RFC 7617). A hash for each would cost the server
// more than all the rest of the call, so a right one is remembered for a minute, under a key of this process. That saves
// the hash and nothing else: the customer's row is asked each time whether that password is still theirs and may log in.
// Wrong ones are not remembered.
type Passwords struct {
	a       *Authn
	key     []byte
	mu      sync.Mutex
	entries map[[sha256.Size]byte]rightPassword
}

type rightPassword struct {
	customer uuid.UUID
	hash     string // the stored one
	until    time.Time
}

// NewPasswords returns a checker of the tenant's passwords.
func (a *Authn) NewPasswords() *Passwords {
	key := make([]byte, 32)
	rand.Read(key)
	return &Passwords{a: a, key: key, entries: map[[sha256.Size]byte]rightPassword{}}
}

// Check checks a password as the login page does: limits hold, failures count, refusals leave at fixed intervals. It returns
// ErrRefused. Two round trips; one for a password that is remembered.
func (p *Passwords) Check(r *http.Request, typed, password string) (uuid.UUID, error) {
	start, ctx := p.a.now(), r.Context()
	name := p.name(typed, password)
	if known, ok := p.recall(name); ok {
		err := p.a.db.PasswordHolds(ctx, known.customer, known.hash, "", nil)
		if err == nil || !errors.Is(err, storage.ErrNotFound) {
			return known.customer, err
		}
	}
	right, err := p.check(r, typed, password)
	if errors.Is(err, errRefused) {
		p.a.atInterval(ctx, start)
		return uuid.Nil, ErrRefused
	}
	if err == nil {
		p.remember(name, right)
	}
	return right.customer, err
}

// check is what enter does, but for the login.
func (p *Passwords) check(r *http.Request, typed, password string) (right rightPassword, err error) {
	a := p.a
	c, upgrade, err := a.checkCredentials(r.Context(), visitOf(r), typed, password)
	if err != nil {
		return right, err
	}
	right = rightPassword{c.CustomerID, c.PasswordHash, a.now().Add(rememberFor)}
	upgraded := ""
	if upgrade != nil {
		upgraded, right.hash = upgrade.New, upgrade.New
	}
	err = a.db.PasswordHolds(r.Context(), c.CustomerID, c.PasswordHash, upgraded, c.Bucket)
	if errors.Is(err, storage.ErrNotFound) {
		a.log.Warn("login.refused", zap.Stringer("customer", c.CustomerID))
		return right, errRefused
	}
	return right, err
}

func (p *Passwords) name(typed, password string) (name [sha256.Size]byte) {
	mac := hmac.New(sha256.New, p.key)
	fmt.Fprintf(mac, "%d:%s%s", len(typed), typed, password)
	mac.Sum(name[:0])
	return name
}

func (p *Passwords) recall(name [sha256.Size]byte) (rightPassword, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.entries[name]
	return known, ok && p.a.now().Before(known.until)
}

// remember makes room by dropping what is old, or else anything: Go's maps are walked from a random place.
func (p *Passwords) remember(name [sha256.Size]byte, right rightPassword) {
	p.mu.Lock()
	defer p.mu.Unlock()
	looked, now := 0, p.a.now()
	for old, e := range p.entries {
		if looked++; looked > recallsLooked {
			break
		}
		if !now.Before(e.until) || len(p.entries) >= mostRemember {
			delete(p.entries, old)
		}
	}
	p.entries[name] = right
}
