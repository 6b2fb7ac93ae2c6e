package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

// speaker is a smart speaker: it has no screen, and asks its customer on her phone (CIBA). How it learns what she decided is
// what tells the three apart.
type speaker struct {
	*tpp
	mode  fapi.DeliveryMode
	token string        // by which the server shows who it is: client_notification_token
	told  chan spokenTo // what came to its notification endpoint
	asked time.Time     // when its request was sent
	event [moments]time.Duration
}

// spokenTo is what a speaker was sent.
type spokenTo struct {
	at            time.Time
	authorization string
	body          []byte
}

// What happens to a request, in order.
const (
	taken    = iota // the server has answered
	shownTo         // it is on the customer's phone
	approved        // she agrees
	reached         // the server has called the speaker
	inHand          // the speaker has its tokens
	moments
)

var momentNames = [moments]string{"the server has taken the request", "Alice's phone shows it", "Alice agrees", "the speaker is called", "its tokens are there"}

const (
	speakersPath = "/speakers/"
	payment      = `[{"type":"payment_initiation","instructedAmount":{"currency":"EUR","amount":"12.50"},"creditorName":"Corner Bakery",` +
		`"creditorAccount":{"iban":"GB33CSGN60161331926819"}}]`
)

// makeSpeakers makes the three, and what they register. FAPI-CIBA has no push: nobody proves possession of a key there.
func (d *demo) makeSpeakers() ([]any, error) {
	var registered []any
	for _, s := range []struct {
		name string
		mode fapi.DeliveryMode
	}{{"Robin", fapi.Poll}, {"Wren", fapi.Ping}, {"Finch", fapi.Push}} {
		certificate, err := d.ca.client(s.name + " Speaker")
		if err != nil {
			return nil, err
		}
		t, err := d.newTPP("speaker-"+string(s.mode), s.name+" Speaker", &certificate)
		if err != nil {
			return nil, err
		}
		d.speakers = append(d.speakers, &speaker{tpp: t, mode: s.mode, told: make(chan spokenTo, 4)})
		m := d.metadata(t)
		delete(m, "redirect_uris")
		m["grant_types"] = []string{fapi.GrantCIBA} // a payment is made once: nothing is to be refreshed
		m["scope"] = "openid"
		m["authorization_details_types"] = []string{"payment_initiation"}
		m["backchannel_token_delivery_mode"] = s.mode
		m["backchannel_authentication_request_signing_alg"] = jose.ES256
		if s.mode.Notifies() {
			m["backchannel_client_notification_endpoint"] = d.appURL() + speakersPath + string(s.mode)
		}
		if m["profile"] = fapi.OpenID; s.mode != fapi.Push {
			m["profile"], m["tls_client_certificate_bound_access_tokens"] = fapi.FAPICIBA, true
		}
		registered = append(registered, m)
	}
	return registered, nil
}

// hear is the notification endpoint of all speakers.
func (d *demo) hear(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	for _, s := range d.speakers {
		if err == nil && string(s.mode) == r.PathValue("mode") {
			select {
			case s.told <- spokenTo{time.Now(), r.Header.Get("Authorization"), body}:
				w.WriteHeader(http.StatusNoContent)
			default: // nobody waits
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
	}
	w.WriteHeader(http.StatusNotFound)
}

// is notes when something happened.
func (p *speaker) is(moment int) { p.event[moment] = time.Since(p.asked) }

// ask makes the request: signed, with what both devices show.
func (p *speaker) ask(ctx context.Context, username, message string) (*exchange, error) {
	p.token = rand.Text() + rand.Text()
	now := time.Now()
	claims := map[string]any{
		"iss": p.id, "aud": p.issuer, "jti": rand.Text(), "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		"scope": "openid", "login_hint": username, "binding_message": message, "authorization_details": json.RawMessage(payment),
	}
	if p.mode.Notifies() {
		claims["client_notification_token"] = p.token
	}
	request, err := sign(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: p.id}}, "JWT", false, claims)
	if err != nil {
		return nil, err
	}
	p.asked = time.Now()
	ex, err := p.post(ctx, p.endpoints.Backchannel, url.Values{"request": {request}})
	p.is(taken)
	return ex, err
}

