package fapi

import (
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ProfileName names a row of the profile table.
type ProfileName string

const (
	OpenID              ProfileName = "openid"                // OAuth 2.0 and OpenID Connect as RFC 9700 wants them
	FAPI1Baseline       ProfileName = "fapi1-baseline"        // FAPI 1.0 Part 1: read-only access
	FAPI1Advanced       ProfileName = "fapi1-advanced"        // FAPI 1.0 Part 2: read and write
	FAPI2               ProfileName = "fapi2"                 // FAPI 2.0 Security Profile
	FAPI2MessageSigning ProfileName = "fapi2-message-signing" // FAPI 2.0 Message Signing
	FAPICIBA            ProfileName = "fapi-ciba"             // FAPI 1.0 Advanced with CIBA
)

// Requirement says how strict a profile is about one thing.
type Requirement int

const (
	Optional   Requirement = iota
	ForPublic              // required of public clients
	WhenPushed             // required in pushed requests
	Required               // required of all
)

// AudienceRule says which aud a client assertion may carry.
type AudienceRule int

const (
	// IssuerOnly: the issuer, as one string (FAPI 2.0 §5.3.2.1).
	IssuerOnly AudienceRule = iota
	// IssuerOrEndpoint: the issuer, the token endpoint or the endpoint called, alone or in an array (RFC 7523 §3, RFC 9126 §2).
	IssuerOrEndpoint
)

// RefreshRule says when a client that registered the grant gets a refresh token.
type RefreshRule int

const (
	RefreshAlways  RefreshRule = iota // with every authorization
	RefreshOffline                    // when offline_access was granted (OpenID Connect Core §11)
)

// Binding is a way to bind tokens to their client.
type Binding string

const (
	ByCertificate Binding = "mtls" // RFC 8705 §3
	ByDPoP        Binding = "dpop" // RFC 9449
)

// Profile is what a security profile demands. Nothing else in the server asks which profile a client has: it asks
// what the client's profile demands.
type Profile struct {
	Name   ProfileName
	Source string // the document whose words these are

	ClientAuth        []AuthMethod
	Algorithms        []jose.SignatureAlgorithm // of all that the client signs, and that we sign for it
	AssertionAudience AudienceRule
	MaxAssertionLife  time.Duration // exp may be this far ahead at most

	RequestObject Requirement // requests are signed (RFC 9101)
	// RequestObjectMaxAge: signed requests need iss, aud, nbf and exp; nbf is this long ago, and exp this long after it, at
	// most. 0: none of the four must be there; those that are must be right.
	RequestObjectMaxAge time.Duration
	RequestURI          bool // request objects may be fetched from registered request_uris (OpenID Connect Core §6.2)

	PAR              Requirement // RFC 9126
	PKCE             Requirement // RFC 7636, S256 only
	Nonce            Requirement // with the scope openid; state without it. An ID token from the authorization endpoint needs one anyhow
	SenderConstraint Requirement // tokens are bound
	Bindings         []Binding   // to what they may be bound
	ResponseTypes    []string    // the first is the default
	ResponseModes    []string    // without jwt, which stands for query.jwt or fragment.jwt
	JARMFor          []string    // response types whose answers must be signed (JARM)
	HTTPSRedirect    bool        // redirect URIs are https; else loopback http and private schemes too
	UnknownScope     Requirement // Required: an unknown scope is invalid_scope; Optional: it is left out

	RequestURILifetime  time.Duration
	CodeLifetime        time.Duration
	AccessTokenLifetime time.Duration
	IDTokenLifetime     time.Duration
	RefreshLifetime     time.Duration
	Refresh             RefreshRule
	RememberConsent     bool // what the customer approved once is not asked again

	Device        bool           // the device grant may be registered (RFC 8628)
	CIBA          []DeliveryMode // how clients may learn what was decided on another device; none: no CIBA
	CIBAContext   Requirement    // their requests say what is approved: a binding message, authorization_details or a consent
	TokenExchange bool           // by clients that authenticate (RFC 8693, docs/decisions/0006)
}

// What all profiles may do: sign answers (JARM), and bind tokens either way.
var (
	signedModes = []string{"query.jwt", "fragment.jwt", "form_post.jwt"}
	bothWays    = []Binding{ByCertificate, ByDPoP}
)

var profiles = map[ProfileName]*Profile{
	FAPI2:               fapi2,
	FAPI2MessageSigning: messageSigning(),
	FAPICIBA:            withCIBA(),
	FAPI1Advanced:       fapi1Advanced,
	FAPI1Baseline: {
		Name:                FAPI1Baseline,
		Source:              "FAPI 1.0 Part 1: Baseline, Final, §5.2.2",
		ClientAuth:          []AuthMethod{PrivateKeyJWT, TLSClientAuth, SelfSignedTLSClientAuth, NoAuth},
		Algorithms:          []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA, jose.RS256},
		AssertionAudience:   IssuerOrEndpoint,
		MaxAssertionLife:    time.Hour,
		RequestURI:          true,
		PAR:                 Optional,
		PKCE:                Required,
		Nonce:               Required,
		SenderConstraint:    Optional,
		Bindings:            bothWays,
		ResponseTypes:       []string{"code"},
		ResponseModes:       append([]string{"query", "form_post"}, signedModes...),
		HTTPSRedirect:       true,
		UnknownScope:        Required,
		RequestURILifetime:  time.Minute,
		CodeLifetime:        time.Minute,
		AccessTokenLifetime: 5 * time.Minute,
		IDTokenLifetime:     5 * time.Minute,
		RefreshLifetime:     90 * 24 * time.Hour,
		Refresh:             RefreshAlways,
	},
	OpenID: {
		Name:                OpenID,
		Source:              "OpenID Connect Core 1.0 and RFC 9700",
		ClientAuth:          []AuthMethod{PrivateKeyJWT, TLSClientAuth, SelfSignedTLSClientAuth, ClientSecretBasic, ClientSecretPost, NoAuth},
		Algorithms:          []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA, jose.RS256},
		AssertionAudience:   IssuerOrEndpoint,
		MaxAssertionLife:    time.Hour,
		RequestURI:          true,
		PAR:                 Optional,
		PKCE:                ForPublic,
		SenderConstraint:    Optional,
		Bindings:            bothWays,
		ResponseTypes:       []string{"code", "code id_token", "code token", "code id_token token", "id_token", "id_token token"},
		ResponseModes:       append([]string{"query", "fragment", "form_post"}, signedModes...),
		UnknownScope:        Optional,
		RequestURILifetime:  time.Minute,
		CodeLifetime:        time.Minute,
		AccessTokenLifetime: 5 * time.Minute,
		IDTokenLifetime:     5 * time.Minute,
		RefreshLifetime:     30 * 24 * time.Hour,
		Refresh:             RefreshOffline,
		RememberConsent:     true,
		Device:              true,
		CIBA:                []DeliveryMode{Poll, Ping, Push},
		TokenExchange:       true,
	},
}

