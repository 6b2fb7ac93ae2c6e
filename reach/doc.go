// Package reach tells a customer, out of the blue, that there is something to decide: by ringing a browser, by an email, by
// a text message, or by a webhook to the institution, which then rings its own app.
//
//	Message ──▶ Channel ──▶ web push   encrypted for the browser (RFC 8291), by way of outbound
//	                    ├──▶ email      SMTP, TLS
//	                    ├──▶ sms        POST to the institution's gateway
//	                    └──▶ webhook    POST to the institution, signed
//
// What arrives names nobody: no client, no amount, no name, nothing that opens or approves anything. Whoever reads it over
// the customer's shoulder, at the push service, the gateway or the mail server, learns that somebody is to sign in. (The
// webhook goes to the institution itself and says whom it is about.)
//
// A Channel makes one attempt. When it is made, how often, and who the customer is, its caller knows: no queue and no store
// belong here. Errors hold nothing that the other side sent and no address of a customer, so that they may be logged.
package reach
