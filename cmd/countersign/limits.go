package main

import (
	"time"

	"github.com/countersign/countersign/authn"
)

// limitSettings are what can be set about attempts (docs/limits.md) and passwords (docs/passwords.md).
type limitSettings struct {
	MaxFailures     int           `name:"max-failures" help:"Wrong passwords or codes in a row before a customer has to wait; at most 5 by RTS (EU) 2018/389 art. 4(3)(b)." env:"COUNTERSIGN_MAX_FAILURES" default:"5"`
	FirstBlock      time.Duration `name:"first-block" help:"How long the first wait is; with each further failure it doubles." env:"COUNTERSIGN_FIRST_BLOCK" default:"1m" placeholder:"DURATION"`
	LongestBlock    time.Duration `name:"longest-block" help:"How long it can become." env:"COUNTERSIGN_LONGEST_BLOCK" default:"1h" placeholder:"DURATION"`
	AddressAttempts int           `name:"address-attempts" help:"Attempts of one address that lead to nothing before browsers have to wait there that the customer is not known by; one is forgotten each 12 seconds." env:"COUNTERSIGN_ADDRESS_ATTEMPTS" default:"100"`
	HashMemory      int           `name:"hash-memory" help:"MiB of memory for passwords that are hashed at the same time." env:"COUNTERSIGN_HASH_MEMORY" default:"256"`
	ForwardedFrom   []string      `name:"forwarded-from" help:"Networks of the proxies that say in X-Forwarded-For where a request comes from; from anywhere else the header is ignored." env:"COUNTERSIGN_FORWARDED_FROM" placeholder:"CIDR"`
}

func (s *limitSettings) limits(c *authn.Config) {
	c.MaxFailures, c.FirstBlock, c.LongestBlock, c.AddressAttempts, c.HashMemory = s.MaxFailures, s.FirstBlock, s.LongestBlock, s.AddressAttempts, s.HashMemory
}
