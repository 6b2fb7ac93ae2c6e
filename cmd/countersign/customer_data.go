package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// What staff do for customers who ask by letter (docs/self.md).

// one finds a customer, for something that customers else do by themselves. done must be called in the end.
func (c *customerCommand) one(ctx context.Context, username string, self selfSettings) (a *authn.Authn, found *storage.CustomerRecord, done func(), err error) {
	pages, err := web.New(web.Brand{Name: c.BankName})
	if err != nil {
		return nil, nil, nil, err
	}
	config := authn.Config{Tenant: c.Tenant, Issuer: c.BankName, Channels: []string{authn.ChannelEmail}} // servers send what is to be sent
	if err := self.self(&config); err != nil {
		return nil, nil, nil, err
	}
	if err := config.Validate(); err != nil {
		return nil, nil, nil, err
	}
	db, err := c.open(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	a = authn.New(db, pages, zap.NewNop(), config)
	if found, err = c.find(ctx, a, username); err != nil {
		db.Close()
		return nil, nil, nil, err
	}
	return a, found, db.Close, nil
}

type customerExport struct {
	Username string `arg:"" help:"User name."`
}

// defaultSelf are the settings of a command that needs none of them.
var defaultSelf = selfSettings{DeletionWait: 14 * 24 * time.Hour, RecordsKept: 5 * 365 * 24 * time.Hour}

func (c *customerExport) Run(ctx context.Context, all *commands) error {
	a, found, done, err := all.Customer.one(ctx, c.Username, defaultSelf)
	if err != nil {
		return err
	}
	defer done()
	export, err := a.Export(ctx, found.ID, storage.Visit{})
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(export)
}

type customerDelete struct {
	Username     string        `arg:"" help:"User name."`
	Cancel       bool          `help:"Cancel a deletion that was asked for."`
	DeletionWait time.Duration `name:"deletion-wait" help:"How long the customer can think better of it." env:"COUNTERSIGN_DELETION_WAIT" default:"336h" placeholder:"DURATION"`
	RecordsKept  time.Duration `name:"records-kept" help:"How long records of consents and payments outlive the customer, without a name." env:"COUNTERSIGN_RECORDS_KEPT" default:"43800h" placeholder:"DURATION"`
}

func (c *customerDelete) Run(ctx context.Context, all *commands) error {
	a, found, done, err := all.Customer.one(ctx, c.Username, selfSettings{DeletionWait: c.DeletionWait, RecordsKept: c.RecordsKept})
	if err != nil {
		return err
	}
	defer done()
	if c.Cancel {
		err := a.CancelDeletion(ctx, found.ID, found.Customer, storage.Visit{})
		if errors.Is(err, storage.ErrNotFound) {
			return fmt.Errorf("no deletion of %q was asked for", c.Username)
		}
		return err
	}
	due, err := a.RequestDeletion(ctx, found.ID, found.Customer, c.DeletionWait, storage.Visit{})
	if errors.Is(err, storage.ErrConflict) {
		return fmt.Errorf("the deletion of %q was asked for already", c.Username)
	}
	if err != nil {
		return err
	}
	fmt.Println("deleted from", due.UTC().Format(time.RFC3339), "on, by a server that runs then")
	return nil
}
