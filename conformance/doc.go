// Command conformance prepares and runs a Countersign server for the conformance suite of the OpenID Foundation, with one
// command: go run ./conformance. See README.md for what the suite itself needs.
//
//	combination.go  what a plan with its variants takes: an alias and clients of its own
//	plans_*.go      which plans are run
//	expected.go     the modules that may end in something else than PASSED, and why
//	pki.go, keys.go certificates and signing keys, made once and kept in the folder
//	clients.go      the clients and the resource servers, as `countersign serve --clients` reads them
//	suite.go        the suite's configuration of each alias …
//	browser.go      … and in it what the suite's browser does on our pages
//	opbench.go      the same server as the benchmark wants to know it
//	files.go        all of the above, written to the folder
//	server.go       Postgres, the customers and `countersign serve`, all of them real and apart from this process
//	bank.go         the API that the suite calls with its tokens, guarded by package resource
//	phone.go        the devices on which customers decide CIBA requests
//	registration.go what the suite registers clients with, where a plan wants another profile
//
// and to run the plans:
//
//	suite_api.go    the suite's HTTP API
//	run.go          the plans, some at a time, as often as is wanted
//	module.go       one module: its course, and the verdict
//	rotate.go       what modules ask of whoever runs them
//	progress.go     a line for each module
//	report.go       the table, and the logs that are kept
//	junit.go        the same for build servers
//
// All plans run against the one server, so that what one client's profile demands cannot be true for all by accident.
//
// What does not belong here: the suite, and switches in the server that only a test would need.
package main
