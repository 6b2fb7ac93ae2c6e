package storage

import (
	"context"
	"encoding/json"
	"strings"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/text/unicode/norm"
)

// Customers are found by what they are reached at: an email address or a phone number. As of user names, there is a keyed
// hash of it beside the sealed profile. Several customers may share an address.

const (
	emailPurpose = "customers.email"
	phonePurpose = "customers.phone"

	// mostSharing is how many customers an address is looked up for: a family, a small firm.
	mostSharing = 20

	byEmailSQL = `SELECT ` + customerColumns + ` FROM customers c WHERE c.tenant = $1 AND c.email_index = $2 ORDER BY c.id LIMIT $3`
	byPhoneSQL = `SELECT ` + customerColumns + ` FROM customers c WHERE c.tenant = $1 AND c.phone_index = $2 ORDER BY c.id LIMIT $3`

	profileForUpdateSQL = `SELECT tenant, profile FROM customers WHERE id = $1 FOR NO KEY UPDATE`
	setProfileSQL       = `
UPDATE customers SET profile = $2, email_index = $3, phone_index = $4, email_verified = $5, phone_verified = $6 WHERE id = $1`

	unindexedSQL = `SELECT id, tenant, profile FROM customers WHERE email_verified IS NULL ORDER BY id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED`
)

// contacts is by what a customer is found.
type contacts struct {
	email, phone                 []byte // nil for none
	emailVerified, phoneVerified bool
}

func (db *DB) contactsOf(tenant string, p *Profile) contacts {
	return contacts{
		email: db.emailIndex(tenant, p.Email), emailVerified: p.EmailVerified && p.Email != "",
		phone: db.phoneIndex(tenant, p.PhoneNumber), phoneVerified: p.PhoneNumberVerified && p.PhoneNumber != "",
	}
}

// emailIndex is what an address is found by, nil for none. Capitals do not matter: no provider tells two people apart by them.
func (db *DB) emailIndex(tenant, email string) []byte {
	email = strings.ToLower(norm.NFKC.String(strings.TrimSpace(email)))
	if !strings.Contains(email, "@") {
		return nil
	}
	return db.Keys().Index(emailPurpose, []byte(tenant+"\x00"+email))
}

// phoneIndex is what a number is found by, nil for none. How it is written does not matter, but only the international form
// (E.164) is a number: of others nobody knows whose they are.
func (db *DB) phoneIndex(tenant, phone string) []byte {
	number := PhoneNumber(phone)
	if number == "" {
		return nil
	}
	return db.Keys().Index(phonePurpose, []byte(tenant+"\x00"+number))
}

// PhoneNumber is a number as E.164 writes it, such as +254712345678; "" for what is none.
func PhoneNumber(typed string) string {
	typed = strings.TrimPrefix(strings.TrimSpace(typed), "tel:") // RFC 3966
	digits := strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9':
			return r
		case unicode.IsSpace(r), strings.ContainsRune("+-.()/", r):
			return -1
		}
		return 'x'
	}, typed)
	if international, ok := strings.CutPrefix(digits, "00"); ok && !strings.HasPrefix(typed, "+") {
		digits, typed = international, "+"
	}
	if !strings.HasPrefix(typed, "+") || strings.Contains(digits, "x") || len(digits) < 7 || len(digits) > 15 || digits[0] == '0' {
		return ""
	}
	return "+" + digits
}

// FindCustomersByEmail returns the customers of a tenant who have that email address, verified or not: their profile says. At
// most 20, oldest first; none is no error.
func (db *DB) FindCustomersByEmail(ctx context.Context, tenant, email string) ([]CustomerRecord, error) {
	return db.findByContact(ctx, byEmailSQL, tenant, db.emailIndex(tenant, email))
}

// FindCustomersByPhone returns the customers of a tenant who have that phone number, as FindCustomersByEmail does.
func (db *DB) FindCustomersByPhone(ctx context.Context, tenant, phone string) ([]CustomerRecord, error) {
	return db.findByContact(ctx, byPhoneSQL, tenant, db.phoneIndex(tenant, phone))
}

// findByContact asks the database for what is no address too: how long it takes tells nobody anything.
func (db *DB) findByContact(ctx context.Context, sql, tenant string, index []byte) ([]CustomerRecord, error) {
	rows, err := db.pool.Query(ctx, sql, tenant, index, mostSharing)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, db.scanCustomer)
}

// ChangeProfile lets change work on a customer's profile, which nobody else changes meanwhile, and stores it with what it is
// found by. The user name stays what it is. It returns ErrNotFound for an unknown customer, or the error of change, and then
// changes nothing.
func (db *DB) ChangeProfile(ctx context.Context, id uuid.UUID, change func(*Profile) error) error {
	return pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error { return db.changeProfile(ctx, tx, id, change) })
}

func (db *DB) changeProfile(ctx context.Context, tx pgx.Tx, id uuid.UUID, change func(*Profile) error) error {
	c := &Customer{ID: id, keys: db.Keys()}
	if err := tx.QueryRow(ctx, profileForUpdateSQL, [16]byte(id)).Scan(&c.Tenant, &c.sealedProfile); err != nil {
		return notFound(err)
	}
	p, err := c.Profile()
	if err != nil {
		return err
	}
	username := p.Username
	if err := change(&p); err != nil {
		return err
	}
	p.Username = username
	sql, args, err := db.profileUpdate(c, &p)
	if err == nil {
		_, err = tx.Exec(ctx, sql, args...)
	}
	return err
}

func (db *DB) profileUpdate(c *Customer, p *Profile) (sql string, args []any, err error) {
	plain, err := json.Marshal(p)
	if err != nil {
		return "", nil, err
	}
	found := db.contactsOf(c.Tenant, p)
	return setProfileSQL, []any{[16]byte(c.ID), db.Keys().Seal(profilePurpose, c.ID[:], plain),
		found.email, found.phone, found.emailVerified, found.phoneVerified}, nil
}

// IndexContacts makes customers findable by their addresses whose profile was written by a version that did not. It returns how
// many. Several replicas may run it at once.
func (db *DB) IndexContacts(ctx context.Context) (total int, err error) {
	for {
		n, err := db.indexSome(ctx)
		if total += n; err != nil || n == 0 {
			return total, err
		}
	}
}

func (db *DB) indexSome(ctx context.Context) (n int, err error) {
	err = pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, unindexedSQL, 200)
		if err != nil {
			return err
		}
		customers, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Customer, error) {
			c := &Customer{keys: db.Keys()}
			return c, row.Scan((*[16]byte)(&c.ID), &c.Tenant, &c.sealedProfile)
		})
		if err != nil {
			return err
		}
		batch := &pgx.Batch{}
		for _, c := range customers {
			p, err := c.Profile()
			if err != nil {
				return err
			}
			sql, args, err := db.profileUpdate(c, &p)
			if err != nil {
				return err
			}
			batch.Queue(sql, args...)
		}
		n = len(customers)
		return tx.SendBatch(ctx, batch).Close()
	})
	return n, err
}
