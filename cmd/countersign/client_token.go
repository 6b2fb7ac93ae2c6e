package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

type clientToken struct {
	Profile string        `help:"Profile that clients fall under which register with the token; by default as the server's settings say." placeholder:"PROFILE"`
	Uses    int           `help:"How many clients may register with it." default:"1"`
	Expires time.Duration `help:"How long it is good." default:"24h"`
}

// Run prints an initial access token (RFC 7591 §3). Only its hash is stored.
func (c *clientToken) Run(ctx context.Context, all *commands) error {
	if c.Profile != "" && fapi.FindProfile(fapi.ProfileName(c.Profile)) == nil {
		return fmt.Errorf("profile %q is not one of %v", c.Profile, fapi.ProfileNames())
	}
	if c.Uses < 1 || c.Expires <= 0 {
		return errors.New("a token has at least one use and some time")
	}
	db, err := all.Client.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	token := rand.Text() + rand.Text()
	err = db.CreateInitialAccessToken(ctx, storage.InitialAccessToken{
		Hash: fapi.SecretHash(token), Profile: c.Profile, Uses: c.Uses, ExpiresAt: time.Now().Add(c.Expires),
	})
	if err != nil {
		return err
	}
	fmt.Println(token)
	return nil
}
