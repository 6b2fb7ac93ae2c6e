package fapi

import (
	"errors"
	"net/http"
	"strings"
)

// Code is an error code of the OAuth error registry. It is an error itself, so that errors.Is(err, fapi.InvalidGrant)
// works on everything that was refused with it.
type Code string

func (c Code) Error() string { return string(c) }

// The codes that this server answers with.
const (
	InvalidRequest              Code = "invalid_request"               // RFC 6749 §4.1.2.1, §5.2
	InvalidClient               Code = "invalid_client"                // RFC 6749 §5.2
	InvalidGrant                Code = "invalid_grant"                 // RFC 6749 §5.2
	UnauthorizedClient          Code = "unauthorized_client"           // RFC 6749 §4.1.2.1, §5.2
	UnsupportedGrantType        Code = "unsupported_grant_type"        // RFC 6749 §5.2
	UnsupportedResponseType     Code = "unsupported_response_type"     // RFC 6749 §4.1.2.1
	InvalidScope                Code = "invalid_scope"                 // RFC 6749 §4.1.2.1, §5.2
	AccessDenied                Code = "access_denied"                 // RFC 6749 §4.1.2.1
	ServerError                 Code = "server_error"                  // RFC 6749 §4.1.2.1
	TemporarilyUnavailable      Code = "temporarily_unavailable"       // RFC 6749 §4.1.2.1
	InvalidToken                Code = "invalid_token"                 // RFC 6750 §3.1
	InsufficientScope           Code = "insufficient_scope"            // RFC 6750 §3.1
	UnsupportedTokenType        Code = "unsupported_token_type"        // RFC 7009 §2.2.1
	InvalidTarget               Code = "invalid_target"                // RFC 8707 §2
	InvalidRequestURI           Code = "invalid_request_uri"           // RFC 9101 §7
	InvalidRequestObject        Code = "invalid_request_object"        // RFC 9101 §7
	RequestNotSupported         Code = "request_not_supported"         // OpenID Connect Core §3.1.2.6
	RequestURINotSupported      Code = "request_uri_not_supported"     // OpenID Connect Core §3.1.2.6
	LoginRequired               Code = "login_required"                // OpenID Connect Core §3.1.2.6
	ConsentRequired             Code = "consent_required"              // OpenID Connect Core §3.1.2.6
	InteractionRequired         Code = "interaction_required"          // OpenID Connect Core §3.1.2.6
	InvalidAuthorizationDetails Code = "invalid_authorization_details" // RFC 9396 §5
	InvalidGrantID              Code = "invalid_grant_id"              // Grant Management for OAuth 2.0 §5.4
	InvalidDPoPProof            Code = "invalid_dpop_proof"            // RFC 9449 §5
	UseDPoPNonce                Code = "use_dpop_nonce"                // RFC 9449 §8
	AuthorizationPending        Code = "authorization_pending"         // RFC 8628 §3.5
	SlowDown                    Code = "slow_down"                     // RFC 8628 §3.5
	ExpiredToken                Code = "expired_token"                 // RFC 8628 §3.5
	UnknownUserID               Code = "unknown_user_id"               // CIBA Core §13, as the next four
	ExpiredLoginHintToken       Code = "expired_login_hint_token"
	MissingUserCode             Code = "missing_user_code"
	InvalidUserCode             Code = "invalid_user_code"
	InvalidBindingMessage       Code = "invalid_binding_message"
	TransactionFailed           Code = "transaction_failed"                // CIBA Core §12
	InvalidRedirectURI          Code = "invalid_redirect_uri"              // RFC 7591 §3.2.2
	InvalidClientMetadata       Code = "invalid_client_metadata"           // RFC 7591 §3.2.2
	InvalidSoftwareStatement    Code = "invalid_software_statement"        // RFC 7591 §3.2.2
	UnapprovedSoftwareStatement Code = "unapproved_software_statement"     // RFC 7591 §3.2.2
	UnmetAuthentication         Code = "unmet_authentication_requirements" // OpenID Connect Unmet Authentication Requirements
)

// Error is a refusal that the other side may read. Its text is ours and fixed: nothing that a request sent goes into it.
// Any other error that reaches the outside is a server_error without a text.
type Error struct {
	Code        Code
	Description string // public; only the characters that RFC 6749 §5.2 allows
	Status      int    // HTTP status of a direct answer
	cause       error  // logged, never sent
}

// Refuse makes an Error with the status that the standards give the code.
func Refuse(code Code, description string) *Error {
	return &Error{Code: code, Description: description, Status: code.status()}
}

// Because adds what the log should know. It returns a copy.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// Naming says which members of the request it is about: names that the standards have, never what was sent. It returns a copy.
func (e *Error) Naming(members ...string) *Error {
	c := *e
	c.Description = strings.TrimSuffix(e.Description, ".") + ": " + strings.Join(members, ", ") + "."
	return &c
}

// WithStatus sets another HTTP status. It returns a copy.
func (e *Error) WithStatus(status int) *Error {
	c := *e
	c.Status = status
	return &c
}

func (e *Error) Error() string {
	text := string(e.Code) + ": " + e.Description
	if e.cause != nil {
		text += " (" + e.cause.Error() + ")"
	}
	return text
}

func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is(err, InvalidGrant) true for every refusal with that code.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code == e.Code
}

// AsError returns the refusal in err, or a server_error that keeps err as its cause.
func AsError(err error) *Error {
	var refused *Error
	if errors.As(err, &refused) {
		return refused
	}
	return Refuse(ServerError, "The server could not answer the request.").Because(err)
}

func (c Code) status() int {
	switch c {
	case InvalidClient, InvalidToken:
		return http.StatusUnauthorized
	case InsufficientScope:
		return http.StatusForbidden
	case ServerError:
		return http.StatusInternalServerError
	case TemporarilyUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}
