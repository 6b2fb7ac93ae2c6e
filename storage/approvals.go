package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Inbox is what a customer's approvals page shows.
type Inbox struct {
	Waiting      []Waiting // the next to expire first
	Muted        []Muted   // the next to end first
	HasUserCode  bool
	Ringing      [][]byte // SHA-256 of the endpoints of the browsers that ring
	Transactions int      // that wait for the customer's approval
}

// Waiting is a request that only its customer can decide, and has not yet.
type Waiting struct {
	Authorization // ID, ClientID, Request, Scopes, ConsentID, CreatedAt, ForCustomer
	Consent       *Consent
	ExpiresAt     time.Time
}

// Muted is a client that a customer does not want to be asked by.
type Muted struct {
	ClientID string
	Until    time.Time
}

const (
	// What a muted client began before it was muted waits, unseen, for the customer to allow it again, or to expire.
	waitingSQL = `
FROM authorizations a LEFT JOIN consents k ON k.id = a.consent_id
WHERE a.for_customer_id = $1 AND a.status = 'pending' AND a.expires_at > now()
  AND NOT EXISTS (SELECT 1 FROM muted_clients m WHERE m.customer_id = $1 AND m.client_id = a.client_id AND m.until > now())`

	inboxSQL = `
SELECT a.id, a.client_id, a.request, a.scopes, coalesce(a.consent_id, ''), a.created_at, a.expires_at` + waitingSQL + `
ORDER BY a.expires_at, a.id`

	inboxConsentsSQL = `SELECT ` + consentColumns + waitingSQL + ` AND k.id IS NOT NULL`

	mutedSQL = `
SELECT client_id, until FROM muted_clients WHERE customer_id = $1 AND until > now() ORDER BY until, client_id`

	hasUserCodeSQL = `SELECT user_code_hash IS NOT NULL FROM customers WHERE id = $1`

	// Of several requests of one night, the first report counts. A client that is reported again not long after it may ask
	// again is silent for twice as long.
	reportSQL = deniedSQL + `, muted AS (
    INSERT INTO muted_clients AS m (customer_id, client_id, until)
    SELECT a.for_customer_id, a.client_id, now() + interval '1 day'
    FROM decided JOIN authorizations a ON a.id = decided.id WHERE a.for_customer_id IS NOT NULL
    ON CONFLICT (customer_id, client_id) DO UPDATE SET
        reported_at = CASE WHEN m.until > now() THEN m.reported_at ELSE now() END,
        until = CASE WHEN m.until > now() THEN m.until
                     WHEN m.until > now() - interval '30 days' THEN now() + least(2 * (m.until - m.reported_at), interval '30 days')
                     ELSE EXCLUDED.until END
)` + toldSQL

	ringingSQL = `SELECT endpoint_hash FROM push_subscriptions WHERE customer_id = $1 ORDER BY created_at, id`

	silenceSQL = `DELETE FROM push_subscriptions WHERE customer_id = $1`

	unmuteSQL = `DELETE FROM muted_clients WHERE customer_id = $1 AND client_id = $2`
)

// Inbox returns what waits for a customer, and what else their page shows. It returns ErrNotFound for an unknown one.
func (db *DB) Inbox(ctx context.Context, customer uuid.UUID) (*Inbox, error) {
	id := [16]byte(customer)
	batch := &pgx.Batch{}
	for _, sql := range []string{inboxSQL, inboxConsentsSQL, mutedSQL, ringingSQL, hasUserCodeSQL} {
		batch.Queue(sql, id)
	}
	batch.Queue(countTransactionsSQL, mostTransactions, id, nil)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()

	in := &Inbox{}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	if in.Waiting, err = pgx.CollectRows(rows, db.scanWaiting); err != nil {
		return nil, err
	}
	if rows, err = results.Query(); err != nil {
		return nil, err
	}
	consents, err := pgx.CollectRows(rows, scanConsent)
	if err != nil {
		return nil, err
	}
	if rows, err = results.Query(); err != nil {
		return nil, err
	}
	if in.Muted, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Muted]); err != nil {
		return nil, err
	}
	if rows, err = results.Query(); err != nil {
		return nil, err
	}
	if in.Ringing, err = pgx.CollectRows(rows, pgx.RowTo[[]byte]); err != nil {
		return nil, err
	}
	if err := results.QueryRow().Scan(&in.HasUserCode); err != nil {
		return nil, notFound(err)
	}
	if err := results.QueryRow().Scan(&in.Transactions); err != nil {
		return nil, err
	}
	for i := range in.Waiting {
		w := &in.Waiting[i]
		w.ForCustomer = customer
		for j := range consents {
			if consents[j].ID == w.ConsentID {
				w.Consent = &consents[j]
			}
		}
	}
	return in, nil
}

func (db *DB) scanWaiting(row pgx.CollectableRow) (w Waiting, err error) {
	if err = row.Scan((*[16]byte)(&w.ID), &w.ClientID, &w.Request, &w.Scopes, &w.ConsentID, &w.CreatedAt, &w.ExpiresAt); err != nil {
		return w, err
	}
	w.Request, err = db.Keys().Open(requestPurpose, w.ID[:], w.Request)
	return w, err
}

// Report records the no of a customer who never asked for this: as Deny does, and the client cannot ask them again for a
// day; when it is reported again within 30 days of that, for twice as long as before, up to 30 days. A request that waits for
// nobody in particular is denied and no more. One round trip.
func (db *DB) Report(ctx context.Context, requestURIHash []byte, clientID string, loginHash []byte) (*Authorization, error) {
	return db.end(ctx, clientID, reportSQL, requestURIHash, clientID, loginHash)
}

// Unmute lets a client ask a customer again, and forgets that it was reported.
func (db *DB) Unmute(ctx context.Context, customer uuid.UUID, clientID string) error {
	_, err := db.pool.Exec(ctx, unmuteSQL, [16]byte(customer), clientID)
	return err
}

// DropPushSubscriptions forgets all browsers of a customer.
func (db *DB) DropPushSubscriptions(ctx context.Context, customer uuid.UUID) error {
	_, err := db.pool.Exec(ctx, silenceSQL, [16]byte(customer))
	return err
}
