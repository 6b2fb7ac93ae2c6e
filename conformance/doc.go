// Command conformance prepares and runs a Countersign server for the conformance suite of the OpenID Foundation, with one
// command: go run ./conformance. See README.md for what the suite itself needs.
//
//	combination.go  which plans are run: each combination of the suite's variants has an alias and two clients of its own
//	pki.go, keys.go certificates and signing keys, made once and kept in the folder
//	clients.go      those clients and the resource servers, as `countersign serve --clients` reads them
//	suite.go        the suite's configuration of each alias …
//	browser.go      … and in it what the suite's browser does on our pages
//	opbench.go      the same server as the benchmark wants to know it
//	files.go        all of the above, written to the folder
//	server.go       Postgres, the customer and `countersign serve`, all of them real and apart from this process
//	bank.go         the API that the suite calls with its tokens, guarded by package resource
//	runner.go       --run: the plans one after the other or side by side, and the table of their results
//
// All plans run against the one server, so that what one client's profile demands cannot be true for all by accident.
//
// What does not belong here: the suite, and switches in the server that only a test would need.
package main
