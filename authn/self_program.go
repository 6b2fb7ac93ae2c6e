package authn

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/countersign/countersign/storage"
)

// What a program is told that runs in the customer's browser, a bank's own web application say, and accepts nothing but JSON.

func acceptsOnlyJSON(r *http.Request) bool {
	for _, part := range strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",") {
		if media, _, err := mime.ParseMediaType(part); err != nil || media != "application/json" {
			return false
		}
	}
	return true
}

// guardProgram is Guard for a program. No scheme of ours is there by which it could log in (RFC 9110 §15.5.2), so what it lacks is
// 403; the code is RFC 9470 §3's.
func (a *Authn) guardProgram(w http.ResponseWriter, r *http.Request, action Action) (*storage.Visitor, bool) {
	v, rule, lacks, err := a.look(r, a.Rule(action))
	switch {
	case err != nil:
		a.fail(w, r, err)
		return nil, false
	case lacks == nil:
		return v, true
	}
	a.answerJSON(w, r, http.StatusForbidden, struct {
		Error        string   `json:"error"`
		Description  string   `json:"error_description"`
		ACR          string   `json:"acr_values,omitempty"`
		MaxAge       int      `json:"max_age,omitempty"`        // seconds, like the next
		FactorMaxAge int      `json:"factor_max_age,omitempty"` // ours, with those below
		Without      []string `json:"without_factors,omitempty"`
	}{"insufficient_user_authentication", "Log in again in this browser.", rule.ACR, int(rule.MaxAge.Seconds()), int(rule.FactorMaxAge.Seconds()), rule.Without})
	return nil, false
}

// answerDeletion says when the customer will be gone, if at all.
func (a *Authn) answerDeletion(w http.ResponseWriter, r *http.Request, v *storage.Visitor) {
	d, err := a.db.FindDeletion(r.Context(), v.CustomerID)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	var at struct {
		RequestedAt *time.Time `json:"requested_at,omitempty"`
		DeletionAt  *time.Time `json:"deletion_at,omitempty"`
	}
	if d != nil {
		at.RequestedAt, at.DeletionAt = &d.RequestedAt, &d.DueAt
	}
	a.answerJSON(w, r, http.StatusOK, at)
}

func (a *Authn) answerJSON(w http.ResponseWriter, r *http.Request, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	a.shown(r, json.NewEncoder(w).Encode(v))
}
