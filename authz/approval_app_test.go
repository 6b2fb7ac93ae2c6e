package authz_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

const (
	appDevices  = "/approvals/v1/devices"
	appRequests = "/approvals/v1/requests"
)

// addApp registers the bank's own app.
func addApp(t *testing.T, s *authztest.Server, id string) *authztest.Client {
	t.Helper()
	c := s.AddClient(t, id, fapi.FAPI2, fapi.PrivateKeyJWT, map[string]any{"dpop_bound_access_tokens": true, "scope": "openid approvals accounts offline_access"})
	c.DPoPKey, c.Scope = authztest.NewKey(t), "openid approvals"
	return c
}

// phone is an installation of the app, in the hands of a customer.
type phone struct {
	app   *authztest.Client
	token string
	sub   string
	key   *ecdsa.PrivateKey
	id    string // of the device; "" before it is registered
}

// startApp lets a customer log in to the app, with two factors if strong.
func startApp(t *testing.T, s *authztest.Server, app *authztest.Client, username string, strong bool) *phone {
	t.Helper()
	changes := map[string]string{}
	if strong {
		changes["acr_values"] = authn.SCA
	}
	b := s.Browser(t)
	page := b.LoginAs(t, b.Authorize(t, app.ID, app.Push(t, changes)), username)
	if strong {
		page = enrolled(t, b, page)
	}
	page = b.Decide(t, page.Is(t, "consent_page"), "approve")
	tokens := app.Exchange(t, page.Left.Query().Get("code"))
	p := &phone{app: app, token: tokens["access_token"].(string), key: authztest.NewKey(t)}
	_, claims := s.Verified(t, tokens["id_token"].(string))
	p.sub = claims["sub"].(string)
	return p
}

// enrolled enrols an authenticator, and goes on from its recovery codes.
func enrolled(t *testing.T, b *authztest.Browser, page *authztest.Page) *authztest.Page {
	t.Helper()
	page = b.Submit(t, page.Is(t, "enrol_page"), url.Values{"code": {codeOf(t, secretOf(t, page), time.Now())}})
	return b.Continue(t, page.Is(t, "recovery_codes_page"))
}

// call makes a call of the API.
func (p *phone) call(t *testing.T, s *authztest.Server, method, path, media, body string) *authztest.Answer {
	t.Helper()
	header := http.Header{"Authorization": {"DPoP " + p.token}, "Dpop": {p.app.Proof(t, method, s.Config.Issuer+path, p.token, nil)}}
	if media != "" {
		header.Set("Content-Type", media)
	}
	return s.Client("web").Raw(t, method, path, body, header) // at s, wherever the app was registered
}

func (p *phone) get(t *testing.T, s *authztest.Server, path string) *authztest.Answer {
	t.Helper()
	return p.call(t, s, http.MethodGet, path, "", "")
}

// proof is what registers the phone's key; claims replace those it has.
func (p *phone) proof(t *testing.T, s *authztest.Server, claims map[string]any) string {
	t.Helper()
	return authztest.Sign(t, jose.ES256, p.key, map[jose.HeaderKey]any{"typ": "approval-device+jwt", "jwk": jose.JSONWebKey{Key: p.key.Public()}},
		changed(map[string]any{"aud": s.Config.Issuer, "sub": p.sub, "jti": rand.Text(), "iat": time.Now().Unix()}, claims))
}

// changed returns claims with changes; nil leaves one out.
func changed(claims, changes map[string]any) map[string]any {
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// register registers the phone's key.
func (p *phone) register(t *testing.T, s *authztest.Server) *phone {
	t.Helper()
	answer := p.call(t, s, http.MethodPost, appDevices, "application/json", asJSON(t, map[string]any{"name": "Pixel 12", "proof": p.proof(t, s, nil)}))
	if p.id, _ = answer.JSON["id"].(string); answer.Status != http.StatusCreated || p.id == "" {
		t.Fatalf("registering answered %d %s", answer.Status, answer.Body)
	}
	return p
}

// show fetches a request and returns it with the digest of what came.
func (p *phone) show(t *testing.T, s *authztest.Server, id string) (shown map[string]any, digest string) {
	t.Helper()
	answer := p.get(t, s, appRequests+"/"+id)
	if answer.Status != http.StatusOK {
		t.Fatalf("showing answered %d %s", answer.Status, answer.Body)
	}
	sum := sha256.Sum256(answer.Body)
	if want := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"; answer.Header.Get("Content-Digest") != want {
		t.Errorf("RFC 9530: Content-Digest %q, want %q", answer.Header.Get("Content-Digest"), want)
	}
	return answer.JSON, base64.RawURLEncoding.EncodeToString(sum[:])
}

