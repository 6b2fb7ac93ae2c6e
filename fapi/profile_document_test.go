package fapi

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/profiles.md")

// documented is one line of the table: what is demanded, and how a profile's demand is written.
var documented = []struct {
	what  string
	value func(*Profile) string
}{
	{"Client authentication", func(p *Profile) string { return code(p.ClientAuth) }},
	{"Signatures", func(p *Profile) string { return code(p.Algorithms) }},
	{"`aud` of client assertions", func(p *Profile) string {
		if p.AssertionAudience == IssuerOnly {
			return "the issuer, one string"
		}
		return "issuer, token endpoint or endpoint called; arrays too"
	}},
	{"`exp` of client assertions", func(p *Profile) string { return "within " + words(p.MaxAssertionLife) }},
	{"Signed request object (RFC 9101)", func(p *Profile) string { return requirement(p.RequestObject) }},
	{"its `iss`, `aud`, `nbf`, `exp`", func(p *Profile) string {
		if p.RequestObjectMaxAge == 0 {
			return "checked when there"
		}
		return "required; `nbf` at most " + words(p.RequestObjectMaxAge) + " ago, `exp` at most as long after it"
	}},
	{"`request_uri` of the client's own", func(p *Profile) string { return allowed(p.RequestURI) }},
	{"Pushed requests (RFC 9126)", func(p *Profile) string { return requirement(p.PAR) }},
	{"PKCE, S256 only (RFC 7636)", func(p *Profile) string { return requirement(p.PKCE) }},
	{"`nonce` with `openid`, else `state`", func(p *Profile) string { return requirement(p.Nonce) }},
	{"Tokens bound", func(p *Profile) string { return requirement(p.SenderConstraint) + ", by " + code(p.Bindings) }},
	{"`response_type`", func(p *Profile) string { return code(p.ResponseTypes) }},
	{"`response_mode`", func(p *Profile) string { return code(p.ResponseModes) }},
	{"Answers must be signed (JARM) for", func(p *Profile) string { return orNone(code(p.JARMFor)) }},
	{"Redirect URIs", func(p *Profile) string {
		if p.HTTPSRedirect {
			return "https"
		}
		return "https; http on loopback; private schemes"
	}},
	{"Unknown scopes", func(p *Profile) string {
		if p.UnknownScope == Required {
			return "`invalid_scope`"
		}
		return "left out"
	}},
	{"Life of a `request_uri`, a code", func(p *Profile) string { return words(p.RequestURILifetime) + ", " + words(p.CodeLifetime) }},
	{"Life of an access token, an ID token", func(p *Profile) string { return words(p.AccessTokenLifetime) + ", " + words(p.IDTokenLifetime) }},
	{"Refresh token", func(p *Profile) string {
		when := "always"
		if p.Refresh == RefreshOffline {
			when = "with `offline_access`"
		}
		return when + ", " + words(p.RefreshLifetime)
	}},
	{"Device grant (RFC 8628), token exchange (RFC 8693)", func(p *Profile) string {
		return map[bool]string{true: "yes", false: "no"}[p.Device] + ", " + map[bool]string{true: "for clients that authenticate", false: "no"}[p.TokenExchange]
	}},
	{"CIBA: how clients learn what was decided", func(p *Profile) string { return orNone(code(p.CIBA)) }},
	{"its requests: signed; with a `binding_message`, `authorization_details` or consent", func(p *Profile) string {
		if len(p.CIBA) == 0 {
			return "none"
		}
		return requirement(p.RequestObject) + "; " + requirement(p.CIBAContext)
	}},
	{"What was approved once is asked again", func(p *Profile) string { return map[bool]string{true: "no", false: "yes"}[p.RememberConsent] }},
}

func code[T ~string](list []T) string {
	var out []string
	for _, x := range list {
		out = append(out, "`"+string(x)+"`")
	}
	return strings.Join(out, ", ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func allowed(yes bool) string {
	return map[bool]string{true: "allowed, registered ones", false: "refused"}[yes]
}

func requirement(r Requirement) string {
	return map[Requirement]string{Optional: "optional", ForPublic: "required of public clients", WhenPushed: "required when pushed", Required: "required"}[r]
}

func words(d time.Duration) string {
	n, unit := int(d/time.Second), "second"
	for _, next := range []struct {
		size int
		unit string
	}{{60, "minute"}, {60, "hour"}, {24, "day"}} {
		if n%next.size != 0 {
			break
		}
		n, unit = n/next.size, next.unit
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprint(n, " ", unit)
}

// The order in which the document shows them: the strictest last.
var documentedProfiles = []ProfileName{OpenID, FAPI1Baseline, FAPI1Advanced, FAPICIBA, FAPI2, FAPI2MessageSigning}

func profilesDocument() string {
	var b strings.Builder
	b.WriteString(`# Security profiles

Each client has one, by its metadata ` + "`profile`" + `. This table is made from ` + "`fapi/profile.go`" + `, which is what the server
enforces; a test fails when they differ. After a change: ` + "`go test ./fapi -run TestProfilesDocument -update`" + `.
`)
	for _, name := range documentedProfiles {
		fmt.Fprintf(&b, "\n- `%s`: %s", name, FindProfile(name).Source)
	}
	b.WriteString("\n\n| |")
	for _, name := range documentedProfiles {
		fmt.Fprintf(&b, " `%s` |", name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(documentedProfiles)) + "\n")
	for _, row := range documented {
		fmt.Fprintf(&b, "| %s |", row.what)
		for _, name := range documentedProfiles {
			fmt.Fprintf(&b, " %s |", row.value(FindProfile(name)))
		}
		b.WriteString("\n")
	}
	b.WriteString(`
` + "`query.jwt`, `fragment.jwt` and `form_post.jwt`" + ` are the signed answers of JARM; ` + "`response_mode=jwt`" + ` stands for the one that
belongs to the response type. A client that registered ` + "`response_modes`" + ` may use only those. An ID token from the
authorization endpoint always needs a ` + "`nonce`" + `; tokens never go into a query.
`)
	return b.String()
}

func TestProfilesDocument(t *testing.T) {
	t.Parallel()
	const file = "../docs/profiles.md"
	made := profilesDocument()
	if *update {
		if err := os.WriteFile(file, []byte(made), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != made {
		t.Error("docs/profiles.md is not what fapi/profile.go says: go test ./fapi -run TestProfilesDocument -update")
	}
	shown := slices.Clone(documentedProfiles)
	slices.Sort(shown)
	if !slices.Equal(shown, ProfileNames()) {
		t.Errorf("the document shows %v, there are %v", shown, ProfileNames())
	}
}
