package storage

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// OneTimeCode is a code that is sent to a customer. One is active per customer: a new one ends the older.
type OneTimeCode struct {
	ID         uuid.UUID
	CustomerID uuid.UUID
	Purpose    string // what it is good for: "login", "recovery" …
	Binding    []byte // what alone it is good for: the hash of a login, the digest of a payment
	Code       string
}

// Message is what is sent to a customer at one address, once. It is sealed until it is sent.
type Message struct {
	ID        uuid.UUID `json:"-"`
	Channel   string    `json:"channel"` // "email" or "sms"
	To        string    `json:"to"`
	Subject   string    `json:"subject,omitempty"`
	Text      string    `json:"text"`
	ExpiresAt time.Time `json:"expires_at"` // not sent afterwards
}

// MessageNotification is the kind of notification that has a Message as its payload.
const MessageNotification = "message"

const (
	codePurpose = "one_time_codes.code"

	// A code more than limit in an hour is none: the row does not change. The hour begins with the first one.
	setCodeSQL = `
INSERT INTO one_time_codes AS o (customer_id, id, purpose, binding, code, expires_at)
VALUES ($1, $2, $3, $4, $5, now() + $6)
ON CONFLICT (customer_id) DO UPDATE SET id = EXCLUDED.id, purpose = EXCLUDED.purpose, binding = EXCLUDED.binding, code = EXCLUDED.code,
    expires_at = EXCLUDED.expires_at, attempts = 0,
    requests = CASE WHEN o.requests_since <= now() - interval '1 hour' THEN 1 ELSE o.requests + 1 END,
    requests_since = CASE WHEN o.requests_since <= now() - interval '1 hour' THEN now() ELSE o.requests_since END
WHERE o.requests_since <= now() - interval '1 hour' OR o.requests < $7`

	sendMessageSQL = `
INSERT INTO notifications (id, kind, client_id, about, payload)
SELECT $1, '` + MessageNotification + `', '', '{}', $2 WHERE $3::uuid IS NULL OR EXISTS (SELECT 1 FROM one_time_codes WHERE id = $3)`

	// Each look at the code is an attempt, counted before anybody knows how it ends.
	tryCodeSQL = `
UPDATE one_time_codes SET attempts = attempts + 1
WHERE customer_id = $1 AND purpose = $2 AND binding = $3 AND code IS NOT NULL AND expires_at > now() AND attempts < $4
RETURNING id, code`

	useCodeSQL = `UPDATE one_time_codes SET code = NULL WHERE customer_id = $1 AND id = $2 AND code IS NOT NULL AND expires_at > now()`

	activeCodeSQL = `
SELECT EXISTS (SELECT 1 FROM one_time_codes
WHERE customer_id = $1 AND purpose = $2 AND binding = $3 AND code IS NOT NULL AND expires_at > now() AND attempts < $4)`

	// A factor that was removed, or begun anew, since the code was sent proves nothing any more.
	sentCodeSQL = halfLoginSQL + `, code AS (
    UPDATE one_time_codes o SET code = NULL FROM login
    WHERE o.customer_id = login.customer_id AND o.id = $10 AND o.code IS NOT NULL AND o.expires_at > now()
    RETURNING o.customer_id, login.auth_time, login.session_id
), factor AS (
    UPDATE second_factors f SET last_used_at = now(), confirmed_at = coalesce(f.confirmed_at, now()), secret = $12
    FROM code WHERE f.id = $11 AND f.customer_id = code.customer_id AND f.secret = $13
    RETURNING f.customer_id, code.auth_time, code.session_id
)`
)

// SendCode makes a code the customer's only one and has m sent, in one transaction and one round trip. limit is how many a
// customer may ask for in an hour. It returns ErrTooMany, and changes nothing, for one more.
func (db *DB) SendCode(ctx context.Context, c OneTimeCode, lifetime time.Duration, limit int, m Message) error {
	batch := &pgx.Batch{}
	batch.Queue(setCodeSQL, [16]byte(c.CustomerID), [16]byte(c.ID), c.Purpose, c.Binding, db.Keys().Seal(codePurpose, c.ID[:], []byte(c.Code)), lifetime, limit)
	if err := db.queueMessage(batch, m, (*[16]byte)(&c.ID)); err != nil {
		return err
	}
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	tag, err := results.Exec()
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return ErrTooMany
	}
	return results.Close()
}

// SendMessage has m sent. One round trip.
func (db *DB) SendMessage(ctx context.Context, m Message) error {
	batch := &pgx.Batch{}
	if err := db.queueMessage(batch, m, nil); err != nil {
		return err
	}
	return db.pool.SendBatch(ctx, batch).Close()
}

// queueMessage has m sent; with a code only if that one is active.
func (db *DB) queueMessage(batch *pgx.Batch, m Message, code *[16]byte) error {
	plain, err := json.Marshal(m)
	if err != nil {
		return err
	}
	id := NewID()
	batch.Queue(sendMessageSQL, [16]byte(id), db.Keys().Seal(payloadPurpose, id[:], plain), code)
	return nil
}

// Message opens what a MessageNotification is to send.
func (db *DB) Message(n Notification) (Message, error) {
	m := Message{}
	plain, err := db.Payload(n)
	if err == nil {
		err = json.Unmarshal(plain, &m)
	}
	m.ID = n.ID
	return m, err
}

// TryCode counts an attempt at the customer's code for this purpose and binding, and returns it. It returns ErrNotFound when
// there is none, it has expired, or there were maxAttempts already.
func (db *DB) TryCode(ctx context.Context, customer uuid.UUID, purpose string, binding []byte, maxAttempts int) (*OneTimeCode, error) {
	c := &OneTimeCode{CustomerID: customer, Purpose: purpose, Binding: binding}
	var sealed []byte
	err := db.pool.QueryRow(ctx, tryCodeSQL, [16]byte(customer), purpose, binding, maxAttempts).Scan((*[16]byte)(&c.ID), &sealed)
	if err != nil {
		return nil, notFound(err)
	}
	plain, err := db.Keys().Open(codePurpose, c.ID[:], sealed)
	c.Code = string(plain)
	return c, err
}

// ActiveCode tells whether TryCode would find a code.
func (db *DB) ActiveCode(ctx context.Context, customer uuid.UUID, purpose string, binding []byte, maxAttempts int) (active bool, err error) {
	err = db.pool.QueryRow(ctx, activeCodeSQL, [16]byte(customer), purpose, binding, maxAttempts).Scan(&active)
	return active, err
}

// UseCode uses a code up that was right. It returns ErrNotFound when it was used, has expired or was replaced meanwhile.
func (db *DB) UseCode(ctx context.Context, c *OneTimeCode) error {
	return db.changeOne(ctx, useCodeSQL, [16]byte(c.CustomerID), [16]byte(c.ID))
}

// SentCode is a Proof by a code that was sent to a factor's address, and that was right. A factor that was only begun is
// confirmed by it.
type SentCode struct {
	Factor *SecondFactor
	Code   *OneTimeCode
}

func (s SentCode) useUp(db *DB) (string, []any) {
	f := s.Factor
	return sentCodeSQL, []any{[16]byte(s.Code.ID), [16]byte(f.ID), db.Keys().Seal(factorPurpose, f.ID[:], f.Secret), f.sealed}
}
