package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Authorization is a request that waits for a person or was decided. Request is opaque here: it is sealed at rest.
type Authorization struct {
	ID        uuid.UUID
	ClientID  string
	Request   []byte
	Scopes    []string
	ConsentID string // "" when none was named

	Terms       []byte      // what is asked for besides scopes, opaque here and sealed at rest; nil for nothing
	GrantAction GrantAction // what it does to a grant that its client manages

	AuthenticatedAfter *time.Time // an older login does not do
	ACRRequired        string     // a login with another acr does not do; "" when any does
	RequestURIHash     []byte     // SHA-256
	RequestURILifetime time.Duration
	JourneyLifetime    time.Duration // from now until the decision
	ForCustomer        uuid.UUID     // who alone may decide; uuid.Nil for whoever logs in
	CreatedAt          time.Time

	// What the decision added.
	CustomerID uuid.UUID
	GrantID    uuid.UUID // with Merge and Replace there from the start
	AccountIDs []string
	AuthTime   time.Time
	ACR        string
	AMR        []string
	SessionID  uuid.UUID // of the login that approved; uuid.Nil for none
}

const (
	requestPurpose = "authorizations.request"
	termsPurpose   = "authorizations.terms" // in grants too: the row is the authorization that they were approved in
)

const (
	pushSQL = `
INSERT INTO authorizations (id, client_id, request, scopes, consent_id, authenticated_after, acr_required,
    request_uri_hash, request_uri_expires_at, expires_at, terms, grant_action, grant_id)
SELECT $1, $2, $3, $4, nullif($5, ''), $6, nullif($7, ''), $8, now() + $9::interval, now() + $10::interval, $11, nullif($12, ''), $13
WHERE ($5 = '' OR EXISTS (SELECT 1 FROM consents k WHERE k.id = $5 AND k.client_id = $2
    AND k.status IN ('AwaitingAuthorisation', 'Authorised') AND (k.expires_at IS NULL OR k.expires_at > now())))
  AND ($13::uuid IS NULL OR EXISTS (SELECT 1 FROM grants g WHERE g.id = $13 AND g.client_id = $2 AND g.managed AND g.revoked_at IS NULL))
RETURNING created_at`

	openSQL = `
UPDATE authorizations SET opened_at = now()
WHERE request_uri_hash = $1 AND client_id = $2 AND opened_at IS NULL AND status = 'pending' AND request_uri_expires_at > now()`

	pendingSQL = waitsSQL + ` AND a.client_id = $2`
	waitsSQL   = `
SELECT a.id, a.client_id, coalesce(a.for_customer_id, '00000000-0000-0000-0000-000000000000'), a.request, a.scopes, coalesce(a.consent_id, ''), a.authenticated_after, coalesce(a.acr_required, ''), a.created_at, a.expires_at,
    coalesce(a.grant_action, ''), g.id, g.customer_id, g.updated_at, g.revoked_at, jsonb_array_length(g.terms)
FROM authorizations a LEFT JOIN grants g ON g.id = a.grant_id
WHERE a.request_uri_hash = $1 AND a.status = 'pending' AND a.opened_at IS NOT NULL AND a.expires_at > now()`

	pendingConsentSQL = `
SELECT ` + consentColumns + `
FROM authorizations a JOIN consents k ON k.id = a.consent_id WHERE a.request_uri_hash = $1`

	visitorSQL = `
SELECT l.customer_id, l.auth_time, coalesce(l.acr, ''), l.amr, l.expires_at, l.factor_at, coalesce(l.factor_kind, ''),
    c.tenant, c.fineract_client_id, c.roles, c.profile,
    coalesce((SELECT g.scopes FROM grants g
              WHERE g.customer_id = c.id AND g.client_id = $2 AND g.consent_id IS NULL AND g.revoked_at IS NULL AND NOT g.managed), '{}')
FROM logins l JOIN customers c ON c.id = l.customer_id
WHERE l.hash = $1 AND l.expires_at > now() AND c.disabled_at IS NULL`

	visitorAccountsSQL = `
SELECT ac.customer_id, ac.id, ac.details FROM accounts ac JOIN logins l ON l.customer_id = ac.customer_id
WHERE l.hash = $1 ORDER BY ac.id`

	// The login, the journey and the consent are looked at again, in the statement that decides: whatever changed since
	// the page was shown makes it decide nothing.
	deciderSQL = `
WITH login AS (
    SELECT l.customer_id, l.auth_time, l.acr, l.amr, l.session_id FROM logins l JOIN customers c ON c.id = l.customer_id
    WHERE l.hash = $3 AND l.expires_at > now() AND l.acr IS NOT NULL AND c.disabled_at IS NULL
    FOR KEY SHARE OF l -- whoever ends the login waits, and ends what is decided here too
), journey AS (
    SELECT a.id, a.client_id, a.scopes, a.consent_id, a.terms, a.grant_action, a.grant_id,
        login.customer_id, login.auth_time, login.acr, login.amr, login.session_id
    FROM authorizations a, login
    WHERE a.request_uri_hash = $1 AND a.client_id = $2 AND a.status = 'pending' AND a.opened_at IS NOT NULL AND a.expires_at > now()
      AND (a.for_customer_id IS NULL OR a.for_customer_id = login.customer_id)
      AND (a.authenticated_after IS NULL OR login.auth_time >= a.authenticated_after)
      AND (a.acr_required IS NULL OR login.acr = a.acr_required)
    FOR UPDATE OF a
)`

	// A grant is one row, and what an approval makes of it is made of that row as it is now: two at once add up, one that
	// comes after a withdrawal finds nothing to change. Its generation, not their own rows, tells that earlier tokens ended.
	approveSQL = deciderSQL + `, allowed AS (
    SELECT j.*, ARRAY(SELECT u.scope FROM unnest(j.scopes) WITH ORDINALITY u (scope, n) WHERE u.scope <> ALL ($9::text[]) ORDER BY u.n) AS granted
    FROM journey j
), picked AS (
    SELECT j.*, CASE WHEN j.terms IS NULL AND j.grant_action IS NULL THEN '[]' ELSE jsonb_build_array(jsonb_build_object(
        'authorization', j.id, 'scopes', j.granted, 'account_ids', $5::text[], 'sealed', encode(j.terms, 'base64'))) END AS term
    FROM allowed j
    WHERE NOT EXISTS (SELECT unnest($5::text[]) EXCEPT SELECT ac.id FROM accounts ac WHERE ac.customer_id = j.customer_id)
), agreed AS (
    UPDATE consents k SET status = 'Authorised', customer_id = j.customer_id,
        status_changed_at = CASE k.status WHEN 'Authorised' THEN k.status_changed_at ELSE now() END
    FROM picked j
    WHERE k.id = j.consent_id AND k.client_id = j.client_id AND (k.expires_at IS NULL OR k.expires_at > now())
      AND (k.status = 'AwaitingAuthorisation' OR k.status = 'Authorised' AND k.customer_id = j.customer_id)
    RETURNING k.id
), made AS (
    INSERT INTO grants AS g (id, client_id, customer_id, consent_id, scopes, account_ids, terms, managed)
    SELECT $4, j.client_id, j.customer_id, j.consent_id, j.granted, $5, j.term, j.grant_action IS NOT NULL FROM picked j
    WHERE (j.consent_id IS NULL OR j.consent_id IN (SELECT id FROM agreed)) AND coalesce(j.grant_action, 'create') = 'create'
    ON CONFLICT (client_id, customer_id, (coalesce(consent_id, ''))) WHERE revoked_at IS NULL AND NOT managed
    DO UPDATE SET scopes = ARRAY(SELECT DISTINCT unnest(g.scopes || EXCLUDED.scopes) ORDER BY 1), account_ids = EXCLUDED.account_ids,
        terms = CASE WHEN jsonb_array_length(g.terms) < ` + maxTermsSQL + ` THEN g.terms ELSE g.terms - 0 END || EXCLUDED.terms, updated_at = now()
    RETURNING g.*
), changed AS (
    UPDATE grants g SET generation = g.generation + 1, updated_at = now(),
        scopes = CASE j.grant_action WHEN 'merge' THEN ARRAY(SELECT DISTINCT unnest(g.scopes || j.granted) ORDER BY 1) ELSE j.granted END,
        account_ids = CASE j.grant_action WHEN 'merge' THEN ARRAY(SELECT DISTINCT unnest(g.account_ids || $5) ORDER BY 1) ELSE $5 END,
        terms = CASE j.grant_action WHEN 'merge' THEN g.terms || j.term ELSE j.term END
    FROM picked j
    WHERE j.grant_action IN ('merge', 'replace') AND j.consent_id IS NULL
      AND g.id = j.grant_id AND g.client_id = j.client_id AND g.customer_id = j.customer_id AND g.managed AND g.revoked_at IS NULL
      AND (j.grant_action = 'replace' OR jsonb_array_length(g.terms) < ` + maxTermsSQL + `)
    RETURNING g.*
), granted AS (
    SELECT * FROM made UNION ALL SELECT * FROM changed
), decided AS (
    UPDATE authorizations a SET status = 'approved', decided_at = now(), customer_id = j.customer_id,
    grant_id = granted.id, grant_generation = granted.generation,
    scopes = CASE WHEN granted.managed THEN granted.scopes ELSE j.granted END,
    account_ids = CASE WHEN granted.managed THEN granted.account_ids ELSE $5 END,
    auth_time = j.auth_time, acr = j.acr, amr = j.amr,
    session_id = CASE WHEN a.code_hash IS NULL THEN j.session_id END, -- what a device polls for is not used in this browser
    code_hash = coalesce(a.code_hash, $6), code_expires_at = CASE WHEN a.code_hash IS NULL THEN now() + $7 ELSE greatest(a.code_expires_at, now() + ` + fetchTimeSQL + `) END,
    expires_at = greatest(a.code_expires_at, now() + greatest($7, $8::interval))
FROM picked j, granted WHERE a.id = j.id
RETURNING a.id, a.request, a.scopes, coalesce(a.consent_id, ''), a.created_at, a.customer_id, a.grant_id, a.auth_time, a.acr, a.amr,
    coalesce(a.session_id, '00000000-0000-0000-0000-000000000000')
)` + toldSQL

	// A client that asked for it is told of the decision in the same transaction: its notification waits since the request.
	toldSQL = `, told AS (UPDATE notifications n SET due_at = now() FROM decided WHERE n.id = decided.id)
SELECT * FROM decided`

	// However late the customer was, the client has this long to fetch what they approved.
	fetchTimeSQL = `interval '1 minute'`

	denySQL   = deniedSQL + toldSQL
	deniedSQL = deciderSQL + `, rejected AS (
    UPDATE consents k SET status = 'Rejected', customer_id = j.customer_id, status_changed_at = now()
    FROM journey j WHERE k.id = j.consent_id AND k.status = 'AwaitingAuthorisation'
), decided AS (
    UPDATE authorizations a SET status = 'denied', decided_at = now(), customer_id = j.customer_id
    FROM journey j WHERE a.id = j.id
    RETURNING a.id, a.request
)`

	abandonSQL = `
WITH decided AS (
    UPDATE authorizations SET status = 'denied', decided_at = now()
    WHERE request_uri_hash = $1 AND client_id = $2 AND status = 'pending' AND expires_at > now()
    RETURNING id, request
)` + toldSQL
)

