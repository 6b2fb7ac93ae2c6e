package engine

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/ory/fosite"

	"github.com/countersign/countersign/fapi"
)

// config answers fosite's questions for the client of the request at hand. fosite's own Config fills its fields while
// requests run, so everything that it would fill lazily is set in New.
type config struct {
	*fosite.Config
	authorizeHandlers fosite.AuthorizeEndpointHandlers
	tokenHandlers     map[string]fosite.TokenEndpointHandlers // by grant type
}

func (c *config) rules(ctx context.Context) *fapi.Profile { return callOf(ctx).client.Rules() }

func (c *config) GetAccessTokenLifespan(ctx context.Context) time.Duration {
	return c.rules(ctx).AccessTokenLifetime
}
func (c *config) GetIDTokenLifespan(ctx context.Context) time.Duration {
	return c.rules(ctx).IDTokenLifetime
}
func (c *config) GetAuthorizeCodeLifespan(ctx context.Context) time.Duration {
	return c.rules(ctx).CodeLifetime
}
func (c *config) GetRefreshTokenLifespan(ctx context.Context) time.Duration {
	return c.rules(ctx).RefreshLifetime
}
func (c *config) GetEnforcePKCE(ctx context.Context) bool { return callOf(ctx).client.MustPKCE() }

// GetRefreshTokenScopes: an empty list means that no scope is needed.
func (c *config) GetRefreshTokenScopes(ctx context.Context) []string {
	if c.rules(ctx).Refresh == fapi.RefreshOffline {
		return []string{"offline_access"}
	}
	return []string{}
}

// GetTokenEndpointHandlers returns only the handlers of the grant that was asked for: fosite calls Populate on all it gets.
func (c *config) GetTokenEndpointHandlers(ctx context.Context) fosite.TokenEndpointHandlers {
	return c.tokenHandlers[callOf(ctx).grantType]
}

func (c *config) GetAuthorizeEndpointHandlers(context.Context) fosite.AuthorizeEndpointHandlers {
	return c.authorizeHandlers
}

// GetClientAuthenticationStrategy: package authz has authenticated the client before fosite is asked anything.
func (c *config) GetClientAuthenticationStrategy(context.Context) fosite.ClientAuthenticationStrategy {
	return func(ctx context.Context, _ *http.Request, _ url.Values) (fosite.Client, error) {
		return client{callOf(ctx).client}, nil
	}
}

// client shows fosite a registered client. It is deliberately no fosite.OpenIDConnectClient, whose keys are go-jose v3's.
type client struct{ c *fapi.Client }

func (c client) GetID() string                      { return c.c.ID }
func (c client) GetHashedSecret() []byte            { return nil }
func (c client) GetRedirectURIs() []string          { return c.c.RedirectURIs }
func (c client) GetGrantTypes() fosite.Arguments    { return c.c.GrantTypes }
func (c client) GetResponseTypes() fosite.Arguments { return c.c.ResponseTypes }
func (c client) GetScopes() fosite.Arguments        { return c.c.Scopes() }
func (c client) IsPublic() bool                     { return c.c.Public() }
func (c client) GetAudience() fosite.Arguments      { return c.c.Resources }
