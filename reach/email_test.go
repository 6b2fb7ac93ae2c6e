package reach_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/countersign/countersign/reach"
)

// mailServer is a mail server that nobody here wrote (emersion/go-smtp); what is set here, is what it thinks of its mail.
type mailServer struct {
	address string
	roots   *x509.CertPool

	mu       sync.Mutex
	mails    []received
	users    []string                   // that logged in
	rcpt     func(address string) error // what it says to a recipient
	data     func(content []byte) error // and to a message
	wait     time.Duration              // before it says anything to a recipient
	sessions int
}

type received struct {
	from    string
	to      []string
	content string
	secured bool
}

// serveMail runs a mail server. With implicit it speaks TLS from the first byte; offer is whether it knows STARTTLS.
func serveMail(t *testing.T, implicit, offer bool) *mailServer {
	t.Helper()
	web := serve(t) // for its certificate
	m := &mailServer{roots: web.roots}
	s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sessions++
		return &mailSession{server: m, conn: c}, nil
	}))
	s.Domain, s.AllowInsecureAuth, s.ErrorLog = "mail.example", true, quiet{}
	config := &tls.Config{Certificates: web.TLS.Certificates}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.address = l.Addr().String()
	if implicit {
		l = tls.NewListener(l, config)
	} else if offer {
		s.TLSConfig = config
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return m
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

type mailSession struct {
	server *mailServer
	conn   *smtp.Conn
	mail   received
}

func (s *mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "swordfish" {
			return &smtp.SMTPError{Code: 535, Message: "what only the other side knows"}
		}
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		s.server.users = append(s.server.users, user)
		return nil
	}), nil
}

func (s *mailSession) Reset()        { s.mail = received{} }
func (s *mailSession) Logout() error { return nil }

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	s.mail.from = from
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	time.Sleep(s.server.wait)
	s.mail.to = append(s.mail.to, to)
	if s.server.rcpt != nil {
		return s.server.rcpt(to)
	}
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.server.data != nil {
		if err := s.server.data(content); err != nil {
			return err
		}
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.mail.content = string(content)
	_, s.mail.secured = s.conn.TLSConnectionState()
	s.server.mails = append(s.server.mails, s.mail)
	return nil
}

func (m *mailServer) got() []received {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mails)
}

func (m *mailServer) options(protection reach.SMTPTLS) reach.EmailOptions {
	return reach.EmailOptions{Address: m.address, TLS: protection, From: "Meadow Bank <no-reply@bank.example>", Bank: "Meadow Bank", RootCAs: m.roots}
}

func newEmail(t *testing.T, o reach.EmailOptions) *reach.Email {
	t.Helper()
	e, err := reach.NewEmail(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// read takes a message apart: its headers, text and HTML.
func read(t *testing.T, content string) (header mail.Header, text, html string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	kind, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("%s, %v", kind, err)
	}
	parts := multipart.NewReader(m.Body, parameters["boundary"])
	var all []string
	for _, want := range []string{"text/plain", "text/html"} { // the best last: RFC 2046 §5.1.4
		part, err := parts.NextRawPart()
		if err != nil || !strings.HasPrefix(part.Header.Get("Content-Type"), want) {
			t.Fatalf("%v, %v", part, err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(body))
	}
	return m.Header, all[0], all[1]
}

func TestEmail_Arrives(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		implicit bool
		offer    bool
		tls      reach.SMTPTLS
		user     string
	}{
		{"STARTTLS", false, true, reach.StartTLS, ""},
		{"STARTTLS, logged in", false, true, reach.StartTLS, "bank"},
		{"implicit TLS", true, false, reach.ImplicitTLS, ""},
		{"implicit TLS, logged in", true, false, reach.ImplicitTLS, "bank"},
		{"no TLS, as the operator has it", false, true, reach.NoTLS, ""},
		{"no TLS on the same machine, logged in", false, false, reach.NoTLS, "bank"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, m := serveMail(t, test.implicit, test.offer), approval()
			o := s.options(test.tls)
			o.User, o.Password = test.user, "swordfish"
			if err := newEmail(t, o).Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			all := s.got()
			if len(all) != 1 || all[0].from != "no-reply@bank.example" || !slices.Equal(all[0].to, []string{"alice@example.com"}) {
				t.Fatalf("%+v", all)
			}
			if all[0].secured != (test.tls != reach.NoTLS) || test.user != "" && !slices.Equal(s.users, []string{test.user}) {
				t.Errorf("TLS %v, logged in %v", all[0].secured, s.users)
			}
			header, text, html := read(t, all[0].content)
			if header.Get("Message-ID") != "<"+m.ID+"@bank.example>" || header.Get("Auto-Submitted") != "auto-generated" || header.Get("User-Agent")+header.Get("X-Mailer") != "" || header.Get("Subject") == "" {
				t.Errorf("%v", header)
			}
			for name, body := range map[string]string{"text": text, "HTML": html} {
				if !strings.Contains(body, approvals) || !strings.Contains(body, "Meadow Bank") {
					t.Errorf("%s: %s", name, body)
				}
			}
			for _, identifies := range []string{m.About, m.To.ID.String(), m.To.PhoneNumber, "default"} {
				if strings.Contains(text+html, identifies) {
					t.Errorf("it says %q", identifies)
				}
			}
		})
	}
}

