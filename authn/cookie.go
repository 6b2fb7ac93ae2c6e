package authn

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"
)

// The prefix makes browsers refuse it from another host, from plain http and for a part of the site (RFC 6265bis §4.1.3.2).
const loginCookie = "__Host-login"

const cookieBytes = 32

var cookieEncoding = base64.RawURLEncoding.Strict()

// LoginHash returns what the visitor's login is found by, or nil without a well-formed cookie.
func (a *Authn) LoginHash(r *http.Request) []byte {
	raw, err := cookieEncoding.DecodeString(cookieValue(r, loginCookie))
	if err != nil || len(raw) != cookieBytes {
		return nil
	}
	return hashCookie(raw)
}

// cookieValue is "" unless there is one cookie of that name: browsers send one; which of several counts must not be for others to
// choose.
func cookieValue(r *http.Request, name string) string {
	if cookies := r.CookiesNamed(name); len(cookies) == 1 {
		return cookies[0].Value
	}
	return ""
}

func hashCookie(raw []byte) []byte {
	sum := sha256.Sum256(raw)
	return sum[:]
}

// newCookie returns a fresh cookie value and its hash.
func newCookie() (value string, hash []byte) {
	raw := make([]byte, cookieBytes)
	rand.Read(raw)
	return cookieEncoding.EncodeToString(raw), hashCookie(raw)
}

// setCookie gives the browser a login, or takes it away when value is "". It ends with the browser; how long it is good
// for stands in its row. Lax and not Strict, since a journey begins with a link on the client's site.
func setCookie(w http.ResponseWriter, value string) {
	c := &http.Cookie{Name: loginCookie, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// browserCookie is what a cookie of ours, which is no login, is found by; nil without a well-formed one.
func browserCookie(r *http.Request, name string) []byte {
	raw, err := cookieEncoding.DecodeString(cookieValue(r, name))
	if err != nil || len(raw) != cookieBytes {
		return nil
	}
	return hashCookie(raw)
}

// setBrowserCookie gives the browser such a cookie, or takes it away when value is "".
func setBrowserCookie(w http.ResponseWriter, name, value string, lifetime time.Duration) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(lifetime / time.Second)}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}
