package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/storage"
)

type keyCommand struct {
	Master keyMaster `cmd:"" help:"Print a new master key. Keep it: without it the database is unreadable."`
	List   keyList   `cmd:"" help:"List the signing keys."`
	Rotate keyRotate `cmd:"" help:"Make the published next key sign, and publish the one after it. Servers notice by themselves."`
}

type keyMaster struct{}

func (keyMaster) Run() error {
	key := make([]byte, 32)
	rand.Read(key)
	fmt.Println(base64.StdEncoding.EncodeToString(key))
	return nil
}

type keyList struct {
	databaseSettings `embed:""`
}

func (c *keyList) Run(ctx context.Context) error {
	db, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	return printKeys(ctx, db)
}

func printKeys(ctx context.Context, db *storage.DB) error {
	list, err := db.ListSigningKeys(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ALG\tSTATE\tKID\tMADE\tPUBLISHED UNTIL")
	for _, k := range list {
		until := ""
		if k.PublishedUntil != nil {
			until = k.PublishedUntil.UTC().Format("2006-01-02 15:04Z")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.Alg, k.State, k.KID, k.CreatedAt.UTC().Format("2006-01-02 15:04Z"), until)
	}
	return w.Flush()
}

type keyRotate struct {
	databaseSettings `embed:""`

	Alg  []string `help:"Only the keys of these algorithms." placeholder:"ALG"`
	Data bool     `help:"Rotate the data key, which seals columns and tokens, instead. Older ones still open."`
}

func (c *keyRotate) Run(ctx context.Context) error {
	db, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if c.Data {
		id, err := db.RotateDataKey(ctx)
		if err == nil {
			fmt.Println("data key", id, "seals from now on")
		}
		return err
	}
	signing, encryption := keys.AllAlgorithms, keys.AllEncryption
	if len(c.Alg) > 0 {
		signing, encryption = nil, nil
		for _, alg := range c.Alg {
			if slices.Contains(keys.AllEncryption, jose.KeyAlgorithm(alg)) {
				encryption = append(encryption, jose.KeyAlgorithm(alg))
			} else {
				signing = append(signing, jose.SignatureAlgorithm(alg))
			}
		}
	}
	set, err := keys.Open(ctx, db, signing, encryption...)
	if err != nil {
		return err
	}
	for _, alg := range signing {
		if err := set.Rotate(ctx, alg); err != nil {
			return fmt.Errorf("%s: %w", alg, err)
		}
	}
	for _, alg := range encryption {
		if err := set.RotateEncryption(ctx, alg); err != nil {
			return fmt.Errorf("%s: %w", alg, err)
		}
	}
	return printKeys(ctx, db)
}
