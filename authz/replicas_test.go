package authz_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
)

// twins are two servers on one database, which speak for one issuer.
func twins(t *testing.T, o authztest.Options) (one, two *authztest.Server) {
	t.Helper()
	one = authztest.Start(t, o)
	o.Like = one
	return one, authztest.Start(t, o)
}

// soon tries until something is so, and returns how long that took.
func soon(t *testing.T, what string, so func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !so() {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%s: not within twenty seconds", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(began)
}

// G4: replicas share nothing but the database. Each step of a flow is taken on the other one.
func TestReplicas_OneFlowEachStepOnTheOther(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	for _, id := range []string{"tpp", "tpp-jwt", "tpp-dpop", "tpp-mtls", "spa"} {
		t.Run(id, func(t *testing.T) {
			at1, at2 := one.Client(id), two.Client(id)
			at2.Verifier = at1.Verifier
			api1, api2 := one.Client("bank-api"), two.Client("bank-api")
			p := newPerson(t)

			uri := at1.Push(t, map[string]string{"scope": at1.Scope + " offline_access"})
			page := p.get(t, two, authorizePath(at1, uri)).Is(t, "login_page")
			page = p.next(t, two, p.submit(t, one, page, credentials)).Is(t, "consent_page")
			left, err := url.Parse(p.submit(t, one, page, url.Values{"decision": {"approve"}, "account": {"12"}}).Header.Get("Location"))
			if err != nil || left.Query().Get("iss") != one.Issuer {
				t.Fatalf("left for %v", left)
			}
			tokens := at2.Exchange(t, left.Query().Get("code"))
			at1.Post(t, "/token", at1.ExchangeForm(left.Query().Get("code"))).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
			access := tokens["access_token"].(string)

			said := api1.Post(t, "/introspect", url.Values{"token": {access}})
			if said.JSON["active"] != true || said.JSON["iss"] != one.Issuer || said.JSON["client_id"] != id {
				t.Errorf("introspection on one of what two issued: %s", said.Body)
			}
			if info := at1.Get(t, "/userinfo", access); info.Status != http.StatusOK {
				t.Errorf("userinfo on one of what two issued: %d", info.Status)
			}
			refreshed := at1.Post(t, "/token", refreshForm(tokens))
			if refreshed.Status != http.StatusOK {
				t.Fatalf("refresh on one: %d %s", refreshed.Status, refreshed.Body)
			}
			again := at2.Post(t, "/token", refreshForm(refreshed.JSON))
			if again.Status != http.StatusOK {
				t.Fatalf("refresh on two of what one issued: %d %s", again.Status, again.Body)
			}
			if revoked := at2.Post(t, "/revoke", refreshRevocation(again.JSON)); revoked.Status != http.StatusOK {
				t.Errorf("revocation on two: %d %s", revoked.Status, revoked.Body)
			}
			for _, token := range []string{access, refreshed.JSON["access_token"].(string), again.JSON["access_token"].(string)} {
				if isActive(t, api1, token) || isActive(t, api2, token) {
					t.Error("a token is active after the revocation on two")
				}
			}
			at1.Post(t, "/token", refreshForm(again.JSON)).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
		})
	}
}

func refreshRevocation(tokens map[string]any) url.Values {
	return url.Values{"token": {tokens["refresh_token"].(string)}, "token_type_hint": {"refresh_token"}}
}

// A9: one memory of used identifiers.
func TestReplicas_ReplayIsRefusedOnTheOther(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	grant := url.Values{"grant_type": {"client_credentials"}}

	t.Run("assertion", func(t *testing.T) {
		at1, at2 := one.Client("tpp"), two.Client("tpp")
		form := at1.Authenticated(t, grant)
		if answer := at1.Send(t, "/token", form, nil); answer.Status != http.StatusOK {
			t.Fatalf("%d %s", answer.Status, answer.Body)
		}
		at2.Send(t, "/token", form, nil).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
		push := at2.Params(nil)
		push.Set("client_assertion", form.Get("client_assertion"))
		push.Set("client_assertion_type", fapi.ClientAssertionType)
		at2.Send(t, "/par", push, nil).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	})

	t.Run("proof", func(t *testing.T) {
		at1, at2 := one.Client("tpp-dpop"), two.Client("tpp-dpop")
		proof := map[string]any{"jti": "the same on both"}
		if answer := at1.Send(t, "/token", at1.Authenticated(t, grant), proof); answer.Status != http.StatusOK {
			t.Fatalf("%d %s", answer.Status, answer.Body)
		}
		answer := at2.Send(t, "/token", at2.Authenticated(t, grant), proof)
		if answer.Status == http.StatusOK || answer.JSON["access_token"] != nil {
			t.Errorf("the proof was taken twice: %d %s", answer.Status, answer.Body)
		}
	})
}

// docs/clients.md: a client that is disabled is refused on every server, and its tokens are inactive.
func TestReplicas_LearnOfADisabledClient(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	at1, at2, api := one.Client("tpp-mtls"), two.Client("tpp-mtls"), two.Client("bank-api")
	grant := url.Values{"grant_type": {"client_credentials"}}
	access := at1.Post(t, "/token", grant).JSON["access_token"].(string)
	if !isActive(t, api, access) || at2.Post(t, "/token", grant).Status != http.StatusOK {
		t.Fatal("the client is refused before it was disabled")
	}
	if err := one.DB.DisableClient(t.Context(), at1.ID); err != nil {
		t.Fatal(err)
	}
	took := soon(t, "two refuses the client", func() bool { return at2.Post(t, "/token", grant).Status == http.StatusUnauthorized })
	t.Logf("refused on the other after %v", took)
	at2.Post(t, "/par", at2.Params(nil)).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	if isActive(t, api, access) {
		t.Error("a token of the disabled client is active")
	}
	if err := two.DB.EnableClient(t.Context(), at1.ID); err != nil {
		t.Fatal(err)
	}
	soon(t, "one lets the client in again", func() bool { return at1.Post(t, "/token", grant).Status == http.StatusOK })
}

// The published next key signs everywhere after a rotation; what the retired one signed is good until it expires.
func TestReplicas_LearnOfANewKey(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	at1, at2 := one.Client("tpp-jwt"), two.Client("tpp-jwt")
	grant := url.Values{"grant_type": {"client_credentials"}}
	issue := func(c *authztest.Client) string {
		token, _ := c.Post(t, "/token", grant).JSON["access_token"].(string)
		return token
	}
	old, published := issue(at1), kids(t, one)
	if !published[kidOf(t, old)] || kidOf(t, issue(at2)) != kidOf(t, old) {
		t.Fatal("the two do not sign with one published key")
	}

	set, err := keys.Open(t.Context(), one.DB, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Rotate(t.Context(), jose.ES256); err != nil {
		t.Fatal(err)
	}
	var fresh [2]string
	for i, c := range []*authztest.Client{at1, at2} {
		took := soon(t, "a server signs with the new key", func() bool {
			fresh[i] = issue(c)
			return kidOf(t, fresh[i]) != kidOf(t, old)
		})
		t.Logf("server %d signs with the new key after %v", i+1, took)
	}
	kid := kidOf(t, fresh[0])
	if kid != kidOf(t, fresh[1]) {
		t.Error("the two sign with different keys")
	}
	if !published[kid] {
		t.Error("the new key was not published before it signed: whoever caches the key set cannot verify")
	}
	for i, s := range []*authztest.Server{one, two} {
		if set := kids(t, s); !set[kid] || !set[kidOf(t, old)] {
			t.Errorf("server %d publishes %v, which lacks the new key or the retired one", i+1, set)
		}
		for _, token := range append(fresh[:], old) {
			if !isActive(t, s.Client("bank-api"), token) {
				t.Errorf("server %d does not accept a token signed with %s", i+1, kidOf(t, token))
			}
		}
	}
}

func kidOf(t *testing.T, token string) string {
	t.Helper()
	encoded, _, _ := strings.Cut(token, ".")
	header, err := base64.RawURLEncoding.DecodeString(encoded)
	var h struct{ KID string }
	if err != nil || json.Unmarshal(header, &h) != nil || h.KID == "" {
		t.Fatalf("no kid in %q", token)
	}
	return h.KID
}

func kids(t *testing.T, s *authztest.Server) map[string]bool {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(newPerson(t).get(t, s, "/jwks").Body, &set); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, k := range set.Keys {
		found[k.KeyID] = true
	}
	return found
}

// RFC 9449 §8: a nonce is any server's, not the one's that made it: behind a load balancer a client would else be told
// to take another for ever. One that starts after the data key was rotated is no exception.
func TestReplicas_TakeEachOthersNonces(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{DPoPNonces: true})
	if _, err := one.DB.RotateDataKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	three := authztest.Start(t, authztest.Options{DPoPNonces: true, Like: one})
	grant := url.Values{"grant_type": {"client_credentials"}}
	for i, from := range []*authztest.Server{one, two, three} {
		first := from.Client("tpp-dpop")
		asked := first.Send(t, "/token", first.Authenticated(t, grant), nil)
		asked.Refused(t, http.StatusBadRequest, fapi.UseDPoPNonce)
		nonce := asked.Header.Get("DPoP-Nonce")
		for k, to := range []*authztest.Server{one, two, three} {
			c := to.Client("tpp-dpop")
			if answer := c.Send(t, "/token", c.Authenticated(t, grant), map[string]any{"nonce": nonce}); answer.Status != http.StatusOK {
				t.Errorf("server %d does not take the nonce of server %d: %d %s", k+1, i+1, answer.Status, answer.Body)
			}
		}
	}
	c := two.Client("tpp-dpop")
	c.Send(t, "/token", c.Authenticated(t, grant), map[string]any{"nonce": "made up"}).Refused(t, http.StatusBadRequest, fapi.UseDPoPNonce)
}

// A data key that one server, or a command, has made opens on all, as soon as they have heard of it.
func TestReplicas_LearnOfANewDataKey(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	at1, api1, api2 := one.Client("tpp-mtls"), one.Client("bank-api"), two.Client("bank-api")
	grant := url.Values{"grant_type": {"client_credentials"}}
	old := at1.Post(t, "/token", grant).JSON["access_token"].(string)
	if _, err := one.DB.RotateDataKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	fresh := at1.Post(t, "/token", grant).JSON["access_token"].(string)
	t.Logf("accepted on the other after %v", soon(t, "two opens what the new key sealed", func() bool { return isActive(t, api2, fresh) }))
	if !isActive(t, api1, old) || !isActive(t, api2, old) {
		t.Error("a token that the old key sealed is not active any more")
	}
}
