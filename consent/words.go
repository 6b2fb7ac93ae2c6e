package consent

import (
	"maps"

	"github.com/countersign/countersign/web"
)

// Words are what a customer reads about what is asked. A bank replaces single entries, or all of them for another
// language; what Data lacks is never left out of a page, it is shown by its code.
type Words struct {
	Scopes map[string]web.Item // by scope
	Data   map[string]web.Item // by group of permission codes, see groups; ".detail" for the wider permission
	Types  map[string]web.Item // by type of authorization_details, in the place of the type's own
	Labels map[string]string   // by member of authorization_details, where its type has no word
	Texts  map[string]string   // all the rest; {…} stands for a value
}

// over returns the words with base behind them.
func (w Words) over(base Words) Words {
	merge(base.Scopes, w.Scopes)
	merge(base.Data, w.Data)
	merge(base.Types, w.Types)
	merge(base.Labels, w.Labels)
	merge(base.Texts, w.Texts)
	return base
}

func merge[V any](into, from map[string]V) { maps.Copy(into, from) }

// English returns the built-in words, a new copy each time.
func English() Words {
	return Words{
		Scopes: map[string]web.Item{
			"openid":             {Title: "Know that it is you", Text: "It recognises you when you come back. This alone tells it nothing else about you."},
			"profile":            {Title: "See your name", Text: "And the user name that you sign in with."},
			"email":              {Title: "See your email address"},
			"phone":              {Title: "See your phone number"},
			"address":            {Title: "See your postal address"},
			"roles":              {Title: "See what you may do at the bank", Text: "Such as that you act for a firm."},
			"attributes":         {Title: "See what kind of customer you are", Text: "Such as your country."},
			"offline_access":     {Title: "Keep this permission while you are away", Text: "It need not ask you again each time, until you withdraw it."},
			"approvals":          {Title: "Take your decisions", Text: "It shows you what other apps ask of you, and you allow or refuse it there."},
			"accounts":           {Title: "See your accounts", Text: "Balances and transactions of the accounts you choose."},
			"payments":           {Title: "Prepare payments from your accounts", Text: "Each payment needs your approval."},
			"fundsconfirmations": {Title: "Ask whether you have enough money", Text: "It gets a yes or a no, never your balance."},
			"read:profile":       {Title: "See your personal details", Text: "Such as your name and how to reach you."},
			"write:profile":      {Title: "Change your personal details", Text: "Such as your address or phone number."},
			"read:accounts":      {Title: "See your accounts", Text: "Balances and transactions of the accounts you choose."},
			"write:accounts":     {Title: "Change your accounts", Text: "It can give instructions for your accounts in your name."},
			"read:transactions":  {Title: "See your transactions"},
			"read:loans":         {Title: "See your loans", Text: "Amounts, instalments and what is still to be paid."},
			"write:loans":        {Title: "Apply for loans and change them", Text: "It can apply for a loan or change one in your name."},
			"read:savings":       {Title: "See your savings"},
			"write:savings":      {Title: "Change your savings", Text: "It can open, change or close savings in your name."},
			"write:payments":     {Title: "Make payments from your accounts"},
			"write:transfers":    {Title: "Move money between accounts"},
		},
		Data: map[string]web.Item{
			"accounts":                  {Title: "Your accounts", Text: "Their names, kinds and currencies, but not their numbers."},
			"accounts.detail":           {Title: "Your accounts and their numbers", Text: "Names, kinds, currencies, account numbers and in whose name they are."},
			"balances":                  {Title: "Your balances"},
			"transactions":              {Title: "Your transactions", Text: "Money in and out: when and how much."},
			"transactions.detail":       {Title: "Your transactions in detail", Text: "Money in and out: when, how much, what for, and who paid or was paid."},
			"transactions.in":           {Title: "Money that you receive", Text: "When and how much. Not what you spend."},
			"transactions.in.detail":    {Title: "Money that you receive, in detail", Text: "When, how much, what for, and from whom. Not what you spend."},
			"transactions.out":          {Title: "Money that you spend", Text: "When and how much. Not what you receive."},
			"transactions.out.detail":   {Title: "Money that you spend, in detail", Text: "When, how much, what for, and to whom. Not what you receive."},
			"standing_orders":           {Title: "Your standing orders", Text: "When they are due and how much."},
			"standing_orders.detail":    {Title: "Your standing orders in detail", Text: "When they are due, how much, and to whose account."},
			"direct_debits":             {Title: "Your direct debits", Text: "Who collects money from your accounts, when and how much."},
			"scheduled_payments":        {Title: "Your payments to come", Text: "When they are due and how much."},
			"scheduled_payments.detail": {Title: "Your payments to come, in detail", Text: "When they are due, how much, and to whose account."},
			"beneficiaries":             {Title: "Your saved payees", Text: "The people and companies you pay, without their account numbers."},
			"beneficiaries.detail":      {Title: "Your saved payees in detail", Text: "The people and companies you pay, with their account numbers."},
			"statements":                {Title: "Your statements", Text: "Their periods, without the amounts."},
			"statements.detail":         {Title: "Your statements in full", Text: "With balances, charges and interest."},
			"products":                  {Title: "What kind of accounts you have", Text: "Such as their fees, charges and interest."},
			"offers":                    {Title: "Offers made to you", Text: "Such as a higher limit or another rate."},
			"party":                     {Title: "The account holders' details", Text: "Full legal name, addresses, phone numbers and email addresses of everyone who holds the account."},
			"party_psu":                 {Title: "Your own details", Text: "Your full legal name, addresses, phone numbers and email address."},
			"pan":                       {Title: "Your full card numbers", Text: "Without this it sees only a part of them."},
		},
		Types: map[string]web.Item{}, // each type has words of its own
		Labels: map[string]string{
			"instructedAmount":                  "Amount",
			"creditorName":                      "To",
			"creditorAccount":                   "Payee's account",
			"creditorAgent":                     "Payee's bank",
			"debtorAccount":                     "From account",
			"endToEndIdentification":            "Reference",
			"remittanceInformationUnstructured": "Message to the payee",
			"requestedExecutionDate":            "Date of payment",
			"actions":                           "It may",
			"datatypes":                         "Kinds of data",
			"identifier":                        "Concerns",
			"locations":                         "Where",
			"privileges":                        "With the rights of",
			"iban":                              "IBAN",
			"bban":                              "Account number",
			"bic":                               "BIC",
		},
		Texts: map[string]string{
			"scope":             "A permission that the bank calls “{scope}”",
			"scope.text":        "If you do not know what it means, ask before you allow it.",
			"data":              "Data that the bank calls “{code}”",
			"type":              "A permission that the bank calls “{type}”",
			"type.text":         "What exactly is written below. If you do not know what it means, ask before you allow it.",
			"request":           "Request {n} of {of}",
			"history.between":   "From {from} to {to}",
			"history.from":      "From {from} on",
			"history.to":        "Up to {to}",
			"history.all":       "As far back as our records go",
			"earlier.merge":     "You gave {client} permission before, on {date}. What is asked now is added to that.",
			"earlier.replace":   "You gave {client} permission before, on {date}. What is asked now takes its place: nothing of the earlier permission remains.",
			"status.expired":    "Expired",
			"status.withdrawn":  "Withdrawn by you",
			"status.deleted":    "Ended by the app",
			"notice.withdrawn":  "The permission is withdrawn.",
			"error.unknown":     "There is no such permission",
			"error.unknown.do":  "It may have been removed. Go back to the list of apps with access.",
			"error.form":        "That did not work",
			"error.form.do":     "The form was not complete. Go back to the list of apps with access and try again.",
			"error.method":      "This page cannot be used like that",
			"error.internal.do": "Your permissions are as they were. Please try again later.",
		},
	}
}
