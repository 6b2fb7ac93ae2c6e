package fapi

import "strings"

// Amount returns the one way in which an amount is written when it is signed and compared: "10" for "10.00" and "010",
// "0.5" for "0.50". It takes decimal text above zero, up to 18 digits and 9 decimals, without sign or exponent.
func Amount(text string) (canonical string, ok bool) {
	if !decimalPattern.MatchString(text) {
		return "", false
	}
	whole, fraction, _ := strings.Cut(text, ".")
	whole, fraction = strings.TrimLeft(whole, "0"), strings.TrimRight(fraction, "0")
	if whole == "" && fraction == "" {
		return "", false
	}
	if whole == "" {
		whole = "0"
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return whole, true
}

// IsCurrency tells whether a text looks like a currency of ISO 4217.
func IsCurrency(text string) bool { return currencyPattern.MatchString(text) }

// Above tells whether an amount is above its currency's limit. One that cannot be read, or whose currency has no limit, is.
func (l AmountLimits) Above(amount, currency string) bool {
	value, ok := decimal(amount)
	limit, limited := decimal(l[currency])
	return !ok || !limited || value.Cmp(limit) > 0
}
