package storage

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Statuses of a transaction. The store knows no Expired: one that waits, or is approved, until ExpiresAt is, from then on.
const (
	AwaitingApproval    = "awaiting_approval"
	ApprovedTransaction = "approved"
	RejectedTransaction = "rejected"
	ExpiredTransaction  = "expired"
	VoidedTransaction   = "voided"   // withdrawn by its client
	ConsumedTransaction = "consumed" // done, once
)

// Transaction is what people must approve before a client may do it.
type Transaction struct {
	ID              uuid.UUID
	Tenant          string
	ClientID        string
	StartedBy       uuid.UUID // uuid.Nil: a customer who is no more
	MandateID       uuid.UUID // uuid.Nil: it is the customer's own, who alone approves it
	Revision        int       // from 1; each change makes another
	Details         TransactionDetails
	Digest          []byte // of all that is shown
	Required        int    // approvals
	Received        int    // approvals of this revision, by people who still may
	Status          string
	CreatedAt       time.Time
	StatusChangedAt time.Time
	ExpiresAt       time.Time

	Organization string    // whose mandate it is under; "" for none
	Starter      *Customer // nil: one who is no more
	Decisions    []TransactionDecision
	RequestHash  []byte
}

// TransactionDetails are what is shown and signed, in canonical form.
type TransactionDetails struct {
	Type         string `json:"type"`
	Amount       string `json:"amount"`   // fapi.Amount
	Currency     string `json:"currency"` // ISO 4217
	PayeeName    string `json:"payee_name"`
	PayeeAccount string `json:"payee_account"`
	FromAccount  string `json:"from_account,omitempty"`
	Reference    string `json:"reference,omitempty"`
}

// TransactionDecision is what one person said.
type TransactionDecision struct {
	CustomerID uuid.UUID // uuid.Nil: one who is no more
	Customer   *Customer // nil likewise
	Revision   int
	Digest     []byte
	Answer     string // ApprovedTransaction or RejectedTransaction
	FactorKind string // that an approval was shown with
	Reason     string // of a rejection, as it was typed
	At         time.Time
	Counts     bool // an approval of this revision, by somebody who still may
}

// Standing is how somebody stands to a transaction. It is an error: why they may not do what they want.
type Standing string

func (s Standing) Error() string { return "storage: transaction: " + string(s) }

const (
	May         Standing = "may"          // approve, start, change
	IsOver      Standing = "over"         // it does not wait any more
	IsChanged   Standing = "changed"      // it is not what was shown
	NotApprover Standing = "not_approver" // by the mandate as it is now
	NotStarter  Standing = "not_starter"
	IsOwn       Standing = "own"      // who has started it may not approve it
	OverLimit   Standing = "limit"    // the mandate has no tier for the amount
	HasDecided  Standing = "again"    // approved it before
	TooManyOpen Standing = "too_many" // wait for approval that the customer has started
	IsForeign   Standing = "foreign"  // none of theirs
)

