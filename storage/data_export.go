package storage

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// held is one table in which something is held about a customer, and how it is handed out. A column of bytes is a hash, a key
// or sealed: it stays here unless open says how it is read. Other columns go out, but for those in without.
type held struct {
	table   string
	name    string   // in the export; "" for the table's name
	where   string   // of rows t about customer $1; "" is customer_id
	without []string // columns that are secret although they are no bytes, or say nothing
	open    map[string]opener
	hidden  []string // members of what is opened that are between a client and the server
	kinds   string   // a column whose value says which rows may be opened …
	opened  []string
}

// opener reads a sealed column of a row: where it is sealed to, and the purpose.
type opener struct {
	purpose string
	row     func(customer uuid.UUID, row map[string]any) []byte
}

// byID is for columns that are sealed to the row's id.
func byID(purpose string) opener { return byUUID(purpose, "id") }

// byUUID is for columns that are sealed to another column, which is an id.
func byUUID(purpose, column string) opener {
	return opener{purpose, func(_ uuid.UUID, row map[string]any) []byte {
		text, _ := row[column].(string)
		id, _ := uuid.Parse(text)
		return id[:]
	}}
}

// byBytes is for columns that are sealed to another column of bytes.
func byBytes(purpose, column string) opener {
	return opener{purpose, func(_ uuid.UUID, row map[string]any) []byte { return columnBytes(row[column]) }}
}

// heldAbout is every place where something is held about a customer. A test compares it with the schema.
var heldAbout = []held{
	{table: "customers", name: "customer", where: "t.id = $1", without: []string{"password_hash", "transaction_password_hash"},
		open: map[string]opener{"profile": byID(profilePurpose)}},
	{table: "accounts", open: map[string]opener{"details": {accountPurpose, func(customer uuid.UUID, row map[string]any) []byte {
		id, _ := row["id"].(string)
		return accountRow(customer, id)
	}}}},
	{table: "second_factors", without: []string{"last_step"}, open: map[string]opener{"secret": byID(factorPurpose)},
		kinds: "kind", opened: []string{EmailFactor, SMSFactor}},
	{table: "logins", without: []string{"hash"}, open: map[string]opener{"visit": byBytes(visitPurpose, "hash")}},
	{table: "events", open: map[string]opener{"visit": byID(visitPurpose)}},
	{table: "one_time_codes", without: []string{"id"}},
	{table: "consents"},
	{table: "grants", without: []string{"terms"}}, // what they hold is in the authorizations
	{table: "authorizations", where: "t.customer_id = $1 OR t.for_customer_id = $1", open: map[string]opener{"request": byID(requestPurpose), "terms": byID(termsPurpose)},
		hidden: []string{"client_notification_token", "auth_req_id"}},
	{table: "muted_clients"},
	{table: "push_subscriptions", open: map[string]opener{"subscription": byID(subscriptionPurpose)}},
	{table: "approval_devices"}, // the key is public
	{table: "account_deletions"},
	{table: "notifications", where: "t.about->>'customer_id' = $1::uuid::text"},
	{table: "invitations", open: map[string]opener{"invited": byID(invitedPurpose)}},
	{table: "identity_links", open: map[string]opener{"display": {displayPurpose, func(customer uuid.UUID, _ map[string]any) []byte { return customer[:] }}}},
	{table: "recoveries", without: []string{"new_password"}},
	{table: "limits", name: "known_browsers"},
	{table: "fineract_otp_requests"},
	{table: "fineract_tfa_tokens"},
	{table: "mandate_members"},
	{table: "transactions", where: "t.started_by = $1 OR t.id IN (SELECT d.transaction_id FROM transaction_decisions d WHERE d.customer_id = $1)",
		open: map[string]opener{"details": byID(detailsPurpose)}},
	{table: "transaction_decisions", open: map[string]opener{"reason": byUUID(reasonPurpose, "transaction_id")}},
}

