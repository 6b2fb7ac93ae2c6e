// Package outbound is the only way in which the server calls an address that somebody else named: jwks_uri, request_uri,
// sector_identifier_uri, logout and notification endpoints of clients, and what another OpenID provider's document names.
//
//	url → https, a host, no user → slot of the host, slot of all → name resolved → address checked, as it is connected
//	    → TLS verified → answer read, up to a limit → no redirect followed
//
// Whoever registers a client chooses the address, so it must not reach what only this server can reach: the check is of
// the very address that a socket is about to be connected to, and a name that resolves to another one the next time
// gains nothing. No proxy, cookie or credential is added to a call; all that it costs is bounded. Errors hold nothing
// that the other side sent, so that no answer of an inner service can be read from them.
//
// What an answer means, its caller decides. Calls that the operator configured (a database, a core banking system) do
// not belong here.
package outbound
