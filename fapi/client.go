package fapi

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// AuthMethod is a token_endpoint_auth_method (RFC 7591 §2, RFC 8705 §2).
type AuthMethod string

const (
	PrivateKeyJWT           AuthMethod = "private_key_jwt"
	TLSClientAuth           AuthMethod = "tls_client_auth"
	SelfSignedTLSClientAuth AuthMethod = "self_signed_tls_client_auth"
	ClientSecretBasic       AuthMethod = "client_secret_basic"
	ClientSecretPost        AuthMethod = "client_secret_post"
	NoAuth                  AuthMethod = "none"
)

// TokenFormat is the form of a client's access tokens.
type TokenFormat string

const (
	Opaque TokenFormat = "opaque" // sealed: only introspection tells what is in it
	JWT    TokenFormat = "jwt"    // RFC 9068
)

// Grant types (RFC 6749, RFC 8628 §3.4, RFC 8693 §2.1, CIBA Core §4).
const (
	GrantAuthorizationCode = "authorization_code"
	GrantImplicit          = "implicit" // ID tokens from the authorization endpoint without a code
	GrantRefreshToken      = "refresh_token"
	GrantClientCredentials = "client_credentials"
	GrantDeviceCode        = "urn:ietf:params:oauth:grant-type:device_code"
	GrantTokenExchange     = "urn:ietf:params:oauth:grant-type:token-exchange"
	GrantCIBA              = "urn:openid:params:grant-type:ciba"
)

// Subject types (OpenID Connect Core §8).
const (
	SubjectPublic   = "public"
	SubjectPairwise = "pairwise"
)

