package consent

import (
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/countersign/countersign/fapi"
)

const (
	interactionHeader = "X-Fapi-Interaction-Id"
	maxBody           = 64 << 10
)

// endpoint answers one call. It never sees the ResponseWriter. Its refusals are *refusal; any other error is ours.
type endpoint func(r *http.Request, caller Caller) (answer, error)

type answer struct {
	status int
	body   any // nil: none
}

type methods map[string]endpoint

// api is what every call goes through, in this order: interaction id, method, token, scope, headers. Nothing about a
// consent is told before the token was checked.
func (c *Consents) api(scope string, m methods) http.Handler {
	allow := strings.Join(slices.Sorted(maps.Keys(m)), ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wellFormed := echoInteraction(w, r)
		w.Header().Set("Cache-Control", "no-store")
		call, ok := m[r.Method]
		if !ok {
			w.Header().Set("Allow", allow)
			c.refuse(w, r, &refusal{status: http.StatusMethodNotAllowed})
			return
		}
		caller, err := c.o.Authenticate(r)
		if err == nil {
			err = authorised(caller, scope)
		}
		if err != nil {
			c.refuseToken(w, r, err)
			return
		}
		var a answer
		switch {
		case !wellFormed: // banking.md A5-01
			err = refuse(problem{headerInvalid, "The header must be one UUID (RFC 4122).", "x-fapi-interaction-id"})
		case !acceptsJSON(r.Header.Values("Accept")): // A5-05
			err = &refusal{status: http.StatusNotAcceptable}
		default:
			a, err = call(r, caller)
		}
		if err != nil {
			c.refuse(w, r, err)
			return
		}
		c.write(w, r, a)
	})
}

// authorised tells whether the token is the client's own and has the scope (A1-01, A1-03). A customer's token speaks
// for the customer, who is not asked here.
func authorised(caller Caller, scope string) error {
	switch {
	case caller.CustomerID != "":
		return fapi.Refuse(fapi.InsufficientScope, "This needs a token of the client itself, got by client_credentials.")
	case !slices.Contains(caller.Scopes, scope):
		return fapi.Refuse(fapi.InsufficientScope, "The token lacks the scope "+scope+".")
	}
	return nil
}

// echoInteraction sets x-fapi-interaction-id on the response: the request's, or a new one when it has none or a
// malformed one; then it returns whether there was nothing wrong with the request's. What an outer handler has set stays.
func echoInteraction(w http.ResponseWriter, r *http.Request) (wellFormed bool) {
	sent := r.Header.Values(interactionHeader)
	wellFormed = len(sent) == 0 || len(sent) == 1 && isUUID(sent[0])
	switch {
	case w.Header().Get(interactionHeader) != "":
	case wellFormed && len(sent) == 1:
		w.Header().Set(interactionHeader, sent[0])
	default:
		w.Header().Set(interactionHeader, uuid.NewString())
	}
	return wellFormed
}

// isUUID takes the form with hyphens only; uuid.Parse alone would take three more.
func isUUID(s string) bool {
	_, err := uuid.Parse(s)
	return err == nil && len(s) == 36
}

// acceptsJSON tells whether the Accept headers take application/json (RFC 9110 §12.5.1). None takes everything.
func acceptsJSON(headers []string) bool {
	if strings.Trim(strings.Join(headers, ""), ", \t") == "" {
		return true
	}
	best, quality := -1, 0.0 // the most specific range that matches decides
	for _, part := range strings.Split(strings.Join(headers, ","), ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		specific := slices.Index([]string{"*/*", "application/*", "application/json"}, media)
		q, err := strconv.ParseFloat(params["q"], 64)
		if err != nil {
			q = 1
		}
		if specific > best || specific >= 0 && specific == best && q > quality {
			best, quality = specific, q
		}
	}
	return best >= 0 && quality > 0
}

// readJSON returns the body of a request that must be JSON (A5-05).
func readJSON(r *http.Request) ([]byte, error) {
	types := r.Header.Values("Content-Type")
	if len(types) != 1 || r.Header.Get("Content-Encoding") != "" {
		return nil, &refusal{status: http.StatusUnsupportedMediaType}
	}
	media, params, err := mime.ParseMediaType(types[0])
	if charset, given := params["charset"]; err != nil || media != "application/json" || given && !strings.EqualFold(charset, "utf-8") {
		return nil, &refusal{status: http.StatusUnsupportedMediaType}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, refuse(problem{resourceInvalidFormat, "The body could not be read.", ""})
	case len(body) > maxBody:
		return nil, &refusal{status: http.StatusRequestEntityTooLarge}
	}
	return body, nil
}

// refuseToken answers a token that will not do. A 401 has no body (A5-06).
func (c *Consents) refuseToken(w http.ResponseWriter, r *http.Request, err error) {
	e := fapi.AsError(err)
	switch {
	case e.Code == fapi.ServerError:
		c.refuse(w, r, err)
		return
	case e.Status == http.StatusForbidden:
		c.o.Challenge(w, r, err)
		c.refuse(w, r, forbidden(e.Description))
		return
	case e.Status == http.StatusUnauthorized:
		c.o.Challenge(w, r, err)
	}
	c.refuse(w, r, &refusal{status: e.Status})
}

// bearerChallenge is RFC 6750 §3: no error code for a request that brought no token.
func bearerChallenge(w http.ResponseWriter, r *http.Request, err error) {
	challenge := "Bearer"
	if r.Header.Get("Authorization") != "" {
		challenge += ` error="` + string(fapi.AsError(err).Code) + `"`
	}
	w.Header().Set("WWW-Authenticate", challenge)
}

// refuse writes a refusal, or the 500 that anything else is.
func (c *Consents) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var e *refusal
	if !errors.As(err, &e) {
		e = unexpected()
		if r.Context().Err() == nil { // else the caller has gone, and the error says only that
			c.o.Failed(r, err)
		}
	}
	if len(e.problems) == 0 {
		w.WriteHeader(e.status)
		return
	}
	c.write(w, r, answer{e.status, e.response(w.Header().Get(interactionHeader))})
}
