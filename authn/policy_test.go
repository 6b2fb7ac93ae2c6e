package authn

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/storage"
)

// selfActions says of which action the policy's rule holds for each page and form of the customer's own.
var selfActions = map[string]Action{
	selfPath: ViewAccess, profilePath: ChangeProfile, passwordPath: ChangePassword, factorListPath: ViewAccess, sessionsPath: ViewAccess,
	activityPath: ViewAccess, dataPath: ViewAccess, exportPath: ExportData,
	"/self/email": ChangeProfile, "/self/email/confirm": ChangeProfile, "/self/phone": ChangeProfile, "/self/phone/confirm": ChangeProfile,
	"/self/factors/rename": ViewAccess, "/self/factors/remove": ChangeFactors, "/self/factors/add": ChangeFactors,
	"/self/factors/add/totp": ChangeFactors, "/self/factors/recovery-codes": ChangeFactors,
	"/self/sessions/end": ViewAccess, "/self/sessions/end-others": ViewAccess, "/self/devices/remove": ChangeFactors, "/self/devices/silence": ViewAccess,
	deletePath: DeleteAccount, deletePath + "/cancel": ViewAccess, "/self/links/remove": ChangeFactors,
}

// comesBackTo is the page of a form, at which the customer is after the step-up; "" for the address itself.
func comesBackTo(path string) string {
	switch {
	case path == exportPath || strings.HasPrefix(path, deletePath):
		return dataPath
	case strings.HasPrefix(path, "/self/email"), strings.HasPrefix(path, "/self/phone"):
		return profilePath
	case path == "/self/factors/rename", path == "/self/factors/remove", path == "/self/links/remove":
		return factorListPath
	case strings.HasPrefix(path, "/self/devices/"), strings.HasPrefix(path, sessionsPath):
		return sessionsPath
	}
	return path
}

// Every address of the customer's own pages has its place in the table above.
func TestStepUp_NoPageIsForgotten(t *testing.T) {
	s := setup(t, Config{})
	for path := range s.selfRoutes() {
		if selfActions[path] == "" {
			t.Errorf("%s: which action is it?", path)
		}
		if !ownPages.MatchString(comesBackTo(path)) {
			t.Errorf("%s: no login comes back to it", path)
		}
	}
}

// Deliver 5: what each page and each form asks of a login that is too old, by a text message, or by the password alone. Nothing is
// done, and the customer comes back.
func TestStepUp_EachAction(t *testing.T) {
	policy := Policy{}
	for action, rule := range DefaultPolicy {
		rule.Without = []string{storage.SMSFactor}
		policy[action] = rule
	}
	s, b, id, _ := selfSetup(t, Config{Policy: policy, LoginLifetime: time.Hour})
	mine := onesOf(id)
	s.things(t, mine)
	forms := selfForms(mine)
	forms["/self/factors/add/totp"] = []string{"code", "123456"}
	set := func(sql string) {
		s.sql(t, nil, `UPDATE logins SET `+sql+` WHERE hash = $1`, s.LoginHash(b.request(t)))
	}
	for name, c := range map[string]struct {
		set  string
		asks func(Rule) string
	}{
		"fresh":             {`auth_time = auth_time`, func(Rule) string { return "" }},
		"password alone":    {`acr = '` + CA + `', amr = '{pwd}', factor_at = NULL, factor_kind = NULL`, func(Rule) string { return "second_factor_page" }},
		"a half-made login": {`acr = NULL, factor_at = NULL, factor_kind = NULL`, func(Rule) string { return "second_factor_page" }},
		"a text message":    {`factor_kind = 'sms'`, func(Rule) string { return "second_factor_page" }},
		"an old factor": {`factor_at = now() - interval '10 minutes'`, func(r Rule) string {
			return map[bool]string{true: "second_factor_page"}[r.FactorMaxAge > 0]
		}},
		"an old password": {`auth_time = now() - interval '10 minutes'`, func(r Rule) string {
			return map[bool]string{true: "login_page"}[r.MaxAge > 0]
		}},
	} {
		set(`acr = '` + SCA + `', amr = '{pwd,otp,mfa}', auth_time = now(), factor_at = now(), factor_kind = 'totp'`)
		s.clock.Store(0)
		set(c.set)
		before := s.selfSnapshot(t)
		for path, action := range selfActions {
			want := c.asks(s.Rule(action))
			if want == "" {
				continue
			}
			routes := maps.Collect(maps.All(s.selfRoutes()))
			maps.Copy(routes, s.enrolment())
			for method := range routes[path] {
				p := b.get(path)
				if method == http.MethodPost {
					p = b.postForm(path, forms[path]...)
				}
				if p.id != want || !strings.Contains(p.body, `name="next" value="`+comesBackTo(path)+`"`) {
					t.Errorf("%s, %s %s: page %q (%d), want %q that comes back to %s", name, method, path, p.id, p.status, want, comesBackTo(path))
				}
			}
		}
		if after := s.selfSnapshot(t); after != before {
			t.Errorf("%s: something was done", name)
		}
	}
}

// Whoever had to show a factor first, because a form needs it, learns that nothing was done yet; once.
func TestStepUp_TheCustomerLearnsThatNothingWasDone(t *testing.T) {
	s, b, id, key := selfSetup(t, Config{})
	s.sql(t, nil, `UPDATE logins SET factor_at = factor_at - interval '10 minutes' WHERE customer_id = $1`, [16]byte(id))
	b.postForm(profilePath, selfForms(otherOnes{})[profilePath]...).want(t, "second_factor_page")
	if p := b.factor(key, profilePath).want(t, "self_profile_page"); !strings.Contains(p.body, "Nothing was done yet") || strings.Contains(p.body, "New locality") {
		t.Error("the customer does not learn that nothing was done")
	}
	if p := b.get(profilePath); strings.Contains(p.body, "Nothing was done yet") {
		t.Error("it is said twice")
	}
}

func TestPolicy_RefusesWhatIsWrong(t *testing.T) {
	for name, p := range map[string]Policy{
		"an unknown action":  {"money.print": {ACR: SCA}},
		"another acr":        {ViewAccess: {ACR: "urn:example:gold"}},
		"a negative age":     {ViewAccess: {MaxAge: -time.Second}},
		"a negative factor":  {ViewAccess: {FactorMaxAge: -time.Second}},
		"a kind there isn't": {ViewAccess: {Without: []string{"pigeon"}}},
	} {
		if err := (Config{Tenant: "default", Policy: p}).Validate(); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := (Config{Tenant: "default", Policy: DefaultPolicy}).Validate(); err != nil {
		t.Error(err)
	}
}
