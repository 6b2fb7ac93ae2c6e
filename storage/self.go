package storage

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// What customers do by themselves with their access. Each change is one statement: what is changed, the event that remembers
// it and the message that tells the customer come together or not at all.

const (
	// Before it stands "changed", which has a row with the customer_id for each row that was changed. Its arguments are $7 and on.
	ownChangeSQL = `, event AS (
    INSERT INTO events (id, customer_id, kind, visit, details) SELECT $1, customer_id, $2, $3, $4 FROM changed LIMIT 1
), message AS (
    INSERT INTO notifications (id, kind, client_id, about, payload)
    SELECT $5, '` + MessageNotification + `', '', '{}', $6::bytea FROM changed WHERE $6::bytea IS NOT NULL LIMIT 1
)
SELECT count(*) FROM changed`

	changeProfileSQL = `
WITH changed AS (
    UPDATE customers SET profile = $9, email_index = $10, phone_index = $11, email_verified = $12, phone_verified = $13
    WHERE id = $7 AND profile = $8 RETURNING id AS customer_id
)`

	// The code is used up even when the profile has changed meanwhile.
	changeContactSQL = `
WITH used AS (
    UPDATE one_time_codes SET code = NULL WHERE customer_id = $7 AND id = $14 AND code IS NOT NULL AND expires_at > now() RETURNING customer_id
), changed AS (
    UPDATE customers c SET profile = $9, email_index = $10, phone_index = $11, email_verified = $12, phone_verified = $13
    FROM used WHERE c.id = used.customer_id AND c.profile = $8 RETURNING c.id AS customer_id
)`

	renameFactorSQL = `
WITH changed AS (
    UPDATE second_factors SET name = $9 WHERE customer_id = $7 AND id = $8 AND confirmed_at IS NOT NULL RETURNING customer_id
)`

	// Recovery codes help with a second factor that is lost; they do not stand for one. What is removed at the same time waits.
	removeFactorSQL = `
WITH changed AS (
    DELETE FROM second_factors f WHERE f.customer_id = $7 AND f.id = $8 AND f.confirmed_at IS NOT NULL
      AND ($9 OR f.kind = '` + RecoveryCodes + `' OR EXISTS (SELECT 1 FROM second_factors o
          WHERE o.customer_id = f.customer_id AND o.id <> f.id AND o.confirmed_at IS NOT NULL AND o.kind <> '` + RecoveryCodes + `'))
      AND ($10 OR f.kind <> '` + Passkey + `' OR EXISTS (SELECT 1 FROM identity_links l WHERE l.customer_id = f.customer_id AND l.provider = ANY ($11))
          OR EXISTS (SELECT 1 FROM second_factors o WHERE o.customer_id = f.customer_id AND o.id <> f.id AND o.confirmed_at IS NOT NULL AND o.kind = f.kind))
    RETURNING f.customer_id
)`

	dropDeviceSQL     = `WITH changed AS (DELETE FROM approval_devices WHERE customer_id = $7 AND id = $8 RETURNING customer_id)`
	dropSubscribedSQL = `WITH changed AS (DELETE FROM push_subscriptions WHERE customer_id = $7 AND id = $8 RETURNING customer_id)`
)

// changeOwn runs a change of a customer's own. lock, if it is not "", is a statement before it, with the customer's id. It
// returns ErrNotFound, and nothing has happened, when there was nothing to change. One round trip.
func (db *DB) changeOwn(ctx context.Context, e Event, m *Message, lock, changed string, args ...any) error {
	batch := &pgx.Batch{}
	if lock != "" {
		batch.Queue(lock, [16]byte(e.CustomerID))
	}
	done, err := db.queueOwn(batch, e, m, changed, args...)
	if err != nil {
		return err
	}
	if err := db.pool.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	return done()
}

// queueOwn adds such a change to a batch. Once that was sent, done returns ErrNotFound if there was nothing to change.
func (db *DB) queueOwn(batch *pgx.Batch, e Event, m *Message, changed string, args ...any) (done func() error, err error) {
	id, message := NewID(), NewID()
	visit, err := db.sealedVisit(id[:], e.Visit)
	if err != nil {
		return nil, err
	}
	if e.Details == nil {
		e.Details = map[string]any{}
	}
	var payload []byte
	if m != nil {
		plain, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		payload = db.Keys().Seal(payloadPurpose, message[:], plain)
	}
	var n int
	batch.Queue(changed+ownChangeSQL, append([]any{[16]byte(id), e.Kind, visit, e.Details, [16]byte(message), payload, [16]byte(e.CustomerID)}, args...)...).
		QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	return func() error {
		if n == 0 {
			return ErrNotFound
		}
		return nil
	}, nil
}

// UpdateProfile replaces the profile that c was read with. It returns ErrNotFound when it has changed since.
func (db *DB) UpdateProfile(ctx context.Context, c *Customer, p Profile, e Event, m *Message) error {
	args, err := db.profileArguments(c, &p)
	if err != nil {
		return err
	}
	return db.changeOwn(ctx, e, m, "", changeProfileSQL, args...)
}

