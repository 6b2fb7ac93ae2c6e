package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/storage"
)

// docs/self.md: what the file says replaces an action's rule; what it does not know stops the server.
func TestStepUpPolicy_File(t *testing.T) {
	read := func(t *testing.T, text string) (authn.Config, error) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "policy.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := defaultSelf
		s.Policy = file
		c := authn.Config{Tenant: "default"}
		err := s.self(&c)
		if err == nil {
			err = c.Validate()
		}
		return c, err
	}
	c, err := read(t, "account.delete:\n  acr: "+authn.SCA+"\n  max_age: 2m\n  factor_max_age: 90s\n  without: [sms, email]\nprofile.change:\n  acr: "+authn.CA+"\n")
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Policy[authn.DeleteAccount]; r.ACR != authn.SCA || r.MaxAge != 2*time.Minute || r.FactorMaxAge != 90*time.Second || len(r.Without) != 2 || r.Without[0] != storage.SMSFactor {
		t.Errorf("%+v", r)
	}
	if r := c.Policy[authn.ChangeProfile]; r.ACR != authn.CA || r.FactorMaxAge != 0 {
		t.Errorf("%+v", r)
	}
	for name, text := range map[string]string{
		"no rule":            "",
		"an unknown action":  "account.destroy:\n  acr: " + authn.SCA + "\n",
		"an unknown field":   "account.delete:\n  acr: " + authn.SCA + "\n  max-age: 2m\n",
		"an unknown acr":     "account.delete:\n  acr: gold\n",
		"an unknown kind":    "account.delete:\n  without: [pigeon]\n",
		"a negative age":     "account.delete:\n  max_age: -2m\n",
		"an age without s":   "account.delete:\n  max_age: soon\n",
		"an action twice":    "account.delete:\n  max_age: 2m\naccount.delete:\n  max_age: 3m\n",
		"two documents":      "account.delete:\n  max_age: 2m\n---\naccount.delete:\n  max_age: 3m\n",
		"no YAML":            "{",
		"a list, not a rule": "- account.delete\n",
	} {
		if _, err := read(t, text); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	s := defaultSelf
	s.Policy = "/nonexistent"
	if err := s.self(&authn.Config{}); err == nil || !strings.Contains(err.Error(), "step-up-policy") {
		t.Error(err)
	}
	for _, wrong := range []selfSettings{{DeletionWait: 0, RecordsKept: time.Hour}, {DeletionWait: time.Hour, RecordsKept: -1}} {
		if err := wrong.self(&authn.Config{}); err == nil {
			t.Errorf("%+v is taken", wrong)
		}
	}
}

// Every action has its default in the manual.
func TestStepUpPolicy_Manual(t *testing.T) {
	manual, err := os.ReadFile("../../docs/self.md")
	if err != nil {
		t.Fatal(err)
	}
	short := map[string]string{authn.SCA: "SCA", authn.CA: "CA", "": ""}
	age := func(d time.Duration) string {
		if d == 0 {
			return "|"
		}
		return strings.TrimSuffix(d.String(), "0s") + " |"
	}
	for action, r := range authn.DefaultPolicy {
		end := " | " + short[r.ACR] + " | " + age(r.MaxAge) + " " + age(r.FactorMaxAge)
		found := false
		for line := range strings.Lines(string(manual)) {
			found = found || strings.HasPrefix(line, "| `"+string(action)+"` | ") && strings.HasSuffix(strings.TrimSpace(line), end)
		}
		if !found {
			t.Errorf("docs/self.md does not say of %s: …%s", action, end)
		}
	}
}

func TestCLI_ExportsAndDeletesACustomer(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.run(t, true, "", "migrate")
	o.run(t, true, "three grey herons over water\n", "customer", "create", "--username", "alice", "--name", "Alice Doe", "--email", "alice@heron.example")
	o.says(t, true, `(?s)"schema": "countersign.data-export".*"email": "alice@heron.example"`, "", "customer", "export", "alice")
	if out := o.run(t, true, "", "customer", "export", "alice"); strings.Contains(out, "argon2") || !strings.Contains(out, "data.exported") {
		t.Error(out)
	}
	o.says(t, false, `no customer|there is no`, "", "customer", "export", "bob")
	o.says(t, false, `no deletion of "alice" was asked for`, "", "customer", "delete", "--cancel", "alice")
	o.says(t, true, `deleted from 20\d\d-.* on`, "", "customer", "delete", "alice")
	o.says(t, false, `was asked for already`, "", "customer", "delete", "alice")
	o.says(t, true, `^$`, "", "customer", "delete", "--cancel", "alice")
	o.says(t, false, `must be more than 0`, "", "customer", "delete", "--deletion-wait", "0s", "alice")
}
