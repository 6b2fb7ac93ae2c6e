package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Login is a customer's browser session.
type Login struct {
	CustomerID uuid.UUID
	AuthTime   time.Time
	ACR        string // "" while the second factor is due
	AMR        []string
	ExpiresAt  time.Time
	FactorAt   *time.Time // when the second factor was shown; nil for none
	FactorKind string     // which one it was
}

const (
	// Whoever is locked or disabled does not get in, however right the password was: the row is looked at in the statement
	// that lets in, after every attempt that was counted before. Only a complete login forgets the failures; otherwise a
	// right password would allow another round of guesses at the second factor.
	beginLoginSQL = `
WITH customer AS (
    UPDATE customers SET
        failed_attempts = CASE WHEN $3 = '' THEN failed_attempts ELSE 0 END,
        locked_until = CASE WHEN $3 = '' THEN locked_until END,
        password_hash = CASE WHEN password_hash = $6 THEN $7 ELSE password_hash END
    WHERE id = $2 AND disabled_at IS NULL AND (locked_until IS NULL OR locked_until <= now())
    RETURNING id
)
, event AS (
    INSERT INTO events (id, customer_id, kind, visit, details)
    SELECT $10, id, 'login', $11, jsonb_build_object('amr', $4::text[]) FROM customer WHERE $3 <> ''
)
INSERT INTO logins (hash, customer_id, auth_time, acr, amr, expires_at, session_id, visit)
SELECT $1, c.id, now(), nullif($3, ''), $4, now() + $5,
    coalesce((SELECT o.session_id FROM logins o WHERE o.hash = $8 AND o.customer_id = c.id), gen_random_uuid()), $9
FROM customer c
RETURNING auth_time, expires_at`

	findLoginSQL = `
SELECT l.customer_id, l.auth_time, coalesce(l.acr, ''), l.amr, l.expires_at, l.factor_at, coalesce(l.factor_kind, ''), coalesce(c.locked_until > now(), false),
    c.tenant, c.fineract_client_id, c.roles, c.profile
FROM logins l JOIN customers c ON c.id = l.customer_id
WHERE l.hash = $1 AND l.expires_at > now() AND c.disabled_at IS NULL`

	loginFactorsSQL = `
SELECT ` + factorColumns + `
FROM second_factors f JOIN logins l ON l.customer_id = f.customer_id WHERE l.hash = $1 ORDER BY f.kind`

	// The proof first: a code is used up whatever comes of it, and one that was used before changes nothing.
	completeLoginSQL = `, customer AS (
    UPDATE customers c SET failed_attempts = 0, locked_until = NULL
    FROM factor
    WHERE c.id = factor.customer_id AND c.disabled_at IS NULL AND (c.locked_until IS NULL OR c.locked_until <= now())
    RETURNING c.id, factor.auth_time, factor.session_id
), event AS (
    INSERT INTO events (id, customer_id, kind, visit, details)
    SELECT $7, id, 'login', $8, jsonb_build_object('amr', $4::text[]) FROM customer
)
INSERT INTO logins (hash, customer_id, auth_time, acr, amr, expires_at, session_id, visit, factor_at, factor_kind)
SELECT $2, id, auth_time, $3, $4, now() + $5, session_id, $6, now(), $9 FROM customer
RETURNING customer_id, auth_time, expires_at, factor_at`

	// halfLoginSQL is the login that a proof goes on from. Proofs begin with it.
	halfLoginSQL = `
WITH login AS (
    SELECT customer_id, auth_time, session_id FROM logins WHERE hash = $1 AND expires_at > now()
)`
)

// NewLogin is what a step of authentication leads to. Every step makes a new login, with a new cookie: one that somebody
// knew or planted before the step is worth nothing after it.
type NewLogin struct {
	Hash     []byte // SHA-256 of the new cookie
	Replaces []byte // hash of the login before, which ends; nil for none
	ACR      string // "" while the second factor is due
	AMR      []string
	Lifetime time.Duration
	Visit    Visit

	FactorKind string // of the second factor that was shown, "" for none
}

// Proof is a second factor that was shown. Its statement uses it up, so that it proves something once.
type Proof interface {
	// useUp is halfLoginSQL and common table expressions after it, of which "factor" has one row if the proof still holds: the
	// customer_id, auth_time and session_id of the login. Its arguments are $10 and on.
	useUp(*DB) (sql string, args []any)
}

// NewPasswordHash replaces a hash that was made with outdated parameters.
type NewPasswordHash struct{ Old, New string }

