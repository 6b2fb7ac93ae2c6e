package storage

import (
	"context"
	"time"
)

// purgeBatch bounds what one statement deletes, so that it holds few locks for a short time.
const purgeBatch = 5000

var purgeSQL = []string{
	`DELETE FROM used_jtis WHERE hash IN (SELECT hash FROM used_jtis WHERE expires_at < now() LIMIT $1)`,
	`DELETE FROM revoked_tokens WHERE jti IN (SELECT jti FROM revoked_tokens WHERE expires_at < now() LIMIT $1)`,
	// The browser still has the cookie of a login that has expired. While its row is there, what was done in its session can
	// be signed out of.
	`DELETE FROM logins WHERE hash IN (SELECT hash FROM logins WHERE expires_at < now() - interval '24 hours' LIMIT $1)`,
	`DELETE FROM authorizations WHERE id IN (SELECT a.id FROM authorizations a WHERE a.expires_at < now() - interval '1 hour'
        AND NOT EXISTS (SELECT 1 FROM logins l WHERE l.session_id = a.session_id) LIMIT $1)`,
	`DELETE FROM user_code_failures WHERE source IN (SELECT source FROM user_code_failures WHERE source <> '' AND since < now() - interval '1 day' LIMIT $1)`,
	`DELETE FROM limits WHERE bucket IN (SELECT bucket FROM limits WHERE expires_at < now() LIMIT $1)`,
	// A report counts against the next one for 30 days after the client may ask again (reportSQL).
	`DELETE FROM muted_clients WHERE (customer_id, client_id) IN (SELECT customer_id, client_id FROM muted_clients WHERE until < now() - interval '30 days' LIMIT $1)`,
	`DELETE FROM identity_visits WHERE hash IN (SELECT hash FROM identity_visits WHERE expires_at < now() LIMIT $1)`,
	`DELETE FROM recoveries WHERE hash IN (SELECT hash FROM recoveries WHERE expires_at < now() LIMIT $1)`,
	`DELETE FROM sign_ups WHERE hash IN (SELECT hash FROM sign_ups WHERE expires_at < now() LIMIT $1)`,
	// What became of an invitation, staff may still ask.
	`DELETE FROM invitations WHERE id IN (SELECT id FROM invitations WHERE expires_at < now() - interval '30 days' LIMIT $1)`,
	`DELETE FROM registration_tokens WHERE hash IN (SELECT hash FROM registration_tokens WHERE expires_at < now() LIMIT $1)`,
	`DELETE FROM retained_records WHERE id IN (SELECT id FROM retained_records WHERE retained_until < now() LIMIT $1)`,
	// Of a client that names another logo now, or none.
	`DELETE FROM client_logos WHERE client_id IN (SELECT l.client_id FROM client_logos l JOIN clients c USING (client_id)
        WHERE l.source IS DISTINCT FROM c.metadata->>'logo_uri' LIMIT $1)`,
	`DELETE FROM fineract_tfa_tokens WHERE hash IN (SELECT hash FROM fineract_tfa_tokens WHERE valid_to < now() LIMIT $1)`,
	`DELETE FROM fineract_otp_requests WHERE customer_id IN (SELECT customer_id FROM fineract_otp_requests WHERE expires_at < now() LIMIT $1)`,
	`DELETE FROM signing_keys WHERE kid IN (SELECT kid FROM signing_keys WHERE published_until < now() - ` + hintsVerifiable + ` LIMIT $1)`,
}

// Purge removes what has expired, in batches, and returns how many rows went. Several replicas may run it at once.
func (db *DB) Purge(ctx context.Context) (int64, error) {
	var total int64
	for _, sql := range purgeSQL {
		for {
			tag, err := db.pool.Exec(ctx, sql, purgeBatch)
			if err != nil {
				return total, err
			}
			total += tag.RowsAffected()
			if tag.RowsAffected() < purgeBatch {
				break
			}
		}
	}
	gone, err := db.DeleteDue(ctx, purgeBatch)
	return total + gone, err
}

// PurgeEvery purges until ctx ends, and tells failed of errors.
func (db *DB) PurgeEvery(ctx context.Context, every time.Duration, failed func(error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := db.Purge(ctx); err != nil && ctx.Err() == nil {
				failed(err)
			}
		}
	}
}
