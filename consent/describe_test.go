package consent

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

func describer(t *testing.T) *Describer {
	t.Helper()
	nairobi := time.FixedZone("EAT", 3*3600)
	return NewDescriber(pages(t), fapi.DefaultDetailTypes(), Words{}, nairobi)
}

func titles(items []web.Item) (list []string) {
	for _, item := range items {
		list = append(list, item.Title)
	}
	return list
}

// D3: the 21 codes as a customer reads them.
func TestDescribe_Permissions(t *testing.T) {
	t.Parallel()
	d := describer(t)
	for _, c := range []struct {
		name, codes string
		want        []string
	}{
		{"accounts", "ReadAccountsBasic", []string{"Your accounts"}},
		{"A2-03: Detail includes Basic", "ReadAccountsDetail ReadAccountsBasic", []string{"Your accounts and their numbers"}},
		{"money in and out", "ReadTransactionsBasic ReadTransactionsDebits ReadTransactionsCredits", []string{"Your transactions"}},
		{"money in", "ReadTransactionsBasic ReadTransactionsCredits", []string{"Money that you receive"}},
		{"money out in detail", "ReadTransactionsDetail ReadTransactionsBasic ReadTransactionsDebits", []string{"Money that you spend, in detail"}},
		{"the page's own order", "ReadPAN ReadBalances ReadAccountsDetail", []string{"Your accounts and their numbers", "Your balances", "Your full card numbers"}},
		{"payments", "ReadDirectDebits ReadStandingOrdersDetail ReadScheduledPaymentsBasic ReadBeneficiariesBasic",
			[]string{"Your standing orders in detail", "Your direct debits", "Your payments to come", "Your saved payees"}},
		{"the rest", "ReadStatementsDetail ReadProducts ReadOffers ReadParty ReadPartyPSU",
			[]string{"Your statements in full", "What kind of accounts you have", "Offers made to you", "The account holders' details", "Your own details"}},
		{"a code without words is not kept silent", "ReadAccountsBasic ReadDreams", []string{"Your accounts", "Data that the bank calls “ReadDreams”"}},
	} {
		if diff := cmp.Diff(c.want, titles(d.permissions(strings.Fields(c.codes)))); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	if len(permissionCodes) != 21 {
		t.Errorf("A2-02: %d codes", len(permissionCodes))
	}
	for code := range permissionCodes {
		items := d.permissions([]string{code})
		if code != readCredits && code != readDebits && (len(items) != 1 || strings.Contains(items[0].Title, "“")) {
			t.Errorf("%s has no words: %v", code, items)
		}
	}
}

func TestDescribe_Consent(t *testing.T) {
	t.Parallel()
	d := describer(t)
	day := func(s string) *time.Time {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return &at
	}
	looking := []string{"ReadAccountsBasic", "ReadTransactionsBasic", "ReadTransactionsDebits"}
	for _, c := range []struct {
		name           string
		consent        *storage.Consent
		history, until string
	}{
		{"A2-06: from and to, in the customer's zone", &storage.Consent{Permissions: looking, TransactionsFrom: day("2026-01-31T21:00:00Z"), TransactionsTo: day("2026-12-24T20:59:59Z")},
			"From 1 February 2026 to 24 December 2026", ""},
		{"A2-06: from", &storage.Consent{Permissions: looking, TransactionsFrom: day("2026-01-31T00:00:00Z")}, "From 31 January 2026 on", ""},
		{"A2-06: to", &storage.Consent{Permissions: looking, TransactionsTo: day("2026-01-31T00:00:00Z")}, "Up to 31 January 2026", ""},
		{"A2-06: statements", &storage.Consent{Permissions: []string{"ReadStatementsBasic"}}, "As far back as our records go", ""},
		{"A2-06: nothing of the past", &storage.Consent{Permissions: []string{"ReadAccountsBasic", "ReadBalances"}, TransactionsTo: day("2026-01-31T00:00:00Z")}, "", ""},
		{"A2-06: an end, in the customer's zone", &storage.Consent{Permissions: []string{"ReadBalances"}, ExpiresAt: day("2027-03-31T22:00:00Z")}, "", "2027-04-01T01:00:00+03:00"},
	} {
		page, err := d.Describe(Asked{Consent: c.consent})
		if err != nil {
			t.Fatal(err)
		}
		until := ""
		if page.Until != nil {
			until = page.Until.Format(time.RFC3339)
		}
		if page.History != c.history || until != c.until {
			t.Errorf("%s: %q until %q", c.name, page.History, until)
		}
	}
}

func TestDescribe_Scopes(t *testing.T) {
	t.Parallel()
	d := NewDescriber(pages(t), fapi.DefaultDetailTypes(), Words{Scopes: map[string]web.Item{"write:loans": {Title: "Borrow"}, "read:dreams": {Title: "Dream along"}}}, nil)
	page, err := d.Describe(Asked{Scopes: []string{"openid", "accounts", "read:accounts", "write:loans", "read:dreams", "x:y{scope}\u202e" + strings.Repeat("z", 300)}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Know that it is you", "See your accounts", "Borrow", "Dream along", "A permission that the bank calls “x:y{scope}" + strings.Repeat("z", 90) + "…”"}
	if diff := cmp.Diff(want, titles(page.Items)); diff != "" {
		t.Error(diff)
	}
	page, err = d.Describe(Asked{Scopes: []string{"openid", "accounts", "payments"}, Consent: &storage.Consent{Type: storage.AccountAccess, Permissions: []string{"ReadBalances"}}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Your balances", "Know that it is you", "Prepare payments from your accounts"}, titles(page.Items)); diff != "" {
		t.Errorf("the scope that only carries the consent: %s", diff)
	}
	if English().Scopes["write:loans"].Title == "Borrow" {
		t.Error("one bank's words became everybody's")
	}
}

func details(t *testing.T, text string) (list []fapi.AuthorizationDetail) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// RFC 9396 §11, A3-10: what exactly is asked, in a form that shows it as it is.
func TestDescribe_AuthorizationDetails(t *testing.T) {
	t.Parallel()
	d := describer(t)
	k := &storage.Consent{ID: "aac-1", Type: storage.AccountAccess, Permissions: []string{"ReadBalances"}}
	for _, c := range []struct {
		name, details string
		consent       *storage.Consent
		items         []string
		lines         []string
	}{
		{"a payment: amount and payee first", `[{"type":"payment_initiation","locations":["https://api.example"],"remittanceInformationUnstructured":"Ref 5",
			"creditorAccount":{"iban":"DE02100100109307118603"},"creditorName":"Merchant A","instructedAmount":{"currency":"EUR","amount":"123.50"}}]`, nil,
			[]string{"Make a payment from your account"},
			[]string{"Amount: 123.50 EUR", "To: Merchant A", "Payee's account: DE02100100109307118603", "Message to the payee: Ref 5", "Where: https://api.example"}},
		{"UK names, a number", `[{"type":"x","InstructedAmount":{"Amount":10.0,"Currency":"GBP"}}]`, nil,
			[]string{"A permission that the bank calls “x”"}, []string{"Instructed amount: 10.0 GBP"}},
		{"an amount with something more is no plain amount", `[{"type":"x","a":{"amount":"1","currency":"GBP","each":"day"}}]`, nil,
			[]string{"A permission that the bank calls “x”"}, []string{"A: Amount: 1; Currency: GBP; Each: day"}},
		{"every kind of value", `[{"type":"x","actions":["read","write"],"some_flag":true,"none":null,"deep":{"a":[1,{"b":"c"}]},"":"y","empty":[]}]`, nil,
			[]string{"A permission that the bank calls “x”"}, []string{"–: y", "It may: read, write", "Deep: A: 1, B: c", "Empty: ", "None: –", "Some flag: true"}},
		{"two requests", `[{"type":"x","a":1},{"type":"y","b":2},{"type":"x"}]`, nil,
			[]string{"A permission that the bank calls “x”", "A permission that the bank calls “y”"},
			[]string{"Request 1 of 3: A permission that the bank calls “x”", "A: 1", "Request 2 of 3: A permission that the bank calls “y”", "B: 2"}},
		{"what only names the consent", `[{"type":"account_information","consent_id":"aac-1"}]`, k, []string{"Your balances"}, nil},
		{"what names it and asks for more", `[{"type":"account_information","consent_id":"aac-1","actions":["read"]}]`, k,
			[]string{"Your balances", "See information about your accounts"}, []string{"It may: read"}},
		{"what names another", `[{"type":"account_information","consent_id":"aac-2"}]`, k,
			[]string{"Your balances", "See information about your accounts"}, []string{"Consent id: aac-2"}},
		{"a member that the type's lines leave out, and a part of one", `[{"type":"payment_initiation","extra":{"a":1},"instructedAmount":{"amount":"1","currency":"EUR","each":"day"},
			"creditorAccount":"12","creditorName":{"first":"Eve"}}]`, nil, []string{"Make a payment from your account"},
			[]string{"Amount: 1 EUR", "To: First: Eve", "Payee's account: 12", "Extra: A: 1", "Amount: Each: day"}},
		{"braces in a text are no members", `[{"type":"payment_initiation","creditorName":"{instructedAmount.amount}","endToEndIdentification":"{creditorName}"}]`, nil,
			[]string{"Make a payment from your account"}, []string{"To: {instructedAmount.amount}", "Reference: {creditorName}"}},
		{"an empty object where a line looks for more", `[{"type":"payment_initiation","instructedAmount":{},"debtorAccount":{"iban":{"x":1}}}]`, nil,
			[]string{"Make a payment from your account"}, []string{"From account: X: 1", "Amount: "}},
		{"texts that deceive", `[{"type":"a\u0000b\u202e","creditorName":"Bank\u200b\u202e\r\n  of\u00a0you\u001b[31m"}]`, nil,
			[]string{"A permission that the bank calls “ab”"}, []string{"To: Bank of you[31m"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			page, err := d.Describe(Asked{Details: details(t, c.details), Consent: c.consent})
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, line := range page.Details {
				lines = append(lines, line.Label+": "+line.Value)
			}
			if diff := cmp.Diff(c.items, titles(page.Items)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.lines, lines); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDescribe_RefusesWhatCannotBeShown(t *testing.T) {
	t.Parallel()
	d := describer(t)
	many := map[string]any{"type": "x"}
	for i := range maxLines + 1 {
		many[fmt.Sprint("m", i)] = i
	}
	text, err := json.Marshal([]any{many})
	if err != nil {
		t.Fatal(err)
	}
	for name, sent := range map[string]string{
		"too many lines": string(text),
		"a text that is too long to be shown whole": `[{"type":"x","a":"` + strings.Repeat("y", longValue+1) + `"}]`,
		"a list that is too long to be shown whole": `[{"type":"x","locations":["https://a.example/` + strings.Repeat(`","https://a.example/`, 40) + `"]}]`,
		"a name that is too long to be shown whole": `[{"type":"x","` + strings.Repeat("n", longName+1) + `":1}]`,
		"too long in a line of its type":            `[{"type":"payment_initiation","creditorName":"` + strings.Repeat("y", longValue+1) + `"}]`,
		"too deep":                                  `[{"type":"x","a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}]`,
		"a member twice":                            `[{"type":"x","a":{"amount":"1","amount":"1000"}}]`,
	} {
		if _, err := d.Describe(Asked{Details: details(t, sent)}); !errors.Is(err, fapi.InvalidAuthorizationDetails) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDescribe_Accounts(t *testing.T) {
	t.Parallel()
	d := describer(t)
	accounts := []storage.Account{{ID: "1", Name: "Savings", Number: "000123456789", Currency: "KES"}, {ID: "2", Name: "Small", Number: "12345"}, {ID: "3", Name: "New"}}
	consent := &storage.Consent{Type: storage.AccountAccess}
	for _, c := range []struct {
		name  string
		asked Asked
		want  bool
	}{
		{"A2-05: account access", Asked{Consent: consent, Accounts: accounts}, true},
		{"A2-05: account access of one who has none", Asked{Consent: consent}, true},
		{"the scope accounts", Asked{Scopes: []string{"openid", "accounts"}, Accounts: accounts}, true},
		{"the scope read:accounts", Asked{Scopes: []string{"read:accounts"}, Accounts: accounts}, true},
		{"account_information", Asked{Details: details(t, `[{"type":"account_information"}]`), Accounts: accounts}, true},
		{"the scope accounts of one who has none", Asked{Scopes: []string{"accounts"}}, false},
		{"nothing about accounts", Asked{Scopes: []string{"openid"}, Accounts: accounts}, false},
	} {
		page, err := d.Describe(c.asked)
		if err != nil {
			t.Fatal(err)
		}
		if d.NeedsAccounts(c.asked) != c.want || (len(page.Accounts) > 0) != (c.want && len(c.asked.Accounts) > 0) {
			t.Errorf("%s: %v, %v", c.name, d.NeedsAccounts(c.asked), page.Accounts)
		}
	}
	page, err := d.Describe(Asked{Consent: consent, Accounts: accounts, Picked: []string{"2"}})
	want := []web.Account{
		{ID: "1", Name: "Savings", MaskedNumber: "•••• 6789", Currency: "KES"},
		{ID: "2", Name: "Small", MaskedNumber: "•••• 5", Checked: true},
		{ID: "3", Name: "New"},
	}
	if diff := cmp.Diff(want, page.Accounts); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// Whatever a client writes, a page shows printable lines of bounded length, or the request is refused.
func FuzzDescribeDetails(f *testing.F) {
	for _, seed := range []string{
		`[{"type":"payment_initiation","instructedAmount":{"currency":"EUR","amount":"123.50"},"creditorAccount":{"iban":"x"}}]`,
		`[{"type":"x","a":{"amount":1e99,"currency":"\u202eRUE"},"\u0000":[null,true]}]`, `[{"type":"x"},{"type":"y","":{"":""}}]`,
	} {
		f.Add(seed)
	}
	p, err := web.New(web.Brand{Name: "Bank"})
	if err != nil {
		f.Fatal(err)
	}
	d := NewDescriber(p, fapi.DefaultDetailTypes(), Words{}, nil)
	f.Fuzz(func(t *testing.T, text string) {
		var asked []fapi.AuthorizationDetail
		if json.Unmarshal([]byte(text), &asked) != nil {
			return
		}
		page, err := d.Describe(Asked{Details: asked})
		if err != nil {
			if !errors.Is(err, fapi.InvalidAuthorizationDetails) {
				t.Fatal(err)
			}
			return
		}
		for _, line := range page.Details {
			for _, s := range []string{line.Label, line.Value} {
				if len([]rune(s)) > longValue+1 || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
					t.Fatalf("%q", s)
				}
			}
			if line.Label == "" {
				t.Fatalf("%q has no label", line.Value)
			}
		}
		if len(asked) > 0 && len(page.Items) == 0 || slices.ContainsFunc(page.Items, func(i web.Item) bool { return i.Title == "" }) {
			t.Fatalf("%v is kept silent", asked)
		}
	})
}

// Digits are as they came; only what is a decimal number is set in thousands.
func TestGrouped(t *testing.T) {
	for amount, want := range map[string]string{
		"1": "1", "999.99": "999.99", "1000": "1 000", "1250.50": "1 250.50", "48500": "48 500", "1234567.891": "1 234 567.891",
		"1e6": "1e6", "-1000": "-1000", "0.00": "0.00", "12,500": "12,500", "": "",
	} {
		if got := grouped(amount); got != want {
			t.Errorf("%q: %q, want %q", amount, got, want)
		}
	}
}