// Push stores a request that nobody was asked about yet, in one transaction with the identifiers it uses up. It sets
// CreatedAt. It returns ErrAlreadyUsed for a replay, and ErrNotFound when the consent or the grant it names is unknown,
// another client's, spent or expired.
func (db *DB) Push(ctx context.Context, uses []Use, a *Authorization) error {
	sealed := db.Keys().Seal(requestPurpose, a.ID[:], a.Request)
	return db.once(ctx, uses, func(row pgx.Row) error { return row.Scan(&a.CreatedAt) }, pushSQL,
		[16]byte(a.ID), a.ClientID, sealed, a.Scopes, a.ConsentID, a.AuthenticatedAfter, a.ACRRequired,
		a.RequestURIHash, a.RequestURILifetime, a.JourneyLifetime, db.sealedTerms(a), a.GrantAction, namedGrant(a))
}

func (db *DB) sealedTerms(a *Authorization) []byte {
	if a.Terms == nil {
		return nil
	}
	return db.Keys().Seal(termsPurpose, a.ID[:], a.Terms)
}

// namedGrant is the grant that a request wants changed, nil for none.
func namedGrant(a *Authorization) *[16]byte {
	if a.GrantID == uuid.Nil {
		return nil
	}
	return (*[16]byte)(&a.GrantID)
}

