package reach

import (
	"crypto/ecdh"
	"time"
)

// EncryptWith is what the test vector of RFC 8291 needs to be chosen.
func (s Subscription) EncryptWith(ephemeral *ecdh.PrivateKey, salt, plaintext []byte) ([]byte, error) {
	return s.encryptWith(ephemeral, salt, plaintext)
}

// SetClock makes it another time.
func (w *Webhook) SetClock(now func() time.Time) { w.now = now }
