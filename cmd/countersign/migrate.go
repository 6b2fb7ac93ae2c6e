package main

import (
	"context"
	"fmt"

	"github.com/countersign/countersign/migrations"
)

type migrateCommand struct {
	DatabaseURL string `help:"Postgres connection string." env:"DATABASE_URL" required:"" placeholder:"URL"`

	Up     migrateUp     `cmd:"" default:"1" help:"Apply what is missing. Safe while servers run, and from several machines at once."`
	Status migrateStatus `cmd:"" help:"Show which migrations are applied."`
}

type (
	migrateUp     struct{}
	migrateStatus struct{}
)

func (migrateUp) Run(ctx context.Context, c *commands) error {
	if err := migrations.Up(ctx, c.Migrate.DatabaseURL); err != nil {
		return err
	}
	fmt.Println("schema is at version", migrations.Latest())
	return nil
}

func (migrateStatus) Run(ctx context.Context, c *commands) error {
	all, err := migrations.Status(ctx, c.Migrate.DatabaseURL)
	if err != nil {
		return err
	}
	for _, m := range all {
		state := "missing"
		if !m.AppliedAt.IsZero() {
			state = "applied " + m.AppliedAt.UTC().Format("2006-01-02 15:04:05Z")
		}
		fmt.Printf("%5d  %-40s %s\n", m.Version, m.File, state)
	}
	return nil
}
