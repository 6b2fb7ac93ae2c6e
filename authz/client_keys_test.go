package authz_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// keySite is where a client has its keys.
type keySite struct {
	url     string
	hits    atomic.Int64
	mu      sync.Mutex
	respond http.HandlerFunc
}

func newKeySite(t *testing.T, s *authztest.Server) *keySite {
	k := &keySite{}
	k.url = s.Site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.hits.Add(1)
		k.mu.Lock()
		respond := k.respond
		k.mu.Unlock()
		respond(w, r)
	})) + "/jwks"
	return k
}

func (k *keySite) answer(h http.HandlerFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.respond = h
}

// serve publishes the public halves of keys, by kid.
func (k *keySite) serve(keys map[string]*ecdsa.PrivateKey) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for kid, key := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: kid, Use: "sig"})
	}
	document, err := json.Marshal(set)
	if err != nil {
		panic(err)
	}
	k.answer(func(w http.ResponseWriter, _ *http.Request) { w.Write(document) })
}

func (k *keySite) fails(status int) {
	k.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
}

// hosted is a client whose keys are at its jwks_uri.
func hosted(t *testing.T, s *authztest.Server, id string, more map[string]any) (*authztest.Client, *keySite) {
	t.Helper()
	k := newKeySite(t, s)
	metadata := map[string]any{"jwks": nil, "jwks_uri": k.url}
	for name, value := range more {
		metadata[name] = value
	}
	c := s.AddClient(t, id, fapi.OpenID, fapi.PrivateKeyJWT, metadata)
	k.serve(map[string]*ecdsa.PrivateKey{id: c.Key})
	return c, k
}

var clientGrant = url.Values{"grant_type": {"client_credentials"}}

// signedBy asks for a token with an assertion that another key made.
func signedBy(t *testing.T, s *authztest.Server, c *authztest.Client, kid string, key *ecdsa.PrivateKey) *authztest.Answer {
	t.Helper()
	now := time.Now()
	assertion := authztest.Sign(t, jose.ES256, jose.JSONWebKey{Key: key, KeyID: kid}, nil, map[string]any{
		"iss": c.ID, "sub": c.ID, "aud": s.Issuer, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	})
	return c.Send(t, "/token", url.Values{"grant_type": {"client_credentials"}, "client_assertion_type": {fapi.ClientAssertionType}, "client_assertion": {assertion}}, nil)
}

func (k *keySite) asked(t *testing.T, want int64) {
	t.Helper()
	if got := k.hits.Load(); got != want {
		t.Errorf("the jwks_uri was asked %d times, want %d", got, want)
	}
}

func granted(t *testing.T, a *authztest.Answer) {
	t.Helper()
	if a.Status != http.StatusOK {
		t.Errorf("answered %d %s", a.Status, a.Body)
	}
}

// MD-04, OpenID Connect Core §10.1.1: a client puts a new key to its jwks_uri, and takes the old one away.
func TestJWKSURI_Rotation(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, k := hosted(t, s, "hosted", nil)
	granted(t, c.Post(t, "/token", clientGrant))
	granted(t, c.Post(t, "/token", clientGrant))
	k.asked(t, 1)

	next := authztest.NewKey(t)
	k.serve(map[string]*ecdsa.PrivateKey{"next": next})
	for range 10 { // whoever sends unknown kids gets nothing fetched more than once a minute
		signedBy(t, s, c, "next", next).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	}
	k.asked(t, 1)
	s.AgeKeys(c.ID, time.Minute)
	granted(t, signedBy(t, s, c, "next", next))
	k.asked(t, 2)
	c.Post(t, "/token", clientGrant).Refused(t, http.StatusUnauthorized, fapi.InvalidClient) // the old key is gone
	granted(t, signedBy(t, s, c, "next", next))
	granted(t, signedBy(t, s, c, "", next))
	k.asked(t, 2)

	again := authztest.NewKey(t)
	k.serve(map[string]*ecdsa.PrivateKey{"again": again})
	s.AgeKeys(c.ID, time.Minute)
	granted(t, signedBy(t, s, c, "", again)) // no kid, and none of the known ones made it
	k.asked(t, 3)
	s.AgeKeys(c.ID, time.Minute)
	signedBy(t, s, c, "again", next).Refused(t, http.StatusUnauthorized, fapi.InvalidClient) // a known kid: nothing to look for
	k.asked(t, 3)
}

