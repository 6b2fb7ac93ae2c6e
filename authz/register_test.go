package authz_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authz"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

type members = map[string]any

// newcomer is what a client says of itself. A nil member is left out.
func newcomer(changes members) members {
	all := members{"redirect_uris": []string{authztest.RedirectURI}, "client_name": "Newcomer", "grant_types": []string{"authorization_code", "client_credentials", "refresh_token"}}
	for name, value := range changes {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	return all
}

// call sends a registration or a call of a registration_client_uri. body may be nil, bytes, or what becomes JSON.
func call(t *testing.T, s *authztest.Server, method, path, token string, body any) *authztest.Answer {
	t.Helper()
	text, raw := body.([]byte)
	if !raw && body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
	}
	r, err := http.NewRequest(method, s.Issuer+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return authztest.Do(t, s.Client("spa").HTTP(), r)
}

func registerClient(t *testing.T, s *authztest.Server, token string, body any) *authztest.Answer {
	t.Helper()
	return call(t, s, http.MethodPost, "/register", token, body)
}

// mustRegister registers a client with a secret, and returns it with what it was told.
func mustRegister(t *testing.T, s *authztest.Server, changes members) (*authztest.Client, members) {
	t.Helper()
	answer := registerClient(t, s, "", newcomer(changes))
	if answer.Status != http.StatusCreated {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	c := s.Client("web")
	c.ID = answer.JSON["client_id"].(string)
	c.Secret, _ = answer.JSON["client_secret"].(string)
	return c, answer.JSON
}

// manage calls the client's registration_client_uri at a server.
func manage(t *testing.T, s *authztest.Server, method string, told members, token string, body any) *authztest.Answer {
	t.Helper()
	return call(t, s, method, "/register/"+told["client_id"].(string), token, body)
}

// refusedToken checks a 401 of RFC 6750 §3.
func refusedToken(t *testing.T, a *authztest.Answer) {
	t.Helper()
	a.Refused(t, http.StatusUnauthorized, fapi.InvalidToken)
	if challenge := a.Header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, "Bearer") {
		t.Errorf("WWW-Authenticate %q", challenge)
	}
}

var credentialsGrant = url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}}

