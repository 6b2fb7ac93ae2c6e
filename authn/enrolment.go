package authn

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

const (
	enrolPath      = "/login/enrol"
	factorListPath = "/self/factors" // the list, where a customer who has added one comes back to
	addPath        = factorListPath + "/add"

	fieldBegin = "begin"

	eventFactorAdded = "factor.added"
)

// enrolment is the addresses at which factors are enrolled: during a login, on the password alone, by a customer who has none;
// and by one who has, from their own pages.
func (a *Authn) enrolment() map[string]methods {
	routes := map[string]methods{
		enrolPath: a.enrolMethods(a.firstEnroller(), false),
		addPath:   {http.MethodGet: a.showAdd},

		recoveryPath: {http.MethodGet: a.showRecoveryCodes, http.MethodPost: a.newRecoveryCodes},
	}
	for _, f := range slices.Concat(ownFactors, a.config.Factors) {
		if e, ok := f.(Enroller); ok {
			routes[enrolPath+"/"+f.Kind()] = a.enrolMethods(e, false)
			routes[addPath+"/"+f.Kind()] = a.enrolMethods(e, true)
		}
	}
	return routes
}

func (a *Authn) enrolMethods(f Factor, added bool) methods {
	e, ok := f.(Enroller)
	if !ok { // a kind with pages of its own
		return methods{http.MethodGet: func(w http.ResponseWriter, r *http.Request) {
			if j, err := readJourney(r.URL.Query()); err == nil && f != nil {
				a.goOn(w, r, j.link(enrolPath+"/"+f.Kind()))
				return
			}
			a.refuse(w, r, http.StatusBadRequest)
		}}
	}
	return methods{
		http.MethodGet:  func(w http.ResponseWriter, r *http.Request) { a.showEnrol(w, r, e, added) },
		http.MethodPost: func(w http.ResponseWriter, r *http.Request) { a.enrol(w, r, e, added) },
	}
}

// firstEnroller is the kind that is enrolled unless the customer chooses another, nil if there is none.
func (a *Authn) firstEnroller() Factor {
	if i := slices.IndexFunc(a.factors, enrols); i >= 0 {
		return a.factors[i]
	}
	return nil
}

// enrols tells whether a kind may be a customer's first.
func enrols(f Factor) bool { return f.Strength() != LastResort }

// enrolFirst shows the enrolment of a first factor as a step of a login.
func (a *Authn) enrolFirst(w http.ResponseWriter, r *http.Request, v view, loginHash []byte, visitor *storage.Visitor) {
	var f Factor
	for _, kind := range a.factors {
		if enrols(kind) && !slices.Contains(v.without, kind.Kind()) {
			f = kind
			break
		}
	}
	e, ok := f.(Enroller)
	switch {
	case ok:
		n := enrolling{journey: v.journey, action: enrolPath + "/" + e.Kind(), next: v.next(), FactorRequest: a.request(e, loginHash, visitor)}
		if e == a.firstEnroller() {
			n.action = enrolPath
		}
		a.enrolPage(w, r, e, n, v)
	case f != nil:
		a.goOn(w, r, v.link(enrolPath+"/"+f.Kind()))
	default: // nothing here does for what is asked
		a.shown(r, a.pages.SecondFactor(w, http.StatusForbidden, web.SecondFactor{Client: v.client}))
	}
}

// enrolling is the enrolment of one factor.
type enrolling struct {
	FactorRequest
	journey journey
	added   bool   // from the customer's own pages
	action  string // the page's address
	next    string // where it ends
}

// enrolling finds whose enrolment of a kind a request belongs to. If it returns nil, it has answered.
func (a *Authn) enrolling(w http.ResponseWriter, r *http.Request, f Factor, form url.Values, added bool) *enrolling {
	n := &enrolling{added: added, action: r.URL.Path, next: factorListPath}
	if added && a.kind(f.Kind()) == nil {
		a.goOn(w, r, addPath)
		return nil
	}
	if added {
		visitor, ok := a.Guard(w, r, ChangeFactors, n.action)
		if !ok {
			return nil
		}
		n.FactorRequest = a.request(f, a.LoginHash(r), visitor)
		if len(n.Factors) > 0 && f.Kind() != storage.Passkey { // there is one of a kind
			a.goOn(w, r, factorListPath)
			return nil
		}
		return n
	}
	j, err := readJourney(form)
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest)
		return nil
	}
	if a.kind(f.Kind()) == nil {
		a.goOn(w, r, j.link(enrolPath))
		return nil
	}
	hash, visitor := a.visitor(w, r, j)
	if visitor == nil {
		return nil
	}
	if len(visitor.Confirmed()) > 0 { // it is not replaced, nor is another added: then the password alone would do
		a.goOn(w, r, j.next())
		return nil
	}
	n.journey, n.next, n.FactorRequest = j, j.next(), a.request(f, hash, visitor)
	return n
}

// showEnrol answers GET /login/enrol, /login/enrol/KIND and /self/factors/add/KIND.
func (a *Authn) showEnrol(w http.ResponseWriter, r *http.Request, e Enroller, added bool) {
	if n := a.enrolling(w, r, e, r.URL.Query(), added); n != nil {
		a.enrolPage(w, r, e, *n, view{journey: n.journey, client: a.client(r.Context(), n.journey), status: http.StatusOK})
	}
}

