package authn

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// profileField is something that customers say of themselves.
type profileField struct {
	name, autocomplete string
	hint               bool
	of                 func(*storage.Profile) *string
	form               *regexp.Regexp // nil: any line of text
	wrong              string
}

var profileFields = []profileField{
	{name: "name", autocomplete: "name", of: func(p *storage.Profile) *string { return &p.Name }},
	{name: "given_name", autocomplete: "given-name", of: func(p *storage.Profile) *string { return &p.GivenName }},
	{name: "family_name", autocomplete: "family-name", of: func(p *storage.Profile) *string { return &p.FamilyName }},
	{name: "nickname", autocomplete: "nickname", of: func(p *storage.Profile) *string { return &p.Nickname }},
	{name: "street_address", autocomplete: "street-address", of: func(p *storage.Profile) *string { return &p.Address.StreetAddress }},
	{name: "postal_code", autocomplete: "postal-code", of: func(p *storage.Profile) *string { return &p.Address.PostalCode }},
	{name: "locality", autocomplete: "address-level2", of: func(p *storage.Profile) *string { return &p.Address.Locality }},
	{name: "region", autocomplete: "address-level1", of: func(p *storage.Profile) *string { return &p.Address.Region }},
	{name: "country", autocomplete: "country-name", of: func(p *storage.Profile) *string { return &p.Address.Country }},
	{name: "locale", hint: true, of: func(p *storage.Profile) *string { return &p.Locale },
		form: regexp.MustCompile(`^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4})?$`), wrong: "problem.locale"}, // BCP 47
	{name: "zoneinfo", hint: true, of: func(p *storage.Profile) *string { return &p.ZoneInfo },
		form: regexp.MustCompile(`^(UTC|[A-Za-z]{1,32}(/[A-Za-z0-9_+-]{1,32}){1,2})?$`), wrong: "problem.zoneinfo"},
}

// showProfile answers GET /self/profile.
func (a *Authn) showProfile(w http.ResponseWriter, r *http.Request) {
	if v, ok := a.Guard(w, r, ChangeProfile, profilePath); ok {
		a.profilePage(w, r, v, nil, "")
	}
}

// profilePage shows the profile; what was typed, if it is shown again.
func (a *Authn) profilePage(w http.ResponseWriter, r *http.Request, v *storage.Visitor, typed *storage.Profile, problem string) {
	p, err := v.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	page := web.SelfProfile{Own: a.own(w, r, p, problem), Facts: a.facts(v, p), CanSendEmail: a.sends(ChannelEmail), CanSendPhone: a.sends(ChannelSMS)}
	if typed == nil {
		typed = &p
	}
	for _, f := range profileFields {
		field := web.TextField{Name: f.name, Label: a.pages.Text("self.said.field." + f.name), Value: *f.of(typed), Autocomplete: f.autocomplete}
		if f.hint {
			field.Hint = a.pages.Text("self.said.field." + f.name + ".hint")
		}
		page.Fields = append(page.Fields, field)
	}
	a.shown(r, a.pages.SelfProfile(w, status(problem), page))
}

// saveProfile answers POST /self/profile.
func (a *Authn) saveProfile(w http.ResponseWriter, r *http.Request) {
	v, ok := a.guardForm(w, r, ChangeProfile, profilePath)
	if !ok {
		return
	}
	names := make([]string, len(profileFields))
	for i, f := range profileFields {
		names[i] = f.name
	}
	form, _, ok := a.readForm(w, r, names...)
	if !ok {
		return
	}
	p, err := v.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	changed, problem := a.takeProfile(&p, form)
	switch {
	case problem != "":
		a.profilePage(w, r, v, &p, problem)
		return
	case len(changed) == 0:
		a.did(w, r, profilePath, "saved")
		return
	}
	p.UpdatedAt = a.now().Unix()
	e := a.ownEvent(r, v, "profile.changed", map[string]any{"fields": changed})
	err = a.db.UpdateProfile(r.Context(), &v.Customer, p, e, nil)
	if errors.Is(err, storage.ErrNotFound) {
		a.profilePage(w, r, v, &p, "problem.profile_changed")
		return
	}
	a.ownChanged(w, r, e, err, profilePath, "saved")
}

// takeProfile takes what was typed over, and tells which fields that changes, or the first problem.
func (a *Authn) takeProfile(p *storage.Profile, form url.Values) (changed []string, problem string) {
	address := p.Address
	for _, f := range profileFields {
		typed, was := strings.TrimSpace(form.Get(f.name)), f.of(p)
		if typed == *was {
			continue
		}
		changed = append(changed, f.name)
		*was = typed
		switch {
		case problem != "":
		case !isText(typed):
			problem = "problem.field"
		case f.form != nil && !f.form.MatchString(typed):
			problem = f.wrong
		case f.name == "name" && typed == "":
			problem = "problem.missing"
		}
	}
	if p.Address != address {
		p.Address.Formatted = "" // it says what is no longer so
	}
	return changed, problem
}

