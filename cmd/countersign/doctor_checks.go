package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

const (
	day         = 24 * time.Hour
	expiresSoon = 30 * day
	oldKey      = 100 * day // servers rotate after 90 days by themselves
	minPostgres = 140000
	minRSABits  = 2048
)

// doctorCheck is a requirement on a server.
type doctorCheck struct {
	id, clause, words string
	needs             func(*examination) bool // nil: nothing
	judge             func(*examination) (verdict fapi.Verdict, found, change string)
}

func needsDatabase(e *examination) bool { return e.databaseErr == nil && e.behind() == 0 }
func needsFiles(e *examination) bool    { return e.filesErr == nil }
func needsServer(e *examination) bool   { return e.server != nil }
func needsAnswer(e *examination) bool   { return e.server != nil && e.server.err == nil }

var doctorChecks = []doctorCheck{
	{"issuer", "RFC 8414 §2", "The issuer is an https URL without query, fragment or trailing slash", nil, func(e *examination) (fapi.Verdict, string, string) {
		return unless(isServerURL(e.settings.Issuer), e.settings.Issuer, "set issuer to such a URL; clients compare it character by character")
	}},
	{"mtls-base", "RFC 8705 §5", "The listener that asks for certificates has an https URL of its own", nil, func(e *examination) (fapi.Verdict, string, string) {
		return unless(isServerURL(e.settings.MTLSBase) && e.settings.MTLSBase != e.settings.Issuer && e.settings.Listen != e.settings.MTLSListen,
			e.settings.MTLSBase, "set mtls-base and mtls-listen to another host or port than the issuer's, so that no browser is asked for a certificate")
	}},
	{"resource", "RFC 8707 §2", "The bank's API is named by an absolute URI without fragment", nil, func(e *examination) (fapi.Verdict, string, string) {
		u, err := url.Parse(e.settings.Resource)
		return unless(err == nil && u.IsAbs() && !strings.Contains(e.settings.Resource, "#"), e.settings.Resource, "set resource to such a URI")
	}},
	{"files", "operation", "Certificates, keys and authorities can be read", nil, func(e *examination) (fapi.Verdict, string, string) {
		if e.filesErr != nil {
			return fapi.Failed, "", e.filesErr.Error()
		}
		return fapi.OK, fmt.Sprintf("%d certificates", len(e.certificates)), ""
	}},
	{"tls-versions", "FAPI 2.0 SP §5.2.1, FAPI 1.0 Part 1 §7.1", "TLS 1.2 or later", nil, func(*examination) (fapi.Verdict, string, string) {
		oldest := listenerTLS(nil).MinVersion
		return unless(oldest >= tls.VersionTLS12, "from "+tls.VersionName(oldest), "a fault of this program: report it")
	}},
	{"tls-suites", "FAPI 2.0 SP §5.2.2, FAPI 1.0 Part 2 §8.5", "TLS 1.2 only with the suites of RFC 9325 §4.2", nil, func(*examination) (fapi.Verdict, string, string) {
		var names []string
		good := true
		for _, suite := range listenerTLS(nil).CipherSuites {
			name := tls.CipherSuiteName(suite)
			names = append(names, name)
			good = good && strings.HasPrefix(name, "TLS_ECDHE_") && strings.Contains(name, "_AES_") && strings.Contains(name, "_GCM_")
		}
		return unless(good && len(names) > 0, strings.Join(names, ", "), "a fault of this program: report it")
	}},
	{"certificate-names", "RFC 9525 §6.3", "The certificates are for the hosts of issuer and mtls-base", needsFiles, certificateNames},
	{"certificate-time", "RFC 5280 §4.1.2.5", "The certificates are valid, for a month at least", needsFiles, certificateTime},
	{"certificate-keys", "FAPI 1.0 Part 1 §5.2.2-5, -6; FAPI 2.0 SP §5.4.1-2, -3", "Their keys are strong enough", needsFiles, certificateKeys},
	{"certificate-kind", "FAPI 1.0 Part 2 §8.5", "One certificate has an RSA key: the TLS 1.2 suites of FAPI 1.0 need it", needsFiles, certificateKind},

	{"master-key", "operation", "The master key is there, random, and nobody else's to read", nil, masterKey},
	{"database", "operation", "Postgres 14 or later answers", nil, func(e *examination) (fapi.Verdict, string, string) {
		if e.databaseErr != nil {
			return fapi.Failed, "", e.databaseErr.Error()
		}
		return unless(e.database.version >= minPostgres, fmt.Sprintf("version %d.%d", e.database.version/10000, e.database.version%10000), "use a newer Postgres")
	}},
	{"database-encryption", "RFC 9700 §4.3", "The way to the database is encrypted, or does not leave this machine", func(e *examination) bool { return e.database.version > 0 }, func(e *examination) (fapi.Verdict, string, string) {
		return unless(e.database.encrypted, "", "add sslmode=verify-full to the connection string")
	}},
	{"schema", "operation", "All migrations are applied", func(e *examination) bool { return len(e.database.migrations) > 0 }, func(e *examination) (fapi.Verdict, string, string) {
		n := e.behind()
		return unless(n == 0, fmt.Sprintf("%d of %d", len(e.database.migrations)-n, len(e.database.migrations)), "countersign migrate")
	}},
	{"clock", "FAPI 2.0 SP §5.3.2.1-13", "This machine's clock and the database's agree", func(e *examination) bool { return e.database.version > 0 }, func(e *examination) (fapi.Verdict, string, string) {
		found := fmt.Sprintf("%v apart", e.database.skew.Abs().Round(time.Millisecond))
		switch skew := e.database.skew.Abs(); {
		case skew > fapi.Skew:
			return fapi.Failed, found, "set both by NTP: proofs and assertions are refused as too old or too new"
		case skew > time.Second:
			return fapi.Advice, found, "set both by NTP"
		}
		return fapi.OK, found, ""
	}},

	{"signing-algorithms", "FAPI 2.0 SP §5.4.1-1, FAPI 1.0 Part 2 §8.6", "The server signs with what its clients expect, PS256 or ES256 among them", nil, signingAlgorithms},
	{"signing-keys", "FAPI 2.0 SP §5.4.1-2, -3", "Each algorithm has a key that signs and one that is next, strong and not old", needsDatabase, signingKeys},
	{"dpop-nonces", "FAPI 2.0 SP §5.3.2.1-10, RFC 9449 §11.3", "DPoP proofs need a nonce of this server", nil, func(e *examination) (fapi.Verdict, string, string) {
		return better(e.settings.DPoPNonces, "set dpop-nonces: proofs cannot be made in advance then")
	}},
	{"hsts", "FAPI 2.0 SP §5.2.3, RFC 6797", "Browsers are told to use https only", nil, func(e *examination) (fapi.Verdict, string, string) {
		return better(e.settings.HSTS, "set hsts, once every host below the issuer's has https")
	}},
	{"second-factor", "FAPI 1.0 Part 1 §5.2.2-11", "Customers show two factors before they grant access", nil, func(e *examination) (fapi.Verdict, string, string) {
		v, _, change := better(e.settings.SecondFactor != "optional", "set second-factor to consents or required (strong customer authentication)")
		return v, e.settings.SecondFactor, change
	}},
	{"client-ca", "RFC 8705 §2.1", "Clients with tls_client_auth have authorities to be vouched for by", needsDatabase, func(e *examination) (fapi.Verdict, string, string) {
		uses := func(c *fapi.Client) bool { return c.TokenEndpointAuthMethod == fapi.TLSClientAuth }
		return unless(len(e.settings.ClientCA) > 0 || !slices.ContainsFunc(e.readClients(), uses), fmt.Sprintf("%d files", len(e.settings.ClientCA)), "set client-ca")
	}},
	{"outbound-certificate", "docs/ciba-delivery.md", "The server has a certificate for clients whose notification endpoints ask for one", needsDatabase, func(e *examination) (fapi.Verdict, string, string) {
		asks := func(c *fapi.Client) bool { return c.BackchannelNotificationMTLS }
		return unless(e.settings.OutboundCert != "" || !slices.ContainsFunc(e.readClients(), asks), e.settings.OutboundCert, "set outbound-certificate and outbound-key: these clients are not told anything")
	}},
	{"client-certificate-header", "RFC 9440 §4", "A header with client certificates is believed only from proxies that are named", nil, func(e *examination) (fapi.Verdict, string, string) {
		h, err := e.settings.certificateHeader()
		switch {
		case err != nil:
			return fapi.Failed, e.settings.CertificateHeader, err.Error()
		case h == nil:
			return fapi.OK, "none", ""
		}
		return fapi.OK, fmt.Sprintf("%s (%s) from %v", h.Name, h.Form, h.From), ""
	}},
	{"identity-providers", "OpenID Connect Discovery §4", "The other providers at which customers may log in answer", nil, identityProviders},
	{"clients", "docs/profiles.md", "Every client satisfies its profile", needsDatabase, clientsSatisfy},

	{"server-answers", "RFC 8414 §3", "The running server answers, and its certificate is trusted", needsServer, func(e *examination) (fapi.Verdict, string, string) {
		if e.server.err != nil {
			return fapi.Failed, "", e.server.err.Error()
		}
		return fapi.OK, tls.VersionName(e.server.handshake.Version), ""
	}},
	{"server-tls", "RFC 9325 §3.1.1", "It prefers TLS 1.3, and refuses 1.1", needsAnswer, func(e *examination) (fapi.Verdict, string, string) {
		return unless(e.server.handshake.Version == tls.VersionTLS13 && e.server.old != nil, tls.VersionName(e.server.handshake.Version), "something in front of the server ends TLS: let it pass through")
	}},
	{"server-certificate", "operation", "It shows one of these certificates", func(e *examination) bool { return needsAnswer(e) && needsFiles(e) }, func(e *examination) (fapi.Verdict, string, string) {
		shown := e.server.handshake.PeerCertificates[0]
		ours := func(c tls.Certificate) bool { return c.Leaf.Equal(shown) }
		return unless(slices.ContainsFunc(e.certificates, ours), "serial "+shown.SerialNumber.String(), "restart the server, if the certificate was renewed; else something in front of it ends TLS")
	}},
	{"server-hsts", "FAPI 2.0 SP §5.2.3, RFC 6797", "It tells browsers to use https only, as set", needsAnswer, func(e *examination) (fapi.Verdict, string, string) {
		return unless((e.server.hsts != "") == e.settings.HSTS, e.server.hsts, "restart the server with these settings")
	}},
	{"discovery-issuer", "RFC 8414 §3.3", "Its metadata name the issuer, and https endpoints alone", needsAnswer, discoveryDocument},
	{"discovery-keys", "FAPI 2.0 SP §5.4.2", "Its keys have kids of their own, and none is symmetric", needsAnswer, func(e *examination) (fapi.Verdict, string, string) {
		seen, good := map[string]bool{}, len(e.server.jwks) > 0
		for _, k := range e.server.jwks {
			good = good && k.KID != "" && !seen[k.KID] && k.Kty != "oct"
			seen[k.KID] = true
		}
		return unless(good, fmt.Sprintf("%d keys", len(e.server.jwks)), "look at jwks_uri: something else answers there")
	}},
}

