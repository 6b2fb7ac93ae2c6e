package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// story is one walk through everything, as app and as browser. Every step is an assertion.
type story struct {
	*demo
	browser *browser // alice's; it stops where the bank sends it back to the app

	// What steps leave for later ones.
	own       string // the app's own token
	consentID string
	request   *pending
	code      string
	redeemed  time.Time // when the code was
	access    string
	refresh   string
	chosen    []string // accounts
	withheld  string   // the account that was not chosen
	assertion url.Values
	page      *webPage
}

// step is a heading, the rule that it shows, and what is done.
type step struct {
	title, rule string
	run         func(*story, context.Context) error
}

type chapter struct {
	name, text string
	steps      []step
}

var chapters = []chapter{
	{"1  A customer lets an app read two of her accounts",
		"Acorn Budget is a FAPI 2.0 client: private_key_jwt, tokens bound to its TLS certificate. The bank's API sits in front of " +
			"Apache Fineract and asks Countersign about every token.",
		[]step{
			{"Alice sets up her authenticator app at the bank", "RFC 6238 · RTS (EU) 2018/389 art. 4, 24", (*story).enrol},
			{"The app learns where everything is", "RFC 8414 §3 · RFC 8705 §5", (*story).discover},
			{"The app gets a token of its own", "RFC 6749 §4.4 · RFC 7523 §2.2 · RFC 8705 §3", (*story).clientCredentials},
			{"The app tells the bank what it will ask for", "UK Open Banking 3.1, Account Access Consents", (*story).createConsent},
			{"The app pushes the authorization request", "RFC 9126 §2 · RFC 9396 §2 · RFC 7636 §4.3 · FAPI 2.0 §5.3.2.2", (*story).push},
			{"Alice's browser goes to the bank, which asks for her password", "RFC 9126 §4 · RFC 9700 §4.12", (*story).signIn},
			{"The bank asks for a second factor", "PSD2 art. 97 · RTS (EU) 2018/389 art. 4", (*story).secondFactor},
			{"Alice sees who asks for what until when, picks two accounts and agrees", "RFC 6749 §4.1.2 · RFC 9207 §2", (*story).agree},
			{"The app trades the code for tokens", "RFC 6749 §4.1.3 · RFC 7636 §4.5 · RFC 8705 §3 · OpenID Connect Core §3.1.3", (*story).redeem},
			{"The app reads the accounts that Alice chose, and no other", "RFC 8705 §3 · RFC 6750 §3.1", (*story).readAccounts},
			{"What the bank's API learned about that token", "RFC 7662 §2", (*story).introspect},
		}},
	{"2  What does not work", "Each of these is an attack that a standard knows. None may succeed.",
		[]step{
			{"A stolen token, without the certificate", "RFC 8705 §3 · RFC 6750 §3.1", (*story).stolenWithout},
			{"A stolen token, with somebody else's certificate", "RFC 8705 §3", (*story).stolenWithAnother},
			{"Another app asks what the token is worth", "RFC 7662 §2.1, §4", (*story).strangerIntrospects},
			{"A request that comes by way of the browser", "FAPI 2.0 §5.3.2.2 · RFC 9126 §5", (*story).unpushed},
			{"The same request_uri once more", "RFC 9126 §4, §7.3", (*story).requestURIAgain},
			{"The same client assertion once more", "RFC 7523 §3 · OpenID Connect Core §9", (*story).assertionAgain},
			{"A code with the wrong PKCE verifier", "RFC 7636 §4.6 · RFC 9700 §2.1.1", (*story).wrongVerifier},
		}},
	{"3  How it goes on, and how it ends", "Access tokens live for five minutes. What keeps an app connected, and what ends that.",
		[]step{
			{"The app refreshes its access token", "RFC 6749 §6 · FAPI 2.0 §5.3.2.1", (*story).refreshTokens},
			{"The code of before, used a second time", "RFC 6749 §4.1.2, §10.5", (*story).codeAgain},
			{"The app gives the consent back", "UK Open Banking 3.1, DELETE account-access-consents", (*story).giveBack},
		}},
	{"4  The same with DPoP", "Birch Ledger has no certificate: its tokens are bound to a key that it proves to hold with each call, " +
		"and they are JWTs.",
		[]step{
			{"The server wants a nonce in the proof", "RFC 9449 §4, §8", (*story).dpopNonce},
			{"Consent named by a claim, code, JWT access token", "UK Open Banking Security Profile · RFC 9449 §5, §10.1 · RFC 9068", (*story).dpopTokens},
			{"The bank's API wants a nonce of its own", "RFC 9449 §7, §9", (*story).dpopCall},
			{"The same proof again, and the token with another key", "RFC 9449 §7.1, §11.1", (*story).dpopStolen},
		}},
	{"5  The customer stays in charge", "Nothing that the apps hold outlives her will.",
		[]step{
			{"Alice connects through the app's own pages", "all of chapter 1, clicked", (*story).clickThrough},
			{"Alice withdraws at the bank, and the token is dead at once", "GDPR art. 7(3) · RFC 7662 §2.2", (*story).withdraw},
		}},
	{"6  A speaker asks, and her phone answers", "Three smart speakers are to pay the baker. They have no screen and no browser: each names Alice, " +
		"says a word that her phone shows as well, and learns in its own way what she decided.",
		[]step{
			{"Robin asks the server until it knows: poll", "CIBA Core §7, §10.1 · FAPI-CIBA §5.2.2", (*story).polled},
			{"Wren is told that it is time: ping", "CIBA Core §10.2", (*story).pinged},
			{"Finch is brought its tokens: push", "CIBA Core §10.3.1", (*story).pushedTo},
			{"The three, side by side", "CIBA Core §5", (*story).sideBySide},
		}},
}

