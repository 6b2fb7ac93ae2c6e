package authz

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/web"
)

// answerLifetime is how long a signed answer may be taken: JARM §2.1 recommends 10 minutes at most.
const answerLifetime = 5 * time.Minute

func redirectOf(q *fapi.AuthorizationRequest) *fapi.Redirect {
	return &fapi.Redirect{URI: q.RedirectURI, ResponseType: q.ResponseType, ResponseMode: q.ResponseMode, State: q.State}
}

// redirectError sends a refusal to the client (RFC 6749 §4.1.2.1). That there is a Redirect says that its URI was
// checked.
func (s *Server) redirectError(w http.ResponseWriter, r *http.Request, c *fapi.Client, to *fapi.Redirect, err error) {
	refused := refusal(err)
	s.logRefusal(r, nil, refused)
	s.respond(w, r, c, to, url.Values{"error": {string(refused.Code)}, "error_description": {refused.Description}})
}

// respond sends an authorization response in its response mode, with the state and the issuer (RFC 9207 §2). What cannot
// be signed or encrypted as the client wants it is not sent.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, c *fapi.Client, to *fapi.Redirect, params url.Values) {
	params.Set("iss", s.Issuer)
	if to.State != "" {
		params.Set("state", to.State)
	}
	mode := to.ResponseMode
	if fapi.Signed(mode) {
		answer, err := s.signedAnswer(c, params)
		if err != nil {
			s.errorPage(w, r, fmt.Errorf("authorization response: %w", err))
			return
		}
		mode, params = strings.TrimSuffix(mode, ".jwt"), url.Values{"response": {answer}}
	}
	s.deliver(w, mode, to.URI, params)
}

// signedAnswer puts all parameters into one JWT (JARM §2.1), encrypted if the client registered so (§2.2).
func (s *Server) signedAnswer(c *fapi.Client, params url.Values) (string, error) {
	claims := make(map[string]any, len(params)+2)
	for name, values := range params {
		claims[name] = values[0]
	}
	claims["aud"], claims["exp"] = c.ID, s.now().Add(answerLifetime).Unix()
	signed, err := s.keys.Sign(c.AuthorizationSignedResponseAlg, keys.TypeResponse, claims)
	if err != nil {
		return "", err
	}
	return c.EncryptJWT(c.AuthorizationEncryptedResponseAlg, c.AuthorizationEncryptedResponseEnc, signed)
}

// deliver sends parameters by way of the browser, which comes from a page where the customer may have typed a password:
// 303 makes it forget the form (RFC 9700 §4.12).
func (s *Server) deliver(w http.ResponseWriter, mode, uri string, params url.Values) {
	separator := "?"
	switch {
	case mode == "form_post": // OAuth 2.0 Form Post Response Mode
		fields := make([]web.Field, 0, len(params))
		for name, values := range params {
			fields = append(fields, web.Field{Name: name, Value: values[0]})
		}
		slices.SortFunc(fields, func(a, b web.Field) int { return strings.Compare(a.Name, b.Name) })
		s.rendered(s.pages.FormPost(w, web.FormPost{Action: uri, Params: fields}))
		return
	case mode == "fragment":
		separator = "#"
	case strings.Contains(uri, "?"):
		separator = "&"
	}
	noStore(w.Header())
	w.Header().Set("Location", uri+separator+strings.ReplaceAll(params.Encode(), "+", "%20")) // scripts that read a fragment may not know +
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