func unless(good bool, found, change string) (fapi.Verdict, string, string) {
	if good {
		return fapi.OK, found, ""
	}
	return fapi.Failed, found, change
}

func better(good bool, change string) (fapi.Verdict, string, string) {
	if good {
		return fapi.OK, "", ""
	}
	return fapi.Advice, "", change
}

func isServerURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && !strings.ContainsAny(text, "?#") && !strings.HasSuffix(text, "/")
}

func certificateNames(e *examination) (fapi.Verdict, string, string) {
	var missing []string
	for _, base := range []string{e.settings.Issuer, e.settings.MTLSBase} {
		u, err := url.Parse(base)
		if err != nil {
			continue // said elsewhere
		}
		covers := func(c tls.Certificate) bool { return c.Leaf.VerifyHostname(u.Hostname()) == nil }
		if !slices.ContainsFunc(e.certificates, covers) {
			missing = append(missing, u.Hostname())
		}
	}
	return unless(len(missing) == 0, "", "no certificate is for "+strings.Join(missing, ", "))
}

func certificateTime(e *examination) (fapi.Verdict, string, string) {
	verdict, found, change := fapi.OK, []string{}, ""
	for _, c := range e.certificates {
		found = append(found, "until "+c.Leaf.NotAfter.UTC().Format(time.DateOnly))
		switch {
		case e.now.After(c.Leaf.NotAfter), e.now.Before(c.Leaf.NotBefore):
			verdict, change = fapi.Failed, "renew the certificate: it has expired, or is not valid yet"
		case c.Leaf.NotAfter.Sub(e.now) < expiresSoon && verdict == fapi.OK:
			verdict, change = fapi.Advice, "renew the certificate soon"
		}
	}
	return verdict, strings.Join(found, ", "), change
}

