package federation

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/authn/federation/federationtest"
)

const redirect = "https://bank.example/login/idp/meadow/callback"

// evil is a provider that a test tells what to do.
type evil struct {
	*federationtest.Provider
	t *testing.T
}

func newEvil(t *testing.T) *evil {
	t.Helper()
	return &evil{federationtest.New(t), t}
}

func (e *evil) config() Config {
	return Config{ID: "meadow", Name: "Meadow", Issuer: e.URL, ClientID: "bank", Auth: SecretBasic, Secret: "s3cret"}
}

func (e *evil) provider(change func(*Config)) *Provider {
	e.t.Helper()
	c := e.config()
	if change != nil {
		change(&c)
	}
	if err := c.Check("ca", "sca"); err != nil {
		e.t.Fatal(err)
	}
	return New(c, e.Calls(), time.Now)
}

// visit goes to the provider and comes back with an answer, which change may change.
func (e *evil) visit(p *Provider, fresh bool, change func(url.Values, *Attempt)) (*Identity, error) {
	e.t.Helper()
	address, attempt, err := p.Begin(e.t.Context(), redirect, Wish{Fresh: fresh})
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(address)
	if err != nil {
		e.t.Fatal(err)
	}
	answer := url.Values{"state": {u.Query().Get("state")}, "code": {u.Query().Get("nonce")}}
	if change != nil {
		change(answer, attempt)
	}
	return p.Finish(e.t.Context(), answer, attempt, redirect)
}

func hash256(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func unsigned(claims map[string]any) string {
	encoded, _ := json.Marshal(claims)
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(encoded) + "."
}

// slowly answers one byte at a time until the caller has left.
func slowly(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Content-Type", "application/json")
	for r.Context().Err() == nil {
		fmt.Fprint(w, " ")
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return true
}

func endless(w http.ResponseWriter, _ *http.Request) bool {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"a":"`)
	chunk := strings.Repeat("x", 64<<10)
	for range 64 {
		if _, err := fmt.Fprint(w, chunk); err != nil {
			return true
		}
	}
	fmt.Fprint(w, `"}`)
	return true
}
