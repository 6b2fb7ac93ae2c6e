// Package privatepg runs a real Postgres of our own, for `countersign demo` and for tests, so that there is one SQL
// dialect everywhere and nothing to install first.
//
//	Start → whom to run as   accounts_*.go  Postgres refuses root, so root lends it an ordinary account
//	      → which binaries   binaries.go    the system's, else …
//	                         maven.go       … those that Maven Central carries, pinned by SHA-256
//	                         unpack.go      and unpacked into the user's cache
//	      → a folder         rundir.go      temporary: the socket, and data that nobody wants to keep
//	      → the data         cluster.go     initdb once; a folder left by a crash is taken over
//	      → the process      process*.go    reached by a socket that only its owner may enter; ends when we end
//
// When this process dies without Stop, the server goes down and its temporary folder with it: on every Unix by a small
// guard process that notices the end of a pipe, and on Linux also by the parent death signal. Windows has neither; there
// a killed parent leaves its Postgres running until the next start over the same folder says so.
//
// What does not belong here: schemas (package migrations), databases for single tests (package storagetest), and anything
// a production Postgres needs. Nothing here reads our settings; callers pass them.
package privatepg
