package fapi

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// CertificateForm is how a proxy that ends TLS writes the certificate of a client into a header.
type CertificateForm string

// The forms that are known. None is guessed: what two readers could read differently proves nothing.
const (
	// FormRFC9440 is the standard's: the certificate as a byte sequence (:MII…=:), and the rest of the chain as a list of
	// them in another header, Client-Cert-Chain (RFC 9440 §2.2, §2.3).
	FormRFC9440 CertificateForm = "rfc9440"

	// FormNginx is nginx's $ssl_client_escaped_cert, and AWS's X-Amzn-Mtls-Clientcert: PEM, URL-encoded.
	FormNginx CertificateForm = "nginx"

	// FormHAProxy is HAProxy's %[ssl_c_der,base64]. The rest of the chain may be in another header, -Chain at the end of its
	// name, as %[ssl_c_chain_der,base64].
	FormHAProxy CertificateForm = "haproxy"

	// FormEnvoy is Envoy's x-forwarded-client-cert, with Cert or Chain or both: URL-encoded PEM in quotes.
	FormEnvoy CertificateForm = "envoy"

	// FormPEM is what everybody else makes: PEM or the base64 within it alone, URL-encoded or not, its line breaks turned
	// into blanks or left out (WSO2's ssl.client.auth.cert.X509, Traefik, Apache, nginx's $ssl_client_cert).
	FormPEM CertificateForm = "pem"
)

const maxCertificateHeader = 16 << 10 // bytes of all values together: a chain of three, URL-encoded, has about 9 KiB

// certificateForm reads one form. chain is nil where the chain is in no header of its own.
type certificateForm struct {
	value func(string) ([]*x509.Certificate, error)
	chain func([]string) ([]*x509.Certificate, error)
}

var certificateForms = map[CertificateForm]certificateForm{
	FormRFC9440: {parseByteSequence, parseByteSequences},
	FormNginx:   {parseEscapedPEM, nil},
	FormHAProxy: {parseBase64, parseBase64Chain},
	FormEnvoy:   {parseForwardedClientCert, nil},
	FormPEM:     {parseAnyPEM, nil},
}

// CertificateHeader says which proxies hand over the certificate of a client, in which header (RFC 9440). That the client
// holds its key was proved in the proxy's handshake, not in ours: so nobody else's header counts.
type CertificateHeader struct {
	Name     string          // RFC 9440: Client-Cert
	Form     CertificateForm // how it is written
	From     []netip.Prefix  // addresses of the proxies
	Verified bool            // they take only certificates of the authorities trusted here: issuers need not be checked again

	// Parse reads the values of the header in the place of Form, for a proxy with a form of its own. No certificate is nil.
	Parse func(values []string) ([]*x509.Certificate, error)
}

// Check reports all that is wrong with the settings.
func (h *CertificateHeader) Check() error {
	var wrong []error
	if h.Name == "" || strings.ContainsFunc(h.Name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) }) {
		wrong = append(wrong, fmt.Errorf("header of client certificates %q: not the name of a header", h.Name))
	}
	if _, known := certificateForms[h.Form]; !known && h.Parse == nil {
		wrong = append(wrong, fmt.Errorf("header of client certificates: the form %q is not known", h.Form))
	}
	if len(h.From) == 0 {
		wrong = append(wrong, errors.New("header of client certificates: no proxy is trusted to set it"))
	}
	for _, from := range h.From {
		if !from.IsValid() || from.Masked() != from || from.Addr().Is4In6() || from.Bits() == 0 {
			wrong = append(wrong, fmt.Errorf("trusted proxy %v: not a network such as 10.1.2.0/24, or all there are", from))
		}
	}
	return errors.Join(wrong...)
}

// Trusts tells whether the peer of a connection ("address:port", as http.Request.RemoteAddr has it) is one of the proxies.
func (h *CertificateHeader) Trusts(peer string) bool {
	at, err := netip.ParseAddrPort(peer)
	if err != nil {
		return false
	}
	address := at.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(h.From, func(from netip.Prefix) bool { return from.Contains(address) })
}

// Present tells whether a request has the header.
func (h *CertificateHeader) Present(header http.Header) bool { return len(header.Values(h.Name)) > 0 }

// Certificates reads the header in a request of a trusted proxy: the certificates of the client, its own first; nil when it
// sent none. What cannot be read is refused with invalid_request: it is not the same as none.
func (h *CertificateHeader) Certificates(header http.Header) ([]*x509.Certificate, error) {
	values := header.Values(h.Name)
	if h.Parse == nil {
		return ParseCertificateHeader(h.Form, values, header.Values(h.Name+"-Chain"))
	}
	certs, err := h.Parse(values)
	if err != nil {
		return nil, errCertificateHeader.Because(err)
	}
	return certs, nil
}

