package storage

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Use is the identifier of something that may be used once: the jti of a client assertion or a DPoP proof.
type Use struct {
	Hash       [32]byte // SHA-256 over what it is, who made it, and its identifier
	ExpiresAt  time.Time
	Remembered time.Time // RememberedSince, when it was held against the memory
}

const (
	// A memory that is younger than the one it was held against may have forgotten it: no hash, which the column refuses.
	useSQL = `INSERT INTO used_jtis (hash, expires_at) VALUES ((SELECT $1::bytea FROM replay_memory WHERE since <= $3), $2)`

	replayMemorySQL = `
INSERT INTO replay_memory (since) VALUES (clock_timestamp())
ON CONFLICT (only_row) DO UPDATE SET only_row = true
RETURNING since`
)

// Use marks identifiers as used. It returns ErrAlreadyUsed if one of them was.
func (db *DB) Use(ctx context.Context, uses ...Use) error {
	switch len(uses) {
	case 0:
		return nil
	case 1:
		_, err := db.pool.Exec(ctx, useSQL, uses[0].Hash[:], uses[0].ExpiresAt, uses[0].remembered())
		return replayed(err)
	}
	batch := &pgx.Batch{}
	queueUses(batch, uses)
	return replayed(db.pool.SendBatch(ctx, batch).Close())
}

func queueUses(batch *pgx.Batch, uses []Use) {
	for _, u := range uses {
		batch.Queue(useSQL, u.Hash[:], u.ExpiresAt, u.remembered())
	}
}

// remembered is never before the beginning of a new database's memory.
func (u *Use) remembered() time.Time {
	if u.Remembered.IsZero() {
		return time.Unix(0, 0)
	}
	return u.Remembered
}

func replayed(err error) error {
	var pg *pgconn.PgError
	if isUniqueViolation(err) || errors.As(err, &pg) && pg.Code == "23502" {
		return ErrAlreadyUsed
	}
	return err
}

// RememberedSince tells from when on the memory of used identifiers is complete. Whatever may have been used before must
// be refused: the table is UNLOGGED, and a crash of the database or a failover empties it.
func (db *DB) RememberedSince() time.Time { return time.Unix(0, db.rememberedSince.Load()) }

// learnReplayMemory runs on every new connection, because a crash ends all connections.
func (db *DB) learnReplayMemory(ctx context.Context, conn *pgx.Conn) error {
	var since time.Time
	if err := conn.QueryRow(ctx, replayMemorySQL).Scan(&since); err != nil {
		return err
	}
	if ns := since.UnixNano(); ns > db.rememberedSince.Load() {
		db.rememberedSince.Store(ns)
	}
	return nil
}
