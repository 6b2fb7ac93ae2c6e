package authz

import (
	"net/http"
	"slices"

	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/fapi"
)

// userInfo answers GET and POST /userinfo (OpenID Connect Core §5.3).
func (s *Server) userInfo(w http.ResponseWriter, r *http.Request) {
	claims, err := s.userClaims(w, r)
	if err != nil {
		s.refuseToken(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, claims)
}

func (s *Server) userClaims(w http.ResponseWriter, r *http.Request) (map[string]any, error) {
	presented, err := postedToken(w, r)
	if err != nil {
		return nil, err
	}
	a, err := s.authenticateToken(r, presented)
	if err != nil {
		return nil, err
	}
	scopes := a.token.Scopes()
	if a.live == nil || !slices.Contains(scopes, "openid") {
		return nil, fapi.Refuse(fapi.InsufficientScope, "The token lacks the scope openid.")
	}
	if presented != "" && a.token.Confirmation != nil {
		return nil, errBadToken // a bound token belongs into the header (FAPI 2.0 §5.3.3)
	}
	return engine.UserInfo(a.live, scopes)
}

// postedToken returns the token that a call has in its body (RFC 6750 §2.2), "" for none.
func postedToken(w http.ResponseWriter, r *http.Request) (string, error) {
	inHeader := r.Header.Get("Authorization") != ""
	if r.Method != http.MethodPost || r.ContentLength == 0 || inHeader && r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		return "", nil
	}
	form, err := readForm(w, r)
	if err != nil {
		return "", err
	}
	if err := fapi.CheckParameters(form); err != nil {
		return "", err
	}
	if form.Has("access_token") && inHeader {
		return "", fapi.Refuse(fapi.InvalidRequest, "The call has more than one access token.") // RFC 6750 §2
	}
	return form.Get("access_token"), nil
}
