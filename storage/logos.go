package storage

import (
	"context"
	"time"
)

// Logo is what was made of a client's logo.
type Logo struct {
	Source  string // the logo_uri
	PNG     []byte // nil: none could be made
	Version string // of PNG, by its content; "" without
}

const (
	// Of several replicas one gets it: the row that another has claimed meanwhile is not due any more.
	claimLogoSQL = `
INSERT INTO client_logos AS claimed (client_id, source)
SELECT c.client_id, c.metadata->>'logo_uri' FROM clients c LEFT JOIN client_logos l USING (client_id)
WHERE c.disabled_at IS NULL AND c.metadata->>'logo_uri' <> ''
  AND (l.source IS DISTINCT FROM c.metadata->>'logo_uri' OR l.png IS NULL AND l.tried_at < now() - $1::interval)
LIMIT 1
ON CONFLICT (client_id) DO UPDATE SET source = EXCLUDED.source, png = NULL, version = NULL, tried_at = now()
WHERE claimed.source <> EXCLUDED.source OR claimed.png IS NULL AND claimed.tried_at < now() - $1::interval
RETURNING client_id, source`

	saveLogoSQL = `UPDATE client_logos SET png = $3, version = $4 WHERE client_id = $1 AND source = $2`

	findLogoSQL = `
SELECT l.source, l.png, l.version FROM client_logos l JOIN clients c USING (client_id)
WHERE l.client_id = $1 AND l.png IS NOT NULL AND l.source = c.metadata->>'logo_uri' AND c.disabled_at IS NULL`
)

// ClaimLogo returns a client whose logo is not there and the logo_uri to fetch it from, to one caller: it is not due again
// before retry has passed or the client has another logo_uri. It returns ErrNotFound when none is due.
func (db *DB) ClaimLogo(ctx context.Context, retry time.Duration) (clientID, source string, err error) {
	err = db.pool.QueryRow(ctx, claimLogoSQL, retry).Scan(&clientID, &source)
	return clientID, source, notFound(err)
}

// SaveLogo stores what became of a logo that was claimed. It returns ErrNotFound when the client has gone or has got
// another logo_uri.
func (db *DB) SaveLogo(ctx context.Context, clientID string, l *Logo) error {
	return db.changeOne(ctx, saveLogoSQL, clientID, l.Source, l.PNG, l.Version)
}

// FindLogo returns the logo of a client that is not disabled, or ErrNotFound.
func (db *DB) FindLogo(ctx context.Context, clientID string) (*Logo, error) {
	var l Logo
	if err := db.pool.QueryRow(ctx, findLogoSQL, clientID).Scan(&l.Source, &l.PNG, &l.Version); err != nil {
		return nil, notFound(err)
	}
	return &l, nil
}

// columns are the parameters of a statement that stores a logo if its source is not "".
func (l *Logo) columns() (source string, png []byte, version *string) {
	if l == nil {
		return "", nil, nil
	}
	if l.PNG == nil {
		return l.Source, nil, nil
	}
	return l.Source, l.PNG, &l.Version
}
