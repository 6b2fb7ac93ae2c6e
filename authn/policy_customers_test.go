package authn

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

var (
	firms  = fapi.ScopeRule{Attributes: map[string][]string{"client_type": {"firm", "trust"}}}
	admins = fapi.ScopeRule{Roles: []string{"ADMIN"}}
)

// E11: roles and attributes decide what an action needs, besides what it needs of everybody; as they are now, not as they were at the
// login.
func TestPolicy_ForSomeCustomers(t *testing.T) {
	t.Parallel()
	ofAll := Rule{ACR: SCA, Customers: []CustomerRule{
		{Who: firms, Rule: Rule{FactorMaxAge: time.Hour, Without: []string{storage.SMSFactor}}},
		{Who: admins, Rule: Rule{FactorMaxAge: time.Minute, MaxAge: 24 * time.Hour}},
	}}
	s, b, id, _ := selfSetup(t, Config{Policy: Policy{ChangeProfile: ofAll, ExportData: ofAll}, LoginLifetime: time.Hour})
	set := func(roles []string, clientType string) {
		t.Helper()
		err := s.ChangeCustomer(t.Context(), id, Change{Roles: roles, Profile: func(p *storage.Profile) error {
			p.Attributes = map[string]string{"country": "KE", "client_type": clientType}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, clientType string
		roles            []string
		factor           string // "sms", or how old a TOTP code
		asks             string
	}{
		{"anybody, an old factor", "person", []string{"USER"}, "30 minutes", ""},
		{"anybody, a text message", "person", []string{"USER"}, "sms", ""},
		{"a firm, an old factor", "firm", []string{"USER"}, "30 minutes", ""},
		{"a firm, a text message", "firm", []string{"USER"}, "sms", "second_factor_page"},
		{"another kind of firm, a text message", "trust", []string{"USER"}, "sms", "second_factor_page"},
		{"an administrator, an old factor", "person", []string{"USER", "ADMIN"}, "30 minutes", "second_factor_page"},
		{"an administrator, a text message", "person", []string{"USER", "ADMIN"}, "sms", ""},
		{"both, a text message", "firm", []string{"ADMIN"}, "sms", "second_factor_page"},
		{"both, a fresh factor", "firm", []string{"ADMIN"}, "1 second", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			set(c.roles, c.clientType)
			kind, age := storage.TOTP, c.factor
			if c.factor == "sms" {
				kind, age = storage.SMSFactor, "0 seconds"
			}
			s.clock.Store(0)
			s.sql(t, nil, `UPDATE logins SET auth_time = now(), factor_at = now() - $2::interval, factor_kind = $3 WHERE hash = $1`, s.LoginHash(b.request(t)), age, kind)
			want := "self_profile_page"
			if c.asks != "" {
				want = c.asks
			}
			b.get(profilePath).want(t, want)
			p := b.postForm(profilePath, selfForms(onesOf(id))[profilePath]...)
			if done := p.id == "self_profile_page"; done != (c.asks == "") {
				t.Errorf("the form: %d %s", p.status, p.id)
			}
			status, _, body := b.export(t, "application/json")
			if (status == http.StatusOK) != (c.asks == "") {
				t.Errorf("a program: %d", status)
			}
			if c.name == "an administrator, an old factor" && !strings.Contains(body, `"max_age":86400,"factor_max_age":60`) {
				t.Errorf("a program is told %s", body)
			}
		})
	}
}

// What a firm may not log in with for a transaction, it cannot approve one with either.
func TestPolicy_FactorsOfATransaction(t *testing.T) {
	t.Parallel()
	s, b, id, _ := selfSetup(t, Config{Policy: Policy{ApprovePayment: {ACR: SCA, Customers: []CustomerRule{{Who: firms, Rule: Rule{Without: []string{storage.SMSFactor}}}}}}})
	s.setFactor(id, storage.SMSFactor, sentSecret{"+254712345678"})
	s.setFactor(id, storage.EmailFactor, sentSecret{aliceEmail})
	for clientType, want := range map[string]string{"person": "email sms", "firm": "email"} {
		err := s.ChangeCustomer(t.Context(), id, Change{Profile: func(p *storage.Profile) error {
			p.Attributes = map[string]string{"client_type": clientType}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		v, err := s.db.FindLogin(t.Context(), s.LoginHash(b.request(t)))
		if err != nil {
			t.Fatal(err)
		}
		factors, err := s.TransactionFactors(v, s.TransactionRule("10", "EUR"))
		var kinds []string
		for _, f := range factors {
			kinds = append(kinds, f.Kind)
		}
		slices.Sort(kinds)
		if got := strings.Join(kinds, " "); err != nil || got != want {
			t.Errorf("a %s approves with %q, %v; want %q", clientType, got, err, want)
		}
	}
}

// The strictest of all that apply holds.
func TestPolicy_OfOneCustomer(t *testing.T) {
	t.Parallel()
	s := setup(t, Config{Channels: bothChannels})
	without := append(make([]string, 0, 8), storage.RecoveryCodes) // with room, as a file's may have
	rule := Rule{ACR: CA, MaxAge: time.Hour, Without: without, Customers: []CustomerRule{
		{Who: firms, Rule: Rule{ACR: SCA, FactorMaxAge: time.Hour, Without: []string{storage.SMSFactor}}},
		{Who: admins, Rule: Rule{ACR: CA, MaxAge: 2 * time.Hour, FactorMaxAge: time.Minute}},
		{Who: fapi.ScopeRule{Roles: []string{"USER"}, Attributes: map[string][]string{"country": {"KE"}, "client_type": {"person"}}}, Rule: Rule{MaxAge: time.Minute}},
	}}
	for name, c := range map[string]struct {
		roles      []string
		attributes map[string]string
		want       Rule
	}{
		"nothing":          {nil, nil, Rule{ACR: CA, MaxAge: time.Hour, Without: []string{storage.RecoveryCodes}}},
		"a firm":           {nil, map[string]string{"client_type": "firm"}, Rule{ACR: SCA, MaxAge: time.Hour, FactorMaxAge: time.Hour, Without: []string{storage.RecoveryCodes, storage.SMSFactor}}},
		"a firm's":         {[]string{"ADMIN"}, map[string]string{"client_type": "firm"}, Rule{ACR: SCA, MaxAge: time.Hour, FactorMaxAge: time.Minute, Without: []string{storage.RecoveryCodes, storage.SMSFactor}}},
		"one of two":       {[]string{"USER"}, map[string]string{"country": "KE"}, Rule{ACR: CA, MaxAge: time.Hour, Without: []string{storage.RecoveryCodes}}},
		"both, no role":    {nil, map[string]string{"country": "KE", "client_type": "person"}, Rule{ACR: CA, MaxAge: time.Hour, Without: []string{storage.RecoveryCodes}}},
		"all that it says": {[]string{"USER"}, map[string]string{"country": "KE", "client_type": "person"}, Rule{ACR: CA, MaxAge: time.Minute, Without: []string{storage.RecoveryCodes}}},
	} {
		id := s.create(NewCustomer{Profile: storage.Profile{Username: name, Email: "a@heron.example", EmailVerified: true, Attributes: c.attributes}, Roles: c.roles, Password: alicePassword})
		if c.roles == nil {
			s.sql(t, nil, `UPDATE customers SET roles = '{}' WHERE id = $1`, [16]byte(id))
		}
		found, err := s.FindCustomer(t.Context(), "", name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := rule.of(&found.Customer)
		if got.Customers = nil; err != nil || !cmp.Equal(got, c.want) {
			t.Errorf("%s: %v\n%s", name, err, cmp.Diff(c.want, got))
		}
	}
	if room := without[:2]; room[1] != "" {
		t.Errorf("asking has changed it: %v", room)
	}
}

func TestPolicy_ForSomeCustomers_IsChecked(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]CustomerRule{
		"nobody in particular":   {Rule: Rule{ACR: SCA}},
		"a role of staff":        {Who: fapi.ScopeRule{Roles: []string{"TELLER"}}},
		"an attribute's name":    {Who: fapi.ScopeRule{Attributes: map[string][]string{"Client Type": {"firm"}}}},
		"an attribute, no value": {Who: fapi.ScopeRule{Attributes: map[string][]string{"client_type": nil}}},
		"an empty value":         {Who: fapi.ScopeRule{Attributes: map[string][]string{"client_type": {""}}}},
		"an acr":                 {Who: firms, Rule: Rule{ACR: "gold"}},
		"a kind":                 {Who: firms, Rule: Rule{Without: []string{"pigeon"}}},
		"customers among them":   {Who: firms, Rule: Rule{Customers: []CustomerRule{{Who: admins}}}},
	} {
		if err := (Config{Tenant: "default", Policy: Policy{ChangeProfile: {Customers: []CustomerRule{more}}}}).Validate(); err == nil || !strings.Contains(err.Error(), "policy: profile.change") {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := CustomerRule{Who: firms, Rule: Rule{ACR: SCA}}
	if err := (Config{Tenant: "default", Policy: Policy{ChangeProfile: {Customers: []CustomerRule{good}}}}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (Config{Tenant: "default", Transactions: Transactions{Rules: []TransactionRule{{Rule: Rule{Customers: []CustomerRule{good}}}}}}).Validate(); err == nil || !strings.Contains(err.Error(), "policy of payment.approve") {
		t.Errorf("of an amount: %v", err)
	}
}
