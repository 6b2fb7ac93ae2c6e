package storage

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// IdentityLink says who a customer is at another OpenID provider.
type IdentityLink struct {
	ID         uuid.UUID
	Provider   string // its id in the settings
	Display    LinkDisplay
	CreatedAt  time.Time
	LastUsedAt *time.Time
}

// LinkDisplay is what the provider said when the two were linked. It is sealed.
type LinkDisplay struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
	Name    string `json:"name,omitempty"` // by which the customer knows the identity: an email address, a user name
}

// LinkedCustomer is whose identity it is.
type LinkedCustomer struct {
	CustomerID      uuid.UUID
	HasSecondFactor bool // a confirmed one
}

const (
	identityPurpose = "identity_links.identity"
	displayPurpose  = "identity_links.display"
	visitorPurpose  = "identity_visits.content"

	useLinkSQL = `
UPDATE identity_links l SET last_used_at = now() FROM customers c
WHERE l.identity = $1 AND c.id = l.customer_id AND c.tenant = $2
RETURNING c.id, EXISTS (SELECT 1 FROM second_factors f WHERE f.customer_id = c.id AND f.confirmed_at IS NOT NULL)`

	// Of two customers who want the same identity one gets it; for the one who has it nothing changes.
	addLinkSQL = `
WITH link AS (
    INSERT INTO identity_links AS l (id, customer_id, provider, identity, display, last_used_at) VALUES ($1, $2, $3, $4, $5, now())
    ON CONFLICT (identity) DO UPDATE SET last_used_at = now() WHERE l.customer_id = $2
    RETURNING id
), event AS (
    INSERT INTO events (id, customer_id, kind, visit, details)
    SELECT $6, $2, 'idp.linked', $7, jsonb_build_object('provider', $3::text) FROM link WHERE id = $1
), told AS (
    INSERT INTO notifications (id, kind, client_id, about, payload)
    SELECT $8, '` + MessageNotification + `', '', '{}', $9::bytea FROM link WHERE id = $1 AND $9::bytea IS NOT NULL
)
SELECT count(*) FROM link`

	listLinksSQL = `SELECT id, provider, display, created_at, last_used_at FROM identity_links WHERE customer_id = $1 ORDER BY created_at, id`

	// The customer's row is locked before, so that of two links that are removed at once one stays.
	removeLinkSQL = `
WITH link AS (
    DELETE FROM identity_links l WHERE l.id = $2 AND l.customer_id = $1
      AND ($3 OR EXISTS (SELECT 1 FROM identity_links o WHERE o.customer_id = $1 AND o.id <> $2 AND o.provider = ANY ($4))
        OR $9 AND EXISTS (SELECT 1 FROM second_factors f WHERE f.customer_id = $1 AND f.kind = '` + Passkey + `' AND f.confirmed_at IS NOT NULL))
    RETURNING provider
), told AS (
    INSERT INTO notifications (id, kind, client_id, about, payload)
    SELECT $7, '` + MessageNotification + `', '', '{}', $8::bytea FROM link WHERE $8::bytea IS NOT NULL
)
INSERT INTO events (id, customer_id, kind, visit, details)
SELECT $5, $1, 'idp.unlinked', $6, jsonb_build_object('provider', provider) FROM link`

	hasLinkSQL = `SELECT EXISTS (SELECT 1 FROM identity_links WHERE customer_id = $1 AND id = $2)`

	hasFactorSQL = `SELECT EXISTS (SELECT 1 FROM second_factors WHERE customer_id = $1 AND confirmed_at IS NOT NULL)`

	passwordHashSQL = `SELECT password_hash FROM customers WHERE id = $1`

	saveIdentityVisitSQL = `INSERT INTO identity_visits (hash, content, expires_at) VALUES ($1, $2, now() + $3)
ON CONFLICT (hash) DO UPDATE SET content = EXCLUDED.content WHERE identity_visits.expires_at > now()`
	findIdentityVisitSQL = `SELECT content FROM identity_visits WHERE hash = $1 AND expires_at > now()`
	takeIdentityVisitSQL = `DELETE FROM identity_visits WHERE hash = $1 AND expires_at > now() RETURNING content`
)

// identityIndex is what an identity is found by.
func (db *DB) identityIndex(tenant, issuer, subject string) []byte {
	return db.Keys().Index(identityPurpose, []byte(tenant+"\x00"+issuer+"\x00"+subject))
}

// UseIdentityLink finds the customer of a tenant who has an identity. It returns ErrNotFound when nobody has.
func (db *DB) UseIdentityLink(ctx context.Context, tenant, issuer, subject string) (*LinkedCustomer, error) {
	c := &LinkedCustomer{}
	err := db.pool.QueryRow(ctx, useLinkSQL, db.identityIndex(tenant, issuer, subject), tenant).Scan((*[16]byte)(&c.CustomerID), &c.HasSecondFactor)
	if err != nil {
		return nil, notFound(err)
	}
	return c, nil
}

