package outbound

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// notPublic are the networks within 0.0.0.0/0 and 2000::/3 where only this server, its neighbours or nobody can be meant
// (IANA's special-purpose registries, RFC 6890). 2000::/3 is all of IPv6 that is public (RFC 4291 §2.4).
var notPublic = parse(
	"0.0.0.0/8",        // this network
	"10.0.0.0/8",       // private (RFC 1918)
	"100.64.0.0/10",    // carrier-grade NAT (RFC 6598), and a cloud's metadata
	"127.0.0.0/8",      // loopback
	"168.63.129.16/32", // Azure's host, as its machines see it
	"169.254.0.0/16",   // link-local, and the clouds' metadata
	"172.16.0.0/12",    // private
	"192.0.0.0/24",     // IETF protocol assignments, and a cloud's metadata
	"192.0.2.0/24",     // documentation
	"192.88.99.0/24",   // 6to4 relays (RFC 7526)
	"192.168.0.0/16",   // private
	"198.18.0.0/15",    // benchmarks
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"224.0.0.0/4",      // multicast
	"240.0.0.0/4",      // reserved, broadcast
	"2001::/23",        // IETF protocol assignments: Teredo, ORCHID
	"2001:db8::/32",    // documentation
	"2002::/16",        // 6to4, which names any IPv4 address
	"3fff::/20",        // documentation
)

var (
	global6 = netip.MustParsePrefix("2000::/3")
	nat64   = netip.MustParsePrefix("64:ff9b::/96") // an IPv4 address as a network without IPv4 sees it (RFC 6052 §2.1)
)

func parse(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

// isPublic tells whether anybody on the internet would reach the same machine at an address.
func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	if !a.IsValid() || a.Zone() != "" || a.Is6() && !global6.Contains(a) {
		return false
	}
	return !contains(notPublic, a)
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// guard is the networks that may be called although they are not public.
type guard []netip.Prefix

// addressError names the address that was refused. It comes from the name's DNS, not from an answer.
type addressError struct{ address string }

func (e *addressError) Error() string { return fmt.Sprintf("%v: %s", ErrAddress, e.address) }
func (e *addressError) Unwrap() error { return ErrAddress }

// check is asked by the dialer once a socket is there, with the address that it is about to be connected to.
func (g guard) check(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !isPublic(to.Addr()) && !contains(g, to.Addr().Unmap()) {
		return &addressError{address}
	}
	return nil
}
