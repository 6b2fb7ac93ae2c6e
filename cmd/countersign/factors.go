package main

// factorSettings are what can be set about second factors (docs/second-factors.md).
type factorSettings struct {
	FactorKinds  []string `name:"factor-kinds" help:"Kinds of second factors that customers use: totp, passkey, email, sms, recovery_codes; by default all that there is a channel for." env:"COUNTERSIGN_FACTOR_KINDS" placeholder:"KIND"`
	CodesPerHour int      `name:"codes-per-hour" help:"Codes by email or SMS that one customer may ask for in an hour." env:"COUNTERSIGN_CODES_PER_HOUR" default:"3"`
}
