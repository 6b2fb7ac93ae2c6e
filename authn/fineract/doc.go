// Package fineract is Apache Fineract's two-factor API over our customers, so that a client written for Fineract works
// unchanged (docs/fineract-two-factor.md).
//
//	request ── tenant ── first factor: password with every call, or an access token of ours   api.go, call.go
//	        ── the second, where it is due: header Fineract-Platform-TFA-Token
//	        ── answer
//
//	authentication.go  who the customer is, and whether a second factor is due
//	twofactor.go       delivery methods, a code, the token that it is given for, its end
//	configuration.go   the ten keys, their defaults and what is wrong with a change
//	templates.go       what a customer reads
//	problem.go         errors in Fineract's own shapes
//
// Paths, members, codes and statuses are Fineract's. Where it leaves a hole we do not: guesses and requests are limited,
// codes are sealed and tokens hashed in Postgres, by tenant and customer.
//
// What does not belong here: passwords, codes and limits themselves (package authn), SQL (storage), and the check of a token
// for services that a customer calls (authz/two_factor.go).
package fineract
