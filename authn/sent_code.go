package authn

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// sentFactor is the kind of factor that codes to an address are.
type sentFactor struct{ kind, channel string }

// sentSecret is the secret of such a factor.
type sentSecret struct {
	Address string `json:"address"`
}

// Purposes of codes that are sent for a login, and what they are bound to: the hash of the login.
const (
	codeForLogin = "login"
	codeForEnrol = "enrol"
)

func (f sentFactor) Kind() string               { return f.kind }
func (sentFactor) Strength() Strength           { return Weak }
func (f sentFactor) Available(c *Config) bool   { return slices.Contains(c.Channels, f.channel) }
func (f sentFactor) Label(text TextFunc) string { return text("factor." + f.kind) }

// amr is RFC 8176 §2's.
func (f sentFactor) amr() []string {
	if f.channel == ChannelSMS {
		return []string{amrOTP, amrSMS}
	}
	return []string{amrOTP}
}

const amrSMS = "sms"

// destination is where a factor's codes go.
func (f sentFactor) destination(stored *storage.SecondFactor) (Destination, error) {
	var s sentSecret
	err := json.Unmarshal(stored.Secret, &s)
	return Destination{Channel: f.channel, Address: s.Address}, err
}

// Ask offers to send a code, or takes the one that was sent for this login.
func (f sentFactor) Ask(ctx context.Context, q FactorRequest) (web.FactorPart, error) {
	to, err := f.destination(q.Factors[0])
	if err != nil {
		return web.FactorPart{}, err
	}
	active, err := q.Authn.db.ActiveCode(ctx, q.Visitor.CustomerID, codeForLogin, q.Login, codeAttempts)
	if err != nil {
		return web.FactorPart{}, err
	}
	if !active {
		return web.FactorPart{Title: q.Text("second_factor.send.title"), How: q.named("second_factor.send", "masked", to.Masked()),
			Submit: web.Button{Text: q.Text("second_factor.send.submit"), Name: fieldSend, Value: "1"}}, nil
	}
	return f.takes(q, to, fieldSend), nil
}

// takes is the part that takes a code; the button again has another one sent.
func (f sentFactor) takes(q FactorRequest, to Destination, again string) web.FactorPart {
	return web.FactorPart{
		How:    q.named("second_factor.sent", "masked", to.Masked(), "minutes", strconv.Itoa(int(codeLifetime.Minutes()))),
		Inputs: []web.Input{codeInput(q)},
		Resend: &web.Button{Text: q.Text("second_factor.resend"), Name: again, Value: "again"},
	}
}

// named is a text with the customer's first name, which a page that only pretends to be ours does not know; or without, if
// there is none that can be shown.
func (q FactorRequest) named(key string, values ...string) string {
	if name := q.firstName(); name != "" {
		return q.Text(key+"_name", append(values, "name", name)...)
	}
	return q.Text(key, values...)
}

func (q FactorRequest) firstName() string {
	profile, err := q.Visitor.Customer.Profile()
	if err != nil {
		return ""
	}
	return firstName(profile)
}

const longestFirstName = 20 // letters

// firstName is a part of the customer's name that may be shown before they are logged in, and sent. Customers wrote it
// themselves: what is no name, an address or an advertisement say, is left out.
func firstName(p storage.Profile) string {
	name := p.GivenName
	if name == "" {
		name = p.Name
	}
	words := strings.Fields(name)
	if len(words) == 0 || utf8.RuneCountInString(words[0]) > longestFirstName {
		return ""
	}
	if strings.ContainsFunc(words[0], func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsMark(r) && r != '-' && r != '\'' && r != '’'
	}) {
		return ""
	}
	return words[0]
}

// Send sends a code that is good for this login alone.
func (f sentFactor) Send(ctx context.Context, q FactorRequest) error {
	to, err := f.destination(q.Factors[0])
	if err != nil {
		return err
	}
	return f.send(ctx, q, to, codeForLogin)
}

func (f sentFactor) send(ctx context.Context, q FactorRequest, to Destination, purpose string) error {
	err := q.Authn.SendCode(ctx, CodeRequest{CustomerID: q.Visitor.CustomerID, To: to, Purpose: purpose, Binding: q.Login, Name: q.firstName()})
	if errors.Is(err, ErrNoChannel) {
		return FormError(q.Text("problem.no_channel"))
	}
	return err
}

