package authz

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// What the customer sees of CIBA requests. They are listed here, and decided where all requests are: at /authorize.

// forCustomer serves a page that belongs to a customer. Whoever is not logged in does that first, and comes to the list.
func (s *Server) forCustomer(serve func(http.ResponseWriter, *http.Request, *storage.Visitor)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := s.loggedIn(r)
		switch {
		case errors.Is(err, storage.ErrNotFound), errors.Is(err, fapi.LoginRequired):
			noStore(w.Header())
			http.Redirect(w, r, authn.LoginURL(approvalsPath), http.StatusSeeOther)
		case err != nil:
			s.errorPage(w, r, err)
		default:
			serve(w, r, v)
		}
	}
}

// listApprovals answers GET /approvals: what waits for the customer.
func (s *Server) listApprovals(w http.ResponseWriter, r *http.Request, v *storage.Visitor) {
	s.showApprovals(w, r, v, "")
}

// approvalNotices are what the page says after what its own forms did, by the query that they lead to.
var approvalNotices = map[string]string{
	"allowed": "approvals.notice.allowed", "coded": "approvals.notice.coded", "uncoded": "approvals.notice.uncoded", "silent": "approvals.notice.silent",
}

func (s *Server) showApprovals(w http.ResponseWriter, r *http.Request, v *storage.Visitor, problem string) {
	in, err := s.db.Inbox(r.Context(), v.CustomerID)
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	profile, err := v.Customer.Profile()
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	page := web.Approvals{
		Customer: profile.Name, SignOutAction: "/sign-out", AllowAction: allowPath, UserCodeAction: userCodePath, SilenceAction: silencePath,
		ConsentsURL: consent.CustomerPath, TransactionsURL: consent.TransactionsPath, Transactions: in.Transactions, HasUserCode: in.HasUserCode, Problem: problem,
		PushKey: s.pushPublicKey(), SubscriptionsURL: subscriptionsPath, WorkerURL: workerPath,
	}
	if page.Customer == "" {
		page.Customer = profile.Username
	}
	if key := approvalNotices[r.URL.RawQuery]; key != "" {
		page.Notice = s.pages.Text(key)
	}
	for i := range in.Waiting {
		if row, ok := s.waitingRow(&in.Waiting[i]); ok {
			page.Waiting = append(page.Waiting, row)
		}
	}
	for _, m := range in.Muted {
		page.Blocked = append(page.Blocked, web.Blocked{ID: m.ClientID, Client: s.clientName(m.ClientID), Until: s.local(m.Until)})
	}
	for _, hash := range in.Ringing {
		page.Ringing = append(page.Ringing, fmt.Sprintf("%x", hash))
	}
	status := http.StatusOK
	if problem != "" {
		status = http.StatusUnprocessableEntity
	}
	s.rendered(s.pages.Approvals(w, status, page))
}

// waitingRow is a request in few words. One whose client is gone cannot be decided.
func (s *Server) waitingRow(a *storage.Waiting) (row web.Waiting, ok bool) {
	c := s.clients.find(a.ClientID)
	if c == nil {
		return row, false
	}
	row = web.Waiting{Client: *s.onPages(c.Client), Waits: s.waits(a.CreatedAt, a.ExpiresAt), DecideURL: authorizeURL(a.ClientID, s.approvalURI(a.ID))}
	var q fapi.AuthorizationRequest
	if err := json.Unmarshal(a.Request, &q); err != nil {
		return row, true // the page that it leads to says so
	}
	row.BindingMessage = q.BindingMessage
	asked, err := s.consents.Describe(consent.Asked{Client: row.Client, Scopes: a.Scopes, Details: q.AuthorizationDetails, Consent: a.Consent})
	if err == nil {
		row.Items, row.Details = asked.Items, asked.Details
	}
	return row, true
}

// waits is how long a request still waits, of how long it did at first.
func (s *Server) waits(since, until time.Time) web.Waits {
	return web.Waits{Left: max(until.Sub(s.now()), 0), Total: until.Sub(since)}
}

