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
	presented := ""
	if r.Method == http.MethodPost && r.Header.Get("Authorization") == "" { // RFC 6750 §2.2
		form, err := readForm(w, r)
		if err != nil {
			return nil, err
		}
		if err := fapi.CheckParameters(form); err != nil {
			return nil, err
		}
		presented = form.Get("access_token")
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
