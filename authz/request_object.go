package authz

import (
	"context"
	"maps"
	"net/url"
	"strings"

	"github.com/countersign/countersign/fapi"
)

// resolveRequest returns the parameters of an authorization request that count (RFC 9101): see fapi.ResolveRequest. Here
// is what that needs from outside: the client's keys, ours, and an object that is somewhere else.
func (s *Server) resolveRequest(ctx context.Context, c *registeredClient, params url.Values, atAuthorizationEndpoint bool) (url.Values, error) {
	if uri := params.Get("request_uri"); atAuthorizationEndpoint && isReference(uri) && params.Get("request") == "" {
		object, err := s.fetchRequest(ctx, c, params, uri)
		if err != nil {
			return params, err
		}
		params = maps.Clone(params)
		params.Del("request_uri")
		params.Set("request", object)
	}
	in := fapi.RequestObjectContext{Issuer: s.Issuer, Now: s.now(), AtAuthorizationEndpoint: atAuthorizationEndpoint, Decrypt: s.keys.Decrypt}
	if params.Get("request") == "" {
		return c.ResolveRequest(params, in)
	}
	var resolved url.Values
	err := s.withKeys(ctx, c, func() (err error) {
		resolved, err = c.ResolveRequest(params, in)
		return err
	})
	return resolved, err
}

// isReference tells whether a request_uri is an address, rather than the name of what was pushed.
func isReference(uri string) bool {
	return len(uri) >= len("https:") && strings.EqualFold(uri[:len("https:")], "https:")
}

// fetchRequest returns the request object that a request_uri refers to (RFC 9101 §5.2). It is fetched each time: what a
// client serves there, it may change. An object that does not say what it is in its media type is taken for what it is.
func (s *Server) fetchRequest(ctx context.Context, c *registeredClient, params url.Values, uri string) (string, error) {
	if err := fapi.CheckParameters(params); err != nil {
		return "", err
	}
	if c.MustPush() {
		return "", fapi.Refuse(fapi.InvalidRequest, "The client must push its authorization requests.")
	}
	if err := c.CheckRequestURI(uri); err != nil {
		return "", err
	}
	answer, err := s.outbound.Get(ctx, uri, fapi.MaxRequestObject)
	if err != nil {
		return "", fapi.Refuse(fapi.InvalidRequestURI, "The request object could not be fetched from the request_uri.").Because(err)
	}
	object := strings.TrimSpace(string(answer.Body))
	if object == "" {
		return "", fapi.Refuse(fapi.InvalidRequestURI, "There is no request object at the request_uri.")
	}
	return object, nil
}
