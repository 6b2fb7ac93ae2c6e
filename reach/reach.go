package reach

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// Channel is a way to reach customers. It is safe for concurrent use.
type Channel interface {
	// Kind names the channel: there is one of a kind. What waits to be sent is stored under it.
	Kind() string

	// Reaches tells whether this customer can be reached so.
	Reaches(Customer) bool

	// Send makes one attempt, within the time of the context. An error means that another one may help, unless it is
	// ErrRefused. The same message may be sent again after an attempt of which nobody knows how it ended.
	Send(context.Context, Message) error
}

// Kinds of the channels of this package.
const (
	KindWebPush = "web_push"
	KindEmail   = "email"
	KindSMS     = "sms"
	KindWebhook = "webhook"
)

// ErrRefused is in the error of a Channel when another attempt would end no better.
var ErrRefused = errors.New("not to be tried again")

// What a message says.
const (
	ApprovalRequested  = "approval.requested"  // there is something to decide
	TransactionWaiting = "transaction.waiting" // a transaction that somebody else has started waits for approval
)

// Message is what a customer is told.
type Message struct {
	ID        string // at most 64 letters, digits and hyphens, the same at each attempt
	Type      string // what it says, such as ApprovalRequested
	About     string // the identifier of what it is about
	URL       string // where the customer goes on; it identifies nothing. "" for nowhere
	Words     *Words // instead of those of the type
	To        Customer
	CreatedAt time.Time
	ExpiresAt time.Time // nobody is to be told afterwards
}

// Words are what a message says.
type Words struct {
	Title   string `json:"title"`
	Text    string `json:"text"`
	Warning string `json:"warning"` // "" for none
}

// Customer is who is told, and where. What is not known, or not verified, is empty.
type Customer struct {
	ID               uuid.UUID
	Tenant           string // Fineract tenant
	FineractClientID *int64
	Email            string
	PhoneNumber      string // E.164
	Browsers         []Subscription
}

// heard judges the status with which a server answered.
func heard(status int) error {
	switch {
	case status >= 200 && status < 300:
		return nil
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		return fmt.Errorf("answered with %d", status)
	}
	return fmt.Errorf("answered with %d: %w", status, ErrRefused)
}
