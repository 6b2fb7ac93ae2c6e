package authz

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// Customers see the logo of a client (logo_uri, OpenID Connect Registration §2) without being sent to whoever serves it:
// the server fetches it once and serves what it made of it.

// logoRetry is how long after an attempt that failed a logo is tried again.
const logoRetry = 6 * time.Hour

// logos is what fetches logos.
type logos struct {
	woken    chan struct{}
	decoding sync.Mutex // one at a time: each may take much memory for a moment
}

// newLogo fetches the logo of a client that registers or replaces its metadata: customers may come at once. Nothing that
// is wrong with it keeps the client from registering. It returns nil when there is nothing to fetch.
func (s *Server) newLogo(ctx context.Context, c *fapi.Client) *storage.Logo {
	known := s.clients.find(c.ID)
	if c.LogoURI == "" || known != nil && known.LogoURI == c.LogoURI && known.logo != "" {
		return nil
	}
	return s.fetchLogo(ctx, c.ID, c.LogoURI)
}

// fetchLogo makes a logo of what is at an address; one without a picture when that does not work.
func (s *Server) fetchLogo(ctx context.Context, clientID, address string) *storage.Logo {
	logo := &storage.Logo{Source: address}
	answer, err := s.outbound.Get(ctx, address, maxLogoBytes)
	if err == nil {
		s.logos.decoding.Lock()
		defer s.logos.decoding.Unlock()
		logo.PNG, err = shrinkLogo(answer.Body)
	}
	if err != nil {
		s.log.Warn("logo of a client not fetched", zap.String("client_id", clientID), zap.Error(err))
		return logo
	}
	sum := sha256.Sum256(logo.PNG)
	logo.Version = hex.EncodeToString(sum[:8])
	return logo
}

// wakeLogos makes fetchLogos look, if there is a client whose logo is not there. It never blocks.
func (s *Server) wakeLogos() {
	for _, c := range s.clients.all() {
		if c.LogoURI == "" || c.logo != "" {
			continue
		}
		select {
		case s.logos.woken <- struct{}{}:
		default:
		}
		return
	}
}

// fetchLogos fetches the logos of clients that did not register themselves, and tries again what has failed, one after
// the other, until ctx ends.
func (s *Server) fetchLogos(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.logos.woken:
		}
		if err := s.fetchDueLogos(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("logos not looked for", zap.Error(err))
		}
	}
}

func (s *Server) fetchDueLogos(ctx context.Context) error {
	for {
		clientID, address, err := s.db.ClaimLogo(ctx, logoRetry)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		logo := s.fetchLogo(ctx, clientID, address)
		if logo.PNG == nil {
			continue // the claim says that it was tried
		}
		if err := s.db.SaveLogo(ctx, clientID, logo); err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
	}
}

// logoURL is the address of a client's logo, "" when it has none. It changes with the logo. An id may hold what a path may
// not.
func (c *registeredClient) logoURL() string {
	if c.logo == "" {
		return ""
	}
	return logoPath + "?" + url.Values{"client_id": {c.ID}, "v": {c.logo}}.Encode()
}

// serveLogo answers GET /clients/logo with a client's logo.
func (s *Server) serveLogo(w http.ResponseWriter, r *http.Request) {
	params := r.URL.Query()
	if params.Get("client_id") == "" {
		s.errorPage(w, r, fapi.Refuse(fapi.InvalidRequest, "The address does not say whose logo it is."))
		return
	}
	logo, err := s.db.FindLogo(r.Context(), params.Get("client_id"))
	if errors.Is(err, storage.ErrNotFound) {
		s.notFound(w, r)
		return
	} else if err != nil {
		s.errorPage(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "image/png")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Cache-Control", "no-store")
	if params.Get("v") == logo.Version {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("ETag", `"`+logo.Version+`"`)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(logo.PNG))
}
