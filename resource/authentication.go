package resource

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"

	"github.com/countersign/countersign/fapi"
)

const assertionLifetime = time.Minute

// Authentication is how the service proves at the introspection endpoint who it is: [PrivateKeyJWT] or [Certificate].
type Authentication struct {
	signer      jose.Signer
	certificate *tls.Certificate
	err         error // found when it was made, told by New
}

// PrivateKeyJWT authenticates with a JWT signed for each call (RFC 7523 §2.2). The key may be in a hardware module.
func PrivateKeyJWT(key crypto.Signer, kid string, alg jose.SignatureAlgorithm) Authentication {
	if key == nil {
		return Authentication{err: errors.New("private_key_jwt needs a key")}
	}
	if !slices.Contains(strongAlgorithms, alg) {
		return Authentication{err: fmt.Errorf("private_key_jwt with %s: FAPI 2.0 §5.4.1 allows ES256, PS256 and EdDSA", alg)}
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: cryptosigner.Opaque(key), KeyID: kid}},
		(&jose.SignerOptions{}).WithType("JWT"))
	return Authentication{signer: signer, err: err}
}

// Certificate authenticates with a client certificate (RFC 8705 §2), at the mTLS alias of the endpoint if there is one.
func Certificate(cert tls.Certificate) Authentication {
	if len(cert.Certificate) == 0 || cert.PrivateKey == nil {
		return Authentication{err: errors.New("the certificate or its key is missing")}
	}
	return Authentication{certificate: &cert}
}

func (a *Authentication) none() bool { return a.signer == nil && a.certificate == nil && a.err == nil }

// addTo adds what the form of a call needs.
func (a *Authentication) addTo(form url.Values, clientID, issuer string, now time.Time) error {
	form.Set("client_id", clientID) // RFC 8705 §2: with a certificate nothing else says it
	if a.signer == nil {
		return nil
	}
	claims, err := json.Marshal(map[string]any{
		"iss": clientID,
		"sub": clientID,
		"aud": issuer, // alone and as a string (FAPI 2.0 §5.3.2.1)
		"jti": rand.Text(),
		"iat": now.Unix(),
		"nbf": now.Unix(),
		"exp": now.Add(assertionLifetime).Unix(),
	})
	if err != nil {
		return err
	}
	signed, err := a.signer.Sign(claims)
	if err != nil {
		return err
	}
	assertion, err := signed.CompactSerialize()
	if err != nil {
		return err
	}
	form.Set("client_assertion_type", fapi.ClientAssertionType)
	form.Set("client_assertion", assertion)
	return nil
}
