package resource

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"

	"github.com/countersign/countersign/fapi"
)

const (
	interactionHeader = "X-Fapi-Interaction-Id"
	nonceHeader       = "Dpop-Nonce"
)

var (
	errClosed      = fapi.Refuse(fapi.TemporarilyUnavailable, "The service is switched off.")
	errInteraction = fapi.Refuse(fapi.InvalidRequest, "x-fapi-interaction-id must be one UUID (RFC 4122).")
)

// Require lets a request through to next if it carries a good access token that meets the need. The handler finds whom
// it speaks for with [PrincipalFrom]. It panics if the Need is malformed.
func (g *Guard) Require(need Need, next http.Handler) http.Handler {
	c := need.checker()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var x *exchange
		if g.signs() {
			x = &exchange{request: &fapi.HTTPMessage{Method: r.Method, TargetURI: g.targetsOf(r)[0], Header: r.Header.Clone()}}
		}
		if g.config.ResponseKey == nil {
			g.serve(w, r, c, x, next)
			return
		}
		s := &signedResponse{to: w, limit: g.config.MaxSigned}
		g.serve(s, r, c, x, next)
		g.sendSigned(s, r, x)
	})
}

func (g *Guard) serve(w http.ResponseWriter, r *http.Request, c *checker, x *exchange, next http.Handler) {
	p, err := g.admit(w, r, c, x)
	if err != nil {
		g.refuse(w, r, p, err)
		return
	}
	ctx := WithPrincipal(r.Context(), p)
	if x != nil && x.signature != nil {
		ctx = context.WithValue(ctx, signatureKey{}, x.signature)
	}
	next.ServeHTTP(w, r.WithContext(ctx))
}

// admit is every check, in order. It returns the principal also with an error, once it is known, for the log. x is nil
// where nothing is signed.
func (g *Guard) admit(w http.ResponseWriter, r *http.Request, c *checker, x *exchange) (*Principal, error) {
	interaction := playBackInteraction(w, r)
	if !g.open() {
		return nil, errClosed
	}
	if interaction != nil {
		return nil, interaction
	}
	if err := checkPlaces(r); err != nil {
		return nil, err
	}
	s, token, err := parseAuthorization(r.Header["Authorization"])
	if err != nil {
		return nil, err
	}
	if s == dpop && g.nonces != nil {
		w.Header()[nonceHeader] = []string{g.nonces.New(g.now())} // RFC 9449 §8.2: also with answers that are good
	}
	proved, use, err := g.possession(r, s, token) // before the token: a bad proof costs the authorization server nothing
	if err != nil {
		return nil, err
	}
	p, err := g.principal(r.Context(), token)
	if err != nil {
		return nil, err
	}
	if err := g.checkBinding(p.Confirmation, s, proved); err != nil {
		return p, err
	}
	if x != nil {
		if err := g.checkSignature(w, r, p, x); err != nil {
			return p, err
		}
	}
	if s == dpop {
		if err := g.useUp(r.Context(), use); err != nil {
			return p, err
		}
	}
	return p, c.check(p, r, g.now())
}

// playBackInteraction sets x-fapi-interaction-id on the response: the request's, or a new one when it has none or a
// malformed one, which is refused (FAPI 1.0 Baseline §6.2.1). Handlers find the same in the request, to hand it on.
func playBackInteraction(w http.ResponseWriter, r *http.Request) error {
	sent := r.Header[interactionHeader]
	if len(sent) == 1 && isUUID(sent[0]) {
		w.Header()[interactionHeader] = sent
		return nil
	}
	made := []string{newUUID()}
	w.Header()[interactionHeader], r.Header[interactionHeader] = made, made
	if len(sent) > 0 {
		return errInteraction
	}
	return nil
}

// isUUID takes the form with hyphens (RFC 4122 §3).
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
		default:
			return false
		}
	}
	return true
}

// newUUID makes a random one (RFC 4122 §4.4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
