package web

import "net/http"

// recoveryGallery is the pages of who has lost the password.
func recoveryGallery() []shot {
	ask := Recover{Action: "/recover", Hidden: hidden, Client: &tpp, LoginURL: "/login"}
	code := RecoverCode{Action: "/recover/code", Hidden: hidden, Client: &tpp, AgainURL: "/recover"}
	return []shot{
		{"recover", "recover_page", func(p *Pages, w http.ResponseWriter) error { return p.Recover(w, 200, ask) }},
		{"recover-blocked", "recover_page", func(p *Pages, w http.ResponseWriter) error {
			v := ask
			v.Client, v.Username, v.Problem = nil, "alice", p.Text("problem.blocked", "minutes", "4")
			return p.Recover(w, 429, v)
		}},
		{"recover-branch", "recover_page", func(p *Pages, w http.ResponseWriter) error {
			v := ask
			v.Branch = true
			return p.Recover(w, 200, v)
		}},
		{"recover-code", "recover_code_page", func(p *Pages, w http.ResponseWriter) error { return p.RecoverCode(w, 200, code) }},
		{"recover-code-wrong", "recover_code_page", func(p *Pages, w http.ResponseWriter) error {
			v := code
			v.Client, v.Problem = nil, p.Text("problem.recovery")
			return p.RecoverCode(w, 403, v)
		}},
	}
}
