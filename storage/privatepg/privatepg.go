package privatepg

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Options of a Server. The zero value is a throw-away server for tests.
type Options struct {
	// Dir keeps the data between runs. "" is a new temporary folder that goes with the server, in memory where there is a
	// file system for that with room to spare and nothing has to be Durable. When we are root, the
	// account Postgres runs as must be able to reach Dir; Start refuses one that it cannot reach.
	Dir string

	// Durable waits for the disk at each commit. Without it a crash loses the last commits, and one of the machine anything.
	Durable bool

	// Settings are passed to Postgres on top of ours, as in postgresql.conf.
	Settings map[string]string

	// MavenRepository is where binaries come from when the system has none; "" is Maven Central. It need not be trusted:
	// what it serves is compared with pinned checksums.
	MavenRepository string

	// Logf is told what is going on, and what Postgres logs; nil is silence.
	Logf func(format string, args ...any)
}

// Server is a running Postgres.
type Server struct {
	binaries binaries
	data     string  // the cluster: Postgres's PGDATA
	run      *runDir // temporary: the socket, and the data when it is not kept
	dsn      url.URL
	tcp      bool

	process *process
	guard   *guard

	stop    sync.Once
	stopErr error
}

const (
	superuser  = "postgres"
	port       = 5432 // names the socket file; with TCP a free port is taken instead
	readyAfter = time.Minute
)

// Start makes the cluster if there is none, starts Postgres on it and returns when it answers. Ending ctx abandons the
// start; a started server lives until Stop or until this process ends.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	data, major := "", 0
	if o.Dir != "" {
		dir, err := filepath.Abs(o.Dir) // Postgres runs elsewhere
		if err != nil {
			return nil, fmt.Errorf("privatepg: %w", err)
		}
		o.Dir, data = dir, clusterIn(dir)
		if major, err = clusterVersion(data); err != nil {
			return nil, err
		}
	}
	as, err := serverAccount(data)
	if err != nil {
		return nil, err
	}
	b, err := findBinaries(ctx, o, as, major)
	if err != nil {
		return nil, err
	}
	return start(ctx, o, as, b, runtime.GOOS == "windows")
}

func start(ctx context.Context, o Options, as *account, b binaries, tcp bool) (_ *Server, err error) {
	run, err := makeRunDir(as, o.Dir == "" && !o.Durable)
	if err != nil {
		return nil, err
	}
	s := &Server{binaries: b, run: run, tcp: tcp || !run.short}
	defer func() {
		if err != nil {
			s.Stop() // also removes what was made so far
		}
	}()

	home := o.Dir
	if home == "" {
		home = run.path
	}
	s.data = clusterIn(home)
	password, err := makeCluster(ctx, home, as, b, o.Logf)
	if err != nil {
		return nil, err
	}
	if err := takeOver(ctx, s.data); err != nil {
		return nil, err
	}
	where, err := s.listen(as, password)
	if err != nil {
		return nil, err
	}

	args := []string{"-D", s.data}
	for _, setting := range settings(o, where) {
		args = append(args, "-c", setting)
	}
	end := endFast
	if o.Dir == "" {
		end = endNow // nobody will read the data again
	}
	if s.process, err = launch(as, b.postgres, args, end, o.Logf); err != nil {
		return nil, err
	}
	if s.guard, err = startGuard(s.process.pid, end, run.path, s.data); err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// DSN is the connection string for a database of this server, as its superuser. "postgres" always exists.
func (s *Server) DSN(database string) string {
	u := s.dsn
	u.Path = "/" + database
	return u.String()
}

// PID is the process id of the postmaster.
func (s *Server) PID() int { return s.process.pid }

// Version is the major version of Postgres.
func (s *Server) Version() int { return s.binaries.major }

// Stop shuts down without waiting for clients (Postgres's "fast"), waits for the end, and removes what was temporary.
// Stopping twice does no harm.
func (s *Server) Stop() error {
	s.stop.Do(func() {
		var ended error
		if s.process != nil {
			ended = s.process.end(s.binaries, s.data)
		}
		if s.guard != nil {
			s.guard.dismiss()
		}
		s.stopErr = errors.Join(ended, s.run.remove())
	})
	return s.stopErr
}

// listen decides how the server is reached, and returns the settings for it. A socket in a folder that only the server's
// account may enter needs no password; a TCP port is open to every local process and has one.
func (s *Server) listen(as *account, password string) ([]string, error) {
	s.dsn = url.URL{Scheme: "postgres", User: url.User(superuser)}
	query := url.Values{"sslmode": {"disable"}}
	defer func() { s.dsn.RawQuery = query.Encode() }()

	if s.tcp {
		free, err := freePort()
		if err != nil {
			return nil, fmt.Errorf("privatepg: no free port on 127.0.0.1: %w", err)
		}
		s.dsn.User = url.UserPassword(superuser, password)
		s.dsn.Host = "127.0.0.1:" + strconv.Itoa(free)
		return []string{
			"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(free), "unix_socket_directories=",
		}, nil
	}
	sockets := filepath.Join(s.run.path, socketDir)
	if err := as.makeDir(sockets); err != nil {
		return nil, err
	}
	query.Set("host", sockets)
	query.Set("port", strconv.Itoa(port))
	return []string{
		"listen_addresses=", "port=" + strconv.Itoa(port),
		`unix_socket_directories="` + sockets + `"`, "unix_socket_permissions=0700",
	}, nil
}

func settings(o Options, where []string) []string {
	all := append(where,
		"cluster_name=countersign",
		"timezone=UTC", "log_timezone=UTC",
		"logging_collector=off", "log_destination=stderr",
		"max_connections=200",
	)
	if !o.Durable {
		all = append(all, "fsync=off", "synchronous_commit=off", "full_page_writes=off")
	}
	if o.Dir == "" {
		all = append(all, "min_wal_size=32MB", "max_wal_size=64MB") // the folder may be memory
	}
	for name, value := range o.Settings {
		all = append(all, name+"="+value) // the last of a name wins
	}
	return all
}

func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyAfter)
	defer cancel()
	dsn := s.DSN("postgres")
	for {
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.process.ended:
			return fmt.Errorf("privatepg: Postgres (%s) ended while starting: %w", s.binaries.postgres, s.process.why())
		case <-ctx.Done():
			return fmt.Errorf("privatepg: Postgres (%s) does not answer: %w; its last words:\n%s",
				s.binaries.postgres, errors.Join(ctx.Err(), err), s.process.log.last())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
