// Command countersign is the authorization server, and what its operators need besides: see `countersign --help`.
//
// One file per subcommand. app.go makes a server of its settings; serve, demo and the tests share it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// commands is the command line.
type commands struct {
	Serve    serveCommand    `cmd:"" help:"Run the authorization server."`
	Demo     demoCommand     `cmd:"" help:"Show the whole story on this machine: database, server, sample app and sample bank API."`
	Migrate  migrateCommand  `cmd:"" help:"Bring the database schema up to date, or show where it stands."`
	Client   clientCommand   `cmd:"" help:"Register and manage clients (third-party apps and resource services)."`
	Customer customerCommand `cmd:"" help:"Create and manage customers."`
	Mandate  mandateCommand  `cmd:"" help:"Say who may start and approve what for an organization."`
	Key      keyCommand      `cmd:"" help:"Make, list and rotate keys."`
	Health   healthCommand   `cmd:"" help:"Ask a server on this machine whether it is ready."`
	Doctor   doctorCommand   `cmd:"" help:"Look at settings, files, database, clients and a running server, and say what is wrong with them."`
	Version  versionCommand  `cmd:"" help:"Print the version."`

	Config kong.ConfigFlag `help:"YAML file with settings, named like the flags." placeholder:"FILE" env:"COUNTERSIGN_CONFIG"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "countersign:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var c commands
	parser, err := kong.New(&c,
		kong.Name("countersign"),
		kong.Description("FAPI and OpenID Connect authorization server for banks on Apache Fineract."),
		kong.Configuration(yamlSettings),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		return err
	}
	command, err := parser.Parse(args)
	if err != nil {
		return err
	}
	return command.Run(ctx)
}
