package storage

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Recovery is somebody who has lost their password. It belongs to the browser that asked, and there is one for nobody too: that
// a customer exists must not be read from what is stored, nor from how long that takes.
type Recovery struct {
	Hash         []byte    // SHA-256 of the browser's cookie
	CustomerID   uuid.UUID // uuid.Nil: no code is right
	PasswordHash string    // that is to be replaced: once the customer has another, this is worth nothing
	Bucket       []byte    // Credentials.Bucket
}

const (
	recoveryCodePurpose = "recoveries.code"

	beginRecoverySQL = `
INSERT INTO recoveries (hash, customer_id, code, replaces, bucket, expires_at) VALUES ($1, $2, $3, $4, $5, now() + $6)`

	recoveryMessageSQL = `
INSERT INTO notifications (id, kind, client_id, about, payload)
SELECT $1, '` + MessageNotification + `', '', '{}', $2 WHERE EXISTS (SELECT 1 FROM recoveries WHERE hash = $3 AND customer_id IS NOT NULL)`

	recoveryEventSQL = `
INSERT INTO events (id, customer_id, kind, visit) SELECT $1, customer_id, 'recovery.begun', $2 FROM recoveries WHERE hash = $3 AND customer_id IS NOT NULL`

	// Each look at the code is an attempt, counted before anybody knows how it ends.
	tryRecoverySQL = `
WITH tried AS (
    UPDATE recoveries SET attempts = attempts + 1
    WHERE hash = $1 AND code IS NOT NULL AND expires_at > now() AND attempts < $2 RETURNING code, customer_id
), noted AS (
    INSERT INTO events (id, customer_id, kind, visit)
    SELECT $4, customer_id, 'recovery.refused', $5 FROM tried WHERE customer_id IS NOT NULL AND code <> $3
)
SELECT code, coalesce(customer_id, '00000000-0000-0000-0000-000000000000') FROM tried`

	customerByIDSQL = `SELECT ` + customerColumns + ` FROM customers c WHERE c.id = $1`

	// The new password waits with its recovery for the second factor. The other login of this browser is of no matter: it ends when
	// that is shown.
	continueRecoverySQL = `
WITH used AS (
    UPDATE recoveries SET code = NULL, new_password = $8, notice_id = $9, notice = $10, expires_at = now() + $4
    WHERE hash = $2 AND customer_id = $3 AND code IS NOT NULL AND expires_at > now() RETURNING hash, customer_id, replaces
)
INSERT INTO logins (hash, customer_id, auth_time, amr, expires_at, session_id, visit, bucket, recovery)
SELECT $1, c.id, now(), $5, now() + $4, gen_random_uuid(), $6, $7, used.hash
FROM used JOIN customers c ON c.id = used.customer_id
WHERE c.disabled_at IS NULL AND ` + stillReplaces + `used.replaces`

	stillReplaces = `sha256(convert_to(coalesce(c.password_hash, ''), 'UTF8')) = `

	// Only of a customer who has no second factor; one that is confirmed meanwhile was not shown. What was guessed in vain before does
	// not hold up who got back in, in the browser in which they did; other browsers are not known any more.
	finishRecoverySQL = `
WITH used AS (
    DELETE FROM recoveries WHERE hash = $8 AND customer_id = $7 AND code IS NOT NULL AND expires_at > now() RETURNING customer_id, replaces, bucket
), changed AS (
    UPDATE customers c SET password_hash = $9 FROM used
    WHERE c.id = used.customer_id AND c.disabled_at IS NULL AND ` + stillReplaces + `used.replaces
      AND NOT EXISTS (SELECT 1 FROM second_factors f WHERE f.customer_id = c.id AND f.confirmed_at IS NOT NULL)
    RETURNING c.id AS customer_id
), unblocked AS (
    UPDATE limits l SET attempts = 0, blocked_until = NULL FROM used, changed WHERE l.bucket = used.bucket
), forgotten AS (
    DELETE FROM limits l USING used, changed WHERE l.customer_id = changed.customer_id AND l.bucket <> used.bucket
)`

	endAllAfterSQL = `
WITH ended AS (
    DELETE FROM logins WHERE customer_id = $1 AND EXISTS (SELECT 1 FROM customers WHERE id = $1 AND password_hash = $2)
    RETURNING hash, customer_id, session_id
)` + overSQL
)

func replacing(passwordHash string) []byte {
	sum := sha256.Sum256([]byte(passwordHash))
	return sum[:]
}

// recoveryCode is what of a code is stored: it is drawn from too many to be tried without the key.
func (db *DB) recoveryCode(hash []byte, code string) []byte {
	return db.Keys().Index(recoveryCodePurpose, append(append([]byte{}, hash...), code...))
}

