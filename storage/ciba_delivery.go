package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// OutcomeStatus says what became of a request whose client is told of it.
type OutcomeStatus string

const (
	Undecided OutcomeStatus = "pending"  // the decision is being made at this moment
	Granted   OutcomeStatus = "approved" // and there are no tokens yet
	Redeemed  OutcomeStatus = "redeemed" // there are tokens
	Refused   OutcomeStatus = "denied"
	Expired   OutcomeStatus = "expired" // nobody decided in time, or there were no tokens in time
	Ended     OutcomeStatus = "ended"   // approved; the grant, the consent or the customer has ended since
)

// Outcome is what became of a CIBA request.
type Outcome struct {
	Status  OutcomeStatus
	Request []byte
	Live    *Live // when Granted or Redeemed
}

const (
	// Whoever decides holds the row. Then nothing expires here, and the status is that of before: the decision makes its
	// notification due, and that one is told of it.
	outcomeSQL = `
WITH ended AS (
    UPDATE authorizations SET status = 'expired' WHERE id = $1 AND client_id = $2 AND status = 'pending' AND expires_at <= now() RETURNING 1
)
SELECT CASE
    WHEN EXISTS (SELECT 1 FROM ended) THEN 'expired'
    WHEN a.status <> 'approved' THEN a.status
    WHEN NOT coalesce(` + aliveSQL + `, false) THEN 'ended'
    WHEN a.redemptions > 0 THEN 'redeemed'
    WHEN a.code_expires_at <= now() THEN 'expired'
    ELSE 'approved' END, a.request, ` + liveColumns + `
FROM authorizations a LEFT JOIN (` + liveTables + `) ON g.id = a.grant_id
WHERE a.id = $1 AND a.client_id = $2`

	// Tokens and what is sent of them come together: no process can have one without the other, nor two have both.
	keepTokensSQL = `
WITH redeemed AS (
    UPDATE authorizations SET redemptions = 1, redeemed_at = now(), expires_at = greatest(expires_at, now() + $4::interval)
    WHERE id = $1 AND client_id = $2 AND status = 'approved' AND redemptions = 0 AND revoked_at IS NULL
    RETURNING id
)
UPDATE notifications n SET payload = $3 FROM redeemed WHERE n.id = redeemed.id`

	giveUpOutcomeSQL = `
WITH dropped AS (DELETE FROM notifications WHERE id = $1 RETURNING id, payload)
UPDATE authorizations a SET revoked_at = coalesce(a.revoked_at, now()) FROM dropped WHERE a.id = dropped.id AND dropped.payload IS NOT NULL`
)

// BackchannelOutcome returns what became of a client's request, which expires if it is due to and nobody has decided. It
// returns ErrNotFound when the request is unknown, or was purged.
func (db *DB) BackchannelOutcome(ctx context.Context, id uuid.UUID, clientID string) (*Outcome, error) {
	row := &outcomeRow{live: newLiveRow(db)}
	if err := db.pool.QueryRow(ctx, outcomeSQL, [16]byte(id), clientID).Scan(row); err != nil {
		return nil, notFound(err)
	}
	var err error
	if o := &row.Outcome; o.Status == Granted || o.Status == Redeemed {
		if o.Live, err = row.live.opened(db); err != nil {
			return nil, err
		}
		o.Request = o.Live.Request
	} else if o.Request, err = db.Keys().Open(requestPurpose, id[:], o.Request); err != nil {
		return nil, err
	}
	return &row.Outcome, nil
}

// outcomeRow reads the outcome, and what there is to read of an approval. It is a pgx.RowScanner.
type outcomeRow struct {
	Outcome
	live *liveRow
}

func (o *outcomeRow) ScanRow(rows pgx.Rows) error {
	columns := append([]any{&o.Status, &o.Request}, o.live.columns()...)
	only := make([]any, len(columns))
	only[0], only[1] = &o.Status, &o.Request
	if err := rows.Scan(only...); err != nil || o.Status != Granted && o.Status != Redeemed {
		return err
	}
	return rows.Scan(columns...)
}

// KeepTokens redeems a Granted request, for what its notification then sends: now and whenever it is tried again. The row is
// kept for keep. It returns ErrConflict when it was redeemed or revoked meanwhile, or told of: the tokens are then nobody's.
func (db *DB) KeepTokens(ctx context.Context, n Notification, payload []byte, keep time.Duration) error {
	sealed := db.Keys().Seal(payloadPurpose, n.ID[:], payload)
	tag, err := db.pool.Exec(ctx, keepTokensSQL, [16]byte(n.ID), n.ClientID, sealed, keep)
	if err == nil && tag.RowsAffected() == 0 {
		return ErrConflict
	}
	return err
}

// GiveUpOutcome forgets a notification that did not arrive, and ends the tokens that it had: whoever has them has not said
// so. It tells whether there were any.
func (db *DB) GiveUpOutcome(ctx context.Context, id uuid.UUID) (revoked bool, err error) {
	tag, err := db.pool.Exec(ctx, giveUpOutcomeSQL, [16]byte(id))
	return tag.RowsAffected() > 0, err
}
