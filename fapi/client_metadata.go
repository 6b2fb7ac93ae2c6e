package fapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// grantTypes are those that clients may register.
var grantTypes = GrantTypes()

// GrantTypes lists the grant types that some profile allows.
func GrantTypes() []string {
	return []string{GrantAuthorizationCode, GrantImplicit, GrantRefreshToken, GrantClientCredentials, GrantDeviceCode, GrantTokenExchange, GrantCIBA}
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
			return nil, fmt.Errorf("client %q: %w", c.ID, &Fault{"jwks", err})
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
		c.ResponseTypes = slices.Clone(c.profile.ResponseTypes[:1])
	}
	for i, rt := range c.ResponseTypes {
		c.ResponseTypes[i] = responseType(rt)
	}
	if c.AccessTokenFormat == "" {
		c.AccessTokenFormat = Opaque
	}
	if c.IDTokenSignedResponseAlg == "" {
		c.IDTokenSignedResponseAlg = c.profile.Algorithms[0]
	}
	if c.AuthorizationSignedResponseAlg == "" {
		c.AuthorizationSignedResponseAlg = c.profile.Algorithms[0]
	}
	if c.IntrospectionSignedResponseAlg == "" {
		c.IntrospectionSignedResponseAlg = c.profile.Algorithms[0]
	}
	if c.SubjectType == "" {
		c.SubjectType = SubjectPublic
	}
	for _, e := range c.encryptions() {
		if *e.alg != "" && *e.enc == "" {
			*e.enc = jose.A128CBC_HS256 // OpenID Connect Registration §2
		}
	}
	c.scopes = strings.Fields(c.Scope)
	wrong := c.check()
	if err := c.prepare(); err != nil {
		wrong = errors.Join(wrong, &Fault{c.keyMember(), err})
	}
	if wrong != nil {
		return fmt.Errorf("client %q: %w", c.ID, wrong)
	}
	return nil
}

// keyMember is the member of the metadata that says how the client is recognized.
func (c *Client) keyMember() string {
	switch {
	case c.TokenEndpointAuthMethod == TLSClientAuth && c.JWKS == nil:
		return "tls_client_auth_subject_dn"
	case c.JWKSURI != "":
		return "jwks_uri"
	}
	return "jwks"
}

// check returns everything that is wrong with the metadata.
func (c *Client) check() error {
	w := &faults{}
	c.checkIdentity(w)
	c.checkGrants(w)
	c.checkBackchannel(w)
	c.checkSigning(w)
	c.checkEncryption(w)
	c.checkAddresses(w)
	c.checkSubject(w)
	c.checkTokens(w)
	return errors.Join(w.all...)
}

// Fault is what is wrong with one member of a client's metadata.
type Fault struct {
	Member string
	err    error
}

func (f *Fault) Error() string { return f.err.Error() }
func (f *Fault) Unwrap() error { return f.err }

// faults collects what is wrong.
type faults struct{ all []error }

func (w *faults) add(member, format string, args ...any) {
	w.all = append(w.all, &Fault{member, fmt.Errorf(format, args...)})
}

func (c *Client) checkIdentity(w *faults) {
	if !validClientID(c.ID) {
		w.add("client_id", "client_id must be 1 to 255 visible ASCII characters")
	}
	if !slices.Contains([]string{"", "web", "native"}, c.ApplicationType) {
		w.add("application_type", "application_type %q is neither web nor native", c.ApplicationType)
	}
	if !slices.Contains(c.profile.ClientAuth, c.TokenEndpointAuthMethod) {
		w.add("token_endpoint_auth_method", "token_endpoint_auth_method %q: profile %s (%s) wants one of %v", c.TokenEndpointAuthMethod, c.Profile, c.profile.Source, c.profile.ClientAuth)
	}
	if c.JWKS != nil && c.JWKSURI != "" {
		w.add("jwks_uri", "jwks and jwks_uri exclude each other (RFC 7591 §2)")
	}
}

