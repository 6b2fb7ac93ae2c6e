package storage

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Kinds of notifications that CIBA has.
const (
	CIBANotification     = "ciba"     // tells a client of the outcome; its id is the authorization's
	ApprovalNotification = "approval" // tells a customer that there is something to decide; it is about an ApprovalWanted
)

// ApprovalWanted is what an ApprovalNotification is about: a request, or a transaction.
type ApprovalWanted struct {
	AuthorizationID uuid.UUID `json:"authorization_id,omitzero"`
	TransactionID   uuid.UUID `json:"transaction_id,omitzero"`
	Revision        int       `json:"revision,omitzero"` // of the transaction
	CustomerID      uuid.UUID `json:"customer_id"`
}

// Why a customer is not asked.
var (
	ErrUnknownCustomer = errors.New("storage: no such customer")
	ErrNoUserCode      = errors.New("storage: the customer has a user code, the request has none")
	ErrWrongUserCode   = errors.New("storage: not the customer's user code, or too many were wrong")
	ErrMuted           = errors.New("storage: the customer does not want to be asked by the client")
	ErrTooManyOpen     = errors.New("storage: too many requests wait for the customer")
	ErrBeingAsked      = errors.New("storage: a request about the same consent waits for the customer")
)

// Hinted is a customer as a client names them: by their ID, or by what may be a user name, an email address or a phone number.
// It names somebody if exactly one customer of the tenant has it, and has shown that an address is theirs.
type Hinted struct {
	Tenant   string
	Username string    // the form it is looked up by
	Contact  string    // an email address or a phone number; "" for neither
	ID       uuid.UUID // uuid.Nil when the others say it
}

// Backchannel is what a CIBA request adds to a polled one.
type Backchannel struct {
	Polling
	Customer  Hinted
	Notify    bool   // the client is told of the outcome
	AsksCode  bool   // the client asks customers for their user codes
	UserCode  string // what the customer said to the client; "" for nothing
	MaxOpen   int    // requests that may wait for one customer
	CodeLimit CodeLimit
	Guesses   Bucket // in which the client's wrong user codes count, whoever the customers are; zero: in none
	Notices   Bucket // in which it counts that a customer is told, its key one for all: one more waits in the list without; zero: in none
}

// CodeLimit bounds wrong user codes: after so many in a window none is right, until the last wrong one is that old.
type CodeLimit struct {
	Failures int
	Window   time.Duration
}

const userCodePurpose = "customers.user_code"

const (
	// Whoever asks the same customer waits: a hundred requests at once are a hundred, and a hundred guesses too.
	lockHintedSQL = `
SELECT 1 FROM customers c
WHERE c.tenant = $1 AND (c.username_index = $2 OR c.id = $3 OR c.email_index = $4 AND c.email_verified OR c.phone_index = $5 AND c.phone_verified)
ORDER BY c.id FOR NO KEY UPDATE`

	// In this order: who does not have the user code learns nothing else.
	pushBackchannelSQL = `
WITH hinted AS (
    SELECT c.id, CASE
        WHEN c.disabled_at IS NOT NULL OR count(*) OVER () > 1 THEN 'unknown'
        WHEN $18 AND c.user_code_hash IS NOT NULL AND $19::bytea IS NULL THEN 'no_code'
        WHEN $18 AND $19 IS NOT NULL AND (c.user_code_failures >= $21 AND c.user_code_failed_at > now() - $22::interval
            OR EXISTS (SELECT 1 FROM limits l WHERE l.bucket = $26 AND l.blocked_until > now())) THEN 'locked'
        WHEN $18 AND $19 IS NOT NULL AND c.user_code_hash IS DISTINCT FROM sha256($19 || uuid_send(c.id)) THEN 'wrong_code'
        WHEN EXISTS (SELECT 1 FROM muted_clients m WHERE m.customer_id = c.id AND m.client_id = $2 AND m.until > now()) THEN 'muted'
        WHEN (SELECT count(*) FROM authorizations o WHERE o.for_customer_id = c.id AND o.status = 'pending' AND o.expires_at > now()) >= $20 THEN 'too_many'
        WHEN EXISTS (SELECT 1 FROM authorizations o WHERE o.for_customer_id = c.id AND o.consent_id = $5 AND o.status = 'pending' AND o.expires_at > now()) THEN 'asked'
        ELSE 'ask' END AS verdict
    FROM customers c
    WHERE c.tenant = $15 AND (c.username_index = $16 OR c.id = $17 OR c.email_index = $24 AND c.email_verified OR c.phone_index = $25 AND c.phone_verified)
), counted AS (
    UPDATE customers c SET user_code_failed_at = CASE h.verdict WHEN 'wrong_code' THEN now() END,
        user_code_failures = CASE WHEN h.verdict <> 'wrong_code' THEN 0 WHEN c.user_code_failed_at > now() - $22 THEN c.user_code_failures + 1 ELSE 1 END
    FROM hinted h WHERE c.id = h.id AND (h.verdict = 'wrong_code' OR h.verdict = 'ask' AND $18 AND c.user_code_failures > 0)
), b0 AS (
    SELECT 1 FROM hinted WHERE verdict = 'wrong_code' AND $26::bytea IS NOT NULL
)$guess, pushed AS (
    INSERT INTO authorizations (id, client_id, request, scopes, consent_id, authenticated_after, acr_required,
        request_uri_hash, request_uri_expires_at, opened_at, expires_at, code_expires_at, code_hash, poll_interval, terms, grant_action, grant_id, for_customer_id)
    SELECT $1, $2, $3, $4, nullif($5, ''), $6, nullif($7, ''), $8, now() + $9::interval, now(), now() + $9, now() + $9, $10, $11, $12, nullif($13, ''), $14, h.id
    FROM hinted h
    WHERE h.verdict = 'ask' AND ($5 = '' OR EXISTS (SELECT 1 FROM consents k WHERE k.id = $5 AND k.client_id = $2
        AND k.status IN ('AwaitingAuthorisation', 'Authorised') AND (k.expires_at IS NULL OR k.expires_at > now())
        AND (k.customer_id IS NULL OR k.customer_id = h.id)))
      AND ($14::uuid IS NULL OR EXISTS (SELECT 1 FROM grants g WHERE g.id = $14 AND g.client_id = $2 AND g.customer_id = h.id AND g.managed AND g.revoked_at IS NULL))
    RETURNING id, client_id, for_customer_id, created_at, expires_at
), outcome AS (
    INSERT INTO notifications (id, kind, client_id, about, due_at) SELECT id, 'ciba', client_id, '{}', expires_at FROM pushed WHERE $23
), b2 AS (
    SELECT for_customer_id FROM pushed WHERE $31::bytea IS NOT NULL
)$notice, asked AS (
    INSERT INTO notifications (kind, client_id, about)
    SELECT 'approval', client_id, jsonb_build_object('authorization_id', id, 'customer_id', for_customer_id) FROM pushed
    WHERE $31 IS NULL OR EXISTS (SELECT 1 FROM b3)
)
SELECT h.verdict, p.created_at, h.id FROM hinted h LEFT JOIN pushed p ON true`
)

