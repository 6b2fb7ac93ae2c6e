package storage

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	ErrNotFound    = errors.New("storage: not found")
	ErrAlreadyUsed = errors.New("storage: already used")
	ErrConflict    = errors.New("storage: in conflict with what is stored")
	ErrTooMany     = errors.New("storage: more than may be")
)

// Options of a DB.
type Options struct {
	DSN       string          // a pgx connection string
	MasterKey []byte          // 32 bytes: the key-encryption key
	MaxConns  int32           // 0: pgx's default
	Tracer    pgx.QueryTracer // told of every statement; may be nil
}

// DB is the store of one server. It is safe for concurrent use.
type DB struct {
	pool            *pgxpool.Pool
	keys            atomic.Pointer[Keyring]
	masterKey       []byte
	rememberedSince atomic.Int64 // Unix nanoseconds, see replay.go
}

// Open connects, and makes the first data key in a database that has none. The schema must be there (package migrations).
func Open(ctx context.Context, o Options) (*DB, error) {
	config, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("storage: connection string: %w", err)
	}
	db := &DB{masterKey: o.MasterKey}
	config.ConnConfig.Tracer = o.Tracer
	if o.MaxConns > 0 {
		config.MaxConns = o.MaxConns
	}
	config.AfterConnect = db.learnReplayMemory
	if db.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	if err := db.loadDataKeys(ctx); err != nil {
		db.pool.Close()
		return nil, err
	}
	return db, nil
}

// Close waits for running statements and disconnects.
func (db *DB) Close() { db.pool.Close() }

// Ping tells whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return db.pool.Ping(ctx) }

// Keys returns the data keys.
func (db *DB) Keys() *Keyring { return db.keys.Load() }

// NewID makes a row's id: a UUIDv7, so that new rows lie together in the index.
func NewID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// Watcher is told of what other replicas, commands or this one did. Its functions are called one after the other.
type Watcher struct {
	Changed func(table string)    // "clients", "client_logos", "notifications", "signing_keys" or "data_keys"; "" after a time in which anything may have been missed
	Decided func(codeHash []byte) // of a request that its client polls for
}

// Watch tells w until ctx ends.
func (db *DB) Watch(ctx context.Context, w Watcher) {
	for ctx.Err() == nil {
		if err := db.listen(ctx, w); err != nil && ctx.Err() == nil {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
}

// missedAfter is how long a change may stay unnoticed on a connection that has silently died, or on a database engine
// without LISTEN.
const missedAfter = 30 * time.Second

const (
	changesChannel   = "countersign_changes"
	decisionsChannel = "countersign_decisions"
)

func (db *DB) listen(ctx context.Context, w Watcher) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	raw := conn.Hijack() // a listening connection never serves requests again
	defer raw.Close(context.WithoutCancel(ctx))
	for _, channel := range []string{changesChannel, decisionsChannel} {
		if _, err := raw.Exec(ctx, "LISTEN "+channel); err != nil {
			return err
		}
	}
	for {
		if err := db.loadDataKeys(ctx); err != nil { // one may have come before we listened
			return err
		}
		w.Changed("")
		for {
			wait, cancel := context.WithTimeout(ctx, missedAfter)
			n, err := raw.WaitForNotification(wait)
			cancel()
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, context.DeadlineExceeded) {
				if err := raw.Ping(ctx); err != nil {
					return err
				}
				break
			}
			if err != nil {
				return err
			}
			if err := db.tell(ctx, w, n); err != nil {
				return err
			}
		}
	}
}

func (db *DB) tell(ctx context.Context, w Watcher, n *pgconn.Notification) error {
	if n.Channel == decisionsChannel {
		if codeHash, err := hex.DecodeString(n.Payload); err == nil {
			w.Decided(codeHash)
		}
		return nil
	}
	if n.Payload == "data_keys" {
		if err := db.loadDataKeys(ctx); err != nil {
			return err
		}
	}
	w.Changed(n.Payload)
	return nil
}

// once runs a statement that returns at most one row, in one round trip with the identifiers that the request uses up.
// They are one transaction: when one of them was used before, nothing happens and ErrAlreadyUsed is returned.
func (db *DB) once(ctx context.Context, uses []Use, scan func(pgx.Row) error, sql string, args ...any) error {
	if len(uses) == 0 {
		return notFound(scan(db.pool.QueryRow(ctx, sql, args...)))
	}
	batch := &pgx.Batch{}
	queueUses(batch, uses)
	batch.Queue(sql, args...)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	for range uses {
		if _, err := results.Exec(); err != nil {
			return replayed(err)
		}
	}
	if err := scan(results.QueryRow()); err != nil {
		return notFound(err)
	}
	return results.Close()
}

// Unavailable tells whether an error means that the database could not be asked: it may be well in a moment.
func Unavailable(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	var pg *pgconn.PgError
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.As(err, &pg) && strings.HasPrefix(pg.Code, "57P") // shut down, crashed, or still starting
}

func notFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

func isUniqueViolation(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505"
}
