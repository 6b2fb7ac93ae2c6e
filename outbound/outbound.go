package outbound

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Options are what an operator may decide. The zero value is safe.
type Options struct {
	RootCAs      *x509.CertPool // who vouches for the other side; nil: whom the system trusts
	AllowPrivate []netip.Prefix // networks that may be called although they are not public
	Timeout      time.Duration  // of a whole call, waiting for its turn and resolving the name included; 0: 5 seconds
	Concurrent   int            // calls at a time; 0: 32. One host gets an eighth of them
	Resolver     *net.Resolver  // nil: the system's

	Certificate *tls.Certificate // by which the server is known to those who ask for it; nil: it has none
}

// Client calls addresses that others named. It is safe for concurrent use.
type Client struct {
	http       *http.Client
	identified *http.Client // the same with the certificate; nil without one
	timeout    time.Duration
	all        chan struct{}
	hosts      hosts
}

// Why a call failed. Every error of this package is one of these and says no more than the host.
var (
	ErrURL         = errors.New("not an https URL that may be called")
	ErrAddress     = errors.New("the address is not public")
	ErrUnreachable = errors.New("no connection")
	ErrTLS         = errors.New("the TLS certificate or handshake is not acceptable")
	ErrTimeout     = errors.New("took too long")
	ErrAnswer      = errors.New("not an HTTP answer that can be read")
	ErrRedirect    = errors.New("redirects are not followed")
	ErrStatus      = errors.New("refused by the other side")
	ErrTooLarge    = errors.New("the answer is too large")

	ErrNoCertificate = errors.New("the server has no certificate to show")
)

const (
	maxURL    = 2048
	maxHeader = 16 << 10
)

// New makes a Client.
func New(o Options) *Client {
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Concurrent <= 0 {
		o.Concurrent = 32
	}
	c := &Client{
		timeout: o.Timeout,
		all:     make(chan struct{}, o.Concurrent),
		hosts:   hosts{each: max(1, o.Concurrent/8), busy: map[string]*host{}},
		http:    o.client(nil),
	}
	if o.Certificate != nil {
		c.identified = o.client([]tls.Certificate{*o.Certificate})
	}
	return c
}

func (o Options) client(certificates []tls.Certificate) *http.Client {
	dialer := &net.Dialer{Resolver: o.Resolver, KeepAlive: -1, ControlContext: guard(o.AllowPrivate).check}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would connect where this server's check does not reach
			DialContext:            dialer.DialContext,
			DisableKeepAlives:      true, // each call checks the address anew
			DisableCompression:     true, // a few bytes on the wire must not become many here
			MaxResponseHeaderBytes: maxHeader,
			TLSClientConfig: &tls.Config{
				RootCAs:      o.RootCAs,
				Certificates: certificates,
				MinVersion:   tls.VersionTLS12,
				CipherSuites: []uint16{ // of 1.2: RFC 9325 §4.2
					tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
					tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
					tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
					tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
				},
			},
		},
	}
}

// Response is the answer to a Get: its status was 200.
type Response struct {
	Header http.Header
	Body   []byte
}

