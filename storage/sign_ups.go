package storage

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// SignUp is somebody who has asked for access and has yet to show that the address is theirs.
type SignUp struct {
	Hash      []byte // SHA-256 of what their page carries
	Tenant    string
	Applicant Applicant
	Code      string // that was sent; "" when no code is right
	MessageID uuid.UUID
}

// Applicant is who a customer will be.
type Applicant struct {
	Profile      Profile `json:"profile"` // Email or PhoneNumber is where the code goes
	PasswordHash string  `json:"password_hash"`
}

// contact is where the code goes.
func (a *Applicant) contact(db *DB, tenant string) []byte {
	if a.Profile.Email != "" {
		return db.emailIndex(tenant, a.Profile.Email)
	}
	return db.phoneIndex(tenant, a.Profile.PhoneNumber)
}

const (
	applicantPurpose  = "sign_ups.applicant"
	signUpCodePurpose = "sign_ups.code"

	// One at a time counts what one address is sent.
	lockAddressSQL = `SELECT pg_advisory_xact_lock(hashtextextended('sign up ' || encode($1::bytea, 'hex'), 0))`

	// A message that would be one too many in an hour is not sent, and its code is none.
	beginSignUpSQL = `
INSERT INTO sign_ups (hash, tenant, address_index, applicant, code, message_id, messages, code_expires_at, expires_at)
SELECT $1, $2, $3, $4, CASE WHEN sent.few THEN $5::bytea END, CASE WHEN sent.few THEN $6::uuid END, sent.few::int, now() + $7::interval, now() + $8::interval
FROM (SELECT coalesce(sum(messages), 0) < $9 AS few FROM sign_ups WHERE address_index = $3 AND created_at > now() - interval '1 hour') sent`

	resendSignUpSQL = `
UPDATE sign_ups SET code = $2, message_id = $3, messages = messages + 1, attempts = 0, code_expires_at = now() + $4
WHERE hash = $1 AND expires_at > now()
  AND (SELECT sum(o.messages) FROM sign_ups o WHERE o.address_index = sign_ups.address_index AND o.created_at > now() - interval '1 hour') < $5`

	signUpMessageSQL = `
INSERT INTO notifications (id, kind, client_id, about, payload)
SELECT $1, '` + MessageNotification + `', '', '{}', $2 WHERE EXISTS (SELECT 1 FROM sign_ups WHERE message_id = $1)`

	findSignUpSQL = `SELECT hash, tenant, applicant, coalesce(message_id, '00000000-0000-0000-0000-000000000000'), NULL::bytea FROM sign_ups WHERE hash = $1 AND expires_at > now()`

	// Each look at the code is an attempt, counted before anybody knows how it ends.
	trySignUpSQL = `
UPDATE sign_ups SET attempts = attempts + 1
WHERE hash = $1 AND code IS NOT NULL AND code_expires_at > now() AND expires_at > now() AND attempts < $2
RETURNING hash, tenant, applicant, message_id, code`

	useSignUpSQL = `DELETE FROM sign_ups WHERE hash = $1 AND message_id = $2 AND code IS NOT NULL AND code_expires_at > now() AND expires_at > now()`
)

// SignUpLimits are those of sign-ups.
type SignUpLimits struct {
	Lifetime     time.Duration // of a sign-up
	CodeLifetime time.Duration
	PerHour      int // messages to one address
}

// BeginSignUp remembers a sign-up and has m sent, whose ID it sets: with a code, or with none when no code is to be right. When
// the address was sent too many messages in an hour, m is not sent and no code is right: the outside learns nothing. One round trip.
func (db *DB) BeginSignUp(ctx context.Context, s SignUp, l SignUpLimits, m Message) error {
	applicant, err := json.Marshal(s.Applicant)
	if err != nil {
		return err
	}
	address, id := s.Applicant.contact(db, s.Tenant), NewID()
	batch := &pgx.Batch{}
	batch.Queue(lockAddressSQL, address)
	batch.Queue(beginSignUpSQL, s.Hash, s.Tenant, address, db.Keys().Seal(applicantPurpose, s.Hash, applicant), db.sealedSignUpCode(s),
		[16]byte(id), l.CodeLifetime, l.Lifetime, l.PerHour)
	if err := db.queueSignUpMessage(batch, id, m); err != nil {
		return err
	}
	return db.pool.SendBatch(ctx, batch).Close()
}

