package federation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/sync/singleflight"

	"github.com/countersign/countersign/outbound"
)

// ErrUnavailable is returned while a provider cannot be asked: it does not answer, or not as a provider does.
var ErrUnavailable = errors.New("federation: the provider cannot be asked")

const (
	callTimeout   = 5 * time.Second
	longestAnswer = 1 << 20
	documentAge   = time.Hour        // after which the documents and keys are fetched anew
	retryAfter    = 10 * time.Second // how long a provider that did not answer is left alone
)

// Provider is one that customers can log in at. It is safe for concurrent use.
type Provider struct {
	Config
	now  func() time.Time
	http *http.Client

	fetching singleflight.Group
	mu       sync.Mutex
	found    *document // nil before the first
	triedAt  time.Time // when it was last asked for in vain
}

// document is what a provider says of itself, with its keys.
type document struct {
	*oidc.Provider
	verifier *oidc.IDTokenVerifier
	at       time.Time

	sendsIssuer bool // iss is in every answer (RFC 9207 §3)
}

// New returns a provider, which is not asked for anything yet. The config has been checked. calls reach it.
func New(c Config, calls *outbound.Client, now func() time.Time) *Provider {
	if len(c.Scopes) == 0 {
		c.Scopes = []string{"email", "profile"}
	}
	return &Provider{Config: c, now: now, http: &http.Client{Transport: calls.Transport(longestAnswer), Timeout: callTimeout}}
}

// Discover makes sure that the provider's documents are there, as [Provider.Begin] does. It returns ErrUnavailable.
func (p *Provider) Discover(ctx context.Context) error {
	_, err := p.document(ctx)
	return err
}

// document returns what is known, or fetches it. When it cannot be had anew, what was known counts on.
func (p *Provider) document(ctx context.Context) (*document, error) {
	p.mu.Lock()
	found, failed := p.found, p.now().Sub(p.triedAt) < retryAfter
	p.mu.Unlock()
	switch {
	case found != nil && (failed || p.now().Sub(found.at) < documentAge):
		return found, nil
	case failed:
		return nil, fmt.Errorf("%w: it did not answer a moment ago", ErrUnavailable)
	}
	// Whoever waits shares one call, which goes on when its first caller leaves.
	call := p.fetching.DoChan("", func() (any, error) {
		made, err := p.fetch(context.WithoutCancel(ctx))
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil {
			p.triedAt = p.now()
			return p.found, err
		}
		p.found, p.triedAt = made, time.Time{}
		return made, nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case result := <-call:
		if known := result.Val.(*document); known != nil {
			return known, nil
		}
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, result.Err)
	}
}

func (p *Provider) fetch(ctx context.Context) (*document, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.http), callTimeout)
	defer cancel()
	provider, err := oidc.NewProvider(ctx, p.Issuer)
	if err != nil {
		return nil, tidy(err)
	}
	var said struct {
		JWKS        string `json:"jwks_uri"`
		SendsIssuer bool   `json:"authorization_response_iss_parameter_supported"`
	}
	if err := provider.Claims(&said); err != nil {
		return nil, err
	}
	addresses := []string{provider.Endpoint().AuthURL, provider.Endpoint().TokenURL, said.JWKS}
	if p.UserInfo {
		addresses = append(addresses, provider.UserInfoEndpoint())
	}
	for _, address := range addresses {
		if !secureURL(address) {
			return nil, errors.New("federation: an endpoint is missing, or is no https URL")
		}
	}
	return &document{Provider: provider, at: p.now(), sendsIssuer: said.SendsIssuer,
		verifier: provider.VerifierContext(oidc.ClientContext(context.Background(), p.http), &oidc.Config{ClientID: p.ClientID, Now: p.now})}, nil
}

// tidy keeps what a provider wrote out of our logs: an answer of any length, with anything in it.
func tidy(err error) error {
	text := err.Error()
	if len(text) > 200 {
		text = text[:200]
	}
	return errors.New(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, text))
}