// fetch asks for the tokens.
func (p *speaker) fetch(ctx context.Context, authReqID string) (*exchange, error) {
	return p.post(ctx, p.endpoints.Token, url.Values{"grant_type": {fapi.GrantCIBA}, "auth_req_id": {authReqID}})
}

// heard waits for the server's call.
func (p *speaker) heard(ctx context.Context, into any) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(10 * time.Second):
		return errors.New("the server has not called within ten seconds")
	case t := <-p.told:
		p.event[reached] = t.at.Sub(p.asked)
		if t.authorization != "Bearer "+p.token {
			return errors.New("whoever called does not know the client_notification_token")
		}
		return json.Unmarshal(t.body, into)
	}
}

func (s *story) polled(ctx context.Context) error {
	p := s.speakers[0]
	id, err := s.agreeOnPhone(ctx, p)
	if err != nil {
		return err
	}
	s.n.line("    (%s asks again every five seconds, as the server has told it to)\n", p.name)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(p.asked.Add(5 * time.Second))):
	}
	if err := s.fetched(ctx, p, id); err != nil {
		return err
	}
	s.n.shows("Nothing has to reach the speaker; it pays for that by waiting.")
	return nil
}

func (s *story) pinged(ctx context.Context) error {
	p := s.speakers[1]
	id, err := s.agreeOnPhone(ctx, p)
	if err != nil {
		return err
	}
	var said map[string]string
	if err := p.heard(ctx, &said); err != nil {
		return err
	}
	s.n.line("    %s", s.n.paint(blue, "← POST "+s.appURL()+speakersPath+string(p.mode)))
	s.n.pair("auth_req_id", readable("auth_req_id", said["auth_req_id"]))
	if said["auth_req_id"] != id || len(said) != 1 {
		return fmt.Errorf("expected the auth_req_id and nothing else, got %d members", len(said))
	}
	s.n.line("")
	if err := s.fetched(ctx, p, id); err != nil {
		return err
	}
	s.n.shows("The call says that it is time, and no more: the tokens are fetched with the speaker's own key and certificate.")
	return nil
}

func (s *story) pushedTo(ctx context.Context) error {
	p := s.speakers[2]
	id, err := s.agreeOnPhone(ctx, p)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := p.heard(ctx, &raw); err != nil {
		return err
	}
	p.event[inHand] = p.event[reached]
	came := &exchange{body: raw}
	s.n.line("    %s", s.n.paint(blue, "← POST "+s.appURL()+speakersPath+string(p.mode)))
	for _, name := range []string{"auth_req_id", "access_token", "token_type", "expires_in", "id_token"} {
		s.n.pair(name, readable(name, came.text(name)))
	}
	if err := came.wantValues("auth_req_id", id, "access_token", "*", "token_type", "Bearer"); err != nil {
		return err
	}
	claims, err := p.verified(ctx, came.text("id_token"))
	if err != nil {
		return err
	}
	s.n.line("    the ID token, verified with the server's keys:")
	for _, claim := range [][2]string{{"at_hash", halfHash(came.text("access_token"))}, {"urn:openid:params:jwt:claim:auth_req_id", id}} {
		s.n.pair(claim[0], secret(fmt.Sprint(claims[claim[0]])))
		if claims[claim[0]] != claim[1] {
			return fmt.Errorf("ID token: expected %s to be %s", claim[0], claim[1])
		}
	}
	s.n.shows("Nothing is left to fetch. The ID token is the proof that tokens and request belong together, and who sent them.")
	return nil
}

