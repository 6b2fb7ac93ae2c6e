package authz_test

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
)

// Claims of an ID token that is pushed (CIBA Core §10.3.1).
const (
	authReqIDClaim = "urn:openid:params:jwt:claim:auth_req_id"
	rtHashClaim    = "urn:openid:params:jwt:claim:rt_hash"
)

// pushClient is a client that takes what is pushed to it as CIBA Core §10.3.1 and §12 say, and nothing else.
type pushClient struct {
	issuer, id string
	jwks       jose.JSONWebKeySet

	mu          sync.Mutex
	outstanding map[string]string         // bearer tokens by auth_req_id
	taken       map[string]map[string]any // what came, by auth_req_id
}

func newPushClient(t *testing.T, s *authztest.Server, id string) *pushClient {
	t.Helper()
	p := &pushClient{issuer: s.Config.Issuer, id: id, outstanding: map[string]string{}, taken: map[string]map[string]any{}}
	if err := json.Unmarshal(s.Client("web").Raw(t, http.MethodGet, "/jwks", "", nil).Body, &p.jwks); err != nil {
		t.Fatal(err)
	}
	return p
}

// expects is told of a request that the client has begun.
func (p *pushClient) expects(b backchannelRequest, bearer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outstanding[b.authReqID] = bearer
}

// got is what the client took for a request, nil for nothing.
func (p *pushClient) got(b backchannelRequest) map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken[b.authReqID]
}

func (p *pushClient) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if err := p.take(delivery{method: r.Method, bearer: bearer, contentType: r.Header.Get("Content-Type"), body: body}); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// take takes a delivery, or says why not. The same again is no error, in case the first answer was lost; it counts once.
func (p *pushClient) take(d delivery) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if media, _, err := mime.ParseMediaType(d.contentType); err != nil || media != "application/json" || d.method != http.MethodPost {
		return errors.New("not JSON by POST")
	}
	message := map[string]any{}
	if err := json.Unmarshal(d.body, &message); err != nil {
		return err
	}
	id, _ := message["auth_req_id"].(string)
	bearer, known := p.outstanding[id]
	if subtle.ConstantTimeCompare([]byte(bearer), []byte(d.bearer)) != 1 || !known {
		return errors.New("not what was asked for, or not by whom it was asked")
	}
	if earlier := p.taken[id]; earlier != nil {
		delete(message, "expires_in")
		if !cmp.Equal(earlier, message) {
			return errors.New("there was another outcome")
		}
		return nil
	}
	if err := p.check(message, id); err != nil {
		return err
	}
	delete(message, "expires_in")
	p.taken[id] = message
	return nil
}

func (p *pushClient) check(message map[string]any, id string) error {
	text := func(name string) string { s, _ := message[name].(string); return s }
	if code := text("error"); code != "" {
		if len(message) > 3 || !slices.Contains([]string{"access_denied", "expired_token", "transaction_failed"}, code) {
			return fmt.Errorf("no error of CIBA Core §12: %v", message)
		}
		return nil
	}
	lifetime, _ := message["expires_in"].(float64)
	if text("access_token") == "" || !strings.EqualFold(text("token_type"), "Bearer") || lifetime <= 0 || lifetime > 3600 {
		return errors.New("not a token response")
	}
	claims, err := p.verify(text("id_token"))
	if err != nil {
		return err
	}
	now := time.Now()
	at := func(name string) time.Time { n, _ := claims[name].(float64); return time.Unix(int64(n), 0) }
	_, nonce := claims["nonce"]
	var rtHash any // nil without a refresh token
	if refresh := text("refresh_token"); refresh != "" {
		rtHash = halfHash("ES256", refresh)
	}
	for what, good := range map[string]bool{
		"iss":         claims["iss"] == p.issuer,
		"aud":         claims["aud"] == p.id,
		"sub":         claims["sub"] != nil && claims["sub"] != "",
		"exp":         at("exp").After(now),
		"iat":         !at("iat").After(now.Add(5*time.Second)) && at("iat").After(now.Add(-10*time.Minute)),
		"nonce":       !nonce,
		"auth_req_id": claims[authReqIDClaim] == id,
		"at_hash":     claims["at_hash"] == halfHash("ES256", text("access_token")),
		"rt_hash":     claims[rtHashClaim] == rtHash,
	} {
		if !good {
			return fmt.Errorf("the ID token's %s: %v", what, claims)
		}
	}
	return nil
}

