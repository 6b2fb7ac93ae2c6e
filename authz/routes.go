package authz

import (
	"context"
	"net/http"
	"slices"

	"github.com/gorilla/mux"

	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/web"
)

// Paths of the endpoints. Below the issuer; those of the back channel below mtls_endpoint_aliases too.
const (
	authorizePath  = "/authorize"
	decisionPath   = "/authorize/decision"
	parPath        = "/par"
	tokenPath      = "/token"
	introspectPath = "/introspect"
	revokePath     = "/revoke"
	userInfoPath   = "/userinfo"
	jwksPath       = "/jwks"

	registerPath     = "/register"
	registrationPath = "/register/{client_id}"

	endSessionPath    = "/end_session"
	confirmLogoutPath = "/end_session/confirm"
	signedOutPath     = "/end_session/done"
	openAppPath       = consent.CustomerPath + "/open"
	devicePath        = "/device"
	deviceAuthPath    = "/device_authorization"
	backchannelPath   = "/bc-authorize"
	logoPath          = "/clients/logo"

	approvalsPath     = "/approvals"
	allowPath         = "/approvals/allow"
	userCodePath      = "/approvals/user-code"
	subscriptionsPath = "/approvals/subscriptions"
	silencePath       = "/approvals/silence"
	workerPath        = "/approvals/worker.js"
)

// route is an endpoint that clients call.
type route struct {
	path     string
	metadata string // its member of the metadata (RFC 8414 §2)
	source   string
	endpoint endpoints // its column in the pipeline; 0 for a protected resource, which judges the caller by a token
	answer   func(*Server, context.Context, *Request) (Response, error)
	serve    func(*Server, http.ResponseWriter, *http.Request)
	methods  []string
}

// backChannelRoutes are served on both listeners.
var backChannelRoutes = []*route{
	{path: parPath, metadata: "pushed_authorization_request_endpoint", source: "RFC 9126 §2", endpoint: par, answer: (*Server).pushAuthorization, methods: post},
	{path: tokenPath, metadata: "token_endpoint", source: "RFC 6749 §3.2", endpoint: token, answer: (*Server).issueTokens, methods: post},
	{path: deviceAuthPath, metadata: "device_authorization_endpoint", source: "RFC 8628 §3.1", endpoint: device, answer: (*Server).authorizeDevice, methods: post},
	{path: backchannelPath, metadata: "backchannel_authentication_endpoint", source: "CIBA Core §7", endpoint: backchannel, answer: (*Server).authenticateBackchannel, methods: post},
	{path: introspectPath, metadata: "introspection_endpoint", source: "RFC 7662 §2", endpoint: introspect, answer: (*Server).introspectToken, methods: post},
	{path: revokePath, metadata: "revocation_endpoint", source: "RFC 7009 §2", endpoint: revoke, answer: (*Server).revokeToken, methods: post},
	{path: userInfoPath, metadata: "userinfo_endpoint", source: "OpenID Connect Core §5.3", serve: (*Server).userInfo, methods: getOrPost},
}

var (
	post      = []string{http.MethodPost}
	get       = []string{http.MethodGet, http.MethodHead}
	getOrPost = []string{http.MethodGet, http.MethodPost}
)

// Public is the listener for browsers and for clients without a certificate.
func (s *Server) Public() http.Handler {
	r, pages := s.router(), s.pageRouter()
	s.handle(r, authorizePath, getOrPost, s.authorize)
	s.handle(r, endSessionPath, getOrPost, s.endSession)
	s.handle(r, logoPath, get, s.serveLogo)
	r.PathPrefix("/static/").Handler(s.pages.Static())
	r.NotFoundHandler = s.pages.Protect(pages)
	return s.forwarded(r)
}