// sign makes a decision; claims replace those it has.
func (p *phone) sign(t *testing.T, s *authztest.Server, id, digest string, claims map[string]any) string {
	t.Helper()
	return authztest.Sign(t, jose.ES256, p.key, map[jose.HeaderKey]any{"typ": "approval+jwt", "kid": p.id}, p.claims(s, id, digest, claims))
}

func (p *phone) claims(s *authztest.Server, id, digest string, changes map[string]any) map[string]any {
	return changed(map[string]any{
		"iss": p.id, "aud": s.Config.Issuer, "iat": time.Now().Unix(), "jti": rand.Text(), "approval_id": id, "decision": "approve",
		"digest": digest, "accounts": []string{"12"}, "amr": []string{"fpt"},
	}, changes)
}

func (p *phone) decide(t *testing.T, s *authztest.Server, id, decision string) *authztest.Answer {
	t.Helper()
	return p.call(t, s, http.MethodPost, appRequests+"/"+id+"/decision", "application/jwt", decision)
}

// said fails the test unless a decision was taken.
func said(t *testing.T, answer *authztest.Answer, decision string) {
	t.Helper()
	if answer.Status != http.StatusOK || answer.JSON["decision"] != decision {
		t.Errorf("deciding answered %d %s, want %s", answer.Status, answer.Body, decision)
	}
}

// The way of the app, from its first start to the tokens of the device that asked.
func TestApprovalApp_Flow(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	speaker := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, nil)
	p := startApp(t, s, addApp(t, s, "bank-app"), authztest.Username, true).register(t, s)

	b := beginBackchannel(t, speaker, url.Values{"acr_values": {authn.SCA}})
	list, _ := p.get(t, s, appRequests).JSON["requests"].([]any)
	if len(list) != 1 {
		t.Fatalf("listed %v", list)
	}
	listed := list[0].(map[string]any)
	client, _ := listed["client"].(map[string]any)
	id := authorizationOf(t, s, b).String()
	if listed["id"] != id || listed["binding_message"] != "W4SCT" || client["client_id"] != "speaker" || client["name"] != "App speaker" || listed["kind"] != "scopes" {
		t.Errorf("listed %v", listed)
	}
	created, _ := time.Parse(time.RFC3339, listed["created_at"].(string))
	expires, _ := time.Parse(time.RFC3339, listed["expires_at"].(string))
	if expires.Sub(created) != 5*time.Minute {
		t.Errorf("from %v to %v", listed["created_at"], listed["expires_at"])
	}
	shown, digest := p.show(t, s, id)
	if accounts, _ := shown["accounts"].([]any); len(accounts) != 2 || shown["acr_required"] != authn.SCA || len(shown["items"].([]any)) != 3 || shown["binding_message"] != "W4SCT" {
		t.Errorf("shown %v", shown)
	}
	if strings.Contains(asJSON(t, shown), "000000012") {
		t.Error("the whole number of an account is shown")
	}
	if _, again := p.show(t, s, id); again != digest {
		t.Error("shown differently the second time")
	}
	pollBackchannel(t, speaker, b).Refused(t, http.StatusBadRequest, fapi.AuthorizationPending)
	said(t, p.decide(t, s, id, p.sign(t, s, id, digest, nil)), "approve")
	p.get(t, s, appRequests+"/"+id).Refused(t, http.StatusNotFound, fapi.InvalidRequest)

	tokens := pollBackchannel(t, speaker, b)
	if tokens.Status != http.StatusOK {
		t.Fatalf("%d %s", tokens.Status, tokens.Body)
	}
	_, claims := s.Verified(t, tokens.JSON["id_token"].(string))
	if claims["acr"] != authn.SCA || asJSON(t, claims["amr"]) != `["pop","fpt","mfa"]` || time.Since(time.Unix(int64(claims["auth_time"].(float64)), 0)) > time.Minute {
		t.Errorf("RFC 8176: the ID token says %v", claims)
	}
	if n := s.Count(t, `SELECT count(*) FROM authorizations WHERE id = $1 AND account_ids = '{12}'`, id); n != 1 {
		t.Error("not for the account that was picked")
	}
	if n := s.Count(t, `SELECT count(*) FROM logins l JOIN customers c ON c.id = l.customer_id WHERE l.amr @> '{pop}'`); n != 0 {
		t.Error("the signature's login is still there")
	}
	devices, _ := p.get(t, s, appDevices).JSON["devices"].([]any)
	if len(devices) != 1 || devices[0].(map[string]any)["last_used_at"] == nil || devices[0].(map[string]any)["name"] != "Pixel 12" {
		t.Errorf("devices %v", devices)
	}

	t.Run("a refusal, as JSON", func(t *testing.T) {
		b := beginBackchannel(t, speaker, nil)
		id := authorizationOf(t, s, b).String()
		decision := p.sign(t, s, id, "", map[string]any{"decision": "refuse", "digest": nil})
		said(t, p.call(t, s, http.MethodPost, appRequests+"/"+id+"/decision", "application/json", asJSON(t, map[string]string{"decision": decision})), "refuse")
		pollBackchannel(t, speaker, b).Refused(t, http.StatusBadRequest, fapi.AccessDenied)
	})
	t.Run("a report silences the client", func(t *testing.T) {
		b := beginBackchannel(t, speaker, nil)
		id := authorizationOf(t, s, b).String()
		said(t, p.decide(t, s, id, p.sign(t, s, id, "", map[string]any{"decision": "report", "digest": nil})), "report")
		pollBackchannel(t, speaker, b).Refused(t, http.StatusBadRequest, fapi.AccessDenied)
		speaker.Post(t, "/bc-authorize", backchannelForm(speaker, nil)).Refused(t, http.StatusForbidden, fapi.AccessDenied)
	})
}

