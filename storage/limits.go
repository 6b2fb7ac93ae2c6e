package storage

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Limit is how often something may be tried. The Free-th attempt in a row begins a block of First, and each one after it a block
// that lasts twice as long as the one before, up to Most.
type Limit struct {
	Free        int
	First, Most time.Duration
	Forget      time.Duration // after which one attempt is forgotten, as in a leaky bucket; 0: never
}

// Bucket is where attempts are counted.
type Bucket struct {
	Key   []byte
	Limit Limit
}

// Block is what came of an attempt.
type Block struct {
	Wait    time.Duration // until the next attempt gets a verdict; 0: now
	Counted bool          // else this attempt gets none
	Began   bool          // it was one too many in the last of the buckets
}

const (
	limitPurpose = "limits.bucket"

	// keptFor is how long a browser is known, and how long failures are held against a customer.
	keptFor = `interval '90 days'`

	// The buckets of a customer follow from the keyed hash of the user name, so that a name which is nobody's has them too.
	unknownBrowsers = `sha256('unknown browsers of '::bytea || `
	knownBrowser    = `sha256('known browser of '::bytea || `

	notBlocked = `(l.blocked_until IS NULL OR l.blocked_until <= now())`

	// attemptSQL counts in one bucket, if the ones before it did: whoever is blocked there gets no verdict here either, and does not use
	// up what others may do. The row is the lock: attempts at once queue for it, and each sees what the one before left.
	attemptSQL = `, b$n AS (
    INSERT INTO limits AS l (bucket, attempts, at, blocked_until, expires_at)
    SELECT $key, 1, now(), CASE WHEN $free::int <= 1 THEN now() + $first::interval END,
        now() + CASE WHEN $forget::interval > interval '0' THEN interval '1 day' ELSE ` + keptFor + ` END FROM b$before
    ON CONFLICT (bucket) DO UPDATE SET attempts = $left + 1, at = now(),
        expires_at = CASE WHEN l.customer_id IS NULL THEN EXCLUDED.expires_at ELSE l.expires_at END,
        blocked_until = CASE WHEN ceil($left) + 1 >= $free THEN now() + least($most::interval, $first * power(2, least(ceil($left) + 1 - $free, 30))) END
    WHERE ` + notBlocked + `
    RETURNING blocked_until
)`
	leftSQL = `greatest(0, l.attempts - CASE WHEN $forget > interval '0' THEN extract(epoch FROM greatest(now() - l.at, interval '0')) / extract(epoch FROM $forget) ELSE 0 END)`

	attemptEventSQL = `, noted AS (
    INSERT INTO events (id, customer_id, kind, visit, details)
    SELECT $id, c.id, $kind::text || CASE WHEN b.blocked_until > now() THEN '.blocked' ELSE '.refused' END, $visit::bytea,
        $details::jsonb || CASE WHEN b.blocked_until > now() THEN jsonb_build_object('seconds', extract(epoch FROM b.blocked_until - now())::int) ELSE '{}' END
    FROM b$last b JOIN customers c ON c.id = $customer
)`

	blockedSQL = `SELECT coalesce(max(blocked_until) - now(), interval '0') FROM limits WHERE bucket = ANY($1) AND blocked_until > now()`

	// gateSQL lets through who is not blocked. Like an attempt it waits for the bucket's row, so that attempts at once get in, or do not, in
	// the order in which they come to it.
	gateSQL = `
    INSERT INTO limits AS l (bucket, attempts, at, expires_at) SELECT bucket, 0, now(), now() + ` + keptFor + ` FROM counted
    ON CONFLICT (bucket) DO UPDATE SET attempts = l.attempts WHERE ` + notBlocked + `
    RETURNING bucket`

	forgiveSQL = `DELETE FROM limits WHERE bucket = ANY($1) AND customer_id IS NULL`

	// A complete login makes the browser one that the customer is known by, and forgets what was tried in vain before it, there where it
	// was counted. What others tried elsewhere stays.
	rememberBrowserSQL = `
WITH login AS (
    SELECT l.hash, l.bucket, l.customer_id, ` + knownBrowser + `c.username_index || $2) AS known
    FROM logins l JOIN customers c ON c.id = l.customer_id WHERE l.hash = $1
), forgiven AS (
    DELETE FROM limits USING login WHERE limits.bucket = login.bucket AND login.bucket IS DISTINCT FROM login.known
), remembered AS (
    INSERT INTO limits (bucket, attempts, at, expires_at, customer_id)
    SELECT known, 0, now(), now() + ` + keptFor + `, customer_id FROM login WHERE known IS NOT NULL
    ON CONFLICT (bucket) DO UPDATE SET attempts = 0, at = now(), blocked_until = NULL, expires_at = EXCLUDED.expires_at, customer_id = EXCLUDED.customer_id
)
UPDATE logins SET bucket = login.known FROM login WHERE logins.hash = login.hash AND login.known IS NOT NULL`
)