// Client is a registered client: the metadata of RFC 7591 under its registered names, and what this server adds. It is
// shared between requests and never changed after Prepare, but for the keys that are fetched from its jwks_uri.
type Client struct {
	ID              string      `json:"client_id"`
	Profile         ProfileName `json:"profile"`                    // ours: a row of the profile table
	ApplicationType string      `json:"application_type,omitempty"` // web or native

	// What customers read about it.
	Name      string   `json:"client_name,omitempty"`
	URI       string   `json:"client_uri,omitempty"`
	LogoURI   string   `json:"logo_uri,omitempty"`
	PolicyURI string   `json:"policy_uri,omitempty"`
	TOSURI    string   `json:"tos_uri,omitempty"`
	Contacts  []string `json:"contacts,omitempty"`

	// What it may ask for, and where the answers go.
	RedirectURIs              []string `json:"redirect_uris,omitempty"`
	GrantTypes                []string `json:"grant_types,omitempty"`
	ResponseTypes             []string `json:"response_types,omitempty"`
	ResponseModes             []string `json:"response_modes,omitempty"` // FAPI 2.0 Message Signing §5.3.3; all of the profile's when absent
	Scope                     string   `json:"scope,omitempty"`          // space separated
	AuthorizationDetailsTypes []string `json:"authorization_details_types,omitempty"`
	DefaultMaxAge             *int64   `json:"default_max_age,omitempty"` // seconds
	DefaultACRValues          []string `json:"default_acr_values,omitempty"`
	RequireAuthTime           bool     `json:"require_auth_time,omitempty"` // it is always there
	RequirePAR                bool     `json:"require_pushed_authorization_requests,omitempty"`
	InitiateLoginURI          string   `json:"initiate_login_uri,omitempty"`

	// How it authenticates, and its keys.
	TokenEndpointAuthMethod     AuthMethod              `json:"token_endpoint_auth_method,omitempty"`
	TokenEndpointAuthSigningAlg jose.SignatureAlgorithm `json:"token_endpoint_auth_signing_alg,omitempty"`
	JWKS                        *jose.JSONWebKeySet     `json:"jwks,omitempty"`
	JWKSURI                     string                  `json:"jwks_uri,omitempty"`
	TLSClientAuthSubjectDN      string                  `json:"tls_client_auth_subject_dn,omitempty"`
	TLSClientAuthSANDNS         string                  `json:"tls_client_auth_san_dns,omitempty"`
	TLSClientAuthSANURI         string                  `json:"tls_client_auth_san_uri,omitempty"`
	TLSClientAuthSANIP          string                  `json:"tls_client_auth_san_ip,omitempty"`
	TLSClientAuthSANEmail       string                  `json:"tls_client_auth_san_email,omitempty"`

	// How its tokens are bound.
	CertificateBoundAccessTokens bool `json:"tls_client_certificate_bound_access_tokens,omitempty"` // RFC 8705 §3.4
	DPoPBoundAccessTokens        bool `json:"dpop_bound_access_tokens,omitempty"`                   // RFC 9449 §5.2

	// How its requests are signed and encrypted.
	RequestObjectSigningAlg    jose.SignatureAlgorithm `json:"request_object_signing_alg,omitempty"` // any of the profile's when absent
	RequestObjectEncryptionAlg jose.KeyAlgorithm       `json:"request_object_encryption_alg,omitempty"`
	RequestObjectEncryptionEnc jose.ContentEncryption  `json:"request_object_encryption_enc,omitempty"`
	RequireSignedRequestObject bool                    `json:"require_signed_request_object,omitempty"` // RFC 9101 §10.5
	RequestURIs                []string                `json:"request_uris,omitempty"`

	// How answers to it are signed and encrypted.
	IDTokenSignedResponseAlg          jose.SignatureAlgorithm `json:"id_token_signed_response_alg,omitempty"`
	IDTokenEncryptedResponseAlg       jose.KeyAlgorithm       `json:"id_token_encrypted_response_alg,omitempty"`
	IDTokenEncryptedResponseEnc       jose.ContentEncryption  `json:"id_token_encrypted_response_enc,omitempty"`
	UserInfoSignedResponseAlg         jose.SignatureAlgorithm `json:"userinfo_signed_response_alg,omitempty"` // plain JSON when absent
	UserInfoEncryptedResponseAlg      jose.KeyAlgorithm       `json:"userinfo_encrypted_response_alg,omitempty"`
	UserInfoEncryptedResponseEnc      jose.ContentEncryption  `json:"userinfo_encrypted_response_enc,omitempty"`
	AuthorizationSignedResponseAlg    jose.SignatureAlgorithm `json:"authorization_signed_response_alg,omitempty"` // JARM §3
	AuthorizationEncryptedResponseAlg jose.KeyAlgorithm       `json:"authorization_encrypted_response_alg,omitempty"`
	AuthorizationEncryptedResponseEnc jose.ContentEncryption  `json:"authorization_encrypted_response_enc,omitempty"`
	IntrospectionSignedResponseAlg    jose.SignatureAlgorithm `json:"introspection_signed_response_alg,omitempty"` // RFC 9701 §6
	IntrospectionEncryptedResponseAlg jose.KeyAlgorithm       `json:"introspection_encrypted_response_alg,omitempty"`
	IntrospectionEncryptedResponseEnc jose.ContentEncryption  `json:"introspection_encrypted_response_enc,omitempty"`

	// By which name it knows a customer (OpenID Connect Core §8).
	SubjectType         string `json:"subject_type,omitempty"` // public or pairwise
	SectorIdentifierURI string `json:"sector_identifier_uri,omitempty"`

	// Where it hears of a logout.
	PostLogoutRedirectURIs           []string `json:"post_logout_redirect_uris,omitempty"`
	BackChannelLogoutURI             string   `json:"backchannel_logout_uri,omitempty"`
	BackChannelLogoutSessionRequired bool     `json:"backchannel_logout_session_required,omitempty"`

	// How it learns what a customer decided on another device (CIBA Core §4).
	BackchannelTokenDeliveryMode               DeliveryMode            `json:"backchannel_token_delivery_mode,omitempty"`
	BackchannelClientNotificationEndpoint      string                  `json:"backchannel_client_notification_endpoint,omitempty"`       // ping and push
	BackchannelAuthenticationRequestSigningAlg jose.SignatureAlgorithm `json:"backchannel_authentication_request_signing_alg,omitempty"` // then its requests must be signed
	BackchannelUserCodeParameter               bool                    `json:"backchannel_user_code_parameter,omitempty"`
	BackchannelNumberMatching                  bool                    `json:"backchannel_number_matching,omitempty"`          // ours: it shows the customer the number that the approval page asks for
	BackchannelNotificationMTLS                bool                    `json:"backchannel_client_notification_mtls,omitempty"` // ours: its notification endpoint asks for the server's certificate

	SoftwareID        string `json:"software_id,omitempty"`
	SoftwareVersion   string `json:"software_version,omitempty"`
	SoftwareStatement string `json:"software_statement,omitempty"`

	AccessTokenFormat   TokenFormat `json:"access_token_format,omitempty"`  // ours
	Resources           []string    `json:"resources,omitempty"`            // ours: resource servers it may ask tokens for (RFC 8707); the first is the default
	ResourceIdentifiers []string    `json:"resource_identifiers,omitempty"` // ours: this client is the resource server of these; it may introspect tokens meant for them
	Roles               []string    `json:"roles,omitempty"`                // ours: roles of the client itself, for client_credentials

	profile *Profile
	scopes  []string
	sector  string
	aux     prepared
}