// AddIdentityLink links an identity with a customer of a tenant, who is told by m unless it is nil. It returns ErrConflict when
// another customer has it.
func (db *DB) AddIdentityLink(ctx context.Context, tenant string, customer uuid.UUID, provider string, d LinkDisplay, v Visit, m *Message) error {
	id, event := NewID(), NewID()
	plain, err := json.Marshal(d)
	if err != nil {
		return err
	}
	visit, err := db.sealedVisit(event[:], v)
	if err != nil {
		return err
	}
	message, payload, err := db.sealedMessage(m)
	if err != nil {
		return err
	}
	var linked int
	err = db.pool.QueryRow(ctx, addLinkSQL, [16]byte(id), [16]byte(customer), provider, db.identityIndex(tenant, d.Issuer, d.Subject),
		db.Keys().Seal(displayPurpose, customer[:], plain), [16]byte(event), visit, message, payload).Scan(&linked)
	if err == nil && linked == 0 {
		return ErrConflict
	}
	return err
}

// sealedMessage is a message in the outbox; a nil payload says that there is none.
func (db *DB) sealedMessage(m *Message) (id [16]byte, payload []byte, err error) {
	id = NewID()
	if m == nil {
		return id, nil, nil
	}
	plain, err := json.Marshal(m)
	if err != nil {
		return id, nil, err
	}
	return id, db.Keys().Seal(payloadPurpose, id[:], plain), nil
}

// ListIdentityLinks returns a customer's links, the oldest first.
func (db *DB) ListIdentityLinks(ctx context.Context, customer uuid.UUID) ([]IdentityLink, error) {
	rows, err := db.pool.Query(ctx, listLinksSQL, [16]byte(customer))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l IdentityLink, err error) {
		var sealed []byte
		if err = row.Scan((*[16]byte)(&l.ID), &l.Provider, &sealed, &l.CreatedAt, &l.LastUsedAt); err != nil {
			return l, err
		}
		plain, err := db.Keys().Open(displayPurpose, customer[:], sealed)
		if err != nil {
			return l, err
		}
		return l, json.Unmarshal(plain, &l.Display)
	})
}

// WaysIn says what of a customer's is a way to log in: what they must not be without.
type WaysIn struct {
	Password  bool     // the customer has one
	Passkeys  bool     // theirs can be used
	Providers []string // with which a link is one
}

// RemoveIdentityLink removes one of a customer's links. Without another way to log in it stays and ErrConflict is returned. It returns ErrNotFound for one that the customer does not have.
// The customer is told by m unless it is nil.
func (db *DB) RemoveIdentityLink(ctx context.Context, customer, link uuid.UUID, ways WaysIn, v Visit, m *Message) error {
	event := NewID()
	visit, err := db.sealedVisit(event[:], v)
	if err != nil {
		return err
	}
	message, payload, err := db.sealedMessage(m)
	if err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(lockCustomerSQL, [16]byte(customer))
	batch.Queue(removeLinkSQL, [16]byte(customer), [16]byte(link), ways.Password, orNone(ways.Providers), [16]byte(event), visit, message, payload, ways.Passkeys)
	batch.Queue(hasLinkSQL, [16]byte(customer), [16]byte(link))
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	if _, err := results.Exec(); err != nil {
		return err
	}
	removed, err := results.Exec()
	if err != nil {
		return err
	}
	var there bool
	if err := results.QueryRow().Scan(&there); err != nil {
		return err
	}
	switch err := results.Close(); {
	case err != nil:
		return err
	case there:
		return ErrConflict
	case removed.RowsAffected() == 0:
		return ErrNotFound
	}
	return nil
}

// PasswordHash is a customer's. It returns ErrNotFound for an unknown customer.
func (db *DB) PasswordHash(ctx context.Context, customer uuid.UUID) (hash string, err error) {
	err = db.pool.QueryRow(ctx, passwordHashSQL, [16]byte(customer)).Scan(&hash)
	return hash, notFound(err)
}

// HasSecondFactor tells whether a customer has a confirmed second factor.
func (db *DB) HasSecondFactor(ctx context.Context, customer uuid.UUID) (has bool, err error) {
	err = db.pool.QueryRow(ctx, hasFactorSQL, [16]byte(customer)).Scan(&has)
	return has, err
}

// SaveIdentityVisit keeps what a browser comes back for, or changes it.
func (db *DB) SaveIdentityVisit(ctx context.Context, hash []byte, content any, lifetime time.Duration) error {
	plain, err := json.Marshal(content)
	if err != nil {
		return err
	}
	_, err = db.pool.Exec(ctx, saveIdentityVisitSQL, hash, db.Keys().Seal(visitorPurpose, hash, plain), lifetime)
	return err
}

// FindIdentityVisit reads what was kept into content. It returns ErrNotFound for what is unknown, was taken or has expired.
func (db *DB) FindIdentityVisit(ctx context.Context, hash []byte, content any) error {
	return db.openIdentityVisit(ctx, findIdentityVisitSQL, hash, content)
}

// TakeIdentityVisit is FindIdentityVisit, for one caller alone.
func (db *DB) TakeIdentityVisit(ctx context.Context, hash []byte, content any) error {
	return db.openIdentityVisit(ctx, takeIdentityVisitSQL, hash, content)
}

func (db *DB) openIdentityVisit(ctx context.Context, sql string, hash []byte, content any) error {
	var sealed []byte
	if err := db.pool.QueryRow(ctx, sql, hash).Scan(&sealed); err != nil {
		return notFound(err)
	}
	plain, err := db.Keys().Open(visitorPurpose, hash, sealed)
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, content)
}
