package authn

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

const referencePHC = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"

// The reference implementation's own test vector (argon2 -id, password "password", salt "somesalt").
func TestHasher_ChecksTheReferenceVector(t *testing.T) {
	t.Parallel()
	h := newHasher(Argon2{Memory: 64, Time: 1, Threads: 1})
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
	h := newHasher(c.Argon2)
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
	h := newHasher(Argon2{Memory: 64, Time: 1, Threads: 1})
	if cap(h.slots) != runtime.GOMAXPROCS(0) {
		t.Errorf("%d hashes at once", cap(h.slots))
	}
	for range cap(h.slots) {
		if err := h.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.hash(ctx, alicePassword); !errors.Is(err, context.Canceled) {
		t.Error(err)
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
