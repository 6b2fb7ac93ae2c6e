package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/countersign/countersign/migrations"
	"github.com/countersign/countersign/storage/privatepg"
)

// demoCommand is the whole story on one machine. demo_story.go has the story; here is how its stage is built and taken
// down again.
type demoCommand struct {
	Once bool   `help:"End after the story: with 0 if everything was as the rules demand, else with 1."`
	Dir  string `help:"Keep database, CA and customer in this folder for the next run. Without it nothing stays." type:"path" placeholder:"DIR"`

	Port     int    `help:"Port of the authorization server." default:"8443"`
	MTLSPort int    `name:"mtls-port" help:"Port of the authorization server that asks for client certificates." default:"8444"`
	BankPort int    `help:"Port of the sample bank API." default:"8445"`
	AppPort  int    `help:"Port of the sample app." default:"8446"`
	Address  string `help:"Address to listen on. The certificates are for localhost whatever it is." default:"127.0.0.1"`

	DatabaseURL string `help:"Postgres to use instead of a private one. What the demo makes stays in it; name a --dir too, which keeps the master key." env:"DATABASE_URL" placeholder:"URL"`
}

func (c *demoCommand) Run(ctx context.Context) error {
	signal.Ignore(syscall.SIGPIPE) // `countersign demo | head` must not leave anything behind
	return c.run(ctx, os.Stdout)
}

func (c *demoCommand) run(ctx context.Context, out io.Writer) (err error) {
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	d := &demo{demoCommand: *c, n: newNarrator(out), failed: make(chan error, 4)}
	d.n.gone = gone
	defer func() {
		d.stop()
		if ctx.Err() != nil { // whatever was broken off by it
			d.n.line("\nStopped; nothing runs any more.")
			if err != nil && c.Once {
				err = errors.New("stopped before the end of the story")
			} else {
				err = nil
			}
		}
	}()
	if err := d.start(ctx); err != nil {
		return err
	}
	if err := d.tell(ctx); err != nil {
		d.lastWords()
		return err
	}
	if c.Once {
		return nil
	}
	d.invite()
	return d.wait(ctx)
}

// demo is everything that runs.
type demo struct {
	demoCommand
	n       *narrator
	dir     string
	log     *zap.Logger
	logFile *os.File
	failed  chan error // what ends by itself
	stops   []func()   // to be called in the opposite order
	idle    []func()   // closes connections that nobody uses: servers wait for them when they end

	ca    *demoCA
	roots *x509.CertPool
	pairs []tls.Certificate // of all listeners

	dsn      string
	app      *app
	bank     *sampleBank
	acorn    *tpp       // bound by certificate, opaque tokens
	birch    *tpp       // bound by DPoP, JWT access tokens
	speakers []*speaker // one for each way in which a CIBA client learns the outcome
	alice    *phone
	thief    tls.Certificate // of a client that was registered by nobody
	reader   tls.Certificate // the bank API's own
}

const bankName = "Countersign Bank"

func local(port int) string { return "https://localhost:" + strconv.Itoa(port) }

func (d *demo) issuer() string  { return local(d.Port) }
func (d *demo) bankURL() string { return local(d.BankPort) }
func (d *demo) appURL() string  { return local(d.AppPort) }

func (d *demo) address(port int) string { return net.JoinHostPort(d.Address, strconv.Itoa(port)) }

// later remembers what has to be undone.
func (d *demo) later(undo func()) { d.stops = append(d.stops, undo) }

func (d *demo) stop() {
	for _, closeIdle := range d.idle {
		closeIdle()
	}
	for len(d.stops) > 0 {
		last := len(d.stops) - 1
		d.stops[last]()
		d.stops = d.stops[:last]
	}
}

// newHTTP makes a client for one of those who take part.
func (d *demo) newHTTP(certificate *tls.Certificate) *http.Client {
	c := newHTTP(d.roots, certificate)
	d.idle = append(d.idle, c.CloseIdleConnections)
	return c
}

// newBrowser makes one that is not to open addresses that begin with stop.
func (d *demo) newBrowser(stop string) (*browser, error) { return newBrowser(d.newHTTP(nil), stop) }

// start builds the stage, from the bottom up.
func (d *demo) start(ctx context.Context) error {
	began := time.Now()
	d.n.title("Countersign: a bank, its customer, two apps and three speakers, on this machine")
	d.n.line("")
	for _, step := range []func(context.Context) error{
		d.checkPorts, d.makeDir, d.makeCertificates, d.startPostgres, d.startServer, d.startBank, d.startApp,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.n.progress("ready", "after "+seconds(began))
	return nil
}

// checkPorts tells early, and clearly, what newApp would tell late.
func (d *demo) checkPorts(context.Context) error {
	var taken []error
	for _, p := range []struct {
		flag string
		port int
	}{{"--port", d.Port}, {"--mtls-port", d.MTLSPort}, {"--bank-port", d.BankPort}, {"--app-port", d.AppPort}} {
		l, err := net.Listen("tcp", d.address(p.port))
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("port %d is taken by another program: choose another one with %s", p.port, p.flag)
		}
		if err != nil {
			taken = append(taken, err)
			continue
		}
		l.Close()
	}
	return errors.Join(taken...)
}

func (d *demo) makeDir(context.Context) (err error) {
	if d.dir = d.Dir; d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "countersign-demo-*"); err != nil {
			return err
		}
		d.later(func() { os.RemoveAll(d.dir) })
	} else if err := os.MkdirAll(d.dir, 0o755); err != nil { // Postgres may run as somebody else and has to get through
		return err
	}
	file, err := os.OpenFile(filepath.Join(d.dir, "server.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	d.later(func() { file.Close() })
	d.logFile = file
	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey = "time"
	encoding.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	d.log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoding), file, zap.InfoLevel))
	return nil
}

