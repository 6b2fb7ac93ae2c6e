package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/countersign/countersign/resource"
	"github.com/countersign/countersign/storage"
)

// sampleBank is the API that a bank puts in front of Apache Fineract: it knows whose accounts are whose, and leaves
// everything about tokens to package resource. Its answers have the shape of UK Open Banking 3.1.
type sampleBank struct {
	base   string // its own URL
	guard  *resource.Guard
	ledger map[int64][]ledgerAccount // by Fineract client id
}

// ledgerAccount is an account with its money, in cents.
type ledgerAccount struct {
	storage.Account
	kind    string
	balance int64
	entries []ledgerEntry
}

type ledgerEntry struct {
	day    int // days ago
	text   string
	amount int64 // cents; negative is money that went out
}

// aliceFineractID is the customer's client id in Fineract.
const aliceFineractID = 4711

func sampleLedger() map[int64][]ledgerAccount {
	return map[int64][]ledgerAccount{
		aliceFineractID: {
			{storage.Account{ID: "10-4821", Name: "Everyday", Number: "GB29CSGN60161331924821", Currency: "EUR"}, "CurrentAccount", 184_327, []ledgerEntry{
				{1, "Green Grocer", -2_385}, {2, "City Transport", -490}, {4, "Salary, Rookwood Ltd", 265_000}, {6, "Rent", -92_000},
			}},
			{storage.Account{ID: "20-7730", Name: "Rainy day", Number: "GB80CSGN60161331927730", Currency: "EUR"}, "Savings", 1_250_000, []ledgerEntry{
				{5, "Standing order", 20_000}, {30, "Interest", 1_042},
			}},
			{storage.Account{ID: "30-1164", Name: "Joint household", Number: "GB41CSGN60161331921164", Currency: "EUR"}, "CurrentAccount", 61_209, []ledgerEntry{
				{3, "Electricity", -7_410},
			}},
		},
		// Somebody else. A token of alice must never lead here.
		4712: {{storage.Account{ID: "10-9999", Name: "Everyday", Number: "GB55CSGN60161331929999", Currency: "EUR"}, "CurrentAccount", 1_000, nil}},
	}
}

// accounts are what a customer may share, as Countersign stores them.
func (b *sampleBank) accounts(fineractID int64) []storage.Account {
	list := make([]storage.Account, len(b.ledger[fineractID]))
	for i, a := range b.ledger[fineractID] {
		list[i] = a.Account
	}
	return list
}

// handler is the whole API. What a call needs stands beside its path; that is all there is to do.
func (b *sampleBank) handler() http.Handler {
	m := http.NewServeMux()
	account := resource.PathValue("AccountId")
	m.Handle("GET /accounts", b.guard.Require(resource.Need{
		Customer: true, Scopes: []string{"accounts"}, Permissions: []string{"ReadAccountsDetail"},
	}, http.HandlerFunc(b.listAccounts)))
	m.Handle("GET /accounts/{AccountId}/balances", b.guard.Require(resource.Need{
		Customer: true, Scopes: []string{"accounts"}, Permissions: []string{"ReadBalances"}, Account: account,
	}, http.HandlerFunc(b.showBalance)))
	m.Handle("GET /accounts/{AccountId}/transactions", b.guard.Require(resource.Need{
		Customer: true, Scopes: []string{"accounts"}, Permissions: []string{"ReadTransactionsDetail"}, Account: account,
	}, http.HandlerFunc(b.listTransactions)))
	return m
}

// consented are the caller's accounts that the customer chose, and no other's even if a consent named them.
func (b *sampleBank) consented(r *http.Request) []ledgerAccount {
	p := resource.PrincipalFrom(r.Context())
	var chosen []ledgerAccount
	for _, a := range b.ledger[p.FineractClientID] {
		if p.MayUseAccount(a.ID) {
			chosen = append(chosen, a)
		}
	}
	return chosen
}

type bankAccount struct {
	AccountID      string `json:"AccountId"`
	Nickname       string
	AccountSubType string
	Identification string // masked: the customer knows the rest
	Currency       string
}

func (b *sampleBank) listAccounts(w http.ResponseWriter, r *http.Request) {
	list := []bankAccount{}
	for _, a := range b.consented(r) {
		list = append(list, bankAccount{a.ID, a.Name, a.kind, "•••• " + a.Number[len(a.Number)-4:], a.Currency})
	}
	b.answer(w, r, map[string]any{"Account": list})
}

type bankAmount struct{ Amount, Currency string }

type bankBalance struct {
	AccountID            string `json:"AccountId"`
	CreditDebitIndicator string
	Type                 string
	DateTime             time.Time
	Amount               bankAmount
}

func (b *sampleBank) showBalance(w http.ResponseWriter, r *http.Request) {
	if a := b.find(w, r); a != nil {
		indicator, amount := money(a.balance, a.Currency)
		b.answer(w, r, map[string]any{"Balance": []bankBalance{{a.ID, indicator, "ClosingAvailable", today(0), amount}}})
	}
}

type bankTransaction struct {
	AccountID              string `json:"AccountId"`
	CreditDebitIndicator   string
	Status                 string
	BookingDateTime        time.Time
	Amount                 bankAmount
	TransactionInformation string
}

// listTransactions shows what lies in the period that the customer agreed to.
func (b *sampleBank) listTransactions(w http.ResponseWriter, r *http.Request) {
	a := b.find(w, r)
	if a == nil {
		return
	}
	agreed := resource.PrincipalFrom(r.Context()).Consent
	list := []bankTransaction{}
	for _, e := range a.entries {
		day := today(e.day)
		if day.Before(agreed.TransactionsFrom) || !agreed.TransactionsTo.IsZero() && day.After(agreed.TransactionsTo) {
			continue
		}
		indicator, amount := money(e.amount, a.Currency)
		list = append(list, bankTransaction{a.ID, indicator, "Booked", day, amount, e.text})
	}
	b.answer(w, r, map[string]any{"Transaction": list})
}

// find returns the account called for. The guard has let only chosen ones through; that it is also the customer's own is
// looked at here, where the accounts are.
func (b *sampleBank) find(w http.ResponseWriter, r *http.Request) *ledgerAccount {
	for _, a := range b.consented(r) {
		if a.ID == r.PathValue("AccountId") {
			return &a
		}
	}
	http.Error(w, "", http.StatusForbidden)
	return nil
}

func (b *sampleBank) answer(w http.ResponseWriter, r *http.Request, data any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(map[string]any{
		"Data": data, "Links": map[string]string{"Self": b.base + r.URL.Path}, "Meta": struct{}{},
	})
}

func money(cents int64, currency string) (indicator string, amount bankAmount) {
	indicator = "Credit"
	if cents < 0 {
		indicator, cents = "Debit", -cents
	}
	return indicator, bankAmount{fmt.Sprintf("%d.%02d", cents/100, cents%100), currency}
}

func today(minusDays int) time.Time {
	return time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -minusDays)
}
