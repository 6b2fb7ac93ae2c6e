package fapi

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// DeliveryMode is how a CIBA client learns the outcome of its request (CIBA Core §5).
type DeliveryMode string

const (
	Poll DeliveryMode = "poll" // it asks at the token endpoint
	Ping DeliveryMode = "ping" // it is told when to ask
	Push DeliveryMode = "push" // it is sent the tokens
)

const (
	maxBindingMessage    = 64       // characters: what fits a small screen, and is compared rather than read
	maxMarks             = 4        // on one letter; no script needs more
	maxUserCode          = 64       // bytes
	minNotificationToken = 22       // characters of base64 for 128 bits (CIBA Core §7.1)
	maxNotificationToken = 1024     // CIBA Core §7.1
	maxHint              = 16 << 10 // bytes; a token is a JWT
)

// Notifies tells whether the client is told of the outcome, rather than asking for it.
func (m DeliveryMode) Notifies() bool { return m == Ping || m == Push }

// Hint says which customer a CIBA request is about, in one of three ways (CIBA Core §7.1).
type Hint struct {
	Parameter string // login_hint, login_hint_token or id_token_hint
	Value     string
}

// BackchannelRequest is a CIBA request that may be granted, if the customer agrees.
type BackchannelRequest struct {
	AuthorizationRequest
	Hint     Hint
	UserCode string        // the customer's secret; "" for none. It must not be stored
	Expiry   time.Duration // requested_expiry; 0 for none
}

var (
	hintParameters = []string{"login_hint", "login_hint_token", "id_token_hint"}

	// ownParameters have limits and errors of their own here; and CIBA has no prompt.
	ownParameters = append([]string{"client_notification_token", "binding_message", "user_code", "prompt"}, hintParameters...)
)

