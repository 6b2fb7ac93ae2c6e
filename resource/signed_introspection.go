package resource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	strict "github.com/go-jose/go-jose/v4/json"

	"github.com/countersign/countersign/fapi"
)

const (
	introspectionType  = "token-introspection+jwt" // RFC 9701 §5
	introspectionMedia = "application/" + introspectionType

	// maxAnswerAge is how old a signed answer may be: it was made for the question that was just asked.
	maxAnswerAge = time.Minute
)

// signedAnswer is an answer of introspection that the authorization server has signed (RFC 9701 §5).
type signedAnswer struct {
	Issuer        string          `json:"iss"`
	Audience      audience        `json:"aud"`
	IssuedAt      numericDate     `json:"iat"`
	Introspection json.RawMessage `json:"token_introspection"`
}

// openAnswer verifies a signed answer and returns what it says of the token. An answer that does not verify is none: no
// error of it says anything about the token.
func (g *Guard) openAnswer(ctx context.Context, answer string) ([]byte, error) {
	payload, err := g.verifyJWT(ctx, answer, introspectionType)
	if err != nil {
		return nil, errors.New(err.Error()) // no errBadToken: it is the answer that is bad
	}
	a := signedAnswer{}
	if err := strict.Unmarshal(payload, &a); err != nil {
		return nil, err
	}
	age := g.now().Sub(a.IssuedAt.time())
	switch {
	case a.Issuer != g.config.Issuer:
		return nil, fmt.Errorf("iss is %q", a.Issuer)
	case !slices.Contains(a.Audience, g.config.ClientID):
		return nil, fmt.Errorf("aud is %q", a.Audience)
	case age > maxAnswerAge || age < -fapi.Skew:
		return nil, fmt.Errorf("it was signed %v ago", age)
	}
	return a.Introspection, nil
}
