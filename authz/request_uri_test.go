package authz_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
)

// library is where a client has its request objects, by path.
type library struct {
	base    string
	hits    atomic.Int64
	objects map[string]func(http.ResponseWriter)
}

func newLibrary(t *testing.T, s *authztest.Server) *library {
	l := &library{objects: map[string]func(http.ResponseWriter){}}
	l.base = s.Site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.hits.Add(1)
		if object := l.objects[r.URL.Path]; object != nil {
			object(w)
			return
		}
		http.NotFound(w, r)
	}))
	return l
}

// put stores an object and returns its address. Everything is stored before the first request.
func (l *library) put(path, mediaType, object string) string {
	l.objects[path] = func(w http.ResponseWriter) {
		if mediaType != "" {
			w.Header().Set("Content-Type", mediaType)
		}
		w.Write([]byte(object))
	}
	return l.base + path
}

// refers makes the parameters of a request by reference.
func refers(c *authztest.Client, uri string, changes url.Values) url.Values {
	bad := badRequest{change: changes}
	return bad.on(url.Values{"client_id": {c.ID}, "response_type": {"code"}, "scope": {"openid"}, "state": {"outside"}, "redirect_uri": {authztest.RedirectURI}, "request_uri": {uri}})
}

// JAR-06, OpenID Connect Core §6.2: a client refers to a request object that it serves.
func TestRequestURI_Flow(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	l := newLibrary(t, s)
	c, key := signer(t, s, "web-refers", map[string]any{"request_uris": []string{l.base + "/object", l.base + "/plain#c9f1", l.base + "/bytes"}})
	signed := object(t, s, c, key, c.Params(map[string]string{"state": "signed"}), map[string]any{"max_age": 3600})
	uris := []string{l.put("/object", "application/oauth-authz-req+jwt", signed), l.put("/object", "application/jwt", signed) + "#1a2b", l.put("/plain", "text/plain", signed+"\r\n"), l.put("/bytes", "application/octet-stream", signed)}
	for _, uri := range uris {
		for _, open := range doors {
			open(t, s, refers(c, uri, nil)).Is(t, "login_page")
		}
	}
	b := s.Browser(t)
	page := b.Decide(t, b.Login(t, b.Open(t, "/authorize?"+url.Values{"client_id": {c.ID}, "request_uri": {uris[0]}, "state": {"outside"}, "nonce": {"outside"}}.Encode())), "approve", "12")
	if page.Left == nil || page.Left.Query().Get("state") != "signed" {
		t.Fatalf("page %q, left for %v", page.ID(), page.Left)
	}
	if claims := idClaims(t, c.Exchange(t, page.Left.Query().Get("code"))); claims["nonce"] != "nonce-1" {
		t.Errorf("nonce %v", claims["nonce"])
	}
	if got, want := l.hits.Load(), int64(2*len(uris)+1); got != want {
		t.Errorf("fetched %d times, want %d: nothing is kept", got, want)
	}
}

