package storage

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Visit is where somebody came from, as far as that can be known. It is sealed wherever it is kept.
type Visit struct {
	Address   string `json:"address,omitempty"`    // IP address
	UserAgent string `json:"user_agent,omitempty"` // as the browser calls itself

	Browser string `json:"-"` // SHA-256 of the cookie that the browser is known by; "" for none. It is not kept
}

// browser is Browser as a statement takes it.
func (v Visit) browser() []byte {
	if v.Browser == "" {
		return nil
	}
	return []byte(v.Browser)
}

// place is what of a visit is kept.
func (v Visit) place() Visit { return Visit{Address: v.Address, UserAgent: v.UserAgent} }

// Event is something that happened to a customer's access.
type Event struct {
	ID         uuid.UUID
	CustomerID uuid.UUID
	Kind       string // "login", "password.changed", "factor.added" …
	Visit      Visit
	Details    map[string]any // nothing secret or personal
	At         time.Time

	Notice *Message // that the customer is sent when the event is added, nil for none; it is not kept with it
}

const (
	visitPurpose = "visit"

	addEventSQL = `INSERT INTO events (id, customer_id, kind, visit, details) VALUES ($1, $2, $3, $4, $5)`

	listEventsSQL = `
SELECT id, customer_id, kind, visit, details, at FROM events
WHERE customer_id = $1 AND ($2::timestamptz IS NULL OR at < $2) ORDER BY at DESC LIMIT $3`
)

// sealedVisit seals a visit for a row; nil for none.
func (db *DB) sealedVisit(row []byte, v Visit) ([]byte, error) {
	if v.place() == (Visit{}) {
		return nil, nil
	}
	plain, err := json.Marshal(v)
	return db.Keys().Seal(visitPurpose, row, plain), err
}

func (db *DB) openVisit(row, sealed []byte) (v Visit, err error) {
	if sealed == nil {
		return v, nil
	}
	plain, err := db.Keys().Open(visitPurpose, row, sealed)
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(plain, &v)
}

// AddEvent remembers what happened. One round trip.
func (db *DB) AddEvent(ctx context.Context, e Event) error {
	batch := &pgx.Batch{}
	if err := db.queueEvent(batch, e); err != nil {
		return err
	}
	return db.pool.SendBatch(ctx, batch).Close()
}

// queueEvent remembers what happened in the transaction in which it does.
func (db *DB) queueEvent(batch *pgx.Batch, e Event) error {
	id := NewID()
	visit, err := db.sealedVisit(id[:], e.Visit)
	if err != nil {
		return err
	}
	if e.Details == nil {
		e.Details = map[string]any{}
	}
	batch.Queue(addEventSQL, [16]byte(id), [16]byte(e.CustomerID), e.Kind, visit, e.Details)
	if e.Notice == nil {
		return nil
	}
	return db.queueMessage(batch, *e.Notice, nil)
}

// ListEvents returns up to limit of a customer's events before a time (nil: now), the newest first.
func (db *DB) ListEvents(ctx context.Context, customer uuid.UUID, before *time.Time, limit int) ([]Event, error) {
	rows, err := db.pool.Query(ctx, listEventsSQL, [16]byte(customer), before, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, db.scanEvent)
}
