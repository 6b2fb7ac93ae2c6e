package fapi

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxParameters     = 64
	maxParametersSize = 32 << 10
	maxRedirectURI    = 2048
	maxState          = 4096
	maxNonce          = 1024 // FAPI 2.0 §5.3.2.2 wants 64 supported
	maxOtherParameter = 8 << 10
)

// CheckParameters refuses what no endpoint should have to think about: parameters that are there twice (RFC 6749 §3.1,
// but resource and audience may be: RFC 8707 §2, RFC 8693 §2.1), too many or too long ones, and what is no text.
func CheckParameters(params url.Values) error {
	if len(params) > maxParameters {
		return Refuse(InvalidRequest, "The request has too many parameters.")
	}
	size := 0
	for name, values := range params {
		if len(values) > 1 && name != "resource" && name != "audience" {
			return Refuse(InvalidRequest, "A parameter is there more than once.").Because(fmt.Errorf("parameter %q", name))
		}
		size += len(name)
		for _, value := range values {
			if name != "request" { // a request object has a limit of its own
				size += len(name) + len(value)
			}
			if !isText(value) {
				return Refuse(InvalidRequest, "A parameter is not UTF-8 text.").Because(fmt.Errorf("parameter %q", name))
			}
		}
		if !isText(name) {
			return Refuse(InvalidRequest, "The name of a parameter is not UTF-8 text.")
		}
	}
	if size > maxParametersSize {
		return Refuse(InvalidRequest, "The request is too long.")
	}
	return nil
}

func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
}

func hasControls(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }

// Redirect is where the answer to an authorization request may be sent. There is one only when the client registered
// its URI: a refusal without Redirect is shown to the browser and goes nowhere.
type Redirect struct {
	URI          string
	ResponseType string // as asked for, in the usual order; it may yet be refused
	ResponseMode string // as asked for if the client may, else the default; jwt is resolved
	State        string // "" when absent, or not fit to be sent back
}

// CheckRedirect finds out where an answer may go. It looks at nothing else.
func (c *Client) CheckRedirect(params url.Values) (*Redirect, error) {
	if len(params["redirect_uri"]) > 1 || len(params["state"]) > 1 || len(params["response_mode"]) > 1 {
		return nil, Refuse(InvalidRequest, "A parameter is there more than once.")
	}
	uri := params.Get("redirect_uri")
	if uri == "" {
		return nil, Refuse(InvalidRequest, "The redirect_uri is missing.")
	}
	if len(uri) > maxRedirectURI || !c.HasRedirectURI(uri) {
		return nil, Refuse(InvalidRequest, "The redirect_uri is not one that the client registered.")
	}
	r := &Redirect{URI: uri, ResponseType: responseType(params.Get("response_type")), State: params.Get("state")}
	r.ResponseMode = c.responseMode(r.ResponseType, params.Get("response_mode"))
	if r.ResponseMode == "" {
		r.ResponseMode = c.fallbackMode(r.ResponseType, params)
	}
	if checkState(r.State) != nil {
		r.State = ""
	}
	return r, nil
}

func checkState(state string) error {
	if len(state) > maxState || !isText(state) || hasControls(state) {
		return Refuse(InvalidRequest, "The state is too long or holds control characters.")
	}
	return nil
}

// AuthorizationRequest is an authorization request that may be granted, if the customer agrees. Parameters that were
// absent, or empty (RFC 6749 §3.1), are absent here.
type AuthorizationRequest struct {
	ClientID      string   `json:"client_id"`
	RedirectURI   string   `json:"redirect_uri"`
	ResponseType  string   `json:"response_type"`
	ResponseMode  string   `json:"response_mode"` // the default is filled in
	State         string   `json:"state,omitempty"`
	Nonce         string   `json:"nonce,omitempty"`
	Scopes        []string `json:"scope,omitempty"` // in the order asked for, each once; only what the client may have
	CodeChallenge string   `json:"code_challenge,omitempty"`

	Prompt       []string       `json:"prompt,omitempty"` // only values that OpenID Connect Core §3.1.2.1 knows
	MaxAge       *int64         `json:"max_age,omitempty"`
	ACRValues    []string       `json:"acr_values,omitempty"`    // in order of preference, none of them a must
	ACREssential []string       `json:"acr_essential,omitempty"` // one of them is a must (OpenID Connect Core §5.5.1.1)
	LoginHint    string         `json:"login_hint,omitempty"`
	IDTokenHint  string         `json:"id_token_hint,omitempty"`
	UILocales    string         `json:"ui_locales,omitempty"`
	Display      string         `json:"display,omitempty"`
	Claims       *ClaimsRequest `json:"claims,omitempty"`

	AuthorizationDetails []AuthorizationDetail `json:"authorization_details,omitempty"`
	Resources            []string              `json:"resource,omitempty"`
	DPoPJKT              string                `json:"dpop_jkt,omitempty"`
	IntentID             string                `json:"openbanking_intent_id,omitempty"` // from claims
	UserCode             string                `json:"user_code,omitempty"`             // on the screen of the device that asks (RFC 8628 §3.2)
	GrantAction          string                `json:"grant_management_action,omitempty"`
	GrantID              string                `json:"grant_id,omitempty"` // with merge and replace

	// Of a CIBA request (CIBA Core §7.1).
	DeliveryMode      DeliveryMode `json:"delivery_mode,omitempty"` // "" for any other request
	BindingMessage    string       `json:"binding_message,omitempty"`
	NotificationToken string       `json:"client_notification_token,omitempty"` // with ping and push
	AuthReqID         string       `json:"auth_req_id,omitempty"`               // with ping and push, which have to say it
	Number            string       `json:"number,omitempty"`                    // two digits that the client shows, and the customer must pick
}

