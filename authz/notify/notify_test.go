package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/storage/storagetest"
)

// bundle is a database with notifications in it.
type bundle struct {
	*storage.DB
	dsn string
	sql *pgx.Conn
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{dsn: storagetest.New(t)}
	var err error
	if b.DB, err = storage.Open(t.Context(), storage.Options{DSN: b.dsn, MasterKey: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.DB.Close)
	if b.sql, err = pgx.Connect(t.Context(), b.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.sql.Close(context.Background()) })
	return b
}

func (b *bundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := b.sql.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func (b *bundle) add(t *testing.T, n int) {
	t.Helper()
	b.exec(t, `INSERT INTO notifications (kind, client_id, about) SELECT 'logout', 'client-' || i, '{}' FROM generate_series(1, $1) i`, n)
}

func (b *bundle) count(t *testing.T, where string) (n int) {
	t.Helper()
	if err := b.sql.QueryRow(t.Context(), `SELECT count(*) FROM notifications WHERE `+where).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (b *bundle) soon(t *testing.T, where string, want int) {
	t.Helper()
	for began := time.Now(); b.count(t, where) != want; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 5*time.Second {
			t.Fatalf("%d notifications are %s, want %d", b.count(t, where), where, want)
		}
	}
}

// run runs a queue until stop is called or the test ends.
func (b *bundle) run(t *testing.T, send Sender) (q *Queue, stop func()) {
	t.Helper()
	return b.runKind(t, Kind{Send: send})
}

func (b *bundle) runKind(t *testing.T, kind Kind) (q *Queue, stop func()) {
	t.Helper()
	q = New(b.DB, zap.NewNop(), map[string]Kind{storage.LogoutNotification: kind})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { q.Run(ctx); close(ended) }()
	stop = func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Error("Run does not end")
		}
	}
	t.Cleanup(stop)
	return q, stop
}

func TestQueue_TellsEachOnceHoweverManyQueuesThereAre(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const n = 300
	var told sync.Map
	var twice, running, most atomic.Int64
	send := func(_ context.Context, x storage.Notification) error {
		if now := running.Add(1); now > most.Load() {
			most.Store(now)
		}
		defer running.Add(-1)
		if _, again := told.LoadOrStore(x.ClientID, true); again {
			twice.Add(1)
		}
		time.Sleep(time.Millisecond)
		return nil
	}
	var queues []*Queue
	for range 3 {
		q, _ := b.run(t, send)
		queues = append(queues, q)
	}
	b.add(t, n)
	for _, q := range queues {
		q.Wake()
		q.Wake()
	}
	b.soon(t, "true", 0)
	count := 0
	told.Range(func(any, any) bool { count++; return true })
	if count != n || twice.Load() != 0 || most.Load() > 3*parallel {
		t.Errorf("told %d of %d, %d twice, %d at a time", count, n, twice.Load(), most.Load())
	}
}

func TestQueue_RetriesABoundedNumberOfTimesAfterLongerAndLonger(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, 1)
	var attempts []int
	q, _ := b.run(t, func(_ context.Context, x storage.Notification) error {
		attempts = append(attempts, x.Attempt)
		return errors.New("nobody there")
	})
	for i, after := range Retries {
		b.soon(t, fmt.Sprintf("attempts = %d AND due_at BETWEEN now() + interval '%f seconds' AND now() + interval '%f seconds'",
			i+1, after.Seconds()-3, after.Seconds()), 1)
		b.exec(t, "UPDATE notifications SET due_at = now()")
		q.Wake()
	}
	b.soon(t, "true", 0)
	if want := []int{1, 2, 3, 4, 5, 6}; !slices.Equal(attempts, want) {
		t.Errorf("attempts %v", attempts)
	}
}

func TestQueue_GivesUpWhatIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, 1)
	var calls atomic.Int64
	b.run(t, func(context.Context, storage.Notification) error {
		calls.Add(1)
		return fmt.Errorf("400: %w", ErrRefused)
	})
	b.soon(t, "true", 0)
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
}

// A rolling update: an older version meets a kind that it does not know.
func TestQueue_KeepsWhatItCannotSend(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `ALTER TABLE notifications DROP CONSTRAINT notifications_kind_check`)
	b.add(t, 1)
	b.exec(t, `UPDATE notifications SET kind = 'ping'`)
	b.run(t, func(context.Context, storage.Notification) error {
		t.Error("sent as another kind")
		return nil
	})
	b.soon(t, "attempts = 1 AND due_at > now()", 1)
}

