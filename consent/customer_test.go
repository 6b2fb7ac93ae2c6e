package consent

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

// visit opens the list as somebody; see bundle.visitor for who.
func (b *bundle) visit(t *testing.T, who, query string) response {
	t.Helper()
	return b.send(t, request{"GET", CustomerPath + query, "", []string{"Cookie", "visitor=" + who}})
}

func (b *bundle) withdrawAs(t *testing.T, who, form string, headers ...string) response {
	t.Helper()
	return b.send(t, request{"POST", WithdrawPath, form, append([]string{"Cookie", "visitor=" + who, "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin"}, headers...)})
}

// text is a page without its markup.
func text(page string) string {
	page = regexp.MustCompile(`(?s)<style.*?</style>|<head>.*?</head>|<[^>]*>`).ReplaceAllString(page, " ")
	return strings.Join(strings.Fields(page), " ")
}

// D4: the customer sees what each client may do, until when, with which accounts, and what has ended and why.
func TestCustomer_List(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if page := text(b.visit(t, "alice", "").body); !strings.Contains(page, "No app has access to your data.") || !strings.Contains(page, "Alice Doe") {
		t.Errorf("an empty list: %s", page)
	}
	lasting, withdrawn, deleted, expired := b.create(t), b.create(t), b.create(t), b.create(t)
	b.exec(t, `UPDATE consents SET expires_at = '2031-05-01 12:00+00' WHERE id = $1`, lasting)
	_, kept := b.live(t, b.alice, lasting)
	_, gone := b.live(t, b.alice, withdrawn)
	b.live(t, b.alice, deleted)
	b.live(t, b.alice, expired)
	b.live(t, b.alice, "")
	b.exec(t, `UPDATE consents SET expires_at = now() - interval '1 day' WHERE id = $1`, expired)
	if err := b.db.RevokeConsent(t.Context(), deleted, "tpp"); err != nil {
		t.Fatal(err)
	}
	if got := b.withdrawAs(t, "alice", "consent="+gone.String()); got.StatusCode != http.StatusSeeOther || got.Header.Get("Location") != CustomerPath+"?withdrawn" {
		t.Fatalf("%d %s", got.StatusCode, got.body)
	}

	got := b.visit(t, "alice", "?withdrawn")
	if got.StatusCode != http.StatusOK || got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", got.StatusCode, got.Header)
	}
	page := text(got.body)
	for _, want := range []string{
		"The permission is withdrawn.", "The app tpp", "Your accounts", "Savings •••• 6789", "1 May 2031", "You withdraw it",
		"Ended (3)", "Withdrawn by you", "Ended by the app", "Expired",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page: %s", want, page)
		}
	}
	if strings.Contains(page, "Current") {
		t.Error("an account that was not picked is on the page")
	}
	if forms := regexp.MustCompile(`name="consent" value="([^"]+)"`).FindAllStringSubmatch(got.body, -1); len(forms) != 2 || forms[1][1] != kept.String() {
		t.Errorf("what can be withdrawn: %v", forms)
	}
	if page := text(b.visit(t, "alice", "").body); strings.Contains(page, "The permission is withdrawn.") {
		t.Error("the notice stays")
	}
}

// A2-09, D4: tokens die with the withdrawal, for the client too; the consent stays Authorised.
func TestCustomer_Withdraw(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t)
	authorization, grant := b.live(t, b.alice, id)
	b.customer(t, storage.NewID(), "bob", "Bob Doe")

	if got := b.withdrawAs(t, "bob", "consent="+grant.String()); got.StatusCode != http.StatusNotFound || !strings.Contains(got.body, "There is no such permission") {
		t.Errorf("another customer: %d", got.StatusCode)
	}
	if !b.lives(t, authorization) {
		t.Fatal("another customer killed the tokens")
	}
	var all sync.WaitGroup
	for range 50 { // a restless finger
		all.Go(func() {
			if got := b.withdrawAs(t, "alice", "consent="+grant.String()); got.StatusCode != http.StatusSeeOther {
				t.Errorf("%d %s", got.StatusCode, got.body)
			}
		})
	}
	all.Wait()
	if b.lives(t, authorization) {
		t.Error("the tokens live")
	}
	if got := b.call(t, "GET", AccountAccessPath+"/"+id, ""); !strings.Contains(got.body, `"Status":"Authorised"`) {
		t.Errorf("the consent: %s", got.body)
	}
	if again, next := b.live(t, b.alice, id); next == grant || !b.lives(t, again) || b.lives(t, authorization) {
		t.Error("A8-09: approved anew, the old tokens are back or the new ones dead")
	}
}

