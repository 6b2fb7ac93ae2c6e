package authz

import (
	"context"
	"errors"
	"net/http"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// pipeline says what is checked where, and in which order. Each row is one check, the clause that asks for it, and the
// endpoints that it guards. What a check demands of which client stands in one other place: fapi/profile.go.
var pipeline = []struct {
	check  func(*Server, context.Context, *Request) error
	source string
	on     endpoints
}{
	{(*Server).noRepeats, "RFC 6749 §3.2", par | token | introspect | revoke | device | backchannel},
	{(*Server).clientAuthenticated, "RFC 6749 §2.3, RFC 7523 §3, RFC 8705 §2", par | token | introspect | revoke | device | backchannel},
	{(*Server).dpopProof, "RFC 9449 §4.3, §8", par | token},
	{(*Server).senderConstrained, "RFC 8705 §3, RFC 9449 §5, FAPI 2.0 §5.3.2.1", token},
	{(*Server).resourceServer, "RFC 7662 §2.1", introspect},
}

// endpoints is a set of back-channel endpoints.
type endpoints uint

const (
	par endpoints = 1 << iota
	token
	introspect
	revoke
	device
	backchannel
)

// backChannel makes an HTTP handler of an endpoint that clients call: read, check, answer.
func (s *Server) backChannel(e *route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		req := &Request{HTTP: r, answer: w.Header(), endpoint: e, Certificates: certificates(r), remembered: s.db.RememberedSince()}
		response, err := s.answer(w, req)
		if !req.handedOver && len(req.uses) > 0 && !errors.Is(err, fapi.UseDPoPNonce) { // that client comes back with the same
			if used := s.db.Use(r.Context(), req.uses...); used != nil && err == nil {
				err = used
			}
		}
		if errors.Is(err, storage.ErrAlreadyUsed) {
			err = s.replayed(r.Context(), req, err)
		}
		if s.DPoPNonces && (req.Proof != nil || r.Header.Get("DPoP") != "") {
			w.Header().Set("DPoP-Nonce", s.nonces.New(s.now()))
		}
		if err != nil {
			s.refuse(w, r, req, err)
			return
		}
		response.write(w)
	}
}

// replayed tells which of the identifiers that a request uses up was used before. They were refused together and none was
// kept: one by one, those that are new are used up now, up to the one that is not.
func (s *Server) replayed(ctx context.Context, r *Request, cause error) error {
	last := len(r.uses) - 1
	for i, use := range r.uses[:last] {
		if err := s.db.Use(ctx, use); errors.Is(err, storage.ErrAlreadyUsed) {
			return r.replays[i].Because(cause)
		} else if err != nil {
			return err
		}
	}
	return r.replays[last].Because(cause)
}

func (s *Server) answer(w http.ResponseWriter, r *Request) (_ Response, err error) {
	if r.Form, err = readForm(w, r.HTTP); err != nil {
		return nil, err
	}
	ctx := r.HTTP.Context()
	for i := range pipeline {
		if pipeline[i].on&r.endpoint.endpoint == 0 {
			continue
		}
		if err := pipeline[i].check(s, ctx, r); err != nil {
			return nil, err
		}
	}
	return r.endpoint.answer(s, ctx, r)
}

func (s *Server) noRepeats(_ context.Context, r *Request) error { return fapi.CheckParameters(r.Form) }

// resourceServer lets only those introspect that registered as a resource server.
func (s *Server) resourceServer(_ context.Context, r *Request) error {
	if len(r.Client.ResourceIdentifiers) == 0 {
		return fapi.Refuse(fapi.UnauthorizedClient, "The client is not a resource server.").WithStatus(http.StatusForbidden)
	}
	return nil
}

// senderConstrained finds what the tokens of this request get bound to, and refuses a client whose tokens must be bound
// but that proves possession of nothing.
func (s *Server) senderConstrained(_ context.Context, r *Request) error {
	c := r.Client
	if r.Proof != nil && c.MayBind(fapi.ByDPoP) {
		r.Confirmation.JKT = r.Proof.JKT
	}
	if len(r.Certificates) > 0 && (c.CertificateBoundAccessTokens || c.MustBind() && !c.DPoPBoundAccessTokens && r.Confirmation.JKT == "") {
		r.Confirmation.X5TS256 = fapi.CertificateThumbprint(r.Certificates[0])
	}
	switch {
	case c.DPoPBoundAccessTokens && r.Confirmation.JKT == "":
		return fapi.Refuse(fapi.InvalidDPoPProof, "The client's tokens are bound by DPoP: the request needs a proof.")
	case c.CertificateBoundAccessTokens && r.Confirmation.X5TS256 == "":
		return fapi.Refuse(fapi.InvalidRequest, "The client's tokens are bound to its certificate: the request needs one.")
	case c.MustBind() && r.Confirmation.Empty():
		return fapi.Refuse(fapi.InvalidRequest, "Tokens must be bound: the request needs a client certificate or a DPoP proof.")
	}
	return nil
}

var errProofReplayed = fapi.Refuse(fapi.InvalidDPoPProof, "The jti of the DPoP proof was used before.")

// dpopProof checks the proof, if there is one. It comes before anything is used up: a client that is told to take a
// nonce comes back with the same code.
func (s *Server) dpopProof(_ context.Context, r *Request) error {
	headers := r.HTTP.Header.Values("DPoP")
	if len(headers) == 0 {
		return nil
	}
	proof, err := fapi.CheckDPoP(headers, fapi.DPoPRequest{
		Method:          r.HTTP.Method,
		URLs:            s.urls(r.endpoint.path),
		Now:             s.now(),
		RememberedSince: s.db.RememberedSince(),
		Algorithms:      dpopAlgorithms,
	})
	if err != nil {
		return err
	}
	if s.DPoPNonces && !s.nonces.Check(proof.Nonce, s.now()) {
		r.Proof = proof
		return fapi.Refuse(fapi.UseDPoPNonce, "The DPoP proof needs the nonce in the DPoP-Nonce header.")
	}
	r.Proof = proof
	r.use(proof.Use, errProofReplayed)
	return nil
}

// urls are the forms in which an endpoint is advertised.
func (s *Server) urls(path string) []string { return []string{s.Issuer + path, s.MTLSBase + path} }
