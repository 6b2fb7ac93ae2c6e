package fapi

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// payment is the example of RFC 9396 §2.
const payment = `{"type":"payment_initiation","locations":["https://example.com/payments"],
	"instructedAmount":{"currency":"EUR","amount":"123.50"},"creditorName":"Merchant A",
	"creditorAccount":{"iban":"DE02100100109307118603"},"remittanceInformationUnstructured":"Ref Number Merchant"}`

const account = `{"type":"account_information","actions":["list_accounts","read_balances"],"locations":["https://example.com/accounts"]}`

func TestParseAuthorizationDetails(t *testing.T) {
	t.Parallel()
	allowed := []string{"account_information", "payment_initiation", "unknown_to_the_server"}
	for _, test := range []struct{ name, raw string }{
		{"RFC 9396 §2: accepts the example", "[" + account + "," + payment + "]"},
		{"RFC 9396 §2: accepts two of one type", "[" + account + "," + account + "]"},
		{"RFC 9396 §2.2: accepts the common members", `[{"type":"account_information","locations":[],"actions":["a"],"datatypes":["d"],"identifier":"i","privileges":["p"]}]`},
		{"accepts a consent id", `[{"type":"account_information","consent_id":"urn:c:1"}]`},
		{"accepts 20 objects", "[" + strings.Repeat(account+",", 19) + account + "]"},
		{"accepts characters in two escapes", `[{"type":"account_information","identifier":"\ud83d\ude00"}]`},

		{"RFC 9396 §5: refuses nothing", ``},
		{"RFC 9396 §5: refuses an object without array", account},
		{"RFC 9396 §5: refuses an empty array", `[]`},
		{"RFC 9396 §5: refuses null", `null`},
		{"RFC 9396 §5: refuses null in it", `[null]`},
		{"RFC 9396 §5: refuses a string in it", `["account_information"]`},
		{"RFC 9396 §5: refuses what is no JSON", `[{"type":`},
		{"RFC 9396 §5: refuses more after it", `[` + account + `] []`},
		{"RFC 9396 §5: refuses a missing type", `[{"actions":[]}]`},
		{"RFC 9396 §5: refuses a type that is no string", `[{"type":["account_information"]}]`},
		{"RFC 9396 §5: refuses Type for type", `[{"Type":"account_information"}]`},
		{"RFC 9396 §5: refuses an unknown type", `[{"type":"unknown_to_the_server"}]`},
		{"RFC 9396 §10: refuses a type that the client did not register", `[{"type":"customer_information"}]`},
		{"RFC 9396 §5: refuses an unknown member", `[{"type":"account_information","x":1}]`},
		{"RFC 9396 §5: refuses a member of another type", `[{"type":"account_information","instructedAmount":{}}]`},
		{"RFC 9396 §5: refuses a missing member", `[{"type":"payment_initiation","creditorAccount":{}}]`},
		{"RFC 9396 §5: refuses null for it", `[{"type":"payment_initiation","creditorAccount":{},"instructedAmount":null}]`},
		{"RFC 9396 §5: refuses locations that are no array", `[{"type":"account_information","locations":"x"}]`},
		{"RFC 9396 §5: refuses actions that are no strings", `[{"type":"account_information","actions":["a",1]}]`},
		{"RFC 9396 §5: refuses datatypes with null", `[{"type":"account_information","datatypes":[null]}]`},
		{"RFC 9396 §5: refuses privileges that are an object", `[{"type":"account_information","privileges":{}}]`},
		{"RFC 9396 §5: refuses an identifier that is no string", `[{"type":"account_information","identifier":5}]`},
		{"refuses a consent id that is no string", `[{"type":"account_information","consent_id":5}]`},
		{"refuses an empty consent id", `[{"type":"account_information","consent_id":""}]`},
		{"RFC 8259 §4: refuses a type that is there twice", `[{"type":"customer_information","type":"account_information"}]`},
		{"RFC 8259 §4: refuses one that is there twice in another spelling", `[{"type":"account_information","\u0074ype":"x"}]`},
		{"RFC 8259 §4: refuses inner members that are there twice", `[{"type":"payment_initiation","creditorAccount":{"iban":"A","iban":"B"},"instructedAmount":{}}]`},
		{"RFC 8259 §8.2: refuses NUL", `[{"type":"account_information","identifier":"\u0000"}]`},
		{"RFC 8259 §8.2: refuses half a surrogate pair", `[{"type":"account_information","identifier":"\ud83d"}]`},
		{"RFC 8259 §8.2: refuses half a pair before another escape", `[{"type":"account_information","identifier":"\ud83d\u0041"}]`},
		{"RFC 8259 §8.2: refuses the other half", `[{"type":"account_information","identifier":"\ude00\ud83d"}]`},
		{"RFC 8259 §8.1: refuses what is not UTF-8", "[{\"type\":\"account_information\",\"identifier\":\"\xff\"}]"},
		{"RFC 8259 §6: refuses numbers that nothing holds", `[{"type":"payment_initiation","creditorAccount":{},"instructedAmount":1e9999}]`},
		{"refuses 21 objects", "[" + strings.Repeat(account+",", 20) + account + "]"},
		{"refuses more than 32 KiB", `[{"type":"account_information","identifier":"` + strings.Repeat("x", 32<<10) + `"}]`},
		{"refuses deep nesting", `[{"type":"payment_initiation","creditorAccount":{},"instructedAmount":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			details, err := ParseAuthorizationDetails(test.raw, DefaultDetailTypes(), allowed)
			if !strings.Contains(test.name, "accepts") {
				refused(t, err, InvalidAuthorizationDetails)
				return
			}
			refused(t, err, "")
			var want, got any
			must(0, json.Unmarshal([]byte(test.raw), &want))
			must(0, json.Unmarshal(must(json.Marshal(details)), &got))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("RFC 9396 §7: what was asked for comes back otherwise:\n%s", diff)
			}
		})
	}
	t.Run("RFC 9396 §10: a client that registered no types may use none", func(t *testing.T) {
		t.Parallel()
		_, err := ParseAuthorizationDetails("["+account+"]", DefaultDetailTypes(), nil)
		refused(t, err, InvalidAuthorizationDetails)
	})
}

func TestAuthorizationDetail_JSON(t *testing.T) {
	t.Parallel()
	made := AuthorizationDetail{Type: "t", Fields: map[string]json.RawMessage{"type": json.RawMessage(`"other"`), "n": json.RawMessage(`1.50`)}}
	if text := string(must(json.Marshal(made))); text != `{"n":1.50,"type":"t"}` {
		t.Errorf("got %s", text)
	}
	if text := string(must(json.Marshal(AuthorizationDetail{Type: "t"}))); text != `{"type":"t"}` {
		t.Errorf("got %s", text)
	}
}
