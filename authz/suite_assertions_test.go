package authz_test

import (
	"crypto/rand"
	"maps"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// The modules about client assertions, at the PAR endpoint and where a code is redeemed. RS256 is tried with a registered
// RSA key, so that only its name is wrong.
func TestSuite_ClientAssertions(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	rsaKey := newRSA(t)
	type claims = map[string]any
	for _, profile := range []fapi.ProfileName{fapi.FAPI1Advanced, fapi.FAPI2, fapi.FAPI2MessageSigning} {
		c := planClient(t, s, "plan-"+string(profile), profile, rsaKey, nil)
		other := planClient(t, s, "other-"+string(profile), profile, rsaKey, nil)
		if c.Signs = fapi.FindProfile(profile).RequestObject == fapi.Required; profile == fapi.FAPI1Advanced {
			c.ResponseType = "code id_token"
		}
		several := profile == fapi.FAPI1Advanced // RFC 9126 §2; FAPI 2.0 §5.3.2.1 takes the issuer alone
		for _, row := range []struct {
			module string
			claims claims
			alg    jose.SignatureAlgorithm // with the RSA key
			par    bool                    // taken at the PAR endpoint
			token  bool                    // taken at the token endpoint
		}{
			{"ensure-client-assertion-with-iss-aud-succeeds", claims{"aud": s.Issuer}, "", true, true},
			{"ensure-client-assertion-with-wrong-aud-fails", claims{"aud": "https://www.other1.example.com/"}, "", false, false},
			{"ensure-client-assertion-with-wrong-iss-fails", claims{"iss": other.ID}, "", false, false},
			{"ensure-client-assertion-with-wrong-sub-fails", claims{"sub": other.ID}, "", false, false},
			{"ensure-client-assertion-with-no-sub-fails", claims{"sub": nil}, "", false, false},
			{"ensure-client-assertion-with-exp-is-5-minutes-in-past-fails", claims{"exp": fromNow(-300)}, "", false, false},
			{"par-ensure-jwt-client-assertions-nbf-8-seconds-in-the-future-is-accepted", claims{"iat": fromNow(8), "nbf": fromNow(8)}, "", true, true},
			{"par-ensure-jwt-client-assertions-nbf-over-60-seconds-in-the-future-fails", claims{"iat": fromNow(65), "nbf": fromNow(65), "exp": fromNow(300)}, "", false, false},
			{"test-array-as-audience-for-client-JWT-assertion", claims{"aud": []string{s.Issuer, "https://www.other1.example.com/"}}, "", several, several},
			{"par-test-array-as-audience-fails", claims{"aud": []string{s.Issuer, "https://www.other1.example.com/"}}, "", several, several},
			{"par-token-endpoint-url-as-audience-for-client-JWT-assertion", claims{"aud": s.MTLSBase + "/token"}, "", several, several},
			{"par-test-token-endpoint-url-as-audience-fails", claims{"aud": s.Issuer + "/token"}, "", several, several},
			{"par-test-pushed-authorization-url-as-audience-for-client-JWT-assertion", claims{"aud": s.MTLSBase + "/par"}, "", several, false},
			{"par-test-par-endpoint-url-as-audience-fails", claims{"aud": s.Issuer + "/par"}, "", several, false},
			{"ensure-signed-client-assertion-with-RS256-fails", nil, jose.RS256, false, false},
			{"the same key with PS256", nil, jose.PS256, true, true},
		} {
			assertion := func(t *testing.T) string {
				if row.alg == "" {
					return c.Assertion(t, at(row.claims))
				}
				now := time.Now().Unix()
				return authztest.Sign(t, row.alg, rsaKey, headers{"kid": suiteRSA}, claims{"iss": c.ID, "sub": c.ID, "aud": s.Issuer, "jti": rand.Text(), "iat": now, "exp": now + 60})
			}
			check := func(t *testing.T, answer *authztest.Answer, good bool) {
				t.Helper()
				if !good {
					answer.Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
				} else if answer.Status > http.StatusCreated {
					t.Errorf("answered %d %s", answer.Status, answer.Body)
				}
			}
			t.Run(row.module+" /par "+string(profile), func(t *testing.T) {
				check(t, asserted(t, c, "/par", c.Request(t, nil), assertion(t)), row.par)
			})
			t.Run(row.module+" /token "+string(profile), func(t *testing.T) {
				code := s.Approve(t, c, c.Push(t, nil))
				check(t, asserted(t, c, "/token", c.ExchangeForm(code), assertion(t)), row.token)
				if !row.token { // who cannot authenticate spends nothing
					c.Exchange(t, code)
				}
			})
		}
		bare := *c
		bare.Certificate = nil
		for name, send := range map[string]func(t *testing.T, form url.Values) *authztest.Answer{
			"ensure-client-assertion-in-token-endpoint": func(t *testing.T, form url.Values) *authztest.Answer {
				form.Set("client_id", c.ID)
				return c.Send(t, "/token", form, nil)
			},
			"ensure-client-id-in-token-endpoint": func(t *testing.T, form url.Values) *authztest.Answer {
				form.Set("client_id", other.ID)
				return asserted(t, c, "/token", form, c.Assertion(t, claims{"iss": other.ID, "sub": other.ID}))
			},
			"ensure-client-id-in-token-endpoint, with its own assertion": func(t *testing.T, form url.Values) *authztest.Answer {
				form.Set("client_id", other.ID)
				return asserted(t, c, "/token", form, c.Assertion(t, nil))
			},
			"ensure-authorization-code-is-bound-to-client": func(t *testing.T, form url.Values) *authztest.Answer {
				return other.Post(t, "/token", form)
			},
			"ensure-mtls-holder-of-key-required": func(t *testing.T, form url.Values) *authztest.Answer {
				return bare.Post(t, "/token", form)
			},
		} {
			t.Run(name+" "+string(profile), func(t *testing.T) {
				code := s.Approve(t, c, c.Push(t, nil))
				answer := send(t, maps.Clone(c.ExchangeForm(code)))
				switch name {
				case "ensure-authorization-code-is-bound-to-client":
					answer.Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
				case "ensure-mtls-holder-of-key-required":
					answer.Refused(t, http.StatusBadRequest, fapi.InvalidRequest)
				default:
					answer.Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
				}
				c.Exchange(t, code)
			})
		}
	}
}
