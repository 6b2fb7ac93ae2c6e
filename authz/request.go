package authz

import (
	"context"
	"crypto/x509"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// Request is a call of a back-channel endpoint. The pipeline fills it: what an endpoint finds here was checked.
type Request struct {
	HTTP         *http.Request
	Form         url.Values // the body; client authentication included
	Client       *fapi.Client
	Certificates []*x509.Certificate // the client's, leaf first; nil when it sent none
	Proof        *fapi.DPoPProof     // nil when it sent none
	Confirmation fapi.Confirmation   // what tokens get bound to

	answer     http.Header // to which an endpoint may add
	endpoint   *route
	registered *registeredClient
	uses       []storage.Use
	replays    []*fapi.Error // what the request is refused with when one of uses, at the same place, is not the first
	remembered time.Time     // since when, as the request's identifiers were held against the memory of used ones
	handedOver bool
}

// Uses returns the identifiers that the request uses up. Whoever takes them hands them to the store, in the statement
// that the request is about; what nobody took is used up before the answer is written.
func (r *Request) Uses() []storage.Use {
	r.handedOver = true
	return r.uses
}

func (r *Request) use(u fapi.Use, replay *fapi.Error) {
	r.uses = append(r.uses, storage.Use{Hash: u.Hash, ExpiresAt: u.ExpiresAt, Remembered: r.remembered})
	r.replays = append(r.replays, replay)
}

// maxBody is more than any request needs: a chain of certificates in a client assertion, and authorization_details.
const maxBody = 64 << 10

// readForm reads a form-encoded body (RFC 6749 §3.2). A query string is no place for what is sent here.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil, fapi.Refuse(fapi.InvalidRequest, "The body must be application/x-www-form-urlencoded.").WithStatus(http.StatusUnsupportedMediaType)
	}
	if r.URL.RawQuery != "" {
		return nil, fapi.Refuse(fapi.InvalidRequest, "The parameters belong into the body.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, errTooLarge.Because(err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, fapi.Refuse(fapi.InvalidRequest, "The body is not form-encoded.").Because(err)
	}
	return form, nil
}

var errTooLarge = fapi.Refuse(fapi.InvalidRequest, "The request is too large.").WithStatus(http.StatusRequestEntityTooLarge)

// proxiedKey is the context's key of the certificates that a trusted proxy hands over.
type proxiedKey struct{}

// behindProxy lets the certificate that a trusted proxy took from a client count in the place of the proxy's own. From
// anybody else the header means nothing.
func (s *Server) behindProxy(next http.Handler) http.Handler {
	h := s.CertificateHeader
	if h == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.Trusts(r.RemoteAddr) {
			s.warnUntrusted(r)
			next.ServeHTTP(w, r)
			return
		}
		certs, err := h.Certificates(r.Header)
		if err != nil { // not the same as no certificate
			s.refuse(w, r, nil, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), proxiedKey{}, certs)))
	})
}

// warnUntrusted says that somebody tries to pass for a proxy, or that a proxy is missing from the settings: not more than
// once a minute, for anybody can make it say so.
func (s *Server) warnUntrusted(r *http.Request) {
	now, last := s.now().Unix(), s.warnedAt.Load()
	if s.CertificateHeader.Present(r.Header) && now-last >= 60 && s.warnedAt.CompareAndSwap(last, now) {
		s.log.Warn("header of client certificates ignored: not from a trusted proxy", zap.String("peer", r.RemoteAddr), zap.String("path", r.URL.Path))
	}
}

// trustedIssuers are the authorities that may vouch for the certificate of a request. Where the proxy has checked that
// already, the certificate vouches for itself: what else is wrong with it still counts.
func (s *Server) trustedIssuers(r *Request) *x509.CertPool {
	if r.HTTP.Context().Value(proxiedKey{}) == nil || !s.CertificateHeader.Verified || len(r.Certificates) == 0 {
		return s.ClientCAs
	}
	itself := x509.NewCertPool()
	itself.AddCert(r.Certificates[0])
	return itself
}

// certificates returns the chain that the client proved in the TLS handshake, with us or with a trusted proxy.
func certificates(r *http.Request) []*x509.Certificate {
	if proxied, ok := r.Context().Value(proxiedKey{}).([]*x509.Certificate); ok {
		return proxied
	}
	if r.TLS == nil {
		return nil
	}
	return r.TLS.PeerCertificates
}
