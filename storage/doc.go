// Package storage keeps everything in Postgres: one file per aggregate, its methods named for what the domain does.
//
//	db.go              the pool, one-time identifiers in the same round trip, changes announced to other replicas
//	seal.go            data keys and sealed columns
//	replay.go          identifiers used once
//	clients.go         clients
//	signing_keys.go    keys that sign, and their rotation
//	customers.go       customers, their accounts and second factors
//	logins.go          browser sessions
//	consents.go        consents and grants, as their owners see them
//	authorizations.go  the journey of a request: pushed, opened, decided
//	tokens.go          what a redeemed authorization is good for: redeem, load, revoke
//	purge.go           removal of what has expired
//
// A method is one round trip unless its comment says otherwise. Three errors have a meaning for callers: [ErrNotFound],
// [ErrAlreadyUsed] and [ErrConflict]; each method says which it returns. Rules of protocols do not belong here: this
// package knows rows, not requests.
package storage
