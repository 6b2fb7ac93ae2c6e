package consent

import (
	"encoding/json"
	"net/http"

	"github.com/google/uuid"
)

// Error codes of UK Open Banking 3.1 (OBErrorResponseError1Code).
const (
	fieldExpected         = "UK.OBIE.Field.Expected"
	fieldInvalid          = "UK.OBIE.Field.Invalid"
	fieldInvalidDate      = "UK.OBIE.Field.InvalidDate"
	fieldMissing          = "UK.OBIE.Field.Missing"
	fieldUnexpected       = "UK.OBIE.Field.Unexpected"
	headerInvalid         = "UK.OBIE.Header.Invalid"
	resourceInvalidFormat = "UK.OBIE.Resource.InvalidFormat"
	resourceNotFound      = "UK.OBIE.Resource.NotFound"
	unexpectedError       = "UK.OBIE.UnexpectedError"

	// The standard has one code for 403, which asks for re-authentication. The enumeration is open to codes of one's own.
	notAllowed = "Countersign.Forbidden"
)

// problem is one thing that is wrong with a request. Its message is ours and fixed; its path is made of the standard's
// names, and of a member's name only where that name is harmless.
type problem struct {
	ErrorCode string `json:"ErrorCode"`
	Message   string `json:"Message"`
	Path      string `json:"Path,omitempty"`
}

// refusal is what the API says no with. Without problems it has no body, as the standard wants for 401, 404, 405, 406,
// 413, 415 and 429.
type refusal struct {
	status   int
	problems []problem
}

func (e *refusal) Error() string {
	text := http.StatusText(e.status)
	for _, p := range e.problems {
		text += "; " + p.ErrorCode + " " + p.Path
	}
	return text
}

func refuse(problems ...problem) *refusal {
	return &refusal{http.StatusBadRequest, problems}
}

func forbidden(message string) *refusal {
	return &refusal{http.StatusForbidden, []problem{{notAllowed, message, ""}}}
}

func unexpected() *refusal {
	return &refusal{http.StatusInternalServerError, []problem{{unexpectedError, "The server could not answer the request.", ""}}}
}

// errorResponse is OBErrorResponse1.
type errorResponse struct {
	Code    string    `json:"Code"`
	ID      string    `json:"Id"`
	Message string    `json:"Message"`
	Errors  []problem `json:"Errors"`
}

var errorTitles = map[int][2]string{
	http.StatusBadRequest:          {"400 BadRequest", "The request was refused."},
	http.StatusForbidden:           {"403 Forbidden", "The caller may not do this."},
	http.StatusInternalServerError: {"500 InternalServerError", "The request failed."},
}

// response names the error by the interaction id, which the logs of both sides know.
func (e *refusal) response(interactionID string) errorResponse {
	if interactionID == "" {
		interactionID = uuid.NewString()
	}
	title := errorTitles[e.status]
	return errorResponse{Code: title[0], ID: interactionID, Message: title[1], Errors: e.problems}
}

// write is the only place where a body leaves the API.
func (c *Consents) write(w http.ResponseWriter, r *http.Request, a answer) {
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	body, err := json.Marshal(a.body)
	if err != nil { // only if a response type cannot be encoded at all
		c.o.Failed(r, err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // the caller has gone: nobody to tell
}
