package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"html/template"
	"image/png"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/pquerna/otp"
)

// tppPages is the sample app as a customer sees it: a button, a trip to the bank, and the accounts.
type tppPages struct {
	tpp   *tpp
	phone *phone

	mu     sync.Mutex
	visits map[string]*visit // by cookie
}

// visit is what the app knows of one browser.
type visit struct {
	mu        sync.Mutex // one request at a time
	pending   *pending
	consentID string
	access    string
	refresh   string
}

const (
	visitCookie = "__Host-acorn"
	maxVisits   = 1000 // a demo forgets, rather than grow
)

func newTPPPages(t *tpp, p *phone) http.Handler {
	a := &tppPages{tpp: t, phone: p, visits: map[string]*visit{}}
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", a.home)
	m.HandleFunc("POST /connect", a.connect)
	m.HandleFunc("GET /callback", a.answer)
	m.HandleFunc("POST /disconnect", a.disconnect)
	m.HandleFunc("GET /phone", a.showPhone)
	m.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		w.Write([]byte(tppStyle))
	})
	return http.NewCrossOriginProtection().Handler(m)
}

// visit finds what is known of the browser, or begins anew with a new cookie.
func (a *tppPages) visit(w http.ResponseWriter, r *http.Request) *visit {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, err := r.Cookie(visitCookie); err == nil && a.visits[c.Value] != nil {
		return a.visits[c.Value]
	}
	if len(a.visits) >= maxVisits {
		clear(a.visits)
	}
	v, id := &visit{}, rand.Text()
	a.visits[id] = v
	http.SetCookie(w, &http.Cookie{Name: visitCookie, Value: id, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	return v
}

// home shows the button or, once connected, the accounts.
func (a *tppPages) home(w http.ResponseWriter, r *http.Request) {
	v := a.visit(w, r)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.access == "" {
		a.show(w, http.StatusOK, "app_home", "See where your money goes", nil)
		return
	}
	accounts, err := a.accounts(r.Context(), v)
	if errors.Is(err, errEnded) {
		v.access, v.refresh = "", ""
		a.show(w, http.StatusOK, "app_ended", "The connection has ended", nil)
		return
	}
	if err != nil {
		a.problem(w, err)
		return
	}
	a.show(w, http.StatusOK, "app_accounts", "Your accounts", accounts)
}

// connect sends the customer to the bank.
func (a *tppPages) connect(w http.ResponseWriter, r *http.Request) {
	v := a.visit(w, r)
	v.mu.Lock()
	defer v.mu.Unlock()
	p, err := a.begin(r.Context())
	if err != nil {
		a.problem(w, err)
		return
	}
	v.pending = p
	http.Redirect(w, r, a.tpp.authorizeURL(p), http.StatusSeeOther)
}

// begin is all that happens before the customer is asked: a token of the app's own, the consent, the pushed request.
func (a *tppPages) begin(ctx context.Context) (*pending, error) {
	own, err := a.tpp.ownToken(ctx)
	if err == nil {
		err = own.want(http.StatusOK, "")
	}
	if err != nil {
		return nil, err
	}
	created, err := a.tpp.createConsent(ctx, own.text("access_token"))
	if err == nil {
		err = created.want(http.StatusCreated, "")
	}
	if err != nil {
		return nil, err
	}
	p, pushed, err := a.tpp.push(ctx, created.text("Data.ConsentId"), false)
	if err == nil {
		err = pushed.want(http.StatusCreated, "")
	}
	return p, err
}

// answer is the redirect_uri: the customer comes back from the bank.
func (a *tppPages) answer(w http.ResponseWriter, r *http.Request) {
	v := a.visit(w, r)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.pending == nil { // reloaded, or not from here
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	p := v.pending
	v.pending = nil // a code is tried once
	code, err := a.tpp.readCallback(p, r.URL.Query())
	if err != nil {
		if r.URL.Query().Get("error") == "access_denied" && r.URL.Query().Get("state") == p.state {
			a.show(w, http.StatusOK, "app_refused", "Nothing was connected", nil)
			return
		}
		a.problem(w, err)
		return
	}
	tokens, err := a.tpp.redeem(r.Context(), code, p.verifier)
	if err == nil {
		err = tokens.want(http.StatusOK, "")
	}
	if err == nil {
		_, err = a.tpp.idToken(r.Context(), tokens.text("id_token"), p)
	}
	if err != nil {
		a.problem(w, err)
		return
	}
	v.consentID, v.access, v.refresh = p.consentID, tokens.text("access_token"), tokens.text("refresh_token")
	http.Redirect(w, r, "/", http.StatusSeeOther) // the code leaves the address bar
}

// disconnect gives the consent back (UK Open Banking 3.1, DELETE).
func (a *tppPages) disconnect(w http.ResponseWriter, r *http.Request) {
	v := a.visit(w, r)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.access != "" {
		own, err := a.tpp.ownToken(r.Context())
		if err == nil {
			_, err = a.tpp.deleteConsent(r.Context(), own.text("access_token"), v.consentID)
		}
		if err != nil {
			a.problem(w, err)
			return
		}
	}
	v.access, v.refresh = "", ""
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// errEnded is returned when the bank takes neither of the tokens any more.
var errEnded = errors.New("the bank has ended the connection")

// fetch calls the bank's API, with a new access token if the old one does not do any more.
func (a *tppPages) fetch(ctx context.Context, v *visit, path string) (*exchange, error) {
	ex, err := a.tpp.get(ctx, path, v.access)
	if err != nil || ex.status != http.StatusUnauthorized {
		return ex, err
	}
	tokens, err := a.tpp.refresh(ctx, v.refresh)
	if err != nil {
		return nil, err
	}
	if tokens.status != http.StatusOK {
		return nil, errEnded
	}
	v.access = tokens.text("access_token")
	ex, err = a.tpp.get(ctx, path, v.access)
	if err == nil && ex.status == http.StatusUnauthorized {
		err = errEnded
	}
	return ex, err
}

// shownAccount is an account on the page.
type shownAccount struct {
	Name, Number, Balance, Currency string
	Entries                         []shownEntry
}

type shownEntry struct {
	Day, Text, Amount string
	Out               bool
}

func (a *tppPages) accounts(ctx context.Context, v *visit) ([]shownAccount, error) {
	var list struct {
		Data struct{ Account []bankAccount }
	}
	if err := a.read(ctx, v, "/accounts", &list); err != nil {
		return nil, err
	}
	var shown []shownAccount
	for _, account := range list.Data.Account {
		s := shownAccount{Name: account.Nickname, Number: account.Identification, Currency: account.Currency}
		var balances struct {
			Data struct{ Balance []bankBalance }
		}
		if err := a.read(ctx, v, "/accounts/"+url.PathEscape(account.AccountID)+"/balances", &balances); err != nil {
			return nil, err
		}
		for _, b := range balances.Data.Balance {
			s.Balance = signed(b.CreditDebitIndicator, b.Amount.Amount)
		}
		var entries struct {
			Data struct{ Transaction []bankTransaction }
		}
		if err := a.read(ctx, v, "/accounts/"+url.PathEscape(account.AccountID)+"/transactions", &entries); err != nil {
			return nil, err
		}
		for _, e := range entries.Data.Transaction {
			out := e.CreditDebitIndicator == "Debit"
			s.Entries = append(s.Entries, shownEntry{e.BookingDateTime.Format("2 Jan"), e.TransactionInformation, signed(e.CreditDebitIndicator, e.Amount.Amount), out})
		}
		shown = append(shown, s)
	}
	return shown, nil
}

func (a *tppPages) read(ctx context.Context, v *visit, path string, into any) error {
	ex, err := a.fetch(ctx, v, path)
	if err == nil {
		err = ex.want(http.StatusOK, "")
	}
	if err != nil {
		return err
	}
	return ex.decode(into)
}

// signed writes an amount with its sign and with gaps between thousands.
func signed(indicator, amount string) string {
	grouped := []byte(amount)
	for i := len(amount) - len(".00") - 3; i > 0; i -= 3 {
		grouped = append(grouped[:i], append([]byte(","), grouped[i:]...)...)
	}
	if indicator == "Debit" {
		return "−" + string(grouped)
	}
	return string(grouped)
}

// shownPhone is the customer's phone on a page, for those who have no authenticator app at hand.
type shownPhone struct {
	Username, Password, Code, Secret string
	Seconds                          int
	URI                              template.URL
	QR                               template.URL
}

func (a *tppPages) showPhone(w http.ResponseWriter, _ *http.Request) {
	if !a.phone.enrolled() {
		a.show(w, http.StatusOK, "app_waiting", "The phone is not set up yet", nil)
		return
	}
	code, left := a.phone.screen(time.Now())
	uri := a.phone.uri(bankName)
	page := shownPhone{Username: a.phone.username, Password: a.phone.password, Code: code, Seconds: int(left.Seconds()), URI: template.URL(uri)}
	if key, err := otp.NewKeyFromURL(uri); err == nil {
		page.Secret = key.Secret()
		if image, err := key.Image(232, 232); err == nil {
			var b bytes.Buffer
			if png.Encode(&b, image) == nil {
				page.QR = template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes()))
			}
		}
	}
	a.show(w, http.StatusOK, "app_phone", "Alice’s phone", page)
}

func (a *tppPages) problem(w http.ResponseWriter, err error) {
	a.show(w, http.StatusBadGateway, "app_problem", "That did not work", err.Error())
}

// show renders a page. id names its template and its main element.
func (a *tppPages) show(w http.ResponseWriter, status int, id, title string, content any) {
	var b bytes.Buffer
	err := tppTemplates.ExecuteTemplate(&b, "layout", map[string]any{"ID": id, "Title": title, "App": a.tpp.name, "Bank": bankName, "Manage": a.tpp.issuer + "/consents", "V": content})
	if err != nil {
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src data:; form-action 'self' https:; frame-ancestors 'none'; base-uri 'none'")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}
