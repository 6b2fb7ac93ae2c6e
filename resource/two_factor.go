package resource

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/countersign/countersign/fapi"
)

// TFATokenHeader has the token by which a client of Fineract shows that the customer has shown both factors.
const TFATokenHeader = "Fineract-Platform-TFA-Token"

const maxTFAToken = 128 // bytes; more is not asked about

var (
	errTFAMissing = fapi.Refuse(fapi.InsufficientScope, "The customer has not shown the second factor.").WithStatus(http.StatusForbidden)
	errTFABad     = fapi.Refuse(fapi.InvalidToken, "The token of the second factor is unknown, expired, or another customer's.").WithStatus(http.StatusUnauthorized)
	errTFAUnknown = fapi.Refuse(fapi.TemporarilyUnavailable, "The token of the second factor cannot be checked just now.")
)

// TwoFactor lets a request through to next if the customer has shown both factors to the authorization server by Fineract's
// two-factor API, or needs not: its header [TFATokenHeader] has a token of the customer for whom the access token speaks. It goes
// inside [Guard.Require], which has checked that one, and refuses what does not:
//
//	guard.Require(need, guard.TwoFactor(handler))
//
// Refusals have Fineract's statuses: 403 without the token, 401 with one that is not good. It panics if the service does not
// authenticate at the authorization server, which nobody else may ask.
func (g *Guard) TwoFactor(next http.Handler) http.Handler {
	if g.config.Authentication.none() {
		panic("resource: TwoFactor needs ClientID and Authentication")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.twoFactor(r); err != nil {
			g.refuseTwoFactor(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (g *Guard) twoFactor(r *http.Request) error {
	p := PrincipalFrom(r.Context())
	if p == nil {
		return errors.New("resource: TwoFactor without Require around it")
	}
	_, access, err := parseAuthorization(r.Header["Authorization"])
	if err != nil {
		return err
	}
	tokens, token := r.Header.Values(TFATokenHeader), ""
	if len(tokens) == 1 {
		token = tokens[0]
	}
	if len(tokens) > 1 || len(token) > maxTFAToken {
		return errTFABad
	}
	hash := sha256.Sum256([]byte(access + "\n" + token))
	if _, ok := g.factors.find(hash, g.now()); ok {
		return nil
	}
	refused := errTFABad
	if len(tokens) == 0 {
		refused = errTFAMissing
	}
	if _, ok := g.bad.find(hash, g.now()); ok {
		return refused
	}
	asked := g.now()
	until, err := g.askTwoFactor(r.Context(), access, token)
	switch {
	case err != nil:
		return errTFAUnknown.Because(err)
	case until.IsZero():
		g.bad.remember(hash, nil, asked.Add(min(badFor, g.config.CacheFor)), g.now())
		return refused
	}
	g.factors.remember(hash, p, earlier(asked.Add(g.config.CacheFor), until), g.now())
	return nil
}

// askTwoFactor asks the authorization server until when both factors count as shown; the zero time is that they do not.
func (g *Guard) askTwoFactor(ctx context.Context, access, token string) (until time.Time, err error) {
	until, err = g.askTwoFactorOnce(ctx, access, token)
	var failed *url.Error
	if errors.As(err, &failed) && !failed.Timeout() && ctx.Err() == nil { // as in introspect
		until, err = g.askTwoFactorOnce(ctx, access, token)
	}
	return until, err
}

func (g *Guard) askTwoFactorOnce(ctx context.Context, access, token string) (until time.Time, err error) {
	form := url.Values{"access_token": {access}}
	if token != "" {
		form.Set("token", token)
	}
	if err := g.config.Authentication.addTo(form, g.config.ClientID, g.config.Issuer, g.now()); err != nil {
		return until, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.metadata.IntrospectionEndpoint+"/two-factor", strings.NewReader(form.Encode()))
	if err != nil {
		return until, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	response, err := g.client.Do(request)
	if err != nil {
		return until, err
	}
	defer response.Body.Close()
	body, err := readJSON(response, maxAnswer, "application/json")
	if err != nil {
		return until, fmt.Errorf("two-factor: %w", err)
	}
	var said struct {
		Active    bool        `json:"active"`
		Bypass    bool        `json:"bypass"`
		ExpiresAt numericDate `json:"exp"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return until, fmt.Errorf("two-factor: %w", err)
	}
	switch {
	case !said.Active:
	case said.Bypass:
		until = g.now().Add(maxCacheFor)
	case said.ExpiresAt.time().After(g.now()):
		until = said.ExpiresAt.time()
	}
	return until, nil
}

// refuseTwoFactor answers as Fineract does.
func (g *Guard) refuseTwoFactor(w http.ResponseWriter, r *http.Request, err error) {
	refused := fapi.AsError(err)
	g.log(w, r, PrincipalFrom(r.Context()), refused)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Type", "application/json")
	switch refused {
	case errTFABad:
		h.Set("Www-Authenticate", `Basic realm="Fineract Platform API Two Factor"`)
	case errTFAMissing:
		h.Set("Www-Authenticate", `Bearer error="insufficient_scope"`)
	}
	if refused.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfter)
	}
	w.WriteHeader(refused.Status)
	fmt.Fprintf(w, `{"timestamp":"%s","status":%s,"error":"%s"}`, g.now().UTC().Format(time.RFC3339), strconv.Itoa(refused.Status), http.StatusText(refused.Status))
}
