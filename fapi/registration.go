package fapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// RegistrationRules are what clients may have that register themselves (RFC 7591).
type RegistrationRules struct {
	Profiles    []ProfileName             // a client may choose among these; the first is the default
	Scopes      []string                  // all that such a client may ask for
	DetailTypes map[string]DetailType     // types of authorization_details that it may ask for
	Signing     []jose.SignatureAlgorithm // with which the server signs
}

// Metadata are members of a registration, as they were written, by name.
type Metadata map[string]json.RawMessage

// Members that a registration carries beside the client's metadata (RFC 7591 §3.2.1, RFC 7592 §2.2).
const (
	memberClientID  = "client_id"
	memberSecret    = "client_secret"
	memberStatement = "software_statement"
)

var (
	errNoRegistration = Refuse(InvalidClientMetadata, "The body must be a JSON object with each member once.")

	// answeredMembers are the server's to say: a client that sends them back takes an answer for a request (RFC 7592 §2.2).
	answeredMembers = []string{"registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"}

	// operatorMembers are not for a client to choose.
	operatorMembers = []string{"access_token_format", "resources", "resource_identifiers", "roles"}

	memberNames = func() map[string]bool {
		known := map[string]bool{}
		for _, field := range reflect.VisibleFields(reflect.TypeFor[Client]()) {
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
				known[name] = true
			}
		}
		return known
	}()
)

// Bounds of what a stranger may have stored.
const (
	maxListed    = 32   // in one list
	maxText      = 2048 // bytes of one text
	maxName      = 128  // bytes of client_name
	maxStatement = 32 << 10
)

// ParseRegistration reads the body of a registration (RFC 7591 §3.1). A member that is null is one that is absent
// (RFC 7592 §2.2).
func ParseRegistration(body []byte) (Metadata, error) {
	if _, err := checkJSON(body); err != nil {
		return nil, errNoRegistration.Because(err)
	}
	var m Metadata
	if err := json.Unmarshal(body, &m); err != nil || m == nil {
		return nil, errNoRegistration.Because(err)
	}
	for name, value := range m {
		if string(value) == "null" {
			delete(m, name)
		}
	}
	return m, nil
}

// Statement returns the software statement (RFC 7591 §2.3), "" if there is none.
func (m Metadata) Statement() (string, error) {
	text, ok := m.text(memberStatement)
	if !ok || len(text) > maxStatement {
		return "", Refuse(InvalidSoftwareStatement, "The software_statement must be a JWT.")
	}
	return text, nil
}

// Override puts what a software statement vouches for in place of what the client says (RFC 7591 §2.3).
func (m Metadata) Override(vouched Metadata) {
	for name, value := range vouched {
		if name != memberStatement && string(value) != "null" {
			m[name] = value
		}
	}
}

// CheckReplacement checks what an update must and must not carry beside the metadata (RFC 7592 §2.2). secretHash is that
// of the client's secret, nil if it has none. It returns the secret, if the client sent it.
func (m Metadata) CheckReplacement(clientID string, secretHash []byte) (secret string, err error) {
	if id, ok := m.text(memberClientID); !ok || id != clientID {
		return "", Refuse(InvalidClientMetadata, "The update must have the client_id of the client.")
	}
	for _, name := range answeredMembers {
		if _, there := m[name]; there {
			return "", Refuse(InvalidClientMetadata, "The update must not have a member that the server answers with.").Naming(name)
		}
	}
	if _, there := m[memberSecret]; !there {
		return "", nil
	}
	secret, ok := m.text(memberSecret)
	if !ok || secretHash == nil || !SecretMatches(secretHash, secret) {
		return "", Refuse(InvalidClientMetadata, "The client_secret is not that of the client.")
	}
	return secret, nil
}

// text returns a member that is a string, "" if it is absent; not ok if it is something else.
func (m Metadata) text(name string) (text string, ok bool) {
	raw, there := m[name]
	if !there {
		return "", true
	}
	return text, json.Unmarshal(raw, &text) == nil
}

// Register makes a client of what it says of itself. Members that this server does not know, or that are not the client's
// to choose, are left out (RFC 7591 §2); so are grant types and scopes that it does not have; defaults that the profile
// does not allow give way to the profile's. Everything else that cannot be is refused. The metadata that it returns are
// those that count: ParseClient makes the same client of them. before is the client that is replaced, nil for a new one:
// what its operator gave it stays.
func (r *RegistrationRules) Register(clientID string, m Metadata, before *Client) (*Client, []byte, error) {
	c, err := r.read(m)
	if err != nil {
		return nil, nil, err
	}
	c.ID = clientID
	if before != nil {
		c.AccessTokenFormat, c.Resources, c.ResourceIdentifiers, c.Roles = before.AccessTokenFormat, before.Resources, before.ResourceIdentifiers, before.Roles
	}
	if err := r.choose(c); err != nil {
		return nil, nil, err
	}
	jwks := m["jwks"]
	metadata, err := c.encode(jwks)
	if err != nil {
		return nil, nil, err
	}
	if c, err = ParseClient(metadata); err != nil {
		return nil, nil, refuseMetadata(err)
	}
	if metadata, err = c.encode(jwks); err != nil { // with the defaults
		return nil, nil, err
	}
	return c, metadata, nil
}

