package authn

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// showSessions answers GET /self/sessions.
func (a *Authn) showSessions(w http.ResponseWriter, r *http.Request) {
	v, ok := a.Guard(w, r, ViewAccess, sessionsPath)
	if !ok {
		return
	}
	p, err := v.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	d, err := a.db.ListDevices(r.Context(), v.CustomerID, a.LoginHash(r))
	if err != nil {
		a.fail(w, r, err)
		return
	}
	slices.SortFunc(d.Sessions, func(x, y storage.OwnSession) int {
		if x.This != y.This {
			return cmp.Compare(boolean(y.This), boolean(x.This))
		}
		return y.AuthTime.Compare(x.AuthTime)
	})
	page := web.SelfSessions{Own: a.own(w, r, p, "")}
	for _, s := range d.Sessions {
		page.Sessions = append(page.Sessions, web.SessionRow{
			ID: s.ID.String(), Visited: a.visited(s.AuthTime, s.Visit), This: s.This, Over: !s.ExpiresAt.After(a.now()),
		})
	}
	for _, app := range d.Apps {
		page.Apps = append(page.Apps, web.DeviceRow{ID: app.ID.String(), Name: app.Name, Since: a.local(app.CreatedAt), LastUsed: a.localOrNil(app.LastUsedAt)})
	}
	for _, b := range d.Ringing {
		page.Ringing = append(page.Ringing, web.DeviceRow{ID: b.ID.String(), Since: a.local(b.CreatedAt)})
	}
	a.shown(r, a.pages.SelfSessions(w, http.StatusOK, page))
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// endSession answers POST /self/sessions/end. To end what may be somebody else's needs no more than to see it.
func (a *Authn) endSession(w http.ResponseWriter, r *http.Request) {
	v, ok := a.guardForm(w, r, ViewAccess, sessionsPath)
	if !ok {
		return
	}
	if id, _, ok := a.readID(w, r, "session"); ok {
		e := a.ownEvent(r, v, "session.ended", nil)
		a.ownChanged(w, r, e, a.db.EndSession(r.Context(), id, e), sessionsPath, "ended")
	}
}

// endOthers answers POST /self/sessions/end-others.
func (a *Authn) endOthers(w http.ResponseWriter, r *http.Request) {
	v, ok := a.guardForm(w, r, ViewAccess, sessionsPath)
	if !ok {
		return
	}
	if _, _, ok := a.readForm(w, r); ok {
		e := a.ownEvent(r, v, "sessions.ended", nil)
		a.ownChanged(w, r, e, a.db.EndOtherSessions(r.Context(), a.LoginHash(r), e), sessionsPath, "others")
	}
}

// removeApp answers POST /self/devices/remove. What approves is a factor.
func (a *Authn) removeApp(w http.ResponseWriter, r *http.Request) {
	v, ok := a.guardForm(w, r, ChangeFactors, sessionsPath)
	if !ok {
		return
	}
	id, _, ok := a.readID(w, r, "app")
	if !ok {
		return
	}
	p, err := v.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	e := a.ownEvent(r, v, "device.removed", nil)
	a.ownChanged(w, r, e, a.db.DropApprovalDevice(r.Context(), id, e, a.notice(p, "device_removed")), sessionsPath, "forgotten")
}

// silenceBrowser answers POST /self/devices/silence.
func (a *Authn) silenceBrowser(w http.ResponseWriter, r *http.Request) {
	v, ok := a.guardForm(w, r, ViewAccess, sessionsPath)
	if !ok {
		return
	}
	if id, _, ok := a.readID(w, r, "browser"); ok {
		e := a.ownEvent(r, v, "browser.silenced", nil)
		a.ownChanged(w, r, e, a.db.DropSubscription(r.Context(), id, e), sessionsPath, "silent")
	}
}

const (
	eventsPerPage = 20
	fieldBefore   = "before" // microseconds since 1970, which is what the database counts in
)

// showActivity answers GET /self/activity.
func (a *Authn) showActivity(w http.ResponseWriter, r *http.Request) {
	v, ok := a.Guard(w, r, ViewAccess, activityPath)
	if !ok {
		return
	}
	var before *time.Time
	if q := r.URL.Query(); q.Has(fieldBefore) {
		micros, err := strconv.ParseInt(q.Get(fieldBefore), 10, 64)
		if err != nil || len(q[fieldBefore]) != 1 || micros < 0 || micros > 1<<52 {
			a.refuse(w, r, http.StatusBadRequest)
			return
		}
		at := time.UnixMicro(micros)
		before = &at
	}
	p, err := v.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	events, err := a.db.ListEvents(r.Context(), v.CustomerID, before, eventsPerPage+1)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	page := web.SelfActivity{Own: a.own(w, r, p, "")}
	if len(events) > eventsPerPage {
		events = events[:eventsPerPage]
		page.OlderURL = activityPath + "?" + fieldBefore + "=" + strconv.FormatInt(events[eventsPerPage-1].At.UnixMicro(), 10)
	}
	for _, e := range events {
		page.Events = append(page.Events, web.EventRow{Visited: a.visited(e.At, e.Visit), What: a.happened(e)})
	}
	a.shown(r, a.pages.SelfActivity(w, http.StatusOK, page))
}

// happened is an event in words.
func (a *Authn) happened(e storage.Event) string {
	kind, _ := e.Details["factor"].(string)
	key := "event." + e.Kind
	if text := a.pages.Text(key, "kind", a.factorKind(kind)); text != key {
		return text
	}
	return a.pages.Text("event.other")
}