// UpdateContact is UpdateProfile for an address that a code has proved, which is used up. It returns ErrNotFound for a code
// that was used or replaced, too.
func (db *DB) UpdateContact(ctx context.Context, c *Customer, p Profile, code *OneTimeCode, e Event, m *Message) error {
	args, err := db.profileArguments(c, &p)
	if err != nil {
		return err
	}
	return db.changeOwn(ctx, e, m, "", changeContactSQL, append(args, [16]byte(code.ID))...)
}

func (db *DB) profileArguments(c *Customer, p *Profile) ([]any, error) {
	plain, err := json.Marshal(p)
	found := db.contactsOf(c.Tenant, p)
	return []any{c.sealedProfile, db.Keys().Seal(profilePurpose, c.ID[:], plain),
		found.email, found.phone, found.emailVerified, found.phoneVerified}, err
}

// RenameFactor gives a confirmed factor another name. It returns ErrNotFound when the customer has no such one, as the
// functions below do.
func (db *DB) RenameFactor(ctx context.Context, id uuid.UUID, name string, e Event) error {
	return db.changeOwn(ctx, e, nil, "", renameFactorSQL, [16]byte(id), name)
}

// RemoveFactor forgets a confirmed factor; the last one, recovery codes not counted, only if lastToo, and a passkey only with another
// way to log in. However many are removed at once, that one stays.
func (db *DB) RemoveFactor(ctx context.Context, id uuid.UUID, lastToo bool, ways WaysIn, e Event, m *Message) error {
	return db.changeOwn(ctx, e, m, lockSubscriberSQL, removeFactorSQL, [16]byte(id), lastToo, ways.Password || !ways.Passkeys, orNone(ways.Providers))
}

// DropApprovalDevice forgets an installation of the bank's app.
func (db *DB) DropApprovalDevice(ctx context.Context, id uuid.UUID, e Event, m *Message) error {
	return db.changeOwn(ctx, e, m, "", dropDeviceSQL, [16]byte(id))
}

// DropSubscription forgets a browser that rings.
func (db *DB) DropSubscription(ctx context.Context, id uuid.UUID, e Event) error {
	return db.changeOwn(ctx, e, nil, "", dropSubscribedSQL, [16]byte(id))
}

// Overview is what a customer reads first.
type Overview struct {
	LastLogin *Event    // the one before this one; nil for none
	Deletion  *Deletion // nil unless the customer wants to be gone
}

const lastLoginSQL = `
SELECT id, customer_id, kind, visit, details, at FROM events
WHERE customer_id = $1 AND kind = 'login' AND at < $2 ORDER BY at DESC LIMIT 1`

// Overview reads it, for a customer whose login began at since. One round trip.
func (db *DB) Overview(ctx context.Context, customer uuid.UUID, since time.Time) (*Overview, error) {
	batch := &pgx.Batch{}
	batch.Queue(lastLoginSQL, [16]byte(customer), since)
	batch.Queue(findDeletionSQL, [16]byte(customer))
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	o := &Overview{}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	logins, err := pgx.CollectRows(rows, db.scanEvent)
	if err != nil {
		return nil, err
	}
	if len(logins) > 0 {
		o.LastLogin = &logins[0]
	}
	o.Deletion, err = scanDeletion(results.QueryRow())
	return o, err
}

func (db *DB) scanEvent(row pgx.CollectableRow) (e Event, err error) {
	var visit []byte
	if err = row.Scan((*[16]byte)(&e.ID), (*[16]byte)(&e.CustomerID), &e.Kind, &visit, &e.Details, &e.At); err != nil {
		return e, err
	}
	e.Visit, err = db.openVisit(e.ID[:], visit)
	return e, err
}

const (
	changePasswordSQL = `
WITH changed AS (
    UPDATE customers SET password_hash = $9 WHERE id = $7 AND password_hash = $8 AND disabled_at IS NULL RETURNING id AS customer_id
)`

	// Whoever got in with the old password is out.
	endOthersAfterSQL = `
WITH ended AS (
    DELETE FROM logins WHERE customer_id = $1 AND session_id IS DISTINCT FROM (SELECT o.session_id FROM logins o WHERE o.hash = $2)
      AND EXISTS (SELECT 1 FROM customers WHERE id = $1 AND password_hash = $3)
    RETURNING hash, customer_id, session_id
)` + overSQL
)

// ReplacePassword replaces the password hash that was checked, and ends all logins but those of this one's session. It returns
// ErrNotFound when another password was set meanwhile, or the customer is disabled. One round trip.
func (db *DB) ReplacePassword(ctx context.Context, p NewPasswordHash, loginHash []byte, e Event, m *Message) error {
	batch := &pgx.Batch{}
	batch.Queue(lockLoginsSQL, [16]byte(e.CustomerID))
	changed, err := db.queueOwn(batch, e, m, changePasswordSQL, p.Old, p.New)
	if err != nil {
		return err
	}
	batch.Queue(endOthersAfterSQL, [16]byte(e.CustomerID), loginHash, p.New)
	if err := db.pool.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	return changed()
}
