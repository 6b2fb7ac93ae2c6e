package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/countersign/countersign/authz"
	"github.com/countersign/countersign/fapi"
)

// cibaSettings are what can be set about requests that reach customers on another device (docs/ciba.md).
type cibaSettings struct {
	CIBALifetime     time.Duration `name:"ciba-lifetime" help:"How long a customer has to decide a CIBA request; a client may ask for less." env:"COUNTERSIGN_CIBA_LIFETIME" default:"5m" placeholder:"DURATION"`
	CIBAMaxOpen      int           `name:"ciba-max-open" help:"How many such requests may wait for one customer." env:"COUNTERSIGN_CIBA_MAX_OPEN" default:"5"`
	CIBANotices      int           `name:"ciba-notices" help:"Of how many such requests an hour one customer is told; the rest waits in their list all the same." env:"COUNTERSIGN_CIBA_NOTICES" default:"20"`
	LoginHintIssuers []string      `name:"login-hint-issuer" help:"Issuers of login_hint_tokens and the files with their keys (JWK Set)." env:"COUNTERSIGN_LOGIN_HINT_ISSUER" placeholder:"ISSUER=FILE"`
}

func (s *cibaSettings) ciba() (authz.CIBA, error) {
	c := authz.CIBA{Lifetime: s.CIBALifetime, MaxOpen: s.CIBAMaxOpen, Notices: s.CIBANotices, HintIssuers: fapi.HintIssuers{}}
	if c.Lifetime == 0 || c.MaxOpen == 0 || c.Notices == 0 {
		return c, errors.New("ciba-lifetime, ciba-max-open and ciba-notices must not be 0")
	}
	for _, text := range s.LoginHintIssuers {
		issuer, file, ok := strings.Cut(text, "=")
		if !ok || issuer == "" {
			return c, errors.New("login-hint-issuer must be an issuer and a file, such as https://shop.example=keys.json")
		}
		document, err := os.ReadFile(file)
		if err != nil {
			return c, fmt.Errorf("login-hint-issuer %s: %w", issuer, err)
		}
		if c.HintIssuers[issuer], err = fapi.ReadStatementKeys(document); err != nil {
			return c, fmt.Errorf("login-hint-issuer %s: %s: %w", issuer, file, err)
		}
	}
	return c, nil
}

// lowValue reads low-value.
func (s *serverSettings) lowValue() (fapi.AmountLimits, error) {
	limits := fapi.AmountLimits{}
	for _, text := range s.LowValue {
		currency, amount, ok := strings.Cut(text, "=")
		if _, twice := limits[currency]; !ok || twice {
			return nil, errors.New("low-value must be a currency and an amount, such as EUR=30, once for each currency")
		}
		limits[currency] = amount
	}
	return limits, nil
}
