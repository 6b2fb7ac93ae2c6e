package authz_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/reach"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// mailServer is a mail server that nobody here wrote (emersion/go-smtp), over TLS; it keeps what it is given.
type mailServer struct {
	address string
	roots   *x509.CertPool

	mu  sync.Mutex
	all []letter
}

type letter struct {
	to      []string
	content string
}

func serveLetters(t *testing.T) *mailServer {
	t.Helper()
	site := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	t.Cleanup(site.Close)
	m := &mailServer{roots: x509.NewCertPool()}
	m.roots.AddCert(site.Certificate())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &mailSession{box: m}, nil }))
	s.Domain, m.address = "mail.example", l.Addr().String()
	go s.Serve(tls.NewListener(l, &tls.Config{Certificates: site.TLS.Certificates}))
	t.Cleanup(func() { s.Close() })
	return m
}

// mailSession is a session with it.
type mailSession struct {
	box *mailServer
	to  []string
}

func (d *mailSession) Mail(string, *smtp.MailOptions) error { return nil }
func (d *mailSession) Reset()                               { d.to = nil }
func (d *mailSession) Logout() error                        { return nil }

func (d *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	d.to = append(d.to, to)
	return nil
}

func (d *mailSession) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	d.box.mu.Lock()
	defer d.box.mu.Unlock()
	d.box.all = append(d.box.all, letter{d.to, string(content)})
	return err
}

func (m *mailServer) letters() []letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all)
}

func (m *mailServer) channel(t *testing.T) reach.Channel {
	t.Helper()
	c, err := reach.NewEmail(reach.EmailOptions{Address: m.address, TLS: reach.ImplicitTLS, From: "Meadow Bank <no-reply@bank.example>", Bank: "Meadow Bank", RootCAs: m.roots})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// read takes a letter apart, as a mail program does: the headers, and its parts by media type.
func (l letter) read(t *testing.T) (mail.Header, map[string]string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(l.content))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts, all := map[string]string{}, multipart.NewReader(m.Body, params["boundary"])
	for {
		part, err := all.NextRawPart()
		if err == io.EOF {
			return m.Header, parts
		}
		if err != nil {
			t.Fatal(err)
		}
		media, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type"))
		text, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			t.Fatal(err)
		}
		parts[media] = strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n"))
	}
}