// tell walks. It returns an error at the first step that does not go as its rule demands.
func (d *demo) tell(ctx context.Context) error {
	began := time.Now()
	b, err := d.newBrowser(d.acorn.callback)
	if err != nil {
		return err
	}
	s := &story{demo: d, browser: b}
	for _, c := range chapters {
		d.n.chapter(c.name, c.text)
		for _, step := range c.steps {
			d.n.step(step.title, step.rule)
			if err := step.run(s, ctx); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				d.n.failed(err)
				return fmt.Errorf("step %d of the demo, %q, did not go as %s demands", d.n.steps, step.title, step.rule)
			}
		}
	}
	d.n.line("\n%s", d.n.paint(bold, fmt.Sprintf("All %d steps went as the rules demand, in %s.", d.n.steps, seconds(began))))
	return nil
}

// enrol is what a customer does once. An earlier run in the same folder may have.
func (s *story) enrol(ctx context.Context) error {
	if s.alice.enrolled() {
		s.n.shows("She did so in an earlier run.")
		return nil
	}
	b, err := s.newBrowser("")
	if err != nil {
		return err
	}
	login, err := b.open(ctx, s.issuer()+"/login")
	if err != nil {
		return err
	}
	if err := login.is("login_page"); err != nil {
		return err
	}
	enrol, err := b.submit(ctx, login, `id="password"`, s.credentials())
	if err != nil {
		return err
	}
	if err := enrol.is("enrol_page"); err != nil {
		return err
	}
	secret := strings.Join(strings.Fields(find(secretText, enrol.body)), "")
	s.n.line("    She signs in with her password; the bank shows a QR code, and the secret in it:")
	s.n.pair("secret", secret)
	code, err := s.alice.first(secret, time.Now())
	if err != nil {
		return err
	}
	s.n.pair("first code", code)
	codes, err := b.submit(ctx, enrol, `id="code"`, url.Values{"code": {code}})
	if err != nil {
		return err
	}
	if err := codes.is("recovery_codes_page"); err != nil {
		return err
	}
	s.n.line("    It gives her recovery codes, for when her phone is lost; she keeps them and goes on.")
	next, err := codes.url.Parse(find(goOnLink, codes.body))
	if err != nil {
		return err
	}
	done, err := b.open(ctx, next.String())
	if err != nil {
		return err
	}
	if err := done.is("consents_page"); err != nil {
		return err
	}
	s.n.shows("From now on her password alone opens nothing.")
	return s.alice.keep()
}

func (s *story) credentials() url.Values {
	return url.Values{"username": {s.alice.username}, "password": {s.alice.password}}
}