// CheckBackchannelRequest checks the parameters of a CIBA request (CIBA Core §7.1). What they ask of the customer is read as in
// any authorization request; what belongs to a redirect is ignored.
func (c *Client) CheckBackchannelRequest(params url.Values, types map[string]DetailType) (*BackchannelRequest, error) {
	if err := CheckParameters(params); err != nil {
		return nil, err
	}
	common := maps.Clone(params)
	maps.DeleteFunc(common, func(name string, _ []string) bool { return slices.Contains(ownParameters, name) })
	if params.Get("client_id") == "" { // whoever authenticates need not say who they are
		common.Set("client_id", c.ID)
	}
	q, err := c.checkPolledRequest(common, types)
	if err != nil {
		return nil, err
	}
	b := &BackchannelRequest{AuthorizationRequest: *q}
	b.DeliveryMode = c.BackchannelTokenDeliveryMode
	for _, read := range [...]func(url.Values) error{
		b.checkScope,
		b.readHint,
		b.readIntent,
		b.readBindingMessage,
		func(url.Values) error { return b.checkContext(c) },
		b.readNotificationToken,
		b.readExpiry,
		func(params url.Values) error { return b.readUserCode(params, c) },
	} {
		if err := read(params); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *BackchannelRequest) checkScope(url.Values) error {
	if !slices.Contains(b.Scopes, "openid") {
		return Refuse(InvalidScope, "The scope must have openid.")
	}
	return nil
}

// readHint finds the one hint that a request must have (CIBA Core §7.1).
func (b *BackchannelRequest) readHint(params url.Values) error {
	named := slices.DeleteFunc(slices.Clone(hintParameters), func(name string) bool { return params.Get(name) == "" })
	if len(named) != 1 {
		return Refuse(InvalidRequest, "The request must have exactly one of login_hint, login_hint_token and id_token_hint.")
	}
	b.Hint = Hint{named[0], params.Get(named[0])}
	if len(b.Hint.Value) > maxHint || hasControls(b.Hint.Value) {
		return Refuse(InvalidRequest, "The hint is too long or holds control characters.")
	}
	return nil
}

// readIntent reads the consent that the request is about where UK Open Banking has it in CIBA requests: beside the claims, in
// either spelling.
func (b *BackchannelRequest) readIntent(params url.Values) error {
	for _, name := range []string{"openbanking_intent_id", "openbanking-intent-id"} {
		id := params.Get(name)
		switch {
		case id == "":
		case len(id) > maxIntentID:
			return Refuse(InvalidRequest, "The openbanking_intent_id must be a string of at most 255 characters.")
		case b.IntentID != "" && b.IntentID != id:
			return Refuse(InvalidRequest, "The request names more than one openbanking_intent_id.")
		default:
			b.IntentID = id
		}
	}
	return nil
}

// readBindingMessage takes what both devices can show as it is: letters, digits, spaces and ASCII punctuation, in one line
// (CIBA Core §7.1).
func (b *BackchannelRequest) readBindingMessage(params url.Values) error {
	b.BindingMessage = params.Get("binding_message")
	if utf8.RuneCountInString(b.BindingMessage) > maxBindingMessage || strings.TrimSpace(b.BindingMessage) != b.BindingMessage || !showable(b.BindingMessage) {
		return Refuse(InvalidBindingMessage, "The binding_message must be one line of at most 64 letters, digits, spaces and ASCII punctuation.")
	}
	return nil
}

// showable tells whether a small screen shows the text as it is. Marks are part of letters in many scripts, but a pile of them
// covers what is around it; some letters and marks are not seen at all.
func showable(text string) bool {
	marks := maxMarks // none before the first letter
	for _, r := range text {
		switch {
		case unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
			return false
		case unicode.IsMark(r):
			if marks++; marks > maxMarks {
				return false
			}
		case r >= ' ' && r <= '~', unicode.In(r, unicode.Letter, unicode.Nd):
			marks = 0
		default:
			return false
		}
	}
	return true
}

// checkContext wants to know what the customer approves, where the profile does: a bare request for the same scopes could be
// anybody's (FAPI-CIBA §5.2.2-2).
func (b *BackchannelRequest) checkContext(c *Client) error {
	if c.profile.CIBAContext == Required && b.BindingMessage == "" && b.IntentID == "" && len(b.AuthorizationDetails) == 0 {
		return Refuse(InvalidRequest, "The request needs a binding_message, or authorization_details or a consent that say what it is about.")
	}
	return nil
}

func (b *BackchannelRequest) readNotificationToken(params url.Values) error {
	if !b.DeliveryMode.Notifies() {
		return nil
	}
	b.NotificationToken = params.Get("client_notification_token")
	if len(b.NotificationToken) > maxNotificationToken || !isB64Token(b.NotificationToken, minNotificationToken) {
		return Refuse(InvalidRequest, "The client_notification_token must be a bearer token (RFC 6750) of 128 bits or more and at most 1024 characters.")
	}
	return nil
}

// isB64Token tells whether s is a b64token (RFC 6750 §2.1) of so many characters or more, without its padding.
func isB64Token(s string, shortest int) bool {
	s = strings.TrimRight(s, "=")
	return len(s) >= shortest && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("-._~+/", r)
	})
}

// readExpiry reads requested_expiry, which a signed request may write as a number or as text (CIBA Core §7.1.1).
func (b *BackchannelRequest) readExpiry(params url.Values) error {
	text := params.Get("requested_expiry")
	if text == "" {
		return nil
	}
	seconds, err := strconv.ParseUint(text, 10, 31)
	if err != nil || seconds == 0 {
		return Refuse(InvalidRequest, "The requested_expiry must be a positive number of seconds.")
	}
	b.Expiry = time.Duration(seconds) * time.Second
	return nil
}

// readUserCode refuses a user_code that the client said it would not send, or that cannot be one.
func (b *BackchannelRequest) readUserCode(params url.Values, c *Client) error {
	b.UserCode = params.Get("user_code")
	switch {
	case b.UserCode != "" && !c.BackchannelUserCodeParameter:
		return Refuse(InvalidRequest, "The client has not registered backchannel_user_code_parameter.")
	case len(b.UserCode) > maxUserCode || hasControls(b.UserCode):
		return Refuse(InvalidUserCode, "The user_code is not that of the customer.")
	}
	return nil
}