// BeginRecovery remembers a recovery, and, if it is anybody's, where it was asked for, and has m sent. One round trip.
func (db *DB) BeginRecovery(ctx context.Context, r Recovery, v Visit, code string, lifetime time.Duration, m Message) error {
	event := NewID()
	visit, err := db.sealedVisit(event[:], v)
	if err != nil {
		return err
	}
	id, sealed, err := db.sealMessage(m)
	if err != nil {
		return err
	}
	var customer *[16]byte
	if r.CustomerID != uuid.Nil {
		customer = (*[16]byte)(&r.CustomerID)
	}
	batch := &pgx.Batch{}
	batch.Queue(beginRecoverySQL, r.Hash, customer, db.recoveryCode(r.Hash, code), replacing(r.PasswordHash), r.Bucket, lifetime)
	batch.Queue(recoveryMessageSQL, [16]byte(id), sealed, r.Hash)
	batch.Queue(recoveryEventSQL, [16]byte(event), visit, r.Hash)
	return db.pool.SendBatch(ctx, batch).Close()
}

func (db *DB) sealMessage(m Message) (id uuid.UUID, sealed []byte, err error) {
	id = NewID()
	plain, err := json.Marshal(m)
	return id, db.Keys().Seal(payloadPurpose, id[:], plain), err
}

// TryRecovery counts an attempt at the code of a recovery; a wrong one is an event of the customer's. It returns ErrNotFound for a wrong one, and when there is none, it has
// expired or was used, or there were maxAttempts already. One round trip.
func (db *DB) TryRecovery(ctx context.Context, hash []byte, v Visit, code string, maxAttempts int) (customer uuid.UUID, err error) {
	event := NewID()
	visit, err := db.sealedVisit(event[:], v)
	if err != nil {
		return uuid.Nil, err
	}
	var right []byte
	typed := db.recoveryCode(hash, code)
	if err := db.pool.QueryRow(ctx, tryRecoverySQL, hash, maxAttempts, typed, [16]byte(event), visit).Scan(&right, (*[16]byte)(&customer)); err != nil {
		return uuid.Nil, notFound(err)
	}
	if subtle.ConstantTimeCompare(typed, right) != 1 || customer == uuid.Nil {
		return uuid.Nil, ErrNotFound
	}
	return customer, nil
}

// CustomerByID finds a customer. It returns ErrNotFound for an unknown one.
func (db *DB) CustomerByID(ctx context.Context, id uuid.UUID) (*CustomerRecord, error) {
	rows, err := db.pool.Query(ctx, customerByIDSQL, [16]byte(id))
	if err != nil {
		return nil, err
	}
	c, err := pgx.CollectExactlyOneRow(rows, db.scanCustomer)
	if err != nil {
		return nil, notFound(err)
	}
	return &c, nil
}

// ContinueRecovery uses up the code of a recovery, and makes a login that lacks the second factor. Once that is shown, the new
// password counts, all other logins end, and m is sent. It returns ErrNotFound, and makes no login, for a recovery that was used or has
// expired, when another password was set meanwhile, and for a disabled customer. One round trip.
func (db *DB) ContinueRecovery(ctx context.Context, recovery []byte, customer uuid.UUID, newPassword string, n NewLogin, m *Message) error {
	visit, err := db.sealedVisit(n.Hash, n.Visit)
	if err != nil {
		return err
	}
	var notice *[16]byte
	var sealed []byte
	if m != nil {
		id, payload, err := db.sealMessage(*m)
		if err != nil {
			return err
		}
		notice, sealed = (*[16]byte)(&id), payload
	}
	return db.changeOne(ctx, continueRecoverySQL, n.Hash, recovery, [16]byte(customer), n.Lifetime, n.AMR, visit, n.Bucket, newPassword, notice, sealed)
}

// FinishRecovery uses up the code of a recovery of a customer who has no second factor: the new password counts at once, and all
// logins end. It returns ErrNotFound as ContinueRecovery does. One round trip.
func (db *DB) FinishRecovery(ctx context.Context, recovery []byte, newPassword string, e Event, m *Message) error {
	batch := &pgx.Batch{}
	batch.Queue(lockLoginsSQL, [16]byte(e.CustomerID))
	done, err := db.queueOwn(batch, e, m, finishRecoverySQL, recovery, newPassword)
	if err != nil {
		return err
	}
	batch.Queue(endAllAfterSQL, [16]byte(e.CustomerID), newPassword)
	if err := db.pool.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	return done()
}
