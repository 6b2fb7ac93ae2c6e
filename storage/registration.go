package storage

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrTooManyRegistrations is returned when more clients have registered in an hour than may.
var ErrTooManyRegistrations = errors.New("storage: too many registrations")

// InitialAccessToken lets its holder register clients (RFC 7591 §3).
type InitialAccessToken struct {
	Hash      []byte // SHA-256
	Profile   string // that its clients fall under; "": what the server's settings say
	Uses      int    // registrations that are left
	ExpiresAt time.Time
}

// NewRegistration is a client that registers itself.
type NewRegistration struct {
	ClientID         string
	Metadata         []byte
	SecretHash       []byte // nil: it has no secret
	TokenHash        []byte // SHA-256 of its registration access token
	InitialTokenHash []byte // SHA-256 of the initial access token that this uses; nil: none was needed
	PerHour          int    // so many may register in an hour
	Logo             *Logo  // nil: it names none
}

// Registration is a client that registered itself.
type Registration struct {
	Client
	TokenHash []byte // of its registration access token
	NextHash  []byte // of the one that replaces it once it was used; nil: there is none
}

const (
	createInitialTokenSQL = `INSERT INTO registration_tokens (hash, profile, uses_left, expires_at) VALUES ($1, $2, $3, $4)`

	roomSQL = `(SELECT count(*) < $1 FROM registrations WHERE created_at > now() - interval '1 hour')`

	mayRegisterSQL = `SELECT ` + roomSQL + `, t.profile
FROM (SELECT) AS one LEFT JOIN registration_tokens t ON t.hash = $2 AND t.uses_left > 0 AND t.expires_at > now()`

	registerSQL = `
WITH room AS (SELECT ` + roomSQL + ` AS there),
used AS (UPDATE registration_tokens SET uses_left = uses_left - 1
    WHERE hash = $2 AND uses_left > 0 AND expires_at > now() AND (SELECT there FROM room) RETURNING 1),
made AS (INSERT INTO clients (client_id, metadata, secret_hash)
    SELECT $3, $4, $5 WHERE (SELECT there FROM room) AND ($2::bytea IS NULL OR EXISTS (SELECT 1 FROM used))
    RETURNING client_id, created_at),
registered AS (INSERT INTO registrations (client_id, token_hash) SELECT client_id, $6 FROM made),
logo AS (INSERT INTO client_logos (client_id, source, png, version) SELECT client_id, $7::text, $8, $9 FROM made WHERE $7::text <> '')
SELECT (SELECT there FROM room), (SELECT created_at FROM made)`

	findRegistrationSQL = `
SELECT c.client_id, c.metadata, c.secret_hash, c.created_at, c.updated_at, c.disabled_at, r.token_hash, r.next_hash
FROM clients c JOIN registrations r USING (client_id) WHERE c.client_id = $1 AND c.disabled_at IS NULL`

	useNextTokenSQL = `UPDATE registrations SET token_hash = next_hash, next_hash = NULL WHERE client_id = $1 AND next_hash = $2`

	replaceRegistrationSQL = `
WITH kept AS (UPDATE registrations r SET token_hash = $2, next_hash = $3 FROM clients c
    WHERE r.client_id = $1 AND $2 IN (r.token_hash, r.next_hash) AND c.client_id = r.client_id AND c.disabled_at IS NULL
    RETURNING r.client_id),
logo AS (INSERT INTO client_logos (client_id, source, png, version) SELECT client_id, $6::text, $7, $8 FROM kept WHERE $6::text <> ''
    ON CONFLICT (client_id) DO UPDATE SET source = EXCLUDED.source, png = EXCLUDED.png, version = EXCLUDED.version, tried_at = now())
UPDATE clients SET metadata = $4, secret_hash = $5, updated_at = now() WHERE client_id IN (SELECT client_id FROM kept)`

	// Tokens die with their grants; a consent that its client can use no more is one that it gave up.
	unregisterSQL = `
WITH gone AS (DELETE FROM clients c USING registrations r
    WHERE c.client_id = $1 AND r.client_id = c.client_id AND $2 IN (r.token_hash, r.next_hash) RETURNING c.client_id),
ended AS (UPDATE grants SET revoked_at = now(), updated_at = now()
    WHERE client_id IN (SELECT client_id FROM gone) AND revoked_at IS NULL RETURNING consent_id),
revoked AS (UPDATE consents SET status = 'Revoked', status_changed_at = now()
    WHERE id IN (SELECT consent_id FROM ended) AND status = 'Authorised')
SELECT client_id FROM gone`

	findClientSQL = selectClientsSQL + ` WHERE c.client_id = $1`
)