const (
	detailsPurpose = "transactions.details"
	reasonPurpose  = "transaction_decisions.reason"

	// What customer c may do under the mandate as it is now, and the tier of the amount.
	membershipSQL = `
LEFT JOIN mandates m ON m.id = t.mandate_id AND m.ended_at IS NULL
LEFT JOIN mandate_members mm ON mm.mandate_id = m.id AND mm.customer_id = c.id
LEFT JOIN LATERAL (
    SELECT r.approvals FROM jsonb_to_recordset(m.tiers) AS r(currency text, up_to numeric, approvals integer)
    WHERE r.currency = t.currency AND (r.up_to IS NULL OR r.up_to >= t.amount) ORDER BY r.up_to NULLS LAST LIMIT 1
) tier ON true`

	// Approvals count while whoever gave them may still approve; those that did in the end go on to do so.
	countsSQL = `d.answer = 'approved' AND d.revision = t.revision AND NOT d.void AND (t.status <> 'awaiting_approval' OR t.mandate_id IS NULL OR EXISTS (
    SELECT 1 FROM mandate_members x JOIN mandates y ON y.id = x.mandate_id AND y.ended_at IS NULL
    JOIN customers z ON z.id = x.customer_id AND z.disabled_at IS NULL
    WHERE x.mandate_id = t.mandate_id AND x.customer_id = d.customer_id AND x.may_approve AND (y.own_approval OR x.customer_id IS DISTINCT FROM t.started_by)))`

	transactionColumns = `t.id, t.tenant, t.client_id, t.started_by, t.mandate_id, t.revision, t.details, t.digest, t.required,
    (SELECT count(*) FROM transaction_decisions d WHERE d.transaction_id = t.id AND ` + countsSQL + `)::integer,
    CASE WHEN t.status IN ('awaiting_approval', 'approved') AND t.expires_at <= now() THEN 'expired' ELSE t.status END,
    t.created_at, t.status_changed_at, t.expires_at, t.request_hash, coalesce((SELECT o.name FROM mandates o WHERE o.id = t.mandate_id), ''),
    s.fineract_client_id, s.roles, s.profile`

	transactionSQL = `SELECT ` + transactionColumns + ` FROM transactions t LEFT JOIN customers s ON s.id = t.started_by `

	decisionsSQL = `
SELECT d.customer_id, d.revision, d.digest, d.answer, d.factor_kind, d.reason, d.at, ` + countsSQL + `, c.profile
FROM transaction_decisions d JOIN transactions t ON t.id = d.transaction_id LEFT JOIN customers c ON c.id = d.customer_id
WHERE d.transaction_id = $1 ORDER BY d.at, d.customer_id`

	// How customer $2 stands to transactions t. $3 is the digest of what they were shown, NULL for nothing yet.
	standingSQL = `CASE
    WHEN t.started_by IS DISTINCT FROM c.id AND mm.customer_id IS NULL THEN 'foreign'
    WHEN t.status <> 'awaiting_approval' OR t.expires_at <= now() THEN 'over'
    WHEN t.digest <> $3::bytea THEN 'changed'
    WHEN t.mandate_id IS NULL THEN 'may'
    WHEN mm.may_approve IS NOT TRUE THEN 'not_approver'
    WHEN t.started_by = c.id AND NOT m.own_approval THEN 'own'
    WHEN tier.approvals IS NULL THEN 'limit'
    WHEN EXISTS (SELECT 1 FROM transaction_decisions d WHERE d.transaction_id = t.id AND d.revision = t.revision AND d.customer_id = c.id) THEN 'again'
    ELSE 'may' END`

	viewerSQL = ` JOIN customers c ON c.id = $2 AND c.tenant = t.tenant AND c.disabled_at IS NULL` + membershipSQL

	viewSQL = `SELECT ` + standingSQL + `, c.transaction_password_hash IS NOT NULL FROM transactions t` + viewerSQL + ` WHERE t.id = $1`

	// A notice of an older revision tells nobody: there is one of the newer.
	awaitedTransactionSQL = `
SELECT c.id, c.tenant, c.fineract_client_id, c.roles, c.profile, t.created_at, t.expires_at,
    ARRAY(SELECT p.id FROM push_subscriptions p WHERE p.customer_id = c.id ORDER BY p.created_at, p.id),
    ARRAY(SELECT p.subscription FROM push_subscriptions p WHERE p.customer_id = c.id ORDER BY p.created_at, p.id)
FROM transactions t` + viewerSQL + ` WHERE t.id = $1 AND t.revision = $4 AND ` + standingSQL + ` = 'may'`

	inboxTransactionsSQL = transactionSQL + viewerSQL + `
WHERE t.status = 'awaiting_approval' AND t.expires_at > now() AND ` + standingSQL + ` = 'may'
  AND (t.mandate_id IS NULL AND t.started_by = $2 OR t.mandate_id IN (SELECT x.mandate_id FROM mandate_members x WHERE x.customer_id = $2 AND x.may_approve))
ORDER BY t.expires_at, t.id LIMIT $1`

	countTransactionsSQL = `SELECT count(*) FROM (` + inboxTransactionsSQL + `) AS w`

	startedTransactionsSQL = transactionSQL + ` WHERE t.started_by = $1 AND t.created_at > now() - interval '30 days' ORDER BY t.created_at DESC LIMIT $2`

	clientTransactionSQL = transactionSQL + `WHERE t.id = $1`
)

func (db *DB) scanTransaction(row pgx.CollectableRow) (t Transaction, err error) {
	var starter, mandate *[16]byte
	var sealed, profile []byte
	s := &Customer{keys: db.Keys()}
	err = row.Scan((*[16]byte)(&t.ID), &t.Tenant, &t.ClientID, &starter, &mandate, &t.Revision, &sealed, &t.Digest, &t.Required, &t.Received, &t.Status,
		&t.CreatedAt, &t.StatusChangedAt, &t.ExpiresAt, &t.RequestHash, &t.Organization, &s.FineractClientID, &s.Roles, &profile)
	if err != nil {
		return t, err
	}
	if starter != nil {
		t.StartedBy = *starter
		s.ID, s.Tenant, s.sealedProfile = t.StartedBy, t.Tenant, profile
		t.Starter = s
	}
	if mandate != nil {
		t.MandateID = *mandate
	}
	plain, err := db.Keys().Open(detailsPurpose, t.ID[:], sealed)
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(plain, &t.Details)
}

