package federation

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"
)

// What comes of an answer that is no login.
var (
	ErrDenied   = errors.New("federation: the customer did not log in there")        // access_denied and the like (RFC 6749 §4.1.2.1)
	ErrAnswer   = errors.New("federation: the answer does not hold")                 // forged, mixed up, expired, malformed
	ErrNotFresh = errors.New("federation: nothing shows that the login was one now") // a login anew was asked for
)

const (
	skew          = time.Minute      // between the provider's clock and ours
	longestWait   = 10 * time.Minute // from the issue of an ID token to its use here
	longestValue  = 4096             // of a parameter of an answer
	assertionLife = time.Minute
)

// Attempt is what must come back as it went.
type Attempt struct {
	State    string    `json:"-"` // who has kept the attempt knows it
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"` // of PKCE
	Fresh    bool      `json:"fresh,omitempty"`
	At       time.Time `json:"at"`
}

// Wish is what a login there is to be. The zero value is any.
type Wish struct {
	Fresh bool   // now, whatever session there is
	ACR   string // worth that here
	Hint  string // who it is likely to be
}

// Begin returns the address at which the customer logs in there. It returns ErrUnavailable.
func (p *Provider) Begin(ctx context.Context, redirect string, w Wish) (string, *Attempt, error) {
	d, err := p.document(ctx)
	if err != nil {
		return "", nil, err
	}
	a := &Attempt{State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier(), Fresh: w.Fresh, At: p.now()}
	options := []oauth2.AuthCodeOption{oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)}
	if w.Fresh { // max_age makes auth_time a must (OpenID Connect Core §2)
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	} else if p.MaxAge > 0 {
		options = append(options, oauth2.SetAuthURLParam("max_age", strconv.Itoa(int(p.MaxAge.Seconds()))))
	}
	if w.Hint != "" {
		options = append(options, oauth2.SetAuthURLParam("login_hint", w.Hint))
	}
	if values := p.worth(w.ACR); values != "" {
		options = append(options, oauth2.SetAuthURLParam("acr_values", values))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Request)) {
		options = append(options, oauth2.SetAuthURLParam(name, p.Request[name]))
	}
	return p.oauth(d, redirect).AuthCodeURL(a.State, options...), a, nil
}

// worth is the provider's values that the mapping makes one of ours, for acr_values; "" for none.
func (p *Provider) worth(acr string) string {
	var values []string
	for _, theirs := range slices.Sorted(maps.Keys(p.ACR)) {
		if acr != "" && p.ACR[theirs] == acr && !strings.Contains(theirs, " ") {
			values = append(values, theirs)
		}
	}
	return strings.Join(values, " ")
}

func random() string {
	raw := make([]byte, 32)
	rand.Read(raw)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// oauth says how to authenticate, so that a code is sent once: the library would otherwise try one way, then the other.
func (p *Provider) oauth(d *document, redirect string) *oauth2.Config {
	c := &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.Secret, Endpoint: d.Endpoint(), RedirectURL: redirect,
		Scopes: append([]string{oidc.ScopeOpenID}, p.Scopes...)}
	c.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	if p.Auth == SecretBasic {
		c.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	}
	return c
}

// Finish finds out who the customer is. The answer is the query that came back with the attempt's state. It returns ErrDenied,
// ErrAnswer, ErrNotFresh or ErrUnavailable.
func (p *Provider) Finish(ctx context.Context, answer url.Values, a *Attempt, redirect string) (*Identity, error) {
	for name, values := range answer {
		if len(values) != 1 || len(values[0]) > longestValue {
			return nil, refuse("%.40q stands there twice, or is too long", name)
		}
	}
	d, err := p.document(ctx)
	if err != nil {
		return nil, err
	}
	// Mix-up: an answer of another provider must not have its code, or its error, believed (RFC 9207 §2.4).
	if answer.Has("iss") && answer.Get("iss") != p.Issuer || !answer.Has("iss") && d.sendsIssuer {
		return nil, refuse("iss is missing or another's")
	}
	if subtle.ConstantTimeCompare([]byte(answer.Get("state")), []byte(a.State)) != 1 {
		return nil, refuse("state is another's")
	}
	if code := answer.Get("error"); code != "" {
		return nil, refusedThere(code)
	}
	if answer.Get("code") == "" {
		return nil, refuse("no code")
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.http), 2*callTimeout)
	defer cancel()
	options := []oauth2.AuthCodeOption{oauth2.VerifierOption(a.Verifier)}
	if p.Key != nil {
		assertion, err := p.assertion()
		if err != nil {
			return nil, err
		}
		options = append(options, oauth2.SetAuthURLParam("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
			oauth2.SetAuthURLParam("client_assertion", assertion))
	}
	token, err := p.oauth(d, redirect).Exchange(ctx, answer.Get("code"), options...)
	if err != nil {
		return nil, exchangeError(err)
	}
	return p.identity(ctx, d, token, a)
}

// refusedThere tells a customer's no from a provider that cannot or does not want to.
func refusedThere(code string) error {
	switch code {
	case "access_denied", "login_required", "consent_required", "interaction_required", "account_selection_required":
		return fmt.Errorf("%w: %s", ErrDenied, code)
	case "temporarily_unavailable", "server_error":
		return fmt.Errorf("%w: %s", ErrUnavailable, code)
	}
	return refuse("error %.60q", code)
}

func refuse(format string, values ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrAnswer}, values...)...)
}

// exchangeError leaves out what the token endpoint wrote but for its code. That it does not take us for its client is no fault of
// the customer's.
func exchangeError(err error) error {
	said, unreachable := (*oauth2.RetrieveError)(nil), (*url.Error)(nil)
	switch {
	case errors.As(err, &said) && said.Response != nil:
		if said.Response.StatusCode >= 500 || said.ErrorCode == "invalid_client" || said.ErrorCode == "unauthorized_client" {
			return fmt.Errorf("%w: token endpoint: %d %.60q", ErrUnavailable, said.Response.StatusCode, said.ErrorCode)
		}
		return refuse("token endpoint: %d %.60q", said.Response.StatusCode, said.ErrorCode)
	case errors.As(err, &unreachable):
		return fmt.Errorf("%w: token endpoint: %w", ErrUnavailable, tidy(err))
	}
	return refuse("token endpoint: %w", tidy(err))
}

// assertion is a signed statement of who we are (RFC 7523 §2.2), for the provider alone.
func (p *Provider) assertion() (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(p.Key.Algorithm), Key: p.Key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	now := p.now()
	return jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: p.ClientID, Subject: p.ClientID, Audience: jwt.Audience{p.Issuer}, ID: random(),
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(assertionLife)),
	}).Serialize()
}
