package authn

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

func httptestRequest() (*httptest.ResponseRecorder, *http.Request) {
	return httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", nil)
}

// E1: customers may exist before the core banking system knows them.
func TestSignUp_MakesACustomerAndLogsIn(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{SignUp: true})
	b := s.browser()
	p := b.get(journeyURL).want(t, "login_page")
	if !strings.Contains(p.body, `href="/sign-up?client_id=tpp&amp;request_uri=`) {
		t.Errorf("no way to sign up:\n%s", p.body)
	}
	p = b.get(pathOf(journeyURL, "/sign-up")).want(t, "sign_up_page")
	if !strings.Contains(p.body, "Budget App") || !strings.Contains(p.body, `href="/authorize?client_id=tpp&amp;`) {
		t.Errorf("the page has lost the journey:\n%s", p.body)
	}
	bob := []string{"username", " Bob ", "name", "Bob Mason", "email", "bob@heron.example"}
	b.post("/sign-up", append(bob, "password", alicePassword)...).want(t, "consent_page")
	c, err := s.FindCustomer(t.Context(), "", "BOB")
	if err != nil || c.FineractClientID != nil || c.Tenant != "default" {
		t.Fatalf("%+v %v", c, err)
	}
	profile, err := c.Profile()
	if want := (storage.Profile{Username: "Bob", Name: "Bob Mason", Email: "bob@heron.example"}); err != nil || !cmp.Equal(profile, want) {
		t.Error(cmp.Diff(profile, want), err)
	}
	s.browser().login("bob", alicePassword).want(t, "consent_page")

	for _, c := range []struct{ username, name, email, password, problem string }{
		{"bob", "Bob", "b@x.example", alicePassword, "problem.username_taken"},
		{"ｂＯｂ", "Bob", "b@x.example", alicePassword, "problem.username_taken"},
		{"", "Bob", "b@x.example", alicePassword, "problem.missing"},
		{"carl", " ", "b@x.example", alicePassword, "problem.missing"},
		{"carl", "Carl", "b@x.example", "", "problem.missing"},
		{"carl", "Ca\u202erl", "b@x.example", alicePassword, "problem.name"},
		{"carl", strings.Repeat("C", 255), "b@x.example", alicePassword, "problem.name"},
		{"carl", "Carl", "nowhere", alicePassword, "problem.email"},
		{"carl", "Carl", "Carl <b@x.example>", alicePassword, "problem.email"},
		{"ca\u200brl", "Carl", "b@x.example", alicePassword, "problem.username"},
		{"carl", "Carl", "b@x.example", "eleven char", "problem.password_short"},
		{"carl", "Carl", "b@x.example", "Password2026", "problem.password_weak"},
		{"carl.benson", "Carl", "b@x.example", "xcarl.bensonx7", "problem.password_weak"},
	} {
		p := s.browser().post("/sign-up", "username", c.username, "name", c.name, "email", c.email, "password", c.password)
		if p.id != "sign_up_page" || p.status != http.StatusUnprocessableEntity || p.problem() != s.pages.Text(c.problem) || strings.Contains(p.body, c.password+`"`) && c.password != "" {
			t.Errorf("%+v: %d %s %q", c, p.status, p.id, p.problem())
		}
	}
	var n int
	if s.sql(t, &n, `SELECT count(*) FROM customers`); n != 1 {
		t.Errorf("%d customers", n)
	}
}

func TestSignUp_CanBeClosed(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	if p := s.browser().get("/sign-up"); p.status != http.StatusNotFound || p.id != "error_page" {
		t.Errorf("GET: %d %s", p.status, p.id)
	}
	if p := s.browser().post("/sign-up", "username", "bob", "name", "Bob", "email", "bob@heron.example", "password", alicePassword); p.status != http.StatusNotFound {
		t.Errorf("POST: %d", p.status)
	}
	if p := s.browser().get("/login").want(t, "login_page"); strings.Contains(p.body, "/sign-up") {
		t.Error("the login page offers it")
	}
}

