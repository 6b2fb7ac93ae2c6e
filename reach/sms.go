package reach

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// SMSOptions say how an institution's SMS gateway is asked to send.
type SMSOptions struct {
	URL      string // https; posted to
	Token    string // sent as a bearer token; "" for none
	Template string // JSON with {to}, {text} and {id} in its strings; "": DefaultSMSTemplate
	Bank     string // who sends, as the customer knows it
	RootCAs  *x509.CertPool
}

// DefaultSMSTemplate is what a gateway is posted that was not described.
const DefaultSMSTemplate = `{"to": "{to}", "text": "{text}"}`

// SMS sends text messages by way of a gateway that takes JSON over HTTP.
type SMS struct {
	server   ownServer
	token    string
	template any // JSON
	bank     string
}

// NewSMS makes an SMS.
func NewSMS(o SMSOptions) (*SMS, error) {
	server, err := newOwnServer(o.URL, o.RootCAs)
	if err != nil {
		return nil, fmt.Errorf("SMS gateway: %w", err)
	}
	if o.Template == "" {
		o.Template = DefaultSMSTemplate
	}
	s := &SMS{server: server, token: o.Token, bank: o.Bank}
	decoder := json.NewDecoder(strings.NewReader(o.Template))
	decoder.UseNumber()
	if err := decoder.Decode(&s.template); err != nil || decoder.More() {
		return nil, errors.New("SMS gateway: the template is not JSON")
	}
	if strings.ContainsAny(o.Token, "\r\n") {
		return nil, errors.New("SMS gateway: the token is more than one line")
	}
	if !strings.Contains(o.Template, "{to}") || !strings.Contains(o.Template, "{text}") {
		return nil, errors.New("SMS gateway: the template has no {to} or no {text}")
	}
	return s, nil
}

// e164 is a phone number as ITU-T E.164 writes it.
var e164 = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// Kind is KindSMS.
func (s *SMS) Kind() string { return KindSMS }

// Reaches tells whether the customer has a phone number.
func (s *SMS) Reaches(c Customer) bool { return e164.MatchString(c.PhoneNumber) }

// Send asks the gateway to send the message.
func (s *SMS) Send(ctx context.Context, m Message) error {
	if !s.Reaches(m.To) {
		return fmt.Errorf("%w: no phone number", ErrRefused)
	}
	text, err := smsText(s.bank, m)
	if err != nil {
		return err
	}
	body, err := json.Marshal(fill(s.template, strings.NewReplacer("{to}", m.To.PhoneNumber, "{text}", text, "{id}", m.ID)))
	if err != nil {
		return err
	}
	header := http.Header{"Idempotency-Key": {m.ID}}
	if s.token != "" {
		header["Authorization"] = []string{"Bearer " + s.token}
	}
	return s.server.post(ctx, body, header)
}

// smsText is a message as one text.
func smsText(bank string, m Message) (string, error) {
	says, err := english.of(m)
	if err != nil {
		return "", err
	}
	if m.Words != nil {
		return strings.TrimSpace(says.Text + " " + says.Warning + " " + m.URL), nil
	}
	return bank + ": " + says.Title + ". " + says.Warning + " " + m.URL, nil
}

// fill replaces in the strings of a JSON value, once each: what is put in cannot leave its string, nor be replaced again.
func fill(value any, with *strings.Replacer) any {
	switch v := value.(type) {
	case string:
		return with.Replace(v)
	case []any:
		filled := make([]any, len(v))
		for i := range v {
			filled[i] = fill(v[i], with)
		}
		return filled
	case map[string]any:
		filled := make(map[string]any, len(v))
		for name := range v {
			filled[name] = fill(v[name], with)
		}
		return filled
	}
	return value
}
