// Package storage keeps everything in Postgres: one file per aggregate, its methods named for what the domain does.
//
//	db.go              the pool, one-time identifiers in the same round trip, changes announced to other replicas
//	seal.go            data keys and sealed columns
//	replay.go          identifiers used once
//	clients.go         clients
//	signing_keys.go    keys that sign, and their rotation
//	customers.go       customers and their accounts
//	second_factors.go  what a customer proves beside the password
//	logins.go          browser sessions
//	consents.go        consents, as their clients see them
//	grants.go          what a client may still do, as its customer sees it
//	authorizations.go  the journey of a request: pushed, opened, decided
//	tokens.go          what a redeemed authorization is good for: redeem, load, revoke
//	purge.go           removal of what has expired
//
// A method is one round trip unless its comment says otherwise. Four errors have a meaning for callers: [ErrNotFound],
// [ErrForeign], [ErrAlreadyUsed], [ErrConflict] and [ErrTooMany]; each method says which it returns. Rules of protocols do not belong here: this
// package knows rows, not requests.
package storage
