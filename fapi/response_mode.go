package fapi

import (
	"net/url"
	"slices"
	"strings"
)

// responseType writes a response_type with its words in the usual order: any order means the same (OAuth 2.0 Multiple
// Response Types §3).
func responseType(s string) string {
	words := strings.Fields(s)
	order := func(word string) int { return slices.Index([]string{"code", "id_token", "token"}, word) }
	slices.SortStableFunc(words, func(a, b string) int { return order(a) - order(b) })
	return strings.Join(words, " ")
}

// hasToken tells whether a response_type asks for what: code, id_token or token.
func hasToken(responseType, what string) bool {
	return slices.Contains(strings.Fields(responseType), what)
}

func withoutCode(responseType string) bool { return !hasToken(responseType, "code") }

// Signed tells whether a response mode is one of JARM's.
func Signed(mode string) bool { return strings.HasSuffix(mode, ".jwt") }

// defaultMode is where the answer goes if the request does not say: tokens keep out of queries (OAuth 2.0 Multiple
// Response Types §5).
func defaultMode(responseType string) string {
	if hasToken(responseType, "id_token") || hasToken(responseType, "token") {
		return "fragment"
	}
	return "query"
}

// signedMode is what the response mode jwt stands for (JARM §2.3.4).
func signedMode(responseType string) string { return defaultMode(responseType) + ".jwt" }

// responseMode returns the response mode of a request that asks for mode, or for none; "" when the client may not use it.
func (c *Client) responseMode(responseType, mode string) string {
	switch mode {
	case "":
		mode = defaultMode(responseType)
	case "jwt":
		mode = signedMode(responseType)
	}
	asJWT := mode == signedMode(responseType) && slices.Contains(c.ResponseModes, "jwt")
	switch {
	case !slices.Contains(c.profile.ResponseModes, mode):
	case len(c.ResponseModes) > 0 && !slices.Contains(c.ResponseModes, mode) && !asJWT: // FAPI 2.0 Message Signing §5.3.3
	case !Signed(mode) && slices.Contains(c.profile.JARMFor, responseType):
	case mode == "query" && defaultMode(responseType) == "fragment": // OAuth 2.0 Multiple Response Types §5
	case mode == "query.jwt" && defaultMode(responseType) == "fragment" && c.AuthorizationEncryptedResponseAlg == "": // JARM §2.3.1
	default:
		return mode
	}
	return ""
}

// fallbackMode is how a client is told that it may not have the response mode, or the response type, that it asked for:
// signed if it asked for that, or if what it asked for is in a request object that could not be read and it takes no other
// answers.
func (c *Client) fallbackMode(responseType string, params url.Values) string {
	mode := params.Get("response_mode")
	unread := mode == "" && (params.Get("request") != "" || params.Get("request_uri") != "")
	if mode == "jwt" || slices.Contains(signedModes, mode) || unread && c.takesOnlySigned() {
		return signedMode(responseType)
	}
	return defaultMode(responseType)
}

// takesOnlySigned tells whether the client registered no response mode but those of JARM.
func (c *Client) takesOnlySigned() bool {
	return len(c.ResponseModes) > 0 && !slices.ContainsFunc(c.ResponseModes, func(mode string) bool { return mode != "jwt" && !Signed(mode) })
}

// checkResponse checks what is to be answered, and how.
func (c *Client) checkResponse(params url.Values) error {
	rt := responseType(params.Get("response_type"))
	switch {
	case rt == "":
		return Refuse(InvalidRequest, "The response_type is missing.")
	case !slices.Contains(c.profile.ResponseTypes, rt):
		return Refuse(UnsupportedResponseType, "The response_type is not supported for this client.")
	case c.responseMode(rt, params.Get("response_mode")) == "":
		return Refuse(InvalidRequest, "The response_mode is not supported for this client and this response_type.")
	case !slices.Contains(c.ResponseTypes, rt):
		return Refuse(UnauthorizedClient, "The client did not register this response_type.")
	case hasToken(rt, "token") && c.MustBind():
		return Refuse(UnauthorizedClient, "The client's tokens are bound: none comes from the authorization endpoint, where nothing is proved.")
	}
	return nil
}
