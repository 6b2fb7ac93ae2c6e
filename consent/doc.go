// Package consent holds what a client asks of a customer, from the asking to the withdrawal.
//
//	client     POST   …/account-access-consents       AwaitingAuthorisation   account_access.go, by the rules of
//	           GET    …/account-access-consents/{id}                          account_access_request.go
//	authz      Usable: may this request name it?                              usable.go
//	           Describe: what is asked, in the customer's words               describe.go, permissions.go, details.go
//	customer   approves → Authorised, refuses → Rejected                      storage/authorizations.go
//	customer   GET /consents, POST /consents/withdraw: the grant ends,        customer.go
//	           the consent stays Authorised and may be approved anew
//	client     DELETE …/account-access-consents/{id} → Revoked, for good      account_access.go
//
// Tokens die with the grant and with the consent (storage/tokens.go asks both each time). Expiry never changes a
// consent's status; it makes it unusable.
//
//	api.go      what every call of the UK Open Banking API goes through: who calls, headers, media types, one writer
//	oberror.go  its errors, OBErrorResponse1
//	tree.go     strict JSON: no member twice, nothing after the end
//	words.go    every English word that a customer reads here; a bank may replace each
//
// What does not belong here: tokens and how they are checked (Authenticate and Visitor are told by whoever wires this
// up), the pages' looks (package web), SQL (package storage), the decision itself, which is one transaction with the
// authorization it answers (storage.Approve, storage.Deny).
package consent
