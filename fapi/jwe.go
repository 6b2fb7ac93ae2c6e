package fapi

import (
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// EncryptJWT encrypts a signed JWT to the client, as a nested JWT in compact form (RFC 7519 §11.2). With alg "" the
// client registered no encryption, and the JWT comes back as it is. EncryptJWT returns an error when no key of the
// client's fits.
func (c *Client) EncryptJWT(alg jose.KeyAlgorithm, enc jose.ContentEncryption, jwt string) (string, error) {
	if alg == "" {
		return jwt, nil
	}
	return c.encrypt(alg, enc, []byte(jwt), (&jose.EncrypterOptions{}).WithContentType("JWT")) // RFC 7519 §5.2
}

// EncryptClaims encrypts claims that nobody signed, to a JWE in compact form (OpenID Connect Core §5.3.2). It returns an
// error when no key of the client's fits.
func (c *Client) EncryptClaims(alg jose.KeyAlgorithm, enc jose.ContentEncryption, claims []byte) (string, error) {
	return c.encrypt(alg, enc, claims, nil)
}

var errNoEncryptionKey = errors.New("the client has no key to encrypt to")

func (c *Client) encrypt(alg jose.KeyAlgorithm, enc jose.ContentEncryption, payload []byte, options *jose.EncrypterOptions) (string, error) {
	key, ok := c.encryptionKey(alg)
	if !ok {
		return "", fmt.Errorf("%w with %s", errNoEncryptionKey, alg)
	}
	encrypter, err := jose.NewEncrypter(enc, jose.Recipient{Algorithm: alg, Key: key.Key, KeyID: key.KeyID}, options)
	if err != nil {
		return "", err
	}
	jwe, err := encrypter.Encrypt(payload)
	if err != nil {
		return "", err
	}
	return jwe.CompactSerialize()
}
