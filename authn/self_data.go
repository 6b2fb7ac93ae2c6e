package authn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

const (
	exportSchema  = "countersign.data-export"
	exportVersion = 1 // counts what would break whoever reads it

	oneDay  = 24 * time.Hour
	oneYear = 365 * oneDay
)

// Export is everything that is held about a customer, machine-readable. Sections and their fields have the names of the
// database's tables and columns; what is a hash or a secret is left out, and sealed things are opened.
type Export struct {
	Schema     string             `json:"schema"`
	Version    int                `json:"version"`
	Bank       string             `json:"bank"`
	CustomerID uuid.UUID          `json:"customer_id"`
	ExportedAt time.Time          `json:"exported_at"`
	Data       storage.DataExport `json:"data"`
}

// Export collects it, and remembers that it was handed out. It returns storage.ErrNotFound for an unknown customer. One round
// trip.
func (a *Authn) Export(ctx context.Context, customer uuid.UUID, v storage.Visit) (*Export, error) {
	data, err := a.db.ExportData(ctx, customer, storage.Event{Kind: "data.exported", Visit: v})
	return &Export{exportSchema, exportVersion, a.config.Issuer, customer, a.now().UTC(), data}, a.changed("data.exported", customer, err)
}

// showData answers GET /self/data.
func (a *Authn) showData(w http.ResponseWriter, r *http.Request) {
	if v, ok := a.Guard(w, r, ViewAccess, dataPath); ok {
		a.dataPage(w, r, v, "")
	}
}

func (a *Authn) dataPage(w http.ResponseWriter, r *http.Request, v *storage.Visitor, problem string) {
	p, err := v.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	d, err := a.db.FindDeletion(r.Context(), v.CustomerID)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	page := web.SelfData{Own: a.own(w, r, p, problem), WaitDays: int(a.config.DeletionWait / oneDay), KeepYears: int(a.config.RecordsKept / oneYear)}
	if d != nil {
		page.DeletionAt = a.localOrNil(&d.DueAt)
	}
	a.shown(r, a.pages.SelfData(w, status(problem), page))
}

// exportData answers GET /self/data-export with a file. Whoever must show a factor first comes back to the page with the link:
// from the form of a factor a browser that is given a file would go nowhere.
func (a *Authn) exportData(w http.ResponseWriter, r *http.Request) {
	v, ok := a.guardForm(w, r, ExportData, dataPath)
	if !ok {
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Disposition", `attachment; filename="my-data.json"`)
	if r.Method == http.MethodHead { // nothing leaves, so nothing is remembered
		return
	}
	export, err := a.Export(r.Context(), v.CustomerID, visitOf(r))
	if err != nil {
		h.Del("Content-Disposition")
		a.fail(w, r, err)
		return
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	a.shown(r, encoder.Encode(export))
}

// deleteAccount answers POST /self/delete-account.
func (a *Authn) deleteAccount(w http.ResponseWriter, r *http.Request) {
	v, ok := a.guardForm(w, r, DeleteAccount, dataPath)
	if !ok {
		return
	}
	form, _, ok := a.readForm(w, r, "confirm")
	if !ok {
		return
	}
	if form.Get("confirm") != "yes" {
		a.dataPage(w, r, v, "problem.confirm")
		return
	}
	_, err := a.RequestDeletion(r.Context(), v.CustomerID, v.Customer, a.config.DeletionWait, visitOf(r))
	switch {
	case err != nil && !errors.Is(err, storage.ErrConflict): // asked twice is asked
		a.fail(w, r, err)
	case acceptsOnlyJSON(r):
		a.answerDeletion(w, r, v)
	default:
		a.did(w, r, dataPath, "deletion")
	}
}

// RequestDeletion has a customer deleted after wait, and tells them. It returns storage.ErrConflict when that was requested
// before, and the day on which it will be done.
func (a *Authn) RequestDeletion(ctx context.Context, id uuid.UUID, c storage.Customer, wait time.Duration, v storage.Visit) (time.Time, error) {
	p, err := c.Profile()
	if err != nil {
		return time.Time{}, err
	}
	due := a.now().Add(wait)
	years := fmt.Sprint(int(a.config.RecordsKept / oneYear))
	done := storage.Farewell{Subject: a.pages.Text("message.deleted.subject"), Text: a.pages.Text("message.deleted.text", "years", years)}
	e := storage.Event{CustomerID: id, Kind: "deletion.requested", Visit: v}
	err = a.db.RequestDeletion(ctx, wait, a.config.RecordsKept, done, e, a.notice(p, "deletion", "date", a.pages.Date(a.local(due))))
	if errors.Is(err, storage.ErrNotFound) {
		return due, storage.ErrConflict
	}
	return due, a.changed(e.Kind, id, err)
}

// CancelDeletion lets a customer stay. It returns storage.ErrNotFound when no deletion was requested.
func (a *Authn) CancelDeletion(ctx context.Context, id uuid.UUID, c storage.Customer, v storage.Visit) error {
	p, err := c.Profile()
	if err != nil {
		return err
	}
	e := storage.Event{CustomerID: id, Kind: "deletion.cancelled", Visit: v}
	return a.changed(e.Kind, id, a.db.CancelDeletion(ctx, e, a.notice(p, "deletion_cancelled")))
}

// keepAccount answers POST /self/delete-account/cancel.
func (a *Authn) keepAccount(w http.ResponseWriter, r *http.Request) {
	v, ok := a.guardForm(w, r, ViewAccess, dataPath)
	if !ok {
		return
	}
	if _, _, ok := a.readForm(w, r); !ok {
		return
	}
	err := a.CancelDeletion(r.Context(), v.CustomerID, v.Customer, visitOf(r))
	switch {
	case err != nil && !errors.Is(err, storage.ErrNotFound):
		a.fail(w, r, err)
	case acceptsOnlyJSON(r):
		a.answerDeletion(w, r, v)
	default:
		a.did(w, r, dataPath, "cancelled")
	}
}
