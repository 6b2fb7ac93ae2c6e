package storage

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Kinds of second factors.
const TOTP = "totp" // RFC 6238

// SecondFactor is what a customer has besides the password.
type SecondFactor struct {
	ID        uuid.UUID
	Kind      string
	Confirmed bool
	LastStep  int64  // of the last code that was taken
	Secret    []byte // opened

	sealed []byte
}

const (
	factorPurpose = "second_factors.secret"

	factorColumns = `f.id, f.kind, f.confirmed_at IS NOT NULL, f.last_step, f.secret`

	beginFactorSQL = `
INSERT INTO second_factors AS f (id, customer_id, kind, secret)
VALUES ($1, $2, $3, $4)
ON CONFLICT (customer_id, kind) DO UPDATE SET id = EXCLUDED.id, secret = EXCLUDED.secret, last_step = 0, created_at = now()
WHERE f.confirmed_at IS NULL`

	removeFactorsSQL = `DELETE FROM second_factors WHERE customer_id = $1`
)

func scanFactor(row pgx.CollectableRow) (f SecondFactor, err error) {
	err = row.Scan((*[16]byte)(&f.ID), &f.Kind, &f.Confirmed, &f.LastStep, &f.sealed)
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

// RemoveFactors forgets a customer's second factors and devices, of a lost telephone say, and ends all logins. It returns ErrNotFound
// when there is none.
func (db *DB) RemoveFactors(ctx context.Context, customer uuid.UUID) error {
	return db.changeCustomer(ctx, customer, removeFactorsSQL, removeDevicesSQL, lockLoginsSQL, endLoginsSQL)
}
