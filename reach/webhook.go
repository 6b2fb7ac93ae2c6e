package reach

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// WebhookOptions say where an institution wants to hear of what waits for its customers.
type WebhookOptions struct {
	URL     string   // https
	Secrets []string // "whsec_" and base64 of 24 to 64 bytes; two while one takes the place of the other
	RootCAs *x509.CertPool
}

// Webhook tells the institution itself, which then rings its own app. It signs as Standard Webhooks has it
// (www.standardwebhooks.com).
type Webhook struct {
	server  ownServer
	secrets [][]byte
	now     func() time.Time
}

const secretPrefix = "whsec_"

// NewWebhook makes a Webhook.
func NewWebhook(o WebhookOptions) (*Webhook, error) {
	server, err := newOwnServer(o.URL, o.RootCAs)
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	w := &Webhook{server: server, now: time.Now}
	for _, text := range o.Secrets {
		encoded, ok := strings.CutPrefix(strings.TrimSpace(text), secretPrefix)
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(secret) < 24 || len(secret) > 64 {
			return nil, errors.New("webhook: a secret must be whsec_ and base64 of 24 to 64 bytes")
		}
		w.secrets = append(w.secrets, secret)
	}
	if len(w.secrets) == 0 {
		return nil, errors.New("webhook: no secret to sign with")
	}
	return w, nil
}

// Kind is KindWebhook.
func (w *Webhook) Kind() string { return KindWebhook }

// Reaches is true: the institution knows all its customers.
func (w *Webhook) Reaches(Customer) bool { return true }

// event is what is posted.
type event struct {
	Type      string    `json:"type"`
	ID        string    `json:"id"` // also in webhook-id: the same at each attempt
	CreatedAt time.Time `json:"created_at"`
	Data      eventData `json:"data"`
}

type eventData struct {
	ApprovalID       string    `json:"approval_id"`
	CustomerID       string    `json:"customer_id"`
	FineractClientID *int64    `json:"fineract_client_id,omitempty"`
	Tenant           string    `json:"tenant"`
	ExpiresAt        time.Time `json:"expires_at"`
}

// Send posts the event.
func (w *Webhook) Send(ctx context.Context, m Message) error {
	body, err := json.Marshal(event{m.Type, m.ID, m.CreatedAt.UTC(), eventData{
		ApprovalID: m.About, CustomerID: m.To.ID.String(), FineractClientID: m.To.FineractClientID, Tenant: m.To.Tenant, ExpiresAt: m.ExpiresAt.UTC(),
	}})
	if err != nil {
		return err
	}
	timestamp := strconv.FormatInt(w.now().Unix(), 10)
	return w.server.post(ctx, body, http.Header{
		"Webhook-Id": {m.ID}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {w.sign(m.ID, timestamp, body)},
	})
}

// sign makes the signatures of all secrets: the other side accepts any that it can verify.
func (w *Webhook) sign(id, timestamp string, body []byte) string {
	signatures := make([]string, len(w.secrets))
	for i, secret := range w.secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}
