package authz

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// forwarded lets a request come from where the proxies in front of the server say (X-Forwarded-For), for limits and for what customers
// are shown. Each proxy adds whom it has seen at the right: the first address from there that is no proxy's is the visitor's; what stands
// left of it the visitor has written. From anybody but a proxy the header means nothing.
func (s *Server) forwarded(next http.Handler) http.Handler {
	if len(s.ForwardedFrom) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from, ok := s.cameFrom(r); ok {
			seen := *r
			seen.RemoteAddr = net.JoinHostPort(from.String(), "0")
			r = &seen
		}
		next.ServeHTTP(w, r)
	})
}

// cameFrom reads the header of a request that comes from a proxy. What is no address ends the reading: the proxy that took it over is
// then the last that is known.
func (s *Server) cameFrom(r *http.Request) (from netip.Addr, ok bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !s.isProxy(peer.Addr()) {
		return from, false
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		address, err := hopAddress(strings.TrimSpace(hop))
		if err != nil {
			return from, ok
		}
		from, ok = address, true
		if !s.isProxy(address) {
			return from, true
		}
	}
	return from, ok
}

// hopAddress reads an address with or without a port.
func hopAddress(hop string) (netip.Addr, error) {
	if withPort, err := netip.ParseAddrPort(hop); err == nil {
		return withPort.Addr().Unmap().WithZone(""), nil
	}
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(hop, "["), "]"))
	return address.Unmap().WithZone(""), err
}

func (s *Server) isProxy(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	return slices.ContainsFunc(s.ForwardedFrom, func(network netip.Prefix) bool { return network.Contains(address) })
}