// enrol answers POST to the same addresses.
func (a *Authn) enrol(w http.ResponseWriter, r *http.Request, e Enroller, added bool) {
	form, j, ok := a.readFactorForm(w, r)
	if !ok {
		return
	}
	n := a.enrolling(w, r, e, form, added)
	if n == nil {
		return
	}
	if begun := n.Visitor.Begun(e.Kind()); begun != nil {
		n.Factors = []*storage.SecondFactor{begun}
	}
	var err error
	switch {
	case form.Has(fieldBegin):
		if err = a.beginFactor(r, e, n, form); err == nil {
			a.goOn(w, r, n.journey.link(n.action))
			return
		}
	case len(n.Factors) == 0: // another login has begun anew
		err = ErrWrongCode
	default:
		var shown Shown
		if shown, err = e.Confirm(r.Context(), n.FactorRequest, form); err == nil {
			a.enrolled(w, r, n, e.Kind(), shown)
			return
		}
	}
	v := a.again(r, j, http.StatusOK, "")
	switch {
	case errors.Is(err, storage.ErrConflict): // confirmed meanwhile
		a.goOn(w, r, n.next)
	case a.says(&v, err):
		a.enrolPage(w, r, e, *n, v)
	default:
		a.fail(w, r, err)
	}
}

// beginFactor begins an enrolment, and puts it into n if the customer has nothing to say before.
func (a *Authn) beginFactor(r *http.Request, e Enroller, n *enrolling, form url.Values) error {
	secret, err := e.Begin(r.Context(), n.FactorRequest, form)
	if err != nil || secret == nil {
		return err
	}
	f, err := a.db.BeginFactor(r.Context(), n.Visitor.CustomerID, n.Login, e.Kind(), secret)
	if err != nil {
		return err
	}
	n.Factors = []*storage.SecondFactor{f}
	a.log.Info("login.enrolment_begun", zap.Stringer("customer", n.Visitor.CustomerID), zap.String("factor", e.Kind()))
	return nil
}

// enrolPage shows what this login has begun with, or begins.
func (a *Authn) enrolPage(w http.ResponseWriter, r *http.Request, e Enroller, n enrolling, v view) {
	n.Factors = nil
	if begun := n.Visitor.Begun(e.Kind()); begun != nil {
		n.Factors = []*storage.SecondFactor{begun}
	} else if err := a.beginFactor(r, e, &n, nil); err != nil {
		if errors.Is(err, storage.ErrConflict) { // confirmed meanwhile
			a.goOn(w, r, n.next)
			return
		}
		a.fail(w, r, err)
		return
	}
	frame := web.EnrolFrame{Action: n.action, Hidden: v.hidden(web.Field{Name: fieldKind, Value: e.Kind()}), Client: v.client, Problem: v.problem}
	if !n.added {
		for _, f := range a.factors {
			if enrols(f) && f.Kind() != e.Kind() && !slices.Contains(v.without, f.Kind()) {
				frame.Others = append(frame.Others, web.Way{Text: f.Label(a.pages.Text), URL: v.link(enrolPath + "/" + f.Kind())})
			}
		}
	}
	if err := e.EnrolPage(w, v.status, n.FactorRequest, frame); err != nil {
		a.shown(r, err)
	}
}

// enrolled confirms a factor by what was shown, and completes the login with it. A customer who has no recovery codes gets them
// now, before going on.
func (a *Authn) enrolled(w http.ResponseWriter, r *http.Request, n *enrolling, kind string, shown Shown) {
	err := a.complete(w, r, n.FactorRequest, kind, shown)
	if errors.Is(err, storage.ErrNotFound) { // the login has ended or was locked meanwhile: it is asked for again
		a.goOn(w, r, n.next)
		return
	}
	var added storage.Event
	if err == nil {
		added, err = a.factorAdded(r, n.Visitor, kind)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.log.Info(eventFactorAdded, zap.Stringer("customer", n.Visitor.CustomerID), zap.String("factor", kind))
	has := slices.ContainsFunc(n.Visitor.Confirmed(), func(f *storage.SecondFactor) bool { return f.Kind == storage.RecoveryCodes })
	var codes []string
	if has || a.kind(storage.RecoveryCodes) == nil {
		err = a.db.AddEvent(r.Context(), added)
	} else {
		codes, err = a.makeRecoveryCodes(r, n.Visitor, added)
	}
	switch {
	case err != nil:
		a.fail(w, r, err)
	case codes == nil:
		a.goOn(w, r, n.next)
	default:
		a.shown(r, a.pages.RecoveryCodes(w, http.StatusOK, web.RecoveryCodes{Codes: codes, Client: a.client(r.Context(), n.journey), NextURL: n.next}))
	}
}

// factorAdded is what is remembered of a new factor, and what the customer is told: it may be somebody else's.
func (a *Authn) factorAdded(r *http.Request, v *storage.Visitor, kind string) (storage.Event, error) {
	profile, err := v.Customer.Profile()
	return storage.Event{
		CustomerID: v.CustomerID, Kind: eventFactorAdded, Visit: visitOf(r), Details: map[string]any{"factor": kind},
		Notice: a.notice(profile, "factor_added", "kind", a.factorKind(kind)),
	}, err
}

// showAdd answers GET /self/factors/add: which kind?
func (a *Authn) showAdd(w http.ResponseWriter, r *http.Request) {
	visitor, ok := a.Guard(w, r, ChangeFactors, addPath)
	if !ok {
		return
	}
	page := web.AddFactor{Back: factorListPath}
	for _, f := range a.factors {
		if q := a.request(f, nil, visitor); enrols(f) && (len(q.Factors) == 0 || f.Kind() == storage.Passkey) {
			page.Ways = append(page.Ways, web.Way{Text: f.Label(a.pages.Text), URL: addPath + "/" + f.Kind()})
		}
	}
	a.shown(r, a.pages.AddFactor(w, http.StatusOK, page))
}