// Journey is a pending authorization together with who is looking at it.
type Journey struct {
	Authorization
	ExpiresAt time.Time // until when it can be decided
	Consent   *Consent  // what ConsentID names
	Grant     *Grant    // what GrantAction changes: ID, CustomerID, UpdatedAt, EndedAt
	Full      bool      // Grant holds so many approvals that it can be replaced only
	Login     *Login    // nil when nobody has logged in
	Customer  *Customer // whose login it is
	Accounts  []Account // the customer's
	Agreed    []string  // scopes that the customer granted this client before, outside of consents
}

// Open finds a pending authorization and marks it as opened, which it must be before its request_uri expires. It returns
// ErrNotFound when it is unknown, another client's, expired or decided. loginHash is the hash of the visitor's cookie, or nil.
func (db *DB) Open(ctx context.Context, requestURIHash []byte, clientID string, loginHash []byte) (*Journey, error) {
	batch := &pgx.Batch{}
	batch.Queue(openSQL, requestURIHash, clientID)
	batch.Queue(pendingSQL, requestURIHash, clientID)
	batch.Queue(pendingConsentSQL, requestURIHash)
	if loginHash != nil {
		batch.Queue(visitorSQL, loginHash, clientID)
		batch.Queue(visitorAccountsSQL, loginHash)
	}
	results := db.pool.SendBatch(ctx, batch)
	defer results.Close()

	if _, err := results.Exec(); err != nil {
		return nil, err
	}
	j := &Journey{Authorization: Authorization{RequestURIHash: requestURIHash}}
	if err := db.readPending(results, j); err != nil {
		return nil, err
	}
	if loginHash == nil {
		return j, nil
	}
	login, customer := &Login{}, &Customer{keys: db.Keys()}
	err := results.QueryRow().Scan((*[16]byte)(&login.CustomerID), &login.AuthTime, &login.ACR, &login.AMR, &login.ExpiresAt, &login.FactorAt, &login.FactorKind,
		&customer.Tenant, &customer.FineractClientID, &customer.Roles, &customer.sealedProfile, &j.Agreed)
	switch err = notFound(err); err {
	case nil:
		customer.ID = login.CustomerID
		j.Login, j.Customer = login, customer
	case ErrNotFound:
		return j, nil
	default:
		return nil, err
	}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	j.Accounts, err = pgx.CollectRows(rows, db.scanAccount)
	return j, err
}

