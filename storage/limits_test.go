package storage_test

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/storage"
)

var strict = storage.Limit{Free: 5, First: time.Minute, Most: time.Hour}

// blocked is how long a bucket is blocked, to the second.
func (b *bundle) blocked(t *testing.T, key []byte) (d time.Duration) {
	t.Helper()
	if err := b.sql.QueryRow(t.Context(), `SELECT coalesce(date_trunc('second', max(blocked_until) - now() + interval '500 milliseconds'), '0') FROM limits WHERE bucket = $1 AND blocked_until > now()`, key).Scan(&d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (b *bundle) attempt(t *testing.T, buckets ...storage.Bucket) storage.Block {
	t.Helper()
	block, err := b.Attempt(t.Context(), buckets...)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// RTS (EU) 2018/389 art. 4(3)(b): five in a row, then a block, which grows with each further one up to the longest.
func TestAttempt_BlocksGrow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bucket := storage.Bucket{Key: b.BucketKey("login customer", "alice"), Limit: strict}
	for i := range 4 {
		if got := b.attempt(t, bucket); got != (storage.Block{Counted: true}) {
			t.Errorf("attempt %d: %+v", i+1, got)
		}
	}
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour, time.Hour} {
		if got := b.attempt(t, bucket); !got.Counted || !got.Began || got.Wait < want-5*time.Second || got.Wait > want {
			t.Errorf("block %d: %+v, want %v", i+1, got, want)
		}
		if got := b.attempt(t, bucket); got.Counted || got.Began || got.Wait <= 0 || got.Wait > want {
			t.Errorf("during block %d: %+v", i+1, got)
		}
		if got := b.blocked(t, bucket.Key); got < want-5*time.Second || got > want {
			t.Errorf("an attempt during block %d has made it %v", i+1, got)
		}
		b.exec(t, `UPDATE limits SET blocked_until = now()`)
	}
	if err := b.Forgive(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	if got := b.attempt(t, bucket); got != (storage.Block{Counted: true}) {
		t.Errorf("after it was forgiven: %+v", got)
	}
}

// However many run at once, and on however many servers, as many get a verdict as may.
func TestAttempt_FiftyAtOnceOnTwoServers(t *testing.T) {
	t.Parallel()
	one := setup(t)
	two := open(t, one.dsn)
	address := storage.Bucket{Key: one.BucketKey("login address", "192.0.2.1"), Limit: storage.Limit{Free: 100, First: time.Minute, Most: time.Minute, Forget: time.Minute}}
	customer := storage.Bucket{Key: one.BucketKey("login customer", "alice"), Limit: strict}
	var counted, began atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		db := []*storage.DB{one.DB, two}[i%2]
		wg.Go(func() {
			block, err := db.Attempt(t.Context(), address, customer)
			if err != nil {
				t.Error(err)
			}
			if block.Counted {
				counted.Add(1)
			} else if block.Wait <= 0 {
				t.Errorf("refused without a time: %+v", block)
			}
			if block.Began {
				began.Add(1)
			}
		})
	}
	wg.Wait()
	if counted.Load() != 5 || began.Load() != 1 {
		t.Errorf("%d were counted, %d began a block, want 5 and 1", counted.Load(), began.Load())
	}
}

// Who is blocked by the first bucket uses up nothing in the next: a blocked address cannot slow a customer down.
func TestAttempt_StopsAtTheFirstBlockedBucket(t *testing.T) {
	t.Parallel()
	b := setup(t)
	address := storage.Bucket{Key: b.BucketKey("login address", "192.0.2.1"), Limit: storage.Limit{Free: 3, First: time.Minute, Most: time.Minute}}
	for range 3 {
		b.attempt(t, address)
	}
	customer := storage.Bucket{Key: b.BucketKey("login customer", "alice"), Limit: strict}
	for range 10 {
		if got := b.attempt(t, address, customer); got.Counted || got.Wait <= 0 {
			t.Fatalf("%+v", got)
		}
	}
	if n := b.count(t, `SELECT count(*) FROM limits`); n != 1 {
		t.Errorf("%d buckets, want that of the address alone", n)
	}
	if got := b.attempt(t, storage.Bucket{Key: b.BucketKey("once", "alice"), Limit: storage.Limit{Free: 1, First: time.Minute, Most: time.Minute}}); !got.Counted || !got.Began {
		t.Errorf("a limit of one: %+v", got)
	}
}

func TestAttempt_ForgetsWithTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bucket := storage.Bucket{Key: b.BucketKey("login address", "192.0.2.1"), Limit: storage.Limit{Free: 10, First: time.Minute, Most: time.Hour, Forget: time.Minute}}
	for range 8 {
		b.attempt(t, bucket)
	}
	left := func() (n float64) {
		t.Helper()
		if err := b.sql.QueryRow(t.Context(), `SELECT attempts FROM limits WHERE bucket = $1`, bucket.Key).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, c := range []struct {
		why, sql string
		want     float64
	}{
		{"five minutes later", `UPDATE limits SET at = at - interval '5 minutes'`, 4},
		{"a day later", `UPDATE limits SET at = at - interval '1 day'`, 1},
		{"the clock was set back", `UPDATE limits SET at = now() + interval '1 day'`, 2}, // nothing is added, nothing forgotten
	} {
		b.exec(t, c.sql)
		b.attempt(t, bucket)
		if got := left(); got < c.want-0.2 || got > c.want {
			t.Errorf("%s: %v are left, want %v", c.why, got, c.want)
		}
	}
}

func (b *bundle) visited(t *testing.T, browser string) *storage.Credentials {
	t.Helper()
	index := b.Keys().Index("customers.username", []byte("default\x00alice"))
	b.exec(t, `UPDATE customers SET username_index = $1`, index)
	c, err := b.FindCredentials(t.Context(), "default", "alice", storage.Visit{Address: "192.0.2.1", Browser: browser})
	if err != nil || c.CustomerID != b.customer {
		t.Fatal(c, err)
	}
	return c
}

// A complete login makes a browser known; others' failures are then not held against it, nor its own against others.
func TestLimits_AKnownBrowserHasABucketOfItsOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mine, theirs := string(hash("my browser")), string(hash("another browser"))
	c := b.visited(t, mine)
	if c.Known || c.Wait != 0 {
		t.Errorf("%+v", c)
	}
	b.attempt(t, storage.Bucket{Key: c.Bucket, Limit: strict})
	n := storage.NewLogin{Hash: hash("new"), ACR: "urn:openbanking:psd2:ca", AMR: []string{"pwd"}, Lifetime: time.Minute, Bucket: c.Bucket, Visit: storage.Visit{Browser: mine}}
	if _, err := b.BeginLogin(t.Context(), b.customer, n, nil); err != nil {
		t.Fatal(err)
	}
	if n := b.count(t, `SELECT count(*) FROM limits`); n != 1 {
		t.Errorf("%d buckets are left, want the known browser's", n)
	}
	v, err := b.FindLogin(t.Context(), hash("new"))
	if err != nil {
		t.Fatal(err)
	}
	known := b.visited(t, mine)
	if !known.Known || !bytes.Equal(v.Bucket, known.Bucket) || bytes.Equal(known.Bucket, c.Bucket) {
		t.Errorf("%+v, and a login that counts in %x", known, v.Bucket)
	}
	other := b.visited(t, theirs)
	for range 5 {
		b.attempt(t, storage.Bucket{Key: other.Address, Limit: strict}, storage.Bucket{Key: other.Bucket, Limit: strict})
	}
	if other = b.visited(t, theirs); other.Known || other.Wait <= 0 || !bytes.Equal(other.Bucket, c.Bucket) {
		t.Errorf("another browser: %+v", other)
	}
	if known = b.visited(t, mine); known.Wait != 0 { // at the same address
		t.Errorf("the known browser waits for %v", known.Wait)
	}
	if r, err := b.FindCustomer(t.Context(), "default", "alice"); err != nil || r.BlockedUntil == nil {
		t.Errorf("%+v %v", r, err)
	}
	for range 5 {
		b.attempt(t, storage.Bucket{Key: known.Bucket, Limit: strict})
	}
	if known = b.visited(t, mine); !known.Known || known.Wait <= 0 {
		t.Errorf("its own failures: %+v", known)
	}
	n.Hash = hash("newer")
	n.Bucket = known.Bucket
	if _, err := b.BeginLogin(t.Context(), b.customer, n, nil); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("blocked, it got in: %v", err)
	}
	if err := b.UnlockCustomer(t.Context(), b.customer); err != nil {
		t.Fatal(err)
	}
	b.exec(t, `DELETE FROM limits WHERE bucket = $1`, other.Address)
	if known, other = b.visited(t, mine), b.visited(t, theirs); !known.Known || known.Wait != 0 || other.Wait != 0 {
		t.Errorf("unlocked: %+v, %+v", known, other)
	}
	b.exec(t, `UPDATE limits SET expires_at = now() WHERE customer_id IS NOT NULL`)
	if known = b.visited(t, mine); known.Known {
		t.Error("it is known for ever")
	}
	// What counted in its bucket in vain makes nobody known.
	b.exec(t, `DELETE FROM limits`)
	b.attempt(t, storage.Bucket{Key: v.Bucket, Limit: strict})
	if known = b.visited(t, mine); known.Known {
		t.Error("a failure made the browser known")
	}
}

