package main

import (
	"context"
	"os"
)

type customerSetPassword struct {
	Username     string `arg:"" help:"User name."`
	PasswordFile string `help:"File that holds the password, or - for standard input. Without it the password is asked for." placeholder:"FILE"`
}

func (c *customerSetPassword) Run(ctx context.Context, all *commands) error {
	password, err := (&customerCreate{Username: c.Username, PasswordFile: c.PasswordFile}).password(os.Stdin, os.Stderr)
	if err != nil {
		return err
	}
	a, found, done, err := all.Customer.one(ctx, c.Username, defaultSelf)
	if err != nil {
		return err
	}
	defer done()
	return a.SetPassword(ctx, found, password)
}
