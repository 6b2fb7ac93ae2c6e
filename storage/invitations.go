package storage

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Invitation is the bank's word that somebody is a client of the core.
type Invitation struct {
	ID               uuid.UUID
	Tenant           string
	FineractClientID int64
	Invited          Invited
	ExpiresAt        time.Time
}

// Invited is what the bank knows of them.
type Invited struct {
	Profile  Profile   `json:"profile"` // Email and PhoneNumber are the core's record. One is verified if the code went there and nowhere else
	Roles    []string  `json:"roles,omitempty"`
	Accounts []account `json:"accounts,omitempty"`
}

// account is an Account with its id.
type account struct {
	ID string `json:"id"`
	Account
}

// SetAccounts gives the invited customer accounts.
func (i *Invited) SetAccounts(accounts []Account) {
	for _, a := range accounts {
		i.Accounts = append(i.Accounts, account{a.ID, a})
	}
}

// ListAccounts returns them.
func (i *Invited) ListAccounts() (accounts []Account) {
	for _, a := range i.Accounts {
		a.Account.ID = a.ID
		accounts = append(accounts, a.Account)
	}
	return accounts
}

const (
	invitedPurpose        = "invitations.invited"
	invitationCodePurpose = "invitations.code"

	createInvitationSQL = `
INSERT INTO invitations (id, tenant, code_index, fineract_client_id, invited, email_index, phone_index, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, now() + $8) RETURNING expires_at`

	findInvitationSQL = `
SELECT ` + invitationColumns + ` FROM invitations i
WHERE i.tenant = $1 AND i.code_index = $2 AND i.used_at IS NULL AND i.expires_at > now()`

	invitationColumns = `i.id, i.tenant, i.fineract_client_id, i.invited, i.expires_at`

	// The newest: the bank has made it because the older ones did not arrive.
	invitationForSQL = `
SELECT ` + invitationColumns + ` FROM invitations i JOIN customers c ON c.tenant = i.tenant
WHERE c.id = $1 AND i.used_at IS NULL AND i.expires_at > now()
  AND (i.email_index = c.email_index AND c.email_verified OR i.phone_index = c.phone_index AND c.phone_verified)
ORDER BY i.id DESC LIMIT 1`

	useInvitationSQL = `
UPDATE invitations SET used_at = now(), customer_id = $2 WHERE id = $1 AND used_at IS NULL AND expires_at > now()`

	linkCustomerSQL = `
UPDATE customers SET fineract_client_id = $2, roles = ARRAY(SELECT DISTINCT unnest(roles || $3::text[]) ORDER BY 1)
WHERE id = $1 AND disabled_at IS NULL AND (fineract_client_id IS NULL OR fineract_client_id = $2)
  AND ($4 = 0 OR (SELECT count(*) FROM customers o WHERE o.tenant = customers.tenant AND o.fineract_client_id = $2 AND o.id <> $1) < $4)
RETURNING tenant`
)

// CreateInvitation stores an invitation that is found by code, and sets ExpiresAt. m, unless nil, is sent.
func (db *DB) CreateInvitation(ctx context.Context, i *Invitation, code string, lifetime time.Duration, m *Message) error {
	invited, err := json.Marshal(i.Invited)
	if err != nil {
		return err
	}
	p := &i.Invited.Profile
	batch := &pgx.Batch{}
	batch.Queue(createInvitationSQL, [16]byte(i.ID), i.Tenant, db.invitationIndex(i.Tenant, code), i.FineractClientID,
		db.Keys().Seal(invitedPurpose, i.ID[:], invited), db.emailIndex(i.Tenant, p.Email), db.phoneIndex(i.Tenant, p.PhoneNumber), lifetime).
		QueryRow(func(row pgx.Row) error { return row.Scan(&i.ExpiresAt) })
	if m != nil {
		if err := db.queueMessage(batch, *m, nil); err != nil {
			return err
		}
	}
	return db.pool.SendBatch(ctx, batch).Close()
}

func (db *DB) invitationIndex(tenant, code string) []byte {
	return db.Keys().Index(invitationCodePurpose, []byte(tenant+"\x00"+code))
}

// FindInvitation finds an invitation by its code. It returns ErrNotFound for a code that is unknown, another tenant's, used or
// expired.
func (db *DB) FindInvitation(ctx context.Context, tenant, code string) (*Invitation, error) {
	return db.scanInvitation(db.pool.QueryRow(ctx, findInvitationSQL, tenant, db.invitationIndex(tenant, code)))
}

// InvitationFor finds the newest invitation whose email address or phone number, as the core has it, the customer has shown to
// be theirs. It returns ErrNotFound when there is none.
func (db *DB) InvitationFor(ctx context.Context, customer uuid.UUID) (*Invitation, error) {
	return db.scanInvitation(db.pool.QueryRow(ctx, invitationForSQL, [16]byte(customer)))
}

func (db *DB) scanInvitation(row pgx.Row) (*Invitation, error) {
	i := &Invitation{}
	var sealed []byte
	if err := row.Scan((*[16]byte)(&i.ID), &i.Tenant, &i.FineractClientID, &sealed, &i.ExpiresAt); err != nil {
		return nil, notFound(err)
	}
	plain, err := db.Keys().Open(invitedPurpose, i.ID[:], sealed)
	if err == nil {
		err = json.Unmarshal(plain, &i.Invited)
	}
	return i, err
}

// AcceptInvitation makes the customer who was invited. It returns ErrNotFound when the invitation was used or has expired
// meanwhile, or as CreateCustomer does.
func (db *DB) AcceptInvitation(ctx context.Context, i *Invitation, n NewCustomer, e Event) error {
	return db.createWith(ctx, n, e, func(tx pgx.Tx) error { return useInvitation(ctx, tx, i, n.ID) })
}

func useInvitation(ctx context.Context, tx pgx.Tx, i *Invitation, customer uuid.UUID) error {
	tag, err := tx.Exec(ctx, useInvitationSQL, [16]byte(i.ID), [16]byte(customer))
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrNotFound
	}
	return err
}

// LinkInvitation makes a customer the one whom the core knows by the invitation: with its accounts, and its roles beside their own.
// It returns ErrNotFound when the invitation was used or has expired meanwhile, and ErrClientTaken when that client has as many
// customers as it may, or the customer is another client's.
func (db *DB) LinkInvitation(ctx context.Context, i *Invitation, customer uuid.UUID, mostPerClient int, e Event) error {
	return pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockClientSQL, i.Tenant, i.FineractClientID); err != nil {
			return err
		}
		var tenant string
		err := tx.QueryRow(ctx, linkCustomerSQL, [16]byte(customer), i.FineractClientID, orNone(i.Invited.Roles), mostPerClient).Scan(&tenant)
		if notFound(err) == ErrNotFound {
			return ErrClientTaken
		}
		if err != nil {
			return err
		}
		if tenant != i.Tenant {
			return ErrNotFound
		}
		if err := useInvitation(ctx, tx, i, customer); err != nil {
			return err
		}
		batch := &pgx.Batch{}
		if err := db.queueAccounts(batch, customer, i.Invited.ListAccounts()); err != nil {
			return err
		}
		e.CustomerID = customer
		if err := db.queueEvent(batch, e); err != nil {
			return err
		}
		return tx.SendBatch(ctx, batch).Close()
	})
}
