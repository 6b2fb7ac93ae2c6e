package storage

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	credentialPurpose = "second_factors.credential"
	userHandlePurpose = "passkeys.user_handle"

	// The challenge is used up whatever comes of it. A memory younger than the one it was made under may have forgotten it.
	useChallengeSQL = `, used AS (
    INSERT INTO used_jtis (hash, expires_at) SELECT $11::bytea, $12::timestamptz FROM replay_memory WHERE since <= $13
    ON CONFLICT (hash) DO NOTHING
    RETURNING hash
)`

	// The counter grows, or there is none (WebAuthn §7.2 step 22). Of two copies of a key that count alike only one gets in.
	countsOnSQL = `(f.last_step < $14 OR $14 = 0 AND f.last_step = 0)`

	assertPasskeySQL = useChallengeSQL + `, factor AS (
    UPDATE second_factors f SET last_step = $14, secret = $15, last_used_at = now()
    FROM login, used
    WHERE f.id = $10 AND f.customer_id = login.customer_id AND f.confirmed_at IS NOT NULL AND ` + countsOnSQL + `
    RETURNING f.customer_id, login.auth_time, login.session_id
)`

	// A passkey alone is both factors: the login begins with it, in the session that the customer has in this browser.
	passkeyLoginSQL = `
WITH login AS (
    SELECT f.customer_id, now() AS auth_time,
        coalesce((SELECT o.session_id FROM logins o WHERE o.hash = $1 AND o.customer_id = f.customer_id), gen_random_uuid()) AS session_id
    FROM second_factors f WHERE f.id = $10
)` + assertPasskeySQL

	// A first factor rests on the password alone. Once there is one, the password does not do for another.
	newPasskeySQL = halfLoginSQL + useChallengeSQL + `, factor AS (
    INSERT INTO second_factors (id, customer_id, kind, name, confirmed_at, last_used_at, last_step, secret, credential_index)
    SELECT $10, login.customer_id, 'passkey', $16, now(), now(), $14, $15, $17 FROM login, used
    WHERE $18 OR NOT EXISTS (SELECT 1 FROM second_factors f WHERE f.customer_id = login.customer_id AND f.confirmed_at IS NOT NULL)
    ON CONFLICT DO NOTHING
    RETURNING customer_id, (SELECT auth_time FROM login), (SELECT session_id FROM login)
)`

	usePasskeySQL = `
UPDATE second_factors f SET last_step = $3, secret = $4, last_used_at = now()
FROM customers c
WHERE f.id = $1 AND f.customer_id = $2 AND f.confirmed_at IS NOT NULL AND (f.last_step < $3 OR $3 = 0 AND f.last_step = 0)
  AND c.id = f.customer_id AND c.disabled_at IS NULL
RETURNING f.last_used_at`

	// One event a day: whoever holds the copy cannot fill the table.
	copiedPasskeySQL = `
WITH changed AS (
    SELECT customer_id FROM second_factors WHERE customer_id = $7 AND id = $8
      AND NOT EXISTS (SELECT 1 FROM events e WHERE e.customer_id = $7 AND e.kind = $2 AND e.at > now() - interval '1 day')
)`

	findPasskeySQL = `
SELECT ` + factorColumns + `, f.customer_id
FROM second_factors f JOIN customers c ON c.id = f.customer_id
WHERE f.credential_index = $1 AND c.tenant = $2 AND c.disabled_at IS NULL AND f.confirmed_at IS NOT NULL`
)

// Assertion is a Proof by a passkey that the customer has besides the password: it answered a challenge, which is used up.
// The factor is as it is afterwards, with the counter of the assertion as LastStep.
type Assertion struct {
	Factor    *SecondFactor
	Challenge Use
}

func (p Assertion) useUp(db *DB) (string, []any) { return halfLoginSQL + assertPasskeySQL, p.args(db) }

func (p Assertion) args(db *DB) []any {
	f, use := p.Factor, p.Challenge
	return []any{[16]byte(f.ID), use.Hash[:], use.ExpiresAt, use.remembered(), f.LastStep, db.sealFactor(f)}
}

// LoneAssertion is a Proof by a passkey without a password: no login was there before.
type LoneAssertion Assertion

func (p LoneAssertion) useUp(db *DB) (string, []any) { return passkeyLoginSQL, Assertion(p).args(db) }

// NewPasskey is a Proof by one that the customer has just made. It is refused if somebody has a credential of that id.
type NewPasskey struct {
	Assertion
	CredentialID []byte
	Another      bool // of a customer who has a second factor, and has shown it
}

func (p NewPasskey) useUp(db *DB) (string, []any) {
	return newPasskeySQL, append(p.args(db), p.Factor.Name, db.credentialIndex(p.CredentialID), p.Another)
}

func (db *DB) sealFactor(f *SecondFactor) []byte {
	return db.Keys().Seal(factorPurpose, f.ID[:], f.Secret)
}

func (db *DB) credentialIndex(id []byte) []byte { return db.Keys().Index(credentialPurpose, id) }

// UserHandle is what authenticators know a customer by (WebAuthn §5.4.3): 32 bytes that nobody else can tell from random
// ones. It is not the customer's id, which clients see.
func (db *DB) UserHandle(customer uuid.UUID) []byte {
	return db.Keys().Index(userHandlePurpose, customer[:])
}

// UsePasskey uses up the challenge that a customer's passkey has answered, outside of a login. It returns ErrAlreadyUsed for
// a challenge that was used before, and ErrNotFound if the counter has not grown, the passkey is gone, or the customer is locked
// or disabled. One round trip.
func (db *DB) UsePasskey(ctx context.Context, customer uuid.UUID, p Assertion) error {
	f := p.Factor
	var usedAt time.Time
	err := db.once(ctx, []Use{p.Challenge}, func(row pgx.Row) error { return row.Scan(&usedAt) },
		usePasskeySQL, [16]byte(f.ID), [16]byte(customer), f.LastStep, db.sealFactor(f))
	if err == nil {
		f.LastUsedAt = &usedAt
	}
	return err
}

// PasskeyCopied remembers that there may be a copy of a passkey, once a day. One round trip.
func (db *DB) PasskeyCopied(ctx context.Context, id uuid.UUID, e Event) error {
	err := db.changeOwn(ctx, e, nil, "", copiedPasskeySQL, [16]byte(id))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// PasskeyOwner is whose passkey it is.
type PasskeyOwner struct {
	CustomerID uuid.UUID
	Factor     SecondFactor
}

// FindPasskey finds a passkey by its credential id. It returns ErrNotFound for one that nobody has, or whose customer is
// disabled. One round trip.
func (db *DB) FindPasskey(ctx context.Context, tenant string, credentialID []byte) (*PasskeyOwner, error) {
	o := &PasskeyOwner{}
	f := &o.Factor
	err := db.pool.QueryRow(ctx, findPasskeySQL, db.credentialIndex(credentialID), tenant).
		Scan((*[16]byte)(&f.ID), &f.Kind, &f.Name, &f.Confirmed, &f.LastStep, &f.sealed, &f.CreatedAt, &f.LastUsedAt, (*[16]byte)(&o.CustomerID))
	if err != nil {
		return nil, notFound(err)
	}
	f.Secret, err = db.Keys().Open(factorPurpose, f.ID[:], f.sealed)
	return o, err
}
