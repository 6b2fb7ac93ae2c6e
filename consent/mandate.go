package consent

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// Mandate is an organization's mandate as an operator writes it. People are their user names.
type Mandate struct {
	ID              string          `yaml:"id,omitempty" json:"id,omitempty"` // "": a new one
	Name            string          `yaml:"name" json:"name"`
	MakerMayApprove bool            `yaml:"maker_may_approve,omitempty" json:"maker_may_approve,omitempty"`
	Tiers           []MandateTier   `yaml:"tiers" json:"tiers"`
	Members         []MandateMember `yaml:"members" json:"members"`
}

// MandateTier says how many must approve amounts up to one.
type MandateTier struct {
	Currency  string `yaml:"currency" json:"currency"`
	UpTo      string `yaml:"up_to,omitempty" json:"up_to,omitempty"` // "": any amount
	Approvals int    `yaml:"approvals" json:"approvals"`
}

// MandateMember is what one person may do.
type MandateMember struct {
	Username string `yaml:"username" json:"username"`
	Start    bool   `yaml:"start,omitempty" json:"start,omitempty"`
	Approve  bool   `yaml:"approve,omitempty" json:"approve,omitempty"`
}

const (
	longestOrganization = 100
	mostApprovals       = 20
	mostMembers         = 200
)

// Check reports all mistakes at once: among them a mandate under which what may be started could never be approved.
func (m *Mandate) Check() error {
	var wrong []error
	say := func(text string, values ...any) { wrong = append(wrong, fmt.Errorf(text, values...)) }
	if m.Name == "" || web.Tidy(m.Name, longestOrganization) != m.Name {
		say("name: must be there, in at most %d characters that can be shown", longestOrganization)
	}
	most, tiers := 0, map[string]bool{}
	for i, tier := range m.Tiers {
		upTo, ok := fapi.Amount(tier.UpTo)
		switch {
		case !fapi.IsCurrency(tier.Currency):
			say("tiers[%d]: currency %q is none of ISO 4217", i, tier.Currency)
		case tier.UpTo != "" && !ok:
			say("tiers[%d]: up_to %q is no amount such as 1000 or 29.99", i, tier.UpTo)
		case tier.Approvals < 1 || tier.Approvals > mostApprovals:
			say("tiers[%d]: approvals must be 1 to %d", i, mostApprovals)
		case tiers[tier.Currency+upTo]:
			say("tiers[%d]: there is one up to that already", i)
		}
		tiers[tier.Currency+upTo] = true
		most = max(most, tier.Approvals)
	}
	if len(m.Tiers) == 0 {
		say("tiers: at least one")
	}
	wrong = append(wrong, m.rising()...)
	return errors.Join(append(wrong, m.checkMembers(most)...)...)
}

// rising reports tiers that want fewer approvals for more money: somebody mistyped.
func (m *Mandate) rising() (wrong []error) {
	for i, low := range m.Tiers {
		for _, high := range m.Tiers {
			if low.Currency == high.Currency && below(low.UpTo, high.UpTo) && low.Approvals > high.Approvals {
				wrong = append(wrong, fmt.Errorf("tiers[%d]: a higher amount needs fewer approvals", i))
			}
		}
	}
	return wrong
}

// below tells whether a tier ends below another; "" has no end.
func below(x, y string) bool {
	low, ok := new(big.Rat).SetString(x)
	if !ok {
		return false
	}
	high, ok := new(big.Rat).SetString(y)
	return y == "" || ok && low.Cmp(high) < 0
}

func (m *Mandate) checkMembers(approvals int) (wrong []error) {
	names := map[string]bool{}
	starters, approvers, both := 0, 0, 0
	for i, member := range m.Members {
		switch {
		case member.Username == "" || names[member.Username]:
			wrong = append(wrong, fmt.Errorf("members[%d]: a user name, once", i))
		case !member.Start && !member.Approve:
			wrong = append(wrong, fmt.Errorf("members[%d]: %s may neither start nor approve", i, member.Username))
		}
		names[member.Username] = true
		if member.Start {
			starters++
		}
		if member.Approve {
			approvers++
		}
		if member.Start && member.Approve {
			both++
		}
	}
	if both > 0 && !m.MakerMayApprove {
		approvers-- // who starts it does not approve it
	}
	switch {
	case starters == 0:
		wrong = append(wrong, errors.New("members: somebody must be able to start something"))
	case approvers < approvals:
		wrong = append(wrong, fmt.Errorf("members: %d approvals are needed, and too few may approve what somebody else has started", approvals))
	case len(m.Members) > mostMembers:
		wrong = append(wrong, fmt.Errorf("members: at most %d", mostMembers))
	}
	return wrong
}

// Stored is the mandate without its members, for the store. It has been checked.
func (m *Mandate) Stored() storage.Mandate {
	s := storage.Mandate{Name: m.Name, OwnApproval: m.MakerMayApprove}
	for _, tier := range m.Tiers {
		upTo, _ := fapi.Amount(tier.UpTo)
		s.Tiers = append(s.Tiers, storage.MandateTier{Currency: tier.Currency, UpTo: json.Number(upTo), Approvals: tier.Approvals})
	}
	return s
}

// ReadMandate is a stored mandate as an operator writes it; name tells the user name of a member.
func ReadMandate(s *storage.Mandate, name func(storage.MandateMember) string) *Mandate {
	m := &Mandate{ID: s.ID.String(), Name: s.Name, MakerMayApprove: s.OwnApproval}
	for _, tier := range s.Tiers {
		m.Tiers = append(m.Tiers, MandateTier{tier.Currency, tier.UpTo.String(), tier.Approvals})
	}
	for _, member := range s.Members {
		m.Members = append(m.Members, MandateMember{name(member), member.MayStart, member.MayApprove})
	}
	return m
}
