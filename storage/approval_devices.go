package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ApprovalDevice is an installation of the bank's own app, with a key of its own.
type ApprovalDevice struct {
	ID         uuid.UUID
	CustomerID uuid.UUID
	ClientID   string // the app
	PublicKey  []byte // JWK
	Name       string // by which the customer knows it
	CreatedAt  time.Time
	LastUsedAt *time.Time // nil: never
}

// ErrTooManyDevices is for a customer who has as many as anybody may.
var ErrTooManyDevices = errors.New("storage: too many devices")

// ErrNoDevice is for a decision by a device that is unknown or was removed, or whose customer may not log in now.
var ErrNoDevice = errors.New("storage: no such device, or its customer may not log in")

const (
	deviceColumns = `d.id, d.customer_id, d.client_id, d.public_key, d.name, d.created_at, d.last_used_at`

	// Whoever adds another at the same time waits.
	lockDevicesSQL = `SELECT 1 FROM customers WHERE id = $1 FOR NO KEY UPDATE`

	addDeviceSQL = `
INSERT INTO approval_devices (id, customer_id, client_id, public_key, name)
SELECT $1, c.id, $3, $4, $5 FROM customers c
WHERE c.id = $2 AND c.disabled_at IS NULL AND (SELECT count(*) FROM approval_devices d WHERE d.customer_id = c.id) < $6
RETURNING created_at`

	listDevicesSQL   = `SELECT ` + deviceColumns + ` FROM approval_devices d WHERE d.customer_id = $1 ORDER BY d.created_at, d.id`
	findDeviceSQL    = `SELECT ` + deviceColumns + ` FROM approval_devices d WHERE d.customer_id = $1 AND d.id = $2 AND d.client_id = $3`
	removeDeviceSQL  = `DELETE FROM approval_devices WHERE customer_id = $1 AND id = $2`
	removeDevicesSQL = `DELETE FROM approval_devices WHERE customer_id = $1`

	waitsForSQL = waitsSQL + ` AND a.for_customer_id = $2`

	// What a device has signed is a login for one decision. Whoever removes the device waits until it is made, or has it refused.
	beginDeviceLoginSQL = `
WITH device AS (
    UPDATE approval_devices d SET last_used_at = now() FROM customers c
    WHERE d.id = $2 AND d.customer_id = $3 AND d.client_id = $4
      AND c.id = d.customer_id AND c.disabled_at IS NULL
    RETURNING d.customer_id
)
INSERT INTO logins (hash, customer_id, auth_time, acr, amr, expires_at)
SELECT $1, customer_id, now(), $5, $6, now() + interval '1 minute' FROM device`

	endDeviceLoginSQL = `DELETE FROM logins WHERE hash = $1`
)

// AddApprovalDevice stores a device, and sets CreatedAt. It returns ErrAlreadyUsed for a replay, ErrConflict when the device,
// which is known by its key, is registered already, for this customer or another, and ErrTooManyDevices when the customer has limit of
// them, or is disabled. One round trip.
func (db *DB) AddApprovalDevice(ctx context.Context, uses []Use, d *ApprovalDevice, limit int) error {
	batch := &pgx.Batch{}
	queueUses(batch, uses)
	batch.Queue(lockDevicesSQL, [16]byte(d.CustomerID))
	batch.Queue(addDeviceSQL, [16]byte(d.ID), [16]byte(d.CustomerID), d.ClientID, d.PublicKey, d.Name, limit)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	if err := readUses(results, uses); err != nil {
		return err
	}
	if _, err := results.Exec(); err != nil {
		return err
	}
	switch err := results.QueryRow().Scan(&d.CreatedAt); {
	case isUniqueViolation(err):
		return ErrConflict
	case errors.Is(err, pgx.ErrNoRows):
		return errors.Join(results.Close(), ErrTooManyDevices)
	case err != nil:
		return err
	}
	return results.Close()
}

func readUses(results pgx.BatchResults, uses []Use) error {
	for range uses {
		if _, err := results.Exec(); err != nil {
			return replayed(err)
		}
	}
	return nil
}

// ApprovalDevices returns a customer's devices, the oldest first.
func (db *DB) ApprovalDevices(ctx context.Context, customer uuid.UUID) ([]ApprovalDevice, error) {
	rows, err := db.pool.Query(ctx, listDevicesSQL, [16]byte(customer))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanDevice)
}

func scanDevice(row pgx.CollectableRow) (d ApprovalDevice, err error) {
	err = row.Scan((*[16]byte)(&d.ID), (*[16]byte)(&d.CustomerID), &d.ClientID, &d.PublicKey, &d.Name, &d.CreatedAt, &d.LastUsedAt)
	return d, err
}

// RemoveApprovalDevice forgets a device: what it signed and was not taken yet is worth nothing. It returns ErrNotFound when
// the customer has no such device.
func (db *DB) RemoveApprovalDevice(ctx context.Context, customer, id uuid.UUID) error {
	tag, err := db.pool.Exec(ctx, removeDeviceSQL, [16]byte(customer), [16]byte(id))
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrNotFound
	}
	return err
}

