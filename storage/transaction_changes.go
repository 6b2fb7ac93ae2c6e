package storage

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// What changes a transaction. Whoever wants to holds its row first (one transaction, one round trip), so that the statement after
// sees what all before it have done: approvals, changes, and the mandate as it is.

// NewTransaction is a transaction to be started.
type NewTransaction struct {
	ID              uuid.UUID
	Tenant          string
	ClientID        string
	StartedBy       uuid.UUID
	MandateID       uuid.UUID // uuid.Nil for the customer's own
	Details         TransactionDetails
	Digest          []byte
	IdempotencyHash []byte // of the client's key, nil for none: the same key starts nothing twice
	RequestHash     []byte // of what came with it
	Lifetime        time.Duration
	MaxOpen         int           // that may wait which one customer has started
	Every           time.Duration // an approver is told of one, and of MaxNotices at once
}

// MaxNotices is of how many transactions an approver is told without a pause.
const MaxNotices = 10

const (
	lockTransactionSQL = `SELECT 1 FROM transactions WHERE id = $1 FOR UPDATE`

	// Whoever starts another for the same customer waits: a hundred at once are a hundred.
	lockStarterSQL = `SELECT 1 FROM customers WHERE id = $1 FOR NO KEY UPDATE`

	// Whoever else has members told, or changes the mandate, waits.
	lockMandateSQL = `SELECT 1 FROM mandates WHERE id = $1 OR id = (SELECT mandate_id FROM transactions WHERE id = $2) FOR NO KEY UPDATE`

	// Those who may approve what "told" has are told that it waits, unless they were of too many lately: then it waits in their list all
	// the same.
	tellApproversSQL = `rung AS (
    UPDATE mandate_members r SET told_until = greatest(r.told_until, now()) + told.pause
    FROM told WHERE r.mandate_id = told.mandate_id AND r.may_approve AND r.customer_id <> told.started_by
      AND r.told_until <= now() + told.pause * told.more
    RETURNING r.customer_id, told.id, told.client_id, told.revision
), notices AS (
    INSERT INTO notifications (kind, client_id, about)
    SELECT '` + ApprovalNotification + `', client_id, jsonb_build_object('transaction_id', id, 'customer_id', customer_id, 'revision', revision) FROM rung
)`

	startTransactionSQL = `
WITH wanted AS (
    SELECT $4::uuid AS started_by, $5::uuid AS mandate_id, $8::numeric AS amount, $9::text AS currency
), starter AS (
    SELECT c.id, CASE WHEN t.mandate_id IS NULL THEN 1 ELSE tier.approvals END AS required, CASE
        WHEN t.mandate_id IS NOT NULL AND mm.may_start IS NOT TRUE THEN 'not_starter'
        WHEN t.mandate_id IS NOT NULL AND tier.approvals IS NULL THEN 'limit'
        WHEN (SELECT count(*) FROM transactions o WHERE o.started_by = c.id AND o.status = 'awaiting_approval' AND o.expires_at > now()) >= $13 THEN 'too_many'
        ELSE 'may' END AS verdict
    FROM wanted t JOIN customers c ON c.id = t.started_by AND c.tenant = $2 AND c.disabled_at IS NULL` + membershipSQL + `
), started AS (
    INSERT INTO transactions (id, tenant, client_id, started_by, mandate_id, idempotency_hash, request_hash, amount, currency, details, digest, required, expires_at)
    SELECT $1, $2, $3, s.id, $5, $6, $7, $8, $9, $10, $11, s.required, now() + $12::interval FROM starter s WHERE s.verdict = 'may'
    ON CONFLICT (client_id, idempotency_hash) DO NOTHING
    RETURNING id, client_id, started_by, mandate_id, revision
), told AS (
    SELECT *, $15::interval AS pause, $16::integer AS more FROM started
), ` + tellApproversSQL + `, event AS (
    INSERT INTO events (id, customer_id, kind, details)
    SELECT $14, started_by, 'transaction.started', jsonb_build_object('transaction', id) FROM started
)
SELECT verdict FROM starter`

	startedTransactionSQL = transactionSQL + `WHERE t.id = $1 OR t.client_id = $2 AND t.idempotency_hash = $3`

	changeTransactionSQL = `
WITH t AS (
    SELECT x.id, x.mandate_id, x.started_by, x.client_id, x.revision, x.status, x.expires_at, $5::numeric AS amount, $6::text AS currency
    FROM transactions x WHERE x.id = $1
), judged AS (
    SELECT t.id, CASE WHEN t.mandate_id IS NULL THEN 1 ELSE tier.approvals END AS required, CASE
        WHEN t.client_id <> $2 THEN 'foreign'
        WHEN t.status <> 'awaiting_approval' OR t.expires_at <= now() THEN 'over'
        WHEN t.revision <> $3 THEN 'changed'
        WHEN t.mandate_id IS NOT NULL AND mm.may_start IS NOT TRUE THEN 'not_starter'
        WHEN t.mandate_id IS NOT NULL AND tier.approvals IS NULL THEN 'limit'
        ELSE 'may' END AS verdict
    FROM t LEFT JOIN customers c ON c.id = t.started_by AND c.disabled_at IS NULL` + membershipSQL + `
), changed AS (
    UPDATE transactions x SET revision = x.revision + 1, digest = $4, amount = $5, currency = $6, details = $7, required = j.required, status_changed_at = now()
    FROM judged j WHERE x.id = j.id AND j.verdict = 'may'
    RETURNING x.id, x.client_id, x.started_by, x.mandate_id, x.revision
), told AS (
    SELECT *, $8::interval AS pause, $9::integer AS more FROM changed
), ` + tellApproversSQL + `
SELECT verdict FROM judged`

	// A transaction that is approved may be consumed for a while, however late it was approved.
	approveTransactionSQL = `
WITH t AS (
    SELECT t.id, t.mandate_id, t.revision, t.digest, CASE WHEN t.mandate_id IS NULL THEN 1 ELSE tier.approvals END AS required, ` + standingSQL + ` AS verdict
    FROM transactions t` + viewerSQL + ` WHERE t.id = $1
), %s, approval AS (
    INSERT INTO transaction_decisions (transaction_id, customer_id, revision, digest, answer, factor_kind)
    SELECT t.id, $2, t.revision, t.digest, 'approved', $4 FROM t, proof WHERE t.verdict = 'may'
    RETURNING transaction_id
), counted AS (
    SELECT a.transaction_id, w.required, 1 + (SELECT count(*) FROM transaction_decisions d WHERE d.transaction_id = t.id AND ` + countsSQL + `) AS received
    FROM approval a JOIN transactions t ON t.id = a.transaction_id JOIN t w ON w.id = a.transaction_id
), changed AS (
    UPDATE transactions x SET required = c.required,
        status = CASE WHEN c.received >= c.required THEN 'approved' ELSE x.status END,
        status_changed_at = CASE WHEN c.received >= c.required THEN now() ELSE x.status_changed_at END,
        expires_at = CASE WHEN c.received >= c.required THEN greatest(x.expires_at, now() + interval '15 minutes') ELSE x.expires_at END
    FROM counted c WHERE x.id = c.transaction_id
    RETURNING x.id, x.status
), voided AS (
    UPDATE transaction_decisions d SET void = true FROM transactions t, changed WHERE t.id = changed.id AND changed.status = 'approved' AND d.transaction_id = t.id
        AND d.revision = t.revision AND NOT (` + countsSQL + `)
), event AS (
    INSERT INTO events (id, customer_id, kind, visit, details)
    SELECT $5, $2, 'transaction.approved', $6, jsonb_build_object('transaction', transaction_id, 'factor', $4::text) FROM approval
)
SELECT t.verdict, coalesce((SELECT status FROM changed), '') FROM t`

	// Whoever started something may take it back, whether or not they may approve it.
	rejectTransactionSQL = `
WITH t AS (
    SELECT t.id, t.revision, t.digest, CASE
        WHEN ` + standingSQL + ` IN ('own', 'limit', 'again', 'may') OR ` + standingSQL + ` = 'not_approver' AND t.started_by = c.id THEN 'may'
        ELSE ` + standingSQL + ` END AS verdict
    FROM transactions t` + viewerSQL + ` WHERE t.id = $1
), rejection AS (
    INSERT INTO transaction_decisions (transaction_id, customer_id, revision, digest, answer, factor_kind, reason)
    SELECT t.id, $2, t.revision, t.digest, 'rejected', '', $4 FROM t WHERE t.verdict = 'may'
    ON CONFLICT (transaction_id, revision, customer_id) DO UPDATE SET answer = 'rejected', reason = EXCLUDED.reason, at = now()
    RETURNING transaction_id
), changed AS (
    UPDATE transactions x SET status = 'rejected', status_changed_at = now() FROM rejection r WHERE x.id = r.transaction_id
), event AS (
    INSERT INTO events (id, customer_id, kind, visit, details)
    SELECT $5, $2, 'transaction.rejected', $6, jsonb_build_object('transaction', transaction_id) FROM rejection
)
SELECT verdict FROM t`

	consumeTransactionSQL = `
WITH done AS (
    UPDATE transactions SET status = 'consumed', status_changed_at = now()
    WHERE id = $1 AND client_id = $2 AND status = 'approved' AND expires_at > now() AND digest = $3
    RETURNING id
)
SELECT CASE
    WHEN EXISTS (SELECT 1 FROM done) THEN 'may'
    WHEN t.client_id <> $2 THEN 'foreign'
    WHEN t.digest <> $3 THEN 'changed'
    ELSE 'over' END
FROM transactions t WHERE t.id = $1`

	voidTransactionSQL = `
WITH done AS (
    UPDATE transactions SET status = 'voided', status_changed_at = now()
    WHERE id = $1 AND client_id = $2 AND status IN ('awaiting_approval', 'approved') AND expires_at > now()
    RETURNING id
)
SELECT CASE
    WHEN EXISTS (SELECT 1 FROM done) THEN 'may'
    WHEN t.client_id <> $2 THEN 'foreign'
    ELSE 'over' END
FROM transactions t WHERE t.id = $1`
)

