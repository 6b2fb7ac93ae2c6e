package authn

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// The customer's own pages (docs/self.md). Each begins with a Guard for its action; what a form names is looked for among what
// is the customer's own, in the statement that changes it.

const (
	selfPath     = "/self"
	profilePath  = "/self/profile"
	passwordPath = "/self/password"
	sessionsPath = "/self/sessions"
	activityPath = "/self/activity"
	dataPath     = "/self/data"
	exportPath   = "/self/data-export"
	deletePath   = "/self/delete-account"
)

func (a *Authn) selfRoutes() map[string]methods {
	routes := map[string]methods{
		selfPath:                     {http.MethodGet: a.showSelf},
		profilePath:                  {http.MethodGet: a.showProfile, http.MethodPost: a.saveProfile},
		passwordPath:                 {http.MethodGet: a.showPassword, http.MethodPost: a.newPassword},
		factorListPath:               {http.MethodGet: a.showFactors},
		factorListPath + "/rename":   {http.MethodPost: a.renameFactor},
		factorListPath + "/remove":   {http.MethodPost: a.removeFactor},
		"/self/links/remove":         {http.MethodPost: a.removeLink},
		sessionsPath:                 {http.MethodGet: a.showSessions},
		sessionsPath + "/end":        {http.MethodPost: a.endSession},
		sessionsPath + "/end-others": {http.MethodPost: a.endOthers},
		"/self/devices/remove":       {http.MethodPost: a.removeApp},
		"/self/devices/silence":      {http.MethodPost: a.silenceBrowser},
		activityPath:                 {http.MethodGet: a.showActivity},
		dataPath:                     {http.MethodGet: a.showData},
		exportPath:                   {http.MethodGet: a.exportData},
		deletePath:                   {http.MethodPost: a.deleteAccount},
		deletePath + "/cancel":       {http.MethodPost: a.keepAccount},
	}
	for i := range contacts {
		c := &contacts[i]
		routes[c.path] = methods{http.MethodPost: func(w http.ResponseWriter, r *http.Request) { a.changeContact(w, r, c) }}
		routes[c.path+"/confirm"] = methods{http.MethodPost: func(w http.ResponseWriter, r *http.Request) { a.confirmContact(w, r, c) }}
	}
	return routes
}

// unsentCookie remembers that a form came without a login that does, so that the page it came from says that nothing was
// done. What was typed is not kept: it may be secret.
const unsentCookie = "__Host-unsent"

// guardForm is Guard for a form of page, and for programs that send it.
func (a *Authn) guardForm(w http.ResponseWriter, r *http.Request, action Action, page string) (*storage.Visitor, bool) {
	if acceptsOnlyJSON(r) {
		return a.guardProgram(w, r, action)
	}
	setUnsent(w, "1")
	v, ok := a.Guard(w, r, action, page)
	if ok {
		w.Header().Del("Set-Cookie") // nothing else has set one yet
	}
	return v, ok
}