func (c *Client) checkGrants(w *faults) {
	for _, grant := range c.GrantTypes {
		if !slices.Contains(grantTypes, grant) {
			w.add("grant_types", "grant_types: %q is not supported", grant)
		} else if !c.profile.grants(grant) {
			w.add("grant_types", "grant_types: profile %s (%s) does not have %s", c.Profile, c.profile.Source, grant)
		}
	}
	if c.MayUse(GrantClientCredentials) && c.Public() {
		w.add("grant_types", "grant_types: client_credentials needs a client that authenticates (RFC 6749 §4.4)")
	}
	if c.MayUse(GrantTokenExchange) && c.Public() {
		w.add("grant_types", "grant_types: token exchange needs a client that authenticates (RFC 8693 §2.1)")
	}
	for _, rt := range c.ResponseTypes {
		if !slices.Contains(c.profile.ResponseTypes, rt) {
			w.add("response_types", "response_types %q: profile %s wants one of %q", rt, c.Profile, c.profile.ResponseTypes)
		} else if !slices.ContainsFunc(c.profile.ResponseModes, func(mode string) bool { return c.responseMode(rt, mode) != "" }) {
			w.add("response_modes", "response_types %q: none of the response_modes can carry the answer: add jwt", rt)
		}
	}
	for _, mode := range c.ResponseModes {
		if mode != "jwt" && !slices.Contains(c.profile.ResponseModes, mode) {
			w.add("response_modes", "response_modes %q: profile %s wants one of %q, or jwt", mode, c.Profile, c.profile.ResponseModes)
		}
	}
	withCode := func(rt string) bool { return hasToken(rt, "code") }
	if slices.ContainsFunc(c.ResponseTypes, withCode) != c.MayUse(GrantAuthorizationCode) {
		w.add("response_types", "response_types and grant_types disagree about the authorization code")
	}
	if slices.ContainsFunc(c.ResponseTypes, withoutCode) && !c.MayUse(GrantImplicit) {
		w.add("response_types", "response_types without code need the grant_type implicit (OpenID Connect Registration §2)")
	}
	if c.MayUse(GrantImplicit) && !c.Redirects() {
		w.add("grant_types", "grant_types: implicit needs response_types")
	}
	if c.Redirects() && len(c.RedirectURIs) == 0 {
		w.add("redirect_uris", "redirect_uris must name at least one for these response_types")
	}
	for _, scope := range c.scopes {
		if !validScope(scope) {
			w.add("scope", "scope %q has characters that RFC 6749 §3.3 does not allow", scope)
		}
		if fineractPermission(scope) {
			w.add("scope", "scope %q reads like a permission of Fineract, which would take it for one", scope)
		}
	}
	if c.DefaultMaxAge != nil && *c.DefaultMaxAge < 0 {
		w.add("default_max_age", "default_max_age is negative")
	}
}

// checkBackchannel checks what a client registered for CIBA (CIBA Core §4).
func (c *Client) checkBackchannel(w *faults) {
	mode, endpoint := c.BackchannelTokenDeliveryMode, c.BackchannelClientNotificationEndpoint
	if !c.MayUse(GrantCIBA) {
		for _, member := range c.backchannelMembers() {
			w.add(member, "%s needs the grant_type %s", member, GrantCIBA)
		}
		return
	}
	if c.Public() {
		w.add("grant_types", "grant_types: CIBA needs a client that authenticates (CIBA Core §7.1)")
	}
	if c.profile.grants(GrantCIBA) && !slices.Contains(c.profile.CIBA, mode) {
		w.add("backchannel_token_delivery_mode", "backchannel_token_delivery_mode %q: profile %s wants one of %v", mode, c.Profile, c.profile.CIBA)
	}
	if mode.Notifies() != (endpoint != "") {
		w.add("backchannel_client_notification_endpoint", "backchannel_client_notification_endpoint is for ping and push, and needed there (CIBA Core §4)")
	}
	if c.BackchannelNotificationMTLS && endpoint == "" {
		w.add("backchannel_client_notification_mtls", "backchannel_client_notification_mtls needs a backchannel_client_notification_endpoint")
	}
	if mode == Push && c.MustBind() {
		w.add("backchannel_token_delivery_mode", "backchannel_token_delivery_mode push: nobody proves possession of a key when tokens are pushed, so they cannot be bound")
	}
}

