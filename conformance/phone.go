package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// A phone is where a customer is asked what CIBA clients want of them. The suite calls it when it wants the request that it
// has just made decided; it opens the server's pages and presses the button, as the customer would. The suite names the
// auth_req_id, which no page shows: but each plan has a customer of its own, and one module at a time. Whatever else waits was
// left behind by a module before, and is decided too.

const phonePath = "/phones/"

// decideURL is what the suite calls; it fills in what is in braces.
func (s *setup) decideURL(c combination) string {
	return s.resource() + phonePath + url.PathEscape(c.customer()) + "?action={action}&auth_req_id={auth_req_id}"
}

// phones are those of all customers, by their user names.
type phones map[string]*phone

type phone struct {
	mu       sync.Mutex
	http     *http.Client // keeps the login
	inbox    string       // address of the page that lists what waits
	username string
	password string
}

func (s *setup) phones(p pages) (phones, error) {
	all := phones{}
	for _, c := range s.combinations() {
		if !c.phone {
			continue
		}
		jar, err := cookiejar.New(nil)
		if err != nil {
			return nil, err
		}
		client := s.client()
		client.Jar, client.Timeout = jar, pageLimit
		all[c.customer()] = &phone{http: client, inbox: p.approvals, username: c.customer(), password: p.password}
	}
	return all, nil
}

// decisions are the values of the consent page's buttons, by the suite's words.
var decisions = map[string]string{"allow": "approve", "deny": "deny"}

// decide answers the suite: an error fails the module.
func (all phones) decide(w http.ResponseWriter, r *http.Request) {
	phone, decision := all[r.PathValue("customer")], decisions[r.FormValue("action")]
	if phone == nil || decision == "" {
		http.Error(w, "no such customer or action", http.StatusBadRequest)
		return
	}
	if err := phone.decide(r.Context(), decision); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

const (
	pageLimit = 20 * time.Second
	maxPages  = 60 // some for the login, and three for each request that waits
)

// decide opens what waits and decides it.
func (p *phone) decide(ctx context.Context, decision string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	decided := 0
	page, err := p.open(ctx, http.MethodGet, p.inbox, nil)
	for range maxPages {
		if err != nil {
			return err
		}
		switch page.id() {
		case "login_page":
			page, err = p.submit(ctx, page, url.Values{"username": {p.username}, "password": {p.password}})
		case "approvals_page":
			link := page.find(decideLink)
			switch {
			case link != "":
				page, err = p.follow(ctx, page, link)
			case decided > 0:
				return nil
			default:
				return errors.New("nothing waits for the customer")
			}
		case "consent_page":
			page, err = p.submit(ctx, page, url.Values{"decision": {decision}, "account": page.accounts()})
		case "done_page":
			decided++
			page, err = p.open(ctx, http.MethodGet, p.inbox, nil)
		default:
			return fmt.Errorf("the phone shows the page %q: %s", page.id(), page.problem())
		}
	}
	return errors.New("the phone was sent round in circles")
}

// phonePage is what the phone shows.
type phonePage struct {
	url  *url.URL
	body string
}

// What a script finds the parts of a page by: ids and names, which stay when texts change.
var (
	mainID      = regexp.MustCompile(`<main[^>]*\bid="([a-z_]+)"`)
	decideLink  = regexp.MustCompile(`<a\b[^>]*\bid="decide_1"[^>]*\bhref="([^"]*)"`)
	firstForm   = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
	formAction  = regexp.MustCompile(`\baction="([^"]*)"`)
	hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	accountID   = regexp.MustCompile(`<input id="account_\d+" name="account" value="([^"]*)"`)
	problemText = regexp.MustCompile(`(?s)(?:<p class="problem"|<code id="error_code")[^>]*>(.*?)</`)
)

func (p *phonePage) id() string { return p.find(mainID) }

func (p *phonePage) problem() string { return p.find(problemText) }

// find returns what stands in the pattern's group, "" if it is not there.
func (p *phonePage) find(pattern *regexp.Regexp) string {
	if m := pattern.FindStringSubmatch(p.body); m != nil {
		return strings.TrimSpace(html.UnescapeString(m[1]))
	}
	return ""
}

// accounts are the ids of all accounts that the page offers.
func (p *phonePage) accounts() []string {
	var ids []string
	for _, m := range accountID.FindAllStringSubmatch(p.body, -1) {
		ids = append(ids, html.UnescapeString(m[1]))
	}
	return ids
}

// open loads a page, following redirects.
func (p *phone) open(ctx context.Context, method, address string, form url.Values) (*phonePage, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	answer, err := p.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return &phonePage{answer.Request.URL, string(body)}, err
}

// follow opens what a page links to.
func (p *phone) follow(ctx context.Context, from *phonePage, href string) (*phonePage, error) {
	to, err := from.url.Parse(href)
	if err != nil {
		return nil, err
	}
	return p.open(ctx, http.MethodGet, to.String(), nil)
}

// submit sends the page's first form, with its hidden fields.
func (p *phone) submit(ctx context.Context, from *phonePage, typed url.Values) (*phonePage, error) {
	form := firstForm.FindStringSubmatch(from.body)
	if form == nil {
		return nil, fmt.Errorf("the page %q has no form", from.id())
	}
	action := ""
	if m := formAction.FindStringSubmatch(form[1]); m != nil {
		action = m[1]
	}
	to, err := from.url.Parse(html.UnescapeString(action))
	if err != nil {
		return nil, err
	}
	for _, m := range hiddenField.FindAllStringSubmatch(form[2], -1) {
		typed.Add(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
	}
	return p.open(ctx, http.MethodPost, to.String(), typed)
}
