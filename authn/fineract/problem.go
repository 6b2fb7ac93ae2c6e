package fineract

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// problem is a refusal. Texts are fixed, or of a parameter that the caller named.
type problem struct {
	status int
	body   any
	header http.Header
}

func (p *problem) Error() string { return "fineract: refused with " + strconv.Itoa(p.status) }

// described is most of Fineract's errors (ApiGlobalErrorResponse).
type described struct {
	DeveloperMessage             string           `json:"developerMessage"`
	HTTPStatusCode               string           `json:"httpStatusCode"`
	DefaultUserMessage           string           `json:"defaultUserMessage"`
	UserMessageGlobalisationCode string           `json:"userMessageGlobalisationCode"`
	Errors                       []parameterError `json:"errors"`
}

// parameterError is one of them in detail (ApiParameterError).
type parameterError struct {
	DeveloperMessage             string     `json:"developerMessage"`
	DefaultUserMessage           string     `json:"defaultUserMessage"`
	UserMessageGlobalisationCode string     `json:"userMessageGlobalisationCode"`
	ParameterName                string     `json:"parameterName"`
	Args                         []argument `json:"args"`
}

type argument struct {
	Value any `json:"value"`
}

// plain is what Fineract answers before its own code runs.
type plain struct {
	Timestamp string `json:"timestamp"`
	Status    int    `json:"status"`
	Error     string `json:"error"`
	Path      string `json:"path,omitempty"`
}

func parameter(code, text, name string, args ...any) parameterError {
	e := parameterError{text, text, code, name, []argument{}}
	for _, a := range args {
		e.Args = append(e.Args, argument{a})
	}
	return e
}

func explain(status int, code, developer, user string, errs []parameterError) *problem {
	return &problem{status: status, body: described{developer, strconv.Itoa(status), user, code, errs}}
}

// rule is a refusal by a domain rule.
func rule(code, text string) *problem {
	return explain(http.StatusForbidden, "validation.msg.domain.rule.violation", "Request was understood but caused a domain rule violation.",
		"Errors contain reason for domain rule violation.", []parameterError{parameter(code, text, "id")})
}

// invalid is a refusal of what a body holds.
func invalid(errs ...parameterError) *problem {
	return explain(http.StatusBadRequest, "validation.msg.validation.errors.exist",
		"The request was invalid. This typically will happen due to validation errors which are provided.", "Validation errors exist.", errs)
}

func notAuthorized(text string) *problem {
	const code = "error.msg.not.authorized"
	return explain(http.StatusForbidden, code,
		"The user associated with credentials passed on this request does not have sufficient privileges to perform this action.",
		"Insufficient privileges to perform this action.", []parameterError{parameter(code, text, "id")})
}

func unavailable(text string) *problem {
	p := explain(http.StatusServiceUnavailable, "error.msg.platform.service.unavailable", text, text, nil)
	p.header = http.Header{"Retry-After": {"5"}}
	return p
}

var (
	errNotAuthenticated = explain(http.StatusUnauthorized, "error.msg.not.authenticated",
		"Invalid authentication details were passed in api request.", "Unauthenticated. Please login.", nil)
	errDelivery    = rule("error.msg.twofactor.otp.delivery.invalid", "The requested OTP delivery method is not supported or not currently unavailable.")
	errOTP         = rule("error.msg.twofactor.otp.token.invalid", "The provided one time token is invalid")
	errAccessToken = rule("error.msg.twofactor.access.token.invalid", "The provided access token is invalid")
	errTooMany     = rule("error.msg.twofactor.otp.requests.exceeded", "Too many one time tokens were requested. Please try again later.") // ours
	errBody        = &problem{status: http.StatusBadRequest, body: parameter("error.msg.invalid.request.body",
		"The JSON provided in the body of the request is invalid or missing.", "id")}
	errInsufficient = &problem{status: http.StatusForbidden, header: http.Header{"Www-Authenticate": {`Bearer error="insufficient_scope"`}}}
	errBusy         = unavailable("Too many passwords wait to be checked. Please try again soon.")
	errOurs         = explain(http.StatusInternalServerError, "error.msg.platform.server.side.error", "An unexpected error occured on the platform server.",
		"An unexpected error occured on the platform server.", nil)
)

// sent is an error that Fineract leaves to the container it runs in.
func (c *call) sent(status int, challenge string) *problem {
	p := &problem{status: status, body: plain{c.api.now().UTC().Format("2006-01-02T15:04:05.000-07:00"), status, http.StatusText(status), c.path}}
	if challenge != "" {
		p.header = http.Header{"Www-Authenticate": {`Basic realm="` + challenge + `"`}}
	}
	return p
}

// realms of challenges.
const (
	realm          = "Fineract Platform API"
	realmTwoFactor = "Fineract Platform API Two Factor"
)

// problemOf is what the outside is told of an error: one that is no refusal is our fault, and says no more.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	return errOurs
}

// milliseconds is how Fineract writes times.
func milliseconds(t time.Time) int64 { return t.UnixMilli() }
