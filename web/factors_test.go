package web

import "net/http"

// appFactor asks for the code of an authenticator app.
func appFactor() SecondFactor {
	return SecondFactor{Action: "/login/second-factor", Hidden: hidden, Client: &tpp, Part: &FactorPart{
		How: "Open your authenticator app and type the code it shows for Meadow Bank.", Inputs: []Input{oneCode()},
	}, Others: []Way{{"Passkey", "/login/second-factor?kind=passkey"}, {"Code by email", "/login/second-factor?kind=email"}, {"Recovery code", "/login/second-factor?kind=recovery_codes"}}}
}

func oneCode() Input {
	return Input{Name: "code", Label: "Code", Type: "text", Code: true, Pattern: "[0-9 ]{6,9}", MaxLength: 9, InputMode: "numeric", Autocomplete: "one-time-code"}
}

// factorGallery is the pages of second factors in the states that look different.
func factorGallery() []shot {
	sent := FactorPart{How: "Alice, we sent a code to a•••@meadow.example. It is good for 5 minutes.", Inputs: []Input{oneCode()}, Resend: &Button{"Send a new code", "send", "again"}}
	send := FactorPart{Title: "Get a code", How: "Alice, we can send a code to •••• 4321.", Submit: Button{"Send the code", "send", "1"}}
	address := FactorPart{Title: "Codes by email", How: "Type the address to which codes are to be sent. We send one now, to see that it reaches you. Leave the field empty to use a•••@meadow.example, which we know already.",
		Inputs: []Input{{Name: "address", Label: "Email address", Type: "email", Optional: true, MaxLength: 254, Autocomplete: "email"}}, Submit: Button{"Send the code", "begin", "1"}}
	passkey := FactorPart{Title: "Use your passkey", How: "Your device asks for your fingerprint, your face or its PIN. None of these leaves it.", Submit: Button{Text: "Use passkey"},
		Hint: "A passkey works only with Meadow Bank, so nobody can trick you into giving it away.", NoScript: "Passkeys need JavaScript.",
		Inputs: []Input{{Name: "state", Type: "hidden", Value: "x"}, {Name: "response", Type: "hidden"}},
		Script: PasskeyScript(), Options: `{"publicKey": {"challenge": "AA"}, "texts": {}}`}
	frame := EnrolFrame{Action: "/login/enrol/email", Hidden: hidden, Client: &tpp, Others: []Way{{"Authenticator app", "/login/enrol/totp"}, {"Code by text message", "/login/enrol/sms"}}}
	codes := []string{"7KQ2M-XH4RA", "N8TBC-3WVYE", "5PDLS-GZ62F", "HJ9UK-QE4MT", "W3XVB-8NRCA", "2YSFG-6KTPD", "M4QZH-LE9WJ", "C7UNX-R5BVA", "TK8DP-2GSYF", "6WEJM-HQ3ZL"}
	page := func(part FactorPart, problem string) func(*Pages, http.ResponseWriter) error {
		return func(p *Pages, w http.ResponseWriter) error {
			v := appFactor()
			v.Part = &part
			if problem != "" {
				v.Problem = p.Text(problem)
			}
			return p.SecondFactor(w, http.StatusOK, v)
		}
	}
	return []shot{
		{"second-factor-send", "second_factor_page", page(send, "")},
		{"second-factor-sent", "second_factor_page", page(sent, "")},
		{"second-factor-sent-problem", "second_factor_page", page(sent, "problem.codes_many")},
		{"second-factor-passkey", "second_factor_page", page(passkey, "problem.passkey")},
		{"enrol-passkey", "enrol_factor_page", func(p *Pages, w http.ResponseWriter) error {
			v := EnrolFactor{frame, passkey}
			v.Part.Title, v.Part.How, v.Part.Hint = p.Text("enrol_passkey.title"), p.Text("enrol_passkey.how"), p.Text("enrol_passkey.hint")
			v.Part.Submit.Text = p.Text("enrol_passkey.submit")
			return p.EnrolFactor(w, http.StatusOK, v)
		}},
		{"login-passkey", "login_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Login(w, http.StatusForbidden, Login{Action: "/login", Client: &tpp, Passkey: &LoginPasskey{
				Action: "/login/passkey", BeginURL: "/login/passkey", Script: PasskeyScript(), Problem: p.Text("problem.passkey"),
			}})
		}},
		{"second-factor-none", "second_factor_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SecondFactor(w, http.StatusForbidden, SecondFactor{AddURL: "/self/factors/add", Client: &tpp})
		}},
		{"enrol-factor", "enrol_factor_page", func(p *Pages, w http.ResponseWriter) error {
			return p.EnrolFactor(w, http.StatusOK, EnrolFactor{frame, address})
		}},
		{"add-factor", "add_factor_page", func(p *Pages, w http.ResponseWriter) error {
			return p.AddFactor(w, http.StatusOK, AddFactor{frame.Others, "/self/factors"})
		}},
		{"recovery-codes", "recovery_codes_page", func(p *Pages, w http.ResponseWriter) error {
			return p.RecoveryCodes(w, http.StatusOK, RecoveryCodes{Codes: codes, Client: &tpp, NextURL: "/authorize?client_id=acorn"})
		}},
		{"recovery-codes-left", "recovery_codes_page", func(p *Pages, w http.ResponseWriter) error {
			return p.RecoveryCodes(w, http.StatusOK, RecoveryCodes{Action: "/self/factors/recovery-codes", Left: 2, Few: true, NextURL: "/self/factors"})
		}},
	}
}
