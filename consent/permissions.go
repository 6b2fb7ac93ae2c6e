package consent

import (
	"slices"

	"github.com/countersign/countersign/web"
)

// group is what a customer reads as one thing. Of two permissions the detailed one includes the basic one (banking.md
// A2-03).
type group struct{ words, basic, detail string }

// groups are the 21 permission codes but for the two that say which way the money went, in the order of the page.
var groups = []group{
	{"accounts", "ReadAccountsBasic", "ReadAccountsDetail"},
	{"balances", "ReadBalances", ""},
	{"transactions", "ReadTransactionsBasic", "ReadTransactionsDetail"},
	{"standing_orders", "ReadStandingOrdersBasic", "ReadStandingOrdersDetail"},
	{"direct_debits", "ReadDirectDebits", ""},
	{"scheduled_payments", "ReadScheduledPaymentsBasic", "ReadScheduledPaymentsDetail"},
	{"beneficiaries", "ReadBeneficiariesBasic", "ReadBeneficiariesDetail"},
	{"statements", "ReadStatementsBasic", "ReadStatementsDetail"},
	{"products", "ReadProducts", ""},
	{"offers", "ReadOffers", ""},
	{"party", "ReadParty", ""},
	{"party_psu", "ReadPartyPSU", ""},
	{"pan", "ReadPAN", ""},
}

const (
	readCredits = "ReadTransactionsCredits"
	readDebits  = "ReadTransactionsDebits"
)

// permissionCodes are all that a client may ask for (A2-02).
var permissionCodes = func() map[string]bool {
	codes := map[string]bool{readCredits: true, readDebits: true}
	for _, g := range groups {
		codes[g.basic] = true
		if g.detail != "" {
			codes[g.detail] = true
		}
	}
	return codes
}()

// permissions says what a consent's codes mean. A code that has no words is shown as it is: nothing is granted unseen.
func (d *Describer) permissions(codes []string) []web.Item {
	has := func(code string) bool { return code != "" && slices.Contains(codes, code) }
	var items []web.Item
	for _, g := range groups {
		if !has(g.basic) && !has(g.detail) {
			continue
		}
		words := g.words
		if words == "transactions" {
			words += direction(has(readCredits), has(readDebits))
		}
		if has(g.detail) {
			words += ".detail"
		}
		item, known := d.words.Data[words]
		if !known {
			item = d.unknownData(words)
		}
		items = append(items, item)
	}
	for _, code := range codes {
		if !permissionCodes[code] {
			items = append(items, d.unknownData(code))
		}
	}
	return items
}

func direction(in, out bool) string {
	switch {
	case in && !out:
		return ".in"
	case out && !in:
		return ".out"
	}
	return ""
}

func (d *Describer) unknownData(code string) web.Item {
	return web.Item{Title: d.text("data", "code", web.Tidy(code, longName)), Text: d.text("scope.text")}
}

// looksBack tells whether the codes include something that the transaction period limits (A2-06).
func looksBack(codes []string) bool {
	return slices.ContainsFunc(codes, func(code string) bool {
		switch code {
		case "ReadTransactionsBasic", "ReadTransactionsDetail", "ReadStatementsBasic", "ReadStatementsDetail":
			return true
		}
		return false
	})
}
