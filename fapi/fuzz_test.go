package fapi

import (
	"crypto/x509"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

func FuzzAssertion(f *testing.F) {
	good := makeAssertion(jose.ES256, nil, nil)
	f.Add(good, "")
	f.Add(makeAssertion(jose.EdDSA, nil, nil), `{"iss":"tpp","sub":"tpp","aud":["https://bank.example"],"jti":"a","exp":1772366460.5}`)
	f.Add("..", `{"iss":null,"exp":1e400}`)
	f.Add(strings.Replace(good, ".", "..", 1), `{"iss":"tpp","sub":"tpp","aud":"https://bank.example","jti":"a","exp":1772366460}`)
	f.Fuzz(func(t *testing.T, assertion, claims string) {
		in := assertionContext()
		id, err := AssertionIssuer(assertion)
		sendable(t, err)
		if err == nil && !validClientID(id) {
			t.Fatalf("names the client %q", id)
		}
		for _, client := range []*Client{strictTPP(), openTPP()} {
			_, err = client.CheckAssertion(assertion, in)
			sendable(t, err)
			if err == nil && id != "tpp" {
				t.Fatalf("accepted, but AssertionIssuer names %q", id)
			}
			// Claims with a good signature come from the client, but need not be sane.
			use, err := client.CheckAssertion(signRaw(claims), in)
			sendable(t, err)
			if err == nil && (!use.ExpiresAt.After(now) || use.ExpiresAt.After(now.Add(client.Rules().MaxAssertionLife+2*Skew)) || use.IssuedAt.After(now)) {
				t.Fatalf("accepted with %+v", use)
			}
		}
	})
}

func FuzzDPoP(f *testing.F) {
	f.Add(makeProof(jose.ES256, nil, nil), tokenEndpoint)
	f.Add(makeProof(jose.EdDSA, nil, nil), "HTTPS://bank.example:443/./token?x#y")
	f.Add("a.b.c", "https://a/%2e%2e/%zz")
	f.Add("a.b.c", "https://:") // a port without host
	f.Fuzz(func(t *testing.T, proof, htu string) {
		got, err := CheckDPoP([]string{proof}, proofRequest())
		sendable(t, err)
		if err == nil && (len(got.JKT) != 43 || !got.Use.ExpiresAt.After(now) || got.Use.IssuedAt.After(now)) {
			t.Fatalf("accepted with %+v", got)
		}
		if normal, ok := normalURL(htu); ok {
			if again, ok := normalURL(normal); !ok || again != normal {
				t.Fatalf("normalising twice: %q, then %q", normal, again)
			}
			if strings.Contains(normal, "/../") || !strings.HasPrefix(normal, "http") || !sameTarget(htu, normal) && !strings.ContainsAny(htu, "?#") {
				t.Fatalf("%q becomes %q", htu, normal)
			}
		}
		if sameTarget(htu, tokenEndpoint) {
			if u, err := url.Parse(withoutQuery(htu)); err != nil || u.User != nil || !strings.EqualFold(u.Hostname(), "bank.example") {
				t.Fatalf("%q passes for the token endpoint", htu)
			}
		}
	})
}

func FuzzClaims(f *testing.F) {
	f.Add(`{"id_token":{"acr":{"essential":true,"values":["a"]},"openbanking_intent_id":{"value":"x"}},"userinfo":{"email":null}}`)
	f.Add(`{"userinfo":{"a":{"value":{"b":[1]}}}}`)
	f.Add(`{"userinfo":{"a":null,"\u0061":null}}`)
	f.Fuzz(func(t *testing.T, raw string) {
		claims, err := ParseClaims(raw)
		sendable(t, err)
		if err == nil {
			storedJSON(t, claims, &ClaimsRequest{})
		}
		got, err := strictTPP().CheckAuthorizationRequest(request("claims="+raw), nil)
		sendable(t, err)
		if err == nil {
			stored(t, got)
		}
	})
}

func FuzzAuthorizationDetails(f *testing.F) {
	f.Add("[" + account + "," + payment + "]")
	f.Add(`[{"type":"account_information","identifier":"\ud83d\ude00\\u0000"}]`)
	f.Add(`[{"type":"x","type":"y"}]`)
	types, allowed := DefaultDetailTypes(), []string{"account_information", "payment_initiation"}
	f.Fuzz(func(t *testing.T, raw string) {
		details, err := ParseAuthorizationDetails(raw, types, allowed)
		sendable(t, err)
		if err != nil {
			return
		}
		storedJSON(t, details, &[]AuthorizationDetail{})
		for _, d := range details {
			if _, known := types[d.Type]; !known || !slices.Contains(allowed, d.Type) || len(d.Fields) == 0 {
				t.Fatalf("accepted %+v", d)
			}
		}
		again, err := ParseAuthorizationDetails(string(must(json.Marshal(details))), types, allowed)
		if err != nil || len(again) != len(details) {
			t.Fatalf("what was accepted is refused when it comes back: %v", err)
		}
	})
}

// storedJSON checks that a value is the same after it was written and read.
func storedJSON(t *testing.T, value, into any) {
	t.Helper()
	text := must(json.Marshal(value))
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if again := must(json.Marshal(into)); string(again) != string(text) {
		t.Fatalf("stored and read it is another:\n%s\n%s", text, again)
	}
}

func FuzzClient(f *testing.F) {
	f.Add(must(json.Marshal(strictTPP())))
	f.Add(must(json.Marshal(openTPP())))
	f.Add([]byte(`{"client_id":"a","profile":"openid","token_endpoint_auth_method":"none","redirect_uris":["http://127.0.0.1/"],"jwks":{"keys":[{"kty":"oct","k":"AA"}]}}`))
	f.Add([]byte(`{"client_id":"a","token_endpoint_auth_method":"tls_client_auth","tls_client_auth_subject_dn":"CN=x","grant_types":["client_credentials"]}`))
	f.Fuzz(func(t *testing.T, metadata []byte) {
		c, err := ParseClient(metadata)
		if err != nil {
			return
		}
		if !validClientID(c.ID) || !slices.Contains(c.Rules().ClientAuth, c.TokenEndpointAuthMethod) {
			t.Fatalf("accepted %s", metadata)
		}
		if c.JWKS != nil && checkJWKS(c.JWKS) != nil {
			t.Fatalf("accepted bad keys: %s", metadata)
		}
		if c.TokenEndpointAuthMethod == PrivateKeyJWT && c.JWKSURI == "" && len(c.keys().verify) == 0 {
			t.Fatal("private_key_jwt without keys")
		}
		again, err := ParseClient(must(json.Marshal(c)))
		if err != nil {
			t.Fatalf("stored it cannot be read: %v", err)
		}
		if a, b := must(json.Marshal(c)), must(json.Marshal(again)); string(a) != string(b) {
			t.Fatalf("stored and read it is another:\n%s\n%s", a, b)
		}
		sendable(t, c.CheckCertificate([]*x509.Certificate{{}}, nil, now))
	})
}

func FuzzDN(f *testing.F) {
	for _, text := range []string{
		"CN=tpp,O=Acme,C=GB", `CN="a, b" + OU=\2c\20,2.5.4.97=#0c0141`, `UID=\#42,CN=\ J. \"Jim\"\ `, "CN=Ünïcödé", "CN=,C=", "OID.1.2=#00",
	} {
		f.Add(text, encodeDN([]attribute{{oidCN, 12, text}}))
	}
	f.Add("C=GB", encodeDN([]attribute{{oidO, 30, "\x00B"}, {oidC, 4, "x"}}))
	f.Fuzz(func(t *testing.T, text string, der []byte) {
		dn, err := parseDN(text)
		if err == nil {
			if !utf8.ValidString(text) || len(dn) == 0 || !dn.same(dn) {
				t.Fatalf("%q is not itself: %q", text, dn)
			}
			back, err := parseDN(writeDN(dn))
			if err != nil || !dn.same(back) || !slices.EqualFunc(dn, back, slices.Equal) {
				t.Fatalf("%q is %q, is %q: %v", text, dn, back, err)
			}
		}
		subject, err := parseRawDN(der)
		if err == nil && len(subject) > 0 && !slices.ContainsFunc(subject, func(rdn []string) bool { return len(rdn) == 0 }) {
			back, err := parseDN(writeDN(subject))
			if err == nil && !subject.same(back) {
				t.Fatalf("%q is %q", subject, back)
			}
		}
	})
}

// writeDN writes a name as RFC 4514 §2 tells, every special character by its code.
func writeDN(dn distinguishedName) string {
	var out strings.Builder
	for i, rdn := range dn {
		for j, attribute := range rdn {
			if i > 0 && j == 0 {
				out.WriteByte(',')
			} else if j > 0 {
				out.WriteByte('+')
			}
			oid, value, _ := strings.Cut(attribute, "=")
			out.WriteString(oid + "=")
			if der, ok := strings.CutPrefix(value, "der:"); ok {
				out.WriteString("#" + der)
				continue
			}
			for _, b := range []byte(strings.TrimPrefix(value, "text:")) {
				const hexDigits = "0123456789ABCDEF"
				out.Write([]byte{'\\', hexDigits[b>>4], hexDigits[b&15]})
			}
		}
	}
	return out.String()
}

func FuzzRedirect(f *testing.F) {
	for _, uri := range []string{"https://tpp.example/callback", "http://127.0.0.1:80/cb", "http://[::1]:8080/", "http://127.0.0.1:80@evil/cb"} {
		f.Add(uri, "http://127.0.0.1/cb", "s", "query")
	}
	f.Add("http://127.0.0.1:1?x", "http://127.0.0.1?x", "a\nb", "jwt")
	f.Fuzz(func(t *testing.T, uri, registered, state, mode string) {
		c := tpp(OpenID)
		c.RedirectURIs = []string{registered}
		if checkRedirectURI(registered, false) != nil {
			return
		}
		must(c, c.Prepare())
		got, err := c.CheckRedirect(url.Values{"redirect_uri": {uri}, "state": {state}, "response_mode": {mode}})
		sendable(t, err)
		if err != nil {
			return
		}
		if got.URI != uri || got.State != "" && got.State != state || hasControls(got.State) || !slices.Contains(c.Rules().ResponseModes, got.ResponseMode) {
			t.Fatalf("%+v", got)
		}
		a, b := must(url.Parse(uri)), must(url.Parse(registered))
		if a.Scheme != b.Scheme || a.Hostname() != b.Hostname() || a.User != nil || a.EscapedPath() != b.EscapedPath() || a.RawQuery != b.RawQuery || a.Fragment != "" {
			t.Fatalf("%q passes for %q", uri, registered)
		}
	})
}

func FuzzParameters(f *testing.F) {
	f.Add(request().Encode())
	f.Add(request("prompt=none", "max_age=1", "+resource=https://api.bank.example", "authorization_details=["+account+"]").Encode())
	f.Add("scope=a&scope=b&%00=%ff")
	f.Fuzz(func(t *testing.T, query string) {
		params, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		wellFormed := CheckParameters(params)
		sendable(t, wellFormed)
		for _, client := range []*Client{strictTPP(), openTPP()} {
			got, err := client.CheckAuthorizationRequest(params, DefaultDetailTypes())
			sendable(t, err)
			if err != nil {
				continue
			}
			stored(t, got)
			switch {
			case wellFormed != nil, !client.HasRedirectURI(got.RedirectURI), got.ClientID != client.ID,
				client.MustPKCE() && got.CodeChallenge == "", len(got.Scopes) == 0 && len(got.AuthorizationDetails) == 0,
				slices.ContainsFunc(got.Scopes, func(s string) bool { return !slices.Contains(client.Scopes(), s) }),
				slices.ContainsFunc(got.Resources, func(r string) bool { return !slices.Contains(client.Resources, r) }),
				hasControls(got.State + got.Nonce + got.LoginHint + got.UILocales + got.IDTokenHint),
				got.State != params.Get("state"), got.Nonce != params.Get("nonce"):
				t.Fatalf("accepted %q as %+v", query, got)
			}
		}
	})
}