// OpenFor finds a pending authorization that waits for a customer, as Open does for a browser: with Accounts, but no Login.
// It returns ErrNotFound when it is unknown, another customer's, expired or decided. One round trip.
func (db *DB) OpenFor(ctx context.Context, requestURIHash []byte, customer uuid.UUID) (*Journey, error) {
	j, _, err := db.openFor(ctx, requestURIHash, customer, nil)
	return j, err
}

// OpenWithDevice is OpenFor for a decision that a device of the customer has signed. The device is nil when the customer has
// no such one of that client.
func (db *DB) OpenWithDevice(ctx context.Context, requestURIHash []byte, customer, device uuid.UUID, clientID string) (*Journey, *ApprovalDevice, error) {
	return db.openFor(ctx, requestURIHash, customer, func(batch *pgx.Batch) {
		batch.Queue(findDeviceSQL, [16]byte(customer), [16]byte(device), clientID)
	})
}

func (db *DB) openFor(ctx context.Context, requestURIHash []byte, customer uuid.UUID, queueDevice func(*pgx.Batch)) (*Journey, *ApprovalDevice, error) {
	batch := &pgx.Batch{}
	batch.Queue(waitsForSQL, requestURIHash, [16]byte(customer))
	batch.Queue(pendingConsentSQL, requestURIHash)
	batch.Queue(listAccountsSQL, [16]byte(customer))
	if queueDevice != nil {
		queueDevice(batch)
	}
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()

	j := &Journey{Authorization: Authorization{RequestURIHash: requestURIHash}}
	if err := db.readPending(results, j); err != nil {
		return nil, nil, err
	}
	rows, err := results.Query()
	if err != nil {
		return nil, nil, err
	}
	if j.Accounts, err = pgx.CollectRows(rows, db.scanAccount); err != nil || queueDevice == nil {
		return j, nil, err
	}
	if rows, err = results.Query(); err != nil {
		return nil, nil, err
	}
	devices, err := pgx.CollectRows(rows, scanDevice)
	if err != nil || len(devices) == 0 {
		return j, nil, err
	}
	return j, &devices[0], nil
}

// DeviceLogin is who decides when a device has signed.
type DeviceLogin struct {
	Device   uuid.UUID
	Customer uuid.UUID
	ClientID string // the app
	ACR      string
	AMR      []string
}

// ApproveBy is Approve by a device's signature; y.LoginHash is not taken. In one transaction with the identifiers that the
// signature uses up: ErrAlreadyUsed is for one that was used before, ErrNoDevice for a device that is no more. One round trip.
func (db *DB) ApproveBy(ctx context.Context, uses []Use, l DeviceLogin, y Approval) error {
	return db.decideBy(ctx, uses, l, func(loginHash []byte) (string, []any) {
		y.LoginHash = loginHash
		return approveSQL, y.arguments()
	})
}

// DenyBy is Deny by a device's signature, as ApproveBy is Approve.
func (db *DB) DenyBy(ctx context.Context, uses []Use, l DeviceLogin, requestURIHash []byte, clientID string) error {
	return db.decideBy(ctx, uses, l, func(loginHash []byte) (string, []any) {
		return denySQL, []any{requestURIHash, clientID, loginHash}
	})
}

// ReportBy is Report by a device's signature, as ApproveBy is Approve.
func (db *DB) ReportBy(ctx context.Context, uses []Use, l DeviceLogin, requestURIHash []byte, clientID string) error {
	return db.decideBy(ctx, uses, l, func(loginHash []byte) (string, []any) {
		return reportSQL, []any{requestURIHash, clientID, loginHash}
	})
}

// decideBy runs a statement that decides as whoever is logged in, with a login that nobody else ever sees.
func (db *DB) decideBy(ctx context.Context, uses []Use, l DeviceLogin, decide func(loginHash []byte) (sql string, args []any)) error {
	hash := make([]byte, 32)
	rand.Read(hash)
	sql, args := decide(hash)
	batch := &pgx.Batch{}
	queueUses(batch, uses)
	batch.Queue(beginDeviceLoginSQL, hash, [16]byte(l.Device), [16]byte(l.Customer), l.ClientID, l.ACR, l.AMR)
	batch.Queue(sql, args...)
	batch.Queue(endDeviceLoginSQL, hash)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	if err := readUses(results, uses); err != nil {
		return err
	}
	begun, err := results.Exec()
	if err != nil {
		return err
	}
	decided, err := results.Exec()
	if err != nil {
		return err
	}
	switch err := results.Close(); {
	case err != nil:
		return err
	case begun.RowsAffected() == 0:
		return ErrNoDevice
	case decided.RowsAffected() == 0:
		return ErrNotFound
	}
	return nil
}
