package authz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authz/notify"
	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/reach"
	"github.com/countersign/countersign/storage"
)

// A request for a customer is stored with one notification. That is split into one for each way in which the customer can be
// told, so that each is tried, and tried again, by itself:
//
//	approval ──▶ web_push (each browser), email, sms, webhook ──▶ reach.Channel

// reachRetries begin soon: the customer has minutes. After the request is decided or over nobody is told, whatever is left.
var reachRetries = []time.Duration{2 * time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute}

// channels are the ways to reach customers: browsers, unless the institution does not want them rung, and what it configured.
func (s *Server) channels(configured []reach.Channel) ([]reach.Channel, error) {
	all := configured
	if !s.SilentBrowsers {
		var err error
		if s.webPush, err = reach.NewWebPush(s.outbound, s.db.Keys().Derive("web push"), s.Issuer, s.forgetBrowser); err != nil {
			return nil, err
		}
		all = append([]reach.Channel{s.webPush}, configured...)
	}
	kinds := map[string]bool{}
	for _, c := range all {
		if kinds[c.Kind()] {
			return nil, fmt.Errorf("two channels to customers of the kind %q", c.Kind())
		}
		kinds[c.Kind()] = true
	}
	return all, nil
}

// reaching adds to kinds how customers are told.
func (s *Server) reaching(kinds map[string]notify.Kind, channels []reach.Channel) map[string]notify.Kind {
	kinds[storage.MessageNotification] = notify.Kind{Retries: reachRetries, Send: func(ctx context.Context, n storage.Notification) error {
		return s.sendMessage(ctx, n, channels)
	}}
	kinds[storage.ApprovalNotification] = notify.Kind{Send: func(ctx context.Context, n storage.Notification) error {
		return s.splitApproval(ctx, n, channels)
	}}
	for _, c := range channels {
		kinds[c.Kind()] = notify.Kind{Retries: reachRetries, Send: func(ctx context.Context, n storage.Notification) error {
			return s.reachBy(ctx, n, c)
		}}
	}
	return kinds
}

// pushPublicKey is what browsers subscribe with (RFC 8292 §3.2); "" when none can be rung.
func (s *Server) pushPublicKey() string {
	if s.webPush == nil {
		return ""
	}
	return s.webPush.PublicKey()
}

func (s *Server) forgetBrowser(ctx context.Context, customer uuid.UUID, endpoint string) error {
	s.log.Info("a browser is not subscribed any more")
	return s.db.DropPushSubscription(ctx, customer, endpoint)
}

// splitApproval replaces the notification of a request by one for each way there is.
func (s *Server) splitApproval(ctx context.Context, n storage.Notification, channels []reach.Channel) error {
	about, a, err := s.awaited(ctx, n)
	if err != nil || a == nil {
		return err
	}
	to, browsers, err := s.addressee(a, uuid.Nil)
	if err != nil {
		return err
	}
	var ways []storage.Way
	for _, c := range channels {
		if !c.Reaches(to) {
			continue
		}
		if c.Kind() != reach.KindWebPush {
			ways = append(ways, storage.Way{Kind: c.Kind()})
			continue
		}
		for _, id := range browsers {
			ways = append(ways, storage.Way{Kind: c.Kind(), SubscriptionID: id})
		}
	}
	if len(ways) == 0 {
		s.log.Info("no way to tell the customer", zap.Stringer("about", subject(about)), zap.String("client_id", n.ClientID))
	}
	return s.db.SplitNotification(ctx, n.ID, ways)
}

// reachBy tells a customer one way, unless there is nothing to decide any more.
func (s *Server) reachBy(ctx context.Context, n storage.Notification, c reach.Channel) error {
	about, a, err := s.awaited(ctx, n)
	if err != nil || a == nil {
		return err
	}
	to, _, err := s.addressee(a, about.SubscriptionID)
	if err != nil {
		return err
	}
	if !c.Reaches(to) { // since then
		return nil
	}
	m := reach.Message{
		ID: n.ID.String(), Type: reach.ApprovalRequested, About: subject(about).String(), URL: s.Issuer + approvalsPath, To: to,
		CreatedAt: a.CreatedAt, ExpiresAt: a.ExpiresAt,
	}
	if about.TransactionID != uuid.Nil {
		m.Type, m.URL = reach.TransactionWaiting, s.Issuer+consent.TransactionsPath
	}
	err = c.Send(ctx, m)
	if errors.Is(err, reach.ErrRefused) {
		err = fmt.Errorf("%w: %w", notify.ErrRefused, err)
	}
	return err
}

// subject is what a notification is about.
func subject(about storage.ReachCustomer) uuid.UUID {
	if about.TransactionID != uuid.Nil {
		return about.TransactionID
	}
	return about.AuthorizationID
}

// awaited reads what a notification is about. Without an error and a request there is nothing to tell any more.
func (s *Server) awaited(ctx context.Context, n storage.Notification) (about storage.ReachCustomer, a *storage.Awaited, err error) {
	if err := json.Unmarshal(n.About, &about); err != nil {
		return about, nil, fmt.Errorf("%w: %w", notify.ErrRefused, err)
	}
	a, err = s.db.FindAwaited(ctx, about.ApprovalWanted)
	if errors.Is(err, storage.ErrNotFound) {
		return about, nil, nil
	}
	return about, a, err
}

// addressee is the customer as channels see them: what they proved to be theirs, and one of their browsers, or all with the
// identifiers of these.
func (s *Server) addressee(a *storage.Awaited, browser uuid.UUID) (reach.Customer, []uuid.UUID, error) {
	profile, err := a.Profile()
	if err != nil {
		return reach.Customer{}, nil, err
	}
	to := reach.Customer{ID: a.ID, Tenant: a.Tenant, FineractClientID: a.FineractClientID}
	if profile.EmailVerified {
		to.Email = profile.Email
	}
	if profile.PhoneNumberVerified {
		to.PhoneNumber = profile.PhoneNumber
	}
	var ids []uuid.UUID
	for _, kept := range a.Subscriptions {
		if browser != uuid.Nil && kept.ID != browser {
			continue
		}
		subscription, err := reach.ParseSubscription(kept.JSON)
		if err != nil { // the page lets none of these through
			s.log.Warn("a browser cannot be rung", zap.Error(err))
			continue
		}
		to.Browsers, ids = append(to.Browsers, subscription), append(ids, kept.ID)
	}
	return to, ids, nil
}
