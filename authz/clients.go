package authz

import (
	"bytes"
	"context"
	"crypto/x509"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// registeredClient is a client that may act.
type registeredClient struct {
	*fapi.Client
	secretHash  []byte
	fetched     *fetchedKeys // nil unless its keys are at its jwks_uri
	logo        string       // version of its logo; "": it has none
	certificate atomic.Pointer[checkedCertificate]
}

// checkedCertificate is the certificate that a client last authenticated with.
type checkedCertificate struct {
	der   []byte
	until time.Time
}

// certificateTrusted is how long a certificate that was checked is not checked again: verifying its chain costs more than
// the rest of a request. It is forgotten when the clients are loaded anew.
const certificateTrusted = time.Minute

// checkCertificate authenticates the client by its certificate (RFC 8705 §2).
func (c *registeredClient) checkCertificate(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) error {
	if last := c.certificate.Load(); last != nil && len(chain) > 0 && now.Before(last.until) && bytes.Equal(last.der, chain[0].Raw) {
		return nil
	}
	if err := c.CheckCertificate(chain, roots, now); err != nil {
		return err
	}
	until := now.Add(certificateTrusted)
	if end := chain[0].NotAfter; end.Before(until) {
		until = end
	}
	c.certificate.Store(&checkedCertificate{chain[0].Raw, until})
	return nil
}

// clientCache holds all clients, parsed. It is replaced as a whole when the database says that one has changed.
type clientCache struct {
	byID    atomic.Pointer[map[string]*registeredClient]
	loading sync.Mutex // held from reading the database to replacing the map: what was read first is never put last
	lookups lookups
}

func (c *clientCache) find(id string) *registeredClient { return c.all()[id] }

func (c *clientCache) all() map[string]*registeredClient {
	if byID := c.byID.Load(); byID != nil {
		return *byID
	}
	return nil
}

// load reads the clients. One whose metadata are wrong, which only another version of the server can have stored, is
// left out and logged: the others go on.
func (c *clientCache) load(ctx context.Context, db *storage.DB, log *zap.Logger) error {
	c.loading.Lock()
	defer c.loading.Unlock()
	stored, err := db.ListClients(ctx)
	if err != nil {
		return err
	}
	byID, before := make(map[string]*registeredClient, len(stored)), c.all()
	for _, row := range stored {
		if client := readClient(&row, before[row.ID], log); client != nil {
			byID[row.ID] = client
		}
	}
	c.byID.Store(&byID)
	return nil
}

// readClient returns nil for a client that may not act.
func readClient(row *storage.Client, before *registeredClient, log *zap.Logger) *registeredClient {
	if row.DisabledAt != nil {
		return nil
	}
	client, err := fapi.ParseClient(row.Metadata)
	if err != nil {
		log.Error("client left out", zap.String("client_id", row.ID), zap.Error(err))
		return nil
	}
	return &registeredClient{Client: client, secretHash: row.SecretHash, fetched: keepFetched(client, before), logo: row.Logo}
}
