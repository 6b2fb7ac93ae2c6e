package fapi

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func detailList(t testing.TB, text string) (list []AuthorizationDetail) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func sameDetails(t testing.TB, name string, got []AuthorizationDetail, want string) {
	t.Helper()
	if got == nil {
		got = []AuthorizationDetail{}
	}
	var a, b any
	must(0, json.Unmarshal(must(json.Marshal(got)), &a))
	must(0, json.Unmarshal([]byte(want), &b))
	if diff := cmp.Diff(b, a); diff != "" {
		t.Errorf("%s:\n%s", name, diff)
	}
}

func TestEnrich(t *testing.T) {
	t.Parallel()
	types := DefaultDetailTypes()
	for _, c := range []struct {
		name, asked string
		accounts    []string
		want        string
	}{
		{"RFC 9396 §7.1: the accounts that were picked", `[{"type":"account_information","actions":["read"]}]`, []string{"12", "13"},
			`[{"type":"account_information","actions":["read"],"accounts":["12","13"]}]`},
		{"none were picked", `[{"type":"account_information"}]`, nil, `[{"type":"account_information"}]`},
		{"what the client put there does not count", `[{"type":"account_information","accounts":["99"]}]`, []string{"12"}, `[{"type":"account_information","accounts":["12"]}]`},
		{"nor when none were picked", `[{"type":"account_information","accounts":["99"]}]`, nil, `[{"type":"account_information"}]`},
		{"a type without accounts", `[{"type":"customer_information"}]`, []string{"12"}, `[{"type":"customer_information"}]`},
		{"a type that is known no more", `[{"type":"gone","a":1}]`, []string{"12"}, `[{"type":"gone","a":1}]`},
	} {
		asked := detailList(t, c.asked)
		sameDetails(t, c.name, Enrich(asked, types, c.accounts), c.want)
		sameDetails(t, c.name+": the request stays", asked, c.asked)
	}
}

func TestNarrow(t *testing.T) {
	t.Parallel()
	granted := detailList(t, `[
		{"type":"account_information","actions":["list","read"],"locations":["https://a.example","https://b.example"],"accounts":["12","13"]},
		{"type":"payment_initiation","instructedAmount":{"currency":"EUR","amount":"1.50"},"creditorAccount":{"iban":"X"}},
		{"type":"customer_information","identifier":"me"},
		{"type":"customer_information","datatypes":[]}]`)
	for _, c := range []struct{ name, asked, want string }{
		{"one of them", `[{"type":"customer_information","identifier":"me"}]`, `[{"type":"customer_information","identifier":"me"}]`},
		{"another spelling of the same", `[{"type":"payment_initiation","creditorAccount":{"\u0069ban":"X"},"instructedAmount":{"amount":"1.50", "currency":"EUR"}}]`,
			`[{"type":"payment_initiation","creditorAccount":{"iban":"X"},"instructedAmount":{"amount":"1.50","currency":"EUR"}}]`},
		{"fewer actions, locations and accounts", `[{"type":"account_information","actions":["read"],"locations":["https://a.example"],"accounts":["13"]}]`,
			`[{"type":"account_information","actions":["read"],"locations":["https://a.example"],"accounts":["13"]}]`},
		{"as it was asked for: the accounts are as granted", `[{"type":"account_information","actions":["list","read"],"locations":["https://a.example","https://b.example"]}]`,
			`[{"type":"account_information","actions":["list","read"],"locations":["https://a.example","https://b.example"],"accounts":["12","13"]}]`},
		{"the same twice is once", `[{"type":"customer_information","identifier":"me"},{"identifier":"me","type":"customer_information"}]`, `[{"type":"customer_information","identifier":"me"}]`},
		{"an empty list that was granted empty", `[{"type":"customer_information","datatypes":[]}]`, `[{"type":"customer_information","datatypes":[]}]`},

		{"no list", `{}`, ""},
		{"none", `[]`, ""},
		{"a type that was not granted", `[{"type":"loan"}]`, ""},
		{"one that was granted and one that was not", `[{"type":"customer_information","identifier":"me"},{"type":"customer_information","identifier":"you"}]`, ""},
		{"without a member that narrowed it", `[{"type":"customer_information"}]`, ""},
		{"without its locations: it may mean all", `[{"type":"account_information","actions":["read"]}]`, ""},
		{"an empty list: it may mean all", `[{"type":"account_information","actions":[],"locations":["https://a.example"]}]`, ""},
		{"an action more", `[{"type":"account_information","actions":["read","pay"],"locations":["https://a.example"]}]`, ""},
		{"an account more", `[{"type":"account_information","actions":["read"],"locations":["https://a.example"],"accounts":["12","14"]}]`, ""},
		{"no account", `[{"type":"account_information","actions":["read"],"locations":["https://a.example"],"accounts":[]}]`, ""},
		{"accounts that are no list", `[{"type":"account_information","actions":["read"],"locations":["https://a.example"],"accounts":"12"}]`, ""},
		{"a member more", `[{"type":"customer_information","identifier":"me","actions":["read"]}]`, ""},
		{"a smaller amount is another payment", `[{"type":"payment_initiation","instructedAmount":{"currency":"EUR","amount":"1"},"creditorAccount":{"iban":"X"}}]`, ""},
		{"the number for the text", `[{"type":"payment_initiation","instructedAmount":{"currency":"EUR","amount":1.50},"creditorAccount":{"iban":"X"}}]`, ""},
		{"parts of two grants together", `[{"type":"customer_information","identifier":"me","datatypes":[]}]`, ""},
		{"null for a member", `[{"type":"customer_information","identifier":null}]`, ""},
		{"a member twice", `[{"type":"customer_information","identifier":"me","identifier":"me"}]`, ""},
	} {
		got, err := Narrow(c.asked, granted, DefaultDetailTypes())
		if c.want == "" {
			if err == nil {
				t.Errorf("RFC 9396 §6.1: %s: granted %v", c.name, got)
			} else {
				refused(t, err, InvalidAuthorizationDetails)
			}
			continue
		}
		refused(t, err, "")
		sameDetails(t, "RFC 9396 §6.1: "+c.name, got, c.want)
	}
	if _, err := Narrow(`[{"type":"account_information"}]`, nil, DefaultDetailTypes()); err == nil {
		t.Error("of nothing, something was granted")
	}
}

