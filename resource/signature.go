package resource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

// ClientKeys finds the public keys of a client (RFC 7517), by which it signs its requests. A client that is not known has
// none: nil, without an error. An error means that the keys cannot be had just now. It is asked with every signed request,
// and has to remember what it fetches.
type ClientKeys func(ctx context.Context, clientID string) (*jose.JSONWebKeySet, error)

// KnownKeys is for clients whose keys are configured.
func KnownKeys(keys map[string]*jose.JSONWebKeySet) ClientKeys {
	return func(_ context.Context, clientID string) (*jose.JSONWebKeySet, error) { return keys[clientID], nil }
}

const defaultMaxSigned = 1 << 20

var (
	errKeysFail   = fapi.Refuse(fapi.TemporarilyUnavailable, "The signature of the request cannot be checked just now.")
	errTooLong    = fapi.Refuse(fapi.InvalidRequest, "The content is longer than this service takes in signed requests.").WithStatus(http.StatusRequestEntityTooLarge)
	errUnreadable = fapi.Refuse(fapi.InvalidRequest, "The body cannot be read.")
	errDigest     = fapi.Refuse(fapi.InvalidRequest, "The Content-Digest is not that of the content.")
)

// exchange is what signatures need to know of a request and what becomes of it.
type exchange struct {
	request   *fapi.HTTPMessage
	signature *fapi.HTTPSignature // of the request; nil when it has none
}

func (c *Config) checkSignatures(add func(string, ...any)) {
	switch {
	case c.RequestSignatures != fapi.Optional && c.RequestSignatures != fapi.Required:
		add("RequestSignatures: must be fapi.Optional or fapi.Required")
	case c.RequestSignatures == fapi.Required && c.ClientKeys == nil:
		add("RequestSignatures: needs ClientKeys")
	}
	if c.ResponseKey != nil {
		if err := c.ResponseKey.Check(); err != nil {
			add("ResponseKey: %w", err)
		}
	}
	if c.MaxSigned < 0 {
		add("MaxSigned: must not be negative")
	}
}

// signs tells whether signatures matter to this service at all.
func (g *Guard) signs() bool { return g.config.ClientKeys != nil || g.config.ResponseKey != nil }

// checkSignature verifies the signature of a request with the keys of the client whose token it brings (FAPI 2.0 HTTP
// Signatures §5.3.1.2). Without one the Content-Digest is checked at least: the signature of the response will cover it.
func (g *Guard) checkSignature(w http.ResponseWriter, r *http.Request, p *Principal, x *exchange) error {
	if err := g.readContent(r, x.request); err != nil {
		return err
	}
	err := fapi.ErrNotSigned
	if g.config.ClientKeys != nil {
		err = g.verifyRequest(r, p, x)
	}
	if err == nil {
		return nil
	}
	if err == fapi.ErrNotSigned && g.config.RequestSignatures != fapi.Required {
		if err := x.request.CheckContentDigest(); err != nil {
			return errDigest.Because(err)
		}
		return nil
	}
	if err.Status == http.StatusUnauthorized {
		w.Header().Set("Accept-Signature", fapi.AcceptSignature(x.request))
	}
	return err
}

func (g *Guard) verifyRequest(r *http.Request, p *Principal, x *exchange) *fapi.Error {
	keys, err := g.config.ClientKeys(r.Context(), p.ClientID)
	if err != nil {
		return errKeysFail.Because(err)
	}
	if keys == nil {
		keys = &jose.JSONWebKeySet{}
	}
	likely := x.request.TargetURI
	for _, x.request.TargetURI = range g.targetsOf(r) {
		if x.signature, err = fapi.CheckRequestSignature(x.request, keys, g.now()); err == nil {
			return nil
		}
	}
	x.request.TargetURI = likely
	return fapi.AsError(err)
}

