package storage

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Deletion is a customer's wish to be gone.
type Deletion struct {
	RequestedAt time.Time
	DueAt       time.Time
}

// Farewell is what a customer is told when it is done. It goes to the address that the profile has by then.
type Farewell struct {
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

const (
	farewellPurpose = "account_deletions.message"
	farewellLasts   = 24 * time.Hour // that it is tried to be delivered

	findDeletionSQL = `SELECT requested_at, due_at FROM account_deletions WHERE customer_id = $1`

	// A second request does not move the day.
	requestDeletionSQL = `
WITH changed AS (
    INSERT INTO account_deletions (customer_id, due_at, keep_for, message) VALUES ($7, now() + $8, $9, $10)
    ON CONFLICT DO NOTHING RETURNING customer_id
)`
	// Who wants to be gone wants nobody to look any more: that is not put off, nor undone by staying.
	endAccessSQL = `
WITH ended AS (UPDATE grants SET revoked_at = now(), updated_at = now() WHERE customer_id = $1 AND revoked_at IS NULL)
DELETE FROM fineract_tfa_tokens WHERE customer_id = $1`

	cancelDeletionSQL = `WITH changed AS (DELETE FROM account_deletions WHERE customer_id = $7 RETURNING customer_id)`

	dueDeletionsSQL = `SELECT customer_id FROM account_deletions WHERE due_at <= now() ORDER BY due_at LIMIT $1`
	returnedSQL     = `SELECT c.id FROM customers c JOIN deleted_customers d ON d.customer_id = c.id LIMIT $1`

	// Whoever takes the row carries it out; one who cancels it at the same time comes before or too late.
	takeDeletionSQL = `
DELETE FROM account_deletions d USING customers c WHERE d.customer_id = $1 AND d.due_at <= now() AND c.id = d.customer_id
RETURNING d.keep_for, d.message, c.tenant, c.profile`

	tombstoneSQL = `INSERT INTO deleted_customers (customer_id, tenant) VALUES ($1, $2) ON CONFLICT DO NOTHING`
	forgetSQL    = `DELETE FROM customers WHERE id = $1`
)

// retainSQL keeps what must be kept, of customer $1 for $2. Only what was decided is a record: requests that were never
// approved are not.
var retainSQL = []string{
	retain("grants", `SELECT to_jsonb(t) - 'customer_id' FROM grants t WHERE t.customer_id = $1`),
	retain("consents", `SELECT to_jsonb(t) - 'customer_id' FROM consents t WHERE t.customer_id = $1`),
	retain("transactions", `SELECT jsonb_build_object('id', t.id, 'created_at', t.created_at) FROM transactions t WHERE t.started_by = $1`),
	retain("transaction_decisions", `SELECT to_jsonb(t) - '{customer_id,reason}'::text[] FROM transaction_decisions t WHERE t.customer_id = $1`),
}

func retain(kind, rows string) string {
	return `
INSERT INTO retained_records (customer_id, fineract_client_id, kind, record, retained_until)
SELECT c.id, c.fineract_client_id, '` + kind + `', r.record, now() + $2
FROM customers c, LATERAL (` + rows + `) r(record) WHERE c.id = $1`
}

func scanDeletion(row pgx.Row) (*Deletion, error) {
	d := &Deletion{}
	err := row.Scan(&d.RequestedAt, &d.DueAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return d, err
}

// FindDeletion returns nil for a customer who wants to stay.
func (db *DB) FindDeletion(ctx context.Context, customer uuid.UUID) (*Deletion, error) {
	return scanDeletion(db.pool.QueryRow(ctx, findDeletionSQL, [16]byte(customer)))
}

// RequestDeletion has a customer deleted after wait, and ends all that clients may do at once; what the law makes the bank keep
// stays for keep after the deletion. It returns ErrNotFound, and the day does not move, when that was requested before. One round trip.
func (db *DB) RequestDeletion(ctx context.Context, wait, keep time.Duration, done Farewell, e Event, m *Message) error {
	plain, err := json.Marshal(done)
	if err != nil {
		return err
	}
	batch := &pgx.Batch{}
	requested, err := db.queueOwn(batch, e, m, requestDeletionSQL, wait, keep, db.Keys().Seal(farewellPurpose, e.CustomerID[:], plain))
	if err != nil {
		return err
	}
	batch.Queue(endAccessSQL, [16]byte(e.CustomerID))
	if err := db.pool.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	return requested()
}

// CancelDeletion lets a customer stay. It returns ErrNotFound when none was requested.
func (db *DB) CancelDeletion(ctx context.Context, e Event, m *Message) error {
	return db.changeOwn(ctx, e, m, "", cancelDeletionSQL)
}

// DeleteDue deletes customers whose waiting period is over, and those who were deleted before and have come back with a backup
// or an import; up to limit of each. It returns how many. Several replicas may run it at once.
func (db *DB) DeleteDue(ctx context.Context, limit int) (int64, error) {
	due, err := db.deleteEach(ctx, dueDeletionsSQL, limit, db.deleteCustomer)
	again, failed := db.deleteEach(ctx, returnedSQL, limit, func(ctx context.Context, customer uuid.UUID) error {
		batch := &pgx.Batch{}
		queueForget(batch, customer)
		return db.pool.SendBatch(ctx, batch).Close()
	})
	return due + again, errors.Join(err, failed)
}

// deleteEach deletes whom a statement finds. One who cannot be deleted does not keep the others.
func (db *DB) deleteEach(ctx context.Context, find string, limit int, del func(context.Context, uuid.UUID) error) (n int64, failed error) {
	rows, err := db.pool.Query(ctx, find, limit)
	if err != nil {
		return 0, err
	}
	customers, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
	if err != nil {
		return 0, err
	}
	for _, customer := range customers {
		switch err := del(ctx, customer); {
		case err == nil:
			n++
		case !errors.Is(err, ErrNotFound): // another replica was faster
			failed = errors.Join(failed, err)
		}
	}
	return n, failed
}

// deleteCustomer carries a request out, in one transaction. It returns ErrNotFound when it is no longer due.
func (db *DB) deleteCustomer(ctx context.Context, customer uuid.UUID) error {
	return pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		c := &Customer{ID: customer, keys: db.Keys()}
		var keep time.Duration
		var sealed []byte
		if err := tx.QueryRow(ctx, takeDeletionSQL, [16]byte(customer)).Scan(&keep, &sealed, &c.Tenant, &c.sealedProfile); err != nil {
			return notFound(err)
		}
		batch := &pgx.Batch{}
		if err := db.queueFarewell(batch, c, sealed); err != nil {
			return err
		}
		for _, sql := range retainSQL {
			batch.Queue(sql, [16]byte(customer), keep)
		}
		batch.Queue(tombstoneSQL, [16]byte(customer), c.Tenant)
		queueForget(batch, customer)
		return tx.SendBatch(ctx, batch).Close()
	})
}

// queueForget ends a customer's sessions, so that clients are told of it, and deletes the customer with all that is theirs.
func queueForget(batch *pgx.Batch, customer uuid.UUID) {
	batch.Queue(lockLoginsSQL, [16]byte(customer))
	batch.Queue(endLoginsSQL, [16]byte(customer))
	batch.Queue(forgetSQL, [16]byte(customer))
}

func (db *DB) queueFarewell(batch *pgx.Batch, c *Customer, sealed []byte) error {
	p, err := c.Profile()
	if err != nil || p.Email == "" {
		return err
	}
	plain, err := db.Keys().Open(farewellPurpose, c.ID[:], sealed)
	if err != nil {
		return err
	}
	var f Farewell
	if err := json.Unmarshal(plain, &f); err != nil {
		return err
	}
	return db.queueMessage(batch, Message{Channel: "email", To: p.Email, Subject: f.Subject, Text: f.Text, ExpiresAt: time.Now().Add(farewellLasts)}, nil)
}
