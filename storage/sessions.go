package storage

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A session ends with its last login. Its clients then get a notification each, and tokens that were meant to live with
// it end: those of a client that wanted to know who the customer is, and was given neither offline_access nor something
// that the customer lets it do for longer: a consent, accounts, authorization_details, a grant to manage (OpenID Connect Back-Channel Logout §2.7).
const overSQL = `, over AS (
    SELECT DISTINCT e.customer_id, e.session_id FROM ended e
    WHERE NOT EXISTS (SELECT 1 FROM logins l WHERE l.session_id = e.session_id AND l.hash NOT IN (SELECT hash FROM ended))
), revoked AS (
    UPDATE authorizations a SET revoked_at = now() FROM over
    WHERE a.session_id = over.session_id AND a.status = 'approved' AND a.revoked_at IS NULL
      AND a.consent_id IS NULL AND a.terms IS NULL AND a.grant_action IS NULL AND a.account_ids = '{}' AND 'openid' = ANY (a.scopes) AND 'offline_access' <> ALL (a.scopes)
)
INSERT INTO notifications (kind, client_id, about)
SELECT DISTINCT 'logout', a.client_id, jsonb_build_object('customer_id', over.customer_id, 'session_id', over.session_id)
FROM over JOIN authorizations a ON a.session_id = over.session_id
    JOIN clients k ON k.client_id = a.client_id AND k.disabled_at IS NULL AND k.metadata->>'backchannel_logout_uri' <> ''
WHERE a.status = 'approved' AND 'openid' = ANY (a.scopes)`

const (
	// A decision that runs at the same time holds its login: what it adds to the session is there when the next statement
	// begins.
	lockLoginSQL  = `SELECT 1 FROM logins WHERE hash = $1 FOR UPDATE`
	lockLoginsSQL = `SELECT 1 FROM logins WHERE customer_id = $1 FOR UPDATE`

	endLoginSQL  = `WITH ended AS (DELETE FROM logins WHERE hash = $1 RETURNING hash, customer_id, session_id)` + overSQL
	endLoginsSQL = `WITH ended AS (DELETE FROM logins WHERE customer_id = $1 RETURNING hash, customer_id, session_id)` + endTFATokensSQL + overSQL

	// The login that a second factor makes of one that stands for a new password takes the place of all: whoever got in with the old
	// one is out.
	replaceLoginSQL = `
WITH replaced AS (
    SELECT o.hash FROM logins o WHERE o.hash = $1 AND EXISTS (SELECT 1 FROM logins n WHERE n.hash = $2)
    UNION
    SELECT other.hash FROM logins o JOIN logins n ON n.hash = $2 AND n.customer_id = o.customer_id AND n.factor_at IS NOT NULL
        JOIN logins other ON other.customer_id = o.customer_id AND other.hash <> n.hash
    WHERE o.hash = $1 AND o.recovery IS NOT NULL
), ended AS (
    DELETE FROM logins USING replaced WHERE logins.hash = replaced.hash RETURNING logins.hash, customer_id, session_id
)` + overSQL

	lockReplacedSQL = `
SELECT 1 FROM logins WHERE customer_id = (SELECT o.customer_id FROM logins o WHERE o.hash = $1 AND o.recovery IS NOT NULL) FOR UPDATE`

	findSessionSQL = `
SELECT c.id, c.tenant, c.fineract_client_id, c.roles, c.profile, l.session_id
FROM logins l JOIN customers c ON c.id = l.customer_id WHERE l.hash = $1`
)

// Session is whose browser it is, whether or not the login in it is still good for anything.
type Session struct {
	ID       uuid.UUID
	Customer Customer
}

// FindSession finds the session of a login, one that has expired not long ago included: it is there to be ended. It
// returns ErrNotFound when there is none.
func (db *DB) FindSession(ctx context.Context, loginHash []byte) (*Session, error) {
	s := &Session{Customer: Customer{keys: db.Keys()}}
	c := &s.Customer
	err := db.pool.QueryRow(ctx, findSessionSQL, loginHash).
		Scan((*[16]byte)(&c.ID), &c.Tenant, &c.FineractClientID, &c.Roles, &c.sealedProfile, (*[16]byte)(&s.ID))
	if err != nil {
		return nil, notFound(err)
	}
	return s, nil
}

// EndLogin signs out: the session ends, and the clients of it are to be told. A login that is unknown is none to end.
// One round trip.
func (db *DB) EndLogin(ctx context.Context, hash []byte) error {
	batch := &pgx.Batch{}
	batch.Queue(lockLoginSQL, hash)
	batch.Queue(endLoginSQL, hash)
	return db.pool.SendBatch(ctx, batch).Close()
}
