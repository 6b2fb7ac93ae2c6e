package web

import _ "embed"

// LoginPasskey is the button of the login page that asks the browser for a passkey, in a form of its own. Inputs: state and
// response, which the script fills. Without scripts, or passkeys, it is not seen: there is the password.
type LoginPasskey struct {
	Action   string // a path of this server
	Hidden   []Field
	BeginURL string // where the script gets {"options": …, "state": …}; Options of a [FactorPart] are such options
	Script   string // [PasskeyScript]
	Problem  string // what went wrong the last time, "" for nothing
}

func (k *LoginPasskey) problem() string {
	if k == nil {
		return ""
	}
	return k.Problem
}

//go:embed static/passkey.js
var passkeyScript []byte

var passkeyFile = newFile("passkey.js", "text/javascript; charset=utf-8", passkeyScript)

// PasskeyScript is the address of the script that asks the browser for a passkey, for [FactorPart].Script. It works in the
// first form that has data-options, or data-begin, and inputs state and response.
func PasskeyScript() string { return passkeyFile.url() }

// passkeyCSP lets the script of the login page run, and ask for a challenge.
func passkeyCSP(csp string, k *LoginPasskey) string {
	if k == nil {
		return csp
	}
	return csp + "; script-src 'self'; connect-src 'self'"
}