// Number matching: the number is part of what is signed, and a wrong one is a no, as on the page.
func TestApprovalApp_Numbers(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	speaker := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"backchannel_number_matching": true})
	p := startApp(t, s, addApp(t, s, "bank-app"), authztest.Username, true).register(t, s)
	begin := func() (b backchannelRequest, id, digest, right, wrong string) {
		b = beginBackchannel(t, speaker, nil)
		id = authorizationOf(t, s, b).String()
		right = b.answer["match_number"].(string)
		shown, digest := p.show(t, s, id)
		choices := shown["number_choices"].([]any)
		if len(choices) != 3 || !slices.Contains(choices, any(right)) {
			t.Fatalf("%v to choose from, %s is right", choices, right)
		}
		for _, other := range choices {
			if other != right {
				wrong = other.(string)
			}
		}
		return b, id, digest, right, wrong
	}
	b, id, digest, right, _ := begin()
	p.decide(t, s, id, p.sign(t, s, id, digest, nil)).Refused(t, http.StatusBadRequest, fapi.InvalidDecision)
	said(t, p.decide(t, s, id, p.sign(t, s, id, digest, map[string]any{"number": right})), "approve")
	if a := pollBackchannel(t, speaker, b); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	b, id, digest, right, wrong := begin()
	p.decide(t, s, id, p.sign(t, s, id, digest, map[string]any{"number": wrong})).Refused(t, http.StatusForbidden, fapi.AccessDenied)
	p.decide(t, s, id, p.sign(t, s, id, digest, map[string]any{"number": right})).Refused(t, http.StatusNotFound, fapi.InvalidRequest)
	pollBackchannel(t, speaker, b).Refused(t, http.StatusBadRequest, fapi.AccessDenied)
}

