package authn

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

const longestFactorName = 60 // characters

// showFactors answers GET /self/factors.
func (a *Authn) showFactors(w http.ResponseWriter, r *http.Request) {
	if v, ok := a.Guard(w, r, ViewAccess, factorListPath); ok {
		a.factorsPage(w, r, v, "")
	}
}

func (a *Authn) factorsPage(w http.ResponseWriter, r *http.Request, v *storage.Visitor, problem string) {
	p, err := v.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	page := web.SelfFactors{Own: a.own(w, r, p, problem)}
	if page.Links, err = a.linkRows(r.Context(), v.CustomerID); err != nil {
		a.fail(w, r, err)
		return
	}
	for _, f := range v.Confirmed() {
		row := web.FactorRow{
			ID: f.ID.String(), Kind: a.factorKind(f.Kind), Name: f.Name, Since: a.local(f.CreatedAt), LastUsed: a.localOrNil(f.LastUsedAt),
			Removable: a.removable(v, f),
		}
		if sent, ok := a.kind(f.Kind).(sentFactor); ok {
			if to, err := sent.destination(f); err == nil {
				row.Masked = to.Masked()
			}
		}
		page.Factors = append(page.Factors, row)
		if f.Kind != storage.RecoveryCodes {
			page.CodesURL = recoveryPath
		}
	}
	page.Providers = a.linkButtons()
	a.shown(r, a.pages.SelfFactors(w, status(problem), page))
}

// linkRows are where else the customer can log in.
func (a *Authn) linkRows(ctx context.Context, customer uuid.UUID) (rows []web.LinkRow, err error) {
	links, err := a.IdentityLinks(ctx, customer)
	for _, l := range links {
		rows = append(rows, web.LinkRow{ID: l.ID.String(), Provider: a.ProviderName(l.Provider), Name: l.Display.Name, Since: a.local(l.CreatedAt), LastUsed: a.localOrNil(l.LastUsedAt)})
	}
	return rows, err
}

// removeLink answers POST /self/links/remove.
func (a *Authn) removeLink(w http.ResponseWriter, r *http.Request) {
	v, ok := a.guardForm(w, r, ChangeFactors, factorListPath)
	if !ok {
		return
	}
	id, _, ok := a.readID(w, r, "link")
	if !ok {
		return
	}
	p, err := v.Customer.Profile()
	if err == nil {
		err = a.Unlink(r.Context(), v.CustomerID, id, visitOf(r), a.notice(p, "unlinked"))
	}
	switch {
	case errors.Is(err, ErrLastWay):
		a.factorsPage(w, r, v, "problem.last_way")
	case errors.Is(err, storage.ErrNotFound):
		a.refuse(w, r, http.StatusNotFound)
	case err != nil:
		a.fail(w, r, err)
	default:
		a.did(w, r, factorListPath, "unlinked")
	}
}

// factorKind is a kind of second factor in words.
func (a *Authn) factorKind(kind string) string {
	f := a.kind(kind)
	if f == nil {
		return kind
	}
	return f.Label(a.pages.Text)
}

// lastToo tells whether customers may remove their last second factor: where nobody needs one.
func (a *Authn) lastToo() bool { return !a.config.RequireSecondFactor }

func (a *Authn) removable(v *storage.Visitor, f *storage.SecondFactor) bool {
	return a.lastToo() || f.Kind == storage.RecoveryCodes || slices.ContainsFunc(v.Confirmed(), func(o *storage.SecondFactor) bool {
		return o.ID != f.ID && o.Kind != storage.RecoveryCodes
	})
}

// ownFactor reads which of the customer's factors a form is about. If it is none, it has answered.
func (a *Authn) ownFactor(w http.ResponseWriter, r *http.Request, v *storage.Visitor, more ...string) (*storage.SecondFactor, []string) {
	id, values, ok := a.readID(w, r, "factor", more...)
	if !ok {
		return nil, nil
	}
	for _, f := range v.Confirmed() {
		if f.ID == id {
			return f, values
		}
	}
	a.refuse(w, r, http.StatusNotFound)
	return nil, nil
}

// renameFactor answers POST /self/factors/rename.
func (a *Authn) renameFactor(w http.ResponseWriter, r *http.Request) {
	v, ok := a.guardForm(w, r, ViewAccess, factorListPath)
	if !ok {
		return
	}
	f, values := a.ownFactor(w, r, v, "name")
	if f == nil {
		return
	}
	name := strings.TrimSpace(values[0])
	if !isText(name) || utf8.RuneCountInString(name) > longestFactorName {
		a.factorsPage(w, r, v, "problem.field")
		return
	}
	e := a.ownEvent(r, v, "factor.renamed", map[string]any{"factor": f.Kind})
	a.ownChanged(w, r, e, a.db.RenameFactor(r.Context(), f.ID, name, e), factorListPath, "renamed")
}

// removeFactor answers POST /self/factors/remove.
func (a *Authn) removeFactor(w http.ResponseWriter, r *http.Request) {
	v, ok := a.guardForm(w, r, ChangeFactors, factorListPath)
	if !ok {
		return
	}
	f, _ := a.ownFactor(w, r, v)
	if f == nil {
		return
	}
	p, err := v.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	ways := storage.WaysIn{Password: true}
	if f.Kind == storage.Passkey {
		if ways, err = a.waysIn(r.Context(), v.CustomerID); err != nil {
			a.fail(w, r, err)
			return
		}
	}
	e := a.ownEvent(r, v, "factor.removed", map[string]any{"factor": f.Kind})
	err = a.db.RemoveFactor(r.Context(), f.ID, a.lastToo(), ways, e, a.notice(p, "factor_removed", "kind", a.factorKind(f.Kind)))
	if errors.Is(err, storage.ErrNotFound) { // it is the last one, or another window was faster
		a.log.Info("factor.kept", zap.Stringer("customer", v.CustomerID))
		problem := "problem.last_factor"
		if !ways.Password {
			problem = "problem.last_way"
		}
		a.factorsPage(w, r, v, problem)
		return
	}
	a.ownChanged(w, r, e, err, factorListPath, "removed")
}