// BeginLogin makes the login of a customer whose password was right. It returns ErrNotFound, and changes nothing, if the
// customer is locked or disabled.
func (db *DB) BeginLogin(ctx context.Context, customer uuid.UUID, n NewLogin, upgrade *NewPasswordHash) (*Login, error) {
	if upgrade == nil {
		upgrade = &NewPasswordHash{}
	}
	visit, event, eventVisit, err := db.sealVisit(n)
	if err != nil {
		return nil, err
	}
	l := &Login{CustomerID: customer, ACR: n.ACR, AMR: n.AMR}
	batch := &pgx.Batch{}
	batch.Queue(beginLoginSQL, n.Hash, [16]byte(customer), n.ACR, n.AMR, n.Lifetime, upgrade.Old, upgrade.New, n.Replaces, visit, event, eventVisit)
	return l, db.replaceLogin(ctx, batch, n, &l.AuthTime, &l.ExpiresAt)
}

// CompleteLogin makes the login of a customer who has shown a second factor too: a confirmed one, or one that is
// confirmed thereby. AuthTime stays that of the password: the login is as fresh as its older half. It returns ErrNotFound
// if the login it replaces has ended, the proof was used before or its factor has changed, or the customer is locked or
// disabled.
func (db *DB) CompleteLogin(ctx context.Context, p Proof, n NewLogin) (*Login, error) {
	visit, event, eventVisit, err := db.sealVisit(n)
	if err != nil {
		return nil, err
	}
	sql, args := p.useUp(db)
	l := &Login{ACR: n.ACR, AMR: n.AMR, FactorKind: n.FactorKind}
	batch := &pgx.Batch{}
	batch.Queue(sql+completeLoginSQL, append([]any{n.Replaces, n.Hash, n.ACR, n.AMR, n.Lifetime, visit, event, eventVisit, n.FactorKind}, args...)...)
	return l, db.replaceLogin(ctx, batch, n, (*[16]byte)(&l.CustomerID), &l.AuthTime, &l.ExpiresAt, &l.FactorAt)
}

// sealVisit seals where a login comes from, once for its row and once for the event that remembers it.
func (db *DB) sealVisit(n NewLogin) (visit []byte, event [16]byte, eventVisit []byte, err error) {
	event = NewID()
	if visit, err = db.sealedVisit(n.Hash, n.Visit); err == nil {
		eventVisit, err = db.sealedVisit(event[:], n.Visit)
	}
	return visit, event, eventVisit, err
}

func (db *DB) replaceLogin(ctx context.Context, batch *pgx.Batch, n NewLogin, made ...any) error {
	if n.Replaces != nil {
		batch.Queue(replaceLoginSQL, n.Replaces, n.Hash)
	}
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	if err := results.QueryRow().Scan(made...); err != nil {
		return notFound(err)
	}
	return results.Close()
}

// Visitor is a login with what its next step needs.
type Visitor struct {
	Login
	Customer Customer
	Locked   bool
	Factors  []SecondFactor
}

// Confirmed returns the factors that the customer may use.
func (v *Visitor) Confirmed() (usable []*SecondFactor) {
	for i := range v.Factors {
		if v.Factors[i].Confirmed {
			usable = append(usable, &v.Factors[i])
		}
	}
	return usable
}

// Begun returns the factor of a kind that this login is enrolling, or nil.
func (v *Visitor) Begun(kind string) *SecondFactor {
	for i := range v.Factors {
		if f := &v.Factors[i]; !f.Confirmed && f.Kind == kind {
			return f
		}
	}
	return nil
}

// FindLogin finds whose login it is. It returns ErrNotFound for one that is unknown or has expired, and for a disabled
// customer's.
func (db *DB) FindLogin(ctx context.Context, hash []byte) (*Visitor, error) {
	batch := &pgx.Batch{}
	batch.Queue(findLoginSQL, hash)
	batch.Queue(loginFactorsSQL, hash)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()

	v := &Visitor{Customer: Customer{keys: db.Keys()}}
	c := &v.Customer
	err := results.QueryRow().Scan((*[16]byte)(&v.CustomerID), &v.AuthTime, &v.ACR, &v.AMR, &v.ExpiresAt, &v.FactorAt, &v.FactorKind, &v.Locked,
		&c.Tenant, &c.FineractClientID, &c.Roles, &c.sealedProfile)
	if err != nil {
		return nil, notFound(err)
	}
	c.ID = v.CustomerID
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	factors, err := pgx.CollectRows(rows, scanFactor)
	if err != nil {
		return nil, err
	}
	v.Factors, err = db.openFactors(factors, hash)
	return v, err
}
