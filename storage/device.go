package storage

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// Why a poll brings no tokens.
var (
	ErrPending  = errors.New("storage: not decided yet")
	ErrTooEarly = errors.New("storage: not decided yet, and asked too soon")
	ErrDenied   = errors.New("storage: denied")
	ErrExpired  = errors.New("storage: expired")
)

// Pending is the ErrPending of a poll that can go on: what a client needs to know that waits for the decision.
type Pending struct {
	PolledAt time.Time     // by the database's clock
	Left     time.Duration // until the request expires
}

func (p *Pending) Error() string { return ErrPending.Error() }

func (p *Pending) Is(target error) bool { return target == ErrPending }

// ErrTooManyGuesses is for guesses that are over their limit.
var ErrTooManyGuesses = errors.New("storage: too many wrong codes")

// Polling is how a client learns the outcome of a request that it has no browser for (RFC 8628, CIBA Core §10.1).
type Polling struct {
	CodeHash     []byte        // SHA-256 of what the client polls with, and redeems
	UserCodeHash []byte        // of what the customer types; nil when they are found otherwise
	Lifetime     time.Duration // from now until both codes are worth nothing, decided or not
	Interval     time.Duration // the least time between two polls
}

const (
	pushPolledSQL = `
INSERT INTO authorizations (id, client_id, request, scopes, consent_id, authenticated_after, acr_required,
    request_uri_expires_at, expires_at, code_expires_at, code_hash, user_code_hash, poll_interval, terms, grant_action, grant_id)
SELECT $1, $2, $3, $4, nullif($5, ''), $6, nullif($7, ''), now() + $8::interval, now() + $8, now() + $8, $9, $10, $11, $12, nullif($13, ''), $14
WHERE ($5 = '' OR EXISTS (SELECT 1 FROM consents k WHERE k.id = $5 AND k.client_id = $2
    AND k.status IN ('AwaitingAuthorisation', 'Authorised') AND (k.expires_at IS NULL OR k.expires_at > now())))
  AND ($14::uuid IS NULL OR EXISTS (SELECT 1 FROM grants g WHERE g.id = $14 AND g.client_id = $2 AND g.managed AND g.revoked_at IS NULL))
RETURNING created_at`

	// A poll that waited for the approval sees the row as it is now, but not yet the grant, which is newer than the
	// statement, or is as it was before a merge: then nothing is redeemed, and the next poll brings the tokens. Reuse ends the tokens like a code's (redeemSQL).
	pollSQL = `
WITH polled AS (
    UPDATE authorizations a SET last_polled_at = coalesce($4, now()),
        status = CASE WHEN a.status = 'pending' AND a.code_expires_at <= now() THEN 'expired' ELSE a.status END,
        slowed_at = CASE WHEN ` + tooEarlySQL + ` THEN now() ELSE a.slowed_at END,
        poll_interval = a.poll_interval + CASE WHEN ` + tooEarlySQL + ` THEN interval '5 seconds' ELSE interval '0' END,
        redemptions = a.redemptions + CASE WHEN ` + decidedSQL + ` THEN 1 ELSE 0 END,
        redeemed_at = CASE WHEN ` + decidedSQL + ` THEN coalesce(a.redeemed_at, now()) END,
        revoked_at = CASE WHEN a.redeemed_at < now() - interval '500 milliseconds' THEN coalesce(a.revoked_at, now()) ELSE a.revoked_at END,
        expires_at = CASE WHEN ` + decidedSQL + ` AND a.code_expires_at > now() THEN greatest(a.expires_at, now() + $3) ELSE a.expires_at END
    WHERE a.code_hash = $1 AND a.client_id = $2 AND a.poll_interval IS NOT NULL AND ($4::timestamptz IS NULL OR a.last_polled_at = $4)
    RETURNING a.*
)
SELECT CASE
    WHEN a.status = 'denied' THEN 'denied'
    WHEN a.redemptions > 1 THEN 'spent'
    WHEN a.status = 'expired' OR a.code_expires_at <= now() THEN 'expired'
    WHEN a.redemptions = 1 THEN CASE WHEN ` + aliveSQL + ` THEN 'approved' ELSE 'spent' END
    WHEN a.slowed_at = now() THEN 'early'
    ELSE 'pending' END, a.last_polled_at, a.code_expires_at - now(), ` + liveColumns + `
FROM polled a LEFT JOIN (` + liveTables + `) ON g.id = a.grant_id`

	// Networks deliver a client's polls now a little earlier, now later. One that goes on counts from when it came.
	tooEarlySQL = `$4::timestamptz IS NULL AND a.status = 'pending' AND a.last_polled_at > now() - a.poll_interval + interval '500 milliseconds'`
	decidedSQL  = `a.status = 'approved' AND EXISTS (SELECT 1 FROM grants g WHERE g.id = a.grant_id AND g.generation >= a.grant_generation)`

	decidedAmongSQL = `SELECT code_hash FROM authorizations WHERE code_hash = ANY($1) AND status <> 'pending'`

	// Whoever types a code waits for whoever types another: a hundred guesses at once are a hundred guesses.
	lockGuessesSQL = `SELECT 1 FROM user_code_failures WHERE source = '' FOR UPDATE`

	// A source that is over its limit is not counted any more, so that it does not use up everybody's.
	enterSQL = `
WITH over AS (
    SELECT 1 FROM user_code_failures f
    WHERE f.since > now() - $4::interval AND (f.source = $3 AND f.failures >= $5 OR f.source = '' AND f.failures >= $6)
), found AS (
    UPDATE authorizations a SET request_uri_hash = $2, request_uri_expires_at = a.expires_at, opened_at = now()
    WHERE a.user_code_hash = $1 AND a.status = 'pending' AND a.expires_at > now() AND NOT EXISTS (SELECT 1 FROM over)
    RETURNING a.client_id
), counted AS (
    INSERT INTO user_code_failures AS f (source, failures, since)
    SELECT source, 1, now() FROM unnest(ARRAY[''::bytea, $3]) source
    WHERE NOT EXISTS (SELECT 1 FROM over) AND NOT EXISTS (SELECT 1 FROM found)
    ON CONFLICT (source) DO UPDATE SET since = CASE WHEN f.since > now() - $4 THEN f.since ELSE now() END,
        failures = CASE WHEN f.since > now() - $4 THEN f.failures + 1 ELSE 1 END
)
SELECT EXISTS (SELECT 1 FROM over), (SELECT client_id FROM found)`
)

