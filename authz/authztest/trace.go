package authztest

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// Trace counts what a server asks of its database: a statement alone or a batch is one round trip.
type Trace struct {
	roundTrips atomic.Int64
	statements atomic.Int64
	mu         sync.Mutex
	last       []string
}

// Reset forgets what was counted.
func (t *Trace) Reset() {
	t.roundTrips.Store(0)
	t.statements.Store(0)
	t.mu.Lock()
	t.last = nil
	t.mu.Unlock()
}

// RoundTrips returns how many were made since Reset.
func (t *Trace) RoundTrips() int64 { return t.roundTrips.Load() }

// Statements returns how many statements were sent since Reset.
func (t *Trace) Statements() int64 { return t.statements.Load() }

// SQL returns the statements since Reset.
func (t *Trace) SQL() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.last...)
}

func (t *Trace) sent(sql string) {
	t.statements.Add(1)
	t.mu.Lock()
	t.last = append(t.last, sql)
	t.mu.Unlock()
}

func (t *Trace) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	t.roundTrips.Add(1)
	t.sent(data.SQL)
	return ctx
}
func (t *Trace) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (t *Trace) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	t.roundTrips.Add(1)
	return ctx
}
func (t *Trace) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	t.sent(data.SQL)
}
func (t *Trace) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}