// read decodes the members that a client may choose.
func (r *RegistrationRules) read(m Metadata) (*Client, error) {
	c, w := &Client{}, &faults{}
	for name, raw := range m {
		if !memberNames[name] || slices.Contains(operatorMembers, name) || name == memberClientID {
			continue
		}
		one, err := json.Marshal(Metadata{name: raw})
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(one, c); err != nil {
			w.add(name, "%s: %w", name, err)
		} else if err := checkSize(name, raw); err != nil {
			w.add(name, "%s: %w", name, err)
		}
	}
	return c, refuseMetadata(errors.Join(w.all...))
}

// checkSize bounds what is stored and shown. The body as a whole is bounded before.
func checkSize(name string, raw json.RawMessage) error {
	if name == "jwks" || name == memberStatement {
		return nil // they have bounds of their own
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return err
	}
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	}
	if len(list) > maxListed {
		return fmt.Errorf("more than %d", maxListed)
	}
	limit := maxText
	if name == "client_name" {
		limit = maxName
	}
	for _, x := range list {
		if text, _ := x.(string); len(text) > limit || hasControls(text) {
			return fmt.Errorf("longer than %d bytes, or with control characters", limit)
		}
	}
	return nil
}

// choose fills in the defaults of RFC 7591 §2 and OpenID Connect Registration §2 as far as the profile allows them, and
// leaves out what such clients do not get.
func (r *RegistrationRules) choose(c *Client) error {
	if c.Profile == "" {
		c.Profile = r.Profiles[0]
	}
	p := FindProfile(c.Profile)
	if p == nil || !slices.Contains(r.Profiles, c.Profile) {
		return refuseMetadata(&Fault{"profile", fmt.Errorf("profile %q is not one of %v", c.Profile, r.Profiles)})
	}
	if c.ApplicationType == "" {
		c.ApplicationType = "web"
	}
	if c.TokenEndpointAuthMethod == "" {
		c.TokenEndpointAuthMethod = preferred(ClientSecretBasic, p.ClientAuth, nil)
	}
	if asked := len(c.GrantTypes); asked > 0 {
		backchannel := c.MayUse(GrantCIBA)
		c.GrantTypes = keep(c.GrantTypes, func(grant string) bool { return slices.Contains(grantTypes, grant) && p.grants(grant) })
		if backchannel && !p.grants(GrantCIBA) {
			c.forgetBackchannel()
		}
		if len(c.GrantTypes) == 0 {
			return refuseMetadata(&Fault{"grant_types", errors.New("grant_types: none is supported")})
		}
	}
	if len(c.ResponseTypes) == 0 && (len(c.GrantTypes) == 0 || c.MayUse(GrantAuthorizationCode)) {
		c.ResponseTypes = []string{preferred("code", p.ResponseTypes, nil)}
	}
	if c.Scope == "" {
		c.Scope = strings.Join(r.Scopes, " ")
	}
	c.Scope = strings.Join(keep(strings.Fields(c.Scope), func(scope string) bool { return slices.Contains(r.Scopes, scope) }), " ")
	c.AuthorizationDetailsTypes = keep(c.AuthorizationDetailsTypes, func(name string) bool { _, ok := r.DetailTypes[name]; return ok })
	return r.chooseSigning(c, p)
}

// forgetBackchannel takes away what a client without CIBA has no use for.
func (c *Client) forgetBackchannel() {
	c.BackchannelTokenDeliveryMode, c.BackchannelClientNotificationEndpoint, c.BackchannelAuthenticationRequestSigningAlg = "", "", ""
	c.BackchannelUserCodeParameter, c.BackchannelNumberMatching, c.BackchannelNotificationMTLS = false, false, false
}

// chooseSigning settles how answers are signed. RS256 is the default of the standards: OpenID Connect Registration §2,
// JARM §3, RFC 9701 §6.
func (r *RegistrationRules) chooseSigning(c *Client, p *Profile) error {
	standard := preferred(jose.RS256, p.Algorithms, r.Signing)
	w := &faults{}
	for _, answer := range []struct {
		member string
		alg    *jose.SignatureAlgorithm
	}{
		{"id_token_signed_response_alg", &c.IDTokenSignedResponseAlg},
		{"authorization_signed_response_alg", &c.AuthorizationSignedResponseAlg},
		{"introspection_signed_response_alg", &c.IntrospectionSignedResponseAlg},
		{"userinfo_signed_response_alg", &c.UserInfoSignedResponseAlg},
	} {
		switch {
		case *answer.alg == "" && answer.alg != &c.UserInfoSignedResponseAlg: // that one is plain JSON without
			*answer.alg = standard
		case *answer.alg != "" && !slices.Contains(r.Signing, *answer.alg):
			w.add(answer.member, "%s %q: the server has no such key", answer.member, *answer.alg)
		}
	}
	return refuseMetadata(errors.Join(w.all...))
}