// Keys are fetched anew when they are an hour old; when that fails the old ones serve for a day.
func TestJWKSURI_Age(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, k := hosted(t, s, "hosted", nil)
	granted(t, c.Post(t, "/token", clientGrant))
	s.AgeKeys(c.ID, 59*time.Minute)
	granted(t, c.Post(t, "/token", clientGrant))
	k.asked(t, 1)
	s.AgeKeys(c.ID, time.Minute)
	granted(t, c.Post(t, "/token", clientGrant))
	k.asked(t, 2)

	k.fails(http.StatusServiceUnavailable)
	s.AgeKeys(c.ID, time.Hour)
	granted(t, c.Post(t, "/token", clientGrant))
	granted(t, c.Post(t, "/token", clientGrant))
	k.asked(t, 3)
	s.AgeKeys(c.ID, 24*time.Hour)
	c.Post(t, "/token", clientGrant).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	k.asked(t, 4)
	granted(t, s.Client("web").Post(t, "/token", clientGrant)) // others go on

	k.serve(map[string]*ecdsa.PrivateKey{c.ID: c.Key})
	c.Post(t, "/token", clientGrant).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	s.AgeKeys(c.ID, time.Minute)
	granted(t, c.Post(t, "/token", clientGrant))

	removed := authztest.NewKey(t) // a key that is gone there is gone here within the hour
	k.serve(map[string]*ecdsa.PrivateKey{"other": removed})
	s.AgeKeys(c.ID, time.Hour)
	c.Post(t, "/token", clientGrant).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
}

// Many requests that need the keys at once fetch them once.
func TestJWKSURI_SingleFlight(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, k := hosted(t, s, "hosted", nil)
	document, err := json.Marshal(keySet(c.ID, c.Key.Public()))
	if err != nil {
		t.Fatal(err)
	}
	k.answer(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(200 * time.Millisecond)
		w.Write(document)
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { granted(t, c.Post(t, "/token", clientGrant)) })
	}
	wg.Wait()
	k.asked(t, 1)

	c.Key = authztest.NewKey(t) // the same after a rotation: who waited for another's fetch profits from it
	k.serve(map[string]*ecdsa.PrivateKey{c.ID + "-2": c.Key})
	slowly := k.respond
	k.answer(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(200 * time.Millisecond)
		slowly(w, r)
	})
	s.AgeKeys(c.ID, time.Minute)
	for range 8 {
		wg.Go(func() { granted(t, signedBy(t, s, c, c.ID+"-2", c.Key)) })
	}
	wg.Wait()
	k.asked(t, 2)
}

// What is fetched survives that the clients are read anew, and a new address counts at once.
func TestJWKSURI_Reload(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, k := hosted(t, s, "hosted", nil)
	granted(t, c.Post(t, "/token", clientGrant))
	s.AddClient(t, "newcomer", fapi.OpenID, fapi.ClientSecretBasic, nil) // returns when it is known: the clients were read
	granted(t, c.Post(t, "/token", clientGrant))
	k.asked(t, 1)

	moved := newKeySite(t, s)
	next := authztest.NewKey(t)
	moved.serve(map[string]*ecdsa.PrivateKey{"next": next})
	s.SQL(t, `UPDATE clients SET metadata = jsonb_set(metadata, '{jwks_uri}', to_jsonb($1::text)) WHERE client_id = 'hosted'`, moved.url)
	soon(t, "the keys come from the new address", func() bool { return signedBy(t, s, c, "next", next).Status == http.StatusOK })
	c.Post(t, "/token", clientGrant).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	k.asked(t, 1)
}

// A client whose keys cannot be fetched is refused: it fails closed.
func TestJWKSURI_FailsClosed(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	private, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: authztest.NewKey(t), KeyID: "x"}}})
	if err != nil {
		t.Fatal(err)
	}
	text := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(body)) }
	}
	for name, h := range map[string]http.HandlerFunc{
		"not found":     http.NotFound,
		"a-redirect":    http.RedirectHandler("/elsewhere", http.StatusFound).ServeHTTP,
		"no JSON":       text("<html>"),
		"no set":        text(`{"kty":"EC"}`),
		"no keys":       text(`{"keys":[]}`),
		"private keys":  text(string(private)),
		"too large":     text(`{"keys":[], "x":"` + strings.Repeat("x", 200<<10) + `"}`),
		"another's key": nil,
	} {
		t.Run(name, func(t *testing.T) {
			c, k := hosted(t, s, "hosted-"+strings.ReplaceAll(name, " ", "-"), nil)
			k.serve(map[string]*ecdsa.PrivateKey{c.ID: authztest.NewKey(t)})
			if h != nil {
				k.answer(h)
			}
			for range 3 {
				c.Post(t, "/token", clientGrant).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
			}
			k.asked(t, 1)
		})
	}
}

// Without --outbound-allow nothing on the server's own network is called.
func TestJWKSURI_PublicOnly(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{PublicOnly: true})
	c, k := hosted(t, s, "hosted", nil)
	c.Post(t, "/token", clientGrant).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	k.asked(t, 0)
}