// kill -9: the row that a dead process took comes back by itself.
func TestQueue_TakesWhatADeadProcessHad(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, 1)
	if taken, err := b.TakeNotifications(t.Context(), 10, time.Second); err != nil || len(taken) != 1 || taken[0].Attempt != 1 {
		t.Fatal(taken, err)
	}
	if taken, err := b.TakeNotifications(t.Context(), 10, time.Second); err != nil || len(taken) != 0 {
		t.Fatal("taken by two", taken, err)
	}
	told := make(chan int, 2)
	b.run(t, func(_ context.Context, x storage.Notification) error { told <- x.Attempt; return nil })
	if attempt := <-told; attempt != 2 {
		t.Errorf("attempt %d", attempt)
	}
	b.soon(t, "true", 0)
}

func TestQueue_PassesOnWhatItHasWhenItIsStopped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, 2)
	begun := make(chan string, 2)
	_, stop := b.run(t, func(ctx context.Context, x storage.Notification) error {
		begun <- x.ClientID
		<-ctx.Done()
		if x.ClientID == "client-1" {
			return nil // told at the last moment
		}
		return ctx.Err()
	})
	<-begun
	<-begun
	stop()
	b.soon(t, "client_id = 'client-2' AND due_at <= now()", 1)
	b.soon(t, "true", 1)
}

// A kind has retries of its own, and its own end.
func TestQueue_GivesUpAsItsKindSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, 1)
	var ended atomic.Int64
	kind := Kind{
		Send:    func(context.Context, storage.Notification) error { return errors.New("nobody there") },
		Retries: []time.Duration{time.Minute},
		GiveUp: func(ctx context.Context, n storage.Notification) error {
			ended.Add(1)
			return b.DropNotification(ctx, n.ID)
		},
	}
	q, _ := b.runKind(t, kind)
	b.soon(t, "attempts = 1 AND due_at > now() + interval '50 seconds' AND due_at <= now() + interval '1 minute'", 1)
	b.exec(t, "UPDATE notifications SET due_at = now()")
	q.Wake()
	b.soon(t, "true", 0)
	if ended.Load() != 1 {
		t.Errorf("given up %d times", ended.Load())
	}
}

// What waits for its time comes due by itself: nobody says so.
func TestQueue_WakesForWhatIsDueNext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	told := make(chan time.Time, 2)
	b.run(t, func(context.Context, storage.Notification) error { told <- time.Now(); return nil })
	b.exec(t, `INSERT INTO notifications (kind, client_id, about, due_at) VALUES ('logout', 'later', '{}', now() + interval '1.5 seconds')`)
	inserted := time.Now()
	q, _ := b.run(t, func(context.Context, storage.Notification) error { told <- time.Now(); return nil })
	q.Wake()
	if late := (<-told).Sub(inserted) - 1500*time.Millisecond; late < -50*time.Millisecond || late > time.Second {
		t.Errorf("told %v after it was due", late)
	}
	b.soon(t, "true", 0)
	if len(told) != 0 {
		t.Error("told twice")
	}
}

// An attempt that has lost its row to a later one says nothing about it any more.
func TestPostpone_OfAnAttemptThatIsOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, 1)
	first, err := b.TakeNotifications(t.Context(), 1, 0)
	if err != nil || len(first) != 1 {
		t.Fatal(first, err)
	}
	second, err := b.TakeNotifications(t.Context(), 1, time.Hour)
	if err != nil || len(second) != 1 {
		t.Fatal(second, err)
	}
	if err := b.PostponeNotification(t.Context(), first[0], 0); err != nil || b.count(t, "due_at <= now()") != 0 {
		t.Errorf("the first attempt makes it due: %v", err)
	}
	if err := b.PostponeNotification(t.Context(), second[0], 0); err != nil || b.count(t, "due_at <= now()") != 1 {
		t.Errorf("the second does not: %v", err)
	}
}

func TestNextNotification(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, test := range []struct {
		due         string // "" for no notification
		least, most time.Duration
	}{
		{"", time.Minute, time.Minute}, {"1 hour", time.Minute, time.Minute}, {"30 seconds", 25 * time.Second, 30 * time.Second}, {"-2 days", 0, 0},
	} {
		if test.due != "" {
			b.exec(t, `INSERT INTO notifications (kind, client_id, about, due_at) VALUES ('logout', 'x', '{}', now() + $1::text::interval)`, test.due)
		}
		if next, err := b.NextNotification(t.Context(), time.Minute); err != nil || next < test.least || next > test.most {
			t.Errorf("%q: %v %v", test.due, next, err)
		}
	}
}