// keyStrength describes a key, and tells whether it is strong enough.
func keyStrength(key any) (string, bool) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen()), k.N.BitLen() >= minRSABits
	case *ecdsa.PublicKey:
		return k.Curve.Params().Name, k.Curve.Params().BitSize >= 256
	case ed25519.PublicKey:
		return "Ed25519", true
	}
	return "unknown", false
}

func certificateKeys(e *examination) (fapi.Verdict, string, string) {
	found, good := []string{}, true
	for _, c := range e.certificates {
		kind, strong := keyStrength(c.Leaf.PublicKey)
		found, good = append(found, kind), good && strong
	}
	return unless(good, strings.Join(found, ", "), "make a certificate with RSA of 2048 bits or more, or P-256")
}

func certificateKind(e *examination) (fapi.Verdict, string, string) {
	for _, c := range e.certificates {
		if c.Leaf.PublicKeyAlgorithm == x509.RSA {
			return fapi.OK, "RSA", ""
		}
	}
	return fapi.Advice, "none", "add an RSA certificate beside the other one (tls-cert and tls-key take several), if clients of FAPI 1.0 call with TLS 1.2"
}

func masterKey(e *examination) (fapi.Verdict, string, string) {
	if e.masterErr != nil {
		return fapi.Failed, "", e.masterErr.Error()
	}
	key, _ := e.settings.masterKey()
	if slices.Max(key) == 0 {
		return fapi.Failed, "zeros", "this key is zeros: make one with 'countersign key master', with a new database"
	}
	if e.settings.MasterKeyFile == "" {
		return fapi.Advice, "from the environment", "name a file with --master-key-file: an environment is seen by more than a file is"
	}
	info, err := os.Stat(e.settings.MasterKeyFile)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		return fapi.Advice, "mode " + info.Mode().Perm().String(), "chmod 400, if its group and others are not meant to read it"
	}
	return fapi.OK, "from a file", ""
}

