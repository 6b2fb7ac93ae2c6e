package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// introspect asks as the bank's API does for each call.
func (s *story) introspect(ctx context.Context) error {
	api := s.with(s.acorn, &s.reader)
	ex, err := api.do(ctx, call{method: http.MethodPost, url: api.endpoints.Introspection, form: url.Values{"token": {s.access}, "client_id": {bankAPIID}}})
	if err != nil {
		return err
	}
	s.n.exchange(ex, "active", "client_id", "sub", "scope", "fineract_tenant", "fineract_client_id", "consent_id", "permissions", "account_ids", "acr", "cnf")
	if err := errors.Join(ex.want(http.StatusOK, ""), ex.wantValues("active", "true", "client_id", s.acorn.id, "fineract_tenant", "default",
		"fineract_client_id", fmt.Sprint(aliceFineractID), "consent_id", s.consentID, "cnf", "*",
		"account_ids", fmt.Sprintf("[%q,%q]", s.chosen[0], s.chosen[1]))); err != nil {
		return err
	}
	s.n.shows("Enough to call Fineract as the right tenant and client. The token itself is opaque: nobody can read it.")
	return nil
}

// refused tells an exchange that must end like this.
func (s *story) refused(ex *exchange, err error, status int, code string) error {
	if err != nil {
		return err
	}
	s.n.exchange(ex)
	return ex.want(status, code)
}

func (s *story) stolenWithout(ctx context.Context) error {
	ex, err := s.with(s.acorn, nil).get(ctx, "/accounts", s.access)
	if err := s.refused(ex, err, http.StatusUnauthorized, "invalid_token"); err != nil {
		return err
	}
	s.n.shows("The token alone is worth nothing.")
	return nil
}

func (s *story) stolenWithAnother(ctx context.Context) error {
	ex, err := s.with(s.acorn, &s.thief).get(ctx, "/accounts", s.access)
	if err := s.refused(ex, err, http.StatusUnauthorized, "invalid_token"); err != nil {
		return err
	}
	s.n.shows("Neither is it with a certificate of the same authority: it must be the very one (cnf, x5t#S256).")
	return nil
}

func (s *story) strangerIntrospects(ctx context.Context) error {
	ex, err := s.birch.do(ctx, call{method: http.MethodPost, url: s.birch.endpoints.Introspection, form: url.Values{"token": {s.access}}, assert: true})
	if err := s.refused(ex, err, http.StatusForbidden, "unauthorized_client"); err != nil {
		return err
	}
	s.n.shows("Only the resource server that a token is meant for learns anything about it.")
	return nil
}

func (s *story) unpushed(ctx context.Context) error {
	page, err := s.surf(s.browser.open(ctx, s.acorn.endpoints.Authorization+"?"+url.Values{
		"client_id": {s.acorn.id}, "response_type": {"code"}, "redirect_uri": {s.acorn.callback}, "scope": {"accounts"}, "state": {"xyz"},
	}.Encode()))
	if err != nil {
		return err
	}
	answer := page.url.Query()
	if page.status != 0 || answer.Get("error") != "invalid_request" || answer.Get("iss") != s.issuer() || answer.Has("code") {
		return fmt.Errorf("expected error=invalid_request and iss at the app, got %v with status %d", answer, page.status)
	}
	s.n.shows("A FAPI 2.0 client's request must be pushed. The app is told, not the customer.")
	return nil
}

func (s *story) requestURIAgain(ctx context.Context) error {
	page, err := s.surf(s.browser.open(ctx, s.acorn.authorizeURL(s.request)))
	if err != nil {
		return err
	}
	if err := page.is("error_page"); err != nil {
		return err
	}
	s.n.pair("error", find(errorText, page.body))
	if page.status != http.StatusBadRequest || find(errorText, page.body) != "invalid_request_uri" {
		return fmt.Errorf("expected the error page with 400 invalid_request_uri, got %d", page.status)
	}
	s.n.shows("It led to one decision. Nothing is redirected: who knows whose link this is.")
	return nil
}

func (s *story) assertionAgain(ctx context.Context) error {
	ex, err := s.acorn.do(ctx, call{method: http.MethodPost, url: s.acorn.endpoints.Token, form: s.assertion})
	if err := s.refused(ex, err, http.StatusUnauthorized, "invalid_client"); err != nil {
		return err
	}
	s.n.shows("The jti of an assertion is used up, on all servers of the bank, before its first answer is sent.")
	return nil
}

