package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/countersign/countersign/authz/notify"
	"github.com/countersign/countersign/reach"
	"github.com/countersign/countersign/storage"
)

// sendMessage sends what a customer is to read at one address: a code, say. It was sealed until now, and is not sent once
// it is worth nothing.
func (s *Server) sendMessage(ctx context.Context, n storage.Notification, channels []reach.Channel) error {
	m, err := s.db.Message(n)
	if err != nil {
		return fmt.Errorf("%w: %w", notify.ErrRefused, err)
	}
	i := slices.IndexFunc(channels, func(c reach.Channel) bool { return c.Kind() == m.Channel })
	if i < 0 {
		return fmt.Errorf("%w: no channel of the kind %q", notify.ErrRefused, m.Channel)
	}
	if !s.now().Before(m.ExpiresAt) {
		return fmt.Errorf("%w: too late", notify.ErrRefused)
	}
	err = channels[i].Send(ctx, reach.Message{
		ID: n.ID.String(), Words: &reach.Words{Title: m.Subject, Text: m.Text}, To: reach.Customer{Email: m.To, PhoneNumber: m.To},
		CreatedAt: n.CreatedAt, ExpiresAt: m.ExpiresAt,
	})
	if errors.Is(err, reach.ErrRefused) {
		err = fmt.Errorf("%w: %w", notify.ErrRefused, err)
	}
	return err
}
