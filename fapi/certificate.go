package fapi

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const maxChain = 10 // certificates that a client may present

// CheckCertificate checks the certificate with which the client authenticates (RFC 8705 §2). chain is what it
// presented, its own certificate first; that it holds the key was proved by the TLS handshake. roots are the
// authorities that the institution trusts to name clients.
func (c *Client) CheckCertificate(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) error {
	if len(chain) == 0 {
		return Refuse(InvalidClient, "The client must present its certificate.")
	}
	if len(chain) > maxChain {
		return Refuse(InvalidClient, "The certificate chain of the client is too long.")
	}
	switch c.TokenEndpointAuthMethod {
	case TLSClientAuth:
		if err := checkChain(chain, roots, now); err != nil {
			return Refuse(InvalidClient, "The certificate of the client is not valid or not from an authority that is trusted here.").Because(err)
		}
		if !c.isNamedIn(chain[0]) {
			return Refuse(InvalidClient, "The certificate does not carry the name that the client registered.")
		}
		return nil
	case SelfSignedTLSClientAuth:
		if now.Before(chain[0].NotBefore) || now.After(chain[0].NotAfter) {
			return Refuse(InvalidClient, "The certificate of the client has expired or is not valid yet.")
		}
		if !c.registered(chain[0]) {
			return Refuse(InvalidClient, "The certificate is not one that the client registered.").Because(ErrUnknownKey)
		}
		return nil
	}
	return Refuse(InvalidClient, "The client is not registered for mutual TLS.")
}

func checkChain(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) error {
	if roots == nil {
		return errors.New("no trusted authorities are configured") // nil would mean those of the operating system
	}
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// isNamedIn compares the one name that was registered (RFC 8705 §2.1.2). Only what RFC 5280 §7 says is the same under
// another spelling is taken as the same.
func (c *Client) isNamedIn(cert *x509.Certificate) bool {
	switch {
	case c.TLSClientAuthSubjectDN != "":
		subject, err := parseRawDN(cert.RawSubject)
		return err == nil && c.aux.subject.same(subject)
	case c.TLSClientAuthSANDNS != "":
		return slices.ContainsFunc(cert.DNSNames, func(name string) bool {
			return strings.EqualFold(name, c.TLSClientAuthSANDNS) // a wildcard is itself, not a pattern
		})
	case c.TLSClientAuthSANURI != "":
		for _, u := range cert.URIs {
			if u.String() == c.aux.sanURI {
				return true
			}
		}
	case c.TLSClientAuthSANIP != "":
		for _, ip := range cert.IPAddresses {
			if addr, ok := netip.AddrFromSlice(ip); ok && addr.Unmap() == c.aux.sanIP {
				return true
			}
		}
	case c.TLSClientAuthSANEmail != "":
		return slices.ContainsFunc(cert.EmailAddresses, func(address string) bool { return sameMailbox(address, c.TLSClientAuthSANEmail) })
	}
	return false
}

// sameMailbox compares as RFC 5280 §7.5 does: only the host is case-insensitive.
func sameMailbox(a, b string) bool {
	i, j := strings.LastIndexByte(a, '@'), strings.LastIndexByte(b, '@')
	return i >= 0 && j >= 0 && a[:i] == b[:j] && strings.EqualFold(a[i:], b[j:])
}

// registered tells whether the certificate is in the client's key set (RFC 8705 §2.2.2): itself where x5c names one,
// else by its key.
func (c *Client) registered(cert *x509.Certificate) bool {
	key, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || checkKey(cert.PublicKey) != nil {
		return false
	}
	set := c.keys().set
	for i := range set.Keys {
		k := &set.Keys[i]
		if k.Use == "enc" {
			continue // the handshake is a signature
		}
		if len(k.Certificates) > 0 {
			if bytes.Equal(k.Certificates[0].Raw, cert.Raw) {
				return true
			}
		} else if key.Equal(k.Key) {
			return true
		}
	}
	return false
}
