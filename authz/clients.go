package authz

import (
	"context"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// registeredClient is a client that may act.
type registeredClient struct {
	*fapi.Client
	secretHash []byte
}

// clientCache holds all clients, parsed. It is replaced as a whole when the database says that one has changed.
type clientCache struct {
	byID atomic.Pointer[map[string]*registeredClient]
}

func (c *clientCache) find(id string) *registeredClient { return (*c.byID.Load())[id] }

// load reads the clients. One whose metadata are wrong, which only another version of the server can have stored, is
// left out and logged: the others go on.
func (c *clientCache) load(ctx context.Context, db *storage.DB, log *zap.Logger) error {
	stored, err := db.ListClients(ctx)
	if err != nil {
		return err
	}
	byID := make(map[string]*registeredClient, len(stored))
	for _, row := range stored {
		if row.DisabledAt != nil {
			continue
		}
		client, err := fapi.ParseClient(row.Metadata)
		if err != nil {
			log.Error("client left out", zap.String("client_id", row.ID), zap.Error(err))
			continue
		}
		byID[row.ID] = &registeredClient{client, row.SecretHash}
	}
	c.byID.Store(&byID)
	return nil
}