func TestCustomer_BadForms(t *testing.T) {
	t.Parallel()
	b := setup(t)
	authorization, grant := b.live(t, b.alice, b.create(t))
	good := "consent=" + grant.String()
	for _, c := range []struct {
		name, form string
		headers    []string
		status     int
	}{
		{"nothing", "", nil, 400},
		{"no id", "consent=", nil, 400},
		{"no UUID", "consent=" + url.QueryEscape("' OR 1=1"), nil, 400},
		{"another form of UUID", "consent=" + url.QueryEscape("{"+grant.String()+"}"), nil, 400},
		{"twice", good + "&" + good, nil, 400},
		{"bad escapes", "consent=%zz", nil, 400},
		{"unknown", "consent=" + uuid.NewString(), nil, 404},
		{"too large", good + "&x=" + strings.Repeat("x", maxForm), nil, 413},
		{"multipart", "", []string{"Content-Type", "multipart/form-data; boundary=x"}, 415},
		{"JSON", `{"consent":"` + grant.String() + `"}`, []string{"Content-Type", "application/json"}, 415},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := b.withdrawAs(t, "alice", c.form, c.headers...)
			if got.StatusCode != c.status || !strings.Contains(got.body, `id="error_page"`) {
				t.Errorf("%d %s", got.StatusCode, got.body)
			}
		})
	}
	t.Run("the id in the query", func(t *testing.T) {
		got := b.send(t, request{"POST", WithdrawPath + "?" + good, "", []string{"Cookie", "visitor=alice", "Content-Type", "application/x-www-form-urlencoded"}})
		if got.StatusCode != 400 {
			t.Errorf("%d", got.StatusCode)
		}
	})
	t.Run("another site's form", func(t *testing.T) {
		got := b.send(t, request{"POST", WithdrawPath, good, []string{"Cookie", "visitor=alice", "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "cross-site"}})
		if got.StatusCode != http.StatusForbidden {
			t.Errorf("%d", got.StatusCode)
		}
	})
	for path, allow := range map[string]string{CustomerPath: "GET, HEAD", WithdrawPath: "POST"} {
		if got := b.send(t, request{"DELETE", path, "", []string{"Cookie", "visitor=alice", "Sec-Fetch-Site", "same-origin"}}); got.StatusCode != 405 || got.Header.Get("Allow") != allow {
			t.Errorf("DELETE %s: %d %q", path, got.StatusCode, got.Header.Get("Allow"))
		}
	}
	if got := b.send(t, request{"HEAD", CustomerPath, "", []string{"Cookie", "visitor=alice"}}); got.StatusCode != 200 {
		t.Errorf("HEAD: %d", got.StatusCode)
	}
	if !b.lives(t, authorization) {
		t.Error("one of them withdrew it")
	}
}

// E14: without a complete login there is nothing to see and nothing to do.
func TestCustomer_NotLoggedIn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	authorization, grant := b.live(t, b.alice, b.create(t))
	for _, who := range []string{"", "alice-unknown", "alice-stale", "alice-half", "nobody"} {
		for _, got := range []response{b.visit(t, who, ""), b.withdrawAs(t, who, "consent="+grant.String())} {
			if who == "" {
				got = b.send(t, request{"GET", CustomerPath, "", nil})
			}
			if got.StatusCode != http.StatusSeeOther || got.Header.Get("Location") != "/login" || strings.Contains(got.body, "tpp") {
				t.Errorf("%q: %d to %q", who, got.StatusCode, got.Header.Get("Location"))
			}
		}
	}
	if !b.lives(t, authorization) {
		t.Error("somebody withdrew it")
	}
	if got := b.visit(t, "alice-broken", ""); got.StatusCode != 500 || strings.Contains(got.body, "database") {
		t.Errorf("we cannot tell who it is: %d", got.StatusCode)
	}
	if fmt.Sprint(b.failed) != "[the database is gone]" {
		t.Errorf("reported: %v", b.failed)
	}
}
