package authz

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// CIBA is what an institution decides about requests that reach its customers on another device. Zero values are replaced by
// the defaults.
type CIBA struct {
	Lifetime    time.Duration    // of a request for which the client asks no other, and the longest; default 5 minutes
	MaxOpen     int              // requests that may wait for one customer; default 5
	Notices     int              // an hour, of which one customer is told, some more at once; default 20
	HintIssuers fapi.HintIssuers // whose login_hint_tokens count
}

const (
	shortestBackchannel = 10 * time.Second // in which nobody decides anything
	longestBackchannel  = time.Hour        // who has not looked by then did not ask
)

// userCodeLimit makes four digits last: at this pace, trying half of them takes ten days.
var userCodeLimit = storage.CodeLimit{Failures: 5, Window: 15 * time.Minute}

func (c *CIBA) fill() {
	if c.Lifetime == 0 {
		c.Lifetime = 5 * time.Minute
	}
	if c.MaxOpen == 0 {
		c.MaxOpen = 5
	}
	if c.Notices == 0 {
		c.Notices = 20
	}
}

func (c *CIBA) check() error {
	var wrong []error
	if c.Lifetime != 0 && (c.Lifetime < shortestBackchannel || c.Lifetime > longestBackchannel) {
		wrong = append(wrong, fmt.Errorf("ciba lifetime %v: must be from %v to %v", c.Lifetime, shortestBackchannel, longestBackchannel))
	}
	if c.MaxOpen < 0 || c.Notices < 0 {
		wrong = append(wrong, fmt.Errorf("ciba max open %d, notices %d: must not be negative", c.MaxOpen, c.Notices))
	}
	for issuer, keys := range c.HintIssuers {
		if issuer == "" || keys == nil || len(keys.Keys) == 0 {
			wrong = append(wrong, fmt.Errorf("login hint issuer %q: must have a name and keys", issuer))
		}
	}
	return errors.Join(wrong...)
}

// backchannelAuthentication is the answer to a CIBA request (CIBA Core §7.3).
type backchannelAuthentication struct {
	AuthReqID string `json:"auth_req_id"`
	ExpiresIn int64  `json:"expires_in"`             // seconds
	Interval  int64  `json:"interval,omitempty"`     // seconds; with poll and ping
	Number    string `json:"match_number,omitempty"` // ours, docs/ciba.md
}

// authenticateBackchannel answers POST /bc-authorize (CIBA Core §7). The request is stored as a pending authorization for the
// customer whom the client names; that one is told of it by what is stored with it.
func (s *Server) authenticateBackchannel(ctx context.Context, r *Request) (Response, error) {
	if !r.Client.MayUse(fapi.GrantCIBA) {
		return nil, fapi.Refuse(fapi.UnauthorizedClient, "The client is not registered for CIBA.")
	}
	q, err := s.readBackchannel(ctx, r)
	if err != nil {
		return nil, err
	}
	customer, err := s.hinted(r.Client, q.Hint)
	if err != nil {
		return nil, err
	}
	answer := backchannelAuthentication{AuthReqID: randomToken(), ExpiresIn: int64(s.backchannelLifetime(q) / time.Second)}
	if q.DeliveryMode.Notifies() {
		q.AuthReqID = answer.AuthReqID
	}
	if q.DeliveryMode != fapi.Push {
		answer.Interval = int64(pollInterval / time.Second)
	}
	if r.Client.BackchannelNumberMatching {
		q.Number = twoDigits()
		answer.Number = q.Number
	}
	a, err := s.pending(ctx, r.Client, &q.AuthorizationRequest)
	if err != nil {
		return nil, err
	}
	a.RequestURIHash = hashOf(s.approvalURI(a.ID))
	err = s.db.PushBackchannel(ctx, r.Uses(), a, storage.Backchannel{
		Polling:  storage.Polling{CodeHash: engine.CodeHash(answer.AuthReqID), Lifetime: s.backchannelLifetime(q), Interval: pollInterval},
		Customer: customer, Notify: q.DeliveryMode.Notifies(), AsksCode: r.Client.BackchannelUserCodeParameter, UserCode: q.UserCode,
		MaxOpen: s.CIBA.MaxOpen, CodeLimit: userCodeLimit, Guesses: s.authn.PerClient("user code", r.Client.ID), Notices: s.cibaNotices(),
	})
	if errors.Is(err, storage.ErrWrongUserCode) {
		s.authn.Refused("user_code", "wrong")
	}
	if err != nil {
		return nil, unasked(a, err)
	}
	return jsonResponse{http.StatusOK, answer}, nil
}