func TestRequestURI_Refuses(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	l := newLibrary(t, s)
	paths := []string{"/good", "/forged", "/unsigned", "/expired", "/other", "/nested", "/html", "/empty", "/large", "/gone", "/moved", "/nowhere"}
	long := "/" + strings.Repeat("a", 512)
	uris := []string{l.base + long, "https://127.0.0.1:1/refused", "https://10.1.2.3/private"}
	for _, path := range paths {
		uris = append(uris, l.base+path)
	}
	c, key := signer(t, s, "web-refers", map[string]any{"request_uris": uris})
	pushes := s.AddClient(t, "web-pushes", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"request_uris": uris, "require_pushed_authorization_requests": true})
	good := object(t, s, c, key, c.Params(map[string]string{"state": "signed"}), nil)
	l.put("/good", "", good)
	l.put(long, "", good)
	l.put("/unregistered", "", good)
	l.put("/forged", "", object(t, s, c, authztest.NewKey(t), c.Params(nil), nil))
	l.put("/unsigned", "", "eyJhbGciOiJub25lIn0.e30.")
	l.put("/expired", "", object(t, s, c, key, c.Params(map[string]string{"state": "signed"}), map[string]any{"exp": 1}))
	l.put("/other", "", object(t, s, c, key, c.Params(map[string]string{"state": "signed"}), map[string]any{"client_id": "web"}))
	l.put("/nested", "", object(t, s, c, key, c.Params(map[string]string{"state": "signed"}), map[string]any{"request_uri": l.base + "/good"}))
	l.put("/html", "text/html", "<html>not an object</html>")
	l.put("/empty", "", " \n")
	l.put("/large", "", strings.Repeat("A", fapi.MaxRequestObject+1))
	l.objects["/moved"] = func(w http.ResponseWriter) {
		w.Header().Set("Location", l.base+"/good")
		w.WriteHeader(http.StatusFound)
	}
	at := func(path string) url.Values { return refers(c, l.base+path, nil) }
	for name, bad := range map[string]struct {
		params url.Values
		code   fapi.Code
		state  string // sent back; "-": nobody is sent anywhere
	}{
		"not registered":                             {at("/unregistered"), fapi.InvalidRequestURI, "outside"},
		"not registered, and no way back":            {refers(c, l.base+"/unregistered", url.Values{"redirect_uri": nil}), fapi.InvalidRequestURI, "-"},
		"not registered, and a bad way back":         {refers(c, l.base+"/unregistered", url.Values{"redirect_uri": {"https://evil.example/"}}), fapi.InvalidRequestURI, "-"},
		"a registered one with a query":              {at("/good?x=1"), fapi.InvalidRequestURI, "outside"},
		"RFC 9101 §5.2: more than 512 characters":    {at(long), fapi.InvalidRequestURI, "outside"},
		"the scheme in capitals":                     {refers(c, "HTTPS"+strings.TrimPrefix(l.base, "https")+"/good", nil), fapi.InvalidRequestURI, "outside"},
		"none registered":                            {refers(s.Client("web"), l.base+"/good", nil), fapi.RequestURINotSupported, "outside"},
		"a client that must push":                    {refers(pushes, l.base+"/good", nil), fapi.InvalidRequest, "outside"},
		"a profile that demands PAR":                 {refers(s.Client("tpp"), l.base+"/good", nil), fapi.InvalidRequest, "outside"},
		"JAR-02: request beside it":                  {refers(c, l.base+"/good", url.Values{"request": {good}}), fapi.InvalidRequest, "outside"},
		"request_uri twice":                          {refers(c, "", url.Values{"request_uri": {l.base + "/good", l.base + "/forged"}}), fapi.InvalidRequest, "outside"},
		"nothing there":                              {at("/nowhere"), fapi.InvalidRequestURI, "outside"},
		"a redirect":                                 {at("/moved"), fapi.InvalidRequestURI, "outside"},
		"nobody listens":                             {refers(c, "https://127.0.0.1:1/refused", nil), fapi.InvalidRequestURI, "outside"},
		"a private address":                          {refers(c, "https://10.1.2.3/private", nil), fapi.InvalidRequestURI, "outside"},
		"too large":                                  {at("/large"), fapi.InvalidRequestURI, "outside"},
		"empty":                                      {at("/empty"), fapi.InvalidRequestURI, "outside"},
		"no object":                                  {at("/html"), fapi.InvalidRequestObject, "outside"},
		"unsigned":                                   {at("/unsigned"), fapi.InvalidRequestObject, "outside"},
		"signed by somebody else":                    {at("/forged"), fapi.InvalidRequestObject, "outside"},
		"JAR-02: request_uri inside":                 {at("/nested"), fapi.InvalidRequestObject, "signed"},
		"expired":                                    {at("/expired"), fapi.InvalidRequestObject, "signed"},
		"JAR-01: another client_id inside":           {at("/other"), fapi.InvalidRequestObject, "signed"},
		"OpenID Connect Core §6.2: another response": {refers(c, l.base+"/good", url.Values{"response_type": {"code token"}, "response_mode": {"query"}}), fapi.InvalidRequest, "signed"},
	} {
		for method, open := range doors {
			t.Run(method+" "+name, func(t *testing.T) {
				page := open(t, s, bad.params)
				if bad.state != "-" {
					page.Returns(t, s, bad.code, bad.state)
					return
				}
				page.Explains(t, http.StatusBadRequest, bad.code)
			})
		}
	}
	before := l.hits.Load()
	pushRaw(t, c, url.Values{"client_id": {c.ID}, "request_uri": {l.base + "/good"}}).Refused(t, http.StatusBadRequest, fapi.InvalidRequest) // RFC 9126 §2.1
	open := refers(c, l.base+"/unregistered", nil)
	s.Browser(t).Open(t, "/authorize?"+open.Encode())
	if l.hits.Load() != before {
		t.Error("PAR, or an address that is not registered, makes the server call")
	}
	if n := s.Count(t, "SELECT count(*) FROM authorizations"); n != 0 {
		t.Errorf("%d authorizations are stored", n)
	}
}

