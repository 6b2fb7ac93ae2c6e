package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// setup is what can be decided about a run, and the authority once there is one.
type setup struct {
	Dir          string   `help:"Folder for keys, configurations and results. Keys in it are kept from run to run." default:"${dir}" placeholder:"DIR"`
	Suite        string   `help:"Address of the suite." default:"https://localhost.emobix.co.uk:8443" env:"OIDF_BASE" placeholder:"URL"`
	Host         string   `help:"Name of this machine, as the suite knows it." default:"localhost"`
	Port         int      `help:"Port of the server's public listener. The suite has 8443 and 8444." default:"9443"`
	MTLSPort     int      `name:"mtls-port" help:"Port of its listener that asks for client certificates." default:"9444"`
	ResourcePort int      `help:"Port of the sample API." default:"9445"`
	TLSKeys      []string `name:"tls-keys" help:"Kinds of the server's certificates: PS256 (RSA) and ES256. FAPI 1.0 refuses any but RSA." default:"PS256" enum:"PS256,ES256"`
	DatabaseURL  string   `help:"Postgres to use; a private one is started for the run if none is named." env:"DATABASE_URL" placeholder:"URL"`
	SuiteNetwork []string `help:"Networks where the suite may be although they are not public: the server calls clients' addresses there." default:"127.0.0.0/8" placeholder:"CIDR"`
	DPoPNonces   bool     `name:"dpop-nonces" help:"Server and sample API demand nonces in DPoP proofs." default:"true" negatable:""`
	LogLevel     string   `help:"Of the server; it logs to DIR/server.log." default:"info"`
	PrepareOnly  bool     `help:"Write the files and start nothing."`

	Run           bool     `help:"Run the plans, write what came of them to DIR/results and end: with 1 if a result is not as it must be."`
	SuiteCA       string   `help:"Certificate authority of the suite." env:"OIDF_CA" placeholder:"FILE"`
	Plans         []string `help:"Only plans whose name or alias matches one of these (fapi2-*, cs-mtls-*)." placeholder:"GLOB"`
	Modules       []string `help:"Only modules whose name matches one of these (*-happy-flow)." placeholder:"GLOB"`
	Jobs          int      `help:"Plans at a time." default:"4"`
	Repeat        int      `help:"Run all of it so often, and say whether the results were the same." default:"1"`
	ServerRunning bool     `help:"Start nothing: the server and the sample API of this folder run already."`
	Prefix        string   `help:"Word that aliases begin with. Runs with different ones do not disturb each other in the suite." default:"cs"`

	ca       *authority
	patience time.Duration // with a module that waits for a person, who never comes
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &setup{patience: personLimit}
	kong.Parse(s, kong.Name("conformance"),
		kong.Description("Prepares and runs a Countersign server for the conformance suite of the OpenID Foundation."),
		kong.Vars{"dir": filepath.Join(os.TempDir(), "countersign-conformance")})
	if err := s.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func (s *setup) run(ctx context.Context) error {
	p, err := s.prepare()
	if err != nil {
		return err
	}
	fmt.Println("configurations are in", s.Dir)
	if s.PrepareOnly {
		return nil
	}
	if s.ServerRunning {
		return s.runPlans(ctx)
	}
	servers, err := s.start(ctx, p)
	if err != nil {
		return err
	}
	defer servers.stop()
	if s.Run {
		return s.runPlans(ctx)
	}
	fmt.Printf(`server       %s (mutual TLS: %s), log in %s
sample API   %s
customer     %s, password %s
suite        %s
plans        %s
Ctrl-C ends it.
`, s.issuer(), s.mtlsBase(), s.file("server.log"), s.resource()+resourcePath, p.pages.username, p.pages.password, s.Suite, s.file("plans.txt"))
	return servers.wait(ctx)
}

func (s *setup) url(port int) string {
	return "https://" + net.JoinHostPort(s.Host, strconv.Itoa(port))
}

func (s *setup) issuer() string   { return s.url(s.Port) }
func (s *setup) mtlsBase() string { return s.url(s.MTLSPort) }

// resource is the identifier of the sample API (RFC 8707), and where it listens.
func (s *setup) resource() string { return s.url(s.ResourcePort) }
