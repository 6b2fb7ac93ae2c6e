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
	waitSeconds   = 10
	optional      = "optional"                                           // the last word of a command that may find nothing
	errorPageText = `This link cannot be used[\s\S]*invalid_request_uri` // of web's error page: its title and its error_code
)

// pages writes the scripts for one server.
type pages struct {
	authorize          string // the authorization endpoint
	username, password string
}

func (p pages) match() string { return p.authorize + "?*" }

// logIn is the password page, if it is there.
func (p pages) logIn() task {
	return task{"Log in", p.match(), true, [][]any{
		{"text", "id", "username", p.username, optional},
		{"text", "id", "password", p.password, optional},
		{"click", "id", "submit_button", optional},
	}}
}

// decide is the consent page, if it is there.
func (p pages) decide(button string) task {
	return task{"Decide", p.match(), true, [][]any{
		{"click", "id", "account_1", optional},
		{"click", "id", button, optional},
	}}
}

// refused is the error page. A browser that is still at our address by now must be on it: any other page fails the module.
// Where the suite did not ask for an error page the picture is not needed, and the module fails for want of a callback.
func (p pages) refused() task {
	return task{"Read the error page", p.match(), true, [][]any{
		{"wait", "id", "error_page", waitSeconds, errorPageText, "update-image-placeholder-optional"},
	}}
}

// ended makes sure that the browser got somewhere: to the suite's own page, where the redirect to the client leads, or to
// our error page. A page that nobody expected fails the module here.
func (p pages) ended() task {
	return task{"Be done", "*", false, [][]any{
		{"wait", "xpath", "//*[@id='submission_complete' or @id='error_page']", waitSeconds},
	}}
}

// usual logs in and presses the button.
func (p pages) usual(button string) visit {
	return visit{Match: p.match(), Tasks: []task{p.logIn(), p.decide(button), p.refused(), p.ended()}}
}

// browser is what is done in all modules but those in overrides.
func (p pages) browser() []visit { return []visit{p.usual("approve_button")} }

// overrides are the modules in which the customer does something else.
func (p pages) overrides() map[string]any {
	return map[string]any{
		"fapi2-security-profile-final-user-rejects-authentication": map[string]any{
			"browser": []visit{p.usual("deny_button")},
		},
		// The same link is opened twice, and the customer goes away the first time.
		"fapi2-security-profile-final-par-ensure-reused-request-uri-prior-to-auth-completion-succeeds": map[string]any{
			"browser": []visit{
				{Match: p.match(), Limit: 1, Tasks: []task{
					{"Look at the login page and go away", p.match(), false, [][]any{{"wait", "id", "username", waitSeconds}}},
				}},
				p.usual("approve_button"),
			},
		},
	}
}
