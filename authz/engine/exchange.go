package engine

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// tokenTypeAccess is the only type that is taken and given (RFC 8693 §3).
const tokenTypeAccess = "urn:ietf:params:oauth:token-type:access_token"

// maxActors is how often a token may be exchanged on: each time it gets longer, and further from the customer.
const maxActors = 4

// Actor is who acts for the subject of a token, and for whom before (RFC 8693 §4.1).
type Actor struct {
	Subject string `json:"sub"` // a client_id
	Actor   *Actor `json:"act,omitempty"`
}

// depth is how many act in turn.
func (a *Actor) depth() (n int) {
	for ; a != nil; a = a.Actor {
		n++
	}
	return n
}

// Owner returns the client that the token's authorization is of. That of an exchanged token is not its own.
func (t *AccessToken) Owner() string {
	if t.AuthorizedClient != "" {
		return t.AuthorizedClient
	}
	return t.ClientID
}

// JTIs are the identifiers with which the token is revoked: its own, and those of the tokens that it was made from.
func (t *AccessToken) JTIs() []string { return append(slices.Clone(t.MadeFrom), t.JTI) }

var (
	errSubjectToken = fapi.Refuse(fapi.InvalidRequest, "The subject_token is unknown, expired, revoked, or not the client's to exchange.")
	errActorToken   = fapi.Refuse(fapi.InvalidRequest, "The actor_token is not an access token that the client got for itself, with its type.")
	errTarget       = fapi.Refuse(fapi.InvalidTarget, "The subject_token is not meant for this resource or audience.")
)

// exchange answers grant_type=token-exchange (RFC 8693): a resource server that was called with a token gets one of its
// own, for some of what the first one allows (docs/decisions/0006). One round trip, and one more with an actor_token.
func (e *Engine) exchange(ctx context.Context, t TokenRequest, c *call) (*TokenResponse, error) {
	subject, err := e.subjectToken(t, c)
	if err != nil {
		return nil, err
	}
	if err := e.checkActorToken(ctx, t, c); err != nil {
		return nil, err
	}
	issued, err := e.narrow(t, c, subject)
	if err != nil {
		return nil, err
	}
	live, err := e.db.LoadLive(ctx, c.uses(), subject.ID(), subject.Owner(), subject.JTIs()...)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errSubjectToken
	}
	if err != nil {
		return nil, err
	}
	if err := e.NarrowToken(issued, live); err != nil {
		return nil, err
	}
	token, err := e.sealExchanged(c, issued, live)
	if err != nil {
		return nil, err
	}
	out := &TokenResponse{
		AccessToken: token, IssuedTokenType: tokenTypeAccess, TokenType: "Bearer",
		ExpiresIn: issued.ExpiresAt - c.now.Unix(), Scope: issued.Scope,
	}
	if c.confirmation.JKT != "" {
		out.TokenType = "DPoP"
	}
	return out, nil
}

// subjectToken reads the token to be exchanged, and looks whether this client may (RFC 8693 §2.1).
func (e *Engine) subjectToken(t TokenRequest, c *call) (*AccessToken, error) {
	presented := t.Form.Get("subject_token")
	switch requested := t.Form.Get("requested_token_type"); {
	case presented == "":
		return nil, fapi.Refuse(fapi.InvalidRequest, "subject_token is missing.")
	case t.Form.Get("subject_token_type") != tokenTypeAccess:
		return nil, fapi.Refuse(fapi.InvalidRequest, "The subject_token_type must be that of access tokens.")
	case requested != "" && requested != tokenTypeAccess:
		return nil, fapi.Refuse(fapi.InvalidRequest, "Only access tokens are issued: requested_token_type must be their type.")
	}
	s, ok := e.OpenAccessToken(presented, c.now)
	if !ok || s.AuthorizationID == "" || !t.Known(s.ClientID) || !t.Known(s.Owner()) {
		return nil, errSubjectToken
	}
	own := s.ClientID == c.client.ID
	meant := slices.ContainsFunc(s.Audience, func(aud string) bool { return contains(c.client.ResourceIdentifiers, aud) })
	switch bound := s.Confirmation != nil; {
	case !own && !meant, own && bound && !s.Confirmation.Matches(c.confirmation):
		return nil, errSubjectToken
	case bound && c.confirmation.Empty():
		return nil, fapi.Refuse(fapi.InvalidRequest, "The subject_token is bound, so the new one must be: the client's tokens are not.")
	case s.Actor.depth() >= maxActors:
		return nil, fapi.Refuse(fapi.InvalidRequest, "The subject_token was exchanged too often.")
	}
	return s, nil
}

// checkActorToken looks at the token that says who acts (RFC 8693 §2.1). It may say nothing that the client's
// authentication has not said.
func (e *Engine) checkActorToken(ctx context.Context, t TokenRequest, c *call) error {
	presented, kind := t.Form.Get("actor_token"), t.Form.Get("actor_token_type")
	if presented == "" && kind == "" {
		return nil
	}
	actor, ok := e.OpenAccessToken(presented, c.now)
	if !ok || kind != tokenTypeAccess || actor.ClientID != c.client.ID || actor.AuthorizationID != "" {
		return errActorToken
	}
	if actor.Confirmation != nil && !actor.Confirmation.Matches(c.confirmation) {
		return errActorToken
	}
	revoked, err := e.db.TokenRevoked(ctx, nil, actor.JTI)
	if err == nil && revoked {
		return errActorToken
	}
	return err
}

// narrow makes the new token: of what the subject token allows, what was asked for. Who the customer is, they told the
// first client alone: the new token opens no userinfo.
func (e *Engine) narrow(t TokenRequest, c *call, subject *AccessToken) (*AccessToken, error) {
	audience := slices.Clone(c.resources)
	for _, name := range t.Form["audience"] {
		if name != "" && !contains(audience, name) {
			audience = append(audience, name)
		}
	}
	for _, target := range audience {
		if !contains(subject.Audience, target) {
			return nil, errTarget
		}
	}
	if len(audience) == 0 {
		audience = subject.Audience
	}
	scopes, err := narrowed(t.Form.Get("scope"), slices.DeleteFunc(subject.Scopes(), func(s string) bool { return identityScopes[s] }))
	if err != nil {
		return nil, err
	}
	issued := &AccessToken{
		Issuer: e.issuer, Subject: subject.Subject, Audience: audience, ClientID: c.client.ID,
		Scope: strings.Join(scopes, " "), JTI: uuid.NewString(), IssuedAt: c.now.Unix(),
		ExpiresAt:        min(subject.ExpiresAt, c.now.Add(c.client.Rules().AccessTokenLifetime).Unix()),
		AuthorizationID:  subject.AuthorizationID,
		AuthorizedClient: subject.Owner(),
		MadeFrom:         subject.JTIs(),
		Only:             subject.only(),
		Actor:            &Actor{Subject: c.client.ID, Actor: subject.Actor},
	}
	if !c.confirmation.Empty() {
		issued.Confirmation = &c.confirmation
	}
	return issued, nil
}

// sealExchanged writes the token in the form of the client's tokens.
func (e *Engine) sealExchanged(c *call, issued *AccessToken, live *storage.Live) (string, error) {
	if c.client.AccessTokenFormat != fapi.JWT {
		return e.seal(accessPrefix, accessPurpose, issued)
	}
	var err error
	if issued.Principal, err = e.PrincipalOf(c.client, live, issued); err != nil {
		return "", err
	}
	issued.Only = nil
	return e.keys.Sign(c.client.IDTokenSignedResponseAlg, keys.TypeAccessToken, issued)
}
