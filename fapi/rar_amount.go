package fapi

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

// AmountLimits are amounts by currency (ISO 4217), as decimal text: "30", "29.99".
type AmountLimits map[string]string

var (
	decimalPattern  = regexp.MustCompile(`^[0-9]{1,18}(\.[0-9]{1,9})?$`) // no exponent: a few bytes would be a number of a million digits
	currencyPattern = regexp.MustCompile(`^[A-Z]{3}$`)
)

// Check reports the first limit that is none.
func (l AmountLimits) Check() error {
	for currency, limit := range l {
		if !currencyPattern.MatchString(currency) || !decimalPattern.MatchString(limit) {
			return fmt.Errorf("amount %q of %q: must be a decimal number of a currency, such as 30 of EUR", limit, currency)
		}
	}
	return nil
}

// Exceeded tells whether the amounts in details are above their limits, those of one currency together: what is too much for
// one payment is not asked for in ten. An amount that is not there or cannot be read, or whose currency has no limit, is above.
func (l AmountLimits) Exceeded(details []AuthorizationDetail, types map[string]DetailType) bool {
	sums := map[string]*big.Rat{}
	for _, d := range details {
		path := types[d.Type].Amount
		if path == "" {
			continue
		}
		amount, currency, ok := d.amount(strings.Split(path, "."))
		if !ok {
			return true
		}
		if sums[currency] == nil {
			sums[currency] = new(big.Rat)
		}
		sums[currency].Add(sums[currency], amount)
	}
	for currency, sum := range sums {
		limit, ok := decimal(l[currency])
		if !ok || sum.Cmp(limit) > 0 {
			return true
		}
	}
	return false
}

// amount reads the object at the path: its amount, a number or the text of one, and its currency.
func (d *AuthorizationDetail) amount(path []string) (amount *big.Rat, currency string, ok bool) {
	members := d.Fields
	for _, name := range path {
		inner := members[name]
		if members = nil; json.Unmarshal(inner, &members) != nil {
			return nil, "", false
		}
	}
	if json.Unmarshal(members["currency"], &currency) != nil {
		return nil, "", false
	}
	amount, ok = decimal(strings.Trim(string(members["amount"]), `"`))
	return amount, currency, ok
}

func decimal(text string) (*big.Rat, bool) {
	if !decimalPattern.MatchString(text) {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}
