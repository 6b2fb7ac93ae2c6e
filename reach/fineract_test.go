package reach_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/reach"
)

func fineractOptions(s *server) reach.FineractSMSOptions {
	return reach.FineractSMSOptions{URL: s.URL + "/messagegateway", TenantID: "default", TenantKey: "e5ea2c3f-1f1a", ProviderID: 3, Bank: "Meadow Bank", RootCAs: s.roots}
}

// What Fineract's SmsMessageScheduledJobServiceImpl.sendTriggeredMessage and SmsConfigUtils send, field by field.
func TestFineractSMS_Request(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.answer(http.StatusAccepted)
	c, err := reach.NewFineractSMS(fineractOptions(s))
	if err != nil {
		t.Fatal(err)
	}
	if c.Kind() != reach.KindSMS {
		t.Error(c.Kind())
	}
	code := approval()
	code.URL, code.Words = "", &reach.Words{Title: "Your code", Text: `Anna, 123456 is "your" code {to} {{token}}`}
	var ids []float64
	for _, m := range []reach.Message{approval(), code, code} {
		if err := c.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	for i, text := range []string{"Meadow Bank: Something needs your decision. If you did not start anything just now, refuse it. " + approvals, code.Words.Text, code.Words.Text} {
		p := s.got()[i]
		if p.path != "/messagegateway/sms" || p.header.Get("Content-Type") != "application/json" ||
			p.header.Get("Fineract-Platform-TenantId") != "default" || p.header.Get("Fineract-Tenant-App-Key") != "e5ea2c3f-1f1a" {
			t.Errorf("%s %v", p.path, p.header)
		}
		var got []map[string]any
		if err := json.Unmarshal(p.body, &got); err != nil || len(got) != 1 {
			t.Fatalf("%v: %s", err, p.body)
		}
		id, ok := got[0]["internalId"].(float64)
		if !ok || id <= 0 || !regexp.MustCompile(`"internalId":[1-9][0-9]{0,18},`).Match(p.body) {
			t.Errorf("internalId is no number of Java's: %s", p.body)
		}
		ids = append(ids, id)
		want := []map[string]any{{"internalId": id, "mobileNumber": "+254711000222", "message": text, "providerId": 3.0}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	if ids[1] != ids[2] {
		t.Error("another number at another attempt")
	}
}

func TestFineractSMS_Answers(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c, err := reach.NewFineractSMS(fineractOptions(s))
	if err != nil {
		t.Fatal(err)
	}
	for status, refused := range map[int]bool{401: true, 403: true, 404: true, 302: true, 500: false, 503: false, 429: false} {
		s.answer(status)
		if err := c.Send(t.Context(), approval()); err == nil || errors.Is(err, reach.ErrRefused) != refused {
			t.Errorf("%d: %v", status, err)
		}
	}
	s.answer(http.StatusAccepted)
	m := approval()
	m.To.PhoneNumber = "0711000222"
	if err := c.Send(t.Context(), m); !errors.Is(err, reach.ErrRefused) || len(s.got()) != 0 {
		t.Errorf("no number: %v", err)
	}
}

func TestNewFineractSMS_Refuses(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for name, change := range map[string]func(*reach.FineractSMSOptions){
		"http":        func(o *reach.FineractSMSOptions) { o.URL = "http://gateway.example" },
		"a query":     func(o *reach.FineractSMSOptions) { o.URL += "?a=b" },
		"no tenant":   func(o *reach.FineractSMSOptions) { o.TenantID = "" },
		"no key":      func(o *reach.FineractSMSOptions) { o.TenantKey = "" },
		"two lines":   func(o *reach.FineractSMSOptions) { o.TenantKey = "a\r\nX: b" },
		"no provider": func(o *reach.FineractSMSOptions) { o.ProviderID = 0 },
	} {
		o := fineractOptions(s)
		change(&o)
		if _, err := reach.NewFineractSMS(o); err == nil || strings.Contains(err.Error(), "e5ea2c3f") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