// contact is a way to reach a customer, which changes only with a code that went there.
type contact struct {
	path, field, channel, purpose, event, message, notice, wrong string
	form                                                         func(typed string) string // as it is kept; "" for what is none
	set                                                          func(p *storage.Profile, to string)
	has                                                          func(p *storage.Profile, to string) bool // verified already
}

var contacts = []contact{
	{
		path: "/self/email", field: "email", channel: ChannelEmail, purpose: "email", event: "email.changed", message: "email_changed", notice: "email", wrong: "problem.email",
		form: func(typed string) string {
			if !isEmail(typed) {
				return ""
			}
			return typed
		},
		set: func(p *storage.Profile, to string) { p.Email, p.EmailVerified = to, true },
		has: func(p *storage.Profile, to string) bool { return p.Email == to && p.EmailVerified },
	},
	{
		path: "/self/phone", field: "phone", channel: ChannelSMS, purpose: "phone", event: "phone.changed", message: "phone_changed", notice: "phone", wrong: "problem.phone",
		form: storage.PhoneNumber,
		set:  func(p *storage.Profile, to string) { p.PhoneNumber, p.PhoneNumberVerified = to, true },
		has:  func(p *storage.Profile, to string) bool { return p.PhoneNumber == to && p.PhoneNumberVerified },
	},
}

// binding makes a code good for one address only. It is keyed: of a plain hash a number would be found by trying them all.
func (a *Authn) binding(c *contact, to string) []byte {
	return a.db.Keys().Index("one_time_codes.binding", []byte(c.purpose+"\x00"+to))
}

// changeContact answers POST /self/email and /self/phone: a code goes to the new address.
func (a *Authn) changeContact(w http.ResponseWriter, r *http.Request, c *contact) {
	v, ok := a.guardForm(w, r, ChangeProfile, profilePath)
	if !ok {
		return
	}
	form, _, ok := a.readForm(w, r, c.field)
	if !ok {
		return
	}
	p, err := v.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	to := c.form(strings.TrimSpace(form.Get(c.field)))
	switch {
	case to == "":
		a.profilePage(w, r, v, nil, c.wrong)
		return
	case c.has(&p, to):
		a.did(w, r, profilePath, c.notice)
		return
	}
	err = a.SendCode(r.Context(), CodeRequest{CustomerID: v.CustomerID, To: Destination{c.channel, to}, Purpose: c.purpose, Binding: a.binding(c, to)})
	switch {
	case errors.Is(err, ErrTooManyCodes):
		a.profilePage(w, r, v, nil, "problem.codes_many")
	case errors.Is(err, ErrNoChannel):
		a.refuse(w, r, http.StatusNotFound)
	case err != nil:
		a.fail(w, r, err)
	default:
		a.contactPage(w, r, p, c, to, "")
	}
}

func (a *Authn) contactPage(w http.ResponseWriter, r *http.Request, p storage.Profile, c *contact, to, problem string) {
	a.shown(r, a.pages.SelfContact(w, status(problem), web.SelfContact{
		Own: a.own(w, r, p, problem), Action: c.path + "/confirm", Hidden: []web.Field{{Name: c.field, Value: to}},
		Masked: Destination{c.channel, to}.Masked(),
	}))
}

// confirmContact answers POST /self/email/confirm and /self/phone/confirm. The old address is told.
func (a *Authn) confirmContact(w http.ResponseWriter, r *http.Request, c *contact) {
	v, ok := a.guardForm(w, r, ChangeProfile, profilePath)
	if !ok {
		return
	}
	form, _, ok := a.readForm(w, r, c.field, "code")
	if !ok {
		return
	}
	to := c.form(form.Get(c.field))
	p, err := v.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	if to == "" || to != form.Get(c.field) {
		a.refuse(w, r, http.StatusBadRequest)
		return
	}
	code, err := a.CheckCode(r.Context(), v.CustomerID, c.purpose, a.binding(c, to), form.Get("code"))
	if errors.Is(err, ErrWrongCode) {
		a.contactPage(w, r, p, c, to, "problem.code")
		return
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	told := a.notice(p, c.message)
	c.set(&p, to)
	p.UpdatedAt = a.now().Unix()
	e := a.ownEvent(r, v, c.event, nil)
	err = a.db.UpdateContact(r.Context(), &v.Customer, p, code, e, told)
	if errors.Is(err, storage.ErrNotFound) {
		a.profilePage(w, r, v, nil, "problem.profile_changed")
		return
	}
	a.ownChanged(w, r, e, err, profilePath, c.notice)
}
