package web

import (
	"net/http"
	"time"
)

// Transaction is what a customer approves, to the letter, and how.
type Transaction struct {
	Customer string
	Action   string
	Hidden   []Field // what was shown

	Kind         string // in words, such as "Payment"
	Amount       string // with its currency
	Payee        string
	PayeeAccount string
	FromAccount  string // "" for none
	Reference    string // "" for none
	Organization string // for which it is done; "" for the customer
	Starter      string // who has started it; "" for a customer who is no more
	Client       string // by which app

	State              string     // in words, when it does not wait any more; else ""
	Good               bool       // the state is a good one
	Until              *time.Time // it can be approved; nil when it does not wait
	Required, Received int
	Steps              []TransactionStep

	// Why says why this customer cannot approve it, "" if they can. Then there are Ways, one of which is chosen.
	Why        string
	Rejectable bool
	Ways       []TransactionWay // that a code can be sent to, or from an app
	AddURL     string           // where a factor is added, when no way and no passkey is there
	Sent       *TransactionWay  // to which a code was sent: it is typed now
	Passkey    *FactorPart
	Password   bool   // the transaction password is asked for, too
	NoPassword string // and there is none: where it is set

	Problem, Notice        string
	ListURL, SignOutAction string
}

// TransactionWay is a factor that a customer approves by.
type TransactionWay struct {
	ID, Text string
	Sends    bool
}

// TransactionStep is what somebody did.
type TransactionStep struct {
	Who, What, Reason string
	At                time.Time
	Void              bool // it counts no more
}

// Transaction shows the page.
func (p *Pages) Transaction(w http.ResponseWriter, status int, v Transaction) error {
	return p.render(w, status, "transaction", scripted(csp(nil), v.Passkey), v.Problem, v)
}

// TransactionRow is one of a list.
type TransactionRow struct {
	URL                        string
	Kind, Amount, Payee, State string
	Organization, Starter      string
	Until                      *time.Time // nil when it does not wait
	Required, Received         int
}

// Transactions lists what waits for the customer's approval, and what they have started.
type Transactions struct {
	Customer         string
	Waiting, Started []TransactionRow
	Notice           string
	SignOutAction    string
	PasswordURL      string // of the transaction password; "" where none is wanted
}

// Transactions shows the page.
func (p *Pages) Transactions(w http.ResponseWriter, v Transactions) error {
	return p.render(w, http.StatusOK, "transactions", csp(nil), "", v)
}

// TransactionPassword sets the password that is asked for with transactions. Inputs: current (if there is one), password.
type TransactionPassword struct {
	Action          string
	Has             bool
	Problem, Notice string
	ListURL         string
}

// TransactionPassword shows the page.
func (p *Pages) TransactionPassword(w http.ResponseWriter, status int, v TransactionPassword) error {
	return p.render(w, status, "transaction_password", csp(nil), v.Problem, v)
}
