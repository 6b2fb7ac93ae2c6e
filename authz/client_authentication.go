package authz

import (
	"context"
	"net/http"
	"net/url"

	"github.com/countersign/countersign/fapi"
)

var (
	errUnknownClient     = fapi.Refuse(fapi.InvalidClient, "The client is unknown, or did not authenticate as registered.")
	errAssertionReplayed = fapi.Refuse(fapi.InvalidClient, "The jti of the client assertion was used before.")
	errTwoMethods        = fapi.Refuse(fapi.InvalidRequest, "The request authenticates the client in more than one way.")
)

// clientAuthenticated finds out who calls (RFC 6749 §2.3). The method must be the one that the client registered, and the
// only one in the request.
func (s *Server) clientAuthenticated(ctx context.Context, r *Request) error {
	id, method, err := s.claimedClient(r)
	if err != nil {
		return err
	}
	c := s.findClient(ctx, id)
	if c == nil {
		return errUnknownClient
	}
	if method == "" { // no credential in the request: a certificate, or none at all
		switch c.TokenEndpointAuthMethod {
		case fapi.TLSClientAuth, fapi.SelfSignedTLSClientAuth, fapi.NoAuth:
			method = c.TokenEndpointAuthMethod
		}
	}
	if method != c.TokenEndpointAuthMethod {
		return errUnknownClient
	}
	switch method {
	case fapi.PrivateKeyJWT:
		err := s.withKeys(ctx, c, func() error {
			use, err := c.CheckAssertion(r.Form.Get("client_assertion"), fapi.AssertionContext{
				Issuer:          s.Issuer,
				Endpoints:       append(s.urls(tokenPath), s.urls(r.endpoint.path)...),
				Now:             s.now(),
				RememberedSince: s.db.RememberedSince(),
			})
			if err == nil {
				r.use(use, errAssertionReplayed)
			}
			return err
		})
		if err != nil {
			return err
		}
	case fapi.TLSClientAuth, fapi.SelfSignedTLSClientAuth:
		err := s.withKeys(ctx, c, func() error { return c.checkCertificate(r.Certificates, s.trustedIssuers(r), s.now()) })
		if err != nil {
			return err
		}
	case fapi.ClientSecretBasic:
		_, secret, _ := basicAuth(r.HTTP)
		if !fapi.SecretMatches(c.secretHash, secret) {
			return errUnknownClient
		}
	case fapi.ClientSecretPost:
		if !fapi.SecretMatches(c.secretHash, r.Form.Get("client_secret")) {
			return errUnknownClient
		}
	}
	s.readyToEncrypt(ctx, c.Client)
	r.Client, r.registered = c.Client, c
	return nil
}

// claimedClient tells which client the request says it comes from, and by which credential. Nothing is proved yet.
func (s *Server) claimedClient(r *Request) (id string, method fapi.AuthMethod, err error) {
	id = r.Form.Get("client_id")
	claimed, n := id, 0
	if r.Form.Has("client_assertion") || r.Form.Has("client_assertion_type") {
		if r.Form.Get("client_assertion_type") != fapi.ClientAssertionType {
			return "", "", fapi.Refuse(fapi.InvalidClient, "The client_assertion_type is not the one for JWTs.")
		}
		method, n = fapi.PrivateKeyJWT, n+1
		if id == "" { // else the assertion is held against the client_id, whose it must be
			if claimed, err = fapi.AssertionIssuer(r.Form.Get("client_assertion")); err != nil {
				return "", "", err
			}
		}
	}
	if user, _, ok := basicAuth(r.HTTP); ok {
		claimed, method, n = user, fapi.ClientSecretBasic, n+1
	} else if r.HTTP.Header.Get("Authorization") != "" {
		return "", "", errUnknownClient
	}
	if r.Form.Has("client_secret") {
		method, n = fapi.ClientSecretPost, n+1
	}
	switch {
	case n > 1:
		return "", "", errTwoMethods
	case id != "" && id != claimed:
		return "", "", fapi.Refuse(fapi.InvalidClient, "The client_id is not that of the client that authenticates.")
	case claimed == "":
		return "", "", fapi.Refuse(fapi.InvalidClient, "The request does not say which client it comes from.")
	}
	return claimed, method, nil
}

// basicAuth reads HTTP Basic credentials, which are form-encoded first (RFC 6749 §2.3.1).
func basicAuth(r *http.Request) (user, password string, ok bool) {
	user, password, ok = r.BasicAuth()
	if !ok {
		return "", "", false
	}
	var errs [2]error
	user, errs[0] = url.QueryUnescape(user)
	password, errs[1] = url.QueryUnescape(password)
	return user, password, errs[0] == nil && errs[1] == nil
}