// nullable is an id as the database keeps it: uuid.Nil is none.
func nullable(id uuid.UUID) *[16]byte {
	if id == uuid.Nil {
		return nil
	}
	return (*[16]byte)(&id)
}

// verdict reads what a statement says of who wanted a change.
func verdict(row pgx.Row, more ...any) error {
	var v Standing
	if err := row.Scan(append([]any{&v}, more...)...); err != nil {
		return notFound(err)
	}
	switch v {
	case May:
		return nil
	case IsForeign:
		return ErrForeign
	}
	return v
}

// StartTransaction stores what is to be approved and has those told who may. With an idempotency key that was used before it
// returns what was started then. It returns ErrNotFound when there is no such customer, ErrConflict when the key came with another
// request, or a Standing: NotStarter, OverLimit, TooManyOpen. One round trip.
func (db *DB) StartTransaction(ctx context.Context, n NewTransaction) (*Transaction, error) {
	details, err := db.sealedDetails(n.ID, n.Details)
	if err != nil {
		return nil, err
	}
	batch := &pgx.Batch{}
	batch.Queue(lockStarterSQL, [16]byte(n.StartedBy))
	batch.Queue(lockMandateSQL, nullable(n.MandateID), nil)
	batch.Queue(startTransactionSQL, [16]byte(n.ID), n.Tenant, n.ClientID, [16]byte(n.StartedBy), nullable(n.MandateID), n.IdempotencyHash, n.RequestHash,
		n.Details.Amount, n.Details.Currency, details, n.Digest, n.Lifetime, n.MaxOpen, [16]byte(NewID()), n.Every, MaxNotices-1)
	batch.Queue(startedTransactionSQL, [16]byte(n.ID), n.ClientID, n.IdempotencyHash)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	for range 2 {
		if _, err := results.Exec(); err != nil {
			return nil, err
		}
	}
	refused := verdict(results.QueryRow())
	if standing := Standing(""); refused != nil && refused != ErrNotFound && !errors.As(refused, &standing) {
		return nil, refused
	}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	t, err := pgx.CollectExactlyOneRow(rows, db.scanTransaction)
	switch {
	case errors.Is(err, pgx.ErrNoRows) && refused != nil:
		return nil, refused
	case err != nil:
		return nil, err
	case string(t.RequestHash) != string(n.RequestHash):
		return nil, ErrConflict
	}
	return &t, results.Close()
}

