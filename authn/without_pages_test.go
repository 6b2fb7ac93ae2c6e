package authn

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// A right password costs a hash and two round trips, and for a minute after that one round trip; what may have changed since
// is asked for each time.
func TestPasswords(t *testing.T) {
	t.Parallel()
	imported, err := bcrypt.GenerateFromPassword([]byte(alicePassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s := setup(t, Config{})
	id := s.create(NewCustomer{PasswordHash: string(imported)})
	p := s.NewPasswords()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	check := func(name, password string, want error, trips int64) {
		t.Helper()
		before := s.trips.n.Load()
		got, err := p.Check(r, alice, password)
		if !errors.Is(err, want) || (err == nil) != (got == id) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if n := s.trips.n.Load() - before; n != trips {
			t.Errorf("%s: %d round trips, want %d", name, n, trips)
		}
	}
	check("wrong", "wrong", ErrRefused, 2)
	check("right", alicePassword, nil, 2)
	check("again", alicePassword, nil, 1)
	var stored string
	s.sql(t, &stored, `SELECT password_hash FROM customers`)
	if stored == string(imported) {
		t.Error("the imported hash was not upgraded")
	}
	check("wrong, beside it", "wrong", ErrRefused, 2)
	s.clock.Add(int64(rememberFor / time.Second))
	check("a minute later", alicePassword, nil, 2)

	s.sql(t, nil, `UPDATE customers SET disabled_at = now()`)
	check("disabled", alicePassword, ErrRefused, 3)
	s.sql(t, nil, `UPDATE customers SET disabled_at = NULL`)
	check("enabled", alicePassword, nil, 1)
	other, err := s.hasher.hash(t.Context(), "another password of hers")
	if err != nil {
		t.Fatal(err)
	}
	s.sql(t, nil, `UPDATE customers SET password_hash = $1`, other)
	check("changed", alicePassword, ErrRefused, 3)
	check("the new one", "another password of hers", nil, 2)

	waiting := s.hasher.waiting
	for range cap(waiting) { // a flood
		waiting <- struct{}{}
	}
	if _, err := p.Check(r, alice, "wrong"); !errors.Is(err, ErrBusy) {
		t.Errorf("while too many wait: %v", err)
	}
	check("remembered, while too many wait", "another password of hers", nil, 1)
	for range cap(waiting) {
		<-waiting
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := p.Check(r.WithContext(gone), alice, alicePassword); err == nil {
		t.Error("who has left is let in")
	}
}

// However many passwords are right, so many are remembered and no more.
func TestPasswords_Memory(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	p := s.NewPasswords()
	for i := range mostRemember + 100 {
		var name [32]byte
		name[0], name[1], name[2] = byte(i), byte(i>>8), byte(i>>16)
		p.remember(name, rightPassword{until: s.now().Add(time.Minute)})
	}
	if n := len(p.entries); n > mostRemember {
		t.Errorf("%d are remembered", n)
	}
	s.clock.Add(120)
	for i := range mostRemember {
		var name [32]byte
		name[0], name[1], name[3] = byte(i), byte(i>>8), 1
		p.remember(name, rightPassword{until: s.now().Add(time.Second)})
	}
	old := 0
	for _, e := range p.entries {
		if !s.now().Before(e.until) {
			old++
		}
	}
	if old > mostRemember/4 {
		t.Errorf("%d that are of no use are remembered", old)
	}
}
