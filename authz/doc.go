// Package authz is the authorization server: the protocol endpoints of OAuth 2.0 and OpenID Connect.
//
//	routes.go      every endpoint, with its path, its standard and its listener
//	pipeline.go    which checks run where, in order, each with its clause
//	request.go     what an endpoint gets: a parsed request with an authenticated client
//	respond.go     what an endpoint gives: the only place that writes answers and errors
//
// An endpoint is a function from a [Request] to a [Response] or an error, in the file named for it: par.go, token.go,
// introspect.go, revoke.go, userinfo.go, grants.go, discovery.go. authorize.go is the exception, because it talks to a person: it
// dispatches, from one look at the store, to login (package authn), to the consent page, whose button decision.go answers,
// or back to the client (authorization_response.go).
//
// The rules themselves are in package fapi; fosite is behind authz/engine; what a customer sees and a consent's life are
// in packages authn and consent.
package authz
