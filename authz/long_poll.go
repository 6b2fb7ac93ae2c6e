package authz

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// longestWait is how long a poll may wait for the decision. The listeners' time limits allow for it.
const longestWait = 30 * time.Second

// waiters are the polls that wait in this process: one for a request at most. What they wait for costs nothing until the
// database says that somebody has decided.
type waiters struct {
	most, perClient int // beyond which a poll is answered at once

	mu       sync.Mutex
	byCode   map[string]*waiter // by the hash of what the client polls with
	byClient map[string]int
	ended    bool
}

// waiter is a poll that waits. Its channel says that there is something to look at; closed, that the poll is answered now.
type waiter struct {
	client string
	woken  chan struct{}
}

func newWaiters() *waiters {
	return &waiters{most: 50_000, perClient: 10_000, byCode: map[string]*waiter{}, byClient: map[string]int{}}
}

// enter makes a waiter, in the place of an older one of the same request. It returns nil when there are too many, when the
// server stops, and for what another client waits for.
func (w *waiters) enter(code, client string) *waiter {
	w.mu.Lock()
	defer w.mu.Unlock()
	older := w.byCode[code]
	switch {
	case w.ended:
		return nil
	case older != nil && older.client != client:
		return nil
	case older != nil:
		w.dismiss(code, older)
	case len(w.byCode) >= w.most || w.byClient[client] >= w.perClient:
		return nil
	}
	newer := &waiter{client, make(chan struct{}, 1)}
	w.byCode[code] = newer
	w.byClient[client]++
	return newer
}

// leave is called for every waiter in the end.
func (w *waiters) leave(code string, one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byCode[code] == one {
		w.dismiss(code, one)
	}
}

func (w *waiters) dismiss(code string, one *waiter) {
	close(one.woken)
	delete(w.byCode, code)
	if w.byClient[one.client]--; w.byClient[one.client] == 0 {
		delete(w.byClient, one.client)
	}
}

// wake lets who waits for a request look at it.
func (w *waiters) wake(codeHash []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one := w.byCode[string(codeHash)]; one != nil {
		select {
		case one.woken <- struct{}{}:
		default: // told already
		}
	}
}

// waitedFor are the hashes of all codes that somebody waits for.
func (w *waiters) waitedFor() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([][]byte, 0, len(w.byCode))
	for code := range w.byCode {
		all = append(all, []byte(code))
	}
	return all
}

// end answers all, and lets nobody wait any more.
func (w *waiters) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	for code, one := range w.byCode {
		w.dismiss(code, one)
	}
}

// wakeMissed wakes those whose decision came while nobody listened.
func (s *Server) wakeMissed(ctx context.Context) error {
	waited := s.waiters.waitedFor()
	if len(waited) == 0 {
		return nil
	}
	decided, err := s.db.DecidedAmong(ctx, waited)
	for _, codeHash := range decided {
		s.waiters.wake(codeHash)
	}
	return err
}

// awaitTokens answers a poll whose client would rather wait for the decision than ask again (CIBA Core §7.3). code is what it
// polls with. It costs a statement when it comes, and one more when there is a decision or the request expires, so that it is
// the database that says which of the two was first.
func (s *Server) awaitTokens(ctx context.Context, r *Request, code string, wait time.Duration) (Response, error) {
	key := string(engine.CodeHash(code))
	place := s.waiters.enter(key, r.Client.ID) // before the first look: no decision falls between
	if place == nil {
		return s.tokens(ctx, r, time.Time{})
	}
	defer s.waiters.leave(key, place)
	var response Response
	var err error
	apart(func() { response, err = s.tokens(ctx, r, time.Time{}) })
	var pending *storage.Pending
	if !errors.As(err, &pending) {
		return response, err
	}
	r.beginWait()
	enough := time.NewTimer(wait)
	defer enough.Stop()
	for {
		look := s.await(ctx, place, enough.C, pending.Left)
		if ctx.Err() != nil { // nobody is there any more
			return nil, ctx.Err()
		}
		if !look {
			return nil, err
		}
		if s.clients.find(r.Client.ID) == nil {
			return nil, errUnknownClient
		}
		if response, err = s.tokens(ctx, r, pending.PolledAt); !errors.As(err, &pending) {
			return response, err
		}
	}
}

// apart runs f on a stack of its own, which is free again afterwards: a goroutine that waits keeps the largest that it ever
// needed, for long.
func apart(f func()) {
	done := make(chan any)
	go func() {
		defer func() { done <- recover() }()
		f()
	}()
	if fault := <-done; fault != nil {
		panic(fault) // as f would have here
	}
}

// await tells whether there may be something new: somebody decided, or nobody did in time.
func (s *Server) await(ctx context.Context, place *waiter, enough <-chan time.Time, left time.Duration) bool {
	expires := time.NewTimer(left)
	defer expires.Stop()
	select {
	case _, woken := <-place.woken:
		return woken
	case <-expires.C:
		return true
	case <-enough:
	case <-ctx.Done():
	}
	return false
}

// awaited is what a poll that waits still needs of its form.
var awaited = []string{"grant_type", "auth_req_id", "device_code", "resource", "authorization_details"}

// beginWait says so, and lets go of what is not needed any more.
func (r *Request) beginWait() {
	form := url.Values{}
	for _, name := range awaited {
		for _, value := range r.Form[name] {
			form.Add(name, strings.Clone(value)) // the others are parts of the body
		}
	}
	r.Form = form
	r.answer.Set("Preference-Applied", "wait") // RFC 7240 §3
}

// polledWith returns what a client polls with, "" for another grant type.
func polledWith(form url.Values) string {
	switch form.Get("grant_type") {
	case fapi.GrantCIBA:
		return form.Get("auth_req_id")
	case fapi.GrantDeviceCode:
		return form.Get("device_code")
	}
	return ""
}

// preferredWait is how long the client of a request would wait for the answer (RFC 7240 §4.3), at most longestWait. What is
// malformed does not count, and of a preference that is repeated the first counts (§2).
func preferredWait(h http.Header) time.Duration {
	for _, line := range h.Values("Prefer") {
		for preference := range splitQuoted(line, ',') {
			first, _, _ := strings.Cut(preference, ";") // a name and its value hold none, unless it is quoted, which a number is not
			name, value, _ := strings.Cut(first, "=")
			if strings.EqualFold(strings.TrimSpace(name), "wait") {
				return waitSeconds(strings.TrimSpace(value))
			}
		}
	}
	return 0
}

// waitSeconds reads delta-seconds (RFC 9111 §1.2.2).
func waitSeconds(text string) time.Duration {
	seconds, err := strconv.ParseUint(text, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return longestWait
	case err != nil:
		return 0
	}
	return time.Duration(min(seconds, uint64(longestWait/time.Second))) * time.Second
}

// splitQuoted splits a list whose members may have quoted parts (RFC 9110 §5.6.4).
func splitQuoted(list string, separator byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		quoted, start := false, 0
		for i := 0; i < len(list); i++ {
			switch c := list[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case c == separator && !quoted:
				if !yield(list[start:i]) {
					return
				}
				start = i + 1
			}
		}
		yield(list[start:])
	}
}
