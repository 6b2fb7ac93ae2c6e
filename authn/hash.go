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

// hasher hashes passwords and checks them, no more at once than there are processors: each takes its memory, and more
// at once would only take longer.
type hasher struct {
	price Argon2
	slots chan struct{}
	dummy string // no password's hash
}

func newHasher(price Argon2) *hasher {
	h := &hasher{price: price, slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
	none := phc{Argon2: price, salt: make([]byte, saltBytes), hash: make([]byte, hashBytes)}
	rand.Read(none.salt)
	rand.Read(none.hash)
	h.dummy = none.String()
	return h
}

// hash returns a PHC string. It waits for its turn, until ctx ends.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	p := phc{Argon2: h.price, salt: make([]byte, saltBytes)}
	rand.Read(p.salt)
	p.hash = p.key(password, hashBytes)
	return p.String(), nil
}

// check tells whether a password is right, and if so whether its hash is not what we would make today.
func (h *hasher) check(ctx context.Context, encoded, password string) (right, outdated bool, err error) {
	if err := h.enter(ctx); err != nil {
		return false, false, err
	}
	defer h.leave()
	if b, ok := bcryptHash(encoded); ok {
		right = bcrypt.CompareHashAndPassword(b, []byte(password)) == nil
		return right, right, nil
	}
	p, err := parsePHC(encoded)
	if err != nil {
		return false, false, err
	}
	right = subtle.ConstantTimeCompare(p.key(password, len(p.hash)), p.hash) == 1
	return right, right && (p.Argon2 != h.price || len(p.salt) != saltBytes || len(p.hash) != hashBytes), nil
}

func (p phc) key(password string, length int) []byte {
	return argon2.IDKey([]byte(password), p.salt, p.Time, p.Memory, p.Threads, uint32(length))
}

func (h *hasher) enter(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hasher) leave() { <-h.slots }
