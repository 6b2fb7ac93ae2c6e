package authz

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// openApp answers GET /consents/open: a customer opens an app from the bank's list, and the app begins a login here
// (OpenID Connect Core §4). Only an app that the customer has given access to is opened: anybody may be able to register
// a client, and a link to the bank must not lead to anybody's site. No target_link_uri is passed on, for the same reason,
// and no login_hint: the app may not know the customer's user name.
func (s *Server) openApp(w http.ResponseWriter, r *http.Request) {
	customer, _, err := s.visitor(r)
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, fapi.LoginRequired) {
		noStore(w.Header())
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return
	}
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	grants, _, err := s.db.ListGrants(r.Context(), customer.ID)
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	c := s.clients.find(r.URL.Query().Get("client_id"))
	if c == nil || c.InitiateLoginURI == "" || !slices.ContainsFunc(grants, func(g storage.Grant) bool { return g.ClientID == c.ID && g.EndedAt == nil }) {
		s.rendered(s.pages.Error(w, http.StatusNotFound, web.Error{Title: s.pages.Text("open_app.none"), Text: s.pages.Text("open_app.none.do"), Code: "not_found"}))
		return
	}
	s.deliver(w, "query", c.InitiateLoginURI, url.Values{"iss": {s.Issuer}})
}

// openURL is the address of openApp for a client, "" for one that cannot be opened.
func (s *Server) openURL(clientID string) string {
	if c := s.clients.find(clientID); c == nil || c.InitiateLoginURI == "" {
		return ""
	}
	return openAppPath + "?" + url.Values{"client_id": {clientID}}.Encode()
}
