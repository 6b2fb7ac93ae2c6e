// Package authn finds out who the customer is: password, second factor, and the browser session that remembers it.
//
//	GET /authorize (authz) ── nobody suitable is logged in ──▶ Ask
//	                                                            │ renders what is due
//	          ┌──────────────────────┬──────────────────────────┤
//	          ▼                      ▼                          ▼
//	     POST /login     POST /login/second-factor      POST /login/enrol
//	     user name and   code of a confirmed            first code of a new
//	     password        factor                         authenticator
//	          │                      │                          │
//	          └──────────────────────┴──── 303 ─────────────────┴──▶ /authorize, /consents or /approvals
//
// A step never leads to another one by itself: it answers with a redirect to where the journey is decided, and the next
// question comes from there. The journey is two hidden fields, client_id and request_uri, or the path of one
// of the customer's own pages; there is no other return address. What was shown so far is a row in table logins, found
// by the cookie, so any server can take the next step.
//
//	login.ACR   what was shown
//	""          the password; a second factor is due
//	[CA]        the password, and that is all that was asked for
//	[SCA]       the password and a second factor
//
// What holds throughout:
//   - the cookie is 32 random bytes, the row holds their hash; every step makes a new one (no session fixation);
//   - attempts are counted where they are decided, in one SQL statement on a row of table limits, for all servers. However many run
//     at once, MaxFailures of them get a verdict before there is a wait, and an attempt during a wait gets none: a right
//     password and a wrong one then read the same;
//   - nobody can keep a customer out: a browser in which the customer has logged in counts by itself (limits.go);
//   - wrong passwords and wrong codes count together, and only a complete login starts anew: whoever has the password
//     gets MaxFailures guesses at the code, not that many for each time the password is shown;
//   - no page tells whether a name exists. An unknown one costs the same hash and round trips, is counted under a bucket of
//     its own, and refusals leave at fixed intervals;
//   - a login lasts five minutes unless configured otherwise, from its last step, whatever is done in between. That keeps
//     the limit of RTS (EU) 2018/389 art. 4(3)(d), five minutes without activity, without recording activity;
//   - enrolment rests on the password alone, for a customer who has no factor yet. A bank that hands out factors in
//     another way does not want it at login.
//
// Here do not belong: what a client may have (consent), the protocol (authz), the look of pages (web), SQL (storage).
package authn