func setUnsent(w http.ResponseWriter, value string) {
	c := &http.Cookie{Name: unsentCookie, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(stepLifetime.Seconds())}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// notices are what a page says after what one of its forms did, by the query that the form leads to.
var notices = map[string]bool{
	"saved": true, "email": true, "phone": true, "password": true, "renamed": true, "removed": true, "ended": true, "others": true,
	"forgotten": true, "silent": true, "unlinked": true, "deletion": true, "cancelled": true,
}

// own begins one of the customer's pages. problem is the key of a text, "" for none.
func (a *Authn) own(w http.ResponseWriter, r *http.Request, p storage.Profile, problem string) web.Own {
	o := web.Own{Customer: p.Name}
	if o.Customer == "" {
		o.Customer = p.Username
	}
	if problem != "" {
		o.Problem = a.pages.Text(problem)
	}
	switch _, err := r.Cookie(unsentCookie); {
	case r.Method == http.MethodPost:
	case err == nil:
		setUnsent(w, "")
		o.Problem = a.pages.Text("self.said.unsent")
	case notices[r.URL.RawQuery]:
		o.Notice = a.pages.Text("self.said." + r.URL.RawQuery)
	}
	return o
}

// did ends a form of page.
func (a *Authn) did(w http.ResponseWriter, r *http.Request, page, notice string) {
	a.goOn(w, r, page+"?"+notice)
}

// status is that of a page with or without a problem.
func status(problem string) int {
	if problem != "" {
		return http.StatusUnprocessableEntity
	}
	return http.StatusOK
}

// ownEvent is what a customer did by themselves.
func (a *Authn) ownEvent(r *http.Request, v *storage.Visitor, kind string, details map[string]any) storage.Event {
	return storage.Event{CustomerID: v.CustomerID, Kind: kind, Visit: visitOf(r), Details: details}
}

// changed answers what a change came to. what is not the customer's is not there.
func (a *Authn) ownChanged(w http.ResponseWriter, r *http.Request, e storage.Event, err error, page, notice string) {
	switch {
	case errors.Is(err, storage.ErrNotFound):
		a.refuse(w, r, http.StatusNotFound)
	case err != nil:
		a.fail(w, r, err)
	default:
		a.log.Info(e.Kind, zap.Stringer("customer", e.CustomerID))
		a.did(w, r, page, notice)
	}
}

// noticeLasts is how long a message about a change is tried to be delivered.
const noticeLasts = 24 * time.Hour

// notice is a message to where the customer was reached before a change; nil when they cannot be.
func (a *Authn) notice(p storage.Profile, key string, values ...string) *storage.Message {
	if p.Email == "" || !a.sends(ChannelEmail) {
		return nil
	}
	return &storage.Message{Channel: ChannelEmail, To: p.Email, ExpiresAt: a.now().Add(noticeLasts),
		Subject: a.pages.Text("message." + key + ".subject"), Text: a.pages.Text("message."+key+".text", values...)}
}

// readID reads a form with one id. If it cannot, it has answered.
func (a *Authn) readID(w http.ResponseWriter, r *http.Request, field string, more ...string) (id uuid.UUID, values []string, ok bool) {
	form, _, ok := a.readForm(w, r, append(more, field)...)
	if !ok {
		return id, nil, false
	}
	id, err := uuid.Parse(form.Get(field))
	if err != nil || id.String() != form.Get(field) {
		a.refuse(w, r, http.StatusBadRequest)
		return id, nil, false
	}
	for _, name := range more {
		values = append(values, form.Get(name))
	}
	return id, values, true
}

// showSelf answers GET /self.
func (a *Authn) showSelf(w http.ResponseWriter, r *http.Request) {
	v, ok := a.Guard(w, r, ViewAccess, selfPath)
	if !ok {
		return
	}
	p, err := v.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	o, err := a.db.Overview(r.Context(), v.CustomerID, v.AuthTime)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	page := web.Self{Own: a.own(w, r, p, ""), Profile: a.facts(v, p)}
	if o.LastLogin != nil {
		visited := a.visited(o.LastLogin.At, o.LastLogin.Visit)
		page.LastLogin = &visited
	}
	if o.Deletion != nil {
		due := a.local(o.Deletion.DueAt)
		page.DeletionAt = &due
	}
	if a.WantsTransactionPassword() {
		page.TransactionPasswordURL = transactionPasswordPath
	}
	a.shown(r, a.pages.Self(w, http.StatusOK, page))
}

// facts are what is shown of a customer: no more of an address than is needed to recognise it.
func (a *Authn) facts(v *storage.Visitor, p storage.Profile) web.ProfileFacts {
	f := web.ProfileFacts{Username: p.Username, Client: maskedClient(v.Customer.FineractClientID)}
	if p.Email != "" {
		f.Email = Destination{ChannelEmail, p.Email}.Masked()
	}
	if p.PhoneNumber != "" {
		f.Phone = Destination{ChannelSMS, p.PhoneNumber}.Masked()
	}
	for _, factor := range v.Confirmed() {
		if factor.Kind != storage.RecoveryCodes {
			f.Factors++
		}
	}
	return f
}

// maskedClient is a Fineract client's id as it is shown: CL-****123. Never more than half of it.
func maskedClient(id *int64) string {
	if id == nil {
		return ""
	}
	digits := fmt.Sprint(*id)
	return "CL-****" + digits[len(digits)-min(3, len(digits)/2):]
}

func (a *Authn) local(t time.Time) time.Time {
	if a.config.Zone == nil {
		return t.UTC()
	}
	return t.In(a.config.Zone)
}

func (a *Authn) localOrNil(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	local := a.local(*t)
	return &local
}

func (a *Authn) visited(at time.Time, v storage.Visit) web.Visited {
	return web.Visited{When: a.local(at), Browser: a.browser(v.UserAgent), From: v.Address}
}

// browsers and systems as they call themselves, what imitates another before that other.
var (
	browsers = []struct{ sign, name string }{
		{"Edg", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"},
		{"CriOS/", "Chrome"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"},
	}
	systems = []struct{ sign, name string }{
		{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"CrOS", "ChromeOS"}, {"Mac OS X", "Mac"}, {"Linux", "Linux"},
	}
)

// browser is a browser in words.
func (a *Authn) browser(userAgent string) string {
	name, system := "", ""
	for _, b := range browsers {
		if name == "" && strings.Contains(userAgent, b.sign) {
			name = b.name
		}
	}
	for _, s := range systems {
		if system == "" && strings.Contains(userAgent, s.sign) {
			system = s.name
		}
	}
	switch {
	case name == "":
		return a.pages.Text("self.said.browser.unknown")
	case system == "":
		return name
	}
	return a.pages.Text("self.said.browser", "browser", name, "system", system)
}
