package fapi

import (
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ProfileName names a row of the profile table.
type ProfileName string

const (
	OpenID ProfileName = "openid" // OAuth 2.0 and OpenID Connect as RFC 9700 wants them
	FAPI2  ProfileName = "fapi2"  // FAPI 2.0 Security Profile
)

// Requirement says how strict a profile is about one thing.
type Requirement int

const (
	Optional  Requirement = iota
	ForPublic             // required of public clients
	Required              // required of all
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

// Profile is what a security profile demands. Nothing else in the server asks which profile a client has: it asks
// what the client's profile demands.
type Profile struct {
	Name   ProfileName
	Source string // the document whose words these are

	ClientAuth        []AuthMethod
	Algorithms        []jose.SignatureAlgorithm // of all that the client signs, and that we sign for it
	AssertionAudience AudienceRule
	MaxAssertionLife  time.Duration // exp may be this far ahead at most

	// RequestObjectMaxAge: signed requests need iss, aud, nbf and exp; nbf is this long ago, and exp this long after it, at
	// most. 0: none of the four must be there; those that are must be right.
	RequestObjectMaxAge time.Duration

	PAR              Requirement // RFC 9126
	PKCE             Requirement // RFC 7636, S256 only
	SenderConstraint Requirement // tokens bound by certificate or DPoP
	ResponseTypes    []string
	ResponseModes    []string
	HTTPSRedirect    bool        // redirect URIs are https; else loopback http and private schemes too
	UnknownScope     Requirement // Required: an unknown scope is invalid_scope; Optional: it is left out

	RequestURILifetime  time.Duration
	CodeLifetime        time.Duration
	AccessTokenLifetime time.Duration
	IDTokenLifetime     time.Duration
	RefreshLifetime     time.Duration
	Refresh             RefreshRule
	RememberConsent     bool // what the customer approved once is not asked again
}

var profiles = map[ProfileName]*Profile{
	FAPI2: {
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
		ResponseTypes:       []string{"code"},
		ResponseModes:       []string{"query", "form_post"},
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
		PAR:                 Optional,
		PKCE:                ForPublic,
		SenderConstraint:    Optional,
		ResponseTypes:       []string{"code"},
		ResponseModes:       []string{"query", "form_post"},
		UnknownScope:        Optional,
		RequestURILifetime:  time.Minute,
		CodeLifetime:        time.Minute,
		AccessTokenLifetime: 5 * time.Minute,
		IDTokenLifetime:     5 * time.Minute,
		RefreshLifetime:     30 * 24 * time.Hour,
		Refresh:             RefreshOffline,
		RememberConsent:     true,
	},
}

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
