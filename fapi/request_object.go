package fapi

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	strict "github.com/go-jose/go-jose/v4/json"
)

const (
	maxRequestObject          = 32 << 10
	maxEncryptedRequestObject = 48 << 10 // base64 of one that is signed, and what is around it
	maxRequestURI             = 512      // RFC 9101 §5.2
)

// MaxRequestObject is how many bytes a request object has at most, signed and encrypted.
const MaxRequestObject = maxEncryptedRequestObject

// requestObjectTypes are the typ that a request object may have. Any other is that of a JWT made for another purpose
// (RFC 9101 §10.8).
var requestObjectTypes = []string{"", "jwt", "oauth-authz-req+jwt"}

// RequestObjectContext is what a request object is checked against.
type RequestObjectContext struct {
	Issuer                  string
	Now                     time.Time
	RememberedSince         time.Time                                     // of a CIBA request: its jti is used once, and the memory of used ones begins here
	AtAuthorizationEndpoint bool                                          // else the request was pushed, and the client has authenticated
	Decrypt                 func(*jose.JSONWebEncryption) ([]byte, error) // with a key of this server; nil: none is encrypted
}

// requestObjectClaims are what a request object says about itself, and whose request it is.
type requestObjectClaims struct {
	Issuer    string      `json:"iss"`
	Subject   string      `json:"sub"`
	Audience  audience    `json:"aud"`
	ExpiresAt numericDate `json:"exp"`
	NotBefore numericDate `json:"nbf"`
	IssuedAt  numericDate `json:"iat"`
	ClientID  string      `json:"client_id"`
}

// ResolveRequest returns the parameters of an authorization request that count (RFC 9101 §5, §6.3): those of its request
// object and no others, or the request's own if it has no object. Credentials must be gone from params. What it returns
// with an error is where CheckRedirect finds the way back for the refusal: in the object once its signature is verified.
func (c *Client) ResolveRequest(params url.Values, in RequestObjectContext) (url.Values, error) {
	object := params.Get("request")
	if object == "" {
		if c.MustSignRequests() {
			return params, Refuse(InvalidRequest, "The client must send its authorization requests as signed request objects.")
		}
		return params, nil
	}
	if err := c.checkBesideObject(params, in); err != nil {
		return params, err
	}
	object, err := c.decryptRequestObject(object, in.Decrypt)
	if err != nil {
		return params, err
	}
	payload, err := c.verifyRequestObject(object)
	if err != nil {
		return params, err
	}
	signed, err := objectParameters(payload)
	if err != nil {
		return params, Refuse(InvalidRequestObject, "The claims of the request object cannot be read.").Because(err)
	}
	if err := c.checkRequestObject(payload, in); err != nil {
		return signed, err
	}
	switch {
	case signed.Has("request") || signed.Has("request_uri"): // RFC 9101 §4
		return signed, Refuse(InvalidRequestObject, "A request object must hold neither request nor request_uri.")
	case in.AtAuthorizationEndpoint && params.Get("response_type") != "" && responseType(params.Get("response_type")) != responseType(signed.Get("response_type")):
		return signed, Refuse(InvalidRequest, "The response_type is not the one in the request object.") // OpenID Connect Core §6.1
	case signed.Get("redirect_uri") == "":
		return signed, Refuse(InvalidRequestObject, "The request object has no redirect_uri.")
	case signed.Get("scope") == "" && signed.Get("authorization_details") == "":
		return signed, Refuse(InvalidRequestObject, "The request object has no scope.")
	}
	return signed, nil
}

// checkBesideObject checks what stands beside a request object: of it, only the client_id means anything.
func (c *Client) checkBesideObject(params url.Values, in RequestObjectContext) error {
	if err := CheckParameters(params); err != nil {
		return err
	}
	if params.Get("request_uri") != "" { // RFC 9101 §5
		return Refuse(InvalidRequest, "A request has either a request object or a request_uri.")
	}
	if id := params.Get("client_id"); id != c.ID && (id != "" || in.AtAuthorizationEndpoint) { // RFC 9101 §5, RFC 9126 §3
		return Refuse(InvalidRequest, "The client_id is missing or is not that of the client.")
	}
	return nil
}

// CheckRequestURI tells whether a request object may be fetched from an address that the client sent (RFC 9101 §5.2,
// OpenID Connect Core §6.2): one that it registered. What is fetched counts as if the client had sent it by value.
//
// A fragment is no part of the comparison, and not sent. It says only that what somebody may have kept is no longer the
// same; here nothing is kept, and what is fetched is signed.
func (c *Client) CheckRequestURI(uri string) error {
	if !c.profile.RequestURI || len(c.RequestURIs) == 0 {
		return Refuse(RequestURINotSupported, "The client has not registered request_uris, or its profile does not allow them.")
	}
	without := func(uri string) string { uri, _, _ = strings.Cut(uri, "#"); return uri }
	if len(uri) > maxRequestURI || !slices.ContainsFunc(c.RequestURIs, func(registered string) bool { return without(registered) == without(uri) }) {
		return Refuse(InvalidRequestURI, "The request_uri is not one that the client registered, or is too long.")
	}
	return nil
}

