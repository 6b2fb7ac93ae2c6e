package fineract

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/storage"
)

// DefaultContext is where Fineract has its API.
const DefaultContext = "/fineract-provider/api/v1"

// Config of an API.
type Config struct {
	Context     string         // path before those of the API; "": there is no API
	Origins     []string       // of apps in browsers that may call it (Fetch, CORS), such as https://app.bank.example
	FullTargets bool           // show where codes go in full, as Fineract does; else masked
	Institution string         // the name that clients show as the office
	Zone        *time.Location // of dates in messages; nil: UTC
}

// Check reports all mistakes at once.
func (c *Config) Check() error {
	var wrong []error
	if c.Context != "" && (!strings.HasPrefix(c.Context, "/") || c.Context == "/" || path.Clean(c.Context) != c.Context || strings.ContainsAny(c.Context, "{}?#%")) {
		wrong = append(wrong, fmt.Errorf("context %q: must be a path such as %s", c.Context, DefaultContext))
	}
	for _, origin := range c.Origins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || origin != u.Scheme+"://"+u.Host || u.Scheme != "https" && u.Hostname() != "localhost" {
			wrong = append(wrong, fmt.Errorf("origin %q: must be an https origin such as https://app.bank.example", origin))
		}
	}
	return errors.Join(wrong...)
}

// Parts are what an API is made of.
type Parts struct {
	DB    *storage.DB
	Authn *authn.Authn
	Log   *zap.Logger

	// Bearer tells whose access token a call has in its Authorization header: uuid.Nil if it is none for this API. It may set
	// headers that say why.
	Bearer func(http.ResponseWriter, *http.Request) (uuid.UUID, error)
}

// API answers Fineract's two-factor API. It is safe for concurrent use.
type API struct {
	Config
	Parts
	passwords *authn.Passwords
	tenant    string
	now       func() time.Time
}

// New returns an API. The config has been checked.
func New(c Config, p Parts) *API {
	if c.Zone == nil {
		c.Zone = time.UTC
	}
	p.Log = p.Log.Named("fineract")
	return &API{Config: c, Parts: p, passwords: p.Authn.NewPasswords(), tenant: p.Authn.Tenant(), now: time.Now}
}

// need is what a call must have shown.
type need int

const (
	nothing need = iota
	first        // the password, or an access token
	both
)

// routes are all that the API answers, below its context.
var routes = []struct {
	path, method string
	needs        need
	answer       func(*call) (any, error)
}{
	{"/authentication", http.MethodPost, nothing, (*call).authenticate},
	{"/self/authentication", http.MethodPost, nothing, (*call).authenticateSelf},
	{"/userdetails", http.MethodGet, both, (*call).userDetails},
	{"/self/userdetails", http.MethodGet, both, (*call).selfDetails},
	{"/twofactor", http.MethodGet, first, (*call).listMethods},
	{"/twofactor", http.MethodPost, first, (*call).requestCode},
	{"/twofactor/validate", http.MethodPost, first, (*call).validate},
	{"/twofactor/invalidate", http.MethodPost, both, (*call).invalidate},
	{"/twofactor/configure", http.MethodGet, both, (*call).showConfiguration},
	{"/twofactor/configure", http.MethodPut, both, (*call).configure},
	{"/twofactor/check", http.MethodGet, both, (*call).check},
}

// Mount adds the API's addresses to r, if there is one.
func (a *API) Mount(r *mux.Router) {
	if a.Context == "" {
		return
	}
	byPath := map[string]bool{}
	for _, route := range routes {
		if !byPath[route.path] {
			byPath[route.path] = true
			r.Path(a.Context + route.path).HandlerFunc(a.at(route.path))
		}
	}
	r.PathPrefix(a.Context + "/").HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{api: a, w: w, r: r}
		c.refuse(c.sent(http.StatusNotFound, ""))
	})
}

// at answers the methods of one path.
func (a *API) at(path string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{api: a, w: w, r: r, path: a.Context + path}
		if !c.fromHere() {
			c.refuse(c.sent(http.StatusForbidden, ""))
			return
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusOK)
			return
		}
		var methods []string
		for _, route := range routes {
			if route.path != path {
				continue
			}
			if route.method == r.Method {
				c.serve(route.needs, route.answer)
				return
			}
			methods = append(methods, route.method)
		}
		w.Header().Set("Allow", strings.Join(methods, ", "))
		c.refuse(c.sent(http.StatusMethodNotAllowed, ""))
	}
}

// fromHere tells whether a call comes from a page that may make it, and lets the browser show that page the answer. A browser
// keeps passwords of HTTP Basic and sends them along, whichever page it is that calls.
func (c *call) fromHere() bool {
	origin := c.r.Header.Get("Origin")
	if len(c.api.Origins) > 0 {
		c.w.Header().Set("Vary", "Origin")
	}
	if slices.Contains(c.api.Origins, origin) {
		h := c.w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		if c.r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, OPTIONS")
			h.Set("Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, DPoP, "+tenantHeader+", "+TokenHeader)
			h.Set("Access-Control-Max-Age", "600")
		}
		return true
	}
	return origin == "" || origin == "https://"+c.r.Host || c.r.Method == http.MethodOptions
}

func (c *call) serve(needs need, answer func(*call) (any, error)) {
	err := c.admit(needs)
	var body any
	if err == nil {
		body, err = answer(c)
	}
	if err != nil {
		c.refuse(err)
		return
	}
	c.write(http.StatusOK, body)
}

func (c *call) refuse(err error) {
	p := problemOf(err)
	fields := []zap.Field{zap.String("path", c.path), zap.Int("status", p.status)}
	if c.visitor != nil {
		fields = append(fields, zap.Stringer("customer", c.visitor.Customer.ID))
	}
	switch {
	case p == errOurs && c.r.Context().Err() == nil:
		c.api.Log.Error("request failed", append(fields, zap.Error(err))...)
	default:
		c.api.Log.Info("request refused", fields...)
	}
	for name, values := range p.header {
		c.w.Header()[name] = values
	}
	c.write(p.status, p.body)
}

// write answers with JSON; nil is no body at all.
func (c *call) write(status int, body any) {
	h := c.w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if body == nil {
		h.Set("Content-Length", "0")
		c.w.WriteHeader(status)
		return
	}
	encoded, err := json.Marshal(body)
	if err != nil { // our own types marshal
		status, encoded = http.StatusInternalServerError, []byte(`{}`)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(encoded)))
	c.w.WriteHeader(status)
	c.w.Write(encoded)
}
