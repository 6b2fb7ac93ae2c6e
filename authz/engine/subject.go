package engine

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"

	"github.com/google/uuid"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// names makes the names by which clients know what has an id of ours. Their keys are derived, so a name is stable and
// nothing is stored for it.
type names struct{ subjects, sessions []byte }

func newNames(k *storage.Keyring) names {
	return names{subjects: k.Derive("pairwise subjects"), sessions: k.Derive("session ids")}
}

// Subject is the sub by which a client knows a customer: the customer's id, or a name that clients of another sector
// cannot compare with theirs (OpenID Connect Core §8.1).
func (e *Engine) Subject(c *fapi.Client, customer uuid.UUID) string {
	if !c.Pairwise() {
		return customer.String()
	}
	var sub [16]byte
	e.names.pairwise(c.Sector()).Encrypt(sub[:], customer[:])
	return base64.RawURLEncoding.EncodeToString(sub[:])
}

// Customer returns whom a client means by a sub: Subject the other way round. What never was one is the id of nobody, or
// uuid.Nil.
func (e *Engine) Customer(c *fapi.Client, subject string) uuid.UUID {
	if !c.Pairwise() {
		id, _ := uuid.Parse(subject)
		return id
	}
	sub, err := base64.RawURLEncoding.Strict().DecodeString(subject)
	if err != nil || len(sub) != aes.BlockSize {
		return uuid.Nil
	}
	var id uuid.UUID
	e.names.pairwise(c.Sector()).Decrypt(id[:], sub)
	return id
}

// pairwise is the permutation of customers' ids that makes the names of a sector (OpenID Connect Core §8.1 has AES among
// its examples): an id is one block, so no two have one name, and a name that comes back in a hint can be read.
func (n names) pairwise(sector string) cipher.Block {
	mac := hmac.New(sha256.New, n.subjects)
	mac.Write([]byte(sector))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		panic(err) // a key of 32 bytes is one of AES-256
	}
	return block
}

// SessionID is the sid by which a client knows a session (OpenID Connect Back-Channel Logout §2.1), "" for none. No two
// clients get the same: it would tell them that two names are one customer's.
func (e *Engine) SessionID(c *fapi.Client, session uuid.UUID) string {
	if session == uuid.Nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(keyed(e.names.sessions, c.ID, session)[:16])
}

func keyed(key []byte, audience string, id uuid.UUID) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(id[:]) // of fixed length: no other pair reads the same
	mac.Write([]byte(audience))
	return mac.Sum(nil)
}
