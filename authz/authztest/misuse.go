package authztest

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// What a test needs to behave as no client and no customer should.

// FormType is the media type of everything that is posted.
const FormType = "application/x-www-form-urlencoded"

// Raw sends a request as it is, without authentication and proof. header names what it carries besides the media type,
// which it may replace.
func (c *Client) Raw(t testing.TB, method, path, body string, header http.Header) *Answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, c.Base()+path, strings.NewReader(body))
	check(t, err)
	if body != "" || method == http.MethodPost {
		r.Header.Set("Content-Type", FormType)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	return Do(t, c.HTTP(), r)
}

// Sign makes a JWS. key is a private key, a secret or a jose.JSONWebKey.
func Sign(t testing.TB, alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any, claims any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, &jose.SignerOptions{ExtraHeaders: header})
	check(t, err)
	payload, ok := claims.([]byte)
	if !ok {
		payload, err = json.Marshal(claims)
		check(t, err)
	}
	jws, err := signer.Sign(payload)
	check(t, err)
	text, err := jws.CompactSerialize()
	check(t, err)
	return text
}

// NewKey makes an EC key that nobody has registered.
func NewKey(t testing.TB) *ecdsa.PrivateKey { t.Helper(); return newKey(t) }

// AddClient registers another client while the server runs, and waits until the server knows it.
func (s *Server) AddClient(t testing.TB, id string, profile fapi.ProfileName, method fapi.AuthMethod, more map[string]any) *Client {
	t.Helper()
	c := s.newClient(t, id, profile, method, more)
	s.knows(t, id, true)
	return c
}

// DisableClient disables a client and waits until the server knows.
func (s *Server) DisableClient(t testing.TB, id string) {
	t.Helper()
	check(t, s.DB.DisableClient(t.Context(), id))
	s.knows(t, id, false)
}

// EnableClient undoes DisableClient.
func (s *Server) EnableClient(t testing.TB, id string) {
	t.Helper()
	check(t, s.DB.EnableClient(t.Context(), id))
	s.knows(t, id, true)
}

// knows waits until the server has heard of a change: of a client that it does not know, its page says so.
func (s *Server) knows(t testing.TB, id string, want bool) {
	t.Helper()
	b := s.Browser(t)
	for range 200 {
		page := b.Open(t, "/authorize?"+url.Values{"client_id": {id}, "redirect_uri": {RedirectURI}}.Encode())
		if unknown := strings.Contains(string(page.Body), "is not known to us"); unknown != want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the server has not heard of the change of client %q", id)
}

// Count returns the number that a query selects.
func (s *Server) Count(t testing.TB, sql string, args ...any) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DSN)
	check(t, err)
	defer conn.Close(context.Background())
	check(t, conn.QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

// AddCustomer makes another customer with the same password and one account. Log in with [Browser.LoginAs].
func (s *Server) AddCustomer(t testing.TB, username, accountID string) {
	t.Helper()
	pages, err := web.New(web.Brand{Name: "Meadow Bank"})
	check(t, err)
	_, err = authn.New(s.DB, pages, zap.NewNop(), s.Config.Authn).CreateCustomer(t.Context(), authn.NewCustomer{
		Profile: storage.Profile{Username: username}, Password: Password, Roles: []string{"USER"},
		Accounts: []storage.Account{{ID: accountID, Name: "Savings", Number: "000000099", Currency: "KES"}},
	})
	check(t, err)
}

// LoginAs fills in the login page with another name.
func (b *Browser) LoginAs(t testing.TB, p *Page, username string) *Page {
	t.Helper()
	return b.Submit(t, p.Is(t, "login_page"), url.Values{"username": {username}, "password": {Password}})
}

// Consent creates an account-access consent of the client and returns its id.
func (c *Client) Consent(t testing.TB) string {
	t.Helper()
	token := c.Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}})["access_token"].(string)
	header := http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}}
	path := "/open-banking/v3.1/aisp/account-access-consents"
	if c.DPoPKey != nil {
		header.Set("Authorization", "DPoP "+token)
		header.Set("DPoP", c.Proof(t, http.MethodPost, c.advertised(path), token, nil))
	}
	answer := c.Raw(t, http.MethodPost, path, `{"Data":{"Permissions":["ReadAccountsBasic"]},"Risk":{}}`, header)
	data, _ := answer.JSON["Data"].(map[string]any)
	id, _ := data["ConsentId"].(string)
	if answer.Status != http.StatusCreated || id == "" {
		t.Fatalf("consent answered %d %s", answer.Status, answer.Body)
	}
	return id
}

// Token makes a token request that must succeed.
func (c *Client) Token(t testing.TB, form url.Values) map[string]any {
	t.Helper()
	answer := c.Post(t, "/token", form)
	if answer.Status != http.StatusOK {
		t.Fatalf("token answered %d %s", answer.Status, answer.Body)
	}
	return answer.JSON
}

// Grant takes the client from a pushed request to its tokens.
func (c *Client) Grant(t testing.TB, changes map[string]string) map[string]any {
	t.Helper()
	return c.Exchange(t, c.server.Approve(t, c, c.Push(t, changes)))
}

// describable are the characters that RFC 6749 §4.1.2.1 and §5.2 allow in error_description.
func describable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e || r == '"' || r == '\\' })
}

// Explains fails the test unless the browser stays, on an error page with that status and code.
func (p *Page) Explains(t testing.TB, status int, code fapi.Code) {
	t.Helper()
	switch {
	case p.Left != nil:
		t.Errorf("sent away to %v, want an error page %d %s", p.Left, status, code)
	case p.Status != status || p.ID() != "error_page" || !strings.Contains(string(p.Body), `id="error_code" translate="no">`+string(code)+"<"):
		t.Errorf("page %q with %d, want the error page with %d %s\n%s", p.ID(), p.Status, status, code, p.Body)
	case p.Header.Get("Cache-Control") != "no-store" || p.Header.Get("X-Frame-Options") != "DENY":
		t.Errorf("headers of the error page: %v", p.Header)
	}
}

// Returns fails the test unless the browser was sent back to the client with this error, with iss and the state, and
// nothing else (RFC 6749 §4.1.2.1, RFC 9207 §2).
func (p *Page) Returns(t testing.TB, s *Server, code fapi.Code, state string) {
	t.Helper()
	if p.Left == nil {
		t.Errorf("page %q with %d, want a redirect with %s\n%s", p.ID(), p.Status, code, p.Body)
		return
	}
	sent, _ := p.Answered(t)
	want := url.Values{"error": {string(code)}, "error_description": sent["error_description"], "iss": {s.Config.Issuer}}
	if state != "" {
		want.Set("state", state)
	}
	if sent.Encode() != want.Encode() || sent.Get("error_description") == "" || !describable(sent.Get("error_description")) {
		t.Errorf("sent back with %v, want %v", sent, want)
	}
}

// Challenged fails the test unless a protected resource refused the call so (RFC 6750 §3). No code means that the
// challenge names none.
func (a *Answer) Challenged(t testing.TB, status int, scheme string, code fapi.Code) {
	t.Helper()
	challenge := a.Header.Get("WWW-Authenticate")
	if a.Status != status || challenge != scheme && !strings.HasPrefix(challenge, scheme+" ") {
		t.Errorf("answered %d %q %s, want %d %s %s", a.Status, challenge, a.Body, status, scheme, code)
	}
	if named := strings.Contains(challenge, "error="); named != (code != "") || !strings.Contains(challenge, string(code)) {
		t.Errorf("challenge %q, want error %q", challenge, code)
	}
	if a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control %q", a.Header.Get("Cache-Control"))
	}
}