// backchannelMembers lists what the client registered that means something for CIBA alone.
func (c *Client) backchannelMembers() (members []string) {
	for _, m := range []struct {
		name  string
		there bool
	}{
		{"backchannel_token_delivery_mode", c.BackchannelTokenDeliveryMode != ""},
		{"backchannel_client_notification_endpoint", c.BackchannelClientNotificationEndpoint != ""},
		{"backchannel_authentication_request_signing_alg", c.BackchannelAuthenticationRequestSigningAlg != ""},
		{"backchannel_user_code_parameter", c.BackchannelUserCodeParameter},
		{"backchannel_number_matching", c.BackchannelNumberMatching},
		{"backchannel_client_notification_mtls", c.BackchannelNotificationMTLS},
	} {
		if m.there {
			members = append(members, m.name)
		}
	}
	return members
}

func (c *Client) checkSigning(w *faults) {
	for _, alg := range []struct {
		name string
		alg  jose.SignatureAlgorithm
	}{
		{"token_endpoint_auth_signing_alg", c.TokenEndpointAuthSigningAlg},
		{"request_object_signing_alg", c.RequestObjectSigningAlg},
		{"id_token_signed_response_alg", c.IDTokenSignedResponseAlg},
		{"userinfo_signed_response_alg", c.UserInfoSignedResponseAlg},
		{"authorization_signed_response_alg", c.AuthorizationSignedResponseAlg},
		{"introspection_signed_response_alg", c.IntrospectionSignedResponseAlg},
		{"backchannel_authentication_request_signing_alg", c.BackchannelAuthenticationRequestSigningAlg},
	} {
		if alg.alg != "" && !slices.Contains(c.profile.Algorithms, alg.alg) {
			w.add(alg.name, "%s %q: profile %s wants one of %v", alg.name, alg.alg, c.Profile, c.profile.Algorithms)
		}
	}
}

// encryption is a pair of metadata that say how something is encrypted.
type encryption struct {
	name string
	alg  *jose.KeyAlgorithm
	enc  *jose.ContentEncryption
}

func (c *Client) encryptions() []encryption {
	return []encryption{
		{"request_object_encryption", &c.RequestObjectEncryptionAlg, &c.RequestObjectEncryptionEnc},
		{"id_token_encrypted_response", &c.IDTokenEncryptedResponseAlg, &c.IDTokenEncryptedResponseEnc},
		{"userinfo_encrypted_response", &c.UserInfoEncryptedResponseAlg, &c.UserInfoEncryptedResponseEnc},
		{"authorization_encrypted_response", &c.AuthorizationEncryptedResponseAlg, &c.AuthorizationEncryptedResponseEnc},
		{"introspection_encrypted_response", &c.IntrospectionEncryptedResponseAlg, &c.IntrospectionEncryptedResponseEnc},
	}
}

// Algorithms of encryption, for all profiles: without RSA1_5 (FAPI 1.0 Part 2 §8.6.1) and without shared secrets.
var (
	KeyAlgorithms      = []jose.KeyAlgorithm{jose.RSA_OAEP_256, jose.ECDH_ES}
	ContentEncryptions = []jose.ContentEncryption{jose.A256GCM, jose.A128GCM, jose.A128CBC_HS256}
)

func (c *Client) checkEncryption(w *faults) {
	for _, e := range c.encryptions() {
		if *e.alg == "" && *e.enc != "" {
			w.add(e.name+"_enc", "%s_enc needs %s_alg (OpenID Connect Registration §2)", e.name, e.name)
		}
		if *e.alg != "" && !slices.Contains(KeyAlgorithms, *e.alg) {
			w.add(e.name+"_alg", "%s_alg %q is not one of %v", e.name, *e.alg, KeyAlgorithms)
		}
		if *e.enc != "" && !slices.Contains(ContentEncryptions, *e.enc) {
			w.add(e.name+"_enc", "%s_enc %q is not one of %v", e.name, *e.enc, ContentEncryptions)
		}
	}
}

