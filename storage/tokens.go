package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Live is an approved authorization with what a token of it needs to know.
type Live struct {
	Authorization
	Customer          Customer
	Consent           *Consent
	RefreshGeneration int
	Terms             Terms // what the grant holds, when its client manages it; else nil, and the request says what was granted
}

const (
	liveColumns = `a.id, a.client_id, a.request, a.scopes, coalesce(a.consent_id, ''), a.created_at, a.grant_id, a.account_ids,
    a.auth_time, a.acr, a.amr, coalesce(a.session_id, '00000000-0000-0000-0000-000000000000'), a.refresh_generation,
    c.id, c.tenant, c.fineract_client_id, c.roles, c.profile,
    k.type, k.status, k.permissions, k.expires_at, k.transactions_from, k.transactions_to, CASE WHEN g.managed THEN g.terms END`

	// Tokens die with their authorization, their grant (or its generation), their consent and their customer.
	aliveSQL = `(a.revoked_at IS NULL AND g.revoked_at IS NULL AND g.generation = a.grant_generation AND c.disabled_at IS NULL
    AND (k.id IS NULL OR k.status = 'Authorised' AND (k.expires_at IS NULL OR k.expires_at > now())))`

	liveTables = `grants g JOIN customers c ON c.id = g.customer_id LEFT JOIN consents k ON k.id = g.consent_id`

	// The first redemption wins. A later one ends the tokens of the first (RFC 6749 §4.1.2), unless both were on their
	// way at once: that is one client's retry, and its winner's tokens stay good.
	redeemSQL = `
UPDATE authorizations a SET redemptions = a.redemptions + 1, redeemed_at = coalesce(a.redeemed_at, now()),
    revoked_at = CASE WHEN a.redeemed_at < now() - interval '500 milliseconds' THEN coalesce(a.revoked_at, now()) ELSE a.revoked_at END,
    expires_at = greatest(a.expires_at, now() + $3)
FROM ` + liveTables + `
WHERE a.code_hash = $1 AND a.client_id = $2 AND a.poll_interval IS NULL AND g.id = a.grant_id
RETURNING a.redemptions = 1 AND a.code_expires_at > now() AND ` + aliveSQL + `, ` + liveColumns

	// The code may not be redeemed yet: there are tokens from the authorization endpoint (OpenID Connect Core §3.3).
	loadLiveSQL = `
SELECT true, ` + liveColumns + `
FROM authorizations a JOIN ` + liveTables + ` ON g.id = a.grant_id
WHERE a.id = $1 AND a.client_id = $2 AND a.status = 'approved' AND ` + aliveSQL + `
  AND NOT EXISTS (SELECT 1 FROM revoked_tokens r WHERE r.jti = ANY($3::text[]))`

	// A token that was rotated away is in the wrong hands, or its successor is: all end (RFC 9700 §4.14.2).
	rotateSQL = `
UPDATE authorizations a SET
    refresh_generation = a.refresh_generation + CASE WHEN a.refresh_generation = $3 THEN 1 ELSE 0 END,
    revoked_at = CASE WHEN a.refresh_generation > $3 THEN coalesce(a.revoked_at, now()) ELSE a.revoked_at END
FROM ` + liveTables + `
WHERE a.id = $1 AND a.client_id = $2 AND a.redeemed_at IS NOT NULL AND g.id = a.grant_id
RETURNING a.refresh_generation = $3 + 1 AND ` + aliveSQL + `, ` + liveColumns

	tokenRevokedSQL = `SELECT EXISTS (SELECT 1 FROM revoked_tokens WHERE jti = $1)`

	revokeAuthorizationSQL = `
WITH revoked AS (UPDATE authorizations SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 AND client_id = $2 RETURNING 1)
SELECT count(*) FROM revoked`

	revokeTokenSQL = `
WITH revoked AS (INSERT INTO revoked_tokens (jti, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1)
SELECT count(*) FROM revoked`
)

// Redeem spends a client's authorization code, whatever becomes of the request that brought it. It returns ErrNotFound
// for a code that is unknown, another client's, expired, spent or revoked, and ErrAlreadyUsed for a replayed identifier
// (the code then stays as it was). The row is kept for keep.
func (db *DB) Redeem(ctx context.Context, uses []Use, codeHash []byte, clientID string, keep time.Duration) (*Live, error) {
	return db.live(ctx, uses, redeemSQL, codeHash, clientID, keep)
}

