package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/countersign/countersign/authn"
)

type customerInvite struct {
	profileFlags     `embed:""`
	FineractClientID int64         `name:"fineract-client-id" help:"The client's id in Fineract." required:"" placeholder:"ID"`
	Role             []string      `help:"A role: USER, ADMIN or SUPPORT; may be repeated. USER if there is none." sep:"none" placeholder:"ROLE"`
	Account          []account     `help:"An account that the customer may share; may be repeated." sep:"none" placeholder:"ID:NAME:NUMBER:CURRENCY"`
	Lifetime         time.Duration `help:"How long the invitation is good for." default:"336h" placeholder:"DURATION"`
	Send             string        `help:"Send the code to the email address (email) or the phone number (sms), which counts as verified then, instead of printing it." enum:",email,sms" default:""`
	Page             string        `help:"Address of the server's /invitation, for the message." placeholder:"URL"`
}

func (c *customerInvite) Run(ctx context.Context, all *commands) error {
	n := authn.NewInvitation{FineractClientID: c.FineractClientID, Roles: c.Role, Accounts: accounts(c.Account), Lifetime: c.Lifetime, SendTo: c.Send, Page: c.Page}
	if err := c.apply(&n.Profile); err != nil {
		return err
	}
	if c.Send != "" && c.Page == "" {
		return errors.New("send needs page: where the code is to be typed")
	}
	a, done, err := all.Customer.authn(ctx)
	if err != nil {
		return err
	}
	defer done()
	code, i, err := a.Invite(ctx, n)
	if err != nil {
		return err
	}
	if code == "" {
		fmt.Println("invitation", i.ID, "is on its way, good until", i.ExpiresAt.UTC().Format("2006-01-02 15:04Z"))
		return nil
	}
	fmt.Println("invitation", i.ID, "good until", i.ExpiresAt.UTC().Format("2006-01-02 15:04Z"))
	fmt.Println("code", code)
	return nil
}
