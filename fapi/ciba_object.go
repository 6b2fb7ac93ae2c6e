package fapi

import (
	"net/url"
	"slices"
	"strings"
	"time"

	strict "github.com/go-jose/go-jose/v4/json"
)

// maxBackchannelObjectAge is how long a signed CIBA request may live, in every profile (FAPI-CIBA §5.2.2-9): as long as that
// its jti is remembered.
const maxBackchannelObjectAge = time.Hour

var (
	errBackchannelObject    = Refuse(InvalidRequest, "The signed authentication request is not a JWT that the client has signed with a key and an algorithm that are allowed to it.")
	errBackchannelClaims    = Refuse(InvalidRequest, "The claims of the signed authentication request cannot be read.")
	errBackchannelEncrypted = Refuse(InvalidRequest, "An authentication request is signed, and not encrypted.")
)

// backchannelClaims are what a signed CIBA request says about itself (CIBA Core §7.1.1).
type backchannelClaims struct {
	Issuer    string      `json:"iss"`
	Subject   string      `json:"sub"`
	Audience  audience    `json:"aud"`
	ID        string      `json:"jti"`
	ExpiresAt numericDate `json:"exp"`
	IssuedAt  numericDate `json:"iat"`
	NotBefore numericDate `json:"nbf"`
}

// MustSignBackchannel tells whether the client's CIBA requests must be signed: its profile wants it (FAPI-CIBA §5.2.2-6),
// or it has registered how it signs.
func (c *Client) MustSignBackchannel() bool {
	return c.profile.RequestObject == Required || c.BackchannelAuthenticationRequestSigningAlg != ""
}

// signsBackchannel tells whether the client will have to sign CIBA requests.
func (c *Client) signsBackchannel() bool { return c.MayUse(GrantCIBA) && c.MustSignBackchannel() }

// ResolveBackchannelRequest returns the parameters of a CIBA request that count: those of its signed request and no others
// (CIBA Core §7.1.1), or the request's own if it is not signed. Credentials must be gone from params. The caller must make
// sure that the returned Use is the first; it is nil when nothing was signed.
func (c *Client) ResolveBackchannelRequest(params url.Values, in RequestObjectContext) (url.Values, *Use, error) {
	if params.Get("request_uri") != "" {
		return nil, nil, Refuse(InvalidRequest, "A CIBA request has no request_uri.")
	}
	if err := c.checkBesideObject(params, in); err != nil {
		return nil, nil, err
	}
	object := params.Get("request")
	if object == "" {
		if c.MustSignBackchannel() {
			return nil, nil, Refuse(InvalidRequest, "The client must sign its authentication requests.")
		}
		return params, nil, nil
	}
	for name, values := range params {
		if name != "request" && name != "client_id" && strings.Join(values, "") != "" {
			return nil, nil, Refuse(InvalidRequest, "Beside a signed authentication request there must be no other parameters.")
		}
	}
	payload, err := c.verifyBackchannelObject(object)
	if err != nil {
		return nil, nil, err
	}
	signed, err := objectParameters(payload)
	if err != nil {
		return nil, nil, errBackchannelClaims.Because(err)
	}
	var claims backchannelClaims
	if err := strict.Unmarshal(payload, &claims); err != nil {
		return nil, nil, errBackchannelClaims.Because(err)
	}
	switch {
	case signed.Has("request") || signed.Has("request_uri"):
		return nil, nil, Refuse(InvalidRequest, "A signed authentication request must hold neither request nor request_uri.")
	case signed.Has("client_id") && signed.Get("client_id") != c.ID:
		return nil, nil, Refuse(InvalidRequest, "The client_id of the signed authentication request is not that of the client.")
	}
	if err := c.checkBackchannelParties(&claims, in.Issuer); err != nil {
		return nil, nil, err
	}
	use, err := c.checkBackchannelDates(&claims, in)
	if err != nil {
		return nil, nil, err
	}
	return signed, use, nil
}

// verifyBackchannelObject returns the claims of a request that the client has signed (CIBA Core §7.1.1).
func (c *Client) verifyBackchannelObject(object string) ([]byte, error) {
	if strings.Count(object, ".") == 4 {
		return nil, errBackchannelEncrypted
	}
	jws, header, err := parseJWS(object, maxRequestObject, c.aux.backchannelAlgs)
	if err != nil {
		return nil, errBackchannelObject.Because(err)
	}
	if !slices.Contains(requestObjectTypes, jwtType(header)) {
		return nil, Refuse(InvalidRequest, "The typ of the signed authentication request is that of another kind of JWT.")
	}
	payload, err := c.verifySignature(jws, header)
	if err != nil {
		return nil, errBackchannelObject.Because(err)
	}
	return payload, nil
}

// checkBackchannelParties checks whose signed request it is, and for whom.
func (c *Client) checkBackchannelParties(claims *backchannelClaims, issuer string) error {
	switch {
	case claims.Issuer != c.ID:
		return Refuse(InvalidRequest, "The iss of the signed authentication request must be the client_id.")
	case claims.Subject == c.ID: // RFC 9101 §10.8: so that no client assertion is a request, nor the other way round
		return Refuse(InvalidRequest, "The sub of a signed authentication request must not be the client_id.")
	case issuer == "" || !slices.Contains(claims.Audience.values, issuer):
		return Refuse(InvalidRequest, "The aud of the signed authentication request must be the issuer of this server.")
	}
	return nil
}

// checkBackchannelDates checks when a signed request may be used, and that it is known when it was: all of jti, exp, nbf and
// iat must be there (CIBA Core §7.1.1).
func (c *Client) checkBackchannelDates(claims *backchannelClaims, in RequestObjectContext) (*Use, error) {
	expires, notBefore, issued := time.Unix(int64(claims.ExpiresAt), 0), time.Unix(int64(claims.NotBefore), 0), time.Unix(int64(claims.IssuedAt), 0)
	switch {
	case claims.ID == "" || len(claims.ID) > maxJTI:
		return nil, Refuse(InvalidRequest, "The signed authentication request needs a jti of at most 512 characters.")
	case claims.ExpiresAt == 0 || claims.NotBefore == 0 || claims.IssuedAt == 0:
		return nil, Refuse(InvalidRequest, "The signed authentication request needs exp, nbf and iat.")
	case !in.Now.Before(expires.Add(Skew)):
		return nil, Refuse(InvalidRequest, "The signed authentication request has expired.")
	case notBefore.After(in.Now.Add(Skew)) || issued.After(in.Now.Add(Skew)):
		return nil, Refuse(InvalidRequest, "The signed authentication request is not valid yet: nbf or iat is in the future.")
	case expires.Sub(notBefore) > maxBackchannelObjectAge:
		return nil, Refuse(InvalidRequest, "The exp of the signed authentication request is too long after its nbf.")
	case in.Now.Sub(notBefore) > maxBackchannelObjectAge:
		return nil, Refuse(InvalidRequest, "The nbf of the signed authentication request is too long ago.")
	}
	// Both say that it was not used earlier: the later one says most.
	if issued.Before(notBefore) {
		issued = notBefore
	}
	issued = issued.Add(-Skew)
	if issued.Before(in.RememberedSince) {
		return nil, Refuse(InvalidRequest, "The signed authentication request is older than the memory of used ones. Make a new one.")
	}
	return &Use{Hash: useHash("ciba", c.ID, claims.ID), ExpiresAt: expires.Add(Skew), IssuedAt: issued}, nil
}
