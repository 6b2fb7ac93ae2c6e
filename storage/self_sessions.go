package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// OwnSession is a browser in which a customer has logged in: its newest login.
type OwnSession struct {
	ID        uuid.UUID
	Visit     Visit
	AuthTime  time.Time
	ExpiresAt time.Time
	This      bool // the one that asks
}

// Subscribed is a browser that rings.
type Subscribed struct {
	ID        uuid.UUID
	CreatedAt time.Time
}

// Devices are where a customer's access lives.
type Devices struct {
	Sessions []OwnSession // the newest first; ended by time alone included, while apps may still live in them
	Apps     []ApprovalDevice
	Ringing  []Subscribed
}

const (
	ownSessionsSQL = `
SELECT DISTINCT ON (l.session_id) l.session_id, l.hash, l.visit, l.auth_time, l.expires_at,
    l.session_id = (SELECT o.session_id FROM logins o WHERE o.hash = $2)
FROM logins l WHERE l.customer_id = $1 AND l.acr IS NOT NULL ORDER BY l.session_id, l.expires_at DESC`

	subscribedSQL = `SELECT id, created_at FROM push_subscriptions WHERE customer_id = $1 ORDER BY created_at, id`

	lockSessionSQL = `SELECT 1 FROM logins WHERE customer_id = $1 AND session_id = $2 FOR UPDATE`
	endSessionSQL  = `
WITH ended AS (DELETE FROM logins WHERE customer_id = $1 AND session_id = $2 RETURNING hash, customer_id, session_id)` + endedEventSQL + overSQL

	// Of a login that has ended meanwhile there are no others: whoever ended it means this one.
	endOthersSQL = `
WITH ended AS (
    DELETE FROM logins WHERE customer_id = $1 AND session_id <> (SELECT o.session_id FROM logins o WHERE o.hash = $2 AND o.customer_id = $1)
    RETURNING hash, customer_id, session_id
)` + endTFATokensSQL + endedEventSQL + overSQL

	endedEventSQL = `, event AS (
    INSERT INTO events (id, customer_id, kind, visit, details) SELECT $3, customer_id, $4, $5, $6 FROM ended LIMIT 1
)`
)

// ListDevices returns them. One round trip.
func (db *DB) ListDevices(ctx context.Context, customer uuid.UUID, loginHash []byte) (*Devices, error) {
	batch := &pgx.Batch{}
	batch.Queue(ownSessionsSQL, [16]byte(customer), loginHash)
	batch.Queue(listDevicesSQL, [16]byte(customer))
	batch.Queue(subscribedSQL, [16]byte(customer))
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	d := &Devices{}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	d.Sessions, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s OwnSession, err error) {
		var hash, visit []byte
		if err = row.Scan((*[16]byte)(&s.ID), &hash, &visit, &s.AuthTime, &s.ExpiresAt, &s.This); err != nil {
			return s, err
		}
		s.Visit, err = db.openVisit(hash, visit)
		return s, err
	})
	if err != nil {
		return nil, err
	}
	if rows, err = results.Query(); err != nil {
		return nil, err
	}
	if d.Apps, err = pgx.CollectRows(rows, scanDevice); err != nil {
		return nil, err
	}
	if rows, err = results.Query(); err != nil {
		return nil, err
	}
	d.Ringing, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Subscribed, err error) {
		return s, row.Scan((*[16]byte)(&s.ID), &s.CreatedAt)
	})
	return d, err
}

// EndSession signs a customer out in one browser; its clients are to be told. It returns ErrNotFound when the customer has no
// such session. One round trip.
func (db *DB) EndSession(ctx context.Context, session uuid.UUID, e Event) error {
	return db.endSessions(ctx, e, lockSessionSQL, endSessionSQL, [16]byte(session))
}

// EndOtherSessions signs a customer out everywhere but in the browser of this login. It returns ErrNotFound when there is no
// login at all.
func (db *DB) EndOtherSessions(ctx context.Context, loginHash []byte, e Event) error {
	return db.endSessions(ctx, e, `SELECT 1 FROM logins WHERE customer_id = $1 AND $2::bytea IS NOT NULL FOR UPDATE`, endOthersSQL, loginHash)
}

func (db *DB) endSessions(ctx context.Context, e Event, lock, end string, which any) error {
	id := NewID()
	visit, err := db.sealedVisit(id[:], e.Visit)
	if err != nil {
		return err
	}
	if e.Details == nil {
		e.Details = map[string]any{}
	}
	batch := &pgx.Batch{}
	batch.Queue(lock, [16]byte(e.CustomerID), which)
	batch.Queue(end, [16]byte(e.CustomerID), which, [16]byte(id), e.Kind, visit, e.Details)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	found, err := results.Exec()
	if err != nil {
		return err
	}
	if _, err := results.Exec(); err != nil {
		return err
	}
	if err := results.Close(); err != nil {
		return err
	}
	if found.RowsAffected() == 0 {
		return ErrNotFound
	}
	return nil
}
