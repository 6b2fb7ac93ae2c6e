package authn

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/countersign/countersign/storage"
)

// E2: whoever is imported logs in with the password that they have, and the hash is ours from then on.
func TestImportCustomers_HashesAreUpgradedAtLogin(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	plain := func(cost int) string {
		hash, err := bcrypt.GenerateFromPassword([]byte(alicePassword), cost)
		if err != nil {
			t.Fatal(err)
		}
		return string(hash)
	}
	other := phc{Argon2: Argon2{Memory: 128, Time: 3, Threads: 2}, salt: []byte("salt of 16 bytes")}
	other.hash = argon2.IDKey([]byte(alicePassword), other.salt, 3, 128, 2, 32)
	hashes := map[string]string{
		"bcrypt": plain(bcrypt.MinCost), "2y": "$2y$" + plain(5)[4:], "fineract": "{bcrypt}" + plain(bcrypt.MinCost), "argon2id": other.String(),
	}
	var all []NewCustomer
	for name, hash := range hashes {
		all = append(all, NewCustomer{Profile: storage.Profile{Username: name}, PasswordHash: hash})
	}
	errs, err := s.ImportCustomers(t.Context(), all, false)
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
	for name, imported := range hashes {
		var stored string
		of := func() string {
			c, err := s.FindCustomer(t.Context(), "", name)
			if err != nil {
				t.Fatal(err)
			}
			s.sql(t, &stored, `SELECT password_hash FROM customers WHERE id = $1`, [16]byte(c.ID))
			return stored
		}
		if of() != imported {
			t.Errorf("%s: stored %q", name, stored)
		}
		s.browser().login(name, alicePassword+"x").want(t, "login_page")
		if of() != imported {
			t.Errorf("%s: a wrong password changed the hash", name)
		}
		s.browser().login(name, alicePassword).want(t, "consent_page")
		upgraded := of()
		if !strings.HasPrefix(upgraded, "$argon2id$v=19$m=64,t=1,p=1$") {
			t.Errorf("%s: after the login %q", name, upgraded)
		}
		s.browser().login(name, alicePassword).want(t, "consent_page")
		if of() != upgraded {
			t.Errorf("%s: hashed again though nothing has changed", name)
		}
	}
}

// One that does not do keeps no other out; importing again makes nobody twice.
func TestImportCustomers(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	seven, eight := int64(7), int64(8)
	person := func(name string, change func(*NewCustomer)) NewCustomer {
		n := NewCustomer{Profile: storage.Profile{Username: name, Attributes: map[string]string{"country": "KE"}}, PasswordHash: referencePHC, Roles: []string{"USER", "SUPPORT"}}
		if change != nil {
			change(&n)
		}
		return n
	}
	all := []NewCustomer{
		person("first", func(n *NewCustomer) { n.FineractClientID = &seven }),
		person("FIRST", nil),
		person("second", func(n *NewCustomer) { n.FineractClientID = &seven }),
		person("", nil),
		person("hash", func(n *NewCustomer) { n.PasswordHash = "$1$salt$md5" }),
		person("dear", func(n *NewCustomer) { n.PasswordHash = "$2a$31$" + strings.Repeat("a", 53) }),
		person("role", func(n *NewCustomer) { n.Roles = []string{"SUPER_USER"} }),
		person("roles", func(n *NewCustomer) { n.Roles = []string{"USER", "USER"} }),
		person("permission", func(n *NewCustomer) { n.Permissions = []string{"all functions"} }),
		person("attribute", func(n *NewCustomer) { n.Profile.Attributes = map[string]string{"Country": "KE"} }),
		person("value", func(n *NewCustomer) { n.Profile.Attributes = map[string]string{"country": "K\x00E"} }),
		person("email", func(n *NewCustomer) { n.Profile.Email = "x@heron.example\r\nBcc: y@heron.example" }),
		person("phone", func(n *NewCustomer) { n.Profile.PhoneNumber = "0712345678" }),
		person("name", func(n *NewCustomer) { n.Profile.Name = "Bob\u202eMason" }),
		person("account", func(n *NewCustomer) { n.Accounts = []storage.Account{{ID: ""}} }),
		person("last", func(n *NewCustomer) { n.FineractClientID, n.Permissions = &eight, []string{"BYPASS_TWOFACTOR"} }),
	}
	outcome := func(dry bool) (words []string) {
		errs, err := s.ImportCustomers(t.Context(), all, dry)
		if err != nil || len(errs) != len(all) {
			t.Fatal(errs, err)
		}
		for _, err := range errs {
			switch {
			case err == nil:
				words = append(words, "made")
			case errors.Is(err, storage.ErrConflict):
				words = append(words, "there")
			case errors.Is(err, storage.ErrClientTaken):
				words = append(words, "taken")
			default:
				words = append(words, "wrong")
			}
		}
		return words
	}
	want := func(when string, dry bool, want string) {
		t.Helper()
		if got := strings.Join(outcome(dry), " "); got != want {
			t.Errorf("%s:\n%s, want\n%s", when, got, want)
		}
	}
	want("dry", true, "made made made wrong wrong wrong wrong wrong wrong wrong wrong wrong wrong wrong wrong made") // what others in it are, it cannot know
	want("once", false, "made there taken wrong wrong wrong wrong wrong wrong wrong wrong wrong wrong wrong wrong made")
	want("again", false, "there there taken wrong wrong wrong wrong wrong wrong wrong wrong wrong wrong wrong wrong there")
	var n int
	if s.sql(t, &n, `SELECT count(*) FROM customers`); n != 2 {
		t.Errorf("%d customers", n)
	}
	last, err := s.FindCustomer(t.Context(), "", "last")
	if err != nil || strings.Join(last.Roles, " ") != "USER SUPPORT" || strings.Join(last.Permissions, " ") != "BYPASS_TWOFACTOR" {
		t.Errorf("%+v %v", last, err)
	}
}
