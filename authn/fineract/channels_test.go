package fineract_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/reach"
)

// mailbox is a mail server that somebody else wrote (emersion/go-smtp), with all that it was sent.
type mailbox struct{ mails chan string }

func (m *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return m, nil }
func (m *mailbox) Reset()                                      {}
func (m *mailbox) Logout() error                               { return nil }
func (m *mailbox) Mail(string, *smtp.MailOptions) error        { return nil }
func (m *mailbox) Rcpt(to string, _ *smtp.RcptOptions) error {
	if to != "alice@example.com" {
		return smtp.ErrAuthFailed
	}
	return nil
}
func (m *mailbox) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	m.mails <- string(content)
	return err
}

// text is the plain part of a mail.
func plainText(t testing.TB, content string) (subject, text string) {
	t.Helper()
	parsed, err := mail.ReadMessage(strings.NewReader(content))
	check(t, err)
	subject, err = new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
	check(t, err)
	mediaType, params, err := mime.ParseMediaType(parsed.Header.Get("Content-Type"))
	check(t, err)
	body, encoding := io.Reader(parsed.Body), parsed.Header.Get("Content-Transfer-Encoding")
	if strings.HasPrefix(mediaType, "multipart/") {
		part, err := multipart.NewReader(parsed.Body, params["boundary"]).NextRawPart()
		check(t, err)
		body, encoding = part, part.Header.Get("Content-Transfer-Encoding")
	}
	if strings.EqualFold(encoding, "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	decoded, err := io.ReadAll(body)
	check(t, err)
	return subject, strings.ReplaceAll(string(decoded), "\r\n", "\n")
}

func serveMail(t testing.TB, s *authztest.Server) (string, *mailbox) {
	t.Helper()
	box := &mailbox{make(chan string, 10)}
	server := smtp.NewServer(box)
	server.Domain, server.ErrorLog = "mail.example", log.New(io.Discard, "", 0)
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*s.ServerCertificate(t, "localhost")}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l.Addr().String(), box
}

func received[T any](t testing.TB, from chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing has come")
	}
	return got
}

// The whole way with what a bank runs: a mail server over STARTTLS, and the message gateway that Fineract uses.
func TestChannels_Real(t *testing.T) {
	t.Parallel()
	var box *mailbox
	texts := make(chan []m, 10)
	b := start(t, authztest.Options{Channels: func(s *authztest.Server) []reach.Channel {
		address, served := serveMail(t, s)
		box = served
		email, err := reach.NewEmail(reach.EmailOptions{Address: address, TLS: reach.StartTLS, From: "Meadow Bank <no-reply@meadow.example>", Bank: "Meadow Bank", RootCAs: s.Roots})
		check(t, err)
		gateway := s.Site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var sent []m
			if r.URL.Path == "/messagegateway/sms" && r.Header.Get("Fineract-Platform-TenantId") == "meadow" && r.Header.Get("Fineract-Tenant-App-Key") == "key" &&
				json.NewDecoder(r.Body).Decode(&sent) == nil {
				texts <- sent
			}
			w.WriteHeader(http.StatusAccepted)
		}))
		sms, err := reach.NewFineractSMS(reach.FineractSMSOptions{URL: gateway + "/messagegateway", TenantID: "meadow", TenantKey: "key", ProviderID: 1, Bank: "Meadow Bank", RootCAs: s.Roots})
		check(t, err)
		return []reach.Channel{email, sms}
	}})
	b.SQL(t, `INSERT INTO fineract_twofactor_configuration VALUES ('default', 'otp-delivery-sms-enable', 'true')`)
	app := b.basic(t)

	app.call(t, "POST", "/twofactor?deliveryMethod=email&extendedToken=false", "{}")
	subject, text := plainText(t, received(t, box.mails))
	code := otpIn.FindString(text[strings.Index(text, "token is")+len("token is"):])
	if subject != "Fineract Two-Factor Authentication Token" || !strings.HasPrefix(text, "Hello alice.\nYour OTP login token is "+code+".") {
		t.Errorf("subject %q, text %q", subject, text)
	}
	if a := app.validates(t, code); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}

	app.call(t, "POST", "/twofactor?deliveryMethod=sms&extendedToken=false", "{}")
	sent := received(t, texts)
	code = codeIn(t, sent[0]["message"].(string))
	if len(sent) != 1 || sent[0]["mobileNumber"] != "+254711000222" || sent[0]["message"] != "Your authentication token for Fineract is "+code+"." || sent[0]["providerId"] != 1.0 {
		t.Errorf("%v", sent)
	}
	if a := app.validates(t, code); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
}
