package resource

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/countersign/countersign/fapi"
)

const retryAfter = "10" // seconds

// refuse answers a request that does not reach its handler. The body holds the code alone; what to do about it stands in
// the challenge (RFC 6750 §3).
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, p *Principal, err error) {
	refused := fapi.AsError(err)
	g.log(w, r, p, refused)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	switch refused.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		h["Www-Authenticate"] = challenges(r, refused, err)
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", retryAfter)
	}
	if refused == errNoToken { // RFC 6750 §3.1: no code for a call that brought nothing
		h.Set("Content-Length", "0")
		w.WriteHeader(refused.Status)
		return
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(refused.Status)
	fmt.Fprintf(w, `{"error":"%s"}`, refused.Code) // codes need no escaping
}

// challenges says first what was wrong, in the scheme that the call used, then which other scheme there is.
func challenges(r *http.Request, refused *fapi.Error, err error) []string {
	if refused == errNoToken {
		return []string{string(dpop) + " " + dpopAlgorithms, string(bearer)}
	}
	params := fmt.Sprintf(`error="%s", error_description="%s"`, refused.Code, refused.Description)
	var more *challenged
	if errors.As(err, &more) {
		params += ", " + more.params
	}
	used, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(used, string(dpop)) {
		return []string{string(dpop) + " " + params + ", " + dpopAlgorithms}
	}
	if refused == errNotBearer { // RFC 9449 §7.2
		return []string{string(bearer) + " " + params, string(dpop) + " " + dpopAlgorithms}
	}
	return []string{string(bearer) + " " + params}
}

// log writes one line. Paths hold account numbers: it gets the pattern that the path matched instead.
func (g *Guard) log(w http.ResponseWriter, r *http.Request, p *Principal, refused *fapi.Error) {
	level, text := slog.LevelWarn, "request refused"
	if refused.Status >= http.StatusInternalServerError && refused != errClosed && r.Context().Err() == nil {
		level, text = slog.LevelError, "request failed"
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method),
		slog.String("route", r.Pattern),
		slog.String("error", string(refused.Code)),
		slog.String("cause", refused.Error()),
		slog.String("x-fapi-interaction-id", w.Header().Get(interactionHeader)),
	}
	if p != nil {
		attrs = append(attrs, slog.String("client_id", p.ClientID))
	}
	g.config.Log.LogAttrs(r.Context(), level, text, attrs...)
}
