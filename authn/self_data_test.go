package authn

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func (b *browser) export(t *testing.T, accept string) (int, http.Header, string) {
	t.Helper()
	r, _ := http.NewRequest(http.MethodGet, b.s.http.URL+exportPath, nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	resp, err := b.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(body)
}

func TestSelf_DataExport(t *testing.T) {
	s, b, id, key := selfSetup(t, Config{})
	s.bob(t)
	code, header, body := b.export(t, "")
	var export Export
	if err := json.Unmarshal([]byte(body), &export); err != nil || code != 200 || export.Schema != exportSchema || export.Version != 1 || export.CustomerID != id {
		t.Fatalf("%d %v %+v", code, err, export)
	}
	if header.Get("Content-Type") != "application/json" || !strings.HasPrefix(header.Get("Content-Disposition"), "attachment") || header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", header)
	}
	var passwordHash string
	s.sql(t, &passwordHash, `SELECT password_hash FROM customers WHERE id = $1`, [16]byte(id))
	for _, secret := range []string{passwordHash, "argon2", "bob", "Bob Roe", string(key)} {
		if strings.Contains(body, secret) {
			t.Errorf("%q is in it", secret)
		}
	}
	if !strings.Contains(body, "alice@heron.example") || len(export.Data["events"]) == 0 || len(export.Data["second_factors"]) == 0 {
		t.Errorf("%s", body)
	}
	if n := s.selfCount(t, `SELECT count(*) FROM events WHERE kind = 'data.exported'`); n != 1 {
		t.Errorf("%d events", n)
	}
	r, _ := http.NewRequest(http.MethodHead, s.http.URL+exportPath, nil)
	b.do(r)
	if n := s.selfCount(t, `SELECT count(*) FROM events WHERE kind = 'data.exported'`); n != 1 {
		t.Errorf("HEAD: %d events", n)
	}
	s.clock.Add(int64((6 * time.Minute).Seconds()))
	if code, header, body := b.export(t, "application/json"); code != http.StatusForbidden || header.Get("Content-Type") != "application/json" || !strings.Contains(body, "insufficient_user_authentication") || strings.Contains(body, "alice") {
		t.Errorf("a stale login: %d %s", code, body)
	}
	if code, _, body := s.browser().export(t, "application/json"); code != http.StatusForbidden || strings.Contains(body, "<") {
		t.Errorf("no login: %d %s", code, body)
	}
	if code, _, body := b.export(t, "text/html, application/json;q=0.9"); code == 200 && !strings.Contains(body, "second_factor_page") {
		t.Errorf("a browser with a stale login: %d %s", code, body)
	}
}

func TestSelf_DeleteAccount(t *testing.T) {
	s, b, id, key := selfSetup(t, Config{})
	if p := b.postForm(deletePath, "confirm", "no"); p.status != http.StatusUnprocessableEntity {
		t.Errorf("not confirmed: %d", p.status)
	}
	p := b.postForm(deletePath, "confirm", "yes").want(t, "self_data_page")
	if p.at.RawQuery != "deletion" || !strings.Contains(p.body, `id="cancel_button"`) {
		t.Fatalf("%v\n%s", p.at, p.body)
	}
	if days := s.selfCount(t, `SELECT extract(day FROM due_at - requested_at)::int FROM account_deletions WHERE customer_id = $1`, [16]byte(id)); days != 14 {
		t.Errorf("%d days", days)
	}
	b.postForm(deletePath, "confirm", "yes").want(t, "self_data_page") // asked twice is asked
	if !strings.Contains(b.get(selfPath).body, `id="deletion"`) {
		t.Error("the overview does not say so")
	}
	later := s.browser()
	if p := later.signIn(key, dataPath).want(t, "self_data_page"); !strings.Contains(p.body, `id="cancel_button"`) {
		t.Error("nothing to cancel")
	}
	later.postForm(deletePath+"/cancel").want(t, "self_data_page")
	later.postForm(deletePath+"/cancel").want(t, "self_data_page")
	if n := s.selfCount(t, `SELECT count(*) FROM account_deletions`); n != 0 {
		t.Error("not cancelled")
	}
	if m := s.selfMessages(t); len(m) != 2 {
		t.Errorf("%+v", m)
	}
	s.clock.Add(120)
	b.postForm(deletePath, "confirm", "yes").want(t, "second_factor_page")
	if p := b.factor(key, dataPath).want(t, "self_data_page"); !strings.Contains(p.problem(), "Nothing was done yet") {
		t.Errorf("the customer does not learn that nothing was done: %q", p.problem())
	}
	b.postForm(deletePath, "confirm", "yes").want(t, "self_data_page")
	s.sql(t, nil, `UPDATE account_deletions SET due_at = now()`)
	if _, err := s.db.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.get(selfPath).want(t, "login_page")
	if p := b.postForm("/login", "username", alice, "password", alicePassword); p.status != http.StatusForbidden {
		t.Errorf("a deleted customer: %d", p.status)
	}
	m := s.selfMessages(t)
	if len(m) != 2 || !strings.Contains(m[1].Text, "is deleted, as you asked") || !strings.Contains(m[1].Text, "5 years") {
		t.Errorf("%+v", m)
	}
}

// postJSON sends a form as a program does.
func (b *browser) postJSON(t *testing.T, path string, fields ...string) (int, string) {
	t.Helper()
	r, _ := http.NewRequest(http.MethodPost, b.s.http.URL+path, strings.NewReader(selfForm(fields...)))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Origin", b.s.http.URL)
	p := b.do(r)
	if p.header.Get("Content-Type") != "application/json" || p.header.Get("Cache-Control") != "no-store" || p.header.Get("Set-Cookie") != "" {
		t.Errorf("%s: %v", path, p.header)
	}
	return p.status, p.body
}

func deletionAt(t *testing.T, body string) time.Time {
	t.Helper()
	var at struct {
		DeletionAt time.Time `json:"deletion_at"`
	}
	if err := json.Unmarshal([]byte(body), &at); err != nil {
		t.Fatal(err)
	}
	return at.DeletionAt
}

func hasAll(s string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}
