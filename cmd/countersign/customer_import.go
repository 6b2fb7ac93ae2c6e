package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/storage"
)

type customerImport struct {
	File   string `arg:"" help:"JSON lines or CSV (docs/customers.md), or - for standard input." placeholder:"FILE"`
	Format string `help:"jsonl or csv; by default as the file's name ends." enum:",jsonl,csv" default:""`
	Update bool   `help:"Update customers that there are already, but never their passwords. By default they are skipped."`
	DryRun bool   `name:"dry-run" help:"Check all lines, store nothing."`
}

// batchSize is how many customers go into one round trip.
const batchSize = 200

// imported is one line of a file.
type imported struct {
	line     int
	customer authn.NewCustomer
	err      error // of a line that cannot be read
}

func (c *customerImport) Run(ctx context.Context, all *commands) error {
	in := io.Reader(os.Stdin)
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	a, done, err := all.Customer.authn(ctx)
	if err != nil {
		return err
	}
	defer done()
	read := readLines
	if c.Format == "csv" || c.Format == "" && strings.EqualFold(filepath.Ext(c.File), ".csv") {
		read = readCSV
	}
	run := &importRun{customerImport: c, authn: a, report: os.Stdout, progress: os.Stderr, told: time.Now()}
	if err := run.all(ctx, read(in)); err != nil {
		return fmt.Errorf("stopped after line %d: %w", run.line, err)
	}
	return run.end()
}

// importRun is one run over a file. What it has done stays when it stops: another run goes on where it stopped.
type importRun struct {
	*customerImport
	authn            *authn.Authn
	report, progress io.Writer
	told             time.Time // when progress was told last

	line                              int
	created, updated, skipped, refuse int
}

func (r *importRun) all(ctx context.Context, lines iter.Seq[imported]) error {
	batch := make([]imported, 0, batchSize)
	for l := range lines {
		if l.err != nil {
			r.refused(l.line, l.err)
			continue
		}
		if batch = append(batch, l); len(batch) == batchSize {
			if err := r.store(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return r.store(ctx, batch)
}

func (r *importRun) store(ctx context.Context, batch []imported) error {
	if len(batch) == 0 {
		return nil
	}
	customers := make([]authn.NewCustomer, len(batch))
	for i, l := range batch {
		customers[i] = l.customer
	}
	errs, err := r.authn.ImportCustomers(ctx, customers, r.DryRun)
	if err != nil {
		return err
	}
	for i, l := range batch {
		r.line = l.line
		switch {
		case errs[i] == nil:
			r.created++
		case !errors.Is(errs[i], storage.ErrConflict):
			r.refused(l.line, errs[i])
		case !r.Update:
			r.skipped++
		case r.DryRun:
			r.updated++
		default:
			if err := r.update(ctx, l); err != nil {
				return err
			}
		}
	}
	r.tell()
	return nil
}

// tell says now and then how far it is.
func (r *importRun) tell() {
	if time.Since(r.told) > 2*time.Second {
		r.told = time.Now()
		fmt.Fprintf(r.progress, "line %d: %s\n", r.line, r.sum())
	}
}

// update brings a customer that there is up to what the line says. What it does not say stays.
func (r *importRun) update(ctx context.Context, l imported) error {
	n := l.customer
	found, err := r.authn.FindCustomer(ctx, "", n.Profile.Username)
	if err != nil {
		return err
	}
	err = r.authn.ChangeCustomer(ctx, found.ID, authn.Change{
		Profile:          func(p *storage.Profile) error { return merge(p, &n.Profile) },
		FineractClientID: n.FineractClientID, Roles: n.Roles, Grant: n.Permissions,
	})
	if err == nil && n.Accounts != nil {
		err = r.authn.SetAccounts(ctx, found.ID, n.Accounts)
	}
	if storage.Unavailable(err) || ctx.Err() != nil {
		return err
	}
	if err != nil {
		r.refused(l.line, err)
		return nil
	}
	r.updated++
	return nil
}

// merge takes over what a line says. An address that is another one than before is as verified as the line says.
func merge(p, said *storage.Profile) error {
	if said.Email != "" && said.Email != p.Email {
		p.EmailVerified = false
	}
	if said.PhoneNumber != "" && said.PhoneNumber != p.PhoneNumber {
		p.PhoneNumberVerified = false
	}
	members, err := json.Marshal(said) // without those that are empty
	if err != nil {
		return err
	}
	return json.Unmarshal(members, p)
}

// refused reports a line by its number: what stands in it is personal.
func (r *importRun) refused(line int, why error) {
	r.refuse++
	fmt.Fprintf(r.report, "line %d refused: %s\n", line, strings.TrimPrefix(strings.TrimPrefix(why.Error(), "authn: "), "storage: "))
}

func (r *importRun) sum() string {
	return fmt.Sprintf("%d created, %d updated, %d skipped, %d refused", r.created, r.updated, r.skipped, r.refuse)
}

func (r *importRun) end() error {
	what := r.sum()
	if r.DryRun {
		what += " (dry run: nothing is stored)"
	}
	fmt.Fprintln(r.report, what)
	if r.refuse > 0 {
		return fmt.Errorf("%d lines were refused", r.refuse)
	}
	return nil
}