func (db *DB) sealedDetails(id uuid.UUID, d TransactionDetails) ([]byte, error) {
	plain, err := json.Marshal(d)
	return db.Keys().Seal(detailsPurpose, id[:], plain), err
}

// TransactionChange is what takes the place of a revision that waits.
type TransactionChange struct {
	ID       uuid.UUID
	ClientID string
	Revision int // that is changed
	Details  TransactionDetails
	Digest   []byte
	Every    time.Duration // as in NewTransaction
}

// ChangeTransaction makes a new revision. Approvals of the one before, and codes that were sent for it, are worth nothing after.
// It returns ErrNotFound, ErrForeign, or a Standing: IsOver, IsChanged, NotStarter, OverLimit. One round trip.
func (db *DB) ChangeTransaction(ctx context.Context, c TransactionChange) error {
	details, err := db.sealedDetails(c.ID, c.Details)
	if err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(lockTransactionSQL, [16]byte(c.ID))
	batch.Queue(lockMandateSQL, nil, [16]byte(c.ID))
	batch.Queue(changeTransactionSQL, [16]byte(c.ID), c.ClientID, c.Revision, c.Digest, c.Details.Amount, c.Details.Currency, details,
		c.Every, MaxNotices-1)
	return db.judged(ctx, batch)
}

