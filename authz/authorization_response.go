package authz

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/web"
)

func redirectOf(q *fapi.AuthorizationRequest) *fapi.Redirect {
	return &fapi.Redirect{URI: q.RedirectURI, ResponseType: q.ResponseType, ResponseMode: q.ResponseMode, State: q.State}
}

// redirectError sends a refusal to the client (RFC 6749 §4.1.2.1). That there is a Redirect says that its URI was
// checked.
func (s *Server) redirectError(w http.ResponseWriter, r *http.Request, to *fapi.Redirect, err error) {
	refused := refusal(err)
	s.logRefusal(r, nil, refused)
	params := url.Values{"error": {string(refused.Code)}, "error_description": {refused.Description}, "iss": {s.Issuer}}
	if to.State != "" {
		params.Set("state", to.State)
	}
	s.respond(w, r, to, params)
}

// respond sends an authorization response in its response mode. The browser comes from a page where the customer may
// have typed a password: 303 makes it forget the form (RFC 9700 §4.12).
func (s *Server) respond(w http.ResponseWriter, r *http.Request, to *fapi.Redirect, params url.Values) {
	if to.ResponseMode == "form_post" {
		fields := make([]web.Field, 0, len(params))
		for name, values := range params {
			fields = append(fields, web.Field{Name: name, Value: values[0]})
		}
		slices.SortFunc(fields, func(a, b web.Field) int { return strings.Compare(a.Name, b.Name) })
		s.rendered(s.pages.FormPost(w, web.FormPost{Action: to.URI, Params: fields}))
		return
	}
	separator := "?"
	if strings.Contains(to.URI, "?") {
		separator = "&"
	}
	noStore(w.Header())
	w.Header().Set("Location", to.URI+separator+params.Encode())
	w.WriteHeader(http.StatusSeeOther)
}

// errorPage tells the person what the client cannot be told.
func (s *Server) errorPage(w http.ResponseWriter, r *http.Request, err error) {
	refused := refusal(err)
	s.logRefusal(r, nil, refused)
	title := s.pages.Text("error.title")
	if refused.Status >= http.StatusInternalServerError {
		title = s.pages.Text("error.server")
	}
	s.rendered(s.pages.Error(w, refused.Status, web.Error{Title: title, Text: refused.Description, Code: string(refused.Code)}))
}

func (s *Server) rendered(err error) {
	if err != nil {
		s.log.Error("page not rendered", zap.Error(err))
	}
}
