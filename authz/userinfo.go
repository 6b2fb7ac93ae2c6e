package authz

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
)

// userInfo answers GET and POST /userinfo (OpenID Connect Core §5.3).
func (s *Server) userInfo(w http.ResponseWriter, r *http.Request) {
	answer, err := s.aboutUser(w, r)
	if err != nil {
		s.refuseToken(w, r, err)
		return
	}
	answer.write(w)
}

func (s *Server) aboutUser(w http.ResponseWriter, r *http.Request) (Response, error) {
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
	claims, err := s.engine.UserInfo(a.live, a.token.Subject, scopes)
	if err != nil {
		return nil, err
	}
	s.readyToEncrypt(r.Context(), a.client)
	return s.userInfoFor(a.client, claims)
}

// userInfoFor makes the answer as the client registered it (OpenID Connect Core §5.3.2): JSON, or signed, encrypted, or
// signed and then encrypted.
func (s *Server) userInfoFor(c *fapi.Client, claims map[string]any) (Response, error) {
	alg, enc := c.UserInfoEncryptedResponseAlg, c.UserInfoEncryptedResponseEnc
	switch {
	case c.UserInfoSignedResponseAlg != "":
		claims["iss"], claims["aud"] = s.Issuer, c.ID
		token, err := s.keys.Sign(c.UserInfoSignedResponseAlg, keys.TypeResponse, claims)
		if err == nil {
			token, err = c.EncryptJWT(alg, enc, token)
		}
		return jwtResponse{"application/jwt", token}, err
	case alg != "":
		plain, err := json.Marshal(claims)
		if err != nil {
			return nil, err
		}
		token, err := c.EncryptClaims(alg, enc, plain)
		return jwtResponse{"application/jwt", token}, err
	}
	return jsonResponse{http.StatusOK, claims}, nil
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
