package storage

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Mandate says who may start and approve what an organization does.
type Mandate struct {
	ID          uuid.UUID
	Tenant      string
	Name        string // of the organization, as its members know it
	OwnApproval bool   // whoever starts something may approve it too
	Tiers       []MandateTier
	Members     []MandateMember
}

// MandateTier says how many must approve amounts of a currency. The lowest tier that an amount fits into counts; what fits into
// none cannot be done.
type MandateTier struct {
	Currency  string      `json:"currency"`
	UpTo      json.Number `json:"up_to,omitempty"` // "": any amount
	Approvals int         `json:"approvals"`
}

// MandateMember is what one customer may do.
type MandateMember struct {
	CustomerID uuid.UUID
	MayStart   bool
	MayApprove bool
}

const (
	// The row of a mandate is held until its members are written too: two who write at once do so one after the other.
	saveMandateSQL = `
INSERT INTO mandates AS m (id, tenant, name, own_approval, tiers) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, own_approval = EXCLUDED.own_approval, tiers = EXCLUDED.tiers, updated_at = now(), ended_at = NULL
WHERE m.tenant = EXCLUDED.tenant
RETURNING id`

	dropMembersSQL = `DELETE FROM mandate_members WHERE mandate_id = $1`

	addMemberSQL = `
INSERT INTO mandate_members (mandate_id, customer_id, may_start, may_approve)
SELECT $1, c.id, $3, $4 FROM customers c JOIN mandates m ON m.id = $1 AND m.tenant = c.tenant WHERE c.id = $2
RETURNING customer_id`

	endMandateSQL = `UPDATE mandates SET ended_at = now(), updated_at = now() WHERE id = $1 AND tenant = $2 AND ended_at IS NULL`

	listMandatesSQL = `
SELECT id, tenant, name, own_approval, tiers FROM mandates
WHERE tenant = $1 AND ended_at IS NULL AND ($2::uuid IS NULL OR id = $2) ORDER BY name, id`

	listMembersSQL = `
SELECT m.mandate_id, m.customer_id, m.may_start, m.may_approve
FROM mandate_members m JOIN mandates d ON d.id = m.mandate_id
WHERE d.tenant = $1 AND d.ended_at IS NULL AND ($2::uuid IS NULL OR d.id = $2) ORDER BY m.mandate_id, m.customer_id`
)

// SaveMandate stores a mandate with all its members, in the place of the one with that id. What waits for approval falls under it
// at once. It returns ErrConflict if another tenant has that id, ErrNotFound if a member is no customer of the tenant; then
// nothing changes.
func (db *DB) SaveMandate(ctx context.Context, m *Mandate) error {
	tiers, err := json.Marshal(m.Tiers)
	if err != nil {
		return err
	}
	id := [16]byte(m.ID)
	return pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		var done [16]byte
		if err := tx.QueryRow(ctx, saveMandateSQL, id, m.Tenant, m.Name, m.OwnApproval, tiers).Scan(&done); err != nil {
			if errors.Is(err, pgx.ErrNoRows) {
				return ErrConflict
			}
			return err
		}
		if _, err := tx.Exec(ctx, dropMembersSQL, id); err != nil {
			return err
		}
		for _, member := range m.Members {
			err := tx.QueryRow(ctx, addMemberSQL, id, [16]byte(member.CustomerID), member.MayStart, member.MayApprove).Scan(&done)
			if err != nil {
				return notFound(err)
			}
		}
		return nil
	})
}

// EndMandate ends a mandate: what waits under it can neither be approved nor started any more. It returns ErrNotFound for one that is
// unknown or has ended.
func (db *DB) EndMandate(ctx context.Context, tenant string, id uuid.UUID) error {
	return db.changeOne(ctx, endMandateSQL, [16]byte(id), tenant)
}

// FindMandate returns a mandate that has not ended, or ErrNotFound.
func (db *DB) FindMandate(ctx context.Context, tenant string, id uuid.UUID) (*Mandate, error) {
	found, err := db.mandates(ctx, tenant, (*[16]byte)(&id))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ErrNotFound
	}
	return &found[0], nil
}

// ListMandates returns a tenant's mandates by name.
func (db *DB) ListMandates(ctx context.Context, tenant string) ([]Mandate, error) {
	return db.mandates(ctx, tenant, nil)
}

// mandates returns one or all. One round trip.
func (db *DB) mandates(ctx context.Context, tenant string, id *[16]byte) ([]Mandate, error) {
	batch := &pgx.Batch{}
	batch.Queue(listMandatesSQL, tenant, id)
	batch.Queue(listMembersSQL, tenant, id)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Mandate, err error) {
		var tiers []byte
		if err = row.Scan((*[16]byte)(&m.ID), &m.Tenant, &m.Name, &m.OwnApproval, &tiers); err != nil {
			return m, err
		}
		return m, json.Unmarshal(tiers, &m.Tiers)
	})
	if err != nil {
		return nil, err
	}
	if rows, err = results.Query(); err != nil {
		return nil, err
	}
	var of uuid.UUID
	var member MandateMember
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&of), (*[16]byte)(&member.CustomerID), &member.MayStart, &member.MayApprove}, func() error {
		if i := slices.IndexFunc(found, func(m Mandate) bool { return m.ID == of }); i >= 0 {
			found[i].Members = append(found[i].Members, member)
		}
		return nil
	})
	return found, err
}