// RFC 7591 §3.2.1: what a client is told, and that it may act at once, on the other server too.
func TestRegister_UsedAtOnce(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	for range 3 {
		c, told := mustRegister(t, one, members{"policy_uri": "https://app.example/privacy", "frobnicate": 1})
		other := two.Client("web")
		other.ID, other.Secret = c.ID, c.Secret
		for name, client := range map[string]*authztest.Client{"the other": other, "the same": c} {
			if answer := client.Post(t, "/token", credentialsGrant); answer.Status != http.StatusOK {
				t.Fatalf("token from %s server: %d %s", name, answer.Status, answer.Body)
			}
		}
		if !strings.HasPrefix(c.ID, "dcr-") || len(c.Secret) < 43 || len(told["registration_access_token"].(string)) < 43 {
			t.Errorf("told %v", told)
		}
		want := members{
			"client_name": "Newcomer", "client_secret_expires_at": 0.0, "registration_client_uri": one.Config.Issuer + "/register/" + c.ID, "frobnicate": nil,
			"token_endpoint_auth_method": "client_secret_basic", "id_token_signed_response_alg": "ES256", "scope": "openid profile email accounts", "policy_uri": "https://app.example/privacy",
		}
		for name, value := range want {
			if diff := cmp.Diff(value, told[name]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		if issued := time.Unix(int64(told["client_id_issued_at"].(float64)), 0); time.Since(issued).Abs() > time.Minute {
			t.Errorf("client_id_issued_at %v", issued)
		}
	}
	if n := one.Count(t, `SELECT count(*) FROM clients c JOIN registrations r USING (client_id) WHERE c.metadata ?| '{client_secret,registration_access_token}'
        OR length(c.secret_hash) <> 32 OR length(r.token_hash) <> 32`); n != 0 {
		t.Error("a secret is stored")
	}
}

func TestRegister_Refused(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	site := s.Site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: s.Client("tpp").Key.Public(), KeyID: "a"}}})
		switch r.URL.Path {
		case "/jwks":
			w.Write(key)
		case "/private":
			private, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: s.Client("tpp").Key}}})
			w.Write(private)
		case "/empty":
			w.Write([]byte(`{"keys":[]}`))
		case "/sector":
			fmt.Fprintf(w, "[%q]", authztest.RedirectURI)
		case "/sector-bad":
			w.Write([]byte(`["https://example.com/op"]`))
		case "/large":
			w.Write(bytes.Repeat([]byte(" "), 200<<10))
		case "/away":
			http.Redirect(w, r, "/jwks", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	keys := func(path string) members {
		return members{"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": site + path}
	}
	sector := func(path string) members {
		return members{"subject_type": "pairwise", "sector_identifier_uri": site + path}
	}
	for _, test := range []struct {
		name   string
		body   any
		status int
		code   fapi.Code
	}{
		{"OP:registration-jwks-uri", newcomer(keys("/jwks")), http.StatusCreated, ""},
		{"jwks_uri: private keys", newcomer(keys("/private")), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"jwks_uri: no keys", newcomer(keys("/empty")), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"jwks_uri: nothing there", newcomer(keys("/none")), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"jwks_uri: too large", newcomer(keys("/large")), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"jwks_uri: a redirect", newcomer(keys("/away")), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"jwks_uri: http", newcomer(members{"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://app.example/jwks"}), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"jwks_uri: a private address", newcomer(members{"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://169.254.169.254/jwks"}), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"OP:registration-sector-uri", newcomer(sector("/sector")), http.StatusCreated, ""},
		{"OP:registration-sector-bad", newcomer(sector("/sector-bad")), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"OpenID Connect Registration §5: for public subjects too", newcomer(members{"sector_identifier_uri": site + "/sector-bad"}), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"sector_identifier_uri: nothing there", newcomer(sector("/none")), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"sector_identifier_uri: too large", newcomer(sector("/large")), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"OP:redirect-uri-regfrag", newcomer(members{"redirect_uris": []string{authztest.RedirectURI + "#foo"}}), http.StatusBadRequest, fapi.InvalidRedirectURI},
		{"OP:3rd_party-init-login-nohttps", newcomer(members{"initiate_login_uri": "http://app.example/"}), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"X23: client_secret_jwt", newcomer(members{"token_endpoint_auth_method": "client_secret_jwt"}), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"RFC 7591 §3.1: not JSON", []byte("redirect_uris=https://app.example"), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"RFC 7591 §3.1: empty", []byte{}, http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"RFC 8259 §4: a member twice", []byte(`{"client_name":"a","client_name":"b"}`), http.StatusBadRequest, fapi.InvalidClientMetadata},
		{"65 KiB", newcomer(members{"x": strings.Repeat("a", 65<<10)}), http.StatusRequestEntityTooLarge, fapi.InvalidClientMetadata},
		{"a statement where none are expected means nothing", newcomer(members{"software_statement": "a.b.c"}), http.StatusCreated, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := registerClient(t, s, "", test.body)
			if test.code != "" {
				answer.Refused(t, test.status, test.code)
			} else if answer.Status != test.status {
				t.Fatalf("%d %s", answer.Status, answer.Body)
			}
			if answer.Header.Get("Cache-Control") != "no-store" || answer.Header.Get("Content-Type") != "application/json" {
				t.Errorf("headers %v", answer.Header)
			}
			if bytes.Contains(answer.Body, []byte(site)) && test.code != "" {
				t.Errorf("the refusal says what the request said: %s", answer.Body)
			}
		})
	}
	t.Run("another media type", func(t *testing.T) {
		r, _ := http.NewRequest(http.MethodPost, s.Issuer+"/register", strings.NewReader("{}"))
		r.Header.Set("Content-Type", "text/plain")
		authztest.Do(t, s.Client("spa").HTTP(), r).Refused(t, http.StatusUnsupportedMediaType, fapi.InvalidClientMetadata)
	})
	t.Run("a token that nobody gave out", func(t *testing.T) {
		refusedToken(t, registerClient(t, s, "x", newcomer(nil)))
	})
	t.Run("what is not public is not fetched", func(t *testing.T) {
		strict := authztest.Start(t, authztest.Options{PublicOnly: true})
		registerClient(t, strict, "", newcomer(keys("/jwks"))).Refused(t, http.StatusBadRequest, fapi.InvalidClientMetadata)
	})
}

