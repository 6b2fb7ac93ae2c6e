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

// registrationSettings are what can be set about clients that register themselves (docs/registration.md).
type registrationSettings struct {
	Registration         string        `help:"Who may register a client over the network: nobody (closed), who has an initial access token (token) or a software statement (statement), or everybody (open)." env:"COUNTERSIGN_REGISTRATION" enum:"closed,token,statement,open" default:"closed"`
	RegistrationProfiles []string      `name:"registration-profile" help:"Profiles that such clients may choose among; the first is the default." env:"COUNTERSIGN_REGISTRATION_PROFILE" default:"fapi2"`
	RegistrationScopes   []string      `name:"registration-scope" help:"Scopes that they may ask for; by default all that are in the metadata." env:"COUNTERSIGN_REGISTRATION_SCOPE"`
	RegistrationPerHour  int           `help:"How many may register in an hour." env:"COUNTERSIGN_REGISTRATION_PER_HOUR" default:"1000"`
	StatementIssuers     []string      `name:"software-statement-issuer" help:"Issuers of software statements and the files with their keys (JWK Set)." env:"COUNTERSIGN_SOFTWARE_STATEMENT_ISSUER" placeholder:"ISSUER=FILE"`
	StatementAge         time.Duration `name:"software-statement-age" help:"How old a software statement may be." env:"COUNTERSIGN_SOFTWARE_STATEMENT_AGE" default:"30m"`
}

func (s *registrationSettings) registration() (authz.Registration, error) {
	r := authz.Registration{
		Mode: authz.RegistrationMode(s.Registration), Scopes: s.RegistrationScopes, PerHour: s.RegistrationPerHour,
		Statements: fapi.StatementIssuers{},
	}
	for _, name := range s.RegistrationProfiles {
		r.Profiles = append(r.Profiles, fapi.ProfileName(name))
	}
	for _, text := range s.StatementIssuers {
		issuer, file, ok := strings.Cut(text, "=")
		if !ok || issuer == "" {
			return r, errors.New("software-statement-issuer must be an issuer and a file, such as https://directory.example=keys.json")
		}
		document, err := os.ReadFile(file)
		if err != nil {
			return r, fmt.Errorf("software-statement-issuer %s: %w", issuer, err)
		}
		keys, err := fapi.ReadStatementKeys(document)
		if err != nil {
			return r, fmt.Errorf("software-statement-issuer %s: %s: %w", issuer, file, err)
		}
		r.Statements[issuer] = &fapi.StatementIssuer{Keys: keys, MaxAge: s.StatementAge}
	}
	return r, nil
}
