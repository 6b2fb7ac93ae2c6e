package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Client is a registered client as it is stored; package fapi gives the metadata its meaning.
type Client struct {
	ID         string
	Metadata   []byte // JSON, RFC 7591 names
	SecretHash []byte // SHA-256 of the client secret; nil when it has none
	CreatedAt  time.Time
	UpdatedAt  time.Time
	DisabledAt *time.Time
	Logo       string // version of its logo; "": it has none
}

const (
	selectClientsSQL = `
SELECT c.client_id, c.metadata, c.secret_hash, c.created_at, c.updated_at, c.disabled_at, coalesce(l.version, '')
FROM clients c LEFT JOIN client_logos l ON l.client_id = c.client_id AND l.source = c.metadata->>'logo_uri'`

	listClientsSQL = selectClientsSQL + ` ORDER BY c.client_id`

	saveClientSQL = `
INSERT INTO clients (client_id, metadata, secret_hash) VALUES ($1, $2, $3)
ON CONFLICT (client_id) DO UPDATE SET metadata = EXCLUDED.metadata,
    secret_hash = coalesce(EXCLUDED.secret_hash, clients.secret_hash), updated_at = now()
WHERE (clients.metadata, clients.secret_hash) IS DISTINCT FROM
      (EXCLUDED.metadata, coalesce(EXCLUDED.secret_hash, clients.secret_hash))`

	createClientSQL = `INSERT INTO clients (client_id, metadata, secret_hash) VALUES ($1, $2, $3)`

	disableClientSQL = `UPDATE clients SET disabled_at = coalesce(disabled_at, now()) WHERE client_id = $1`
	enableClientSQL  = `UPDATE clients SET disabled_at = NULL WHERE client_id = $1`
)

// ListClients returns all clients, disabled ones too, by id.
func (db *DB) ListClients(ctx context.Context) ([]Client, error) {
	rows, err := db.pool.Query(ctx, listClientsSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Client])
}

// SaveClient registers a client or replaces its metadata. Without a secret hash the stored one stays.
func (db *DB) SaveClient(ctx context.Context, id string, metadata, secretHash []byte) error {
	_, err := db.pool.Exec(ctx, saveClientSQL, id, metadata, secretHash)
	return err
}

// CreateClient registers a client. It returns ErrConflict if there is one of that id.
func (db *DB) CreateClient(ctx context.Context, id string, metadata, secretHash []byte) error {
	_, err := db.pool.Exec(ctx, createClientSQL, id, metadata, secretHash)
	if isUniqueViolation(err) {
		return ErrConflict
	}
	return err
}

// DisableClient ends what a client may do, at once and on all replicas. It returns ErrNotFound for an unknown one.
func (db *DB) DisableClient(ctx context.Context, id string) error {
	return db.changeOne(ctx, disableClientSQL, id)
}

// EnableClient undoes DisableClient. It returns ErrNotFound for an unknown client.
func (db *DB) EnableClient(ctx context.Context, id string) error {
	return db.changeOne(ctx, enableClientSQL, id)
}

// changeOne runs a statement that must change a row, or returns ErrNotFound.
func (db *DB) changeOne(ctx context.Context, sql string, args ...any) error {
	tag, err := db.pool.Exec(ctx, sql, args...)
	if err == nil && tag.RowsAffected() == 0 {
		return ErrNotFound
	}
	return err
}