func (f sentFactor) Verify(ctx context.Context, q FactorRequest, form url.Values) (Shown, error) {
	return f.verify(ctx, q, form, codeForLogin)
}

func (f sentFactor) verify(ctx context.Context, q FactorRequest, form url.Values, purpose string) (Shown, error) {
	typed, err := q.typed(form)
	if err != nil {
		return Shown{}, err
	}
	code, err := q.Authn.CheckCode(ctx, q.Visitor.CustomerID, purpose, q.Login, typed)
	if err != nil {
		return Shown{}, err
	}
	return Shown{storage.SentCode{Factor: q.Factors[0], Code: code}, f.amr()}, nil
}

// Begin takes the address and sends a code to it.
func (f sentFactor) Begin(ctx context.Context, q FactorRequest, form url.Values) ([]byte, error) {
	if form == nil {
		return nil, nil
	}
	to := Destination{f.channel, f.normalize(form.Get("address"))}
	switch {
	case form.Get(fieldBegin) == "again" && len(q.Factors) > 0: // another code to the same address
		var err error
		if to, err = f.destination(q.Factors[0]); err != nil {
			return nil, err
		}
	case form.Get("address") == "":
		to.Address = f.known(q)
	}
	if to.Address == "" {
		return nil, FormError(q.Text(map[string]string{ChannelEmail: "problem.email", ChannelSMS: "problem.phone"}[f.channel]))
	}
	if err := f.send(ctx, q, to, codeForEnrol); err != nil {
		return nil, err
	}
	return json.Marshal(sentSecret{to.Address})
}

// known is the address of the profile, "" for none that does.
func (f sentFactor) known(q FactorRequest) string {
	profile, err := q.Visitor.Customer.Profile()
	if err != nil {
		return ""
	}
	if f.channel == ChannelSMS {
		return f.normalize(profile.PhoneNumber)
	}
	return f.normalize(profile.Email)
}

var phoneNumber = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`) // ITU-T E.164

// normalize is an address as codes are sent to it, "" for what is none. People set numbers in groups.
func (f sentFactor) normalize(address string) string {
	address = strings.TrimSpace(address)
	if f.channel == ChannelSMS {
		address = strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", ".", "").Replace(address)
		if !phoneNumber.MatchString(address) {
			return ""
		}
		return address
	}
	parsed, err := mail.ParseAddress(address)
	if err != nil || parsed.Address != address || parsed.Name != "" || len(address) > longestAddress ||
		strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return ""
	}
	return address
}

const longestAddress = 254 // RFC 5321 §4.5.3.1.3, without the brackets

func (f sentFactor) Confirm(ctx context.Context, q FactorRequest, form url.Values) (Shown, error) {
	return f.verify(ctx, q, form, codeForEnrol)
}

// EnrolPage asks for the address, or for the code that was sent to it.
func (f sentFactor) EnrolPage(w http.ResponseWriter, status int, q FactorRequest, frame web.EnrolFrame) error {
	page := web.EnrolFactor{EnrolFrame: frame}
	if len(q.Factors) > 0 {
		to, err := f.destination(q.Factors[0])
		if err != nil {
			return err
		}
		page.Part = f.takes(q, to, fieldBegin)
	} else {
		page.Part = f.addressPart(q)
	}
	page.Part.Title = q.Text("enrol_" + f.kind + ".title")
	return q.Authn.pages.EnrolFactor(w, status, page)
}

func (f sentFactor) addressPart(q FactorRequest) web.FactorPart {
	input := web.Input{Name: "address", Label: q.Text("enrol_" + f.kind + ".address"), Type: "email", MaxLength: longestAddress, Autocomplete: "email"}
	if f.channel == ChannelSMS {
		input.Type, input.MaxLength, input.InputMode, input.Autocomplete = "tel", 32, "tel", "tel"
	}
	part := web.FactorPart{How: q.Text("enrol_" + f.kind + ".how"), Inputs: []web.Input{input},
		Submit: web.Button{Text: q.Text("second_factor.send.submit"), Name: fieldBegin, Value: "1"}}
	if known := f.known(q); known != "" { // shown masked only: so far there was but a password
		masked := Destination{f.channel, known}.Masked()
		part.How += " " + q.Text("enrol_sent.known", "masked", masked)
		part.Inputs[0].Optional = true
	}
	return part
}