// Request objects and certificates are held against the keys at the jwks_uri as assertions are.
func TestJWKSURI_EverythingSigned(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	t.Run("request object by value", func(t *testing.T) {
		key := authztest.NewKey(t)
		k := newKeySite(t, s)
		k.serve(map[string]*ecdsa.PrivateKey{"hosted-web": key})
		c := s.AddClient(t, "hosted-web", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"jwks_uri": k.url})
		open := func(key *ecdsa.PrivateKey) *authztest.Page {
			return s.Browser(t).Open(t, "/authorize?"+url.Values{"client_id": {c.ID}, "redirect_uri": {authztest.RedirectURI}, "request": {object(t, s, c, key, c.Params(nil), nil)}}.Encode())
		}
		open(key).Is(t, "login_page")
		k.asked(t, 1)
		open(authztest.NewKey(t)).Returns(t, s, fapi.InvalidRequestObject, "")
		k.asked(t, 1)
		s.Browser(t).Open(t, "/authorize?"+c.Params(nil).Encode()).Is(t, "login_page")
		k.asked(t, 1)
	})
	t.Run("pushed request object", func(t *testing.T) {
		c, k := hosted(t, s, "hosted-par", nil)
		if answer := c.Post(t, "/par", url.Values{"request": {object(t, s, c, c.Key, c.Params(nil), nil)}}); answer.Status != http.StatusCreated {
			t.Errorf("answered %d %s", answer.Status, answer.Body)
		}
		k.asked(t, 1)
	})
	t.Run("self_signed_tls_client_auth", func(t *testing.T) {
		k := newKeySite(t, s)
		c := s.AddClient(t, "hosted-self", fapi.FAPI2, fapi.SelfSignedTLSClientAuth, map[string]any{"jwks": nil, "jwks_uri": k.url, "tls_client_certificate_bound_access_tokens": true})
		k.serve(map[string]*ecdsa.PrivateKey{"tls": c.Certificate.PrivateKey.(*ecdsa.PrivateKey)})
		granted(t, c.Post(t, "/token", clientGrant))
		k.asked(t, 1)
		c.Certificate = authztest.SelfSigned(t, c.ID)
		c.Post(t, "/token", clientGrant).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
		k.serve(map[string]*ecdsa.PrivateKey{"tls": c.Certificate.PrivateKey.(*ecdsa.PrivateKey)})
		s.AgeKeys(c.ID, time.Minute)
		granted(t, c.Post(t, "/token", clientGrant))
		k.asked(t, 2)
	})
	t.Run("an encrypted ID token of a client that signs nothing", func(t *testing.T) {
		k, key := newKeySite(t, s), authztest.NewKey(t)
		set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "enc", Use: "enc"}}})
		if err != nil {
			t.Fatal(err)
		}
		k.answer(func(w http.ResponseWriter, _ *http.Request) { w.Write(set) })
		c := s.AddClient(t, "hosted-enc", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"jwks_uri": k.url, "id_token_encrypted_response_alg": "ECDH-ES"})
		token, _ := c.Grant(t, nil)["id_token"].(string)
		jwe, err := jose.ParseEncryptedCompact(token, []jose.KeyAlgorithm{jose.ECDH_ES}, []jose.ContentEncryption{jose.A128CBC_HS256})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := jwe.Decrypt(key); err != nil || jwe.Header.KeyID != "enc" {
			t.Errorf("%v, kid %q", err, jwe.Header.KeyID)
		}
		k.asked(t, 1)
	})
}

// Answers that the browser carries are encrypted with the key that is at the jwks_uri when they are made.
func TestJWKSURI_EncryptedAnswers(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	k := newKeySite(t, s)
	publish := func() *ecdsa.PrivateKey {
		key := authztest.NewKey(t)
		set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "enc", Use: "enc"}}})
		if err != nil {
			t.Fatal(err)
		}
		k.answer(func(w http.ResponseWriter, _ *http.Request) { w.Write(set) })
		return key
	}
	publish()
	c := s.AddClient(t, "hosted-jarm", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"jwks_uri": k.url, "authorization_encrypted_response_alg": "ECDH-ES"})
	opens := func(page *authztest.Page, key *ecdsa.PrivateKey) {
		t.Helper()
		if page.Left == nil {
			t.Fatalf("page %q with %d", page.ID(), page.Status)
		}
		jwe, err := jose.ParseEncryptedCompact(page.Left.Query().Get("response"), []jose.KeyAlgorithm{jose.ECDH_ES}, []jose.ContentEncryption{jose.A128CBC_HS256})
		if err != nil {
			t.Fatalf("%v: %v", page.Left, err)
		}
		if _, err := jwe.Decrypt(key); err != nil {
			t.Error("encrypted to a key that is gone")
		}
	}
	asks := "/authorize?" + c.Params(map[string]string{"response_mode": "jwt"}).Encode()
	key := publish()
	s.AgeKeys(c.ID, time.Hour)
	opens(s.Browser(t).Open(t, asks+"&prompt=none"), key)

	b := s.Browser(t)
	page := b.Login(t, b.Open(t, asks))
	key = publish()
	s.AgeKeys(c.ID, time.Hour)
	opens(b.Decide(t, page, "approve", "12"), key)
	userinfo := s.AddClient(t, "hosted-userinfo", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"jwks_uri": k.url, "userinfo_encrypted_response_alg": "ECDH-ES"})
	token, _ := userinfo.Grant(t, nil)["access_token"].(string)
	key = publish()
	s.AgeKeys(userinfo.ID, time.Hour)
	jwe, err := jose.ParseEncryptedCompact(string(userinfo.Get(t, "/userinfo", token).Body), []jose.KeyAlgorithm{jose.ECDH_ES}, []jose.ContentEncryption{jose.A128CBC_HS256})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwe.Decrypt(key); err != nil {
		t.Error("userinfo: encrypted to a key that is gone")
	}
}
