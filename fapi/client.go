package fapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
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

// Grant types (RFC 6749).
const (
	GrantAuthorizationCode = "authorization_code"
	GrantRefreshToken      = "refresh_token"
	GrantClientCredentials = "client_credentials"
)

// Client is a registered client: the metadata of RFC 7591 under its registered names, and what this server adds. It is
// shared between requests and never changed after Prepare.
type Client struct {
	ID      string      `json:"client_id"`
	Profile ProfileName `json:"profile"` // ours: a row of the profile table
	Name    string      `json:"client_name,omitempty"`
	URI     string      `json:"client_uri,omitempty"`

	RedirectURIs  []string `json:"redirect_uris,omitempty"`
	GrantTypes    []string `json:"grant_types,omitempty"`
	ResponseTypes []string `json:"response_types,omitempty"`
	Scope         string   `json:"scope,omitempty"` // space separated: what it may ask for

	TokenEndpointAuthMethod     AuthMethod              `json:"token_endpoint_auth_method,omitempty"`
	TokenEndpointAuthSigningAlg jose.SignatureAlgorithm `json:"token_endpoint_auth_signing_alg,omitempty"`
	JWKS                        *jose.JSONWebKeySet     `json:"jwks,omitempty"`
	TLSClientAuthSubjectDN      string                  `json:"tls_client_auth_subject_dn,omitempty"`
	TLSClientAuthSANDNS         string                  `json:"tls_client_auth_san_dns,omitempty"`
	TLSClientAuthSANURI         string                  `json:"tls_client_auth_san_uri,omitempty"`
	TLSClientAuthSANIP          string                  `json:"tls_client_auth_san_ip,omitempty"`
	TLSClientAuthSANEmail       string                  `json:"tls_client_auth_san_email,omitempty"`

	CertificateBoundAccessTokens bool `json:"tls_client_certificate_bound_access_tokens,omitempty"` // RFC 8705 §3.4
	DPoPBoundAccessTokens        bool `json:"dpop_bound_access_tokens,omitempty"`                   // RFC 9449 §5.2

	RequestObjectSigningAlg    jose.SignatureAlgorithm `json:"request_object_signing_alg,omitempty"`    // OpenID Connect Registration §2; any of the profile's when absent
	RequireSignedRequestObject bool                    `json:"require_signed_request_object,omitempty"` // RFC 9101 §10.5

	IDTokenSignedResponseAlg  jose.SignatureAlgorithm `json:"id_token_signed_response_alg,omitempty"`
	AuthorizationDetailsTypes []string                `json:"authorization_details_types,omitempty"` // RFC 9396 §10

	AccessTokenFormat   TokenFormat `json:"access_token_format,omitempty"`  // ours
	Resources           []string    `json:"resources,omitempty"`            // ours: resource servers it may ask tokens for (RFC 8707); the first is the default
	ResourceIdentifiers []string    `json:"resource_identifiers,omitempty"` // ours: this client is the resource server of these; it may introspect tokens meant for them
	Roles               []string    `json:"roles,omitempty"`                // ours: roles of the client itself, for client_credentials

	profile *Profile
	scopes  []string
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

// MustPKCE tells whether the client's authorization requests need a code challenge.
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

// ParseClient reads a client's metadata, fills in the defaults and checks it against its profile. The error names all
// that is wrong.
func ParseClient(metadata []byte) (*Client, error) {
	// Names are compared as they are: encoding/json would take CLIENT_ID for client_id.
	names, err := checkJSON(metadata)
	if err != nil {
		return nil, fmt.Errorf("client metadata: %w", err)
	}
	for _, name := range names {
		if name != strings.ToLower(name) {
			return nil, fmt.Errorf("client metadata: unknown field %q", name)
		}
	}
	c, raw := &Client{}, struct {
		JWKS json.RawMessage `json:"jwks"`
	}{}
	dec := json.NewDecoder(bytes.NewReader(metadata))
	dec.DisallowUnknownFields()
	if err := errors.Join(dec.Decode(c), json.Unmarshal(metadata, &raw)); err != nil {
		return nil, fmt.Errorf("client metadata: %w", err)
	}
	if c.JWKS != nil {
		if err := readRawJWKS(raw.JWKS, c.JWKS); err != nil {
			return nil, fmt.Errorf("client %q: %w", c.ID, err)
		}
	}
	if err := c.Prepare(); err != nil {
		return nil, err
	}
	return c, nil
}

// Prepare fills in the defaults of RFC 7591 §2 and of the profile, and checks the metadata. It must be called once,
// before the client is used.
func (c *Client) Prepare() error {
	if c.Profile == "" {
		c.Profile = FAPI2
	}
	c.profile = FindProfile(c.Profile)
	if c.profile == nil {
		return fmt.Errorf("client %q: profile %q is not one of %v", c.ID, c.Profile, ProfileNames())
	}
	if c.TokenEndpointAuthMethod == "" {
		c.TokenEndpointAuthMethod = PrivateKeyJWT
	}
	if len(c.GrantTypes) == 0 {
		c.GrantTypes = []string{GrantAuthorizationCode}
	}
	if len(c.ResponseTypes) == 0 && c.MayUse(GrantAuthorizationCode) {
		c.ResponseTypes = []string{"code"}
	}
	if c.AccessTokenFormat == "" {
		c.AccessTokenFormat = Opaque
	}
	if c.IDTokenSignedResponseAlg == "" {
		c.IDTokenSignedResponseAlg = c.profile.Algorithms[0]
	}
	c.scopes = strings.Fields(c.Scope)
	if err := errors.Join(c.check(), c.prepare()); err != nil {
		return fmt.Errorf("client %q: %w", c.ID, err)
	}
	return nil
}

// check returns everything that is wrong with the metadata.
func (c *Client) check() error {
	var wrong []error
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }

	if !validClientID(c.ID) {
		add("client_id must be 1 to 255 visible ASCII characters")
	}
	if !slices.Contains(c.profile.ClientAuth, c.TokenEndpointAuthMethod) {
		add("token_endpoint_auth_method %q: profile %s (%s) wants one of %v", c.TokenEndpointAuthMethod, c.Profile, c.profile.Source, c.profile.ClientAuth)
	}
	for _, alg := range []struct {
		name string
		alg  jose.SignatureAlgorithm
	}{
		{"token_endpoint_auth_signing_alg", c.TokenEndpointAuthSigningAlg},
		{"request_object_signing_alg", c.RequestObjectSigningAlg},
		{"id_token_signed_response_alg", c.IDTokenSignedResponseAlg},
	} {
		if alg.alg != "" && !slices.Contains(c.profile.Algorithms, alg.alg) {
			add("%s %q: profile %s wants one of %v", alg.name, alg.alg, c.Profile, c.profile.Algorithms)
		}
	}
	for _, grant := range c.GrantTypes {
		if !slices.Contains([]string{GrantAuthorizationCode, GrantRefreshToken, GrantClientCredentials}, grant) {
			add("grant_types: %q is not supported", grant)
		}
	}
	if c.MayUse(GrantClientCredentials) && c.Public() {
		add("grant_types: client_credentials needs a client that authenticates (RFC 6749 §4.4)")
	}
	for _, rt := range c.ResponseTypes {
		if !slices.Contains(c.profile.ResponseTypes, rt) {
			add("response_types %q: profile %s wants one of %q", rt, c.Profile, c.profile.ResponseTypes)
		}
	}
	if len(c.ResponseTypes) > 0 != c.MayUse(GrantAuthorizationCode) {
		add("response_types and grant_types disagree about the authorization code")
	}
	if c.MayUse(GrantAuthorizationCode) && len(c.RedirectURIs) == 0 {
		add("redirect_uris must name at least one for the authorization code grant")
	}
	for _, scope := range c.scopes {
		if !validScope(scope) {
			add("scope %q has characters that RFC 6749 §3.3 does not allow", scope)
		}
	}
	if u, err := url.Parse(c.URI); c.URI != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		add("client_uri %q is not a web page", c.URI) // it is linked from the consent page
	}
	for _, uri := range c.RedirectURIs {
		if err := checkRedirectURI(uri, c.profile.HTTPSRedirect); err != nil {
			add("redirect_uris: %w", err)
		}
	}
	if c.AccessTokenFormat != Opaque && c.AccessTokenFormat != JWT {
		add("access_token_format %q is neither opaque nor jwt", c.AccessTokenFormat)
	}
	for _, id := range append(slices.Clone(c.Resources), c.ResourceIdentifiers...) {
		if u, err := url.Parse(id); err != nil || !u.IsAbs() || strings.Contains(id, "#") {
			add("resource %q is not an absolute URI without fragment (RFC 8707 §2)", id)
		}
	}
	return errors.Join(wrong...)
}

// checkRedirectURI applies RFC 9700 §2.1 and, for FAPI, §5.3.2.2 of the security profile.
func checkRedirectURI(uri string, https bool) error {
	u, err := url.Parse(uri)
	switch {
	case err != nil || !u.IsAbs():
		return fmt.Errorf("%q is not an absolute URI", uri)
	case strings.Contains(uri, "#"):
		return fmt.Errorf("%q has a fragment (RFC 6749 §3.1.2)", uri)
	case u.User != nil || strings.ContainsAny(uri, "\\ ") || !isASCII(uri):
		return fmt.Errorf("%q has a user, a space, a backslash or characters that URIs do not have", uri) // browsers disagree about where those lead
	case u.Scheme == "https" && u.Host != "":
		return nil
	case https:
		return fmt.Errorf("%q is not https", uri)
	case u.Scheme == "http" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "::1" || u.Hostname() == "localhost"):
		return nil // RFC 8252 §7.3
	case strings.Contains(u.Scheme, "."):
		return nil // RFC 8252 §7.1: a private scheme in reverse domain notation
	}
	return fmt.Errorf("%q is neither https, nor http on the loopback address, nor a private scheme", uri)
}
