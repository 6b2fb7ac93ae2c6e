package consent

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

const (
	maxTransactionForm      = 32 << 10 // a passkey's answer is the longest
	transactionPasswordPage = "/self/transaction-password"
	factorsPage             = "/self/factors"
)

// MountPages adds the pages, which [web.Pages.Protect] must surround.
func (x *Transactions) MountPages(r *mux.Router) {
	r.Handle(TransactionsPath, x.page(map[string]http.HandlerFunc{http.MethodGet: x.list}, "GET, HEAD"))
	r.Handle(transactionPagePath, x.page(map[string]http.HandlerFunc{http.MethodGet: x.show, http.MethodPost: x.decide}, "GET, HEAD, POST"))
}

func (x *Transactions) page(methods map[string]http.HandlerFunc, allow string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if serve, ok := methods[method]; ok {
			serve(w, r)
			return
		}
		w.Header().Set("Allow", allow)
		x.told(r, x.o.Pages.Error(w, http.StatusMethodNotAllowed, web.Error{Code: "invalid_request"}))
	})
}

// list answers GET /transactions. Two round trips.
func (x *Transactions) list(w http.ResponseWriter, r *http.Request) {
	v, ok := x.o.Authoriser.Guard(w, r, authn.ApprovePayment, TransactionsPath)
	if !ok {
		return
	}
	waiting, started, err := x.o.DB.ListTransactions(r.Context(), v.CustomerID)
	if err != nil {
		x.fail(w, r, err)
		return
	}
	page := web.Transactions{Customer: nameOf(&v.Customer), SignOutAction: x.o.SignOutAction}
	if x.o.Authoriser.WantsTransactionPassword() {
		page.PasswordURL = transactionPasswordPage
	}
	for i := range waiting {
		page.Waiting = append(page.Waiting, x.row(&waiting[i], waiting[i].StartedBy != v.CustomerID))
	}
	for i := range started {
		if waits := func(w storage.Transaction) bool { return w.ID == started[i].ID }; !slices.ContainsFunc(waiting, waits) {
			page.Started = append(page.Started, x.row(&started[i], false))
		}
	}
	x.told(r, x.o.Pages.Transactions(w, page))
}

func (x *Transactions) row(t *storage.Transaction, byWhom bool) web.TransactionRow {
	row := web.TransactionRow{
		URL: TransactionsPath + "/" + t.ID.String(), Kind: x.kind(t.Details.Type), Amount: shownAmount(t.Details), Payee: t.Details.PayeeName,
		Organization: t.Organization, Required: t.Required, Received: t.Received,
	}
	if byWhom {
		row.Starter = nameOf(t.Starter)
	}
	row.State, row.Until = x.state(t)
	return row
}

// state says what became of a transaction; one that waits has no state, but a time until which it does.
func (x *Transactions) state(t *storage.Transaction) (string, *time.Time) {
	if t.Status == storage.AwaitingApproval {
		until := t.ExpiresAt.In(x.o.Zone)
		return "", &until
	}
	return x.o.Pages.Text("transaction.state." + t.Status), nil
}

func (x *Transactions) kind(name string) string {
	key := "transaction.kind." + name
	if text := x.o.Pages.Text(key); text != key {
		return text
	}
	return x.o.Pages.Text("transaction.kind", "type", name)
}

// nameOf is a person's name as colleagues know it.
func nameOf(c *storage.Customer) string {
	if c == nil {
		return ""
	}
	profile, err := c.Profile()
	switch {
	case err != nil:
		return ""
	case profile.Name != "":
		return profile.Name
	}
	return profile.Username
}

// visit is a customer in front of a transaction.
type visit struct {
	*storage.Visitor
	*storage.TransactionView
	factors []authn.TransactionFactor // by which they can approve it
	sent    string                    // the factor to which a code was sent
	status  int
	problem string
	notice  string // text of the catalogue, "" for none
}

func (v *visit) path() string { return TransactionsPath + "/" + v.ID.String() }

