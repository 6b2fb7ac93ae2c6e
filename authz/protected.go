package authz

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// dpopAlgorithms are those that proofs may be signed with (FAPI 2.0 §5.4.1).
var dpopAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA}

var errBadToken = fapi.Refuse(fapi.InvalidToken, "The access token is unknown, expired, revoked, or not the caller's.")

// errNoToken is for a call without a token, or with a scheme that is none of ours: its challenge names no error
// (RFC 6750 §3.1).
var errNoToken = fapi.Refuse(fapi.InvalidToken, "The call needs an access token in its Authorization header.")

// access is a call of one of our own protected resources (userinfo, the consent API) with a token that is good.
type access struct {
	token  *engine.AccessToken
	client *fapi.Client
	live   *storage.Live // nil with client credentials
}

// authenticateToken judges the access token of a call (RFC 6750 §2.1, RFC 8705 §3, RFC 9449 §7.1). One round trip.
func (s *Server) authenticateToken(r *http.Request, presented string) (*access, error) {
	scheme, header, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	dpop := strings.EqualFold(scheme, "DPoP")
	if presented == "" {
		if !dpop && !strings.EqualFold(scheme, "Bearer") || header == "" {
			return nil, errNoToken
		}
		presented = header
	}
	if r.URL.Query().Has("access_token") {
		return nil, fapi.Refuse(fapi.InvalidRequest, "An access token does not belong into a URL.")
	}
	t, ok := s.engine.OpenAccessToken(presented, s.now())
	if !ok {
		return nil, errBadToken
	}
	proof, uses, err := s.possession(r, presented, dpop)
	if err != nil {
		return nil, err
	}
	if t.Confirmation != nil && (!t.Confirmation.Matches(proof) || t.Confirmation.JKT != "" && !dpop) {
		return nil, errBadToken
	}
	client, live, err := s.live(r.Context(), uses, t)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, errBadToken
	case errors.Is(err, storage.ErrAlreadyUsed):
		return nil, fapi.Refuse(fapi.InvalidDPoPProof, "The DPoP proof was used before.").WithStatus(http.StatusUnauthorized)
	case err != nil:
		return nil, err
	}
	return &access{t, client, live}, nil
}

// possession tells which keys the caller has proved to hold.
func (s *Server) possession(r *http.Request, token string, dpop bool) (fapi.Confirmation, []storage.Use, error) {
	var proved fapi.Confirmation
	if certs := certificates(r); len(certs) > 0 {
		proved.X5TS256 = fapi.CertificateThumbprint(certs[0])
	}
	if !dpop {
		return proved, nil, nil
	}
	remembered := s.db.RememberedSince()
	proof, err := fapi.CheckDPoP(r.Header.Values("DPoP"), fapi.DPoPRequest{
		Method: r.Method, URLs: s.urls(r.URL.Path), AccessToken: token,
		Now: s.now(), RememberedSince: remembered, Algorithms: dpopAlgorithms,
	})
	if err != nil {
		return proved, nil, fapi.AsError(err).WithStatus(http.StatusUnauthorized)
	}
	if s.DPoPNonces && !s.nonces.Check(proof.Nonce, s.now()) {
		return proved, nil, fapi.Refuse(fapi.UseDPoPNonce, "The DPoP proof needs the nonce in the DPoP-Nonce header.").WithStatus(http.StatusUnauthorized)
	}
	proved.JKT = proof.JKT
	return proved, []storage.Use{{Hash: proof.Use.Hash, ExpiresAt: proof.Use.ExpiresAt, Remembered: remembered}}, nil
}

// refuseToken answers a call of a protected resource that was refused, without a body.
func (s *Server) refuseToken(w http.ResponseWriter, r *http.Request, err error) {
	s.challenge(w, r, err)
	noStore(w.Header())
	w.WriteHeader(refusal(err).Status)
}

// challenge tells a refused caller what is wrong with its token (RFC 6750 §3, RFC 9449 §7.1).
func (s *Server) challenge(w http.ResponseWriter, r *http.Request, err error) {
	refused := refusal(err)
	s.logRefusal(r, nil, refused)
	var params []string
	if refused != errNoToken {
		params = append(params, fmt.Sprintf(`error="%s"`, refused.Code), fmt.Sprintf(`error_description="%s"`, refused.Description))
	}
	scheme := "Bearer"
	if given, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(given, "DPoP") {
		scheme = "DPoP"
		params = append(params, fmt.Sprintf(`algs="%s"`, strings.Join(names(dpopAlgorithms), " ")))
		if s.DPoPNonces {
			w.Header().Set("DPoP-Nonce", s.nonces.New(s.now()))
		}
	}
	if refused.Status < http.StatusInternalServerError {
		w.Header().Set("WWW-Authenticate", strings.TrimSpace(scheme+" "+strings.Join(params, ", ")))
	}
}