// Get fetches what is at an https URL, of at most limit bytes. Any status but 200 is an error.
func (c *Client) Get(ctx context.Context, address string, limit int64) (*Response, error) {
	r, err := newRequest(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	var got *Response
	err = c.do(c.http, r, func(answer *http.Response) error {
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%w: status %d", ErrStatus, answer.StatusCode)
		}
		body, err := readBody(answer, limit)
		got = &Response{answer.Header, body}
		return err
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// Post sends a body to an https URL and returns the status of the answer, whatever it is unless a redirect. header adds to
// what is sent; it may be nil. What the other side answers beside the status is not read.
func (c *Client) Post(ctx context.Context, address, contentType string, body []byte, header http.Header) (status int, err error) {
	return c.post(ctx, c.http, address, contentType, body, header)
}

// PostIdentified is Post with the server's certificate, for those who want to know who calls. It returns ErrNoCertificate when
// the server has none.
func (c *Client) PostIdentified(ctx context.Context, address, contentType string, body []byte, header http.Header) (status int, err error) {
	if c.identified == nil {
		return 0, ErrNoCertificate
	}
	return c.post(ctx, c.identified, address, contentType, body, header)
}

func (c *Client) post(ctx context.Context, via *http.Client, address, contentType string, body []byte, header http.Header) (status int, err error) {
	r, err := newRequest(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	for name, values := range header {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	r.Header.Set("Content-Type", contentType)
	err = c.do(via, r, func(answer *http.Response) error {
		status = answer.StatusCode
		return nil
	})
	return status, err
}

// newRequest reads an address. Its fragment is not sent (RFC 9110 §7.1).
func newRequest(ctx context.Context, method, address string, body io.Reader) (*http.Request, error) {
	u, err := url.Parse(address)
	if err != nil || len(address) > maxURL || !mayCall(u) {
		return nil, ErrURL
	}
	r, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, ErrURL
	}
	setHeader(r)
	return r, nil
}

// do waits for a turn, sends the request and hands the answer to read, all within the time of one call.
func (c *Client) do(via *http.Client, r *http.Request, read func(*http.Response) error) error {
	ctx, cancel := context.WithTimeout(r.Context(), c.timeout)
	defer cancel()
	if err := c.turn(ctx, via, r, read); err != nil {
		if ctx.Err() != nil {
			err = ErrTimeout
		}
		return fmt.Errorf("calling %s: %w", r.URL.Host, err)
	}
	return nil
}

func (c *Client) turn(ctx context.Context, via *http.Client, r *http.Request, read func(*http.Response) error) error {
	leave, err := c.hosts.enter(ctx, strings.ToLower(r.URL.Host)) // before the slot of all, so that a slow host holds up only itself
	if err != nil {
		return err
	}
	defer leave()
	select {
	case c.all <- struct{}{}:
		defer func() { <-c.all }()
	case <-ctx.Done():
		return ErrTimeout
	}
	answer, err := via.Do(r.WithContext(ctx))
	if err != nil {
		return plain(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 && answer.StatusCode < 400 {
		return fmt.Errorf("%w: status %d", ErrRedirect, answer.StatusCode)
	}
	return read(answer)
}

// readBody reads a body of at most limit bytes, as it was sent: nobody asked for it to be compressed.
func readBody(answer *http.Response, limit int64) ([]byte, error) {
	if coding := answer.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return nil, fmt.Errorf("%w: compressed", ErrAnswer)
	}
	if answer.ContentLength > limit {
		return nil, ErrTooLarge
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: broken off", ErrAnswer)
	}
	if int64(len(body)) > limit {
		return nil, ErrTooLarge
	}
	return body, nil
}

// plain says in words of ours why a call failed: net/http and crypto/tls quote what the other side sent.
func plain(err error) error {
	var address *addressError
	var untrusted *tls.CertificateVerificationError
	var handshake tls.AlertError
	var record tls.RecordHeaderError
	var name *net.DNSError
	var connection *net.OpError
	switch {
	case errors.As(err, &address):
		return address
	case errors.As(err, &untrusted):
		return fmt.Errorf("%w: %s", ErrTLS, reason(untrusted.Err))
	case errors.As(err, &record), errors.As(err, &handshake):
		return fmt.Errorf("%w: no handshake", ErrTLS)
	case errors.As(err, &name):
		return fmt.Errorf("%w: the name is not resolved", ErrUnreachable)
	case errors.As(err, &connection) && connection.Op == "dial":
		return ErrUnreachable
	case errors.As(err, &connection) && connection.Op == "remote error":
		return fmt.Errorf("%w: no handshake", ErrTLS)
	}
	return ErrAnswer
}

// reason tells what is wrong with a certificate.
func reason(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return "from an authority that is not trusted"
	case errors.As(err, &name):
		return "for another host"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "expired or not valid yet"
	}
	return "not valid"
}