// open finds out who is in front of what. If that is nothing, it has answered. Two round trips.
func (x *Transactions) open(w http.ResponseWriter, r *http.Request) *visit {
	id := mux.Vars(r)["id"]
	if !isUUID(id) {
		x.unknown(w, r)
		return nil
	}
	visitor, ok := x.o.Authoriser.Guard(w, r, authn.ApprovePayment, TransactionsPath+"/"+id)
	if !ok {
		return nil
	}
	view, err := x.o.DB.ViewTransaction(r.Context(), uuid.MustParse(id), visitor.CustomerID)
	if errors.Is(err, storage.ErrNotFound) {
		x.unknown(w, r)
		return nil
	}
	if err == nil {
		err = intact(view.Transaction)
	}
	if err != nil {
		x.fail(w, r, err)
		return nil
	}
	v := &visit{Visitor: visitor, TransactionView: view, status: http.StatusOK}
	if v.Standing != storage.May {
		return v
	}
	rule := x.o.Authoriser.TransactionRule(v.Details.Amount, v.Details.Currency)
	if x.o.Authoriser.Meets(&visitor.Login, rule) != nil {
		if _, ok := x.o.Authoriser.GuardBy(w, r, rule, v.path()); !ok {
			return nil
		}
	}
	if v.factors, err = x.o.Authoriser.TransactionFactors(visitor, rule); err != nil {
		x.fail(w, r, err)
		return nil
	}
	return v
}

// pageNotices are what the page says after a form of its own, by the query that this leads to.
var pageNotices = map[string]string{
	"approved": "transaction.notice.approved", "rejected": "transaction.notice.rejected", "changed": "transaction.notice.changed",
}

// show answers GET /transactions/{id}.
func (x *Transactions) show(w http.ResponseWriter, r *http.Request) {
	v := x.open(w, r)
	if v == nil {
		return
	}
	if v.Status == storage.AwaitingApproval { // else its state says it
		v.notice = pageNotices[r.URL.RawQuery]
	}
	v.sent = r.URL.Query().Get("sent")
	x.render(w, r, v)
}

func (x *Transactions) render(w http.ResponseWriter, r *http.Request, v *visit) {
	d := &v.Details
	page := web.Transaction{
		Customer: nameOf(&v.Customer), Action: v.path(), Hidden: []web.Field{{Name: "digest", Value: base64.RawURLEncoding.EncodeToString(v.Digest)}},
		Kind: x.kind(d.Type), Amount: shownAmount(*d), Payee: d.PayeeName, PayeeAccount: d.PayeeAccount, FromAccount: d.FromAccount, Reference: d.Reference,
		Organization: v.Organization, Starter: nameOf(v.Starter), Client: x.o.ClientName(v.ClientID), Required: v.Required, Received: v.Received,
		Good: v.Status == storage.ApprovedTransaction || v.Status == storage.ConsumedTransaction, ListURL: TransactionsPath, SignOutAction: x.o.SignOutAction,
		Rejectable: v.Status == storage.AwaitingApproval && (v.Standing != storage.NotApprover || v.StartedBy == v.CustomerID),
	}
	page.State, page.Until = x.state(v.Transaction)
	for i := range v.Decisions {
		page.Steps = append(page.Steps, x.step(&v.Decisions[i]))
	}
	if page.Problem = v.problem; v.notice != "" {
		page.Notice = x.o.Pages.Text(v.notice)
	}
	if v.Standing != storage.May {
		if v.Standing != storage.IsOver {
			page.Why = x.o.Pages.Text("transaction.why."+string(v.Standing), "organization", v.Organization)
		}
	} else if err := x.offer(r, v, &page); err != nil {
		x.fail(w, r, err)
		return
	}
	x.told(r, x.o.Pages.Transaction(w, v.status, page))
}

func (x *Transactions) step(d *storage.TransactionDecision) web.TransactionStep {
	step := web.TransactionStep{Who: nameOf(d.Customer), What: x.o.Pages.Text("transaction.step." + d.Answer), Reason: d.Reason, At: d.At.In(x.o.Zone)}
	if step.Who == "" {
		step.Who = x.o.Pages.Text("transaction.somebody")
	}
	if d.Answer == storage.ApprovedTransaction && !d.Counts {
		step.What, step.Void = x.o.Pages.Text("transaction.step.void"), true
	}
	return step
}

