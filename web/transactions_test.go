package web

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// transactionGallery is the pages on which payments are approved.
func transactionGallery() []shot {
	at := time.Date(2027, time.March, 3, 12, 0, 0, 0, time.UTC)
	until := at.Add(21 * time.Hour)
	email := TransactionWay{ID: "f1", Text: "Code by email to b•••@meadow.example", Sends: true}
	sms := TransactionWay{ID: "f2", Text: "Code by text message to •••• 3456", Sends: true}
	waits := Transaction{
		Customer: "Bob Ray", Action: "/transactions/t1", Hidden: []Field{{"digest", "9F8sxU9_15RJcBmRjruEF1hyg4jUZBNeQENKjCMZBNM"}},
		Kind: "Payment", Amount: "12 500.75 EUR", Payee: "Acme Feeds and Grain Cooperative, Nakuru branch", PayeeAccount: "DE02100100109307118603",
		FromAccount: "Everyday account •••• 4821", Reference: "Invoice 2027-0042, second half", Organization: "Meadow Dairy", Starter: "Alice Doe", Client: "Meadow Business",
		Until: &until, Required: 2, Received: 1, Steps: []TransactionStep{
			{Who: "Carol Kim", What: "approved, before it was changed or their rights were", At: at.Add(-time.Hour), Void: true}, {Who: "Dave Lee", What: "approved", At: at},
		},
		Rejectable: true, Ways: []TransactionWay{email, sms}, ListURL: "/transactions", SignOutAction: "/sign-out",
	}
	show := func(name string, status int, change func(*Pages, *Transaction)) shot {
		return shot{name, "transaction_page", func(p *Pages, w http.ResponseWriter) error {
			v := waits
			change(p, &v)
			return p.Transaction(w, status, v)
		}}
	}
	over := func(v *Transaction, state string) { v.Ways, v.Rejectable, v.Until, v.State = nil, false, nil, state }
	row := TransactionRow{
		URL: "/transactions/t1", Kind: "Payment", Amount: "12 500.75 EUR", Payee: waits.Payee, Organization: "Meadow Dairy", Starter: "Alice Doe", Until: &until, Required: 2, Received: 1,
	}
	done := row
	done.Starter, done.Until, done.State, done.Received, done.Organization = "", nil, "Approved and carried out.", 2, ""
	set := TransactionPassword{Action: "/self/transaction-password", ListURL: "/transactions"}
	return []shot{
		show("transaction", 200, func(*Pages, *Transaction) {}),
		show("transaction-one-way", 200, func(_ *Pages, v *Transaction) { v.Ways, v.Steps, v.Received = v.Ways[:1], nil, 0 }),
		show("transaction-code", 200, func(_ *Pages, v *Transaction) { v.Sent = &email }),
		show("transaction-code-wrong", 403, func(p *Pages, v *Transaction) { v.Sent, v.Password, v.Problem = &email, true, p.Text("problem.code") }),
		show("transaction-no-way", 200, func(_ *Pages, v *Transaction) { v.Ways, v.AddURL = nil, "/self/factors" }),
		show("transaction-no-password", 200, func(_ *Pages, v *Transaction) { v.NoPassword = "/self/transaction-password" }),
		show("transaction-changed", 200, func(p *Pages, v *Transaction) { v.Notice, v.Received = p.Text("transaction.notice.changed"), 0 }),
		show("transaction-own", 200, func(p *Pages, v *Transaction) { v.Ways, v.Why = nil, p.Text("transaction.why.own") }),
		show("transaction-done", 200, func(p *Pages, v *Transaction) { over(v, p.Text("transaction.state.consumed")); v.Good = true }),
		show("transaction-rejected", 200, func(p *Pages, v *Transaction) {
			over(v, p.Text("transaction.state.rejected"))
			v.Steps = append(v.Steps[:1:1], TransactionStep{Who: "Eve Moss", What: "rejected", Reason: "Not our supplier", At: at})
		}),
		{"transactions", "transactions_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Transactions(w, Transactions{
				Customer: "Bob Ray", Waiting: []TransactionRow{row, row}, Started: []TransactionRow{done}, SignOutAction: "/sign-out", PasswordURL: "/self/transaction-password",
			})
		}},
		{"transactions-none", "transactions_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Transactions(w, Transactions{Customer: "Bob Ray", SignOutAction: "/sign-out"})
		}},
		{"transaction-password", "transaction_password_page", func(p *Pages, w http.ResponseWriter) error { return p.TransactionPassword(w, 200, set) }},
		{"transaction-password-wrong", "transaction_password_page", func(p *Pages, w http.ResponseWriter) error {
			v := set
			v.Has, v.Problem = true, p.Text("problem.transaction_password")
			return p.TransactionPassword(w, 422, v)
		}},
	}
}

// What somebody else has written cannot look like what the bank says.
func TestTransaction_TextsOfOthers(t *testing.T) {
	p := newPages(t, meadow())
	w, body := rendered(t, p, shot{"", "transaction_page", func(p *Pages, w http.ResponseWriter) error {
		return p.Transaction(w, 200, Transaction{
			Action: "/transactions/t1", Amount: "1 EUR", Payee: "<b>Acme</b>\u202e", PayeeAccount: `"><script>`, Reference: "\u200bx", Starter: "<i>", Client: "</dl>", Organization: "{{.}}",
			State: "x", Steps: []TransactionStep{{Who: "<u>", What: "rejected", Reason: "<s>\u2066"}}, ListURL: "//evil.example", SignOutAction: "/sign-out",
		})
	}})
	if w.Code != http.StatusOK {
		t.Fatal(w.Code)
	}
	for _, text := range []string{"<b>", "<script>", "<i>", "<u>", "<s>", "\u202e", "\u2066", "evil.example"} {
		if strings.Contains(body, text) {
			t.Errorf("the page has %q", text)
		}
	}
}