func (s *Server) local(t time.Time) time.Time {
	if s.Zone == nil {
		return t.UTC()
	}
	return t.In(s.Zone)
}

// onOtherDevice adds to a consent page what a request has that began on another device.
func (s *Server) onOtherDevice(page *web.Consent, j *journey) {
	waits := s.waits(j.CreatedAt, j.ExpiresAt)
	page.SwitchURL = "" // nobody else can decide it
	page.BindingMessage, page.Waits, page.Reportable, page.ListURL = j.request.BindingMessage, &waits, true, approvalsPath
	if j.request.Number != "" {
		page.Numbers = s.choices(j.ID, j.request.Number)
	}
}

const howManyChoices = 3

// choices are the numbers that a customer picks from: the one that the client shows and others, in ascending order. They are
// the same however often the page is shown: what stays would else be the right one.
func (s *Server) choices(id uuid.UUID, number string) []string {
	mac := hmac.New(sha256.New, s.pageKey)
	mac.Write([]byte("numbers"))
	mac.Write(id[:])
	r := rand.New(rand.NewChaCha8([32]byte(mac.Sum(nil))))
	all := []string{number}
	for len(all) < howManyChoices {
		if other := fmt.Sprint(10 + r.IntN(90)); !slices.Contains(all, other) {
			all = append(all, other)
		}
	}
	slices.Sort(all)
	return all
}

// numberProof is in the page, and tells whether a number is right without telling which one is. It is part of what pageProof
// proves, so neither can it be left out, nor taken from another request or login.
func (s *Server) numberProof(loginHash []byte, uri, number string) string {
	mac := hmac.New(sha256.New, s.pageKey)
	mac.Write([]byte("number"))
	mac.Write(loginHash)
	mac.Write(requestURIHash(uri))
	mac.Write([]byte(number))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// approvalOutcome names the texts of the page that follows a decision. refused is nil for a yes.
func approvalOutcome(refused error) string {
	switch {
	case refused == nil:
		return "approval.done"
	case errors.Is(refused, errWrongNumber):
		return "approval.number"
	case errors.Is(refused, errReported):
		return "approval.reported"
	}
	return "approval.denied"
}

// allowAgain answers POST /approvals/allow.
func (s *Server) allowAgain(w http.ResponseWriter, r *http.Request, v *storage.Visitor) {
	form, err := readForm(w, r)
	if err == nil {
		err = fapi.CheckParameters(form)
	}
	if err == nil {
		err = s.db.Unmute(r.Context(), v.CustomerID, form.Get("client_id"))
	}
	s.backToList(w, r, "allowed", err)
}

// backToList ends what a form of the list did.
func (s *Server) backToList(w http.ResponseWriter, r *http.Request, done string, err error) {
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	noStore(w.Header())
	http.Redirect(w, r, approvalsPath+"?"+done, http.StatusSeeOther)
}

var userCodeForm = regexp.MustCompile(`^[0-9A-Za-z]{4,12}$`)

// setUserCode answers POST /approvals/user-code: the customer sets, changes or removes the code by which they prove to a
// device that it is they who ask (CIBA Core §7.1). Whoever has a second factor must have shown it.
func (s *Server) setUserCode(w http.ResponseWriter, r *http.Request, v *storage.Visitor) {
	form, err := readForm(w, r)
	if err == nil {
		err = fapi.CheckParameters(form)
	}
	code, done := form.Get("user_code"), "coded"
	if form.Get("do") == "remove" {
		code, done = "", "uncoded"
	}
	switch {
	case err != nil:
		s.errorPage(w, r, err)
	case v.Confirmed() != nil && !s.authn.Satisfies(&v.Login, nil, authn.SCA):
		s.authn.Ask(w, r, authn.Prompt{Login: &v.Login, ACR: authn.SCA, Hidden: authn.ToPage(approvalsPath)})
	case done == "coded" && !userCodeForm.MatchString(code):
		s.showApprovals(w, r, v, s.pages.Text("problem.own_code"))
	default:
		s.backToList(w, r, done, s.db.SetUserCode(r.Context(), v.CustomerID, code))
	}
}