// readClients returns the clients that can be read.
func (e *examination) readClients() (clients []*fapi.Client) {
	for _, row := range e.database.clients {
		if c, err := fapi.ParseClient(row.Metadata); err == nil {
			clients = append(clients, c)
		}
	}
	return clients
}

func signingAlgorithms(e *examination) (fapi.Verdict, string, string) {
	found := strings.Join(e.settings.Signing, ", ")
	for _, alg := range e.settings.Signing {
		if !slices.Contains(keys.AllAlgorithms, jose.SignatureAlgorithm(alg)) {
			return fapi.Failed, found, fmt.Sprintf("%q is not one of %v", alg, keys.AllAlgorithms)
		}
	}
	if !slices.Contains(e.settings.Signing, "PS256") && !slices.Contains(e.settings.Signing, "ES256") {
		return fapi.Failed, found, "add ES256 or PS256 to signing"
	}
	for _, c := range e.readClients() {
		for _, alg := range []jose.SignatureAlgorithm{c.IDTokenSignedResponseAlg, c.UserInfoSignedResponseAlg, c.AuthorizationSignedResponseAlg, c.IntrospectionSignedResponseAlg} {
			if alg != "" && !slices.Contains(e.settings.Signing, string(alg)) {
				return fapi.Failed, found, fmt.Sprintf("client %q expects %s: add it to signing", c.ID, alg)
			}
		}
	}
	return fapi.OK, found, ""
}