// judged runs statements of which the last says what comes of it.
func (db *DB) judged(ctx context.Context, batch *pgx.Batch, more ...any) error {
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	for range batch.Len() - 1 {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	if err := verdict(results.QueryRow(), more...); err != nil {
		return err
	}
	return results.Close()
}

// TransactionProof is what a customer has shown for what they were shown. Its statement uses it up.
type TransactionProof interface {
	// useUpFor is a common table expression "proof", and others after it. It has one row if the proof holds for customer $2 and
	// digest $3, and nothing is used up unless t says that they may. Its arguments are $7 and on.
	useUpFor() (kind, sql string, args []any)
}

// TransactionDecided is somebody's decision.
type TransactionDecided struct {
	ID       uuid.UUID
	Customer uuid.UUID
	Digest   []byte // of what they were shown
	Visit    Visit
}

// ApproveTransaction records a yes and uses its proof up; the status after it is AwaitingApproval while others must approve too. It
// returns ErrNotFound, ErrForeign, ErrAlreadyUsed when the proof does not hold any more, or a Standing: IsOver, IsChanged,
// NotApprover, IsOwn, OverLimit, HasDecided. Then nothing changes. One round trip.
func (db *DB) ApproveTransaction(ctx context.Context, d TransactionDecided, p TransactionProof) (status string, err error) {
	kind, proof, args := p.useUpFor()
	event := NewID()
	visit, err := db.sealedVisit(event[:], d.Visit)
	if err != nil {
		return "", err
	}
	batch := &pgx.Batch{}
	batch.Queue(lockTransactionSQL, [16]byte(d.ID))
	batch.Queue(approving(proof), append([]any{[16]byte(d.ID), [16]byte(d.Customer), d.Digest, kind, [16]byte(event), visit}, args...)...)
	if err := db.judged(ctx, batch, &status); err != nil {
		return "", err
	}
	if status == "" {
		return "", ErrAlreadyUsed
	}
	return status, nil
}

// RejectTransaction records a no, by anybody who may approve it or who started it; that ends it. The errors are those of
// ApproveTransaction. One round trip.
func (db *DB) RejectTransaction(ctx context.Context, d TransactionDecided, reason string) error {
	event := NewID()
	visit, err := db.sealedVisit(event[:], d.Visit)
	if err != nil {
		return err
	}
	var sealed []byte
	if reason != "" {
		sealed = db.Keys().Seal(reasonPurpose, d.ID[:], []byte(reason))
	}
	batch := &pgx.Batch{}
	batch.Queue(lockTransactionSQL, [16]byte(d.ID))
	batch.Queue(rejectTransactionSQL, [16]byte(d.ID), [16]byte(d.Customer), d.Digest, sealed, [16]byte(event), visit)
	return db.judged(ctx, batch)
}

// ConsumeTransaction lets a client do what was approved, once. It returns ErrNotFound, ErrForeign, or a Standing: IsChanged when the
// digest is not that of what was approved, IsOver when it is not approved, or not any more. One round trip.
func (db *DB) ConsumeTransaction(ctx context.Context, id uuid.UUID, clientID string, digest []byte) error {
	return verdict(db.pool.QueryRow(ctx, consumeTransactionSQL, [16]byte(id), clientID, digest))
}

// VoidTransaction takes back what was not consumed. It returns ErrNotFound, ErrForeign, or IsOver. One round trip.
func (db *DB) VoidTransaction(ctx context.Context, id uuid.UUID, clientID string) error {
	return verdict(db.pool.QueryRow(ctx, voidTransactionSQL, [16]byte(id), clientID))
}