func (h held) sql() string {
	where := h.where
	if where == "" {
		where = "t.customer_id = $1"
	}
	return "SELECT to_jsonb(t) FROM " + h.table + " t WHERE " + where
}

func (h held) label() string {
	if h.name != "" {
		return h.name
	}
	return h.table
}

// DataExport is everything that is held about a customer: by section, its rows, each with its columns by their names.
type DataExport map[string][]map[string]any

// ExportData collects it, and remembers by an event that it was handed out. One round trip. It returns ErrNotFound for an
// unknown customer.
func (db *DB) ExportData(ctx context.Context, customer uuid.UUID, e Event) (DataExport, error) {
	batch := &pgx.Batch{}
	for _, h := range heldAbout {
		batch.Queue(h.sql(), [16]byte(customer))
	}
	e.CustomerID = customer
	if err := db.queueEvent(batch, e); err != nil {
		return nil, err
	}
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()
	out := DataExport{}
	for _, h := range heldAbout {
		rows, err := results.Query()
		if err != nil {
			return nil, err
		}
		list, err := pgx.CollectRows(rows, pgx.RowTo[map[string]any])
		if err != nil {
			return nil, err
		}
		if h.table == "customers" && len(list) == 0 {
			return nil, ErrNotFound
		}
		for _, row := range list {
			if err := db.handOut(h, customer, row); err != nil {
				return nil, fmt.Errorf("storage: %s: %w", h.table, err)
			}
		}
		out[h.label()] = list
	}
	return out, results.Close()
}

// handOut opens what may be read, and takes out what is secret and what is empty.
func (db *DB) handOut(h held, customer uuid.UUID, row map[string]any) error {
	opened := map[string]any{}
	for column, o := range h.open {
		sealed := columnBytes(row[column])
		if sealed == nil || !h.opens(row) {
			continue
		}
		plain, err := db.Keys().Open(o.purpose, o.row(customer, row), sealed)
		if err != nil {
			return err
		}
		opened[column] = h.readable(plain)
	}
	for _, column := range h.without {
		delete(row, column)
	}
	for column, value := range row {
		if value == nil || columnBytes(value) != nil {
			delete(row, column)
		}
	}
	for column, value := range opened {
		row[column] = value
	}
	return nil
}

// readable is what was opened, as it is handed out.
func (h held) readable(plain []byte) any {
	var members map[string]json.RawMessage
	switch {
	case json.Unmarshal(plain, &members) == nil && len(h.hidden) > 0:
		for _, name := range h.hidden {
			delete(members, name)
		}
		return members
	case json.Valid(plain):
		return json.RawMessage(plain)
	}
	return string(plain)
}

// opens tells whether the sealed columns of a row may be read: the address of a factor, but not the key of another.
func (h held) opens(row map[string]any) bool {
	if h.kinds == "" {
		return true
	}
	for _, kind := range h.opened {
		if row[h.kinds] == kind && row["confirmed_at"] != nil {
			return true
		}
	}
	return false
}

// columnBytes is a column of bytes as jsonb has it, or nil for any other.
func columnBytes(value any) []byte {
	text, ok := value.(string)
	if !ok || !strings.HasPrefix(text, `\x`) {
		return nil
	}
	raw, err := hex.DecodeString(text[2:])
	if err != nil || raw == nil {
		return nil
	}
	return raw
}

// Retained is what was kept of a customer who is gone.
type Retained struct {
	Kind             string         `json:"kind"`
	FineractClientID *int64         `json:"fineract_client_id,omitempty"`
	Record           map[string]any `json:"record"`
	Until            time.Time      `json:"retained_until"`
}

const retainedSQL = `SELECT kind, fineract_client_id, record, retained_until FROM retained_records WHERE customer_id = $1 ORDER BY id`

// RetainedRecords returns what was kept of a customer who is gone.
func (db *DB) RetainedRecords(ctx context.Context, customer uuid.UUID) ([]Retained, error) {
	rows, err := db.pool.Query(ctx, retainedSQL, [16]byte(customer))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Retained])
}
