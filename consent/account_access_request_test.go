package consent

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseAccountAccess(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	body := func(data string) string { return `{"Data":{` + data + `},"Risk":{}}` }
	codes := func(list ...string) string { return body(`"Permissions":["` + strings.Join(list, `","`) + `"]`) }
	with := func(members string) string { return body(`"Permissions":["ReadAccountsBasic"],` + members) }
	var every []string
	for code := range permissionCodes {
		every = append(every, code)
	}
	for _, c := range []struct {
		name, body string
		want       []string // code and path of each problem
	}{
		{"A2-01: the least", minimal, nil},
		{"A2-01: no Risk", `{"Data":{"Permissions":["ReadAccountsBasic"]}}`, []string{"Field.Missing Risk"}},
		{"A2-01: Risk is empty", `{"Data":{"Permissions":["ReadAccountsBasic"]},"Risk":{"PaymentContextCode":"Other"}}`, []string{"Field.Unexpected Risk.PaymentContextCode"}},
		{"A2-01: Risk is an object", `{"Data":{"Permissions":["ReadAccountsBasic"]},"Risk":[]}`, []string{"Field.Invalid Risk"}},
		{"A2-01: no Data", `{"Risk":{}}`, []string{"Field.Missing Data"}},
		{"A2-01: Data is null", `{"Data":null,"Risk":{}}`, []string{"Field.Invalid Data"}},
		{"A2-01: neither", `{}`, []string{"Field.Missing Data", "Field.Missing Risk"}},
		{"A2-01: unknown members", `{"Data":{"Permissions":["ReadAccountsBasic"],"Status":"Authorised","data":1},"Risk":{},"Links":{}}`,
			[]string{"Field.Unexpected Links", "Field.Unexpected Data.Status", "Field.Unexpected Data.data"}},
		{"A2-01: names are case-sensitive", `{"data":{"Permissions":["ReadAccountsBasic"]},"Risk":{}}`, []string{"Field.Unexpected data", "Field.Missing Data"}},
		{"A2-01: a member's name is not repeated if it could do harm", `{"Data":{"Permissions":["ReadAccountsBasic"],"<script>":1},"Risk":{}}`, []string{"Field.Unexpected Data"}},
		{"A2-02: all codes", codes(every...), nil},
		{"A2-02: an unknown code", codes("ReadAccountsBasic", "ReadEverything"), []string{"Field.Invalid Data.Permissions[1]"}},
		{"A2-02: codes are case-sensitive", codes("readAccountsBasic"), []string{"Field.Invalid Data.Permissions[0]"}},
		{"A2-02: not even strings", body(`"Permissions":["ReadAccountsBasic",1,null,["ReadBalances"]]`),
			[]string{"Field.Invalid Data.Permissions[1]", "Field.Invalid Data.Permissions[2]", "Field.Invalid Data.Permissions[3]"}},
		{"A2-02: no array", body(`"Permissions":"ReadAccountsBasic"`), []string{"Field.Invalid Data.Permissions"}},
		{"A2-02: none", body(``), []string{"Field.Missing Data.Permissions"}},
		{"A2-03: an empty array", body(`"Permissions":[]`), []string{"Field.Invalid Data.Permissions"}},
		{"A2-03: no accounts", codes("ReadBalances"), []string{"Field.Expected Data.Permissions"}},
		{"A2-03: accounts by Detail alone", codes("ReadAccountsDetail", "ReadBalances"), nil},
		{"A2-03: Basic and Detail together", codes("ReadAccountsBasic", "ReadAccountsDetail"), nil},
		{"A2-03: transactions need credits or debits", codes("ReadAccountsBasic", "ReadTransactionsBasic"), []string{"Field.Expected Data.Permissions"}},
		{"A2-03: detailed transactions need credits or debits", codes("ReadAccountsBasic", "ReadTransactionsDetail"), []string{"Field.Expected Data.Permissions"}},
		{"A2-03: credits need transactions", codes("ReadAccountsBasic", "ReadTransactionsCredits"), []string{"Field.Expected Data.Permissions"}},
		{"A2-03: debits need transactions", codes("ReadAccountsBasic", "ReadTransactionsDebits"), []string{"Field.Expected Data.Permissions"}},
		{"A2-03: credits alone will do", codes("ReadAccountsBasic", "ReadTransactionsBasic", "ReadTransactionsCredits"), nil},
		{"A2-03: debits alone will do", codes("ReadAccountsBasic", "ReadTransactionsDetail", "ReadTransactionsDebits"), nil},
		{"A2-03: both rules broken", codes("ReadTransactionsDebits"), []string{"Field.Expected Data.Permissions", "Field.Expected Data.Permissions"}},
		{"A2-05: a client does not pick accounts", with(`"Accounts":["12"]`), []string{"Field.Unexpected Data.Accounts"}},
		{"A2-06: dates", with(`"ExpirationDateTime":"2026-11-23T12:00:01Z","TransactionFromDateTime":"2012-05-03T00:00:00+00:00","TransactionToDateTime":"2030-05-03T00:00:00.000+05:45"`), nil},
		{"A2-06: past", with(`"ExpirationDateTime":"2026-11-23T12:59:59+01:00"`), []string{"Field.InvalidDate Data.ExpirationDateTime"}},
		{"A2-06: now", with(`"ExpirationDateTime":"2026-11-23T12:00:00Z"`), []string{"Field.InvalidDate Data.ExpirationDateTime"}},
		{"A2-06: less than Postgres' precision ahead", with(`"ExpirationDateTime":"2026-11-23T12:00:00.0000009Z"`), []string{"Field.InvalidDate Data.ExpirationDateTime"}},
		{"A2-06: to before from", with(`"TransactionFromDateTime":"2026-05-03T00:00:00Z","TransactionToDateTime":"2026-05-02T23:59:59Z"`), []string{"Field.InvalidDate Data.TransactionToDateTime"}},
		{"A2-06: three bad dates", with(`"ExpirationDateTime":"soon","TransactionFromDateTime":5,"TransactionToDateTime":null`),
			[]string{"Field.InvalidDate Data.ExpirationDateTime", "Field.InvalidDate Data.TransactionFromDateTime", "Field.InvalidDate Data.TransactionToDateTime"}},
		{"A2-04: no zone", with(`"ExpirationDateTime":"2027-11-23T12:00:00"`), []string{"Field.InvalidDate Data.ExpirationDateTime"}},
		{"A2-04: no time", with(`"ExpirationDateTime":"2027-11-23"`), []string{"Field.InvalidDate Data.ExpirationDateTime"}},
		{"A2-04: no such day", with(`"ExpirationDateTime":"2027-02-30T00:00:00Z"`), []string{"Field.InvalidDate Data.ExpirationDateTime"}},
		{"A2-04: no such zone", with(`"ExpirationDateTime":"2027-02-03T00:00:00+25:00"`), []string{"Field.InvalidDate Data.ExpirationDateTime"}},
		{"A2-04: beyond four digits in UTC", with(`"ExpirationDateTime":"9999-12-31T23:59:59-10:00"`), []string{"Field.InvalidDate Data.ExpirationDateTime"}},
		{"A2-04: before the first year", with(`"TransactionFromDateTime":"0000-01-01T00:00:00Z"`), []string{"Field.InvalidDate Data.TransactionFromDateTime"}},
		{"A7: no JSON", `Data`, []string{"Resource.InvalidFormat "}},
		{"A7: nothing", ``, []string{"Resource.InvalidFormat "}},
		{"A7: an array", `[]`, []string{"Resource.InvalidFormat "}},
		{"A7: something after the end", minimal + `{}`, []string{"Resource.InvalidFormat "}},
		{"A7: cut off", minimal[:40], []string{"Resource.InvalidFormat "}},
		{"A7: not UTF-8", strings.Replace(minimal, "Basic", "\xff", 1), []string{"Resource.InvalidFormat "}},
		{"A7: a byte order mark", "\ufeff" + minimal, []string{"Resource.InvalidFormat "}},
		{"A7: a member twice", `{"Data":{"Permissions":["ReadAccountsBasic"],"Permissions":["ReadPAN"]},"Risk":{}}`, []string{"Resource.InvalidFormat Data.Permissions"}},
		{"A7: a member twice, once escaped", `{"Data":{"Permissions":["ReadAccountsBasic"]},"Risk":{},"Ris\u006b":{}}`, []string{"Resource.InvalidFormat Risk"}},
		{"A7: a member twice, somewhere unknown", `{"X":[{"a":1,"a":2}]}`, []string{"Resource.InvalidFormat X[0].a"}},
		{"A7: very deep", `{"Data":` + strings.Repeat("[", 60) + strings.Repeat("]", 60) + `}`, []string{"Resource.InvalidFormat Data" + strings.Repeat("[0]", 16)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked, problems := parseAccountAccess([]byte(c.body), now)
			var got []string
			for _, p := range problems {
				got = append(got, strings.TrimPrefix(p.ErrorCode, "UK.OBIE.")+" "+p.Path)
				if p.Message == "" {
					t.Error("a problem without a message")
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if len(got) == 0 && len(asked.permissions) == 0 {
				t.Error("nothing asked for")
			}
		})
	}
}

func TestParseAccountAccess_BoundsItsProblems(t *testing.T) {
	t.Parallel()
	_, problems := parseAccountAccess([]byte(`{"Data":{"Permissions":[`+strings.Repeat(`"x",`, 5000)+`"y"]},"Risk":{}}`), time.Now())
	if len(problems) != maxProblems {
		t.Errorf("%d problems", len(problems))
	}
}

// Whatever comes in: what is taken keeps the rules, what is refused says so in the standard's shape, and reading what was
// taken a second time gives the same.
func FuzzParseAccountAccess(f *testing.F) {
	for _, seed := range []string{
		minimal, `{}`, `[]`, `null`, `{"Data":{"Permissions":["ReadAccountsDetail","ReadTransactionsBasic","ReadTransactionsCredits"],` +
			`"ExpirationDateTime":"2029-01-01T00:00:00.123456789+01:00","TransactionFromDateTime":"0001-01-01T00:00:00Z"},"Risk":{}}`,
		`{"Data":{"Permissions":[1,{"a":[]}],"ExpirationDateTime":"9999-12-31T23:59:59-23:59"},"Risk":{"x":1e400}}`, "{\"\x00\":1}", `{"\ud800":1,"\udfff":2}`,
	} {
		f.Add(seed)
	}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body string) {
		asked, problems := parseAccountAccess([]byte(body), now)
		if len(problems) > 0 {
			text, err := json.Marshal(refuse(problems...).response(""))
			if err != nil || len(problems) > maxProblems {
				t.Fatal(err, len(problems))
			}
			for _, p := range problems {
				if p.ErrorCode == "" || p.Message == "" || strings.ContainsFunc(p.Path, func(r rune) bool { return r <= ' ' || r > '~' || r == '<' }) {
					t.Fatalf("%s", text)
				}
			}
			return
		}
		if !slices.Contains(asked.permissions, "ReadAccountsBasic") && !slices.Contains(asked.permissions, "ReadAccountsDetail") || asked.expiration != nil && !asked.expiration.After(now) {
			t.Fatalf("taken: %+v", asked)
		}
		data := map[string]any{"Permissions": asked.permissions}
		for name, date := range map[string]*time.Time{"ExpirationDateTime": asked.expiration, "TransactionFromDateTime": asked.from, "TransactionToDateTime": asked.to} {
			if date != nil {
				data[name] = (*dateTime)(date)
			}
		}
		again, err := json.Marshal(map[string]any{"Data": data, "Risk": struct{}{}})
		if err != nil {
			t.Fatal(err)
		}
		second, problems := parseAccountAccess(again, now)
		if len(problems) > 0 || fmt.Sprint(second.permissions, second.expiration, second.from, second.to) != fmt.Sprint(asked.permissions, asked.expiration, asked.from, asked.to) {
			t.Fatalf("%s: %v %+v", again, problems, second)
		}
	})
}
