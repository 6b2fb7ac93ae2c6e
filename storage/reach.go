package storage

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// ReachCustomer is what a notification is about that goes one of the ways in which a customer can be told of a request. It
// says who, never where: addresses are read, and opened, when it is sent.
type ReachCustomer struct {
	ApprovalWanted
	SubscriptionID uuid.UUID `json:"subscription_id,omitzero"` // for a browser
}

// Way is one of the ways in which a customer is told: the kind of its notification and, for a browser, its subscription.
type Way struct {
	Kind           string
	SubscriptionID uuid.UUID
}

// PushSubscription is a customer's browser that can be rung (RFC 8030).
type PushSubscription struct {
	ID   uuid.UUID
	JSON []byte // as the browser made it: endpoint and keys
}

// Awaited is a request that waits for a customer, and all by which that one can be told.
type Awaited struct {
	Customer
	CreatedAt     time.Time
	ExpiresAt     time.Time
	Subscriptions []PushSubscription // the oldest first
}

const (
	subscriptionPurpose = "push_subscriptions.subscription"
	maxSubscriptions    = 10 // of one customer
)

const (
	lockSubscriberSQL = `SELECT id FROM customers WHERE id = $1 FOR NO KEY UPDATE`

	// A browser that another customer uses now rings for that one only.
	saveSubscriptionSQL = `
INSERT INTO push_subscriptions (id, customer_id, endpoint_hash, subscription) VALUES ($1, $2, $3, $4)
ON CONFLICT (endpoint_hash) DO UPDATE SET id = EXCLUDED.id, customer_id = EXCLUDED.customer_id,
    subscription = EXCLUDED.subscription, created_at = now()`

	dropOldSubscriptionsSQL = `
DELETE FROM push_subscriptions WHERE customer_id = $1
  AND id NOT IN (SELECT id FROM push_subscriptions WHERE customer_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2)`

	dropSubscriptionSQL = `DELETE FROM push_subscriptions WHERE customer_id = $1 AND endpoint_hash = $2`

	awaitedSQL = `
SELECT c.id, c.tenant, c.fineract_client_id, c.roles, c.profile, a.created_at, a.expires_at,
    ARRAY(SELECT p.id FROM push_subscriptions p WHERE p.customer_id = c.id ORDER BY p.created_at, p.id),
    ARRAY(SELECT p.subscription FROM push_subscriptions p WHERE p.customer_id = c.id ORDER BY p.created_at, p.id)
FROM authorizations a JOIN customers c ON c.id = a.for_customer_id
WHERE a.id = $1 AND c.id = $2 AND a.status = 'pending' AND a.expires_at > now() AND c.disabled_at IS NULL`

	// Whoever comes second, because the first was taken for lost, finds nothing to replace.
	splitNotificationSQL = `
WITH dropped AS (DELETE FROM notifications WHERE id = $1 RETURNING client_id, about)
INSERT INTO notifications (kind, client_id, about)
SELECT w.kind, d.client_id, jsonb_strip_nulls(d.about || jsonb_build_object('subscription_id', w.subscription))
FROM dropped d, unnest($2::text[], $3::uuid[]) AS w(kind, subscription)`
)

// SavePushSubscription keeps what a customer's browser made for being rung, under its endpoint: that is whose who
// subscribed last. The oldest of more than ten goes. It returns ErrNotFound for an unknown customer. One round trip.
func (db *DB) SavePushSubscription(ctx context.Context, customer uuid.UUID, subscription []byte, endpoint string) error {
	id := NewID()
	batch := &pgx.Batch{}
	batch.Queue(lockSubscriberSQL, [16]byte(customer)) // whoever saves at the same time counts after this
	batch.Queue(saveSubscriptionSQL, [16]byte(id), [16]byte(customer), endpointHash(endpoint), db.Keys().Seal(subscriptionPurpose, id[:], subscription))
	batch.Queue(dropOldSubscriptionsSQL, [16]byte(customer), maxSubscriptions)
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	if err := results.QueryRow().Scan(&[16]byte{}); err != nil {
		return notFound(err)
	}
	return results.Close()
}

// DropPushSubscription forgets a customer's browser, if it is theirs.
func (db *DB) DropPushSubscription(ctx context.Context, customer uuid.UUID, endpoint string) error {
	_, err := db.pool.Exec(ctx, dropSubscriptionSQL, [16]byte(customer), endpointHash(endpoint))
	return err
}

func endpointHash(endpoint string) []byte {
	hash := sha256.Sum256([]byte(endpoint))
	return hash[:]
}

// FindAwaited returns a request, or a transaction, that still waits for its customer. It returns ErrNotFound when it is decided or
// expired, or the customer is disabled, or may not approve the transaction any more: nobody is told of it then.
func (db *DB) FindAwaited(ctx context.Context, w ApprovalWanted) (*Awaited, error) {
	a := &Awaited{Customer: Customer{keys: db.Keys()}}
	var ids [][16]byte
	var sealed [][]byte
	sql, args := awaitedSQL, []any{[16]byte(w.AuthorizationID), [16]byte(w.CustomerID)}
	if w.TransactionID != uuid.Nil {
		sql, args = awaitedTransactionSQL, []any{[16]byte(w.TransactionID), [16]byte(w.CustomerID), nil, w.Revision}
	}
	err := db.pool.QueryRow(ctx, sql, args...).Scan((*[16]byte)(&a.ID), &a.Tenant,
		&a.FineractClientID, &a.Roles, &a.sealedProfile, &a.CreatedAt, &a.ExpiresAt, &ids, &sealed)
	if err != nil {
		return nil, notFound(err)
	}
	for i, id := range ids {
		plain, err := a.keys.Open(subscriptionPurpose, id[:], sealed[i])
		if err != nil {
			return nil, err
		}
		a.Subscriptions = append(a.Subscriptions, PushSubscription{id, plain})
	}
	return a, nil
}

// SplitNotification replaces an ApprovalNotification by one for each way, which are due at once, in one transaction: of
// however many attempts, one does.
func (db *DB) SplitNotification(ctx context.Context, id uuid.UUID, ways []Way) error {
	kinds, subscriptions := make([]string, len(ways)), make([]pgtype.UUID, len(ways))
	for i, w := range ways {
		kinds[i], subscriptions[i] = w.Kind, pgtype.UUID{Bytes: w.SubscriptionID, Valid: w.SubscriptionID != uuid.Nil}
	}
	_, err := db.pool.Exec(ctx, splitNotificationSQL, [16]byte(id), kinds, subscriptions)
	return err
}
