package reach

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Subscription is a browser that can be rung: where, and the keys that only it can decrypt with (RFC 8030 §4, RFC 8291 §2.1).
type Subscription struct {
	Endpoint string // https URL of the push service
	Key      *ecdh.PublicKey
	Auth     []byte // 16 bytes
}

// ErrSubscription is returned for what is no subscription of a browser.
var ErrSubscription = errors.New("not a push subscription")

const (
	maxSubscription = 4096 // bytes of JSON
	maxEndpoint     = 2048
)

// ParseSubscription reads a subscription as the browser writes it: JSON with endpoint, keys.p256dh and keys.auth (W3C Push
// API §8). It returns ErrSubscription for anything that cannot be sent to.
func ParseSubscription(document []byte) (Subscription, error) {
	var read struct {
		Endpoint string `json:"endpoint"`
		Keys     struct {
			P256DH string `json:"p256dh"`
			Auth   string `json:"auth"`
		} `json:"keys"`
	}
	if len(document) > maxSubscription || json.Unmarshal(document, &read) != nil {
		return Subscription{}, ErrSubscription
	}
	u, err := url.Parse(read.Endpoint)
	if err != nil || len(read.Endpoint) > maxEndpoint || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return Subscription{}, fmt.Errorf("%w: the endpoint is no https URL", ErrSubscription)
	}
	point, err := fromBase64URL(read.Keys.P256DH)
	if err != nil {
		return Subscription{}, fmt.Errorf("%w: p256dh", ErrSubscription)
	}
	key, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return Subscription{}, fmt.Errorf("%w: p256dh", ErrSubscription)
	}
	auth, err := fromBase64URL(read.Keys.Auth)
	if err != nil || len(auth) != 16 {
		return Subscription{}, fmt.Errorf("%w: auth", ErrSubscription)
	}
	return Subscription{read.Endpoint, key, auth}, nil
}

// fromBase64URL reads base64url with or without padding: browsers differ.
func fromBase64URL(text string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
}

// recordSize is that of the one record there is (RFC 8291 §4: at most 4096 bytes get through).
const recordSize = 4096

// encrypt encrypts a message of at most 3993 bytes for a browser (RFC 8291 §3): the body of a request with Content-Encoding
// aes128gcm.
func (s Subscription) encrypt(plaintext []byte) ([]byte, error) {
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	salt := make([]byte, 16)
	rand.Read(salt)
	return s.encryptWith(ephemeral, salt, plaintext)
}

// encryptWith encrypts with a key and a salt that are never used again.
func (s Subscription) encryptWith(ephemeral *ecdh.PrivateKey, salt, plaintext []byte) ([]byte, error) {
	shared, err := ephemeral.ECDH(s.Key)
	if err != nil {
		return nil, err
	}
	sender := ephemeral.PublicKey().Bytes()
	input, err := hkdf.Key(sha256.New, shared, s.Auth, "WebPush: info\x00"+string(s.Key.Bytes())+string(sender), 32)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, input, salt, "Content-Encoding: aes128gcm\x00", 16) // RFC 8188 §2.2
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Key(sha256.New, input, salt, "Content-Encoding: nonce\x00", 12) // of record 0: RFC 8188 §2.3
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	body := append([]byte{}, salt...) // the header of RFC 8188 §2.1
	body = binary.BigEndian.AppendUint32(body, recordSize)
	body = append(body, byte(len(sender)))
	body = append(body, sender...)
	last := append(append([]byte{}, plaintext...), 2) // the delimiter of the last record, no padding
	return aead.Seal(body, nonce, last, nil), nil
}
