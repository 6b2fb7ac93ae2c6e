package resource

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"github.com/countersign/countersign/fapi"
)

// badFor is how long a token that was refused is not looked at again: enough to take the sting out of a client that
// repeats itself, too short to matter to anyone else.
const badFor = time.Second

var errUnreachable = fapi.Refuse(fapi.TemporarilyUnavailable, "The access token cannot be checked just now.")

// principal finds out whom a token speaks for. What the caller must prove is not asked here: the answer holds for every
// caller. Calls with the same token that come together wait for one look.
func (g *Guard) principal(ctx context.Context, token string) (*Principal, error) {
	if g.config.CacheFor == 0 { // a look that began before this call may be older than a revocation
		return g.look(ctx, token)
	}
	hash := sha256.Sum256([]byte(token))
	if p, ok, err := g.recall(hash); ok {
		return p, err
	}
	found := g.asking.DoChan(string(hash[:]), func() (any, error) {
		if p, ok, err := g.recall(hash); ok { // found by a look that ended in between
			return p, err
		}
		asked := g.now()
		p, err := g.look(context.WithoutCancel(ctx), token) // who came first may leave; the others still wait
		switch {
		case err == nil: // as old as the question: a revocation may have crossed the answer
			g.good.remember(hash, p, earlier(asked.Add(g.config.CacheFor), p.ExpiresAt), g.now())
		case errors.Is(err, fapi.InvalidToken):
			g.bad.remember(hash, nil, asked.Add(min(badFor, g.config.CacheFor)), g.now())
		}
		return p, err
	})
	select {
	case <-ctx.Done():
		return nil, errUnreachable.Because(ctx.Err())
	case result := <-found:
		p, _ := result.Val.(*Principal)
		return p, result.Err
	}
}

func (g *Guard) recall(hash [32]byte) (p *Principal, ok bool, err error) {
	now := g.now()
	if p, ok := g.good.find(hash, now); ok {
		return p, true, nil
	}
	if _, ok := g.bad.find(hash, now); ok {
		return nil, true, errBadToken
	}
	return nil, false, nil
}

// look asks the authorization server, or checks a JWT. An error is errBadToken or errUnreachable.
func (g *Guard) look(ctx context.Context, token string) (*Principal, error) {
	var c *claims
	var err error
	switch isJWT := strings.Count(token, ".") == 2; {
	case isJWT && !g.config.AlwaysIntrospect:
		c, err = g.verify(ctx, token)
	case g.config.Authentication.none():
		err = errBadToken.Because(errors.New("not a JWT, and introspection is not configured"))
	default:
		c, err = g.introspect(ctx, token)
	}
	if err == nil {
		err = c.check(&g.config, g.now())
	}
	switch {
	case err == nil:
		return c.principal(), nil
	case errors.Is(err, fapi.InvalidToken):
		return nil, err
	}
	return nil, errUnreachable.Because(err)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
