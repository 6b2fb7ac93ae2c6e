package engine

import (
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
	return base64.RawURLEncoding.EncodeToString(keyed(e.names.subjects, c.Sector(), customer))
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
