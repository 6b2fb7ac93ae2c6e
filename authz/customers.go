package authz

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// What packages authn and consent need to know from here.

// consentOptions ties the consent API and pages to this server's tokens, logins and clients.
func (s *Server) consentOptions() consent.Options {
	return consent.Options{
		DB:            s.db,
		BaseURL:       s.Issuer,
		Authenticate:  s.consentCaller,
		Challenge:     s.challenge,
		Pages:         s.pages,
		DetailTypes:   s.DetailTypes,
		Visitor:       s.visitor,
		ClientName:    s.clientName,
		OpenURL:       s.openURL,
		SignOutAction: "/sign-out",
		ApprovalsURL:  approvalsPath,
		Zone:          s.Zone,
		Now:           s.now,
		Failed: func(r *http.Request, cause error) {
			s.log.Error("request failed", zap.String("path", r.URL.Path), zap.Error(cause))
		},
	}
}

// newTransactions ties transaction authorization to this server's tokens, logins and clients.
func (s *Server) newTransactions() (*consent.Transactions, error) {
	o := s.consentOptions()
	return consent.NewTransactions(consent.TransactionOptions{
		DB: s.db, Tenant: s.Authn.Tenant, Limits: s.Transactions, Authoriser: s.authn,
		BaseURL: o.BaseURL, Authenticate: o.Authenticate, Challenge: o.Challenge, Pages: o.Pages, ClientName: o.ClientName,
		SignOutAction: o.SignOutAction, Zone: o.Zone, Now: o.Now, Failed: o.Failed,
		Subject: func(clientID string, customer uuid.UUID) string {
			if c := s.clients.find(clientID); c != nil {
				return s.engine.Subject(c.Client, customer)
			}
			return ""
		},
		Customer: func(clientID, subject string) uuid.UUID {
			if c := s.clients.find(clientID); c != nil {
				return s.engine.Customer(c.Client, subject)
			}
			return uuid.Nil
		},
	})
}

// indexContacts makes customers findable by their addresses whom an older version has stored.
func (s *Server) indexContacts(ctx context.Context) {
	if n, err := s.db.IndexContacts(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("addresses of customers not indexed", zap.Error(err))
	} else if n > 0 {
		s.log.Info("addresses of customers indexed", zap.Int("customers", n))
	}
}

// consentCaller is how the consent API learns who calls. It is part of the bank's API: a token for another resource
// server does not do.
func (s *Server) consentCaller(r *http.Request) (consent.Caller, error) {
	a, err := s.authenticateToken(r, "")
	if err != nil {
		return consent.Caller{}, err
	}
	if !slices.Contains(a.token.Audience, s.Resource) {
		return consent.Caller{}, errBadToken
	}
	caller := consent.Caller{ClientID: a.token.ClientID, Scopes: a.token.Scopes()}
	if a.live != nil {
		caller.CustomerID = a.live.CustomerID.String()
	}
	return caller, nil
}

// visitor tells who is logged in.
func (s *Server) visitor(r *http.Request) (*storage.Customer, *storage.Login, error) {
	v, err := s.loggedIn(r)
	if err != nil {
		return nil, nil, err
	}
	return &v.Customer, &v.Login, nil
}

// loggedIn finds the visitor's complete login. It returns storage.ErrNotFound, or fapi.LoginRequired when a step is missing.
func (s *Server) loggedIn(r *http.Request) (*storage.Visitor, error) {
	hash := s.authn.LoginHash(r)
	if hash == nil {
		return nil, storage.ErrNotFound
	}
	v, err := s.db.FindLogin(r.Context(), hash)
	if err != nil {
		return nil, err
	}
	if !s.authn.Satisfies(&v.Login, nil, "") {
		return nil, fapi.LoginRequired
	}
	return v, nil
}

// clientName is the name by which customers know a client.
func (s *Server) clientName(clientID string) string {
	if c := s.clients.find(clientID); c != nil {
		return nameOf(c.Client)
	}
	return clientID
}

func nameOf(c *fapi.Client) string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}

// onPages is a client as customers read about it.
func (s *Server) onPages(c *fapi.Client) *web.Client {
	page := &web.Client{Name: nameOf(c), URL: c.URI, PolicyURL: c.PolicyURI, TermsURL: c.TOSURI}
	if known := s.clients.find(c.ID); known != nil {
		page.LogoURL = known.logoURL()
	}
	return page
}

// pageClient is the client of a journey as a page shows it that has not looked at the journey. Of the redirect URIs only
// one that is not https matters to the page.
func (s *Server) pageClient(_ context.Context, clientID, _ string) *web.Client {
	c := s.clients.find(clientID)
	if c == nil {
		return nil
	}
	page := s.onPages(c.Client)
	if i := slices.IndexFunc(c.RedirectURIs, func(uri string) bool { return !strings.HasPrefix(uri, "https:") }); i >= 0 {
		page.RedirectURI = c.RedirectURIs[i]
	}
	return page
}
