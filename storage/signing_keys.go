package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// States of a signing key.
const (
	KeyNext    = "next"    // published, does not sign yet
	KeyCurrent = "current" // signs
	KeyRetired = "retired" // published while what it signed may be valid
)

// SigningKey is a key that signs for the server, or by which others encrypt to it.
type SigningKey struct {
	KID            string
	Alg            string // of JWS or JWE (RFC 7518 §3.1, §4.1), which tells the two apart
	State          string
	PKCS8          []byte // the private key
	CreatedAt      time.Time
	ActivatedAt    *time.Time
	PublishedUntil *time.Time // of a retired key
}

const signingKeyPurpose = "signing_keys.private_key"

// hintsVerifiable is how long a key is kept after it was published last, to verify ID tokens that come back as hints
// (OpenID Connect RP-Initiated Logout §4): apps sign out with the ID token of the day on which they signed in.
const hintsVerifiable = `interval '180 days'`

const (
	listSigningKeysSQL = `
SELECT kid, alg, state, private_key, created_at, activated_at, published_until FROM signing_keys
WHERE published_until IS NULL OR published_until > now() - ` + hintsVerifiable + ` ORDER BY alg, created_at`

	addSigningKeySQL = `
INSERT INTO signing_keys (kid, alg, state, private_key, activated_at)
VALUES ($1, $2, $3, $4, CASE WHEN $3 = 'current' THEN now() END)
ON CONFLICT DO NOTHING`

	retireKeySQL   = `UPDATE signing_keys SET state = 'retired', published_until = now() + $2 WHERE alg = $1 AND state = 'current'`
	promoteKeySQL  = `UPDATE signing_keys SET state = 'current', activated_at = now() WHERE alg = $1 AND state = 'next'`
	announceKeySQL = `INSERT INTO signing_keys (kid, alg, state, private_key) VALUES ($1, $2, 'next', $3)`
)

// ListSigningKeys returns the keys that are published, and those that were until not long ago.
func (db *DB) ListSigningKeys(ctx context.Context) ([]SigningKey, error) {
	rows, err := db.pool.Query(ctx, listSigningKeysSQL)
	if err != nil {
		return nil, err
	}
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[SigningKey])
	for i := range keys {
		k := &keys[i]
		if k.PKCS8, err = db.Keys().Open(signingKeyPurpose, []byte(k.KID), k.PKCS8); err != nil {
			return nil, err
		}
	}
	return keys, err
}

// AddSigningKey stores a key unless its algorithm has one in that state already: of several replicas that start
// together, one wins.
func (db *DB) AddSigningKey(ctx context.Context, k SigningKey) error {
	_, err := db.pool.Exec(ctx, addSigningKeySQL, k.KID, k.Alg, k.State, db.sealKey(k))
	return err
}

// RotateSigningKey makes the published next key of next.Alg sign, retires the current one for publishedFor, and
// publishes next as the key after it. It returns ErrConflict when another rotation was faster.
func (db *DB) RotateSigningKey(ctx context.Context, next SigningKey, publishedFor time.Duration) error {
	batch := &pgx.Batch{}
	batch.Queue(retireKeySQL, next.Alg, publishedFor)
	batch.Queue(promoteKeySQL, next.Alg)
	batch.Queue(announceKeySQL, next.KID, next.Alg, db.sealKey(next))
	err := db.pool.SendBatch(ctx, batch).Close()
	if isUniqueViolation(err) {
		return ErrConflict
	}
	return err
}

func (db *DB) sealKey(k SigningKey) []byte {
	return db.Keys().Seal(signingKeyPurpose, []byte(k.KID), k.PKCS8)
}
