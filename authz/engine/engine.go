package engine

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/handler/openid"
	"github.com/ory/fosite/handler/pkce"
	"github.com/ory/fosite/token/jwt"

	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// Engine issues codes and tokens. It is safe for concurrent use.
type Engine struct {
	issuer   string
	resource string // audience of tokens for which no resource was named
	db       *storage.DB
	keys     *keys.Set
	names    names
	types    map[string]fapi.DetailType
	people   Customers
	fosite   *fosite.Fosite
}

// New makes an Engine. resource is the audience of access tokens of clients that name no resource and have none registered.
func New(issuer, resource string, types map[string]fapi.DetailType, people Customers, db *storage.DB, keys *keys.Set) *Engine {
	e := &Engine{issuer: issuer, resource: resource, types: types, people: people, db: db, keys: keys, names: newNames(db.Keys())}
	cfg := &config{Config: &fosite.Config{
		MinParameterEntropy:      1, // the least that fosite knows: nonce and state are the client's own protection
		ScopeStrategy:            fosite.ExactScopeStrategy,
		AudienceMatchingStrategy: func([]string, []string) error { return nil },        // resource is checked by fapi
		RedirectSecureChecker:    func(context.Context, *url.URL) bool { return true }, // redirect_uris are checked when registered
		ClientSecretsHasher:      &fosite.BCrypt{Config: &fosite.Config{}},
		OmitRedirectScopeParam:   true,
		SanitationWhiteList:      []string{"redirect_uri", "code_challenge", "code_challenge_method"},
	}}
	codes := &oauth2.AuthorizeExplicitGrantHandler{
		AccessTokenStrategy: e, RefreshTokenStrategy: e, AuthorizeCodeStrategy: e,
		CoreStorage: store{e}, TokenRevocationStorage: store{e}, Config: cfg,
	}
	proofKeys := &pkce.Handler{AuthorizeCodeStrategy: e, Storage: store{e}, Config: cfg}
	idTokens := &openid.OpenIDConnectExplicitHandler{
		OpenIDConnectRequestStorage:   store{e},
		OpenIDConnectRequestValidator: openid.NewOpenIDConnectRequestValidator(noHints{}, cfg),
		IDTokenHandleHelper:           &openid.IDTokenHandleHelper{IDTokenStrategy: e},
		Config:                        cfg,
	}
	cfg.authorizeHandlers = fosite.AuthorizeEndpointHandlers{codes, hybridHandler{e, codes}, idTokens, proofKeys}
	cfg.tokenHandlers = map[string]fosite.TokenEndpointHandlers{
		fapi.GrantAuthorizationCode: {codes, proofKeys, idTokens},
		fapi.GrantRefreshToken:      {refreshHandler{e}},
		fapi.GrantDeviceCode:        {pollHandler{e, fapi.GrantDeviceCode, "device_code"}},
		fapi.GrantCIBA:              {pollHandler{e, fapi.GrantCIBA, "auth_req_id"}},
		fapi.GrantClientCredentials: {&oauth2.ClientCredentialsGrantHandler{
			HandleHelper: &oauth2.HandleHelper{AccessTokenStrategy: e, AccessTokenStorage: store{e}, Config: cfg}, Config: cfg,
		}},
	}
	e.fosite = fosite.NewOAuth2Provider(store{e}, cfg)
	return e
}

// noHints stands where fosite would read an id_token_hint: package authz has done so.
type noHints struct{ jwt.Signer }

// call is what one request knows. It travels in the context, because fosite hands its handlers and its store no more.
type call struct {
	client    *fapi.Client
	grantType string
	now       time.Time

	// authorization endpoint
	atAuthorization bool
	code            string // made before the decision was stored

	// token endpoint
	uses         func() []storage.Use
	polledAt     time.Time // of a poll that goes on
	confirmation fapi.Confirmation
	resources    []string
	details      string        // authorization_details, to narrow those that were granted
	rights       *rights       // of the access token that was made
	refreshToken string        // presented, or made
	authReqID    string        // of the request that the tokens are pushed for
	live         *storage.Live // redeemed or loaded
	accessToken  string        // made
	err          error         // what the store or a rule of ours said; fosite would make a server_error of it
}

type callKey struct{}

func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// CheckAuthorize lets fosite look at a request that fapi found good, before anybody is asked.
func (e *Engine) CheckAuthorize(ctx context.Context, c *fapi.Client, r *fapi.AuthorizationRequest) error {
	ctx = context.WithValue(ctx, callKey{}, &call{client: c, now: time.Now()})
	_, err := e.authorizeRequest(ctx, r)
	return refusal(err)
}

