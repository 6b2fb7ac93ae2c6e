package authz_test

import (
	"crypto/rand"
	"crypto/rsa"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// cibaPlan are the two clients of a plan of FAPI-CIBA.
type cibaPlan struct {
	name     string
	one, two *authztest.Client
}

func cibaPlans(t *testing.T, s *authztest.Server, rsaKey *rsa.PrivateKey, endpoint string) []cibaPlan {
	t.Helper()
	var all []cibaPlan
	for _, method := range []fapi.AuthMethod{fapi.PrivateKeyJWT, fapi.TLSClientAuth} {
		for _, mode := range []fapi.DeliveryMode{fapi.Poll, fapi.Ping} {
			name := string(method) + " " + string(mode)
			client := func(n string) *authztest.Client {
				return cibaClient(t, s, strings.ReplaceAll(name, " ", "-")+n, method, mode, rsaKey, endpoint)
			}
			all = append(all, cibaPlan{name, client("-1"), client("-2")})
		}
	}
	return all
}

// cibaClient registers a client as the FAPI-CIBA plans want it: an EC and an RSA key, tokens bound to a certificate.
func cibaClient(t *testing.T, s *authztest.Server, id string, method fapi.AuthMethod, mode fapi.DeliveryMode, rsaKey *rsa.PrivateKey, endpoint string) *authztest.Client {
	t.Helper()
	key := authztest.NewKey(t)
	metadata := map[string]any{
		"grant_types": []string{fapi.GrantCIBA, fapi.GrantRefreshToken}, "response_types": []string{}, "redirect_uris": []string{},
		"tls_client_certificate_bound_access_tokens": true, "backchannel_token_delivery_mode": mode, "id_token_signed_response_alg": jose.ES256,
		"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: id, Use: "sig"}, {Key: rsaKey.Public(), KeyID: suiteRSA, Use: "sig"}}},
	}
	if mode == fapi.Ping {
		metadata["backchannel_client_notification_endpoint"] = endpoint
	}
	c := s.AddClient(t, id, fapi.FAPICIBA, method, metadata)
	if c.Key = key; method == fapi.PrivateKeyJWT {
		c.Certificate = s.Certificate(t, id)
	}
	c.Scope = "openid profile accounts"
	return c
}

// cibaClaims are those of a signed authentication request as the suite makes it; more replaces or, when nil, removes.
func cibaClaims(s *authztest.Server, c *authztest.Client, more map[string]any) map[string]any {
	claims := map[string]any{
		"iss": c.ID, "aud": s.Issuer, "jti": rand.Text(), "iat": fromNow(0), "nbf": fromNow(0), "exp": fromNow(300),
		"scope": c.Scope, "login_hint": authztest.Username, "binding_message": "1234", "client_notification_token": rand.Text(),
	}
	maps.Copy(claims, more)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return at(claims)
}

// cibaRequest is the form with the claims, signed by the client.
func cibaRequest(t *testing.T, c *authztest.Client, claims map[string]any) url.Values {
	t.Helper()
	return url.Values{"request": {authztest.Sign(t, jose.ES256, c.Key, headers{"kid": c.ID}, claims)}}
}

func beginSigned(t *testing.T, s *authztest.Server, c *authztest.Client, more map[string]any) backchannelRequest {
	t.Helper()
	answer := c.Post(t, "/bc-authorize", cibaRequest(t, c, cibaClaims(s, c, more)))
	if answer.Status != http.StatusOK {
		t.Fatalf("bc-authorize answered %d %s", answer.Status, answer.Body)
	}
	id, _ := answer.JSON["auth_req_id"].(string)
	return backchannelRequest{id, answer.JSON}
}

// leaveOff gives up what waits for the customer, who has room for a few requests.
func leaveOff(t *testing.T, s *authztest.Server) {
	t.Helper()
	s.SQL(t, "UPDATE authorizations SET expires_at = now() - interval '1 second' WHERE for_customer_id IS NOT NULL AND status = 'pending'")
}

// The modules whose request is refused at once, under their names without the plan's prefix.
func TestSuite_CIBARequestsRefused(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	rsaKey := newRSA(t)
	type claims = map[string]any
	resigned := func(alg jose.SignatureAlgorithm, key any, kid string) func(*testing.T, string) string {
		return func(t *testing.T, object string) string {
			return authztest.Sign(t, alg, key, headers{"kid": kid}, suiteClaims(t, object))
		}
	}
	for _, plan := range cibaPlans(t, s, rsaKey, "https://app.example/ping") {
		for _, row := range []struct {
			module string
			claims claims
			resign func(t *testing.T, object string) string
			code   fapi.Code
		}{
			{"ensure-request-object-missing-aud-fails", claims{"aud": nil}, nil, fapi.InvalidRequest},
			{"ensure-request-object-bad-aud-fails", claims{"aud": "https://www.other1.example.com/"}, nil, fapi.InvalidRequest},
			{"ensure-request-object-missing-iss-fails", claims{"iss": nil}, nil, fapi.InvalidRequest},
			{"ensure-request-object-bad-iss-fails", claims{"iss": plan.one.ID + "1"}, nil, fapi.InvalidRequest},
			{"ensure-request-object-missing-exp-fails", claims{"exp": nil}, nil, fapi.InvalidRequest},
			{"ensure-request-object-expired-exp-fails", claims{"exp": fromNow(-3600)}, nil, fapi.InvalidRequest},
			{"ensure-request-object-exp-is-70-minutes-in-future-fails", claims{"exp": fromNow(70 * 60)}, nil, fapi.InvalidRequest},
			{"ensure-request-object-missing-iat-fails", claims{"iat": nil}, nil, fapi.InvalidRequest},
			{"ensure-request-object-missing-nbf-fails", claims{"nbf": nil}, nil, fapi.InvalidRequest},
			{"ensure-request-object-nbf-is-10-minutes-in-future-fails", claims{"nbf": fromNow(10 * 60)}, nil, fapi.InvalidRequest},
			{"ensure-request-object-nbf-is-70-minutes-in-past-fails", claims{"nbf": fromNow(-70 * 60)}, nil, fapi.InvalidRequest},
			{"ensure-request-object-missing-jti-fails", claims{"jti": nil}, nil, fapi.InvalidRequest},
			{"ensure-request-object-signature-algorithm-is-none-fails", nil, suiteNone, fapi.InvalidRequest},
			{"ensure-request-object-signature-algorithm-is-bad-fails", nil, func(_ *testing.T, object string) string { return flipped(object, len(object)-20) }, fapi.InvalidRequest},
			{"ensure-request-object-signature-algorithm-is-RS256-fails", nil, resigned(jose.RS256, rsaKey, suiteRSA), fapi.InvalidRequest},
			{"ensure-request-object-signed-by-other-client-fails", nil, resigned(jose.ES256, plan.two.Key, plan.two.ID), fapi.InvalidRequest},
			{"ensure-authorization-request-with-multiple-hints-fails", claims{"login_hint_token": "xxxxxxxxxxxxxxxxxxxx"}, nil, fapi.InvalidRequest},
			{"ensure-authorization-request-with-potentially-bad-binding-message", claims{"binding_message": "1234 \U0001F44D\U0001F3FF 品川 " + strings.Repeat("Lorem ipsum dolor sit amet. ", 16)}, nil, fapi.InvalidBindingMessage},
			{"ensure-unsigned-backchannel-authorization-request-fails", nil, func(*testing.T, string) string { return "" }, fapi.InvalidRequest},
		} {
			t.Run(row.module+" "+plan.name, func(t *testing.T) {
				all := cibaClaims(s, plan.one, row.claims)
				form := cibaRequest(t, plan.one, all)
				if row.resign != nil {
					form.Set("request", row.resign(t, form.Get("request")))
				}
				if form.Get("request") == "" {
					form = url.Values{"scope": {plan.one.Scope}, "login_hint": {authztest.Username}, "binding_message": {"1234"}, "client_notification_token": {rand.Text()}}
				}
				plan.one.Post(t, "/bc-authorize", form).Refused(t, http.StatusBadRequest, row.code)
			})
		}
	}
}

// What the suite reads of the metadata before it begins.
func TestSuite_CIBADiscovery(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	said := s.Client("web").Raw(t, http.MethodGet, "/.well-known/openid-configuration", "", nil).JSON
	t.Run("discovery-end-point-verification", func(t *testing.T) {
		aliases, _ := said["mtls_endpoint_aliases"].(map[string]any)
		if said["backchannel_authentication_endpoint"] != s.Issuer+"/bc-authorize" || aliases["backchannel_authentication_endpoint"] != s.MTLSBase+"/bc-authorize" {
			t.Errorf("endpoint %v, for certificates %v", said["backchannel_authentication_endpoint"], aliases["backchannel_authentication_endpoint"])
		}
		for name, want := range map[string][]any{
			"backchannel_token_delivery_modes_supported":                      {"poll", "ping"},
			"backchannel_authentication_request_signing_alg_values_supported": {"PS256", "ES256"},
			"grant_types_supported":                                           {fapi.GrantCIBA},
		} {
			got, _ := said[name].([]any)
			for _, value := range want {
				if !slices.Contains(got, value) {
					t.Errorf("%s %v lacks %v", name, got, value)
				}
			}
		}
		if _, ok := said["backchannel_user_code_parameter_supported"].(bool); !ok {
			t.Error("backchannel_user_code_parameter_supported is no boolean")
		}
	})
}

// The modules in which a client calls that does not show who it is. What another asked for stays as it was.
func TestSuite_CIBAClients(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	rsaKey := newRSA(t)
	withID := func(form url.Values, id string) url.Values {
		form = maps.Clone(form)
		form.Set("client_id", id)
		return form
	}
	unasserted := func(t *testing.T, p cibaPlan, path string, form url.Values) *authztest.Answer {
		return p.one.Send(t, path, withID(form, p.one.ID), nil)
	}
	rs256 := func(t *testing.T, p cibaPlan, path string, form url.Values) *authztest.Answer {
		claims := at(map[string]any{"iss": p.one.ID, "sub": p.one.ID, "aud": s.Issuer, "jti": rand.Text(), "iat": fromNow(0), "exp": fromNow(60)})
		return asserted(t, p.one, path, form, authztest.Sign(t, jose.RS256, rsaKey, headers{"kid": suiteRSA}, claims))
	}
	other := func(t *testing.T, p cibaPlan, path string, form url.Values) *authztest.Answer {
		return p.one.Send(t, path, withID(form, p.two.ID), nil)
	}
	otherIssuer := func(t *testing.T, p cibaPlan, path string, _ url.Values) *authztest.Answer {
		return other(t, p, path, cibaRequest(t, p.one, cibaClaims(s, p.one, map[string]any{"iss": p.two.ID})))
	}
	const atToken = "/token"
	for _, plan := range cibaPlans(t, s, rsaKey, "https://app.example/ping") {
		for _, row := range []struct {
			module string
			method fapi.AuthMethod
			path   string
			send   func(t *testing.T, p cibaPlan, path string, form url.Values) *authztest.Answer
		}{
			{"ensure-without-client-assertion-in-backchannel-authorization-request", fapi.PrivateKeyJWT, "/bc-authorize", unasserted},
			{"ensure-without-client-assertion-in-token-endpoint-request", fapi.PrivateKeyJWT, atToken, unasserted},
			{"ensure-client-assertion-signature-algorithm-in-backchannel-authorization-request-is-RS256-fails", fapi.PrivateKeyJWT, "/bc-authorize", rs256},
			{"ensure-client-assertion-signature-algorithm-in-token-endpoint-request-is-RS256-fails", fapi.PrivateKeyJWT, atToken, rs256},
			{"ensure-wrong-client-id-in-backchannel-authorization-request", fapi.TLSClientAuth, "/bc-authorize", otherIssuer},
			{"ensure-different-client-id-and-issuer-in-backchannel-authorization-request", fapi.TLSClientAuth, "/bc-authorize", other},
			{"ensure-wrong-client-id-in-token-endpoint-request", fapi.TLSClientAuth, atToken, other},
		} {
			if row.method != plan.one.Method {
				continue
			}
			t.Run(row.module+" "+plan.name, func(t *testing.T) {
				if row.path != atToken {
					row.send(t, plan, row.path, cibaRequest(t, plan.one, cibaClaims(s, plan.one, nil))).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
					return
				}
				b := beginSigned(t, s, plan.one, nil)
				row.send(t, plan, row.path, backchannelPoll(b)).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
				pollBackchannel(t, plan.one, b).Refused(t, http.StatusBadRequest, fapi.AuthorizationPending)
				leaveOff(t, s)
			})
		}
	}
}

// The modules whose request is taken, with what comes of it.
func TestSuite_CIBAFlows(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	rsaKey := newRSA(t)
	refused := func(t *testing.T, c *authztest.Client, form url.Values, code fapi.Code) {
		t.Helper()
		c.Post(t, "/token", form).Refused(t, http.StatusBadRequest, code)
	}
	rows := map[string]func(t *testing.T, one, two *authztest.Client){
		"two clients": func(t *testing.T, one, two *authztest.Client) {
			b := beginSigned(t, s, one, nil)
			refused(t, one, backchannelPoll(b), fapi.AuthorizationPending)
			mine := redeemSigned(t, s, one, b)
			long := strings.Repeat("0123456789abcdef", 16)
			form := url.Values{"request": {authztest.Sign(t, jose.ES256, two.Key, headers{"kid": two.ID, "typ": "oauth-authz-req+jwt"},
				cibaClaims(s, two, map[string]any{"acr_values": authn.CA, "requested_expiry": 300, "client_notification_token": long}))}}
			answer := two.Post(t, "/bc-authorize", form)
			if answer.Status != http.StatusOK || answer.JSON["expires_in"] != 300.0 || answer.JSON["interval"] != 5.0 {
				t.Fatalf("answered %d %s", answer.Status, answer.Body)
			}
			b = backchannelRequest{answer.JSON["auth_req_id"].(string), answer.JSON}
			theirs := redeemSigned(t, s, two, b)
			if acr := idClaims(t, theirs)["acr"]; acr != authn.CA {
				t.Errorf("acr %v", acr)
			}
			header, claims := s.Verified(t, mine["id_token"].(string))
			if claims["iss"] != s.Issuer || claims["aud"] != one.ID || header["kid"] == nil || claims["at_hash"] != halfHash(header["alg"], mine["access_token"].(string)) {
				t.Errorf("ID token %v %v", header, claims)
			}
			token := theirs["access_token"].(string)
			one.Get(t, "/userinfo", token).Challenged(t, http.StatusUnauthorized, "Bearer", fapi.InvalidToken)
			if answer := two.Get(t, "/userinfo", token); answer.Status != http.StatusOK {
				t.Errorf("userinfo answered %d %s", answer.Status, answer.Body)
			}
			refused(t, two, backchannelPoll(b), fapi.InvalidGrant)
		},
		"user-rejects-authentication": func(t *testing.T, one, _ *authztest.Client) {
			b := beginSigned(t, s, one, nil)
			decideBackchannel(t, s, one, b, "deny")
			refused(t, one, backchannelPoll(b), fapi.AccessDenied)
		},
		"multiple-call-to-token-endpoint": func(t *testing.T, one, _ *authztest.Client) {
			b := beginSigned(t, s, one, nil)
			refused(t, one, backchannelPoll(b), fapi.AuthorizationPending)
			refused(t, one, backchannelPoll(b), fapi.SlowDown)
			redeemSigned(t, s, one, b)
		},
		"auth-req-id-expired": func(t *testing.T, one, _ *authztest.Client) {
			b := beginSigned(t, s, one, map[string]any{"requested_expiry": 10})
			if b.answer["expires_in"] != 10.0 {
				t.Errorf("answered %v", b.answer)
			}
			refused(t, one, backchannelPoll(b), fapi.AuthorizationPending)
			s.SQL(t, "UPDATE authorizations SET expires_at = now() - interval '1 second', code_expires_at = now() - interval '1 second' WHERE id = $1", [16]byte(authorizationOf(t, s, b)))
			refused(t, one, backchannelPoll(b), fapi.ExpiredToken)
		},
		"ensure-authorization-request-with-binding-message-succeeds": func(t *testing.T, one, _ *authztest.Client) {
			b := beginSigned(t, s, one, map[string]any{"binding_message": "1234"})
			if page := openBackchannel(t, s, s.Browser(t), one, b); !regexp.MustCompile(`id="binding_message"[^>]*>1234<`).Match(page.Body) {
				t.Error("the customer does not see the binding message")
			}
			redeemSigned(t, s, one, b)
		},
		"ensure-other-scope-order-succeeds": func(t *testing.T, one, _ *authztest.Client) {
			redeemSigned(t, s, one, beginSigned(t, s, one, map[string]any{"scope": "accounts profile openid"}))
		},
		"ensure-requested-expiry-as-string-succeeds": func(t *testing.T, one, _ *authztest.Client) {
			b := beginSigned(t, s, one, map[string]any{"requested_expiry": "30"})
			if b.answer["expires_in"] != 30.0 {
				t.Errorf("answered %v", b.answer)
			}
			redeemSigned(t, s, one, b)
		},
		"ensure-wrong-auth-req-id-in-token-endpoint-request": func(t *testing.T, one, two *authztest.Client) {
			b := beginSigned(t, s, one, nil)
			refused(t, two, backchannelPoll(b), fapi.InvalidGrant)
			redeemSigned(t, s, one, b)
		},
		"ensure-mtls-holder-of-key-required": func(t *testing.T, one, _ *authztest.Client) {
			b := beginSigned(t, s, one, nil)
			bare := *one
			bare.Certificate = nil
			if answer := bare.Post(t, "/token", backchannelPoll(b)); one.Method == fapi.PrivateKeyJWT {
				answer.Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
			} else {
				answer.Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
			}
			redeemSigned(t, s, one, b)
		},
		"ensure-client-assertion-with-iss-aud-to-token-endpoint-succeeds": func(t *testing.T, one, _ *authztest.Client) {
			if one.Method != fapi.PrivateKeyJWT {
				t.Skip("certificates have no aud")
			}
			for _, aud := range []string{s.Issuer, s.MTLSBase + "/token"} {
				answer := asserted(t, one, "/token", backchannelPoll(beginSigned(t, s, one, nil)), one.Assertion(t, map[string]any{"aud": aud}))
				answer.Refused(t, http.StatusBadRequest, fapi.AuthorizationPending)
			}
		},
		"refresh-token": func(t *testing.T, one, two *authztest.Client) {
			mine, theirs := redeemSigned(t, s, one, beginSigned(t, s, one, nil)), redeemSigned(t, s, two, beginSigned(t, s, two, nil))
			again := one.Token(t, refreshed(mine["refresh_token"]))
			if again["access_token"] == mine["access_token"] {
				t.Error("the same access token again")
			}
			if token := again["id_token"]; token != nil && idClaims(t, again)["sub"] != idClaims(t, mine)["sub"] {
				t.Errorf("refreshed: %v", again)
			}
			refused(t, one, refreshed(theirs["refresh_token"]), fapi.InvalidGrant)
		},
	}
	for _, plan := range cibaPlans(t, s, rsaKey, "https://app.example/ping") {
		t.Run(plan.name, func(t *testing.T) {
			for name, run := range rows { // one after the other: they ask the same customer
				t.Run(name, func(t *testing.T) {
					defer leaveOff(t, s)
					one, two := *plan.one, *plan.two
					run(t, &one, &two)
				})
			}
		})
	}
}

// redeemSigned lets the customer approve a request, and fetches the tokens.
func redeemSigned(t *testing.T, s *authztest.Server, c *authztest.Client, b backchannelRequest) map[string]any {
	t.Helper()
	decideBackchannel(t, s, c, b, "approve")
	answer := pollBackchannel(t, c, b)
	if answer.Status != http.StatusOK || answer.JSON["id_token"] == nil || answer.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("token answered %d %v %s", answer.Status, answer.Header, answer.Body)
	}
	return answer.JSON
}

