package web

import (
	"net/http"
	"time"
)

var (
	safari  = Visited{time.Date(2026, 11, 24, 8, 12, 0, 0, time.UTC), "Safari on iPhone", "203.0.113.77"}
	firefox = Visited{time.Date(2026, 11, 21, 19, 40, 0, 0, time.UTC), "Firefox on Windows", "2001:db8:85a3:8d3:1319:8a2e:370:7348"}
	unknown = Visited{time.Date(2026, 11, 3, 23, 5, 0, 0, time.UTC), "Unknown browser", ""}
)

// selfGallery is the customer's own pages in the states that look different.
func selfGallery() []shot {
	own := Own{Customer: "Alice Doe"}
	said := func(o Own, notice string) Own { o.Notice = notice; return o }
	wrong := func(o Own, problem string) Own { o.Problem = problem; return o }
	gone := time.Date(2026, 12, 8, 8, 15, 0, 0, time.UTC)
	since, used := time.Date(2025, 2, 3, 9, 0, 0, 0, time.UTC), time.Date(2026, 11, 23, 18, 30, 0, 0, time.UTC)
	facts := ProfileFacts{Username: "alice", Email: "a•••@meadow.example", Phone: "•••• 0123", Client: "CL-****123", Factors: 2}
	fields := []TextField{
		{"name", "Full name", "Alice Doe", "name", ""}, {"given_name", "Given name", "Alice", "given-name", ""}, {"family_name", "Family name", "Doe", "family-name", ""},
		{"street_address", "Street", "12 Harbour Lane", "street-address", ""}, {"locality", "Town", "Heron Bay", "address-level2", ""},
		{"locale", "Language", "en-GB", "", "Such as en-GB."},
	}
	factors := []FactorRow{
		{ID: "1", Kind: "Authenticator app", Name: "My phone", Since: since, LastUsed: &used, Removable: true},
		{ID: "2", Kind: "Code by text message", Masked: "•••• 0123", Since: since, Removable: true},
		{ID: "3", Kind: "Recovery codes", Since: since, Removable: true},
	}
	return []shot{
		{"self", "self_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Self(w, 200, Self{Own: own, Profile: facts, LastLogin: &firefox})
		}},
		{"self-leaving", "self_page", func(p *Pages, w http.ResponseWriter) error {
			return p.Self(w, 200, Self{Own: own, Profile: ProfileFacts{Username: "alice", Factors: 1}, DeletionAt: &gone})
		}},
		{"self-profile", "self_profile_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfProfile(w, 200, SelfProfile{Own: said(own, p.Text("self.said.saved")), Facts: facts, Fields: fields, CanSendEmail: true})
		}},
		{"self-profile-problem", "self_profile_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfProfile(w, 422, SelfProfile{Own: wrong(own, p.Text("problem.locale")), Facts: facts, Fields: fields, CanSendEmail: true, CanSendPhone: true})
		}},
		{"self-contact", "self_contact_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfContact(w, 422, SelfContact{Own: wrong(own, p.Text("problem.code")), Action: "/self/email/confirm", Hidden: []Field{{"email", "new@meadow.example"}}, Masked: "n•••@meadow.example"})
		}},
		{"self-password", "self_password_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfPassword(w, 422, SelfPassword{Own: wrong(own, p.Text("problem.old_password")), Username: "alice"})
		}},
		{"self-password-first", "self_password_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfPassword(w, 200, SelfPassword{Own: own, Username: "alice", First: true})
		}},
		{"self-factors", "self_factors_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfFactors(w, 200, SelfFactors{Own: own, Factors: factors, CodesURL: "/self/factors/recovery-codes",
				Links:     []LinkRow{{ID: "9", Provider: "Heron Staff", Name: "alice@staff.example", Since: since, LastUsed: &used}},
				Providers: []ProviderButton{{Name: "Heron Staff", Action: "/self/links/add", Hidden: []Field{{"provider", "staff"}}}}})
		}},
		{"self-factors-last", "self_factors_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfFactors(w, 422, SelfFactors{Own: wrong(own, p.Text("problem.last_factor")), Factors: []FactorRow{{ID: "1", Kind: "Authenticator app", Since: since}}})
		}},
		{"self-factors-none", "self_factors_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfFactors(w, 200, SelfFactors{Own: own})
		}},
		{"self-sessions", "self_sessions_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfSessions(w, 200, SelfSessions{Own: own,
				Sessions: []SessionRow{{"1", safari, true, false}, {"2", firefox, false, false}, {"3", unknown, false, true}},
				Apps:     []DeviceRow{{"4", "Meadow Bank on Alice's very own Pixel telephone", since, &used}},
				Ringing:  []DeviceRow{{"5", "", since, nil}}})
		}},
		{"self-sessions-one", "self_sessions_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfSessions(w, 200, SelfSessions{Own: said(own, p.Text("self.said.others")), Sessions: []SessionRow{{"1", safari, true, false}}})
		}},
		{"self-activity", "self_activity_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfActivity(w, 200, SelfActivity{Own: own, OlderURL: "/self/activity?before=1", Events: []EventRow{
				{safari, p.Text("event.login")}, {firefox, p.Text("event.password.changed")}, {unknown, p.Text("event.factor.added", "kind", "Authenticator app")},
			}})
		}},
		{"self-activity-none", "self_activity_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfActivity(w, 200, SelfActivity{Own: own})
		}},
		{"self-data", "self_data_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfData(w, 200, SelfData{Own: wrong(own, p.Text("self.said.unsent")), WaitDays: 14, KeepYears: 5})
		}},
		{"self-data-leaving", "self_data_page", func(p *Pages, w http.ResponseWriter) error {
			return p.SelfData(w, 200, SelfData{Own: said(own, p.Text("self.said.deletion")), DeletionAt: &gone, WaitDays: 14, KeepYears: 5})
		}},
	}
}
