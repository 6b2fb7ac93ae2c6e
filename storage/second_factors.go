package storage

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Kinds of second factors.
const (
	TOTP          = "totp"           // RFC 6238: the key
	RecoveryCodes = "recovery_codes" // written down by the customer
	Passkey       = "passkey"        // WebAuthn: a credential
	EmailFactor   = "email"          // where codes go to
	SMSFactor     = "sms"
)

// SecondFactor is what a customer has besides the password.
type SecondFactor struct {
	ID         uuid.UUID
	Kind       string
	Name       string // by which the customer knows it
	Confirmed  bool
	LastStep   int64  // of the last code that was taken
	Secret     []byte // opened; what it is, the kind says
	CreatedAt  time.Time
	LastUsedAt *time.Time

	sealed []byte
}

const (
	factorPurpose = "second_factors.secret"

	factorColumns = `f.id, f.kind, f.name, f.confirmed_at IS NOT NULL, f.last_step, f.secret, f.created_at, f.last_used_at`

	beginFactorSQL = `
INSERT INTO second_factors AS f (id, customer_id, kind, secret)
VALUES ($1, $2, $3, $4)
ON CONFLICT (customer_id, kind) WHERE kind <> 'passkey' DO UPDATE SET id = EXCLUDED.id, secret = EXCLUDED.secret, last_step = 0, created_at = now()
WHERE f.confirmed_at IS NULL`

	advanceFactorSQL = halfLoginSQL + `, factor AS (
    UPDATE second_factors f SET last_step = $11, last_used_at = now()
    FROM login
    WHERE f.id = $10 AND f.customer_id = login.customer_id AND f.confirmed_at IS NOT NULL AND f.last_step < $11
    RETURNING f.customer_id, login.auth_time, login.session_id
)`

	// A factor that was begun anew has another id, so it is the secret whose code was checked.
	confirmFactorSQL = halfLoginSQL + `, factor AS (
    UPDATE second_factors f SET confirmed_at = now(), last_step = $11, secret = $12, last_used_at = now()
    FROM login
    WHERE f.id = $10 AND f.customer_id = login.customer_id AND f.confirmed_at IS NULL
    RETURNING f.customer_id, login.auth_time, login.session_id
)`

	changeSecretSQL = halfLoginSQL + `, factor AS (
    UPDATE second_factors f SET secret = $12, last_used_at = now()
    FROM login
    WHERE f.id = $10 AND f.customer_id = login.customer_id AND f.confirmed_at IS NOT NULL AND f.secret = $11
    RETURNING f.customer_id, login.auth_time, login.session_id
)`

	setFactorSQL = `
INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at)
VALUES ($1, $2, $3, $4, now())
ON CONFLICT (customer_id, kind) WHERE kind <> 'passkey' DO UPDATE SET id = EXCLUDED.id, secret = EXCLUDED.secret, last_step = 0,
    created_at = now(), confirmed_at = now(), last_used_at = NULL`

	removeFactorsSQL = `DELETE FROM second_factors WHERE customer_id = $1`
)

func scanFactor(row pgx.CollectableRow) (f SecondFactor, err error) {
	err = row.Scan((*[16]byte)(&f.ID), &f.Kind, &f.Name, &f.Confirmed, &f.LastStep, &f.sealed, &f.CreatedAt, &f.LastUsedAt)
	return f, err
}

// begunRow is where a secret is sealed until it is confirmed: only the login that began the enrolment can open it.
// Whoever else knows the password neither sees the secret that the customer is about to confirm nor has theirs confirmed.
func begunRow(id uuid.UUID, loginHash []byte) []byte { return append(id[:], loginHash...) }

// openFactors opens the secrets; what another login has begun is left out.
func (db *DB) openFactors(factors []SecondFactor, loginHash []byte) ([]SecondFactor, error) {
	for i := range factors {
		f := &factors[i]
		row := f.ID[:]
		if !f.Confirmed {
			row = begunRow(f.ID, loginHash)
		}
		var err error
		if f.Secret, err = db.Keys().Open(factorPurpose, row, f.sealed); err != nil && f.Confirmed {
			return nil, err
		}
	}
	return slices.DeleteFunc(factors, func(f SecondFactor) bool { return f.Secret == nil }), nil
}

// BeginFactor stores a secret that CompleteLogin will confirm, in place of one of that kind that was never confirmed. It
// returns ErrConflict if the customer has a confirmed one.
func (db *DB) BeginFactor(ctx context.Context, customer uuid.UUID, loginHash []byte, kind string, secret []byte) (*SecondFactor, error) {
	f := &SecondFactor{ID: NewID(), Kind: kind, Secret: secret}
	f.sealed = db.Keys().Seal(factorPurpose, begunRow(f.ID, loginHash), secret)
	tag, err := db.pool.Exec(ctx, beginFactorSQL, [16]byte(f.ID), [16]byte(customer), kind, f.sealed)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrConflict
	}
	return f, err
}

// CountedCode is a Proof by a code of a factor that counts: a time step (RFC 6238). Each count is taken once. A factor that
// was only begun is confirmed by it.
type CountedCode struct {
	Factor *SecondFactor
	Step   int64
}

func (c CountedCode) useUp(db *DB) (string, []any) {
	f := c.Factor
	if f.Confirmed {
		return advanceFactorSQL, []any{[16]byte(f.ID), c.Step}
	}
	return confirmFactorSQL, []any{[16]byte(f.ID), c.Step, db.Keys().Seal(factorPurpose, f.ID[:], f.Secret)}
}

// ChangedSecret is a Proof by a factor whose secret becomes another one thereby: a list of codes without the one that was used, a
// counter. Of two that were made of the same secret one holds.
type ChangedSecret struct {
	Factor *SecondFactor
	Secret []byte
}

func (c ChangedSecret) useUp(db *DB) (string, []any) {
	f := c.Factor
	return changeSecretSQL, []any{[16]byte(f.ID), f.sealed, db.Keys().Seal(factorPurpose, f.ID[:], c.Secret)}
}

// SetFactor gives a customer a confirmed factor of a kind of which there is one, in place of the one that was there, and remembers
// the events. id is the row's: a secret may depend on it. One round trip.
func (db *DB) SetFactor(ctx context.Context, id, customer uuid.UUID, kind string, secret []byte, events ...Event) error {
	batch := &pgx.Batch{}
	batch.Queue(setFactorSQL, [16]byte(id), [16]byte(customer), kind, db.Keys().Seal(factorPurpose, id[:], secret))
	for _, e := range events {
		if err := db.queueEvent(batch, e); err != nil {
			return err
		}
	}
	return db.pool.SendBatch(ctx, batch).Close()
}

// RemoveFactors forgets a customer's second factors and devices, of a lost telephone say, and ends all logins. It returns ErrNotFound
// when there is none.
func (db *DB) RemoveFactors(ctx context.Context, customer uuid.UUID) error {
	return db.changeCustomer(ctx, customer, removeFactorsSQL, removeDevicesSQL, lockLoginsSQL, endLoginsSQL)
}