// CreateInitialAccessToken stores an initial access token.
func (db *DB) CreateInitialAccessToken(ctx context.Context, t InitialAccessToken) error {
	_, err := db.pool.Exec(ctx, createInitialTokenSQL, t.Hash, t.Profile, t.Uses, t.ExpiresAt)
	return err
}

// MayRegister tells whether a client may register now, and under which profile ("": as the settings say). It returns
// ErrTooManyRegistrations when there is no room in this hour, and ErrNotFound when a hash is given and the token is not good.
func (db *DB) MayRegister(ctx context.Context, initialTokenHash []byte, perHour int) (profile string, err error) {
	var room bool
	var found *string
	if err := db.pool.QueryRow(ctx, mayRegisterSQL, perHour, initialTokenHash).Scan(&room, &found); err != nil {
		return "", err
	}
	switch {
	case initialTokenHash != nil && found == nil:
		return "", ErrNotFound
	case !room:
		return "", ErrTooManyRegistrations
	case found == nil:
		return "", nil
	}
	return *found, nil
}

// Register stores a client that registers itself, and spends one use of its initial access token. It returns ErrTooManyRegistrations
// and ErrNotFound as MayRegister does; nothing is stored or spent then.
func (db *DB) Register(ctx context.Context, n NewRegistration) (createdAt time.Time, err error) {
	var room bool
	var made *time.Time
	source, png, version := n.Logo.columns()
	err = db.pool.QueryRow(ctx, registerSQL, n.PerHour, n.InitialTokenHash, n.ClientID, n.Metadata, n.SecretHash, n.TokenHash,
		source, png, version).Scan(&room, &made)
	switch {
	case err != nil:
		return createdAt, err
	case !room:
		return createdAt, ErrTooManyRegistrations
	case made == nil:
		return createdAt, ErrNotFound
	}
	return *made, nil
}

// FindRegistration returns a client that registered itself and is not disabled, or ErrNotFound.
func (db *DB) FindRegistration(ctx context.Context, clientID string) (*Registration, error) {
	var r Registration
	err := db.pool.QueryRow(ctx, findRegistrationSQL, clientID).Scan(&r.ID, &r.Metadata, &r.SecretHash, &r.CreatedAt, &r.UpdatedAt,
		&r.DisabledAt, &r.TokenHash, &r.NextHash)
	if err != nil {
		return nil, notFound(err)
	}
	return &r, nil
}

// UseNextToken ends the registration access token that the one with this hash replaces.
func (db *DB) UseNextToken(ctx context.Context, clientID string, hash []byte) error {
	_, err := db.pool.Exec(ctx, useNextTokenSQL, clientID, hash)
	return err
}

// ReplaceRegistration replaces a client's metadata and secret for the holder of the token with presentedHash, who gets a
// new token: presentedHash stays good until nextHash was used. Without a logo the stored one stays. It returns ErrNotFound
// when the presented one is not.
func (db *DB) ReplaceRegistration(ctx context.Context, clientID string, presentedHash, nextHash, metadata, secretHash []byte, logo *Logo) error {
	source, png, version := logo.columns()
	return db.changeOne(ctx, replaceRegistrationSQL, clientID, presentedHash, nextHash, metadata, secretHash, source, png, version)
}

// Unregister deletes a client for the holder of the token with that hash, and ends its grants, their tokens and consents.
// It returns ErrNotFound when the token is not good.
func (db *DB) Unregister(ctx context.Context, clientID string, presentedHash []byte) error {
	var gone string
	return notFound(db.pool.QueryRow(ctx, unregisterSQL, clientID, presentedHash).Scan(&gone))
}

// FindClient returns a client, a disabled one too, or ErrNotFound.
func (db *DB) FindClient(ctx context.Context, clientID string) (*Client, error) {
	rows, err := db.pool.Query(ctx, findClientSQL, clientID)
	if err != nil {
		return nil, err
	}
	c, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Client])
	if err != nil {
		return nil, notFound(err)
	}
	return &c, nil
}