// The modules whose notification endpoint answers oddly: there is one ping, and the tokens are fetched as ever.
func TestSuite_CIBAPings(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	rsaKey := newRSA(t)
	type ping struct {
		path string
		*http.Request
		body []byte
	}
	for _, method := range []fapi.AuthMethod{fapi.PrivateKeyJWT, fapi.TLSClientAuth} {
		for module, answer := range map[string]http.HandlerFunc{
			"ping": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
			"ping-backchannel-notification-endpoint-response-has-body":                                 func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "taken") },
			"ping-backchannel-notification-endpoint-response-401":                                      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) },
			"ping-backchannel-notification-endpoint-response-403":                                      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) },
			"ping-with-mtls-ciba-notification-endpoint-response-401-and-require-server-does-not-retry": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) },
			"ping-backchannel-notification-endpoint-return-redirect-request": func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/invalid-ciba-notification-endpoint", http.StatusMovedPermanently)
			},
		} {
			t.Run(module+" "+string(method), func(t *testing.T) {
				pings := make(chan ping, 4)
				site := s.Site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					pings <- ping{r.URL.Path, r, body}
					answer(w, r)
				}))
				c := cibaClient(t, s, strings.ToLower(rand.Text()), method, fapi.Ping, rsaKey, site+"/ciba-notification-endpoint")
				token := rand.Text()
				b := beginSigned(t, s, c, map[string]any{"client_notification_token": token})
				id := authorizationOf(t, s, b)
				decideBackchannel(t, s, c, b, "approve")
				got := <-pings
				if got.path != "/ciba-notification-endpoint" || got.Method != http.MethodPost || got.Header.Get("Authorization") != "Bearer "+token ||
					got.Header.Get("Content-Type") != "application/json" || string(got.body) != `{"auth_req_id":"`+b.authReqID+`"}` {
					t.Errorf("%s %s %v %s", got.Method, got.path, got.Header, got.body)
				}
				soon(t, "the notification is dropped", func() bool { return !notified(t, s, id) })
				if len(pings) > 0 {
					t.Errorf("another ping, at %s", (<-pings).path)
				}
				if answer := pollBackchannel(t, c, b); answer.Status != http.StatusOK {
					t.Errorf("token answered %d %s", answer.Status, answer.Body)
				}
			})
		}
	}
}

// notified tells whether the notification of a request's outcome is still to be sent.
func notified(t *testing.T, s *authztest.Server, id uuid.UUID) (waits bool) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT 1 FROM notifications WHERE id = $1)", [16]byte(id)).Scan(&waits); err != nil {
		t.Fatal(err)
	}
	return waits
}