func (p *pushClient) verify(idToken string) (claims map[string]any, err error) {
	jws, err := jose.ParseSignedCompact(idToken, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, err
	}
	key := p.jwks.Key(jws.Signatures[0].Protected.KeyID)
	if len(key) != 1 {
		return nil, errors.New("signed with a key that is not published")
	}
	payload, err := jws.Verify(key[0])
	if err != nil {
		return nil, err
	}
	return claims, json.Unmarshal(payload, &claims)
}

// pushed registers a client at an address, has alice decide its request, and returns the request.
func pushed(t *testing.T, s *authztest.Server, id, address, decision string, more map[string]any) (*authztest.Client, backchannelRequest) {
	t.Helper()
	c := addNotified(t, s, id, fapi.Push, address, more)
	b := beginNotified(t, c)
	if decision != "" {
		decideBackchannel(t, s, c, b, decision)
	}
	return c, b
}

func TestPush_ToAClientThatChecksEverything(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	api := s.Client("bank-api")
	for name, test := range map[string]struct {
		scope   string
		more    map[string]any
		refresh bool
	}{
		"with a refresh token": {"openid accounts offline_access", nil, true},
		"without one":          {"openid accounts", nil, false},
		"JWT access tokens":    {"openid accounts", map[string]any{"access_token_format": "jwt"}, false},
		"pairwise":             {"openid accounts offline_access", map[string]any{"subject_type": "pairwise"}, true},
	} {
		t.Run("CIBA-14: "+name, func(t *testing.T) {
			id := "push-" + strings.ReplaceAll(name, " ", "-")
			client := newPushClient(t, s, id)
			c := addNotified(t, s, id, fapi.Push, s.Site(t, client), test.more)
			c.Scope = test.scope
			b := beginNotified(t, c)
			if b.answer["interval"] != nil {
				t.Errorf("an interval for nobody: %v", b.answer)
			}
			client.expects(b, notificationToken)
			pollBackchannel(t, c, b).Refused(t, http.StatusBadRequest, fapi.UnauthorizedClient)
			decideBackchannel(t, s, c, b, "approve")
			settled(t, s)
			got := client.got(b)
			if got == nil {
				t.Fatal("nothing was taken")
			}
			refresh, _ := got["refresh_token"].(string)
			if !isActive(t, api, got["access_token"].(string)) || (refresh != "") != test.refresh {
				t.Errorf("%v", got)
			}
			if refresh != "" {
				if a := c.Post(t, "/token", refreshForm(got)); a.Status != http.StatusOK {
					t.Errorf("refresh: %d %s", a.Status, a.Body)
				}
			}
			pollBackchannel(t, c, b).Refused(t, http.StatusBadRequest, fapi.UnauthorizedClient) // CIBA-16
			if !isActive(t, api, got["access_token"].(string)) {
				t.Error("CIBA-16: a poll ends what was pushed")
			}
		})
	}
}

func TestPush_OutcomesWithoutTokens(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for name, test := range map[string]struct {
		decision string
		then     func(t *testing.T, c *authztest.Client, b backchannelRequest)
		want     fapi.Code
	}{
		"refused": {"deny", nil, fapi.AccessDenied},
		"expired": {"", func(t *testing.T, _ *authztest.Client, b backchannelRequest) { overdue(t, s, b) }, fapi.ExpiredToken},
		"withdrawn before it was delivered": {"approve", func(t *testing.T, c *authztest.Client, _ backchannelRequest) {
			s.SQL(t, "UPDATE grants SET revoked_at = now() WHERE client_id = $1", c.ID)
		}, fapi.TransactionFailed},
		"tokens must be bound now": {"approve", func(t *testing.T, c *authztest.Client, _ backchannelRequest) {
			s.SQL(t, `UPDATE clients SET metadata = metadata || '{"dpop_bound_access_tokens":true,"backchannel_token_delivery_mode":"ping"}' WHERE client_id = $1`, c.ID)
			time.Sleep(200 * time.Millisecond) // until the server has heard of it
		}, fapi.TransactionFailed},
		"approved, and not delivered in time": {"approve", func(t *testing.T, _ *authztest.Client, b backchannelRequest) {
			s.SQL(t, "UPDATE authorizations SET code_expires_at = now() WHERE id = $1", [16]byte(authorizationOf(t, s, b)))
		}, fapi.ExpiredToken},
	} {
		t.Run("CIBA-15: "+name, func(t *testing.T) {
			id := "none-" + strings.ReplaceAll(name, " ", "-")
			client := newPushClient(t, s, id)
			c := addNotified(t, s, id, fapi.Push, s.Site(t, client), nil)
			b := beginNotified(t, c)
			client.expects(b, notificationToken)
			if test.then != nil && test.decision != "" { // nobody is told before it has happened
				s.SQL(t, `CREATE OR REPLACE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.due_at = now() + interval '1 hour'; RETURN NEW; END $$`)
				s.SQL(t, `CREATE TRIGGER later BEFORE UPDATE ON notifications FOR EACH ROW EXECUTE FUNCTION later()`)
				decideBackchannel(t, s, c, b, test.decision)
				s.SQL(t, `DROP TRIGGER later ON notifications`)
			} else if test.decision != "" {
				decideBackchannel(t, s, c, b, test.decision)
			}
			if test.then != nil {
				test.then(t, c, b)
			}
			tryAgain(t, s, 0)
			settled(t, s)
			got := client.got(b)
			if got == nil || got["error"] != string(test.want) || got["error_description"] == "" || len(got) != 3 {
				t.Errorf("%v", got)
			}
			if n := s.Count(t, "SELECT count(*) FROM authorizations WHERE client_id = $1 AND redemptions > 0", c.ID); n != 0 {
				t.Error("there are tokens")
			}
		})
	}
}