func (s *story) discover(ctx context.Context) error {
	ex, err := s.acorn.discover(ctx)
	if err != nil {
		return err
	}
	s.n.exchange(ex, "issuer", "pushed_authorization_request_endpoint", "mtls_endpoint_aliases.pushed_authorization_request_endpoint",
		"mtls_endpoint_aliases.token_endpoint", "token_endpoint_auth_methods_supported", "code_challenge_methods_supported",
		"authorization_response_iss_parameter_supported", "tls_client_certificate_bound_access_tokens")
	if err := ex.want(http.StatusOK, ""); err != nil {
		return err
	}
	if _, err := s.birch.discover(ctx); err != nil {
		return err
	}
	s.n.shows("Apps with a certificate use the aliases; no browser is ever asked for one.")
	return ex.wantValues("issuer", s.issuer(), "code_challenge_methods_supported", `["S256"]`, "authorization_response_iss_parameter_supported", "true",
		"tls_client_certificate_bound_access_tokens", "true", "mtls_endpoint_aliases.token_endpoint", local(s.MTLSPort)+"/token")
}

func (s *story) clientCredentials(ctx context.Context) error {
	ex, err := s.acorn.ownToken(ctx)
	if err != nil {
		return err
	}
	s.n.exchange(ex, "access_token", "token_type", "scope", "expires_in")
	s.own, s.assertion = ex.text("access_token"), ex.form
	if err := errors.Join(ex.want(http.StatusOK, ""), ex.wantValues("access_token", "*", "token_type", "Bearer", "scope", "accounts")); err != nil {
		return err
	}
	s.n.shows("No secret was sent: a signature that works once, and a TLS handshake that the token is bound to.")
	return nil
}

func (s *story) createConsent(ctx context.Context) error {
	ex, err := s.acorn.createConsent(ctx, s.own)
	if err != nil {
		return err
	}
	s.n.exchange(ex, "Data.ConsentId", "Data.Status", "Data.ExpirationDateTime")
	s.consentID = ex.text("Data.ConsentId")
	if err := errors.Join(ex.want(http.StatusCreated, ""), ex.wantValues("Data.ConsentId", "*", "Data.Status", "AwaitingAuthorisation")); err != nil {
		return err
	}
	s.n.shows("A consent waits for a customer. It allows nothing yet.")
	return nil
}

func (s *story) push(ctx context.Context) error {
	p, ex, err := s.acorn.push(ctx, s.consentID, false)
	if err != nil {
		return err
	}
	s.n.exchange(ex, "request_uri", "expires_in")
	s.request = p
	if err := errors.Join(ex.want(http.StatusCreated, ""), ex.wantValues("request_uri", "*", "expires_in", "60")); err != nil {
		return err
	}
	s.n.shows("What is asked for was checked before anybody is bothered, and cannot be changed in the browser.")
	return nil
}

func (s *story) signIn(ctx context.Context) (err error) {
	if s.page, err = s.surf(s.browser.open(ctx, s.acorn.authorizeURL(s.request))); err != nil {
		return err
	}
	if err := s.page.is("login_page"); err != nil {
		return err
	}
	if s.page, err = s.surf(s.browser.submit(ctx, s.page, `id="password"`, s.credentials())); err != nil {
		return err
	}
	if err := s.page.is("second_factor_page"); err != nil {
		return err
	}
	s.n.shows("The browser carries a reference and nothing else. A redirect after a form is 303: the password goes no further.")
	return nil
}

func (s *story) secondFactor(ctx context.Context) (err error) {
	for range 2 { // once more, should somebody else have typed the same code in meanwhile
		if due := s.alice.due(time.Now()); due > time.Second {
			s.n.line("    (Each code works once. The next one is due in %.0f s.)", due.Seconds())
		}
		code, err := s.alice.use(ctx)
		if err != nil {
			return err
		}
		if s.page, err = s.surf(s.browser.submit(ctx, s.page, `id="code"`, url.Values{"code": {code}})); err != nil {
			return err
		}
		if s.page.status != http.StatusForbidden {
			break
		}
	}
	if err := s.page.is("consent_page"); err != nil {
		return err
	}
	s.n.shows("Granting access to accounts needs two factors, whoever asks; and each code works once.")
	return s.alice.keep()
}