// RAR-03, RAR-05: locations and audiences.
func TestForAudience(t *testing.T) {
	t.Parallel()
	details := detailList(t, `[{"type":"a"},{"type":"b","locations":[]},{"type":"c","locations":["https://a.example/v1/accounts","https://z.example"]},
		{"type":"d","locations":["https://b.example"]},{"type":"e","locations":["https://a.example.evil/v1"]}]`)
	for _, c := range []struct{ name, audience, want string }{
		{"those there, and those without a place", "https://a.example", "a b c"},
		{"with a slash at the end", "https://a.example/", "a b c"},
		{"below a path", "https://a.example/v1", "a b c"},
		{"beside a path", "https://a.example/v", "a b"},
		{"another", "https://b.example", "a b d"},
		{"both", "https://b.example https://a.example", "a b c d"},
		{"a name that begins alike is another", "https://a.exa", "a b"},
	} {
		var got []string
		for _, d := range ForAudience(details, strings.Fields(c.audience)) {
			got = append(got, d.Type)
		}
		if diff := cmp.Diff(strings.Fields(c.want), got); diff != "" {
			t.Errorf("RFC 9396 §9.1: %s: %s", c.name, diff)
		}
	}
	if got := LocatedAt(details, []string{"https://none.example", "https://b.example", "https://a.example"}); cmp.Diff([]string{"https://b.example", "https://a.example"}, got) != "" {
		t.Errorf("located at %v", got)
	}
	if got := LocatedAt(details[:2], []string{"https://a.example"}); got != nil {
		t.Errorf("what has no place is at %v", got)
	}
}

func TestUnion(t *testing.T) {
	t.Parallel()
	sameDetails(t, "GM-03: union", Union(detailList(t, `[{"type":"a","n":{"x":1,"y":2}},{"type":"b"},{"type":"a","n":{"y":2,"x":1}},{"type":"a","n":{"y":2,"x":1.0}}]`)),
		`[{"type":"a","n":{"x":1,"y":2}},{"type":"b"},{"type":"a","n":{"x":1.0,"y":2}}]`)
}

// A token request never gets more than was granted: what Narrow gives, it gives again of itself, and each object has the
// members of one that was granted.
func FuzzNarrow(f *testing.F) {
	f.Add(`[{"type":"account_information","actions":["read"],"accounts":["12"]}]`, `[{"type":"account_information","actions":["list","read"],"accounts":["12","13"]}]`)
	f.Add(`[{"type":"payment_initiation","creditorAccount":{"iban":"x"},"n":1e2}]`, `[{"type":"payment_initiation","n":1e2,"creditorAccount":{"iban":"x"}}]`)
	f.Add(`[{"type":"x","locations":[]}]`, `[{"type":"x","locations":[]},{"type":"x"}]`)
	types := DefaultDetailTypes()
	f.Fuzz(func(t *testing.T, asked, have string) {
		granted, err := readDetails(have)
		if err != nil {
			return
		}
		narrowed, err := Narrow(asked, granted, types)
		if err != nil {
			return
		}
		for _, d := range narrowed {
			found := false
			for _, g := range granted {
				found = found || g.Type == d.Type && len(g.Fields) == len(d.Fields)
			}
			if !found {
				t.Fatalf("%s of %s gave %v", asked, have, d)
			}
		}
		if _, err := Narrow(string(must(json.Marshal(narrowed))), granted, types); err != nil {
			t.Fatalf("%s of %s is not within it: %v", asked, have, err)
		}
	})
}
