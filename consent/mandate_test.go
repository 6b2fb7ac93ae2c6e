package consent

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

// dairy is a mandate that is good.
func dairy() Mandate {
	return Mandate{
		Name:  "Meadow Dairy",
		Tiers: []MandateTier{{"EUR", "1000.00", 1}, {"EUR", "", 2}, {"KES", "150000", 2}},
		Members: []MandateMember{
			{Username: "alice", Start: true}, {Username: "bob", Approve: true}, {Username: "carol", Start: true, Approve: true}, {Username: "dave", Approve: true},
		},
	}
}

// What an operator may have mistyped, and a mandate under which something could be started and never approved.
func TestMandate_Check(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Mandate)
		faults []string // none: it is good
	}{
		"good":                             {change: func(*Mandate) {}},
		"no name":                          {func(m *Mandate) { m.Name = "" }, []string{"name"}},
		"a name that cannot be shown":      {func(m *Mandate) { m.Name = "Meadow\u202e" }, []string{"name"}},
		"a name that is too long":          {func(m *Mandate) { m.Name = strings.Repeat("x", 101) }, []string{"name"}},
		"no tier":                          {func(m *Mandate) { m.Tiers = nil }, []string{"at least one"}},
		"a currency that is none":          {func(m *Mandate) { m.Tiers[0].Currency = "Euro" }, []string{`tiers[0]: currency "Euro"`}},
		"an amount that is none":           {func(m *Mandate) { m.Tiers[0].UpTo = "1,000" }, []string{`tiers[0]: up_to "1,000"`}},
		"no approval":                      {func(m *Mandate) { m.Tiers[0].Approvals = 0 }, []string{"tiers[0]: approvals"}},
		"too many approvals":               {func(m *Mandate) { m.Tiers[2].Approvals = 21 }, []string{"tiers[2]: approvals", "too few may approve"}},
		"two tiers up to the same":         {func(m *Mandate) { m.Tiers = append(m.Tiers, MandateTier{"EUR", "1000", 1}) }, []string{"tiers[3]: there is one"}},
		"two tiers without an end":         {func(m *Mandate) { m.Tiers = append(m.Tiers, MandateTier{"EUR", "", 2}) }, []string{"tiers[3]: there is one"}},
		"fewer approvals for more":         {func(m *Mandate) { m.Tiers[0].Approvals = 3; m.Tiers[1].Approvals = 2 }, []string{"tiers[0]: a higher amount needs fewer"}},
		"fewer for more, in other digits":  {func(m *Mandate) { m.Tiers[2] = MandateTier{"EUR", "200", 2} }, []string{"tiers[2]: a higher amount needs fewer"}},
		"no user name":                     {func(m *Mandate) { m.Members[0].Username = "" }, []string{"members[0]: a user name"}},
		"a member twice":                   {func(m *Mandate) { m.Members[1].Username = "alice" }, []string{"members[1]: a user name, once"}},
		"a member who may nothing":         {func(m *Mandate) { m.Members[0].Start = false }, []string{"members[0]: alice may neither"}},
		"nobody starts":                    {func(m *Mandate) { m.Members = m.Members[1:2] }, []string{"somebody must be able to start"}},
		"too few approve":                  {func(m *Mandate) { m.Members = m.Members[:2] }, []string{"2 approvals are needed"}},
		"too few when an approver started": {func(m *Mandate) { m.Members = m.Members[:3] }, []string{"2 approvals are needed"}},
		"enough when makers may approve":   {change: func(m *Mandate) { m.Members = m.Members[:3]; m.MakerMayApprove = true }},
		"too many members": {func(m *Mandate) {
			for i := range 200 {
				m.Members = append(m.Members, MandateMember{Username: fmt.Sprint(i), Approve: true})
			}
		}, []string{"at most 200"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := dairy()
			c.change(&m)
			err := m.Check()
			if (err == nil) != (len(c.faults) == 0) {
				t.Fatalf("%v", err)
			}
			for _, fault := range c.faults {
				if !strings.Contains(err.Error(), fault) {
					t.Errorf("%v, without %q", err, fault)
				}
			}
		})
	}
}

// What is read is what was stored, its amounts in canonical form.
func TestMandate_StoredAndRead(t *testing.T) {
	m := dairy()
	stored := m.Stored()
	stored.ID = uuid.New()
	names := map[uuid.UUID]string{}
	for _, member := range m.Members {
		id := uuid.New()
		names[id] = member.Username
		stored.Members = append(stored.Members, storage.MandateMember{CustomerID: id, MayStart: member.Start, MayApprove: member.Approve})
	}
	want := m
	want.ID, want.Tiers = stored.ID.String(), slices.Clone(m.Tiers)
	want.Tiers[0].UpTo = "1000"
	got := ReadMandate(&stored, func(member storage.MandateMember) string { return names[member.CustomerID] })
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
