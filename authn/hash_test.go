package authn

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

const referencePHC = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"

// The reference implementation's own test vector (argon2 -id, password "password", salt "somesalt").
func TestHasher_ChecksTheReferenceVector(t *testing.T) {
	t.Parallel()
	h := newHasher(Argon2{Memory: 64, Time: 1, Threads: 1}, 1<<20)
	for password, want := range map[string]bool{"password": true, "Password": false, "": false, "password\x00": false} {
		right, outdated, err := h.check(t.Context(), referencePHC, password)
		if right != want || outdated != want || err != nil {
			t.Errorf("%q: %v %v %v", password, right, outdated, err)
		}
	}
}

// E2: Argon2id at OWASP's price by default.
func TestHasher_MakesArgon2id(t *testing.T) {
	t.Parallel()
	var c Config
	c.fill()
	h := newHasher(c.Argon2, 1<<20)
	one, err := h.hash(t.Context(), alicePassword)
	if err != nil || !strings.HasPrefix(one, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("%s %v", one, err)
	}
	if two, _ := h.hash(t.Context(), alicePassword); one == two {
		t.Error("two hashes share a salt")
	}
	if right, outdated, err := h.check(t.Context(), one, alicePassword); !right || outdated || err != nil {
		t.Error(right, outdated, err)
	}
	if right, _, err := h.check(t.Context(), h.dummy, alicePassword); right || err != nil {
		t.Error("the dummy hash:", right, err)
	}
}

func TestHasher_WaitsForItsTurnWithTheRequest(t *testing.T) {
	t.Parallel()
	h := newHasher(Argon2{Memory: 64, Time: 1, Threads: 1}, 1<<20)
	if cap(h.slots) != runtime.GOMAXPROCS(0) {
		t.Errorf("%d hashes at once", cap(h.slots))
	}
	for range cap(h.slots) {
		if err := h.enter(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.hash(ctx, alicePassword); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// E2: what is hashed at once is bounded by memory too, imported hashes that take more than ours included; and however many of those come
// at once, they do not wait for each other.
func TestHasher_IsBoundedByMemory(t *testing.T) {
	t.Parallel()
	for memory, want := range map[uint32]int{0: 1, 63: 1, 64: 1, 64 * 1024: runtime.GOMAXPROCS(0)} {
		if h := newHasher(Argon2{Memory: 64, Time: 1, Threads: 1}, memory); cap(h.slots) != want {
			t.Errorf("%d KiB: %d at once, want %d", memory, cap(h.slots), want)
		}
	}
	h := newHasher(Argon2{Memory: 64, Time: 1, Threads: 1}, 1<<20)
	h.slots = make(chan struct{}, 4)
	for price, want := range map[uint32]int{8: 1, 64: 1, 65: 2, 256: 4, 65536: 4} {
		if n := h.slotsFor(Argon2{Memory: price}); n != want {
			t.Errorf("%d KiB take %d slots, want %d", price, n, want)
		}
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if err := h.enter(t.Context(), 1+i%4); err != nil {
				t.Error(err)
				return
			}
			runtime.Gosched()
			h.leave(1 + i%4)
		})
	}
	wg.Wait()
	if len(h.slots) != 0 || len(h.waiting) != 0 || len(h.several) != 0 {
		t.Errorf("%d slots, %d places are not given back", len(h.slots), len(h.waiting))
	}
	if err := h.enter(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.enter(ctx, 2); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if h.leave(3); len(h.slots) != 0 || len(h.waiting) != 0 || len(h.several) != 0 {
		t.Errorf("%d slots, %d places are not given back by who left", len(h.slots), len(h.waiting))
	}
}

func TestCheckHash_RefusesWhatIsNoneOrCostsTooMuch(t *testing.T) {
	t.Parallel()
	b, _ := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	good := string(b)
	for _, s := range []string{referencePHC, good, "{bcrypt}" + good, strings.Replace(good, "$2a$", "$2y$", 1)} {
		if err := checkHash(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	replace := func(old, new string) string { return strings.Replace(referencePHC, old, new, 1) }
	for _, s := range []string{
		"", "$", "password", "{bcrypt}", "{noop}x", "$1$abc", good[:59], good + "x", strings.Replace(good, "$04$", "$31$", 1),
		replace("argon2id", "argon2i"), replace("v=19", "v=16"), replace("v=19$", ""), replace("m=65536", "m=4294967295"), replace("m=65536", "m=7"),
		replace("t=2", "t=0"), replace("t=2", "t=99"), replace("p=1", "p=0"), replace("p=1", "p=257"), replace("m=65536", "m=065536"),
		replace("m=65536", "m=+65536"), replace("m=65536,t=2", "t=2,m=65536"), replace("p=1", "p=1,x=1"), replace("PPc", "PPc="), replace("PPc", "PPd"),
		replace("c29tZXNhbHQ", "c29t"), referencePHC + "$", " " + referencePHC, referencePHC + "\n",
	} {
		if err := checkHash(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

func FuzzPHC(f *testing.F) {
	f.Add(referencePHC)
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err != nil {
			return
		}
		if p.String() != s || p.check() != nil {
			t.Errorf("%q was read as %q", s, p)
		}
	})
}
