package authn

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/countersign/countersign/web"
)

// journey is what a step carries and gives back: which pending authorization it belongs to, or which page of the customer's
// own asked for the login. The zero journey is a customer who just signs in.
type journey struct {
	clientID, requestURI string
	page                 string // one of ownPages
}

const (
	fieldClientID   = "client_id"
	fieldRequestURI = "request_uri"
	fieldNext       = "next"
	longestJourney  = 2048 // of each field
)

// ownPages are where a login may lead that no client waits for: addresses of ours and nothing after them.
var ownPages = regexp.MustCompile(`^/(approvals|invitation|login/link|self(/[a-z-]+){0,3}|transactions(/[0-9a-f-]{36})?)$`)

// ToPage, in a [Prompt], makes a login end at one of the customer's own pages.
func ToPage(page string) []web.Field { return []web.Field{{Name: fieldNext, Value: page}} }

// LoginURL is where a customer logs in who is on the way to one of their own pages.
func LoginURL(page string) string { return journey{page: page}.link("/login") }

// alone tells whether no client waits for the customer.
func (j journey) alone() bool { return j.clientID == "" }

// next is where every step ends. It is built from the fields alone, so nobody can make it lead elsewhere.
func (j journey) next() string {
	switch {
	case j.page != "":
		return j.page
	case j.alone():
		return "/consents"
	}
	return "/authorize?" + j.query()
}

func (j journey) query() string {
	if j.page != "" {
		return url.Values{fieldNext: {j.page}}.Encode()
	}
	return url.Values{fieldClientID: {j.clientID}, fieldRequestURI: {j.requestURI}}.Encode()
}

// link leads to another page of the same journey.
func (j journey) link(path string) string {
	if j == (journey{}) {
		return path
	}
	return path + "?" + j.query()
}

func (j journey) hidden(more ...web.Field) []web.Field {
	if j == (journey{}) {
		return more
	}
	if j.page != "" {
		return append(ToPage(j.page), more...)
	}
	return append([]web.Field{{Name: fieldClientID, Value: j.clientID}, {Name: fieldRequestURI, Value: j.requestURI}}, more...)
}

func journeyOf(hidden []web.Field) (j journey) {
	for _, f := range hidden {
		switch f.Name {
		case fieldClientID:
			j.clientID = f.Value
		case fieldRequestURI:
			j.requestURI = f.Value
		case fieldNext:
			j.page = f.Value
		}
	}
	return j
}

var errJourney = errors.New("authn: client_id and request_uri go together, once each, or there is a next that is a page of ours")

func readJourney(v url.Values) (journey, error) {
	j := journey{v.Get(fieldClientID), v.Get(fieldRequestURI), v.Get(fieldNext)}
	if v.Has(fieldNext) && (len(v[fieldNext]) != 1 || !ownPages.MatchString(j.page) || v.Has(fieldClientID) || v.Has(fieldRequestURI)) {
		return journey{}, errJourney
	}
	if (j.clientID == "") != (j.requestURI == "") || len(v[fieldClientID]) > 1 || len(v[fieldRequestURI]) > 1 ||
		len(j.clientID) > longestJourney || len(j.requestURI) > longestJourney {
		return journey{}, errJourney
	}
	return j, nil
}

func (a *Authn) client(ctx context.Context, j journey) *web.Client {
	if j.alone() || a.config.Client == nil {
		return nil
	}
	return a.config.Client(ctx, j.clientID, j.requestURI)
}

// largestForm is far above what the pages send.
const largestForm = 64 << 10

// readForm reads a posted form that has each of the fields once. If it cannot, it has answered with an error page.
func (a *Authn) readForm(w http.ResponseWriter, r *http.Request, fields ...string) (url.Values, journey, bool) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		a.refuse(w, r, http.StatusUnsupportedMediaType)
		return nil, journey{}, false
	}
	r.Body = http.MaxBytesReader(w, r.Body, largestForm)
	if err := r.ParseForm(); err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		a.refuse(w, r, status)
		return nil, journey{}, false
	}
	form := r.PostForm // nothing from the query: it lands in logs
	j, err := readJourney(form)
	if err != nil || slices.ContainsFunc(fields, func(f string) bool { return len(form[f]) != 1 }) {
		a.refuse(w, r, http.StatusBadRequest)
		return nil, journey{}, false
	}
	for _, values := range form {
		if slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }) {
			a.refuse(w, r, http.StatusBadRequest)
			return nil, journey{}, false
		}
	}
	return form, j, true
}

// methods are what an address answers.
type methods map[string]http.HandlerFunc

// only answers other methods with an error page, and HEAD like GET.
func (a *Authn) only(m methods) http.Handler {
	var allow []string
	for method := range m {
		allow = append(allow, method)
	}
	if m[http.MethodGet] != nil {
		allow = append(allow, http.MethodHead)
	}
	slices.Sort(allow)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		handle, ok := m[method]
		if !ok {
			w.Header().Set("Allow", strings.Join(allow, ", "))
			a.refuse(w, r, http.StatusMethodNotAllowed)
			return
		}
		handle(w, r)
	})
}

// goOn ends a step.
func (a *Authn) goOn(w http.ResponseWriter, r *http.Request, to string) {
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// refuse answers what no page of ours sends.
func (a *Authn) refuse(w http.ResponseWriter, r *http.Request, status int) {
	a.shown(r, a.pages.Error(w, status, web.Error{Code: "invalid_request"}))
}

// busyFor is when those who were turned away may try again.
const busyFor = 5 * time.Second

// fail answers when we are at fault.
func (a *Authn) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, ErrBusy) {
		a.refused("password", "busy")
		w.Header().Set("Retry-After", strconv.Itoa(int(busyFor/time.Second)))
		a.shown(r, a.pages.Error(w, http.StatusServiceUnavailable, web.Error{
			Title: a.pages.Text("error.busy.title"), Text: a.pages.Text("error.busy.text"), Code: "temporarily_unavailable",
		}))
		return
	}
	status := http.StatusInternalServerError
	if r.Context().Err() != nil {
		status = http.StatusServiceUnavailable // the visitor has left, or the server is closing
	} else {
		a.log.Error("failed", zap.String("path", r.URL.Path), zap.Error(err))
	}
	a.shown(r, a.pages.Error(w, status, web.Error{
		Title: a.pages.Text("error.server"), Text: a.pages.Text("error.internal"), Code: "server_error",
	}))
}

// shown logs that a page could not be.
func (a *Authn) shown(r *http.Request, err error) {
	if err != nil && r.Context().Err() == nil {
		a.log.Warn("page not shown", zap.String("path", r.URL.Path), zap.Error(err))
	}
}
