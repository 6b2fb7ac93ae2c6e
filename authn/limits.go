package authn

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
)

// Blocked says that an attempt gets no verdict, since too many went before. It is also errRefused.
type Blocked struct{ Wait time.Duration }

func (b *Blocked) Error() string        { return "authn: too many attempts" }
func (b *Blocked) Is(target error) bool { return target == errRefused || target == errLocked }

var (
	errRefused = errors.New("authn: refused") // all that the outside learns of an attempt
	errLocked  = errors.New("authn: blocked") // what a [Blocked] is, for those who do not ask how long
)

// The limit of an address is loose: thousands may be behind one. An attempt is forgotten after addressForget, so that what everybody's
// slips add up to does not block them for ever.
const (
	addressAttempts = 100
	addressForget   = 12 * time.Second
	longestLoose    = 15 * time.Minute
)

// PerCustomer is where attempts at something of one customer are counted; kind says at what. who is an id, or a name, which may be
// nobody's.
func (a *Authn) PerCustomer(kind, who string) storage.Bucket {
	return a.strict(a.db.BucketKey(kind+" customer", who))
}

// PerAddress is where attempts from the network of a request are counted.
func (a *Authn) PerAddress(kind string, r *http.Request) storage.Bucket {
	return a.loose(a.db.BucketKey(kind+" address", storage.Network(visitOf(r).Address)))
}

// PerClient is where attempts by one OAuth client are counted, at customers of whichever name.
func (a *Authn) PerClient(kind, clientID string) storage.Bucket {
	return a.loose(a.db.BucketKey(kind+" client", clientID))
}

func (a *Authn) strict(key []byte) storage.Bucket {
	return storage.Bucket{Key: key, Limit: storage.Limit{Free: a.config.MaxFailures, First: a.config.FirstBlock, Most: a.config.LongestBlock}}
}

func (a *Authn) loose(key []byte) storage.Bucket {
	return storage.Bucket{Key: key, Limit: storage.Limit{Free: a.config.AddressAttempts, First: a.config.FirstBlock, Most: longestLoose, Forget: addressForget}}
}

// Attempt counts an attempt before anybody knows how it ends, in buckets that are named in this order: addresses, clients, customers. It
// returns a *Blocked when it is to get no verdict. One round trip.
func (a *Authn) Attempt(ctx context.Context, kind string, buckets ...storage.Bucket) error {
	_, err := a.attempt(ctx, kind, buckets...)
	return err
}

// attempt is Attempt, and tells what began with it.
func (a *Authn) attempt(ctx context.Context, kind string, buckets ...storage.Bucket) (storage.Block, error) {
	ctx, cancel := untilDone(ctx)
	defer cancel()
	b, err := a.db.Attempt(ctx, buckets...)
	if err == nil && !b.Counted {
		a.refused(kind, "blocked")
		a.log.Warn(kind+".blocked", zap.Duration("blocked", b.Wait))
		err = &Blocked{b.Wait}
	}
	return b, err
}

// Forgive forgets the attempts in buckets of customers once one has succeeded; those of an address stay, or whoever has an access of their
// own could guess at others without end. One round trip.
func (a *Authn) Forgive(ctx context.Context, buckets ...storage.Bucket) error {
	return a.db.Forgive(ctx, buckets...)
}

// failed counts a wrong code at a step of a login, and returns errRefused or a *Blocked. What went on from no login was no guess.
func (a *Authn) failed(ctx context.Context, v *storage.Visitor, amr string) error {
	if v.Bucket == nil {
		a.refused("login", "wrong")
		return errRefused
	}
	return a.countFailure(ctx, v.CustomerID, v.From, amr, a.strict(v.Bucket))
}

// countFailure counts a refused attempt where it is decided. It is counted even if the visitor has left: going away must not make a guess free.
func (a *Authn) countFailure(ctx context.Context, customer uuid.UUID, visit storage.Visit, amr string, buckets ...storage.Bucket) error {
	ctx, cancel := untilDone(ctx)
	defer cancel()
	b, err := a.db.AttemptOf(ctx, storage.Event{CustomerID: customer, Kind: "login", Visit: visit, Details: map[string]any{"amr": amr}}, buckets...)
	if err != nil {
		return err
	}
	reason := "wrong"
	if !b.Counted {
		reason = "blocked"
	}
	a.refused("login", reason)
	a.log.Warn("login.refused", zap.Stringer("customer", customer), zap.String("amr", amr), zap.Duration("blocked", b.Wait))
	if b.Wait > 0 {
		return &Blocked{b.Wait}
	}
	return errRefused
}

func untilDone(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
}

// refused counts a refusal for whoever watches the server.
func (a *Authn) refused(action, reason string) {
	if a.config.Refused != nil {
		a.config.Refused(action, reason)
	}
}

// waitText is what a customer reads who has to wait; false for an error that is no *Blocked.
func (a *Authn) waitText(err error) (text string, blocked bool) {
	var b *Blocked
	if !errors.As(err, &b) {
		return "", false
	}
	if minutes := int(math.Ceil(b.Wait.Minutes())); minutes > 1 {
		return a.pages.Text("problem.blocked", "minutes", strconv.Itoa(minutes)), true
	}
	return a.pages.Text("problem.blocked_briefly"), true
}

// retryAfter is waitText, and tells programs the same (RFC 9110 §10.2.3).
func (a *Authn) retryAfter(w http.ResponseWriter, err error) (text string, blocked bool) {
	var b *Blocked
	if errors.As(err, &b) {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(b.Wait.Seconds()))))
	}
	return a.waitText(err)
}

// knownCookie tells browsers apart. The value proves nothing by itself: what it is worth stands in a row that a complete login makes.
const (
	knownCookie    = "__Host-browser"
	knownForNow    = 90 * 24 * time.Hour
	knownCookieAge = int(knownForNow / time.Second)
)

// visit is where a request comes from, and lets the browser be known by its next requests.
func (a *Authn) visit(w http.ResponseWriter, r *http.Request) storage.Visit {
	v := visitOf(r)
	value := cookieValue(r, knownCookie)
	if v.Browser == "" {
		var hash []byte
		value, hash = newCookie()
		v.Browser = string(hash)
	}
	http.SetCookie(w, &http.Cookie{Name: knownCookie, Value: value, Path: "/", MaxAge: knownCookieAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	return v
}

// browserOf is what the browser of a request is known by; "" for one that is not.
func browserOf(r *http.Request) string {
	raw, err := cookieEncoding.DecodeString(cookieValue(r, knownCookie))
	if err != nil || len(raw) != cookieBytes {
		return ""
	}
	return string(hashCookie(raw))
}
