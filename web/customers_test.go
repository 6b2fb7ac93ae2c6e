package web

import "net/http"

// customersGallery is how somebody becomes a customer.
func customersGallery() []shot {
	signUp := SignUp{Action: "/sign-up", Hidden: hidden, Client: &tpp, LoginURL: "/login", ByPhone: true}
	invited := SignUp{Action: "/invitation/sign-up", Hidden: []Field{{"invitation", "ABCD-EFGH-JKLM"}}, Invited: true, Masked: "b•••@heron.example", Name: "Bob Mason", LoginURL: "/login?next=/invitation"}
	code := SignUpCode{Action: "/sign-up/code", Hidden: hidden, Client: &tpp, Masked: "b•••@heron.example", BackURL: "/sign-up"}
	invitation := Invitation{Action: "/invitation", LoginURL: "/login?next=/invitation"}
	linking := Invitation{Action: "/invitation", Customer: "Alice Example", CanSend: true}
	return []shot{
		{"sign-up-by-phone", "sign_up_page", func(p *Pages, w http.ResponseWriter) error { return p.SignUp(w, 200, signUp) }},
		{"sign-up-only-phone", "sign_up_page", func(p *Pages, w http.ResponseWriter) error {
			v := signUp
			v.OnlyPhone, v.Email, v.Problem = true, "0712 345 678", p.Text("problem.address")
			return p.SignUp(w, 422, v)
		}},
		{"sign-up-invited", "sign_up_page", func(p *Pages, w http.ResponseWriter) error { return p.SignUp(w, 200, invited) }},
		{"sign-up-code", "sign_up_code_page", func(p *Pages, w http.ResponseWriter) error { return p.SignUpCode(w, 200, code) }},
		{"sign-up-code-problem", "sign_up_code_page", func(p *Pages, w http.ResponseWriter) error {
			v := code
			v.Problem = p.Text("problem.code")
			return p.SignUpCode(w, 403, v)
		}},
		{"invitation", "invitation_page", func(p *Pages, w http.ResponseWriter) error { return p.Invitation(w, 200, invitation) }},
		{"invitation-problem", "invitation_page", func(p *Pages, w http.ResponseWriter) error {
			v := invitation
			v.Problem = p.Text("problem.invitation")
			return p.Invitation(w, 403, v)
		}},
		{"invitation-link", "invitation_page", func(p *Pages, w http.ResponseWriter) error { return p.Invitation(w, 200, linking) }},
		{"invitation-sent", "invitation_page", func(p *Pages, w http.ResponseWriter) error {
			v := linking
			v.Sent = true
			return p.Invitation(w, 200, v)
		}},
	}
}
