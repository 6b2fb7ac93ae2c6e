package reach

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"github.com/countersign/countersign/outbound"
)

// Poster posts to an address that somebody else named: a browser names its push service. *outbound.Client is one.
type Poster interface {
	Post(ctx context.Context, address, contentType string, body []byte, header http.Header) (status int, err error)
}

// Forgetter is told of a browser that cannot be rung any more.
type Forgetter func(ctx context.Context, customer uuid.UUID, endpoint string) error

// WebPush rings browsers (RFC 8030).
type WebPush struct {
	calls   Poster
	forget  Forgetter
	contact string
	key     *ecdsa.PrivateKey
	public  string
	now     func() time.Time
}

// NewWebPush makes a WebPush. seed is 32 secret bytes that never change: browsers subscribe to the key made of them, and hear
// nobody else (RFC 8292 §4). contact is an https or mailto URL at which push services find the institution (RFC 8292 §2.1).
func NewWebPush(calls Poster, seed []byte, contact string, forget Forgetter) (*WebPush, error) {
	key := signingKey(seed)
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return &WebPush{calls, forget, contact, key, base64.RawURLEncoding.EncodeToString(point), time.Now}, nil
}

// signingKey makes a P-256 key of a seed: always the same one. One seed in 2^32 is no scalar of the curve, then its hash is taken.
func signingKey(seed []byte) *ecdsa.PrivateKey {
	for {
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed); err == nil {
			return key
		}
		next := sha256.Sum256(seed)
		seed = next[:]
	}
}

// PublicKey is what a page passes to pushManager.subscribe as applicationServerKey: base64url of the uncompressed point.
func (w *WebPush) PublicKey() string { return w.public }

// Kind is KindWebPush.
func (w *WebPush) Kind() string { return KindWebPush }

// Reaches tells whether a browser of the customer subscribed.
func (w *WebPush) Reaches(c Customer) bool { return len(c.Browsers) > 0 }

// Send rings the customer's browsers. One that the push service does not know any more is forgotten.
func (w *WebPush) Send(ctx context.Context, m Message) error {
	says, err := english.of(m)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(map[string]string{"title": says.Title, "body": says.Text + " " + says.Warning})
	if err != nil {
		return err
	}
	var all []error
	for _, browser := range m.To.Browsers {
		all = append(all, w.ring(ctx, m, browser, payload))
	}
	return errors.Join(all...)
}

func (w *WebPush) ring(ctx context.Context, m Message, browser Subscription, payload []byte) error {
	left := int(m.ExpiresAt.Sub(w.now()) / time.Second)
	if left <= 0 {
		return nil
	}
	body, err := browser.encrypt(payload)
	if err != nil {
		return err
	}
	authorization, err := w.authorization(browser.Endpoint)
	if err != nil {
		return err
	}
	status, err := w.calls.Post(ctx, browser.Endpoint, "application/octet-stream", body, http.Header{
		"Authorization":    {authorization},
		"Content-Encoding": {"aes128gcm"},
		"Ttl":              {strconv.Itoa(left)}, // RFC 8030 §5.2: later it would only confuse
		"Urgency":          {"high"},             // RFC 8030 §5.3: a sleeping phone wakes up
	})
	switch {
	case errors.Is(err, outbound.ErrURL), errors.Is(err, outbound.ErrAddress), errors.Is(err, outbound.ErrRedirect):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case err != nil:
		return err
	case status == http.StatusNotFound, status == http.StatusGone: // RFC 8030 §7.3
		return w.forget(ctx, m.To.ID, browser.Endpoint)
	}
	return heard(status)
}

// tokenLifetime is short for those who may see a token, and long enough for clocks that differ. RFC 8292 §2 allows a day.
const tokenLifetime = time.Hour

// authorization says who rings (RFC 8292 §3). It names the push service only, not the browser.
func (w *WebPush) authorization(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrRefused, ErrSubscription)
	}
	claims, err := json.Marshal(map[string]any{
		"aud": origin(u), "exp": w.now().Add(tokenLifetime).Unix(), "sub": w.contact,
	})
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: w.key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", err
	}
	token, err := signed.CompactSerialize()
	return "vapid t=" + token + ", k=" + w.public, err
}

// origin is that of an https URL (RFC 6454 §6.2).
func origin(u *url.URL) string {
	return "https://" + strings.TrimSuffix(strings.ToLower(u.Host), ":443")
}
