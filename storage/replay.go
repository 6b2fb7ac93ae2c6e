package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Use is the identifier of something that may be used once: the jti of a client assertion or a DPoP proof.
type Use struct {
	Hash      [32]byte // SHA-256 over what it is, who made it, and its identifier
	ExpiresAt time.Time
}

const (
	useSQL = `INSERT INTO used_jtis (hash, expires_at) VALUES ($1, $2)`

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
		_, err := db.pool.Exec(ctx, useSQL, uses[0].Hash[:], uses[0].ExpiresAt)
		return replayed(err)
	}
	batch := &pgx.Batch{}
	queueUses(batch, uses)
	return replayed(db.pool.SendBatch(ctx, batch).Close())
}

func queueUses(batch *pgx.Batch, uses []Use) {
	for _, u := range uses {
		batch.Queue(useSQL, u.Hash[:], u.ExpiresAt)
	}
}

func replayed(err error) error {
	if isUniqueViolation(err) {
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