// limitedBackchannelSQL counts wrong user codes and notices in their buckets.
var limitedBackchannelSQL = strings.NewReplacer(
	"$guess", attemptInto(0, "$26", 27), "$notice", attemptInto(2, "sha256($31 || uuid_send(for_customer_id))", 32),
).Replace(pushBackchannelSQL)

// verdicts are the errors that a verdict of the statement stands for.
var verdicts = map[string]error{
	"unknown": ErrUnknownCustomer, "muted": ErrMuted, "no_code": ErrNoUserCode, "wrong_code": ErrWrongUserCode, "locked": ErrWrongUserCode,
	"too_many": ErrTooManyOpen, "asked": ErrBeingAsked,
}

// PushBackchannel stores a CIBA request for the customer whom its client names, and sets ForCustomer and CreatedAt: in one
// transaction with the identifiers it uses up, with the notification that will tell the client of the outcome, and with the one
// that tells the customer. Nobody is asked when it returns an error: one of those above, ErrNotFound when the consent or the
// grant it names is not usable, or ErrAlreadyUsed. One round trip.
func (db *DB) PushBackchannel(ctx context.Context, uses []Use, a *Authorization, b Backchannel) error {
	var index, email, phone, code []byte
	if h := b.Customer; h.ID == uuid.Nil {
		index, email, phone = db.usernameIndex(h.Tenant, h.Username), db.emailIndex(h.Tenant, h.Contact), db.phoneIndex(h.Tenant, h.Contact)
	}
	if b.UserCode != "" {
		code = db.userCode(b.UserCode)
	}
	batch := &pgx.Batch{}
	queueUses(batch, uses)
	batch.Queue(lockHintedSQL, b.Customer.Tenant, index, [16]byte(b.Customer.ID), email, phone)
	guess, notice := b.Guesses, b.Notices
	batch.Queue(limitedBackchannelSQL,
		[16]byte(a.ID), a.ClientID, db.Keys().Seal(requestPurpose, a.ID[:], a.Request), a.Scopes, a.ConsentID, a.AuthenticatedAfter, a.ACRRequired,
		a.RequestURIHash, b.Lifetime, b.CodeHash, b.Interval, db.sealedTerms(a), a.GrantAction, namedGrant(a),
		b.Customer.Tenant, index, [16]byte(b.Customer.ID), b.AsksCode, code, b.MaxOpen, b.CodeLimit.Failures, b.CodeLimit.Window, b.Notify, email, phone,
		guess.Key, guess.Limit.Free, guess.Limit.First, max(guess.Limit.First, guess.Limit.Most), guess.Limit.Forget,
		notice.Key, notice.Limit.Free, notice.Limit.First, max(notice.Limit.First, notice.Limit.Most), notice.Limit.Forget)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	for range uses {
		if _, err := results.Exec(); err != nil {
			return replayed(err)
		}
	}
	if _, err := results.Exec(); err != nil {
		return err
	}
	var verdict string
	var created *time.Time
	err := results.QueryRow().Scan(&verdict, &created, (*[16]byte)(&a.ForCustomer))
	if errors.Is(err, pgx.ErrNoRows) {
		return errors.Join(results.Close(), ErrUnknownCustomer)
	}
	if err != nil {
		return err
	}
	if err := results.Close(); err != nil {
		return err
	}
	switch refused := verdicts[verdict]; {
	case refused != nil:
		return refused
	case created == nil:
		return ErrNotFound
	}
	a.CreatedAt = *created
	return nil
}

// userCode is what the database hashes a user code from, with the customer's id. It is keyed: codes are short.
func (db *DB) userCode(code string) []byte { return db.Keys().Index(userCodePurpose, []byte(code)) }

const setUserCodeSQL = `
UPDATE customers SET user_code_hash = sha256($2::bytea || uuid_send(id)), user_code_failures = 0, user_code_failed_at = NULL WHERE id = $1`

// SetUserCode gives a customer a user code, in the place of any they had; "" takes it away. It returns ErrNotFound when there
// is no such customer.
func (db *DB) SetUserCode(ctx context.Context, customer uuid.UUID, code string) error {
	var hashed []byte // of NULL, the hash is NULL
	if code != "" {
		hashed = db.userCode(code)
	}
	tag, err := db.pool.Exec(ctx, setUserCodeSQL, [16]byte(customer), hashed)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrNotFound
	}
	return err
}
