package consent

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// Describer says in a customer's words what a client asks for.
type Describer struct {
	types map[string]fapi.DetailType
	words Words
	zone  *time.Location
	date  func(time.Time) string
}

// NewDescriber takes the form of dates from the pages. types are those of authorization_details; words replaces single
// words of English, and of the types; zone nil is UTC.
func NewDescriber(pages *web.Pages, types map[string]fapi.DetailType, words Words, zone *time.Location) *Describer {
	if zone == nil {
		zone = time.UTC
	}
	return &Describer{types: types, words: words.over(English()), zone: zone, date: func(t time.Time) string {
		t = t.In(zone)
		return pages.Text("date", "day", strconv.Itoa(t.Day()), "month", pages.Text("month."+strconv.Itoa(int(t.Month()))), "year", strconv.Itoa(t.Year()))
	}}
}

// Asked is what a client asks of a customer in one request.
type Asked struct {
	Client   web.Client
	Scopes   []string
	Details  []fapi.AuthorizationDetail
	Consent  *storage.Consent // nil when the request names none
	Accounts []storage.Account
	Picked   []string // accounts to show as picked already

	Changes  *storage.Grant // what was granted before and is changed now; nil for nothing
	Replaces bool           // it makes way for what is asked now; else that is added to it
}

// NeedsAccounts tells whether the customer must pick accounts: always for account access, for other ways to ask for
// accounts if there are any.
func (d *Describer) NeedsAccounts(a Asked) bool {
	if a.Consent != nil && a.Consent.Type == storage.AccountAccess {
		return true
	}
	return len(a.Accounts) > 0 && (slices.Contains(a.Scopes, "accounts") || slices.Contains(a.Scopes, "read:accounts") ||
		slices.ContainsFunc(a.Details, func(detail fapi.AuthorizationDetail) bool { return d.types[detail.Type].Accounts != "" }))
}

// Describe fills what a consent page says about a request: Client, Items, Details, Until, History and Accounts. All else
// is the caller's. The error is a *fapi.Error: what cannot be shown must not be approved.
//
// The words come from the stored consent, not from the request (A3-10); what a client wrote itself, in
// authorization_details, is shown without invisible characters, and whole: what is too long for that is refused.
func (d *Describer) Describe(a Asked) (web.Consent, error) {
	page := web.Consent{Client: a.Client, Items: d.items(a.Scopes, a.Consent)}
	if k := a.Consent; k != nil {
		page.Until = d.local(k.ExpiresAt)
		page.History = d.history(k)
	}
	if g := a.Changes; g != nil {
		kind := "earlier.merge"
		if a.Replaces {
			kind = "earlier.replace"
		}
		page.Earlier = d.text(kind, "client", web.Tidy(a.Client.Name, longName), "date", d.date(g.UpdatedAt))
	}
	items, lines, err := d.details(a.Details, a.Consent)
	if err != nil {
		return web.Consent{}, err
	}
	if len(lines) > maxLines {
		return web.Consent{}, errUnshowable
	}
	page.Items, page.Details = append(page.Items, items...), lines
	if d.NeedsAccounts(a) {
		page.Accounts = pageAccounts(a.Accounts, a.Picked)
	}
	return page, nil
}

// items says what scopes and a consent allow. The scope that only carries the consent has nothing to add to it.
func (d *Describer) items(scopes []string, k *storage.Consent) []web.Item {
	var items []web.Item
	carrier := ""
	if k != nil {
		items = d.permissions(k.Permissions)
		carrier = consentScopes[k.Type]
	}
	for _, scope := range scopes {
		if scope == carrier {
			continue
		}
		item, known := d.words.Scopes[scope]
		if !known {
			item = web.Item{Title: d.text("scope", "scope", web.Tidy(scope, longName)), Text: d.text("scope.text")}
		}
		if !slices.Contains(items, item) { // accounts and read:accounts read the same
			items = append(items, item)
		}
	}
	return items
}

// history is how far back a consent reaches, "" when it reaches for nothing of the past.
func (d *Describer) history(k *storage.Consent) string {
	from, to := k.TransactionsFrom, k.TransactionsTo
	switch {
	case !looksBack(k.Permissions):
		return ""
	case from != nil && to != nil:
		return d.text("history.between", "from", d.date(*from), "to", d.date(*to))
	case from != nil:
		return d.text("history.from", "from", d.date(*from))
	case to != nil:
		return d.text("history.to", "to", d.date(*to))
	}
	return d.text("history.all")
}

func (d *Describer) local(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	in := t.In(d.zone)
	return &in
}

// text is one of the words' texts; values come in pairs, a placeholder's name and what stands for it.
func (d *Describer) text(key string, values ...string) string {
	pairs := make([]string, len(values))
	for i := 0; i+1 < len(values); i += 2 {
		pairs[i], pairs[i+1] = "{"+values[i]+"}", values[i+1]
	}
	return strings.NewReplacer(pairs...).Replace(d.words.Texts[key])
}

func pageAccounts(accounts []storage.Account, picked []string) []web.Account {
	shown := make([]web.Account, len(accounts))
	for i, a := range accounts {
		shown[i] = web.Account{
			ID:           a.ID,
			Name:         a.Name,
			MaskedNumber: mask(a.Number),
			Currency:     a.Currency,
			Checked:      slices.Contains(picked, a.ID),
		}
	}
	return shown
}

// mask leaves of an account number what its owner knows it by: the last four characters, fewer of a short one.
func mask(number string) string {
	if number == "" {
		return ""
	}
	runes := []rune(number)
	return "•••• " + string(runes[len(runes)-min(4, len(runes)/3):])
}

const (
	longName  = 100
	longValue = 500 // as much as a page shows
)