var errRequestReplayed = fapi.Refuse(fapi.InvalidRequest, "The jti of the signed authentication request was used before.")

// readBackchannel finds the parameters that count, and checks them.
func (s *Server) readBackchannel(ctx context.Context, r *Request) (*fapi.BackchannelRequest, error) {
	in := fapi.RequestObjectContext{Issuer: s.Issuer, Now: s.now(), RememberedSince: s.db.RememberedSince()}
	var params url.Values
	err := s.withKeys(ctx, r.registered, func() (err error) {
		var use *fapi.Use
		params, use, err = r.Client.ResolveBackchannelRequest(withoutCredentials(r.Form), in)
		if err == nil && use != nil {
			r.use(*use, errRequestReplayed)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return r.Client.CheckBackchannelRequest(params, s.DetailTypes)
}

// cibaNotices keeps clients from ringing a customer all night, who make requests that are over in seconds: what waits is in the list all
// the same.
func (s *Server) cibaNotices() storage.Bucket {
	pause := time.Hour / time.Duration(s.CIBA.Notices)
	return storage.Bucket{Key: s.db.BucketKey("ciba notices", ""), Limit: storage.Limit{Free: storage.MaxNotices, First: pause, Most: pause, Forget: pause}}
}

// backchannelLifetime is what the client asks for, within bounds (CIBA Core §7.1).
func (s *Server) backchannelLifetime(q *fapi.BackchannelRequest) time.Duration {
	if q.Expiry == 0 {
		return s.CIBA.Lifetime
	}
	return min(max(q.Expiry, shortestBackchannel), s.CIBA.Lifetime)
}

var errUnknownUser = fapi.Refuse(fapi.UnknownUserID, "The hint names no customer who can be asked.")

// hinted finds out whom the client means (CIBA Core §7.1, §7.2). That the customer exists, only the store knows.
func (s *Server) hinted(c *fapi.Client, hint fapi.Hint) (storage.Hinted, error) {
	h := storage.Hinted{Tenant: s.Authn.Tenant}
	var err error
	switch hint.Parameter {
	case "id_token_hint":
		var token *tokenHint
		if token, err = s.readHint(hint.Value); err != nil || token.Audience != c.ID {
			return h, fapi.Refuse(fapi.InvalidRequest, "The id_token_hint is not an ID token that this server gave the client.").Because(err)
		}
		h.ID = s.engine.Customer(c, token.Subject)
	case "login_hint_token":
		var who fapi.HintedUser
		if who, err = s.CIBA.HintIssuers.Check(hint.Value, s.Issuer, s.now()); err != nil {
			return h, err
		}
		if who.Username != "" {
			h.Username, err = authn.Username(who.Username)
		} else {
			h.ID = s.engine.Customer(c, who.Subject)
		}
	default:
		h.Contact = hint.Value
		h.Username, err = authn.Username(hint.Value)
	}
	if err != nil || h.Username == "" && h.ID == uuid.Nil {
		return h, errUnknownUser.Because(err)
	}
	return h, nil
}

// unasked is what a client is told whose request reached nobody (CIBA Core §13). That a customer does not want it, it is told
// in the words of any refusal.
func unasked(a *storage.Authorization, err error) error {
	switch {
	case errors.Is(err, storage.ErrUnknownCustomer):
		return errUnknownUser
	case errors.Is(err, storage.ErrNoUserCode):
		return fapi.Refuse(fapi.MissingUserCode, "The customer has a user code: the request needs it.")
	case errors.Is(err, storage.ErrWrongUserCode):
		return fapi.Refuse(fapi.InvalidUserCode, "The user_code is not that of the customer, or too many were wrong.")
	case errors.Is(err, storage.ErrMuted), errors.Is(err, storage.ErrTooManyOpen):
		return fapi.Refuse(fapi.AccessDenied, "The customer cannot be asked now.").WithStatus(http.StatusForbidden).Because(err)
	case errors.Is(err, storage.ErrBeingAsked):
		return fapi.Refuse(fapi.InvalidRequest, "The customer is being asked about the consent already.").Because(err)
	case errors.Is(err, storage.ErrNotFound):
		return unusable(a, err)
	}
	return err
}

// approvalURI is the request_uri by which the customer's devices open a request: the same on all, and known to this server
// only.
func (s *Server) approvalURI(id uuid.UUID) string {
	mac := hmac.New(sha256.New, s.pageKey)
	mac.Write([]byte("approval"))
	mac.Write(id[:])
	return requestURIPrefix + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// twoDigits is a number from 10 to 99.
func twoDigits() string {
	n, err := rand.Int(rand.Reader, big.NewInt(90))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return fmt.Sprint(10 + n.Int64())
}