func (s *story) agree(ctx context.Context) error {
	accounts := s.page.accounts()
	if len(accounts) != 3 || !s.page.has(s.acorn.name) {
		return fmt.Errorf("expected the page to name %s and to offer three accounts, it offers %q", s.acorn.name, accounts)
	}
	s.chosen, s.withheld = accounts[:2], accounts[2]
	s.n.line("    The page says:")
	for _, line := range s.page.summary() {
		s.n.pair(line[0], line[1])
	}
	s.n.line("")
	code, err := s.approve(ctx, s.acorn, s.request)
	if err != nil {
		return err
	}
	s.code = code
	s.n.shows("The answer names its sender (iss) and the request that it belongs to (state); the app has checked both.")
	return nil
}

// approve presses the button on the consent page and takes the code from the redirect.
func (s *story) approve(ctx context.Context, t *tpp, p *pending) (code string, err error) {
	if s.page, err = s.surf(s.browser.submit(ctx, s.page, `id="approve_button"`, url.Values{"decision": {"approve"}, "account": s.chosen})); err != nil {
		return "", err
	}
	if s.page.status != 0 {
		return "", errors.Join(errors.New("expected to be sent back to the app"), s.page.is("consent_page"))
	}
	return t.readCallback(p, s.page.url.Query())
}

func (s *story) redeem(ctx context.Context) error {
	ex, err := s.acorn.redeem(ctx, s.code, s.request.verifier)
	if err != nil {
		return err
	}
	s.n.exchange(ex, "access_token", "token_type", "expires_in", "refresh_token", "id_token", "scope", "authorization_details")
	s.access, s.refresh, s.redeemed = ex.text("access_token"), ex.text("refresh_token"), time.Now()
	if err := errors.Join(ex.want(http.StatusOK, ""), ex.wantValues("access_token", "*", "refresh_token", "*", "id_token", "*", "token_type", "Bearer", "expires_in", "300")); err != nil {
		return err
	}
	claims, err := s.acorn.idToken(ctx, ex.text("id_token"), s.request)
	if err != nil {
		return err
	}
	s.n.line("    the ID token, verified with the server's keys:")
	for _, name := range []string{"sub", "acr", "amr", "openbanking_intent_id"} {
		s.n.pair(name, fmt.Sprint(claims[name]))
	}
	if claims["acr"] != "urn:openbanking:psd2:sca" {
		return fmt.Errorf("expected acr urn:openbanking:psd2:sca, got %v", claims["acr"])
	}
	s.n.shows("The tokens are bound to the app's certificate, and the ID token says how Alice was authenticated.")
	return nil
}

func (s *story) readAccounts(ctx context.Context) error {
	ex, err := s.acorn.get(ctx, "/accounts", s.access)
	if err != nil {
		return err
	}
	s.n.exchange(ex)
	var list struct {
		Data struct{ Account []bankAccount }
	}
	if err := errors.Join(ex.want(http.StatusOK, ""), ex.decode(&list)); err != nil {
		return err
	}
	var got []string
	for _, a := range list.Data.Account {
		got = append(got, a.AccountID)
		s.n.pair("Data.Account", strings.Join([]string{a.AccountID, a.Nickname, a.Identification, a.Currency}, "  "))
	}
	if !slices.Equal(got, s.chosen) {
		return fmt.Errorf("expected the accounts %q, got %q", s.chosen, got)
	}
	if ex, err = s.acorn.get(ctx, "/accounts/"+s.chosen[0]+"/balances", s.access); err != nil {
		return err
	}
	s.n.line("")
	s.n.exchange(ex, "Data.Balance")
	if err := errors.Join(ex.want(http.StatusOK, ""), ex.wantValues("Data.Balance", "*")); err != nil {
		return err
	}
	if ex, err = s.acorn.get(ctx, "/accounts/"+s.withheld+"/balances", s.access); err != nil {
		return err
	}
	s.n.line("")
	s.n.exchange(ex)
	if err := ex.want(http.StatusForbidden, "insufficient_scope"); err != nil {
		return err
	}
	s.n.shows("Her third account does not exist for this app.")
	return nil
}
