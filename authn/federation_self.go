package authn

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authn/federation"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// addOwnLink answers POST /self/links/add: a customer who is logged in goes to a provider, and links what comes back.
func (a *Authn) addOwnLink(w http.ResponseWriter, r *http.Request) {
	v, ok := a.guardForm(w, r, ChangeFactors, factorListPath)
	if !ok {
		return
	}
	form, _, ok := a.readForm(w, r, "provider")
	if !ok {
		return
	}
	p := a.providers[form.Get("provider")]
	if p == nil || len(p.Link) == 0 {
		a.refuse(w, r, http.StatusNotFound)
		return
	}
	a.send(w, r, p, federation.Wish{}, identityVisit{Journey: journey{page: factorListPath}.query(), By: v.CustomerID})
}

// notLinked shows a customer their own page again, with what became of the link.
func (a *Authn) notLinked(w http.ResponseWriter, r *http.Request, p *federation.Provider, err error) {
	_, problem := idpProblem(err)
	if problem == "" {
		a.fail(w, r, err)
		return
	}
	a.idpRefused(p, problem, err)
	problem = "problem.link_failed"
	if errors.Is(err, errAnothers) || errors.Is(err, errNobody) || errors.Is(err, errNotAllowed) {
		problem = "problem.link_not_yours"
	}
	if v, ok := a.Guard(w, r, ViewAccess, factorListPath); ok {
		a.factorsPage(w, r, v, problem)
	}
}

// linkButtons are the providers that a customer can link an identity with.
func (a *Authn) linkButtons() (all []web.ProviderButton) {
	for _, c := range a.config.Federation.Providers {
		if len(c.Link) > 0 {
			all = append(all, web.ProviderButton{Name: c.Name, Action: "/self/links/add", Hidden: []web.Field{{Name: "provider", Value: c.ID}}})
		}
	}
	return all
}

// ErrLastWay is returned for the last way that a customer has to log in.
var ErrLastWay = errors.New("authn: without it the customer could not log in any more")

// HasPassword tells whether a customer can log in by a password. It returns storage.ErrNotFound for an unknown one.
func (a *Authn) HasPassword(ctx context.Context, customer uuid.UUID) (bool, error) {
	hash, err := a.db.PasswordHash(ctx, customer)
	return err == nil && !isNoPassword(hash), err
}

// waysIn tells by what the customer could log in here. A link with a provider that is not set up any more is no way.
func (a *Authn) waysIn(ctx context.Context, customer uuid.UUID) (storage.WaysIn, error) {
	password, err := a.HasPassword(ctx, customer)
	return storage.WaysIn{Password: password, Passkeys: a.passkeys != nil, Providers: slices.Collect(maps.Keys(a.providers))}, err
}

// IdentityLinks are where else a customer can log in, the oldest first.
func (a *Authn) IdentityLinks(ctx context.Context, customer uuid.UUID) ([]storage.IdentityLink, error) {
	return a.db.ListIdentityLinks(ctx, customer)
}

// ProviderName is a provider's, as customers know it, or its id if there is none of that id any more.
func (a *Authn) ProviderName(id string) string {
	if p := a.providers[id]; p != nil {
		return p.Name
	}
	return id
}

// Unlink removes one of a customer's links, who is told by m unless it is nil. It returns ErrLastWay, or storage.ErrNotFound for one that
// the customer does not have. Pages that call it begin with Guard and ChangeFactors.
func (a *Authn) Unlink(ctx context.Context, customer, link uuid.UUID, v storage.Visit, m *storage.Message) error {
	ways, err := a.waysIn(ctx, customer)
	if err != nil {
		return err
	}
	err = a.db.RemoveIdentityLink(ctx, customer, link, ways, v, m)
	if errors.Is(err, storage.ErrConflict) {
		return ErrLastWay
	}
	return a.changed("idp.unlinked", customer, err)
}
