package fapi

import (
	"math/big"
	"strings"
	"testing"
)

func TestAmount(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"10": "10", "10.00": "10", "010": "10", "0010.50": "10.5", "0.5": "0.5", "00.50": "0.5", "1250.001": "1250.001",
		"999999999999999999.999999999": "999999999999999999.999999999", "0.000000001": "0.000000001",
		"0": "", "0.00": "", "000": "", "": "", ".5": "", "5.": "", "1e1": "", "1E1": "", "+1": "", "-1": "", " 1": "", "1 ": "", "1,50": "", "1.000,00": "",
		"1_000": "", "0x10": "", "Inf": "", "NaN": "", "١٠": "", "1\n": "", "1\x00": "", "1000000000000000000": "", "0.0000000001": "",
		strings.Repeat("9", 1_000): "",
	} {
		if got, ok := Amount(text); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, got, ok, want)
		}
	}
}

func TestAmountLimits_Above(t *testing.T) {
	t.Parallel()
	limits := AmountLimits{"EUR": "1000", "JPY": "100000.50"}
	for _, c := range []struct {
		amount, currency string
		above            bool
	}{
		{"1000", "EUR", false}, {"1000.00", "EUR", false}, {"1000.000000001", "EUR", true}, {"999.99", "EUR", false},
		{"100000.5", "JPY", false}, {"100001", "JPY", true}, {"1", "USD", true}, {"1", "eur", true}, {"1e1", "EUR", true}, {"", "EUR", true},
	} {
		if got := limits.Above(c.amount, c.currency); got != c.above {
			t.Errorf("%s %s: %v", c.amount, c.currency, got)
		}
	}
	if !AmountLimits(nil).Above("0.01", "EUR") {
		t.Error("no limits: everything is above")
	}
}

// Whatever is taken is the same number, has one spelling, and is taken again.
func FuzzAmount(f *testing.F) {
	for _, seed := range []string{"10", "10.00", "1e1", "0", "000.100", "999999999999999999.999999999", "-0", "1.", ".1", "１０", "1\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		canonical, ok := Amount(text)
		if !ok {
			if canonical != "" {
				t.Fatalf("%q was refused with %q", text, canonical)
			}
			return
		}
		given, _ := new(big.Rat).SetString(text)
		made, valid := new(big.Rat).SetString(canonical)
		if !valid || given == nil || given.Cmp(made) != 0 || made.Sign() <= 0 || len(canonical) > 28 {
			t.Fatalf("%q became %q", text, canonical)
		}
		if again, ok := Amount(canonical); !ok || again != canonical {
			t.Fatalf("%q became %q", canonical, again)
		}
		if grown, ok := Amount("0" + text); ok && grown != canonical {
			t.Fatalf("0%s became %q, not %q", text, grown, canonical)
		}
	})
}