// ResendSignUp is BeginSignUp for one that there is: the code of before is none any more, unless there were too many messages.
func (db *DB) ResendSignUp(ctx context.Context, s SignUp, l SignUpLimits, m Message) error {
	id := NewID()
	batch := &pgx.Batch{}
	batch.Queue(lockAddressSQL, s.Applicant.contact(db, s.Tenant))
	batch.Queue(resendSignUpSQL, s.Hash, db.sealedSignUpCode(s), [16]byte(id), l.CodeLifetime, l.PerHour)
	if err := db.queueSignUpMessage(batch, id, m); err != nil {
		return err
	}
	return db.pool.SendBatch(ctx, batch).Close()
}

func (db *DB) sealedSignUpCode(s SignUp) []byte {
	if s.Code == "" {
		return nil
	}
	return db.Keys().Seal(signUpCodePurpose, s.Hash, []byte(s.Code))
}

func (db *DB) queueSignUpMessage(batch *pgx.Batch, id uuid.UUID, m Message) error {
	plain, err := json.Marshal(m)
	if err != nil {
		return err
	}
	batch.Queue(signUpMessageSQL, [16]byte(id), db.Keys().Seal(payloadPurpose, id[:], plain))
	return nil
}

// FindSignUp finds a sign-up without its code. It returns ErrNotFound for one that is unknown, done or expired.
func (db *DB) FindSignUp(ctx context.Context, hash []byte) (*SignUp, error) {
	return db.signUp(ctx, findSignUpSQL, hash)
}

// TrySignUp counts an attempt at the code and returns it. It returns ErrNotFound when there is none, it has expired, or there were
// maxAttempts already.
func (db *DB) TrySignUp(ctx context.Context, hash []byte, maxAttempts int) (*SignUp, error) {
	return db.signUp(ctx, trySignUpSQL, hash, maxAttempts)
}

func (db *DB) signUp(ctx context.Context, sql string, args ...any) (*SignUp, error) {
	s := &SignUp{}
	var applicant, code []byte
	if err := db.pool.QueryRow(ctx, sql, args...).Scan(&s.Hash, &s.Tenant, &applicant, (*[16]byte)(&s.MessageID), &code); err != nil {
		return nil, notFound(err)
	}
	plain, err := db.Keys().Open(applicantPurpose, s.Hash, applicant)
	if err == nil {
		err = json.Unmarshal(plain, &s.Applicant)
	}
	if err == nil && code != nil {
		code, err = db.Keys().Open(signUpCodePurpose, s.Hash, code)
		s.Code = string(code)
	}
	return s, err
}

// FinishSignUp makes the customer of a sign-up whose code was right. It returns ErrNotFound when the code was used or replaced
// meanwhile, or as CreateCustomer does: the sign-up then stays as it was.
func (db *DB) FinishSignUp(ctx context.Context, s *SignUp, n NewCustomer, e Event) error {
	return db.createWith(ctx, n, e, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, useSignUpSQL, s.Hash, [16]byte(s.MessageID))
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNotFound
		}
		return err
	})
}

// createWith makes a customer in the transaction that uses up what entitles them to it.
func (db *DB) createWith(ctx context.Context, n NewCustomer, e Event, useUp func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		var refused error
		if err := db.queueCustomer(batch, n, &refused); err != nil {
			return err
		}
		if err := errors.Join(tx.SendBatch(ctx, batch).Close(), refused); err != nil {
			return err
		}
		if err := useUp(tx); err != nil {
			return err
		}
		e.CustomerID = n.ID
		batch = &pgx.Batch{}
		if err := db.queueEvent(batch, e); err != nil {
			return err
		}
		return tx.SendBatch(ctx, batch).Close()
	})
}