// CheckPushedRequest checks the parameters of a pushed request (RFC 9126 §2.1), without those that authenticate.
func (c *Client) CheckPushedRequest(params url.Values, types map[string]DetailType) (*AuthorizationRequest, error) {
	if params.Has("request_uri") {
		return nil, Refuse(InvalidRequest, "A pushed request must not have a request_uri.")
	}
	q, err := c.CheckAuthorizationRequest(params, types)
	if err == nil && c.profile.PKCE == WhenPushed && q.CodeChallenge == "" {
		return nil, errNoChallenge
	}
	return q, err
}

// CheckAuthorizationRequest checks the parameters of an authorization request. Whether its refusal may be redirected
// is what CheckRedirect says. types are those of authorization_details that the server knows.
func (c *Client) CheckAuthorizationRequest(params url.Values, types map[string]DetailType) (*AuthorizationRequest, error) {
	if err := CheckParameters(params); err != nil {
		return nil, err
	}
	redirect, err := c.CheckRedirect(params)
	if err != nil {
		return nil, err
	}
	q := &AuthorizationRequest{
		ClientID:     c.ID,
		RedirectURI:  redirect.URI,
		ResponseType: redirect.ResponseType,
		ResponseMode: redirect.ResponseMode,
		State:        redirect.State,
	}
	for _, check := range [...]func(url.Values) error{
		c.checkShape,
		c.checkResponse,
		func(params url.Values) error { return q.readPKCE(params, c) },
		func(params url.Values) error { return q.readScope(params, c) },
		func(params url.Values) error { return q.readNonce(params, c) },
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
	return q, nil
}

// checkShape refuses foreign and unsupported parameters, and values that nothing valid looks like.
func (c *Client) checkShape(params url.Values) error {
	switch {
	case params.Get("client_id") != c.ID: // REQUIRED, RFC 6749 §4.1.1
		return Refuse(InvalidRequest, "The client_id is missing or is not that of the client.")
	case params.Get("request") != "":
		return Refuse(RequestNotSupported, "A request object is not supported here.") // see ResolveRequest
	case params.Get("request_uri") != "":
		return Refuse(RequestURINotSupported, "Only a request_uri that this server issued is supported.")
	}
	if err := checkState(params.Get("state")); err != nil {
		return err
	}
	for name, values := range params {
		for _, value := range values {
			if slices.Contains([]string{"claims", "authorization_details", "client_assertion"}, name) {
				continue // they have their own limits, and JSON may be indented
			}
			if len(value) > maxOtherParameter || hasControls(value) {
				return Refuse(InvalidRequest, "A parameter is too long or holds control characters.").Because(fmt.Errorf("parameter %q", name))
			}
		}
	}
	return nil
}

var errNoChallenge = Refuse(InvalidRequest, "The code_challenge is missing.")

func (q *AuthorizationRequest) readPKCE(params url.Values, c *Client) error {
	q.CodeChallenge = params.Get("code_challenge")
	method := params.Get("code_challenge_method")
	if q.CodeChallenge != "" {
		return CheckCodeChallenge(q.CodeChallenge, method)
	}
	if c.MustPKCE() && hasToken(q.ResponseType, "code") {
		return errNoChallenge
	}
	if method != "" {
		return Refuse(InvalidRequest, "There is a code_challenge_method without a code_challenge.")
	}
	return nil
}

func (q *AuthorizationRequest) readScope(params url.Values, c *Client) error {
	for name := range strings.SplitSeq(params.Get("scope"), " ") {
		switch {
		case name == "": // more than one space does no harm
		case !validScope(name):
			return Refuse(InvalidScope, "The scope holds characters that a scope cannot have.")
		case slices.Contains(q.Scopes, name):
		case slices.Contains(c.scopes, name):
			q.Scopes = append(q.Scopes, name)
		case c.profile.UnknownScope == Required:
			return Refuse(InvalidScope, "The scope is not one that the client registered.")
		}
	}
	if len(q.Scopes) == 0 && params.Get("authorization_details") == "" {
		return Refuse(InvalidScope, "The request asks for no scope that the client may have.")
	}
	return nil
}

// fineractPermission tells whether a scope is written as Fineract writes permissions: ALL_FUNCTIONS, TWOFACTOR_AUTHENTICATED.
// It takes a token's scopes for permissions of its own, by the same name, so nobody gets one.
func fineractPermission(scope string) bool {
	return strings.Trim(scope, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" && strings.Trim(scope, "0123456789_") != ""
}

// validScope tells whether name is a scope-token (RFC 6749 §3.3).
func validScope(name string) bool {
	for i := range len(name) {
		if c := name[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return name != ""
}

// readNonce demands a nonce where a profile or an ID token from the authorization endpoint wants one (OpenID Connect Core
// §3.3.2.11); in the place of nonce, plain OAuth requests have state (FAPI 1.0 Part 1 §5.2.2.2, §5.2.2.3).
func (q *AuthorizationRequest) readNonce(params url.Values, c *Client) error {
	q.Nonce = params.Get("nonce")
	openID := slices.Contains(q.Scopes, "openid")
	switch {
	case len(q.Nonce) > maxNonce:
		return Refuse(InvalidRequest, "The nonce is too long.")
	case hasToken(q.ResponseType, "id_token") && !openID:
		return Refuse(InvalidScope, "The response_type asks for an ID token, the scope lacks openid.")
	case q.Nonce == "" && (hasToken(q.ResponseType, "id_token") || c.profile.Nonce == Required && openID):
		return Refuse(InvalidRequest, "The nonce is missing.")
	case q.State == "" && c.profile.Nonce == Required && !openID:
		return Refuse(InvalidRequest, "The state is missing.")
	}
	return nil
}

// readAuthentication reads how the customer is to be authenticated (OpenID Connect Core §3.1.2.1).
func (q *AuthorizationRequest) readAuthentication(params url.Values, c *Client) error {
	prompts := strings.Fields(params.Get("prompt"))
	if slices.Contains(prompts, "none") && len(prompts) > 1 {
		return Refuse(InvalidRequest, "The prompt none cannot be combined with others.")
	}
	for _, prompt := range prompts {
		if slices.Contains([]string{"none", "login", "consent", "select_account"}, prompt) && !slices.Contains(q.Prompt, prompt) {
			q.Prompt = append(q.Prompt, prompt)
		}
	}
	if text := params.Get("max_age"); text != "" {
		age, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return Refuse(InvalidRequest, "The max_age is not a number of seconds.")
		}
		seconds := int64(age)
		q.MaxAge = &seconds
	} else {
		q.MaxAge = c.DefaultMaxAge
	}
	for _, acr := range strings.Fields(params.Get("acr_values")) {
		if !slices.Contains(q.ACRValues, acr) {
			q.ACRValues = append(q.ACRValues, acr)
		}
	}
	if q.ACRValues == nil {
		q.ACRValues = c.DefaultACRValues
	}
	q.LoginHint = params.Get("login_hint")
	q.IDTokenHint = params.Get("id_token_hint")
	q.UILocales = params.Get("ui_locales")
	if display := params.Get("display"); slices.Contains([]string{"page", "popup", "touch", "wap"}, display) {
		q.Display = display
	}
	return nil
}

func (q *AuthorizationRequest) readClaims(params url.Values) (err error) {
	raw := params.Get("claims")
	if raw == "" {
		return nil
	}
	if q.Claims, err = ParseClaims(raw); err != nil {
		return err
	}
	if q.IntentID, err = q.Claims.intentID(); err != nil {
		return err
	}
	acr := q.Claims.IDToken["acr"]
	values, err := acr.stringsOf()
	if err != nil {
		return Refuse(InvalidRequest, "The claims parameter asks for an acr that is not a string.").Because(err)
	}
	if acr != nil && acr.Essential {
		q.ACREssential = values
	} else if len(q.ACRValues) == 0 {
		q.ACRValues = values // a voluntary claim is acr_values by another name (OpenID Connect Core §5.5.1.1)
	}
	return nil
}

func (q *AuthorizationRequest) readTargets(params url.Values, c *Client) error {
	for _, resource := range params["resource"] {
		if resource == "" {
			continue
		}
		// What was registered is an absolute URI without fragment: no other needs to be looked at (RFC 8707 §2).
		if !slices.Contains(c.Resources, resource) {
			return Refuse(InvalidTarget, "The resource is not one that the client may ask tokens for.")
		}
		if !slices.Contains(q.Resources, resource) {
			q.Resources = append(q.Resources, resource)
		}
	}
	q.DPoPJKT = params.Get("dpop_jkt")
	if q.DPoPJKT != "" && !isSHA256(q.DPoPJKT) {
		return Refuse(InvalidRequest, "The dpop_jkt must be a SHA-256 thumbprint in base64url.")
	}
	return nil
}

func (q *AuthorizationRequest) readDetails(params url.Values, c *Client, types map[string]DetailType) (err error) {
	if raw := params.Get("authorization_details"); raw != "" {
		q.AuthorizationDetails, err = ParseAuthorizationDetails(raw, types, c.AuthorizationDetailsTypes)
	}
	return err
}