// pageRouter has the pages that a customer's cookie opens, and their forms.
func (s *Server) pageRouter() *mux.Router {
	pages := mux.NewRouter()
	s.handle(pages, decisionPath, post, s.decide)
	s.handle(pages, confirmLogoutPath, post, s.confirmLogout)
	s.handle(pages, signedOutPath, get, s.showSignedOut)
	s.handle(pages, openAppPath, get, s.openApp)
	s.handle(pages, devicePath, []string{http.MethodGet, http.MethodHead, http.MethodPost}, s.device)
	s.handle(pages, approvalsPath, get, s.forCustomer(s.listApprovals))
	s.handle(pages, allowPath, post, s.forCustomer(s.allowAgain))
	s.handle(pages, userCodePath, post, s.forCustomer(s.setUserCode))
	s.handle(pages, silencePath, post, s.forCustomer(s.silence))
	s.handle(pages, subscriptionsPath, []string{http.MethodPost, http.MethodDelete}, s.ring)
	s.handle(pages, workerPath, get, s.pages.ApprovalsWorker)
	s.authn.Mount(pages)
	s.consents.MountPages(pages)
	s.payments.MountPages(pages)
	pages.NotFoundHandler = http.HandlerFunc(s.notFound)
	pages.MethodNotAllowedHandler = http.HandlerFunc(s.methodNotAllowed)
	return pages
}

// MutualTLS is the listener that asks for client certificates. No page is served there, so no browser is asked for one.
func (s *Server) MutualTLS() http.Handler {
	r := s.router()
	r.NotFoundHandler = http.NotFoundHandler()
	return s.behindProxy(s.forwarded(r))
}

func (s *Server) router() *mux.Router {
	r := mux.NewRouter()
	for _, e := range backChannelRoutes {
		serve := func(w http.ResponseWriter, r *http.Request) { e.serve(s, w, r) }
		if e.answer != nil {
			serve = s.backChannel(e)
		}
		s.handle(r, e.path, e.methods, serve)
	}
	s.handle(r, "/.well-known/openid-configuration", get, s.serveDocument(func() []byte { return s.metadata }))
	s.handle(r, "/.well-known/oauth-authorization-server", get, s.serveDocument(func() []byte { return s.metadata }))
	s.handle(r, jwksPath, get, s.serveDocument(s.keys.JWKS))
	s.health(r)
	s.consents.MountAPI(r)
	s.payments.MountAPI(r)
	s.mountRegistration(r)
	s.mountApprovals(r)
	s.mountFineract(r)
	s.handle(r, grantsPath+"/{grant_id}", []string{http.MethodGet, http.MethodDelete}, s.serveGrant)
	r.MethodNotAllowedHandler = http.HandlerFunc(s.methodNotAllowed)
	return r
}

// Health answers health checks, and tells what was counted, for a listener inside the machine.
func (s *Server) Health() http.Handler {
	r := mux.NewRouter()
	s.health(r)
	s.handle(r, metricsPath, get, s.metrics.handler().ServeHTTP)
	return r
}

func (s *Server) health(r *mux.Router) {
	s.handle(r, "/livez", get, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	s.handle(r, "/readyz", get, s.ready)
}

// handle registers a path for its methods; any other method is told which ones there are (RFC 9110 §15.5.6).
func (s *Server) handle(r *mux.Router, path string, methods []string, f http.HandlerFunc) {
	r.Path(path).Methods(slices.Clone(methods)...).HandlerFunc(f) // mux writes into the list that it is given
	r.Path(path).HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		for _, m := range methods {
			w.Header().Add("Allow", m)
		}
		s.methodNotAllowed(w, req)
	})
}

func (s *Server) methodNotAllowed(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusMethodNotAllowed, errorBody{fapi.InvalidRequest, "The endpoint has no such method."})
}

func (s *Server) notFound(w http.ResponseWriter, _ *http.Request) {
	s.rendered(s.pages.Error(w, http.StatusNotFound, web.Error{
		Title: "There is no such page", Text: "The address may be mistyped.", Code: "not_found",
	}))
}
