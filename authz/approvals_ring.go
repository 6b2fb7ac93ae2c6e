package authz

import (
	"context"
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// Browsers that ring when a request comes (RFC 8030, RFC 8291, the W3C Push API).

const (
	maxSubscription = 4 << 10 // bytes of JSON
	maxPushEndpoint = 1 << 10 // characters
)

// subscription is what a browser's PushSubscription is as JSON.
type subscription struct {
	Endpoint string `json:"endpoint"`
	Keys     struct {
		P256DH string `json:"p256dh"` // base64url of an uncompressed point of P-256
		Auth   string `json:"auth"`   // base64url of 16 bytes
	} `json:"keys"`
}

var errSubscription = fapi.Refuse(fapi.InvalidRequest, "This is no push subscription.")

// check refuses what cannot be rung. Whether the address may be called is judged when it is (package outbound).
func (p *subscription) check() error {
	u, err := url.Parse(p.Endpoint)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || len(p.Endpoint) > maxPushEndpoint {
		return errSubscription.Because(errors.New("endpoint"))
	}
	point, err := base64.RawURLEncoding.DecodeString(p.Keys.P256DH)
	if err == nil {
		_, err = ecdh.P256().NewPublicKey(point)
	}
	if err != nil {
		return errSubscription.Because(err)
	}
	if secret, err := base64.RawURLEncoding.DecodeString(p.Keys.Auth); err != nil || len(secret) != 16 {
		return errSubscription.Because(errors.New("auth"))
	}
	return nil
}

// ring answers POST and DELETE /approvals/subscriptions, which the page's script calls: this browser is to ring, or is not
// to ring any more.
func (s *Server) ring(w http.ResponseWriter, r *http.Request) {
	v, err := s.loggedIn(r)
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, fapi.LoginRequired) {
		err = fapi.Refuse(fapi.LoginRequired, "The customer must log in.").WithStatus(http.StatusUnauthorized)
	}
	var p subscription
	if err == nil {
		err = readSubscription(w, r, &p)
	}
	if err == nil {
		err = s.saveRing(r.Context(), v.CustomerID, r.Method, &p)
	}
	if err != nil {
		s.refuse(w, r, nil, err)
		return
	}
	emptyResponse{http.StatusNoContent}.write(w)
}

func (s *Server) saveRing(ctx context.Context, customer uuid.UUID, method string, p *subscription) error {
	if method == http.MethodDelete {
		return s.db.DropPushSubscription(ctx, customer, p.Endpoint)
	}
	if err := p.check(); err != nil {
		return err
	}
	kept, err := json.Marshal(p) // and nothing else of what was sent
	if err != nil {
		return err
	}
	return s.db.SavePushSubscription(ctx, customer, kept, p.Endpoint)
}

func readSubscription(w http.ResponseWriter, r *http.Request, p *subscription) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return errSubscription.WithStatus(http.StatusUnsupportedMediaType)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSubscription))
	if err != nil {
		return errTooLarge.Because(err)
	}
	if err := json.Unmarshal(body, p); err != nil {
		return errSubscription.Because(err)
	}
	return nil
}

// silence answers POST /approvals/silence: no browser of the customer's rings any more, one that was lost included.
func (s *Server) silence(w http.ResponseWriter, r *http.Request, v *storage.Visitor) {
	s.backToList(w, r, "silent", s.db.DropPushSubscriptions(r.Context(), v.CustomerID))
}