// Authorize makes the parameters of a successful authorization response (RFC 6749 §4.1.2, OpenID Connect Core §3.3.2.5),
// without those that every response has. code is the one whose hash was stored with the approval.
func (e *Engine) Authorize(ctx context.Context, c *fapi.Client, r *fapi.AuthorizationRequest, a *storage.Authorization, code string) (url.Values, error) {
	ctx = context.WithValue(ctx, callKey{}, &call{client: c, now: time.Now(), atAuthorization: true, code: code})
	request, err := e.authorizeRequest(ctx, r)
	if err != nil {
		return nil, refusal(err)
	}
	live, err := e.approved(ctx, c, r, a)
	if err != nil {
		return nil, err
	}
	for _, scope := range live.Scopes {
		request.GrantScope(scope)
	}
	session := newSession(live)
	session.request = *r
	response, err := e.fosite.NewAuthorizeResponse(ctx, request, session)
	if err != nil {
		return nil, refusal(err)
	}
	params := response.GetParameters()
	params.Del("state") // fosite adds it, empty or not
	return params, nil
}

// authorizeRequest runs fosite's checks on parameters rebuilt from the stored request: nothing that came by another way
// is seen. The response_mode is left out: fosite writes no response.
func (e *Engine) authorizeRequest(ctx context.Context, r *fapi.AuthorizationRequest) (fosite.AuthorizeRequester, error) {
	form := url.Values{
		"client_id":     {r.ClientID},
		"redirect_uri":  {r.RedirectURI},
		"response_type": {r.ResponseType},
		"scope":         {strings.Join(r.Scopes, " ")},
	}
	for name, value := range map[string]string{"state": r.State, "nonce": r.Nonce, "code_challenge": r.CodeChallenge} {
		if value != "" {
			form.Set(name, value)
		}
	}
	if r.CodeChallenge != "" {
		form.Set("code_challenge_method", "S256")
	}
	request, err := e.fosite.NewAuthorizeRequest(ctx, &http.Request{Method: http.MethodPost, Form: form, PostForm: form, Header: http.Header{}})
	if errors.Is(err, fosite.ErrInvalidState) {
		err = nil // its last check: a state of any length, or none, is the client's business
	}
	return request, err
}

// TokenRequest is a token request of an authenticated client.
type TokenRequest struct {
	Client       *fapi.Client
	Form         url.Values
	Uses         func() []storage.Use // identifiers that the request uses up; called once they are handed to the store
	Confirmation fapi.Confirmation    // what the tokens get bound to
	PolledAt     time.Time            // of a poll that goes on (storage.Pending); else the zero time
	Known        func(clientID string) bool
}

// TokenResponse is the successful answer (RFC 6749 §5.1).
type TokenResponse struct {
	AccessToken          string                     `json:"access_token"`
	TokenType            string                     `json:"token_type"`
	ExpiresIn            int64                      `json:"expires_in"` // seconds
	RefreshToken         string                     `json:"refresh_token,omitempty"`
	IDToken              string                     `json:"id_token,omitempty"`
	Scope                string                     `json:"scope,omitempty"`
	AuthorizationDetails []fapi.AuthorizationDetail `json:"authorization_details,omitempty"`
	GrantID              string                     `json:"grant_id,omitempty"`          // Grant Management for OAuth 2.0 §5.5
	IssuedTokenType      string                     `json:"issued_token_type,omitempty"` // RFC 8693 §2.2.1
}

