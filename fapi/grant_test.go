package fapi

import (
	"strings"
	"testing"
)

func TestReadGrant(t *testing.T) {
	t.Parallel()
	const action, id = "grant_management_action=", "grant_id="
	for _, c := range []struct {
		name    string
		changes []string
		want    Code
	}{
		{"GM-01: create", []string{action + "create"}, ""},
		{"GM-01: merge", []string{action + "merge", id + "g-1"}, ""},
		{"GM-01: replace", []string{action + "replace", id + "g-1"}, ""},
		{"RFC 6749 §3.1: empty is absent", []string{action, id}, ""},
		{"GM-01: create with an empty grant_id", []string{action + "create", id}, ""},
		{"GM-01: create with a grant_id", []string{action + "create", id + "g-1"}, InvalidRequest},
		{"GM-01: merge without a grant_id", []string{action + "merge"}, InvalidRequest},
		{"GM-01: replace without a grant_id", []string{action + "replace", id}, InvalidRequest},
		{"GM-01: a grant_id without an action", []string{id + "g-1"}, InvalidRequest},
		{"GM-04: update is the old name of merge", []string{action + "update", id + "g-1"}, InvalidRequest},
		{"GM-04: query is no action of a request", []string{action + "query", id + "g-1"}, InvalidRequest},
		{"GM-01: actions are written small", []string{action + "Create"}, InvalidRequest},
		{"GM-01: two actions", []string{action + "create", "+" + action + "create"}, InvalidRequest},
		{"GM-01: two grants", []string{action + "merge", id + "g-1", "+" + id + "g-2"}, InvalidRequest},
		{"GM-01: a grant_id that none has", []string{action + "merge", id + strings.Repeat("g", 65)}, InvalidGrantID},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q, err := openTPP().CheckAuthorizationRequest(request(c.changes...), DefaultDetailTypes())
			refused(t, err, c.want)
			if err == nil && (q.GrantAction == "") != strings.Contains(c.name, "empty is absent") {
				t.Errorf("action %q, grant %q", q.GrantAction, q.GrantID)
			}
		})
	}
}

func TestTerms(t *testing.T) {
	t.Parallel()
	q := &AuthorizationRequest{Scopes: []string{"openid"}}
	if text, err := q.Terms(); text != nil || err != nil {
		t.Errorf("%s, %v", text, err)
	}
	q.Resources = []string{"https://api.example"}
	q.AuthorizationDetails = []AuthorizationDetail{{Type: "a"}}
	q.Claims = &ClaimsRequest{UserInfo: map[string]*ClaimRequest{"name": nil, "email": nil}, IDToken: map[string]*ClaimRequest{"acr": nil, "name": nil}}
	text, err := q.Terms()
	if want := `{"authorization_details":[{"type":"a"}],"resource":["https://api.example"],"claims":["acr","email","name"]}`; string(text) != want || err != nil {
		t.Errorf("%s, %v", text, err)
	}
	if len(q.Claims.UserInfo) != 2 {
		t.Error("the request was changed")
	}
}