// again lets alice, who is still signed in, agree to the same consent once more. It is told in a line.
func (s *story) again(ctx context.Context) (p *pending, code string, err error) {
	p, ex, err := s.acorn.push(ctx, s.consentID, false)
	if err == nil {
		err = ex.want(http.StatusCreated, "")
	}
	if err != nil {
		return nil, "", err
	}
	code, err = s.approveAgain(ctx, s.acorn, p)
	s.n.line("    (a new request is pushed, and Alice, who is still signed in, agrees again)")
	return p, code, err
}

func (s *story) approveAgain(ctx context.Context, t *tpp, p *pending) (code string, err error) {
	page, err := s.browser.open(ctx, t.authorizeURL(p))
	if err != nil {
		return "", err
	}
	if err := page.is("consent_page"); err != nil {
		return "", err
	}
	if page, err = s.browser.submit(ctx, page, `id="approve_button"`, url.Values{"decision": {"approve"}, "account": s.chosen}); err != nil {
		return "", err
	}
	if page.status != 0 {
		return "", page.is("redirect to the app")
	}
	return t.readCallback(p, page.url.Query())
}

func (s *story) wrongVerifier(ctx context.Context) error {
	_, code, err := s.again(ctx)
	if err != nil {
		return err
	}
	ex, err := s.acorn.redeem(ctx, code, s.request.verifier) // of the other request: well-formed, and wrong
	if err := s.refused(ex, err, http.StatusBadRequest, "invalid_grant"); err != nil {
		return err
	}
	s.n.shows("A code that was caught on its way is no use to whoever did not make the request.")
	return nil
}

func (s *story) refreshTokens(ctx context.Context) error {
	ex, err := s.acorn.refresh(ctx, s.refresh)
	if err != nil {
		return err
	}
	s.n.exchange(ex, "access_token", "token_type", "expires_in", "refresh_token")
	if err := errors.Join(ex.want(http.StatusOK, ""), ex.wantValues("access_token", "*", "refresh_token", s.refresh)); err != nil {
		return err
	}
	s.access = ex.text("access_token")
	if ex, err = s.acorn.get(ctx, "/accounts", s.access); err != nil {
		return err
	}
	if err := ex.want(http.StatusOK, ""); err != nil {
		return err
	}
	s.n.shows("The refresh token stays the same: it is bound to the client, and rotation would only lose it.")
	return nil
}

// retryGrace is longer than the time in which the server takes a second redemption for the retry of one client.
const retryGrace = time.Second

func (s *story) codeAgain(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(s.redeemed.Add(retryGrace))):
	}
	ex, err := s.acorn.redeem(ctx, s.code, s.request.verifier)
	if err := s.refused(ex, err, http.StatusBadRequest, "invalid_grant"); err != nil {
		return err
	}
	s.n.line("\n    and what the code was traded for before:")
	if ex, err = s.acorn.get(ctx, "/accounts", s.access); err != nil {
		return err
	}
	if err := s.refused(ex, err, http.StatusUnauthorized, "invalid_token"); err != nil {
		return err
	}
	ex, err = s.acorn.refresh(ctx, s.refresh)
	if err != nil {
		return err
	}
	if err := ex.want(http.StatusBadRequest, "invalid_grant"); err != nil {
		return fmt.Errorf("the refresh token: %w", err)
	}
	s.n.shows("Of two who have the same code one is a thief. All its tokens are dead, the refresh token too.")
	return nil
}

func (s *story) giveBack(ctx context.Context) error {
	p, code, err := s.again(ctx)
	if err != nil {
		return err
	}
	tokens, err := s.acorn.redeem(ctx, code, p.verifier)
	if err == nil {
		err = tokens.want(http.StatusOK, "")
	}
	if err != nil {
		return err
	}
	ex, err := s.acorn.get(ctx, "/accounts", tokens.text("access_token"))
	if err == nil {
		err = ex.want(http.StatusOK, "")
	}
	if err != nil {
		return err
	}
	if ex, err = s.acorn.deleteConsent(ctx, s.own, s.consentID); err != nil {
		return err
	}
	s.n.exchange(ex)
	if err := ex.want(http.StatusNoContent, ""); err != nil {
		return err
	}
	s.n.line("")
	ex, err = s.acorn.get(ctx, "/accounts", tokens.text("access_token"))
	if err := s.refused(ex, err, http.StatusUnauthorized, "invalid_token"); err != nil {
		return err
	}
	s.n.shows("With the consent go its tokens.")
	return nil
}