// readPending reads what waitsSQL and pendingConsentSQL have found.
func (db *DB) readPending(results pgx.BatchResults, j *Journey) error {
	var grantID, grantCustomer *[16]byte
	var changed, ended *time.Time
	var approvals *int
	err := results.QueryRow().Scan((*[16]byte)(&j.ID), &j.ClientID, (*[16]byte)(&j.ForCustomer), &j.Request, &j.Scopes, &j.ConsentID, &j.AuthenticatedAfter, &j.ACRRequired, &j.CreatedAt, &j.ExpiresAt,
		&j.GrantAction, &grantID, &grantCustomer, &changed, &ended, &approvals)
	if err != nil {
		return notFound(err)
	}
	if grantID != nil {
		j.GrantID = *grantID
		j.Grant = &Grant{ID: *grantID, ClientID: j.ClientID, CustomerID: *grantCustomer, UpdatedAt: *changed, EndedAt: ended}
		j.Full = *approvals >= maxTerms
	}
	if j.Request, err = db.Keys().Open(requestPurpose, j.ID[:], j.Request); err != nil {
		return err
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	consents, err := pgx.CollectRows(rows, scanConsent)
	if len(consents) == 1 {
		j.Consent = &consents[0]
	}
	return err
}

// Approval is a customer's yes.
type Approval struct {
	RequestURIHash []byte
	ClientID       string
	LoginHash      []byte
	AccountIDs     []string // what the customer picked
	Without        []string // scopes that were asked for and are not for this customer
	CodeHash       []byte   // not taken, nor its lifetime, if the client polls: that one has its code
	CodeLifetime   time.Duration
	TokenLifetime  time.Duration // of an access token that goes out with the code
}

// Approve records the yes of whoever is logged in: the authorization gets its code, the consent becomes Authorised, the
// grant exists. It returns ErrNotFound, and changes nothing, when any of them is not (or no longer) in a state to be
// approved by this login.
func (db *DB) Approve(ctx context.Context, y Approval) (*Authorization, error) {
	a := &Authorization{ClientID: y.ClientID, AccountIDs: y.AccountIDs}
	err := db.pool.QueryRow(ctx, approveSQL, y.arguments()...).
		Scan((*[16]byte)(&a.ID), &a.Request, &a.Scopes, &a.ConsentID, &a.CreatedAt, (*[16]byte)(&a.CustomerID), (*[16]byte)(&a.GrantID), &a.AuthTime, &a.ACR, &a.AMR, (*[16]byte)(&a.SessionID))
	if err != nil {
		return nil, notFound(err)
	}
	a.Request, err = db.Keys().Open(requestPurpose, a.ID[:], a.Request)
	return a, err
}

// arguments are those of approveSQL.
func (y *Approval) arguments() []any {
	return []any{y.RequestURIHash, y.ClientID, y.LoginHash, [16]byte(NewID()), orNone(y.AccountIDs), y.CodeHash, y.CodeLifetime, y.TokenLifetime, orNone(y.Without)}
}

// Deny records the no of whoever is logged in; the consent becomes Rejected. It returns ErrNotFound like Approve.
func (db *DB) Deny(ctx context.Context, requestURIHash []byte, clientID string, loginHash []byte) (*Authorization, error) {
	return db.end(ctx, clientID, denySQL, requestURIHash, clientID, loginHash)
}

// Abandon ends a journey that cannot be decided (prompt=none, a consent of another customer); the consent stays as it is.
func (db *DB) Abandon(ctx context.Context, requestURIHash []byte, clientID string) (*Authorization, error) {
	return db.end(ctx, clientID, abandonSQL, requestURIHash, clientID)
}

func (db *DB) end(ctx context.Context, clientID, sql string, args ...any) (*Authorization, error) {
	a := &Authorization{ClientID: clientID}
	err := db.pool.QueryRow(ctx, sql, args...).Scan((*[16]byte)(&a.ID), &a.Request)
	if err != nil {
		return nil, notFound(err)
	}
	a.Request, err = db.Keys().Open(requestPurpose, a.ID[:], a.Request)
	return a, err
}