// LoadLive returns an authorization whose tokens are good. It returns ErrNotFound when they are not: it is unknown,
// another client's, or it, its grant, its consent or its customer has ended, or one of the tokens jtis was revoked by itself.
func (db *DB) LoadLive(ctx context.Context, uses []Use, id uuid.UUID, clientID string, jtis ...string) (*Live, error) {
	return db.live(ctx, uses, loadLiveSQL, [16]byte(id), clientID, jtis)
}

// Rotate replaces the refresh token of that generation by the next one, which Live.RefreshGeneration names. An older one
// ends the authorization. It returns ErrNotFound when the token is not good.
func (db *DB) Rotate(ctx context.Context, uses []Use, id uuid.UUID, clientID string, generation int) (*Live, error) {
	return db.live(ctx, uses, rotateSQL, [16]byte(id), clientID, generation)
}

func (db *DB) live(ctx context.Context, uses []Use, sql string, args ...any) (*Live, error) {
	var good bool
	r := newLiveRow(db)
	scan := func(row pgx.Row) error { return row.Scan(append([]any{&good}, r.columns()...)...) }
	if err := db.once(ctx, uses, scan, sql, args...); err != nil {
		return nil, err
	}
	if !good {
		return nil, ErrNotFound
	}
	return r.opened(db)
}

// liveRow is what liveColumns are read into.
type liveRow struct {
	Live
	consent      Consent
	kind, status *string // the consent's; nil without one
}

func newLiveRow(db *DB) *liveRow { return &liveRow{Live: Live{Customer: Customer{keys: db.Keys()}}} }

func (r *liveRow) columns() []any {
	l := &r.Live
	return []any{
		(*[16]byte)(&l.ID), &l.ClientID, &l.Request, &l.Scopes, &l.ConsentID, &l.CreatedAt, (*[16]byte)(&l.GrantID), &l.AccountIDs,
		&l.AuthTime, &l.ACR, &l.AMR, (*[16]byte)(&l.SessionID), &l.RefreshGeneration,
		(*[16]byte)(&l.Customer.ID), &l.Customer.Tenant, &l.Customer.FineractClientID, &l.Customer.Roles, &l.Customer.sealedProfile,
		&r.kind, &r.status, &r.consent.Permissions, &r.consent.ExpiresAt, &r.consent.TransactionsFrom, &r.consent.TransactionsTo, &l.Terms,
	}
}

func (r *liveRow) opened(db *DB) (*Live, error) {
	l := &r.Live
	l.CustomerID = l.Customer.ID
	if r.kind != nil {
		r.consent.ID, r.consent.ClientID, r.consent.Type, r.consent.Status = l.ConsentID, l.ClientID, *r.kind, *r.status
		l.Consent = &r.consent
	}
	var err error
	if err = l.Terms.open(db.Keys()); err != nil {
		return nil, err
	}
	l.Request, err = db.Keys().Open(requestPurpose, l.ID[:], l.Request)
	return l, err
}

// TokenRevoked tells whether a token that belongs to no authorization was revoked.
func (db *DB) TokenRevoked(ctx context.Context, uses []Use, jti string) (revoked bool, err error) {
	err = db.once(ctx, uses, func(row pgx.Row) error { return row.Scan(&revoked) }, tokenRevokedSQL, jti)
	return revoked, err
}

// RevokeAuthorization ends all tokens of a client's authorization. One that is unknown is none to end.
func (db *DB) RevokeAuthorization(ctx context.Context, uses []Use, id uuid.UUID, clientID string) error {
	var n int
	return db.once(ctx, uses, func(row pgx.Row) error { return row.Scan(&n) }, revokeAuthorizationSQL, [16]byte(id), clientID)
}

// RevokeToken ends one access token. It is remembered until the token would have expired.
func (db *DB) RevokeToken(ctx context.Context, uses []Use, jti string, expiresAt time.Time) error {
	var n int
	return db.once(ctx, uses, func(row pgx.Row) error { return row.Scan(&n) }, revokeTokenSQL, jti, expiresAt)
}