// What a client must refuse: the client of these tests does.
func TestPush_TheClientRefusesWhatItMust(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	x := &mailbox{}
	const id = "pushed"
	client := newPushClient(t, s, id)
	c, b := pushed(t, s, id, s.Site(t, x), "", nil)
	second := beginNotified(t, c)
	client.expects(b, notificationToken)
	client.expects(second, notificationToken+"2")
	decideBackchannel(t, s, c, b, "approve")
	genuine := x.arrives(t, 1)
	tokens := genuine.fields(t)

	set, err := keys.Open(t.Context(), s.DB, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	with := func(changes map[string]any) delivery {
		changed := maps.Clone(tokens)
		merge(changed, changes)
		d := genuine
		d.body, _ = json.Marshal(changed)
		return d
	}
	withClaims := func(changes map[string]any) delivery {
		claims := idClaims(t, tokens)
		merge(claims, changes)
		signed, err := set.Sign(jose.ES256, keys.TypeIDToken, claims)
		if err != nil {
			t.Fatal(err)
		}
		return with(map[string]any{"id_token": signed})
	}
	bearer := func(token string) delivery { d := genuine; d.bearer = token; return d }
	own := authztest.Sign(t, jose.ES256, authztest.NewKey(t), map[jose.HeaderKey]any{"kid": kidOf(t, tokens["id_token"].(string)), "typ": "JWT"}, idClaims(t, tokens))
	otherType, get := genuine, genuine
	otherType.contentType = authztest.FormType
	get.method = http.MethodGet
	for name, d := range map[string]delivery{
		"another bearer token":                      bearer(notificationToken + "x"),
		"no bearer token":                           bearer(""),
		"the bearer token of another request":       bearer(notificationToken + "2"),
		"another media type":                        otherType,
		"another method":                            get,
		"an unknown auth_req_id":                    with(map[string]any{"auth_req_id": b.authReqID + "x"}),
		"no auth_req_id":                            with(map[string]any{"auth_req_id": nil}),
		"another access token":                      with(map[string]any{"access_token": "csat_other"}),
		"another refresh token":                     with(map[string]any{"refresh_token": "csrt_other"}),
		"the refresh token left out":                with(map[string]any{"refresh_token": nil}),
		"no ID token":                               with(map[string]any{"id_token": nil}),
		"another type of token":                     with(map[string]any{"token_type": "DPoP"}),
		"no lifetime":                               with(map[string]any{"expires_in": nil}),
		"an error of another endpoint":              with(map[string]any{"error": "invalid_grant"}),
		"another issuer":                            withClaims(map[string]any{"iss": "https://other.example"}),
		"another audience":                          withClaims(map[string]any{"aud": "web"}),
		"an ID token that has expired":              withClaims(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}),
		"a nonce that nobody sent":                  withClaims(map[string]any{"nonce": "n"}),
		"no auth_req_id in the ID token":            withClaims(map[string]any{authReqIDClaim: nil}),
		"another request's auth_req_id in it":       withClaims(map[string]any{authReqIDClaim: second.authReqID}),
		"no at_hash":                                withClaims(map[string]any{"at_hash": nil}),
		"no rt_hash":                                withClaims(map[string]any{rtHashClaim: nil}),
		"an ID token that somebody else has signed": with(map[string]any{"id_token": own}),
	} {
		if client.take(d) == nil {
			t.Errorf("CIBA-14: takes %s", name)
		}
	}
	mixed := with(map[string]any{"auth_req_id": second.authReqID})
	mixed.bearer = notificationToken + "2"
	if client.take(mixed) == nil {
		t.Error("CIBA-14: takes one request's tokens for another")
	}
	if len(client.taken) != 0 {
		t.Fatalf("took %v", client.taken)
	}
	if err := client.take(genuine); err != nil {
		t.Fatalf("the genuine one: %v", err)
	}
	if err := client.take(genuine); err != nil || len(client.taken) != 1 {
		t.Errorf("the same again: %v", err)
	}
	denied, _ := json.Marshal(map[string]string{"auth_req_id": b.authReqID, "error": "access_denied"})
	for name, replay := range map[string]delivery{
		"other tokens after the first": with(map[string]any{"scope": "openid payments"}),
		"an error after the tokens":    {method: http.MethodPost, contentType: "application/json", bearer: notificationToken, body: denied},
	} {
		if client.take(replay) == nil {
			t.Errorf("takes %s", name)
		}
	}
}

