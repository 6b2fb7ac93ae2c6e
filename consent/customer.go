package consent

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

const maxForm = 4 << 10

// page asks for a login before a page is served.
func (c *Consents) page(method string, serve func(http.ResponseWriter, *http.Request, *storage.Customer)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method && !(method == http.MethodGet && r.Method == http.MethodHead) {
			w.Header().Set("Allow", strings.Replace(method, http.MethodGet, "GET, HEAD", 1))
			c.explain(w, r, http.StatusMethodNotAllowed, web.Error{Title: c.text("error.method"), Code: "invalid_request"})
			return
		}
		customer, login, err := c.o.Visitor(r)
		switch {
		case errors.Is(err, storage.ErrNotFound), errors.Is(err, fapi.LoginRequired), err == nil && (customer == nil || login == nil || login.ACR == ""):
			w.Header().Set("Cache-Control", "no-store")
			http.Redirect(w, r, c.o.LoginURL, http.StatusSeeOther)
		case err != nil:
			c.fail(w, r, err)
		default:
			serve(w, r, customer)
		}
	})
}

// list answers GET /consents: what each client may do for the customer, and what has ended (D4).
func (c *Consents) list(w http.ResponseWriter, r *http.Request, customer *storage.Customer) {
	grants, accounts, err := c.o.DB.ListGrants(r.Context(), customer.ID)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	profile, err := customer.Profile()
	if err != nil {
		c.fail(w, r, err)
		return
	}
	page := web.Consents{Customer: profile.Name, Action: WithdrawPath, SignOutAction: c.o.SignOutAction, ApprovalsURL: c.o.ApprovalsURL}
	if page.Customer == "" {
		page.Customer = profile.Username
	}
	if r.URL.RawQuery == "withdrawn" {
		page.Notice = c.text("notice.withdrawn")
	}
	for i := range grants {
		row := c.granted(&grants[i], accounts)
		if row.Withdrawable {
			page.Active = append(page.Active, row)
		} else {
			page.Ended = append(page.Ended, row)
		}
	}
	c.told(r, c.o.Pages.Consents(w, http.StatusOK, page))
}

func (c *Consents) granted(g *storage.Grant, accounts []storage.Account) web.Granted {
	row := web.Granted{
		ID:           g.ID.String(),
		Client:       web.Client{Name: c.o.ClientName(g.ClientID)},
		Items:        c.items(g.Scopes, g.Consent),
		Since:        g.CreatedAt.In(c.zone),
		Withdrawable: g.EndedAt == nil,
	}
	items, lines := c.grantedDetails(g)
	row.Items, row.Details = append(row.Items, items...), lines
	for _, a := range pageAccounts(accounts, nil) {
		if slices.Contains(g.AccountIDs, a.ID) { // one that was closed removes only itself (A2-05)
			row.Accounts = append(row.Accounts, a)
		}
	}
	switch {
	case g.EndedAt != nil:
		row.Until, row.Status = c.local(g.EndedAt), c.text(ending(g))
	case g.Consent != nil:
		row.Until = c.local(g.Consent.ExpiresAt)
	}
	if g.EndedAt == nil {
		row.OpenURL = c.o.OpenURL(g.ClientID)
	}
	return row
}

// grantedDetails says which authorization_details are in a grant. They could be shown when they were approved; if that
// changed with their types, only the types are named: the customer must be able to withdraw.
func (c *Consents) grantedDetails(g *storage.Grant) ([]web.Item, []web.Detail) {
	var all []fapi.AuthorizationDetail
	for _, term := range g.Terms {
		var t fapi.Terms
		if term.Text != nil && json.Unmarshal(term.Text, &t) == nil {
			all = append(all, t.AuthorizationDetails...)
		}
	}
	all = fapi.Union(all)
	items, lines, err := c.details(all, g.Consent)
	if err == nil {
		return items, lines
	}
	items = nil
	for _, detail := range all {
		if item := c.typeItem(detail.Type); !slices.Contains(items, item) {
			items = append(items, item)
		}
	}
	return items, nil
}

// ending names what ended a grant.
func ending(g *storage.Grant) string {
	same := func(t *time.Time) bool { return t != nil && t.Equal(*g.EndedAt) }
	switch k := g.Consent; {
	case g.EndedByClient, k != nil && k.Status == storage.Revoked && same(&k.StatusChangedAt):
		return "status.deleted"
	case k != nil && same(k.ExpiresAt):
		return "status.expired"
	}
	return "status.withdrawn"
}

// withdraw answers POST /consents/withdraw. The list's form has asked for confirmation already.
func (c *Consents) withdraw(w http.ResponseWriter, r *http.Request, customer *storage.Customer) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" {
		c.incomplete(w, r, http.StatusUnsupportedMediaType)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		c.incomplete(w, r, status)
		return
	}
	sent := r.PostForm["consent"]
	if len(sent) != 1 || !isUUID(sent[0]) {
		c.incomplete(w, r, http.StatusBadRequest)
		return
	}
	switch _, err := c.o.DB.WithdrawGrant(r.Context(), customer.ID, uuid.MustParse(sent[0])); {
	case errors.Is(err, storage.ErrNotFound):
		c.explain(w, r, http.StatusNotFound, web.Error{Title: c.text("error.unknown"), Text: c.text("error.unknown.do"), Code: "invalid_request"})
	case err != nil:
		c.fail(w, r, err)
	default:
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, CustomerPath+"?withdrawn", http.StatusSeeOther)
	}
}

func (c *Consents) incomplete(w http.ResponseWriter, r *http.Request, status int) {
	c.explain(w, r, status, web.Error{Title: c.text("error.form"), Text: c.text("error.form.do"), Code: "invalid_request"})
}

func (c *Consents) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		c.o.Failed(r, err)
	}
	c.explain(w, r, http.StatusInternalServerError, web.Error{Title: c.o.Pages.Text("error.internal"), Text: c.text("error.internal.do"), Code: "server_error"})
}

func (c *Consents) explain(w http.ResponseWriter, r *http.Request, status int, page web.Error) {
	page.Reference = w.Header().Get(interactionHeader)
	c.told(r, c.o.Pages.Error(w, status, page))
}

// told reports a page that could not be written. The customer has been answered by then.
func (c *Consents) told(r *http.Request, err error) {
	if err != nil && r.Context().Err() == nil {
		c.o.Failed(r, err)
	}
}
