// Package notify tells clients what happened to their customers: that one has logged out, that one has decided.
//
//	what happened ──▶ row in notifications, in the same transaction ──▶ NOTIFY ──▶ Wake
//	Run: take what is due ──▶ Sender of its kind ──▶ told: dropped
//	                                              ├─▶ not told: due again later, a bounded number of times
//	                                              └─▶ never told: given up
//
// A row is one attempt's for a time; then it is due again, wherever the process that took it has gone. So every
// notification is attempted at least once, and may be sent twice. How a kind is sent, its Sender knows: neither addresses
// nor tokens belong here.
package notify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
)

// Sender makes one attempt. An error means another attempt later, unless it is ErrRefused.
type Sender func(context.Context, storage.Notification) error

// ErrRefused is in the error of a Sender when another attempt would end no better.
var ErrRefused = errors.New("not to be tried again")

// Kind is how notifications of a kind are sent.
type Kind struct {
	Send    Sender
	Retries []time.Duration // how long after each attempt that failed the next one is due; nil: Retries

	// GiveUp ends a notification that nobody will be told of, in the place of dropping it; nil: it is dropped.
	GiveUp func(context.Context, storage.Notification) error
}

const (
	parallel  = 16                     // attempts at a time
	lostAfter = 30 * time.Second       // an attempt takes far less: whoever made it is no more
	every     = 10 * time.Second       // looked at least, in case nobody said that something is due earlier
	pause     = 100 * time.Millisecond // between two looks at the least: what is due may be another replica's at the moment
	attempt   = 10 * time.Second       // at most
)

// Retries is how long after each attempt that failed the next one is due, where a Kind says nothing else.
var Retries = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour}

// Queue sends notifications.
type Queue struct {
	db    *storage.DB
	log   *zap.Logger
	kinds map[string]Kind
	woken chan struct{}
	slots chan struct{}
}

// New makes a Queue that knows how to send these kinds.
func New(db *storage.DB, log *zap.Logger, kinds map[string]Kind) *Queue {
	return &Queue{db: db, log: log.Named("notify"), kinds: kinds, woken: make(chan struct{}, 1), slots: make(chan struct{}, parallel)}
}

// Wake makes Run look at once. It never blocks.
func (q *Queue) Wake() {
	select {
	case q.woken <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends, and returns when the last attempt has.
func (q *Queue) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		next, err := q.sendDue(ctx, &running)
		if err != nil && ctx.Err() == nil {
			q.log.Error("not looked at", zap.Error(err))
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-q.woken:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// sendDue begins an attempt at everything that is due, as soon as there is a slot for it. It returns in how long to look again.
func (q *Queue) sendDue(ctx context.Context, running *sync.WaitGroup) (time.Duration, error) {
	for {
		free, err := q.free(ctx)
		if err != nil {
			return every, err
		}
		taken, err := q.db.TakeNotifications(ctx, free, lostAfter)
		for range free - len(taken) {
			<-q.slots
		}
		if err != nil {
			return every, err
		}
		if len(taken) == 0 {
			next, err := q.db.NextNotification(ctx, every)
			return max(next, pause), err
		}
		for _, n := range taken {
			running.Go(func() {
				defer func() { <-q.slots }()
				q.try(ctx, n)
			})
		}
	}
}

// free waits until there is a slot, and takes all that there are.
func (q *Queue) free(ctx context.Context) (n int, err error) {
	select {
	case q.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	for n = 1; n < parallel; n++ {
		select {
		case q.slots <- struct{}{}:
		default:
			return n, nil
		}
	}
	return n, nil
}

// try makes an attempt and records how it ended.
func (q *Queue) try(ctx context.Context, n storage.Notification) {
	sending, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	kind := q.kinds[n.Kind]
	err := kind.send(sending, n)
	// What was told must not be told again because the server was stopped meanwhile.
	recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), attempt)
	defer cancel()
	fields := []zap.Field{zap.Stringer("notification", n.ID), zap.String("kind", n.Kind), zap.String("client_id", n.ClientID), zap.Int("attempt", n.Attempt)}
	switch {
	case err == nil:
		q.log.Info("told", fields...)
		err = q.db.DropNotification(recording, n.ID)
	case ctx.Err() != nil: // stopped: another replica, or the next start, goes on
		err = q.db.PostponeNotification(recording, n, 0)
	case errors.Is(err, ErrRefused) || n.Attempt > len(kind.retries()):
		q.log.Error("given up", append(fields, zap.NamedError("cause", err))...)
		if kind.GiveUp != nil {
			err = kind.GiveUp(recording, n)
		} else {
			err = q.db.DropNotification(recording, n.ID)
		}
	default:
		q.log.Warn("not told yet", append(fields, zap.NamedError("cause", err))...)
		err = q.db.PostponeNotification(recording, n, kind.retries()[n.Attempt-1])
	}
	if err != nil {
		q.log.Error("not recorded", append(fields, zap.Error(err))...)
	}
}

func (k Kind) send(ctx context.Context, n storage.Notification) error {
	if k.Send == nil { // of a newer version, which is being rolled out
		return fmt.Errorf("no sender of %q", n.Kind)
	}
	return k.Send(ctx, n)
}

func (k Kind) retries() []time.Duration {
	if k.Retries == nil {
		return Retries
	}
	return k.Retries
}
