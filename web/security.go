package web

import (
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// headers sets what every page carries.
func (p *Pages) headers(h http.Header, csp string) {
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", csp)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// A page says who banks where, and its hidden fields carry a journey.
	h.Set("Cache-Control", "no-store")
	// Nothing is told to other sites. Not "no-referrer": under that, browsers
	// send "Origin: null" with a form post to our own server, which an old one
	// without Sec-Fetch-Site could not be told apart from an attacker's.
	h.Set("Referrer-Policy", "same-origin")
	// No window that opened us, or that we opened, keeps a handle on the page.
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), midi=(), payment=(), usb=()")
	if p.hsts {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// WithoutHSTS returns the same pages without Strict-Transport-Security, for a
// demo on localhost: HSTS holds for a host with all its ports, so it would
// break every plain http server on the visitor's own machine.
func (p *Pages) WithoutHSTS() *Pages {
	q := *p
	q.hsts = false
	return &q
}

const cspBase = "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action "

// csp is the content security policy of a page on the way to client, or of one
// that belongs to no journey when client is nil.
//
// Chromium and WebKit hold form-action against every redirect that answers a
// form post, not only against the form's action (w3c/webappsec-csp#8; Firefox
// does not). A journey ends in just such a redirect, to the client's redirect
// URI, and login may end it at once when consent was given before. The client
// may redirect on, to hosts that nobody here knows. So a journey's pages admit
// every https URL, and the scheme or origin of a native app's redirect URI
// (RFC 8252 §7.1, §7.3). What form-action guards against, an injected form that
// sends a password elsewhere, is then left to escaping, to default-src 'none'
// and to http being refused; pages outside a journey keep 'self'.
func csp(client *Client) string {
	if client == nil {
		return cspBase + "'self'"
	}
	return cspBase + "'self' https:" + nativeSource(client.RedirectURI)
}

// formPostScript submits the form. Called through the prototype, since a
// parameter named "submit" would hide the form's own method.
const formPostScript = `HTMLFormElement.prototype.submit.call(document.forms[0])`

var formPostHash = func() string {
	sum := sha256.Sum256([]byte(formPostScript))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

func formPostCSP(action string) string {
	return cspBase + "https:" + nativeSource(action) + "; script-src " + formPostHash
}

// privateUse is RFC 8252 §7.1's reverse domain name: it has a dot, which no
// scheme that a browser acts on itself has (javascript, data, blob, file …).
var privateUse = regexp.MustCompile(`^[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+$`)

// nativeSource is the CSP source of a redirect URI that is not https: a native
// app's loopback origin or private-use scheme. "" for all else.
func nativeSource(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	if err != nil {
		return ""
	}
	switch {
	case u.Scheme == "http" && loopback(u.Hostname()):
		if strings.Contains(u.Hostname(), ":") {
			return " http:" // CSP has no syntax for an IPv6 host
		}
		return " http://" + u.Hostname() + ":*"
	case privateUse.MatchString(u.Scheme):
		return " " + u.Scheme + ":"
	}
	return ""
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Protect refuses state-changing requests that another site caused, by
// Sec-Fetch-Site or, in browsers older than 2023, by Origin. Programs that send
// neither pass: they hold no customer's cookie.
//
// It belongs around the pages' own form posts. Not around /authorize, which
// clients may POST to from their site (OpenID Connect Core §3.1.2.1), and not
// around the protocol's endpoints, which no cookie authenticates.
func (p *Pages) Protect(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		// The error is not the caller's to handle: render has answered already.
		_ = p.Error(w, http.StatusForbidden, Error{
			Title: p.Text("error.cross_origin.title"),
			Text:  p.Text("error.cross_origin.text"),
			Code:  "cross_origin_request",
		})
	}))
	return protection.Handler(next)
}

// href lets a link through if it leads to a path of this server or to https
// (http on a loopback host); everything else becomes "", and no link is shown.
func href(link string) string {
	if localPath(link) {
		return link
	}
	u, err := url.Parse(link)
	if err != nil || u.Host == "" || u.User != nil {
		return ""
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()) {
		return link
	}
	return ""
}

// localPath reports whether link names a path of this server. Browsers read
// "//host", "/\host" and the like with tabs in between as another host.
func localPath(link string) bool {
	if !strings.HasPrefix(link, "/") || strings.HasPrefix(link, "//") {
		return false
	}
	if strings.ContainsFunc(link, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }) {
		return false
	}
	_, err := url.Parse(link)
	return err == nil
}

// host is the part of an https URL that tells a customer who is behind it.
func host(link string) string {
	u, err := url.Parse(link)
	if err != nil || href(link) == "" {
		return ""
	}
	return u.Hostname()
}