// preferred returns wanted if it is allowed and supported, else the first that is. A nil supported supports all.
func preferred[T comparable](wanted T, allowed, supported []T) T {
	fits := func(x T) bool { return supported == nil || slices.Contains(supported, x) }
	if slices.Contains(allowed, wanted) && fits(wanted) {
		return wanted
	}
	if i := slices.IndexFunc(allowed, fits); i >= 0 {
		return allowed[i]
	}
	return allowed[0]
}

// keep returns the members that fit, each once.
func keep(list []string, fits func(string) bool) []string {
	var kept []string
	for _, x := range list {
		if fits(x) && !slices.Contains(kept, x) {
			kept = append(kept, x)
		}
	}
	return kept
}

// encode writes the metadata as they are stored. The key set stays as it was written: jose would drop what it does not know.
func (c *Client) encode(jwks json.RawMessage) ([]byte, error) {
	plain := *c
	plain.JWKS = nil
	metadata, err := json.Marshal(&plain)
	if err != nil || len(jwks) == 0 {
		return metadata, err
	}
	return bytes.Join([][]byte{metadata[:len(metadata)-1], []byte(`,"jwks":`), jwks, []byte("}")}, nil), nil
}

// UsesSecret tells whether the client authenticates with a secret that the server gave it.
func (c *Client) UsesSecret() bool {
	return c.TokenEndpointAuthMethod == ClientSecretBasic || c.TokenEndpointAuthMethod == ClientSecretPost
}

// CheckKeys checks, once the keys at a jwks_uri were set, that they do for what the client has registered.
func (c *Client) CheckKeys() error {
	w, member := &faults{}, "jwks"
	if c.JWKSURI != "" {
		member = "jwks_uri"
	}
	if c.TokenEndpointAuthMethod == PrivateKeyJWT && !c.canVerify(c.aux.assertionAlgs) {
		w.add(member, "no key can verify client assertions signed with %v", c.aux.assertionAlgs)
	}
	if (c.MustSignRequests() || c.RequestObjectSigningAlg != "") && !c.canVerify(c.aux.requestObjectAlgs) {
		w.add(member, "no key can verify request objects signed with %v", c.aux.requestObjectAlgs)
	}
	if c.signsBackchannel() && !c.canVerify(c.aux.backchannelAlgs) {
		w.add(member, "no key can verify authentication requests signed with %v", c.aux.backchannelAlgs)
	}
	for _, e := range c.encryptions() {
		if *e.alg == "" || e.alg == &c.RequestObjectEncryptionAlg { // to a key of ours
			continue
		}
		if _, ok := c.encryptionKey(*e.alg); !ok {
			w.add(member, "no key to encrypt to with %s", *e.alg)
		}
	}
	return refuseMetadata(errors.Join(w.all...))
}

// CheckSector checks that what is at the client's sector_identifier_uri is a JSON array with all of its redirect URIs
// (OpenID Connect Registration §5), or with the address that stands for them: else whoever has none would belong to every sector.
func (c *Client) CheckSector(document []byte) error {
	var uris []string
	_, err := checkJSON(document)
	if err == nil {
		err = json.Unmarshal(document, &uris)
	}
	if err != nil {
		return refuseMetadata(&Fault{"sector_identifier_uri", err})
	}
	own := c.sectorURIs()
	if len(own) == 0 {
		return refuseMetadata(&Fault{"sector_identifier_uri", errors.New("the client has no address that can be at the sector_identifier_uri")})
	}
	for _, uri := range own {
		if !slices.Contains(uris, uri) {
			return refuseMetadata(&Fault{"sector_identifier_uri", fmt.Errorf("%q is not at the sector_identifier_uri", uri)})
		}
	}
	return nil
}

// RefuseMember refuses metadata because of one member of it. The cause is for the log.
func RefuseMember(member string, cause error) error { return refuseMetadata(&Fault{member, cause}) }

// refuseMetadata makes of everything that is wrong with metadata a refusal that names the members (RFC 7591 §3.2.2).
func refuseMetadata(wrong error) error {
	if wrong == nil {
		return nil
	}
	code, members := InvalidClientMetadata, faultyMembers(wrong)
	if slices.Contains(members, "redirect_uris") {
		code = InvalidRedirectURI
	}
	refusal := Refuse(code, "The metadata are not acceptable.").Because(wrong)
	if len(members) == 0 {
		return refusal
	}
	return refusal.Naming(members...)
}

// faultyMembers lists the members that an error is about, sorted.
func faultyMembers(err error) (members []string) {
	if fault, ok := err.(*Fault); ok {
		return []string{fault.Member}
	}
	switch inner := err.(type) {
	case interface{ Unwrap() error }:
		return faultyMembers(inner.Unwrap())
	case interface{ Unwrap() []error }:
		for _, e := range inner.Unwrap() {
			members = append(members, faultyMembers(e)...)
		}
		slices.Sort(members)
		return slices.Compact(members)
	}
	return nil
}