var errCertificateHeader = Refuse(InvalidRequest, "The certificate of the client cannot be read from what the proxy says about it.")

// ParseCertificateHeader reads the values of a header of that form, and those of the one beside it with the chain. Blanks
// around and between do not matter; no header, an empty one, "null" and "(null)" mean that the client sent no
// certificate. Whatever else is wrong, twice or too long is refused with invalid_request.
func ParseCertificateHeader(form CertificateForm, values, chain []string) ([]*x509.Certificate, error) {
	certs, err := parseCertificateHeader(form, values, chain)
	if err != nil {
		return nil, errCertificateHeader.Because(err)
	}
	return certs, nil
}

func parseCertificateHeader(form CertificateForm, values, chain []string) ([]*x509.Certificate, error) {
	parse, known := certificateForms[form]
	if !known {
		return nil, errors.New("the form is not known")
	}
	if parse.chain == nil {
		chain = nil
	}
	size := 0
	for _, value := range slices.Concat(values, chain) {
		size += len(value)
	}
	chain = slices.DeleteFunc(slices.Clone(chain), isNoCertificate)
	switch {
	case size > maxCertificateHeader:
		return nil, errors.New("the header is too long")
	case len(values) > 1: // one of them may be the client's
		return nil, errors.New("the header is there more than once")
	case (len(values) == 0 || isNoCertificate(values[0])) && len(chain) > 0: // RFC 9440 §2.3
		return nil, errors.New("a chain without a certificate")
	case len(values) == 0 || isNoCertificate(values[0]):
		return nil, nil
	}
	certs, err := parse.value(strings.TrimSpace(values[0]))
	if err == nil && len(certs) == 0 {
		err = errors.New("the header holds no certificate")
	}
	if err == nil && len(chain) > 0 {
		var more []*x509.Certificate
		more, err = parse.chain(chain)
		certs = append(certs, more...)
	}
	if err == nil && len(certs) > maxChain {
		err = errors.New("the chain is too long")
	}
	return certs, err
}

// isNoCertificate knows what proxies write when the client sent no certificate: nothing, the word for it of the language
// that they are configured in, or (RFC 9440's form put together by hand) an empty byte sequence.
func isNoCertificate(value string) bool {
	value = strings.TrimSpace(value)
	return value == "" || value == "::" || strings.EqualFold(value, "null") || strings.EqualFold(value, "(null)")
}

func parseByteSequence(value string) ([]*x509.Certificate, error) {
	certs, err := parseByteSequences([]string{value})
	if err == nil && len(certs) != 1 { // the rest of the chain has its own header
		err = errors.New("more than one certificate (RFC 9440 §2.2)")
	}
	return certs, err
}

// parseByteSequences reads a list of byte sequences (RFC 8941 §3.1, §3.3.5) without parameters: RFC 9440 knows none.
func parseByteSequences(lines []string) (certs []*x509.Certificate, err error) {
	p := &fieldParser{rest: strings.Trim(strings.Join(lines, ", "), " \t")}
	for {
		value, err := p.bare()
		if err != nil {
			return nil, err
		}
		der, isBytes := value.([]byte)
		if !isBytes {
			return nil, errors.New("not a byte sequence (RFC 9440 §2.1)")
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
		if p.blank(); p.rest == "" {
			return certs, nil
		}
		if !p.take(',') || len(certs) > maxChain {
			return nil, errors.New("not a list of byte sequences (RFC 9440 §2.3)")
		}
		p.blank()
	}
}

func parseBase64(value string) ([]*x509.Certificate, error) {
	der, err := decodeBase64(value)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{cert}, nil
}

// parseBase64Chain reads certificates one after the other, encoded as one.
func parseBase64Chain(values []string) ([]*x509.Certificate, error) {
	if len(values) > 1 {
		return nil, errors.New("the chain is there more than once")
	}
	der, err := decodeBase64(values[0])
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificates(der)
}

func decodeBase64(text string) ([]byte, error) {
	return base64.StdEncoding.Strict().DecodeString(withoutBlanks(text))
}

func withoutBlanks(text string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '\r', '\n':
			return -1
		}
		return r
	}, text)
}

// The lines around a certificate, without their blanks.
const (
	pemBegin = "-----BEGINCERTIFICATE-----"
	pemEnd   = "-----ENDCERTIFICATE-----"
)