// What is no good decision changes nothing: after all of them, the request waits as before.
func TestApprovalApp_RefusesDecisions(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	speaker := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, nil)
	app := addApp(t, s, "bank-app")
	s.AddCustomer(t, "bob", "99")
	second := startApp(t, s, addApp(t, s, "second-app"), authztest.Username, false)
	p := startApp(t, s, app, authztest.Username, true).register(t, s)
	gone := *p
	gone.key = authztest.NewKey(t)
	gone.register(t, s)
	if a := p.call(t, s, http.MethodDelete, appDevices+"/"+gone.id, "", ""); a.Status != http.StatusNoContent {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	bob := startApp(t, s, app, "bob", true).register(t, s)
	other := beginBackchannel(t, speaker, nil)
	otherID := authorizationOf(t, s, other).String()
	b := beginBackchannel(t, speaker, url.Values{"acr_values": {authn.SCA}})
	id := authorizationOf(t, s, b).String()
	_, digest := p.show(t, s, id)
	_, otherDigest := p.show(t, s, otherID)
	signed := func(claims map[string]any) string { return p.sign(t, s, id, digest, claims) }
	header := map[jose.HeaderKey]any{"typ": "approval+jwt", "kid": p.id}
	public := jose.JSONWebKey{Key: p.key.Public()}
	publicJSON, err := public.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"approval+jwt","kid":"`+p.id+`"}`)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(asJSON(t, p.claims(s, id, digest, nil)))) + "."
	now := time.Now().Unix()
	type m = map[string]any
	for _, c := range []struct {
		name     string
		decision string
		status   int
		code     fapi.Code
	}{
		{"RFC 8725 §3.1: alg none", none, 400, fapi.InvalidDecision},
		{"RFC 8725 §3.1: alg HS256 with the public key", authztest.Sign(t, jose.HS256, publicJSON, header, p.claims(s, id, digest, nil)), 400, fapi.InvalidDecision},
		{"RFC 8725 §3.11: another typ", authztest.Sign(t, jose.ES256, p.key, m1(header, "typ", "JWT"), p.claims(s, id, digest, nil)), 400, fapi.InvalidDecision},
		{"another key", authztest.Sign(t, jose.ES256, authztest.NewKey(t), header, p.claims(s, id, digest, nil)), 400, fapi.InvalidDecision},
		{"no JWT", "approve", 400, fapi.InvalidDecision},
		{"nothing", "", 400, fapi.InvalidDecision},
		{"too long a JWT", signed(m{"x": strings.Repeat("x", 17<<10)}), 400, fapi.InvalidDecision},
		{"too long a body", strings.Repeat("x", 65<<10), 413, fapi.InvalidRequest},
		{"another aud", signed(m{"aud": "https://other.example"}), 400, fapi.InvalidDecision},
		{"too old", signed(m{"iat": now - 90}), 400, fapi.InvalidDecision},
		{"in the future", signed(m{"iat": now + 90}), 400, fapi.InvalidDecision},
		{"no iat", signed(m{"iat": nil}), 400, fapi.InvalidDecision},
		{"no jti", signed(m{"jti": nil}), 400, fapi.InvalidDecision},
		{"no approval_id", signed(m{"approval_id": nil}), 400, fapi.InvalidDecision},
		{"no decision", signed(m{"decision": nil}), 400, fapi.InvalidDecision},
		{"an unknown decision", signed(m{"decision": "yes"}), 400, fapi.InvalidDecision},
		{"the decision of another request", signed(m{"approval_id": otherID}), 400, fapi.InvalidDecision},
		{"PSD2 RTS art. 5: no digest", signed(m{"digest": nil}), 400, fapi.InvalidDecision},
		{"PSD2 RTS art. 5: the digest of another request", signed(m{"digest": otherDigest}), 409, fapi.DigestMismatch},
		{"CIBA Core §7.1: one factor where two are wanted", signed(m{"amr": nil}), 403, fapi.InsufficientUserAuthentication},
		{"RFC 8176: possession twice is no second factor", signed(m{"amr": []string{"pop", "hwk", "user"}}), 403, fapi.InsufficientUserAuthentication},
		{"a refusal with one factor where two are wanted", signed(m{"amr": nil, "decision": "refuse"}), 403, fapi.InsufficientUserAuthentication},
		{"no accounts", signed(m{"accounts": nil}), 400, fapi.InvalidDecision},
		{"another customer's account", signed(m{"accounts": []string{"12", "99"}}), 400, fapi.InvalidDecision},
		{"a device that was removed", gone.sign(t, s, id, digest, nil), 403, fapi.UnknownDevice},
		{"another customer's device", bob.sign(t, s, id, digest, nil), 403, fapi.UnknownDevice},
		{"a kid that is no device", authztest.Sign(t, jose.ES256, p.key, m1(header, "kid", "x"), p.claims(s, id, digest, nil)), 403, fapi.UnknownDevice},
		{"another device's kid", authztest.Sign(t, jose.ES256, p.key, m1(header, "kid", bob.id), p.claims(s, id, digest, nil)), 403, fapi.UnknownDevice},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.decide(t, s, id, c.decision).Refused(t, c.status, c.code)
			if strings.HasPrefix(c.name, "too") {
				return
			}
			p.call(t, s, http.MethodPost, appRequests+"/"+id+"/decision", "application/json", asJSON(t, m{"decision": c.decision})).Refused(t, c.status, c.code)
		})
	}
	path := appRequests + "/" + id + "/decision"
	for media, body := range map[string]string{"text/plain": signed(nil), "": signed(nil), authztest.FormType: "decision=" + signed(nil)} {
		p.call(t, s, http.MethodPost, path, media, body).Refused(t, http.StatusUnsupportedMediaType, fapi.InvalidRequest)
	}
	for _, body := range []string{`[]`, `{`, `{"decision":1}`, `{"decision":"a","decision":"b"}`} {
		p.call(t, s, http.MethodPost, path, "application/json", body).Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
	}
	t.Run("whom it is not for learns nothing of it", func(t *testing.T) {
		bob.get(t, s, appRequests+"/"+id).Refused(t, http.StatusNotFound, fapi.InvalidRequest)
		bob.decide(t, s, id, bob.sign(t, s, id, digest, nil)).Refused(t, http.StatusNotFound, fapi.InvalidRequest)
		for _, unknown := range []string{storage.NewID().String(), "x", strings.ToUpper(id)} {
			p.get(t, s, appRequests+"/"+unknown).Refused(t, http.StatusNotFound, fapi.InvalidRequest)
		}
		if list := bob.get(t, s, appRequests).JSON["requests"]; len(list.([]any)) != 0 {
			t.Errorf("bob sees %v", list)
		}
	})
	t.Run("a decision of another app of the same customer", func(t *testing.T) {
		second.decide(t, s, id, signed(nil)).Refused(t, http.StatusForbidden, fapi.UnknownDevice)
	})
	pollBackchannel(t, speaker, b).Refused(t, http.StatusBadRequest, fapi.AuthorizationPending)
	pollBackchannel(t, speaker, other).Refused(t, http.StatusBadRequest, fapi.AuthorizationPending)

	t.Run("what changed since it was shown", func(t *testing.T) {
		s.SQL(t, `DELETE FROM accounts WHERE id = '13'`)
		p.decide(t, s, id, signed(nil)).Refused(t, http.StatusConflict, fapi.DigestMismatch)
		_, digest = p.show(t, s, id)
	})
	t.Run("a replay, of what decided and of what did not", func(t *testing.T) {
		again := signed(m{"jti": "once"})
		said(t, p.decide(t, s, id, again), "approve")
		p.decide(t, s, id, again).Refused(t, http.StatusNotFound, fapi.InvalidRequest)
		_, otherDigest = p.show(t, s, otherID)
		p.decide(t, s, otherID, p.sign(t, s, otherID, otherDigest, m{"jti": "once"})).Refused(t, http.StatusBadRequest, fapi.InvalidDecision)
	})
	t.Run("one factor where one will do", func(t *testing.T) {
		said(t, p.decide(t, s, otherID, p.sign(t, s, otherID, otherDigest, m{"amr": nil})), "approve")
		if a := pollBackchannel(t, speaker, other); a.Status != http.StatusOK {
			t.Errorf("%d %s", a.Status, a.Body)
		} else if _, claims := s.Verified(t, a.JSON["id_token"].(string)); claims["acr"] != authn.CA || asJSON(t, claims["amr"]) != `["pop"]` {
			t.Errorf("%v", claims)
		}
	})
	t.Run("CIBA Core §7.1: a request that has expired", func(t *testing.T) {
		b := beginBackchannel(t, speaker, nil)
		id := authorizationOf(t, s, b).String()
		_, digest := p.show(t, s, id)
		s.SQL(t, `UPDATE authorizations SET expires_at = now() WHERE id = $1`, id)
		p.get(t, s, appRequests+"/"+id).Refused(t, http.StatusNotFound, fapi.InvalidRequest)
		p.decide(t, s, id, p.sign(t, s, id, digest, nil)).Refused(t, http.StatusNotFound, fapi.InvalidRequest)
		if list := p.get(t, s, appRequests).JSON["requests"]; len(list.([]any)) != 0 {
			t.Errorf("listed %v", list)
		}
	})
}

// m1 is a header with one other member.
func m1(header map[jose.HeaderKey]any, name jose.HeaderKey, value any) map[jose.HeaderKey]any {
	header = maps.Clone(header)
	header[name] = value
	return header
}

// Consents are checked as on the page, and one that cannot be given any more ends the request.
func TestApprovalApp_Consents(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	speaker := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, map[string]any{"grant_types": []string{"authorization_code", "client_credentials", fapi.GrantCIBA}})
	speaker.Scope = "openid accounts"
	p := startApp(t, s, addApp(t, s, "bank-app"), authztest.Username, true).register(t, s)
	begin := func() (backchannelRequest, string, string) {
		k := speaker.Consent(t)
		b := beginBackchannel(t, speaker, url.Values{"claims": {`{"id_token":{"openbanking_intent_id":{"value":"` + k + `","essential":true}}}`}})
		return b, authorizationOf(t, s, b).String(), k
	}
	b, id, k := begin()
	shown, digest := p.show(t, s, id)
	if shown["kind"] != storage.AccountAccess {
		t.Errorf("shown %v", shown)
	}
	said(t, p.decide(t, s, id, p.sign(t, s, id, digest, nil)), "approve")
	if a := pollBackchannel(t, speaker, b); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if n := s.Count(t, `SELECT count(*) FROM consents WHERE id = $1 AND status = 'Authorised'`, k); n != 1 {
		t.Error("the consent is not authorised")
	}
	b, id, k = begin()
	_, digest = p.show(t, s, id)
	s.SQL(t, `UPDATE consents SET status = 'Revoked' WHERE id = $1`, k)
	p.decide(t, s, id, p.sign(t, s, id, digest, nil)).Refused(t, http.StatusNotFound, fapi.InvalidRequest)
	pollBackchannel(t, speaker, b).Refused(t, http.StatusBadRequest, fapi.AccessDenied)
}

// Page and app decide at the same moment, at two servers: one of them does, and the device that asked hears of that one.
func TestApprovalApp_Races(t *testing.T) {
	t.Parallel()
	one := authztest.Start(t)
	two := authztest.Start(t, authztest.Options{Like: one})
	speaker := addBackchannel(t, one, "speaker", fapi.PrivateKeyJWT, fapi.Poll, nil)
	first := startApp(t, one, addApp(t, one, "bank-app"), authztest.Username, true).register(t, one)
	second := *first
	second.key = authztest.NewKey(t)
	second.register(t, two)
	one.SQL(t, `DELETE FROM second_factors`)
	alice := loggedIn(t, one)
	won := map[string]int{}
	for round := range 20 {
		b := beginBackchannel(t, speaker, nil)
		row := authorizationOf(t, one, b)
		id := row.String()
		page := alice.get(t, one, one.ApprovalURL(speaker.ID, row)).Is(t, "consent_page")
		_, digest := first.show(t, two, id)
		var done sync.WaitGroup
		said := map[string]bool{}
		var mu sync.Mutex
		decide := func(who string, delay int, do func() bool) {
			done.Go(func() {
				time.Sleep(time.Duration((round+delay)%3) * time.Millisecond)
				took := do()
				mu.Lock()
				defer mu.Unlock()
				said[who] = took
			})
		}
		yes, no := first.sign(t, two, id, digest, nil), second.sign(t, one, id, digest, map[string]any{"decision": "refuse"})
		decide("page", 0, func() bool {
			return alice.submit(t, one, page, url.Values{"decision": {"approve"}, "account": {"13"}}).ID() == "done_page"
		})
		late := func(a *authztest.Answer) bool {
			if a.Status != http.StatusOK {
				a.Refused(t, http.StatusNotFound, fapi.InvalidRequest)
			}
			return a.Status == http.StatusOK
		}
		decide("first phone", 1, func() bool { return late(first.decide(t, two, id, yes)) })
		decide("second phone", 2, func() bool { return late(second.decide(t, one, id, no)) })
		done.Wait()
		winner := ""
		for who, took := range said {
			if took && winner != "" {
				t.Fatalf("both decided: %v", said)
			}
			if took {
				winner = who
			}
		}
		won[winner]++
		answer := pollBackchannel(t, speaker, b)
		account := map[string]string{"page": "{13}", "first phone": "{12}", "second phone": "{}"}[winner]
		if approved := answer.Status == http.StatusOK; account == "" || approved == (winner == "second phone") {
			t.Errorf("%q decided, the poll answered %d %s", winner, answer.Status, answer.Body)
		}
		if n := one.Count(t, `SELECT count(*) FROM authorizations WHERE id = $1 AND account_ids = $2::text[]`, id, account); n != 1 {
			t.Errorf("%q decided, for other accounts", winner)
		}
	}
	if n := one.Count(t, `SELECT count(*) FROM logins WHERE amr @> '{pop}'`); n != 0 {
		t.Errorf("%d logins of signatures are left", n)
	}
	t.Log(won)
}

// A device that is removed while it decides: either it decided before, or it did not.
func TestApprovalApp_RacesRemoval(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	speaker := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, nil)
	p := startApp(t, s, addApp(t, s, "bank-app"), authztest.Username, true)
	for range 10 {
		p.register(t, s)
		b := beginBackchannel(t, speaker, nil)
		id := authorizationOf(t, s, b).String()
		_, digest := p.show(t, s, id)
		yes := p.sign(t, s, id, digest, nil)
		var done sync.WaitGroup
		var answer, removed *authztest.Answer
		done.Go(func() { answer = p.decide(t, s, id, yes) })
		done.Go(func() { removed = p.call(t, s, http.MethodDelete, appDevices+"/"+p.id, "", "") })
		done.Wait()
		if removed.Status != http.StatusNoContent {
			t.Fatalf("%d %s", removed.Status, removed.Body)
		}
		if answer.Status == http.StatusOK {
			if a := pollBackchannel(t, speaker, b); a.Status != http.StatusOK {
				t.Errorf("%d %s", a.Status, a.Body)
			}
			continue
		}
		answer.Refused(t, http.StatusForbidden, fapi.UnknownDevice)
		pollBackchannel(t, speaker, b).Refused(t, http.StatusBadRequest, fapi.AuthorizationPending)
		s.SQL(t, `UPDATE authorizations SET expires_at = now() WHERE id = $1`, id)
	}
}

// What a call costs: one round trip for its token, and these.
func TestApprovalApp_Budget(t *testing.T) {
	s := authztest.Start(t)
	speaker := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, nil)
	p := startApp(t, s, addApp(t, s, "bank-app"), authztest.Username, true).register(t, s)
	asked := func(t *testing.T) (id, digest string) {
		id = authorizationOf(t, s, beginBackchannel(t, speaker, nil)).String()
		_, digest = p.show(t, s, id)
		return id, digest
	}
	deciding := func(claims map[string]any) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
		return func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
			id, digest := asked(t)
			decision := p.sign(t, s, id, digest, claims)
			return func(t *testing.T) *authztest.Answer { return p.decide(t, s, id, decision) }
		}
	}
	getting := func(path string) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
		return func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
			return func(t *testing.T) *authztest.Answer { return p.get(t, s, path) }
		}
	}
	const token, tokenStatements = 1, 2
	for _, f := range []flow{
		{"devices", token + 1, tokenStatements + 1, 0, getting(appDevices)},
		{"what waits", token + 1, tokenStatements + 6, 0, getting(appRequests)}, // as the page reads it, transactions counted
		{"a request", token + 1, tokenStatements + 3, 0, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
			id, _ := asked(t)
			return func(t *testing.T) *authztest.Answer { return p.get(t, s, appRequests+"/"+id) }
		}},
		{"a yes", token + 2, tokenStatements + 4 + 4, 0, deciding(nil)},
		{"a no", token + 2, tokenStatements + 4 + 4, 0, deciding(map[string]any{"decision": "refuse"})},
		{"a report", token + 2, tokenStatements + 4 + 4, 0, deciding(map[string]any{"decision": "report"})},
		{"a device", token + 1, tokenStatements + 3, 0, func(t *testing.T, s *authztest.Server) func(*testing.T) *authztest.Answer {
			other := *p
			other.key = authztest.NewKey(t)
			body := asJSON(t, map[string]any{"name": "Phone", "proof": other.proof(t, s, nil)})
			return func(t *testing.T) *authztest.Answer {
				return p.call(t, s, http.MethodPost, appDevices, "application/json", body)
			}
		}},
	} {
		t.Run(f.name, func(t *testing.T) { f.check(t, s) })
	}
}
