package engine_test

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// OpenID Connect Core §8.1: a client's name for a customer leads back to them, and to nobody else.
func TestCustomer(t *testing.T) {
	t.Parallel()
	m := mint(t)
	client := func(id, subjectType, host string) *fapi.Client {
		c, err := fapi.ParseClient([]byte(fmt.Sprintf(`{"client_id":%q,"client_name":%[1]q,"profile":"openid","token_endpoint_auth_method":"client_secret_basic",
			"scope":"openid","grant_types":["authorization_code"],"redirect_uris":["https://%s/"],"subject_type":%q}`, id, host, subjectType)))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	public, one := client("public", "public", "one.example"), client("one", "pairwise", "one.example")
	sibling, other := client("sibling", "pairwise", "one.example"), client("other", "pairwise", "other.example")
	seen := map[string]bool{}
	for range 100 {
		id := storage.NewID()
		for _, c := range []*fapi.Client{public, one, sibling, other} {
			sub := m.Subject(c, id)
			if got := m.Customer(c, sub); got != id {
				t.Fatalf("%s: %s is %v, not %v", c.ID, sub, got, id)
			}
			if c == sibling != seen[sub] {
				t.Errorf("%s: %s was seen before: %v", c.ID, sub, seen[sub])
			}
			seen[sub] = true
		}
		if m.Customer(other, m.Subject(one, id)) == id || m.Customer(public, m.Subject(one, id)) != uuid.Nil || m.Customer(one, id.String()) != uuid.Nil {
			t.Error("a name of one sector is good in another")
		}
	}
	id := storage.NewID()
	sub := m.Subject(one, id)
	raw, _ := base64.RawURLEncoding.DecodeString(sub)
	for _, forged := range []string{"", "x", sub + "A", sub[1:], " " + sub, sub + "==", base64.RawURLEncoding.EncodeToString(append(raw, 0)), base64.RawURLEncoding.EncodeToString(raw[:15]), "alice"} {
		if got := m.Customer(one, forged); got != uuid.Nil {
			t.Errorf("%q is %v", forged, got)
		}
	}
	for bit := range 128 {
		raw[bit/8] ^= 1 << (bit % 8)
		if m.Customer(one, base64.RawURLEncoding.EncodeToString(raw)) == id {
			t.Errorf("with bit %d flipped it is the same customer", bit)
		}
		raw[bit/8] ^= 1 << (bit % 8)
	}
	for _, forged := range []string{"", "alice", id.String()[1:], "00000000-0000-0000-0000-000000000000"} {
		if got := m.Customer(public, forged); got != uuid.Nil {
			t.Errorf("%q is %v", forged, got)
		}
	}
}