// Attempt counts one in each of the buckets, which callers name in the same order: addresses first, customers last. If one is blocked, it
// and those after it do not count, and the attempt gets no verdict. One round trip.
func (db *DB) Attempt(ctx context.Context, buckets ...Bucket) (b Block, err error) {
	return db.AttemptOf(ctx, Event{}, buckets...)
}

// AttemptOf is Attempt for a customer, who is told of it: an attempt that counts makes an event, of e.Kind with ".refused" or, when a block
// begins, ".blocked" at its end. So there are no more events than attempts with a verdict. For uuid.Nil, which is nobody, none is made at
// the same cost.
func (db *DB) AttemptOf(ctx context.Context, e Event, buckets ...Bucket) (b Block, err error) {
	sql := strings.Builder{}
	sql.WriteString("WITH b0 AS (SELECT 1)")
	var args []any
	keys := make([][]byte, len(buckets))
	for i, bucket := range buckets {
		l := bucket.Limit
		keys[i] = bucket.Key
		sql.WriteString(attemptInto(i, "$"+strconv.Itoa(5*i+1), 5*i+2))
		args = append(args, bucket.Key, l.Free, l.First, max(l.First, l.Most), l.Forget)
	}
	last := strconv.Itoa(len(buckets))
	if e.Kind != "" {
		id := NewID()
		visit, err := db.sealedVisit(id[:], e.Visit)
		if err != nil {
			return Block{}, err
		}
		if e.Details == nil {
			e.Details = map[string]any{}
		}
		sql.WriteString(strings.NewReplacer("$id", "$"+strconv.Itoa(len(args)+1), "$customer", "$"+strconv.Itoa(len(args)+2), "$kind", "$"+strconv.Itoa(len(args)+3),
			"$visit", "$"+strconv.Itoa(len(args)+4), "$details", "$"+strconv.Itoa(len(args)+5), "$last", last).Replace(attemptEventSQL))
		args = append(args, [16]byte(id), [16]byte(e.CustomerID), e.Kind, visit, e.Details)
	}
	sql.WriteString(" SELECT count(*) > 0, coalesce(bool_or(blocked_until > now()), false) FROM b" + last)
	batch := &pgx.Batch{}
	batch.Queue(sql.String(), args...).QueryRow(func(row pgx.Row) error { return row.Scan(&b.Counted, &b.Began) })
	batch.Queue(blockedSQL, keys).QueryRow(func(row pgx.Row) error { return row.Scan(&b.Wait) })
	if err := db.pool.SendBatch(ctx, batch).Close(); err != nil {
		return Block{}, err
	}
	if !b.Counted {
		b.Wait = max(b.Wait, time.Second) // it may have ended just now
	}
	return b, nil
}

// attemptInto is attemptSQL for the i-th bucket, whose key is that expression, and whose limit's four arguments begin with first.
func attemptInto(i int, key string, first int) string {
	argument := func(n int) string { return "$" + strconv.Itoa(first+n) }
	return strings.NewReplacer("$n", strconv.Itoa(i+1), "$before", strconv.Itoa(i), "$key", key, "$free", argument(0),
		"$first", argument(1), "$most", argument(2), "$forget", argument(3)).Replace(strings.ReplaceAll(attemptSQL, "$left", leftSQL))
}

// Forgive forgets the attempts in buckets. That a browser is known is not forgotten. One round trip.
func (db *DB) Forgive(ctx context.Context, buckets ...Bucket) error {
	keys := make([][]byte, len(buckets))
	for i, b := range buckets {
		keys[i] = b.Key
	}
	_, err := db.pool.Exec(ctx, forgiveSQL, keys)
	return err
}

// BucketKey is the bucket of whom something is counted for: kind says what, who for whom.
func (db *DB) BucketKey(kind, who string) []byte {
	return db.Keys().Index(limitPurpose, []byte(kind+"\x00"+who))
}

// Network is where an address is, as far as attempts are concerned: itself, or the /64 of an IPv6 one, which is one customer's line. What is
// no address stands for itself.
func Network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		network, _ := ip.Prefix(64) // cannot fail
		ip = network.Addr()
	}
	return ip.String()
}

// LoginKind is the kind of BucketKey under which attempts to log in are counted for an address.
const LoginKind = "login"