func (c *Client) checkAddresses(w *faults) {
	for _, page := range []struct{ name, uri string }{ // linked from our pages
		{"client_uri", c.URI}, {"logo_uri", c.LogoURI}, {"policy_uri", c.PolicyURI}, {"tos_uri", c.TOSURI},
	} {
		if u, err := url.Parse(page.uri); page.uri != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
			w.add(page.name, "%s %q is not a web page", page.name, page.uri)
		}
	}
	for _, uri := range c.RedirectURIs {
		if err := checkRedirectURI(uri, c.profile.HTTPSRedirect); err != nil {
			w.add("redirect_uris", "redirect_uris: %w", err)
		}
	}
	for _, uri := range c.PostLogoutRedirectURIs {
		if err := checkRedirectURI(uri, c.profile.HTTPSRedirect); err != nil {
			w.add("post_logout_redirect_uris", "post_logout_redirect_uris: %w", err)
		}
	}
	called := []struct{ name, uri string }{ // by us, or by a browser that we send there
		{"jwks_uri", c.JWKSURI}, {"sector_identifier_uri", c.SectorIdentifierURI},
		{"initiate_login_uri", c.InitiateLoginURI}, {"backchannel_logout_uri", c.BackChannelLogoutURI},
		{"backchannel_client_notification_endpoint", c.BackchannelClientNotificationEndpoint},
	}
	for _, uri := range c.RequestURIs {
		called = append(called, struct{ name, uri string }{"request_uris", uri})
	}
	for _, a := range called {
		if a.uri == "" {
			continue
		}
		u, err := url.Parse(a.uri)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || len(a.uri) > maxRedirectURI || u.Fragment != "" && a.name != "request_uris" {
			w.add(a.name, "%s %q is not an https URL", a.name, a.uri)
		}
	}
}

// checkSubject finds the client's sector: that of its sector_identifier_uri, or the one host of its sectorURIs
// (OpenID Connect Core §8.1).
func (c *Client) checkSubject(w *faults) {
	switch c.SubjectType {
	case SubjectPublic:
		return
	case SubjectPairwise:
	default:
		w.add("subject_type", "subject_type %q is neither public nor pairwise", c.SubjectType)
		return
	}
	uris := c.sectorURIs()
	if c.SectorIdentifierURI != "" {
		uris = []string{c.SectorIdentifierURI}
	}
	if len(uris) == 0 {
		w.add("sector_identifier_uri", "subject_type pairwise: a client without redirect_uris needs a sector_identifier_uri, or keys at a jwks_uri")
	}
	for _, uri := range uris {
		u, err := url.Parse(uri)
		if err != nil {
			continue // said elsewhere
		}
		if c.sector == "" {
			c.sector = u.Hostname()
		}
		if u.Hostname() != c.sector || c.sector == "" {
			w.add("sector_identifier_uri", "subject_type pairwise: redirect_uris with several hosts need a sector_identifier_uri")
			return
		}
	}
}

// sectorURIs are the addresses that the client answers at, by whose host it is known when it has a sector of its own: its
// redirect URIs, or without those where it is told of decisions, or where its keys are (CIBA Core §4).
func (c *Client) sectorURIs() []string {
	if len(c.RedirectURIs) > 0 {
		return c.RedirectURIs
	}
	for _, uri := range []string{c.BackchannelClientNotificationEndpoint, c.JWKSURI} {
		if uri != "" {
			return []string{uri}
		}
	}
	return nil
}

func (c *Client) checkTokens(w *faults) {
	if c.AccessTokenFormat != Opaque && c.AccessTokenFormat != JWT {
		w.add("access_token_format", "access_token_format %q is neither opaque nor jwt", c.AccessTokenFormat)
	}
	for _, bound := range []struct {
		member string
		way    Binding
		wanted bool
	}{
		{"tls_client_certificate_bound_access_tokens", ByCertificate, c.CertificateBoundAccessTokens},
		{"dpop_bound_access_tokens", ByDPoP, c.DPoPBoundAccessTokens},
	} {
		if bound.wanted && !c.MayBind(bound.way) {
			w.add(bound.member, "tokens of profile %s cannot be bound by %s", c.Profile, bound.way)
		}
	}
	for _, id := range append(slices.Clone(c.Resources), c.ResourceIdentifiers...) {
		if u, err := url.Parse(id); err != nil || !u.IsAbs() || strings.Contains(id, "#") {
			w.add("resources", "resource %q is not an absolute URI without fragment (RFC 8707 §2)", id)
		}
	}
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
