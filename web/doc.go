// Package web is what a customer sees: page layout, templates, style sheet and
// static files, all embedded, and the safety of showing them.
//
//	view model          one struct per page (pages.go), filled by authn and consent
//	    │
//	    ▼
//	Pages.Login(w, status, view) …            render.go: into a buffer, then out at once,
//	    │         │            │              so a failure never leaves half a page
//	    │         │            └─ templates/*.html, parsed once by New
//	    │         └─ texts/<language>.json    every word, with Brand.Texts on top
//	    └─ headers (security.go): CSP, referrer, framing, caching, HSTS
//
//	Pages.Static()      /static/style-<hash>.css, logo, icon  (static.go, brand.go)
//	Pages.Protect(h)    refuses cross-origin form posts       (security.go)
//
// What holds for every page:
//   - it works without JavaScript. Scripts are our own files, for what forms
//     cannot do, and the one line that submits the form_post response, admitted
//     by its hash;
//   - nothing is loaded from elsewhere: of a client's logo there is a copy on
//     this server (Client.LogoURL), or a monogram stands for it;
//   - what a third party wrote (client names, descriptions) is stripped of
//     control and direction-changing characters before it is escaped;
//   - Login, SecondFactor, EnrolTOTP, SignUp and Consent hold exactly one form;
//     element ids are a contract with tests, load generators and the conformance
//     suite: see the list in pages.go.
//
// What does not belong here: protocol rules, sessions, the database, the
// environment, and the decision what to ask a customer. This package is told.
package web
