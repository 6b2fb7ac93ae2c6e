package storage

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	passwordsSQL = `SELECT coalesce(password_hash, ''), coalesce(transaction_password_hash, '') FROM customers WHERE id = $1 AND disabled_at IS NULL`

	setTransactionPasswordSQL = `UPDATE customers SET transaction_password_hash = $2 WHERE id = $1 AND disabled_at IS NULL`
)

// Passwords returns the hashes of a customer's passwords, "" for none. It returns ErrNotFound for one who is unknown or disabled. One round
// trip.
func (db *DB) Passwords(ctx context.Context, customer uuid.UUID) (login, transaction string, err error) {
	err = db.pool.QueryRow(ctx, passwordsSQL, [16]byte(customer)).Scan(&login, &transaction)
	return login, transaction, notFound(err)
}

// SetTransactionPassword gives a customer a transaction password, and remembers e. One round trip.
func (db *DB) SetTransactionPassword(ctx context.Context, customer uuid.UUID, hash string, e Event) error {
	batch := &pgx.Batch{}
	batch.Queue(setTransactionPasswordSQL, [16]byte(customer), hash)
	if err := db.queueEvent(batch, e); err != nil {
		return err
	}
	return db.pool.SendBatch(ctx, batch).Close()
}
