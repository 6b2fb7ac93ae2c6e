package storagetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/migrations"
	"github.com/countersign/countersign/storage/privatepg"
)

// New returns the connection string of a new database with our schema.
func New(t testing.TB) string {
	t.Helper()
	s := theServer(t)
	template, err := s.template()
	if err != nil {
		t.Fatal(err)
	}
	return s.database(t, template)
}

// Empty returns the connection string of a new database without a schema.
func Empty(t testing.TB) string {
	t.Helper()
	return theServer(t).database(t, "template0")
}

// server is where the databases are made.
type server struct {
	dsn      func(database string) string
	admin    string // the connection string for making them
	strategy string // how CREATE DATABASE copies
	template func() (string, error)
}

// shared is the server of this process. It is never stopped: no test knows whether it is the last one, and the private
// Postgres ends with its parent.
var shared = sync.OnceValues(func() (*server, error) {
	s, err := findServer(os.Getenv("DATABASE_URL"))
	if err != nil {
		return nil, err
	}
	s.template = sync.OnceValues(func() (string, error) { return makeTemplate(s) })
	return s, nil
})

func theServer(t testing.TB) *server {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatalf("storagetest: no Postgres for tests: %v", err)
	}
	return s
}

func findServer(given string) (*server, error) {
	if given != "" {
		return &server{admin: given, dsn: func(database string) string { return withDatabase(given, database) }}, nil
	}
	pg, err := privatepg.Start(context.Background(), privatepg.Options{
		MavenRepository: os.Getenv("COUNTERSIGN_MAVEN_REPOSITORY"),
		Settings:        map[string]string{"wal_level": "minimal", "max_wal_senders": "0"}, // a clone is then half the work
	})
	if err != nil {
		return nil, err
	}
	s := &server{admin: pg.DSN("postgres"), dsn: pg.DSN}
	if pg.Version() >= 15 {
		// Without fsync it is quicker to copy files than to write them to the log, the default since 15.
		s.strategy = " STRATEGY file_copy"
	}
	return s, nil
}

// withDatabase puts another database into a connection string of either form.
func withDatabase(dsn, database string) string {
	if u, err := url.Parse(dsn); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		u.Path = "/" + database
		return u.String()
	}
	return dsn + " dbname=" + database // the last one counts
}

// patience bounds each step; a busy machine with two cores needs some.
const patience = 2 * time.Minute

// do runs one statement outside of any test's database.
func (s *server) do(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return fmt.Errorf("storagetest: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("storagetest: %s: %w", statement, err)
	}
	return nil
}

func (s *server) database(t testing.TB, template string) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	if err := s.clone(name, template); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.do("DROP DATABASE " + name + " WITH (FORCE)"); err != nil { // a pool may still be open
			t.Error(err)
		}
	})
	return s.dsn(name)
}

// clone tries again while something, such as a backend that is just leaving, still uses the template.
func (s *server) clone(name, template string) error {
	for attempt := 0; ; attempt++ {
		err := s.do("CREATE DATABASE " + name + " TEMPLATE " + template + s.strategy)
		if inUse := new(pgconn.PgError); attempt < 10 && errors.As(err, &inUse) && inUse.Code == objectInUse {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		return err
	}
}

const objectInUse = "55006"

// makeTemplate returns the template's name, making it unless another process did so on the same server. It is named for the
// content of the migrations, and gets that name when it is complete; nobody can connect to it then, as clones require.
func makeTemplate(s *server) (string, error) {
	name := "countersign_template_" + migrations.Digest()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return "", fmt.Errorf("storagetest: %w", err)
	}
	defer conn.Close(ctx) // and with it goes the lock
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtext($1))", name); err != nil {
		return "", fmt.Errorf("storagetest: %w", err)
	}
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&there); err != nil {
		return "", fmt.Errorf("storagetest: %w", err)
	}
	if there {
		return name, nil
	}

	draft := name + "_draft" // left there by a process that was killed: begin anew
	for _, step := range []func() error{
		func() error { return s.do("DROP DATABASE IF EXISTS " + draft + " WITH (FORCE)") },
		func() error { return s.do("CREATE DATABASE " + draft + " TEMPLATE template0" + s.strategy) },
		func() error { return migrations.Up(ctx, s.dsn(draft)) },
		func() error { return s.do("ALTER DATABASE " + draft + " ALLOW_CONNECTIONS false") },
		func() error { return s.do("ALTER DATABASE " + draft + " RENAME TO " + name) },
	} {
		if err := step(); err != nil {
			return "", err
		}
	}
	return name, nil
}
