package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/storage"
)

// mandateCommand manages who may start and approve what for an organization (docs/transactions.md).
type mandateCommand struct {
	databaseSettings `embed:""`

	Tenant string `help:"Fineract tenant that the organizations belong to." env:"COUNTERSIGN_TENANT" default:"default"`

	Create mandateCreate `cmd:"" help:"Create a mandate from a file, or replace the one whose id the file has. What waits for approval falls under it at once."`
	List   mandateList   `cmd:"" help:"List the mandates."`
	Show   mandateShow   `cmd:"" help:"Print a mandate as a file for create."`
	Remove mandateRemove `cmd:"" help:"End a mandate: nothing is started or approved under it any more."`
}

type mandateCreate struct {
	File string `arg:"" help:"YAML or JSON file, - for standard input."`
}

func (c *mandateCreate) Run(ctx context.Context, all *commands) error {
	m, err := readMandate(c.File)
	if err != nil {
		return err
	}
	db, err := all.Mandate.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	stored := m.Stored()
	stored.Tenant, stored.ID = all.Mandate.Tenant, storage.NewID()
	if m.ID != "" {
		if stored.ID, err = uuid.Parse(m.ID); err != nil {
			return fmt.Errorf("id %q is none that create has given", m.ID)
		}
	}
	customers := authn.New(db, nil, zap.NewNop(), authn.Config{Tenant: all.Mandate.Tenant})
	for _, member := range m.Members {
		found, err := customers.FindCustomer(ctx, "", member.Username)
		if errors.Is(err, storage.ErrNotFound) {
			return fmt.Errorf("tenant %s has no customer %q", all.Mandate.Tenant, member.Username)
		}
		if err != nil {
			return err
		}
		stored.Members = append(stored.Members, storage.MandateMember{CustomerID: found.ID, MayStart: member.Start, MayApprove: member.Approve})
	}
	if err := db.SaveMandate(ctx, &stored); err != nil {
		return err
	}
	fmt.Println("saved", stored.ID)
	return nil
}

// readMandate reads and checks a file. A member that we do not know is refused: it would not hold.
func readMandate(file string) (*consent.Mandate, error) {
	var content []byte
	var err error
	if file == "-" {
		content, err = io.ReadAll(os.Stdin)
	} else {
		content, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("mandate: %w", err)
	}
	m := &consent.Mandate{}
	decoder := yaml.NewDecoder(bytes.NewReader(content)) // JSON is YAML
	decoder.KnownFields(true)
	if err := decoder.Decode(m); err != nil {
		return nil, fmt.Errorf("mandate: %w", err)
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("mandate: %w", err)
	}
	return m, nil
}

type mandateList struct{}

func (mandateList) Run(ctx context.Context, all *commands) error {
	db, err := all.Mandate.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	list, err := db.ListMandates(ctx, all.Mandate.Tenant)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "MANDATE\tORGANIZATION\tMEMBERS\tTIERS")
	for _, m := range list {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", m.ID, m.Name, len(m.Members), len(m.Tiers))
	}
	return w.Flush()
}

type mandateShow struct {
	ID uuid.UUID `arg:"" help:"The mandate's id."`
}

func (c *mandateShow) Run(ctx context.Context, all *commands) error {
	db, err := all.Mandate.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	m, err := db.FindMandate(ctx, all.Mandate.Tenant, c.ID)
	if err != nil {
		return unknownMandate(err)
	}
	people, err := db.MandatePeople(ctx, m.ID)
	if err != nil {
		return err
	}
	names := map[uuid.UUID]string{}
	for i := range people {
		profile, err := people[i].Profile()
		if err != nil {
			return err
		}
		names[people[i].ID] = profile.Username
	}
	text, err := yaml.Marshal(consent.ReadMandate(m, func(member storage.MandateMember) string { return names[member.CustomerID] }))
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	return err
}

type mandateRemove struct {
	ID uuid.UUID `arg:"" help:"The mandate's id."`
}

func (c *mandateRemove) Run(ctx context.Context, all *commands) error {
	db, err := all.Mandate.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	return unknownMandate(db.EndMandate(ctx, all.Mandate.Tenant, c.ID))
}

func unknownMandate(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return errors.New("there is no such mandate")
	}
	return err
}
