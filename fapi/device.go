package fapi

import (
	"net/url"
	"slices"
	"strings"
)

// UserCodeLength is how many letters of 20 a user code has: 34 bits, which is enough when guesses are limited (RFC 8628
// §5.1, §6.1).
const (
	UserCodeLength   = 8
	UserCodeAlphabet = "BCDFGHJKLMNPQRSTVWXZ" // no vowels, so no words
)

// CheckDeviceRequest checks the parameters of a device authorization request (RFC 8628 §3.1), without those that
// authenticate. What they ask of the customer is read as in any authorization request; what belongs to a redirect is
// ignored.
func (c *Client) CheckDeviceRequest(params url.Values, types map[string]DetailType) (*AuthorizationRequest, error) {
	if !params.Has("client_id") { // whoever authenticates need not say who they are (§3.1)
		named := url.Values{"client_id": {c.ID}}
		for name, values := range params {
			named[name] = values
		}
		params = named
	}
	q, err := c.checkPolledRequest(params, types)
	if err == nil && slices.Contains(q.Prompt, "none") {
		return nil, Refuse(InvalidRequest, "The customer comes later, and must be asked: prompt cannot be none.")
	}
	return q, err
}

// checkPolledRequest checks a request whose outcome does not come back by way of the browser: the client fetches it at the
// token endpoint. Tokens are bound to what is proved there, so dpop_jkt, which ties a code to a key (RFC 9449 §10), is not
// read.
func (c *Client) checkPolledRequest(params url.Values, types map[string]DetailType) (*AuthorizationRequest, error) {
	if err := CheckParameters(params); err != nil {
		return nil, err
	}
	q := &AuthorizationRequest{ClientID: c.ID}
	for _, check := range [...]func(url.Values) error{
		c.checkShape,
		func(params url.Values) error { return q.readScope(params, c) },
		func(params url.Values) error { return q.readAuthentication(params, c) },
		q.readClaims,
		func(params url.Values) error { return q.readTargets(params, c) },
		func(params url.Values) error { return q.readDetails(params, c, types) },
		func(params url.Values) error { return q.readGrant(params, c) },
	} {
		if err := check(params); err != nil {
			return nil, err
		}
	}
	q.DPoPJKT = ""
	return q, nil
}

// Polled tells whether the client fetches the outcome at the token endpoint: no redirect brings it.
func (q *AuthorizationRequest) Polled() bool { return q.RedirectURI == "" }

// ReadUserCode reads a user code as a person types it: in either case, with or without dashes and spaces (RFC 8628
// §6.1). It returns "" for what cannot be one.
func ReadUserCode(typed string) string {
	if len(typed) > 64 {
		return ""
	}
	code := strings.Map(func(r rune) rune {
		if r == '-' || r == '‐' || r == '‑' || r == '–' || r == ' ' || r == '\u00a0' || r == '\t' {
			return -1
		}
		return r
	}, strings.ToUpper(typed))
	if len(code) != UserCodeLength || strings.Trim(code, UserCodeAlphabet) != "" {
		return ""
	}
	return code
}

// ShowUserCode writes a user code as a device shows it: WDJB-MJHT.
func ShowUserCode(code string) string {
	return code[:UserCodeLength/2] + "-" + code[UserCodeLength/2:]
}