func (db *DB) scanTransactionDecision(id uuid.UUID) pgx.RowToFunc[TransactionDecision] {
	return func(row pgx.CollectableRow) (d TransactionDecision, err error) {
		var customer *[16]byte
		var reason, profile []byte
		if err = row.Scan(&customer, &d.Revision, &d.Digest, &d.Answer, &d.FactorKind, &reason, &d.At, &d.Counts, &profile); err != nil {
			return d, err
		}
		if customer != nil {
			d.CustomerID = *customer
			d.Customer = &Customer{ID: d.CustomerID, sealedProfile: profile, keys: db.Keys()}
		}
		if reason != nil {
			plain, err := db.Keys().Open(reasonPurpose, id[:], reason)
			if err != nil {
				return d, err
			}
			d.Reason = string(plain)
		}
		return d, nil
	}
}

// FindTransaction returns a transaction, whatever its status, or ErrNotFound. One round trip.
func (db *DB) FindTransaction(ctx context.Context, id uuid.UUID) (*Transaction, error) {
	batch := &pgx.Batch{}
	batch.Queue(clientTransactionSQL, [16]byte(id))
	batch.Queue(decisionsSQL, [16]byte(id))
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	return db.readTransaction(results, id)
}

// TransactionView is a transaction as one customer sees it.
type TransactionView struct {
	*Transaction
	Standing    Standing
	HasPassword bool // the customer has a transaction password
}

// ViewTransaction returns a transaction and how a customer stands to it. It returns ErrNotFound for one that is none of theirs. One
// round trip.
func (db *DB) ViewTransaction(ctx context.Context, id, customer uuid.UUID) (*TransactionView, error) {
	batch := &pgx.Batch{}
	batch.Queue(viewSQL, [16]byte(id), [16]byte(customer), nil)
	batch.Queue(clientTransactionSQL, [16]byte(id))
	batch.Queue(decisionsSQL, [16]byte(id))
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	v := &TransactionView{}
	if err := results.QueryRow().Scan(&v.Standing, &v.HasPassword); err != nil {
		return nil, notFound(err)
	}
	if v.Standing == IsForeign {
		return nil, ErrNotFound
	}
	var err error
	v.Transaction, err = db.readTransaction(results, id)
	return v, err
}

func (db *DB) readTransaction(results pgx.BatchResults, id uuid.UUID) (*Transaction, error) {
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	t, err := pgx.CollectExactlyOneRow(rows, db.scanTransaction)
	if err != nil {
		return nil, notFound(err)
	}
	if rows, err = results.Query(); err != nil {
		return nil, err
	}
	t.Decisions, err = pgx.CollectRows(rows, db.scanTransactionDecision(id))
	return &t, err
}

// mostTransactions is how many a list shows of each kind.
const mostTransactions = 100

// ListTransactions returns what waits for a customer's approval, the next to expire first, and what they have started in the last 30
// days, the newest first; without decisions. One round trip.
func (db *DB) ListTransactions(ctx context.Context, customer uuid.UUID) (waiting, started []Transaction, err error) {
	batch := &pgx.Batch{}
	batch.Queue(inboxTransactionsSQL, mostTransactions, [16]byte(customer), nil)
	batch.Queue(startedTransactionsSQL, [16]byte(customer), mostTransactions)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	for _, list := range []*[]Transaction{&waiting, &started} {
		rows, err := results.Query()
		if err != nil {
			return nil, nil, err
		}
		if *list, err = pgx.CollectRows(rows, db.scanTransaction); err != nil {
			return nil, nil, err
		}
	}
	return waiting, started, nil
}

const peopleSQL = `
SELECT c.id, c.tenant, c.fineract_client_id, c.roles, c.profile
FROM mandate_members mm JOIN mandates m ON m.id = mm.mandate_id AND m.ended_at IS NULL JOIN customers c ON c.id = mm.customer_id
WHERE mm.mandate_id = $1 ORDER BY c.id`

// MandatePeople are all members of a mandate, in the order of their ids. One round trip.
func (db *DB) MandatePeople(ctx context.Context, mandate uuid.UUID) ([]Customer, error) {
	rows, err := db.pool.Query(ctx, peopleSQL, [16]byte(mandate))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Customer, error) {
		c := Customer{keys: db.Keys()}
		err := row.Scan((*[16]byte)(&c.ID), &c.Tenant, &c.FineractClientID, &c.Roles, &c.sealedProfile)
		return c, err
	})
}
