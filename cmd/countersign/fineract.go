package main

import "github.com/countersign/countersign/authn/fineract"

// fineractSettings are what can be set about Apache Fineract's two-factor API (docs/fineract-two-factor.md).
type fineractSettings struct {
	FineractAPI        bool     `name:"fineract-api" help:"Answer Apache Fineract's two-factor API, for clients that were written for it." env:"COUNTERSIGN_FINERACT_API"`
	FineractContext    string   `name:"fineract-context" help:"Path of that API." env:"COUNTERSIGN_FINERACT_CONTEXT" default:"/fineract-provider/api/v1" placeholder:"PATH"`
	FineractOrigins    []string `name:"fineract-origin" help:"Origins of apps in browsers that may call it; none by default." env:"COUNTERSIGN_FINERACT_ORIGIN" placeholder:"URL"`
	FineractMaskTarget bool     `name:"fineract-mask-target" help:"Show only part of the address that a code goes to; Fineract shows all of it." env:"COUNTERSIGN_FINERACT_MASK_TARGET" default:"true" negatable:""`
}

func (s *serverSettings) fineract() fineract.Config {
	if !s.FineractAPI {
		return fineract.Config{}
	}
	return fineract.Config{Context: s.FineractContext, Origins: s.FineractOrigins, FullTargets: !s.FineractMaskTarget, Institution: s.BankName}
}
