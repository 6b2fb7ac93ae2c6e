package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

func (s *story) dpopNonce(ctx context.Context) error {
	ex, err := s.birch.ownToken(ctx)
	if err != nil {
		return err
	}
	s.n.exchange(ex, "access_token", "token_type", "scope")
	if ex.before == nil {
		return errors.New("expected the server to ask for a nonce first (use_dpop_nonce)")
	}
	s.own = ex.text("access_token")
	if err := errors.Join(ex.before.want(http.StatusBadRequest, "use_dpop_nonce"), ex.want(http.StatusOK, ""), ex.wantValues("access_token", "*", "token_type", "DPoP")); err != nil {
		return err
	}
	s.n.shows("A proof cannot be made in advance. The refused call used nothing up: the app repeats it with the nonce.")
	return nil
}

func (s *story) dpopTokens(ctx context.Context) error {
	ex, err := s.birch.createConsent(ctx, s.own)
	if err == nil {
		err = ex.want(http.StatusCreated, "")
	}
	if err != nil {
		return err
	}
	s.consentID = ex.text("Data.ConsentId")
	if s.request, ex, err = s.birch.push(ctx, s.consentID, true); err != nil {
		return err
	}
	s.n.exchange(ex, "request_uri", "expires_in")
	if err := ex.want(http.StatusCreated, ""); err != nil {
		return err
	}
	if s.code, err = s.approveAgain(ctx, s.birch, s.request); err != nil {
		return err
	}
	s.n.line("\n    (Alice, who is still signed in, agrees)\n")
	if ex, err = s.birch.redeem(ctx, s.code, s.request.verifier); err != nil {
		return err
	}
	s.n.exchange(ex, "access_token", "token_type", "expires_in")
	s.access, s.refresh = ex.text("access_token"), ex.text("refresh_token")
	if err := errors.Join(ex.want(http.StatusOK, ""), ex.wantValues("access_token", "*", "token_type", "DPoP")); err != nil {
		return err
	}
	said, err := payload(s.access)
	if err != nil {
		return err
	}
	s.n.line("    the access token says:")
	for _, name := range []string{"aud", "client_id", "scope", "consent_id", "cnf"} {
		s.n.pair(name, strings.Trim(string(said[name]), `"`))
	}
	if !strings.Contains(string(said["cnf"]), `"jkt"`) {
		return errors.New("expected the token to be bound by cnf.jkt")
	}
	s.n.shows("The code was bound to the same key when the request was pushed; the token is bound to it by cnf.jkt.")
	return nil
}

// payload reads what a JWT says, for showing it.
func payload(token string) (map[string]json.RawMessage, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("expected a JWT access token")
	}
	plain, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	var said map[string]json.RawMessage
	return said, json.Unmarshal(plain, &said)
}

func (s *story) dpopCall(ctx context.Context) error {
	ex, err := s.birch.get(ctx, "/accounts", s.access)
	if err != nil {
		return err
	}
	s.n.exchange(ex, "Links.Self")
	if ex.before == nil {
		return errors.New("expected the bank's API to ask for a nonce first (use_dpop_nonce)")
	}
	if err := errors.Join(ex.before.want(http.StatusUnauthorized, "use_dpop_nonce"), ex.want(http.StatusOK, ""), ex.wantValues("Data.Account", "*")); err != nil {
		return err
	}
	s.assertion = url.Values{"DPoP": {ex.sent.Get("DPoP")}}
	s.n.shows("Each proof is for one method, one address and one token, and for one call.")
	return nil
}

func (s *story) dpopStolen(ctx context.Context) error {
	ex, err := s.birch.do(ctx, call{method: http.MethodGet, url: s.bankURL() + "/accounts", token: s.access, dpop: s.assertion.Get("DPoP")})
	if err := s.refused(ex, err, http.StatusUnauthorized, "invalid_dpop_proof"); err != nil {
		return err
	}
	s.n.line("")
	thief := *s.birch
	if thief.dpopKey, err = newKey(); err != nil {
		return err
	}
	ex, err = thief.get(ctx, "/accounts", s.access)
	if err := s.refused(ex, err, http.StatusUnauthorized, "invalid_token"); err != nil {
		return err
	}
	s.n.shows("Token and proof, both stolen, open nothing.")
	return nil
}

// clickThrough does in the app what a person does: everything else happens behind the buttons.
func (s *story) clickThrough(ctx context.Context) (err error) {
	s.browser.stop = "" // from here on the app's own pages answer
	if s.page, err = s.surf(s.browser.open(ctx, s.appURL()+"/")); err != nil {
		return err
	}
	if err := s.page.is("app_home"); err != nil {
		return err
	}
	if s.page, err = s.surf(s.browser.submit(ctx, s.page, `id="connect_button"`, nil)); err != nil {
		return err
	}
	if err := s.page.is("consent_page"); err != nil {
		return err
	}
	if s.page, err = s.surf(s.browser.submit(ctx, s.page, `id="approve_button"`, url.Values{"decision": {"approve"}, "account": s.chosen})); err != nil {
		return err
	}
	if err := s.page.is("app_accounts"); err != nil {
		return err
	}
	for _, text := range []string{"Everyday", "1,843.27", "Rainy day"} {
		if !s.page.has(text) {
			return fmt.Errorf("expected the app to show %q", text)
		}
	}
	if s.page.has("Joint household") {
		return errors.New("the app shows an account that Alice did not choose")
	}
	s.n.shows("Her accounts are on the app's page.")
	return nil
}

func (s *story) withdraw(ctx context.Context) error {
	list, err := s.surf(s.browser.open(ctx, s.issuer()+"/consents"))
	if err != nil {
		return err
	}
	if err := list.is("consents_page"); err != nil {
		return err
	}
	// The list begins with what was agreed to last: that is the app's.
	if list, err = s.surf(s.browser.submit(ctx, list, `id="withdraw_1"`, nil)); err != nil {
		return err
	}
	if err := list.is("consents_page"); err != nil {
		return err
	}
	page, err := s.surf(s.browser.open(ctx, s.appURL()+"/"))
	if err != nil {
		return err
	}
	if err := page.is("app_ended"); err != nil {
		return err
	}
	s.n.shows("The app's access token would have been good for minutes and its refresh token for months. The bank's API has " +
		"refused the one and the server the other: the app says that the connection has ended.")
	if ex, err := s.birch.get(ctx, "/accounts", s.access); err != nil {
		return err
	} else if err := ex.want(http.StatusOK, ""); err != nil {
		return fmt.Errorf("%s, which has another consent: %w", s.birch.name, err)
	}
	s.n.shows("What she allowed %s goes on: one consent ended, not all.", s.birch.name)
	return nil
}