// halfHash is what an ID token says of a token that is handed over with it, where it is signed ES256 (OpenID Connect Core §3.1.3.6).
func halfHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// agreeOnPhone has the speaker ask, and Alice agree on her phone. It returns the auth_req_id.
func (s *story) agreeOnPhone(ctx context.Context, p *speaker) (string, error) {
	if _, err := p.discover(ctx); err != nil {
		return "", err
	}
	message := strings.ToUpper(rand.Text()[:4])
	ex, err := p.ask(ctx, s.alice.username, message)
	if err != nil {
		return "", err
	}
	s.n.exchange(ex, "auth_req_id", "expires_in", "interval")
	id := ex.text("auth_req_id")
	if err := errors.Join(ex.want(http.StatusOK, ""), ex.wantValues("auth_req_id", "*", "expires_in", "300")); err != nil {
		return "", err
	}
	page, err := s.waitOnPhone(ctx, p, message)
	if err != nil {
		return "", err
	}
	s.n.line("    %s says “%s”; Alice's phone says:", p.name, message)
	s.n.pair("", plain(find(heading, page.body)))
	for _, m := range factRow.FindAllStringSubmatch(page.body, -1) {
		s.n.pair(plain(m[1]), plain(m[2]))
	}
	if !page.has(message) || !page.has("12.50 EUR") || !page.has("Corner Bakery") {
		return "", errors.New("expected the page to show the message, the amount and the payee")
	}
	p.is(approved) // before she sees what comes of it, the speaker may know
	done, err := s.browser.submit(ctx, page, `id="approve_button"`, url.Values{"decision": {"approve"}})
	if err != nil {
		return "", err
	}
	s.n.line("    She agrees.\n")
	return id, done.is("done_page")
}

var (
	waitingLink = regexp.MustCompile(`<a\b[^>]*\bid="decide_1"[^>]*\bhref="([^"]*)"`)
	factRow     = regexp.MustCompile(`(?s)<dt>(.*?)</dt><dd[^>]*>(.*?)</dd>`)
)

const lookAgain = 20 * time.Millisecond

// waitOnPhone looks at Alice's phone, on which she is still signed in, until the request is there, and opens it.
func (s *story) waitOnPhone(ctx context.Context, p *speaker, message string) (*webPage, error) {
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); {
		page, err := s.browser.open(ctx, s.issuer()+"/approvals")
		if err != nil {
			return nil, err
		}
		if err := page.is("approvals_page"); err != nil {
			return nil, err
		}
		if link := waitingLink.FindStringSubmatch(page.body); link != nil && page.has(message) {
			p.is(shownTo)
			to, err := page.url.Parse(html.UnescapeString(link[1]))
			if err != nil {
				return nil, err
			}
			if page, err = s.browser.open(ctx, to.String()); err != nil {
				return nil, err
			}
			return page, page.is("consent_page")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lookAgain):
		}
	}
	return nil, errors.New("the request has not come to the phone within ten seconds")
}

// fetched fetches the tokens and tells so.
func (s *story) fetched(ctx context.Context, p *speaker, authReqID string) error {
	ex, err := p.fetch(ctx, authReqID)
	if err != nil {
		return err
	}
	p.is(inHand)
	s.n.exchange(ex, "access_token", "token_type", "expires_in", "authorization_details")
	if err := errors.Join(ex.want(http.StatusOK, ""), ex.wantValues("access_token", "*", "id_token", "*", "token_type", "Bearer")); err != nil {
		return err
	}
	_, err = p.verified(ctx, ex.text("id_token"))
	return err
}

// sideBySide is what happened to each request, in milliseconds since the speaker asked.
func (s *story) sideBySide(context.Context) error {
	head := fmt.Sprintf("    %-34s", "ms after the request was sent")
	for _, p := range s.speakers {
		head += fmt.Sprintf("%20s", fmt.Sprintf("%s (%s)", strings.TrimSuffix(p.name, " Speaker"), p.mode))
	}
	s.n.line("%s", s.n.paint(faint, head))
	for moment, name := range momentNames {
		line := fmt.Sprintf("    %-34s", name)
		for _, p := range s.speakers {
			ms := "–"
			if p.event[moment] > 0 {
				ms = fmt.Sprint(p.event[moment].Milliseconds())
			}
			line += fmt.Sprintf("%20s", ms)
		}
		s.n.line("%s", line)
	}
	s.n.line("")
	for _, p := range s.speakers {
		before := time.Duration(0)
		for moment, at := range p.event {
			if moment == reached && !p.mode.Notifies() {
				continue
			}
			if at == 0 || at < before {
				return fmt.Errorf("%s: expected that %s, and after what stands above", p.name, momentNames[moment])
			}
			before = at
		}
	}
	s.n.shows("The same request, the same page and the same decision three times: only the way back differs.")
	return nil
}