// A name that is nobody's has buckets like any other.
func TestFindCredentials_NobodyHasBucketsToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	visit := storage.Visit{Address: "192.0.2.1", Browser: string(hash("browser"))}
	c, err := b.FindCredentials(t.Context(), "default", "nobody", visit)
	if err != nil || c.PasswordHash != "" || len(c.Bucket) != 32 || c.Known {
		t.Fatal(c, err)
	}
	for range 5 {
		b.attempt(t, storage.Bucket{Key: c.Address, Limit: storage.Limit{Free: 100, First: time.Minute}}, storage.Bucket{Key: c.Bucket, Limit: strict})
	}
	if c, err = b.FindCredentials(t.Context(), "default", "nobody", visit); err != nil || c.Wait <= 0 {
		t.Error(c, err)
	}
	if c, err = b.FindCredentials(t.Context(), "default", "alice", visit); err != nil || c.Wait != 0 {
		t.Error(c, err)
	}
	if c, err = b.FindCredentials(t.Context(), "other tenant", "nobody", visit); err != nil || c.Wait != 0 {
		t.Error(c, err)
	}
}

func TestPurge_RemovesBucketsThatHaveExpired(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, forget := range map[string]time.Duration{"customer": 0, "address": time.Minute} {
		l := strict
		l.Forget = forget
		b.attempt(t, storage.Bucket{Key: b.BucketKey(name, "x"), Limit: l})
	}
	for _, c := range []struct {
		age  string
		left int
	}{{"23 hours", 2}, {"2 hours", 1}, {"88 days", 1}, {"2 days", 0}} {
		b.exec(t, `UPDATE limits SET expires_at = expires_at - $1::interval`, c.age)
		if _, err := b.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := b.count(t, `SELECT count(*) FROM limits`); n != c.left {
			t.Errorf("%s on, %d are left, want %d", c.age, n, c.left)
		}
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::", "2001:db8:0:0:ffff::9": "2001:db8::",
		"2001:db8:0:1::1": "2001:db8:0:1::", "fe80::1%eth0": "fe80::", "": "", "@": "@",
	} {
		if got := storage.Network(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}