var fapi1Advanced = &Profile{
	Name:                FAPI1Advanced,
	Source:              "FAPI 1.0 Part 2: Advanced, Final, §5.2.2 and §8.6",
	ClientAuth:          []AuthMethod{PrivateKeyJWT, TLSClientAuth, SelfSignedTLSClientAuth},
	Algorithms:          []jose.SignatureAlgorithm{jose.ES256, jose.PS256},
	AssertionAudience:   IssuerOrEndpoint,
	MaxAssertionLife:    time.Hour,
	RequestObject:       Required,
	RequestObjectMaxAge: time.Hour,
	RequestURI:          true,
	PAR:                 Optional,
	PKCE:                WhenPushed,
	Nonce:               Required,
	SenderConstraint:    Required,
	Bindings:            []Binding{ByCertificate},
	ResponseTypes:       []string{"code id_token", "code"},
	ResponseModes:       append([]string{"fragment", "form_post"}, signedModes...),
	JARMFor:             []string{"code"},
	HTTPSRedirect:       true,
	UnknownScope:        Required,
	RequestURILifetime:  time.Minute,
	CodeLifetime:        time.Minute,
	AccessTokenLifetime: 5 * time.Minute,
	IDTokenLifetime:     5 * time.Minute,
	RefreshLifetime:     90 * 24 * time.Hour,
	Refresh:             RefreshAlways,
}

var fapi2 = &Profile{
	Name:                FAPI2,
	Source:              "FAPI 2.0 Security Profile, Final, §5.3.2 and §5.4",
	ClientAuth:          []AuthMethod{PrivateKeyJWT, TLSClientAuth, SelfSignedTLSClientAuth},
	Algorithms:          []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA},
	AssertionAudience:   IssuerOnly,
	MaxAssertionLife:    time.Hour,
	RequestObjectMaxAge: time.Hour, // FAPI 2.0 Message Signing, Final, §5.3.1
	PAR:                 Required,
	PKCE:                Required,
	SenderConstraint:    Required,
	Bindings:            bothWays,
	ResponseTypes:       []string{"code"},
	ResponseModes:       append([]string{"query", "form_post"}, signedModes...),
	HTTPSRedirect:       true,
	UnknownScope:        Required,
	RequestURILifetime:  time.Minute,
	CodeLifetime:        time.Minute,
	AccessTokenLifetime: 5 * time.Minute,
	IDTokenLifetime:     5 * time.Minute,
	RefreshLifetime:     90 * 24 * time.Hour,
	Refresh:             RefreshAlways,
	TokenExchange:       true,
}

// messageSigning is the FAPI 2.0 Security Profile with signed requests. Signed answers are for the clients that register
// them as response_modes (§5.3.3), signed introspection for the resource servers that ask for it (§5.5).
func messageSigning() *Profile {
	p := *fapi2
	p.Name, p.Source, p.RequestObject = FAPI2MessageSigning, "FAPI 2.0 Message Signing, Final, §5.3 to §5.5", Required
	return &p
}

// withCIBA is FAPI 1.0 Advanced for clients that also reach the customer on another device: the outcome is fetched, never
// pushed (§5.2.2-3).
func withCIBA() *Profile {
	p := *fapi1Advanced
	p.Name, p.Source = FAPICIBA, "FAPI: Client Initiated Backchannel Authentication Profile, ID1, §5.2.2, and FAPI 1.0 Part 2"
	p.CIBA, p.CIBAContext = []DeliveryMode{Poll, Ping}, Required
	return &p
}

// grants tells whether clients of the profile may have a grant type, if the server has it at all.
func (p *Profile) grants(grantType string) bool {
	switch grantType {
	case GrantImplicit:
		return p.implicit()
	case GrantDeviceCode:
		return p.Device
	case GrantCIBA:
		return len(p.CIBA) > 0
	case GrantTokenExchange:
		return p.TokenExchange
	}
	return true
}

// implicit tells whether the profile has response types without a code.
func (p *Profile) implicit() bool { return slices.ContainsFunc(p.ResponseTypes, withoutCode) }

// FindProfile returns the profile of that name, or nil.
func FindProfile(name ProfileName) *Profile { return profiles[name] }

// ProfileNames lists the profiles, sorted.
func ProfileNames() []ProfileName {
	names := make([]ProfileName, 0, len(profiles))
	for name := range profiles {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
