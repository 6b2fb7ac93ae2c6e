// Package engine is the only one that knows fosite. Its words (Requester, Session, Handler) never leave.
//
//	checked request ──▶ engine.CheckAuthorize ──▶ stored, decided by a person ──▶ engine.Authorize ──▶ code
//	authenticated client, code or refresh token ──▶ engine.Token ──▶ tokens
//	token ──▶ engine.Open ──▶ what it says
//
// fosite v0.49.0 is frozen upstream. Its handlers for the authorization code, PKCE, OpenID Connect and client
// credentials are kept; it sees only clients that were authenticated, parameters that were resolved, and a store whose
// calls (store.go) are answered from one round trip to Postgres. Tokens carry themselves (token.go): nothing is inserted
// to issue one. Client authentication, request objects, and all writing to the outside are not done here but in package authz.
package engine
