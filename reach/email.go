package reach

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"html/template"
	"net"
	netmail "net/mail"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"
)

// SMTPTLS says how a connection to a mail server is protected.
type SMTPTLS string

const (
	StartTLS    SMTPTLS = "starttls" // or nothing is sent; mostly port 587 (RFC 6409)
	ImplicitTLS SMTPTLS = "implicit" // from the first byte; port 465 (RFC 8314 §3.3)
	NoTLS       SMTPTLS = "none"     // only for a relay on the same machine or in a network that is protected otherwise
)

// EmailOptions say by which mail server an institution sends.
type EmailOptions struct {
	Address  string // host:port
	TLS      SMTPTLS
	User     string // "" for none
	Password string
	From     string // "Bank <no-reply@bank.example>"
	Bank     string // who writes, as the customer knows it
	RootCAs  *x509.CertPool
}

// Email sends emails by SMTP.
type Email struct {
	options EmailOptions
	host    string
	port    int
	from    string // the address alone
	page    *template.Template
}

// NewEmail makes an Email.
func NewEmail(o EmailOptions) (*Email, error) {
	host, port, err := net.SplitHostPort(o.Address)
	number, notNumber := strconv.ParseUint(port, 10, 16)
	if err != nil || notNumber != nil || host == "" || number == 0 {
		return nil, errors.New("SMTP: the address must be host:port")
	}
	if o.TLS != StartTLS && o.TLS != ImplicitTLS && o.TLS != NoTLS {
		return nil, fmt.Errorf("SMTP: TLS %q is not known", o.TLS)
	}
	if o.TLS == NoTLS && o.User != "" && !loopback(host) {
		return nil, errors.New("SMTP: without TLS a password would be seen on the way")
	}
	from, err := netmail.ParseAddress(o.From)
	if err != nil {
		return nil, errors.New("SMTP: from must be an address, such as Bank <no-reply@bank.example>")
	}
	page, err := template.ParseFS(files, "texts/email.html")
	if err != nil {
		return nil, err
	}
	return &Email{o, host, int(number), from.Address, page}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Kind is KindEmail.
func (e *Email) Kind() string { return KindEmail }

// Reaches tells whether the customer has an email address.
func (e *Email) Reaches(c Customer) bool { return isAddress(c.Email) }

// isAddress tells whether a text is one address and nothing else, of characters that no header takes for its own.
func isAddress(text string) bool {
	a, err := netmail.ParseAddress(text)
	return err == nil && a.Address == text && a.Name == "" && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

// Send hands a message over to the mail server.
func (e *Email) Send(ctx context.Context, m Message) error {
	if !e.Reaches(m.To) {
		return fmt.Errorf("%w: no email address", ErrRefused)
	}
	message, err := e.compose(m)
	if err != nil {
		return err
	}
	return e.deliver(ctx, message)
}

// compose writes the message: text, and the same in HTML.
func (e *Email) compose(m Message) (*mail.Msg, error) {
	says, err := english.of(m)
	if err != nil {
		return nil, err
	}
	footer := english.signed(e.options.Bank)
	message := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := errors.Join(message.From(e.options.From), message.To(m.To.Email)); err != nil {
		return nil, fmt.Errorf("%w: not an address", ErrRefused) // the library quotes it
	}
	message.Subject(says.Title)
	// The same at each attempt: whoever gets it twice sees it once.
	message.SetMessageIDWithValue(m.ID + "@" + e.from[strings.LastIndexByte(e.from, '@')+1:])
	message.SetDateWithValue(m.CreatedAt)
	message.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834 §5: nobody's absence is told to us
	message.SetBodyString(mail.TypeTextPlain, paragraphs(says.Text, says.Warning, m.URL, footer))
	var page bytes.Buffer
	err = e.page.Execute(&page, struct {
		Words
		URL, Link, Footer string
	}{says, m.URL, english.Link, footer})
	if err != nil {
		return nil, err
	}
	message.AddAlternativeString(mail.TypeTextHTML, page.String())
	return message, nil
}

// paragraphs are those that say something.
func paragraphs(all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(p string) bool { return p == "" }), "\n\n") + "\n"
}

// deliver speaks SMTP for as long as ctx lasts.
func (e *Email) deliver(ctx context.Context, message *mail.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var conn net.Conn // the library leaves it open after some failures
	client, err := mail.NewClient(e.host, e.clientOptions(func(ctx context.Context, network, address string) (net.Conn, error) {
		var err error
		conn, err = e.dial(ctx, network, address)
		return conn, err
	})...)
	if err != nil {
		return err
	}
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	if err := client.DialWithContext(ctx); err != nil {
		return fmt.Errorf("mail server: %w", failure(err))
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err = client.Send(message)
	if message.IsDelivered() { // whatever came after
		client.Close()
		return nil
	}
	var refused *mail.SendError
	if errors.As(err, &refused) && refused.ErrorCode() > 0 {
		err := fmt.Errorf("mail server: %s: answered with %d", refused.Reason, refused.ErrorCode())
		if refused.ErrorCode() >= 500 {
			err = fmt.Errorf("%w: %w", err, ErrRefused)
		}
		return err
	}
	return fmt.Errorf("mail server: %w", failure(err))
}

func (e *Email) tls() *tls.Config {
	return &tls.Config{ServerName: e.host, RootCAs: e.options.RootCAs, MinVersion: tls.VersionTLS12}
}

func (e *Email) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if e.options.TLS == ImplicitTLS {
		return (&tls.Dialer{Config: e.tls()}).DialContext(ctx, network, address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

func (e *Email) clientOptions(dial mail.DialContextFunc) []mail.Option {
	options := []mail.Option{
		mail.WithPort(e.port), mail.WithTimeout(callTime), mail.WithTLSConfig(e.tls()), mail.WithDialContextFunc(dial),
		mail.WithHELO(e.from[strings.LastIndexByte(e.from, '@')+1:]), mail.WithoutNoop(),
	}
	switch e.options.TLS {
	case StartTLS:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	case ImplicitTLS:
		options = append(options, mail.WithSSL())
	default:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	}
	if e.options.User != "" {
		options = append(options, mail.WithUsername(e.options.User), mail.WithPassword(e.options.Password),
			mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlain, mail.SMTPAuthLogin))
	}
	return options
}

// failure says in words of ours what went wrong: the library quotes what the server said, and that may quote the customer.
func failure(err error) error {
	var said *textproto.Error
	var untrusted *tls.CertificateVerificationError
	var network net.Error
	switch {
	case errors.As(err, &said):
		return fmt.Errorf("answered with %d", said.Code)
	case errors.As(err, &untrusted):
		return errors.New("its certificate is not trusted")
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return errors.New("took too long")
	case errors.As(err, &network):
		return errors.New("no connection")
	}
	return errors.New("no TLS, no way to log in that both know, or broken off")
}
