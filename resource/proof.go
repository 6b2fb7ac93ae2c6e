package resource

import (
	"context"
	"crypto/x509"
	"net/http"
	"strings"

	"github.com/countersign/countersign/fapi"
)

const dpopAlgorithms = `algs="ES256 PS256 EdDSA"` // strongAlgorithms, for challenges (RFC 9449 §7.1)

var (
	errUnbound     = fapi.Refuse(fapi.InvalidToken, "The access token is bound to nothing: this service takes only tokens bound by a certificate or by DPoP.")
	errNotDPoP     = fapi.Refuse(fapi.InvalidToken, "The access token is not bound by DPoP: its scheme is Bearer.")
	errNotBearer   = fapi.Refuse(fapi.InvalidToken, "The access token is bound by DPoP: its scheme is DPoP, and it needs a proof.")
	errOtherKey    = fapi.Refuse(fapi.InvalidToken, "The access token is bound to another certificate or key than the caller's.")
	errNeedsNonce  = fapi.Refuse(fapi.UseDPoPNonce, "The DPoP proof needs the nonce in the DPoP-Nonce header.").WithStatus(http.StatusUnauthorized)
	errProofUsed   = fapi.Refuse(fapi.InvalidDPoPProof, "The DPoP proof was used before.").WithStatus(http.StatusUnauthorized)
	errMemoryFails = fapi.Refuse(fapi.TemporarilyUnavailable, "The DPoP proof cannot be checked just now.")
)

// certificates returns the chain that the caller proved in the TLS handshake, with us or with a trusted proxy.
func (g *Guard) certificates(r *http.Request) ([]*x509.Certificate, error) {
	if h := g.config.CertificateHeader; h != nil && h.Trusts(r.RemoteAddr) {
		return h.Certificates(r.Header)
	}
	if r.TLS == nil {
		return nil, nil
	}
	return r.TLS.PeerCertificates, nil
}

// possession tells which keys the caller has proved to hold: the certificate's in the TLS handshake, and that of a DPoP
// proof, which must be made for this request and this token.
func (g *Guard) possession(r *http.Request, s scheme, token string) (proved fapi.Confirmation, use fapi.Use, err error) {
	certs, err := g.certificates(r)
	if err != nil {
		return proved, use, err
	}
	if len(certs) > 0 {
		proved.X5TS256 = fapi.CertificateThumbprint(certs[0])
	}
	if s != dpop {
		return proved, use, nil
	}
	now := g.now()
	proof, err := fapi.CheckDPoP(r.Header.Values("DPoP"), fapi.DPoPRequest{
		Method: r.Method, URLs: g.urlsOf(r), AccessToken: token,
		Now: now, RememberedSince: g.config.Replays.Since(), Algorithms: strongAlgorithms,
	})
	if err != nil {
		return proved, use, fapi.AsError(err).WithStatus(http.StatusUnauthorized) // RFC 9449 §7.1
	}
	if g.nonces != nil && !g.nonces.Check(proof.Nonce, now) {
		return proved, use, errNeedsNonce
	}
	proved.JKT = proof.JKT
	return proved, proof.Use, nil
}

// urlsOf returns the URLs by which a request may have been made. Its path is taken as it came in: a mux that strips a
// prefix changes r.URL only.
func (g *Guard) urlsOf(r *http.Request) []string {
	path := r.URL.EscapedPath()
	if strings.HasPrefix(r.RequestURI, "/") {
		path, _, _ = strings.Cut(r.RequestURI, "?")
	}
	urls := make([]string, len(g.config.URLs))
	for i, base := range g.config.URLs {
		urls[i] = base + path
	}
	return urls
}

// checkBinding tells whether the token may be used by who has proved to hold these keys (RFC 8705 §3, RFC 9449 §7.1, §7.2).
func (g *Guard) checkBinding(bound fapi.Confirmation, s scheme, proved fapi.Confirmation) error {
	switch {
	case s == bearer && bound.JKT != "":
		return errNotBearer
	case s == dpop && bound.JKT == "":
		return errNotDPoP
	case bound.Empty() && !g.config.AllowBearer:
		return errUnbound
	case !bound.Matches(proved):
		return errOtherKey
	}
	return nil
}

// useUp makes sure that a proof was not used before (RFC 9449 §11.1). It comes last, so that only who holds a good token
// can fill the memory.
func (g *Guard) useUp(ctx context.Context, use fapi.Use) error {
	first, err := g.config.Replays.First(ctx, use)
	switch {
	case err != nil:
		return errMemoryFails.Because(err)
	case !first:
		return errProofUsed
	}
	return nil
}
