package authn

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
)

// ImportCustomers makes many customers in one round trip, if they have hashes of passwords; each password that is none costs what a
// login costs. Of each that could not be made, errs says at the same place why, as CreateCustomer does. With dry nothing is stored:
// errs has what can be known without.
func (a *Authn) ImportCustomers(ctx context.Context, all []NewCustomer, dry bool) (errs []error, err error) {
	errs = make([]error, len(all))
	var good []storage.NewCustomer
	var places []int
	for i, n := range all {
		c, err := a.newCustomer(ctx, n)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errs[i] = err; err == nil {
			good, places = append(good, c), append(places, i)
		}
	}
	var outcome []error
	if dry {
		outcome, err = a.knownAlready(ctx, good)
	} else {
		outcome, err = a.db.CreateCustomers(ctx, good)
	}
	if err != nil {
		return nil, err
	}
	made := 0
	for i, place := range places {
		if errs[place] = outcome[i]; outcome[i] == nil {
			made++
		}
	}
	if !dry {
		a.log.Info("customers.imported", zap.Int("customers", made))
	}
	return errs, nil
}

// knownAlready says of which customers the name is taken.
func (a *Authn) knownAlready(ctx context.Context, all []storage.NewCustomer) ([]error, error) {
	errs := make([]error, len(all))
	for i, n := range all {
		_, err := a.db.FindCustomer(ctx, n.Tenant, n.Username)
		switch {
		case err == nil:
			errs[i] = storage.ErrConflict
		case !errors.Is(err, storage.ErrNotFound):
			return nil, err
		}
	}
	return errs, nil
}
