package reach

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// FineractSMSOptions say how the message gateway is asked that an institution runs for Apache Fineract. They are Fineract's external
// service MESSAGE_GATEWAY: host_name, port_number and end_point are the URL.
type FineractSMSOptions struct {
	URL        string // https, without the /sms that is added
	TenantID   string // as the gateway knows this institution
	TenantKey  string // tenant_app_key
	ProviderID int64  // of the gateway's SMS providers the one that sends
	Bank       string // who sends, as the customer knows it
	RootCAs    *x509.CertPool
}

// FineractSMS sends text messages as Fineract's SmsMessageScheduledJobServiceImpl does.
type FineractSMS struct {
	server   ownServer
	header   http.Header
	provider int64
	bank     string
}

// NewFineractSMS makes a FineractSMS.
func NewFineractSMS(o FineractSMSOptions) (*FineractSMS, error) {
	server, err := newOwnServer(strings.TrimSuffix(o.URL, "/")+"/sms", o.RootCAs)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reach: Fineract message gateway: %w", err)
	case strings.ContainsAny(o.URL, "?#"):
		return nil, errors.New("reach: Fineract message gateway: the URL must have no query")
	case o.TenantID == "" || o.TenantKey == "" || strings.ContainsAny(o.TenantID+o.TenantKey, "\r\n"):
		return nil, errors.New("reach: Fineract message gateway: it asks for a tenant and its key, a line each")
	case o.ProviderID <= 0:
		return nil, errors.New("reach: Fineract message gateway: the provider is a number above 0")
	}
	header := http.Header{}
	header.Set("Fineract-Platform-TenantId", o.TenantID)
	header.Set("Fineract-Tenant-App-Key", o.TenantKey)
	return &FineractSMS{server, header, o.ProviderID, o.Bank}, nil
}

// Kind is KindSMS.
func (s *FineractSMS) Kind() string { return KindSMS }

// Reaches tells whether the customer has a phone number.
func (s *FineractSMS) Reaches(c Customer) bool { return e164.MatchString(c.PhoneNumber) }

// fineractMessage is what Fineract sends of its SmsMessageApiQueueResourceData; the other fields are null there, and left out.
type fineractMessage struct {
	InternalID   int64  `json:"internalId"`
	MobileNumber string `json:"mobileNumber"`
	Message      string `json:"message"`
	ProviderID   int64  `json:"providerId"`
}

// Send hands the message over to the gateway, in a list of one.
func (s *FineractSMS) Send(ctx context.Context, m Message) error {
	if !s.Reaches(m.To) {
		return fmt.Errorf("%w: no phone number", ErrRefused)
	}
	text, err := smsText(s.bank, m)
	if err != nil {
		return err
	}
	body, err := json.Marshal([]fineractMessage{{fineractID(m.ID), m.To.PhoneNumber, text, s.provider}})
	if err != nil {
		return err
	}
	return s.server.post(ctx, body, s.header)
}

// fineractID is a message's number: Fineract's are those of a table. It is the same at each attempt.
func fineractID(id string) int64 {
	sum := sha256.Sum256([]byte(id))
	return int64(binary.BigEndian.Uint64(sum[:8]) >> 1)
}
