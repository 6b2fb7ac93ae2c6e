package main

// expectedSkips are the modules that the suite may leave out, with the reason.
var expectedSkips = map[string]string{
	"oidcc-idtoken-unsigned":     "ID tokens are always signed",
	"oidcc-request-uri-unsigned": unsignedRequest,
	"oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported":    unsignedRequest,
	"oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported": unsignedRequest,
	"oidcc-ensure-request-object-with-redirect-uri":                                unsignedRequest,
}

const unsignedRequest = "request objects must be signed: `none` is not offered"

// picture is a page that the suite wants somebody to look at. A script looks: at a text that only this page has.
type picture struct {
	text   string
	script func(p pages, text string) []visit
}

// unusable is our error page with an error code: its title, and the code below it.
func unusable(code string) picture {
	return picture{`This link cannot be used[\s\S]*\b` + code + `\b`, pages.refused}
}

// unusableLogout is the same page where a logout ends.
var unusableLogout = picture{unusable("invalid_request").text, logoutEnds("error_page")}

var (
	loginAgain  = picture{`Sign in[\s\S]*User name[\s\S]*Password`, pages.logInAgain}
	askedLogout = picture{`Do you want to sign out\?`, logoutEnds("sign_out_page")}
	signedOut   = picture{`You are signed out`, logoutEnds("done_page", pages.signOut)}
)

// usedRequestURIPages are the modules of plans with pushed requests that end on an error page: the request_uri was used,
// has expired, or is another client's.
func usedRequestURIPages(prefix string) map[string]picture {
	out := map[string]picture{}
	for _, module := range []string{
		"par-attempt-reuse-request_uri", "par-attempt-to-use-expired-request_uri", "par-attempt-to-use-request_uri-for-different-client",
	} {
		out[prefix+module] = unusable("invalid_request_uri")
	}
	return out
}

// advancedPages are the modules of FAPI 1.0 that end on an error page. Who asks for a redirect URI that is not registered is
// sent nowhere.
func advancedPages(v fapi1Variant) map[string]picture {
	const prefix = "fapi1-advanced-final-"
	if v.method == pushed {
		return usedRequestURIPages(prefix)
	}
	return map[string]picture{
		prefix + "ensure-registered-redirect-uri":                   unusable("invalid_request"),
		prefix + "ensure-request-object-without-redirect-uri-fails": unusable("invalid_request_object"),
		prefix + "ensure-redirect-uri-in-authorization-request":     unusable("invalid_request_object"),
	}
}

// openIDPages are the modules of OpenID Connect in which the suite wants to see a page.
var openIDPages = map[string]picture{
	"oidcc-prompt-login": loginAgain,
	"oidcc-max-age-1":    loginAgain,

	"oidcc-registration-logo-uri":   {loginAgain.text, lookAtLogin("login_page")}, // other sites' pictures stay out of our pages
	"oidcc-registration-policy-uri": {`privacy policy`, lookAtLogin("client_policy")},
	"oidcc-registration-tos-uri":    {`terms of service`, lookAtLogin("client_terms")},

	// Who asks for a redirect URI that is not registered is sent nowhere.
	"oidcc-ensure-registered-redirect-uri":               unusable("invalid_request"),
	"oidcc-ensure-redirect-uri-in-authorization-request": unusable("invalid_request"),
	"oidcc-redirect-uri-query-mismatch":                  unusable("invalid_request"),
	"oidcc-redirect-uri-query-added":                     unusable("invalid_request"),

	"oidcc-rp-initiated-logout-bad-post-logout-redirect-uri":            unusableLogout,
	"oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri": unusableLogout,
	"oidcc-rp-initiated-logout-modified-id-token-hint":                  unusableLogout,
	"oidcc-rp-initiated-logout-bad-id-token-hint":                       unusableLogout,
	"oidcc-rp-initiated-logout-no-id-token-hint":                        askedLogout,
	"oidcc-rp-initiated-logout-no-params":                               signedOut,
	"oidcc-rp-initiated-logout-only-state":                              signedOut,
	"oidcc-rp-initiated-logout-no-post-logout-redirect-uri":             signedOut,
}
