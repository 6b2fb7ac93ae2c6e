package resource

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// verify checks a JWT access token (RFC 9068 §4) up to its claims, which claims.check judges. Any error but errBadToken
// means that the keys could not be had.
func (g *Guard) verify(ctx context.Context, token string) (*claims, error) {
	payload, err := g.verifyJWT(ctx, token, "at+jwt")
	if err != nil {
		return nil, err
	}
	c, err := parseClaims(payload)
	if err != nil {
		return nil, errBadToken.Because(fmt.Errorf("the claims cannot be read: %w", err))
	}
	if c.IssuedAt == 0 || c.TokenID == "" { // RFC 9068 §2.2; claims.check asks for the others
		return nil, errBadToken.Because(errors.New("iat or jti is missing"))
	}
	return c, nil
}

// verifyJWT returns the claims of a JWT of that type, if the authorization server has signed it. Any error but errBadToken
// means that the keys could not be had.
func (g *Guard) verifyJWT(ctx context.Context, token, want string) ([]byte, error) {
	bad := func(format string, args ...any) error { return errBadToken.Because(fmt.Errorf(format, args...)) }
	jws, err := jose.ParseSignedCompact(token, g.config.Algorithms)
	if err != nil {
		return nil, bad("not a JWT signed with an algorithm that is allowed here: %w", err)
	}
	header := jws.Signatures[0].Protected
	if _, ok := header.ExtraHeaders["crit"]; ok { // RFC 7515 §4.1.11; go-jose knows b64 (RFC 7797), which no JWT may have
		return nil, bad("crit is not supported")
	}
	// An ID token, a request object or an introspection answer is no access token (RFC 9068 §4, RFC 8725 §3.11).
	typ, _ := header.ExtraHeaders[jose.HeaderType].(string)
	if strings.TrimPrefix(strings.ToLower(typ), "application/") != want { // RFC 7515 §4.1.9
		return nil, bad("typ is %q", typ)
	}
	if header.KeyID == "" {
		return nil, bad("kid is missing")
	}
	key, err := g.keys.find(ctx, header.KeyID)
	switch {
	case errors.Is(err, errUnknownKey):
		return nil, bad("kid %q: %w", header.KeyID, err)
	case err != nil:
		return nil, err
	case !verifies(key, jose.SignatureAlgorithm(header.Algorithm)):
		return nil, bad("the key %q is not for %s", header.KeyID, header.Algorithm)
	}
	payload, err := jws.Verify(key.Key)
	if err != nil {
		return nil, bad("the signature is not valid: %w", err)
	}
	return payload, nil
}
