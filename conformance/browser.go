package main

// What the suite's browser does on our pages. It is HtmlUnit: no JavaScript is needed, elements are found by their ids
// (web/pages.go lists them).
//
// The login page and the consent page are shown at the address that the client sent the browser to, so no task can be
// picked by its address. Instead each command is optional: on the consent page there is no user name to fill in, and with
// a login that still lasts there is no login page.

// visit is an entry of the suite's list: what to do when the browser is sent to an address. The first one that matches
// and has not reached its limit is taken.
type visit struct {
	Match string `json:"match"`
	Limit int    `json:"match-limit,omitempty"`
	Tasks []task `json:"tasks"`
}

type task struct {
	Name     string  `json:"task"`
	Match    string  `json:"match"` // the address, * being any text
	Optional bool    `json:"optional,omitempty"`
	Commands [][]any `json:"commands,omitempty"`
}

const (
	waitSeconds = 10
	optional    = "optional" // the last word of a command that may find nothing

	// A page that the suite wants somebody to look at is looked at by a script. The picture is given only if the page has
	// this text and the suite asked for one.
	ifAsked = "update-image-placeholder-optional"
)

// pages writes the scripts for one server.
type pages struct {
	authorize          string // the authorization endpoint
	endSession         string // the end session endpoint (OpenID Connect RP-Initiated Logout)
	approvals          string // what waits for a customer (docs/ciba.md)
	username, password string
}

// ours is any page of the authorization endpoint, with a query or, after a form, without.
func (p pages) ours() string { return p.authorize + "*" }

// logIn is the password page, if it is there.
func (p pages) logIn() task {
	return task{"Log in", p.ours(), true, [][]any{
		{"text", "id", "username", p.username, optional},
		{"text", "id", "password", p.password, optional},
		{"click", "id", "submit_button", optional},
	}}
}

// decide is the consent page, if it is there.
func (p pages) decide(button string) task {
	return task{"Decide", p.ours(), true, [][]any{
		{"click", "id", "account_1", optional},
		{"click", "id", button, optional},
	}}
}

// goOn is the page that posts the answer to the client, if its script has not done so already.
func (p pages) goOn() task {
	return task{"Go on", p.ours(), true, [][]any{{"click", "id", "continue_button", optional}}}
}

// answered makes sure that the answer reached the suite. Any page of ours fails the module here.
func answered() task {
	return task{"Be done", "*/test/*", false, [][]any{{"wait", "id", "submission_complete", waitSeconds}}}
}

// read finds a text on a page, known by its id, if the browser is still on a page of ours.
func (p pages) read(page, text string) task {
	return task{"Read " + page, p.ours(), true, [][]any{
		{"wait", "xpath", "//main[@id='" + page + "']", waitSeconds, text, ifAsked},
	}}
}

// usual logs in and presses the button.
func (p pages) usual(button string) visit {
	return visit{Match: p.ours(), Tasks: []task{p.logIn(), p.decide(button), p.goOn(), answered()}}
}

// browser is what is done in all modules but those that are overridden.
func (p pages) browser() []visit {
	return []visit{p.usual("approve_button"), {Match: p.endSession + "*", Tasks: []task{p.signOut(), loggedOut("")}}}
}

// override is what is done in the other modules of a combination.
func (p pages) override(c combination) map[string]map[string]any {
	out := map[string]map[string]any{}
	for module, picture := range c.pictures {
		out[module] = map[string]any{"browser": picture.script(p, picture.text)}
	}
	if c.overrides != nil {
		for module, visits := range c.overrides(p) {
			out[module] = map[string]any{"browser": visits}
		}
	}
	return out
}

// parOverrides are the modules in which the customer refuses, or comes back.
func parOverrides(prefix string) func(pages) map[string][]visit {
	return func(p pages) map[string][]visit {
		return map[string][]visit{
			prefix + "user-rejects-authentication": {p.usual("deny_button")},
			// The same link is opened twice, and the customer goes away the first time.
			prefix + "par-ensure-reused-request-uri-prior-to-auth-completion-succeeds": {
				{Match: p.ours(), Limit: 1, Tasks: []task{
					{"Look at the login page and go away", p.ours(), false, [][]any{{"wait", "id", "username", waitSeconds}}},
				}},
				p.usual("approve_button"),
			},
		}
	}
}

// refused may log in, and then reads our error page, or goes back to the client: some modules do both.
func (p pages) refused(text string) []visit {
	return []visit{{Match: p.ours(), Tasks: []task{
		p.logIn(), p.decide("approve_button"), p.goOn(), p.read("error_page", text),
		{"Be done", "*", false, [][]any{{"wait", "xpath", "//*[@id='submission_complete' or @id='error_page']", waitSeconds}}},
	}}}
}

// logInAgain reads the login page before it logs in: it must be there each time.
func (p pages) logInAgain(text string) []visit {
	look := p.read("login_page", text)
	look.Optional = false
	return []visit{{Match: p.ours(), Tasks: []task{look, p.logIn(), p.decide("approve_button"), p.goOn(), answered()}}}
}

// lookAtLogin reads the login page and goes away. element must be on it.
func lookAtLogin(element string) func(pages, string) []visit {
	return func(p pages, text string) []visit {
		return []visit{{Match: p.ours(), Tasks: []task{{"Look at the login page", p.ours(), false, [][]any{
			{"wait", "id", element, waitSeconds},
			{"wait", "id", "login_page", waitSeconds, text, ifAsked},
		}}}}}
	}
}

// signOut is the page that asks whether to sign out, if it is there.
func (p pages) signOut() task {
	return task{"Sign out", p.endSession + "*", true, [][]any{{"click", "id", "sign_out_button", optional}}}
}

// loggedOut makes sure that the browser got where a logout ends: at the suite's address, or on the page of ours.
func loggedOut(page string) task {
	if page == "" {
		return task{"Be signed out", "*/post_logout_redirect*", false, [][]any{{"wait", "id", "complete", waitSeconds}}}
	}
	return task{"Be done", "*", false, [][]any{{"wait", "id", page, waitSeconds}}}
}

// logoutEnds signs out as far as our pages let it, and reads the page that it ends on.
func logoutEnds(page string, tasks ...func(pages) task) func(pages, string) []visit {
	return func(p pages, text string) []visit {
		last := task{"Read " + page, p.endSession + "*", false, [][]any{
			{"wait", "xpath", "//main[@id='" + page + "']", waitSeconds, text, ifAsked},
		}}
		logout := visit{Match: p.endSession + "*"}
		for _, t := range tasks {
			logout.Tasks = append(logout.Tasks, t(p))
		}
		logout.Tasks = append(logout.Tasks, last)
		return []visit{p.usual("approve_button"), logout}
	}
}
