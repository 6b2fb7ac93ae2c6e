package resource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxAnswer   = 64 << 10  // of introspection
	maxDocument = 256 << 10 // metadata and keys
)

// metadata is what this package needs of the authorization server's metadata (RFC 8414 §2).
type metadata struct {
	Issuer                string `json:"issuer"`
	JWKSURI               string `json:"jwks_uri"`
	IntrospectionEndpoint string `json:"introspection_endpoint"`
	Aliases               struct {
		IntrospectionEndpoint string `json:"introspection_endpoint"`
	} `json:"mtls_endpoint_aliases"`
}

// discover reads the metadata from the well-known address of RFC 8414 §3, or else from that of OpenID Connect Discovery §4.
func (g *Guard) discover(ctx context.Context) (metadata, error) {
	var m metadata
	u, err := url.Parse(g.config.Issuer)
	if err != nil {
		return m, err
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	base := u.Scheme + "://" + u.Host
	document, err := g.get(ctx, base+"/.well-known/oauth-authorization-server"+path)
	if missing := (statusError{}); errors.As(err, &missing) && missing.code == http.StatusNotFound {
		document, err = g.get(ctx, base+path+"/.well-known/openid-configuration")
	}
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(document, &m); err != nil {
		return m, err
	}
	// RFC 8705 §5: who authenticates with a certificate uses the alias, where there is one.
	if g.config.Authentication.certificate != nil && m.Aliases.IntrospectionEndpoint != "" {
		m.IntrospectionEndpoint = m.Aliases.IntrospectionEndpoint
	}
	return m, m.check(&g.config)
}

func (m *metadata) check(c *Config) error {
	switch {
	case m.Issuer != c.Issuer: // RFC 8414 §3.3: else one server could pass for another
		return fmt.Errorf("it names another issuer: %q", m.Issuer)
	case m.JWKSURI != "" && !isEndpoint(m.JWKSURI):
		return fmt.Errorf("jwks_uri %q: must be an https URL", m.JWKSURI)
	case m.JWKSURI == "" && (c.Authentication.none() || c.SignedIntrospection):
		return errors.New("jwks_uri is missing: no JWT could be checked")
	case !c.Authentication.none() && !isEndpoint(m.IntrospectionEndpoint):
		return fmt.Errorf("introspection_endpoint %q: must be an https URL", m.IntrospectionEndpoint)
	}
	return nil
}

// isEndpoint: an endpoint may have a query (RFC 6749 §3.2).
func isEndpoint(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.Fragment == ""
}

// get fetches a JSON document.
func (g *Guard) get(ctx context.Context, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := g.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return readJSON(response, maxDocument, "application/json", "application/jwk-set+json")
}

// statusError is an answer other than 200.
type statusError struct {
	code int
	body string
}

func (e statusError) Error() string { return fmt.Sprintf("answered %d %q", e.code, e.body) }

const quoted = 200 // bytes of an error's body that the log gets

// readJSON reads the body of an answer that must be 200 and of one of the media types.
func readJSON(response *http.Response, limit int64, mediaTypes ...string) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, statusError{response.StatusCode, string(body[:min(quoted, len(body))])}
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("the answer is longer than %d bytes", limit)
	}
	got, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil {
		return nil, fmt.Errorf("the answer has no media type: %w", err)
	}
	for _, want := range mediaTypes {
		if got == want {
			return body, nil
		}
	}
	return nil, fmt.Errorf("the answer is %s", got)
}
