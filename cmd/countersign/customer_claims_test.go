package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/storage"
)

func TestCustomerCreate_ReadsClaims(t *testing.T) {
	for _, c := range []struct {
		name, file string
		flags      customerCreate
		want       storage.Profile
		fault      string // "" when the file is good
	}{
		{name: "YAML", file: "name: Alice\nemail_verified: true\nbirthdate: \"1980-02-29\"\naddress:\n  country: KE\n",
			want: storage.Profile{Username: "alice", Name: "Alice", EmailVerified: true, Birthdate: "1980-02-29", Address: storage.Address{Country: "KE"}}},
		{name: "JSON", file: `{"profile": "https://alice.example/", "updated_at": 1735689600}`,
			want: storage.Profile{Username: "alice", ProfilePage: "https://alice.example/", UpdatedAt: 1735689600}},
		{name: "flags win", file: "name: Alice\nemail: old@example.com\n", flags: customerCreate{profileFlags: profileFlags{Email: "new@example.com"}},
			want: storage.Profile{Username: "alice", Name: "Alice", Email: "new@example.com"}},
		{name: "the user name is not a claim", file: "username: bob\n", want: storage.Profile{Username: "alice"}},
		{name: "an unknown claim", file: "shoe_size: 43\n", fault: "shoe_size"},
		{name: "a claim of another kind", file: "email_verified: perhaps\n", fault: "email_verified"},
		{name: "no mapping", file: "- name\n", fault: "claims"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.flags.Username, c.flags.Claims = "alice", filepath.Join(t.TempDir(), "claims")
			if err := os.WriteFile(c.flags.Claims, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := c.flags.profile()
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("error %v, want one about %q", err, c.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("profile (-want +got):\n%s", diff)
			}
		})
	}
}

// What a customer has shown to be theirs is the address, not the field: another one is theirs only if the bank says so.
func TestCustomerUpdate_WhatIsVerified(t *testing.T) {
	t.Parallel()
	before := storage.Profile{Email: "alice@heron.example", EmailVerified: true, PhoneNumber: "+254712345678", PhoneNumberVerified: true}
	for name, c := range map[string]struct {
		file         string
		flags        profileFlags
		email, phone bool
	}{
		"nothing":                             {"", profileFlags{Name: "Alice"}, true, true},
		"the same addresses":                  {"", profileFlags{Email: before.Email, Phone: before.PhoneNumber}, true, true},
		"another email address":               {"", profileFlags{Email: "new@heron.example"}, false, true},
		"another phone number":                {"", profileFlags{Phone: "+254712000000"}, true, false},
		"both, verified":                      {"", profileFlags{Email: "new@heron.example", EmailVerified: true, Phone: "+254712000000", PhoneVerified: true}, true, true},
		"both, in a file":                     {"email: new@heron.example\nphone_number: \"+254712000000\"", profileFlags{}, false, false},
		"both, in a file, one verified":       {"email: new@heron.example\nphone_number: \"+254712000000\"\nphone_number_verified: true", profileFlags{}, false, true},
		"verified in a file, named by a flag": {"email_verified: true", profileFlags{Email: "new@heron.example"}, true, true},
		"of another address than the flag's":  {"email: x@heron.example\nemail_verified: true", profileFlags{Email: "new@heron.example"}, false, true},
		"not any more":                        {"email_verified: false", profileFlags{}, false, true},
		"the file's, the same as before":      {"email: alice@heron.example", profileFlags{}, true, true},
	} {
		p := before
		if c.file != "" {
			c.flags.Claims = filepath.Join(t.TempDir(), "claims.yaml")
			if err := os.WriteFile(c.flags.Claims, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.flags.apply(&p); err != nil || p.EmailVerified != c.email || p.PhoneNumberVerified != c.phone {
			t.Errorf("%s: email %v, phone %v, %v", name, p.EmailVerified, p.PhoneNumberVerified, err)
		}
	}
}