// decryptRequestObject returns the signed object within an encrypted one (RFC 9101 §6.1), or the object itself. A client
// that registered how it encrypts must encrypt so.
func (c *Client) decryptRequestObject(object string, decrypt func(*jose.JSONWebEncryption) ([]byte, error)) (string, error) {
	if strings.Count(object, ".") != 4 {
		if c.RequestObjectEncryptionAlg != "" {
			return "", Refuse(InvalidRequestObject, "The client must encrypt its request objects.")
		}
		return object, nil
	}
	algs, encs := KeyAlgorithms, ContentEncryptions
	if c.RequestObjectEncryptionAlg != "" {
		algs, encs = []jose.KeyAlgorithm{c.RequestObjectEncryptionAlg}, []jose.ContentEncryption{c.RequestObjectEncryptionEnc}
	}
	if decrypt == nil {
		return "", Refuse(InvalidRequestObject, "Encrypted request objects are not supported here.")
	}
	jwe, err := parseJWE(object, maxEncryptedRequestObject, algs, encs)
	if err != nil {
		return "", Refuse(InvalidRequestObject, "The request object is not a JWE with an alg and enc that are allowed to this client.").Because(err)
	}
	signed, err := decrypt(jwe)
	if err != nil {
		return "", Refuse(InvalidRequestObject, "The request object cannot be decrypted with a key of this server.").Because(err)
	}
	return string(signed), nil
}

// verifyRequestObject returns the claims of a request object that the client has signed (RFC 9101 §6.2).
func (c *Client) verifyRequestObject(object string) ([]byte, error) {
	jws, header, err := parseJWS(object, maxRequestObject, c.aux.requestObjectAlgs)
	if err != nil {
		return nil, Refuse(InvalidRequestObject, "The request object is not a JWT signed with an algorithm that is allowed to this client.").Because(err)
	}
	if !slices.Contains(requestObjectTypes, jwtType(header)) {
		return nil, Refuse(InvalidRequestObject, "The typ of the request object is that of another kind of JWT.")
	}
	payload, err := c.verifySignature(jws, header)
	if err != nil {
		return nil, Refuse(InvalidRequestObject, "The request object has no valid signature by a key of the client that fits its kid and alg.").Because(err)
	}
	return payload, nil
}

// objectParameters returns the claims of a request object as parameters (RFC 9101 §4). What is not a string becomes the
// JSON that the same parameter is outside of an object; null is absent.
func objectParameters(payload []byte) (url.Values, error) {
	if _, err := checkJSON(payload); err != nil {
		return nil, err
	}
	var claims map[string]json.RawMessage
	if err := json.Unmarshal(payload, &claims); err != nil {
		return nil, err
	}
	params := make(url.Values, len(claims))
	for name, value := range claims {
		switch name {
		case "iss", "sub", "aud", "exp", "nbf", "iat", "jti": // RFC 7519 §4.1: about the JWT
			continue
		}
		switch value[0] {
		case 'n': // null
		case '"':
			var text string
			if err := json.Unmarshal(value, &text); err != nil {
				return nil, err
			}
			params.Set(name, text)
		case '[', '{':
			if name == "resource" && isStrings(value) { // the only parameter that repeats (RFC 8707 §2)
				var list []string
				if err := json.Unmarshal(value, &list); err != nil {
					return nil, err
				}
				params[name] = list
				continue
			}
			var text bytes.Buffer
			if err := json.Compact(&text, value); err != nil {
				return nil, err
			}
			params.Set(name, text.String())
		default:
			params.Set(name, string(value))
		}
	}
	return params, nil
}

// checkRequestObject checks whose request object it is, for whom and when (RFC 9101 §4, FAPI 2.0 Message Signing §5.3.1).
func (c *Client) checkRequestObject(payload []byte, in RequestObjectContext) error {
	var claims requestObjectClaims
	if err := strict.Unmarshal(payload, &claims); err != nil {
		return Refuse(InvalidRequestObject, "The claims of the request object cannot be read.").Because(err)
	}
	demanding := c.profile.RequestObjectMaxAge > 0
	switch aud := claims.Audience; {
	case claims.ClientID != c.ID:
		return Refuse(InvalidRequestObject, "The client_id of the request object is missing or is not that of the client.")
	case claims.Issuer != c.ID && (claims.Issuer != "" || demanding):
		return Refuse(InvalidRequestObject, "The iss of the request object must be the client_id.")
	case claims.Subject == c.ID: // RFC 9101 §10.8: so that no object is a client assertion, nor the other way round
		return Refuse(InvalidRequestObject, "The sub of a request object must not be the client_id.")
	case (in.Issuer == "" || !slices.Contains(aud.values, in.Issuer)) && (aud.values != nil || demanding):
		return Refuse(InvalidRequestObject, "The aud of the request object must be the issuer of this server.")
	}
	return c.checkObjectDates(&claims, in.Now)
}

func (c *Client) checkObjectDates(claims *requestObjectClaims, now time.Time) error {
	notBefore, expires, issued := time.Unix(int64(claims.NotBefore), 0), time.Unix(int64(claims.ExpiresAt), 0), time.Unix(int64(claims.IssuedAt), 0)
	maxAge := c.profile.RequestObjectMaxAge
	switch {
	case claims.ExpiresAt != 0 && !now.Before(expires.Add(Skew)):
		return Refuse(InvalidRequestObject, "The request object has expired.")
	case notBefore.After(now.Add(Skew)) || issued.After(now.Add(Skew)):
		return Refuse(InvalidRequestObject, "The request object is not valid yet: nbf or iat is in the future.")
	case maxAge == 0:
		return nil
	case claims.NotBefore == 0 || claims.ExpiresAt == 0:
		return Refuse(InvalidRequestObject, "The request object needs nbf and exp.")
	case expires.Sub(notBefore) > maxAge:
		return Refuse(InvalidRequestObject, "The exp of the request object is too long after its nbf.")
	case now.Sub(notBefore) > maxAge:
		return Refuse(InvalidRequestObject, "The nbf of the request object is too long ago.")
	}
	return nil
}
