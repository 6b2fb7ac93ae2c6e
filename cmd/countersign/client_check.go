package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

type clientCheck struct {
	ID      string `arg:"" name:"client-id"`
	Profile string `help:"Check against this profile instead of the client's own: could it move there?" placeholder:"NAME"`
	JSON    bool   `name:"json" help:"Print JSON."`
}

func (c *clientCheck) Run(ctx context.Context, all *commands) error {
	db, err := all.Client.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	clients, err := db.ListClients(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(clients, func(row storage.Client) bool { return row.ID == c.ID })
	if i < 0 {
		return errNoClient(c.ID)
	}
	findings, err := fapi.CheckRegistration(clients[i].Metadata, fapi.ProfileName(c.Profile))
	if err != nil {
		return err
	}
	return report(os.Stdout, findings, c.JSON)
}

// report prints findings, and returns an error when one failed: the command's exit status.
func report(w io.Writer, findings []fapi.Finding, asJSON bool) error {
	var err error
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(findings)
	} else {
		err = printFindings(w, findings)
	}
	if failed := fapi.Failures(findings); err == nil && failed > 0 {
		return fmt.Errorf("%d of %d requirements are not met", failed, len(findings))
	}
	return err
}

func printFindings(w io.Writer, findings []fapi.Finding) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, f := range findings {
		found := ""
		if f.Found != "" {
			found = " … " + f.Found
		}
		fmt.Fprintf(table, "%s\t%s\t%s%s\n", f.Verdict, f.Clause, f.Requirement, found)
		if f.Change != "" {
			fmt.Fprintf(table, "\t\t  → %s\n", f.Change)
		}
	}
	return table.Flush()
}