// addPerson makes a customer with a factor to whose address codes are sent.
func addPerson(t *testing.T, s *authztest.Server, profile storage.Profile, kind, address string) uuid.UUID {
	t.Helper()
	pages, err := web.New(web.Brand{Name: "Meadow Bank"})
	if err != nil {
		t.Fatal(err)
	}
	id, err := authn.New(s.DB, pages, zap.NewNop(), s.Config.Authn).CreateCustomer(t.Context(), authn.NewCustomer{Profile: profile, Password: authztest.Password})
	if err == nil && kind != "" {
		secret, _ := json.Marshal(map[string]string{"address": address})
		err = s.DB.SetFactor(t.Context(), storage.NewID(), id, kind, secret)
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

var sixDigits = regexp.MustCompile(`\b[0-9]{6}\b`)

const (
	codeWords  = " is your code at Meadow Bank. It is good for 5 minutes, and only on the page that asked for it. Nobody from the bank ever asks you for it."
	carolEmail = "carol.doe@post.example"
	carolPhone = "+254711000222"
)

// E4, E10: enrolment and login with codes that are sent, from the client's request to its ID token: through a mail server, and through
// gateways that are spoken to in Fineract's way and in our own. A second server on the same database takes the second login.
func TestSentCode_FromRequestToIDToken(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]struct {
		kind, address, masked string
		amr                   []any
		channels              func(t *testing.T) (open func(*authztest.Server) []reach.Channel, text func(n int) string) // text of the nth message, once it is there
	}{
		"email": {"email", carolEmail, "c•••@post.example", []any{"pwd", "otp", "mfa"}, func(t *testing.T) (func(*authztest.Server) []reach.Channel, func(int) string) {
			box := serveLetters(t)
			return func(*authztest.Server) []reach.Channel { return []reach.Channel{box.channel(t)} }, func(n int) string {
				soon(t, "a letter", func() bool { return len(box.letters()) >= n })
				l := box.letters()[n-1]
				if len(l.to) != 1 || l.to[0] != carolEmail {
					t.Errorf("delivered to %q", l.to)
				}
				header, parts := l.read(t)
				if header.Get("Subject") != "Your code" || !strings.Contains(header.Get("To"), carolEmail) || !strings.Contains(parts["text/html"], sixDigits.FindString(parts["text/plain"])) {
					t.Errorf("%v\n%v", header, parts)
				}
				return parts["text/plain"]
			}
		}},
		"SMS by the generic gateway": {"sms", carolPhone, "•••• 0222", []any{"pwd", "otp", "sms", "mfa"}, func(t *testing.T) (func(*authztest.Server) []reach.Channel, func(int) string) {
			gateway := &farEnd{}
			return func(s *authztest.Server) []reach.Channel {
					c, err := reach.NewSMS(reach.SMSOptions{URL: s.Site(t, gateway), Token: "gateway-token", Bank: "Meadow Bank", RootCAs: s.Roots})
					if err != nil {
						t.Fatal(err)
					}
					return []reach.Channel{c}
				}, func(n int) string {
					gateway.arrives(t, n)
					call := gateway.arrived()[n-1]
					fields := call.fields(t)
					if fields["to"] != carolPhone || call.authorization != "Bearer gateway-token" {
						t.Errorf("%v", fields)
					}
					return fields["text"].(string)
				}
		}},
		"SMS by Fineract's message gateway": {"sms", carolPhone, "•••• 0222", []any{"pwd", "otp", "sms", "mfa"}, func(t *testing.T) (func(*authztest.Server) []reach.Channel, func(int) string) {
			gateway := &farEnd{answer: func(int, string) int { return http.StatusAccepted }}
			return func(s *authztest.Server) []reach.Channel {
					c, err := reach.NewFineractSMS(reach.FineractSMSOptions{URL: s.Site(t, gateway) + "/messagegateway", TenantID: "default", TenantKey: "tenant-app-key",
						ProviderID: 3, Bank: "Meadow Bank", RootCAs: s.Roots})
					if err != nil {
						t.Fatal(err)
					}
					return []reach.Channel{c}
				}, func(n int) string {
					gateway.arrives(t, n)
					call := gateway.arrived()[n-1]
					var messages []struct {
						InternalID   int64
						MobileNumber string
						Message      string
						ProviderID   int64
					}
					if err := json.Unmarshal(call.body, &messages); err != nil || len(messages) != 1 {
						t.Fatalf("%v: %s", err, call.body)
					}
					if m := messages[0]; call.path != "/messagegateway/sms" || m.MobileNumber != carolPhone || m.ProviderID != 3 || m.InternalID <= 0 {
						t.Errorf("%s: %s", call.path, call.body)
					}
					return messages[0].Message
				}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open, text := way.channels(t)
			one := authztest.Start(t, authztest.Options{Channels: open})
			two := authztest.Start(t, authztest.Options{Like: one, Channels: open})
			addPerson(t, one, storage.Profile{Username: "carol", Name: "Carol Doe"}, "", "")

			client, b := one.Client("web"), one.Browser(t)
			page := b.LoginAs(t, b.Authorize(t, client.ID, client.Push(t, map[string]string{"acr_values": authn.SCA})), "carol").Is(t, "enrol_page")
			link := regexp.MustCompile(`href="(/login/enrol/` + way.kind + `\?[^"]*)"`).FindSubmatch(page.Body)
			if link == nil {
				t.Fatalf("no link to %s", way.kind)
			}
			page = b.Open(t, strings.ReplaceAll(string(link[1]), "&amp;", "&")).Is(t, "enrol_factor_page")
			page = b.Submit(t, page, url.Values{"begin": {"1"}, "address": {way.address}}).Is(t, "enrol_factor_page")
			says(t, page, way.masked)
			code := sixDigits.FindString(text(1))
			if want := "Carol, " + code + codeWords; !strings.HasPrefix(text(1), want) {
				t.Errorf("sent %q, want %q", text(1), want)
			}
			page = b.Continue(t, b.Submit(t, page, url.Values{"code": {code}}).Is(t, "recovery_codes_page"))
			page = b.Decide(t, page, "approve")
			if amr := amrOf(t, client.Exchange(t, page.Left.Query().Get("code"))); fmt.Sprint(amr) != fmt.Sprint(way.amr) {
				t.Errorf("enrolled: amr %v", amr)
			}

			other := two.Browser(t)
			page = other.LoginAs(t, other.Authorize(t, client.ID, client.Push(t, nil)), "carol").Is(t, "second_factor_page")
			says(t, page, "Carol, we can send a code to "+way.masked)
			page = other.Submit(t, page, url.Values{"send": {"1"}}).Is(t, "second_factor_page")
			for _, secret := range []string{way.address, "Doe", sixDigits.FindString(text(2))} {
				if strings.Contains(string(page.Body), secret) {
					t.Errorf("the page says %q", secret)
				}
			}
			page = other.Submit(t, page, url.Values{"code": {sixDigits.FindString(text(2))}}) // consent was given before
			tokens := client.Exchange(t, page.Left.Query().Get("code"))
			if amr := amrOf(t, tokens); fmt.Sprint(amr) != fmt.Sprint(way.amr) || idClaims(t, tokens)["acr"] != authn.SCA {
				t.Errorf("logged in: amr %v", amr)
			}
		})
	}
}

func amrOf(t *testing.T, tokens map[string]any) []any {
	t.Helper()
	amr, _ := idClaims(t, tokens)["amr"].([]any)
	return amr
}

// Template injection: what customers call themselves is neither a template nor a header nor mark-up in the mail that they get.
func TestSentCode_NamesInMail(t *testing.T) {
	t.Parallel()
	box := serveLetters(t)
	s := authztest.Start(t, authztest.Options{Channels: func(*authztest.Server) []reach.Channel { return []reach.Channel{box.channel(t)} }})
	client := s.Client("web")
	for i, name := range []struct{ given, shown string }{
		{"{{token}}", ""}, {"{{.Text}}", ""}, {"{code}", ""}, {"{bank}", ""}, {"%d", ""}, {"$(id)", ""}, {"<img src=x onerror=attack()>", ""}, {"<b>", ""},
		{"\u202eloraC", ""}, {"Carol\u2066", ""}, {"https://evil.example", ""}, {"Carol\r\nBcc: thief@evil.example", "Carol, "}, {"\r\n.\r\nMAIL", ""}, {"Zoë", "Zoë, "},
	} {
		username := fmt.Sprintf("someone%d", i)
		addPerson(t, s, storage.Profile{Username: username, GivenName: name.given, Name: "Doe"}, "email", carolEmail)
		b := s.Browser(t)
		page := b.LoginAs(t, b.Authorize(t, client.ID, client.Push(t, nil)), username)
		page = b.Submit(t, page.Is(t, "second_factor_page"), url.Values{"send": {"1"}}).Is(t, "second_factor_page")
		soon(t, "a letter", func() bool { return len(box.letters()) > i })
		l := box.letters()[i]
		header, parts := l.read(t)
		code := sixDigits.FindString(parts["text/plain"])
		if want := name.shown + code + codeWords; !strings.HasPrefix(parts["text/plain"], want) {
			t.Errorf("%q: reads\n%s\nwant\n%s", name.given, parts["text/plain"], want)
		}
		if strings.Count(parts["text/html"], name.shown+code+" is your code") != 1 || len(parts) != 2 {
			t.Errorf("%q: mark-up\n%s", name.given, parts["text/html"])
		}
		if len(l.to) != 1 || header.Get("Bcc") != "" || header.Get("Subject") != "Your code" {
			t.Errorf("%q: to %q with %v", name.given, l.to, header)
		}
		for _, attack := range []string{"<img", "attack()", "<b>", "{{", "{code}", "evil.example", "\u202e", "\u2066", "$(id)"} {
			if strings.Contains(l.content, attack) || strings.Contains(parts["text/html"]+parts["text/plain"], attack) || strings.Contains(string(page.Body), attack) {
				t.Errorf("%q: it says %q", name.given, attack)
			}
		}
	}
}
