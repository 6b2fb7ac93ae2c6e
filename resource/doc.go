// Package resource guards a service that takes the access tokens of Countersign: an API of the bank in front of Apache
// Fineract, or the gateway before it.
//
//	request ── is the channel open? ── interaction id ── Authorization header     require.go, header.go
//	        ── DPoP proof ── whose token is it? ── bound to this caller?           proof.go, token.go
//	        ── signed by the client?                                               signature.go
//	        ── may it do this: scope, consent, account, owner, how it logged in?   need.go
//	        ── handler, which finds a [Principal] in the request's context
//
//	guard.go           the configuration, and what is checked of it at the start
//	token.go           from the token to the principal: cache, then one of the two ways
//	introspection.go   opaque tokens: the authorization server is asked (RFC 7662), by a caller that authenticates
//	jwt.go, jwks.go    JWT access tokens (RFC 9068): checked here with the authorization server's keys
//	claims.go          what must be said of a token, either way, and the principal made of it
//	challenge.go       what a refused caller is told (RFC 6750 §3, RFC 9449 §7.1, RFC 9470 §3)
//	two_factor.go      the token of Fineract's second factor, where a handler wants it
//	signature.go       signed requests and responses (RFC 9421)
//	replay.go          proofs that were used before
//
// Whatever cannot be checked is refused: an authorization server that does not answer means 503, never a guess. A token
// that was revoked is refused when what is remembered of it ends, after [Config].CacheFor at the latest; one that is a
// JWT when it expires, unless [Config].AlwaysIntrospect is set.
//
// What does not belong here: issuing tokens (package authz), the rules of proofs and bindings (package fapi, the only
// other package of ours that this one imports), and calling Fineract.
package resource