// Token answers a token request. It is one round trip to the store, none for client credentials that use nothing up.
func (e *Engine) Token(ctx context.Context, t TokenRequest) (*TokenResponse, error) {
	now := time.Now()
	grantType := t.Form.Get("grant_type")
	switch grantType {
	case "":
		return nil, fapi.Refuse(fapi.InvalidRequest, "grant_type is missing.")
	case fapi.GrantAuthorizationCode, fapi.GrantRefreshToken, fapi.GrantClientCredentials, fapi.GrantDeviceCode, fapi.GrantTokenExchange, fapi.GrantCIBA:
	default:
		return nil, fapi.Refuse(fapi.UnsupportedGrantType, "The server does not know this grant_type.")
	}
	if !t.Client.MayUse(grantType) {
		return nil, fapi.Refuse(fapi.UnauthorizedClient, "The client is not registered for this grant_type.")
	}
	if grantType == fapi.GrantCIBA && t.Client.BackchannelTokenDeliveryMode == fapi.Push { // CIBA Core §10.3
		return nil, fapi.Refuse(fapi.UnauthorizedClient, "The client is sent its tokens: it cannot ask for them.")
	}
	if t.Form.Get("authorization_details") != "" && (grantType == fapi.GrantClientCredentials || grantType == fapi.GrantTokenExchange) {
		return nil, fapi.Refuse(fapi.InvalidAuthorizationDetails, "authorization_details are granted by the customer: there are none here.")
	}
	if grantType == fapi.GrantAuthorizationCode && t.Form.Get("code") == "" {
		return nil, fapi.Refuse(fapi.InvalidRequest, "code is missing.")
	}
	c := &call{client: t.Client, grantType: grantType, now: now, uses: t.Uses, polledAt: t.PolledAt, confirmation: t.Confirmation, details: t.Form.Get("authorization_details")}
	for _, resource := range t.Form["resource"] {
		if resource != "" && !contains(c.resources, resource) { // RFC 6749 §3.2: without a value it is as if omitted
			c.resources = append(c.resources, resource)
		}
	}
	if grantType == fapi.GrantTokenExchange {
		return e.exchange(ctx, t, c)
	}
	ctx = context.WithValue(ctx, callKey{}, c)
	session := newSession(nil)
	form := t.Form
	if grantType == fapi.GrantClientCredentials {
		form = clientCredentialsForm(t.Client, form)
	}
	request, err := e.fosite.NewAccessRequest(ctx, &http.Request{Method: http.MethodPost, Form: form, PostForm: form, Header: http.Header{}}, session)
	if err == nil {
		if grantType == fapi.GrantClientCredentials {
			for _, scope := range request.GetRequestedScopes() {
				request.GrantScope(scope)
			}
		}
		var response fosite.AccessResponder
		if response, err = e.fosite.NewAccessResponse(ctx, request); err == nil {
			return e.tokenResponse(c, request, response), nil
		}
	}
	if c.err != nil {
		return nil, c.err
	}
	return nil, refusal(err)
}

func (e *Engine) tokenResponse(c *call, request fosite.AccessRequester, response fosite.AccessResponder) *TokenResponse {
	out := &TokenResponse{
		AccessToken: response.GetAccessToken(),
		TokenType:   "Bearer",
		ExpiresIn:   int64(c.client.Rules().AccessTokenLifetime / time.Second),
		Scope:       strings.Join(request.GetGrantedScopes(), " "),
	}
	if c.confirmation.JKT != "" {
		out.TokenType = "DPoP" // RFC 9449 §5
	}
	out.RefreshToken, _ = response.GetExtra("refresh_token").(string)
	out.IDToken, _ = response.GetExtra("id_token").(string)
	if s := request.GetSession().(*session); s.live != nil {
		out.AuthorizationDetails = c.rights.details
		if s.request.GrantAction != "" {
			out.GrantID = s.live.GrantID.String()
		}
	}
	return out
}

// identityScopes mean something only for a person.
var identityScopes = map[string]bool{"openid": true, "profile": true, "email": true, "phone": true, "address": true, "offline_access": true, "roles": true, "attributes": true}

// clientCredentialsForm leaves out the scopes that need a person, and fills in all others when none was asked for
// (RFC 6749 §3.3).
func clientCredentialsForm(c *fapi.Client, form url.Values) url.Values {
	asked := strings.Fields(form.Get("scope"))
	if len(asked) == 0 {
		asked = c.Scopes()
	}
	kept := make([]string, 0, len(asked))
	for _, scope := range asked {
		if !identityScopes[scope] {
			kept = append(kept, scope)
		}
	}
	return url.Values{"grant_type": {fapi.GrantClientCredentials}, "scope": {strings.Join(kept, " ")}}
}

// audience decides for which resource servers a token is (RFC 8707 §2.2): those asked for now, which must be among those
// the customer was asked about, or else those, or else the client's default.
func (e *Engine) audience(c *call, approved []string) ([]string, error) {
	allowed := approved
	if len(allowed) == 0 {
		allowed = c.client.Resources
	}
	if len(c.resources) > 0 {
		for _, r := range c.resources {
			if !contains(allowed, r) {
				return nil, fapi.Refuse(fapi.InvalidTarget, "The resource is not one that the client may ask for.")
			}
		}
		return c.resources, nil
	}
	if len(approved) > 0 {
		return approved, nil
	}
	return e.defaultAudience(c.client), nil
}

// defaultAudience is that of tokens for which nobody named a resource server.
func (e *Engine) defaultAudience(c *fapi.Client) []string {
	if len(c.Resources) > 0 {
		return c.Resources[:1]
	}
	return []string{e.resource}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// parseID reads an authorization's id from a token.
func parseID(s string) uuid.UUID {
	id, _ := uuid.Parse(s)
	return id
}
