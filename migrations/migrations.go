package migrations

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed *.sql
var files embed.FS

// Migration is one file and whether the database has it.
type Migration struct {
	Version   int64
	File      string
	AppliedAt time.Time // zero: not yet
}

// Up applies what the database lacks, in order, each file in its transaction. Several replicas may call it at once: one
// works, the others wait for it. A database that is ahead, because a newer version is being rolled out, is left alone.
func Up(ctx context.Context, dsn string) error { return up(ctx, dsn, files) }

// Status lists all migrations of this program. It changes nothing, and needs no more than the right to read.
func Status(ctx context.Context, dsn string) ([]Migration, error) { return status(ctx, dsn, files) }

// Latest is the version that Up leads to.
func Latest() int64 { return latest(files) }

// Digest names the content of the migrations: databases made from the same digest have the same schema.
func Digest() string { return digest(files) }

func up(ctx context.Context, dsn string, from fs.FS) (err error) {
	db, err := open(dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	locker, err := chooseLock(ctx, db)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, from, locker,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	_, err = p.Up(ctx)
	if failed := new(goose.PartialError); errors.As(err, &failed) {
		return fmt.Errorf("migrations: %s: %w", failed.Failed.Source.Path, failed.Err)
	}
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return nil
}

func open(dsn string) (*sql.DB, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("migrations: connection string: %w", err)
	}
	config.RuntimeParams["timezone"] = "UTC" // goose's table keeps times without a zone
	return stdlib.OpenDB(*config), nil
}

// chooseLock returns what lets one replica in at a time: a session's advisory lock, which ends with its holder. Where that
// excludes nobody, goose keeps a row in the table goose_lock, which lapses 30 s after its holder died. CockroachDB accepts
// the advisory call and does nothing, older YugabyteDB refuses it, and behind a pooler in transaction mode two sessions
// may be the same; so a lock is tried on two connections rather than asking for the engine's name.
func chooseLock(ctx context.Context, db *sql.DB) (goose.ProviderOption, error) {
	excludes, err := advisoryLocksExclude(ctx, db)
	if err != nil {
		return nil, err
	}
	if !excludes {
		return tableLock()
	}
	l, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 600)) // seconds: between attempts, and in all
	if err != nil {
		return nil, err
	}
	return goose.WithSessionLocker(l), nil
}

func tableLock() (goose.ProviderOption, error) {
	l, err := lock.NewPostgresTableLocker(lock.WithTableLockTimeout(time.Second, 600))
	if err != nil {
		return nil, err
	}
	return goose.WithLocker(l), nil
}

func advisoryLocksExclude(ctx context.Context, db *sql.DB) (bool, error) {
	first, err := db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer first.Close()
	second, err := db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer second.Close()

	// The backend's own number, so that replicas which try at the same time do not meet.
	var pid int64
	var held bool
	err = first.QueryRowContext(ctx, "SELECT pg_backend_pid(), pg_try_advisory_lock($1, pg_backend_pid())", probeClass).Scan(&pid, &held)
	if refused := new(pgconn.PgError); errors.As(err, &refused) {
		return false, nil // the engine does not know the function
	}
	if err != nil {
		return false, err
	}
	if !held {
		return false, nil
	}
	defer first.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1, $2)", probeClass, pid)
	var alsoHeld bool
	if err := second.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1, $2)", probeClass, pid).Scan(&alsoHeld); err != nil {
		return false, err
	}
	if alsoHeld {
		second.ExecContext(ctx, "SELECT pg_advisory_unlock($1, $2)", probeClass, pid)
	}
	return !alsoHeld, nil
}

// probeClass keeps the trial apart from other advisory locks in the database; the number means nothing.
const probeClass = 0x636f756e

// status reads goose's table itself: goose's own Status takes the lock and makes the table.
func status(ctx context.Context, dsn string, from fs.FS) ([]Migration, error) {
	db, err := open(dsn)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	applied, err := appliedVersions(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	all := list(from)
	for i := range all {
		all[i].AppliedAt = applied[all[i].Version]
	}
	return all, nil
}

func appliedVersions(ctx context.Context, db *sql.DB) (map[int64]time.Time, error) {
	applied := make(map[int64]time.Time)
	rows, err := db.QueryContext(ctx, "SELECT version_id, tstamp FROM "+goose.DefaultTablename+" WHERE is_applied")
	if missing := new(pgconn.PgError); errors.As(err, &missing) && missing.Code == undefinedTable {
		return applied, nil
	}
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var version int64
		var at time.Time
		if err := rows.Scan(&version, &at); err != nil {
			return nil, err
		}
		applied[version] = at
	}
	return applied, rows.Err()
}

const undefinedTable = "42P01"

func latest(from fs.FS) int64 {
	var highest int64
	for _, m := range list(from) {
		highest = max(highest, m.Version)
	}
	return highest
}

// list returns the files in order. They are embedded and a test reads them all, so a bad name is a mistake of ours.
func list(from fs.FS) []Migration {
	names, err := fs.Glob(from, "*.sql")
	if err != nil {
		panic(err)
	}
	all := make([]Migration, 0, len(names))
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			panic(fmt.Sprintf("migrations: %s: %v", name, err))
		}
		all = append(all, Migration{Version: version, File: name})
	}
	return all
}

func digest(from fs.FS) string {
	hash := sha256.New()
	for _, m := range list(from) {
		text, err := fs.ReadFile(from, m.File)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(hash, "%s %d\n%s", m.File, len(text), text)
	}
	return hex.EncodeToString(hash.Sum(nil)[:8])
}