func merge(m, changes map[string]any) {
	for name, value := range changes {
		if value == nil {
			delete(m, name)
		} else {
			m[name] = value
		}
	}
}

// sameTokens fails the test unless all deliveries are one but for how long the token is good.
func sameTokens(t *testing.T, all []delivery) map[string]any {
	t.Helper()
	first := all[0].fields(t)
	lifetime := first["expires_in"].(float64)
	delete(first, "expires_in")
	for _, d := range all[1:] {
		next := d.fields(t)
		if left := next["expires_in"].(float64); left > lifetime || left < lifetime-60 {
			t.Errorf("CIBA-14: expires_in %v after %v", left, lifetime)
		}
		delete(next, "expires_in")
		if diff := cmp.Diff(first, next); diff != "" {
			t.Errorf("another outcome: %s", diff)
		}
	}
	return first
}

// What becomes of tokens that do not arrive: docs/ciba-delivery.md.
func TestPush_LostTokens(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	public := authztest.Start(t, authztest.Options{PublicOnly: true})
	elsewhere := &mailbox{}
	target := s.Site(t, elsewhere)
	slow := func(n int, w http.ResponseWriter, r *http.Request) {
		if n > 1 { // once is enough to wait for
			w.WriteHeader(http.StatusGatewayTimeout)
			return
		}
		<-r.Context().Done()
	}
	for name, test := range map[string]struct {
		s       *authztest.Server
		answer  func(int, http.ResponseWriter, *http.Request)
		address func(site string) string
		retried bool
		arrives bool
	}{
		"nobody listens":  {s, nil, func(string) string { return "https://127.0.0.1:1/ciba" }, true, false},
		"500":             {s, answering(500), nil, true, true},
		"503":             {s, answering(503), nil, true, true},
		"a slow answer":   {s, slow, nil, true, true},
		"the line breaks": {s, func(int, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, true, true},
		"another host":    {s, nil, func(site string) string { return strings.Replace(site, "127.0.0.1", "localhost", 1) }, true, false},
		"400":             {s, answering(400), nil, false, true},
		"401":             {s, answering(401), nil, false, true},
		"404":             {s, answering(404), nil, false, true},
		"a redirect": {s, func(_ int, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target, http.StatusTemporaryRedirect)
		}, nil, false, true},
		"a private address": {public, nil, nil, false, false},
	} {
		t.Run("CIBA-16: "+name, func(t *testing.T) {
			x := &mailbox{answer: test.answer}
			address := test.s.Site(t, x)
			if test.address != nil {
				address = test.address(address)
			}
			c, b := pushed(t, test.s, "lost-"+strings.ReplaceAll(name, " ", "-"), address, "approve", nil)
			id := authorizationOf(t, test.s, b)
			alive := func() bool { _, err := test.s.DB.LoadLive(t.Context(), nil, id, c.ID); return err == nil }
			if test.retried {
				for i, again := range outcomeRetries {
					failed(t, test.s, i+1, again)
					if !alive() {
						t.Fatalf("ended after attempt %d", i+1)
					}
					tryAgain(t, test.s, i+1)
				}
			}
			settled(t, test.s)
			if alive() {
				t.Error("the tokens that nobody acknowledged live on")
			}
			want := 0
			if test.arrives {
				want = 1
			}
			if test.arrives && test.retried {
				want = 4
			}
			all := x.arrived()
			if len(all) != want {
				t.Fatalf("%d deliveries, want %d", len(all), want)
			}
			if want > 0 {
				tokens := sameTokens(t, all)
				if isActive(t, test.s.Client("bank-api"), tokens["access_token"].(string)) {
					t.Error("active")
				}
				c.Post(t, "/token", refreshForm(tokens)).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
			}
			if n := test.s.Count(t, "SELECT count(*) FROM authorizations WHERE client_id = $1 AND redemptions = 1 AND revoked_at IS NOT NULL", c.ID); n != 1 {
				t.Errorf("%d revoked authorizations", n)
			}
			pollBackchannel(t, c, b).Refused(t, http.StatusBadRequest, fapi.UnauthorizedClient)
		})
	}
	if n := len(elsewhere.arrived()); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

// A client whose answer was lost gets the same again, and acknowledges it.
func TestPush_TheSameTokensUntilTheyAreAcknowledged(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	const id = "pushed"
	client := newPushClient(t, s, id)
	x := &mailbox{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 1: // it has them; nobody hears of it
			panic(http.ErrAbortHandler)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}}
	c, b := pushed(t, s, id, s.Site(t, x), "approve", nil)
	client.expects(b, notificationToken)
	failed(t, s, 1, outcomeRetries[0])
	tryAgain(t, s, 1)
	failed(t, s, 2, outcomeRetries[1])
	tryAgain(t, s, 2)
	settled(t, s)
	all := x.arrived()
	tokens := sameTokens(t, all)
	for i, d := range all {
		if err := client.take(d); err != nil {
			t.Errorf("delivery %d: %v", i+1, err)
		}
	}
	if len(all) != 3 || len(client.taken) != 1 || !isActive(t, s.Client("bank-api"), tokens["access_token"].(string)) {
		t.Errorf("%d deliveries, %d taken", len(all), len(client.taken))
	}
	if a := c.Post(t, "/token", refreshForm(tokens)); a.Status != http.StatusOK {
		t.Errorf("refresh: %d %s", a.Status, a.Body)
	}
}