// parsePEM reads certificates (RFC 7468 §5) with nothing but blanks between them, and any blanks within.
func parsePEM(text string) (certs []*x509.Certificate, err error) {
	for rest := withoutBlanks(text); rest != ""; {
		body, begins := strings.CutPrefix(rest, pemBegin)
		encoded, after, ends := strings.Cut(body, pemEnd)
		if !begins || !ends || len(certs) == maxChain {
			return nil, errors.New("not certificates in PEM")
		}
		cert, err := parseBase64(encoded)
		if err != nil {
			return nil, err
		}
		certs, rest = append(certs, cert...), after
	}
	return certs, nil
}

// parseEscapedPEM leaves a plus sign one: it belongs to the base64, and not every proxy encodes it.
func parseEscapedPEM(value string) ([]*x509.Certificate, error) {
	text, err := url.PathUnescape(value)
	if err != nil {
		return nil, err
	}
	return parsePEM(text)
}

func parseAnyPEM(value string) ([]*x509.Certificate, error) {
	text, err := url.PathUnescape(value) // neither PEM nor base64 has a percent sign
	if err != nil {
		return nil, err
	}
	if strings.Contains(text, "-----") {
		return parsePEM(text)
	}
	return parseBase64(text)
}

// parseForwardedClientCert reads x-forwarded-client-cert: elements separated by commas, each of pairs separated by
// semicolons. The last element is the one that our peer wrote, those before are hearsay. Envoy writes Subject, URI and DNS
// last and the latter two without quotes, although the client chose them: a certificate for the name "x,Cert=…" would say
// whose it is itself. So nothing that counts may follow them.
func parseForwardedClientCert(value string) ([]*x509.Certificate, error) {
	var cert, chain string
	chosen := false // the client chose something of what was read
	for rest, more := value, true; more; {
		pair, after, err := nextForwardedPair(rest)
		if err != nil {
			return nil, err
		}
		switch key := strings.ToLower(pair.key); {
		case key == "subject" || key == "uri" || key == "dns":
			chosen = true
		case chosen:
			return nil, errors.New("a pair after one whose value the client chose")
		case key == "cert" && cert == "":
			cert = pair.value
		case key == "chain" && chain == "":
			chain = pair.value
		case key != "by" && key != "hash":
			return nil, errors.New("a pair that is not known, or there twice")
		}
		if pair.end == ',' {
			cert, chain = "", ""
		}
		rest, more = after, pair.end != 0
	}
	return forwardedCertificates(cert, chain)
}

// forwardedCertificates returns Chain, which begins with Cert where both are there.
func forwardedCertificates(cert, chain string) ([]*x509.Certificate, error) {
	own, err := parseEscapedPEM(cert)
	if err != nil {
		return nil, err
	}
	if cert != "" && len(own) != 1 {
		return nil, errors.New("the pair Cert is not one certificate")
	}
	if chain == "" {
		return own, nil
	}
	certs, err := parseEscapedPEM(chain)
	if err == nil && len(own) > 0 && (len(certs) == 0 || !bytes.Equal(own[0].Raw, certs[0].Raw)) {
		err = errors.New("the pair Chain does not begin with the certificate in Cert")
	}
	return certs, err
}

// forwardedPair is a key with its value; end is the separator after it, 0 at the end of the header.
type forwardedPair struct {
	key, value string
	end        byte
}

func nextForwardedPair(text string) (pair forwardedPair, rest string, err error) {
	key, rest, found := strings.Cut(text, "=")
	if !found {
		return pair, "", errors.New("a pair without a value")
	}
	pair.key = strings.TrimSpace(key)
	n := strings.IndexAny(rest, ";,")
	if strings.HasPrefix(rest, `"`) {
		n = endOfQuoted(rest)
	} else if n < 0 {
		n = len(rest)
	}
	if n < 0 {
		return pair, "", errors.New("a quote without its end")
	}
	pair.value = strings.Trim(rest[:n], `"`) // no certificate has one
	rest = strings.TrimLeft(rest[n:], " \t")
	switch {
	case rest == "":
		return pair, "", nil
	case rest[0] != ';' && rest[0] != ',':
		return pair, "", errors.New("text after a quoted value")
	}
	pair.end = rest[0]
	return pair, rest[1:], nil
}

// endOfQuoted returns where a text that begins with a quote has passed its end, -1 when it has none. A backslash takes the
// character after it along: Envoy writes names as RFC 2253 §2.4 does.
func endOfQuoted(text string) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}
