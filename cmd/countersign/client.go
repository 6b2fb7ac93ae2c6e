package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

type clientCommand struct {
	databaseSettings `embed:""`

	Create  clientCreate  `cmd:"" help:"Register a client from its metadata (RFC 7591 names; YAML or JSON). A client with a secret gets one, printed once."`
	List    clientList    `cmd:"" help:"List the clients."`
	Show    clientShow    `cmd:"" help:"Show a client's metadata."`
	Check   clientCheck   `cmd:"" help:"Say, requirement by requirement, whether a client satisfies its profile, or could move to another."`
	Disable clientDisable `cmd:"" help:"End all that a client may do, at once."`
	Enable  clientEnable  `cmd:"" help:"Undo disable."`
	Token   clientToken   `cmd:"" help:"Print an initial access token: who has it may register clients over the network."`
}

type clientCreate struct {
	File string `arg:"" help:"File with the metadata, or - for standard input."`
}

func (c *clientCreate) Run(ctx context.Context, all *commands) error {
	content, err := readFile(c.File)
	if err != nil {
		return err
	}
	entries, err := parseClients(content)
	if err != nil {
		return err
	}
	db, err := all.Client.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, e := range entries {
		secret := ""
		if e.client.UsesSecret() && e.secretHash == nil {
			secret = rand.Text() + rand.Text()
			e.secretHash = fapi.SecretHash(secret)
		}
		if err := db.CreateClient(ctx, e.client.ID, e.metadata, e.secretHash); errors.Is(err, storage.ErrConflict) {
			return fmt.Errorf("there is a client %q already", e.client.ID)
		} else if err != nil {
			return err
		}
		fmt.Println("registered", e.client.ID)
		if secret != "" {
			fmt.Println("client_secret", secret)
		}
	}
	return nil
}

type clientList struct{}

func (clientList) Run(ctx context.Context, all *commands) error {
	db, err := all.Client.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	clients, err := db.ListClients(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "CLIENT\tPROFILE\tAUTHENTICATION\tNAME\tSTATE")
	for _, row := range clients {
		state := "active"
		if row.DisabledAt != nil {
			state = "disabled " + row.DisabledAt.UTC().Format("2006-01-02")
		}
		c, err := fapi.ParseClient(row.Metadata)
		if err != nil {
			fmt.Fprintf(w, "%s\t\t\t\t%s\n", row.ID, "unreadable: "+err.Error())
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", c.ID, c.Profile, c.TokenEndpointAuthMethod, c.Name, state)
	}
	return w.Flush()
}

type clientShow struct {
	ID string `arg:"" name:"client-id"`
}

func (c *clientShow) Run(ctx context.Context, all *commands) error {
	db, err := all.Client.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	clients, err := db.ListClients(ctx)
	if err != nil {
		return err
	}
	for _, row := range clients {
		if row.ID == c.ID {
			var out bytes.Buffer
			if err := json.Indent(&out, row.Metadata, "", "  "); err != nil {
				return err
			}
			fmt.Println(out.String())
			return nil
		}
	}
	return errNoClient(c.ID)
}

func errNoClient(id string) error { return fmt.Errorf("there is no client %q", id) }

type clientDisable struct {
	ID string `arg:"" name:"client-id"`
}

func (c *clientDisable) Run(ctx context.Context, all *commands) error {
	return all.Client.change(ctx, c.ID, (*storage.DB).DisableClient)
}

type clientEnable struct {
	ID string `arg:"" name:"client-id"`
}

func (c *clientEnable) Run(ctx context.Context, all *commands) error {
	return all.Client.change(ctx, c.ID, (*storage.DB).EnableClient)
}

func (c *clientCommand) change(ctx context.Context, id string, change func(*storage.DB, context.Context, string) error) error {
	db, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	err = change(db, ctx, id)
	if errors.Is(err, storage.ErrNotFound) {
		return errNoClient(id)
	}
	return err
}

// registerClients registers what a file lists, or brings it up to date. Other clients stay as they are.
func registerClients(ctx context.Context, db *storage.DB, file string) error {
	content, err := readFile(file)
	if err != nil {
		return err
	}
	entries, err := parseClients(content)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, e := range entries {
		if e.client.UsesSecret() && e.secretHash == nil {
			return fmt.Errorf("%s: client %q authenticates with a secret, but has no client_secret_sha256", file, e.client.ID)
		}
		if err := db.SaveClient(ctx, e.client.ID, e.metadata, e.secretHash); err != nil {
			return err
		}
	}
	return nil
}

// clientEntry is a client of a file.
type clientEntry struct {
	client     *fapi.Client
	metadata   []byte
	secretHash []byte // SHA-256; nil when it has none
}

// parseClients reads one client's metadata, or a list under "clients". The file may hold a secret's hash
// (client_secret_sha256, hexadecimal), never a secret.
func parseClients(content []byte) ([]clientEntry, error) {
	var document any
	if err := yaml.Unmarshal(content, &document); err != nil {
		return nil, err
	}
	list := []any{document}
	if m, ok := document.(map[string]any); ok {
		if several, ok := m["clients"].([]any); ok && len(m) == 1 {
			list = several
		}
	}
	var entries []clientEntry
	var wrong []error
	for i, item := range list {
		e, err := parseClient(item)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("client %d: %w", i+1, err))
			continue
		}
		entries = append(entries, *e)
	}
	return entries, errors.Join(wrong...)
}

func parseClient(item any) (*clientEntry, error) {
	m, ok := item.(map[string]any)
	if !ok {
		return nil, errors.New("is not a mapping of metadata")
	}
	e := &clientEntry{}
	if text, ok := m["client_secret_sha256"].(string); ok {
		if _, err := fmt.Sscanf(text, "%x", &e.secretHash); err != nil || len(e.secretHash) != 32 {
			return nil, errors.New("client_secret_sha256 is not 64 hexadecimal digits")
		}
		delete(m, "client_secret_sha256")
	}
	var err error
	if e.metadata, err = json.Marshal(m); err != nil {
		return nil, err
	}
	e.client, err = fapi.ParseClient(e.metadata)
	return e, err
}

func readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(name)
}