func TestEmail_HowItFails(t *testing.T) {
	t.Parallel()
	says := func(code int) func(string) error {
		return func(address string) error {
			return &smtp.SMTPError{Code: code, Message: "no <" + address + "> here, said what only the other side knows"}
		}
	}
	for _, test := range []struct {
		name    string
		refused bool
		server  func(t *testing.T) *mailServer
		options func(*reach.EmailOptions)
	}{
		{"STARTTLS is not offered", false, func(t *testing.T) *mailServer { return serveMail(t, false, false) }, nil},
		{"another certificate", false, func(t *testing.T) *mailServer { return serveMail(t, false, true) }, func(o *reach.EmailOptions) { o.RootCAs = x509.NewCertPool() }},
		{"another certificate, implicit", false, func(t *testing.T) *mailServer { return serveMail(t, true, true) }, func(o *reach.EmailOptions) {
			o.RootCAs, o.TLS = x509.NewCertPool(), reach.ImplicitTLS
		}},
		{"nobody there", false, func(t *testing.T) *mailServer { return serveMail(t, false, true) }, func(o *reach.EmailOptions) { o.Address = "127.0.0.1:1" }},
		{"the wrong password", false, func(t *testing.T) *mailServer { return serveMail(t, false, true) }, func(o *reach.EmailOptions) { o.User, o.Password = "bank", "hunter2" }},
		{"greylisted", false, func(t *testing.T) *mailServer { s := serveMail(t, false, true); s.rcpt = says(451); return s }, nil},
		{"no such mailbox", true, func(t *testing.T) *mailServer { s := serveMail(t, false, true); s.rcpt = says(550); return s }, nil},
		{"full", false, func(t *testing.T) *mailServer {
			s := serveMail(t, false, true)
			s.data = func([]byte) error { return says(452)("alice@example.com") }
			return s
		}, nil},
		{"spam", true, func(t *testing.T) *mailServer {
			s := serveMail(t, false, true)
			s.data = func([]byte) error { return says(554)("alice@example.com") }
			return s
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := test.server(t)
			o := s.options(reach.StartTLS)
			if test.options != nil {
				test.options(&o)
			}
			err := newEmail(t, o).Send(t.Context(), approval())
			if err == nil || errors.Is(err, reach.ErrRefused) != test.refused {
				t.Errorf("%v", err)
			}
			mustNotShow(t, err, "hunter2", "mailbox")
			if len(s.got()) != 0 {
				t.Error("it arrived")
			}
		})
	}
}

func TestEmail_ASlowServer(t *testing.T) {
	t.Parallel()
	s := serveMail(t, false, true)
	s.wait = 3 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := newEmail(t, s.options(reach.StartTLS)).Send(ctx, approval())
	if took := time.Since(began); err == nil || errors.Is(err, reach.ErrRefused) || took > 2*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

// Whatever a profile or a setting says, it adds no header, no recipient and no element.
func TestEmail_NothingGetsOutOfItsPlace(t *testing.T) {
	t.Parallel()
	s := serveMail(t, false, true)
	o := s.options(reach.StartTLS)
	o.Bank = "Meadow\r\nBcc: eve@evil.example\r\n\r\n<script>alert(1)</script> & {bank} {{.URL}}"
	e := newEmail(t, o)
	for _, address := range []string{
		"", "alice", "alice@", "@example.com", "alice@example.com\r\nBcc: eve@evil.example", "alice@example.com\nRCPT TO:<eve@evil.example>",
		"Alice <alice@example.com>", "<alice@example.com>", "alice@example.com, eve@evil.example", "alice@example.com (eve)", `"a\r\nb"@example.com`,
		"alice@example.com\x00", " alice@example.com", "alice@example.com> SIZE=1", `"al ice"@example.com`,
	} {
		m := approval()
		m.To.Email = address
		if e.Reaches(m.To) {
			t.Errorf("%q is taken for an address", address)
		}
		if err := e.Send(t.Context(), m); !errors.Is(err, reach.ErrRefused) {
			t.Errorf("%q: %v", address, err)
		} else if address != "" {
			mustNotShow(t, err, "eve@evil.example")
		}
	}
	if s.sessions != 0 {
		t.Error("the mail server was called")
	}
	if err := e.Send(t.Context(), approval()); err != nil {
		t.Fatal(err)
	}
	all := s.got()
	if len(all) != 1 || len(all[0].to) != 1 {
		t.Fatalf("%+v", all)
	}
	header, _, html := read(t, all[0].content)
	if header.Get("Bcc") != "" || strings.Contains(html, "<script>") {
		t.Errorf("%v\n%s", header, html)
	}
}

func TestNewEmail_Settings(t *testing.T) {
	t.Parallel()
	ok := reach.EmailOptions{Address: "mail.example:587", TLS: reach.StartTLS, From: "no-reply@bank.example"}
	for name, test := range map[string]struct {
		change func(*reach.EmailOptions)
		ok     bool
	}{
		"enough":                             {func(*reach.EmailOptions) {}, true},
		"no port":                            {func(o *reach.EmailOptions) { o.Address = "mail.example" }, false},
		"no host":                            {func(o *reach.EmailOptions) { o.Address = ":25" }, false},
		"a strange port":                     {func(o *reach.EmailOptions) { o.Address = "mail.example:smtp" }, false},
		"TLS of another kind":                {func(o *reach.EmailOptions) { o.TLS = "maybe" }, false},
		"no TLS, no password":                {func(o *reach.EmailOptions) { o.TLS = reach.NoTLS }, true},
		"no TLS, a password over the net":    {func(o *reach.EmailOptions) { o.TLS, o.User = reach.NoTLS, "bank" }, false},
		"no TLS, a password on this machine": {func(o *reach.EmailOptions) { o.TLS, o.User, o.Address = reach.NoTLS, "bank", "localhost:25" }, true},
		"no sender":                          {func(o *reach.EmailOptions) { o.From = "" }, false},
		"a sender of two lines":              {func(o *reach.EmailOptions) { o.From = "Bank\r\nBcc: eve@evil.example <no-reply@bank.example>" }, false},
	} {
		o := ok
		test.change(&o)
		if _, err := reach.NewEmail(o); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