// offer puts on the page how the customer can approve.
func (x *Transactions) offer(r *http.Request, v *visit, page *web.Transaction) error {
	if page.Password = x.o.Authoriser.WantsTransactionPassword(); page.Password && !v.HasPassword {
		page.NoPassword = transactionPasswordPage
		return nil
	}
	for _, f := range v.factors {
		if f.Kind == storage.Passkey {
			continue
		}
		way := web.TransactionWay{ID: f.ID.String(), Text: x.o.Pages.Text("transaction.way."+f.Kind, "masked", f.To.Masked()), Sends: f.Sends()}
		if way.ID == v.sent {
			page.Sent = &way
		}
		page.Ways = append(page.Ways, way)
	}
	options, state, err := x.o.Authoriser.BeginPasskey(r.Context(), x.allowed(v), storage.TransactionPurpose, v.Digest)
	switch {
	case err == nil:
		page.Passkey = &web.FactorPart{
			Script: web.PasskeyScript(), Options: string(options), NoScript: x.o.Pages.Text("transaction.passkey.no_script"),
			Inputs: []web.Input{{Name: "state", Value: state}, {Name: "response"}},
		}
	case !errors.Is(err, authn.ErrNoPasskey):
		return err
	}
	if page.Passkey == nil && len(page.Ways) == 0 {
		page.AddURL = factorsPage
	}
	return nil
}

// allowed is the visitor with the factors alone that do for this transaction.
func (x *Transactions) allowed(v *visit) *storage.Visitor {
	visitor := *v.Visitor
	visitor.Factors = nil
	for _, f := range v.factors {
		visitor.Factors = append(visitor.Factors, *f.SecondFactor)
	}
	return &visitor
}

// decide answers POST /transactions/{id}.
func (x *Transactions) decide(w http.ResponseWriter, r *http.Request) {
	form, ok := x.readForm(w, r)
	if !ok {
		return
	}
	v := x.open(w, r)
	if v == nil {
		return
	}
	digest, err := base64.RawURLEncoding.DecodeString(form.Get("digest"))
	if err != nil || !bytes.Equal(digest, v.Digest) {
		x.seeOther(w, r, v.path()+"?changed")
		return
	}
	if form.Get("do") == "reject" {
		reason := web.Tidy(form.Get("reason"), longestReference)
		x.decided(w, r, v, "rejected", x.o.DB.RejectTransaction(r.Context(), x.decision(r, v), reason))
		return
	}
	if v.Standing != storage.May {
		x.seeOther(w, r, v.path())
		return
	}
	v.sent = form.Get("factor")
	switch form.Get("do") {
	case "send":
		x.send(w, r, v)
	case "approve", "passkey":
		proof, err := x.prove(r, v, form)
		if err == nil {
			_, err = x.o.DB.ApproveTransaction(r.Context(), x.decision(r, v), proof)
		}
		x.decided(w, r, v, "approved", err)
	default:
		x.told(r, x.o.Pages.Error(w, http.StatusBadRequest, web.Error{Code: "invalid_request"}))
	}
}

func (x *Transactions) decision(r *http.Request, v *visit) storage.TransactionDecided {
	return storage.TransactionDecided{ID: v.ID, Customer: v.CustomerID, Digest: v.Digest, Visit: x.o.Authoriser.Visit(r)}
}

// chosen is the factor that the form names, nil for none that does.
func (v *visit) chosen() *authn.TransactionFactor {
	for i := range v.factors {
		if f := &v.factors[i]; f.ID.String() == v.sent && f.Kind != storage.Passkey {
			return f
		}
	}
	return nil
}

// send sends a code in words that say what it approves (RTS art. 5(1)(a)).
func (x *Transactions) send(w http.ResponseWriter, r *http.Request, v *visit) {
	f := v.chosen()
	if f == nil {
		x.seeOther(w, r, v.path())
		return
	}
	if f.Sends() {
		err := x.o.Authoriser.SendTransactionCode(r.Context(), v.Visitor, *f, v.Digest, func(code string, lifetime time.Duration) (string, string) {
			return x.o.Pages.Text("transaction.code.subject"), x.o.Pages.Text("transaction.code.text", "code", code, "amount", shownAmount(v.Details),
				"payee", v.Details.PayeeName, "account", v.Details.PayeeAccount, "minutes", strconv.Itoa(int(lifetime.Minutes())))
		})
		if err != nil {
			x.decided(w, r, v, "", err)
			return
		}
	}
	x.seeOther(w, r, v.path()+"?"+url.Values{"sent": {f.ID.String()}}.Encode())
}

