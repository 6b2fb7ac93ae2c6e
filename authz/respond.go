package authz

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"go.uber.org/zap"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// Response is an endpoint's answer.
type Response interface{ write(http.ResponseWriter) }

// jsonResponse is a body that marshals to JSON.
type jsonResponse struct {
	status int
	body   any
}

func (j jsonResponse) write(w http.ResponseWriter) { writeJSON(w, j.status, j.body) }

// emptyResponse is a status alone.
type emptyResponse struct{ status int }

func (e emptyResponse) write(w http.ResponseWriter) {
	noStore(w.Header())
	w.WriteHeader(e.status)
}

// noStore keeps answers out of caches (RFC 6749 §5.1, RFC 9126 §2.2).
func noStore(h http.Header) {
	h["Cache-Control"] = noStoreValue
	h["X-Content-Type-Options"] = noSniffValue
}

var (
	noStoreValue = []string{"no-store"}
	noSniffValue = []string{"nosniff"}
	jsonValue    = []string{"application/json"}
)

func writeJSON(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil { // our own types marshal; this is a fault of ours
		status, encoded = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	h := w.Header()
	noStore(h)
	h["Content-Type"] = jsonValue
	h["Content-Length"] = []string{strconv.Itoa(len(encoded))}
	w.WriteHeader(status)
	w.Write(encoded)
}

// errorBody is RFC 6749 §5.2.
type errorBody struct {
	Error       fapi.Code `json:"error"`
	Description string    `json:"error_description,omitempty"`
}

// refusal is what the outside is told of an error. One that is no refusal is our fault, and says no more.
func refusal(err error) *fapi.Error {
	var refused *fapi.Error
	if !errors.As(err, &refused) && storage.Unavailable(err) {
		return fapi.Refuse(fapi.TemporarilyUnavailable, "The server cannot answer just now. Please try again in a moment.").Because(err)
	}
	return fapi.AsError(err)
}

// refuse writes an error to a client and logs it: a client's fault as a warning, ours as an error.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, req *Request, err error) {
	refused := refusal(err)
	s.logRefusal(r, req, refused)
	if refused.Status == http.StatusUnauthorized && r.Header.Get("Authorization") != "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="client"`) // RFC 6749 §5.2
	}
	if refused.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, refused.Status, errorBody{refused.Code, refused.Description})
}

func (s *Server) logRefusal(r *http.Request, req *Request, refused *fapi.Error) {
	fields := []zap.Field{zap.String("path", r.URL.Path), zap.String("error", string(refused.Code)), zap.NamedError("cause", refused)}
	if req != nil && req.Client != nil {
		fields = append(fields, zap.String("client_id", req.Client.ID))
	}
	if id := r.Header.Get("x-fapi-interaction-id"); id != "" && len(id) <= 64 {
		fields = append(fields, zap.String("x-fapi-interaction-id", id))
	}
	if r.Context().Err() != nil { // nobody waits for the answer any more
		s.log.Debug("request given up", fields...)
		return
	}
	if refused.Status >= http.StatusInternalServerError {
		s.log.Error("request failed", fields...)
		return
	}
	s.log.Warn("request refused", fields...)
}
