package authn

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Argon2 is the price of an Argon2id hash (RFC 9106).
type Argon2 struct {
	Memory  uint32 // KiB
	Time    uint32 // passes
	Threads uint8
}

// The bounds hold for imported hashes too: checking one must not cost the server its memory or minutes.
func (p Argon2) check() error {
	if p.Memory < 8*uint32(p.Threads) || p.Memory > 256<<10 || p.Time < 1 || p.Time > 16 || p.Threads < 1 || p.Threads > 16 {
		return errors.New("Argon2 takes 8 KiB per thread to 256 MiB, 1 to 16 passes and 1 to 16 threads")
	}
	return nil
}

// phc is an Argon2id hash in the PHC string format: $argon2id$v=19$m=19456,t=2,p=1$salt$hash
type phc struct {
	Argon2
	salt, hash []byte
}

const (
	saltBytes = 16
	hashBytes = 32
)

var errHash = errors.New("authn: neither an Argon2id PHC string nor a bcrypt hash")

var phcEncoding = base64.RawStdEncoding.Strict()

func (p phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.Memory, p.Time, p.Threads,
		phcEncoding.EncodeToString(p.salt), phcEncoding.EncodeToString(p.hash))
}

func parsePHC(s string) (phc, error) {
	var p phc
	parts := strings.Split(s, "$")
	if len(s) > 512 || len(parts) != 6 {
		return p, errHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.Memory, &p.Time, &p.Threads); err != nil {
		return p, errHash
	}
	var err1, err2 error
	p.salt, err1 = phcEncoding.DecodeString(parts[4])
	p.hash, err2 = phcEncoding.DecodeString(parts[5])
	if err := errors.Join(err1, err2, p.check()); err != nil || len(p.salt) < 8 || len(p.salt) > 64 || len(p.hash) < 16 || len(p.hash) > 64 {
		return p, errHash
	}
	if p.String() != s { // one spelling only: no signs, leading zeros, other versions or parameters
		return p, errHash
	}
	return p, nil
}

// bcryptHash takes off the label that Spring Security, and so Fineract, puts before it, and bounds its price.
func bcryptHash(s string) ([]byte, bool) {
	s = strings.TrimPrefix(s, "{bcrypt}")
	if cost, err := bcrypt.Cost([]byte(s)); err != nil || cost > 15 || len(s) != 60 {
		return nil, false
	}
	return []byte(s), true
}

// checkHash tells whether a password can be checked against an imported hash.
func checkHash(s string) error {
	if _, ok := bcryptHash(s); ok {
		return nil
	}
	_, err := parsePHC(s)
	return err
}

// ErrBusy says that more passwords wait to be hashed than can be soon. Nothing was looked at.
var ErrBusy = errors.New("authn: too many passwords wait to be checked")

// hasher hashes passwords and checks them, no more at once than there are processors, since more would only take longer, and than there
// is memory set aside for it. Those that wait are served in the order in which they came; when they are too many, further ones are turned
// away before they cost anything. Neither thus grows with the number of those who log in.
type hasher struct {
	price   Argon2
	slots   chan struct{} // each is a processor, and the memory of one hash of ours
	several chan struct{} // held while one takes more slots than one
	waiting chan struct{} // and those in slots
	dummy   string        // no password's hash
}

// queuePerSlot is how many may wait for each that is hashed: about two seconds, at OWASP's price.
const queuePerSlot = 64

// newHasher returns a hasher that uses up to memory KiB at once, but what one hash takes in any case.
func newHasher(price Argon2, memory uint32) *hasher {
	slots := min(runtime.GOMAXPROCS(0), max(1, int(memory/price.Memory)))
	h := &hasher{price: price, slots: make(chan struct{}, slots), several: make(chan struct{}, 1), waiting: make(chan struct{}, slots*(1+queuePerSlot))}
	none := phc{Argon2: price, salt: make([]byte, saltBytes), hash: make([]byte, hashBytes)}
	rand.Read(none.salt)
	rand.Read(none.hash)
	h.dummy = none.String()
	return h
}

// hash returns a PHC string. It waits for its turn, until ctx ends, or returns ErrBusy.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx, 1); err != nil {
		return "", err
	}
	defer h.leave(1)
	p := phc{Argon2: h.price, salt: make([]byte, saltBytes)}
	rand.Read(p.salt)
	p.hash = p.key(password, hashBytes)
	return p.String(), nil
}

// check tells whether a password is right, and if so whether its hash is not what we would make today. It waits like hash.
func (h *hasher) check(ctx context.Context, encoded, password string) (right, outdated bool, err error) {
	b, isBcrypt := bcryptHash(encoded)
	p, n := phc{}, 1
	if !isBcrypt {
		if p, err = parsePHC(encoded); err != nil {
			return false, false, err
		}
		n = h.slotsFor(p.Argon2)
	}
	if err := h.enter(ctx, n); err != nil {
		return false, false, err
	}
	defer h.leave(n)
	if isBcrypt {
		right = bcrypt.CompareHashAndPassword(b, []byte(password)) == nil
		return right, right, nil
	}
	right = subtle.ConstantTimeCompare(p.key(password, len(p.hash)), p.hash) == 1
	return right, right && (p.Argon2 != h.price || len(p.salt) != saltBytes || len(p.hash) != hashBytes), nil
}

func (p phc) key(password string, length int) []byte {
	return argon2.IDKey([]byte(password), p.salt, p.Time, p.Memory, p.Threads, uint32(length))
}

// slotsFor is how many slots a hash takes: an imported one may need the memory of several.
func (h *hasher) slotsFor(price Argon2) int {
	n := (uint64(price.Memory) + uint64(h.price.Memory) - 1) / uint64(h.price.Memory)
	return max(1, min(int(n), cap(h.slots)))
}

func (h *hasher) enter(ctx context.Context, n int) error {
	select {
	case h.waiting <- struct{}{}:
	default:
		return ErrBusy
	}
	if n > 1 { // one after the other: two that have some each would wait for each other
		select {
		case h.several <- struct{}{}:
			defer func() { <-h.several }()
		case <-ctx.Done():
			<-h.waiting
			return ctx.Err()
		}
	}
	for taken := range n {
		select {
		case h.slots <- struct{}{}: // senders to a channel are served in order
		case <-ctx.Done():
			h.leave(taken)
			return ctx.Err()
		}
	}
	return nil
}

// busy tells whether a password would be turned away, for whoever would rather not begin.
func (h *hasher) busy() bool { return len(h.waiting) == cap(h.waiting) }

// leave gives n slots back, and the place in the queue.
func (h *hasher) leave(n int) {
	for range n {
		<-h.slots
	}
	<-h.waiting
}