// Rules returns the client's profile.
func (c *Client) Rules() *Profile { return c.profile }

// Scopes returns what the client may ask for.
func (c *Client) Scopes() []string { return c.scopes }

// Public tells whether the client has no way to authenticate (RFC 6749 §2.1).
func (c *Client) Public() bool { return c.TokenEndpointAuthMethod == NoAuth }

// MayUse tells whether the client registered the grant type.
func (c *Client) MayUse(grantType string) bool { return slices.Contains(c.GrantTypes, grantType) }

// MustBind tells whether the client's tokens must be bound to a certificate or a DPoP key.
func (c *Client) MustBind() bool {
	return c.profile.SenderConstraint == Required || c.CertificateBoundAccessTokens || c.DPoPBoundAccessTokens ||
		c.profile.SenderConstraint == ForPublic && c.Public()
}

// Redirects tells whether the client sends customers here by their browsers, and has them sent back.
func (c *Client) Redirects() bool { return len(c.ResponseTypes) > 0 }

// MustPush tells whether the client's authorization requests must be pushed (RFC 9126 §6).
func (c *Client) MustPush() bool { return c.profile.PAR == Required || c.RequirePAR }

// MustSignRequests tells whether the client's authorization requests must be signed request objects.
func (c *Client) MustSignRequests() bool {
	return c.profile.RequestObject == Required || c.RequireSignedRequestObject
}

// MayBind tells whether the client's tokens may be bound that way.
func (c *Client) MayBind(way Binding) bool { return slices.Contains(c.profile.Bindings, way) }

// Pairwise tells whether the client knows customers by a name that other sectors cannot compare (OpenID Connect Core §8.1).
func (c *Client) Pairwise() bool { return c.SubjectType == SubjectPairwise }

// Sector returns the host by which pairwise names are told apart (OpenID Connect Core §8.1).
func (c *Client) Sector() string { return c.sector }

// MustPKCE tells whether all of the client's authorization requests need a code challenge.
func (c *Client) MustPKCE() bool {
	return c.profile.PKCE == Required || c.profile.PKCE == ForPublic && c.Public()
}

// HasRedirectURI tells whether uri was registered, character for character (RFC 9700 §2.1). Only the port of a loopback
// address is free (RFC 8252 §7.3), where the profile allows such addresses at all.
func (c *Client) HasRedirectURI(uri string) bool {
	return slices.Contains(c.RedirectURIs, uri) ||
		!c.profile.HTTPSRedirect && slices.ContainsFunc(c.RedirectURIs, func(registered string) bool { return onAnyPort(registered, uri) })
}

// onAnyPort tells whether uri is the registered loopback URI with a port added.
func onAnyPort(registered, uri string) bool {
	for _, loopback := range []string{"http://127.0.0.1", "http://[::1]"} {
		path, ok := strings.CutPrefix(registered, loopback)
		if !ok || path != "" && path[0] != '/' && path[0] != '?' {
			continue
		}
		port, ok := strings.CutPrefix(uri, loopback+":")
		port, tail := strings.TrimSuffix(port, path), strings.HasSuffix(port, path)
		n, err := strconv.ParseUint(port, 10, 16)
		if ok && tail && err == nil && n > 0 && port[0] != '0' {
			return true
		}
	}
	return false
}
