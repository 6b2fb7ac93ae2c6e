// Package federation is an OpenID Connect relying party: it sends customers to providers that others run, and finds out
// from the answer who they are there.
//
//	Begin   ─▶ the address at the provider, and an Attempt to be kept
//	Finish  ◀─ the query that came back, and the Attempt ─▶ an Identity
//
// The authorization code flow with PKCE (RFC 7636, S256), state and nonce; iss in the answer is checked whenever it is there, and
// must be there when the provider says so (RFC 9207). Documents and keys of a provider are fetched when they are needed and kept
// an hour; a signature by an unknown key fetches the keys once more. Calls go through package outbound, since a document may name any
// address: none takes longer than 5 seconds, no answer may be larger than 1 MiB, no redirect is followed. Nothing of a provider's
// tokens is kept.
//
// Here do not belong: cookies, pages and what an identity may do here (authn), the store.
package federation
