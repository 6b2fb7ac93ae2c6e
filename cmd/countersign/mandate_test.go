package main

import (
	"regexp"
	"strings"
	"testing"
)

const dairy = `name: Meadow Dairy
tiers:
  - {currency: EUR, up_to: "1000.00", approvals: 1}
  - {currency: EUR, approvals: 2}
members:
  - {username: alice, start: true}
  - {username: bob, approve: true}
  - {username: carol, start: true, approve: true}
  - {username: dave, approve: true}
`

// An operator sets, reads, changes and ends a mandate; nothing that is wrong is stored.
func TestCLI_Mandates(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.says(t, true, `schema`, "", "migrate")
	o.says(t, true, `^MANDATE +ORGANIZATION +MEMBERS +TIERS\n$`, "", "mandate", "list")
	o.says(t, false, `tenant default has no customer "alice"`, dairy, "mandate", "create", "-")
	for _, name := range []string{"alice", "bob", "carol", "dave"} {
		o.run(t, true, "three grey herons over water\n", "customer", "create", "--username", name, "--password-file", "-")
	}
	id := regexp.MustCompile(`saved ([0-9a-f-]{36})\n`).FindStringSubmatch(o.run(t, true, dairy, "mandate", "create", "-"))
	if id == nil {
		t.Fatal("no id")
	}
	o.says(t, true, id[1]+` +Meadow Dairy +4 +2\n`, "", "mandate", "list")

	// What is shown can be changed and stored again.
	shown := o.run(t, true, "", "mandate", "show", id[1])
	for _, line := range []string{"id: " + id[1], "name: Meadow Dairy", `up_to: "1000"`, "username: carol"} {
		if !strings.Contains(shown, line) {
			t.Errorf("shown without %q:\n%s", line, shown)
		}
	}
	o.says(t, true, `^saved `+id[1]+`\n$`, strings.Replace(shown, "Meadow Dairy", "Meadow Dairy and Sons", 1), "mandate", "create", "-")
	if again := o.run(t, true, "", "mandate", "show", id[1]); again != strings.Replace(shown, "Meadow Dairy", "Meadow Dairy and Sons", 1) {
		t.Errorf("after it was stored again:\n%s", again)
	}
	o.says(t, true, id[1]+` +Meadow Dairy and Sons +4 +2\n$`, "", "mandate", "list")

	// All that is wrong is told at once, and what another tenant has is not there.
	o.says(t, false, `(?s)name.*currency "eur".*approvals must be 1 to 20.*bob may neither.*somebody must be able to start`,
		"tiers: [{currency: eur, approvals: 1}, {currency: EUR, approvals: 0}]\nmembers: [{username: bob}]\n", "mandate", "create", "-")
	o.says(t, false, `(?s)mandate: .*aproves`, strings.Replace(dairy, "approve: true", "aproves: true", 1), "mandate", "create", "-")
	o.says(t, false, `mandate: `, "", "mandate", "create", "none.yaml")
	o.says(t, false, `id "x" is none`, "id: x\n"+dairy, "mandate", "create", "-")
	o.says(t, false, `there is no such mandate`, "", "mandate", "--tenant", "other", "show", id[1])
	o.says(t, false, `there is no such mandate`, "", "mandate", "--tenant", "other", "remove", id[1])

	o.says(t, true, `^$`, "", "mandate", "remove", id[1])
	o.says(t, false, `there is no such mandate`, "", "mandate", "remove", id[1])
	o.says(t, false, `there is no such mandate`, "", "mandate", "show", id[1])
	o.says(t, true, `TIERS\n$`, "", "mandate", "list")
}