// The customer withdraws while the tokens are on their way: they are not sent again.
func TestPush_NotAgainOnceTheyHaveEnded(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	x := &mailbox{answer: answering(503)}
	pushed(t, s, "pushed", s.Site(t, x), "approve", nil)
	failed(t, s, 1, outcomeRetries[0])
	s.SQL(t, "UPDATE grants SET revoked_at = now()")
	tryAgain(t, s, 1)
	settled(t, s)
	if n := len(x.arrived()); n != 1 {
		t.Errorf("%d deliveries", n)
	}
	if s.Count(t, "SELECT count(*) FROM authorizations WHERE revoked_at IS NOT NULL") != 1 {
		t.Error("not revoked")
	}
}

// Tokens and what authenticates the server are nobody's to read.
func TestPush_NoSecretsInTheLog(t *testing.T) {
	t.Parallel()
	core, log := observer.New(zap.DebugLevel)
	s := authztest.Start(t, authztest.Options{Log: zap.New(core)})
	secrets := []string{notificationToken}
	for _, mode := range []fapi.DeliveryMode{fapi.Ping, fapi.Push} {
		for _, status := range []int{204, 503, 401, 307} {
			x := &mailbox{answer: answering(status)}
			c := addNotified(t, s, fmt.Sprintf("%s-%d", mode, status), mode, s.Site(t, x), nil)
			b := beginNotified(t, c)
			decideBackchannel(t, s, c, b, "approve")
			if status == 503 {
				for i, again := range outcomeRetries {
					failed(t, s, i+1, again)
					tryAgain(t, s, i+1)
				}
			}
			settled(t, s)
			secrets = append(secrets, b.authReqID)
			for name, value := range x.arrives(t, 1).fields(t) {
				if text, isText := value.(string); isText && strings.HasSuffix(name, "_token") {
					secrets = append(secrets, text)
				}
			}
		}
	}
	var text string
	for _, e := range log.All() {
		text += fmt.Sprintln(e.LoggerName, e.Message, e.ContextMap())
	}
	for _, want := range []string{"told", "not told yet", "given up", "pushed tokens revoked"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	if len(secrets) != 1+8+4*3 {
		t.Errorf("%d secrets", len(secrets))
	}
}
