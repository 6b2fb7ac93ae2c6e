package fapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	strict "github.com/go-jose/go-jose/v4/json"
)

// ClientAssertionType is the only client_assertion_type (RFC 7523 §2.2).
const ClientAssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Skew is how far another clock may be off. FAPI 2.0 §5.3.2.1 wants 10 seconds ahead accepted and 60 refused.
const Skew = 10 * time.Second

const (
	maxAssertion = 16 << 10
	maxJTI       = 512
	maxClientID  = 255
)

// Use is something that may be used once. Whoever remembers Hash until ExpiresAt has seen every second use.
type Use struct {
	Hash      [32]byte
	ExpiresAt time.Time // after it the thing is refused anyway
	IssuedAt  time.Time // the first moment at which it can have been accepted: its date less Skew
}

// useHash names a use: what it is, whose it is, and its jti. Kinds and issuers hold no NUL.
func useHash(kind, issuer, jti string) [32]byte {
	buf := make([]byte, 0, 1024)
	buf = append(append(buf, kind...), 0)
	buf = append(append(buf, issuer...), 0)
	return sha256.Sum256(append(buf, jti...))
}

// AssertionContext is what a client assertion is checked against.
type AssertionContext struct {
	Issuer          string
	Endpoints       []string // token endpoint and the endpoint called, in all forms that are advertised (also mTLS aliases)
	Now             time.Time
	RememberedSince time.Time // the memory of used jtis begins here: what may have been used before is refused
}

type assertionClaims struct {
	Issuer    string      `json:"iss"`
	Subject   string      `json:"sub"`
	Audience  audience    `json:"aud"`
	ID        string      `json:"jti"`
	ExpiresAt numericDate `json:"exp"`
	IssuedAt  numericDate `json:"iat"`
	NotBefore numericDate `json:"nbf"`
}

// AssertionIssuer tells which client an assertion claims to come from, so that its keys can be found. It proves nothing.
func AssertionIssuer(assertion string) (clientID string, err error) {
	malformed := Refuse(InvalidClient, "The client assertion is not a signed JWT.")
	if err := checkCompact(assertion, maxAssertion, 3); err != nil {
		return "", malformed.Because(err)
	}
	parts := strings.SplitN(assertion, ".", 3)
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", malformed.Because(err)
	}
	var claims struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
	}
	if err := strict.Unmarshal(payload, &claims); err != nil {
		return "", malformed.Because(err)
	}
	clientID = claims.Issuer
	if clientID == "" {
		clientID = claims.Subject
	}
	if !validClientID(clientID) {
		return "", Refuse(InvalidClient, "The client assertion names no client.")
	}
	return clientID, nil
}

func validClientID(id string) bool {
	return id != "" && len(id) <= maxClientID && !strings.ContainsFunc(id, func(r rune) bool { return r < 0x21 || r > 0x7e })
}

// CheckAssertion checks a JWT with which the client authenticates (RFC 7523 §3, FAPI 2.0 §5.3.2.1). The caller must
// make sure that the returned Use is the first.
func (c *Client) CheckAssertion(assertion string, in AssertionContext) (Use, error) {
	if c.TokenEndpointAuthMethod != PrivateKeyJWT {
		return Use{}, Refuse(InvalidClient, "The client is not registered for private_key_jwt.")
	}
	jws, header, err := parseJWS(assertion, maxAssertion, c.aux.assertionAlgs)
	if err != nil {
		return Use{}, Refuse(InvalidClient, "The client assertion is not a JWT signed with an algorithm that is allowed to this client.").Because(err)
	}
	// A JWT made for another purpose says so in its typ: request objects, proofs, access and logout tokens (RFC 8725 §3.11).
	if typ := jwtType(header); strings.HasSuffix(typ, "+jwt") && typ != "client-authentication+jwt" {
		return Use{}, Refuse(InvalidClient, "The typ of the client assertion is that of another kind of JWT.")
	}
	payload, err := c.verifySignature(jws, header)
	if err != nil {
		return Use{}, Refuse(InvalidClient, "The client assertion has no valid signature by a key of the client that fits its kid and alg.").Because(err)
	}
	var claims assertionClaims
	if err := strict.Unmarshal(payload, &claims); err != nil {
		return Use{}, Refuse(InvalidClient, "The claims of the client assertion cannot be read.").Because(err)
	}
	return c.checkAssertionClaims(&claims, in)
}

func (c *Client) checkAssertionClaims(claims *assertionClaims, in AssertionContext) (Use, error) {
	if claims.Issuer != c.ID || claims.Subject != c.ID {
		return Use{}, Refuse(InvalidClient, "iss and sub of the client assertion must be the client_id.")
	}
	if !c.acceptsAudience(claims.Audience, in) {
		return Use{}, Refuse(InvalidClient, "The aud of the client assertion must be the issuer of this server, as the profile of the client wants it written.")
	}
	if claims.ID == "" || len(claims.ID) > maxJTI {
		return Use{}, Refuse(InvalidClient, "The client assertion needs a jti of at most 512 characters.")
	}
	if claims.ExpiresAt == 0 {
		return Use{}, Refuse(InvalidClient, "The client assertion needs an exp.")
	}
	expires := time.Unix(int64(claims.ExpiresAt), 0).Add(Skew)
	if !in.Now.Before(expires) {
		return Use{}, Refuse(InvalidClient, "The client assertion has expired.")
	}
	// Each of the three says that it was not used earlier: the latest says most.
	issued := time.Unix(int64(claims.ExpiresAt), 0).Add(-c.profile.MaxAssertionLife)
	if issued.After(in.Now.Add(Skew)) {
		return Use{}, Refuse(InvalidClient, "The exp of the client assertion is too far in the future.")
	}
	for _, date := range [...]numericDate{claims.IssuedAt, claims.NotBefore} {
		at := time.Unix(int64(date), 0)
		if at.After(in.Now.Add(Skew)) {
			return Use{}, Refuse(InvalidClient, "The client assertion is not valid yet: iat or nbf is in the future.")
		}
		if at.After(issued) {
			issued = at
		}
	}
	issued = issued.Add(-Skew)
	if issued.Before(in.RememberedSince) {
		return Use{}, Refuse(InvalidClient, "The client assertion is older than the memory of used ones. Make a new one.")
	}
	return Use{Hash: useHash("client_assertion", c.ID, claims.ID), ExpiresAt: expires, IssuedAt: issued}, nil
}

// acceptsAudience compares strings as they are (RFC 7519 §4.1.3): URLs are not normalised.
func (c *Client) acceptsAudience(aud audience, in AssertionContext) bool {
	if c.profile.AssertionAudience == IssuerOnly {
		return !aud.array && len(aud.values) == 1 && aud.values[0] == in.Issuer && in.Issuer != ""
	}
	return slices.ContainsFunc(aud.values, func(value string) bool {
		return value != "" && (value == in.Issuer || slices.Contains(in.Endpoints, value))
	})
}

// SecretHash is what is stored of a client secret. Secrets are random and long, so that a fast hash suffices.
func SecretHash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// SecretMatches compares in constant time.
func SecretMatches(hash []byte, secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(hash, sum[:]) == 1
}