// PushPolled stores a request whose outcome the client polls for, as Push does one that a browser brings back. It returns
// ErrConflict, and has used nothing up, when the user code is another request's.
func (db *DB) PushPolled(ctx context.Context, uses []Use, a *Authorization, p Polling) error {
	sealed := db.Keys().Seal(requestPurpose, a.ID[:], a.Request)
	err := db.once(ctx, uses, func(row pgx.Row) error { return row.Scan(&a.CreatedAt) }, pushPolledSQL,
		[16]byte(a.ID), a.ClientID, sealed, a.Scopes, a.ConsentID, a.AuthenticatedAfter, a.ACRRequired,
		p.Lifetime, p.CodeHash, p.UserCodeHash, p.Interval, db.sealedTerms(a), a.GrantAction, namedGrant(a))
	if isUniqueViolation(err) {
		return ErrConflict
	}
	return err
}

// Poll asks for the outcome of a client's request, and redeems it if it was approved: once, as Redeem does. Else it
// returns ErrPending, as a *Pending, ErrTooEarly (the interval is then longer, for good), ErrDenied, ErrExpired, ErrNotFound
// (unknown, another client's, spent or revoked) or ErrAlreadyUsed (a replayed identifier). One statement.
func (db *DB) Poll(ctx context.Context, uses []Use, codeHash []byte, clientID string, keep time.Duration) (*Live, error) {
	return db.poll(ctx, uses, codeHash, clientID, keep, nil)
}

// PollOn goes on with a poll that was answered with a *Pending, as if it came only now. It is never too early. Once the
// client has polled again it returns ErrPending alone, whatever was decided: the newest poll is the one that redeems, for
// nobody may be there any more for the answer to an older one. One statement.
func (db *DB) PollOn(ctx context.Context, since time.Time, codeHash []byte, clientID string, keep time.Duration) (*Live, error) {
	return db.poll(ctx, nil, codeHash, clientID, keep, &since)
}

func (db *DB) poll(ctx context.Context, uses []Use, codeHash []byte, clientID string, keep time.Duration, since *time.Time) (*Live, error) {
	p := &poll{live: newLiveRow(db)}
	err := db.once(ctx, uses, func(row pgx.Row) error { return row.Scan(p) }, pollSQL, codeHash, clientID, keep, since)
	if since != nil && errors.Is(err, ErrNotFound) {
		return nil, ErrPending
	}
	if err != nil {
		return nil, err
	}
	switch p.outcome {
	case "approved":
		return p.live.opened(db)
	case "pending":
		pending := p.pending // whoever waits with it keeps nothing else
		return nil, &pending
	case "early":
		return nil, ErrTooEarly
	case "denied":
		return nil, ErrDenied
	case "expired":
		return nil, ErrExpired
	}
	return nil, ErrNotFound
}

// poll reads the outcome, and what there is to read of an approval. It is a pgx.RowScanner.
type poll struct {
	outcome string
	pending Pending
	live    *liveRow
}

func (p *poll) ScanRow(rows pgx.Rows) error {
	columns := append([]any{&p.outcome, &p.pending.PolledAt, &p.pending.Left}, p.live.columns()...)
	only := make([]any, len(columns))
	copy(only, columns[:3])
	if err := rows.Scan(only...); err != nil || p.outcome != "approved" {
		return err
	}
	return rows.Scan(columns...)
}

// DecidedAmong returns those of many requests, named by the hashes of what their clients poll with, that wait no longer. One
// statement.
func (db *DB) DecidedAmong(ctx context.Context, codeHashes [][]byte) ([][]byte, error) {
	rows, err := db.pool.Query(ctx, decidedAmongSQL, codeHashes)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[[]byte])
}

// Guess is a user code that somebody typed.
type Guess struct {
	UserCodeHash   []byte
	RequestURIHash []byte        // where the journey goes on, if the code is right; it replaces an earlier one
	Source         []byte        // where the guess comes from, hashed; never empty
	Window         time.Duration // for which wrong ones are counted
	PerSource      int           // wrong ones in a window, from one source
	Together       int           // and from all
}

// EnterUserCode finds the pending request of a user code, and lets it be opened by another name; it returns its client.
// It returns ErrNotFound for a code that is unknown, expired or decided, and ErrTooManyGuesses, right or wrong, once there were
// too many such. One round trip.
func (db *DB) EnterUserCode(ctx context.Context, g Guess) (clientID string, err error) {
	batch := &pgx.Batch{}
	batch.Queue(lockGuessesSQL)
	batch.Queue(enterSQL, g.UserCodeHash, g.RequestURIHash, g.Source, g.Window, g.PerSource, g.Together)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	if _, err := results.Exec(); err != nil {
		return "", err
	}
	var over bool
	var found *string
	if err := results.QueryRow().Scan(&over, &found); err != nil {
		return "", err
	}
	switch {
	case over:
		return "", ErrTooManyGuesses
	case found == nil:
		return "", errors.Join(results.Close(), ErrNotFound)
	}
	return *found, results.Close()
}
