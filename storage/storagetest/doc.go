// Package storagetest gives each test a database of its own, on a real Postgres.
//
//	db, err := storage.Open(ctx, storage.Options{DSN: storagetest.New(t), …})
//
// The databases are clones of a migrated template and go when the test ends. They live on the server that the environment
// variable DATABASE_URL names (its user needs CREATEDB), else on a private Postgres that the first call starts and that
// ends with the test process. One server per process, that is per tested package, costs about half a second; sharing one between
// processes would need a lock, a count of users and somebody to notice when one of them is killed.
//
// What does not belong here: fixtures, and anything that knows a table.
package storagetest
