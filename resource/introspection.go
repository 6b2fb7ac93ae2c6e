package resource

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// introspect asks the authorization server about a token (RFC 7662 §2). Any error but errBadToken means that there was
// no answer to rely on: also when the server refuses this service itself, for that says nothing of the token.
func (g *Guard) introspect(ctx context.Context, token string) (*claims, error) {
	c, err := g.ask(ctx, token)
	// A kept connection that the server closed meanwhile fails at once, through nobody's fault. The second try has an
	// assertion of its own, for the first may have arrived.
	var failed *url.Error
	if errors.As(err, &failed) && !failed.Timeout() && ctx.Err() == nil {
		c, err = g.ask(ctx, token)
	}
	return c, err
}

func (g *Guard) ask(ctx context.Context, token string) (*claims, error) {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	if err := g.config.Authentication.addTo(form, g.config.ClientID, g.config.Issuer, g.now()); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.metadata.IntrospectionEndpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	mediaType := "application/json"
	if g.config.SignedIntrospection {
		mediaType = introspectionMedia
	}
	request.Header.Set("Accept", mediaType)
	response, err := g.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := readJSON(response, maxAnswer, mediaType)
	if err == nil && g.config.SignedIntrospection {
		body, err = g.openAnswer(ctx, string(body))
	}
	if err != nil {
		return nil, fmt.Errorf("introspection: %w", err)
	}
	return parseIntrospection(body)
}

// parseIntrospection reads an answer (RFC 7662 §2.2). Of a token that is not active nothing else is looked at.
func parseIntrospection(body []byte) (*claims, error) {
	c, err := parseClaims(body)
	if err != nil {
		return nil, fmt.Errorf("introspection: %w", err)
	}
	if !c.Active {
		return nil, errBadToken
	}
	return c, nil
}