func TestRegister_Closed(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{Registration: authz.Registration{Mode: authz.RegistrationClosed}})
	for _, path := range []string{"/register", "/register/dcr-x"} {
		if answer := call(t, s, http.MethodPost, path, "", newcomer(nil)); answer.Status != http.StatusNotFound {
			t.Errorf("%s: %d", path, answer.Status)
		}
	}
	if document := metadataOf(t, s); document["registration_endpoint"] != nil {
		t.Error("the metadata have a registration_endpoint")
	}
	open := metadataOf(t, authztest.Start(t))
	if open["registration_endpoint"] == nil || open["mtls_endpoint_aliases"].(members)["registration_endpoint"] == nil {
		t.Error("the metadata have no registration_endpoint")
	}
}

func metadataOf(t *testing.T, s *authztest.Server) members {
	t.Helper()
	return call(t, s, http.MethodGet, "/.well-known/openid-configuration", "", nil).JSON
}

// initialToken stores an initial access token.
func initialToken(t *testing.T, s *authztest.Server, profile fapi.ProfileName, uses int, until time.Time) string {
	t.Helper()
	token := fmt.Sprintf("initial %s %d %v", profile, uses, until)
	err := s.DB.CreateInitialAccessToken(t.Context(), storage.InitialAccessToken{Hash: fapi.SecretHash(token), Profile: string(profile), Uses: uses, ExpiresAt: until})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// RFC 7591 §3: registration by initial access token.
func TestRegister_ByToken(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{Registration: authz.Registration{Mode: authz.RegistrationToken, Profiles: []fapi.ProfileName{fapi.OpenID}}})
	later := time.Now().Add(time.Hour)
	hour := later.Add(time.Minute)
	left := func(token string) int {
		return s.Count(t, `SELECT uses_left FROM registration_tokens WHERE hash = $1`, fapi.SecretHash(token))
	}

	bare := registerClient(t, s, "", newcomer(nil))
	refusedToken(t, bare)
	if bare.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("RFC 6750 §3.1: without a token the challenge names no error: %q", bare.Header.Get("WWW-Authenticate"))
	}
	refusedToken(t, registerClient(t, s, "made up", newcomer(nil)))
	refusedToken(t, registerClient(t, s, initialToken(t, s, "", 1, time.Now().Add(-time.Second)), newcomer(nil)))
	refusedToken(t, registerClient(t, s, "made up", []byte("not JSON either")))

	twice := initialToken(t, s, "", 2, later)
	for range 2 {
		registerClient(t, s, twice, newcomer(members{"redirect_uris": nil})).Refused(t, http.StatusBadRequest, fapi.InvalidRedirectURI)
	}
	if left(twice) != 2 {
		t.Error("a registration that was refused used the token")
	}
	for range 2 {
		if answer := registerClient(t, s, twice, newcomer(nil)); answer.Status != http.StatusCreated || answer.JSON["profile"] != "openid" {
			t.Fatalf("%d %s", answer.Status, answer.Body)
		}
	}
	refusedToken(t, registerClient(t, s, twice, newcomer(nil)))

	t.Run("the token says which profile", func(t *testing.T) {
		fixed := initialToken(t, s, fapi.FAPI2, 3, later)
		registerClient(t, s, fixed, newcomer(nil)).Refused(t, http.StatusBadRequest, fapi.InvalidClientMetadata)
		registerClient(t, s, fixed, newcomer(members{"profile": "openid"})).Refused(t, http.StatusBadRequest, fapi.InvalidClientMetadata)
		answer := registerClient(t, s, fixed, newcomer(members{"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: authztest.NewKey(t).Public()}}}}))
		if answer.Status != http.StatusCreated || answer.JSON["profile"] != "fapi2" || answer.JSON["token_endpoint_auth_method"] != "private_key_jwt" || answer.JSON["client_secret"] != nil || answer.JSON["client_secret_expires_at"] != nil {
			t.Errorf("%d %s", answer.Status, answer.Body)
		}
		update := func(changes members) *authztest.Answer {
			body := newcomer(members{"client_id": answer.JSON["client_id"], "jwks": answer.JSON["jwks"]})
			for name, value := range changes {
				body[name] = value
			}
			return manage(t, s, http.MethodPut, answer.JSON, answer.JSON["registration_access_token"].(string), body)
		}
		if kept := update(nil); kept.Status != http.StatusOK || kept.JSON["profile"] != "fapi2" {
			t.Errorf("an update changed the profile: %d %s", kept.Status, kept.Body)
		}
		update(members{"profile": "openid"}).Refused(t, http.StatusBadRequest, fapi.InvalidClientMetadata)
	})
	t.Run("one use, five at once", func(t *testing.T) {
		once := initialToken(t, s, "", 1, hour)
		var made sync.Map
		var all sync.WaitGroup
		for i := range 5 {
			all.Go(func() { made.Store(i, registerClient(t, s, once, newcomer(nil)).Status) })
		}
		all.Wait()
		counts := map[int]int{}
		made.Range(func(_, status any) bool { counts[status.(int)]++; return true })
		if counts[http.StatusCreated] != 1 || counts[http.StatusUnauthorized] != 4 || left(once) != 0 {
			t.Errorf("%v", counts)
		}
	})
}

// RFC 7591 §2.3, DCR-05: registration by software statement.
func TestRegister_ByStatement(t *testing.T) {
	t.Parallel()
	const directory = "https://directory.example"
	key := authztest.NewKey(t)
	s := authztest.Start(t, authztest.Options{Registration: authz.Registration{
		Mode: authz.RegistrationStatement, Profiles: []fapi.ProfileName{fapi.OpenID},
		Statements: fapi.StatementIssuers{directory: {Keys: &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "d"}}}, MaxAge: time.Hour}},
	}})
	statement := func(changes members) string {
		claims := members{"iss": directory, "iat": time.Now().Unix(), "client_name": "Vouched", "redirect_uris": []string{"https://vouched.example/cb"}, "software_id": "4711", "roles": []string{"ADMIN"}}
		for name, value := range changes {
			claims[name] = value
		}
		return authztest.Sign(t, jose.ES256, key, map[jose.HeaderKey]any{"kid": "d"}, claims)
	}

	registerClient(t, s, "", newcomer(nil)).Refused(t, http.StatusBadRequest, fapi.InvalidSoftwareStatement)
	registerClient(t, s, "", newcomer(members{"software_statement": 5})).Refused(t, http.StatusBadRequest, fapi.InvalidSoftwareStatement)
	registerClient(t, s, "", newcomer(members{"software_statement": statement(nil) + "x"})).Refused(t, http.StatusBadRequest, fapi.InvalidSoftwareStatement)
	registerClient(t, s, "", newcomer(members{"software_statement": statement(members{"iat": time.Now().Add(-2 * time.Hour).Unix()})})).Refused(t, http.StatusBadRequest, fapi.InvalidSoftwareStatement)
	registerClient(t, s, "", newcomer(members{"software_statement": statement(members{"iss": "https://evil.example"})})).Refused(t, http.StatusBadRequest, fapi.UnapprovedSoftwareStatement)

	text := statement(nil)
	_, told := mustRegister(t, s, members{"software_statement": text})
	want := members{"client_name": "Vouched", "redirect_uris": []any{"https://vouched.example/cb"}, "software_id": "4711", "software_statement": text, "roles": nil}
	for name, value := range want {
		if diff := cmp.Diff(value, told[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	// A client cannot shed by an update what was vouched for.
	token := told["registration_access_token"].(string)
	manage(t, s, http.MethodPut, told, token, newcomer(members{"client_id": told["client_id"]})).Refused(t, http.StatusBadRequest, fapi.InvalidSoftwareStatement)
}

func TestRegister_PerHour(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{Registration: authz.Registration{Mode: authz.RegistrationOpen, Profiles: []fapi.ProfileName{fapi.OpenID}, PerHour: 2}})
	for range 2 {
		mustRegister(t, s, nil)
	}
	answer := registerClient(t, s, "", newcomer(nil))
	answer.Refused(t, http.StatusTooManyRequests, fapi.TemporarilyUnavailable)
	if answer.Header.Get("Retry-After") == "" {
		t.Error("without Retry-After")
	}
	s.SQL(t, `UPDATE registrations SET created_at = created_at - interval '1 hour'`)
	mustRegister(t, s, nil)
}

// A server knows what was registered at it without being told, and without asking again.
func TestRegister_KnownWhereItWasRegistered(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	s.Trace.Reset()
	c, told := mustRegister(t, s, nil)
	if answer := c.Post(t, "/token", credentialsGrant); answer.Status != http.StatusOK || clientLookups(s) != 1 {
		t.Errorf("%d lookups; %d %s", clientLookups(s), answer.Status, answer.Body)
	}
	s.Trace.Reset()
	manage(t, s, http.MethodDelete, told, told["registration_access_token"].(string), nil)
	if n := clientLookups(s); n != 1 {
		t.Errorf("%d lookups after it was deleted", n)
	}
	c.Post(t, "/token", credentialsGrant).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
}

// Whoever makes up client ids does not make the server ask its database for each.
func TestFindClient_Bounded(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := s.Client("web")
	s.Trace.Reset()
	for _, id := range []string{"made-up", "dcr-made-up", "dcr-aaaaaaaaaaaaaaaaaaaaaaaaaa"} {
		c.ID = id
		c.Post(t, "/token", credentialsGrant).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	}
	if n := clientLookups(s); n != 0 {
		t.Errorf("%d lookups of ids that nobody was given", n)
	}
	for i := range 200 {
		c.ID = fmt.Sprintf("dcr-%026d", i)
		c.ID = strings.NewReplacer("0", "A", "1", "B", "8", "C", "9", "D").Replace(c.ID)
		c.Post(t, "/token", credentialsGrant).Refused(t, http.StatusUnauthorized, fapi.InvalidClient)
	}
	if n := clientLookups(s); n == 0 || n > 120 { // 20 a second
		t.Errorf("%d lookups", n)
	}
}

// clientLookups counts how often the database was asked for one client.
func clientLookups(s *authztest.Server) (n int) {
	for _, sql := range s.Trace.SQL() {
		if strings.HasSuffix(sql, "WHERE c.client_id = $1") {
			n++
		}
	}
	return n
}

// OP:registration-policy-uri, -tos-uri: links on the login page.
func TestRegister_PagesShowTheClientsLinks(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c, _ := mustRegister(t, s, members{"policy_uri": "https://app.example/privacy", "tos_uri": "https://app.example/terms"})
	b := s.Browser(t)
	page := b.Authorize(t, c.ID, c.Push(t, nil)).Is(t, "login_page")
	for _, want := range []string{`id="client_policy" href="https://app.example/privacy"`, `id="client_terms" href="https://app.example/terms"`} {
		if !strings.Contains(string(page.Body), want) {
			t.Errorf("the login page has no %s", want)
		}
	}
	if page = b.Login(t, page).Is(t, "consent_page"); !strings.Contains(string(page.Body), `href="https://app.example/privacy"`) {
		t.Error("the consent page has no link to the privacy policy")
	}
}