// Without --outbound-allow a registered address on the server's own network is not called.
func TestRequestURI_PublicOnly(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{PublicOnly: true})
	l := newLibrary(t, s)
	c, key := signer(t, s, "web-refers", map[string]any{"request_uris": []string{l.base + "/object"}})
	uri := l.put("/object", "", object(t, s, c, key, c.Params(nil), nil))
	s.Browser(t).Open(t, "/authorize?"+refers(c, uri, nil).Encode()).Returns(t, s, fapi.InvalidRequestURI, "outside")
	if l.hits.Load() != 0 {
		t.Error("called")
	}
}

// serverKey returns the key that the server publishes for encryption to it.
func serverKey(t *testing.T, s *authztest.Server, alg jose.KeyAlgorithm) jose.JSONWebKey {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(s.Client("web").Raw(t, "GET", "/jwks", "", nil).Body, &set); err != nil {
		t.Fatal(err)
	}
	var found []jose.JSONWebKey
	for _, k := range set.Keys {
		if k.Use == "enc" && k.Algorithm == string(alg) {
			found = append(found, k)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d keys for %s are published", len(found), alg)
	}
	return found[0]
}

func encryptTo(t *testing.T, key jose.JSONWebKey, kid, text string) string {
	t.Helper()
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.KeyAlgorithm(key.Algorithm), Key: key.Key, KeyID: kid}, (&jose.EncrypterOptions{}).WithContentType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := encrypter.Encrypt([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	compact, err := jwe.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// RFC 9101 §6.1: objects that are signed and then encrypted to the server, pushed, by value and by reference.
func TestRequestObject_Encrypted(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	l := newLibrary(t, s)
	to := serverKey(t, s, jose.ECDH_ES)
	c, key := signer(t, s, "web-encrypts", map[string]any{"request_object_encryption_alg": "ECDH-ES", "request_object_encryption_enc": "A256GCM", "request_uris": []string{l.base + "/object"}})
	signed := object(t, s, c, key, c.Params(map[string]string{"state": "signed"}), nil)
	nested := encryptTo(t, to, to.KeyID, signed)
	form := func(object string) url.Values { return url.Values{"client_id": {c.ID}, "request": {object}} }

	if answer := pushRaw(t, c, form(nested)); answer.Status != http.StatusCreated {
		t.Errorf("pushed: answered %d %s", answer.Status, answer.Body)
	}
	if answer := pushRaw(t, c, form(encryptTo(t, to, "", signed))); answer.Status != http.StatusCreated {
		t.Errorf("without kid: answered %d %s", answer.Status, answer.Body)
	}
	tpp := s.Client("tpp")
	if answer := tpp.Post(t, "/par", url.Values{"request": {encryptTo(t, to, to.KeyID, object(t, s, tpp, tpp.Key, tpp.Params(nil), nil))}}); answer.Status != http.StatusCreated {
		t.Errorf("a client that registered nothing may encrypt: answered %d %s", answer.Status, answer.Body)
	}
	s.Browser(t).Open(t, "/authorize?"+form(nested).Encode()).Is(t, "login_page")
	l.put("/object", "application/oauth-authz-req+jwt", nested)
	s.Browser(t).Open(t, "/authorize?"+refers(c, l.base+"/object", nil).Encode()).Is(t, "login_page")

	stranger := jose.JSONWebKey{Key: authztest.NewKey(t).Public(), Algorithm: "ECDH-ES"}
	for name, bad := range map[string]string{
		"not encrypted, though registered": signed,
		"to nobody's key":                  encryptTo(t, stranger, to.KeyID, signed),
		"a kid that is not ours":           encryptTo(t, to, "unknown", signed),
		"a kid that is a signing key's":    encryptTo(t, to, kidOf(t, s.Client("tpp-jwt").Post(t, "/token", clientGrant).JSON["access_token"].(string)), signed),
		"signed by somebody else":          encryptTo(t, to, to.KeyID, object(t, s, c, authztest.NewKey(t), c.Params(nil), nil)),
		"not signed":                       encryptTo(t, to, to.KeyID, `{"client_id":"web-encrypts"}`),
	} {
		pushRaw(t, c, form(bad)).Refused(t, http.StatusBadRequest, fapi.InvalidRequestObject)
		params := form(bad)
		params.Set("redirect_uri", authztest.RedirectURI)
		if page := s.Browser(t).Open(t, "/authorize?"+params.Encode()); page.Left == nil || page.Left.Query().Get("error") != string(fapi.InvalidRequestObject) {
			t.Errorf("%s: page %q, left for %v", name, page.ID(), page.Left)
		}
	}
}

// The server's encryption keys rotate as its signing keys do: what was encrypted to the one before still opens, until
// nobody can have it from our key set any more.
func TestRequestObject_EncryptionKeyRotation(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, key := signer(t, s, "web-encrypts", map[string]any{"request_object_encryption_alg": "ECDH-ES", "request_object_encryption_enc": "A256GCM"})
	push := func(to jose.JSONWebKey) int {
		signed := object(t, s, c, key, c.Params(nil), nil)
		return pushRaw(t, c, url.Values{"client_id": {c.ID}, "request": {encryptTo(t, to, to.KeyID, signed)}}).Status
	}
	old := serverKey(t, s, jose.ECDH_ES)
	set, err := keys.Open(t.Context(), s.DB, []jose.SignatureAlgorithm{jose.ES256}, jose.ECDH_ES)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.RotateEncryption(t.Context(), jose.ECDH_ES); err != nil {
		t.Fatal(err)
	}
	soon(t, "another key is published", func() bool { return serverKey(t, s, jose.ECDH_ES).KeyID != old.KeyID })
	if got := push(serverKey(t, s, jose.ECDH_ES)); got != http.StatusCreated {
		t.Errorf("the new key: %d", got)
	}
	if got := push(old); got != http.StatusCreated {
		t.Errorf("the one before: %d", got)
	}
	s.SQL(t, "UPDATE signing_keys SET published_until = now() - interval '1 second' WHERE kid = $1", old.KeyID)
	soon(t, "the old key is gone", func() bool { return push(old) == http.StatusBadRequest })
}

// An RSA key too, which takes a while to make.
func TestKeys_DecryptRSA(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	set, err := keys.Open(t.Context(), s.DB, []jose.SignatureAlgorithm{jose.ES256}, keys.AllEncryption...)
	if err != nil {
		t.Fatal(err)
	}
	to := func(k jose.JSONWebKey, kid string) *jose.JSONWebEncryption {
		jwe, err := jose.ParseEncryptedCompact(encryptTo(t, k, kid, "text"), keys.AllEncryption, []jose.ContentEncryption{jose.A256GCM})
		if err != nil {
			t.Fatal(err)
		}
		return jwe
	}
	var published jose.JSONWebKeySet
	if err := json.Unmarshal(set.JWKS(), &published); err != nil {
		t.Fatal(err)
	}
	seen := map[string]jose.JSONWebKey{}
	for _, k := range published.Keys {
		if k.Use != "enc" {
			continue
		}
		if seen[k.Algorithm].Key != nil {
			t.Errorf("two keys for %s are published", k.Algorithm)
		}
		seen[k.Algorithm] = k
		for _, kid := range []string{k.KeyID, ""} {
			if text, err := set.Decrypt(to(k, kid)); err != nil || string(text) != "text" {
				t.Errorf("%s, kid %q: %q, %v", k.Algorithm, kid, text, err)
			}
		}
	}
	rsa, ec := seen["RSA-OAEP-256"], seen["ECDH-ES"]
	if len(seen) != 2 {
		t.Fatalf("published: %v", seen)
	}
	if _, err := set.Decrypt(to(rsa, ec.KeyID)); err != keys.ErrUndecipherable {
		t.Errorf("the kid of a key for another algorithm: %v", err)
	}
	if _, err := set.Decrypt(to(jose.JSONWebKey{Key: authztest.NewKey(t).Public(), Algorithm: "ECDH-ES"}, "")); err != keys.ErrUndecipherable {
		t.Errorf("another key: %v", err)
	}
	began := time.Now()
	if err := set.RotateDue(t.Context(), began.Add(keys.RotateAfter+time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := set.Decrypt(to(rsa, "")); err != keys.ErrUndecipherable {
		t.Errorf("without kid, to a key that is not current any more: %v", err)
	}
	if text, err := set.Decrypt(to(rsa, rsa.KeyID)); err != nil || string(text) != "text" {
		t.Errorf("to the retired key: %v", err)
	}
	if strings.Contains(string(set.JWKS()), rsa.KeyID) {
		t.Error("the retired encryption key is published still")
	}
}