func TestCustomers_AreManagedByStaff(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{})
	ctx := t.Context()
	seven := int64(7)
	accounts := []storage.Account{{ID: "1", Name: "Savings", Number: "001", Currency: "KES"}, {ID: "2", Name: "Loan", Number: "002", Currency: "KES"}}
	id := s.create(NewCustomer{Password: alicePassword, FineractClientID: &seven, Roles: []string{"USER"}, Accounts: accounts})
	for name, n := range map[string]NewCustomer{
		"taken":            {Profile: storage.Profile{Username: "ALICE"}, Password: alicePassword},
		"no name":          {Password: alicePassword},
		"weak":             {Profile: storage.Profile{Username: "bob"}, Password: "passwordpassword"},
		"no password":      {Profile: storage.Profile{Username: "bob"}},
		"no hash":          {Profile: storage.Profile{Username: "bob"}, PasswordHash: "plain text"},
		"both":             {Profile: storage.Profile{Username: "bob"}, Password: alicePassword, PasswordHash: referencePHC},
		"accounts doubled": {Profile: storage.Profile{Username: "bob"}, Password: alicePassword, Accounts: append(accounts, accounts[0])},
	} {
		if _, err := s.CreateCustomer(ctx, n); err == nil || (name == "taken") != errors.Is(err, storage.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	elsewhere := s.create(NewCustomer{Tenant: "other", Password: alicePassword}) // names are a tenant's
	if p := s.browser().login(alice, alicePassword).want(t, "consent_page"); !strings.Contains(p.body, id.String()) {
		t.Errorf("the other tenant's alice logged in: %s", p.body)
	}

	want := []storage.Account{accounts[1], {ID: "3", Name: "Shares", Number: "003", Currency: "USD"}}
	want[0].Name = "Car loan"
	if err := s.SetAccounts(ctx, id, want); err != nil {
		t.Fatal(err)
	}
	if got, err := s.db.ListAccounts(ctx, id); err != nil || !cmp.Equal(got, want) {
		t.Error(cmp.Diff(got, want), err)
	}
	if err := s.SetAccounts(ctx, id, nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.db.ListAccounts(ctx, id); len(got) != 0 {
		t.Errorf("accounts %v", got)
	}

	for i := range 3 {
		s.create(NewCustomer{Profile: storage.Profile{Username: "customer" + string(rune('a'+i))}, Password: alicePassword})
	}
	var seen []uuid.UUID
	for after := uuid.Nil; ; {
		some, err := s.ListCustomers(ctx, "", after, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			break
		}
		for _, c := range some {
			seen = append(seen, c.ID)
			if _, err := c.Profile(); err != nil {
				t.Error(err)
			}
		}
		after = seen[len(seen)-1]
	}
	if len(seen) != 4 || seen[0] != id {
		t.Errorf("listed %v", seen)
	}

	b := s.browser()
	b.login(alice, alicePassword).want(t, "consent_page")
	if err := s.Disable(ctx, id); err != nil {
		t.Fatal(err)
	}
	b.get(journeyURL).want(t, "login_page")
	b.login(alice, alicePassword).want(t, "login_page")
	if c, err := s.FindCustomer(ctx, "", alice); err != nil || c.DisabledAt == nil || *c.FineractClientID != 7 || !cmp.Equal(c.Roles, []string{"USER"}) {
		t.Errorf("%+v %v", c, err)
	}
	if err := s.Enable(ctx, id); err != nil {
		t.Fatal(err)
	}
	b.get(journeyURL).want(t, "login_page")
	b.login(alice, alicePassword).want(t, "consent_page")

	unknown := storage.NewID()
	for name, err := range map[string]error{
		"SetAccounts": s.SetAccounts(ctx, unknown, want), "SetAccounts, none": s.SetAccounts(ctx, unknown, nil),
		"Unlock": s.Unlock(ctx, unknown), "Disable": s.Disable(ctx, unknown), "Enable": s.Enable(ctx, unknown),
		"RemoveSecondFactors": s.RemoveSecondFactors(ctx, unknown),
	} {
		if !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s of an unknown customer: %v", name, err)
		}
	}
	for _, name := range []string{"nobody", "", "\x00"} {
		if _, err := s.FindCustomer(ctx, "", name); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if c, err := s.FindCustomer(ctx, "other", alice); err != nil || c.ID != elsewhere {
		t.Errorf("%+v %v", c, err)
	}
}

func TestConfig_ReportsAllMistakes(t *testing.T) {
	t.Parallel()
	err := Config{FirstBlock: -1, Argon2: Argon2{Memory: 1 << 30, Time: 1, Threads: 1}}.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("%v", err)
	}
	if err := (Config{Tenant: "default"}).Validate(); err != nil {
		t.Error(err)
	}
}
