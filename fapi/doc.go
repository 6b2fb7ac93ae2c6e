// Package fapi holds the rules of OAuth 2.0, OpenID Connect and FAPI that can be stated without a database, a clock of
// its own or a network: what a client registers, what its security profile demands, how it authenticates, what a proof
// of possession proves.
//
//	bytes, metadata, a time  →  fapi  →  a verdict: a typed value, or an [Error] with the standard's own code
//
// A file is named for what the standard calls the thing:
//
//	error.go          error codes, RFC 6749 §5.2 and the registry
//	profile.go        what each security profile demands: one table
//	client.go         client metadata, RFC 7591
//	jwks.go           key sets of clients, RFC 7517
//	assertion.go      client authentication by private_key_jwt, RFC 7523
//	certificate.go    client authentication by mutual TLS, RFC 8705 §2
//	dn.go             distinguished names, RFC 4514
//	binding.go        sender-constrained tokens: x5t#S256 (RFC 8705 §3) and jkt (RFC 9449 §6)
//	dpop.go           proofs of possession and their nonces, RFC 9449
//	pkce.go           code challenges, RFC 7636
//	rar.go            authorization_details, RFC 9396; rar_type.go: their types, each a file in details/; rar_granted.go: what of them a token carries
//	grant.go          what a request does to a grant, Grant Management for OAuth 2.0
//	claims.go         the claims parameter, OpenID Connect Core §5.5
//	request.go        what an authorization request must hold
//	request_object.go signed authorization requests, RFC 9101
//	response_mode.go  what is answered, and how: response types, response modes, JARM
//	jwe.go            what is encrypted to a client, RFC 7516
//	http_signature.go signed requests to and responses of resource servers, RFC 9421; _field, _base and _key are its parts
//	check.go          requirement by requirement: whether a client's metadata satisfy a profile
//	jws.go, json.go   how JWTs and JSON are read: strictly
//
// What needs storage (a jti used once), serves HTTP or asks a person does not belong here. Every parser here is fuzzed.
package fapi