func signingKeys(e *examination) (fapi.Verdict, string, string) {
	verdict, change, found := fapi.OK, "", []string{}
	for _, alg := range e.settings.Signing {
		find := func(state string) int {
			return slices.IndexFunc(e.database.keys, func(k storage.SigningKey) bool { return k.Alg == alg && k.State == state })
		}
		current := find(storage.KeyCurrent)
		if current < 0 || find(storage.KeyNext) < 0 {
			verdict, change = fapi.Advice, "a server makes what is missing when it starts"
			found = append(found, alg+": none yet")
			continue
		}
		k := e.database.keys[current]
		since := k.CreatedAt
		if k.ActivatedAt != nil {
			since = *k.ActivatedAt
		}
		age := e.now.Sub(since)
		kind, strong := privateKeyStrength(k.PKCS8)
		found = append(found, fmt.Sprintf("%s: %s, %d days", alg, kind, age/day))
		switch {
		case !strong:
			return fapi.Failed, strings.Join(found, "; "), "countersign key rotate --alg " + alg
		case age > oldKey && verdict == fapi.OK:
			verdict, change = fapi.Advice, "countersign key rotate: no server has rotated for long"
		}
	}
	return verdict, strings.Join(found, "; "), change
}

func privateKeyStrength(pkcs8 []byte) (string, bool) {
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return "unreadable", false
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return keyStrength(&k.PublicKey)
	case *ecdsa.PrivateKey:
		return keyStrength(&k.PublicKey)
	case ed25519.PrivateKey:
		return keyStrength(k.Public())
	}
	return "unknown", false
}

func clientsSatisfy(e *examination) (fapi.Verdict, string, string) {
	var wrong []string
	for _, row := range e.database.clients {
		findings, err := fapi.CheckRegistration(row.Metadata, "")
		if row.DisabledAt == nil && (err != nil || fapi.Failures(findings) > 0) {
			wrong = append(wrong, row.ID)
		}
	}
	return unless(len(wrong) == 0, fmt.Sprintf("%d clients", len(e.database.clients)), "countersign client check "+strings.Join(wrong, ", "))
}

func discoveryDocument(e *examination) (fapi.Verdict, string, string) {
	if e.server.metadata["issuer"] != e.settings.Issuer {
		return fapi.Failed, fmt.Sprint(e.server.metadata["issuer"]), "the server runs with another issuer than these settings"
	}
	addresses := map[string]any{}
	for name, value := range e.server.metadata {
		addresses[name] = value
	}
	aliases, _ := e.server.metadata["mtls_endpoint_aliases"].(map[string]any)
	for name, value := range aliases {
		addresses["mtls_endpoint_aliases."+name] = value
	}
	for name, value := range addresses {
		text, isText := value.(string)
		if isText && (strings.HasSuffix(name, "_endpoint") || name == "jwks_uri") && !strings.HasPrefix(text, "https://") {
			return fapi.Failed, name + " " + text, "an endpoint without https"
		}
	}
	return fapi.OK, e.settings.Issuer, ""
}