func (d *demo) makeCertificates(context.Context) (err error) {
	began := time.Now()
	if d.ca, err = openCA(d.dir, d.Dir != ""); err != nil {
		return err
	}
	d.roots = d.ca.pool()
	if d.pairs, err = d.ca.serverPairs(); err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		pair *tls.Certificate
	}{{bankAPIName, &d.reader}, {"Somebody Else", &d.thief}} {
		if *c.pair, err = d.ca.client(c.name); err != nil {
			return err
		}
	}
	d.n.progress("keys", "CA, server certificates (ECDSA P-256, RSA 2048), client certificates  "+seconds(began))
	return nil
}

func (d *demo) startPostgres(ctx context.Context) error {
	began := time.Now()
	if d.dsn = d.DatabaseURL; d.dsn != "" {
		d.n.progress("Postgres", "the one that DATABASE_URL names")
	} else {
		o := privatepg.Options{Logf: func(format string, args ...any) {
			if strings.HasPrefix(format, "postgres:") { // what Postgres itself logs
				d.log.Info(fmt.Sprintf(format, args...))
				return
			}
			for _, line := range wrapped(fmt.Sprintf(format, args...), columns-17) {
				d.n.progress("", line)
			}
		}}
		if d.Dir != "" {
			o.Dir, o.Durable = filepath.Join(d.dir, "postgres"), true
		}
		d.n.progress("Postgres", "looking for it and starting a private one …")
		pg, err := privatepg.Start(ctx, o)
		if err != nil {
			return err
		}
		d.later(func() { pg.Stop() })
		d.dsn = pg.DSN("postgres")
		d.n.progress("", fmt.Sprintf("PostgreSQL %d answers (process %d)  %s", pg.Version(), pg.PID(), seconds(began)))
	}
	began = time.Now()
	if err := migrations.Up(ctx, d.dsn); err != nil {
		return err
	}
	d.n.progress("schema", fmt.Sprintf("version %d  %s", migrations.Latest(), seconds(began)))
	return nil
}

// serve runs an HTTP server of the demo's own until the demo stops.
func (d *demo) serve(name string, port int, config *tls.Config, handler http.Handler) error {
	l, err := net.Listen("tcp", d.address(port))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, ErrorLog: quietLog(d.log)}
	go func() {
		if err := server.Serve(tls.NewListener(l, config)); !errors.Is(err, http.ErrServerClosed) {
			d.failed <- fmt.Errorf("%s: %w", name, err)
		}
	}()
	d.later(func() { server.Close() })
	return nil
}

// invite tells the visitor how to walk the same way.
func (d *demo) invite() {
	n := d.n
	code, left := d.alice.screen(time.Now())
	n.chapter("Now you", "Everything is still running. Walk the same way yourself, as alice:")
	n.line("")
	item := func(name, value, more string) {
		n.line("   %s %s", n.paint(faint, fmt.Sprintf("%-10s", name)), strings.TrimRight(fmt.Sprintf("%s  %s", n.paint(bold, value), n.paint(faint, more)), " "))
	}
	item("open", d.appURL(), "the sample app; press Connect your bank")
	item("user name", d.alice.username, "")
	item("password", d.alice.password, "")
	item("code", code, fmt.Sprintf("for %d s, then the next; always at %s/phone", int(left.Seconds()), d.appURL()))
	item("withdraw", d.issuer()+"/consents", "what alice has agreed to")
	n.line("")
	n.prose(3, "The codes come from this secret, should you want them in your own authenticator app:")
	n.line("     %s", d.alice.uri(bankName)) // in one piece, to be copied
	n.line("")
	n.prose(3, "Your browser will warn: it does not know the demo's CA. Go on, or have it trust the CA, which is good for "+
		"localhost only and lies in")
	n.line("     %s", d.ca.file)
	n.prose(3, "Firefox: Settings, Certificates, Authorities, Import. Chromium on Linux:")
	n.line("     certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n countersign-demo \\\n       -i %s", d.ca.file)
	n.line("")
	n.line("   %s %s", n.paint(faint, fmt.Sprintf("%-10s", "metadata")), "curl --cacert "+d.ca.file+" \\\n              "+d.issuer()+"/.well-known/openid-configuration")
	n.line("   %s %s", n.paint(faint, fmt.Sprintf("%-10s", "log")), filepath.Join(d.dir, "server.log"))
	n.line("")
	end := "Ctrl-C ends everything and leaves nothing behind."
	switch {
	case d.Dir != "":
		end = "Ctrl-C ends everything; " + d.dir + " is for the next run."
	case d.DatabaseURL != "":
		end = "Ctrl-C ends everything; only your database keeps what the demo made."
	}
	n.line("   %s", end)
}

// wait lets it all run until ctx ends. On a terminal the code of the moment stays on the last line.
func (d *demo) wait(ctx context.Context) error {
	tick := make(<-chan time.Time)
	if isTerminal(d.n.w) {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		tick = ticker.C
		d.n.line("")
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-d.failed:
			return err
		case now := <-tick:
			code, left := d.alice.screen(now)
			d.n.write("\r   %s %s  %s   ", d.n.paint(faint, "code now  "), d.n.paint(bold, code), d.n.paint(faint, fmt.Sprintf("for %2d s more", int(left.Seconds()))))
		}
	}
}

// lastWords shows what the server logged last, which goes with the folder.
func (d *demo) lastWords() {
	content, err := os.ReadFile(d.logFile.Name())
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	d.n.line("\n    The server's log ends with:")
	for _, line := range lines[max(0, len(lines)-3):] {
		d.n.prose(6, "%s", line)
	}
}