// prove checks what the customer shows. A wrong transaction password costs no code.
func (x *Transactions) prove(r *http.Request, v *visit, form url.Values) (storage.TransactionProof, error) {
	if x.o.Authoriser.WantsTransactionPassword() {
		if err := x.o.Authoriser.CheckTransactionPassword(r.Context(), v.CustomerID, form.Get("transaction_password")); err != nil {
			return nil, err
		}
	}
	if form.Get("do") == "passkey" {
		return x.o.Authoriser.CheckTransactionPasskey(r.Context(), x.allowed(v), v.Digest, form.Get("state"), []byte(form.Get("response")))
	}
	f := v.chosen()
	if f == nil {
		return nil, authn.ErrWrongCode
	}
	return x.o.Authoriser.CheckTransactionCode(r.Context(), v.Visitor, *f, v.Digest, form.Get("code"))
}

// wrongs are what a customer did wrong, and what the page says to it.
var wrongs = []struct {
	err    error
	status int
	text   string
}{
	{authn.ErrWrongCode, http.StatusForbidden, "problem.code"},
	{authn.ErrWrongTransactionPassword, http.StatusForbidden, "problem.transaction_password"},
	{authn.ErrTooManyCodes, http.StatusTooManyRequests, "problem.codes_many"},
	{authn.ErrNoChannel, http.StatusUnprocessableEntity, "problem.no_channel"},
	{authn.ErrPasskeyExpired, http.StatusUnprocessableEntity, "problem.passkey_expired"},
	{authn.ErrNoPasskey, http.StatusForbidden, "problem.passkey"},
	{authn.ErrPasskey, http.StatusForbidden, "problem.passkey"},
	{storage.ErrAlreadyUsed, http.StatusConflict, "problem.proof"},
}

// decided ends what a form did: the page again, at an address that may be loaded twice, or with what is wrong.
func (x *Transactions) decided(w http.ResponseWriter, r *http.Request, v *visit, done string, err error) {
	standing := storage.Standing("")
	switch {
	case err == nil:
		x.seeOther(w, r, v.path()+"?"+done)
		return
	case errors.Is(err, storage.IsChanged):
		x.seeOther(w, r, v.path()+"?changed")
		return
	case errors.As(err, &standing), errors.Is(err, storage.ErrForeign), errors.Is(err, storage.ErrNotFound): // the page says it
		x.seeOther(w, r, v.path())
		return
	}
	if wait, blocked := x.o.Authoriser.RetryAfter(w, err); blocked {
		v.status, v.problem = http.StatusTooManyRequests, wait
		x.render(w, r, v)
		return
	}
	for _, wrong := range wrongs {
		if errors.Is(err, wrong.err) {
			v.status, v.problem = wrong.status, x.o.Pages.Text(wrong.text)
			x.render(w, r, v)
			return
		}
	}
	x.fail(w, r, err)
}

// readForm reads a form that has no field twice. If it cannot, it has answered.
func (x *Transactions) readForm(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	r.Body = http.MaxBytesReader(w, r.Body, maxTransactionForm)
	err := r.ParseForm()
	for _, values := range r.PostForm {
		if len(values) != 1 || !utf8.ValidString(values[0]) {
			err = errors.New("a field is there twice, or no text")
		}
	}
	if err != nil {
		x.told(r, x.o.Pages.Error(w, http.StatusBadRequest, web.Error{Code: "invalid_request"}))
		return nil, false
	}
	return r.PostForm, true
}

func (x *Transactions) seeOther(w http.ResponseWriter, r *http.Request, to string) {
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// unknown answers for what there is not and for what is somebody else's, alike.
func (x *Transactions) unknown(w http.ResponseWriter, r *http.Request) {
	x.told(r, x.o.Pages.Error(w, http.StatusNotFound, web.Error{
		Title: x.o.Pages.Text("error.transaction"), Text: x.o.Pages.Text("error.transaction.do"), Code: "not_found",
	}))
}

func (x *Transactions) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		x.o.Failed(r, err)
	}
	x.told(r, x.o.Pages.Error(w, http.StatusInternalServerError, web.Error{
		Title: x.o.Pages.Text("error.server"), Text: x.o.Pages.Text("error.internal"), Code: "server_error",
	}))
}

// told reports that a page could not be shown.
func (x *Transactions) told(r *http.Request, err error) {
	if err != nil && r.Context().Err() == nil {
		x.o.Failed(r, err)
	}
}