// targetsOf returns the URLs by which a request may have been made, with its query (RFC 9421 §2.2.2); first the one of
// the host that it names.
func (g *Guard) targetsOf(r *http.Request) []string {
	query := r.URL.RawQuery
	if strings.HasPrefix(r.RequestURI, "/") {
		_, query, _ = strings.Cut(r.RequestURI, "?")
	}
	if query != "" || r.URL.ForceQuery {
		query = "?" + query
	}
	targets := g.urlsOf(r)
	for i, target := range targets {
		targets[i] = ascii(target + query)
		if strings.HasPrefix(target, "https://"+r.Host+"/") {
			targets[0], targets[i] = targets[i], targets[0]
		}
	}
	return targets
}

// ascii escapes bytes that no URI has (RFC 3986 §2), though requests may come with them.
func ascii(target string) string {
	var out strings.Builder
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c > '~' {
			fmt.Fprintf(&out, "%%%02X", c)
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}

// readContent reads the content of a request, and leaves it for the handler.
func (g *Guard) readContent(r *http.Request, m *fapi.HTTPMessage) (err error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if m.Body, err = io.ReadAll(io.LimitReader(r.Body, g.config.MaxSigned+1)); err != nil {
		return errUnreadable.Because(err)
	}
	if int64(len(m.Body)) > g.config.MaxSigned {
		return errTooLong
	}
	r.Body = &rereadBody{bytes.NewReader(m.Body), r.Body}
	return nil
}

type signatureKey struct{}

// SignatureFrom returns the signature of a request that a [Guard] let through, or nil: the evidence to keep, with the
// client's key, of what the client has sent.
func SignatureFrom(ctx context.Context) *fapi.HTTPSignature {
	s, _ := ctx.Value(signatureKey{}).(*fapi.HTTPSignature)
	return s
}

// signedResponse holds a response back until it can be signed. It can neither be flushed nor hijacked, and has no
// trailers: what is not whole cannot be signed. There is no Unwrap, so that nobody writes around it.
type signedResponse struct {
	to     http.ResponseWriter
	status int
	body   bytes.Buffer
	limit  int64
	full   bool
}

var errResponseTooLong = errors.New("resource: the response is longer than Config.MaxSigned")

func (s *signedResponse) Header() http.Header { return s.to.Header() }

func (s *signedResponse) WriteHeader(status int) {
	if s.status == 0 && status >= http.StatusOK { // 1xx are no responses to sign
		s.status = status
	}
}

func (s *signedResponse) Write(p []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	if int64(s.body.Len()+len(p)) > s.limit {
		s.full = true
		return 0, errResponseTooLong
	}
	return s.body.Write(p)
}

// hasContent tells whether a response may have content at all (RFC 9110 §6.4.1).
func hasContent(method string, status int) bool {
	return method != http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified
}

// sendSigned signs what a handler has answered, and sends it. What cannot be signed is not sent.
func (g *Guard) sendSigned(s *signedResponse, r *http.Request, x *exchange) {
	s.WriteHeader(http.StatusOK)
	h := s.Header()
	m := &fapi.HTTPMessage{Status: s.status, Request: x.request, Header: h}
	if hasContent(r.Method, s.status) {
		m.Body = s.body.Bytes()
		h.Set("Content-Length", fmt.Sprint(len(m.Body)))
		if h["Content-Type"] == nil && h.Get("Content-Encoding") == "" && len(m.Body) > 0 {
			h.Set("Content-Type", http.DetectContentType(m.Body)) // as net/http would, after the signature was made
		}
	}
	err := errResponseTooLong
	if !s.full {
		err = fapi.SignResponse(m, x.signature, *g.config.ResponseKey, g.now())
	}
	if err != nil {
		interaction := h[interactionHeader]
		clear(h)
		h[interactionHeader] = interaction
		g.refuse(s.to, r, nil, fapi.Refuse(fapi.ServerError, "The response cannot be signed.").Because(err))
		return
	}
	s.to.WriteHeader(m.Status)
	s.to.Write(m.Body)
}
