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
	// Whoever is blocked or disabled does not get in, however right the password was: that is looked at in the statement
	// that lets in, after every attempt that was counted before. It does not forget the failures; otherwise a
	// right password would allow another round of guesses at the second factor.
	beginLoginSQL = `
WITH proven AS (
    SELECT id FROM customers WHERE id = $2 AND disabled_at IS NULL FOR NO KEY UPDATE
), counted AS (
    SELECT $13::bytea AS bucket FROM proven WHERE $13 IS NOT NULL
), gate AS (` + gateSQL + `
), customer AS (
    SELECT id FROM proven WHERE EXISTS (SELECT 1 FROM gate) OR $13 IS NULL
), upgraded AS (
    UPDATE customers SET password_hash = $7 FROM customer WHERE customers.id = customer.id AND password_hash = $6
), event AS (
    INSERT INTO events (id, customer_id, kind, visit, details)
    SELECT $10, id, 'login', $11, jsonb_build_object('amr', $4::text[]) FROM customer WHERE $3 <> ''
)
INSERT INTO logins (hash, customer_id, auth_time, acr, amr, expires_at, session_id, visit, bucket)
SELECT $1, c.id, coalesce($12, now()), nullif($3, ''), $4, now() + $5,
    coalesce((SELECT o.session_id FROM logins o WHERE o.hash = $8 AND o.customer_id = c.id), gen_random_uuid()), $9, $13
FROM customer c
RETURNING auth_time, expires_at`

	findLoginSQL = `
SELECT l.customer_id, l.auth_time, coalesce(l.acr, ''), l.amr, l.expires_at, l.factor_at, coalesce(l.factor_kind, ''),
    coalesce(b.blocked_until - now(), interval '0'), b.bucket, l.recovery IS NOT NULL, c.tenant, c.fineract_client_id, c.roles, c.profile
FROM logins l JOIN customers c ON c.id = l.customer_id
    CROSS JOIN LATERAL (SELECT coalesce(l.bucket, ` + unknownBrowsers + `c.username_index)) AS bucket) counted
    CROSS JOIN LATERAL (
        SELECT counted.bucket, (SELECT o.blocked_until FROM limits o WHERE o.bucket = counted.bucket AND o.blocked_until > now()) AS blocked_until
    ) b
WHERE l.hash = $1 AND l.expires_at > now() AND c.disabled_at IS NULL`

	loginFactorsSQL = `
SELECT ` + factorColumns + `
FROM second_factors f JOIN logins l ON l.customer_id = f.customer_id WHERE l.hash = $1 ORDER BY f.kind`

	// The proof first: a code is used up whatever comes of it, and one that was used before changes nothing. A proof that goes on from
	// no login, as its auth_time tells, cannot be guessed, and is not held up by those who guess.
	//
	// A login that stands for a new password sets it, unless another was set meanwhile. What proves that the mailbox is the customer's,
	// as its code has, is no second factor then. Browsers in which the old password was known are not known any more.
	completeLoginSQL = `, proven AS (
    SELECT c.id, c.username_index, factor.auth_time, factor.session_id, r.hash AS recovery, r.new_password, r.notice_id, r.notice
    FROM factor JOIN customers c ON c.id = factor.customer_id
        LEFT JOIN logins o ON o.hash = $1 AND o.customer_id = c.id AND o.auth_time = factor.auth_time LEFT JOIN recoveries r ON r.hash = o.recovery
    WHERE c.disabled_at IS NULL AND (o.recovery IS NULL OR r.new_password IS NOT NULL AND $9 <> '` + EmailFactor + `' AND ` + stillReplaces + `r.replaces)
    FOR NO KEY UPDATE OF c
), counted AS (
    SELECT coalesce(o.bucket, ` + unknownBrowsers + `proven.username_index)) AS bucket
    FROM proven JOIN logins o ON o.hash = $1 AND o.customer_id = proven.id AND o.auth_time = proven.auth_time
), gate AS (` + gateSQL + `
), customer AS (
    SELECT proven.*, (SELECT bucket FROM gate) AS bucket FROM proven
    WHERE EXISTS (SELECT 1 FROM gate) OR NOT EXISTS (SELECT 1 FROM counted)
), recovered AS (
    UPDATE customers SET password_hash = customer.new_password FROM customer
    WHERE customers.id = customer.id AND customer.recovery IS NOT NULL RETURNING customers.id, customer.notice_id, customer.notice
), noted AS (
    INSERT INTO events (id, customer_id, kind, details) SELECT gen_random_uuid(), id, 'recovery.completed', jsonb_build_object('factor', $9::text) FROM recovered
), told AS (
    INSERT INTO notifications (id, kind, client_id, about, payload)
    SELECT notice_id, '` + MessageNotification + `', '', '{}', notice FROM recovered WHERE notice IS NOT NULL
), forgotten AS (
    DELETE FROM limits l USING recovered WHERE l.customer_id = recovered.id
), event AS (
    INSERT INTO events (id, customer_id, kind, visit, details)
    SELECT $7, id, 'login', $8, jsonb_build_object('amr', $4::text[]) FROM customer
)
INSERT INTO logins (hash, customer_id, auth_time, acr, amr, expires_at, session_id, visit, factor_at, factor_kind, bucket)
SELECT $2, id, auth_time, $3, $4, now() + $5, session_id, $6, now(), $9, bucket FROM customer
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

	FactorKind string     // of the second factor that was shown, "" for none
	AuthTime   *time.Time // of a login at another provider, for BeginLogin; nil: now
	Bucket     []byte     // for BeginLogin: Credentials.Bucket; nil when nothing was typed that can be guessed
	Recovers   bool       // for CompleteLogin: as the Visitor has it
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
// customer is blocked or disabled.
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
	batch.Queue(beginLoginSQL, n.Hash, [16]byte(customer), n.ACR, n.AMR, n.Lifetime, upgrade.Old, upgrade.New, n.Replaces, visit, event, eventVisit, n.AuthTime, n.Bucket)
	return l, db.replaceLogin(ctx, batch, n, &l.AuthTime, &l.ExpiresAt)
}

// CompleteLogin makes the login of a customer who has shown a second factor too: a confirmed one, or one that is
// confirmed thereby. AuthTime stays that of the password: the login is as fresh as its older half. It returns ErrNotFound
// if the login it replaces has ended, the proof was used before or its factor has changed, or the customer is blocked or
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
	if n.ACR != "" {
		batch.Queue(rememberBrowserSQL, n.Hash, n.Visit.browser())
	}
	if n.Recovers {
		batch.Queue(lockReplacedSQL, n.Replaces)
	}
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
	Factors  []SecondFactor

	Bucket []byte        // where attempts at the next step are counted
	Wait   time.Duration // until one gets a verdict

	Recovers bool // the login stands for a new password, which counts once it is complete

	From Visit // where they are now, for those who know; no part of the login
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
	err := results.QueryRow().Scan((*[16]byte)(&v.CustomerID), &v.AuthTime, &v.ACR, &v.AMR, &v.ExpiresAt, &v.FactorAt, &v.FactorKind,
		&v.Wait, &v.Bucket, &v.Recovers, &c.Tenant, &c.FineractClientID, &c.Roles, &c.sealedProfile)
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
