package storage

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// LogoutNotification is the kind of notification that tells a client of a logout; it is about a LoggedOut.
const LogoutNotification = "logout"

// LoggedOut is what a LogoutNotification is about.
type LoggedOut struct {
	CustomerID uuid.UUID `json:"customer_id"`
	SessionID  uuid.UUID `json:"session_id"`
}

// Notification is something that a client is to be told.
type Notification struct {
	ID        uuid.UUID
	Kind      string
	ClientID  string
	About     json.RawMessage // identifiers, by kind
	Attempt   int             // from 1
	CreatedAt time.Time
	payload   []byte // sealed
}

const payloadPurpose = "notifications.payload"

const (
	// Of several replicas each takes what the others have not. A row that was taken is due again after a time, in case the
	// replica that took it is no more.
	takeNotificationsSQL = `
UPDATE notifications SET attempts = attempts + 1, due_at = now() + $2
WHERE id IN (SELECT id FROM notifications WHERE due_at <= now() ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING id, kind, client_id, about, attempts, created_at, payload`

	nextNotificationSQL = `SELECT min(due_at) - now() FROM notifications`

	dropNotificationSQL = `DELETE FROM notifications WHERE id = $1`

	// Unless another attempt has begun since, whose the row is now.
	postponeNotificationSQL = `UPDATE notifications SET due_at = now() + $3 WHERE id = $1 AND attempts = $2`
)

// TakeNotifications returns up to limit notifications that are due, for one attempt each. They are due again after
// lostAfter unless they are dropped or postponed.
func (db *DB) TakeNotifications(ctx context.Context, limit int, lostAfter time.Duration) ([]Notification, error) {
	rows, err := db.pool.Query(ctx, takeNotificationsSQL, limit, lostAfter)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (n Notification, err error) {
		err = row.Scan((*[16]byte)(&n.ID), &n.Kind, &n.ClientID, &n.About, &n.Attempt, &n.CreatedAt, &n.payload)
		return n, err
	})
}

// NextNotification returns how long it is until one is due, most at the longest.
func (db *DB) NextNotification(ctx context.Context, most time.Duration) (time.Duration, error) {
	var next *time.Duration
	if err := db.pool.QueryRow(ctx, nextNotificationSQL).Scan(&next); err != nil || next == nil {
		return most, err
	}
	return min(max(*next, 0), most), nil
}

// Payload returns what an earlier attempt kept to be sent, nil for nothing.
func (db *DB) Payload(n Notification) ([]byte, error) {
	if n.payload == nil {
		return nil, nil
	}
	return db.Keys().Open(payloadPurpose, n.ID[:], n.payload)
}

// DropNotification forgets a notification, once it was told or given up.
func (db *DB) DropNotification(ctx context.Context, id uuid.UUID) error {
	_, err := db.pool.Exec(ctx, dropNotificationSQL, [16]byte(id))
	return err
}

// PostponeNotification ends an attempt; the next one is due after a time.
func (db *DB) PostponeNotification(ctx context.Context, n Notification, after time.Duration) error {
	_, err := db.pool.Exec(ctx, postponeNotificationSQL, [16]byte(n.ID), n.Attempt, after)
	return err
}
