package fapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Verdict is what a check says of one requirement.
type Verdict string

const (
	OK       Verdict = "ok"
	Failed   Verdict = "FAILED"
	Enforced Verdict = "enforced" // nothing registered can break it: the server looks at every request
	Advice   Verdict = "advice"   // allowed, but there is something better
)

// Finding is a requirement, and what a check says of it.
type Finding struct {
	ID          string  `json:"id"`
	Clause      string  `json:"clause"` // where it stands
	Requirement string  `json:"requirement"`
	Verdict     Verdict `json:"verdict"`
	Found       string  `json:"found,omitempty"`  // what there is
	Change      string  `json:"change,omitempty"` // what to do about it; of Enforced, what the client has to do
}

// Failures counts the findings that failed.
func Failures(findings []Finding) (n int) {
	for i := range findings {
		if findings[i].Verdict == Failed {
			n++
		}
	}
	return n
}

// clientRule is a requirement on what a client registers. The rules are in check_rules.go.
type clientRule struct {
	id      string
	words   string
	clauses map[ProfileName]string // where it stands; a profile without a clause does not ask for it
	wants   func(*Profile) string  // what the profile's columns say, after the words; may be nil
	members []string               // of the metadata, whose faults break it
	applies func(*Client) bool     // nil: to every client
	found   func(*Client) string   // may be nil
	judge   func(*Client) (Verdict, string)
}

// extended are the profiles that have all the rules of another one.
var extended = map[ProfileName]ProfileName{FAPI2MessageSigning: FAPI2, FAPICIBA: FAPI1Advanced}

func (r *clientRule) clause(name ProfileName) string {
	if clause := r.clauses[name]; clause != "" {
		return clause
	}
	return r.clauses[extended[name]]
}

// CheckRegistration tells, requirement by requirement, whether a client's metadata satisfy a profile; "" is the client's
// own. They may violate it: what ParseClient refuses has a finding that failed. An error means that they cannot be read
// at all.
func CheckRegistration(metadata []byte, name ProfileName) ([]Finding, error) {
	c := &Client{}
	if err := json.Unmarshal(metadata, c); err != nil {
		return nil, fmt.Errorf("client metadata: %w", err)
	}
	if name == "" {
		name = c.Profile
	}
	if name == "" {
		name = FAPI2
	}
	if FindProfile(name) == nil {
		return nil, fmt.Errorf("profile %q is not one of %v", name, ProfileNames())
	}
	c.Profile = name
	faults, err := faultsOf(metadata, c)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for i := range clientRules {
		r := &clientRules[i]
		if r.clause(name) == "" || r.applies != nil && !r.applies(c) {
			continue
		}
		findings = append(findings, r.check(c, faults))
	}
	rest := Finding{ID: "metadata", Clause: "RFC 7591 §2", Requirement: "All metadata are known, and make sense", Verdict: OK}
	if len(faults) > 0 {
		rest.Verdict, rest.Change = Failed, faults.take(slices.Collect(maps.Keys(faults)))
	}
	return append(findings, rest), nil
}

func (r *clientRule) check(c *Client, faults faultList) Finding {
	f := Finding{ID: r.id, Clause: r.clause(c.Profile), Requirement: r.words, Verdict: OK}
	if r.wants != nil {
		f.Requirement += ": " + r.wants(c.profile)
	}
	if r.found != nil {
		f.Found = r.found(c)
	}
	if r.judge != nil {
		f.Verdict, f.Change = r.judge(c)
	}
	if wrong := faults.take(r.members); wrong != "" {
		f.Verdict, f.Change = Failed, wrong
	}
	return f
}

// faultList is what ParseClient finds wrong, by member of the metadata; "" is for what is about none.
type faultList map[string][]string

// faultsOf prepares the client, and asks ParseClient for what only the text shows.
func faultsOf(metadata []byte, c *Client) (faultList, error) {
	faults, prepared := faultList{}, c.Prepare()
	faults.collect(prepared)
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(metadata, &members); err != nil {
		return nil, err
	}
	profile, err := json.Marshal(c.Profile)
	if err != nil {
		return nil, err
	}
	members["profile"] = profile
	text, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	if _, err := ParseClient(text); err != nil && (prepared == nil || err.Error() != prepared.Error()) {
		faults.collect(err)
	}
	return faults, nil
}

// collect sorts the faults in an error.
func (l faultList) collect(err error) {
	switch inner := err.(type) {
	case nil:
	case *Fault:
		l[inner.Member] = append(l[inner.Member], inner.Error())
	case interface{ Unwrap() []error }:
		for _, e := range inner.Unwrap() {
			l.collect(e)
		}
	default:
		if fault := (*Fault)(nil); errors.As(err, &fault) {
			l.collect(errors.Unwrap(err))
			return
		}
		l[""] = append(l[""], err.Error())
	}
}

// take returns what is wrong with these members, and removes it from the list.
func (l faultList) take(members []string) string {
	var wrong []string
	for _, member := range members {
		wrong = append(wrong, l[member]...)
		delete(l, member)
	}
	slices.Sort(wrong)
	return strings.Join(wrong, "; ")
}
